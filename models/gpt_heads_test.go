package models

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/tensor"
)

// The heads of transformers' decoders beside that of the language model.
func TestHeadsOfDecoders(t *testing.T) {
	gpt := func(more string) string {
		return `{"model_type":"gpt2","vocab_size":29,"n_embd":10,"n_head":2,"n_layer":1,"n_positions":13` + more + `}`
	}
	neo := `{"model_type":"gpt_neo","vocab_size":29,"hidden_size":10,"num_heads":2,"num_layers":1,"attention_types":[[["local"],1]],"max_position_embeddings":13,"architectures":["GPTNeo%s"],"num_labels":3}`
	for text, want := range map[string]struct {
		task   string
		labels int
		weight string // of the head
	}{
		gpt(`,"architectures":["GPT2LMHeadModel"],"tie_word_embeddings":false`):                                                          {"causal_lm", 0, "lm_head.weight"},
		gpt(`,"architectures":["GPT2Model"]`):                                                                                            {"causal_lm", 0, ""},
		gpt(`,"architectures":["GPT2Model"],"tie_word_embeddings":false`):                                                                {"", 0, ""},
		gpt(`,"architectures":["GPT2ForSequenceClassification"],"num_labels":7,"pad_token_id":0`):                                        {"sequence_classification", 7, "score.weight"},
		gpt(`,"architectures":["GPT2ForSequenceClassification"],"id2label":{"0":"A"},"pad_token_id":null`):                               {"regression", 1, "score.weight"},
		gpt(`,"architectures":["GPT2ForSequenceClassification"],"problem_type":"multi_label_classification","num_labels":3`):             {"multi_label_classification", 3, "score.weight"},
		gpt(`,"architectures":["GPT2ForTokenClassification"]`):                                                                           {"token_classification", 2, "classifier.bias"},
		fmt.Sprintf(neo, "ForQuestionAnswering"):                                                                                         {"question_answering", 0, "qa_outputs.bias"},
		`{"model_type":"imagegpt","vocab_size":9,"n_embd":10,"n_head":2,"n_layer":1,"architectures":["ImageGPTModel"]}`:                  {"", 0, ""},
		`{"model_type":"imagegpt","vocab_size":9,"n_embd":10,"n_head":2,"n_layer":1,"architectures":["ImageGPTForImageClassification"]}`: {"sequence_classification", 2, "score.weight"},
	} {
		m, err := New([]byte(text))
		require.NoError(t, err, text)
		require.Equal(t, want.task, m.Task(), text)
		require.Equal(t, want.labels, m.Dims().Labels, text)
		p, err := NewParams(m, tensor.Float64, 1)
		require.NoError(t, err, text)
		heads := 0
		for _, q := range p.All() {
			if IsHead(m, q.Name) {
				heads++
			}
		}
		if want.weight == "" {
			require.Zero(t, heads, text)
		} else {
			_, has := p.Get(want.weight)
			require.True(t, has, text)
		}
	}
	_, err := New([]byte(gpt(`,"architectures":["GPT2DoubleHeadsModel"]`)))
	require.ErrorContains(t, err, `architectures is ["GPT2DoubleHeadsModel"]: want one of GPT2ForQuestionAnswering, GPT2ForSequenceClassification`)
}

// A class of a text is told by its last token that is not padding, wherever padding stands.
func TestLastTokenThatCounts(t *testing.T) {
	m, err := New([]byte(`{"model_type":"gpt2","vocab_size":29,"n_embd":10,"n_head":2,"n_layer":1,"n_positions":13,"architectures":["GPT2ForSequenceClassification"],"num_labels":3,"pad_token_id":5}`))
	require.NoError(t, err)
	p := scrambled(t, m)
	short := outputs(t, m, p, []int32{7, 8, 9, 3, 4, 2}, []int32{3, 3}, nil)
	require.InDeltaSlice(t, short, outputs(t, m, p, []int32{7, 8, 9, 5, 5, 3, 4, 2, 5, 5}, []int32{5, 5}, nil), 1e-12)
	other := outputs(t, m, p, []int32{7, 8, 9, 4, 5, 3, 4, 2, 5, 5}, []int32{5, 5}, nil)
	require.Greater(t, difference(short[:3], other[:3]), 1e-3)
	require.InDeltaSlice(t, short[3:], other[3:], 1e-12)
}
