package attention

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/layers"
)

func TestRoutingEntry(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{`{"type":"routing"}`, "num_clusters: missing"},
		{`{"type":"routing","num_clusters":0}`, "num_clusters is 0: give a whole number from 1 on"},
		{`{"type":"routing","num_clusters":-2,"window":-1}`, "num_clusters is -2: negative"},
		{`{"type":"routing","num_clusters":-2,"window":-1}`, "window is -1: negative"},
		{`{"type":"routing","num_clusters":4,"window":2.5}`, "window"},
		{`{"type":"routing","num_clusters":4,"membership":"top"}`, `membership is "top": give one of topw, recent, random`},
		{`{"type":"routing","num_clusters":4,"combine":"sum"}`, `combine is "sum": give one of mean, union`},
		{`{"type":"routing","num_clusters":4,"self":"never"}`, `self is "never": give one of lastResort, allow`},
		{`{"type":"routing","num_clusters":4,"decay":1.01}`, "decay is 1.01: give a number from 0 to 1"},
		{`{"type":"routing","num_clusters":4,"commitment":-1}`, "commitment is -1: give a number from 0 on"},
		{`{"type":"routing","num_clusters":4,"reseed_after":-1}`, "reseed_after is -1: negative"},
		{`{"type":"routing","num_clusters":4,"membership":"recent","combine":"mean"}`, "combine is \"mean\": leave it out"},
		{`{"type":"routing","num_clusters":4,"windows":8}`, "window"},
		{`{"type":"heads","parts":[{"heads":1,"attention":{"type":"routing","num_clusters":0}}]}`, "parts[0].attention.num_clusters is 0"},
	} {
		var e Entry
		require.ErrorContains(t, json.Unmarshal([]byte(c.text), &e), c.want, c.text)
	}
	of := func(text string, at Layer) Mixer {
		var e Entry
		require.NoError(t, json.Unmarshal([]byte(text), &e))
		m, err := e.Mixer(at)
		require.NoError(t, err)
		return m
	}
	simple := `{"type":"routing","num_clusters":4}`
	require.Equal(t, Routing{Clusters: 4, Membership: TopW, SharedQK: true, Causal: true, Decay: 0.999, Commitment: 1e-4, Reseed: 100}, of(simple, Layer{Heads: 2, Decoder: true}))
	require.Equal(t, Routing{Clusters: 4, Membership: TopW, Self: SelfAllowed, Decay: 0.999, Commitment: 1e-4, Reseed: 100}, of(simple, Layer{Heads: 2}))
	all := `{"type":"routing","num_clusters":4,"window":9,"membership":"topw","combine":"union","shared_qk":false,"self":"lastResort","decay":0.9,"commitment":0,"reseed_after":0}`
	require.Equal(t, Routing{Clusters: 4, Window: 9, Membership: TopW, Union: true, Decay: 0.9, Causal: true}, of(all, Layer{Heads: 2, Decoder: true}))

	recent := strings.Replace(simple, "}", `,"membership":"recent"}`, 1)
	require.Equal(t, 11, of(recent, Layer{Heads: 2, Decoder: true, Positions: 41}).(Routing).Window, "what is read must not depend on the length of a text")
	require.Equal(t, "C0", of(recent, Layer{Heads: 2, Decoder: true}).(Routing).Class(), "where it does")
	require.Zero(t, of(recent, Layer{Heads: 2, Positions: 41}).(Routing).Window)

	groups := `{"type":"heads","parts":[{"heads":1,"attention":{"type":"routing","num_clusters":3,"window":5,"membership":"recent"}},{"heads":2,"attention":{"type":"band","window_left":3}}]}`
	m := of(groups, Layer{Heads: 3, Decoder: true})
	require.Len(t, m, 2)
	require.True(t, MapsItself(m))
	require.Equal(t, "C1", m.(HeadGroups).Class())
	require.Equal(t, "C0", of(strings.Replace(groups, `{"type":"band","window_left":3}`, simple, 1), Layer{Heads: 3, Decoder: true}).(HeadGroups).Class())
	var e Entry
	require.NoError(t, json.Unmarshal([]byte(groups), &e))
	_, err := e.Mixer(Layer{Heads: 4, Decoder: true})
	require.ErrorContains(t, err, "the parts have 3 heads together, the layer has 4")
}

// With topw no later value reaches an earlier result while the choice is held, which is what gradients do, but a later token does change which
// earlier ones are read; with recent nothing that comes later changes anything.
func TestRoutingClasses(t *testing.T) {
	const tokens, d = 23, 3
	for _, c := range []struct {
		Membership
		shared, leaks bool
	}{{TopW, true, true}, {TopW, false, true}, {Recent, true, false}, {Recent, false, false}} {
		a := Routing{Clusters: 3, Window: 5, Membership: c.Membership, SharedQK: c.shared, Causal: true}
		require.Equal(t, map[bool]string{true: "C0", false: "C1"}[c.leaks], a.Class())
		params := layers.NewParams(tensor.Float64)
		clustersOf(t, params, 2, 3, d, "centroids")
		s := newRouting(t, a, false, 2, tokens, d, []int32{tokens}, params)
		const at = 11
		row := layers.Slice(s.b, s.out, 1, at, at+1)
		ds, err := engine.VJP(Nodes{row}, Nodes{engine.Fill(s.b.Graph(), engine.TypeOf(row), 1)}, Nodes{s.q, s.k, s.v}, nil)
		require.NoError(t, err)
		s.compile(t, ds...)
		before := slices.Clone(s.run(t))
		for i, g := range ds {
			require.Equal(t, make([]float64, (tokens-at-1)*2*d), numbers(s.program.Value(g))[(at+1)*2*d:], "input %d", i)
		}
		changed := 0
		for j := range tokens {
			for _, n := range []*Node{s.q, s.k, s.v} {
				x := layers.InputValue(n).Float64s()
				for k := range 2 * d {
					x[j*2*d+k] += 3 * noise("perturbation", j*2*d+k)
				}
			}
			after := s.run(t)
			for i := range j {
				if !slices.Equal(before[i*2*d:][:2*d], after[i*2*d:][:2*d]) {
					changed++
				}
			}
			before = slices.Clone(after)
		}
		require.Equal(t, c.leaks, changed > 0, "%s changed %d earlier rows", c.Membership, changed)
	}
}
