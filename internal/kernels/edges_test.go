package kernels

import (
	"math"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
)

// edgeCases are the cases of attention without gather indexes, as lists.
func edgeCases() map[string]attnCase {
	all := map[string]attnCase{
		"short": {b: 2, h: 2, tq: 131, tk: 67, d: 40, dv: 24, dLSE: true, sees: func(_, _, i, j int) bool { return (i*7+j*13)%29 == 0 }},
		"hubs": {b: 3, h: 2, tq: 259, tk: 259, d: 16, dv: 24, dLSE: true, lensQ: []int32{259, 70, 1}, lensK: []int32{259, 70, 1},
			sees:   func(_, _, i, j int) bool { return i == 3 || j == 5 || i == j || i == 200 && j%2 == 1 },
			labels: 7, label: func(h, i, j int) int { return (i + h) % 3 * (j % 4) }},
	}
	for name, c := range attnCases() {
		if c.indexQ == nil && c.indexK == nil && name != "long" && name != "256" {
			all[name] = c
		}
	}
	for name, c := range all {
		c.edges = true
		all[name] = c
	}
	return all
}

// withItems runs f with items of so many pairs, so that lines become hubs.
func withItems(pairs int, f func()) {
	was := itemPairs
	defer func() { itemPairs = was }()
	itemPairs = pairs
	f()
}

// Lists give what the definition gives, as tiles do, whatever the size of items.
func TestEdges(t *testing.T) {
	for name, c := range edgeCases() {
		c.scale, c.seed = 1/math.Sqrt(float64(c.d)), 3
		x := c.data()
		want, naive := attnReference[float64](&c, x), attnReference[float32](&c, x)
		t.Run(name, func(t *testing.T) {
			for _, pairs := range []int{itemPairs, 61} {
				withItems(pairs, func() {
					requireClose(t, want, want, attnRun[float64](t, &c, x), 1, 2e-13*float64(c.d))
					eachAttnSet(t, func(t *testing.T) {
						requireClose(t, want, naive, attnRun[float32](t, &c, x), 2.5, 1.5e-6*float64(1+b2i(c.labels > 0)))
					})
				})
			}
		})
	}
}

// The bits do not depend on the number of workers.
func TestEdgesDeterminism(t *testing.T) {
	limit, procs := workerLimit, runtime.GOMAXPROCS(0)
	defer func() { workerLimit = limit; runtime.GOMAXPROCS(procs) }()
	workerLimit = 8
	all := edgeCases()
	for _, name := range []string{"hubs", "global", "many", "lens", "a bias"} {
		c := all[name]
		c.scale, c.seed = 0.2, 9
		x := c.data()
		withItems(61, func() {
			var want attnResult
			for _, n := range []int{1, 2, 3, 5} {
				runtime.GOMAXPROCS(n)
				got := attnRun[float32](t, &c, x)
				if n == 1 {
					want = got
				}
				require.Equal(t, want, got, "%s with %d workers", name, n)
			}
		})
	}
}

func TestEdgesLists(t *testing.T) {
	e, err := NewEdges(4, 9, func(i int, dst []int32) []int32 {
		return append(dst, [][]int32{{2, 3, 4}, {}, {0, 8}, {7}}[i]...)
	})
	require.NoError(t, err)
	require.Equal(t, 6, e.Pairs())
	require.Equal(t, []int32{0, 8}, e.keys, "keys without a gap are not listed")
	require.Equal(t, []int32{2, 0, 0, 0, 3, 2}, e.query)
	require.Equal(t, []int32{3, 0, 1, 2, 5, 4}, e.pair)
	for what, row := range map[string][]int32{"key 9 of 9": {9}, "key 3 of 9 at place 1 of query 0": {3, 3}, "key -1": {-1}} {
		_, err := NewEdges(1, 9, func(int, []int32) []int32 { return row })
		require.ErrorContains(t, err, what)
	}
	_, err = e.Labelled(2, func(i, j int) int { return i })
	require.ErrorContains(t, err, "the label of pair (2,0) is 2, not of 0 to 1")
	_, err = e.Labelled(0, nil)
	require.ErrorContains(t, err, "0 labels")
}

func TestEdgesErrors(t *testing.T) {
	c := edgeCases()["hubs"]
	c.scale = 1
	x := c.data()
	for want, spoil := range map[string]func(a *Attention[float32]){
		"3 lists for 2 heads": func(a *Attention[float32]) { a.Edges = append(a.Edges, a.Edges[0]) },
		"of 259 queries":      func(a *Attention[float32]) { a.TQ-- },
		"Edges go without":    func(a *Attention[float32]) { a.Layouts = []*Layout{FullLayout(259, 259)} },
		"R has 7 values":      func(a *Attention[float32]) { a.R.Data = a.R.Data[:7] },
		"head 1 has 0":        func(a *Attention[float32]) { e := *a.Edges[1]; e.Labels = 0; a.Edges[1] = &e },
		"scale that is not 0": func(a *Attention[float32]) { a.Scale = 0 },
	} {
		a, _, _, _, _ := newAttention[float32](t, &c, x)
		spoil(a)
		require.ErrorContains(t, a.Forward(), want)
	}
}

func TestEdgesAllocateNothing(t *testing.T) {
	c := edgeCases()["hubs"]
	c.scale = 1
	x := c.data()
	a, do, dq, dk, dv := newAttention[float32](t, &c, x)
	run := func() {
		if a.Forward() != nil || a.Backward(do, nil, dq, dk, dv) != nil {
			panic("attention")
		}
	}
	run()
	require.Zero(t, testing.AllocsPerRun(20, run))
}

// A NaN makes the results of the queries that read it NaN, and no others.
func TestEdgesNaN(t *testing.T) {
	c := attnCase{b: 1, h: 1, tq: 257, tk: 257, d: 8, dv: 8, sees: seesPast, scale: 0.3, seed: 4, edges: true}
	eachAttnSet(t, func(t *testing.T) {
		for _, pairs := range []int{itemPairs, 61} {
			withItems(pairs, func() {
				x := c.data()
				x.k[70*c.d+3] = math.NaN()
				got := attnRun[float32](t, &c, x)
				for i := range c.tq {
					require.Equal(t, i >= 70, math.IsNaN(got.o[i*c.dv+3]), "query %d", i)
				}
			})
		}
	})
}
