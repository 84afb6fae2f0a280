package attention

import (
	"fmt"
	"slices"

	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/kernels"
	"github.com/euryale-ml/euryale/layers"
)

// Part is the result of attention on some of the keys.
type Part struct {
	O   *Node // [B,T,H·D] or [B,T,H,D]
	LSE *Node // [B,H,T]
}

// Merge makes the attention on all keys of that on parts of them, which must not overlap:
//
//	lse = log Σ_k exp(lse_k),  o = Σ_k exp(lse_k - lse) o_k
//
// A query that reads nothing in any part has o = 0 and lse = -Inf. Cost O(B·T·H·D) for each part; o_k and lse_k get gradients.
// Source: Milakov and Gimelshein 2018, arXiv 1805.02867, section 3.1.
// Errors (kept by b): parts that do not fit together.
func Merge(b *layers.Builder, parts ...Part) Part {
	if len(parts) == 1 {
		return parts[0]
	}
	var in Nodes
	for _, p := range parts {
		in = append(in, p.O, p.LSE)
	}
	packed := b.Op(merge{}, in...)
	if b.Err() != nil {
		return Part{}
	}
	o, lse := parts[0].O, parts[0].LSE
	return Part{layers.View(b, packed, 0, o.Shape()...), layers.View(b, packed, o.Shape().TotalSize(), lse.Shape()...)}
}

// merge computes [o | lse]. Inputs: o and lse of each part.
type merge struct{}

func (merge) Name() string { return "merge" }

// NonFinite tells the watch for infinities that lse of a query without keys is one.
func (merge) NonFinite() {}

func (merge) Infer(in []engine.Type) (engine.Type, error) {
	for k := 0; k < len(in); k += 2 {
		o, lse := in[k], in[k+1]
		if !o.IsFloat() || lse.Dtype != in[0].Dtype || o.Dtype != in[0].Dtype || !slices.Equal(o.Shape, in[0].Shape) || !slices.Equal(lse.Shape, in[1].Shape) {
			return engine.Type{}, fmt.Errorf("part %d is %v and %v, part 0 %v and %v", k/2, o, lse, in[0], in[1])
		}
		if len(lse.Shape) != 3 || len(o.Shape) < 3 || lse.Shape[0] != o.Shape[0] || lse.Shape[2] != o.Shape[1] || o.Size()%lse.Size() != 0 {
			return engine.Type{}, fmt.Errorf("o is %v and lse %v, want [B,T,H·D] and [B,H,T]", o, lse)
		}
	}
	return engine.Type{Dtype: in[0].Dtype, Shape: tensor.Shape{in[0].Size() + in[1].Size()}}, nil
}

func (merge) Run(out engine.Value, in []engine.Value) error {
	if engine.IsF32(out) {
		mergeRun[float32](out, in)
	} else {
		mergeRun[float64](out, in)
	}
	return nil
}

// takeMerge returns the kernels for the parts among the inputs.
func takeMerge[F kernels.Float](parts []engine.Value) *kernels.Merge[F] {
	s := parts[1].Shape()
	m := kernels.TakeMerge[F](s[0], s[2], s[1], parts[0].Size()/max(1, parts[1].Size()))
	for k := 0; k < len(parts); k += 2 {
		m.Add(engine.Floats[F](parts[k]), engine.Floats[F](parts[k+1]))
	}
	return m
}

func mergeRun[F kernels.Float](out engine.Value, in []engine.Value) {
	m := takeMerge[F](in)
	defer m.Release()
	x, size := engine.Floats[F](out), in[0].Size()
	m.Forward(x[:size], x[size:])
}

func (merge) Diff(in Nodes, out, dout *Node) (Nodes, error) {
	g, err := engine.Apply(mergeGrad{}, append(slices.Clone(in), out, dout)...)
	if err != nil {
		return nil, err
	}
	return engine.Unpack(g, in, len(in))
}

// mergeGrad computes the gradients of o and lse of each part, one after the other: with w = exp(lse_k - lse),
// do_k = w do and dlse_k = w (do·(o_k - o) + dlse). Inputs: those of merge, its result, the gradient of that.
type mergeGrad struct{}

func (mergeGrad) Name() string { return "merge_grad" }

func (mergeGrad) Infer(in []engine.Type) (engine.Type, error) {
	parts := len(in)/2 - 1
	return engine.Type{Dtype: in[0].Dtype, Shape: tensor.Shape{parts * (in[0].Size() + in[1].Size())}}, nil
}

func (mergeGrad) Run(out engine.Value, in []engine.Value) error {
	if engine.IsF32(out) {
		mergeGradRun[float32](out, in)
	} else {
		mergeGradRun[float64](out, in)
	}
	return nil
}

func mergeGradRun[F kernels.Float](out engine.Value, in []engine.Value) {
	m := takeMerge[F](in[:len(in)-2])
	defer m.Release()
	o, do, size := engine.Floats[F](in[len(in)-2]), engine.Floats[F](in[len(in)-1]), in[0].Size()
	m.Backward(o[:size], o[size:], do[:size], do[size:], engine.Floats[F](out))
}

func (mergeGrad) Diff(Nodes, *Node, *Node) (Nodes, error) {
	return nil, fmt.Errorf("a gradient has no gradient of its own here")
}
