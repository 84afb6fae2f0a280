package layers

import (
	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/kernels"
)

// Activation applies a function to each element; kernels.ParseActivation knows their names.
//
// Shapes: x [..] -> [..]. Cost: one pass; a gradient keeps x. The derivative of ReLU at 0 is 0.
// Source: GELU, Hendrycks and Gimpel 2016, arXiv 1606.08415 (erf form, tanh form, and x*sigmoid(1.702x) as QuickGELU);
// SiLU, Elfwing, Uchibe, Doya 2018, arXiv 1702.03118.
func Activation(b *Builder, x *Node, act kernels.Activation) *Node {
	if act == kernels.None {
		return x
	}
	return b.Op(activation{act}, x)
}

// activation is act(x).
type activation struct{ act kernels.Activation }

func (o activation) Name() string { return o.act.String() }
func (o activation) Cheap()       {}
func (o activation) InPlace() int { return 0 }

func (o activation) Infer(in []engine.Type) (engine.Type, error) { return in[0], sameFloat(in...) }

func (o activation) Flops(in []engine.Type, out engine.Type) float64 { return 10 * float64(out.Size()) }

func (o activation) Run(out engine.Value, in []engine.Value) error {
	if engine.IsF32(out) {
		kernels.Act(o.act, engine.Floats[float32](in[0]), engine.Floats[float32](out))
	} else {
		kernels.Act(o.act, engine.Floats[float64](in[0]), engine.Floats[float64](out))
	}
	return nil
}

func (o activation) Diff(in Nodes, out, dout *Node) (Nodes, error) {
	dx, err := engine.Apply(activationGrad{act: o.act}, in[0], dout)
	return Nodes{dx}, err
}

// activationGrad is dy act'(x). Inputs: x, dy.
type activationGrad struct {
	firstOrder
	act kernels.Activation
}

func (o activationGrad) Name() string { return o.act.String() + "_grad" }
func (o activationGrad) InPlace() int { return 1 }

func (o activationGrad) Infer(in []engine.Type) (engine.Type, error) { return in[0], nil }

func (o activationGrad) Flops(in []engine.Type, out engine.Type) float64 {
	return 15 * float64(out.Size())
}

func (o activationGrad) Run(out engine.Value, in []engine.Value) error {
	if engine.IsF32(out) {
		kernels.ActGrad(o.act, engine.Floats[float32](in[0]), engine.Floats[float32](in[1]), engine.Floats[float32](out))
	} else {
		kernels.ActGrad(o.act, engine.Floats[float64](in[0]), engine.Floats[float64](in[1]), engine.Floats[float64](out))
	}
	return nil
}
