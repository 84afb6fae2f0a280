package attention

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/layers"
)

// What is generated token by token is what the graph gives, for several candidates, in rings that are never full, that wrap, and of one token.
func TestRoutingCache(t *testing.T) {
	const tokens, d, heads = 29, 3, 2
	const width = heads * d
	for _, window := range []int{1, 4, 50} {
		for _, shared := range []bool{true, false} {
			for _, self := range []Self{SelfLast, SelfAllowed} {
				what := fmt.Sprint(window, shared, self)
				a := Routing{Clusters: 3, Window: window, Membership: Recent, SharedQK: shared, Self: self, Causal: true}
				params := layers.NewParams(tensor.Float64)
				clustersOf(t, params, heads, 3, d, "centroids")
				s := newRouting(t, a, false, heads, tokens, d, []int32{tokens, tokens}, params)
				s.compile(t)
				want := s.run(t)
				var in [3][]float64
				for i, n := range []*Node{s.q, s.k, s.v} {
					in[i] = numbers(layers.InputValue(n))
				}
				c, err := NewRoutingCache[float64](layers.New(gorgonia.NewGraph(), params, layers.Options{}), a, heads, d, tokens, 0)
				require.NoError(t, err)
				for range 2 { // a second time after Reset
					c.Select([]int{0, 0})
					held := 0
					for i := range tokens {
						var row [3][]float64
						for k := range row {
							row[k] = slices.Concat(in[k][i*width:][:width], in[k][(tokens+i)*width:][:width])
						}
						o := make([]float64, 2*width)
						require.NoError(t, c.Attend(row[0], row[1], row[2], o))
						require.InDeltaSlice(t, want[i*width:][:width], o[:width], 1e-12, "%s, token %d", what, i)
						require.InDeltaSlice(t, want[(tokens+i)*width:][:width], o[width:], 1e-12, "%s, token %d", what, i)
						if i == 12 { // the candidates change places and are copied
							c.Select([]int{1, 0, 1})
							c.Select([]int{1, 2})
						}
						for _, l := range c.lines {
							for ring := range l.keys {
								require.LessOrEqual(t, len(l.keys[ring]), window*d, "no more than a window is held")
							}
						}
						held = c.Bytes()
					}
					require.Positive(t, held)
					require.ErrorContains(t, c.Attend(in[0], in[1], in[2], make([]float64, 2*width)), "token 30 is beyond the 29")
					c.Reset()
				}
			}
		}
	}
	params := layers.NewParams(tensor.Float64)
	at := func() *layers.Builder { return layers.New(gorgonia.NewGraph(), params, layers.Options{}) }
	recent := Routing{Clusters: 3, Window: 2, Membership: Recent, Causal: true}
	_, err := NewRoutingCache[float64](at(), recent, heads, d, tokens, 0)
	var state *layers.StateError
	require.ErrorAs(t, err, &state, "there are no clusters yet")
	clustersOf(t, params, heads, 3, d, "centroids")
	for want, a := range map[string]Routing{
		"with membership topw later tokens change what earlier ones read": {Clusters: 3, Window: 2, Membership: TopW, Causal: true},
		"give it a window": {Clusters: 3, Membership: Recent, Causal: true},
		"shape":            {Clusters: 4, Window: 2, Membership: Recent, Causal: true},
	} {
		_, err := NewRoutingCache[float64](at(), a, heads, d, tokens, 0)
		require.ErrorContains(t, err, want)
	}
	_, err = NewRoutingCache[float64](at(), recent, 0, d, tokens, 0)
	require.ErrorContains(t, err, "sizes start at 1")
}

// A long text is continued in the memory of a short one.
func TestRoutingCacheIsBounded(t *testing.T) {
	params := layers.NewParams(tensor.Float32)
	sum := tensor.New(tensor.WithShape(1, 2, 3), tensor.WithBacking([]float32{1, -1, 0, -1, 1, 0}))
	require.NoError(t, params.Load("ema_sum", sum))
	require.NoError(t, params.Load("progress", tensor.New(tensor.WithBacking([]float32{1, 0}))))
	a := Routing{Clusters: 2, Window: 5, Membership: Recent, SharedQK: true, Causal: true}
	c, err := NewRoutingCache[float32](layers.New(gorgonia.NewGraph(), params, layers.Options{}), a, 1, 3, 1000, 1)
	require.NoError(t, err)
	held := 0
	for i := range 1000 {
		x := []float32{float32(math.Sin(float64(7 * i))), float32(math.Cos(float64(3 * i))), .1}
		require.NoError(t, c.Attend(x, x, x, make([]float32, 3)))
		if i == 99 {
			held = c.Bytes()
		}
	}
	require.Equal(t, held, c.Bytes())
	require.LessOrEqual(t, held, 2*(2*8*3*4+8), "two rings of five keys and values, and what slices have spare")
}
