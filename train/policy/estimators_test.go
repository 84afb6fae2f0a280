package policy

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/splitmix"
	"github.com/euryale-ml/euryale/layers"
)

// cost of a choice among three, of its weights y: ℓ = c·y + (d·y)².
func cost(b *layers.Builder, y *Node) *Node {
	c, d := floatsOf(b, "c", []int{1, 3}, 0.5, -0.8, 1.3), floatsOf(b, "d", []int{1, 3}, 1.2, 0.3, -0.9)
	q := layers.Sum(b, layers.Mul(b, y, d))
	return layers.Add(b, layers.Sum(b, layers.Mul(b, y, c)), layers.Mul(b, q, q))
}

var logits3 = []float64{0.4, -0.3, 0.9}

// estimate is what an estimator gives for the logits with draws, and its loss.
func estimate(t *testing.T, e Estimator, draws []float64) (grad []float64, loss float64) {
	b := builder()
	u := floatsOf(b, "logits", []int{1, 3}, logits3...)
	s := e.Select(b, u, floatsOf(b, "draws", []int{1, 3}, draws...))
	l := cost(b, s.Weights)
	total := layers.Reshape(b, l, 1)
	if s.LogProb != nil {
		rewards := layers.Scale(b, total, -1)
		zero := floatsOf(b, "zero", []int{1, 1, 1}, 0)
		choice := layers.Choice{LogProb: layers.Reshape(b, s.LogProb, 1, 1, 1), Entropy: zero, Steps: intsOf(b, "steps", []int{1, 1}, 1)}
		total = layers.Add(b, total, Loss(b, []layers.Choice{choice}, Advantages(b, None, 0, rewards, floatsOf(b, "base", []int{1}, 0), floatsOf(b, "scale", []int{1}, 1))))
	}
	require.NoError(t, b.Err())
	ds, err := engine.VJP(Nodes{total}, Nodes{engine.Fill(b.Graph(), engine.TypeOf(total), 1)}, Nodes{u}, nil)
	require.NoError(t, err)
	out := run(t, b, ds[0], l)()
	return out[0], out[1][0]
}

// Every estimator that says that it is unbiased is, and those that say that they are not are not: the test can tell.
func TestEstimators(t *testing.T) {
	p := softmax(logits3)
	one := make([]float64, 3) // losses of the choices
	for k := range one {
		b := builder()
		y := make([]float64, 3)
		y[k] = 1
		one[k] = run(t, b, cost(b, floatsOf(b, "y", []int{1, 3}, y...)))()[0][0]
	}
	want, mean := make([]float64, 3), 0.0
	for k, l := range one {
		mean += p[k] * l
	}
	for k, l := range one {
		want[k] = p[k] * (l - mean)
	}
	const n = 4000
	for _, e := range Estimators() {
		sums, squares := make([]float64, 3), make([]float64, 3)
		seen := map[float64]bool{}
		for i := range n {
			draws := make([]float64, 3)
			for k := range draws {
				draws[k] = (splitmix.Unit(splitmix.Mix(uint64(3*i+k+1))) + 1e-9) / (1 + 2e-9)
			}
			g, l := estimate(t, e, draws)
			seen[l] = true
			for k, x := range g {
				sums[k], squares[k] = sums[k]+x/n, squares[k]+x*x/n
			}
			if e.Name() == "top_k" { // the same for all draws
				sums, squares = g, []float64{g[0] * g[0], g[1] * g[1], g[2] * g[2]}
				break
			}
		}
		unbiased := true
		for k := range want {
			unbiased = unbiased && math.Abs(sums[k]-want[k]) < 4*math.Sqrt(max(squares[k]-sums[k]*sums[k], 0)/n)+1e-9
		}
		require.Equal(t, e.Unbiased(), unbiased, "%s: %v, want %v", e.Name(), sums, want)
		if h, is := e.(GumbelSoftmax); e.Name() != "top_k" && (!is || h.Hard) {
			require.Len(t, seen, 3, "%s chooses one", e.Name())
		}
	}
}

// The mixture's gradient is that of its loss at given noise; hard choices have the same one.
func TestGumbelGradient(t *testing.T) {
	draws := []float64{0.3, 0.8, 0.55}
	e := GumbelSoftmax{Tau: 0.7}
	g, _ := estimate(t, e, draws)
	for k := range logits3 {
		const h = 1e-5
		keep := logits3[k]
		logits3[k] = keep + h
		_, up := estimate(t, e, draws)
		logits3[k] = keep - h
		_, down := estimate(t, e, draws)
		logits3[k] = keep
		require.InDelta(t, (up-down)/(2*h), g[k], 1e-8)
	}
}

func TestTopKWeights(t *testing.T) {
	b := builder()
	u := floatsOf(b, "logits", []int{2, 4}, 1, 3, 2, 0, -1, -1, 5, -2)
	y := TopK{K: 2, Tau: 0.5}.Select(b, u, floatsOf(b, "draws", []int{2, 4}, 1, 1, 1, 1, 1, 1, 1, 1)).Weights
	total := layers.Sum(b, y)
	require.NoError(t, b.Err())
	ds, err := engine.VJP(Nodes{total}, Nodes{engine.Fill(b.Graph(), engine.TypeOf(total), 1)}, Nodes{u}, nil)
	require.NoError(t, err)
	out := run(t, b, y, ds[0])()
	require.Equal(t, []float64{0, 1, 1, 0, 1, 1, 1, 0}, out[0], "equal ones are taken together")
	s := 1 / (1 + math.Exp(2))
	require.InDelta(t, s*(1-s)/0.5, out[1][0], 1e-12)
	require.InDelta(t, 0.5, out[1][2], 1e-12, "at the threshold the slope is largest")
}
