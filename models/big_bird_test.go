package models

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/checkpoints"
	"github.com/euryale-ml/euryale/internal/config"
	"github.com/euryale-ml/euryale/layers"
)

const smallBigBird = `"model_type":"big_bird","vocab_size":37,"hidden_size":24,"num_hidden_layers":2,"num_attention_heads":3,"intermediate_size":28,
	"max_position_embeddings":71,"hidden_dropout_prob":0,"attention_probs_dropout_prob":0,"block_size":3,"num_random_blocks":2,"sep_token_id":5`

// TestBigBirdParameters: as many as transformers has.
func TestBigBirdParameters(t *testing.T) {
	m, err := New([]byte(`{"model_type":"big_bird","architectures":["BigBirdModel"],"vocab_size":50,"hidden_size":16,"num_hidden_layers":2,
		"num_attention_heads":2,"intermediate_size":32,"max_position_embeddings":128}`))
	require.NoError(t, err)
	params, err := NewParams(m, tensor.Float32, 1)
	require.NoError(t, err)
	require.Equal(t, int64(7632), params.Count())
	require.Len(t, params.AllInts(), 0, "three draws of blocks of 64 have nothing to choose from in 128 tokens")
}

func TestBigBirdHeads(t *testing.T) {
	const n = 29
	for _, c := range []struct {
		keys, task string
		shape      tensor.Shape
		weight     string
	}{
		{`"architectures":["BigBirdForMaskedLM"]`, "masked_lm", tensor.Shape{1, n, 37}, "cls.predictions.bias"},
		{`"architectures":["BigBirdForSequenceClassification"],"num_labels":4`, "sequence_classification", tensor.Shape{1, 4}, "classifier.out_proj.bias"},
		{`"task":"token_classification","num_labels":3`, "token_classification", tensor.Shape{1, n, 3}, "classifier.weight"},
		{`"architectures":["BigBirdForQuestionAnswering"]`, "question_answering", tensor.Shape{1, n, 2}, "qa_classifier.output.LayerNorm.bias"},
		{`"task":"regression","num_labels":1`, "regression", tensor.Shape{1, 1}, "classifier.dense.weight"},
		{`"use_bias":false,"rescale_embeddings":true`, "masked_lm", tensor.Shape{1, n, 37}, "bert.pooler.weight"},
	} {
		m, err := New([]byte(`{` + smallBigBird + `,` + c.keys + `}`))
		require.NoError(t, err, c.keys)
		require.Equal(t, c.task, m.Task())
		params, err := NewParams(m, tensor.Float64, 1)
		require.NoError(t, err)
		_, ok := params.Get(c.weight)
		require.True(t, ok, c.weight)
		_, ok = params.Get("bert.encoder.layer.1.attention.self.query.bias")
		require.Equal(t, !strings.Contains(c.keys, "use_bias"), ok)
		_, shape := outputsAt(t, m, params, 1, n, func(b *layers.Builder, in *Inputs) { in.IDs = intsOf(b, "ids", tokens(n, 37), 1, n) })
		require.Equal(t, c.shape, shape, c.keys)
		text, err := m.Config()
		require.NoError(t, err)
		again, err := New(text)
		require.NoError(t, err)
		require.Equal(t, m.Dims(), again.Dims())
	}
	for keys, says := range map[string]string{
		`"attention_type":"sparse"`:                     "block_sparse",
		`"block_size":0`:                                "block_size is 0",
		`"num_random_blocks":-1`:                        "num_random_blocks is -1",
		`"architectures":["BigBirdForMultipleChoice"]`:  "BigBirdForMaskedLM",
		`"architectures":["BigBirdForCausalLM"]`:        "BigBirdForMaskedLM",
		`"is_decoder":true`:                             "is_decoder",
		`"attention_type":"original_full","use_bias":7`: "use_bias",
	} {
		text := smallBigBird
		for _, given := range []string{`,"block_size":3`, `,"num_random_blocks":2`} { // which may stand there once
			text = strings.Replace(text, given, "", 1)
		}
		_, err := New([]byte(`{` + text + `,` + keys + `}`))
		require.ErrorContains(t, err, says)
	}
	_, err := New([]byte(`{"model_type":"big_bird","block_size":0,"num_random_blocks":-1,"attention_type":"x"}`))
	require.Len(t, config.Faults(err), 3)
}

// TestBigBirdOfPreTraining: the released folders have a head of the next sentence besides, which is told and left out.
func TestBigBirdOfPreTraining(t *testing.T) {
	m, err := New([]byte(`{` + smallBigBird + `,"architectures":["BigBirdForPreTraining"]}`))
	require.NoError(t, err)
	require.Equal(t, "masked_lm", m.Task())
	require.Len(t, m.Warnings(), 1)
	require.Contains(t, m.Warnings()[0], "cls.seq_relationship")
	text, err := m.Config()
	require.NoError(t, err)
	require.Contains(t, string(text), "BigBirdForMaskedLM")

	params, err := NewParams(m, tensor.Float32, 1)
	require.NoError(t, err)
	all := tensorsOf(params)
	for _, name := range []string{"cls.seq_relationship.weight", "cls.seq_relationship.bias", "cls.predictions.decoder.bias"} {
		all[name] = checkpoints.Tensor{Name: name, Shape: []int{37}, Data: make([]float32, 37)}
	}
	delete(all, "cls.predictions.bias")
	_, err = Weights(m, opened(t, all), tensor.Float32)
	require.NoError(t, err)
}

// TestBigBirdAnswers: an answer is not in the question, and types follow from the first sep token where none are given.
func TestBigBirdAnswers(t *testing.T) {
	const n = 17
	m, params := load(t, `{`+smallBigBird+`,"architectures":["BigBirdForQuestionAnswering"]}`)
	ids, types := make([]int32, n), make([]int32, n)
	for i := range ids {
		ids[i] = int32(6 + i)
		if i > 4 {
			types[i] = 1
		}
	}
	ids[4], ids[9] = 5, 5
	run := func(given bool) []float64 {
		y, _ := outputsAt(t, m, params, 1, n, func(b *layers.Builder, in *Inputs) {
			in.IDs = intsOf(b, "ids", ids, 1, n)
			if given {
				in.Types = intsOf(b, "types", types, 1, n)
			}
		})
		return y
	}
	y := run(false)
	for i, x := range y {
		question := i/2 >= 1 && i/2 <= 4
		require.Equal(t, question, x < -1e5, "token %d: %g", i/2, x)
	}
	require.Equal(t, y, run(true))
	types[11] = 0
	require.NotEqual(t, y, run(true))
}

// TestBigBirdPadding: neither how much padding there is nor what stands in it changes anything, though the last block is global.
func TestBigBirdPadding(t *testing.T) {
	const n = 23
	for _, text := range []string{`{` + smallBigBird + `}`,
		`{"model_type":"encoder","vocab_size":37,"hidden_size":24,"num_hidden_layers":2,"num_attention_heads":3,"max_position_embeddings":71,
			"attention":[{"type":"big_bird","block_size":3,"num_random_blocks":2,"form":"etc","num_globals":2}]}`} {
		m, params := load(t, text)
		want := build(t, m, params, tokens(n, 37), 1, nil)
		for _, pad := range []int{0, 1, 17} {
			ids := append(tokens(n, 37), slices.Repeat([]int32{9}, pad)...)
			got := build(t, m, params, ids, 1, []int32{n})
			for i, x := range want {
				require.InDelta(t, x, got[i], 1e-9, "%s, %d more", m.Type(), pad)
			}
		}
	}
}

// TestPlanIsStored: the plan goes with the weights, what a file says counts, and a file of transformers, which has none, gets that of
// the seed.
func TestPlanIsStored(t *testing.T) {
	const n = 41
	for name, text := range map[string]string{
		"bert.encoder.layer.1.attention.self.random_blocks": `{` + smallBigBird + `}`,
		"encoder.h.1.attn.random_blocks": `{"model_type":"encoder","vocab_size":37,"hidden_size":24,"num_hidden_layers":2,"num_attention_heads":3,
			"max_position_embeddings":71,"attention":[{"type":"big_bird","block_size":3,"num_random_blocks":2,"form":"etc","num_globals":2}]}`,
	} {
		m, params := load(t, text)
		require.NotContains(t, tensorsOf(params), name, "what the seed draws needs no file until it is trained with")
		params.StoreInts()
		all := tensorsOf(params)
		table, ok := all[name].Data.([]int32)
		require.True(t, ok, "%v", slices.Sorted(maps.Keys(all)))
		require.Equal(t, []int{3, 24}, all[name].Shape[:2])
		read := func() []float64 {
			got, err := Weights(m, opened(t, all), tensor.Float64)
			require.NoError(t, err)
			return build(t, m, got, tokens(n, 37), 1, nil)
		}
		want := build(t, m, params, tokens(n, 37), 1, nil)
		require.Equal(t, want, read())

		other := slices.Clone(table)
		width := all[name].Shape[2]
		for r := range len(other) / width { // every list the other way round
			row := other[r*width:][:width]
			if k := slices.Index(row, -1); k >= 0 {
				row = row[:k]
			}
			slices.Reverse(row)
		}
		x := all[name]
		x.Data = other
		all[name] = x
		require.NotEqual(t, want, read())

		delete(all, name)
		delete(all, strings.Replace(name, ".1.", ".0.", 1))
		require.Equal(t, want, read())
	}
}

// TestSessionFollowsThePlan: what is generated token by token reads the blocks that are stored.
func TestSessionFollowsThePlan(t *testing.T) {
	const n, name = 37, "decoder.h.1.attn.random_blocks"
	m, params := load(t, `{"model_type":"decoder","vocab_size":37,"hidden_size":24,"num_hidden_layers":2,"num_attention_heads":3,
		"max_position_embeddings":41,"attention":[{"type":"big_bird","block_size":3,"num_random_blocks":1,"seed":4}]}`)
	ids := tokens(n, 37)
	first := build(t, m, params, ids, 1, nil)
	table, ok := params.Ints(name)
	require.True(t, ok)
	other := slices.Clone(table.Values)
	for r := range len(other) / table.Shape[2] {
		if block := r % table.Shape[1]; block > 2 { // block 1, and nothing else
			other[r*table.Shape[2]] = 1
		}
	}
	require.NoError(t, params.SetInts(name, table.Shape, other))
	want := build(t, m, params, ids, 1, nil)
	require.NotEqual(t, first, want)

	run, err := newRun[float64](m.(Causal).causal(), params, 41)
	require.NoError(t, err)
	for i, id := range ids {
		logits, err := run.step([]int32{id})
		require.NoError(t, err)
		for k, x := range logits {
			require.InDelta(t, want[i*37+k], x, 1e-9, "token %d", i)
		}
	}
}
