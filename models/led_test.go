package models

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/config"
)

const ledText = `{"model_type":"led","vocab_size":29,"d_model":12,"encoder_layers":2,"decoder_layers":1,"encoder_attention_heads":3,"decoder_attention_heads":2,
	"encoder_ffn_dim":20,"decoder_ffn_dim":16,"max_encoder_position_embeddings":41,"max_decoder_position_embeddings":23,"attention_window":[4,6],"dropout":0}`

// The names and shapes of transformers' LEDForConditionalGeneration; the rest of the config is written back.
func TestLED(t *testing.T) {
	text := strings.Replace(ledText, `"dropout":0`, `"dropout":0,"architectures":["LEDForConditionalGeneration"],"encoder_layerdrop":0.1,"attention_dropout":0.2,"num_beams":4`, 1)
	m, err := New([]byte(text))
	require.NoError(t, err)
	params, err := NewParams(m, tensor.Float32, 0)
	require.NoError(t, err)
	for name, shape := range map[string]tensor.Shape{
		"led.shared.weight":                  {29, 12},
		"led.encoder.embed_positions.weight": {41, 12}, "led.decoder.embed_positions.weight": {23, 12},
		"led.encoder.layers.1.self_attn.longformer_self_attn.query_global.weight": {12, 12}, "led.encoder.layers.1.self_attn.output.bias": {12},
		"led.encoder.layers.0.fc1.weight": {20, 12}, "led.decoder.layers.0.fc2.weight": {12, 16}, "led.decoder.layers.0.encoder_attn.k_proj.bias": {12},
		"led.decoder.layers.0.encoder_attn_layer_norm.weight": {12}, "led.encoder.layernorm_embedding.bias": {12}, "final_logits_bias": {1, 29},
	} {
		p, ok := params.Get(name)
		require.True(t, ok, name)
		require.Equal(t, shape, p.Value.Shape(), name)
	}
	require.EqualValues(t, 29*12+(41+23)*12+2*2*12+29+ // tables, norms of the embeddings, bias of the logits
		2*(7*(12*12+12)+2*20*12+20+12+4*12)+ // encoder
		8*(12*12+12)+2*16*12+16+12+6*12, params.Count()) // decoder
	out, err := m.Config()
	require.NoError(t, err)
	again, err := New(out)
	require.NoError(t, err)
	twice, err := again.Config()
	require.NoError(t, err)
	require.Equal(t, string(out), string(twice))
	require.Contains(t, string(out), `"num_beams": 4`)
	require.Len(t, m.Warnings(), 2)
	require.Equal(t, Special{Start: 2, Pad: 1, End: []int32{2}}, m.(Seq2Seq).Special())
}

// Files of older versions hold the tied table again, under other names.
func TestLEDCopiesOfTheTable(t *testing.T) {
	m, err := New([]byte(ledText))
	require.NoError(t, err)
	params := scrambled(t, m)
	all := tensorsOf(params)
	for _, name := range []string{"led.encoder.embed_tokens.weight", "led.decoder.embed_tokens.weight", "lm_head.weight"} {
		all[name] = Tensor(name, params.All()[0].Value)
	}
	got, err := Weights(m, opened(t, all), tensor.Float64)
	require.NoError(t, err)
	for k, p := range got.All() {
		require.Equal(t, params.All()[k].Value.Float64s(), p.Value.Float64s(), p.Name)
	}
}

func TestLEDFaults(t *testing.T) {
	replace := func(old, new string) string { return strings.Replace(ledText, old, new, 1) }
	for text, want := range map[string]string{
		replace(`[4,6]`, `[4,6,8]`):                                           "attention_window is [4,6,8]: want one number, or one for each of 2 layers (encoder_layers)",
		replace(`[4,6]`, `5`):                                                 "attention_window is 5: want an even number",
		replace(`"d_model":12`, `"d_model":14`):                               "encoder_attention_heads is 3: want a divisor of d_model (14)",
		replace(`"decoder_layers":1`, `"decoder_layers":0`):                   "decoder_layers is 0: want 1 to",
		replace(`"dropout":0`, `"dropout":1`):                                 "dropout is 1: want from 0 to less than 1",
		replace(`"dropout":0`, `"task":"causal_lm"`):                          `task is "causal_lm": want one of seq2seq_lm`,
		replace(`"dropout":0`, `"pad_token_id":29`):                           "pad_token_id is 29: want a token id, 0 to 28",
		replace(`"dropout":0`, `"activation_function":"x"`):                   "activation_function",
		replace(`"dropout":0`, `"architectures":["LEDForQuestionAnswering"]`): "LEDForConditionalGeneration",
	} {
		_, err := New([]byte(text))
		require.ErrorContains(t, err, want)
		require.Len(t, config.Faults(err), 1, text)
	}
}
