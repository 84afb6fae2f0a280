package models

import (
	"encoding/json"
	"fmt"

	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/config"
	"github.com/euryale-ml/euryale/internal/kernels"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/layers/attention"
)

// LongformerConfig is the part of Hugging Face's LongformerConfig that changes the computation. Other keys are kept and written back.
type LongformerConfig struct {
	ModelType                 string  `json:"model_type"`
	Task                      string  `json:"task,omitempty"` // ours; without it the head is that of architectures
	VocabSize                 int     `json:"vocab_size"`
	HiddenSize                int     `json:"hidden_size"`
	NumHiddenLayers           int     `json:"num_hidden_layers"`
	NumAttentionHeads         int     `json:"num_attention_heads"`
	IntermediateSize          int     `json:"intermediate_size"`
	HiddenAct                 string  `json:"hidden_act"`
	AttentionWindow           windows `json:"attention_window"`        // keys on both sides together: even; one number, or one for each layer
	MaxPositionEmbeddings     int     `json:"max_position_embeddings"` // rows of the table: pad_token_id + 1 more than tokens
	TypeVocabSize             int     `json:"type_vocab_size"`
	PadTokenID                int     `json:"pad_token_id"`
	SepTokenID                int     `json:"sep_token_id"` // what ends a question
	LayerNormEps              float64 `json:"layer_norm_eps"`
	HiddenDropoutProb         float64 `json:"hidden_dropout_prob"`
	AttentionProbsDropoutProb float64 `json:"attention_probs_dropout_prob"` // no effect, see Warnings
	InitializerRange          float64 `json:"initializer_range"`
	TieWordEmbeddings         bool    `json:"tie_word_embeddings"`
}

// windows are one width for all layers or one for each.
type windows []int

func (w *windows) UnmarshalJSON(raw []byte) error {
	var one int
	if json.Unmarshal(raw, &one) == nil {
		*w = windows{one}
		return nil
	}
	var list []int
	if json.Unmarshal(raw, &list) != nil {
		return fmt.Errorf("want a whole number, or a list with one for each layer")
	}
	*w = list
	return nil
}

func (w windows) MarshalJSON() ([]byte, error) {
	if len(w) == 1 {
		return json.Marshal(w[0])
	}
	return json.Marshal([]int(w))
}

// mixers are the attention of each of so many layers.
func (w windows) mixers(p *problems, layers int, layersKey string) []attention.Mixer {
	p.want(len(w) == 1 || len(w) == layers, "attention_window", w, fmt.Sprintf("one number, or one for each of %d layers (%s)", layers, layersKey))
	if len(w) == 0 {
		return nil
	}
	for l, n := range w {
		path := "attention_window"
		if len(w) > 1 {
			path = fmt.Sprintf("attention_window[%d]", l)
		}
		p.want(n >= 2 && n%2 == 0 && n <= maxSize, path, n, "an even number from 2 on: the keys on both sides together")
	}
	all := make([]attention.Mixer, min(max(layers, 0), maxLayers))
	for l := range all {
		side := w[l%len(w)] / 2
		all[l] = attention.Longformer{WindowLeft: side, WindowRight: side}
	}
	return all
}

// Longformer is RoBERTa with attention to a window around each token and to global tokens, which have projections of their own.
//
// Without Inputs.Globals the task says which tokens are global: the first one of sequence_classification, those of the question (before
// the first sep_token_id) of question_answering, else none. The question may have maxQuestion tokens.
//
// Source: Beltagy, Peters, Cohan 2020, arXiv 2004.05150; names and details from transformers' LongformerModel and its heads.
// Differs: any length, not only multiples of the windows; one sep token ends a question, where transformers wants three in all;
// attention probabilities have no dropout.
type Longformer struct {
	cfg  LongformerConfig
	rest extra
	head head
	stack
}

var _ Model = (*Longformer)(nil)

func newLongformer(raw []byte) (Model, error) {
	c := LongformerConfig{ModelType: "longformer", VocabSize: 30522, HiddenSize: 768, NumHiddenLayers: 12, NumAttentionHeads: 12, IntermediateSize: 3072,
		HiddenAct: "gelu", AttentionWindow: windows{512}, MaxPositionEmbeddings: 512, TypeVocabSize: 2, PadTokenID: 1, SepTokenID: 2,
		LayerNormEps: 1e-12, HiddenDropoutProb: 0.1, AttentionProbsDropoutProb: 0.1, InitializerRange: 0.02, TieWordEmbeddings: true}
	rest, read := decodeHF(raw, &c)
	if config.IsSyntax(read) {
		return nil, read
	}
	var p problems
	act := p.sizes(hfSizes{"vocab_size", c.VocabSize, "max_position_embeddings", c.MaxPositionEmbeddings, "hidden_size", c.HiddenSize,
		"num_hidden_layers", c.NumHiddenLayers, "num_attention_heads", c.NumAttentionHeads, "intermediate_size", c.IntermediateSize,
		"hidden_act", c.HiddenAct, "layer_norm_eps", c.LayerNormEps})
	p.dropout("hidden_dropout_prob", c.HiddenDropoutProb)
	p.want(c.InitializerRange > 0, "initializer_range", c.InitializerRange, "more than 0")
	p.size("type_vocab_size", c.TypeVocabSize, maxSize)
	p.want(c.PadTokenID >= 0 && c.PadTokenID < c.VocabSize, "pad_token_id", c.PadTokenID, "an id of the vocabulary")
	p.want(c.MaxPositionEmbeddings > c.PadTokenID+1, "max_position_embeddings", c.MaxPositionEmbeddings,
		fmt.Sprintf("more than pad_token_id + 1 (%d): the first row is that of no token", c.PadTokenID+1))
	mixers := c.AttentionWindow.mixers(&p, c.NumHiddenLayers, "num_hidden_layers")
	task, labels := p.hfTask("Longformer", c.Task, rest)
	if err := config.Merge(read, p.err()); err != nil {
		return nil, err
	}
	m := &Longformer{c, rest, head{task: task, labels: labels, transform: "lm_head.dense", norm: "lm_head.layer_norm", decoder: "lm_head", own: "lm_head.decoder",
		act: kernels.GELU, eps: c.LayerNormEps, pooling: "cls", dropout: c.HiddenDropoutProb, out: "classifier"}, stack{
		Dims: Dims{Vocab: c.VocabSize, Hidden: c.HiddenSize, Inner: c.IntermediateSize, Layers: c.NumHiddenLayers, Heads: c.NumAttentionHeads,
			Positions: c.MaxPositionEmbeddings - c.PadTokenID - 1, Labels: labels},
		names: names{tokens: "longformer.embeddings.word_embeddings", types: "longformer.embeddings.token_type_embeddings",
			positions: "longformer.embeddings.position_embeddings", embedNorm: "longformer.embeddings.LayerNorm",
			layer: "longformer.encoder.layer.", attn: "attention.self", q: "attention.self.query", k: "attention.self.key", v: "attention.self.value",
			out: "attention.output.dense", norm1: "attention.output.LayerNorm", up: "intermediate.dense", down: "output.dense", norm2: "output.LayerNorm"},
		act: act, eps: c.LayerNormEps, post: true, init: layers.Normal(c.InitializerRange), untied: !c.TieWordEmbeddings,
		types: c.TypeVocabSize, position: "learned", offset: c.PadTokenID + 1, padding: c.PadTokenID + 1, counted: true, embedNorm: "before",
		embedDropout: c.HiddenDropoutProb, residDropout: c.HiddenDropoutProb, mixers: mixers,
	}}
	switch task {
	case "sequence_classification", "regression":
		m.head.dense, m.head.out, m.head.act = "classifier.dense", "classifier.out_proj", kernels.Tanh
	case "question_answering":
		m.head.out = "qa_outputs"
	case "":
		m.head.pooler = "longformer.pooler.dense"
	}
	return m, nil
}

// Type is "longformer".
func (m *Longformer) Type() string { return "longformer" }

// Task is that of the head; empty for a base model.
func (m *Longformer) Task() string { return m.head.task }

// Dims are the sizes.
func (m *Longformer) Dims() Dims { return m.stack.Dims }

// Config is the resolved config.json, with the keys that were there before.
func (m *Longformer) Config() ([]byte, error) { return marshalConfig(m.cfg, m.rest) }

// Warnings tells of attention dropout.
func (m *Longformer) Warnings() []string {
	return attentionDropout("attention_probs_dropout_prob", m.cfg.AttentionProbsDropoutProb)
}

// Forward adds the network to the graph.
func (m *Longformer) Forward(b *layers.Builder, in Inputs, layersPerBlock int) Outputs {
	if in.Globals == nil {
		in.Globals = m.globals(b, in)
	}
	return m.withHead(b, in, m.head, layersPerBlock)
}

// globals are the tokens that the task makes global.
func (m *Longformer) globals(b *layers.Builder, in Inputs) *Node {
	if b.Err() != nil || in.IDs == nil {
		return nil
	}
	switch batch := in.IDs.Shape()[0]; m.head.task {
	case "sequence_classification", "regression":
		return b.Const(fmt.Sprint("globals.first.", batch), tensor.New(tensor.WithShape(batch, 1), tensor.WithBacking(make([]int32, batch))))
	case "question_answering":
		return questionRows(b, in.IDs, in.Lens, int32(m.cfg.SepTokenID))
	}
	return nil
}
