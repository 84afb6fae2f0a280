package models

import (
	"encoding/json"
	"errors"
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

const tinyReformer = `"model_type":"reformer","vocab_size":37,"hidden_size":12,"num_attention_heads":2,"attention_head_size":5,"feed_forward_size":14,
	"lsh_attn_chunk_length":4,"local_attn_chunk_length":6,"num_hashes":2,"max_position_embeddings":48,"axial_pos_shape":[6,8],"axial_pos_embds_dim":[5,7],
	"hidden_dropout_prob":0,"local_attention_probs_dropout_prob":0,"attn_layers":["local","lsh","lsh"]`

// reformerOf is the small model with other keys, such as `,"num_hashes":1`.
func reformerOf(more string) string {
	keys := map[string]json.RawMessage{}
	for _, part := range []string{tinyReformer, more} {
		if json.Unmarshal([]byte("{"+strings.TrimPrefix(part, ",")+"}"), &keys) != nil {
			panic(part)
		}
	}
	text, err := json.Marshal(keys)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// reformerRun gives logits of a batch and gradients of all weights for a fixed loss, in training mode or not.
func reformerRun(t *testing.T, m Model, params *layers.Params, ids, lens []int32, training bool) (logits []float64, shape tensor.Shape, grads map[string][]float64, arena int64) {
	t.Helper()
	b := layers.New(gorgonia.NewGraph(), params, layers.Options{Training: training, Seed: 3})
	n := len(ids) / len(lens)
	out := m.Forward(b, Inputs{IDs: intsOf(b, "ids", ids, len(lens), n), Lens: intsOf(b, "lens", lens, len(lens))}, 0)
	require.NoError(t, b.Err())
	nodes := layers.Nodes{out.Logits}
	var weights []*layers.Param
	if training {
		loss := layers.Sum(b, layers.Mul(b, out.Logits, out.Logits))
		var wrt layers.Nodes
		weights, wrt = b.Weights()
		gs, err := engine.VJP(layers.Nodes{loss}, layers.Nodes{engine.Fill(b.Graph(), engine.TypeOf(loss), 1)}, wrt, &engine.Recompute{Cheap: true, Block: b.BlockOf})
		require.NoError(t, err)
		nodes = append(nodes, gs...)
	}
	p, err := engine.Compile(b.Graph(), nodes, engine.Options{Scope: b.ScopeOf, CheckFinite: true, Poison: true})
	require.NoError(t, err)
	require.NoError(t, p.Run())
	grads = map[string][]float64{}
	for i, w := range weights {
		grads[w.Name] = slices.Clone(engine.Floats[float64](p.Value(nodes[i+1])))
	}
	return slices.Clone(engine.Floats[float64](p.Value(out.Logits))), out.Logits.Shape(), grads, int64(p.Plan().Arena)
}

// Each head has the weights and logits that transformers gives it; sequences of any length go, in training too.
func TestReformerHeads(t *testing.T) {
	for _, c := range []struct {
		more, task, weight string
		shape              tensor.Shape
	}{
		{`,"is_decoder":true`, "causal_lm", "lm_head.decoder.weight", tensor.Shape{2, 23, 37}},
		{`,"architectures":["ReformerModelWithLMHead"],"is_decoder":true`, "causal_lm", "lm_head.bias", tensor.Shape{2, 23, 37}},
		{``, "masked_lm", "lm_head.decoder.weight", tensor.Shape{2, 23, 37}},
		{`,"architectures":["ReformerForSequenceClassification"],"num_labels":3`, "sequence_classification", "classifier.out_proj.weight", tensor.Shape{2, 3}},
		{`,"task":"regression"`, "regression", "classifier.dense.weight", tensor.Shape{2, 1}},
		{`,"architectures":["ReformerForQuestionAnswering"]`, "question_answering", "qa_outputs.weight", tensor.Shape{2, 23, 2}},
	} {
		m, params := mild(t, reformerOf(c.more))
		require.Equal(t, c.task, m.Task())
		_, ok := params.Get(c.weight)
		require.True(t, ok, c.weight)
		_, causal := m.(Causal)
		require.Equal(t, c.task == "causal_lm", causal)
		ids := tokens(46, 37)
		logits, shape, _, _ := reformerRun(t, m, params, ids, []int32{23, 11}, false)
		require.Equal(t, c.shape, shape)
		trained, _, grads, _ := reformerRun(t, m, params, ids, []int32{23, 11}, true)
		require.InDeltaSlice(t, logits, trained, 1e-12)
		for name, g := range grads {
			require.NotEqual(t, make([]float64, len(g)), g, name)
		}
		text, err := m.Config()
		require.NoError(t, err)
		again, err := New(text)
		require.NoError(t, err, string(text))
		rewritten, err := again.Config()
		require.NoError(t, err)
		require.Equal(t, string(text), string(rewritten))
	}
}

// Gradients of the reversible streams, by finite differences. The choice by hashing is that of a place where small steps change nothing.
func TestReformerGradients(t *testing.T) {
	m, params := mild(t, reformerOf(`,"is_decoder":true`))
	ids, lens := tokens(34, 37), []int32{17, 9}
	_, _, grads, _ := reformerRun(t, m, params, ids, lens, true)
	loss := func() (sum float64) {
		y, _, _, _ := reformerRun(t, m, params, ids, lens, true)
		for _, v := range y {
			sum += v * v
		}
		return sum
	}
	const h = 1e-6
	for k, name := range []string{"reformer.embeddings.word_embeddings.weight", "reformer.embeddings.position_embeddings.weights.1",
		"reformer.encoder.layers.0.attention.self_attention.key.weight", "reformer.encoder.layers.1.attention.self_attention.query_key.weight",
		"reformer.encoder.layers.2.attention.output.dense.weight", "reformer.encoder.layers.1.feed_forward.dense.dense.bias", "reformer.encoder.layer_norm.weight"} {
		p, ok := params.Get(name)
		require.True(t, ok, name)
		x, i := p.Value.Float64s(), (13*k+5)%p.Value.DataSize()
		keep := x[i]
		x[i] = keep + h
		up := loss()
		x[i] = keep - h
		down := loss()
		x[i] = keep
		require.InDelta(t, (up-down)/(2*h), grads[name][i], 1e-5*(1+max(up, down)), name)
	}
}

// Groups of rows in the feed-forward part change memory, and not a bit of what comes out.
func TestReformerChunkedFeedForward(t *testing.T) {
	const long = `,"is_decoder":true,"max_position_embeddings":504,"axial_pos_shape":[18,28],"feed_forward_size":400,"chunk_size_feed_forward":%d`
	ids := tokens(504, 37)
	m, params := mild(t, reformerOf(fmt.Sprintf(long, 0)))
	want, _, grads, arena := reformerRun(t, m, params, ids, []int32{504}, true)
	grouped, err := New([]byte(reformerOf(fmt.Sprintf(long, 64))))
	require.NoError(t, err)
	got, _, again, smaller := reformerRun(t, grouped, params, ids, []int32{504}, true)
	require.Equal(t, want, got)
	for name, g := range grads {
		require.InDeltaSlice(t, g, again[name], 1e-9, name)
	}
	require.Less(t, smaller, arena)
}

// num_buckets null is that of max_position_embeddings, and is written down.
func TestReformerBuckets(t *testing.T) {
	for _, c := range []struct {
		positions, chunk int
		want             string
	}{{64, 8, "16"}, {4096, 64, "128"}, {16384, 64, "[16,32]"}, {8, 64, "2"}, {100, 8, "16"}} {
		m, err := New(fmt.Appendf(nil, `{"model_type":"reformer","is_decoder":true,"axial_pos_embds":false,"max_position_embeddings":%d,"lsh_attn_chunk_length":%d}`, c.positions, c.chunk))
		require.NoError(t, err)
		text, err := m.Config()
		require.NoError(t, err)
		var keys map[string]json.RawMessage
		require.NoError(t, json.Unmarshal(text, &keys))
		var got any
		require.NoError(t, json.Unmarshal(keys["num_buckets"], &got))
		compact, err := json.Marshal(got)
		require.NoError(t, err)
		require.Equal(t, c.want, string(compact), c)
	}
	m, err := New([]byte(reformerOf(`,"is_decoder":true`)))
	require.NoError(t, err)
	for n, want := range map[int]int{1: 1, 4: 4, 5: 12, 12: 12, 13: 24, 47: 48} {
		require.Equal(t, want, m.(ReformerLM).Padded(n), n)
	}
}

// Faults are told by field, all at once.
func TestReformerRefuses(t *testing.T) {
	for more, field := range map[string]string{
		`,"attn_layers":["lsh","full"]`:                            "attn_layers[1]",
		`,"attn_layers":[]`:                                        "attn_layers",
		`,"axial_pos_embds_dim":[5,6]`:                             "axial_pos_embds_dim",
		`,"axial_pos_shape":[6]`:                                   "axial_pos_shape",
		`,"num_buckets":7`:                                         "num_buckets",
		`,"num_buckets":[4,3]`:                                     "num_buckets",
		`,"num_hashes":0`:                                          "num_hashes",
		`,"lsh_attn_chunk_length":0`:                               "lsh_attn_chunk_length",
		`,"local_num_chunks_before":-1`:                            "local_num_chunks_before",
		`,"tie_word_embeddings":true`:                              "tie_word_embeddings",
		`,"task":"causal_lm"`:                                      "is_decoder",
		`,"task":"masked_lm","is_decoder":true`:                    "is_decoder",
		`,"task":"token_classification"`:                           "task",
		`,"architectures":["ReformerForTokens"]`:                   "architectures",
		`,"hidden_dropout_prob":1`:                                 "hidden_dropout_prob",
		`,"hidden_act":"sine","chunk_size_feed_forward":-2`:        "hidden_act",
		`,"layer_norm_eps":0,"pad_token_id":37,"hidden_size":"12"`: "pad_token_id",
	} {
		_, err := New([]byte(reformerOf(more)))
		require.Error(t, err, more)
		var found bool
		for _, f := range config.Faults(err) {
			var fault *config.FieldError
			found = found || errors.As(f, &fault) && fault.Path == field
		}
		require.True(t, found, "%s: %v", more, err)
	}
	m, params := mild(t, reformerOf(`,"is_decoder":true`))
	b := layers.New(gorgonia.NewGraph(), params, layers.Options{})
	m.Forward(b, Inputs{IDs: b.Input("ids", tensor.Int32, 1, 49)}, 0)
	var long *LengthError
	require.ErrorAs(t, b.Err(), &long)
	require.Len(t, m.Warnings(), 0)
	warned, err := New([]byte(reformerOf(`,"is_decoder":true,"hash_seed":3,"local_attention_probs_dropout_prob":0.1`)))
	require.NoError(t, err)
	require.Len(t, warned.Warnings(), 2)
}

// A language model is written by reading everything anew, and says so; with one round what is written is what was trained.
func TestReformerWrites(t *testing.T) {
	m, params := mild(t, reformerOf(`,"is_decoder":true,"num_hashes":1,"attn_layers":["local","local"]`))
	ids := tokens(20, 37)
	want, _, _, _ := reformerRun(t, m, params, ids, []int32{20}, false)
	d, why, err := newDecoding[float64](m.(Causal), params, 0)
	require.NoError(t, err)
	require.NotEmpty(t, why)
	for i, id := range ids {
		y, err := d.step([]int32{id})
		require.NoError(t, err)
		require.InDeltaSlice(t, want[i*37:][:37], y, 1e-9, "token %d", i)
	}
}
