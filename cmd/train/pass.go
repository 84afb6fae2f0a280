package main

import (
	"fmt"
	"slices"
	"strconv"

	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/checkpoints"
	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/models"
)

// pass is one run of a model on given ids, for predict and verify.
type pass struct {
	B, T    int
	ids     []int32 // [B,T]
	lens    []int32 // [B], or nil
	targets []int32 // [B,T], -1 where nothing is predicted; nil for no loss
}

// results of a pass, by name: logits, hidden_states.0 and so on, loss; gradients by the names of the weights.
type results struct {
	out, grad map[string]*tensor.Dense
}

// run computes what a pass asks for; with targets also the loss, the mean over all of them, and its gradients.
// The model must have no dropout then.
func (p *pass) run(m models.Model, params *layers.Params) (*results, error) {
	b := layers.New(gorgonia.NewGraph(), params, layers.Options{Training: p.targets != nil})
	in := models.Inputs{IDs: b.Input("input_ids", tensor.Int32, p.B, p.T)}
	copy(layers.InputValue(in.IDs).Int32s(), p.ids)
	if p.lens != nil {
		in.Lens = b.Input("lengths", tensor.Int32, p.B)
		copy(layers.InputValue(in.Lens).Int32s(), p.lens)
	}
	out := m.Forward(b, in, 0)
	names, nodes := []string{"logits"}, layers.Nodes{out.Logits}
	for i, h := range out.Hidden {
		names, nodes = append(names, "hidden_states."+strconv.Itoa(i)), append(nodes, h)
	}
	var weights []*layers.Param
	if p.targets != nil {
		targets := b.Input("labels", tensor.Int32, p.B, p.T)
		copy(layers.InputValue(targets).Int32s(), p.targets)
		loss := layers.CrossEntropy(b.Scope("loss"), out.Logits, targets, 0)
		if b.Err() == nil {
			var wrt layers.Nodes
			weights, wrt = b.Weights()
			one := engine.Fill(b.Graph(), engine.TypeOf(loss), 1)
			grads, err := engine.VJP(layers.Nodes{loss}, layers.Nodes{one}, wrt, nil)
			if err != nil {
				return nil, err
			}
			names, nodes = append(names, "loss"), append(append(nodes, loss), grads...)
		}
	}
	if err := b.Err(); err != nil {
		return nil, err
	}
	program, err := engine.Compile(b.Graph(), nodes, engine.Options{Scope: b.ScopeOf})
	if err != nil {
		return nil, err
	}
	if err := program.Run(); err != nil {
		return nil, err
	}
	r := &results{out: map[string]*tensor.Dense{}, grad: map[string]*tensor.Dense{}}
	for i, n := range nodes {
		v, err := dense(program.Value(n))
		if err != nil {
			return nil, err
		}
		if i < len(names) {
			r.out[names[i]] = v
		} else {
			r.grad[weights[i-len(names)].Name] = v
		}
	}
	return r, nil
}

// dense copies a value out of the program's memory.
func dense(v engine.Value) (*tensor.Dense, error) {
	switch v.Dtype() {
	case tensor.Float32:
		return tensor.New(tensor.WithShape(shapeOf(v)...), tensor.WithBacking(slices.Clone(engine.Floats[float32](v)))), nil
	case tensor.Float64:
		return tensor.New(tensor.WithShape(shapeOf(v)...), tensor.WithBacking(slices.Clone(engine.Floats[float64](v)))), nil
	}
	return nil, fmt.Errorf("a result of type %v", v.Dtype())
}

// shapeOf is the shape of a value; a scalar is one element.
func shapeOf(v engine.Value) []int {
	if s := v.Shape(); len(s) > 0 {
		return s
	}
	return []int{1}
}

// check refuses ids that the model does not have.
func (p *pass) check(m models.Model) error {
	for i, id := range p.ids {
		if v := m.Dims().Vocab; id < 0 || int(id) >= v {
			return fmt.Errorf("input_ids[%d][%d] is %d: the model has ids 0 to %d", i/p.T, i%p.T, id, v-1)
		}
	}
	return nil
}

// passOf reads input_ids, attention_mask and labels under a prefix such as "in/". Masks must be ones, then zeros; labels are those of
// Hugging Face: the token at the same place, -100 for none.
func passOf(get func(name string) ([]int32, []int, error)) (*pass, error) {
	ids, shape, err := get("input_ids")
	if err != nil {
		return nil, err
	}
	if ids == nil || len(shape) != 2 {
		return nil, fmt.Errorf("want input_ids of shape [B,T], whole numbers")
	}
	p := &pass{B: shape[0], T: shape[1], ids: ids}
	if p.B < 1 || p.T < 1 {
		return nil, fmt.Errorf("input_ids has shape %v: nothing to compute", shape)
	}
	mask, mshape, err := get("attention_mask")
	if err != nil {
		return nil, err
	}
	if mask != nil {
		if !slices.Equal(shape, mshape) {
			return nil, fmt.Errorf("attention_mask has shape %v, want that of input_ids, %v", mshape, shape)
		}
		if p.lens, err = lengths(mask, p.B, p.T); err != nil {
			return nil, err
		}
	}
	labels, lshape, err := get("labels")
	if err != nil {
		return nil, err
	}
	if labels != nil {
		if !slices.Equal(shape, lshape) {
			return nil, fmt.Errorf("labels has shape %v, want that of input_ids, %v", lshape, shape)
		}
		p.targets = shifted(labels, p.B, p.T)
	}
	return p, nil
}

// lengths turns a mask of right padding into the number of tokens of each row.
func lengths(mask []int32, rows, t int) ([]int32, error) {
	lens := make([]int32, rows)
	for r := range rows {
		for i, v := range mask[r*t : (r+1)*t] {
			switch {
			case v != 0 && int(lens[r]) == i:
				lens[r]++
			case v != 0:
				return nil, fmt.Errorf("attention_mask[%d][%d] is %d after a 0: only padding on the right is supported", r, i, v)
			}
		}
	}
	return lens, nil
}

// shifted makes the target of each place the label of the next, as causal models of Hugging Face do.
func shifted(labels []int32, rows, t int) []int32 {
	targets := make([]int32, rows*t)
	for r := range rows {
		for i := range t {
			targets[r*t+i] = -1
			if i+1 < t && labels[r*t+i+1] >= 0 {
				targets[r*t+i] = labels[r*t+i+1]
			}
		}
	}
	return targets
}

// fromFile is the get of passOf for a safetensors file.
func fromFile(s *checkpoints.Safetensors, prefix string) func(string) ([]int32, []int, error) {
	return func(name string) ([]int32, []int, error) {
		info, ok := s.Info(prefix + name)
		if !ok {
			return nil, nil, nil
		}
		x, err := s.Int32s(prefix + name)
		return x, info.Shape, err
	}
}
