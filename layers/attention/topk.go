package attention

import (
	"fmt"

	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/kernels"
	"github.com/euryale-ml/euryale/layers"
)

// TopK is attention of every query on the K keys that it has the greatest products with, found exactly:
//
//	A_i = the first min(K, |C_i|) keys of C_i by (q_i·k_j falling, j rising),  o_i = softmax_{j in A_i}(s q_i·k_j) v_j
//
// C_i are the keys that are no padding and, if Causal, come no later. With K of all keys or more it is full attention. What is chosen
// has no gradient: a key that nobody chooses gets none, so that a training from nothing may want a K that shrinks, or MIPS.Explore.
// Cost: T²·D for the choice, which is still quadratic, and T·K·D for attention; memory T·K.
// Source: Gupta et al. 2021, arXiv 2106.06899 (top-k attention in pieces).
type TopK struct {
	K      int
	Causal bool
}

var (
	_ Crossing = TopK{}
	_ Cached   = TopK{}
)

// Pattern is every pair that may be chosen.
func (a TopK) Pattern() Pattern { return candidates(a.Causal) }

// candidates are all keys, or all that come no later.
func candidates(causal bool) Pattern {
	if causal {
		return Causal(Full{})
	}
	return Full{}
}

// Class is the class of causality: C1, nothing depends on later tokens; empty without causality.
func (a TopK) Class() string {
	if a.Causal {
		return "C1"
	}
	return ""
}

// Cached is true: a Cache of all tokens that reads the best, see Cache.SetTop.
func (TopK) Cached() bool { return true }

// Mix adds the attention of a layer.
func (a TopK) Mix(b *layers.Builder, in Stream) *Node {
	q, k, v := in.Split(b)
	if in.Labels != nil {
		return b.Failf("topk: biases by relative position, which chosen keys do not have; use other positions")
	}
	return a.attend(b, Chosen{Heads: in.Heads, Scale: in.Scale, Lens: in.Lens}, q, k, v)
}

// Cross is attention on another sequence.
func (a TopK) Cross(b *layers.Builder, in CrossStream) *Node {
	a.Causal = false
	return a.attend(b, Chosen{Heads: in.Heads, Scale: in.Scale, Lens: in.Lens, Cross: true, LensQ: in.LensQ}, in.Q, in.K, in.V)
}

func (a TopK) attend(b *layers.Builder, c Chosen, q, k, v *Node) *Node {
	if b.Err() != nil {
		return nil
	}
	if a.K >= k.Shape()[1] { // all of them
		o, _ := Attend(b, Config{Pattern: a.Pattern(), Heads: c.Heads, Scale: c.Scale, Lens: c.Lens, Cross: c.Cross, LensQ: c.LensQ}, q, k, v)
		return o
	}
	o, _ := AttendChosen(b, c, TopKeys(b, a, c, nil, q, k), q, k, v)
	return o
}

// TopKeys chooses the keys of TopK: int32 [B,H,TQ,K], K no more than there are keys, rising, -1 behind them where there are fewer.
// valid, int32 [B,TK], is 0 for keys that do not exist (and for queries, without c.Cross); nil: all do. No gradient.
// Cost: O(B·H·TQ·TK·D); scores are never kept.
func TopKeys(b *layers.Builder, a TopK, c Chosen, valid, q, k *Node) *Node {
	if b.Err() != nil {
		return nil
	}
	op := topKeys{TopK: a, heads: c.Heads, cross: c.Cross, lensQ: -1, lensK: -1, valid: -1}
	in := Nodes{q, k}
	place := func(n *Node) int {
		if n == nil {
			return -1
		}
		in = append(in, n)
		return len(in) - 1
	}
	op.lensK = place(c.Lens)
	op.lensQ = op.lensK
	if c.Cross {
		op.lensQ = place(c.LensQ)
	}
	op.valid = place(valid)
	op.inputs = len(in)
	return b.Op(op, in...)
}

// topKeys has inputs: q, k, lengths, what is valid.
type topKeys struct {
	choosing
	TopK
	heads, inputs       int
	cross               bool
	lensQ, lensK, valid int // places, -1: none
}

func (topKeys) Name() string      { return "top_keys" }
func (o topKeys) DiffWRT() []bool { return make([]bool, o.inputs) }

// size takes q and k apart.
func (o topKeys) size(in []engine.Type) (s attend, err error) {
	s = attend{heads: o.heads, lensQ: o.lensQ, lensK: o.lensK, indexQ: -1, indexK: -1, labelKeys: -1, labelBias: -1}
	types := append([]engine.Type{in[0], in[1], in[1]}, in[2:]...)
	if s.lensQ > 0 {
		s.lensQ++
	}
	if s.lensK > 0 {
		s.lensK++
	}
	if err = s.size(types); err != nil {
		return s, err
	}
	if s.tq != s.tk && !o.cross {
		return s, fmt.Errorf("%d queries and %d keys without Cross", s.tq, s.tk)
	}
	if o.valid > 0 && (in[o.valid].Dtype != tensor.Int32 || in[o.valid].Size() != s.b*s.tk) {
		return s, fmt.Errorf("what is valid is %v, want int32 [%d,%d]", in[o.valid], s.b, s.tk)
	}
	return s, nil
}

func (o topKeys) Infer(in []engine.Type) (engine.Type, error) {
	if o.K < 1 {
		return engine.Type{}, fmt.Errorf("k is %d, want at least 1", o.K)
	}
	s, err := o.size(in)
	return engine.Type{Dtype: tensor.Int32, Shape: tensor.Shape{s.b, s.heads, s.tq, min(o.K, s.tk)}}, err
}

func (o topKeys) Flops(in []engine.Type, out engine.Type) float64 {
	s, err := o.size(in)
	if err != nil {
		return 0
	}
	return 2 * float64(s.b*s.heads*s.tq) * float64(s.tk*s.d)
}

func (o topKeys) Run(out engine.Value, in []engine.Value) error {
	if engine.IsF32(in[0]) {
		return findTop[float32](o, out, in)
	}
	return findTop[float64](o, out, in)
}

func findTop[F kernels.Float](o topKeys, out engine.Value, in []engine.Value) error {
	shape, tk := out.Shape(), in[1].Shape()[1]
	d := in[0].Size() / max(1, shape[0]*shape[1]*shape[2])
	a := kernels.TopK[F]{B: shape[0], H: shape[1], TQ: shape[2], TK: tk, D: d, K: shape[3], Causal: o.Causal, Self: !o.cross,
		Q: rowsOf(engine.Floats[F](in[0]), shape[2], d, o.heads*d), Keys: rowsOf(engine.Floats[F](in[1]), tk, d, o.heads*d), Out: engine.Ints(out)}
	var err error
	if a.LensQ, err = lengths(o.lensQ, shape[2], in); err == nil {
		a.LensK, err = lengths(o.lensK, tk, in)
	}
	if err != nil {
		return err
	}
	if o.valid > 0 {
		a.Valid = engine.Ints(in[o.valid])
	}
	return a.Run()
}

// topKEntry is {"type": "topk", "k": 32}.
type topKEntry struct {
	kind
	K *int `json:"k"`
}

func (e *topKEntry) check() []error                    { return checkPositive(nil, "k", e.K) }
func (e *topKEntry) pattern(at Layer) (Pattern, error) { return e.topK(at).Pattern(), nil }
func (e *topKEntry) topK(at Layer) TopK                { return TopK{K: *e.K, Causal: at.Decoder} }
func (e *topKEntry) mixer(at Layer) (Mixer, error)     { return e.topK(at), nil }
func (*topKEntry) beside()                             {}
