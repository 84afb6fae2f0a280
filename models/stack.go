package models

import (
	"fmt"
	"math"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/kernels"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/layers/attention"
)

// stack is a pre-norm decoder: what the families of causal language models share. They differ in names, in which maps have
// biases and how weights are stored, in positions and in the pattern of each layer.
//
//	x = tokens + positions
//	for each layer: x = x + out(attention(norm1(x))); x = x + down(act(up(norm2(x))))
//	logits = final(x) · head
type stack struct {
	Dims
	names names

	act  kernels.Activation
	eps  float64
	init layers.Init // of matrices; nil is N(0, .02)
	last layers.Init // of the two maps that write to the residual stream; nil is init

	position string  // learned, sinusoidal, rotary, none
	ropeBase float64 // rotary

	inOut   bool // weights stored [in, out]
	noQKV   bool // no bias in the query, key and value maps
	noBias  bool // no bias at all but in norms
	untied  bool // a head of its own instead of the token table
	reverse bool // reversible residuals

	embedDropout, residDropout float64

	patterns []attention.Pattern // one a layer, causal
	scales   []float64           // of scores, one a layer; nil: 1/sqrt(D)
}

// names are the scopes of the weights. Those of a layer are relative to the layer's own scope, layer + index.
type names struct {
	tokens, positions string
	layer             string // "transformer.h."
	norm1             string
	qkv               string // one map for q|k|v, or "" and
	q, k, v           string // three
	out               string
	norm2, up, down   string
	final             string
	head              string
}

func (s *stack) headSize() int { return s.Hidden / s.Heads }

func (s *stack) scale(layer int) float64 {
	if s.scales == nil {
		return 1 / math.Sqrt(float64(s.headSize()))
	}
	return s.scales[layer]
}

// forward adds the stack to the graph.
func (s *stack) forward(b *layers.Builder, in Inputs, layersPerBlock int) Outputs {
	if b.Err() != nil {
		return Outputs{}
	}
	t := in.IDs.Shape()[in.IDs.Dims()-1]
	if s.Positions > 0 && t > s.Positions {
		b.Fail(&LengthError{Length: t, Max: s.Positions})
		return Outputs{}
	}
	tokens := b.Scope(s.names.tokens)
	table := tokens.Param("weight", s.initial(), s.Vocab, s.Hidden)
	x := layers.Lookup(tokens, table, in.IDs) // [B,T,C]
	switch s.position {
	case "learned":
		x = layers.LearnedPositions(b.Scope(s.names.positions), x, s.Positions, s.initial(), layers.PositionConfig{})
	case "sinusoidal":
		x = layers.SinusoidalPositions(b.Scope("positions"), x, t, false, layers.PositionConfig{})
	}
	x = layers.Dropout(b.Scope("embedding"), x, s.embedDropout)

	hidden := []*Node{x}
	if s.reverse {
		x = s.reversible(b, x, in)
	} else {
		for l := 0; l < s.Layers; {
			l = s.block(b, l, layersPerBlock, func(l int) {
				if l > 0 {
					hidden = append(hidden, x)
				}
				lb := b.Scope(fmt.Sprint(s.names.layer, l))
				x = s.attend(lb, l, x, x, in)
				x = s.feed(lb, x, x)
			})
		}
	}
	x = layers.LayerNorm(b.Scope(s.names.final), x, layers.NormConfig{Eps: s.eps})
	hidden = append(hidden, x)
	if s.untied {
		return Outputs{Logits: layers.Linear(b.Scope(s.names.head), x, layers.LinearConfig{Out: s.Vocab, NoBias: true, Init: s.initial()}), Hidden: hidden}
	}
	return Outputs{Logits: layers.Linear(b.Scope(s.names.head), x, layers.LinearConfig{Weight: table, NoBias: true}), Hidden: hidden}
}

// block builds layers l, l+1, ... of one recompute block and returns the index of the layer after it.
func (s *stack) block(b *layers.Builder, l, layersPerBlock int, layer func(l int)) int {
	if layersPerBlock == 0 {
		layer(l)
		return l + 1
	}
	end := min(l+layersPerBlock, s.Layers)
	b.Block(func() {
		for ; l < end; l++ {
			layer(l)
		}
	})
	return end
}

// attend is residual + attention(norm(x)); residual nil leaves the sum out.
func (s *stack) attend(b *layers.Builder, l int, x, residual *Node, in Inputs) *Node {
	h := layers.LayerNorm(b.Scope(s.names.norm1), x, layers.NormConfig{Eps: s.eps})
	cfg := attention.Config{Pattern: s.patterns[l], Heads: s.Heads, Scale: s.scale(l), Lens: in.Lens}
	var qkv []*Node
	if s.names.qkv != "" {
		qkv = []*Node{s.rotate(b, s.linear(b, s.names.qkv, h, 3*s.Hidden, s.noQKV))}
	} else {
		for _, name := range []string{s.names.q, s.names.k, s.names.v} {
			qkv = append(qkv, s.linear(b, name, h, s.Hidden, s.noQKV))
		}
	}
	var o *Node
	switch ab := b.Scope("attn"); {
	case in.Attend != nil:
		o = in.Attend(ab, l, cfg, qkv...)
	case len(qkv) == 1:
		o, _ = attention.AttendQKV(ab, cfg, qkv[0])
	default:
		o, _ = attention.Attend(ab, cfg, qkv[0], qkv[1], qkv[2])
	}
	return s.write(b.Scope(s.names.out), o, residual)
}

// rotate turns the queries and keys of q|k|v by their positions.
func (s *stack) rotate(b *layers.Builder, qkv *Node) *Node {
	if s.position != "rotary" {
		return qkv
	}
	return layers.Rope(b.Scope("attn.rotary"), qkv, layers.RopeConfig{Heads: 2 * s.Heads, HeadSize: s.headSize(), Base: s.ropeBase})
}

// feed is residual + down(act(up(norm(x)))); residual nil leaves the sum out.
func (s *stack) feed(b *layers.Builder, x, residual *Node) *Node {
	h := layers.LayerNorm(b.Scope(s.names.norm2), x, layers.NormConfig{Eps: s.eps})
	return layers.FeedForward(b, h, layers.FeedForwardConfig{Hidden: s.Inner, Act: s.act, InOut: s.inOut, NoBias: s.noBias,
		Up: s.names.up, Down: s.names.down, Residual: residual, Init: s.initial(), DownInit: s.last, Dropout: s.residDropout})
}

func (s *stack) linear(b *layers.Builder, name string, x *Node, out int, noBias bool) *Node {
	return layers.Linear(b.Scope(name), x, layers.LinearConfig{Out: out, InOut: s.inOut, NoBias: noBias || s.noBias, Init: s.initial()})
}

// write maps h to the width of the stream, with dropout, and adds it to the residual.
func (s *stack) write(b *layers.Builder, h, residual *Node) *Node {
	c := layers.LinearConfig{Out: s.Hidden, InOut: s.inOut, NoBias: s.noBias, Init: s.last}
	if c.Init == nil {
		c.Init = s.initial()
	}
	if s.residDropout == 0 || !b.Training() {
		c.Residual = residual
		return layers.Linear(b, h, c)
	}
	y := layers.Dropout(b, layers.Linear(b, h, c), s.residDropout)
	if residual != nil {
		y = layers.Add(b, y, residual)
	}
	return y
}

// reversible runs the layers as y1 = x1 + attention(x2), y2 = x2 + feed(y1) from two equal streams, whose mean goes on.
//
// Source: Kitaev, Kaiser, Levskaya 2020, arXiv 2001.04451, section 3.
// Differs: the streams are averaged, not concatenated, so plain and reversible models have the same weights.
func (s *stack) reversible(b *layers.Builder, x *Node, in Inputs) *Node {
	if b.Err() != nil {
		return nil
	}
	blocks := make([]engine.ReversibleBlock, s.Layers)
	for l := range blocks {
		lb := b.Scope(fmt.Sprint(s.names.layer, l))
		blocks[l] = engine.ReversibleBlock{
			F: func(x *Node) *Node { return s.attend(lb, l, x, nil, in) },
			G: func(x *Node) *Node { return s.feed(lb, x, nil) },
		}
	}
	y1, y2, err := engine.Reversible(x, x, blocks...)
	if b.Err() != nil {
		return nil // a branch failed and says where
	}
	if err != nil {
		return b.Fail(err)
	}
	return layers.Scale(b, layers.Add(b, y1, y2), 0.5)
}

func (s *stack) initial() layers.Init {
	if s.init != nil {
		return s.init
	}
	return layers.Normal(0.02)
}

// LengthError says that a sequence is longer than the model has positions.
type LengthError struct{ Length, Max int }

func (e *LengthError) Error() string {
	return fmt.Sprintf("a sequence of %d tokens, but max_position_embeddings is %d: use shorter sequences or a model with more positions", e.Length, e.Max)
}
