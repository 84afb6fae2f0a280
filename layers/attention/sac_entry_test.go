package attention

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/layers"
)

// Given edges in the place of predicted ones are other attentions: all pairs, Transformer-XL's segments, a span, the rows of a binary
// partition's tokens.
func TestSACForcedPlans(t *testing.T) {
	const n = 11
	for name, c := range map[string]struct {
		of      Pattern
		decoder bool
	}{
		"all pairs":         {Full{}, false},
		"segments":          {parse(t, "blocks(4,4)"), true},
		"span":              {Band{Left: 3}, true},
		"dense causal":      {Full{}, true},
		"binary partitions": {parse(t, "blocks(2) + dilated(1,1,4)"), false},
	} {
		t.Run(name, func(t *testing.T) {
			of := c.of
			if c.decoder {
				of = Causal(of)
			}
			var edges []int32
			for i := range n {
				for j := range i {
					if of.Sees(0, i, j, n) {
						edges = append(edges, int32(i), int32(j))
					}
				}
			}
			run := func(entry string) []float64 {
				var e Entry
				require.NoError(t, json.Unmarshal([]byte(entry), &e))
				m, err := e.Mixer(Layer{Heads: 2, Decoder: c.decoder})
				require.NoError(t, err)
				s := newStructured(tensor.Float64)
				in := s.stream(s.input("x", 2, n, 6), 2, s.ints("lens", []int32{n, 7}, 2))
				in.More = map[string]*Node{"graph_edges": s.ints("graph", slices.Repeat(edges, 2), 2, len(edges))}
				s.out = m.Mix(s.b, in)
				return s.values(t)
			}
			want := run(fmt.Sprintf(`{"type":"pattern","pattern":%q}`, c.of.String()))
			require.InDeltaSlice(t, want, run(`{"type":"sac","predictor_size":4,"plan":"graph"}`), 1e-12)
		})
	}
}

// Whatever is chosen, earlier outputs of a decoder have no gradient for later tokens (C0); with a causal predictor nothing of them changes (C1,
// which the conformance of entries tests).
func TestSACClasses(t *testing.T) {
	for entry, class := range map[string]string{
		`{"type":"sac"}`: "C0", `{"type":"sac","mode":"perNode","alpha":2}`: "C0", `{"type":"sac","plan":"random"}`: "C0",
		`{"type":"sac","mode":"perNode","causal_predictor":true}`: "C1", `{"type":"sac","plan":"full"}`: "C1",
	} {
		var e Entry
		require.NoError(t, json.Unmarshal([]byte(entry), &e))
		m, err := e.Mixer(Layer{Heads: 1, Decoder: true})
		require.NoError(t, err)
		require.Equal(t, class, m.(interface{ Class() string }).Class(), entry)
	}
	const n = 7
	s := newStructured(tensor.Float64)
	in := s.stream(s.input("x", 1, n, 6), 2, nil)
	edges := s.ints("edges", []int32{0, 3, 5, 1, 2, 6, 4, 0, 6, 5}, 1, 1, 5, 2)
	o, _ := AttendEdges(s.b, Chosen{Heads: 2}, Links{Self: true, Causal: true}, edges, in.QKV[0], in.QKV[1], in.QKV[2])
	for i := range n {
		row := layers.Sum(s.b, layers.Slice(s.b, o, 1, i, i+1))
		require.NoError(t, s.b.Err())
		ds, err := engine.VJP(Nodes{row}, Nodes{engine.Fill(s.b.Graph(), engine.TypeOf(row), 1)}, Nodes{s.in[0]}, nil)
		require.NoError(t, err)
		p, err := engine.Compile(s.b.Graph(), Nodes{ds[0]}, engine.Options{})
		require.NoError(t, err)
		require.NoError(t, p.Run())
		g := numbers(p.Value(ds[0]))
		require.Equal(t, make([]float64, (n-i-1)*6), g[(i+1)*6:])
		require.NotEqual(t, make([]float64, 6), g[i*6:][:6])
	}
}

// No nodes, one node, no valid ones.
func TestSACEdges(t *testing.T) {
	for _, c := range []struct {
		t    int
		lens []int32
	}{{1, []int32{1, 0}}, {5, []int32{0, 1}}} {
		for _, mode := range []string{"pairs", "perNode"} {
			var e Entry
			require.NoError(t, json.Unmarshal([]byte(fmt.Sprintf(`{"type":"sac","predictor_size":3,"mode":%q,"alpha":2}`, mode)), &e))
			m, err := e.Mixer(Layer{Heads: 2})
			require.NoError(t, err)
			s := newStructured(tensor.Float64)
			in := s.stream(s.input("x", 2, c.t, 6), 2, s.ints("lens", c.lens, 2))
			s.out = layers.Concat(s.b, 2, m.Mix(s.b, in), in.QKV[2])
			x := s.values(t)
			for i := range 2 * c.t {
				o, v := x[i*12:][:6], x[i*12+6:][:6]
				if i%c.t < int(c.lens[i/c.t]) {
					require.Equal(t, v, o, "a node alone reads itself")
				} else {
					require.Equal(t, make([]float64, 6), o)
				}
			}
		}
	}
}

// Random actions follow the rules, also where hardly any pair is left, and reach every node.
func TestSACRandomActions(t *testing.T) {
	for _, r := range []SACRules{{Alpha: 2}, {Alpha: 4, NoRepeat: true}, {PerNode: true, Alpha: 5, NoRepeat: true}, {PerNode: true, Alpha: 2, Causal: true}, {PerNode: true, Alpha: 1, Local: 3}} {
		f := sacScene{SACRules: r, lens: []int32{9, 5, 1}, t: 9}.build(tensor.Float64)
		out := r.RandomActions(f.b, f.in, 2)
		require.NoError(t, f.b.Err())
		p, err := engine.Compile(f.b.Graph(), Nodes{out}, engine.Options{Poison: true})
		require.NoError(t, err)
		met := map[int32]bool{}
		for step := range 20 {
			layers.InputValue(f.b.Step()).Int32s()[0] = int32(step)
			require.NoError(t, p.Run())
			all := engine.Ints(p.Value(out))
			for n := range 6 {
				own, nodes, pairs := all[n*r.Steps(9):][:r.Steps(9)], int(f.in.Lens.Value().(*tensor.Dense).Int32s()[n/2]), map[[2]int32]int{}
				r.eachStep(nodes, own, func(t2, source, _ int) {
					a := own[t2]
					if a < 0 {
						return
					}
					met[a] = true
					require.Less(t, int(a), nodes)
					if source >= 0 {
						require.NotEqual(t, int32(source), a)
						require.False(t, r.Causal && int(a) > source)
						pairs[[2]int32{min(a, int32(source)), max(a, int32(source))}]++
					}
				})
				for pair, k := range pairs {
					require.False(t, r.NoRepeat && k > 1, "%v", pair)
				}
				if r.NoRepeat && nodes == 5 {
					require.Len(t, pairs, 10, "all pairs")
				}
			}
		}
		require.GreaterOrEqual(t, len(met), 8)
	}
}

func TestSACEntryFaults(t *testing.T) {
	for _, c := range []struct{ json, want string }{
		{`{"type":"sac","alpha":-1}`, "alpha"},
		{`{"type":"sac","alpha":0}`, "alpha"},
		{`{"type":"sac","mode":"perNode","alpha":1.5}`, "whole number with mode perNode"},
		{`{"type":"sac","mode":"edges"}`, "give one of [pairs perNode]"},
		{`{"type":"sac","sharing":"all"}`, "sharing"},
		{`{"type":"sac","plan":"tree"}`, "plan"},
		{`{"type":"sac","causal_predictor":true}`, "is for mode perNode"},
		{`{"type":"sac","mode":"perNode","causal_predictor":true,"distance":"graph"}`, "nodes to come"},
		{`{"type":"sac","local_pointer":1}`, "local_pointer"},
		{`{"type":"sac","entropy_weight":-0.1}`, "entropy_weight"},
		{`{"type":"sac","predictor_size":-1,"max_distance_bin":-2}`, "predictor_size"},
	} {
		var e Entry
		require.ErrorContains(t, json.Unmarshal([]byte(c.json), &e), c.want, c.json)
	}
	for _, entry := range []string{`{"type":"sac","predictor_size":3,"distance":"graph"}`, `{"type":"sac","predictor_size":3,"plan":"graph"}`} {
		s, err := mixerOf(t, entry, false, 0, 5, []int32{5})
		require.Nil(t, s.out)
		require.ErrorContains(t, err, "the data have no graph")
	}
}

// The products of attention and predictor grow as they should: the predictor with the square of the nodes, with local_pointer as they do.
func TestSACCost(t *testing.T) {
	flops := func(rules SACRules, n int) (predictor, pairs float64) {
		f := sacScene{SACRules: rules, lens: []int32{int32(n)}, t: n}.build(tensor.Float32)
		actions := f.sac.Rollout(f.b, f.in, false)
		f.sac.Replay(f.b, f.in, actions)
		o, _ := AttendEdges(f.b, Chosen{Heads: 1}, Links{Self: true, Symmetric: true}, rules.Edges(f.b, actions), f.x, f.x, f.x)
		require.NoError(t, f.b.Err())
		for _, node := range f.b.Graph().AllNodes() {
			op, ok := engine.OpOf(node).(engine.Coster)
			if !ok || node == o {
				continue
			}
			var in []engine.Type
			for _, c := range engine.Children(node) {
				in = append(in, engine.TypeOf(c))
			}
			if x := op.Flops(in, engine.TypeOf(node)); engine.OpOf(node).Name() == "attend_edges" || slices.Contains(engine.Children(node), f.x) && node.Dims() == 1 {
				pairs += x
			} else {
				predictor += x
			}
		}
		return predictor, pairs
	}
	exponent := func(rules SACRules) (predictor, pairs float64) {
		p1, a1 := flops(rules, 4096)
		p2, a2 := flops(rules, 16384)
		return math.Log2(p2/p1) / 2, math.Log2(a2/a1) / 2
	}
	p, a := exponent(SACRules{Alpha: 1, Distances: 3})
	require.InDelta(t, 2, p, 0.15)
	require.InDelta(t, 1, a, 0.15)
	p, a = exponent(SACRules{Alpha: 1, Distances: 3, Local: 16})
	require.InDelta(t, 1, p, 0.15)
	require.InDelta(t, 1, a, 0.15)
}
