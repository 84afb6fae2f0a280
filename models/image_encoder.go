package models

import (
	"slices"

	"github.com/euryale-ml/euryale/internal/config"
	"github.com/euryale-ml/euryale/internal/kernels"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/layers/attention"
)

// ImageEncoderConfig is what reads the smaller image of super-resolution. Channels, levels and widths are those of the decoder.
type ImageEncoderConfig struct {
	Height          int               `json:"height"`
	Width           int               `json:"width"`
	NumHiddenLayers int               `json:"num_hidden_layers"`
	Attention       []attention.Entry `json:"attention"` // an entry a layer; image1d and others read on both sides here
}

// encoder is the stack that reads the smaller image, and what the layers of the decoder read of it; nil without one.
//
// Source: Parmar et al. 2018, arXiv 1802.05751, section 5.4.
// Differs: the official code maps values to vectors; here each level has one, in tables of the encoder's own.
func (c ImageTransformerConfig) encoder() (*stack, []attention.Pattern, error) {
	e := c.Encoder
	if e == nil {
		if len(c.CrossAttention) > 0 {
			return nil, nil, &config.FieldError{Path: "cross_attention", Value: c.CrossAttention, Want: "want nothing without an encoder"}
		}
		return nil, nil, nil
	}
	var p problems
	p.size("encoder.height", e.Height, c.Height)
	p.size("encoder.width", e.Width, c.Width)
	p.size("encoder.num_hidden_layers", e.NumHiddenLayers, maxLayers)
	if err := p.err(); err != nil {
		return nil, nil, err
	}
	entries := c.CrossAttention
	if len(entries) == 0 {
		entries = []attention.Entry{{}}
	}
	n := e.Height * e.Width * c.Channels
	i := &imageOf{height: e.Height, width: e.Width * c.Channels, channels: c.Channels, levels: c.VocabSize, each: 1, read: true, order: make([]int, n)}
	for t := range i.order {
		i.order[t] = t
	}
	mixers, external, err := mixersOf(e.Attention, e.NumHiddenLayers, attention.Layer{Heads: c.NumAttentionHeads, Positions: n, Height: i.height, Width: i.width})
	if err == nil && external > 0 {
		err = &config.FieldError{Path: "attention[0]", Value: e.Attention[0], Want: "want attention without nodes of its own"}
	}
	for _, f := range config.Faults(err) {
		p.add(config.Prefix("encoder", f))
	}
	cross, err := crossPatterns(entries, c.NumHiddenLayers, c.NumAttentionHeads)
	p.add(err)
	if err := p.err(); err != nil {
		return nil, nil, err
	}
	const name = "image_transformer.encoder."
	s := &stack{
		Dims: Dims{Vocab: c.VocabSize, Hidden: c.HiddenSize, Inner: c.IntermediateSize, Layers: e.NumHiddenLayers, Heads: c.NumAttentionHeads, Positions: n},
		names: names{tokens: name + "embeddings.levels", positions: name + "embeddings", layer: name + "layers.",
			norm1: "attention.norm", attn: "attention", q: "attention.query", k: "attention.key", v: "attention.value", out: "attention.out",
			norm2: "mlp.norm", up: "mlp.up", down: "mlp.down"},
		act: kernels.ReLU, eps: c.LayerNormEps, post: c.Norm == "post", reverse: c.Residual == "reversible", noQKV: !c.AttentionBias, noOut: !c.AttentionBias,
		init: layers.XavierUniform(), tables: layers.Normal(c.InitializerRange), position: "image", image: i,
		embedDropout: c.HiddenDropoutProb, residDropout: c.HiddenDropoutProb, mixers: mixers,
	}
	if !s.post {
		s.names.final = name + "norm"
		s.last = ofDepth(e.NumHiddenLayers)
	}
	return s, cross, nil
}

// encode is what the encoder makes of the smaller image.
func (m *ImageTransformer) encode(b *layers.Builder, in Inputs, layersPerBlock int) memory {
	e := m.image.encoder
	if e == nil || b.Err() != nil {
		return memory{}
	}
	low := in.More["low_ids"]
	if low == nil || !slices.Equal(low.Shape()[1:], []int{e.Positions}) {
		b.Failf("the model reads a smaller image of %dx%d beside each: set data.low_size to [%d,%d]", m.cfg.Encoder.Height, m.cfg.Encoder.Width, m.cfg.Encoder.Height, m.cfg.Encoder.Width)
		return memory{}
	}
	x, _ := e.run(b, Inputs{IDs: low}, memory{}, layersPerBlock)
	return memory{x: x}
}

// lowLevels is how many levels the smaller image has; 0: there is none.
func (m *ImageTransformer) lowLevels() int {
	if m.image.encoder == nil {
		return 0
	}
	return m.image.encoder.Positions
}
