package models

import (
	"fmt"

	"github.com/euryale-ml/euryale/layers"
)

// Seq2Seq is a model that writes one sequence while it reads another.
type Seq2Seq interface {
	Model
	// Special are the tokens with which the sequence that is written starts and ends.
	Special() Special
	halves() *seq2seq
}

// Special are tokens that stand for no text.
type Special struct {
	Start int32   // decoder_start_token_id, the first token that the decoder reads
	Pad   int32   // pad_token_id
	End   []int32 // eos_token_id: one of them ends the text
}

// seq2seq is an encoder and a decoder that reads what the encoder makes of its sequence: the memory, [B,S,C].
//
//	memory = encoder(source)
//	logits = head(decoder(target so far, memory))
type seq2seq struct {
	encoder, decoder stack
	special          Special

	headScale float64 // of what the head reads; 0: 1
	headBias  string  // name of a bias [1,V] of the logits, which is not trained; "": none
}

// forward is the whole: logits of each next token of the target. TargetIDs are what the decoder reads.
func (m *seq2seq) forward(b *layers.Builder, in Inputs, layersPerBlock int) Outputs {
	if b.Err() == nil && in.TargetIDs == nil {
		b.Failf("the decoder reads ids [B,U], and there are none: give data with a target")
	}
	x, states := m.encoder.run(b, in, memory{}, layersPerBlock)
	target := Inputs{IDs: in.TargetIDs, Lens: in.TargetLens, Attend: in.Attend}
	if in.AttendTarget != nil {
		target.Attend = in.AttendTarget
	}
	logits, hidden := m.decode(b, target, memory{x, in.Lens}, layersPerBlock)
	if b.Err() != nil {
		return Outputs{}
	}
	more := map[string]*Node{"encoder_last_hidden_state": x}
	for i, h := range states {
		more[fmt.Sprint("encoder_hidden_states.", i)] = h
	}
	return Outputs{Logits: logits, Hidden: hidden, More: more}
}

// decode is the decoder and its head.
func (m *seq2seq) decode(b *layers.Builder, in Inputs, mem memory, layersPerBlock int) (logits *Node, hidden []*Node) {
	x, hidden := m.decoder.run(b, in, mem, layersPerBlock)
	if m.headScale != 0 {
		x = layers.Scale(b, x, m.headScale)
	}
	if m.headBias == "" || b.Err() != nil {
		return m.decoder.languageHead(b, x), hidden
	}
	bias := b.Param(m.headBias, layers.Zeros(), 1, m.decoder.Vocab)
	if p, ok := b.Params().Get(m.headBias); ok {
		p.Frozen = true
	}
	c := layers.LinearConfig{Out: m.decoder.Vocab, Bias: layers.Reshape(b, bias, m.decoder.Vocab), Init: m.decoder.initial()}
	if !m.decoder.untied {
		c.Weight = m.decoder.table(b)
	}
	return layers.Linear(b.Scope(m.decoder.names.head), x, c), hidden
}

// Special are the tokens with which the target starts and ends.
func (m *seq2seq) Special() Special { return m.special }

// Dims are the sizes of the encoder.
func (m *seq2seq) Dims() Dims { return m.encoder.Dims }

func (m *seq2seq) halves() *seq2seq { return m }
