package attention

import (
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// The rest of the table of spec "Graph statistics": 64 tokens; path 0 stands for never.
func TestStatsOfSystems(t *testing.T) {
	for _, c := range []struct {
		pattern  string
		nnz      int64
		min, max int
		path     int
		gap      float64
	}{
		{"band(7,0)", 484, 1, 8, 9, 0.0251},
		{"causal(dilated(64,0,8))", 288, 1, 8, 0, 0},
		{"strided(8)", 708, 1, 15, 2, 0.3982},
		{"causal(blocks(8))", 288, 1, 8, 0, 0},
		{"summary(8,2)", 472, 0, 16, 0, 0},
		{"fixed(8,2)", 736, 1, 22, 2, 0.2296},
		{"row(8,8)", 512, 8, 8, 0, 0},
		{"column(8,8)", 512, 8, 8, 0, 0},
		{"row(8,8) + column(8,8)", 960, 15, 15, 2, 0.5333},
		{"image1d(8,8)", 736, 1, 16, 7, 0.0602},
		{"window-blocks(8,3) + global(0,1,2,3,4,5,6,7,-8,-7,-6,-5,-4,-3,-2,-1)", 2816, 32, 64, 2, 0.51},
		{"external(1) + band(1,1)", 319, 3, 65, 2, 0.2520},
		{"star", 321, 4, 65, 2, 0.2524},
	} {
		p := parse(t, c.pattern)
		s := Measure(p, 64)
		require.Equal(t, c.nnz, s.NNZ, c.pattern)
		require.Equal(t, c.min, s.MinRow, c.pattern)
		require.Equal(t, c.max, s.MaxRow, c.pattern)
		require.Equal(t, 64, s.Length)
		require.Equal(t, NodeCount(p, 64), s.Nodes, c.pattern)
		if c.path == 0 {
			require.Nil(t, s.MaxPath, c.pattern)
		} else {
			require.NotNil(t, s.MaxPath, c.pattern)
			require.Equal(t, c.path, *s.MaxPath, c.pattern)
		}
		require.InDelta(t, c.gap, s.SpectralGap, 1e-4, c.pattern)
	}
	require.Equal(t, 65, Measure(Star{}, 64).Nodes)
	require.Equal(t, 321.0/(65*65), Measure(Star{}, 64).Density)
	require.Equal(t, 736.0/2080, Measure(parse(t, "fixed(8,2)"), 64).Density)
	// The halves join to the merged forms; the second half of fixed first misses pairs, so the order of layers matters.
	require.Equal(t, Mask(parse(t, "strided(8)"), 1, 61), Mask(parse(t, "band(7,0) + dilated(61,0,8)"), 1, 61))
	require.Equal(t, Mask(parse(t, "fixed(8,3)"), 1, 61), Mask(parse(t, "causal(blocks(8)) + summary(8,3)"), 1, 61))
}

// Means over 20 seeds, as in the table.
func TestRandomGraphs(t *testing.T) {
	for _, c := range []struct {
		degree, path int
		gap          float64
	}{{2, 14, 0.13}, {4, 8, 0.35}, {8, 4, 0.54}} {
		gap := 0.0
		for seed := range 20 {
			p, _ := NewRandom(c.degree, seed, 0).avoiding(Band{}) // no self
			s := Measure(p, 64)
			require.Equal(t, int64(64*c.degree), s.NNZ)
			require.Equal(t, c.degree, s.MinRow)
			require.Equal(t, c.degree, s.MaxRow)
			if s.MaxPath != nil { // a node that nobody draws is never reached
				require.LessOrEqual(t, *s.MaxPath, c.path+4)
			}
			gap += s.SpectralGap / 20
		}
		require.InDelta(t, c.gap, gap, 0.03, "r=%d", c.degree)
	}
	// With r >= 2 ln n keys each, the graph holds together.
	for seed := range 20 {
		require.True(t, stronglyConnected(NewRandom(13, seed, 0), 500))
	}
}

// A draw is fixed by its numbers for ever: these came out when it was written.
func TestDrawsStay(t *testing.T) {
	require.Equal(t, drawsOf(t, "random(3,7)", 13), drawsOf(t, "random(3,7)", 13))
	require.Equal(t, "[0 1 2][2 3 4][0 1 4][1 2 3][1 2 3]", drawsOf(t, "random(3,7)", 5))
	require.Equal(t, "[0][0 1][1 2][0 2][1 3][2 3]", drawsOf(t, "causal(random(2,7,1))", 6))
	require.Equal(t, "[0 1][0 1][4 5][4 5][0 1][0 1][4 5]", drawsOf(t, "random-blocks(2,1,7)", 7))
	require.Equal(t, "[0 1][][0][2][]", drawsOf(t, "bernoulli(1,3,7)", 5))
	require.NotEqual(t, drawsOf(t, "random(3,7)", 13), drawsOf(t, "random(3,8)", 13))
	require.NotEqual(t, drawsOf(t, "random(3,7)", 13), drawsOf(t, "random(3,7,1)", 13))
}

func drawsOf(t *testing.T, s string, n int) string {
	p := parse(t, s)
	out := ""
	for i := n - 1; i >= 0; i-- { // in any order
		out = fmt.Sprint(Keys(p, 0, i, n)) + out
	}
	return out
}

func TestRandomDegrees(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r, seed := rapid.IntRange(0, 9).Draw(t, "r"), rapid.IntRange(0, 1000).Draw(t, "seed")
		n := rapid.SampledFrom(sizes).Draw(t, "n")
		base := drawPattern(t, 1)
		p, err := Beyond(base, NewRandom(r, seed, 0))
		require.NoError(t, err)
		for i := range n {
			was := len(Keys(base, 0, i, n))
			require.Len(t, Keys(p, 0, i, n), was+min(r, n-was))
			was = len(Keys(Causal(base), 0, i, n))
			require.Len(t, Keys(Causal(p), 0, i, n), was+min(r, i+1-was), "%s row %d", p, i)
			require.Len(t, Keys(Causal(NewRandom(r, seed, 0)), 0, i, n), min(r, i+1))
		}
	})
	// BigBird's third kind: blocks beside the window and the global ones, all different.
	p := parse(t, "beyond(window-blocks(4,3) + global(0,1,2,3,-4,-3,-2,-1); random-blocks(4,2,5))")
	for i := range 40 {
		want := map[int]int{0: 40, 1: 24, 8: 24, 9: 40}[i/4]
		if want == 0 {
			want = 28
		}
		require.Len(t, Keys(p, 0, i, 40), want, "row %d", i)
	}
	// Every key is drawn equally often.
	drawn := make([]float64, 50)
	for seed := range 400 {
		q := NewRandom(5, seed, 3)
		for _, j := range Keys(q, 0, seed%50, 50) {
			drawn[j]++
		}
	}
	for _, x := range drawn {
		require.InDelta(t, 40, x, 5*math.Sqrt(36))
	}
	require.InDelta(t, 0.3, float64(parse(t, "bernoulli(3,10,1)").NNZ(0, 300))/90000, 0.01)
	require.Equal(t, Full{}.NNZ(0, 31), parse(t, "bernoulli(1,1,1)").NNZ(0, 31))
	require.Zero(t, parse(t, "bernoulli(0,1,1)").NNZ(0, 31))
}

// A causal draw of a row does not depend on what follows, so a generator draws the same.
func TestCausalDrawsDoNotDependOnTheLength(t *testing.T) {
	for _, s := range []string{"causal(random(3,7))", "causal(random-blocks(5,2,7))", "causal(beyond(band(2,2); random(3,7)))"} {
		p := parse(t, s)
		require.False(t, p.FromEnd(), s)
		for i := range 40 {
			require.Equal(t, Keys(p, 0, i, 40), Keys(p, 0, i, 97), s)
		}
	}
	require.True(t, parse(t, "random(3,7)").FromEnd())
}

// Golden of the paper's builder for 8 tokens, one step a level.
func TestTreeEdges(t *testing.T) {
	labels := func(i int) string {
		out := ""
		for _, e := range NewBPTree(1).Edges(8, 10) {
			if e.Query == i {
				out += fmt.Sprintf("%d:%d ", e.Key, e.Label)
			}
		}
		return out
	}
	require.Equal(t, "0:0 1:2 9:5 13:8 ", labels(0))
	require.Equal(t, "0:4 1:1 2:0 3:2 10:5 11:8 ", labels(2))
	require.Equal(t, "2:1 3:0 4:2 5:5 8:4 11:8 ", labels(3))
	require.Equal(t, "6:1 7:0 10:4 12:7 ", labels(7))
	require.Equal(t, "2:3 3:3 ", labels(9))
	require.Equal(t, "4:6 5:6 6:6 7:6 ", labels(13))
	for _, c := range []struct{ n, nodes int }{{0, 0}, {1, 1}, {2, 3}, {8, 15}, {13, 27}, {100, 202}, {257, 521}} {
		require.Equal(t, c.nodes, NodeCount(NewBPTree(1), c.n))
		require.Equal(t, c.n, treeTokens(c.nodes))
	}
	for _, c := range []struct{ n, k, both, past int }{
		{8, 1, 66, 49}, {8, 2, 76, 54}, {8, 4, 84, 58}, {16, 1, 178, 129}, {16, 2, 216, 148}, {16, 4, 258, 169},
		{64, 1, 1090, 769}, {64, 2, 1440, 944}, {64, 4, 1938, 1193}, {100, 1, 1990, 1373}, {100, 2, 2655, 1697}, {100, 4, 3617, 2187},
	} {
		p := NewBPTree(c.k)
		require.Equal(t, int64(c.both), p.NNZ(0, NodeCount(p, c.n)), "n=%d k=%d", c.n, c.k)
		require.Equal(t, int64(c.past), Causal(p).NNZ(0, NodeCount(p, c.n)), "causal n=%d k=%d", c.n, c.k)
	}
	for i := range 64 { // two layers join all tokens
		reached := map[int]bool{}
		for _, u := range Keys(NewBPTree(1), 0, i, 127) {
			for _, j := range Keys(NewBPTree(1), 0, u, 127) {
				reached[j] = true
			}
		}
		for j := range 64 {
			require.True(t, reached[j], "%d from %d", j, i)
		}
	}
	s := Measure(NewBPTree(2), 64)
	require.Equal(t, 127, s.Nodes)
	require.Equal(t, 1440.0/(127*127), s.Density)
}

// What a token reads covers every token once; causally, those up to itself.
func TestTreePartition(t *testing.T) {
	for _, n := range []int{1, 2, 3, 5, 8, 13, 17, 64, 100, 257} {
		first, size := []int{}, []int{} // of the tokens of a node
		for level, count := range treeLevels(n) {
			for m := range count {
				first, size = append(first, m<<level), append(size, min(n, (m+1)<<level)-m<<level)
			}
		}
		for _, k := range []int{1, 2, 4, 300} {
			for _, p := range []Pattern{NewBPTree(k), Causal(NewBPTree(k))} {
				for i := range n {
					covered := make([]int, n)
					for _, u := range Keys(p, 0, i, len(first)) {
						for j := first[u]; j < first[u]+size[u]; j++ {
							covered[j]++
						}
					}
					for j, c := range covered {
						want := 1
						if j > i && p.String()[0] == 'c' {
							want = 0
						}
						require.Equal(t, want, c, "%s n=%d: token %d in row %d", p, n, j, i)
					}
				}
			}
		}
	}
}

func TestImageGoldens(t *testing.T) {
	p := Image2D{Height: 4, Width: 4, QueryHeight: 2, QueryWidth: 2, MemoryHeight: 2, MemoryWidth: 2}
	require.Equal(t, int64(136), p.NNZ(0, 16))
	require.Equal(t, []int{0, 1, 4, 5}, Keys(p, 0, 5, 16))
	require.Equal(t, []int{0, 1, 2, 3, 4, 5, 6}, Keys(p, 0, 6, 16))
	require.Equal(t, []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, Keys(p, 0, 9, 16))
	ahead := 0
	for i := range 16 {
		for _, j := range Keys(p, 0, i, 16) {
			require.LessOrEqual(t, p.Rank(j), p.Rank(i))
			if j > i {
				ahead++
			}
		}
	}
	require.Equal(t, 8, ahead)
	one := Image1D{Query: 4, Memory: 4}
	require.Equal(t, []int{0, 1, 2, 3, 4}, Keys(one, 0, 4, 10))
	require.Equal(t, []int{4, 5, 6, 7, 8, 9}, Keys(one, 0, 9, 10))
	rapid.Check(t, func(t *rapid.T) { // an order of generation is a permutation that the pattern never reads against
		one := rapid.IntRange(1, 7)
		p := Image2D{Height: one.Draw(t, "h"), Width: one.Draw(t, "w"), QueryHeight: one.Draw(t, "qh"), QueryWidth: one.Draw(t, "qw"),
			MemoryHeight: one.Draw(t, "mh"), MemoryWidth: one.Draw(t, "mw")}
		seen := map[int]bool{}
		for i := range p.size() {
			seen[p.Rank(i)] = p.Rank(i) >= 0 && p.Rank(i) < p.size()
			for _, j := range Keys(p, 0, i, p.size()) {
				require.LessOrEqual(t, p.Rank(j), p.Rank(i))
			}
		}
		require.Len(t, seen, p.size())
	})
}

// External nodes come first, and what else is said is of the tokens behind them.
func TestExternalNodes(t *testing.T) {
	p := parse(t, "band(2,1) + external(3)")
	require.Equal(t, 19, NodeCount(p, 16))
	for u := range 19 {
		for v := range 19 {
			want := u < 3 || v < 3 || v >= u-2 && v <= u+1
			require.Equal(t, want, p.Sees(0, u, v, 19))
		}
	}
	q := parse(t, "heads(external(2) + blocks(5); global(0))")
	require.Equal(t, []int{0, 1, 5, 6, 7}, Keys(parse(t, "external(2) + causal(blocks(3))"), 0, 7, 12))
	require.Equal(t, []int{5, 6, 7}, Keys(parse(t, "external(2) & full + causal(blocks(3))"), 0, 7, 12)) // & full: of the tokens
	require.Equal(t, Keys(NewGlobal(0), 0, 3, 9)[0]+2, Keys(q, 1, 5, 11)[0])
	require.ErrorContains(t, CheckCausal(q), "cannot be causal")
	require.NoError(t, CheckCausal(parse(t, "bp-tree(2)")))
}
