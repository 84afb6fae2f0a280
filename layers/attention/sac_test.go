package attention

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/layers"
)

// sacScene is a predictor with random weights on some nodes.
type sacScene struct {
	SACRules
	graphs   int
	features bool
	lens     []int32
	t        int
	edges    []int32 // of the graph, the same for each example, pairs
	actions  []int32 // forced
	seed     uint64
	spread   float64 // of the weights; 0: 0.7
}

type sacBuilt struct {
	b      *layers.Builder
	x      *Node
	sac    SAC
	in     SACExamples
	params Nodes
}

func (s sacScene) build(dtype tensor.Dtype) sacBuilt {
	const c, p = 5, 3
	spread := s.spread
	if spread == 0 {
		spread = 0.7
	}
	f := sacBuilt{b: layers.New(gorgonia.NewGraph(), layers.NewParams(dtype), layers.Options{Seed: s.seed})}
	batch := len(s.lens)
	f.x = f.b.Input("x", dtype, batch, s.t, c)
	for i := range batch * s.t * c { // what a token is does not depend on how much padding there is
		at := i / (s.t * c) * 1000 * c
		v := 1.3 * noise("x", at+i%(s.t*c))
		if dtype == tensor.Float32 {
			layers.InputValue(f.x).Float32s()[i] = float32(v)
		} else {
			layers.InputValue(f.x).Float64s()[i] = v
		}
	}
	ints := func(name string, v []int32, shape ...int) *Node {
		n := f.b.Input(name, tensor.Int32, shape...)
		copy(layers.InputValue(n).Int32s(), v)
		return n
	}
	param := func(name string, shape ...int) *Node {
		n := f.b.Param(name, layers.Normal(spread), shape...)
		f.params = append(f.params, n)
		return n
	}
	f.in = SACExamples{X: f.x, Lens: ints("lens", s.lens, batch)}
	if s.Graph {
		f.in.Graph = ints("graph", slices.Repeat(s.edges, batch), batch, len(s.edges)/2, 2)
	}
	f.sac = SAC{SACRules: s.SACRules, Graphs: s.graphs, Features: s.features, Key: 77}
	f.sac.Net = SACNet{Features: param("w_e", c, p), Start: param("start", p), Slot: param("slot", 2, p), WeightX: param("wx", p, 4*p),
		WeightH: param("wh", p, 4*p), Bias: param("b", 4*p), Eta: param("eta", p, p), Kappa: param("kappa", p, p), Distance: param("distance", s.Distances+2)}
	if s.graphs > 1 {
		f.sac.Net.Head, f.sac.Net.Layer = param("head", s.graphs, p), param("layer", p)
	}
	return f
}

// rollout runs the predictor at a training step.
func (s sacScene) rollout(t *testing.T, greedy bool, step int32) []int32 {
	f := s.build(tensor.Float64)
	out := f.sac.Rollout(f.b, f.in, greedy)
	require.NoError(t, f.b.Err())
	p, err := engine.Compile(f.b.Graph(), Nodes{out}, engine.Options{Poison: true})
	require.NoError(t, err)
	layers.InputValue(f.b.Step()).Int32s()[0] = step
	require.NoError(t, p.Run())
	return slices.Clone(engine.Ints(p.Value(out)))
}

// sacScenes are all modes.
func sacScenes() map[string]sacScene {
	ring := []int32{0, 1, 1, 0, 1, 2, 2, 1, 2, 3, 3, 2, 3, 4, 4, 3, 5, 6, 6, 5, -1, -1}
	return map[string]sacScene{
		"pairs":        {SACRules: SACRules{Alpha: 1.3, Distances: 3}, lens: []int32{7, 4, 1, 0}, t: 7},
		"no repeat":    {SACRules: SACRules{Alpha: 1.5, Distances: 3, NoRepeat: true}, lens: []int32{7, 3, 2}, t: 7},
		"heads":        {SACRules: SACRules{Alpha: 1, Distances: 2}, graphs: 3, lens: []int32{5, 6}, t: 6, features: true},
		"per node":     {SACRules: SACRules{PerNode: true, Alpha: 2, Distances: 3, NoRepeat: true}, lens: []int32{7, 3}, t: 7},
		"causal":       {SACRules: SACRules{PerNode: true, Alpha: 2, Distances: 3, Causal: true}, lens: []int32{7, 3}, t: 7},
		"graph":        {SACRules: SACRules{Alpha: 1.2, Distances: 2, Graph: true}, lens: []int32{7, 5}, t: 7, edges: ring},
		"blind":        {SACRules: SACRules{Alpha: 1.2, Distances: 2, Blind: true}, lens: []int32{7, 5}, t: 7},
		"local":        {SACRules: SACRules{Alpha: 1.2, Distances: 3, Local: 4}, lens: []int32{9, 7}, t: 9},
		"local node":   {SACRules: SACRules{PerNode: true, Alpha: 1, Distances: 3, Local: 3, NoRepeat: true}, lens: []int32{9, 7}, t: 9},
		"local causal": {SACRules: SACRules{PerNode: true, Alpha: 1, Distances: 3, Local: 4, Causal: true}, lens: []int32{9, 7}, t: 9},
	}
}

// The gradient of log-probabilities and entropies of given actions, through pointer, recurrence and features, is that of finite differences;
// what stops at the features stops.
func TestSACReplayGradient(t *testing.T) {
	for name, s := range sacScenes() {
		t.Run(name, func(t *testing.T) {
			s.actions = s.rollout(t, false, 5)
			f := s.build(tensor.Float64)
			batch, graphs, steps := len(s.lens), max(s.graphs, 1), s.Steps(s.t)
			a := f.b.Input("actions", tensor.Int32, batch, graphs, steps)
			copy(layers.InputValue(a).Int32s(), s.actions)
			logProb, entropy := f.sac.Replay(f.b, f.in, a)
			weighted := func(n *Node, name string) *Node {
				w := f.b.Input(name, tensor.Float64, batch, graphs, steps)
				fillFrom(layers.InputValue(w), name)
				return layers.Sum(f.b, layers.Mul(f.b, n, w))
			}
			cost := layers.Add(f.b, weighted(logProb, "weight of p"), weighted(entropy, "weight of h"))
			require.NoError(t, f.b.Err())
			wrt := append(slices.Clone(f.params), f.x)
			ds, err := engine.VJP(Nodes{cost}, Nodes{engine.Fill(f.b.Graph(), engine.TypeOf(cost), 1)}, wrt, nil)
			require.NoError(t, err)
			p, err := engine.Compile(f.b.Graph(), append(Nodes{cost, logProb, entropy}, ds...), engine.Options{Poison: true})
			require.NoError(t, err)
			at := func() float64 {
				require.NoError(t, p.Run())
				return numbers(p.Value(cost))[0]
			}
			at()
			grads := make([][]float64, len(wrt))
			for i, d := range ds {
				grads[i] = numbers(p.Value(d))
			}
			for i, h := range numbers(p.Value(entropy)) {
				require.GreaterOrEqual(t, h, 0.0)
				require.LessOrEqual(t, numbers(p.Value(logProb))[i], 0.0)
				require.False(t, s.actions[i] < 0 && h != 0, "no action, no entropy")
			}
			for i, n := range wrt {
				if n == f.x && !s.features {
					require.Equal(t, make([]float64, len(grads[i])), grads[i])
					continue
				}
				v := layers.InputValue(n).Float64s()
				for k, x := range v {
					const h = 1e-5
					v[k] = x + h
					up := at()
					v[k] = x - h
					down := at()
					v[k] = x
					require.InDelta(t, (up-down)/(2*h), grads[i][k], 1e-6, "%s[%d]", n.Name(), k)
				}
			}
		})
	}
}

// Rollouts follow their keys: the same again at the same step, others at another, the likeliest whatever the step; padding changes nothing.
func TestSACRollouts(t *testing.T) {
	for name, s := range sacScenes() {
		t.Run(name, func(t *testing.T) {
			a := s.rollout(t, false, 3)
			require.Equal(t, a, s.rollout(t, false, 3))
			require.NotEqual(t, a, s.rollout(t, false, 4))
			require.Equal(t, s.rollout(t, true, 3), s.rollout(t, true, 4))
			other := s
			other.seed = 9
			require.NotEqual(t, a, other.rollout(t, false, 3))

			wide := s
			wide.t = s.t + 17
			graphs := max(s.graphs, 1)
			for _, greedy := range []bool{false, true} {
				narrow, padded := s.rollout(t, greedy, 3), wide.rollout(t, greedy, 3)
				for n := range len(s.lens) * graphs {
					own := narrow[n*s.Steps(s.t):][:s.Steps(int(s.lens[n/graphs]))]
					require.Equal(t, own, padded[n*s.Steps(wide.t):][:len(own)])
					for _, v := range padded[n*s.Steps(wide.t)+len(own):][:s.Steps(wide.t)-len(own)] {
						require.Equal(t, int32(-1), v)
					}
				}
			}
			// The rules hold.
			graph, at := s.Steps(s.t), 0
			for n := range len(s.lens) * graphs {
				seen := map[[2]int32]bool{}
				actions := a[n*graph:][:graph]
				s.eachStep(int(s.lens[n/graphs]), actions, func(t2, source, prev int) {
					v := actions[t2]
					if v < 0 {
						return
					}
					require.Less(t, v, s.lens[n/graphs])
					if source < 0 {
						return
					}
					require.NotEqual(t, int32(source), v)
					if s.Causal {
						require.Less(t, v, int32(source))
					}
					pair := [2]int32{min(v, int32(source)), max(v, int32(source))}
					require.False(t, s.NoRepeat && seen[pair], "twice")
					seen[pair] = true
					at++
				})
				if m, l := s.Steps(int(s.lens[n/graphs]))/2, int(s.lens[n/graphs]); s.NoRepeat && !s.PerNode {
					require.Len(t, seen, min(m, l*(l-1)/2))
				}
			}
			require.Positive(t, at)
		})
	}
}

// With so many edges that all pairs are taken once the rollout ends early, and attention is that on all pairs.
func TestSACExhausted(t *testing.T) {
	s := sacScene{SACRules: SACRules{Alpha: 4, Distances: 3, NoRepeat: true}, lens: []int32{5, 3, 1}, t: 5}
	f := s.build(tensor.Float64)
	actions := f.sac.Rollout(f.b, f.in, false)
	steps := s.StepsOf(f.b, actions, f.in.Lens)
	q, k, v := f.b.Input("q", tensor.Float64, 3, 5, 6), f.b.Input("k", tensor.Float64, 3, 5, 6), f.b.Input("v", tensor.Float64, 3, 5, 6)
	for i, n := range []*Node{q, k, v} {
		fillFrom(layers.InputValue(n), fmt.Sprint("qkv", i))
	}
	learned, _ := AttendEdges(f.b, Chosen{Heads: 2, Lens: f.in.Lens}, Links{Self: true, Symmetric: true}, s.Edges(f.b, actions), q, k, v)
	dense, _ := Attend(f.b, Config{Heads: 2, Lens: f.in.Lens}, q, k, v)
	require.NoError(t, f.b.Err())
	p, err := engine.Compile(f.b.Graph(), Nodes{learned, dense, steps}, engine.Options{})
	require.NoError(t, err)
	require.NoError(t, p.Run())
	require.InDeltaSlice(t, numbers(p.Value(dense)), numbers(p.Value(learned)), 1e-12)
	require.Equal(t, []int32{20, 6, 0}, engine.Ints(p.Value(steps)))
}

// Equal tokens are as likely where distances have no say; huge logits are no trouble.
func TestSACDistributions(t *testing.T) {
	s := sacScene{SACRules: SACRules{PerNode: true, Alpha: 1, Distances: 3}, lens: []int32{6}, t: 6}
	s.actions = []int32{3, 4, 3, 4, 3, 4}
	logs := func(other, spread float64, same bool) []float64 {
		s.spread = spread
		f := s.build(tensor.Float64)
		clear(layers.InputValue(f.sac.Net.Distance).Float64s())
		x := layers.InputValue(f.x).Float64s()
		if same {
			copy(x[4*5:5*5], x[3*5:4*5])
		}
		a := f.b.Input("actions", tensor.Int32, 1, 1, 6)
		copy(layers.InputValue(a).Int32s(), []int32{int32(other), -1, -1, -1, -1, -1})
		l, _ := f.sac.Replay(f.b, f.in, a)
		require.NoError(t, f.b.Err())
		p, err := engine.Compile(f.b.Graph(), Nodes{l}, engine.Options{})
		require.NoError(t, err)
		require.NoError(t, p.Run())
		return numbers(p.Value(l))
	}
	require.Equal(t, logs(3, 0.7, true)[0], logs(4, 0.7, true)[0])
	require.NotEqual(t, logs(3, 0.7, false)[0], logs(4, 0.7, false)[0])
	for _, l := range logs(3, 300, false) {
		require.False(t, math.IsNaN(l) || math.IsInf(l, 0), l)
	}
}
