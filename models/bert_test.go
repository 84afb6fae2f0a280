package models

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/checkpoints"
	"github.com/euryale-ml/euryale/layers"
)

const smallBert = `"model_type":"bert","vocab_size":37,"hidden_size":24,"num_hidden_layers":2,"num_attention_heads":3,"intermediate_size":28,
	"max_position_embeddings":41,"hidden_dropout_prob":0,"attention_probs_dropout_prob":0`

// TestBertHeads: architectures, or our key task, choose the head and its weights, and the config says so to transformers.
func TestBertHeads(t *testing.T) {
	const n = 7
	for _, c := range []struct {
		keys, task, class string
		shape             tensor.Shape
		weight            string
	}{
		{`"architectures":["BertForMaskedLM"]`, "masked_lm", "BertForMaskedLM", tensor.Shape{1, n, 37}, "cls.predictions.bias"},
		{`"pad_token_id":0`, "masked_lm", "", tensor.Shape{1, n, 37}, "cls.predictions.transform.LayerNorm.weight"},
		{`"architectures":["BertForSequenceClassification"],"id2label":{"0":"a","1":"b","2":"c"}`, "sequence_classification",
			"BertForSequenceClassification", tensor.Shape{1, 3}, "bert.pooler.dense.weight"},
		{`"architectures":["BertForMaskedLM"],"task":"token_classification","num_labels":4`, "token_classification",
			"BertForTokenClassification", tensor.Shape{1, n, 4}, "classifier.weight"},
		{`"architectures":["BertForQuestionAnswering"]`, "question_answering", "BertForQuestionAnswering", tensor.Shape{1, n, 2}, "qa_outputs.bias"},
		{`"architectures":["BertForSequenceClassification"],"problem_type":"regression","num_labels":1`, "regression",
			"BertForSequenceClassification", tensor.Shape{1, 1}, "classifier.weight"},
		{`"architectures":["BertModel"]`, "", "BertModel", nil, "bert.pooler.dense.bias"},
	} {
		m, err := New([]byte(`{` + smallBert + `,` + c.keys + `}`))
		require.NoError(t, err, c.keys)
		require.Equal(t, c.task, m.Task())
		text, err := m.Config()
		require.NoError(t, err)
		require.Contains(t, string(text), c.class)
		params, err := NewParams(m, tensor.Float64, 1)
		require.NoError(t, err)
		_, ok := params.Get(c.weight)
		require.True(t, ok, c.weight)
		if c.shape == nil {
			continue
		}
		_, shape := outputsAt(t, m, params, 1, n, func(b *layers.Builder, in *Inputs) { in.IDs = intsOf(b, "ids", tokens(n, 37), 1, n) })
		require.Equal(t, c.shape, shape, c.keys)
		again, err := New(text)
		require.NoError(t, err)
		require.Equal(t, m.Task(), again.Task())
		require.Equal(t, m.Dims(), again.Dims())
	}
	for keys, says := range map[string]string{
		`"architectures":["BertForNextSentencePrediction"]`: "BertForMaskedLM",
		`"is_decoder":true`:                        "is_decoder",
		`"position_embedding_type":"relative_key"`: "position_embedding_type",
		`"task":"causal_lm"`:                       "masked_lm",
		`"pad_token_id":37`:                        "a token of the vocabulary",
	} {
		_, err := New([]byte(`{` + smallBert + `,` + keys + `}`))
		require.ErrorContains(t, err, says)
	}
}

// TestBertOldNames: files of old versions and of base models hold the same weights under other names.
func TestBertOldNames(t *testing.T) {
	m, err := New([]byte(`{` + smallBert + `}`))
	require.NoError(t, err)
	params, err := NewParams(m, tensor.Float32, 7)
	require.NoError(t, err)
	all := tensorsOf(params)
	for name := range tensorsOf(params) {
		old := strings.TrimPrefix(name, "bert.")
		old = strings.ReplaceAll(strings.ReplaceAll(old, "LayerNorm.weight", "LayerNorm.gamma"), "LayerNorm.bias", "LayerNorm.beta")
		rename(all, name, old)
	}
	rename(all, "cls.predictions.bias", "cls.predictions.decoder.bias")
	for name, x := range map[string]checkpoints.Tensor{"cls.predictions.decoder.weight": all["embeddings.word_embeddings.weight"],
		"embeddings.position_ids": {Shape: []int{1, 3}, Data: []int64{0, 1, 2}}} {
		x.Name = name
		all[name] = x
	}
	file := opened(t, all)
	got, err := Weights(m, file, tensor.Float32)
	require.NoError(t, err)
	for _, p := range params.All() {
		q, ok := got.Get(p.Name)
		require.True(t, ok)
		require.Equal(t, p.Value.Float32s(), q.Value.Float32s(), p.Name)
	}
}
