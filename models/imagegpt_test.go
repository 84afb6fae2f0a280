package models

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/config"
	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/layers"
)

const smallImageGPT = `{"model_type":"imagegpt","task":"%s","vocab_size":8,"n_positions":11,"n_embd":12,"n_layer":2,"n_head":3,"resid_pdrop":0,"embd_pdrop":0,"attn_pdrop":0,"scale_attn_by_inverse_layer_idx":true}`

// densityLogits runs a model for image_density, or one that reads the start token itself.
func densityLogits(t *testing.T, m Model, params *layers.Params, ids []int32, begun bool) []float32 {
	t.Helper()
	b := layers.New(gorgonia.NewGraph(), params, layers.Options{})
	in := b.Input("ids", tensor.Int32, 1, len(ids))
	out := m.Forward(b, Inputs{IDs: in, Begun: begun}, 0)
	require.NoError(t, b.Err())
	p, err := engine.Compile(b.Graph(), layers.Nodes{out.Logits}, engine.Options{})
	require.NoError(t, err)
	copy(layers.InputValue(in).Int32s(), ids)
	require.NoError(t, p.Run())
	return append([]float32(nil), engine.Floats[float32](p.Value(out.Logits))...)
}

// TestDecoderDensity: any skeleton of a decoder is a density of images, tied or not; sessions say the same as the graph.
func TestDecoderDensity(t *testing.T) {
	for _, more := range []string{`"tie_word_embeddings":true`, `"tie_word_embeddings":false,"lm_head_bias":true`, `"attention":[{"type":"cross_block","block_size":5}]`,
		`"attention":[{"type":"sparse_strided","stride":5}],"position_embedding_type":"factorized","position_shape":[3,5]`} {
		m, err := New([]byte(`{"model_type":"decoder","task":"image_density","vocab_size":7,"hidden_size":12,"num_hidden_layers":2,"num_attention_heads":3,"max_position_embeddings":15,` + more + `}`))
		require.NoError(t, err)
		require.Equal(t, 7, m.Dims().Vocab)
		params, err := NewParams(m, tensor.Float32, 5)
		require.NoError(t, err)
		ids := []int32{3, 0, 6, 2, 2, 5, 1, 0, 4, 6, 3, 1, 1, 0, 6}
		got := densityLogits(t, m, params, ids, false)
		require.Len(t, got, 15*7)
		start, ok := StartLevel(m.(Causal))
		require.True(t, ok)
		require.EqualValues(t, 7, start)
		s, err := NewSession(m.(Causal), params, 0)
		require.NoError(t, err)
		for i, id := range append([]int32{start}, ids[:14]...) {
			logits, err := s.Step(id)
			require.NoError(t, err)
			require.InDeltaSlice(t, got[7*i:7*i+7], logits, 1e-5)
		}
	}
	plain, err := New([]byte(Default))
	require.NoError(t, err)
	_, ok := StartLevel(plain.(Causal))
	require.False(t, ok)
}

// TestImageGPTDensity: a model for image_density is that of Hugging Face with the start token in front; a level changes the logits of all later
// ones and of no other; and token by token it says the same.
func TestImageGPTDensity(t *testing.T) {
	m, err := New(fmt.Appendf(nil, smallImageGPT, "image_density"))
	require.NoError(t, err)
	require.Equal(t, 7, m.Dims().Vocab)
	require.Equal(t, "image_density", m.Task())
	next, err := New(fmt.Appendf(nil, smallImageGPT, "causal_lm"))
	require.NoError(t, err)
	require.Equal(t, 8, next.Dims().Vocab)
	params, err := NewParams(m, tensor.Float32, 5)
	require.NoError(t, err)
	ids := []int32{3, 0, 6, 2, 2, 5, 1, 0, 4, 6, 3}
	got := densityLogits(t, m, params, ids, false)
	require.Len(t, got, 11*7)
	begun := append([]int32{7}, ids[:10]...)
	require.Equal(t, got, densityLogits(t, m, params, begun, true))
	require.Equal(t, got, densityLogits(t, next, params, begun, false))
	for place := range ids {
		other := append([]int32(nil), ids...)
		other[place] = (ids[place] + 1) % 7
		changed := densityLogits(t, m, params, other, false)
		require.Equal(t, got[:7*(place+1)], changed[:7*(place+1)], "level %d is not seen up to its own place", place)
		for later := place + 1; later < 11; later++ {
			require.NotEqual(t, got[7*later:7*later+7], changed[7*later:7*later+7])
		}
	}
	s, err := NewSession(m.(Causal), params, 0)
	require.NoError(t, err)
	require.Empty(t, s.Recomputes())
	slow := newAgain[float32](params, func(b *layers.Builder, ids, lens *Node) *Node {
		return m.Forward(b, Inputs{IDs: ids, Lens: lens, Begun: true}, 0).Logits
	}, 8, 11)
	for i, id := range begun {
		logits, err := s.Step(id)
		require.NoError(t, err)
		require.InDeltaSlice(t, got[7*i:7*i+7], logits, 1e-5)
		anew, err := slow.step([]int32{id})
		require.NoError(t, err)
		require.InDeltaSlice(t, got[7*i:7*i+7], anew, 1e-5)
	}
	text, err := m.Config()
	require.NoError(t, err)
	again, err := New(text)
	require.NoError(t, err)
	require.Equal(t, m.(*ImageGPT).cfg, again.(*ImageGPT).cfg)

	_, err = New([]byte(`{"model_type":"imagegpt","task":"masked_lm","vocab_size":2,"tie_word_embeddings":true,"n_head":7,"resid_pdrop":1}`))
	require.Len(t, config.Faults(err), 5)
}
