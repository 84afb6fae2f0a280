package attention

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/layers"
)

// By hand: rounds with lse 0 and ln 3 that give 1 and 5 are 4 together, with lse ln 4; a round that reads nothing changes nothing, and is nothing alone.
func TestMergeByHand(t *testing.T) {
	s := newStructured(tensor.Float64)
	part := func(name string, o, lse float64) Part {
		return Part{s.b.Const("o "+name, tensor.New(tensor.WithShape(1, 1, 1), tensor.WithBacking([]float64{o}))),
			s.b.Const("lse "+name, tensor.New(tensor.WithShape(1, 1, 1), tensor.WithBacking([]float64{lse})))}
	}
	first, second, empty := part("first", 1, 0), part("second", 5, math.Log(3)), part("empty", 0, math.Inf(-1))
	for _, parts := range [][]Part{{first, second}, {second, first}, {first, second, empty}, {empty, first, second}} {
		all := Merge(s.b, parts...)
		got := s.compute(t, all.O, all.LSE)
		require.InDelta(t, 4, got[0][0], 1e-15)
		require.InDelta(t, math.Log(4), got[1][0], 1e-15)
	}
	all := Merge(s.b, empty, empty)
	got := s.compute(t, all.O, all.LSE)
	require.Zero(t, got[0][0])
	require.Equal(t, math.Inf(-1), got[1][0])
}

// By hand: vectors go to the centroid with the largest product, whose averages then move.
func TestAssignmentByHand(t *testing.T) {
	s := newStructured(tensor.Float64)
	x := s.b.Const("x", tensor.New(tensor.WithShape(1, 3, 2), tensor.WithBacking([]float64{2, 0, 0, 4, 3, 1})))
	mu := s.b.Const("mu", tensor.New(tensor.WithShape(1, 2, 2), tensor.WithBacking([]float64{1, 0, 0, 1})))
	of := Nearest(s.b, ClusterScores(s.b, x, mu), nil)
	require.Equal(t, []int32{0, 1, 0}, whole(t, s.b, of))
	u, step := ruleFor(Routing{Clusters: 2, Decay: .5}, []float64{1, 0, 0, 1}, []float64{1, 1})
	step([]float64{2, 0, 0, 4, 3, 1}, []int{0, 1, 0})
	sum, count := u.sum.Float64s(), u.count.Float64s()
	require.Equal(t, []float64{3, .5, 0, 2.5, 1.5, 1}, append(append([]float64{}, sum...), count...))
	require.InDeltaSlice(t, []float64{2, 1. / 3, 0, 2.5}, []float64{sum[0] / count[0], sum[1] / count[0], sum[2] / count[1], sum[3] / count[1]}, 1e-15)
}

// By hand: a key and a query of the first map at a right angle.
func TestNormMapOfRightAngleByHand(t *testing.T) {
	p, q := make([]float64, 3), make([]float64, 3)
	MapKey(SimpleLSH, []float64{.6, 0}, 1, p)
	MapQuery(SimpleLSH, []float64{0, 2}, q)
	require.Zero(t, dot(p, q))
}

// By hand: one token is in all clusters, whatever they take; 1.5 edges for each of 5 nodes are 8, of two steps each, for 1 node none.
func TestCountsByHand(t *testing.T) {
	for window := range 3 {
		one := choose(t, []float64{.3, -.9, .1}, 3, func(b *layers.Builder, scores *Node) *Node { return Members(b, scores, nil, window) })
		require.Equal(t, []int32{0, 0, 0}, one, "window %d", window)
	}
	for n, want := range []int{0, 0, 6, 10, 12, 16} {
		require.Equal(t, want, SACRules{Alpha: 1.5}.Steps(n), "%d nodes", n)
	}
	require.Equal(t, 10, SACRules{Alpha: 2, PerNode: true}.Steps(5))
}

// compute gives values of nodes, which may be infinite.
func (s *structured) compute(t require.TestingT, nodes ...*Node) (all [][]float64) {
	require.NoError(t, s.b.Err())
	p, err := engine.Compile(s.b.Graph(), nodes, engine.Options{})
	require.NoError(t, err)
	require.NoError(t, p.Run())
	for _, n := range nodes {
		all = append(all, numbers(p.Value(n)))
	}
	return all
}
