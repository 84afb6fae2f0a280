package attention

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/layers"
)

// state is a table of a scene.
func (s *routingScene) state(t require.TestingT, name string) []float64 {
	p, ok := s.b.Params().Get(name)
	require.True(t, ok, name)
	return p.Value.Float64s()
}

// train makes a step: what the trainer does of it.
func (s *routingScene) train(t require.TestingT, step int) []layers.Metric {
	u := s.b.Updates()[0]
	s.run(t)
	if !u.Ready() {
		u.Start(s.parts())
		require.True(t, u.Ready())
		s.run(t)
	}
	return u.Apply(step, s.parts())
}

// Every form by finite differences of a weighted sum of what comes out and of the commitment loss, which goes through it; clusters get nothing.
func TestRoutingGradients(t *testing.T) {
	forms := map[string]Routing{
		"mean, shared":             {Membership: TopW, SharedQK: true, Causal: true},
		"mean, apart":              {Membership: TopW, Self: SelfAllowed, Causal: true},
		"mean, both ways":          {Membership: TopW, SharedQK: true},
		"union, shared":            {Membership: TopW, SharedQK: true, Causal: true, Union: true},
		"union, apart, both ways":  {Membership: TopW, Self: SelfAllowed, Union: true},
		"recent, shared":           {Membership: Recent, SharedQK: true, Causal: true},
		"recent, apart":            {Membership: Recent, Self: SelfAllowed, Causal: true},
		"room for every one, once": {Membership: TopW, SharedQK: true, Causal: true},
	}
	for name, a := range forms {
		a.Clusters, a.Window, a.Commitment, a.Decay = 3, 4, 0.9, 0.5
		if name == "room for every one, once" {
			a.Window = 0
		}
		t.Run(name, func(t *testing.T) {
			params := layers.NewParams(tensor.Float64)
			clustersOf(t, params, 2, 3, 3, "centroids of a form")
			lens := []int32{11, 6}
			s := newRouting(t, a, true, 2, 11, 3, lens, params)
			layers.InputValue(s.b.LossWeight()).Float64s()[0] = 0.7
			w := s.b.Input("weight", tensor.Float64, s.out.Shape()...)
			fillFrom(layers.InputValue(w), "weight")
			cost := layers.Sum(s.b, layers.Mul(s.b, s.out, w))
			term := s.b.Terms(nil)
			require.NoError(t, s.b.Err())
			wrt := Nodes{s.q, s.v, s.state3(t).emaSum}
			if !a.SharedQK {
				wrt = append(wrt, s.k)
			}
			ds, err := engine.VJP(Nodes{cost}, Nodes{engine.Fill(s.b.Graph(), engine.TypeOf(cost), 1)}, wrt, nil)
			require.NoError(t, err)
			s.compile(t, append(ds, cost, term)...)
			value := func() float64 {
				s.run(t)
				return numbers(s.program.Value(cost))[0] + 0.7*numbers(s.program.Value(term))[0]
			}
			value()
			var grads [][]float64
			for _, d := range ds {
				grads = append(grads, slices.Clone(numbers(s.program.Value(d))))
			}
			for _, g := range grads[2] {
				require.Zero(t, g, "the loss does not reach centroids")
			}
			for i, n := range wrt {
				if i == 2 {
					continue
				}
				x := layers.InputValue(n).Float64s()
				for e := 0; e < len(x); e += 7 {
					keep := x[e]
					x[e] = keep + 1e-6
					up := value()
					x[e] = keep - 1e-6
					down := value()
					x[e] = keep
					require.InDelta(t, (up-down)/2e-6, grads[i][e], 2e-6, "input %d, element %d", i, e)
				}
			}
		})
	}
}

// state3 are the nodes of the state.
func (s *routingScene) state3(t *testing.T) clusterState {
	st := newClusterState(s.b, 2, 3, 3)
	require.NoError(t, s.b.Err())
	return st
}

// blobs fills queries with vectors near so many directions and returns which of them each is near.
func blobs(s *routingScene, kinds, d int, spread float64, seed string) []int {
	x := layers.InputValue(s.q).Float64s()
	of := make([]int, len(x)/d)
	for i := range of {
		of[i] = int(math.Abs(noise(seed+" kind", i)) * 1e6)
		of[i] %= kinds
		for c := range d {
			x[i*d+c] = spread * noise(seed, i*d+c)
			if c == of[i] {
				x[i*d+c] += 3
			}
		}
	}
	return of
}

// purity is the part of the vectors that are of the most frequent kind of their cluster.
func purity(of []int, clusters []int32, kinds, most int) float64 {
	right := 0
	for c := range most {
		best := 0
		for k := range kinds {
			n := 0
			for i, kind := range of {
				n += oneIf(kind == k && int(clusters[i]) == c)
			}
			best = max(best, n)
		}
		right += best
	}
	return float64(right) / float64(len(of))
}

// Clusters that are far apart are found from data within a few steps, and stay.
func TestClustersAreFound(t *testing.T) {
	a := Routing{Clusters: 3, Window: 20, Membership: TopW, SharedQK: true, Causal: true, Decay: 0.9, Reseed: 100}
	for seed := range 4 {
		s := newRouting(t, a, true, 1, 61, 5, []int32{61}, nil)
		near := s.made("nearest_cluster")[0]
		s.compile(t, near)
		var of []int
		for step := range 49 {
			of = blobs(s, 3, 5, 0.4, fmt.Sprint("blobs ", seed, step))
			metrics := s.train(t, step+1)
			require.Equal(t, []string{"occupancy", "busiest", "moved", "spread", "unrouted"}, names(metrics)[:5])
		}
		require.Equal(t, 1.0, purity(of, engine.Ints(s.program.Value(near)), 3, 3), "seed %d", seed)
	}
}

func names(metrics []layers.Metric) (all []string) {
	for _, m := range metrics {
		all = append(all, m.Name)
	}
	return all
}

// Without memory of earlier steps the centroids are the means of what is assigned to them: a step of k-means.
func TestDecayOfZeroIsKMeans(t *testing.T) {
	a := Routing{Clusters: 4, Window: 9, Membership: TopW, SharedQK: true, Decay: 0}
	params := layers.NewParams(tensor.Float64)
	clustersOf(t, params, 1, 4, 5, "centroids to leave")
	s := newRouting(t, a, true, 1, 37, 5, []int32{29}, params)
	near := s.made("nearest_cluster")[0]
	s.compile(t, near)
	s.train(t, 1)
	x := normalised(layers.InputValue(s.q).Float64s(), 5)
	clusters := engine.Ints(s.program.Value(near))
	for c := range 4 {
		sum, n := make([]float64, 5), 0.0
		for i := range 29 {
			if int(clusters[i]) == c {
				n++
				for k := range sum {
					sum[k] += x[i*5+k]
				}
			}
		}
		require.InDeltaSlice(t, sum, s.state(t, "ema_sum")[c*5:][:5], 1e-12)
		require.InDelta(t, n, s.state(t, "ema_count")[c], 1e-12)
	}
	require.Equal(t, []int32{-1, -1}, clusters[29:31], "padding is in no cluster")
}

// What stands in padding changes nothing, and a batch of nothing keeps every centroid.
func TestPaddingTeachesNothing(t *testing.T) {
	a := Routing{Clusters: 3, Window: 4, Membership: TopW, Causal: true, Self: SelfAllowed, Decay: 0.7, Reseed: 100}
	after := func(fill float64, lens []int32) ([]float64, []float64) {
		params := layers.NewParams(tensor.Float64)
		clustersOf(t, params, 2, 3, 3, "centroids")
		s := newRouting(t, a, true, 2, 13, 3, lens, params)
		s.compile(t)
		for _, n := range []*Node{s.q, s.k, s.v} {
			x := layers.InputValue(n).Float64s()
			for b, l := range lens {
				for i := int(l) * 6; i < 13*6; i++ {
					x[b*13*6+i] = fill
				}
			}
		}
		s.train(t, 1)
		return s.state(t, "ema_sum"), s.state(t, "ema_count")
	}
	a1, n1 := after(0, []int32{13, 5})
	a2, n2 := after(1e3, []int32{13, 5})
	require.Equal(t, a1, a2)
	require.Equal(t, n1, n2)
	params := layers.NewParams(tensor.Float64)
	clustersOf(t, params, 2, 3, 3, "centroids")
	before, _ := params.Get("ema_sum")
	sums, counts := after(1, []int32{0, 0})
	for i, x := range before.Value.Float64s() {
		require.InDelta(t, x/(1+float64(i/3%3)), sums[i]/counts[i/3], 1e-12)
	}
}

// First centroids are means of vectors of the first step, the same for every worker and in every run; padding is none of them. Fewer vectors than
// clusters are taken twice, with some noise.
func TestFirstCentroids(t *testing.T) {
	a := Routing{Clusters: 5, Window: 4, Membership: TopW, SharedQK: true, Causal: true, Decay: 0.9}
	start := func(lens []int32, padding float64) *routingScene {
		s := newRouting(t, a, true, 2, 17, 3, lens, nil)
		s.compile(t)
		for b, l := range lens {
			x := layers.InputValue(s.q).Float64s()[b*17*6:][:17*6]
			for i := int(l) * 6; i < len(x); i++ {
				x[i] = padding
			}
		}
		s.run(t)
		s.b.Updates()[0].Start(s.parts())
		return s
	}
	one, two := start([]int32{17, 9}, 1), start([]int32{17, 9}, -70)
	require.Equal(t, one.state(t, "ema_sum"), two.state(t, "ema_sum"))
	require.Equal(t, []float64{1, 0}, one.state(t, "progress"))
	require.Equal(t, slices.Repeat([]float64{1}, 10), one.state(t, "ema_count"))
	for c := range 10 { // inside of the sphere on which all vectors are
		norm := 0.0
		for _, x := range one.state(t, "ema_sum")[c*3:][:3] {
			norm += x * x
		}
		require.Less(t, norm, 3+1e-9)
		require.Greater(t, norm, 0.1)
	}
	few := start([]int32{2, 0}, 0).state(t, "ema_sum")
	for c := range 4 {
		require.NotEqual(t, few[c*3:][:3], few[c*3+3:][:3], "noise tells them apart")
	}

	s := newRouting(t, a, true, 2, 17, 3, []int32{17, 9}, nil)
	s.compile(t)
	layers.InputValue(s.q).Float64s()[0] = math.NaN()
	s.run(t)
	u := s.b.Updates()[0]
	u.Start(s.parts())
	require.False(t, u.Ready(), "a step that diverges is no start")
}

// Without centroids nothing can be evaluated, and it is said what to do.
func TestNoCentroidsYet(t *testing.T) {
	s := newRouting(t, Routing{Clusters: 3, Window: 4, Membership: TopW}, false, 2, 7, 3, []int32{7}, nil)
	s.compile(t)
	err := s.program.Run()
	var fault *layers.StateError
	require.ErrorAs(t, err, &fault)
	require.ErrorContains(t, err, "has no values yet: its clusters come from the first training step: train the model, or load weights that were trained")
}

// Evaluation leaves no trace.
func TestEvaluationKeepsClusters(t *testing.T) {
	params := layers.NewParams(tensor.Float64)
	clustersOf(t, params, 2, 3, 3, "centroids")
	s := newRouting(t, Routing{Clusters: 3, Window: 4, Membership: TopW, Decay: .5}, false, 2, 7, 3, []int32{7}, params)
	before := slices.Clone(s.state(t, "ema_sum"))
	s.compile(t)
	first := s.run(t)
	require.Equal(t, first, s.run(t))
	require.Equal(t, before, s.state(t, "ema_sum"))
	require.Empty(t, s.b.Updates())
}

// A cluster that gets almost nothing for long starts anew at the vector farthest from its centroid, with the mean count.
func TestDeadClusters(t *testing.T) {
	vec := func(shape []int, x ...float64) *tensor.Dense {
		return tensor.New(tensor.WithShape(shape...), tensor.WithBacking(x))
	}
	u := clusterUpdate{Routing: Routing{Clusters: 3, Decay: 0.5, Reseed: 2}, heads: 1, d: 2, sum: vec([]int{1, 3, 2}, 8, 0, 0, 8, 0.001, 0), count: vec([]int{1, 3}, 8, 8, 0.001),
		age: vec([]int{1, 3}, 0, 0, 0), progress: vec([]int{2}, 1, 0), sums: []int{0}, outliers: []int{1, 2}}
	apply := ruleOf[float64](u, nil).Apply
	parts := []*tensor.Dense{vec([]int{1, 3, 3}, 8, 0, 8, 0, 8, 8, 0, 0, 0), vec([]int{1, 1, 3}, 3, -1, 1), vec([]int{1, 1, 3}, 5, -1, -1)}
	require.NotContains(t, names(apply(1, parts)), "reseeded")
	require.Equal(t, 1.0, u.age.Float64s()[2])
	require.Contains(t, names(apply(2, parts)), "reseeded")
	mean := u.count.Float64s()[0] * 2 / 3
	require.InDelta(t, mean, u.count.Float64s()[2], 1e-3)
	require.InDeltaSlice(t, []float64{-mean, -mean}, u.sum.Float64s()[4:], 1e-3)
	require.Zero(t, u.age.Float64s()[2])

	u.Reseed = 0
	u.count.Float64s()[2] = 0
	require.NotContains(t, names(ruleOf[float64](u, nil).Apply(3, parts)), "reseeded")
}

// The farthest of several batches, of equal ones the first.
func TestMergeOutliers(t *testing.T) {
	vec := func(x ...float64) *tensor.Dense { return tensor.New(tensor.WithShape(1, 3, 2), tensor.WithBacking(x)) }
	total := vec(5, 1, 3, 2, -1, 0)
	mergeOutliers(total, vec(7, 3, 5, 4, 5, 5))
	require.Equal(t, []float64{7, 3, 5, 1, 5, 4}, total.Float64s())
	mergeOutliers(total, vec(5, 9, -1, 0, -1, 0))
	require.Equal(t, []float64{7, 3, 5, 1, 5, 4}, total.Float64s())
}

// Section 15's column: what happens at the edges.
func TestRoutingEdges(t *testing.T) {
	run := func(a Routing, tokens int, lens []int32, fill func(x []float64)) (*routingScene, []float64) {
		params := layers.NewParams(tensor.Float64)
		clustersOf(t, params, 1, a.Clusters, 3, "centroids")
		s := newRouting(t, a, false, 1, tokens, 3, lens, params)
		if fill != nil {
			fill(layers.InputValue(s.q).Float64s())
		}
		s.compile(t)
		return s, s.run(t)
	}
	for _, a := range []Routing{
		{Clusters: 4, Window: 3, Membership: TopW, SharedQK: true, Causal: true},
		{Clusters: 4, Window: 3, Membership: TopW, SharedQK: true, Causal: true, Self: SelfAllowed},
		{Clusters: 4, Window: 3, Membership: Recent, SharedQK: true, Causal: true},
		{Clusters: 4, Window: 3, Membership: TopW, SharedQK: true, Causal: true, Union: true},
	} {
		s, y := run(a, 1, []int32{1}, nil)
		require.InDeltaSlice(t, layers.InputValue(s.v).Float64s(), y, 1e-12, "one token has its own value: %+v", a)
		_, y = run(a, 5, []int32{0}, nil)
		require.Equal(t, make([]float64, 15), y, "nothing but padding: %+v", a)
		_, y = run(a, 6, []int32{6}, func(x []float64) { // equal tokens, in front of which nothing differs
			for i := range x {
				x[i] = float64(i % 3)
			}
		})
		require.False(t, slices.ContainsFunc(y, func(v float64) bool { return v != v }))
		_, y = run(a, 6, []int32{6}, func(x []float64) { clear(x) })
		require.False(t, slices.ContainsFunc(y, func(v float64) bool { return v != v }), "zeros: %+v", a)
		_, y = run(a, 6, []int32{6}, func(x []float64) {
			for i := range x {
				x[i] *= 1e4
			}
		})
		require.False(t, slices.ContainsFunc(y, func(v float64) bool { return v != v || math.IsInf(v, 0) }), "huge vectors: %+v", a)
	}
	// Equal tokens: the first ones are members. Zeros are in the first cluster.
	s, _ := run(Routing{Clusters: 2, Window: 3, Membership: TopW, SharedQK: true}, 7, []int32{7}, func(x []float64) {
		for i := range x {
			x[i] = float64(i % 3)
		}
	})
	list := s.made("cluster_members")[0]
	s.compile(t, list)
	s.run(t)
	require.Equal(t, []int32{0, 1, 2, 0, 1, 2}, engine.Ints(s.program.Value(list)))
	s, _ = run(Routing{Clusters: 2, Window: 3, Membership: Recent, SharedQK: true, Causal: true}, 4, []int32{4}, func(x []float64) { clear(x) })
	near := s.made("nearest_cluster")[0]
	s.compile(t, near)
	s.run(t)
	require.Equal(t, []int32{0, 0, 0, 0}, engine.Ints(s.program.Value(near)))

	// Fewer tokens than a cluster takes: every cluster has all, whose mean is dense attention; so it is with more clusters than tokens.
	for _, clusters := range []int{1, 3, 40} {
		_, y := run(Routing{Clusters: clusters, Window: 30, Membership: TopW, Causal: true, Self: SelfAllowed}, 9, []int32{9}, nil)
		_, dense := run(Routing{Clusters: 1, Window: 9, Membership: TopW, Causal: true, Self: SelfAllowed}, 9, []int32{9}, nil)
		require.InDeltaSlice(t, dense, y, 1e-12, "%d clusters", clusters)
	}
	// Clusters that do not divide the tokens overlap, and have ⌈n/k⌉ each.
	s, _ = run(Routing{Clusters: 3, Membership: TopW, SharedQK: true}, 10, []int32{10}, nil)
	require.Equal(t, 12, s.made("cluster_members")[0].Shape()[2])
}
