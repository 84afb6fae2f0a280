package attention

import (
	"fmt"
	"slices"
	"sync"

	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/kernels"
)

// deviations are the squared distances of vectors from their centroids, [B,H,T]; 0 for padding. The vectors get gradients. Inputs: vectors
// [B,T,H·D], centroids [2,H,C,D], of which the first are meant, clusters [B,H,T].
type deviations struct{}

func (deviations) Name() string    { return "deviations" }
func (deviations) DiffWRT() []bool { return []bool{true, false, false} }

func (deviations) Infer(in []engine.Type) (engine.Type, error) {
	x, mu, a := in[0].Shape, in[1].Shape, in[2].Shape
	if len(x) != 3 || len(mu) != 4 || len(a) != 3 || x[2] != mu[1]*mu[3] || !slices.Equal(a, tensor.Shape{x[0], mu[1], x[1]}) {
		return engine.Type{}, fmt.Errorf("vectors %v, centroids %v, clusters %v, want [B,T,H·D], [2,H,C,D] and int32 [B,H,T]", in[0], in[1], in[2])
	}
	return engine.Type{Dtype: in[0].Dtype, Shape: a}, nil
}

func (o deviations) Run(out engine.Value, in []engine.Value) error {
	if engine.IsF32(out) {
		runDeviations[float32](out, in, nil)
	} else {
		runDeviations[float64](out, in, nil)
	}
	return nil
}

func (o deviations) Diff(in Nodes, _, dout *Node) (Nodes, error) {
	dx, err := engine.Apply(deviationsGrad{}, append(slices.Clone(in), dout)...)
	return Nodes{dx, nil, nil}, err
}

// deviationsGrad has inputs: those of deviations, the gradient.
type deviationsGrad struct{}

func (deviationsGrad) Name() string                                { return "deviations_grad" }
func (deviationsGrad) Infer(in []engine.Type) (engine.Type, error) { return in[0], nil }
func (deviationsGrad) Diff(Nodes, *Node, *Node) (Nodes, error) {
	return nil, fmt.Errorf("a gradient has no gradient of its own here")
}

func (deviationsGrad) Run(out engine.Value, in []engine.Value) error {
	if engine.IsF32(out) {
		runDeviations[float32](nil, in, out)
	} else {
		runDeviations[float64](nil, in, out)
	}
	return nil
}

// runDeviations computes the distances, or with dx the gradient.
func runDeviations[F kernels.Float](out engine.Value, in []engine.Value, dx engine.Value) {
	x, mu, a := engine.Floats[F](in[0]), engine.Floats[F](in[1]), engine.Ints(in[2])
	t, width, heads := in[0].Shape()[1], in[0].Shape()[2], in[2].Shape()[1]
	clusters, d := in[1].Shape()[2], in[1].Shape()[3]
	blocks := (t + slotTokens - 1) / slotTokens
	kernels.Par(in[0].Shape()[0]*heads*blocks, func(_, task int) {
		bh, from := task/blocks, task%blocks*slotTokens
		b, h := bh/heads, bh%heads
		diff, _ := deviationRows.Get().(*[deviationColumns]F)
		if diff == nil {
			diff = new([deviationColumns]F)
		}
		defer deviationRows.Put(diff)
		for i := from; i < min(from+slotTokens, t); i++ {
			c, at := int(a[bh*t+i]), (b*t+i)*width+h*d
			switch {
			case c < 0 && dx == nil:
				engine.Floats[F](out)[bh*t+i] = 0
			case c < 0:
				clear(engine.Floats[F](dx)[at:][:d])
			case dx == nil:
				sum, m := 0.0, mu[(h*clusters+c)*d:][:d]
				for k := 0; k < d; k += deviationColumns {
					part := diff[:min(deviationColumns, d-k)]
					copy(part, x[at+k:])
					kernels.Axpy(-1, m[k:][:len(part)], part)
					sum += kernels.SumSq(part)
				}
				engine.Floats[F](out)[bh*t+i] = F(sum)
			default:
				f, g := 2*engine.Floats[F](in[3])[bh*t+i], engine.Floats[F](dx)[at:][:d]
				kernels.Scale(f, x[at:][:d], g)
				kernels.Axpy(-f, mu[(h*clusters+c)*d:][:d], g)
			}
		}
	})
}

// deviationColumns are so many that are taken at once, in deviationRows.
const deviationColumns = 128

var deviationRows sync.Pool

// commitment is weight · mean over the tokens and dimensions · of squared deviations [B,H,T], summed over heads, [1]. Inputs: deviations, perhaps lens.
type commitment struct {
	weight float64
	d      int
	lens   bool
}

func (commitment) Name() string      { return "commitment" }
func (o commitment) DiffWRT() []bool { return []bool{true, false}[:1+oneIf(o.lens)] }
func (commitment) Infer(in []engine.Type) (engine.Type, error) {
	return engine.Type{Dtype: in[0].Dtype, Shape: tensor.Shape{1}}, nil
}

// factor is that of each squared deviation.
func (o commitment) factor(shape tensor.Shape, lens []engine.Value) float64 {
	n := 0
	for b := range shape[0] {
		n += lengthOf(lens, b, shape[2])
	}
	return o.weight / float64(max(n*o.d, 1))
}

func (o commitment) Run(out engine.Value, in []engine.Value) error {
	f := o.factor(in[0].Shape(), in[1:])
	if engine.IsF32(out) {
		engine.Floats[float32](out)[0] = float32(f * kernels.Sum(engine.Floats[float32](in[0])))
	} else {
		engine.Floats[float64](out)[0] = f * kernels.Sum(engine.Floats[float64](in[0]))
	}
	return nil
}

func (o commitment) Diff(in Nodes, _, dout *Node) (Nodes, error) {
	ds := make(Nodes, len(in))
	var err error
	ds[0], err = engine.Apply(commitmentGrad{o}, append(slices.Clone(in), dout)...)
	return ds, err
}

// commitmentGrad has inputs: those of commitment, the gradient.
type commitmentGrad struct{ commitment }

func (commitmentGrad) Name() string                                { return "commitment_grad" }
func (commitmentGrad) DiffWRT() []bool                             { return nil }
func (commitmentGrad) Infer(in []engine.Type) (engine.Type, error) { return in[0], nil }
func (commitmentGrad) Diff(Nodes, *Node, *Node) (Nodes, error) {
	return nil, fmt.Errorf("a gradient has no gradient of its own here")
}

func (o commitmentGrad) Run(out engine.Value, in []engine.Value) error {
	last := len(in) - 1
	f := o.factor(out.Shape(), in[1:last])
	if engine.IsF32(out) {
		fillWith(engine.Floats[float32](out), float32(f)*engine.Floats[float32](in[last])[0])
	} else {
		fillWith(engine.Floats[float64](out), f*engine.Floats[float64](in[last])[0])
	}
	return nil
}

func fillWith[F kernels.Float](x []F, v F) {
	for i := range x {
		x[i] = v
	}
}
