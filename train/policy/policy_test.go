package policy

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/splitmix"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/layers/attention"
)

func builder() *layers.Builder {
	return layers.New(gorgonia.NewGraph(), layers.NewParams(tensor.Float64), layers.Options{Seed: 3, Training: true})
}

func floatsOf(b *layers.Builder, name string, shape []int, x ...float64) *Node {
	n := b.Input(name, tensor.Float64, shape...)
	copy(layers.InputValue(n).Float64s(), x)
	return n
}

func intsOf(b *layers.Builder, name string, shape []int, x ...int32) *Node {
	n := b.Input(name, tensor.Int32, shape...)
	copy(layers.InputValue(n).Int32s(), x)
	return n
}

// run compiles nodes and returns a function that runs them and gives their values.
func run(t *testing.T, b *layers.Builder, nodes ...*Node) func() [][]float64 {
	t.Helper()
	require.NoError(t, b.Err())
	p, err := engine.Compile(b.Graph(), nodes, engine.Options{Poison: true})
	require.NoError(t, err)
	return func() (all [][]float64) {
		require.NoError(t, p.Run())
		for _, n := range nodes {
			if v := p.Value(n); v.Dtype() == tensor.Int32 {
				var x []float64
				for _, i := range engine.Ints(v) {
					x = append(x, float64(i))
				}
				all = append(all, x)
			} else {
				all = append(all, append([]float64(nil), engine.Floats[float64](v)...))
			}
		}
		return all
	}
}

// smallest is a predictor of three nodes that chooses one pair: six sequences of two actions.
type smallest struct {
	b      *layers.Builder
	in     attention.SACExamples
	sac    attention.SAC
	params Nodes
	values [][]float64
}

var sequences = [][2]int32{{0, 1}, {0, 2}, {1, 0}, {1, 2}, {2, 0}, {2, 1}}

// losses are what the sequences cost.
var losses = []float64{0.3, -1.1, 0.7, 1.9, -0.2, 0.4}

func newSmallest(batch int) *smallest {
	const c, p = 5, 3
	s := &smallest{b: builder()}
	x := make([]float64, 0, batch*3*c)
	for range batch {
		for i := range 3 * c {
			x = append(x, math.Sin(float64(7*i+1)))
		}
	}
	s.in = attention.SACExamples{X: floatsOf(s.b, "x", []int{batch, 3, c}, x...)}
	k := 0
	param := func(name string, shape ...int) *Node {
		n := s.b.Param(name, layers.Normal(0.8), shape...)
		s.params = append(s.params, n)
		s.values = append(s.values, layers.InputValue(n).Float64s())
		k++
		return n
	}
	s.sac = attention.SAC{SACRules: attention.SACRules{Alpha: 1. / 3, Distances: 3}}
	s.sac.Net = attention.SACNet{Features: param("w_e", c, p), Start: param("start", p), Slot: param("slot", 2, p), WeightX: param("wx", p, 4*p),
		WeightH: param("wh", p, 4*p), Bias: param("b", 4*p), Eta: param("eta", p, p), Kappa: param("kappa", p, p), Distance: param("distance", 5)}
	return s
}

// each runs f at every element of every parameter.
func (s *smallest) each(f func(v *float64)) {
	for _, x := range s.values {
		for i := range x {
			f(&x[i])
		}
	}
}

// scores are probabilities of the six sequences and their gradients of log p.
func (s *smallest) scores(t *testing.T) (p []float64, grads [][]float64) {
	for _, a := range sequences {
		one := newSmallest(1)
		actions := intsOf(one.b, "actions", []int{1, 1, 2}, a[:]...)
		logProb, entropy := one.sac.Replay(one.b, one.in, actions)
		steps := one.sac.StepsOf(one.b, actions, nil)
		// With advantage 1 the loss is -(1/T) Σ log p.
		loss := Loss(one.b, []layers.Choice{{LogProb: logProb, Entropy: entropy, Steps: steps}}, floatsOf(one.b, "a", []int{1}, 1))
		require.NoError(t, one.b.Err())
		ds, err := engine.VJP(Nodes{loss}, Nodes{engine.Fill(one.b.Graph(), engine.TypeOf(loss), 1)}, one.params, nil)
		require.NoError(t, err)
		for i, v := range s.values {
			copy(one.values[i], v)
		}
		all := run(t, one.b, append(Nodes{loss}, ds...)...)()
		p = append(p, math.Exp(-2*all[0][0]))
		var g []float64
		for _, d := range all[1:] {
			for _, x := range d {
				g = append(g, -2*x)
			}
		}
		grads = append(grads, g)
	}
	return p, grads
}

// expected is the gradient of Σ p(a) ℓ(a), by differences of the fourth order.
func (s *smallest) expected(t *testing.T) (g []float64) {
	six := newSmallest(6)
	actions := make([]int32, 0, 12)
	for _, a := range sequences {
		actions = append(actions, a[:]...)
	}
	logProb, _ := six.sac.Replay(six.b, six.in, intsOf(six.b, "actions", []int{6, 1, 2}, actions...))
	at := run(t, six.b, logProb)
	value := func() (j float64) {
		l, sum := at()[0], 0.0
		for k, loss := range losses {
			p := math.Exp(l[2*k] + l[2*k+1])
			j, sum = j+p*loss, sum+p
		}
		require.InDelta(t, 1, sum, 1e-12, "the probabilities of all sequences")
		return j
	}
	for i := range s.values {
		copy(six.values[i], s.values[i])
	}
	six.each(func(v *float64) {
		const h = 2e-3
		x, d := *v, 0.0
		for _, term := range [][2]float64{{-2, 1}, {-1, -8}, {1, 8}, {2, -1}} {
			*v = x + term[0]*h
			d += term[1] * value()
		}
		*v = x
		g = append(g, d/(12*h))
	})
	return g
}

// The estimate of the score function is unbiased for every baseline that does not depend on the choice, exactly: all choices are enumerated.
func TestScoreFunctionIsUnbiased(t *testing.T) {
	s := newSmallest(1)
	p, score := s.scores(t)
	want := s.expected(t)
	scale := 0.0
	for _, g := range want {
		scale = max(scale, math.Abs(g))
	}
	require.Greater(t, scale, 0.05)
	check := func(what string, got []float64, tol float64) {
		t.Helper()
		for i, g := range want {
			require.InDelta(t, g, got[i], tol*scale, "%s, coordinate %d", what, i)
		}
	}
	for _, base := range []float64{0, 1, -7} {
		g := make([]float64, len(want))
		for k, l := range losses {
			for i := range g {
				g[i] += p[k] * (l - base) * score[k][i]
			}
		}
		check("baseline", g, 1e-9)
	}

	// Leave one out, through the advantages themselves: all pairs of choices for an example.
	b := builder()
	var rewards []float64
	for _, l := range losses {
		for _, m := range losses {
			rewards = append(rewards, -l, -m)
		}
	}
	advantages := Advantages(b, LeaveOneOut, 2, floatsOf(b, "r", []int{72}, rewards...), floatsOf(b, "b", []int{1}, 100), floatsOf(b, "s", []int{1}, 1))
	a := run(t, b, advantages)()[0]
	g := make([]float64, len(want))
	for k := range losses {
		for m := range losses {
			for i := range g {
				at := 2 * (6*k + m)
				g[i] -= p[k] * p[m] * (a[at]*score[k][i] + a[at+1]*score[m][i]) / 2
			}
		}
	}
	check("leave one out", g, 1e-9)

	// The variance with the best constant baseline is not more than without any.
	up, down, plain := 0.0, 0.0, 0.0
	norm := func(k int) (n float64) {
		for _, x := range score[k] {
			n += x * x
		}
		return n
	}
	for k, l := range losses {
		up, down, plain = up+p[k]*l*norm(k), down+p[k]*norm(k), plain+p[k]*l*l*norm(k)
	}
	best := 0.0
	for k, l := range losses {
		best += p[k] * (l - up/down) * (l - up/down) * norm(k)
	}
	require.LessOrEqual(t, best, plain)

	// Drawn 20,000 times, ten coordinates are within four standard errors.
	many := newSmallest(200)
	actions := many.sac.Rollout(many.b, many.in, false)
	draw := run(t, many.b, actions)
	step := layers.InputValue(many.b.Step()).Int32s()
	for i := range s.values {
		copy(many.values[i], s.values[i])
	}
	counts := make([]float64, 6)
	for r := range 100 {
		step[0] = int32(r)
		x := draw()[0]
		for k := 0; k < len(x); k += 2 {
			for q, a := range sequences {
				if float64(a[0]) == x[k] && float64(a[1]) == x[k+1] {
					counts[q]++
				}
			}
		}
	}
	const n = 20_000
	for c := range 10 {
		i := int(splitmix.Mix(uint64(c)) % uint64(len(want)))
		mean, square := 0.0, 0.0
		for k, l := range losses {
			x := (l - 0.4) * score[k][i]
			mean, square = mean+counts[k]*x/n, square+counts[k]*x*x/n
		}
		require.InDelta(t, want[i], mean, 4*math.Sqrt((square-mean*mean)/n)+1e-12, "coordinate %d", i)
	}
}

// Two choices that are as likely, losses 1 and 0: with the mean as baseline every draw gives the gradient itself, and what is better becomes
// likelier.
func TestTwoChoices(t *testing.T) {
	for index, want := range [][]float64{{.25, -.25}, {.25, -.25}} {
		b := builder()
		logits := floatsOf(b, "logits", []int{1, 2}, 0, 0)
		logProb := layers.Scale(b, layers.CrossEntropyRows(b, logits, intsOf(b, "index", []int{1}, int32(index)), 0), -1)
		zero := floatsOf(b, "entropy", []int{1, 1, 1}, 0)
		loss := []float64{1, 0}[index]
		l := Loss(b, []layers.Choice{{LogProb: layers.Reshape(b, logProb, 1, 1, 1), Entropy: zero, Steps: intsOf(b, "steps", []int{1, 1}, 1)}},
			Advantages(b, EMA, 0, floatsOf(b, "r", []int{1}, -loss), floatsOf(b, "b", []int{1}, -0.5), floatsOf(b, "s", []int{1}, 1)))
		require.NoError(t, b.Err())
		ds, err := engine.VJP(Nodes{l}, Nodes{engine.Fill(b.Graph(), engine.TypeOf(l), 1)}, Nodes{logits}, nil)
		require.NoError(t, err)
		require.InDeltaSlice(t, want, run(t, b, ds[0])()[0], 1e-15)
	}
}

// The entropy's gradient of p = (.8,.2) is (-.2218,.2218), of a uniform one nothing.
func TestEntropyOfSteps(t *testing.T) {
	for _, c := range []struct{ d, want float64 }{{math.Log(4), -.2218071}, {0, 0}} {
		// A predictor of one edge whose weights are all 0 but the distances': from node 0 they are 1 and 2 away.
		one := newSmallest(1)
		for _, v := range one.values {
			clear(v)
		}
		one.values[8][1] = c.d
		b := one.b
		actions := intsOf(b, "actions", []int{1, 1, 2}, 0, 1)
		logProb, entropy := one.sac.Replay(b, one.in, actions)
		loss := Loss(b, []layers.Choice{{LogProb: logProb, Entropy: entropy, Steps: one.sac.StepsOf(b, actions, nil), EntropyWeight: 1}}, floatsOf(b, "a", []int{1}, 0))
		require.NoError(t, b.Err())
		ds, err := engine.VJP(Nodes{loss}, Nodes{engine.Fill(b.Graph(), engine.TypeOf(loss), 1)}, one.params[8:], nil)
		require.NoError(t, err)
		got := run(t, b, ds[0], entropy)()
		require.InDelta(t, -c.want/2, got[0][1], 1e-6)
		require.InDelta(t, c.want/2, got[0][2], 1e-6)
		if c.d == 0 {
			require.InDeltaSlice(t, []float64{math.Log(3), math.Log(2)}, got[1], 1e-12)
		}
	}
}

func TestRewardsAndAdvantages(t *testing.T) {
	b := builder()
	rows := floatsOf(b, "rows", []int{3, 2}, 1, 2, 3, 4, 5, 6)
	r := Rewards(b, rows, intsOf(b, "targets", []int{3, 2}, 1, 0, -1, 2, -1, -1))
	all := Rewards(b, rows, nil)
	base, scale, none := floatsOf(b, "base", []int{3}, -1, -3, 1), floatsOf(b, "scale", []int{1}, 0.1), floatsOf(b, "none", []int{1}, 0)
	got := run(t, b, r, all, Advantages(b, EMA, 0, r, base, scale), Advantages(b, EMA, 0, r, base, none), Advantages(b, BatchMean, 0, all, base, floatsOf(b, "one", []int{1}, 1)))()
	require.Equal(t, [][]float64{{-1.5, -4, 0}, {-1.5, -3.5, -5.5}, {-5, -5, -5}, {0, 0, 0}, {2, 0, -2}}, got)

	var past Past
	mean, s := past.Baseline(0.9)
	require.Equal(t, []float64{0, 0}, []float64{mean, s}, "without a past there is nothing to compare with")
	past.Note(0.9, -2, 4)
	mean, s = past.Baseline(0.9)
	require.InDelta(t, -2, mean, 1e-12)
	require.InDelta(t, 2, s, 1e-12)
	past.Note(0.9, -1, 0)
	mean, _ = past.Baseline(0.9)
	require.InDelta(t, (-2*0.9-1)/1.9, mean, 1e-12)
	var flat Past
	flat.Note(0.9, 3, 0)
	_, s = flat.Baseline(0.9)
	require.InDelta(t, 1e-3, s, 1e-12, "the least deviation")
}
