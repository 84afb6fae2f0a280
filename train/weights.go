package train

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"

	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/checkpoints"
	"github.com/euryale-ml/euryale/layers"
)

// loadTensor puts a tensor of a checkpoint into the parameters.
func loadTensor(p *layers.Params, t checkpoints.Tensor) error {
	if table, ok := t.Data.([]int32); ok {
		return p.SetInts(t.Name, t.Shape, table)
	}
	return p.Load(t.Name, tensor.New(tensor.WithShape(t.Shape...), tensor.WithBacking(t.Data)))
}

// restore takes the step and the moments of a checkpoint. Weights and moments must be exactly those of the model.
func (t *Trainer) restore(snap *checkpoints.Snapshot) error {
	if have, want := t.Params.Len()+len(t.Params.AllInts()), len(snap.Model); have != want {
		return fmt.Errorf("the model has %d weights, the checkpoint %d", have, want)
	}
	saved := map[string]checkpoints.Tensor{}
	for _, m := range snap.Optimizer {
		saved[m.Name] = m
	}
	t.Adam.Step = snap.Step
	return t.moments(func(name string, v *tensor.Dense) error {
		m, ok := saved[name]
		if !ok {
			return fmt.Errorf("optimizer.safetensors lacks %s", name)
		}
		if !slices.Equal(m.Shape, []int(v.Shape())) {
			return fmt.Errorf("optimizer.safetensors: %s has shape %v, want %v", name, m.Shape, v.Shape())
		}
		return tensor.Copy(v, tensor.New(tensor.WithShape(m.Shape...), tensor.WithBacking(m.Data)))
	})
}

// sameJSON compares two JSON texts by value.
func sameJSON(a, b []byte) bool {
	var x, y any
	if json.Unmarshal(a, &x) != nil || json.Unmarshal(b, &y) != nil {
		return bytes.Equal(a, b)
	}
	p, _ := json.Marshal(x)
	q, _ := json.Marshal(y)
	return bytes.Equal(p, q)
}
