package attention

import (
	"runtime"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
	"pgregory.net/rapid"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/layers"
)

// lookbackCase is a call of AttendRecent with the clusters that it reads.
type lookbackCase struct {
	choiceCase
	groups, rounds, window, clusters int
	self, apart                      bool
	of, among                        []int32 // [B,G,R,T]
}

// draw gives every token a cluster in every round; some have none. By runs clusters are not of equal size.
func (c *lookbackCase) draw(name string) []int32 {
	all := make([]int32, c.b*c.groups*c.rounds*c.tq)
	for x := range all {
		u := (noise(name, x) + 1) / 2
		all[x] = int32(u*u*float64(c.clusters+1)) - oneAt(x%11 == 5)
	}
	return all
}

func oneAt(yes bool) int32 {
	if yes {
		return 1
	}
	return 0
}

func (c *lookbackCase) prepare() {
	c.groups, c.rounds = max(c.groups, 1), max(c.rounds, 1)
	c.tk = c.tq
	if c.of = c.draw("clusters"); c.rounds > 1 && c.rounds*c.groups*c.b > 2 {
		for i := range c.tq { // a round of one cluster
			c.of[c.tq+i] = 3
		}
	}
	if c.among = c.of; c.apart {
		c.among = c.draw("among")
	}
	c.reads = func(b, h, i int) (int, []int) {
		var keys []int
		for r := range c.rounds {
			at := ((b*c.groups+h%c.groups)*c.rounds + r) * c.tq
			own := c.of[at+i]
			if own < 0 {
				continue
			}
			left := c.window
			for j := i - 1; j >= 0 && left > 0; j-- {
				if c.among[at+j] == own {
					keys = append(keys, j)
					left--
				}
			}
			if c.self {
				keys = append(keys, i)
			}
		}
		slices.Sort(keys)
		return i, slices.Compact(keys)
	}
	c.add = func(b *layers.Builder, ch Chosen, q, k, v *Node) (*Node, *Node) {
		s := Lookback{Chosen: ch, Window: c.window, Self: c.self, Clusters: keysNode(b, "clusters", c.of, c.b, c.groups, c.rounds, c.tq)}
		if c.apart {
			s.Among = keysNode(b, "among", c.among, c.b, c.groups, c.rounds, c.tq)
		}
		return AttendRecent(b, s, q, k, v)
	}
}

func TestAttendRecentAgainstDefinition(t *testing.T) {
	self := func(b, n, heads, d, dv int) choiceCase { return choiceCase{b: b, tq: n, heads: heads, d: d, dv: dv} }
	lens := func(c choiceCase, l ...int32) choiceCase { c.lens, c.lastResort = l, true; return c }
	for name, c := range map[string]lookbackCase{
		"one token":             {choiceCase: self(1, 1, 1, 3, 2), window: 2, clusters: 1, self: true},
		"one cluster":           {choiceCase: self(1, 139, 2, 3, 5), window: 70, clusters: 1},
		"clusters":              {choiceCase: self(2, 151, 2, 8, 8), window: 13, clusters: 3, groups: 2},
		"small clusters":        {choiceCase: self(2, 97, 2, 3, 5), window: 5, clusters: 40},
		"window of one":         {choiceCase: self(1, 71, 2, 3, 5), window: 1, clusters: 4, groups: 2},
		"whole window":          {choiceCase: self(1, 131, 1, 8, 8), window: 1000, clusters: 2},
		"self":                  {choiceCase: self(2, 139, 2, 3, 5), window: 17, clusters: 3, groups: 2, self: true},
		"last resort":           {choiceCase: lens(self(3, 71, 2, 3, 5), 71, 29, 0), window: 7, clusters: 9},
		"lengths, self":         {choiceCase: lens(self(3, 71, 2, 3, 5), 71, 29, 0), window: 7, clusters: 9, self: true},
		"apart":                 {choiceCase: self(2, 151, 2, 8, 8), window: 13, clusters: 5, groups: 2, apart: true},
		"apart, small clusters": {choiceCase: lens(self(2, 97, 2, 3, 5), 97, 41), window: 5, clusters: 40, apart: true},
		"apart, self":           {choiceCase: lens(self(3, 139, 2, 3, 5), 139, 0, 61), window: 19, clusters: 4, apart: true, self: true},
		"rounds":                {choiceCase: lens(self(2, 131, 2, 8, 8), 131, 61), window: 11, clusters: 4, rounds: 3, groups: 2},
		"rounds of one cluster": {choiceCase: self(1, 73, 2, 3, 5), window: 80, clusters: 1, rounds: 2},
	} {
		t.Run(name, func(t *testing.T) {
			c.prepare()
			c.check(t)
		})
	}
}

// Whatever clusters, rounds and lengths: what comes out is what the definition says. Eight channels go through the kernels of the machine.
func TestAttendRecentAnything(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.SampledFrom([]int{1, 2, 13, 64, 67, 131}).Draw(t, "tokens")
		c := lookbackCase{choiceCase: choiceCase{b: 2, tq: n, heads: 2, d: 8, dv: 8, lastResort: rapid.Bool().Draw(t, "last resort")},
			window: rapid.SampledFrom([]int{1, 3, 16, 64, 200}).Draw(t, "window"), clusters: rapid.IntRange(0, 9).Draw(t, "clusters"),
			groups: rapid.IntRange(1, 2).Draw(t, "groups"), rounds: rapid.IntRange(1, 3).Draw(t, "rounds")}
		if rapid.Bool().Draw(t, "lengths") {
			c.lens = []int32{rapid.Int32Range(0, int32(n)).Draw(t, "first"), rapid.Int32Range(0, int32(n)).Draw(t, "second")}
		}
		if c.rounds == 1 {
			c.self, c.apart = rapid.Bool().Draw(t, "self"), rapid.Bool().Draw(t, "apart")
		}
		c.prepare()
		g := c.build(t, tensor.Float64)
		got := g.g.run(t)
		o, lse, _ := c.oracle(numbers(layers.InputValue(g.g.in[0])), numbers(layers.InputValue(g.g.in[1])), numbers(layers.InputValue(g.g.in[2])))
		close(t, o, got.o, 1e-12, "o")
		close(t, lse, got.lse, 1e-12, "lse")
		single := c.build(t, tensor.Float32).g.run(t)
		close(t, got.o, single.o, 1e-5, "float32: o")
		for i := range got.grads {
			close(t, got.grads[i], single.grads[i], 2e-5, "float32: gradients")
		}
	})
}

// The work is that of the window, not of clusters or of all pairs: linear in the length, and whole tiles for whole clusters.
func TestAttendRecentCost(t *testing.T) {
	var x, work []float64
	for _, n := range []int{2048, 4096, 8192} {
		c := lookbackCase{choiceCase: choiceCase{b: 1, tq: n, heads: 1, d: 8, dv: 8}, window: 96, clusters: 5}
		c.prepare()
		got := c.build(t, tensor.Float32).g.products(t)
		x, work = append(x, float64(n)), append(work, float64(got.executed))
		require.Less(t, float64(got.executed), 7*8*float64(n*(96+2*64)), "a band, and what tiles have besides")
	}
	require.InDelta(t, 1, exponent(x, work), 0.1)
}

// The same bits whatever the number of workers.
func TestAttendRecentOfWorkers(t *testing.T) {
	procs := runtime.GOMAXPROCS(0)
	defer runtime.GOMAXPROCS(procs)
	for _, apart := range []bool{false, true} {
		c := lookbackCase{choiceCase: choiceCase{b: 2, tq: 331, heads: 2, d: 8, dv: 8}, window: 40, clusters: 4, groups: 2, rounds: 3}
		if apart {
			c.apart, c.self, c.rounds = true, true, 1
		}
		c.prepare()
		runtime.GOMAXPROCS(1)
		want := c.build(t, tensor.Float32).g.run(t)
		for _, workers := range []int{2, 3, 8} {
			runtime.GOMAXPROCS(workers)
			require.Equal(t, want, c.build(t, tensor.Float32).g.run(t), "%d workers", workers)
		}
	}
}

func TestAttendRecentRefuses(t *testing.T) {
	b := layers.New(gorgonia.NewGraph(), layers.NewParams(tensor.Float64), layers.Options{})
	x, of := b.Input("x", tensor.Float64, 1, 7, 4), b.Input("of", tensor.Int32, 1, 1, 7)
	rounds := b.Input("rounds", tensor.Int32, 1, 1, 2, 7)
	for want, s := range map[string]Lookback{
		"a window of 0 tokens": {Clusters: of},
		"cross-attention":      {Chosen: Chosen{Cross: true}, Clusters: of, Window: 1},
		"clusters are":         {Clusters: b.Input("short", tensor.Int32, 1, 1, 6), Window: 1},
		"G = 1 or 2":           {Clusters: b.Input("heads", tensor.Int32, 1, 3, 7), Window: 1},
		"2 rounds of clusters": {Clusters: rounds, Window: 1, Self: true},
		"an input is missing":  {Window: 1},
	} {
		c := layers.New(b.Graph(), b.Params(), layers.Options{})
		s.Heads = 2
		AttendRecent(c, s, x, x, x)
		require.ErrorContains(t, c.Err(), want)
	}
	c := layers.New(b.Graph(), b.Params(), layers.Options{})
	AttendRecent(c, Lookback{Chosen: Chosen{Heads: 2}, Clusters: rounds, Among: b.Input("other rounds", tensor.Int32, 1, 1, 2, 7), Window: 1}, x, x, x)
	require.ErrorContains(t, c.Err(), "2 rounds of clusters")
}

func init() { // for Gorgonia's own machine
	mixers["recent tokens of a cluster"] = func(t require.TestingT) (*Node, Nodes) {
		b := layers.New(gorgonia.NewGraph(), layers.NewParams(tensor.Float64), layers.Options{})
		x := b.Input("x", tensor.Float64, 1, 5, 6)
		fillFrom(layers.InputValue(x), "x")
		s := Lookback{Chosen: Chosen{Heads: 2, LastResort: true}, Clusters: keysNode(b, "clusters", []int32{1, 0, 1, 1, -1, 0, 0, 0, 2, 0}, 1, 1, 2, 5), Window: 2}
		o, lse := AttendRecent(b, s, x, x, x)
		cost := layers.Add(b, layers.Sum(b, layers.Mul(b, o, o)), layers.Sum(b, lse))
		require.NoError(t, b.Err())
		return cost, Nodes{x}
	}
}

// BenchmarkRecent is a forward and a backward pass at 4,096 tokens, 4 heads of 64 in 64 clusters, of tiles and of lists of the same keys.
func BenchmarkRecent(b *testing.B) {
	c := lookbackCase{choiceCase: choiceCase{b: 1, tq: 4096, heads: 4, d: 64, dv: 64}, window: 64, clusters: 64}
	c.groups = c.heads
	c.prepare()
	lists := c.choiceCase
	lists.add = func(b *layers.Builder, ch Chosen, q, k, v *Node) (*Node, *Node) {
		var keys []int32
		for at := range c.heads * c.tq {
			_, list := c.reads(0, at/c.tq, at%c.tq)
			row := make([]int32, c.window)
			for x := range row {
				if row[x] = -1; x < len(list) {
					row[x] = int32(list[x])
				}
			}
			keys = append(keys, row...)
		}
		return AttendChosen(b, ch, keysNode(b, "keys", keys, 1, c.heads, c.tq, c.window), q, k, v)
	}
	for name, c := range map[string]choiceCase{"tiles": c.choiceCase, "lists": lists} {
		b.Run(name, func(b *testing.B) {
			g := c.build(b, tensor.Float32).g
			ds, err := engine.VJP(Nodes{g.cost}, Nodes{engine.Fill(g.b.Graph(), engine.TypeOf(g.cost), 1)}, g.in, nil)
			require.NoError(b, err)
			p, err := engine.Compile(g.b.Graph(), append(Nodes{g.cost}, ds...), engine.Options{})
			require.NoError(b, err)
			require.NoError(b, p.Run())
			b.ReportAllocs()
			for b.Loop() {
				require.NoError(b, p.Run())
			}
		})
	}
}
