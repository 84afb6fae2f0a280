package models

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/layers"
)

// reversibleStep is the gradient of a reversible stack of a skeleton, of the stream behind its layers, computed back or (stored) with everything kept.
func reversibleStep(t *testing.T, skeleton, entry string, depth int, dtype tensor.Dtype, stored bool) ([]*layers.Param, layers.Nodes, *engine.Program) {
	t.Helper()
	const batch, length = 3, 29
	m, err := New([]byte(fmt.Sprintf(`{"model_type":%q,"vocab_size":31,"hidden_size":12,"intermediate_size":14,"num_hidden_layers":%d,"num_attention_heads":2,"residual":"reversible",
		"max_position_embeddings":64,"position_embedding_type":"learned","hidden_dropout_prob":0.1,"initializer_range":0.4,"attention":[%s]}`, skeleton, depth, entry)))
	require.NoError(t, err)
	s := m.(interface{ base() *stack }).base()
	b := layers.New(gorgonia.NewGraph(), layers.NewParams(dtype), layers.Options{Seed: 3, Training: true})
	in := Inputs{IDs: intsOf(b, "ids", tokens(batch*length, 31), batch, length), Lens: intsOf(b, "lens", []int32{length, 17, 5}, batch)}
	x := s.embed(b, in)
	in.readers = s.readers(b, x, in.Lens)
	x, in.Lens = s.prepend(b, x, in.Lens)
	in.first = b.Scope(fmt.Sprint(s.names.layer, 0))
	var y *Node
	if stored {
		y = twoStreams(s, b, x, in)
	} else {
		y = s.reversible(b, x, in, memory{}, 0)
	}
	require.NoError(t, b.Err(), entry)
	d, w := b.Input("dy", dtype, y.Shape()...), b.LossWeight()
	outs, ds := layers.Nodes{y}, layers.Nodes{d}
	if own := b.Terms(nil); own != nil {
		outs, ds = append(outs, own), append(ds, w)
	}
	if dtype == tensor.Float64 {
		layers.InputValue(w).Float64s()[0] = 3
		draw := layers.Normal(1)("dy", y.Shape(), 7)
		for i := range y.Shape().TotalSize() {
			layers.InputValue(d).Float64s()[i] = draw(i)
		}
	}
	ps, wrt := b.Weights()
	gs, err := engine.VJP(outs, ds, wrt, &engine.Recompute{Cheap: true})
	require.NoError(t, err, entry)
	p, err := engine.Compile(b.Graph(), gs, engine.Options{Scope: b.ScopeOf, Poison: true})
	require.NoError(t, err, entry)
	layers.InputValue(b.Step()).Int32s()[0] = 7
	return ps, gs, p
}

// TestReversibleEveryEntry: every attention in every skeleton has, computed back, the gradients of what keeps everything, by the choices that were made once, with
// dropout and padding; and what passes through a step does not grow with depth.
func TestReversibleEveryEntry(t *testing.T) {
	for _, list := range entries {
		for _, e := range list {
			for _, skeleton := range []string{"decoder", "encoder"} {
				if _, err := New([]byte(fmt.Sprintf(`{"model_type":%q,"vocab_size":31,"hidden_size":12,"num_hidden_layers":2,"num_attention_heads":2,"residual":"reversible","max_position_embeddings":64,
					"position_embedding_type":"learned","attention":[%s]}`, skeleton, e.json))); err != nil {
					require.True(t, skeleton == "decoder" && !e.decoder || slices.Contains([]string{`{"type":"hier_block","block_size":2,"pool":"mean"}`}, e.json), err)
					continue
				}
				var all [2][][]float64
				var names []*layers.Param
				for i, stored := range []bool{true, false} {
					ps, gs, p := reversibleStep(t, skeleton, e.json, 3, tensor.Float64, stored)
					require.NoError(t, p.Run(), e.json)
					for _, g := range gs {
						all[i] = append(all[i], slices.Clone(engine.Floats[float64](p.Value(g))))
					}
					names = ps
				}
				learnt := 0
				for i, want := range all[0] {
					if slices.ContainsFunc(want, func(v float64) bool { return v > 1e-3 }) {
						learnt++
					}
					require.InDeltaSlice(t, want, all[1][i], 1e-8, "%s %s: %s", skeleton, e.json, names[i].Name)
				}
				require.Greater(t, 2*learnt, len(names), "most weights have a gradient")
				_, _, few := reversibleStep(t, skeleton, e.json, 4, tensor.Float32, false)
				_, _, many := reversibleStep(t, skeleton, e.json, 12, tensor.Float32, false)
				require.LessOrEqual(t, float64(many.Plan().Passing), 1.05*float64(few.Plan().Passing), "%s %s", skeleton, e.json)
			}
		}
	}
}
