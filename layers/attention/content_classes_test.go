package attention

import (
	"encoding/json"
	"math"
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/layers"
)

// The table of classes, measured. C0: no earlier result has a gradient with respect to a later token, as the choice is held by it. C1: besides, no earlier result
// changes when a later token is moved by 3 N(0,1), chosen anew. Sinkhorn normalised over whole columns is neither, which is why no entry has it in a decoder.
func TestTableOfClasses(t *testing.T) {
	of := func(entry string) Mixer {
		var e Entry
		require.NoError(t, json.Unmarshal([]byte(entry), &e), entry)
		m, err := e.Mixer(Layer{Heads: 2, Decoder: true, Positions: 64})
		require.NoError(t, err)
		return m
	}
	leaking := func(normalizer layers.SinkhornNormalizer, combine string) Mixer {
		s := sorting(4, true)
		s.Normalizer = normalizer
		return Sinkhorn{Sorting: s, Combine: combine}
	}
	const tokens = 23
	for _, c := range []struct {
		name  string
		m     Mixer
		class string
	}{
		{"top-k", of(`{"type":"topk","k":4}`), "C1"},
		{"mips by a transform of each key", of(`{"type":"mips","k":4,"index":"srp","num_bits":2}`), "C1"},
		{"mips by the longest key", of(`{"type":"mips","k":3,"index":"signalsh","num_bits":3,"num_tables":1}`), "C0"},
		{"mips by cells", of(`{"type":"mips","k":4,"num_probes":1}`), "C0"},
		{"routing", of(`{"type":"routing","num_clusters":4,"window":4}`), "C0"},
		{"routing, apart", of(`{"type":"routing","num_clusters":4,"window":4,"shared_qk":false}`), "C0"},
		{"routing, union", of(`{"type":"routing","num_clusters":4,"window":4,"combine":"union"}`), "C0"},
		{"routing, recent", of(`{"type":"routing","num_clusters":4,"window":4,"membership":"recent"}`), "C1"},
		{"routing, recent, apart", of(`{"type":"routing","num_clusters":4,"membership":"recent","shared_qk":false}`), "C1"},
		{"lsh", of(`{"type":"lsh","chunk":3,"num_hashes":2}`), "C0"},
		{"lsh, recent", of(`{"type":"lsh","chunk":3,"num_hashes":2,"plan":"bucketRecent"}`), "C1"},
		{"sac", of(`{"type":"sac","predictor_size":4}`), "C0"},
		{"sac, causal", of(`{"type":"sac","predictor_size":4,"mode":"perNode","alpha":2,"causal_predictor":true}`), "C1"},
		{"sinkhorn, rows", leaking(layers.SinkhornRow, ""), "C1"},
		{"sinkhorn, prefixes", leaking(layers.SinkhornPrefix, CombineSumScore), "C1"},
		{"sinkhorn, whole columns", leaking(layers.SinkhornRowsColumns, ""), "none"},
	} {
		s, _ := edgeScene(t, c.m, tensor.Float64, tokens, []int32{tokens}, func(input string, i, c int) float64 { return 2 * noise(input, 6*i+c) })
		declares, ok := c.m.(interface{ Class() string })
		require.True(t, ok, c.name)
		if c.class != "none" {
			require.Equal(t, c.class, declares.Class(), c.name)
		}
		held := 0.0 // the largest gradient of an earlier row with respect to a later token
		for _, at := range []int{0, 5, 11, 17} {
			row := layers.Slice(s.b, s.out, 1, at, at+1)
			ds, err := engine.VJP(Nodes{row}, Nodes{engine.Fill(s.b.Graph(), engine.TypeOf(row), 1)}, s.in, nil)
			require.NoError(t, err)
			for _, d := range s.run(t, ds...) {
				for _, x := range d[(at+1)*6:] {
					held = max(held, math.Abs(x))
				}
			}
		}
		require.Equal(t, c.class != "none", held == 0, "%s: a gradient of %g", c.name, held)
		p, err := engine.Compile(s.b.Graph(), Nodes{s.out}, engine.Options{})
		require.NoError(t, err)
		run := func() []float64 {
			require.NoError(t, p.Run())
			return numbers(p.Value(s.out))
		}
		before, changed := run(), 0.0
		for j := range tokens {
			for _, n := range s.in {
				x := layers.InputValue(n).Float64s()
				for e := range 6 {
					x[j*6+e] += 3 * gauss(n.Name(), j*6+e)
				}
			}
			after := run()
			if j > 0 {
				changed = max(changed, largestDifference(before[:j*6], after[:j*6]))
			}
			before = after
		}
		if c.class == "C1" {
			require.Zero(t, changed, c.name)
		} else {
			require.Greater(t, changed, 1e-3, "%s is better than its class", c.name)
		}
	}
}
