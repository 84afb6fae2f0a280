package models

import (
	"fmt"

	"github.com/euryale-ml/euryale/internal/config"
	"github.com/euryale-ml/euryale/internal/kernels"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/layers/attention"
)

// StarTransformerConfig is the Star-Transformer: tokens on a ring around one relay. JSON keys are Hugging Face's words where it has
// them.
type StarTransformerConfig struct {
	ModelType             string  `json:"model_type"`  // "star_transformer"
	Task                  string  `json:"task"`        // sequence_classification, token_classification, regression
	VocabSize             int     `json:"vocab_size"`  // 0 with vector_size
	VectorSize            int     `json:"vector_size"` // size of the vectors that are read in place of tokens; 0: tokens
	NumLabels             int     `json:"num_labels"`  // classes, or numbers of a regression
	HiddenSize            int     `json:"hidden_size"`
	IntermediateSize      int     `json:"intermediate_size"`   // width of the feed-forward layers of mode residual; 0 = 4 hidden_size
	NumHiddenLayers       int     `json:"num_hidden_layers"`   // steps
	NumAttentionHeads     int     `json:"num_attention_heads"` // H
	HeadDim               int     `json:"head_dim"`            // D; 0 = hidden_size / num_attention_heads
	MaxPositionEmbeddings int     `json:"max_position_embeddings"`
	PositionEmbeddingType string  `json:"position_embedding_type"` // learned, none
	Mode                  string  `json:"mode"`                    // paper, fastnlp, residual
	Ring                  string  `json:"ring"`                    // cyclic, open
	ShareAcrossSteps      bool    `json:"share_across_steps"`      // all steps have the same weights
	LayerNormEps          float64 `json:"layer_norm_eps"`          // 0 = 1e-5, of mode fastnlp 1e-6
	HiddenDropoutProb     float64 `json:"hidden_dropout_prob"`     // on the embeddings and inside the head
	Residual              string  `json:"residual,omitempty"`      // plain
}

// StarTransformer is the model.
//
//	h = e = tokens + positions;  s = mean(e)
//	for each step: h = satellites(h, e, s);  s = relay(s, h)          (attention.StarStep)
//	logits = MLP(½ (max(h) + s)), MLP(h_i) or MLP(s), by task
//
// Source: Guo et al. 2019, arXiv 1902.09113.
type StarTransformer struct{ cfg StarTransformerConfig }

var _ Model = (*StarTransformer)(nil)

func newStarTransformer(raw []byte) (Model, error) {
	c := StarTransformerConfig{Task: "sequence_classification", MaxPositionEmbeddings: 512, PositionEmbeddingType: "learned",
		Mode: "paper", Ring: "cyclic"}
	err := config.Decode(raw, &c)
	if config.IsSyntax(err) {
		return nil, err
	}
	m, check := NewStarTransformer(c)
	if err := config.Merge(err, check); err != nil {
		return nil, err
	}
	return m, nil
}

// NewStarTransformer builds the model.
//
// Errors: every fault as *config.FieldError, joined.
func NewStarTransformer(c StarTransformerConfig) (*StarTransformer, error) {
	c.ModelType = "star_transformer"
	if c.IntermediateSize == 0 {
		c.IntermediateSize = 4 * min(max(c.HiddenSize, 1), maxSize/4)
	}
	var p problems
	p.oneOf("task", c.Task, "sequence_classification", "token_classification", "regression")
	p.residual(c.Residual, ": ring and relay take turns, and what a norm follows cannot be computed back")
	p.want(c.VectorSize >= 0 && c.VectorSize <= maxSize, "vector_size", c.VectorSize, fmt.Sprintf("0 to %d", maxSize))
	if c.VectorSize > 0 {
		p.want(c.VocabSize == 0, "vocab_size", c.VocabSize, "0 beside vector_size: a model reads tokens or vectors")
	} else {
		p.size("vocab_size", c.VocabSize, maxSize)
	}
	p.size("num_labels", c.NumLabels, maxSize)
	p.size("hidden_size", c.HiddenSize, maxSize)
	p.size("intermediate_size", c.IntermediateSize, maxSize)
	p.size("num_hidden_layers", c.NumHiddenLayers, maxLayers)
	p.size("num_attention_heads", c.NumAttentionHeads, maxSize)
	if c.HeadDim == 0 && c.HiddenSize >= 1 && c.NumAttentionHeads >= 1 {
		p.want(c.HiddenSize%c.NumAttentionHeads == 0, "num_attention_heads", c.NumAttentionHeads,
			fmt.Sprintf("a divisor of hidden_size (%d), or head_dim", c.HiddenSize))
		c.HeadDim = c.HiddenSize / c.NumAttentionHeads
	}
	p.want(c.HeadDim >= 0 && c.HeadDim <= maxSize/min(max(c.NumAttentionHeads, 1), maxSize), "head_dim", c.HeadDim, "from 0 on, and less than 2^31 for all heads together")
	p.oneOf("position_embedding_type", c.PositionEmbeddingType, "learned", "none")
	if c.PositionEmbeddingType == "learned" {
		p.size("max_position_embeddings", c.MaxPositionEmbeddings, maxSize)
	}
	p.oneOf("mode", c.Mode, attention.StarModes...)
	p.oneOf("ring", c.Ring, "cyclic", "open")
	if c.LayerNormEps == 0 {
		c.LayerNormEps = 1e-5
		if c.Mode == string(attention.StarFastNLP) {
			c.LayerNormEps = 1e-6
		}
	}
	p.want(c.LayerNormEps > 0, "layer_norm_eps", c.LayerNormEps, "more than 0")
	p.want(c.HiddenDropoutProb >= 0 && c.HiddenDropoutProb < 1, "hidden_dropout_prob", c.HiddenDropoutProb, "from 0 to less than 1")
	if err := p.err(); err != nil {
		return nil, err
	}
	return &StarTransformer{c}, nil
}

// Type is "star_transformer".
func (m *StarTransformer) Type() string { return m.cfg.ModelType }

// Task is sequence_classification, token_classification or regression.
func (m *StarTransformer) Task() string { return m.cfg.Task }

// Dims are the sizes.
func (m *StarTransformer) Dims() Dims {
	c := m.cfg
	d := Dims{Vocab: c.VocabSize, Hidden: c.HiddenSize, Inner: c.IntermediateSize, Layers: c.NumHiddenLayers, Heads: c.NumAttentionHeads,
		Labels: c.NumLabels, Vectors: c.VectorSize}
	if c.PositionEmbeddingType == "learned" {
		d.Positions = c.MaxPositionEmbeddings
	}
	return d
}

// Config is the resolved config.json.
func (m *StarTransformer) Config() ([]byte, error) { return marshalConfig(m.cfg, nil) }

// Warnings says what has no effect.
func (m *StarTransformer) Warnings() []string {
	if m.cfg.PositionEmbeddingType == "none" && m.cfg.Task == "token_classification" {
		return []string{"position_embedding_type none: the left and the right neighbour cannot be told apart"}
	}
	return nil
}

// Forward adds the network to the graph. More["relay"] is s, [B,C].
func (m *StarTransformer) Forward(b *layers.Builder, in Inputs, stepsPerBlock int) Outputs {
	if b.Err() != nil {
		return Outputs{}
	}
	c, sb := m.cfg, b.Scope("star_transformer")
	e := m.embed(sb.Scope("embeddings"), in)
	if b.Err() != nil {
		return Outputs{}
	}
	batch := e.Shape()[0]
	step := attention.StarConfig{Mode: attention.StarMode(c.Mode), Heads: c.NumAttentionHeads, HeadSize: c.HeadDim, Inner: c.IntermediateSize,
		Eps: c.LayerNormEps, Open: c.Ring == "open", Lens: in.Lens}
	h, s := e, layers.Reshape(b, layers.MeanRows(b, e, in.Lens), batch, 1, c.HiddenSize)
	hidden := []*Node{h}
	for t := 0; t < c.NumHiddenLayers; {
		end := min(t+max(stepsPerBlock, 1), c.NumHiddenLayers)
		steps := func() {
			for ; t < end; t++ {
				scope := fmt.Sprint("steps.", t)
				if c.ShareAcrossSteps {
					scope = "steps.0"
				}
				h, s = attention.StarStep(sb.Scope(scope), step, h, e, s)
				hidden = append(hidden, h)
			}
		}
		if stepsPerBlock > 0 {
			b.Block(steps)
		} else {
			steps()
		}
	}
	if c.Mode == string(attention.StarResidual) {
		norm := sb.Scope("norm")
		h, s = layers.LayerNorm(norm, h, layers.NormConfig{Eps: c.LayerNormEps}), layers.LayerNorm(norm, s, layers.NormConfig{Eps: c.LayerNormEps})
		hidden[len(hidden)-1] = h
	}
	s = layers.Reshape(b, s, batch, c.HiddenSize)
	return Outputs{Logits: m.head(b.Scope("classifier"), h, s, in.Lens), Hidden: hidden, More: map[string]*Node{"relay": s}}
}

// embed is e, [B,T,C].
func (m *StarTransformer) embed(b *layers.Builder, in Inputs) *Node {
	c := m.cfg
	var e *Node
	switch {
	case c.VectorSize > 0 && in.Vectors == nil:
		return b.Failf("the model reads vectors of %d numbers (vector_size), and was given token ids", c.VectorSize)
	case c.VectorSize > 0:
		if s := in.Vectors.Shape(); len(s) != 3 || s[2] != c.VectorSize {
			return b.Failf("vectors of shape %v, vector_size wants [B,T,%d]", s, c.VectorSize)
		}
		e = layers.Linear(b.Scope("projection"), in.Vectors, layers.LinearConfig{Out: c.HiddenSize, Init: layers.XavierUniform()})
	default:
		e = layers.Embedding(b.Scope("word_embeddings"), in.IDs, c.VocabSize, c.HiddenSize, nil)
	}
	if b.Err() != nil {
		return nil
	}
	if c.PositionEmbeddingType == "learned" {
		if t := in.First + e.Shape()[1]; t > c.MaxPositionEmbeddings {
			return b.Fail(&LengthError{Length: t, Max: c.MaxPositionEmbeddings})
		}
		e = layers.LearnedPositions(b.Scope("position_embeddings"), e, c.MaxPositionEmbeddings, nil, layers.PositionConfig{First: in.First})
	}
	return layers.Dropout(b, e, c.HiddenDropoutProb)
}

// head reads classes of each token, or of the whole, or numbers at the relay.
func (m *StarTransformer) head(b *layers.Builder, h, s, lens *Node) *Node {
	x := h
	switch m.cfg.Task {
	case "sequence_classification":
		x = layers.Scale(b, layers.Add(b, layers.MaxRows(b, h, lens), s), 0.5)
	case "regression":
		x = s
	}
	x = layers.Linear(b.Scope("dense"), x, layers.LinearConfig{Out: m.cfg.HiddenSize, Act: kernels.ReLU, Init: layers.XavierUniform()})
	x = layers.Dropout(b, x, m.cfg.HiddenDropoutProb)
	return layers.Linear(b.Scope("out_proj"), x, layers.LinearConfig{Out: m.cfg.NumLabels, Init: layers.XavierUniform()})
}
