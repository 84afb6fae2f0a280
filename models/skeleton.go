package models

import (
	"fmt"
	"math"

	"github.com/euryale-ml/euryale/internal/config"
	"github.com/euryale-ml/euryale/internal/kernels"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/layers/attention"
)

// SkeletonConfig are the keys that our own skeletons share: the decoder, the encoder, and both halves of an encoder-decoder. JSON keys
// are Hugging Face's words.
type SkeletonConfig struct {
	VocabSize             int               `json:"vocab_size"`
	HiddenSize            int               `json:"hidden_size"`         // C; a multiple of num_attention_heads
	IntermediateSize      int               `json:"intermediate_size"`   // F; 0 = 4 C
	NumHiddenLayers       int               `json:"num_hidden_layers"`   // >= 1
	NumAttentionHeads     int               `json:"num_attention_heads"` // >= 1
	MaxPositionEmbeddings int               `json:"max_position_embeddings"`
	PositionEmbeddingType string            `json:"position_embedding_type"`       // rotary, learned, factorized, axial, sinusoidal, none
	PositionShape         []int             `json:"position_shape,omitempty"`      // factorized, axial: axes of a position, such as [height, width, channels] or [blocks, stride]
	AxialPosEmbdsDim      []int             `json:"axial_pos_embds_dim,omitempty"` // axial: the width of each axis' vector; they stand side by side, those of factorized are added
	RopeTheta             float64           `json:"rope_theta"`                    // base of the rotary angles
	HiddenAct             string            `json:"hidden_act"`
	LayerNormEps          float64           `json:"layer_norm_eps"`
	HiddenDropoutProb     float64           `json:"hidden_dropout_prob"` // on the embeddings and on what each part adds to the stream
	TieWordEmbeddings     bool              `json:"tie_word_embeddings"` // the head of a language model is the token table
	LMHeadBias            bool              `json:"lm_head_bias,omitempty"`
	Norm                  string            `json:"norm"`                              // pre: before each part of a layer, and after the last; post: after each residual sum
	Residual              string            `json:"residual"`                          // plain, reversible
	ChunkSizeFeedForward  int               `json:"chunk_size_feed_forward,omitempty"` // rows of the feed-forward part at a time, computed again for their gradient; 0: all
	Initializer           string            `json:"initializer"`                       // normal, xavier_uniform, sparse_transformer: initial matrices; what writes to the stream is divided by sqrt(2 layers)
	InitializerRange      float64           `json:"initializer_range"`                 // standard deviation of the initial embeddings, and of the matrices if normal
	Attention             []attention.Entry `json:"attention"`                         // an entry a layer; a shorter list repeats
}

func skeletonDefaults() SkeletonConfig {
	return SkeletonConfig{PositionEmbeddingType: "rotary", RopeTheta: 10000, HiddenAct: "gelu", LayerNormEps: 1e-5,
		TieWordEmbeddings: true, Norm: "pre", Residual: "plain", Initializer: "normal", InitializerRange: 0.02, MaxPositionEmbeddings: 16384,
		Attention: []attention.Entry{{}}}
}

// stack checks the configuration and makes the stack of it, whose weights are under the scope name. What reads vectors has no vocabulary.
func (c *SkeletonConfig) stack(p *problems, name string, decoder, reads bool) stack {
	if c.IntermediateSize == 0 {
		c.IntermediateSize = 4 * min(max(c.HiddenSize, 1), maxSize/4) // of a wrong width hidden_size alone is the fault
	}
	if reads {
		p.size("vocab_size", c.VocabSize, maxSize)
	}
	p.size("hidden_size", c.HiddenSize, maxSize)
	p.size("intermediate_size", c.IntermediateSize, maxSize)
	p.size("num_hidden_layers", c.NumHiddenLayers, maxLayers)
	p.size("num_attention_heads", c.NumAttentionHeads, maxSize)
	p.size("max_position_embeddings", c.MaxPositionEmbeddings, maxSize)
	if c.HiddenSize >= 1 && c.NumAttentionHeads >= 1 {
		p.want(c.HiddenSize%c.NumAttentionHeads == 0, "num_attention_heads", c.NumAttentionHeads, fmt.Sprintf("a divisor of hidden_size (%d)", c.HiddenSize))
		p.want(c.PositionEmbeddingType != "rotary" || c.HiddenSize%c.NumAttentionHeads != 0 || c.HiddenSize/c.NumAttentionHeads%2 == 0,
			"position_embedding_type", c.PositionEmbeddingType, fmt.Sprintf("another one, or an even head size (hidden_size / num_attention_heads is %d)", c.HiddenSize/c.NumAttentionHeads))
	}
	p.oneOf("position_embedding_type", c.PositionEmbeddingType, "rotary", "learned", "factorized", "axial", "sinusoidal", "none")
	c.checkShape(p)
	p.want(c.PositionEmbeddingType != "sinusoidal" || c.HiddenSize%2 == 0, "position_embedding_type", c.PositionEmbeddingType, fmt.Sprintf("another one, or an even hidden_size (it is %d)", c.HiddenSize))
	p.want(c.RopeTheta > 0, "rope_theta", c.RopeTheta, "more than 0")
	act, err := kernels.ParseActivation(c.HiddenAct)
	if err != nil {
		p.add(&config.FieldError{Path: "hidden_act", Value: c.HiddenAct, Want: err.Error()})
	}
	p.want(c.LayerNormEps > 0, "layer_norm_eps", c.LayerNormEps, "more than 0")
	p.want(c.HiddenDropoutProb >= 0 && c.HiddenDropoutProb < 1, "hidden_dropout_prob", c.HiddenDropoutProb, "from 0 to less than 1")
	p.oneOf("norm", c.Norm, "pre", "post")
	if c.Norm == "post" {
		p.residual(c.Residual, normAfter)
	} else {
		p.residual(c.Residual, "")
	}
	p.want(c.ChunkSizeFeedForward >= 0 && c.ChunkSizeFeedForward <= maxSize, "chunk_size_feed_forward", c.ChunkSizeFeedForward, "0 (all rows at once) or more")
	p.oneOf("initializer", c.Initializer, "normal", "xavier_uniform", "sparse_transformer")
	p.want(c.InitializerRange > 0, "initializer_range", c.InitializerRange, "more than 0")
	pool := c.pool(p)
	mixers, external, err := mixersOf(c.Attention, c.NumHiddenLayers, attention.Layer{Heads: c.NumAttentionHeads, Positions: c.MaxPositionEmbeddings, Decoder: decoder})
	p.add(err)
	tree := len(mixers) > 0 && attention.IsTree(mixers[0].Pattern())
	p.want(!tree || c.PositionEmbeddingType != "rotary", "position_embedding_type", c.PositionEmbeddingType,
		"learned, sinusoidal or none with the attention bp, whose spans have no position")
	s := stack{
		Dims: Dims{Vocab: c.VocabSize, Hidden: c.HiddenSize, Inner: c.IntermediateSize, Layers: c.NumHiddenLayers,
			Heads: c.NumAttentionHeads, Positions: c.MaxPositionEmbeddings},
		names: names{tokens: name + ".wte", vectors: name + ".in", types: name + ".wtt", positions: name + ".wpe", external: name + ".globals", pool: name,
			layer: name + ".h.", norm1: "ln_1", qkv: "attn.qkv", qk: "attn.qk", v: "attn.v", out: "attn.out",
			normCross: "ln_cross", crossAttn: "cross", crossQ: "cross.q", crossK: "cross.k", crossV: "cross.v", crossOut: "cross.out",
			norm2: "ln_2", up: "mlp.up", down: "mlp.down", final: name + ".ln_f", head: "lm_head"},
		act: act, eps: c.LayerNormEps, position: c.PositionEmbeddingType, shape: c.PositionShape, widths: c.AxialPosEmbdsDim, biased: c.LMHeadBias, ropeBase: c.RopeTheta, external: external, tree: tree,
		untied: !c.TieWordEmbeddings, post: c.Norm == "post", reverse: c.Residual == "reversible", rows: c.ChunkSizeFeedForward,
		embedDropout: c.HiddenDropoutProb, residDropout: c.HiddenDropoutProb, mixers: mixers, pool: pool,
	}
	if s.post { // the last norm of the last layer is the final one, and embeddings want one, as nothing else bounds them
		s.names.final, s.names.embedNorm, s.embedNorm = "", name+".ln_e", "before"
	}
	s.initialValues(c.Initializer, c.InitializerRange)
	return s
}

// pool is how the rows of the layers become coarser, "" if they do not.
func (c *SkeletonConfig) pool(p *problems) (pool layers.Pool) {
	for i, e := range c.Attention {
		of, _ := e.Hierarchy()
		if i == 0 {
			pool = of
		}
		p.want(of == pool, fmt.Sprintf("attention[%d]", i), e, "the same pool as attention[0]: levels of coarser rows are a matter of all layers")
	}
	p.want(pool == "" || c.Residual != "reversible", "residual", c.Residual, "plain: levels of coarser rows are added up, which cannot be computed back")
	return pool
}

// checkShape checks the axes of factorized and axial positions.
func (c *SkeletonConfig) checkShape(p *problems) {
	axial := c.PositionEmbeddingType == "axial"
	if !axial {
		p.want(len(c.AxialPosEmbdsDim) == 0, "axial_pos_embds_dim", c.AxialPosEmbdsDim, "nothing: it is for position_embedding_type axial")
	}
	if c.PositionEmbeddingType != "factorized" && !axial {
		p.want(len(c.PositionShape) == 0, "position_shape", c.PositionShape, "nothing: it is for position_embedding_type factorized or axial")
		return
	}
	if axial {
		width := 0
		for i, n := range c.AxialPosEmbdsDim {
			p.size(fmt.Sprintf("axial_pos_embds_dim[%d]", i), n, maxSize)
			width = min(width+max(n, 0), maxSize)
		}
		p.want(len(c.AxialPosEmbdsDim) == len(c.PositionShape) && width == c.HiddenSize, "axial_pos_embds_dim", c.AxialPosEmbdsDim,
			fmt.Sprintf("a width for each of the %d axes of position_shape, hidden_size (%d) together", len(c.PositionShape), c.HiddenSize))
	}
	room := 1
	for i, n := range c.PositionShape {
		p.size(fmt.Sprintf("position_shape[%d]", i), n, maxSize)
		room = min(room*max(n, 1), maxSize)
	}
	p.want(len(c.PositionShape) > 0, "position_shape", c.PositionShape, "the axes of a position, such as [blocks, stride] or [height, width]")
	p.want(len(c.PositionShape) == 0 || room >= c.MaxPositionEmbeddings, "position_shape", c.PositionShape,
		fmt.Sprintf("room for max_position_embeddings (%d) positions; there are %d", c.MaxPositionEmbeddings, room))
}

// initialValues sets those of all weights but biases and norms.
func (s *stack) initialValues(kind string, std float64) {
	depth := math.Sqrt(2 * float64(s.Layers))
	s.tables = layers.Normal(std)
	switch kind {
	case "xavier_uniform":
		s.init, s.last = layers.XavierUniform(), divided(layers.XavierUniform(), depth)
	case "sparse_transformer": // variance 0.125/inputs, as the later official code has it; a head of its own starts at zero
		matrix := layers.VarianceScaling(0.125, false)
		s.init, s.last, s.outInit = matrix, divided(matrix, depth), layers.Zeros()
	default:
		s.init, s.last = layers.Normal(std), layers.Normal(std/depth)
	}
}

// divided draws as another initialiser and divides.
func divided(of layers.Init, by float64) layers.Init {
	return func(name string, shape []int, seed uint64) func(int) float64 {
		at := of(name, shape, seed)
		return func(i int) float64 { return at(i) / by }
	}
}

// mixersOf is the attention of each layer of a model, at being the first, and how many external nodes stand before the tokens in all of them.
func mixersOf(entries []attention.Entry, layers int, at attention.Layer) (all []attention.Mixer, external int, err error) {
	if len(entries) == 0 {
		return nil, 0, &config.FieldError{Path: "attention", Value: entries, Want: "want at least one entry"}
	}
	var p problems
	front, tree := make([]int, len(entries)), make([]bool, len(entries))
	for i, e := range entries {
		path := fmt.Sprintf("attention[%d]", i)
		m, err := e.Mixer(at)
		if err == nil {
			front[i], tree[i] = attention.Front(m.Pattern()), attention.IsTree(m.Pattern())
		}
		if err != nil {
			p.add(config.Prefix(path, err))
		} else if front[i] != front[0] {
			p.add(&config.FieldError{Path: path, Value: m.Pattern().String(), Want: fmt.Sprintf(
				"want %d nodes before the tokens, as attention[0] has: the layers of a model have them in common", front[0])})
		} else if tree[i] != tree[0] {
			p.add(&config.FieldError{Path: path, Value: m.Pattern().String(), Want: "want bp in every layer or in none: the layers of a model have the spans in common"})
		}
	}
	if err := p.err(); err != nil {
		return nil, 0, err
	}
	all = make([]attention.Mixer, min(max(layers, 0), maxLayers)) // of a wrong number a fault is noted already
	for l := range all {
		at.Index = l
		if all[l], err = entries[l%len(entries)].Mixer(at); err != nil {
			return nil, 0, config.Prefix(fmt.Sprintf("attention[%d]", l%len(entries)), err)
		}
	}
	return all, front[0], nil
}
