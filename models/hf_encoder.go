package models

import (
	"strings"

	"github.com/euryale-ml/euryale/layers"
)

// encoderFamily is what the encoders of Hugging Face share besides their config.
type encoderFamily struct {
	stack
	head head
	base string // prefix of the base model's weights
}

// Task is that of the head; empty for a base model, which has none.
func (m *encoderFamily) Task() string { return m.head.task }

// Dims are the sizes.
func (m *encoderFamily) Dims() Dims { return m.stack.Dims }

// BasePrefix is what stands before the names of a base model's weights when it has a head.
func (m *encoderFamily) BasePrefix() string { return m.base }

// Forward adds the network to the graph.
func (m *encoderFamily) Forward(b *layers.Builder, in Inputs, layersPerBlock int) Outputs {
	return m.withHead(b, in, m.head, layersPerBlock)
}

// local is the name of a weight of a file: that of today for one that versions of transformers have called otherwise, that of the
// table for the copy of a tied one, and none for what is no weight, such as a buffer of positions.
func (m *encoderFamily) local(name string) string {
	name = modern(name)
	switch {
	case strings.HasSuffix(name, "embeddings.position_ids"), strings.HasSuffix(name, "embeddings.token_type_ids"):
		return ""
	case name == m.head.own+".weight" && !m.untied && m.head.task == "masked_lm":
		return m.names.tokens + ".weight"
	case name == m.head.own+".bias" && m.head.task == "masked_lm" && !m.untied:
		return m.head.decoder + ".bias"
	case name == m.head.decoder+".bias" && m.head.task == "masked_lm" && m.untied: // read where there is no other, see unread
		return m.head.own + ".bias"
	}
	return name
}

// unread tells of a weight that transformers stores but does not read: the old bias of a head that is not tied, beside that of its own.
func (m *encoderFamily) unread(name string, has func(string) bool) bool {
	return m.head.task == "masked_lm" && m.untied && name == m.head.decoder+".bias" && has(m.head.own+".bias")
}

// BasePrefix is what Hugging Face puts before the names of a base model's weights when it has a head.
func BasePrefix(m Model) string {
	if f, ok := m.(interface{ BasePrefix() string }); ok {
		return f.BasePrefix()
	}
	return "transformer."
}
