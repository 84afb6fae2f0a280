package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/checkpoints"
	"github.com/euryale-ml/euryale/data"
	"github.com/euryale-ml/euryale/internal/config"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/models"
	"github.com/euryale-ml/euryale/train"
)

// jobFlags are the flags from which a job is made.
type jobFlags struct {
	config string
	recipe string
	smoke  bool
	data   string
	from   string
	sets   []string
}

func (f *jobFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&f.config, "config", "", "file with {\"model\":{...},\"train\":{...},\"data\":{...}}; what it leaves out has its default")
	c.Flags().StringVar(&f.recipe, "recipe", "", "start from a recipe: NAME, or NAME:BASELINE for what it is compared with (see the command recipes)")
	c.Flags().BoolVar(&f.smoke, "smoke", false, "with --recipe: the same in small, within seconds")
	c.Flags().StringVar(&f.data, "data", "", "text to train on: a file, a folder of .txt, a .jsonl, .csv or .tsv file, also .gz and .bz2, a .parquet file; the name of a set (docs/data.md); images (docs/images.md); or task:NAME (default: the embedded book)")
	c.Flags().StringVar(&f.from, "from", "", "start from this model and its weights: a model folder, a run or a checkpoint")
	addSet(c, &f.sets)
}

func addSet(c *cobra.Command, sets *[]string) {
	c.Flags().StringArrayVar(sets, "set", nil, "change one value of the configuration, such as train.lr=1e-3 (can be repeated)")
}

// job puts defaults, --config or --recipe, --from, --data and --set together, in this order. The weights of --from come with it, still in their file.
func (f *jobFlags) job() (train.Job, *checkpoints.Model, error) {
	j := train.DefaultJob()
	switch {
	case f.config != "" && f.recipe != "":
		return j, nil, usagef("--config and --recipe exclude each other: give one")
	case f.smoke && f.recipe == "":
		return j, nil, usagef("--smoke makes a recipe small: give --recipe NAME too")
	case f.recipe != "":
		r, err := findRecipe(f.recipe)
		if err != nil {
			return j, nil, err
		}
		if err := r.job(f.smoke, &j); err != nil {
			return j, nil, err
		}
	}
	if f.config != "" {
		if err := readJob(f.config, &j); err != nil {
			return j, nil, err
		}
	}
	var source *checkpoints.Model
	if f.from != "" {
		var err error
		if source, err = checkpoints.Resolve(f.from); err != nil {
			return j, nil, err
		}
		j.Model = source.Config
	}
	if f.data != "" {
		j.Data = j.Data.Spec(f.data)
	}
	if f.config == "" && f.recipe == "" && f.from == "" {
		j.Model = defaultsOf(f.sets, j.Model)
	}
	if err := config.Set(&j, f.sets...); err != nil {
		return j, source, errors.Join(&config.FileError{Name: "--set", Err: err}, closeModel(source))
	}
	if f.from != "" && j.Data.Task == "" {
		if err := withTokenizer(&j, source.Dir); err != nil {
			return j, source, errors.Join(err, closeModel(source))
		}
	}
	if f.from != "" && f.config == "" && f.recipe == "" {
		fitLength(&j, f.sets)
	}
	if p := j.Data.Path; p != "" && !data.IsName(p) {
		if abs, err := filepath.Abs(p); err == nil {
			j.Data.Path = abs // a run can be resumed from any folder
		}
	}
	return j, source, nil
}

// defaultsOf leaves out of the default model what another model_type, if one is set, has not or has otherwise: that nobody asked for.
func defaultsOf(sets []string, model json.RawMessage) json.RawMessage {
	for _, s := range sets {
		name, ok := strings.CutPrefix(s, "model.model_type=")
		if !ok {
			continue
		}
		var keys map[string]any
		if json.Unmarshal(model, &keys) != nil {
			continue
		}
		keys["model_type"] = name
		text, err := json.Marshal(keys)
		if err != nil {
			continue
		}
		_, err = models.New(text)
		for _, fault := range config.Faults(err) {
			if f := (*config.FieldError)(nil); errors.As(fault, &f) && f.Path != "model_type" {
				delete(keys, f.Path)
			}
		}
		if text, err = json.Marshal(keys); err == nil {
			model = text
		}
	}
	return model
}

// readJob reads a --config file. What is wrong with its values is told along with what is wrong with how it is written.
func readJob(path string, j *train.Job) error {
	err := config.ReadFile(path, j)
	file := (*config.FileError)(nil)
	if !errors.As(err, &file) || config.IsSyntax(err) || errors.As(err, new(syscall.Errno)) {
		return err
	}
	_, check := j.Check()
	return &config.FileError{Name: file.Name, Err: config.Merge(file.Err, check)}
}

// fitLength makes the sequence length one that the model allows, unless it was set.
func fitLength(j *train.Job, sets []string) {
	if slices.ContainsFunc(sets, func(s string) bool { return strings.HasPrefix(s, "train.sequence_length=") }) {
		return
	}
	if m, err := models.New(j.Model); err == nil && m.Dims().Positions > 0 {
		j.Train.SequenceLength = min(j.Train.SequenceLength, m.Dims().Positions)
	}
}

func closeModel(m *checkpoints.Model) error {
	if m == nil {
		return nil
	}
	return m.Close()
}

// weights reads the weights that a run starts from; nil if there are none to read. A head that the source has not starts afresh.
func (a *app) weights(m models.Model, source *checkpoints.Model, seed uint64) (*layers.Params, error) {
	if source == nil {
		return nil, nil
	}
	params, fresh, left, err := models.Start(m, source.Tensors, tensor.Float32, seed)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", source.Dir, err)
	}
	if len(fresh) > 0 {
		a.out.note("note: a head of its own, with initial values: %s", strings.Join(fresh, ", "))
	}
	if len(left) > 0 {
		a.out.note("note: not read, of another head: %s", strings.Join(left, ", "))
	}
	return params, nil
}

// freeRun is runs/NAME, or runs/NAME-2, runs/NAME-3 and so on if that is taken.
func freeRun(name string) string {
	for i := 1; ; i++ {
		dir := filepath.Join("runs", name)
		if i > 1 {
			dir += "-" + strconv.Itoa(i)
		}
		if entries, err := os.ReadDir(dir); os.IsNotExist(err) || err == nil && len(entries) == 0 {
			return dir
		}
	}
}

// runOf is the run folder that a checkpoint belongs to, with its job; false for a model folder.
func runOf(m *checkpoints.Model) (string, train.Job, bool) {
	j := train.DefaultJob()
	if m.Report == nil {
		return "", j, false
	}
	dir := filepath.Dir(filepath.Dir(m.Dir))
	if err := config.ReadFile(filepath.Join(dir, "config.json"), &j); err != nil {
		return "", train.DefaultJob(), false
	}
	return dir, j, true
}
