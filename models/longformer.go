package models

import (
	"encoding/json"
	"fmt"

	"github.com/euryale-ml/euryale/internal/config"
	"github.com/euryale-ml/euryale/internal/kernels"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/layers/attention"
)

// LongformerConfig is the part of Hugging Face's LongformerConfig that changes the computation. Other keys are kept and written back.
type LongformerConfig struct {
	BertConfig
	AttentionWindow windows `json:"attention_window"` // keys on both sides together: even; one number, or one for each layer
	SepTokenID      int     `json:"sep_token_id"`     // what ends a question
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

// mixers are the attention of each of so many layers, with the tokens that are global unless others are given.
func (w windows) mixers(p *problems, layers int, layersKey string, globals []int) []attention.Mixer {
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
		all[l] = attention.Longformer{WindowLeft: side, WindowRight: side, Globals: globals}
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
	encoderFamily
}

var _ Model = (*Longformer)(nil)

func newLongformer(raw []byte) (Model, error) {
	c := LongformerConfig{BertConfig: bertDefaults("longformer"), AttentionWindow: windows{512}, SepTokenID: 2}
	c.PadTokenID = 1
	rest, read := decodeHF(raw, &c)
	if config.IsSyntax(read) {
		return nil, read
	}
	var p problems
	task, labels := p.hfTask("Longformer", c.Task, rest)
	s := c.stack(&p, "longformer.")
	first := c.PadTokenID + 1 // row of the first token in the table of positions
	p.want(c.MaxPositionEmbeddings > first, "max_position_embeddings", c.MaxPositionEmbeddings,
		fmt.Sprintf("more than pad_token_id + 1 (%d): the rows before are those of no token", first))
	var globals []int
	if ofExamples(task) {
		globals = []int{0}
	}
	s.mixers = c.AttentionWindow.mixers(&p, c.NumHiddenLayers, "num_hidden_layers", globals)
	if err := config.Merge(read, p.err()); err != nil {
		return nil, err
	}
	s.Labels, s.Positions, s.offset, s.counted = labels, c.MaxPositionEmbeddings-first, first, true
	h := head{task: task, labels: labels, transform: "lm_head.dense", norm: "lm_head.layer_norm", decoder: "lm_head", own: "lm_head.decoder",
		act: kernels.GELU, eps: s.eps, pooling: "cls", out: "classifier", dropout: c.HiddenDropoutProb}
	switch task {
	case "sequence_classification", "multi_label_classification", "regression":
		h.dense, h.out, h.act = "classifier.dense", "classifier.out_proj", kernels.Tanh
	case "question_answering":
		h.out = "qa_outputs"
	case "":
		h.pooler = "longformer.pooler.dense"
	}
	return &Longformer{c, rest, encoderFamily{stack: s, head: h, base: "longformer."}}, nil
}

// Type is "longformer".
func (m *Longformer) Type() string { return "longformer" }

// Config is the resolved config.json, with the keys that were there before.
func (m *Longformer) Config() ([]byte, error) { return marshalConfig(m.cfg, m.rest) }

// Warnings tells of attention dropout, and of keys that are likely misspelt.
func (m *Longformer) Warnings() []string {
	return append(attentionDropout("attention_probs_dropout_prob", m.cfg.AttentionProbsDropout), misspelled(&m.cfg, m.rest)...)
}

// Forward adds the network to the graph.
func (m *Longformer) Forward(b *layers.Builder, in Inputs, layersPerBlock int) Outputs {
	if in.Globals == nil && in.IDs != nil && m.head.task == "question_answering" {
		in.Globals = questionRows(b, in.IDs, in.Lens, int32(m.cfg.SepTokenID))
	}
	return m.withHead(b, in, m.head, layersPerBlock)
}
