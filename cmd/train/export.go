package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/euryale-ml/euryale/checkpoints"
	"github.com/euryale-ml/euryale/models"
	"github.com/euryale-ml/euryale/train"
)

func exportCommand(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "export SRC DST",
		Short: "Write a model folder with a model card, which Hugging Face's libraries read",
		Long: `Export takes the best checkpoint of a run (or a checkpoint, or a model folder) and writes DST: config.json, model.safetensors, the files
of the tokenizer, generation_config.json for a model that writes, and README.md, a model card with the data, the results and the
command that made it. A model_type of Hugging Face can then be opened there, in Python, with the same outputs (docs/huggingface.md).`,
		Example: examples("export runs/default my-model", "the best checkpoint, to pass on", "export my-model elsewhere", "a model folder with its card"),
		Args:    exactly(2, "a run, a checkpoint or a model folder, and the folder to write"),
	}
	return command(c, func(_ context.Context, args []string) error { return a.export(args[0], args[1]) })
}

func (a *app) export(from, to string) error {
	src, err := checkpoints.Resolve(from)
	if err != nil {
		return err
	}
	m, params, _, err := taken(src, models.Conversion{})
	if err = withClose(err, src); err != nil {
		return err
	}
	for _, w := range m.Warnings() {
		a.out.note("note: %s", w)
	}
	extra, err := companions(src.Dir)
	if err != nil {
		return err
	}
	if extra["generation_config.json"] == nil && models.Writes(m) {
		if extra["generation_config.json"], err = generationConfig(src.Config); err != nil {
			return err
		}
	}
	card := card{name: filepath.Base(filepath.Clean(to)), model: m, step: src.Step, parameters: params.Count()}
	if run, job, ok := runOf(src); ok {
		card.job, card.run = &job, run
	}
	extra["README.md"] = card.text()
	return a.writeModel(to, m, params, extra, nil)
}

// generationConfig holds the ids that writing needs, as Hugging Face's libraries look for them.
func generationConfig(raw []byte) ([]byte, error) {
	var c map[string]json.RawMessage
	if err := json.Unmarshal(raw, &c); err != nil {
		return nil, err
	}
	out := map[string]json.RawMessage{"_from_model_config": json.RawMessage("true")}
	for _, key := range []string{"bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id", "forced_bos_token_id", "forced_eos_token_id"} {
		if v, ok := c[key]; ok && string(v) != "null" {
			out[key] = v
		}
	}
	text, err := json.MarshalIndent(out, "", "  ")
	return append(text, '\n'), err
}

// card is the model card of a folder.
type card struct {
	name       string
	model      models.Model
	parameters int64
	step       int
	run        string
	job        *train.Job // nil: nobody knows
}

// text is README.md: what the model is, what made it, what it reaches, how it is used.
func (c card) text() []byte {
	var b bytes.Buffer
	w := func(format string, args ...any) { fmt.Fprintf(&b, format, args...) }
	d := c.model.Dims()
	w("---\nlibrary_name: euryale\ntags:\n- euryale\n- %s\n- long-context\n---\n\n# %s\n\n", c.model.Type(), c.name)
	w("A model of type `%s`", c.model.Type())
	if task := c.model.Task(); task != "" {
		w(" for `%s`", task)
	}
	w(": %s parameters, %d layers of width %d, %d heads, a vocabulary of %d", thousands(c.parameters), d.Layers, d.Hidden, d.Heads, d.Vocab)
	if d.Positions > 0 {
		w(", sequences of up to %d tokens", d.Positions)
	}
	w(". Made with Euryale (long-context transformers, trained in Go).\n")
	if c.job != nil {
		c.training(w)
	}
	w("\n## Use\n\n```sh\n")
	switch {
	case models.Writes(c.model):
		w("euryale generate %s --prompt 'Call me '\n", c.name)
	default:
		w("euryale predict %s --input texts.jsonl --output out.safetensors\n", c.name)
	}
	w("euryale eval %s --data your.txt\neuryale fit --from %s --data your.txt   # fine-tune\n```\n", c.name, c.name)
	if class := models.HuggingFaceClass(c.model); class != "" {
		w("\n```python\nfrom transformers import %s\nmodel = %s.from_pretrained(%q)\n```\n", class, class, c.name)
	}
	return b.Bytes()
}

// training tells of data, results and the command.
func (c card) training(w func(format string, args ...any)) {
	t := c.job.Train
	data := c.job.Data.Path
	switch {
	case c.job.Data.Task != "":
		data = "the task " + c.job.Data.Task
	case data == "":
		data = "the embedded book (Moby-Dick)"
	default:
		data = "`" + filepath.Base(data) + "`"
	}
	w("\n## Training\n\nData: %s. %d of %d steps of %d sequences of %d tokens, AdamW with a peak rate of %g.\n", data, c.step, t.Steps, t.SequencesPerStep(), t.SequenceLength, t.LR)
	if r, ok := readRun(c.run); ok {
		var rows []string
		for _, v := range []struct {
			name  string
			value *float64
		}{{"validation, bits per byte", r.ValBPB}, {"test, bits per byte", r.TestBPB}, {"validation, bits per dimension", r.ValBPD},
			{"test, bits per dimension", r.TestBPD}, {"training, last loss", r.Loss}} {
			if v.value != nil {
				rows = append(rows, fmt.Sprintf("| %s | %.4f |", v.name, *v.value))
			}
		}
		if len(rows) > 0 {
			w("\n| metric | value |\n|---|---|\n%s\n", strings.Join(slices.Compact(rows), "\n"))
		}
	}
	if text, err := json.MarshalIndent(c.job, "", "  "); err == nil {
		w("\nMade by `euryale fit --config job.json`, with this job.json:\n\n```json\n%s\n```\n", text)
	}
}
