package attention

import (
	"fmt"
	"math"
	"slices"

	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/kernels"
	"github.com/euryale-ml/euryale/layers"
)

// Short names for the graph's types.
type (
	Node  = gorgonia.Node
	Nodes = gorgonia.Nodes
)

// Config describes one attention layer.
type Config struct {
	Pattern Pattern // nil: Full
	Heads   int     // H
	Scale   float64 // of the scores; 0: 1/√D

	// Lens, int32 [B], is how many tokens of each example are not padding (which stands on the right): later keys are not
	// read, later queries give 0. With Cross it speaks of the keys alone, and LensQ, of the same form, of the queries.
	Lens  *Node
	Cross bool
	LensQ *Node

	// IndexQ and IndexK, int32 [R], [B,R] or [B,H,R], lay the pattern out over other coordinates than positions: its row or
	// column r is token Index[r] (none if negative). Nil: row r is token r.
	IndexQ, IndexK *Node

	// Labels make the score of a pair s·(q·k + q·r[λ]) + b[λ], with λ its label. LabelKeys, [V,D] (the same for all heads) or
	// [V,H·D], holds r; LabelBias, [V,H] or [V], holds b; either may be nil, and both get gradients.
	Labels    Labels
	LabelKeys *Node
	LabelBias *Node

	// Structure gives each example a pattern and labels of its own when the graph runs. Pattern and Labels then say what is expected of
	// them: how many heads and labels there are, and what they may cost at most.
	Structure Structure
	// StructureInputs, int32 [B,·], are what it depends on.
	StructureInputs Nodes

	made  bool  // keys are no tokens but made of several, and another operation tells which are read
	route route // of tests
}

// Structure makes the pattern of an example, in as many queries and keys as the layer has, from the rows of Config.StructureInputs that
// belong to it, and its labels (nil without Config.Labels). What is not to be read, such as padding, is not in the pattern; Config.Lens
// is not used. Patterns and labels with equal strings must be equal: they are compiled once, and kept for the backward pass.
type Structure interface {
	Of(inputs [][]int32) (Pattern, Labels)
}

// Attend adds softmax attention on the keys that the pattern lets each query read:
//
//	o_i = Σ_j p_ij v_j,  p_ij = exp(s q_i·k_j - lse_i),  lse_i = log Σ_j exp(s q_i·k_j),  j in A_i
//
// Shapes: q [B,TQ,H,D] or [B,TQ,H·D], k likewise with TK, v likewise with TK and a head size of its own -> o in the form of q,
// lse [B,H,TQ]. A query that reads nothing has o = 0, lse = -Inf and no gradient.
// Cost: O(pairs of listed tiles · D), or O(pairs · D) where pairs are listed one by one, and O(T·V·D) for the keys of V labels; memory
// O(B·TQ·H·D), the scores are never stored. Both results have gradients. Which way a pattern goes depends on it and the length alone.
// Source: Dao et al. 2022, arXiv 2205.14135 (streaming softmax); the tiles are those of Compile.
// Errors (kept by b): shapes that do not fit together, a pattern for another number of heads.
func Attend(b *layers.Builder, c Config, q, k, v *Node) (o, lse *Node) { return add(b, c, q, k, v) }

// AttendQKV is Attend on one tensor [B,T,3·H·D] whose columns are q, then k, then v (each H·D): o is [B,T,H·D]. Its gradient
// is one tensor of the same form, so nothing is split or joined.
func AttendQKV(b *layers.Builder, c Config, qkv *Node) (o, lse *Node) { return add(b, c, qkv) }

// add builds the node and the views of its results, or two nodes where the pattern comes cheaper in two passes. in is q, k, v, or
// all in one.
func add(b *layers.Builder, c Config, in ...*Node) (o, lse *Node) {
	if b.Err() != nil {
		return nil, nil
	}
	if w, ok := roundUp(c.Heads, in); ok && w.fits(c.LabelKeys, c.Heads) {
		c.Scale = w.scale(c.Scale)
		if c.LabelKeys != nil {
			c.LabelKeys = layers.Channels(b, c.LabelKeys, w.d, w.wide)
		}
		o, lse := add(b, c, w.widen(b, in)...)
		return w.narrow(b, o), lse
	}
	whole := c.route == cheaper && c.IndexQ == nil && c.IndexK == nil && c.Structure == nil && !c.Cross && c.Pattern != nil
	if whole && in[0] != nil && in[0].Dims() > 2 && CheckHeads(c.Pattern, c.Heads) == nil {
		parts, err := splitFor(c.Pattern, in[0].Shape()[1])
		if err != nil {
			return b.Fail(fmt.Errorf("attention: %w", err)), nil
		}
		if parts != nil {
			var done []Part
			for _, c.Pattern = range parts {
				o, lse := add(b, c, in...)
				done = append(done, Part{o, lse})
			}
			whole := Merge(b, done...)
			return whole.O, whole.LSE
		}
	}
	op := &attend{pattern: c.Pattern, heads: c.Heads, fused: len(in) == 1, lensQ: -1, lensK: -1, indexQ: -1, indexK: -1, labels: c.Labels, made: c.made}
	if op.pattern == nil {
		op.pattern = Full{}
	}
	for _, n := range in {
		if n == nil {
			return b.Failf("attention: an input is missing"), nil
		}
	}
	place := func(n *Node) int {
		if n == nil {
			return -1
		}
		if at := slices.Index(in, n); at >= 0 {
			return at
		}
		in = append(in, n)
		return len(in) - 1
	}
	op.lensK, op.lensQ = place(c.Lens), place(c.LensQ)
	if !c.Cross {
		if c.LensQ != nil {
			return b.Failf("attention: LensQ without Cross; in self-attention Lens is of queries and keys"), nil
		}
		op.lensQ = op.lensK
	}
	op.indexQ, op.indexK = place(c.IndexQ), place(c.IndexK)
	op.labelKeys, op.labelBias = place(c.LabelKeys), place(c.LabelBias)
	if op.structure = c.Structure; op.structure != nil {
		if c.Lens != nil || c.LensQ != nil || c.IndexQ != nil || c.IndexK != nil {
			return b.Failf("attention: Lens or an index with a Structure; leave what is not read out of its patterns"), nil
		}
		for _, n := range c.StructureInputs {
			op.structureAt = append(op.structureAt, place(n))
		}
	}
	types := make([]engine.Type, len(in))
	for i, n := range in {
		types[i] = engine.TypeOf(n)
	}
	if err := op.size(types); err != nil {
		return b.Fail(fmt.Errorf("attention: %w", err)), nil
	}
	op.scale = c.Scale
	if op.scale == 0 {
		op.scale = 1 / math.Sqrt(float64(op.d))
	}
	if op.labels != nil && op.structure == nil {
		op.labelText = op.labels.String()
	}
	err := op.compile(c.route)
	if err == nil && op.labels != nil && op.structure == nil && op.edges == nil {
		op.labelled, err = compiled.labels(op.pattern, op.text, op.rq, op.rk, op.orderQ != nil || op.orderK != nil, op.labels, op.labelText)
	}
	if err != nil {
		return b.Fail(fmt.Errorf("attention: %w", err)), nil
	}
	packed := b.Op(op, in...)
	shape := []int{op.b, op.tq, op.heads * op.dv}
	if in[0].Dims() == 4 {
		shape = []int{op.b, op.tq, op.heads, op.dv}
	}
	return layers.View(b, packed, 0, shape...), layers.View(b, packed, op.sizeO(), op.b, op.heads, op.tq)
}

// attend computes [o | lse]. Inputs: q, k, v or all in one, then lengths, indices, tables of labels, and what a structure depends on.
type attend struct {
	pattern Pattern
	text    string // of the pattern
	heads   int
	scale   float64
	fused   bool
	made    bool // see Config

	labels      Labels
	labelText   string // of the labels
	structure   Structure
	structureAt []int // places of its inputs

	lensQ, lensK, indexQ, indexK int // places among the inputs, -1: none
	labelKeys, labelBias         int

	b, tq, tk, d, dv int // tokens and head sizes
	rq, rk           int // rows and columns of the layouts
	layouts          []*kernels.Layout
	labelled         []*kernels.Labels
	edges            []*kernels.Edges // in place of layouts and labelled
	want             route
	orderQ, orderK   []int32 // row to token, where the pattern is compiled in an arrangement; nil: as it is
}

func (o *attend) sizeO() int   { return o.b * o.tq * o.heads * o.dv }
func (o *attend) sizeLSE() int { return o.b * o.heads * o.tq }

// tokens takes [B,T,H·D] or [B,T,H,D] apart.
func (o *attend) tokens(name string, t engine.Type) (batch, length, channels int, err error) {
	s := t.Shape
	if !t.IsFloat() {
		return 0, 0, 0, fmt.Errorf("%s has dtype %v, want float32 or float64", name, t.Dtype)
	}
	switch {
	case len(s) == 3:
		return s[0], s[1], s[2], nil
	case len(s) == 4 && s[2] == o.heads:
		return s[0], s[1], s[2] * s[3], nil
	}
	return 0, 0, 0, fmt.Errorf("%s has shape %v, want [B,T,H·D] or [B,T,H,D] with H = %d", name, s, o.heads)
}

// size reads the sizes off the inputs.
func (o *attend) size(in []engine.Type) error {
	if o.heads < 1 {
		return fmt.Errorf("%d heads, want at least 1", o.heads)
	}
	var cq, cv int
	var err error
	if o.fused {
		if o.b, o.tq, cq, err = o.tokens("qkv", in[0]); err != nil {
			return err
		}
		if len(in[0].Shape) != 3 || cq%(3*o.heads) != 0 {
			return fmt.Errorf("qkv has shape %v, want [B,T,3·H·D] with H = %d", in[0].Shape, o.heads)
		}
		cq /= 3
		cv, o.tk = cq, o.tq
	} else {
		var bk, bv, tv, ck int
		if o.b, o.tq, cq, err = o.tokens("q", in[0]); err != nil {
			return err
		}
		if bk, o.tk, ck, err = o.tokens("k", in[1]); err != nil {
			return err
		}
		if bv, tv, cv, err = o.tokens("v", in[2]); err != nil {
			return err
		}
		if bk != o.b || bv != o.b || tv != o.tk || ck != cq || in[1].Dtype != in[0].Dtype || in[2].Dtype != in[0].Dtype {
			return fmt.Errorf("q %v, k %v and v %v do not fit together", in[0], in[1], in[2])
		}
	}
	if cq == 0 || cv == 0 || cq%o.heads != 0 || cv%o.heads != 0 {
		return fmt.Errorf("%d columns cannot be split into %d heads of equal size; choose a divisor", max(cq, cv), o.heads)
	}
	o.d, o.dv = cq/o.heads, cv/o.heads
	for _, l := range [2]int{o.lensQ, o.lensK} {
		if l >= 0 && (in[l].Dtype != tensor.Int32 || !slices.Equal(in[l].Shape, tensor.Shape{o.b})) {
			return fmt.Errorf("lengths are %v, want int32[%d], one for each example", in[l], o.b)
		}
	}
	if o.rq, err = o.rows(in, o.indexQ, o.tq); err == nil {
		o.rk, err = o.rows(in, o.indexK, o.tk)
	}
	if err != nil {
		return err
	}
	for _, at := range o.structureAt {
		if s := in[at].Shape; in[at].Dtype != tensor.Int32 || len(s) != 2 || s[0] != o.b {
			return fmt.Errorf("an input of the structure is %v, want int32 [%d,·]", in[at], o.b)
		}
	}
	return o.sizeLabels(in)
}

// rows is how many rows an index gives the layouts.
func (o *attend) rows(in []engine.Type, index, tokens int) (int, error) {
	if index < 0 {
		return tokens, nil
	}
	s := in[index].Shape
	ok := in[index].Dtype == tensor.Int32 && len(s) >= 1 && len(s) <= 3
	if ok && len(s) > 1 {
		ok = s[0] == o.b
	}
	if ok && len(s) == 3 {
		ok = s[1] == o.heads
	}
	if !ok {
		return 0, fmt.Errorf("the index is %v, want int32 [R], [B,R] or [B,H,R] with B = %d, H = %d", in[index], o.b, o.heads)
	}
	return s[len(s)-1], nil
}

// gatherTiles is what gathering rows costs for each tile of queries, in tiles (measured at D = 64, forward and backward).
const gatherTiles = 3

// compile lays the pattern out, in its arrangement where that saves more tiles than gathering costs. Where tiles would be almost
// empty, pairs are listed.
func (o *attend) compile(want route) error {
	if err := CheckHeads(o.pattern, o.heads); err != nil {
		return err
	}
	o.text = o.pattern.String()
	fixed := o.indexQ >= 0 || o.indexK >= 0 || o.structure != nil
	if !fixed {
		o.want = want
		r, err := compiled.route(o.pattern, o.text, o.rq, o.rk, want)
		if err != nil {
			return err
		}
		if r == byLists {
			o.edges, err = compiled.edges(o.pattern, o.text, o.rq, o.rk, o.labels, o.labelText)
			return err
		}
	}
	var err error
	o.layouts, err = compiled.get(o.pattern, o.text, o.rq, o.rk, false)
	if err != nil || fixed {
		return err
	}
	return o.arrange()
}

// arrange takes the layouts in the arrangement of the pattern where that pays.
func (o *attend) arrange() error {
	if o.tq != o.tk || !arrangeable(o.pattern, o.tq) {
		return nil
	}
	layouts, err := compiled.get(o.pattern, o.text, o.rq, o.rk, true)
	if err != nil {
		return err
	}
	saved := 0
	for h := range layouts {
		saved += o.layouts[h].Tiles() - layouts[h].Tiles()
	}
	if tiles := (o.tq + kernels.Tile - 1) / kernels.Tile; saved > gatherTiles*tiles*len(layouts) {
		o.layouts = layouts
		o.orderQ = o.rowsOf(func(a arrangement) []int32 { return a.q })
		o.orderK = o.rowsOf(func(a arrangement) []int32 { return a.k })
	}
	return nil
}

// rowsOf is one side of the arrangement of every head: [T] if all are alike, else [B,H,T]; nil if all are in the order of positions.
func (o *attend) rowsOf(side func(arrangement) []int32) []int32 {
	var all []int32
	other := false
	for h := range o.pattern.Heads() {
		a, _ := arrange(o.pattern, h, o.tq)
		order := side(a)
		other = other || order != nil
		if order == nil {
			order = residueOrder(1, o.tq)
		}
		all = append(all, order...)
	}
	switch {
	case !other:
		return nil
	case o.pattern.Heads() == 1:
		return all
	}
	return slices.Repeat(all, o.b)
}

func (*attend) Name() string { return "attention" }

// NonFinite tells the watch for infinities that lse of a query without keys is one.
func (*attend) NonFinite() {}

func (o *attend) Infer(in []engine.Type) (engine.Type, error) {
	again := *o
	if err := again.size(in); err != nil {
		return engine.Type{}, err
	}
	return engine.Type{Dtype: in[0].Dtype, Shape: tensor.Shape{o.sizeO() + o.sizeLSE()}}, nil
}

func (o *attend) Flops([]engine.Type, engine.Type) float64 {
	return o.total(func(l *kernels.Layout) float64 { return l.ForwardFlops(o.d, o.dv) }, o.d+o.dv)
}

// total adds up operations over examples and heads: those of a layout, or of lists with so many multiply-adds a pair.
func (o *attend) total(of func(l *kernels.Layout) float64, perPair int) float64 {
	var sum float64
	for h := range o.heads {
		if o.edges != nil {
			sum += 2 * float64(o.edges[h%len(o.edges)].Pairs()) * float64(perPair)
		} else {
			sum += of(o.layouts[h%len(o.layouts)])
		}
	}
	return float64(o.b) * sum
}
