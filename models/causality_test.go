package models

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestCausality: what is chosen by content, by all tokens of a sequence at once, is C0; patterns, and choices that look back alone, are C1; and what reads both
// ways has no class.
func TestCausality(t *testing.T) {
	for text, want := range map[string]string{
		`{"model_type":"decoder",%s,"attention":[{"type":"band","window_left":3}]}`:                                                                                                           "C1",
		`{"model_type":"decoder",%s,"attention":[{"type":"full"},{"type":"lsh","chunk":4,"num_hashes":2}]}`:                                                                                   "C0",
		`{"model_type":"decoder",%s,"attention":[{"type":"lsh","chunk":4,"num_hashes":2,"plan":"bucketRecent"}]}`:                                                                             "C1",
		`{"model_type":"decoder",%s,"attention":[{"type":"routing","num_clusters":2,"window":4}]}`:                                                                                            "C0",
		`{"model_type":"decoder",%s,"attention":[{"type":"heads","parts":[{"heads":1,"attention":{"type":"full"}},{"heads":1,"attention":{"type":"routing","num_clusters":2,"window":4}}]}]}`: "C0",
		`{"model_type":"encoder","task":"masked_lm",%s,"attention":[{"type":"lsh","chunk":4,"num_hashes":2}]}`:                                                                                "",
	} {
		m, err := New([]byte(fmt.Sprintf(text, `"vocab_size":19,"hidden_size":12,"num_hidden_layers":2,"num_attention_heads":2,"max_position_embeddings":29`)))
		require.NoError(t, err, text)
		require.Equal(t, want, Causality(m), text)
	}
	m, err := New([]byte(reversibles["encoder_decoder"]))
	require.NoError(t, err)
	require.Equal(t, "C1", Causality(m))
}
