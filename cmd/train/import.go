package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/checkpoints"
	"github.com/euryale-ml/euryale/internal/config"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/models"
)

// importFlags are the flags of import.
type importFlags struct{ models.Conversion }

func importCommand(a *app) *cobra.Command {
	var f importFlags
	c := &cobra.Command{
		Use:   "import SRC DST",
		Short: "Take a Hugging Face folder in, or make a long model of a short one",
		Long: `Import reads a model folder of Hugging Face, whole or in several files, in float32, float16 or bfloat16, as model.safetensors or as
pytorch_model.bin, checks that its weights fit its config.json, and writes DST: config.json, one model.safetensors in float32 and the
files of its tokenizer. Nothing in a folder is ever run.

With --to longformer or --to big_bird a BERT or RoBERTa becomes a model for long texts: windows or blocks in place of attention to
everything, positions past the old ones repeat them (--extend-positions), and the projections of global tokens begin as copies of the
others. Where the windows reach over the whole text the outputs are those of the model it was made of.`,
		Example: examples(
			"import bert-base my-bert", "check it, and have it in one form",
			"import roberta-base my-longformer --to longformer --extend-positions 4096", "long from short",
			"fit --from my-longformer --data chapters.jsonl", "and go on from there"),
		Args: exactly(2, "a model folder, and the folder to write"),
	}
	fl := c.Flags()
	fl.StringVar(&f.To, "to", "", "make a bert or roberta into this: "+strings.Join(models.ConversionTypes, " or "))
	fl.IntVar(&f.Positions, "extend-positions", 0, "with --to: longest sequence (default: as before)")
	fl.IntVar(&f.AttentionWindow, "attention-window", 512, "with --to longformer: keys of a token, half on each side")
	fl.IntVar(&f.BlockSize, "block-size", 64, "with --to big_bird: tokens of a block")
	fl.IntVar(&f.RandomBlocks, "num-random-blocks", 3, "with --to big_bird: blocks drawn for each block")
	changed := fl.Changed
	return command(c, func(_ context.Context, args []string) error {
		for flag, to := range map[string]string{"extend-positions": "", "attention-window": "longformer", "block-size": "big_bird", "num-random-blocks": "big_bird"} {
			switch {
			case changed(flag) && f.To == "":
				return usagef("--%s goes with --to: add --to %s", flag, strings.Join(models.ConversionTypes, " or --to "))
			case changed(flag) && to != "" && f.To != to:
				return usagef("--%s goes with --to %s, not with --to %s: leave one out", flag, to, f.To)
			}
		}
		if f.Positions < 0 {
			return usagef("--extend-positions is %d: give at least 1", f.Positions)
		}
		return a.importModel(args[0], args[1], f)
	})
}

// written is the last line of import and export.
type written struct {
	Event      string   `json:"event"` // "done"
	Path       string   `json:"path"`
	ModelType  string   `json:"model_type"`
	Task       string   `json:"task"`
	Parameters int64    `json:"parameters"`
	Files      []string `json:"files"`
	Fresh      []string `json:"fresh,omitempty"` // weights that begin anew
}

func (a *app) importModel(from, to string, f importFlags) error {
	src, err := checkpoints.Resolve(from)
	if err != nil {
		return err
	}
	m, params, fresh, err := taken(src, f.Conversion)
	if err = withClose(err, src); err != nil {
		return err
	}
	if len(fresh) > 0 {
		a.out.note("note: a head of its own, with initial values: %s", strings.Join(fresh, ", "))
	}
	for _, w := range m.Warnings() {
		a.out.note("note: %s", w)
	}
	extra, err := companions(src.Dir)
	if err != nil {
		return err
	}
	return a.writeModel(to, m, params, extra, fresh)
}

// taken is the model of a folder, or what it is made into.
func taken(src *checkpoints.Model, c models.Conversion) (m models.Model, p *layers.Params, fresh []string, err error) {
	named := func(err error) error {
		if len(config.Faults(err)) > 0 && !errors.As(err, new(*models.WeightsError)) && !errors.As(err, new(*checkpoints.FileError)) {
			return &config.FileError{Name: filepath.Join(src.Dir, "config.json"), Err: err}
		}
		return fmt.Errorf("%s: %w", src.Dir, err)
	}
	if c.To != "" {
		if m, p, fresh, err = models.Convert(src, c, tensor.Float32); err != nil {
			return nil, nil, nil, named(err)
		}
		return m, p, fresh, nil
	}
	if m, err = models.New(src.Config); err != nil {
		return nil, nil, nil, named(err)
	}
	if p, err = models.Weights(m, src.Tensors, tensor.Float32); err != nil {
		return nil, nil, nil, fmt.Errorf("%s: %w", src.Dir, err)
	}
	return m, p, nil, nil
}

// writeModel writes a model folder and says so.
func (a *app) writeModel(dir string, m models.Model, params *layers.Params, extra map[string][]byte, fresh []string) error {
	text, err := m.Config()
	if err != nil {
		return err
	}
	if err := checkpoints.WriteModel(dir, text, models.Tensors(params), extra); err != nil {
		return err
	}
	done := written{Event: "done", Path: dir, ModelType: m.Type(), Task: m.Task(), Files: []string{"config.json", "model.safetensors"}, Fresh: fresh}
	done.Parameters = params.Count()
	for _, name := range companionFiles {
		if extra[name] != nil {
			done.Files = append(done.Files, name)
		}
	}
	a.out.event(done)
	a.out.text("%s: %s, %s parameters, in %s\n", dir, m.Type(), thousands(done.Parameters), strings.Join(done.Files, ", "))
	return nil
}

// companionFiles stand beside the weights in a folder of Hugging Face: tokenizer, settings for writing, notes for people.
var companionFiles = []string{"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt", "vocab.txt",
	"spiece.model", "sentencepiece.bpe.model", "tokenizer.model", "generation_config.json", "preprocessor_config.json", "README.md"}

// maxCompanion bounds a file beside the weights.
const maxCompanion = 64 << 20

// companions reads the files beside the weights that a folder has, but the notes for people, which speak of the folder that they stand in.
func companions(dir string) (map[string][]byte, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("%s: cannot be read (%w)", dir, cause(err))
	}
	defer func() { _ = root.Close() }()
	all := map[string][]byte{}
	for _, name := range companionFiles {
		if name == "README.md" {
			continue
		}
		f, err := root.Open(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("%s: cannot be read (%w); check the file", filepath.Join(dir, name), cause(err))
		}
		raw, err := io.ReadAll(io.LimitReader(f, maxCompanion+1))
		if err = errors.Join(err, f.Close()); err != nil {
			return nil, fmt.Errorf("%s: cannot be read (%w); check the file", filepath.Join(dir, name), cause(err))
		}
		if len(raw) > maxCompanion {
			return nil, fmt.Errorf("%s: is larger than %d bytes; check the file", filepath.Join(dir, name), maxCompanion)
		}
		all[name] = raw
	}
	return all, nil
}
