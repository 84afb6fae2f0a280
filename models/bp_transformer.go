package models

import (
	"fmt"

	"github.com/euryale-ml/euryale/internal/config"
	"github.com/euryale-ml/euryale/internal/kernels"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/layers/attention"
)

// BPTransformerConfig is the BP-Transformer: tokens are the leaves of a binary tree, near ones are read singly and far ones in spans.
// JSON keys are Hugging Face's words where it has them.
type BPTransformerConfig struct {
	ModelType             string  `json:"model_type"` // "bp_transformer"
	Task                  string  `json:"task"`       // causal_lm, sequence_classification (read at the root), token_classification
	VocabSize             int     `json:"vocab_size"`
	NumLabels             int     `json:"num_labels"` // classes, of the tasks that have any
	HiddenSize            int     `json:"hidden_size"`
	IntermediateSize      int     `json:"intermediate_size"` // 0 = 4 hidden_size
	NumHiddenLayers       int     `json:"num_hidden_layers"`
	NumAttentionHeads     int     `json:"num_attention_heads"`
	K                     int     `json:"k"`    // nodes that a token reads of each level and side
	Clip                  int     `json:"clip"` // levels from there on share their labels
	MaxPositionEmbeddings int     `json:"max_position_embeddings"`
	PositionEmbeddingType string  `json:"position_embedding_type"` // learned, sinusoidal, none
	HiddenAct             string  `json:"hidden_act"`
	LayerNormEps          float64 `json:"layer_norm_eps"`
	HiddenDropoutProb     float64 `json:"hidden_dropout_prob"` // on the embeddings, on what each part adds to the stream, before the classifier
	TieWordEmbeddings     bool    `json:"tie_word_embeddings"`
	Residual              string  `json:"residual,omitempty"` // plain
}

// BPTransformer is the model. All nodes, tokens and spans, go through the same layers at once:
//
//	x = norm(tokens + positions) for tokens, 0 for spans
//	for each layer: x = norm(x + out(attention(x)));  x = norm(x + down(relu(up(x))))       (attention.BP)
//	logits = tokens(x) · table + bias, classifier(root(x)) or classifier(tokens(x)), by task
//
// A language model reads to the left alone. As a span starts as 0, the first layer makes it the mean of its tokens' values.
//
// Source: Ye et al. 2019, arXiv 1911.04070.
// Differs: classification reads both ways, where the released code reads to the left alone; there are no losses of inner layers; see
// attention.BP for the fault in the released tree.
type BPTransformer struct {
	cfg BPTransformerConfig
	stack
}

// BPLanguageModel is the BP-Transformer of task causal_lm.
type BPLanguageModel struct{ *BPTransformer }

var _ Causal = BPLanguageModel{}

func newBPTransformer(raw []byte) (Model, error) {
	c := BPTransformerConfig{Task: "causal_lm", K: 4, Clip: 5, MaxPositionEmbeddings: 8192, PositionEmbeddingType: "learned", HiddenAct: "relu",
		LayerNormEps: 1e-5, TieWordEmbeddings: true}
	err := config.Decode(raw, &c)
	if config.IsSyntax(err) {
		return nil, err
	}
	m, check := NewBPTransformer(c)
	if err := config.Merge(err, check); err != nil {
		return nil, err
	}
	return m, nil
}

// NewBPTransformer builds the model: a *BPTransformer, or a BPLanguageModel.
//
// Errors: every fault as *config.FieldError, joined.
func NewBPTransformer(c BPTransformerConfig) (Model, error) {
	c.ModelType = "bp_transformer"
	if c.IntermediateSize == 0 {
		c.IntermediateSize = 4 * min(max(c.HiddenSize, 1), maxSize/4)
	}
	var p problems
	p.oneOf("task", c.Task, "causal_lm", "sequence_classification", "token_classification")
	p.size("vocab_size", c.VocabSize, maxSize)
	if labelled(c.Task) {
		p.size("num_labels", c.NumLabels, maxSize)
	} else {
		p.want(c.NumLabels == 0, "num_labels", c.NumLabels, "0: "+c.Task+" has no classes")
	}
	p.size("hidden_size", c.HiddenSize, maxSize)
	p.size("intermediate_size", c.IntermediateSize, maxSize)
	p.size("num_hidden_layers", c.NumHiddenLayers, maxLayers)
	p.size("num_attention_heads", c.NumAttentionHeads, maxSize)
	if c.HiddenSize >= 1 && c.NumAttentionHeads >= 1 {
		p.want(c.HiddenSize%c.NumAttentionHeads == 0, "num_attention_heads", c.NumAttentionHeads, fmt.Sprintf("a divisor of hidden_size (%d)", c.HiddenSize))
	}
	p.residual(c.Residual, ", or the attention bp in a decoder or an encoder: the norms after the residual sums cannot be computed back")
	decoder := c.Task == "causal_lm"
	mixer, err := attention.NewBP(c.K, c.Clip, decoder)
	p.add(err)
	p.size("max_position_embeddings", c.MaxPositionEmbeddings, maxSize)
	p.oneOf("position_embedding_type", c.PositionEmbeddingType, "learned", "sinusoidal", "none")
	p.want(c.PositionEmbeddingType != "sinusoidal" || c.HiddenSize%2 == 0, "position_embedding_type", c.PositionEmbeddingType, fmt.Sprintf("another one, or an even hidden_size (it is %d)", c.HiddenSize))
	act, err := kernels.ParseActivation(c.HiddenAct)
	if err != nil {
		p.add(&config.FieldError{Path: "hidden_act", Value: c.HiddenAct, Want: err.Error()})
	}
	p.want(c.LayerNormEps > 0, "layer_norm_eps", c.LayerNormEps, "more than 0")
	p.want(c.HiddenDropoutProb >= 0 && c.HiddenDropoutProb < 1, "hidden_dropout_prob", c.HiddenDropoutProb, "from 0 to less than 1")
	if err := p.err(); err != nil {
		return nil, err
	}
	m := &BPTransformer{c, stack{
		Dims: Dims{Vocab: c.VocabSize, Hidden: c.HiddenSize, Inner: c.IntermediateSize, Layers: c.NumHiddenLayers, Heads: c.NumAttentionHeads,
			Positions: c.MaxPositionEmbeddings, Labels: c.NumLabels},
		names: names{tokens: "bp_transformer.embeddings.tokens", positions: "bp_transformer.embeddings.positions", embedNorm: "bp_transformer.embeddings.norm",
			layer: "bp_transformer.layers.", norm1: "attention.norm", attn: "attention", q: "attention.query", k: "attention.key", v: "attention.value",
			out: "attention.out", norm2: "mlp.norm", up: "mlp.up", down: "mlp.down", head: "lm_head"},
		act: act, eps: c.LayerNormEps, post: true, tree: true, noQKV: true, noOut: true, untied: !c.TieWordEmbeddings, biased: true,
		init: layers.XavierUniform(), tables: layers.Normal(0.02), position: c.PositionEmbeddingType, embedNorm: "after",
		embedDropout: c.HiddenDropoutProb, residDropout: c.HiddenDropoutProb,
	}}
	for range c.NumHiddenLayers {
		m.mixers = append(m.mixers, mixer)
	}
	if decoder {
		return BPLanguageModel{m}, nil
	}
	return m, nil
}

// Type is "bp_transformer".
func (m *BPTransformer) Type() string { return m.cfg.ModelType }

// Task is that of the head.
func (m *BPTransformer) Task() string { return m.cfg.Task }

// Dims are the sizes.
func (m *BPTransformer) Dims() Dims { return m.stack.Dims }

// Config is the resolved config.json.
func (m *BPTransformer) Config() ([]byte, error) { return marshalConfig(m.cfg, nil) }

// Warnings is empty: what the model knows it does.
func (m *BPTransformer) Warnings() []string { return nil }

// Forward adds the network to the graph. More["nodes"] are all nodes, [B,N,C]: of each example first the tokens, directly behind them
// the spans, the root last.
func (m *BPTransformer) Forward(b *layers.Builder, in Inputs, layersPerBlock int) Outputs {
	nodes, counts, hidden := m.runNodes(b, in, memory{}, layersPerBlock)
	if b.Err() != nil {
		return Outputs{}
	}
	x, classifier := hidden[len(hidden)-1], b.Scope("classifier")
	out := Outputs{Hidden: hidden, More: map[string]*Node{"nodes": nodes}}
	switch m.cfg.Task {
	case "causal_lm":
		out.Logits = m.languageHead(b, x)
		return out
	case "sequence_classification":
		x = attention.TreeRoot(b, nodes, counts)
	}
	x = layers.Dropout(classifier, x, m.cfg.HiddenDropoutProb)
	out.Logits = layers.Linear(classifier, x, layers.LinearConfig{Out: m.Labels, Init: m.init})
	return out
}

func (m BPLanguageModel) causal() *stack { return &m.stack }
