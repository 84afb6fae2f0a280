package models

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

// routedGradients runs a decoder of routed and local heads forward and backward, with the loss of its clusters, and returns the gradients, what the
// clusters would learn, and the planned memory less the gradients.
func routedGradients(t *testing.T, depth int, how string, text string) (grads, parts [][]float64, held int) {
	t.Helper()
	m, err := New([]byte(fmt.Sprintf(`{"model_type":"decoder","vocab_size":31,"hidden_size":24,"intermediate_size":40,"num_hidden_layers":%d,"num_attention_heads":3,
		"max_position_embeddings":128,"position_embedding_type":"learned","residual":%q,"attention":[%s]}`, depth, map[bool]string{true: "reversible", false: "plain"}[how == "reversible" || how == "stored"], text)))
	require.NoError(t, err)
	s := m.(Causal).causal()
	s.init, s.last = layers.XavierUniform(), layers.XavierUniform()
	const batch, length = 2, 67
	params := layers.NewParams(tensor.Float64)
	b := layers.New(gorgonia.NewGraph(), params, layers.Options{Seed: 3, Training: true})
	in := Inputs{IDs: b.Input("input_ids", tensor.Int32, batch, length)}
	x := layers.Embedding(b.Scope("e"), in.IDs, s.Vocab, s.Hidden, layers.Normal(1))
	var y *Node
	r := &engine.Recompute{}
	switch how {
	case "stored":
		y = twoStreams(s, b, x, in)
	case "reversible":
		y = s.reversible(b, x, in, memory{}, 0)
	default:
		blocks := map[string]int{"none": 0, "cheap": 0, "block": 1, "every:2": 2}[how]
		r.Cheap = how == "cheap"
		if blocks > 0 {
			r.Block = b.BlockOf
		}
		y = x
		for l := 0; l < depth; {
			l = s.block(b, l, blocks, func(l int) { y = s.layer(b.Scope(fmt.Sprint(s.names.layer, l)), l, y, in, memory{}) })
		}
	}
	dy := b.Input("dy", tensor.Float64, batch, length, s.Hidden)
	require.NoError(t, b.Err())
	copy(layers.InputValue(in.IDs).Int32s(), tokens(batch*length, s.Vocab))
	for i := range layers.InputValue(dy).Float64s() {
		layers.InputValue(dy).Float64s()[i] = math.Sin(float64(i*i%1009) + 0.3)
	}
	layers.InputValue(b.LossWeight()).Float64s()[0] = 50
	for _, p := range params.All() {
		if p.State {
			for i := range p.Value.Float64s() {
				p.Value.Float64s()[i] += 0.3 + math.Sin(float64(i*7+len(p.Name)))
			}
		}
	}
	_, wrt := b.Weights()
	ds, err := engine.VJP(layers.Nodes{y}, layers.Nodes{dy}, wrt, r)
	require.NoError(t, err)
	outputs := ds
	var nodes layers.Nodes
	for _, u := range b.Updates() {
		for _, p := range u.Parts {
			nodes = append(nodes, p.Node)
		}
	}
	require.NotEmpty(t, nodes)
	outputs = append(outputs[:len(ds):len(ds)], nodes...)
	p, err := engine.Compile(b.Graph(), outputs, engine.Options{Scope: b.ScopeOf, CheckFinite: true, Poison: true})
	require.NoError(t, err)
	require.NoError(t, p.Run())
	for _, d := range ds {
		grads = append(grads, append([]float64(nil), engine.Floats[float64](p.Value(d))...))
		held += 8 * d.Shape().TotalSize()
	}
	for _, n := range nodes {
		parts = append(parts, append([]float64(nil), engine.Floats[float64](p.Value(n))...))
	}
	return grads, parts, p.Plan().Arena - held
}

const routedHeads = `{"type":"heads","parts":[{"heads":2,"attention":{"type":"routing","num_clusters":4,"window":13,"commitment":0.5}},{"heads":1,"attention":{"type":"band","window_left":9}}]}`

// What clusters learn is what the forward pass saw, once, and the gradients are those of the stored activations, their own loss included, in
// whatever way activations are computed again.
func TestRoutingComputedAgain(t *testing.T) {
	for _, pair := range [][2]string{{"stored", "reversible"}, {"none", "cheap"}, {"none", "block"}, {"none", "every:2"}} {
		for _, text := range []string{routedHeads, `{"type":"routing","num_clusters":3,"window":11,"shared_qk":false,"membership":"recent"}`, `{"type":"routing","num_clusters":3,"combine":"union"}`} {
			want, sums, _ := routedGradients(t, 3, pair[0], text)
			got, again, _ := routedGradients(t, 3, pair[1], text)
			require.Equal(t, sums, again, pair)
			for i := range want {
				scale := 0.0
				for _, v := range want[i] {
					scale = max(scale, math.Abs(v))
				}
				for k, v := range want[i] {
					require.InDelta(t, v, got[i][k], 1e-9*max(scale, 1), "%v, %s, weight %d", pair, text, i)
				}
			}
		}
	}
}

// The loss of the clusters does not make reversible layers keep their activations.
func TestRoutingMemoryWithDepth(t *testing.T) {
	_, _, shallow := routedGradients(t, 4, "reversible", routedHeads)
	_, _, deep := routedGradients(t, 16, "reversible", routedHeads)
	_, _, stored := routedGradients(t, 16, "stored", routedHeads)
	require.Less(t, float64(deep), 1.5*float64(shallow), "whole numbers alone are kept")
	require.Greater(t, stored, 3*deep)
}

// A target reads the clusters of a source that its queries are in: padding changes nothing. With recent nothing depends on later queries, so it is
// written as it was trained.
func TestRoutingOfASource(t *testing.T) {
	for _, membership := range []string{"topw", "recent"} {
		m, err := New([]byte(pairText("", `,"position_embedding_type":"learned","attention":[{"type":"routing","num_clusters":3,"window":5},{"type":"full"}]`,
			fmt.Sprintf(`,"cross_attention":[{"type":"routing","num_clusters":2,"window":6,"membership":%q},{"type":"full"}]`, membership))))
		require.NoError(t, err)
		params := scrambled(t, m)
		v := m.Dims().Vocab
		source, target := tokens(13, v), tokens(11, v)
		want := forwardPair(t, m, params, source, target)
		longer, more := append(slices.Clone(source), tokens(9, v)...), append(slices.Clone(target), tokens(5, v)...)
		g := newPairGraph(t, m, params, slices.Concat(longer, longer), slices.Concat(more, more), 2, []int32{13, 22}, []int32{11, 16})
		require.InDeltaSlice(t, want, g.values(t, g.out.Logits)[0][:11*v], 1e-11)
		if membership == "topw" {
			continue
		}
		d, r, why, err := newSeq2SeqDecoding[float64](m.(Seq2Seq).halves(), params, 31)
		require.NoError(t, err)
		require.Contains(t, why, "more than a pattern")
		require.NoError(t, r.read(source))
		for i, id := range target {
			got, err := d.step([]int32{id})
			require.NoError(t, err)
			require.InDeltaSlice(t, want[i*v:][:v], got, 1e-10, "token %d", i)
		}
	}
}
