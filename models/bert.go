package models

import (
	"slices"

	"github.com/euryale-ml/euryale/internal/config"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/layers/attention"
)

// BertConfig is the part of Hugging Face's BertConfig that changes the computation, and the common part of its descendants. Other keys are
// kept and written back.
type BertConfig struct {
	ModelType             string   `json:"model_type"`
	Task                  string   `json:"task,omitempty"` // ours; without it the head is that of architectures
	VocabSize             int      `json:"vocab_size"`
	HiddenSize            int      `json:"hidden_size"`
	NumHiddenLayers       int      `json:"num_hidden_layers"`
	NumAttentionHeads     int      `json:"num_attention_heads"`
	IntermediateSize      int      `json:"intermediate_size"`
	HiddenAct             string   `json:"hidden_act"`
	HiddenDropoutProb     float64  `json:"hidden_dropout_prob"`
	AttentionProbsDropout float64  `json:"attention_probs_dropout_prob"` // no effect, see Warnings
	MaxPositionEmbeddings int      `json:"max_position_embeddings"`
	TypeVocabSize         int      `json:"type_vocab_size"`
	InitializerRange      float64  `json:"initializer_range"`
	LayerNormEps          float64  `json:"layer_norm_eps"`
	PadTokenID            int      `json:"pad_token_id"`       // its row of the token table gets no gradient from the embedding
	ClassifierDropout     *float64 `json:"classifier_dropout"` // null: hidden_dropout_prob
	TieWordEmbeddings     bool     `json:"tie_word_embeddings"`
	IsDecoder             bool     `json:"is_decoder"`              // only false
	PositionEmbeddingType string   `json:"position_embedding_type"` // only absolute
}

// Bert is BERT: an encoder with dense attention and norms after the residual sums.
//
// Source: Devlin et al. 2018, arXiv 1810.04805, section 3; names and details from transformers' BertForMaskedLM and its like.
// Differs: attention probabilities have no dropout; a query that is padding reads nothing.
type Bert struct {
	cfg  BertConfig
	rest extra
	encoderFamily
}

var _ Model = (*Bert)(nil)

func newBert(raw []byte) (Model, error) {
	c := bertDefaults("bert")
	rest, read := decodeHF(raw, &c)
	if config.IsSyntax(read) {
		return nil, read
	}
	var p problems
	task, labels := p.hfTask("Bert", c.Task, rest)
	s := c.stack(&p, "bert.")
	if err := config.Merge(read, p.err()); err != nil {
		return nil, err
	}
	s.mixers = slices.Repeat([]attention.Mixer{attention.Plain{Of: attention.Full{}}}, c.NumHiddenLayers)
	s.Labels = labels
	h := head{task: task, labels: labels, transform: "cls.predictions.transform.dense", norm: "cls.predictions.transform.LayerNorm",
		decoder: "cls.predictions", own: "cls.predictions.decoder", act: s.act, eps: s.eps, out: "classifier", dropout: c.classifierDropout()}
	switch h.task {
	case "question_answering":
		h.out = "qa_outputs"
	case "sequence_classification", "multi_label_classification", "regression", "":
		h.pooler, h.classifyPooled = "bert.pooler.dense", true
	}
	return &Bert{c, rest, encoderFamily{stack: s, head: h, base: "bert."}}, nil
}

func bertDefaults(modelType string) BertConfig {
	return BertConfig{ModelType: modelType, VocabSize: 30522, HiddenSize: 768, NumHiddenLayers: 12, NumAttentionHeads: 12, IntermediateSize: 3072,
		HiddenAct: "gelu", HiddenDropoutProb: 0.1, AttentionProbsDropout: 0.1, MaxPositionEmbeddings: 512, TypeVocabSize: 2, InitializerRange: 0.02,
		LayerNormEps: 1e-12, TieWordEmbeddings: true, PositionEmbeddingType: "absolute"}
}

// stack checks the keys and makes the stack without its attention. base is what stands before the names of the weights.
func (c *BertConfig) stack(p *problems, base string) stack {
	act := p.sizes(hfSizes{"vocab_size", c.VocabSize, "max_position_embeddings", c.MaxPositionEmbeddings, "hidden_size", c.HiddenSize,
		"num_hidden_layers", c.NumHiddenLayers, "num_attention_heads", c.NumAttentionHeads, "intermediate_size", c.IntermediateSize,
		"hidden_act", c.HiddenAct, "layer_norm_eps", c.LayerNormEps})
	p.size("type_vocab_size", c.TypeVocabSize, maxSize)
	p.dropout("hidden_dropout_prob", c.HiddenDropoutProb)
	if c.ClassifierDropout != nil {
		p.dropout("classifier_dropout", *c.ClassifierDropout)
	}
	p.want(c.InitializerRange > 0, "initializer_range", c.InitializerRange, "more than 0")
	p.want(c.PadTokenID >= 0 && c.PadTokenID < max(c.VocabSize, 1), "pad_token_id", c.PadTokenID, "a token of the vocabulary")
	p.want(!c.IsDecoder, "is_decoder", c.IsDecoder, "false: this family is an encoder here")
	p.oneOf("position_embedding_type", c.PositionEmbeddingType, "absolute")
	return stack{
		Dims: Dims{Vocab: c.VocabSize, Hidden: c.HiddenSize, Inner: c.IntermediateSize, Layers: c.NumHiddenLayers, Heads: c.NumAttentionHeads,
			Positions: c.MaxPositionEmbeddings},
		names: names{tokens: base + "embeddings.word_embeddings", types: base + "embeddings.token_type_embeddings",
			positions: base + "embeddings.position_embeddings", embedNorm: base + "embeddings.LayerNorm", layer: base + "encoder.layer.",
			q: "attention.self.query", k: "attention.self.key", v: "attention.self.value", attn: "attention.self",
			out: "attention.output.dense", norm1: "attention.output.LayerNorm",
			up: "intermediate.dense", down: "output.dense", norm2: "output.LayerNorm"},
		act: act, eps: c.LayerNormEps, post: true, init: layers.Normal(c.InitializerRange), untied: !c.TieWordEmbeddings,
		types: c.TypeVocabSize, position: "learned", padding: c.PadTokenID + 1, embedNorm: "before",
		embedDropout: c.HiddenDropoutProb, residDropout: c.HiddenDropoutProb,
	}
}

func (c *BertConfig) classifierDropout() float64 {
	if c.ClassifierDropout != nil {
		return *c.ClassifierDropout
	}
	return c.HiddenDropoutProb
}

// Type is "bert".
func (m *Bert) Type() string { return "bert" }

// Config is the resolved config.json, with the keys that were there before.
func (m *Bert) Config() ([]byte, error) { return marshalConfig(m.cfg, m.rest) }

// Warnings tells of attention dropout, and of keys that are likely misspelt.
func (m *Bert) Warnings() []string {
	return append(attentionDropout("attention_probs_dropout_prob", m.cfg.AttentionProbsDropout), misspelled(&m.cfg, m.rest)...)
}
