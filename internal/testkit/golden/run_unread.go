package golden

import (
	"errors"

	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/kernels"
	"github.com/euryale-ml/euryale/layers"
)

// unread is attention whose probabilities are given: y_i = sum over j of shares_ij v_j in each head. Its gradient is that of a
// softmax with these probabilities, as far as moves lets it through. Inputs: shares and moves [B,T,T], then q, k and v [B,T,C],
// or one tensor q|k|v.
//
// Cost: plain loops over B T T C; cases are small.
type unread struct {
	heads int
	scale float64 // of the scores
	fused bool
}

func (o unread) Name() string { return "unread_rows" }

func (o unread) DiffWRT() []bool {
	if o.fused {
		return []bool{false, false, true}
	}
	return []bool{false, false, true, true, true}
}

func (o unread) Infer(in []engine.Type) (engine.Type, error) {
	s := in[2].Shape.Clone()
	if o.fused {
		s[2] /= 3
	}
	return engine.Type{Dtype: in[2].Dtype, Shape: s}, nil
}

func (o unread) Run(out engine.Value, in []engine.Value) error {
	if engine.IsF32(out) {
		runUnread[float32](o, out, in)
	} else {
		runUnread[float64](o, out, in)
	}
	return nil
}

// columns are q, k and v, each with the distance from token to token.
func columns[F kernels.Float](o unread, in []engine.Value, c int) (q, k, v []F, row int) {
	if o.fused {
		x := engine.Floats[F](in[0])
		return x, x[c:], x[2*c:], 3 * c
	}
	return engine.Floats[F](in[0]), engine.Floats[F](in[1]), engine.Floats[F](in[2]), c
}

func runUnread[F kernels.Float](o unread, out engine.Value, in []engine.Value) {
	shares, y := engine.Floats[F](in[0]), engine.Floats[F](out)
	t, c := out.Shape()[1], out.Shape()[2]
	_, _, v, row := columns[F](o, in[2:], c)
	clear(y)
	for e, p := range shares {
		if p != 0 {
			r, j := e/t, e/t/t*t+e%t
			kernels.Axpy(p, v[j*row:][:c], y[r*c:][:c])
		}
	}
}

func (o unread) Diff(in layers.Nodes, _, dout *layers.Node) (layers.Nodes, error) {
	packed, err := engine.Apply(unreadGrad{o}, append(in, dout)...)
	if err != nil {
		return nil, err
	}
	grads := make(layers.Nodes, len(in))
	for i, n := range in[2:] {
		if grads[i+2], err = engine.View(packed, i*n.Shape().TotalSize(), n.Shape()...); err != nil {
			return nil, err
		}
	}
	return grads, nil
}

// unreadGrad is the gradient for q, k and v: one after the other, or in one tensor if they are. Inputs: those of unread, dy.
type unreadGrad struct{ of unread }

func (o unreadGrad) Name() string { return "unread_rows_grad" }

func (o unreadGrad) Infer(in []engine.Type) (engine.Type, error) {
	size := in[2].Size()
	if !o.of.fused {
		size *= 3
	}
	return engine.Type{Dtype: in[2].Dtype, Shape: tensor.Shape{size}}, nil
}

func (o unreadGrad) Run(out engine.Value, in []engine.Value) error {
	if engine.IsF32(out) {
		runUnreadGrad[float32](o.of, out, in)
	} else {
		runUnreadGrad[float64](o.of, out, in)
	}
	return nil
}

func runUnreadGrad[F kernels.Float](o unread, out engine.Value, in []engine.Value) {
	shares, moves, last := engine.Floats[F](in[0]), engine.Floats[F](in[1]), in[len(in)-1]
	dy, d := engine.Floats[F](last), engine.Floats[F](out)
	t, c := last.Shape()[1], last.Shape()[2]
	q, k, v, row := columns[F](o, in[2:], c)
	next := c // from the column of q to that of k, or from one tensor to the other
	if !o.fused {
		next = len(dy)
	}
	dq, dk, dv := d, d[next:], d[2*next:]
	clear(d)
	size := c / o.heads
	dp := make([]F, t)
	for r := range len(shares) / t { // query r of all examples
		w, first := shares[r*t:][:t], r/t*t
		for h := range o.heads {
			at := h * size
			var mean F
			for j, p := range w {
				if p != 0 {
					dp[j] = dot(dy[r*c+at:][:size], v[(first+j)*row+at:])
					mean += p * dp[j]
					kernels.Axpy(p, dy[r*c+at:][:size], dv[(first+j)*row+at:][:size])
				}
			}
			for j, p := range w {
				if p != 0 && moves[r*t+j] != 0 {
					ds := F(o.scale) * p * (dp[j] - mean)
					kernels.Axpy(ds, k[(first+j)*row+at:][:size], dq[r*row+at:][:size])
					kernels.Axpy(ds, q[r*row+at:][:size], dk[(first+j)*row+at:][:size])
				}
			}
		}
	}
}

func dot[F kernels.Float](x, y []F) F {
	var s F
	for i, v := range x {
		s += v * y[i]
	}
	return s
}

func (o unreadGrad) Diff(layers.Nodes, *layers.Node, *layers.Node) (layers.Nodes, error) {
	return nil, errors.New("a gradient has no gradient of its own here")
}
