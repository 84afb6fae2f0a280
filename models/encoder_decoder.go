package models

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/euryale-ml/euryale/internal/config"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/layers/attention"
)

// EncoderDecoderConfig is the encoder-decoder skeleton: an encoder in which every token may read on both sides, and a decoder that
// writes from left to right and reads what the encoder made. Any attention stands in any layer of both, and any pattern between
// them. What both have in common stands outside.
type EncoderDecoderConfig struct {
	ModelType         string  `json:"model_type"`          // "encoder_decoder"
	Task              string  `json:"task"`                // "seq2seq_lm"
	VocabSize         int     `json:"vocab_size"`          // of one table of tokens for both
	HiddenSize        int     `json:"hidden_size"`         // C
	RopeTheta         float64 `json:"rope_theta"`          // base of the rotary angles
	HiddenAct         string  `json:"hidden_act"`          //
	LayerNormEps      float64 `json:"layer_norm_eps"`      //
	HiddenDropoutProb float64 `json:"hidden_dropout_prob"` // on the embeddings and on what each part adds to the stream
	TieWordEmbeddings bool    `json:"tie_word_embeddings"` // the head is the token table
	Norm              string  `json:"norm"`                // pre, post; see SkeletonConfig
	Initializer       string  `json:"initializer"`         // normal, xavier_uniform
	InitializerRange  float64 `json:"initializer_range"`   //

	DecoderStartTokenID int      `json:"decoder_start_token_id"` // what the decoder reads first
	PadTokenID          int      `json:"pad_token_id"`
	EosTokenID          tokenIDs `json:"eos_token_id"` // one or a list: what ends the text

	Encoder HalfConfig  `json:"encoder"`
	Decoder DecoderHalf `json:"decoder"`
}

// HalfConfig is what the encoder and the decoder of an encoder-decoder have each for itself, see SkeletonConfig.
type HalfConfig struct {
	IntermediateSize      int               `json:"intermediate_size"` // 0 = 4 C
	NumHiddenLayers       int               `json:"num_hidden_layers"`
	NumAttentionHeads     int               `json:"num_attention_heads"`
	MaxPositionEmbeddings int               `json:"max_position_embeddings"`
	PositionEmbeddingType string            `json:"position_embedding_type"`
	Residual              string            `json:"residual"`
	Attention             []attention.Entry `json:"attention"`
}

// DecoderHalf is the decoder's, with the attention on the encoder's tokens: rows of a pattern are positions of the target, columns
// those of the source. An entry a layer; a shorter list repeats.
type DecoderHalf struct {
	HalfConfig
	CrossAttention []attention.Entry `json:"cross_attention"`
}

// tokenIDs is an id or a list of ids.
type tokenIDs []int32

func (t *tokenIDs) UnmarshalJSON(raw []byte) error {
	var one int32
	if config.Decode(raw, &one) == nil {
		*t = tokenIDs{one}
		return nil
	}
	var list []int32
	if err := config.Decode(raw, &list); err != nil {
		return fmt.Errorf("want a token id or a list of them")
	}
	*t = list
	return nil
}

func (t tokenIDs) MarshalJSON() ([]byte, error) {
	if len(t) == 1 {
		return json.Marshal(t[0])
	}
	return json.Marshal([]int32(t))
}

// EncoderDecoder is the encoder-decoder skeleton.
type EncoderDecoder struct {
	cfg EncoderDecoderConfig
	seq2seq
}

var _ Seq2Seq = (*EncoderDecoder)(nil)

func newEncoderDecoder(raw []byte) (Model, error) {
	d := skeletonDefaults()
	half := HalfConfig{MaxPositionEmbeddings: d.MaxPositionEmbeddings, PositionEmbeddingType: d.PositionEmbeddingType, Residual: d.Residual, Attention: d.Attention}
	c := EncoderDecoderConfig{Task: "seq2seq_lm", RopeTheta: d.RopeTheta, HiddenAct: d.HiddenAct, LayerNormEps: d.LayerNormEps,
		TieWordEmbeddings: d.TieWordEmbeddings, Norm: d.Norm, Initializer: d.Initializer, InitializerRange: d.InitializerRange,
		DecoderStartTokenID: -1, PadTokenID: -1, Encoder: half, Decoder: DecoderHalf{half, []attention.Entry{{}}}}
	err := config.Decode(raw, &c)
	if config.IsSyntax(err) {
		return nil, err
	}
	m, check := NewEncoderDecoder(c)
	if err := config.Merge(err, check); err != nil {
		return nil, err
	}
	return m, nil
}

// skeleton puts together what stands inside and outside.
func (c EncoderDecoderConfig) skeleton(h HalfConfig) SkeletonConfig {
	return SkeletonConfig{VocabSize: c.VocabSize, HiddenSize: c.HiddenSize, IntermediateSize: h.IntermediateSize, NumHiddenLayers: h.NumHiddenLayers,
		NumAttentionHeads: h.NumAttentionHeads, MaxPositionEmbeddings: h.MaxPositionEmbeddings, PositionEmbeddingType: h.PositionEmbeddingType,
		RopeTheta: c.RopeTheta, HiddenAct: c.HiddenAct, LayerNormEps: c.LayerNormEps, HiddenDropoutProb: c.HiddenDropoutProb,
		TieWordEmbeddings: c.TieWordEmbeddings, Norm: c.Norm, Residual: h.Residual, Initializer: c.Initializer, InitializerRange: c.InitializerRange, Attention: h.Attention}
}

// NewEncoderDecoder builds the skeleton.
//
// Errors: every fault as *config.FieldError, joined; those of a half under encoder and decoder.
func NewEncoderDecoder(c EncoderDecoderConfig) (*EncoderDecoder, error) {
	c.ModelType = "encoder_decoder"
	var p, outside problems
	p.oneOf("task", c.Task, "seq2seq_lm")
	half := func(name string, h *HalfConfig, decoder bool) stack {
		var found problems
		sc := c.skeleton(*h)
		s := sc.stack(&found, name, decoder, true)
		h.IntermediateSize = sc.IntermediateSize
		for _, f := range config.Faults(found.err()) {
			if own(f, h) {
				p.add(config.Prefix(name, f))
			} else if name == "encoder" { // the decoder has the same
				outside.add(f)
			}
		}
		s.names.tokens = "shared"
		return s
	}
	m := &EncoderDecoder{seq2seq: seq2seq{encoder: half("encoder", &c.Encoder, false), decoder: half("decoder", &c.Decoder.HalfConfig, true)}}
	var err error
	m.decoder.cross, m.decoder.crossing, err = crossMixers(c.Decoder.CrossAttention, c.Decoder.NumHiddenLayers, c.Decoder.NumAttentionHeads, c.Encoder.MaxPositionEmbeddings)
	for _, f := range config.Faults(err) {
		p.add(config.Prefix("decoder", f))
	}
	m.special = p.special(c.VocabSize, c.DecoderStartTokenID, c.PadTokenID, c.EosTokenID)
	if err := append(outside, p...).err(); err != nil {
		return nil, err
	}
	m.cfg = c
	return m, nil
}

// own tells whether a fault is of a key of a half.
func own(fault error, half any) bool {
	f, ok := fault.(*config.FieldError)
	if !ok {
		return true
	}
	key, _, _ := strings.Cut(strings.ReplaceAll(f.Path, "[", "."), ".")
	return slices.Contains(jsonKeys(half), key)
}

// special checks the tokens that stand for no text.
func (p *problems) special(vocab, start, pad int, end tokenIDs) Special {
	id := func(path string, v int) {
		p.want(v >= 0 && v < max(vocab, 1), path, v, fmt.Sprintf("a token id, 0 to %d", max(vocab, 1)-1))
	}
	id("decoder_start_token_id", start)
	id("pad_token_id", pad)
	for i, v := range end {
		path := "eos_token_id"
		if len(end) > 1 {
			path = fmt.Sprintf("eos_token_id[%d]", i)
		}
		id(path, int(v))
	}
	return Special{Start: int32(start), Pad: int32(pad), End: end}
}

// crossPatterns are the patterns of the layers of a decoder over what it reads.
func crossPatterns(entries []attention.Entry, layers, heads int) ([]attention.Pattern, error) {
	all, crossing, err := crossMixers(entries, layers, heads, 0)
	if err == nil && crossing != nil {
		err = &config.FieldError{Path: "cross_attention", Value: entries, Want: "want patterns alone, such as full, band or blocks: no other attention is read by this model"}
	}
	return all, err
}

// crossMixers are the patterns of the layers of a decoder over what it reads, of at most so many tokens (0: unknown), and what is more than a
// pattern, nil if nothing is.
func crossMixers(entries []attention.Entry, layers, heads, positions int) ([]attention.Pattern, []attention.Crossing, error) {
	if len(entries) == 0 {
		return nil, nil, &config.FieldError{Path: "cross_attention", Value: entries, Want: "want at least one entry"}
	}
	var p problems
	all := make([]attention.Pattern, min(max(layers, 0), maxLayers)) // of a wrong number a fault is noted already
	more, any := make([]attention.Crossing, len(all)), false
	for l := range max(len(entries), len(all)) {
		i := l % len(entries)
		m, err := entries[i].Mixer(attention.Layer{Index: l, Heads: heads})
		c, crossing := m.(attention.Crossing)
		if crossing || err != nil { // one that is no pattern may depend on the length of what is read
			if m, err = entries[i].Mixer(attention.Layer{Index: l, Heads: heads, Positions: positions}); err == nil {
				c, crossing = m.(attention.Crossing)
			}
		}
		if err == nil && !crossing {
			if _, ok := m.(attention.Plain); !ok {
				err = fmt.Errorf("a target cannot read a source by it, only by a pattern or sortcut: give full, band, blocks or another entry that is a pattern")
			} else if attention.Front(m.Pattern()) > 0 {
				err = fmt.Errorf("%s has nodes before the tokens, which a source has not; leave them out", m.Pattern())
			} else {
				err = attention.CheckCross(m.Pattern(), heads)
			}
		}
		switch {
		case err == nil && l < len(all):
			all[l] = m.Pattern()
			if crossing {
				more[l], any = c, true
			}
		case err != nil && l == i:
			p.add(config.Prefix(fmt.Sprintf("cross_attention[%d]", i), err))
		}
	}
	if !any {
		more = nil
	}
	return all, more, p.err()
}

// Type is "encoder_decoder".
func (m *EncoderDecoder) Type() string { return m.cfg.ModelType }

// Task is "seq2seq_lm".
func (m *EncoderDecoder) Task() string { return m.cfg.Task }

// Config is the resolved config.json.
func (m *EncoderDecoder) Config() ([]byte, error) { return marshalConfig(m.cfg, nil) }

// Warnings is empty: what the skeleton knows it does.
func (m *EncoderDecoder) Warnings() []string { return nil }

// Forward adds the network to the graph.
func (m *EncoderDecoder) Forward(b *layers.Builder, in Inputs, layersPerBlock int) Outputs {
	return m.forward(b, in, layersPerBlock)
}
