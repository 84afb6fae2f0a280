package models

import (
	"fmt"
	"strings"

	"github.com/euryale-ml/euryale/internal/config"
	"github.com/euryale-ml/euryale/layers"
)

// EncoderConfig is the encoder skeleton: every token may read the tokens on both sides, and any attention stands in any layer.
type EncoderConfig struct {
	ModelType string `json:"model_type"` // "encoder"
	Task      string `json:"task"`       // masked_lm, sequence_classification, token_classification, question_answering, regression
	SkeletonConfig
	TypeVocabSize int    `json:"type_vocab_size"` // kinds of tokens; 0: no such embedding
	VectorSize    int    `json:"vector_size"`     // the model reads vectors of this size, and no ids; 0: ids
	NumLabels     int    `json:"num_labels"`      // classes, or numbers of a regression; of the tasks that have any
	Pooling       string `json:"pooling"`         // cls, mean, last, max: where sequence_classification and regression read
}

// Encoder is the encoder skeleton. Attention with external nodes reads vectors of the model itself in their place; they stand before
// the tokens in all layers, and heads do not see them.
type Encoder struct {
	cfg  EncoderConfig
	head head
	stack
}

var _ Model = (*Encoder)(nil)

func newEncoder(raw []byte) (Model, error) {
	c := EncoderConfig{Task: "masked_lm", SkeletonConfig: skeletonDefaults(), Pooling: "cls"}
	err := config.Decode(raw, &c)
	if config.IsSyntax(err) {
		return nil, err
	}
	m, check := NewEncoder(c)
	if err := config.Merge(err, check); err != nil {
		return nil, err
	}
	return m, nil
}

// NewEncoder builds the skeleton.
//
// Errors: every fault as *config.FieldError, joined.
func NewEncoder(c EncoderConfig) (*Encoder, error) {
	c.ModelType = "encoder"
	var p problems
	p.oneOf("task", c.Task, "masked_lm", "sequence_classification", "token_classification", "question_answering", "regression")
	s := c.stack(&p, "encoder", false, c.VectorSize == 0)
	p.want(c.TypeVocabSize >= 0 && c.TypeVocabSize <= maxSize, "type_vocab_size", c.TypeVocabSize, fmt.Sprintf("0 to %d", maxSize))
	p.want(c.VectorSize >= 0 && c.VectorSize <= maxSize, "vector_size", c.VectorSize, fmt.Sprintf("0 to %d", maxSize))
	p.want(c.VectorSize == 0 || c.VocabSize == 0, "vocab_size", c.VocabSize, "0: a model of vectors (vector_size) has no vocabulary")
	p.want(c.VectorSize == 0 || c.Task != "masked_lm", "task", c.Task, "another one: a model of vectors (vector_size) has no tokens to predict")
	if labelled(c.Task) {
		p.size("num_labels", c.NumLabels, maxSize)
	} else if c.Task == "masked_lm" || c.Task == "question_answering" {
		p.want(c.NumLabels == 0, "num_labels", c.NumLabels, "0: "+c.Task+" has no classes")
	}
	p.want(!c.LMHeadBias, "lm_head_bias", c.LMHeadBias, "false: it is of causal_lm; the head of masked_lm has a bias anyway")
	p.oneOf("pooling", c.Pooling, "cls", "mean", "last", "max")
	if err := p.err(); err != nil {
		return nil, err
	}
	s.Labels, s.Vectors, s.types, s.vectors = c.NumLabels, c.VectorSize, c.TypeVocabSize, c.VectorSize
	return &Encoder{c, head{task: c.Task, labels: c.NumLabels, transform: "head.dense", norm: "head.norm", decoder: "head", own: "head.decoder",
		act: s.act, eps: s.eps, pooling: c.Pooling, out: "head.out", dropout: c.HiddenDropoutProb}, s}, nil
}

// labelled tells whether a task has num_labels.
func labelled(task string) bool {
	return strings.HasSuffix(task, "_classification") || task == "regression"
}

// Type is "encoder".
func (m *Encoder) Type() string { return m.cfg.ModelType }

// Task is that of the head.
func (m *Encoder) Task() string { return m.cfg.Task }

// Dims are the sizes.
func (m *Encoder) Dims() Dims { return m.stack.Dims }

// Config is the resolved config.json.
func (m *Encoder) Config() ([]byte, error) { return marshalConfig(m.cfg, nil) }

// Warnings is empty: what the skeleton knows it does.
func (m *Encoder) Warnings() []string { return nil }

// Forward adds the network to the graph.
func (m *Encoder) Forward(b *layers.Builder, in Inputs, layersPerBlock int) Outputs {
	return m.withHead(b, in, m.head, layersPerBlock)
}
