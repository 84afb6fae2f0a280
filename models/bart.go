package models

import (
	"fmt"
	"strings"

	"github.com/euryale-ml/euryale/internal/config"
	"github.com/euryale-ml/euryale/internal/kernels"
	"github.com/euryale-ml/euryale/layers"
)

// BartConfig are the keys that Hugging Face's descendants of BART share. Of each half they are the same.
type BartConfig struct {
	ModelType             string   `json:"model_type"`
	Task                  string   `json:"task,omitempty"` // ours: seq2seq_lm
	VocabSize             int      `json:"vocab_size"`
	DModel                int      `json:"d_model"`
	EncoderLayers         int      `json:"encoder_layers"`
	EncoderFFNDim         int      `json:"encoder_ffn_dim"`
	EncoderAttentionHeads int      `json:"encoder_attention_heads"`
	DecoderLayers         int      `json:"decoder_layers"`
	DecoderFFNDim         int      `json:"decoder_ffn_dim"`
	DecoderAttentionHeads int      `json:"decoder_attention_heads"`
	ActivationFunction    string   `json:"activation_function"`
	Dropout               float64  `json:"dropout"`
	AttentionDropout      float64  `json:"attention_dropout"`  // no effect, see Warnings
	ActivationDropout     float64  `json:"activation_dropout"` // within the feed-forward part
	EncoderLayerdrop      float64  `json:"encoder_layerdrop"`  // no effect, see Warnings
	DecoderLayerdrop      float64  `json:"decoder_layerdrop"`  // no effect, see Warnings
	InitStd               float64  `json:"init_std"`
	DecoderStartTokenID   int      `json:"decoder_start_token_id"`
	PadTokenID            int      `json:"pad_token_id"`
	EosTokenID            tokenIDs `json:"eos_token_id"`
	TieWordEmbeddings     bool     `json:"tie_word_embeddings"` // else both halves and the head have tables of their own
}

// bartHalf is what an encoder or a decoder has for itself.
type bartHalf struct {
	scope                        string // of its weights, "led.encoder"
	positionsKey                 string
	positions                    int
	layersKey, innerKey, headKey string
	layers, inner, heads         int
}

// halves checks the keys and makes both stacks without their attention. base is what stands before the names of the weights.
func (c *BartConfig) halves(p *problems, base string, encoderKey string, encoderPositions int, decoderKey string, decoderPositions int) (encoder, decoder stack) {
	p.size("vocab_size", c.VocabSize, maxSize)
	p.size("d_model", c.DModel, maxSize)
	act, err := kernels.ParseActivation(c.ActivationFunction)
	if err != nil {
		p.add(&config.FieldError{Path: "activation_function", Value: c.ActivationFunction, Want: err.Error()})
	}
	p.dropout("dropout", c.Dropout)
	p.dropout("activation_dropout", c.ActivationDropout)
	p.want(c.InitStd > 0, "init_std", c.InitStd, "more than 0")
	if c.Task != "" {
		p.oneOf("task", c.Task, "seq2seq_lm")
	}
	half := func(h bartHalf) stack {
		p.size(h.positionsKey, h.positions, maxSize)
		p.size(h.layersKey, h.layers, maxLayers)
		p.size(h.innerKey, h.inner, maxSize)
		p.want(h.heads >= 1 && c.DModel%max(h.heads, 1) == 0, h.headKey, h.heads, fmt.Sprintf("a divisor of d_model (%d)", c.DModel))
		tokens := base + "shared"
		if !c.TieWordEmbeddings {
			tokens = h.scope + ".embed_tokens"
		}
		return stack{
			Dims: Dims{Vocab: c.VocabSize, Hidden: c.DModel, Inner: h.inner, Layers: h.layers, Heads: h.heads, Positions: h.positions},
			names: names{tokens: tokens, positions: h.scope + ".embed_positions", embedNorm: h.scope + ".layernorm_embedding",
				layer: h.scope + ".layers.", norm1: "self_attn_layer_norm", attn: "self_attn", q: "self_attn.q_proj", k: "self_attn.k_proj",
				v: "self_attn.v_proj", out: "self_attn.out_proj",
				normCross: "encoder_attn_layer_norm", crossAttn: "encoder_attn", crossQ: "encoder_attn.q_proj", crossK: "encoder_attn.k_proj",
				crossV: "encoder_attn.v_proj", crossOut: "encoder_attn.out_proj", up: "fc1", down: "fc2", norm2: "final_layer_norm", head: "lm_head"},
			act: act, eps: 1e-5, init: layers.Normal(c.InitStd), untied: !c.TieWordEmbeddings, position: "learned", padding: c.PadTokenID + 1,
			embedDropout: c.Dropout, residDropout: c.Dropout, innerDropout: c.ActivationDropout,
		}
	}
	encoder = half(bartHalf{base + "encoder", encoderKey, encoderPositions, "encoder_layers", "encoder_ffn_dim", "encoder_attention_heads",
		c.EncoderLayers, c.EncoderFFNDim, c.EncoderAttentionHeads})
	decoder = half(bartHalf{base + "decoder", decoderKey, decoderPositions, "decoder_layers", "decoder_ffn_dim", "decoder_attention_heads",
		c.DecoderLayers, c.DecoderFFNDim, c.DecoderAttentionHeads})
	return encoder, decoder
}

// local is the name of a weight of a file: of the copies of a tied table that older files hold that of the table. Without ties the shared table is
// written, but nothing reads it.
func (c *BartConfig) local(base, name string) string {
	switch {
	case !c.TieWordEmbeddings && (name == base+"shared.weight" || name == "shared.weight"):
		return ""
	case c.TieWordEmbeddings && (strings.HasSuffix(name, "coder.embed_tokens.weight") || name == "lm_head.weight"):
		return base + "shared.weight"
	}
	return name
}

// warnings tell of what has no effect.
func (c *BartConfig) warnings() []string {
	all := attentionDropout("attention_dropout", c.AttentionDropout)
	for _, k := range []struct {
		key string
		v   float64
	}{{"encoder_layerdrop", c.EncoderLayerdrop}, {"decoder_layerdrop", c.DecoderLayerdrop}} {
		if k.v != 0 {
			all = append(all, fmt.Sprintf("%s is %g: layers are never left out in training; set it to 0 to silence this", k.key, k.v))
		}
	}
	return all
}
