package models

import (
	"github.com/euryale-ml/euryale/internal/config"
	"github.com/euryale-ml/euryale/layers"
)

// DecoderConfig is the decoder skeleton: a causal language model, or a density of images in the order of their rows, in which any attention
// stands in any layer.
type DecoderConfig struct {
	ModelType string `json:"model_type"` // "decoder"
	Task      string `json:"task"`       // "causal_lm", or "image_density": vocab_size are the levels, and the table has a row more, for the start
	SkeletonConfig
}

// Decoder is the decoder skeleton.
type Decoder struct {
	cfg DecoderConfig
	stack
}

var _ Causal = (*Decoder)(nil)

func newDecoder(raw []byte) (Model, error) {
	c := DecoderConfig{Task: "causal_lm", SkeletonConfig: skeletonDefaults()}
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
	var p problems
	p.oneOf("task", c.Task, "causal_lm", "image_density")
	s := c.stack(&p, "decoder", true, true)
	if err := p.err(); err != nil {
		return nil, err
	}
	if c.Task == "image_density" {
		s.ofLevels()
	}
	return &Decoder{c, s}, nil
}

// Type is "decoder".
func (m *Decoder) Type() string { return m.cfg.ModelType }

// Task is "causal_lm" or "image_density".
func (m *Decoder) Task() string { return m.cfg.Task }

// Dims are the sizes.
func (m *Decoder) Dims() Dims { return m.dims() }

// Config is the resolved config.json.
func (m *Decoder) Config() ([]byte, error) { return marshalConfig(m.cfg, nil) }

// Warnings is empty: what the skeleton knows it does.
func (m *Decoder) Warnings() []string { return nil }

// Forward adds the network to the graph.
func (m *Decoder) Forward(b *layers.Builder, in Inputs, layersPerBlock int) Outputs {
	return m.forward(b, in, layersPerBlock)
}

func (m *Decoder) causal() *stack { return &m.stack }
