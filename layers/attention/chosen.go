package attention

import (
	"fmt"
	"math"
	"slices"

	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/layers"
)

// Chosen says what attention is like whose keys are chosen when the graph runs, by what the tokens say. The choice itself is an input
// of whole numbers: it was made once, has no gradient, and is the same in the forward pass, in a recomputed one and in the backward
// pass.
type Chosen struct {
	Heads int
	Scale float64 // of the scores; 0: 1/√D

	// Lens, Cross and LensQ are those of Config: tokens beyond are never read and give 0, whatever the choice says.
	Lens  *Node
	Cross bool
	LensQ *Node

	// LastResort gives a query that reads nothing its own value: o_i = v_i, lse_i = 0, gradient to v alone. Padding still gives 0.
	// It is for systems in which a token does not read itself, such as those that share queries and keys.
	LastResort bool

	// PaddingReads lets queries beyond Lens read the keys that there are, and have the last resort, as transformers does; without Cross.
	PaddingReads bool
}

// Links says which pairs AttendEdges makes of those it is given, besides them.
type Links struct {
	Self      bool // every token reads itself
	Symmetric bool // (i,j) also lets j read i
	Causal    bool // the later of the two reads the earlier
}

// AttendChosen is softmax attention of every query on the keys listed for it:
//
//	o_i = Σ_j p_ij v_j,  p_ij = exp(s q_i·k_j - lse_i),  lse_i = log Σ_j exp(s q_i·k_j),  j in keys_i
//
// Shapes: keys int32 [B,G,TQ,K], G = 1 (alike for all heads) or H; a negative key is none, a key listed twice counts once, their order
// does not matter (rising ones save sorting). q [B,TQ,H,D] or [B,TQ,H·D], k likewise with TK, v likewise with a head size of its own
// -> o in the form of q, lse [B,H,TQ]. A query without keys gives o = 0, lse = -Inf and no gradient. q, k, v get gradients, of o and of
// lse. Cost: O(B·H·TQ·K·D), memory 16 bytes a pair besides.
// Errors (kept by b): shapes that do not fit together; when it runs: a key that does not exist.
func AttendChosen(b *layers.Builder, c Chosen, keys, q, k, v *Node) (o, lse *Node) {
	return addChosen(b, c, keyLists{}, []*Node{keys}, q, k, v)
}

// AttendEdges is AttendChosen on pairs: edges int32 [B,G,M,2] of (query, key); a pair with a negative one is none.
// Errors besides: links of cross-attention, where queries are no keys.
func AttendEdges(b *layers.Builder, c Chosen, links Links, edges, q, k, v *Node) (o, lse *Node) {
	if c.Cross && links != (Links{}) {
		return b.Failf("attention: %+v between queries and keys of different sequences", links), nil
	}
	return addChosen(b, c, edgeLists{links}, []*Node{edges}, q, k, v)
}

// selection is what a choice looks like. It has no state.
type selection interface {
	name() string
	// check checks the inputs of the choice and returns how many rows there are of results; 0: one for each query.
	check(o *picked, in []engine.Type) (rows int, err error)
	// begin reads the inputs of the choice for a run: heads and sizes are those of o, tokens from lens on do not exist (nil: all do).
	begin(o *picked, in []engine.Value, lensQ, lensK []int32, backward bool) (rounds, error)
	// flops is an estimate of the operations on pairs, with so many multiply-adds a pair.
	flops(o *picked, in []engine.Type, perPair int) float64
}

// rounds are the calls of the kernels that one run makes, the results of which are brought together.
type rounds interface {
	count() int
	// round prepares a call; what it prepared for the one before is gone.
	round(r int, c *kernelCall) error
	// token returns the token of a row of results; negative: none.
	token(b, h, row int) int
	release()
}

// addChosen adds the node: q, k, v, the choice, lengths.
func addChosen(b *layers.Builder, c Chosen, of selection, choice []*Node, q, k, v *Node) (o, lse *Node) {
	if b.Err() != nil {
		return nil, nil
	}
	if w, ok := roundUp(c.Heads, []*Node{q, k, v}); ok {
		c.Scale = w.scale(c.Scale)
		wide := w.widen(b, []*Node{q, k, v})
		o, lse := addChosen(b, c, of, choice, wide[0], wide[1], wide[2])
		return w.narrow(b, o), lse
	}
	op := &picked{of: of, heads: c.Heads, scale: c.Scale, cross: c.Cross, lastResort: c.LastResort, lensQ: -1, lensK: -1}
	in := append(Nodes{q, k, v}, choice...)
	op.choice = len(choice)
	for _, n := range in {
		if n == nil {
			return b.Failf("%s: an input is missing", op.Name()), nil
		}
	}
	if c.Lens != nil {
		op.lensK = len(in)
		in = append(in, c.Lens)
	}
	switch {
	case !c.Cross && c.LensQ != nil:
		return b.Failf("%s: LensQ without Cross; in self-attention Lens is of queries and keys", op.Name()), nil
	case !c.Cross && !c.PaddingReads:
		op.lensQ = op.lensK
	case c.LensQ != nil:
		op.lensQ = len(in)
		in = append(in, c.LensQ)
	}
	types := make([]engine.Type, len(in))
	for i, n := range in {
		types[i] = engine.TypeOf(n)
	}
	if err := op.size(types); err != nil {
		return b.Fail(fmt.Errorf("%s: %w", op.Name(), err)), nil
	}
	if op.scale == 0 {
		op.scale = 1 / math.Sqrt(float64(op.d))
	}
	packed := b.Op(op, in...)
	shape := []int{op.b, op.rows, op.heads * op.dv}
	if q.Dims() == 4 {
		shape = []int{op.b, op.rows, op.heads, op.dv}
	}
	return layers.View(b, packed, 0, shape...), layers.View(b, packed, op.sizeO(), op.b, op.heads, op.rows)
}

// picked computes [o | lse], and behind them with a last resort lse without it. Inputs: q, k, v, the choice, lengths.
type picked struct {
	of                selection
	heads, choice     int
	scale             float64
	cross, lastResort bool
	lensQ, lensK      int // places among the inputs, -1: none

	b, tq, tk, d, dv int
	rows             int // of results
}

func (o *picked) sizeO() int   { return o.b * o.rows * o.heads * o.dv }
func (o *picked) sizeLSE() int { return o.b * o.heads * o.rows }

// size reads the sizes off the inputs.
func (o *picked) size(in []engine.Type) error {
	a := attend{heads: o.heads, lensQ: o.lensQ, lensK: o.lensK, indexQ: -1, indexK: -1, labelKeys: -1, labelBias: -1}
	if err := a.size(in); err != nil {
		return err
	}
	o.b, o.tq, o.tk, o.d, o.dv = a.b, a.tq, a.tk, a.d, a.dv
	if o.tq != o.tk && (!o.cross || o.lastResort) {
		return fmt.Errorf("%d queries and %d keys; self-attention and a last resort want as many of both", o.tq, o.tk)
	}
	if o.lastResort && o.cross {
		return fmt.Errorf("a last resort in cross-attention: queries have no values there")
	}
	rows, err := o.of.check(o, in[3:3+o.choice])
	if o.rows = rows; rows == 0 {
		o.rows = o.tq
	}
	return err
}

func (o *picked) Name() string { return o.of.name() }

// NonFinite tells the watch for infinities that lse of a query without keys is one.
func (*picked) NonFinite() {}

func (o *picked) Infer(in []engine.Type) (engine.Type, error) {
	again := *o
	if err := again.size(in); err != nil {
		return engine.Type{}, err
	}
	n := o.sizeO() + o.sizeLSE()
	if o.lastResort {
		n += o.sizeLSE()
	}
	return engine.Type{Dtype: in[0].Dtype, Shape: tensor.Shape{n}}, nil
}

func (o *picked) Flops(in []engine.Type, _ engine.Type) float64 {
	return o.of.flops(o, in[3:3+o.choice], o.d+o.dv)
}

func (o *picked) Diff(in Nodes, out, dout *Node) (Nodes, error) {
	parts, err := engine.Parts(dout, o.sizeO(), o.sizeLSE())
	if err != nil {
		return nil, err
	}
	if parts[0] == nil {
		parts[0] = engine.Zeros(out.Graph(), engine.Type{Dtype: out.Dtype(), Shape: tensor.Shape{o.sizeO()}})
	}
	args := append(slices.Clone(in), out, parts[0])
	if parts[1] != nil {
		args = append(args, parts[1])
	}
	g, err := engine.Apply(pickedGrad{o, len(in), parts[1] != nil}, args...)
	if err != nil {
		return nil, err
	}
	return engine.Unpack(g, in, 3)
}

// pickedGrad computes the gradients of q, k and v, one after the other. Inputs: those of picked, its result, the gradient of o, that of
// lse if there is one.
type pickedGrad struct {
	of     *picked
	inputs int
	lse    bool
}

func (o pickedGrad) Name() string { return o.of.Name() + "_grad" }

func (o pickedGrad) Infer(in []engine.Type) (engine.Type, error) {
	if _, err := o.of.Infer(in[:o.inputs]); err != nil {
		return engine.Type{}, err
	}
	if in[o.inputs+1].Size() != o.of.sizeO() || o.lse && in[o.inputs+2].Size() != o.of.sizeLSE() {
		return engine.Type{}, fmt.Errorf("gradients %v do not fit", in[o.inputs+1:])
	}
	return engine.Type{Dtype: in[0].Dtype, Shape: tensor.Shape{in[0].Size() + in[1].Size() + in[2].Size()}}, nil
}

func (o pickedGrad) Flops(in []engine.Type, _ engine.Type) float64 {
	return o.of.of.flops(o.of, in[3:3+o.of.choice], 3*o.of.d+2*o.of.dv)
}

func (pickedGrad) Diff(Nodes, *Node, *Node) (Nodes, error) {
	return nil, fmt.Errorf("a gradient has no gradient of its own here")
}
