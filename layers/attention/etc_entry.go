package attention

import (
	"fmt"

	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/config"
	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/layers"
)

// etcEntry is ETC's attention on one stream: num_globals nodes of the model itself stand before the tokens, each for one of as many parts of
// equal length. The family etc has two inputs, structure from the data, and norms and output projections of their own.
type etcEntry struct {
	kind
	NumGlobals  *int  `json:"num_globals"`
	LocalRadius *int  `json:"local_radius"`
	LabelClip   *int  `json:"label_clip,omitempty"` // 12 if not given
	HardG2L     bool  `json:"hard_g2l,omitempty"`
	HardL2G     bool  `json:"hard_l2g,omitempty"`
	ShareQKV    *bool `json:"share_qkv,omitempty"` // true if not given
	ShareKV     bool  `json:"share_kv,omitempty"`  // without share_qkv: what global rows read is projected alike
}

func (e *etcEntry) check() []error {
	faults := checkSide(checkPositive(nil, "num_globals", e.NumGlobals), "local_radius", e.LocalRadius, true)
	if e.NumGlobals != nil && *e.NumGlobals > maxExternal {
		faults = append(faults, &config.FieldError{Path: "num_globals", Value: *e.NumGlobals, Want: fmt.Sprintf("give 1 to %d", maxExternal)})
	}
	if faults = checkSide(faults, "label_clip", e.LabelClip, false); e.LabelClip != nil && *e.LabelClip > maxClip {
		faults = append(faults, &config.FieldError{Path: "label_clip", Value: *e.LabelClip, Want: fmt.Sprintf("give 0 to %d", maxClip)})
	}
	if e.ShareKV && (e.ShareQKV == nil || *e.ShareQKV) {
		faults = append(faults, &config.FieldError{Path: "share_kv", Value: true, Want: "stands beside share_qkv, which shares more; set that to false, or leave this out"})
	}
	return faults
}

// maxClip bounds the tables of labels.
const maxClip = 1 << 12

func (e *etcEntry) pattern(Layer) (Pattern, error) {
	if e.HardG2L || e.HardL2G {
		return etcNodes{etc: ETC{Radius: *e.LocalRadius, HardG2L: e.HardG2L, HardL2G: e.HardL2G}, globals: *e.NumGlobals}, nil
	}
	return Union(External{Count: *e.NumGlobals}, Band{Left: *e.LocalRadius, Right: *e.LocalRadius})
}

// etcNodes is who reads whom where global nodes stand for parts of equal length and some read, or are read by, their own alone.
type etcNodes struct {
	alike
	etc     ETC
	globals int
}

func (p etcNodes) String() string {
	return fmt.Sprintf("external(%d) + band(%d,%d), hard: g2l %v, l2g %v", p.globals, p.etc.Radius, p.etc.Radius, p.etc.HardG2L, p.etc.HardL2G)
}

// FromEnd is true: the parts are those of the tokens there are.
func (etcNodes) FromEnd() bool  { return true }
func (p etcNodes) space() space { return space{front: p.globals} }

func (p etcNodes) Sees(_, i, j, n int) bool {
	if !inside(i, j, n) {
		return false
	}
	g := p.globals
	apart := func(node, token int, hard bool) bool { return hard && PartOf(token-g, n-g, g) != node }
	switch {
	case i < g && j < g:
		return true
	case i < g:
		return !apart(i, j, p.etc.HardG2L)
	case j < g:
		return !apart(j, i, p.etc.HardL2G)
	}
	return max(i-j, j-i) <= p.etc.Radius
}

func (p etcNodes) Row(h, i, n int, dst []Run) []Run {
	for j := 0; j < n; j++ {
		from := j
		for j < n && p.Sees(h, i, j, n) {
			j++
		}
		dst = appendRun(dst, from, j, 1)
	}
	return dst
}

func (p etcNodes) Col(h, j, n int, dst []Run) []Run {
	for i := 0; i < n; i++ {
		from := i
		for i < n && p.Sees(h, i, j, n) {
			i++
		}
		dst = appendRun(dst, from, i, 1)
	}
	return dst
}
func (p etcNodes) NNZ(h, n int) int64 { return countRows(p, h, n) }

func (e *etcEntry) mixer(at Layer) (Mixer, error) {
	p, err := e.pattern(at)
	if err == nil && at.Decoder {
		err = CheckCausal(p)
	}
	if err != nil {
		return nil, err
	}
	clip := 12
	if e.LabelClip != nil {
		clip = *e.LabelClip
	}
	return etcMixer{etc: ETC{Radius: *e.LocalRadius, Clip: clip, HardG2L: e.HardG2L, HardL2G: e.HardL2G, Labels: 2*clip + 4}, most: p, globals: *e.NumGlobals,
		apart: e.ShareQKV != nil && !*e.ShareQKV, alike: e.ShareKV}, nil
}

// etcMixer is ETC on a stream whose first rows are the global nodes.
type etcMixer struct {
	etc     ETC
	most    Pattern
	globals int
	apart   bool // projections of their own for the four pieces,
	alike   bool // or for the two kinds of rows
}

func (m etcMixer) Pattern() Pattern { return m.most }

// Mix adds the attention of a layer. Its own weights are the tables long_relative and global_relative, and without share_qkv what stands
// before pieces other than l2l: l2g_key, l2g_value, global_query, g2g_key, … or global_key and global_value.
func (m etcMixer) Mix(b *layers.Builder, in Stream) *Node {
	q, k, v := in.Split(b)
	if b.Err() != nil {
		return nil
	}
	batch, rows, g := in.X.Shape()[0], in.X.Shape()[1], m.globals
	if rows <= g { // no token at all: one of padding is put behind
		return m.padded(b, in, g+1-rows)
	}
	long := func(x *Node) *Node { return layers.Slice(b, x, 1, g, rows) }
	global := func(x *Node) *Node { return layers.Slice(b, x, 1, 0, g) }
	own := func(name string, x *Node) *Node { return in.Linear(b.Scope(name), x) }
	ofLong, ofGlobal := Projected{Q: long(q), K: k, V: v}, Projected{Q: global(q), K: k, V: v}
	switch {
	case m.apart && m.alike:
		ofGlobal = Projected{Q: own("global_query", global(in.X)), K: own("global_key", in.X), V: own("global_value", in.X)}
	case m.apart:
		ofLong.K = layers.Concat(b, 1, own("l2g_key", global(in.X)), long(k))
		ofLong.V = layers.Concat(b, 1, own("l2g_value", global(in.X)), long(v))
		ofGlobal = Projected{Q: own("global_query", global(in.X)), K: layers.Concat(b, 1, own("g2g_key", global(in.X)), own("g2l_key", long(in.X))),
			V: layers.Concat(b, 1, own("g2g_value", global(in.X)), own("g2l_value", long(in.X)))}
	}
	for i, p := range []*Projected{&ofLong, &ofGlobal} {
		at := b.Scope([]string{"long_relative", "global_relative"}[i])
		p.LabelKeys = at.Param("embedding", layers.TruncatedNormal(0.5), m.etc.Labels, q.Shape()[2])
		p.LabelBias = at.Param("bias", layers.Zeros(), m.etc.Labels, in.Heads)
	}
	lens := in.Lens
	if lens == nil {
		lens = layers.EveryRow(b, batch, rows)
	}
	ids := func(what string, columns int) *Node {
		return b.Op(etcParts{what: what, globals: g, columns: columns}, lens)
	}
	parts := ETCInputs{LongIDs: ids("long", rows-g), GlobalIDs: ids("global", g), Sentences: ids("sentence", rows-g)}
	return layers.Concat(b, 1, m.etc.GlobalRows(b, ofGlobal, parts, in.Heads), m.etc.LongRows(b, ofLong, parts, in.Heads))
}

// padded is Mix with rows of padding behind those that there are.
func (m etcMixer) padded(b *layers.Builder, in Stream, more int) *Node {
	batch, rows := in.X.Shape()[0], in.X.Shape()[1]
	lens := in.Lens
	if lens == nil {
		lens = layers.EveryRow(b, batch, rows)
	}
	longer := func(x *Node) *Node {
		width := x.Shape()[2]
		zeros := tensor.New(tensor.Of(b.Dtype()), tensor.WithShape(batch, more, width))
		return layers.Concat(b, 1, x, b.Const(fmt.Sprint("rows.zero.", batch, ".", more, ".", width), zeros))
	}
	with := in
	with.X, with.Lens, with.QKV = longer(in.X), lens, nil
	for _, x := range in.QKV {
		with.QKV = append(with.QKV, longer(x))
	}
	return layers.Slice(b, m.Mix(b, with), 1, 0, rows)
}

// etcParts says of examples of lens rows, the first globals of which are global: which long tokens and which global nodes there are (1, 0 for
// padding), or which of as many parts of equal length a token is in. Input: lens.
type etcParts struct {
	what             string
	globals, columns int
}

func (etcParts) Name() string { return "etc_parts" }

func (o etcParts) Infer(in []engine.Type) (engine.Type, error) {
	return engine.Type{Dtype: tensor.Int32, Shape: tensor.Shape{in[0].Shape[0], o.columns}}, nil
}

func (o etcParts) Run(out engine.Value, in []engine.Value) error {
	for b, n := range engine.Ints(in[0]) {
		row := engine.Ints(out)[b*o.columns:][:o.columns]
		tokens := max(int(n)-o.globals, 0)
		for t := range row {
			switch row[t] = 0; {
			case o.what == "sentence":
				row[t] = int32(PartOf(t, tokens, o.globals))
			case o.what == "long" && t < tokens, o.what == "global" && t < int(n):
				row[t] = 1
			}
		}
	}
	return nil
}

func (etcParts) Diff(Nodes, *Node, *Node) (Nodes, error) { return Nodes{nil}, nil }

// PartOf is which of so many parts of equal length token t of n is in.
func PartOf(t, n, parts int) int {
	size := max((n+parts-1)/parts, 1)
	return min(t/size, parts-1)
}
