package attention

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/layers"
)

// structured is a graph of attention whose examples differ in structure or which has weights of its own: out [B,·,C] of in.
type structured struct {
	b   *layers.Builder
	in  Nodes
	out *Node
}

func newStructured(dtype tensor.Dtype) *structured {
	return &structured{b: layers.New(gorgonia.NewGraph(), layers.NewParams(dtype), layers.Options{})}
}

func (s *structured) input(name string, shape ...int) *Node {
	n := s.b.Input(name, s.b.Dtype(), shape...)
	fillFrom(layers.InputValue(n), name)
	s.in = append(s.in, n)
	return n
}

func (s *structured) ints(name string, v []int32, shape ...int) *Node {
	return s.b.Const(name, tensor.New(tensor.WithShape(shape...), tensor.WithBacking(v)))
}

func (s *structured) linear(b *layers.Builder, name string, x *Node) *Node {
	return layers.Linear(b.Scope(name), x, layers.LinearConfig{Out: x.Shape()[2], Init: layers.Normal(0.4)})
}

// stream is what a layer gives a mixer.
func (s *structured) stream(x *Node, heads int, lens *Node) Stream {
	names := []string{"q", "k", "v"}
	return Stream{X: x, QKV: []*Node{s.linear(s.b, "q", x), s.linear(s.b, "k", x), s.linear(s.b, "v", x)}, Heads: heads, Lens: lens, First: s.b,
		Linear: func(b *layers.Builder, x *Node) *Node { return s.linear(b, "", x) },
		Map: func(b *layers.Builder, x *Node, width int) *Node {
			return layers.Linear(b, x, layers.LinearConfig{Out: width, Init: layers.Normal(0.4)})
		},
		Project: func(b *layers.Builder, part int, x *Node) *Node { return s.linear(s.b, names[part], x) }}
}

// cost is a weighted sum of what comes out.
func (s *structured) cost(t require.TestingT) (*Node, Nodes) {
	require.NoError(t, s.b.Err())
	w := s.b.Input("weight of out", s.b.Dtype(), s.out.Shape()...)
	fillFrom(layers.InputValue(w), "weight of out")
	cost := layers.Sum(s.b, layers.Mul(s.b, s.out, w))
	require.NoError(t, s.b.Err())
	_, weights := s.b.Weights()
	return cost, append(weights, s.in...)
}

// values runs the graph for what comes out.
func (s *structured) values(t *testing.T) []float64 {
	require.NoError(t, s.b.Err())
	p, err := engine.Compile(s.b.Graph(), Nodes{s.out}, engine.Options{})
	require.NoError(t, err)
	require.NoError(t, p.Run())
	return numbers(p.Value(s.out))
}

func crossBlocks(size, t int, lens []int32, decoder bool) *structured {
	s := newStructured(tensor.Float64)
	c := crossBlock{CrossBlocks{Size: size, past: decoder}}
	s.out = c.Mix(s.b, s.stream(s.input("x", len(lens), t, 6), 2, s.ints("lens", lens, len(lens))))
	return s
}

func transient(block, t int, lens []int32) *structured {
	s := newStructured(tensor.Float64)
	in := s.stream(s.input("x", len(lens), t, 6), 2, s.ints("lens", lens, len(lens)))
	labels := T5Labels{Bidirectional: true, Buckets: 8, MaxDistance: 11}
	in.Labels, in.LabelBias = labels, s.input("biases", 8, 2)
	s.out = TransientGlobal{Radius: 3, Block: block, Labels: labels}.Mix(s.b, in)
	return s
}

func etcOf(global bool) *structured {
	s := newStructured(tensor.Float64)
	e := ETC{Radius: 2, Clip: 2, HardG2L: true, Labels: 9}
	in := ETCInputs{LongIDs: s.ints("long", []int32{1, 1, 1, 1, 2, 2, 0, 1, 1, 1, 1, 1, 1, 1}, 2, 7), GlobalIDs: s.ints("global", []int32{1, 1, 2, 1, 1, 0}, 2, 3),
		Sentences: s.ints("sentences", []int32{0, 0, 1, 1, 2, 2, 0, 0, 0, 0, 0, 0, 1, 1}, 2, 7), Segments: s.ints("segments", []int32{0, 1, 1, 0, 0, 0}, 2, 3)}
	rows, f := 7, e.LongRows
	if global {
		rows, f = 3, e.GlobalRows
	}
	s.out = f(s.b, Projected{Q: s.input("q", 2, rows, 6), K: s.input("k", 2, 10, 6), V: s.input("v", 2, 10, 6), LabelKeys: s.input("keys", 9, 6),
		LabelBias: s.input("bias", 9, 2)}, in, 2)
	return s
}

func init() {
	for name, build := range map[string]func() *structured{
		"cross-block":         func() *structured { return crossBlocks(3, 11, []int32{11, 5}, false) },
		"cross-block, causal": func() *structured { return crossBlocks(4, 11, []int32{11, 6}, true) },
		"transient global":    func() *structured { return transient(4, 11, []int32{11, 3}) },
		"etc, long rows":      func() *structured { return etcOf(false) },
		"etc, global rows":    func() *structured { return etcOf(true) },
	} {
		mixers[name] = func(t require.TestingT) (*Node, Nodes) { return build().cost(t) }
	}
}

// Every gradient of a mixer is what small changes of its inputs and weights say.
func TestMixersByFiniteDifferences(t *testing.T) {
	for name, build := range mixers {
		t.Run(name, func(t *testing.T) {
			cost, in := build(t)
			grads, err := engine.VJP(Nodes{cost}, Nodes{engine.Fill(cost.Graph(), engine.TypeOf(cost), 1)}, in, nil)
			require.NoError(t, err)
			p, err := engine.Compile(cost.Graph(), append(Nodes{cost}, grads...), engine.Options{})
			require.NoError(t, err)
			require.NoError(t, p.Run())
			var analytic [][]float64
			for _, g := range grads {
				analytic = append(analytic, numbers(p.Value(g)))
			}
			for k, n := range in {
				x := layers.InputValue(n).Float64s()
				for i := 0; i < len(x); i += 1 + len(x)/17 {
					const h = 1e-5
					keep := x[i]
					at := func(v float64) float64 {
						x[i] = v
						require.NoError(t, p.Run())
						return numbers(p.Value(cost))[0]
					}
					slope := (at(keep+h) - at(keep-h)) / (2 * h)
					x[i] = keep
					require.InDelta(t, slope, analytic[k][i], 1e-6*(1+max(slope, -slope)), "%s, element %d", n.Name(), i)
				}
			}
		})
	}
}

// Rows, columns and counts of the layouts that mixers use inside are those of their definition.
func TestInnerPatterns(t *testing.T) {
	etc := ETC{Radius: 2, Clip: 2, HardG2L: true, Labels: 9}
	long, labels := etc.Rows(false, []int32{1, 1, 1, 1, 2, 2, 0}, []int32{1, 1, 2}, []int32{0, 0, 1, 1, 2, 2, 0}, nil)
	global, _ := etc.Rows(true, []int32{1, 1, 1, 1, 2, 2, 0}, []int32{1, 1, 2}, []int32{0, 0, 1, 1, 2, 2, 0}, []int32{0, 1, 1})
	require.Equal(t, 9, labels.Count())
	for _, c := range []struct {
		p Pattern
		n int
	}{{long, 10}, {global, 10}, {blockRows{size: 3}, 10}, {otherBlocks{size: 3}, 10}, {otherBlocks{size: 4, past: true}, 11},
		{transientRows{of: TransientGlobal{Radius: 2, Block: 3}, globals: 3, length: 8}, 14}, {transientRows{of: TransientGlobal{Radius: 2, Block: 9}, globals: 1, length: 8}, 12}} {
		var total int64
		cols := make([][]int, c.n)
		for i := range c.n {
			var want []int
			for j := range c.n {
				if c.p.Sees(0, i, j, c.n) {
					want, cols[j] = append(want, j), append(cols[j], i)
				}
			}
			total += int64(len(want))
			require.Equal(t, fmt.Sprint(want), fmt.Sprint(Keys(c.p, 0, i, c.n)), "%s: keys of %d", c.p, i)
		}
		for j := range c.n {
			require.Equal(t, fmt.Sprint(cols[j]), fmt.Sprint(positions(c.p.Col(0, j, c.n, nil))), "%s: queries of %d", c.p, j)
		}
		require.Equal(t, total, c.p.NNZ(0, c.n), c.p.String())
	}
}

// A token of one block reaches another through summaries, in the causal form later ones alone; a change of padding reaches nothing.
func TestCrossBlockReach(t *testing.T) {
	for _, decoder := range []bool{false, true} {
		s := crossBlocks(3, 11, []int32{10}, decoder)
		x := layers.InputValue(s.in[0]).Float64s()
		before := s.values(t)
		for at := range 11 {
			keep := append([]float64(nil), x[at*6:][:6]...)
			for c := range 6 {
				x[at*6+c] += 1
			}
			after := s.values(t)
			copy(x[at*6:], keep)
			for i := range 11 {
				reads := at < 10 && i < 10 && (!decoder || at <= i)
				require.Equal(t, reads, fmt.Sprint(before[i*6:][:6]) != fmt.Sprint(after[i*6:][:6]), "decoder %v: token %d, query %d", decoder, at, i)
			}
		}
	}
}

// What transient global tokens hold does not depend on padding.
func TestTransientPadding(t *testing.T) {
	short, long := transient(4, 11, []int32{11}).values(t), transient(4, 17, []int32{11})
	require.NoError(t, long.b.Err())
	got := long.values(t)
	close(t, short, got[:len(short)], 1e-12, "tokens")
	require.Equal(t, make([]float64, 6*6), got[len(short):])
}

func TestCrossBlockEntry(t *testing.T) {
	var e Entry
	require.NoError(t, json.Unmarshal([]byte(`{"type":"cross_block","block_size":5}`), &e))
	m, err := e.Mixer(Layer{Heads: 2, Decoder: true})
	require.NoError(t, err)
	require.Equal(t, "causal(cross-blocks(5))", m.Pattern().String())
}
