package attention

import (
	"fmt"
	"slices"

	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/config"
	"github.com/euryale-ml/euryale/internal/kernels"
	"github.com/euryale-ml/euryale/layers"
)

// Longformer is a window around each token, dilated or not, and some tokens G of each example that read all tokens and are read by
// all. G is Stream.Globals, or else Globals; a position that is given twice counts once, one that is padding not at all.
//
//	i not in G: o_i = softmax over window(i) ∪ G of s q_i·k_j, times v_j     with the projections of the layer
//	i in G:     o_i = softmax over all j of s q'_i·k'_j, times v'_j          with query_global, key_global, value_global
//
// Cost: O(B·H·T·(window + |G|)·D) and, where there are globals, two more projections of all tokens; memory O(B·T·C). An example's own
// G is known only when the graph runs: its keys stand in a strip before the tokens, which every query reads, and are taken out of the
// windows, so nothing is counted twice and no mask is T by T. The first tokens of every example need no strip. Without globals it is the window alone; then the weights of the
// global projections exist, but nothing reads them and their gradient is 0.
// Source: Beltagy, Peters, Cohan 2020, arXiv 2004.05150, sections 3.1 to 3.3.
// Differs from the official code: windows are counted on each side, not together; dilation and any length work everywhere, without
// padding to multiples of the window; padding and what a query may not read have no score at all, not a large negative one.
type Longformer struct {
	WindowLeft, WindowRight int   // keys on each side; with a dilation d they are d apart
	Dilation                []int // one of each head, or one of all; nil: 1
	Globals                 []int // positions, negative ones from the end of the example; what Stream.Globals is not given for
	ShareQKV                bool  // global rows are projected as all others are
}

// window is what a token reads besides the globals.
func (l Longformer) window() Pattern {
	if len(l.Dilation) == 0 {
		return Band{Left: l.WindowLeft, Right: l.WindowRight}
	}
	parts := make(perHead, len(l.Dilation))
	for h, d := range l.Dilation {
		parts[h] = Dilated{Left: l.WindowLeft, Right: l.WindowRight, Gap: d}
		if d == 1 {
			parts[h] = Band{Left: l.WindowLeft, Right: l.WindowRight}
		}
	}
	if len(parts) == 1 {
		return parts[0]
	}
	return parts
}

// Pattern is the window with the globals that do not depend on the task.
func (l Longformer) Pattern() Pattern {
	if len(l.Globals) == 0 {
		return l.window()
	}
	return union{l.window(), NewGlobal(l.Globals...)}
}

// Mix adds the attention of a layer. Its own weights are query_global, key_global and value_global, as in.Linear makes them.
// Errors: a dilation for another number of heads; when run, a global position past the end of the batch.
func (l Longformer) Mix(b *layers.Builder, in Stream) *Node {
	if b.Err() != nil {
		return nil
	}
	var globals *Node // int32 [B,G]
	lens, t := present(in.Lens), in.X.Shape()[1]
	switch batch := in.X.Shape()[0]; {
	case in.Globals != nil:
		globals = b.Op(globalRows{t: t}, append(Nodes{in.Globals}, lens...)...)
	case len(l.Globals) > 0:
		globals = b.Op(globalRows{t: t, fromEnd: true}, append(Nodes{positionsOf(b, l.Globals, batch)}, lens...)...)
	}
	if globals == nil {
		if !l.ShareQKV {
			l.projections(b, in, nil) // so that the weights exist
		}
		return Plain{l.window()}.Mix(b, in)
	}
	if in.Labels != nil {
		return b.Failf("longformer: global tokens beside biases of relative positions are not supported; take learned or rotary positions")
	}

	// All rows, of the globals too: window ∪ G.
	var c Config
	if k := l.prefix(); k > 0 && in.Globals == nil && len(l.Dilation) == 0 {
		c = in.Config(union{l.window(), firstKeys(k)})
	} else {
		c = l.withStrip(b, in, globals)
	}
	var local, o *Node
	if len(in.QKV) == 1 {
		local, _ = AttendQKV(b, c, in.QKV[0])
	} else {
		local, _ = Attend(b, c, in.QKV[0], in.QKV[1], in.QKV[2])
	}

	// The rows of the globals once more, over all keys, in their place.
	var q, k, v *Node
	if l.ShareQKV {
		q, k, v = in.Split(b)
		q = layers.Gather(b, q, globals)
	} else {
		q, k, v = l.projections(b, in, globals)
	}
	count := b.Op(globalCount{}, globals)
	o, _ = Attend(b, Config{Heads: in.Heads, Scale: in.Scale, Lens: in.Lens, Cross: true, LensQ: count}, q, k, v)
	return layers.Add(b, b.Op(dropRows{}, local, globals), layers.Scatter(b, o, globals, t))
}

// projections are the queries of the globals and the keys and values that they read; with globals nil the weights alone.
func (l Longformer) projections(b *layers.Builder, in Stream, globals *Node) (q, k, v *Node) {
	x := in.X
	if globals != nil {
		x = layers.Gather(b, x, globals)
	}
	q = in.Linear(b.Scope("query_global"), x)
	k = in.Linear(b.Scope("key_global"), in.X)
	v = in.Linear(b.Scope("value_global"), in.X)
	if in.Rotate != nil && globals != nil {
		q = in.Rotate(b.Scope("query_global"), q, b.Op(globalPlaces{}, globals))
		k = in.Rotate(b.Scope("key_global"), k, nil)
	}
	return q, k, v
}

// prefix is how many tokens are global if those are the first ones, else 0. The first keys need no strip: they stand before all others.
func (l Longformer) prefix() int {
	for k, p := range slices.Compact(slices.Sorted(slices.Values(l.Globals))) {
		if p != k {
			return 0
		}
	}
	return len(slices.Compact(slices.Sorted(slices.Values(l.Globals))))
}

// withStrip is the attention on window ∪ G. Its columns are a strip for the keys of the globals, as wide as whole tiles, and then the
// tokens without them. Dilated windows are laid out by residues, where they are bands.
func (l Longformer) withStrip(b *layers.Builder, in Stream, globals *Node) Config {
	batch, t := in.X.Shape()[0], in.X.Shape()[1]
	of := fronted{of: l.window(), front: (globals.Shape()[1] + kernels.Tile - 1) / kernels.Tile * kernels.Tile}
	op := stripColumns{front: of.front, t: t}
	c := in.Config(nil)
	if of.byResidue = permutable(of.of); of.byResidue {
		op.gaps = gapsOf(of.of)
		c.IndexQ = residueRows(b, op.gaps, batch, t)
	}
	c.Pattern = of
	c.IndexK = b.Op(op, globals)
	return c
}

// gapsOf lists the gap of each head, or one if all are alike.
func gapsOf(p Pattern) []int {
	gaps := make([]int, p.Heads())
	for h := range gaps {
		gaps[h] = gapOf(p, h)
	}
	return gaps
}

// residueRows is the order of residues as an index: [T], or [B,H,T] where heads differ.
func residueRows(b *layers.Builder, gaps []int, batch, t int) *Node {
	var order []int32
	for _, g := range gaps {
		order = append(order, residueOrder(g, t)...)
	}
	shape := []int{t}
	if len(gaps) > 1 {
		shape = []int{batch, len(gaps), t}
		for range batch - 1 {
			order = append(order, order[:len(gaps)*t]...)
		}
	}
	return b.Const(fmt.Sprint("residues ", gaps, shape), tensor.New(tensor.WithShape(shape...), tensor.WithBacking(order)))
}

// positionsOf repeats positions for each example.
func positionsOf(b *layers.Builder, positions []int, batch int) *Node {
	var all []int32
	for range batch {
		for _, p := range positions {
			all = append(all, int32(p))
		}
	}
	return b.Const(fmt.Sprint("globals ", positions, batch), tensor.New(tensor.WithShape(batch, len(positions)), tensor.WithBacking(all)))
}

// present is a list of the node, if there is one.
func present(n *Node) Nodes {
	if n == nil {
		return nil
	}
	return Nodes{n}
}

// longformerEntry is Longformer; in a decoder its causal window alone.
type longformerEntry struct {
	kind
	WindowLeft      *int  `json:"window_left"`
	WindowRight     *int  `json:"window_right,omitempty"`
	Dilation        gaps  `json:"dilation,omitempty"`
	GlobalPositions []int `json:"global_positions,omitempty"`
	ShareQKV        bool  `json:"share_qkv,omitempty"`
}

func (e *longformerEntry) check() []error {
	faults := checkSide(checkSide(nil, "window_left", e.WindowLeft, true), "window_right", e.WindowRight, false)
	for k := range e.Dilation {
		path := "dilation"
		if len(e.Dilation) > 1 {
			path = fmt.Sprintf("dilation[%d]", k)
		}
		faults = checkPositive(faults, path, &e.Dilation[k])
	}
	for k, p := range e.GlobalPositions {
		if p > maxNumber || p < -maxNumber {
			faults = append(faults, &config.FieldError{Path: fmt.Sprintf("global_positions[%d]", k), Value: p, Want: fmt.Sprintf("beyond %d", maxNumber)})
		}
	}
	return faults
}

// at is the attention of a layer.
func (e *longformerEntry) at(at Layer) (Longformer, error) {
	l := Longformer{WindowLeft: *e.WindowLeft, WindowRight: right(e.WindowRight, *e.WindowLeft, at.Decoder), Dilation: e.Dilation,
		Globals: e.GlobalPositions, ShareQKV: e.ShareQKV}
	switch {
	case len(e.Dilation) > 1 && len(e.Dilation) != at.Heads:
		return l, &config.FieldError{Path: "dilation", Value: e.Dilation, Want: fmt.Sprintf("%d dilations for %d heads; give one, or one for each head", len(e.Dilation), at.Heads)}
	case at.Decoder && len(e.GlobalPositions) > 0:
		return l, &config.FieldError{Path: "global_positions", Value: e.GlobalPositions, Want: "stands in a decoder, where a token that reads all would tell of the future; " +
			`leave it out, or take {"type": "pattern", "pattern": "band(255,0) + global(0)"}, where global tokens read earlier ones alone`}
	}
	for k, p := range e.GlobalPositions {
		if n := at.Positions; n > 0 && (p >= n || p < -n) {
			return l, &config.FieldError{Path: fmt.Sprintf("global_positions[%d]", k), Value: p, Want: fmt.Sprintf("past the end; max_position_embeddings is %d, give %d to %d", n, -n, n-1)}
		}
	}
	return l, nil
}

func (e *longformerEntry) pattern(at Layer) (Pattern, error) {
	l, err := e.at(at)
	if err != nil {
		return nil, err
	}
	return l.Pattern(), nil
}

func (e *longformerEntry) mixer(at Layer) (Mixer, error) {
	l, err := e.at(at)
	if err != nil {
		return nil, err
	}
	if at.Decoder {
		return Plain{Causal(l.Pattern())}, nil
	}
	return l, nil
}
