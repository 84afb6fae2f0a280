package golden

import (
	"errors"

	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/kernels"
	"github.com/euryale-ml/euryale/layers"
)

// mix gives y[b,i] = sum over j of w[b,i,j] v[b,j], v being columns offset to offset+width. Inputs: w [B,TQ,TK], which has no
// gradient, and [B,TK,R].
type mix struct{ offset, width int }

func (o mix) Name() string    { return "mix" }
func (o mix) DiffWRT() []bool { return []bool{false, true} }

func (o mix) Infer(in []engine.Type) (engine.Type, error) {
	w, v := in[0].Shape, in[1].Shape
	if len(w) != 3 || len(v) != 3 || w[0] != v[0] || w[2] != v[1] || o.offset+o.width > v[2] {
		return engine.Type{}, errors.New("weights and values do not fit together")
	}
	return engine.Type{Dtype: in[1].Dtype, Shape: tensor.Shape{w[0], w[1], o.width}}, nil
}

func (o mix) Run(out engine.Value, in []engine.Value) error {
	if engine.IsF32(out) {
		runMix[float32](o, out, in)
	} else {
		runMix[float64](o, out, in)
	}
	return nil
}

func runMix[F kernels.Float](o mix, out engine.Value, in []engine.Value) {
	w, v, y := engine.Floats[F](in[0]), engine.Floats[F](in[1]), engine.Floats[F](out)
	s, r := in[0].Shape(), in[1].Shape()[2]
	for b := range s[0] {
		kernels.Gemm(false, false, s[1], o.width, s[2], w[b*s[1]*s[2]:][:s[1]*s[2]], s[2], v[b*s[2]*r+o.offset:], r, y[b*s[1]*o.width:], o.width, false, nil)
	}
}

func (o mix) Diff(in layers.Nodes, _, dout *layers.Node) (layers.Nodes, error) {
	dv, err := engine.Apply(mixGrad{o, in[1].Shape()[2]}, in[0], dout)
	return layers.Nodes{nil, dv}, err
}

// mixGrad is the gradient of mix for its values. Inputs: w, dy.
type mixGrad struct {
	of      mix
	columns int
}

func (o mixGrad) Name() string { return "mix_grad" }

func (o mixGrad) Infer(in []engine.Type) (engine.Type, error) {
	return engine.Type{Dtype: in[1].Dtype, Shape: tensor.Shape{in[0].Shape[0], in[0].Shape[2], o.columns}}, nil
}

func (o mixGrad) Run(out engine.Value, in []engine.Value) error {
	if engine.IsF32(out) {
		runMixGrad[float32](o, out, in)
	} else {
		runMixGrad[float64](o, out, in)
	}
	return nil
}

func runMixGrad[F kernels.Float](o mixGrad, out engine.Value, in []engine.Value) {
	w, dy, dv := engine.Floats[F](in[0]), engine.Floats[F](in[1]), engine.Floats[F](out)
	s, r, d := in[0].Shape(), o.columns, o.of.width
	clear(dv)
	for b := range s[0] {
		kernels.Gemm(true, false, s[2], d, s[1], w[b*s[1]*s[2]:][:s[1]*s[2]], s[2], dy[b*s[1]*d:], d, dv[b*s[2]*r+o.of.offset:], r, false, nil)
	}
}

func (o mixGrad) Diff(layers.Nodes, *layers.Node, *layers.Node) (layers.Nodes, error) {
	return nil, errors.New("a gradient has no gradient of its own here")
}
