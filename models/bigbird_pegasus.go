package models

import (
	"math"
	"slices"

	"github.com/euryale-ml/euryale/internal/config"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/layers/attention"
)

// BigBirdPegasusConfig is the part of Hugging Face's BigBirdPegasusConfig that changes the computation. Other keys are kept and written
// back.
type BigBirdPegasusConfig struct {
	BartConfig
	MaxPositionEmbeddings int    `json:"max_position_embeddings"`
	ScaleEmbedding        bool   `json:"scale_embedding"`   // vectors of tokens times the square root of d_model
	AttentionType         string `json:"attention_type"`    // of the encoder: block_sparse, original_full
	BlockSize             int    `json:"block_size"`        // of the encoder
	NumRandomBlocks       int    `json:"num_random_blocks"` // of a block of queries in the encoder
	UseBias               bool   `json:"use_bias"`          // in the maps of attention
}

// BigBirdPegasus is Pegasus with a BigBird encoder. The decoder is dense, and so is what it reads of the encoder; norms stand before the
// parts of a layer, and behind the last one.
//
// Source: Zaheer et al. 2020, arXiv 2007.14062, section 4; Zhang et al. 2019, arXiv 1912.08777; names and details from transformers'
// BigBirdPegasusForConditionalGeneration.
// Differs: in the encoder as BigBird; no dropout of attention probabilities and of whole layers.
type BigBirdPegasus struct {
	cfg  BigBirdPegasusConfig
	rest extra
	seq2seq
}

var _ Seq2Seq = (*BigBirdPegasus)(nil)

func newBigBirdPegasus(raw []byte) (Model, error) {
	c := BigBirdPegasusConfig{BartConfig: BartConfig{ModelType: "bigbird_pegasus", VocabSize: 96103, DModel: 1024, EncoderLayers: 16, EncoderFFNDim: 4096,
		EncoderAttentionHeads: 16, DecoderLayers: 16, DecoderFFNDim: 4096, DecoderAttentionHeads: 16, ActivationFunction: "gelu_new", Dropout: 0.1, InitStd: 0.02,
		DecoderStartTokenID: 2, EosTokenID: tokenIDs{1}, TieWordEmbeddings: true},
		MaxPositionEmbeddings: 4096, ScaleEmbedding: true, AttentionType: "block_sparse", BlockSize: 64, NumRandomBlocks: 3}
	rest, read := decodeHF(raw, &c)
	if config.IsSyntax(read) {
		return nil, read
	}
	var p problems
	var architectures []string
	p.key(rest, "architectures", &architectures)
	if len(architectures) > 0 {
		p.oneOf("architectures", architectures[0], "BigBirdPegasusForConditionalGeneration")
	}
	m := &BigBirdPegasus{rest: rest}
	const positions = "max_position_embeddings"
	m.encoder, m.decoder = c.halves(&p, "model.", positions, c.MaxPositionEmbeddings, positions, c.MaxPositionEmbeddings)
	m.encoder.mixers = bigBirdMixers(&p, c.AttentionType, c.BlockSize, c.NumRandomBlocks, c.EncoderLayers, c.EncoderAttentionHeads, c.MaxPositionEmbeddings)
	m.special = p.special(c.VocabSize, c.DecoderStartTokenID, c.PadTokenID, c.EosTokenID)
	if err := config.Merge(read, p.err()); err != nil {
		return nil, err
	}
	m.cfg = c
	m.headBias = "final_logits_bias"

	n := &m.encoder.names
	n.attn, n.out = "self_attn.self", "self_attn.output"
	n.q, n.k, n.v = n.attn+".query", n.attn+".key", n.attn+".value"
	for _, s := range []*stack{&m.encoder, &m.decoder} {
		s.names.final, s.names.embedNorm = s.names.embedNorm, "" // Pegasus norms the result and calls it after BART's norm of the embeddings
		s.noQKV, s.noOut = !c.UseBias, !c.UseBias
		if c.ScaleEmbedding {
			s.embedScale = math.Sqrt(float64(c.DModel))
		}
	}
	m.decoder.mixers = plain(slices.Repeat([]attention.Pattern{attention.Causal(attention.Full{})}, c.DecoderLayers))
	m.decoder.cross = slices.Repeat([]attention.Pattern{attention.Full{}}, c.DecoderLayers)
	return m, nil
}

// Type is "bigbird_pegasus".
func (m *BigBirdPegasus) Type() string { return "bigbird_pegasus" }

// Task is "seq2seq_lm".
func (m *BigBirdPegasus) Task() string { return "seq2seq_lm" }

// BasePrefix is what stands before the names of a base model's weights when it has a head.
func (m *BigBirdPegasus) BasePrefix() string { return "model." }

func (m *BigBirdPegasus) local(name string) string { return m.cfg.local(m.BasePrefix(), name) }

// Config is the resolved config.json, with the keys that were there before.
func (m *BigBirdPegasus) Config() ([]byte, error) { return marshalConfig(m.cfg, m.rest) }

// Warnings tells of dropout that is not done.
func (m *BigBirdPegasus) Warnings() []string {
	return append(m.cfg.warnings(), misspelled(&m.cfg, m.rest)...)
}

// Forward adds the network to the graph.
func (m *BigBirdPegasus) Forward(b *layers.Builder, in Inputs, layersPerBlock int) Outputs {
	return m.forward(b, in, layersPerBlock)
}
