package layers

import (
	"fmt"
	"slices"

	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/kernels"
)

// Dropout sets each element to zero with probability p and divides the others by 1-p, in a graph for training; elsewhere,
// and for p = 0, it returns x.
//
// The mask is a function of (seed, step, place in the model, index), where the step is the input Builder.Step. Hence a
// recomputed block sees the mask of the first time, and so does a resumed run.
//
// Shapes: x [..] -> [..]. Cost: one pass; a gradient keeps nothing. Errors: p outside [0, 1).
// Source: Srivastava et al. 2014, Dropout, section 4, in the inverted form.
func Dropout(b *Builder, x *Node, p float64) *Node {
	if p < 0 || p >= 1 || p != p {
		return b.Failf("dropout: probability %g, want 0 <= p < 1", p)
	}
	if p == 0 || !b.Training() || b.Err() != nil {
		return x
	}
	return b.Op(dropout{p: p, seed: b.Seed(), site: b.site("dropout")}, x, b.Step())
}

// dropout is its own gradient, with the mask drawn again. Inputs: x, step.
type dropout struct {
	p          float64
	seed, site uint64
}

func (o dropout) Name() string    { return "dropout" }
func (o dropout) Cheap()          {}
func (o dropout) InPlace() int    { return 0 }
func (o dropout) DiffWRT() []bool { return []bool{true, false} }

func (o dropout) Infer(in []engine.Type) (engine.Type, error) {
	if err := sameFloat(in[0]); err != nil {
		return engine.Type{}, err
	}
	if in[1].Dtype != tensor.Int32 || !slices.Equal(in[1].Shape, tensor.Shape{1}) {
		return engine.Type{}, fmt.Errorf("step is %v, want int32(1)", in[1])
	}
	return in[0], nil
}

func (o dropout) Run(out engine.Value, in []engine.Value) error {
	step := uint64(engine.Ints(in[1])[0])
	if engine.IsF32(out) {
		kernels.Dropout(float32(o.p), o.seed, step, o.site, engine.Floats[float32](in[0]), engine.Floats[float32](out))
	} else {
		kernels.Dropout(o.p, o.seed, step, o.site, engine.Floats[float64](in[0]), engine.Floats[float64](out))
	}
	return nil
}

func (o dropout) Diff(in Nodes, out, dout *Node) (Nodes, error) {
	dx, err := engine.Apply(o, dout, in[1])
	return Nodes{dx, nil}, err
}
