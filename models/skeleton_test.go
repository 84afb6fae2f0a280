package models

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/config"
	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/layers"
)

// TestInitialValues: what writes to the stream starts smaller, by the square root of twice the layers, in either way.
func TestInitialValues(t *testing.T) {
	for _, kind := range []string{"normal", "xavier_uniform"} {
		m, err := New([]byte(fmt.Sprintf(`{"model_type":"decoder","vocab_size":50,"hidden_size":64,"num_hidden_layers":8,"num_attention_heads":4,"initializer":%q}`, kind)))
		require.NoError(t, err)
		params, err := NewParams(m, tensor.Float64, 1)
		require.NoError(t, err)
		square := func(name string) float64 {
			p, ok := params.Get(name)
			require.True(t, ok)
			sum := 0.0
			for _, x := range p.Value.Float64s() {
				sum += x * x
			}
			return sum / float64(p.Value.Shape().TotalSize())
		}
		require.InEpsilon(t, 0.0004, square("decoder.wte.weight"), 0.1)
		of := map[string]float64{"decoder.h.3.mlp.up.weight": 2.0 / 320, "decoder.h.3.mlp.down.weight": 2.0 / 320 / 16, "decoder.h.3.attn.out.weight": 2.0 / 128 / 16}
		for name, want := range of {
			if kind == "normal" {
				want = 0.0004
				if !strings.Contains(name, "up") {
					want /= 16
				}
			}
			require.InEpsilon(t, want, square(name), 0.1, "%s %s", kind, name)
		}
	}
}

// TestEncoderFaults: all at once, each with its path.
func TestEncoderFaults(t *testing.T) {
	const sizes = `"vocab_size":5,"hidden_size":8,"num_attention_heads":2,"num_hidden_layers":1`
	for _, c := range []struct {
		text  string
		paths []string
		says  string
	}{
		{`"task":"causal_lm",` + sizes, []string{"task"}, "masked_lm"},
		{`"task":"masked_ml","num_label":3,` + sizes, []string{"num_label", "task"}, "num_labels"},
		{`"task":"sequence_classification",` + sizes, []string{"num_labels"}, "1 to"},
		{`"task":"masked_lm","num_labels":2,` + sizes, []string{"num_labels"}, "no classes"},
		{`"task":"regression","num_labels":1,"pooling":"first",` + sizes, []string{"pooling"}, "cls, mean, last, max"},
		{`"lm_head_bias":true,` + sizes, []string{"lm_head_bias"}, "has a bias anyway"},
		{`"vector_size":3,` + sizes, []string{"vocab_size", "task"}, "vectors"},
		{`"norm":"post","residual":"reversible",` + sizes, []string{"residual"}, "computed back"},
		{`"norm":"after","initializer":"xavier",` + sizes, []string{"norm", "initializer"}, "xavier_uniform"},
		{`"attention":[{"type":"pattern","pattern":"external(2) + full"},{"type":"full"}],` + sizes, []string{"attention[1]"}, "want 2 nodes before the tokens"},
		{`"type_vocab_size":-1,"attention":[],` + sizes, []string{"attention", "type_vocab_size"}, "at least one entry"},
	} {
		_, err := New([]byte(`{"model_type":"encoder",` + c.text + `}`))
		require.ErrorContains(t, err, c.says, c.text)
		var paths []string
		for _, f := range config.Faults(err) {
			var fe *config.FieldError
			require.ErrorAs(t, f, &fe, c.text)
			paths = append(paths, fe.Path)
		}
		require.Equal(t, c.paths, paths, fmt.Sprint(c.text, err))
	}
	_, err := New([]byte(`{"model_type":"decoder","attention":[{"type":"pattern","pattern":"external(2) + full"}],` + sizes + `}`))
	require.ErrorContains(t, err, "cannot be causal")
}

// Levels of coarser rows: every token reaches every other, though each layer has blocks of two rows; padding changes nothing.
func TestEncoderOfLevels(t *testing.T) {
	for _, pool := range []string{"mean", "linear"} {
		m, err := New(fmt.Appendf(nil, `{"model_type":"encoder","task":"token_classification","num_labels":5,"vocab_size":31,"hidden_size":12,"num_hidden_layers":4,
			"num_attention_heads":2,"max_position_embeddings":41,"attention":[{"type":"hier_block","block_size":2,"pool":%q}]}`, pool))
		require.NoError(t, err)
		params, err := NewParams(m, tensor.Float64, 3)
		require.NoError(t, err)
		run := func(ids []int32, n int32) []float64 {
			b := layers.New(gorgonia.NewGraph(), params, layers.Options{})
			in := Inputs{IDs: b.Const("ids", tensor.New(tensor.WithShape(1, len(ids)), tensor.WithBacking(ids))),
				Lens: b.Const("lens", tensor.New(tensor.WithShape(1), tensor.WithBacking([]int32{n})))}
			out := m.Forward(b, in, 1)
			require.NoError(t, b.Err())
			p, err := engine.Compile(b.Graph(), layers.Nodes{out.Logits}, engine.Options{})
			require.NoError(t, err)
			require.NoError(t, p.Run())
			return append([]float64(nil), engine.Floats[float64](p.Value(out.Logits))...)
		}
		ids := []int32{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}
		before := run(ids, 11)
		for at := range ids {
			other := slices.Clone(ids)
			other[at] = 30
			after := run(other, 11)
			for i := range ids {
				require.NotEqual(t, before[i*5:][:5], after[i*5:][:5], "%s: token %d does not reach %d", pool, at, i)
			}
		}
		padded := run(append(slices.Clone(ids), 9, 9, 9), 11)
		for i, v := range before {
			require.InDelta(t, v, padded[i], 1e-12)
		}
	}
	_, err := New([]byte(`{"model_type":"encoder","vocab_size":31,"hidden_size":12,"num_hidden_layers":4,"num_attention_heads":2,"residual":"reversible",
		"attention":[{"type":"hier_block","block_size":2,"pool":"mean"},{"type":"full"}]}`))
	require.ErrorContains(t, err, "attention[1]")
	require.ErrorContains(t, err, "residual")
	_, err = New([]byte(`{"model_type":"decoder","vocab_size":31,"hidden_size":12,"num_hidden_layers":1,"num_attention_heads":2,"attention":[{"type":"hier_block","block_size":2,"pool":"mean"}]}`))
	require.ErrorContains(t, err, "attention[0].pool")
}

// Summaries of blocks carry what a token says to the other blocks, also where queries, keys and values are one map.
func TestEncoderOfCrossBlocks(t *testing.T) {
	m, err := New([]byte(`{"model_type":"decoder","vocab_size":31,"hidden_size":12,"num_hidden_layers":1,"num_attention_heads":2,"max_position_embeddings":41,
		"position_embedding_type":"learned","attention":[{"type":"cross_block","block_size":3}]}`))
	require.NoError(t, err)
	params, err := NewParams(m, tensor.Float64, 3)
	require.NoError(t, err)
	run := func(ids []int32) []float64 {
		b := layers.New(gorgonia.NewGraph(), params, layers.Options{})
		out := m.Forward(b, Inputs{IDs: b.Const("ids", tensor.New(tensor.WithShape(1, len(ids)), tensor.WithBacking(ids)))}, 0)
		require.NoError(t, b.Err())
		p, err := engine.Compile(b.Graph(), layers.Nodes{out.Logits}, engine.Options{})
		require.NoError(t, err)
		require.NoError(t, p.Run())
		return append([]float64(nil), engine.Floats[float64](p.Value(out.Logits))...)
	}
	ids := []int32{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}
	before := run(ids)
	for at := range ids {
		other := slices.Clone(ids)
		other[at] = 30
		after := run(other)
		for i := range ids {
			require.Equal(t, at <= i, fmt.Sprint(before[i*31:][:31]) != fmt.Sprint(after[i*31:][:31]), "token %d, position %d", at, i)
		}
	}
}
