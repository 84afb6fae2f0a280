package models

import (
	"fmt"
	"math"

	"github.com/euryale-ml/euryale/internal/config"
	"github.com/euryale-ml/euryale/internal/kernels"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/layers/attention"
)

// DecoderConfig is the decoder skeleton: a pre-norm causal language model in which any attention stands in any layer.
// JSON keys are Hugging Face's words.
type DecoderConfig struct {
	ModelType             string            `json:"model_type"` // "decoder"
	Task                  string            `json:"task"`       // "causal_lm"
	VocabSize             int               `json:"vocab_size"`
	HiddenSize            int               `json:"hidden_size"`         // C; a multiple of num_attention_heads
	IntermediateSize      int               `json:"intermediate_size"`   // F; 0 = 4 C
	NumHiddenLayers       int               `json:"num_hidden_layers"`   // >= 1
	NumAttentionHeads     int               `json:"num_attention_heads"` // >= 1
	MaxPositionEmbeddings int               `json:"max_position_embeddings"`
	PositionEmbeddingType string            `json:"position_embedding_type"` // rotary, learned, sinusoidal, none
	RopeTheta             float64           `json:"rope_theta"`              // base of the rotary angles
	HiddenAct             string            `json:"hidden_act"`
	LayerNormEps          float64           `json:"layer_norm_eps"`
	HiddenDropoutProb     float64           `json:"hidden_dropout_prob"` // on the embeddings and on what each part adds to the stream
	TieWordEmbeddings     bool              `json:"tie_word_embeddings"`
	Residual              string            `json:"residual"`          // plain, reversible
	InitializerRange      float64           `json:"initializer_range"` // standard deviation of the initial matrices
	Attention             []attention.Entry `json:"attention"`         // an entry a layer; a shorter list repeats
}

// Decoder is the decoder skeleton.
type Decoder struct {
	cfg DecoderConfig
	stack
}

var _ Causal = (*Decoder)(nil)

func newDecoder(raw []byte) (Model, error) {
	c := DecoderConfig{
		Task: "causal_lm", PositionEmbeddingType: "rotary", RopeTheta: 10000, HiddenAct: "gelu", LayerNormEps: 1e-5,
		TieWordEmbeddings: true, Residual: "plain", InitializerRange: 0.02, MaxPositionEmbeddings: 16384,
		Attention: []attention.Entry{{}},
	}
	err := config.Decode(raw, &c)
	if config.IsSyntax(err) {
		return nil, err
	}
	m, check := NewDecoder(c)
	if err := config.Merge(err, check); err != nil {
		return nil, err
	}
	return m, nil
}

// NewDecoder builds the skeleton.
//
// Errors: every fault as *config.FieldError, joined.
func NewDecoder(c DecoderConfig) (*Decoder, error) {
	c.ModelType = "decoder"
	if c.IntermediateSize == 0 {
		c.IntermediateSize = 4 * min(max(c.HiddenSize, 1), maxSize/4) // of a wrong width hidden_size alone is the fault
	}
	var p problems
	p.oneOf("task", c.Task, "causal_lm")
	p.size("vocab_size", c.VocabSize, maxSize)
	p.size("hidden_size", c.HiddenSize, maxSize)
	p.size("intermediate_size", c.IntermediateSize, maxSize)
	p.size("num_hidden_layers", c.NumHiddenLayers, maxLayers)
	p.size("num_attention_heads", c.NumAttentionHeads, maxSize)
	p.size("max_position_embeddings", c.MaxPositionEmbeddings, maxSize)
	if c.HiddenSize >= 1 && c.NumAttentionHeads >= 1 {
		p.want(c.HiddenSize%c.NumAttentionHeads == 0, "num_attention_heads", c.NumAttentionHeads, fmt.Sprintf("a divisor of hidden_size (%d)", c.HiddenSize))
		p.want(c.PositionEmbeddingType != "rotary" || c.HiddenSize%c.NumAttentionHeads != 0 || c.HiddenSize/c.NumAttentionHeads%2 == 0,
			"position_embedding_type", c.PositionEmbeddingType, fmt.Sprintf("another one, or an even head size (hidden_size / num_attention_heads is %d)", c.HiddenSize/c.NumAttentionHeads))
	}
	p.oneOf("position_embedding_type", c.PositionEmbeddingType, "rotary", "learned", "sinusoidal", "none")
	p.want(c.RopeTheta > 0, "rope_theta", c.RopeTheta, "more than 0")
	act, err := kernels.ParseActivation(c.HiddenAct)
	if err != nil {
		p.add(&config.FieldError{Path: "hidden_act", Value: c.HiddenAct, Want: err.Error()})
	}
	p.want(c.LayerNormEps > 0, "layer_norm_eps", c.LayerNormEps, "more than 0")
	p.want(c.HiddenDropoutProb >= 0 && c.HiddenDropoutProb < 1, "hidden_dropout_prob", c.HiddenDropoutProb, "from 0 to less than 1")
	p.oneOf("residual", c.Residual, "plain", "reversible")
	p.want(c.InitializerRange > 0, "initializer_range", c.InitializerRange, "more than 0")
	patterns, err := causalPatterns(c.Attention, c.NumHiddenLayers, c.NumAttentionHeads)
	p.add(err)
	if err := p.err(); err != nil {
		return nil, err
	}
	return &Decoder{c, stack{
		Dims: Dims{Vocab: c.VocabSize, Hidden: c.HiddenSize, Inner: c.IntermediateSize, Layers: c.NumHiddenLayers,
			Heads: c.NumAttentionHeads, Positions: c.MaxPositionEmbeddings},
		names: names{tokens: "decoder.wte", positions: "decoder.wpe", layer: "decoder.h.", norm1: "ln_1", qkv: "attn.qkv", out: "attn.out",
			norm2: "ln_2", up: "mlp.up", down: "mlp.down", final: "decoder.ln_f", head: "lm_head"},
		act: act, eps: c.LayerNormEps, position: c.PositionEmbeddingType, ropeBase: c.RopeTheta,
		untied: !c.TieWordEmbeddings, reverse: c.Residual == "reversible",
		embedDropout: c.HiddenDropoutProb, residDropout: c.HiddenDropoutProb,
		init: layers.Normal(c.InitializerRange), last: layers.Normal(c.InitializerRange / math.Sqrt(2*float64(c.NumHiddenLayers))),
		patterns: patterns,
	}}, nil
}

// causalPatterns are the patterns of the layers of a decoder.
func causalPatterns(entries []attention.Entry, layers, heads int) ([]attention.Pattern, error) {
	if len(entries) == 0 {
		return nil, &config.FieldError{Path: "attention", Value: entries, Want: "want at least one entry"}
	}
	var p problems
	for i, e := range entries {
		if _, err := e.Pattern(heads, true); err != nil {
			p.add(config.Prefix(fmt.Sprintf("attention[%d]", i), err))
		}
	}
	if err := p.err(); err != nil {
		return nil, err
	}
	all := make([]attention.Pattern, min(max(layers, 0), maxLayers)) // of a wrong number a fault is noted already
	for l := range all {
		var err error
		if all[l], err = entries[l%len(entries)].In(attention.Layer{Index: l, Heads: heads, Decoder: true}); err != nil {
			return nil, config.Prefix(fmt.Sprintf("attention[%d]", l%len(entries)), err)
		}
	}
	return all, nil
}

// Type is "decoder".
func (m *Decoder) Type() string { return m.cfg.ModelType }

// Task is "causal_lm".
func (m *Decoder) Task() string { return m.cfg.Task }

// Dims are the sizes.
func (m *Decoder) Dims() Dims { return m.stack.Dims }

// Config is the resolved config.json.
func (m *Decoder) Config() ([]byte, error) { return marshalConfig(m.cfg, nil) }

// Warnings is empty: what the skeleton knows it does.
func (m *Decoder) Warnings() []string { return nil }

// Forward adds the network to the graph.
func (m *Decoder) Forward(b *layers.Builder, in Inputs, layersPerBlock int) Outputs {
	return m.forward(b, in, layersPerBlock)
}

func (m *Decoder) causal() *stack { return &m.stack }
