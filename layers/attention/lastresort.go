package attention

import (
	"fmt"
	"math"
	"slices"

	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/kernels"
	"github.com/euryale-ml/euryale/layers"
)

// LastResort gives queries that read nothing, those whose lse is -Inf, their own value: o_i = v_i. Their gradient goes to v alone.
//
// Shapes: o and v [B,T,H,D] or [B,T,H·D], lse [B,H,T] -> o. among says which tokens may have it, the others stay 0: int32 [B], the
// lengths of the examples, or int32 [B,G,T] (G = 1 or H), those that are not 0; nil: all. Cost: one pass. Where all of it happens in one
// operation, Chosen.LastResort is cheaper.
// Source: Kitaev et al. 2020, section 2, where a token reads itself only if it has nothing else to read.
func LastResort(b *layers.Builder, o, lse, v, among *Node) *Node {
	if among == nil {
		return b.Op(lastResort{3}, o, lse, v)
	}
	return b.Op(lastResort{4}, o, lse, v, among)
}

// lastResort has inputs: o, lse, v, perhaps among.
type lastResort struct{ inputs int }

func (lastResort) Name() string      { return "last_resort" }
func (o lastResort) DiffWRT() []bool { return []bool{true, false, true, false}[:o.inputs] }

func (lastResort) Infer(in []engine.Type) (engine.Type, error) {
	o, lse, v := in[0], in[1], in[2]
	if !o.IsFloat() || lse.Dtype != o.Dtype || v.Dtype != o.Dtype || !slices.Equal(o.Shape, v.Shape) || len(o.Shape) < 3 || len(lse.Shape) != 3 ||
		lse.Shape[0] != o.Shape[0] || lse.Shape[2] != o.Shape[1] || o.Size()%max(1, lse.Size()) != 0 {
		return engine.Type{}, fmt.Errorf("o is %v, lse %v and v %v, want [B,T,H·D], [B,H,T] and [B,T,H·D]", o, lse, v)
	}
	if len(in) == 4 {
		s := in[3].Shape
		ok := in[3].Dtype == tensor.Int32 && len(s) > 0 && s[0] == o.Shape[0]
		if !ok || len(s) != 1 && (len(s) != 3 || s[1] != 1 && s[1] != lse.Shape[1] || s[2] != lse.Shape[2]) {
			return engine.Type{}, fmt.Errorf("tokens %v, want int32 [B] or [B,G,T] for lse %v", in[3], lse)
		}
	}
	return o, nil
}

// among reports whether a token may have a last resort.
func among(in []engine.Value, b, h, t int) bool {
	if len(in) < 4 {
		return true
	}
	x, s := engine.Ints(in[3]), in[3].Shape()
	if len(s) == 1 {
		return t < int(x[b])
	}
	return x[(b*s[1]+h%s[1])*s[2]+t] != 0
}

// eachEmpty calls f for the rows of o, counted in heads, of queries that read nothing; own says whether they get their value.
func eachEmpty[F kernels.Float](in []engine.Value, f func(row int, own bool)) {
	lse, s := engine.Floats[F](in[1]), in[1].Shape()
	for i, x := range lse {
		if x == F(math.Inf(-1)) {
			b, h, t := i/s[2]/s[1], i/s[2]%s[1], i%s[2]
			f((b*s[2]+t)*s[1]+h, among(in, b, h, t))
		}
	}
}

func (lastResort) Run(out engine.Value, in []engine.Value) error {
	if engine.IsF32(out) {
		lastResortRun[float32](out, in)
	} else {
		lastResortRun[float64](out, in)
	}
	return nil
}

func lastResortRun[F kernels.Float](out engine.Value, in []engine.Value) {
	y, v := engine.Floats[F](out), engine.Floats[F](in[2])
	copy(y, engine.Floats[F](in[0]))
	d := len(y) / max(1, in[1].Size())
	eachEmpty[F](in, func(row int, own bool) {
		if own {
			copy(y[row*d:][:d], v[row*d:])
		}
	})
}

func (lastResort) Diff(in Nodes, _, dout *Node) (Nodes, error) {
	ds := make(Nodes, len(in))
	var err error
	for i, of := range []bool{false, true} {
		if ds[2*i], err = engine.Apply(lastResortGrad{of}, append(Nodes{dout}, in[1:]...)...); err != nil {
			return nil, err
		}
	}
	return ds, nil
}

// lastResortGrad is the gradient of o, or that of v. Inputs: the gradient of the result, lse, v, perhaps among.
type lastResortGrad struct{ value bool }

func (lastResortGrad) Name() string                                { return "last_resort_grad" }
func (lastResortGrad) Infer(in []engine.Type) (engine.Type, error) { return in[0], nil }
func (lastResortGrad) Diff(Nodes, *Node, *Node) (Nodes, error) {
	return nil, fmt.Errorf("a gradient has no gradient of its own here")
}

func (o lastResortGrad) Run(out engine.Value, in []engine.Value) error {
	if engine.IsF32(out) {
		lastResortGradRun[float32](o, out, in)
	} else {
		lastResortGradRun[float64](o, out, in)
	}
	return nil
}

func lastResortGradRun[F kernels.Float](o lastResortGrad, out engine.Value, in []engine.Value) {
	dx, dy := engine.Floats[F](out), engine.Floats[F](in[0])
	d := len(dy) / max(1, in[1].Size())
	if o.value {
		clear(dx)
	} else {
		copy(dx, dy)
	}
	eachEmpty[F](in, func(row int, own bool) {
		switch {
		case !o.value:
			clear(dx[row*d:][:d])
		case own:
			copy(dx[row*d:][:d], dy[row*d:])
		}
	})
}
