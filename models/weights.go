package models

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/checkpoints"
	"github.com/euryale-ml/euryale/internal/config"
	"github.com/euryale-ml/euryale/layers"
)

// Loaded is a model with its weights.
type Loaded struct {
	Model
	Params *layers.Params
	Source *checkpoints.Model // where it was found; its tensors are closed
}

// Load opens what a MODEL argument means: a model folder of this project or of Hugging Face, a run folder, a checkpoint.
//
// Errors: *checkpoints.FileError; faults of config.json as of New; *WeightsError.
func Load(path string, dtype tensor.Dtype) (*Loaded, error) {
	src, err := checkpoints.Resolve(path)
	if err != nil {
		return nil, err
	}
	m, err := New(src.Config)
	if err != nil {
		return nil, errors.Join(&config.FileError{Name: filepath.Join(src.Dir, "config.json"), Err: err}, src.Close())
	}
	params, err := Weights(m, src.Tensors, dtype)
	if cerr := src.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", src.Dir, err)
	}
	return &Loaded{m, params, src}, nil
}

// WeightsError lists how the tensors of a file differ from those that a model wants.
type WeightsError struct {
	Missing []string // wanted, not there
	Unknown []string // there, not wanted
	Unequal []string // there under two names with different values: "name: a copy of other"
	Shape   []string // "name: (4, 8), want (8, 4)"
}

func (e *WeightsError) Error() string {
	var parts []string
	for _, p := range []struct {
		what  string
		names []string
	}{{"missing", e.Missing}, {"not part of the model", e.Unknown}, {"not the same", e.Unequal}, {"of the wrong shape", e.Shape}} {
		if len(p.names) > 0 {
			parts = append(parts, fmt.Sprintf("%s: %s", p.what, some(p.names)))
		}
	}
	return "the weights do not fit config.json: " + strings.Join(parts, "; ") + ": check that the two belong together"
}

// some lists the first names and counts the others.
func some(names []string) string {
	const most = 5
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}

// Weights reads the weights of a model from a file. Names may lack the prefix of the base model ("transformer."), as in files
// that were saved without a head; masks that old versions saved as buffers are passed over, and so is the copy of a tied table.
//
// Errors: *WeightsError; *checkpoints.FileError.
func Weights(m Model, file *checkpoints.Safetensors, dtype tensor.Dtype) (*layers.Params, error) {
	params, err := NewParams(m, dtype, 0)
	if err != nil {
		return nil, err
	}
	faults, err := readWeights(m, params, file)
	if err == nil && !faults.none() {
		err = faults
	}
	if err != nil {
		return nil, err
	}
	return params, nil
}

func (e *WeightsError) none() bool {
	return len(e.Missing)+len(e.Unknown)+len(e.Unequal)+len(e.Shape) == 0
}

// readWeights gives a model the weights of a file, as far as they fit, and tells what did not.
func readWeights(m Model, params *layers.Params, file *checkpoints.Safetensors) (*WeightsError, error) {
	var faults WeightsError
	found := map[string]string{} // the name in the file
	changes := map[string]bool{} // weights that LoRA changes, which is added to them
	for _, name := range file.Names() {
		if t, ok := tableOf(m, params, name); ok {
			if err := readTable(params, t, file, name); err != nil {
				return nil, err
			}
			continue
		}
		here := name
		if f, ok := m.(interface {
			unread(name string, has func(string) bool) bool
		}); ok && f.unread(name, func(other string) bool { _, has := file.Info(other); return has }) {
			continue
		}
		if f, ok := m.(interface{ local(name string) string }); ok {
			if here = f.local(name); here == "" {
				continue
			}
		}
		if c, causal := m.(Causal); causal && here == "lm_head.weight" && !c.causal().untied {
			here = c.causal().names.tokens + ".weight" // the copy of a tied table
		}
		p, ok := params.Get(here)
		if !ok {
			p, ok = params.Get(BasePrefix(m) + here)
		}
		if !ok && passedOver(m, name) {
			continue
		}
		if weight, _, added := layers.LoRAParts(name); !ok && added {
			changes[weight] = true
			continue
		}
		if !ok {
			faults.Unknown = append(faults.Unknown, name)
			continue
		}
		if first := found[p.Name]; first != "" { // with the prefix and without, or under a tied name: a copy, or nobody knows which one counts
			if same, err := file.Equal(first, name); err != nil {
				return nil, err
			} else if !same {
				faults.Unequal = append(faults.Unequal, fmt.Sprintf("%s: a copy of %s", name, first))
			}
			continue
		}
		found[p.Name] = name
		info, _ := file.Info(name)
		if !slices.Equal(info.Shape, []int(p.Value.Shape())) {
			faults.Shape = append(faults.Shape, fmt.Sprintf("%s: %v, want %v", name, info.Shape, p.Value.Shape()))
			continue
		}
		var err error
		if params.Dtype() == tensor.Float32 {
			err = file.ReadFloat32s(name, p.Value.Float32s())
		} else {
			err = file.ReadFloat64s(name, p.Value.Float64s())
		}
		if err != nil {
			return nil, err
		}
	}
	for _, weight := range slices.Sorted(maps.Keys(changes)) {
		if err := mergeChange(params, file, weight); err != nil {
			return nil, err
		}
	}
	for _, p := range params.All() {
		if found[p.Name] == "" {
			faults.Missing = append(faults.Missing, p.Name)
		}
	}
	return &faults, nil
}

// mergeChange adds to a weight what a run with LoRA has stored beside it.
func mergeChange(params *layers.Params, file *checkpoints.Safetensors, weight string) error {
	stem := strings.TrimSuffix(weight, ".weight")
	read := func(name string) (*tensor.Dense, error) {
		info, ok := file.Info(name)
		if !ok {
			return nil, fmt.Errorf("lora: %s is missing beside %s", name, weight)
		}
		v := tensor.New(tensor.Of(params.Dtype()), tensor.WithShape(info.Shape...))
		if params.Dtype() == tensor.Float32 {
			return v, file.ReadFloat32s(name, v.Float32s())
		}
		return v, file.ReadFloat64s(name, v.Float64s())
	}
	a, err := read(stem + ".lora_A.weight")
	if err != nil {
		return err
	}
	b, err := read(stem + ".lora_B.weight")
	if err != nil {
		return err
	}
	alpha, err := file.Float64s(stem + ".lora_alpha")
	if err != nil || len(alpha) != 1 {
		return errors.Join(fmt.Errorf("lora: %s.lora_alpha is not one number", stem), err)
	}
	return params.MergeLoRA(weight, a, b, alpha[0])
}

// passedOver tells whether a tensor that is no weight of the model may be there all the same.
func passedOver(m Model, name string) bool {
	if name == "lm_head.weight" {
		return true // a model that is not tied has this as a weight
	}
	if m.Type() == "decoder" || m.Type() == "encoder" {
		return false
	}
	return strings.HasSuffix(name, ".attn.bias") || strings.HasSuffix(name, ".attn.masked_bias") ||
		strings.HasSuffix(name, ".attention.bias") || strings.HasSuffix(name, ".attention.masked_bias")
}

// Tensors are the weights as a file holds them. They share memory with the parameters.
func Tensors(p *layers.Params) []checkpoints.Tensor {
	var all []checkpoints.Tensor
	for _, q := range p.All() {
		all = append(all, Tensor(q.Name, q.Value))
	}
	for _, t := range p.AllInts() {
		if t.Stored {
			all = append(all, checkpoints.Tensor{Name: t.Name, Shape: t.Shape, Data: t.Values})
		}
	}
	return all
}

// tableOf is the table of whole numbers that a tensor of a file is.
func tableOf(m Model, p *layers.Params, name string) (*layers.Ints, bool) {
	if t, ok := p.Ints(name); ok {
		return t, true
	}
	return p.Ints(BasePrefix(m) + name)
}

// readTable puts a tensor of a file in the place of a table. What the numbers may be is for the layer to judge that reads them.
func readTable(p *layers.Params, t *layers.Ints, file *checkpoints.Safetensors, name string) error {
	info, _ := file.Info(name)
	values, err := file.Int32s(name)
	if err != nil {
		return err
	}
	return p.SetInts(t.Name, info.Shape, values)
}

// Tensor is a value as a file holds it, without a copy.
func Tensor(name string, v *tensor.Dense) checkpoints.Tensor {
	return checkpoints.Tensor{Name: name, Shape: v.Shape(), Data: v.Data()}
}
