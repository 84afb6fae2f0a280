package attention

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/layers"
)

// ruleFor is the rule of one head with clusters of 2 dimensions.
func ruleFor(a Routing, sum, count []float64) (clusterUpdate, func(x []float64, of []int) []layers.Metric) {
	vec := func(x ...float64) *tensor.Dense { return tensor.New(tensor.WithShape(len(x)), tensor.WithBacking(x)) }
	u := clusterUpdate{Routing: a, heads: 1, d: 2, sum: vec(sum...), count: vec(count...), age: vec(make([]float64, len(count))...),
		progress: vec(1, 0), sums: []int{1}}
	return u, func(x []float64, of []int) []layers.Metric {
		sums := make([]float64, len(count)*3)
		for i, c := range of {
			sums[c*3] += x[2*i]
			sums[c*3+1] += x[2*i+1]
			sums[c*3+2]++
		}
		return u.rule(nil).Apply(1, []*tensor.Dense{nil, vec(sums...)})
	}
}

// Micro golden ema, and that a cluster without vectors keeps its centroid.
func TestEMA(t *testing.T) {
	u, step := ruleFor(Routing{Clusters: 2, Decay: .5}, []float64{1, 0, 0, 1}, []float64{1, 1})
	metrics := step([]float64{2, 0, 0, 4, 3, 1}, []int{0, 1, 0})
	require.InDeltaSlice(t, []float64{3, .5, 0, 2.5}, u.sum.Float64s(), 1e-12)
	require.InDeltaSlice(t, []float64{1.5, 1}, u.count.Float64s(), 1e-12)
	require.Equal(t, "occupancy", metrics[0].Name)
	require.InDelta(t, -(2./3*math.Log(2./3)+1./3*math.Log(1./3))/math.Ln2, metrics[0].Value, 1e-12)
	require.Equal(t, layers.Metric{Name: "busiest", Value: 4. / 3}, metrics[1])
	require.InDelta(t, (math.Hypot(1, 1./3)+1.5)/2, metrics[2].Value, 1e-12)
	step(nil, nil)
	require.InDeltaSlice(t, []float64{1.5, .25, 0, 1.25}, u.sum.Float64s(), 1e-12)
	require.InDeltaSlice(t, []float64{.75, .5}, u.count.Float64s(), 1e-12, "both decay, so the centroid stays; by the law without counts it would shrink to 0")
	u, step = ruleFor(Routing{Clusters: 2, Decay: 1}, []float64{1, 0, 0, 1}, []float64{1, 1})
	step([]float64{2, 0, 0, 4}, []int{0, 1})
	require.Equal(t, []float64{1, 0, 0, 1}, u.sum.Float64s(), "a decay of 1 keeps what there is")
}

// Micro golden officialT0: with counts that start at 0 a cluster of few vectors gets a centroid of twice their length. Ours start at 1.
func TestCountsThatStartAtZero(t *testing.T) {
	u, step := ruleFor(Routing{Clusters: 2, Decay: .5}, []float64{1, 0, 0, 1}, []float64{0, 0})
	step([]float64{2, 0, 0, 4, 3, 1}, []int{0, 1, 0})
	mu := func(c int) []float64 {
		n := u.count.Float64s()[c]
		return []float64{u.sum.Float64s()[2*c] / n, u.sum.Float64s()[2*c+1] / n}
	}
	require.InDeltaSlice(t, []float64{3, .5}, mu(0), 1e-12)
	require.InDeltaSlice(t, []float64{0, 5}, mu(1), 1e-12)
}

// After T steps a centroid is the mean of all vectors weighted by decay^age, in which the first value counts as one vector.
func TestEMAClosedForm(t *testing.T) {
	u, step := ruleFor(Routing{Clusters: 1, Decay: .9}, []float64{.3, -2}, []float64{1})
	sum, number := []float64{.3, -2}, 1.0
	weights := func(steps int) float64 { return math.Pow(.9, float64(steps)) }
	const steps = 12
	for i := range sum {
		sum[i] *= weights(steps)
	}
	number *= weights(steps)
	for s := range steps {
		var x []float64
		n := 1 + s*s%4
		for i := range n {
			a, b := noise("vector", 7*s+i), noise("other", 5*s+i)
			x = append(x, a, b)
			sum[0] += .1 * weights(steps-1-s) * a
			sum[1] += .1 * weights(steps-1-s) * b
		}
		number += .1 * weights(steps-1-s) * float64(n)
		step(x, make([]int, n))
	}
	require.InDeltaSlice(t, sum, u.sum.Float64s(), 1e-12)
	require.InDelta(t, number, u.count.Float64s()[0], 1e-12)

}

// Workers add their sums up. Means of the centroids that each would have for itself are something else where they saw different numbers.
func TestMeansOfWorkersAreWrong(t *testing.T) {
	all, step := ruleFor(Routing{Clusters: 1, Decay: .5}, []float64{0, 0}, []float64{1})
	step([]float64{8, 0, 0, 4, 0, 4, 0, 4}, []int{0, 0, 0, 0})
	one, step1 := ruleFor(Routing{Clusters: 1, Decay: .5}, []float64{0, 0}, []float64{1})
	step1([]float64{8, 0}, []int{0})
	other, step2 := ruleFor(Routing{Clusters: 1, Decay: .5}, []float64{0, 0}, []float64{1})
	step2([]float64{0, 4, 0, 4, 0, 4}, []int{0, 0, 0})
	mu := func(u clusterUpdate) float64 { return u.sum.Float64s()[0] / u.count.Float64s()[0] }
	require.InDelta(t, 8./5, mu(all), 1e-12)
	require.Greater(t, math.Abs((mu(one)+mu(other))/2-mu(all)), .3)
}
