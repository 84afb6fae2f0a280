package layers

import (
	"fmt"
	"slices"

	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/kernels"
)

// NormConfig describes a normalisation of the last axis.
type NormConfig struct {
	Eps      float64 // added to the variance or mean square; 0 is 1e-5 for LayerNorm, 1e-6 for RMSNorm
	NoWeight bool    // no scale and no bias
	NoBias   bool    // scale, but no bias (RMSNorm never has one)
}

// LayerNorm computes (x - mean) / sqrt(var + eps) * weight + bias over the last axis, var with division by C.
//
// Shapes: x [.., C] -> [.., C]. Parameters: "weight" [C] of ones, "bias" [C] of zeros.
// Cost: one pass over x; a gradient keeps x alone and computes mean and variance again.
// Source: Ba, Kiros, Hinton 2016, arXiv 1607.06450, section 3.
func LayerNorm(b *Builder, x *Node, c NormConfig) *Node {
	if c.Eps == 0 {
		c.Eps = 1e-5
	}
	return normalise(b, x, c, norm{eps: c.Eps, weight: !c.NoWeight, bias: !c.NoWeight && !c.NoBias})
}

// RMSNorm computes x / sqrt(mean(x²) + eps) * weight over the last axis.
//
// Shapes: x [.., C] -> [.., C]. Parameter: "weight" [C] of ones.
// Cost: one pass over x; a gradient keeps x alone.
// Source: Zhang and Sennrich 2019, arXiv 1910.07467, equation 4; eps as in T5.
func RMSNorm(b *Builder, x *Node, c NormConfig) *Node {
	if c.Eps == 0 {
		c.Eps = 1e-6
	}
	return normalise(b, x, c, norm{rms: true, eps: c.Eps, weight: !c.NoWeight})
}

func normalise(b *Builder, x *Node, c NormConfig, op norm) *Node {
	if b.Err() != nil {
		return nil
	}
	if x == nil || x.Dims() == 0 {
		return b.Failf("%s: the input has no width", op.Name())
	}
	if c.Eps < 0 {
		return b.Failf("%s: eps %g, want at least 0", op.Name(), c.Eps)
	}
	d := lastOf(x.Shape())
	in := Nodes{x}
	if op.weight {
		in = append(in, b.Param("weight", Ones(), d))
	}
	if op.bias {
		in = append(in, b.Param("bias", Zeros(), d))
	}
	return b.Op(op, in...)
}

// norm is both kinds. Inputs: x, then weight and bias where there are any.
type norm struct {
	rms, weight, bias bool
	eps               float64
}

func (o norm) Name() string {
	if o.rms {
		return "rms_norm"
	}
	return "layer_norm"
}

func (o norm) Cheap() {}

func (o norm) InPlace() int { return 0 }

func (o norm) Infer(in []engine.Type) (engine.Type, error) {
	if err := sameFloat(in...); err != nil {
		return engine.Type{}, err
	}
	d := lastOf(in[0].Shape)
	for _, w := range in[1:] {
		if !slices.Equal(w.Shape, tensor.Shape{d}) {
			return engine.Type{}, fmt.Errorf("input width %d, weight has shape %v", d, w.Shape)
		}
	}
	return in[0], nil
}

func (o norm) Flops(in []engine.Type, out engine.Type) float64 { return 8 * float64(out.Size()) }

func (o norm) Run(out engine.Value, in []engine.Value) error {
	if engine.IsF32(out) {
		runNorm[float32](o, out, in)
	} else {
		runNorm[float64](o, out, in)
	}
	return nil
}

func runNorm[F kernels.Float](o norm, out engine.Value, in []engine.Value) {
	x, y, d := engine.Floats[F](in[0]), engine.Floats[F](out), lastOf(in[0].Shape())
	var w, b []F
	if o.weight {
		w = engine.Floats[F](in[1])
	}
	if o.bias {
		b = engine.Floats[F](in[2])
	}
	if o.rms {
		kernels.RMSNorm(len(x)/d, d, x, w, y, F(o.eps))
	} else {
		kernels.LayerNorm(len(x)/d, d, x, w, b, y, F(o.eps))
	}
}

func (o norm) Diff(in Nodes, out, dout *Node) (Nodes, error) { return o.DiffAdd(in, out, dout, nil) }

// DiffAdd adds what comes past the norm in a residual stream in the pass that computes the gradient.
func (o norm) DiffAdd(in Nodes, _, dout, more *Node) (Nodes, error) {
	args := Nodes{in[0], dout}
	if o.weight {
		args = append(args, in[1])
	}
	if more != nil {
		args = append(args, more)
	}
	packed, err := engine.Apply(normGrad{norm: o, more: more != nil}, args...)
	if err != nil {
		return nil, err
	}
	grads := make(Nodes, len(in))
	if grads[0], err = engine.View(packed, 0, in[0].Shape()...); err != nil {
		return nil, err
	}
	offset := engine.TypeOf(in[0]).Size()
	for i, n := range in[1:] {
		// A copy: a view of the few weights would keep all of dx in memory until the weights are updated.
		if grads[i+1], err = engine.Apply(part{offset: offset, shape: n.Shape()}, packed); err != nil {
			return nil, err
		}
		offset += n.Shape().TotalSize()
	}
	return grads, nil
}

// normGrad is the gradient for x, weight and bias, flat and one after the other. Inputs: x, dy, then the weight and what is
// added to the gradient for x, if any.
type normGrad struct {
	firstOrder
	norm norm
	more bool
}

func (o normGrad) Name() string { return o.norm.Name() + "_grad" }

func (o normGrad) Infer(in []engine.Type) (engine.Type, error) {
	size, d := in[0].Size(), lastOf(in[0].Shape)
	if o.norm.weight {
		size += d
	}
	if o.norm.bias {
		size += d
	}
	return engine.Type{Dtype: in[0].Dtype, Shape: tensor.Shape{size}}, nil
}

func (o normGrad) Flops(in []engine.Type, out engine.Type) float64 { return 16 * float64(in[0].Size()) }

func (o normGrad) Run(out engine.Value, in []engine.Value) error {
	if engine.IsF32(out) {
		runNormGrad[float32](o, out, in)
	} else {
		runNormGrad[float64](o, out, in)
	}
	return nil
}

func runNormGrad[F kernels.Float](op normGrad, out engine.Value, in []engine.Value) {
	o := op.norm
	x, dy, packed := engine.Floats[F](in[0]), engine.Floats[F](in[1]), engine.Floats[F](out)
	d := lastOf(in[0].Shape())
	dx, rest := packed[:len(x)], packed[len(x):]
	var w, dw, db, more []F
	if o.weight {
		w = engine.Floats[F](in[2])
		dw, rest = rest[:d], rest[d:]
	}
	if o.bias {
		db = rest
	}
	if op.more {
		more = engine.Floats[F](in[len(in)-1])
	}
	if o.rms {
		kernels.RMSNormGrad(len(x)/d, d, x, w, dy, more, dx, dw, F(o.eps))
	} else {
		kernels.LayerNormGrad(len(x)/d, d, x, w, dy, more, dx, dw, db, F(o.eps))
	}
}
