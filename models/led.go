package models

import (
	"slices"

	"github.com/euryale-ml/euryale/internal/config"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/layers/attention"
)

// LEDConfig is the part of Hugging Face's LEDConfig that changes the computation. Other keys are kept and written back.
type LEDConfig struct {
	BartConfig
	MaxEncoderPositionEmbeddings int     `json:"max_encoder_position_embeddings"`
	MaxDecoderPositionEmbeddings int     `json:"max_decoder_position_embeddings"`
	AttentionWindow              windows `json:"attention_window"` // of the encoder; see LongformerConfig
}

// LED is the Longformer encoder-decoder: BART with Longformer's attention in the encoder. The decoder is dense, and so is what it reads
// of the encoder. Inputs.Globals are the global tokens of the source; nil: none.
//
// Source: Beltagy, Peters, Cohan 2020, arXiv 2004.05150, section 7; names and details from transformers' LEDForConditionalGeneration.
// Differs: any length, not only multiples of the windows; no dropout of attention probabilities and of whole layers.
type LED struct {
	cfg  LEDConfig
	rest extra
	seq2seq
}

var _ Seq2Seq = (*LED)(nil)

func newLED(raw []byte) (Model, error) {
	c := LEDConfig{BartConfig: BartConfig{ModelType: "led", VocabSize: 50265, DModel: 1024, EncoderLayers: 12, EncoderFFNDim: 4096, EncoderAttentionHeads: 16,
		DecoderLayers: 12, DecoderFFNDim: 4096, DecoderAttentionHeads: 16, ActivationFunction: "gelu", Dropout: 0.1, InitStd: 0.02,
		DecoderStartTokenID: 2, PadTokenID: 1, EosTokenID: tokenIDs{2}, TieWordEmbeddings: true},
		MaxEncoderPositionEmbeddings: 16384, MaxDecoderPositionEmbeddings: 1024, AttentionWindow: windows{512}}
	rest, read := decodeHF(raw, &c)
	if config.IsSyntax(read) {
		return nil, read
	}
	var p problems
	var architectures []string
	p.key(rest, "architectures", &architectures)
	if len(architectures) > 0 {
		p.oneOf("architectures", architectures[0], "LEDForConditionalGeneration")
	}
	m := &LED{rest: rest}
	m.encoder, m.decoder = c.halves(&p, "led.", "max_encoder_position_embeddings", c.MaxEncoderPositionEmbeddings,
		"max_decoder_position_embeddings", c.MaxDecoderPositionEmbeddings)
	m.encoder.mixers = c.AttentionWindow.mixers(&p, c.EncoderLayers, "encoder_layers", nil)
	m.special = p.special(c.VocabSize, c.DecoderStartTokenID, c.PadTokenID, c.EosTokenID)
	if err := config.Merge(read, p.err()); err != nil {
		return nil, err
	}
	m.cfg = c
	m.headBias = "final_logits_bias"

	n := &m.encoder.names
	n.attn, n.out = "self_attn.longformer_self_attn", "self_attn.output"
	n.q, n.k, n.v = n.attn+".query", n.attn+".key", n.attn+".value"
	for _, s := range []*stack{&m.encoder, &m.decoder} {
		s.post, s.embedNorm = true, "before"
	}
	m.decoder.mixers = plain(slices.Repeat([]attention.Pattern{attention.Causal(attention.Full{})}, c.DecoderLayers))
	m.decoder.cross = slices.Repeat([]attention.Pattern{attention.Full{}}, c.DecoderLayers)
	return m, nil
}

// Type is "led".
func (m *LED) Type() string { return "led" }

// Task is "seq2seq_lm".
func (m *LED) Task() string { return "seq2seq_lm" }

// BasePrefix is what stands before the names of a base model's weights when it has a head.
func (m *LED) BasePrefix() string { return "led." }

func (m *LED) local(name string) string { return m.cfg.local(m.BasePrefix(), name) }

// Config is the resolved config.json, with the keys that were there before.
func (m *LED) Config() ([]byte, error) { return marshalConfig(m.cfg, m.rest) }

// Warnings tells of dropout that is not done.
func (m *LED) Warnings() []string { return append(m.cfg.warnings(), misspelled(&m.cfg, m.rest)...) }

// Forward adds the network to the graph.
func (m *LED) Forward(b *layers.Builder, in Inputs, layersPerBlock int) Outputs {
	return m.forward(b, in, layersPerBlock)
}
