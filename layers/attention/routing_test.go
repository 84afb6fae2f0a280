package attention

import (
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
	"pgregory.net/rapid"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/layers"
)

// routingScene is a layer of routing heads on q, k, v of its own.
type routingScene struct {
	b       *layers.Builder
	q, k, v *Node
	out     *Node
	program *engine.Program
}

func newRouting(t require.TestingT, a Routing, training bool, heads, tokens, d int, lens []int32, params *layers.Params) *routingScene {
	if params == nil {
		params = layers.NewParams(tensor.Float64)
	}
	s := &routingScene{b: layers.New(gorgonia.NewGraph(), params, layers.Options{Seed: 11, Training: training})}
	input := func(name string) *Node {
		n := s.b.Input(name, tensor.Float64, len(lens), tokens, heads*d)
		fillFrom(layers.InputValue(n), name)
		return n
	}
	s.q, s.v = input("q"), input("v")
	in := Stream{X: s.q, QKV: []*Node{s.q, s.v}, Heads: heads, Scale: 1 / math.Sqrt(float64(d)),
		Lens: s.b.Const("lens", tensor.New(tensor.WithShape(len(lens)), tensor.WithBacking(lens)))}
	if s.k = s.q; !a.SharedQK {
		s.k = input("k")
		in.QKV = []*Node{s.q, s.k, s.v}
	}
	s.out = a.Mix(s.b, in)
	require.NoError(t, s.b.Err())
	return s
}

// compile compiles the graph for its result, the parts of its rule and more.
func (s *routingScene) compile(t require.TestingT, more ...*Node) {
	outputs := append(Nodes{s.out}, more...)
	for _, u := range s.b.Updates() {
		for _, p := range u.Parts {
			outputs = append(outputs, p.Node)
		}
	}
	p, err := engine.Compile(s.b.Graph(), outputs, engine.Options{Scope: s.b.ScopeOf, Poison: true})
	require.NoError(t, err)
	s.program = p
}

func (s *routingScene) run(t require.TestingT) []float64 {
	require.NoError(t, s.program.Run())
	return numbers(s.program.Value(s.out))
}

// parts are those of the only rule.
func (s *routingScene) parts() (all []*tensor.Dense) {
	for _, p := range s.b.Updates()[0].Parts {
		all = append(all, s.program.Value(p.Node).(*tensor.Dense))
	}
	return all
}

// made finds the nodes of one kind.
func (s *routingScene) made(name string) (nodes Nodes) {
	for _, n := range s.b.Graph().AllNodes() {
		if op := engine.OpOf(n); op != nil && op.Name() == name {
			nodes = append(nodes, n)
		}
	}
	return nodes
}

// clustersOf sets centroids [H,C,D] at random.
func clustersOf(t require.TestingT, params *layers.Params, heads, clusters, d int, seed string) {
	sum := tensor.New(tensor.Of(tensor.Float64), tensor.WithShape(heads, clusters, d))
	fillFrom(sum, seed)
	number := tensor.New(tensor.WithShape(heads, clusters), tensor.WithBacking(make([]float64, heads*clusters)))
	for i := range heads * clusters {
		number.Float64s()[i] = 1 + float64(i%3)
	}
	require.NoError(t, params.Load("ema_sum", sum))
	require.NoError(t, params.Load("ema_count", number))
	require.NoError(t, params.Load("progress", tensor.New(tensor.WithBacking([]float64{1, 0}))))
}

// normalised is LN0 of the heads of x.
func normalised(x []float64, d int) []float64 {
	y := slices.Clone(x)
	for at := 0; at < len(y); at += d {
		row := y[at:][:d]
		mean, square := 0.0, 0.0
		for _, v := range row {
			mean += v / float64(d)
		}
		for _, v := range row {
			square += (v - mean) * (v - mean) / float64(d)
		}
		for i, v := range row {
			row[i] = (v - mean) / math.Sqrt(square+1e-6)
		}
	}
	return y
}

// oracle is the definition: loops over rows, given centroids [H,C,D] and which tokens a cluster has.
func (a Routing) oracle(q, k, v []float64, mu []float64, heads, tokens, d int, lens []int32) []float64 {
	q, k = normalised(q, d), normalised(k, d)
	out := make([]float64, len(v))
	at := func(x []float64, b, i, h int) []float64 { return x[((b*tokens+i)*heads+h)*d:][:d] }
	dot := func(x, y []float64) (s float64) {
		for i := range x {
			s += x[i] * y[i]
		}
		return s
	}
	for b, l := range lens {
		n := int(l)
		for h := range heads {
			scores := func(x []float64, i, c int) float64 {
				m := mu[(h*a.Clusters+c)*d:][:d]
				return dot(at(x, b, i, h), m) / math.Sqrt(dot(m, m))
			}
			nearest := func(x []float64, i int) int {
				best := 0
				for c := range a.Clusters {
					if scores(x, i, c) > scores(x, i, best) {
						best = c
					}
				}
				return best
			}
			inside := func(x []float64, c int) map[int]bool {
				w := a.Window
				if w == 0 {
					w = (n + a.Clusters - 1) / a.Clusters
				}
				order := make([]int, n)
				for i := range order {
					order[i] = i
				}
				slices.SortStableFunc(order, func(i, j int) int {
					return -1 + 2*oneIf(scores(x, i, c) < scores(x, j, c)) + oneIf(scores(x, i, c) == scores(x, j, c))
				})
				set := map[int]bool{}
				for _, i := range order[:min(w, n)] {
					set[i] = true
				}
				return set
			}
			lists := make([][][]int, n) // of each token those of its clusters
			if a.Membership == Recent {
				for i := range n {
					var list []int
					for j := i - 1; j >= 0 && len(list) < a.Window; j-- {
						if nearest(k, j) == nearest(q, i) {
							list = append(list, j)
						}
					}
					if a.Self == SelfAllowed {
						list = append(list, i)
					}
					lists[i] = [][]int{list}
				}
			} else {
				for c := range a.Clusters {
					queries, keys := inside(q, c), inside(k, c)
					for i := range n {
						if !queries[i] {
							continue
						}
						var list []int
						for j := range n {
							if keys[j] && (!a.Causal || j <= i) && (a.Self == SelfAllowed || j != i) {
								list = append(list, j)
							}
						}
						lists[i] = append(lists[i], list)
					}
				}
			}
			for i := range n {
				routed := len(lists[i]) > 0
				if a.Union {
					var all []int
					for _, l := range lists[i] {
						all = append(all, l...)
					}
					slices.Sort(all)
					lists[i] = [][]int{slices.Compact(all)}
				}
				row, m := at(out, b, i, h), 0
				for _, l := range lists[i] {
					if len(l) == 0 {
						continue
					}
					m++
					weights, sum := make([]float64, len(l)), 0.0
					for x, j := range l {
						weights[x] = math.Exp(dot(at(q, b, i, h), at(k, b, j, h)) / math.Sqrt(float64(d)))
						sum += weights[x]
					}
					for x, j := range l {
						for c, y := range at(v, b, j, h) {
							row[c] += weights[x] / sum * y
						}
					}
				}
				for c := range row {
					if m > 0 {
						row[c] /= float64(m)
					} else if routed && a.Self == SelfLast {
						row[c] = at(v, b, i, h)[c]
					}
				}
			}
		}
	}
	return out
}

// Every form against loops over rows, with padding, for sizes at random.
func TestRoutingIsItsDefinition(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := Routing{Clusters: rapid.IntRange(1, 5).Draw(t, "clusters"), Window: rapid.IntRange(0, 7).Draw(t, "window"), Membership: TopW,
			Union: rapid.Bool().Draw(t, "union"), SharedQK: rapid.Bool().Draw(t, "shared"), Self: Self(rapid.IntRange(0, 1).Draw(t, "self")),
			Causal: rapid.Bool().Draw(t, "causal")}
		if a.Causal && a.Window > 0 && rapid.Bool().Draw(t, "recent") {
			a.Membership, a.Union = Recent, false
		}
		heads, d, tokens := rapid.IntRange(1, 3).Draw(t, "heads"), rapid.IntRange(2, 5).Draw(t, "size"), rapid.IntRange(1, 19).Draw(t, "tokens")
		lens := []int32{int32(tokens), int32(rapid.IntRange(0, tokens).Draw(t, "length"))}
		params := layers.NewParams(tensor.Float64)
		clustersOf(t, params, heads, a.Clusters, d, "centroids")
		s := newRouting(t, a, false, heads, tokens, d, lens, params)
		s.compile(t)
		mu, _ := params.Get("ema_sum")
		want := a.oracle(numbers(layers.InputValue(s.q)), numbers(layers.InputValue(s.k)), numbers(layers.InputValue(s.v)), mu.Value.Float64s(), heads, tokens, d, lens)
		got := s.run(t)
		for i := range want {
			if math.Abs(want[i]-got[i]) > 1e-10 {
				t.Fatalf("element %d: want %v, got %v", i, want[i], got[i])
			}
		}
	})
}

// One cluster of everybody is attention on all.
func TestRoutingInOneClusterIsDense(t *testing.T) {
	for _, causal := range []bool{false, true} {
		lens := []int32{13, 7}
		params := layers.NewParams(tensor.Float64)
		clustersOf(t, params, 2, 1, 3, "centroids")
		a := Routing{Clusters: 1, Window: 13, Membership: TopW, Self: SelfAllowed, Causal: causal}
		s := newRouting(t, a, false, 2, 13, 3, lens, params)
		norm := func(x *Node) *Node {
			y := layers.LayerNorm(s.b, layers.Reshape(s.b, x, 2, 13, 2, 3), layers.NormConfig{Eps: 1e-6, NoWeight: true})
			return layers.Reshape(s.b, y, 2, 13, 6)
		}
		dense, _ := Attend(s.b, Config{Pattern: a.Pattern(), Heads: 2, Lens: s.b.Const("lens", nil)}, norm(s.q), norm(s.k), s.v)
		require.NoError(t, s.b.Err())
		s.compile(t, dense)
		require.InDeltaSlice(t, s.run(t), numbers(s.program.Value(dense)), 1e-10)
	}
}

// Which numbers clusters have does not matter, nor how long queries are.
func TestRoutingInvariances(t *testing.T) {
	lens := []int32{17, 12}
	a := Routing{Clusters: 4, Window: 5, Membership: TopW, SharedQK: true, Causal: true}
	params := layers.NewParams(tensor.Float64)
	clustersOf(t, params, 2, 4, 3, "centroids")
	s := newRouting(t, a, false, 2, 17, 3, lens, params)
	s.compile(t)
	want := s.run(t)
	for _, name := range []string{"ema_sum", "ema_count"} {
		p, _ := params.Get(name)
		x := p.Value.Float64s()
		each := len(x) / 8
		for h := range 2 { // turned by one
			own := x[h*4*each:][:4*each]
			copy(own, append(slices.Clone(own[each:]), own[:each]...))
		}
	}
	require.InDeltaSlice(t, want, s.run(t), 1e-12)
	for i := range layers.InputValue(s.q).Float64s() {
		layers.InputValue(s.q).Float64s()[i] *= 7
	}
	require.InDeltaSlice(t, want, s.run(t), 1e-4)
}

// scoresOf is a graph that chooses by scores [1,1,C,T].
func choose(t *testing.T, scores []float64, clusters int, make func(b *layers.Builder, scores *Node) *Node) []int32 {
	b := layers.New(gorgonia.NewGraph(), layers.NewParams(tensor.Float64), layers.Options{})
	n := b.Const("scores", tensor.New(tensor.WithShape(1, 1, clusters, len(scores)/clusters), tensor.WithBacking(scores)))
	out := make(b, n)
	require.NoError(t, b.Err())
	p, err := engine.Compile(b.Graph(), Nodes{out}, engine.Options{})
	require.NoError(t, err)
	require.NoError(t, p.Run())
	return slices.Clone(engine.Ints(p.Value(out)))
}

// Micro golden topw, equal scores, numbers that are none, fewer tokens than room.
func TestMembers(t *testing.T) {
	nan, inf := math.NaN(), math.Inf(-1)
	for _, c := range []struct {
		scores []float64
		window int
		want   []int32
	}{
		{[]float64{.3, .9, .9, .1}, 2, []int32{1, 2}},
		{[]float64{.3, .9, .9, .1}, 1, []int32{1}},
		{[]float64{.3, .9, .9, .1}, 3, []int32{0, 1, 2}},
		{[]float64{.3, .9, .9, .1}, 9, []int32{0, 1, 2, 3}},
		{[]float64{0, 0, 0, 0}, 2, []int32{0, 1}},
		{[]float64{nan, 1, nan, 2, nan}, 3, []int32{0, 1, 3}},
		{[]float64{inf, nan, 5}, 2, []int32{0, 2}},
		{[]float64{-1, math.Copysign(0, -1), 0, -2}, 1, []int32{1}},
		{[]float64{7}, 0, []int32{0}},
		{[]float64{3, 2, 1}, 0, []int32{0, 1, 2}},
	} {
		got := choose(t, c.scores, 1, func(b *layers.Builder, s *Node) *Node { return Members(b, s, nil, c.window) })
		require.Equal(t, c.want, got, "%v, window %d", c.scores, c.window)
	}
	lens := func(b *layers.Builder) *Node {
		return b.Const("lens", tensor.New(tensor.WithShape(1), tensor.WithBacking([]int32{3})))
	}
	scores := []float64{9, 7, 8, 60, 1, 1, 2, 90}
	for window, want := range [][]int32{{0, 2, 0, 2}, {0, 2}, {0, 2, 0, 2}, {0, 1, 2, 0, 1, 2}, {0, 1, 2, -1, 0, 1, 2, -1}} {
		require.Equal(t, want, choose(t, scores, 2, func(b *layers.Builder, s *Node) *Node { return Members(b, s, lens(b), window) }), "window %d", window)
	}
	require.Equal(t, []int32{0, 0, 0, -1}, choose(t, scores, 2, func(b *layers.Builder, s *Node) *Node { return Nearest(b, s, lens(b)) }))
	require.Equal(t, []int32{0, 1, 0}, choose(t, []float64{nan, 1, 2, nan, 3, 2}, 2, func(b *layers.Builder, s *Node) *Node { return Nearest(b, s, nil) }))
}

// Random scores by sorting.
func TestMembersAreTheLargest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x := rapid.SliceOfN(rapid.IntRange(-5, 5), 1, 60).Draw(t, "scores")
		w := rapid.IntRange(1, 60).Draw(t, "window")
		values := make([]float64, len(x))
		order := make([]int, len(x))
		for i, v := range x {
			values[i], order[i] = float64(v), i
		}
		slices.SortStableFunc(order, func(i, j int) int { return x[j] - x[i] })
		want := order[:min(w, len(x))]
		slices.Sort(want)
		places := make([]int32, min(w, len(x)))
		largestOf(values, places, nil)
		for k, i := range want {
			if places[k] != int32(i) {
				t.Fatalf("want %v, got %v", want, places)
			}
		}
	})
}

// Micro golden unrouted: who is in no cluster gives 0, the others read each other.
func TestUnrouted(t *testing.T) {
	b := layers.New(gorgonia.NewGraph(), layers.NewParams(tensor.Float64), layers.Options{})
	constant := func(name string, x []float64, shape ...int) *Node {
		return b.Const(name, tensor.New(tensor.WithShape(shape...), tensor.WithBacking(x)))
	}
	members := Members(b, constant("scores", []float64{.1, .2, .3}, 1, 1, 1, 3), nil, 2)
	q := constant("q", []float64{1, 1, 1}, 1, 3, 1)
	o, lse := AttendSorted(b, Sorted{Chosen: Chosen{Heads: 1, Scale: 1}, OrderQ: members, ChunkQ: 2, Causal: true, Slots: true}, q, q, constant("v", []float64{5, 3, 7}, 1, 3, 1))
	y := MeanOfSlots(b, SlotMean{Clusters: 1}, members, o, lse, q)
	require.NoError(t, b.Err())
	p, err := engine.Compile(b.Graph(), Nodes{y}, engine.Options{})
	require.NoError(t, err)
	require.NoError(t, p.Run())
	require.InDeltaSlice(t, []float64{0, 3, 5}, numbers(p.Value(y)), 1e-12)
}

// Micro golden LN0.
func TestNormalised(t *testing.T) {
	b := layers.New(gorgonia.NewGraph(), layers.NewParams(tensor.Float64), layers.Options{})
	r := routed{Chosen: Chosen{Heads: 2}, b: b, d: 2}
	y := r.normalise(b.Const("x", tensor.New(tensor.WithShape(1, 1, 4), tensor.WithBacking([]float64{1, 3, 5, 5}))))
	require.NoError(t, b.Err())
	p, err := engine.Compile(b.Graph(), Nodes{y}, engine.Options{})
	require.NoError(t, err)
	require.NoError(t, p.Run())
	require.InDeltaSlice(t, []float64{-1, 1, 0, 0}, numbers(p.Value(y)), 1e-6)
}
