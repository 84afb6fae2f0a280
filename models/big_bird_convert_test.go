package models

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/layers"
)

// A converted BERT gives the same numbers as long as blocks reach over the sequence; heads of another form begin anew.
func TestBertToBigBird(t *testing.T) {
	text := bertText(`,"architectures":["BertForMaskedLM"]`)
	dense, err := New([]byte(text))
	require.NoError(t, err)
	weights := denseWeights(t, dense)
	m, params, fresh, err := ToBigBird([]byte(text), weights, 20, 1, 97, tensor.Float64)
	require.NoError(t, err)
	require.Equal(t, []string{"bert.pooler.weight", "bert.pooler.bias"}, fresh) // which a masked language model is saved without
	require.Equal(t, 97, m.Dims().Positions)
	own := layers.NewParams(tensor.Float64)
	for name, v := range weights {
		require.NoError(t, own.Load(name, v))
	}
	ids, lens := tokens(40, 37), []int32{20, 13}
	want, got := build(t, dense, own, ids, 2, lens), build(t, m, params, ids, 2, lens)
	size := len(want) / 40
	for b, n := range lens {
		for i := range size * int(n) {
			require.InDelta(t, want[b*20*size+i], got[b*20*size+i], 1e-12)
		}
	}
	table, ok := params.Get("bert.embeddings.position_embeddings.weight")
	require.True(t, ok)
	old := weights["bert.embeddings.position_embeddings.weight"].Float64s()
	for r := range 97 {
		require.Equal(t, old[r%41*24:][:24], table.Value.Float64s()[r*24:][:24], "row %d", r)
	}

	classes := bertText(`,"architectures":["BertForSequenceClassification"],"num_labels":3`)
	dense, err = New([]byte(classes))
	require.NoError(t, err)
	_, _, fresh, err = ToBigBird([]byte(classes), denseWeights(t, dense), 8, 1, 0, tensor.Float32)
	require.NoError(t, err)
	require.Contains(t, fresh, "classifier.dense.weight")
	for _, name := range fresh {
		require.False(t, strings.HasPrefix(name, "bert.encoder"), name)
	}
	_, _, _, err = ToBigBird([]byte(`{"model_type":"gpt2"}`), nil, 8, 1, 0, tensor.Float32)
	require.ErrorContains(t, err, "cannot be made a big_bird; want bert or roberta")
}
