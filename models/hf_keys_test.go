package models

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

// Keys of transformers' configs that must not be passed over in silence: second names, keys that are derived from others, and slips.
func TestKeysThatCount(t *testing.T) {
	m, err := New([]byte(`{"model_type":"gpt2","vocab_size":29,"hidden_size":12,"num_attention_heads":3,"num_hidden_layers":2,"max_position_embeddings":17}`))
	require.NoError(t, err)
	require.Equal(t, Dims{Vocab: 29, Hidden: 12, Inner: 48, Layers: 2, Heads: 3, Positions: 17}, m.Dims())
	text, err := m.Config()
	require.NoError(t, err)
	var keys map[string]json.RawMessage
	require.NoError(t, json.Unmarshal(text, &keys))
	require.NotContains(t, keys, "hidden_size")
	require.Equal(t, "12", string(keys["n_embd"]))

	const neo = `{"model_type":"gpt_neo","vocab_size":29,"hidden_size":12,"num_heads":3,"num_layers":2,"attention_types":[[["global","local"],1]]`
	const long = `{"model_type":"longt5","vocab_size":29,"d_model":12,"d_kv":4,"d_ff":7,"num_layers":1,"num_heads":2,"feed_forward_proj":"gated-gelu"`
	for text, want := range map[string]string{
		neo + `,"attention_layers":["global","local"]}`:                                        "",
		neo + `,"attention_layers":["local","global"]}`:                                        `attention_layers is ["local","global"]: want ["global","local"], as attention_types says`,
		neo + `,"num_hidden_layers":2}`:                                                        "",
		neo + `,"num_hidden_layers":3}`:                                                        "num_hidden_layers is 3: want what num_layers is (2), of which it is a second name: leave one out",
		long + `,"dense_act_fn":"gelu_new","is_gated_act":true,"scale_decoder_outputs":false}`: "",
		long + `,"dense_act_fn":"relu"}`:                                                       `dense_act_fn is "relu": want "gelu_new", as feed_forward_proj says`,
		long + `,"is_gated_act":false}`:                                                        "is_gated_act is false: want true",
		`{"model_type":"reformer","attn_layers":["lsh","local"],"num_hidden_layers":1}`:        "num_hidden_layers is 1: want 2, as attn_layers says",
	} {
		_, err := New([]byte(text))
		if want == "" {
			require.NoError(t, err, text)
		} else {
			require.ErrorContains(t, err, want, text)
		}
	}

	m, err = New([]byte(`{"model_type":"longformer","num_hidden_layer":2,"layer_norm_epsilon":1e-3,"attention_windows":8,"bos_token_id":0,"num_beams":3,"vocab_size":29,"my_notes":1,"attention_probs_dropout_prob":0}`))
	require.NoError(t, err)
	require.Equal(t, []string{"config.json: nothing reads attention_windows: did you mean attention_window?",
		"config.json: nothing reads layer_norm_epsilon: did you mean layer_norm_eps?", "config.json: nothing reads num_hidden_layer: did you mean num_hidden_layers?"}, m.Warnings())
}
