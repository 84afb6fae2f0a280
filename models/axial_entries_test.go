package models

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestRowsAndColumnsInEverySkeleton: the entries of rows and columns do in encoders and decoders what every entry does, images that end early
// included; a decoder is written token by token as it was trained.
func TestRowsAndColumnsInEverySkeleton(t *testing.T) {
	for _, entries := range []string{`{"type":"axial_row","height":4,"width":6},{"type":"axial_column","height":4,"width":6}`, `{"type":"axial_column","height":8,"width":3}`} {
		for _, skeleton := range []string{"encoder", "decoder"} {
			m, params := mild(t, fmt.Sprintf(`{"model_type":%q,"vocab_size":31,"hidden_size":12,"intermediate_size":14,"num_hidden_layers":2,"num_attention_heads":2,
				"max_position_embeddings":24,"position_embedding_type":"learned","attention":[%s]}`, skeleton, entries))
			whole := padsAway(t, m, params)
			if skeleton == "decoder" {
				isCausal(t, m.(Causal), params, whole)
			}
		}
	}
	_, err := New([]byte(`{"model_type":"encoder","vocab_size":31,"hidden_size":12,"num_hidden_layers":1,"num_attention_heads":2,"attention":[{"type":"axial_row","height":0}]}`))
	require.ErrorContains(t, err, "attention[0].height is 0")
	require.ErrorContains(t, err, "attention[0].width")
}
