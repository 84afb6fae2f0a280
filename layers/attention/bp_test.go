package attention

import (
	"encoding/json"
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/require"
	"gonum.org/v1/gonum/stat"
	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/layers"
)

// bpScene is the attention of a BP-Transformer on the nodes over some tokens.
type bpScene struct {
	k, clip int
	causal  bool
	lens    []int32
	t, h, d int
	spans   bool // spans have states too, as behind the first layer
}

// bpGraph is a scene built: x are the tokens, nodes [B,N,H·D] what is read, o what comes out.
type bpGraph struct {
	b                       *layers.Builder
	x, nodes, counts, o     *Node
	q, kk, v, labels, shift *Node
	cost                    *Node
	in                      Nodes
}

func (s bpScene) mixer(t require.TestingT) BP {
	m, err := NewBP(s.k, s.clip, s.causal)
	require.NoError(t, err)
	return m
}

func (s bpScene) build(t require.TestingT, dtype tensor.Dtype) bpGraph {
	b := layers.New(gorgonia.NewGraph(), layers.NewParams(dtype), layers.Options{Training: true})
	g := bpGraph{b: b, x: b.Input("x", dtype, len(s.lens), s.t, s.h*s.d)}
	lens := b.Input("lens", tensor.Int32, len(s.lens))
	copy(layers.InputValue(lens).Int32s(), s.lens)
	g.nodes, g.counts = TreeNodes(b, g.x, lens)
	require.NoError(t, b.Err())
	g.in = Nodes{g.x}
	if s.spans {
		g.shift = b.Input("shift", dtype, g.nodes.Shape()...)
		g.nodes = layers.Add(b, g.nodes, g.shift)
		g.in = append(g.in, g.shift)
	}
	project := func(name string) *Node {
		return layers.Linear(b.Scope(name), g.nodes, layers.LinearConfig{Out: s.h * s.d, NoBias: true})
	}
	g.q, g.kk, g.v = project("q"), project("k"), project("v")
	g.o = s.mixer(t).Mix(b, Stream{X: g.nodes, QKV: Nodes{g.q, g.kk, g.v}, Heads: s.h, Lens: g.counts})
	require.NoError(t, b.Err())
	_, weights := b.Weights()
	g.in = append(g.in, weights...)
	w := b.Input("weight", dtype, g.o.Shape()...)
	for _, n := range append(Nodes{w}, g.in...) {
		fillFrom(layers.InputValue(n), n.Name())
	}
	g.labels = weights[3]
	g.cost = layers.Sum(b, layers.Mul(b, g.o, w))
	require.NoError(t, b.Err())
	return g
}

// values runs a scene for some nodes.
func (g bpGraph) values(t *testing.T, nodes ...*Node) [][]float64 {
	p, err := engine.Compile(g.b.Graph(), nodes, engine.Options{})
	require.NoError(t, err)
	require.NoError(t, p.Run())
	var all [][]float64
	for _, n := range nodes {
		if n.Dtype() == tensor.Int32 {
			var x []float64
			for _, v := range engine.Ints(p.Value(n)) {
				x = append(x, float64(v))
			}
			all = append(all, x)
			continue
		}
		all = append(all, append([]float64(nil), numbers(p.Value(n))...))
	}
	return all
}

func init() {
	for name, s := range map[string]bpScene{
		"bp":         {k: 2, clip: 1, lens: []int32{7, 3, 0, 1}, t: 7, h: 2, d: 3},
		"bp, causal": {k: 1, clip: 3, causal: true, lens: []int32{5, 2}, t: 5, h: 3, d: 1, spans: true},
	} {
		mixers[name] = func(t require.TestingT) (*Node, Nodes) {
			g := s.build(t, tensor.Float64)
			return g.cost, g.in
		}
	}
}

// TestBPAgainstDefinition: the attention of every node of every example, from its list of edges.
func TestBPAgainstDefinition(t *testing.T) {
	long := []int32{300, 129} // so long that pairs are listed
	for _, causal := range []bool{false, true} {
		for _, k := range []int{1, 2, 5} {
			s := bpScene{k: k, clip: 2, causal: causal, lens: []int32{37, 1, 0, 2, 11, 3}, t: 37, h: 2, d: 3, spans: true}
			if k == 1 {
				s.lens, s.t = long, 300
			}
			for dtype, tol := range map[tensor.Dtype]float64{tensor.Float64: 1e-12, tensor.Float32: 1e-5} {
				g := s.build(t, dtype)
				x := g.values(t, g.q, g.kk, g.v, g.o, g.counts)
				r, width, rows := numbers(layers.InputValue(g.labels)), s.h*s.d, g.nodes.Shape()[1]
				for b, n := range s.lens {
					want := make([]float64, rows*width)
					at := func(of int, node, h int) []float64 { return x[of][((b*rows+node)*s.h+h)*s.d:][:s.d] }
					product := func(a, b []float64) (sum float64) {
						for i := range a {
							sum += a[i] * b[i]
						}
						return sum
					}
					edges := s.mixer(t).Tree.Edges(int(n), s.clip)
					for h := range s.h {
						sums := make([]float64, rows)
						for _, e := range edges {
							q := at(0, e.Query, h)
							p := math.Exp((product(q, at(1, e.Key, h)) + product(q, r[e.Label*s.d:][:s.d])) / math.Sqrt(float64(s.d)))
							sums[e.Query] += p
							for i, v := range at(2, e.Key, h) {
								want[(e.Query*s.h+h)*s.d+i] += p * v
							}
						}
						for node, sum := range sums {
							for i := range s.d {
								if sum > 0 {
									want[(node*s.h+h)*s.d+i] /= sum
								}
							}
						}
					}
					close(t, want, x[3][b*rows*width:][:rows*width], tol, fmt.Sprintf("k=%d causal=%v %d tokens", k, causal, n))
					require.EqualValues(t, NodeCount(s.mixer(t).Tree, int(n)), x[4][b])
				}
			}
		}
	}
}

// TestBPFirstLayer: spans start as zeros, hence ask for nothing in particular and get the mean of what they cover.
func TestBPFirstLayer(t *testing.T) {
	s := bpScene{k: 2, clip: 2, lens: []int32{13}, t: 13, h: 2, d: 3}
	g := s.build(t, tensor.Float64)
	x := g.values(t, g.v, g.o)
	node, width := 13, s.h*s.d
	for j, count := range treeLevels(13)[1:] {
		for m := range count {
			lo, hi := m<<(j+1), min(13, (m+1)<<(j+1))
			for c := range width {
				mean := 0.0
				for i := lo; i < hi; i++ {
					mean += x[0][i*width+c] / float64(hi-lo)
				}
				require.InDelta(t, mean, x[1][node*width+c], 1e-12, "span %d:%d", lo, hi)
			}
			node++
		}
	}
	require.Equal(t, 27, node)
}

// TestBPNoLeak: in two causal layers nothing that a token gives depends on later tokens, but a completed span does reach it.
func TestBPNoLeak(t *testing.T) {
	const n, c = 21, 6
	s := bpScene{k: 1, clip: 3, causal: true, lens: []int32{n}, t: n, h: 2, d: 3}
	g := s.build(t, tensor.Float64)
	o2 := s.mixer(t).Mix(g.b.Scope("second"), Stream{QKV: Nodes{g.o, g.o, g.o}, Heads: s.h, Lens: g.counts})
	require.NoError(t, g.b.Err())
	fillFrom(layers.InputValue(g.b.Scope("second").Scope("labels").Param("weight", nil, 12, 3)), "second")
	before := g.values(t, o2)[0]
	reached := 0
	for j := range n {
		v := layers.InputValue(g.x).Float64s()[j*c:][:c]
		old := append([]float64(nil), v...)
		for k := range v {
			v[k] += 0.3
		}
		after := g.values(t, o2)[0]
		copy(v, old)
		for i := range n {
			changed := false
			for k := range c {
				changed = changed || before[i*c+k] != after[i*c+k]
			}
			require.False(t, changed && i < j, "token %d changed with token %d", i, j)
			if changed {
				reached++
			}
		}
	}
	require.Equal(t, n*(n+1)/2, reached, "two layers join all")
}

// TestBPPadding: padding, and what stands in it, changes nothing to the bit.
func TestBPPadding(t *testing.T) {
	var want []float64
	for _, more := range []int{0, 1, 17} {
		s := bpScene{k: 2, clip: 2, lens: []int32{11}, t: 11 + more, h: 2, d: 3}
		g := s.build(t, tensor.Float64)
		root := TreeRoot(g.b, g.o, g.counts)
		tokens := TreeTokens(g.b, g.o)
		require.Equal(t, []int{1, 11 + more, 6}, []int(tokens.Shape()))
		x := g.values(t, g.o, root)
		nodes := NewBPTree(2)
		got := append(append([]float64(nil), x[0][:NodeCount(nodes, 11)*6]...), x[1]...)
		if want == nil {
			want = got
		}
		require.Equal(t, want, got, "%d more", more)
		require.Equal(t, x[0][(NodeCount(nodes, 11)-1)*6:][:6], x[1], "the root is the last node")
	}
}

// TestBPCost: pairs by token grow by the same number for each doubling: n log n.
func TestBPCost(t *testing.T) {
	for _, c := range []struct {
		k            int
		causal       bool
		least, most  float64 // pairs a token more for each doubling
		from, lastLg int
	}{{1, false, 2.95, 3.05, 7, 13}, {1, true, 1.95, 2.05, 7, 13}, {4, false, 8.5, 9.1, 7, 13}} {
		var x, y []float64
		for lg := c.from; lg <= c.lastLg; lg++ {
			p := Pattern(NewBPTree(c.k))
			if c.causal {
				p = Causal(p)
			}
			n := 1 << lg
			x, y = append(x, float64(lg)), append(y, float64(p.NNZ(0, NodeCount(p, n)))/float64(n))
		}
		base, slope := stat.LinearRegression(x, y, nil, false)
		require.Greater(t, stat.RSquared(x, y, nil, base, slope), 0.999, "k=%d", c.k)
		require.GreaterOrEqual(t, slope, c.least, "k=%d", c.k)
		require.LessOrEqual(t, slope, c.most, "k=%d", c.k)
	}
}

// TestBPLabelsOfPairs: the labels that the attention asks for are those of the edges, whatever the clip.
func TestBPLabelsOfPairs(t *testing.T) {
	for _, clip := range []int{0, 2, 30} {
		for _, tree := range []BPTree{NewBPTree(2), NewBPTree(1).inPast()} {
			labels := BPLabels{tree, clip}
			for _, n := range []int{1, 2, 13, 40} {
				for _, e := range tree.Edges(n, clip) {
					require.Equal(t, e.Label, labels.Label(0, e.Query, e.Key, treeNodes(n)))
					require.Less(t, e.Label, labels.Count())
				}
			}
		}
	}
}

func TestBPEntryFaults(t *testing.T) {
	for text, want := range map[string]string{
		`{"type":"bp","clip":2}`:             "k: missing",
		`{"type":"bp","k":0,"clip":2}`:       "k is 0",
		`{"type":"bp","k":2}`:                "clip: missing",
		`{"type":"bp","k":2,"clip":-1}`:      "clip is -1",
		`{"type":"bp","k":2,"clip":2,"l":1}`: "l",
		`{"type":"bp","k":9000,"clip":9000}`: "labels are more than",
	} {
		var e Entry
		require.ErrorContains(t, json.Unmarshal([]byte(text), &e), want, text)
	}
	var e Entry
	require.NoError(t, json.Unmarshal([]byte(`{"type":"bp","k":3,"clip":2}`), &e))
	m, err := e.Mixer(Layer{Heads: 2, Decoder: true})
	require.NoError(t, err)
	require.Equal(t, "causal(bp-tree(3))", m.Pattern().String())
	_, err = NewBP(0, -1, false)
	require.ErrorContains(t, err, "k")
	require.ErrorContains(t, err, "clip")
}
