package attention

import "github.com/euryale-ml/euryale/layers"

// Mixer is the attention of one layer: what makes the stream of one token depend on others. Most entries are a pattern and nothing
// else; one with weights of its own, with nodes besides the tokens, or that chooses keys by content is a Mixer of its own.
type Mixer interface {
	// Pattern is the set of pairs as far as positions decide it: what is counted and drawn, and what a generator must keep.
	Pattern() Pattern
	// Mix adds the attention of a layer to the graph and returns [B,T,H·D], before the output projection. Weights of its own are
	// parameters of b. Errors are kept by b.
	Mix(b *layers.Builder, in Stream) *Node
}

// Stream is what a Mixer reads.
type Stream struct {
	// X, [B,T,C], is what the queries, keys and values were projected from.
	X *Node
	// QKV are q, k and v, each [B,T,H·D], or one tensor q|k|v [B,T,3·H·D], or for a mixer that shares them qk and v; positions are in them
	// already.
	QKV []*Node
	// Heads, Scale and Lens are those of Config.
	Heads int
	Scale float64
	Lens  *Node
	// Globals, int32 [B,G], are the positions of tokens that a task makes global (negative: none); nil: those of the entry.
	Globals *Node
	// Project is the layer's own projection of other rows than X: of queries (0), keys (1) or values (2), without positions.
	Project func(b *layers.Builder, part int, x *Node) *Node
	// Labels and LabelBias are those of Config: what the model adds to the scores of pairs; nil: nothing.
	Labels    Labels
	LabelBias *Node
	// First is the attention's scope of the first layer, where weights stand that all layers share.
	First *layers.Builder
	// Rotate turns queries or keys by the positions int32 [B,R] of their tokens (nil: those of X), as QKV are turned already; nil: they
	// are not.
	Rotate func(b *layers.Builder, x, positions *Node) *Node
	// Linear makes a projection [B,T,C] -> [B,T,H·D] in the way of the model: its biases, its initial values, its way of storage.
	Linear func(b *layers.Builder, x *Node) *Node
	// Map is Linear to another width, and Turn turns the first heads of queries and keys by their positions as QKV are turned already (nil:
	// they are not), for a Mapping. Width is H·D; 0: that of X.
	Map   func(b *layers.Builder, x *Node, width int) *Node
	Turn  func(b *layers.Builder, x *Node, heads int) *Node
	Width int
	// More are inputs of one kind of data alone, by name, such as graph_edges.
	More map[string]*Node
}

// Config is that of Attend.
func (s Stream) Config(p Pattern) Config {
	return Config{Pattern: p, Heads: s.Heads, Scale: s.Scale, Lens: s.Lens, Labels: s.Labels, LabelBias: s.LabelBias}
}

// Split returns q, k and v, each [B,T,H·D].
func (s Stream) Split(b *layers.Builder) (q, k, v *Node) {
	if b.Err() != nil {
		return nil, nil, nil
	}
	switch len(s.QKV) {
	case 2:
		return s.QKV[0], s.QKV[0], s.QKV[1]
	case 3:
		return s.QKV[0], s.QKV[1], s.QKV[2]
	}
	parts := layers.SplitColumns(b, s.QKV[0], 3)
	return parts[0], parts[1], parts[2]
}

// Plain is the Mixer that is a pattern alone.
type Plain struct{ Of Pattern }

// Pattern is the pattern itself.
func (p Plain) Pattern() Pattern { return p.Of }

// Mix is Attend, or AttendQKV.
func (p Plain) Mix(b *layers.Builder, in Stream) *Node {
	var o *Node
	if len(in.QKV) == 1 {
		o, _ = AttendQKV(b, in.Config(p.Of), in.QKV[0])
	} else {
		o, _ = Attend(b, in.Config(p.Of), in.QKV[0], in.QKV[1], in.QKV[2])
	}
	return o
}

// Shared is a Mixer whose keys are its queries, as in Reformer: where SharesQK is true a layer has one map for both.
type Shared interface {
	Mixer
	SharesQK() bool
}

// SharesQK tells whether the keys of a mixer are its queries.
func SharesQK(m Mixer) bool {
	s, ok := m.(Shared)
	return ok && s.SharesQK()
}

// Mapping is a Mixer that makes queries, keys and values of the stream by maps of its own where MapsItself is true: Stream.QKV is nil then.
type Mapping interface {
	Mixer
	MapsItself() bool
}

// MapsItself tells whether a mixer has maps of its own.
func MapsItself(m Mixer) bool {
	s, ok := m.(Mapping)
	return ok && s.MapsItself()
}

// mixed is a type of entry that is more than a pattern.
type mixed interface {
	fields
	// mixer is the attention of a layer.
	mixer(at Layer) (Mixer, error)
}

// Mixer is the attention of a layer. Errors are those of In.
func (e Entry) Mixer(at Layer) (Mixer, error) {
	if m, ok := e.fields.(mixed); ok {
		return m.mixer(at)
	}
	if h, ok := e.fields.(*headsEntry); ok {
		if groups, err := h.groups(at); err != nil || groups != nil {
			return groups, err
		}
	}
	p, err := e.In(at)
	if err != nil {
		return nil, err
	}
	if d := newDrawn(p, at); d != nil {
		return d, nil
	}
	return Plain{p}, nil
}
