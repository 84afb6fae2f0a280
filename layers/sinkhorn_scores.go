package layers

import (
	"fmt"

	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/kernels"
)

// HeadScores are the products of all rows of q and k, head by head: s q_u·k_v. Shapes: q [B,N,H·D], k [B,M,H·D] -> [B,H,N,M]. It is for
// few rows, such as one for each block. Cost: 2 B N M H D.
func HeadScores(b *Builder, q, k *Node, heads int, scale float64) *Node {
	return b.Op(headScores{heads: heads, scale: scale}, q, k)
}

// headScores has inputs: q, k.
type headScores struct {
	heads int
	scale float64
}

func (headScores) Name() string { return "head_scores" }

func (o headScores) Infer(in []engine.Type) (engine.Type, error) {
	if err := sameFloat(in...); err != nil {
		return engine.Type{}, err
	}
	q, k := in[0].Shape, in[1].Shape
	if len(q) != 3 || len(k) != 3 || q[0] != k[0] || q[2] != k[2] || o.heads < 1 || q[2]%o.heads != 0 {
		return engine.Type{}, fmt.Errorf("q %v and k %v, want [B,N,H·D] and [B,M,H·D] with H = %d", q, k, o.heads)
	}
	return engine.Type{Dtype: in[0].Dtype, Shape: tensor.Shape{q[0], o.heads, q[1], k[1]}}, nil
}

func (o headScores) Flops(in []engine.Type, _ engine.Type) float64 {
	return 2 * float64(in[0].Size()) * float64(in[1].Shape[1])
}

func (o headScores) Run(out engine.Value, in []engine.Value) error {
	if engine.IsF32(out) {
		headScoresRun[float32](o, out, in)
	} else {
		headScoresRun[float64](o, out, in)
	}
	return nil
}

func headScoresRun[F kernels.Float](o headScores, out engine.Value, in []engine.Value) {
	q, k, y := engine.Floats[F](in[0]), engine.Floats[F](in[1]), engine.Floats[F](out)
	s := out.Shape()
	n, m, c := s[2], s[3], in[0].Shape()[2]
	d := c / o.heads
	for bh := range s[0] * s[1] {
		b, h := bh/o.heads, bh%o.heads
		kernels.Gemm(false, true, n, m, d, q[b*n*c+h*d:], c, k[b*m*c+h*d:], c, y[bh*n*m:], m, false, nil)
	}
	kernels.Scale(F(o.scale), y, y)
}

func (o headScores) Diff(in Nodes, _, dout *Node) (Nodes, error) {
	dq, err := engine.Apply(headScoresGrad{o, false}, dout, in[1])
	if err != nil {
		return nil, err
	}
	dk, err := engine.Apply(headScoresGrad{o, true}, dout, in[0])
	return Nodes{dq, dk}, err
}

// headScoresGrad is the gradient of one side. Inputs: that of the scores, the other side.
type headScoresGrad struct {
	headScores
	ofKeys bool
}

func (headScoresGrad) Name() string { return "head_scores_grad" }
func (headScoresGrad) Diff(Nodes, *Node, *Node) (Nodes, error) {
	return firstOrder{}.Diff(nil, nil, nil)
}

func (o headScoresGrad) Infer(in []engine.Type) (engine.Type, error) {
	s := in[0].Shape
	rows := s[2]
	if o.ofKeys {
		rows = s[3]
	}
	return engine.Type{Dtype: in[0].Dtype, Shape: tensor.Shape{s[0], rows, in[1].Shape[2]}}, nil
}

// Flops are those of the scores.
func (o headScoresGrad) Flops(in []engine.Type, _ engine.Type) float64 {
	return 2 * float64(in[0].Size()) * float64(in[1].Shape[2]/o.heads)
}

func (o headScoresGrad) Run(out engine.Value, in []engine.Value) error {
	if engine.IsF32(out) {
		headScoresGradRun[float32](o, out, in)
	} else {
		headScoresGradRun[float64](o, out, in)
	}
	return nil
}

func headScoresGradRun[F kernels.Float](o headScoresGrad, out engine.Value, in []engine.Value) {
	ds, x, y := engine.Floats[F](in[0]), engine.Floats[F](in[1]), engine.Floats[F](out)
	s := in[0].Shape()
	n, m, rows, others, c := s[2], s[3], out.Shape()[1], in[1].Shape()[1], out.Shape()[2]
	d := c / o.heads
	for bh := range s[0] * s[1] {
		b, h := bh/o.heads, bh%o.heads
		kernels.Gemm(o.ofKeys, false, rows, d, others, ds[bh*n*m:], m, x[b*others*c+h*d:], c, y[b*rows*c+h*d:], c, false, nil)
	}
	kernels.Scale(F(o.scale), y, y)
}

// SplitHeads takes rows of all heads side by side apart: x [B,N,H·M] -> [B,H,N,K], the first K numbers of each head.
func SplitHeads(b *Builder, x *Node, heads, first int) *Node {
	return b.Op(splitHeads{heads, first}, x)
}

// splitHeads has one input.
type splitHeads struct{ heads, first int }

func (splitHeads) Name() string { return "split_heads" }
func (splitHeads) Cheap()       {}

func (o splitHeads) Infer(in []engine.Type) (engine.Type, error) {
	s := in[0].Shape
	if !in[0].IsFloat() || len(s) != 3 || o.heads < 1 || s[2]%o.heads != 0 || o.first < 1 || o.first > s[2]/o.heads {
		return engine.Type{}, fmt.Errorf("%d numbers of each head of %v, want floats [B,N,H·M] with H = %d", o.first, in[0], o.heads)
	}
	return engine.Type{Dtype: in[0].Dtype, Shape: tensor.Shape{s[0], o.heads, s[1], o.first}}, nil
}

func (o splitHeads) Run(out engine.Value, in []engine.Value) error {
	if engine.IsF32(out) {
		splitHeadsRun[float32](o, out, in[0], false)
	} else {
		splitHeadsRun[float64](o, out, in[0], false)
	}
	return nil
}

// splitHeadsRun copies from x to the heads, or back.
func splitHeadsRun[F kernels.Float](o splitHeads, split, joined engine.Value, back bool) {
	y, x := engine.Floats[F](split), engine.Floats[F](joined)
	n, c := joined.Shape()[1], joined.Shape()[2]
	m := c / o.heads
	if back {
		clear(x)
	}
	for r := range joined.Shape()[0] * n {
		for h := range o.heads {
			a, b := y[((r/n*o.heads+h)*n+r%n)*o.first:][:o.first], x[r*c+h*m:][:o.first]
			if back {
				copy(b, a)
			} else {
				copy(a, b)
			}
		}
	}
}

func (o splitHeads) Diff(in Nodes, _, dout *Node) (Nodes, error) {
	dx, err := engine.Apply(joinHeads{o, in[0].Shape().Clone()}, dout)
	return Nodes{dx}, err
}

// joinHeads is the gradient of splitHeads.
type joinHeads struct {
	splitHeads
	whole tensor.Shape
}

func (joinHeads) Name() string                            { return "split_heads_grad" }
func (joinHeads) Diff(Nodes, *Node, *Node) (Nodes, error) { return firstOrder{}.Diff(nil, nil, nil) }
func (o joinHeads) Infer(in []engine.Type) (engine.Type, error) {
	return engine.Type{Dtype: in[0].Dtype, Shape: o.whole.Clone()}, nil
}

func (o joinHeads) Run(out engine.Value, in []engine.Value) error {
	if engine.IsF32(out) {
		splitHeadsRun[float32](o.splitHeads, in[0], out, true)
	} else {
		splitHeadsRun[float64](o.splitHeads, in[0], out, true)
	}
	return nil
}
