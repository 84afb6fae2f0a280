package models

import (
	"fmt"
	"math"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/kernels"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/layers/attention"
)

// stack is what all transformers here share, encoders and decoders: embeddings, then layers of attention, of attention on another
// sequence where there is one, and of a feed-forward part. Families differ in names and in the options below.
//
//	x = norm(tokens + types + positions)                                                                     embeddings.go
//	before: x = x + out(attention(norm1(x)));  x = x + cross(normCross(x), memory);  x = x + feed(norm2(x))  block.go
//	after:  x = norm1(x + out(attention(x)));  x = normCross(x + cross(x, memory));  x = norm2(x + feed(x))
//	y = final(x), what heads read                                                                            heads.go
type stack struct {
	Dims  // Positions is the longest sequence
	names names

	act     kernels.Activation
	eps     float64     // of the norms
	rms     bool        // RMSNorm, which has no bias; else LayerNorm
	post    bool        // norms stand after the residual sum; else before each part
	size    int         // D of a head; 0: C/H
	init    layers.Init // of matrices; nil is N(0, .02)
	last    layers.Init // of the maps that write to the residual stream; nil is init
	tables  layers.Init // of embeddings; nil is init
	ofIDs   layers.Init // of the table of tokens; nil is tables
	reverse bool        // reversible residuals; norms before
	rows    int         // of the feed-forward part that are worked on at a time; 0: all
	inOut   bool        // weights stored [in, out]
	noQKV   bool        // no bias in the query, key and value maps
	noOut   bool        // no bias in the output map of attention
	noFeed  bool        // no bias in the feed-forward maps
	untied  bool        // the language model's head is a weight of its own instead of the token table
	biased  bool        // it has a bias
	outInit layers.Init // of a head of its own; nil is init
	classes int         // of a head of its own; 0: V
	shifted bool        // ids are moved by one, the last id of the table stands in front: every id is predicted (image_density)

	// Embeddings.
	vectors    int      // width of what is read in place of ids, which is mapped to C; 0: ids
	embedScale float64  // factor of the tokens' vectors; 0: 1
	types      int      // kinds of tokens; 0: no such table
	typesToo   bool     // types are ids of the token table, whose rows are added where types are given (GPT-2)
	image      *imageOf // what is read are images of one size; nil: ids, or vectors
	position   string   // learned, factorized, axial, sinusoidal, rotary, relative, none
	shape      []int    // factorized, axial: sizes of the axes that a position is split into, a table for each
	widths     []int    // axial: of the tables
	ropeBase   float64  // rotary
	offset     int      // rows of the learned table before that of the first token
	padding    int      // 1 + the id of padding, whose row gets no gradient from the embedding; 0: none
	counted    bool     // positions count the ids that are not padding, as RoBERTa's
	embedNorm  string   // norm of the embeddings, "before" or "after" dropout; "": none
	external   int      // vectors of the model itself that stand before the tokens, see prepend
	tree       bool     // spans stand behind the tokens, see prepend

	// relative are the labels of pairs whose biases, a table of the first layer, are added to the scores of all layers (T5).
	relative attention.Labels

	embedDropout, residDropout float64
	innerDropout               float64 // within the feed-forward part
	finalDropout               float64 // after the last norm

	mixers []attention.Mixer   // attention of each layer
	pool   layers.Pool         // how the rows of the next layer come of those of a layer, see layers.Hierarchy; "": they are the same
	scales []float64           // of scores, one a layer; nil: 1/sqrt(D)
	cross  []attention.Pattern // of each layer, queries of the stream on keys of the memory; nil: none

	crossing []attention.Crossing // instead, where it is more than a pattern; nil: it is one in all layers
}

// names are the scopes of the weights. Those of a layer are relative to the layer's own scope, layer + index.
type names struct {
	tokens, vectors, types, positions, embedNorm, external, pool string

	layer    string // "transformer.h."
	norm1    string
	attn     string // of weights that a Mixer has of its own; "" is attn
	qkv      string // one map for q|k|v, or "" and
	q, k, v  string // three
	qk       string // beside v, of layers whose keys are their queries
	relative string // table of biases
	out      string

	normCross, crossAttn, crossQ, crossK, crossV, crossOut string

	norm2, up, down string
	gate            string // "": no gate

	final string // "": no norm after the layers
	head  string
}

// memory is the sequence that cross-attention reads.
type memory struct {
	x    *Node // [B,S,C]
	lens *Node // int32 [B]; nil: no padding
}

// base is the stack itself, of whatever model is made of one.
func (s *stack) base() *stack { return s }

func (s *stack) headSize() int {
	if s.size > 0 {
		return s.size
	}
	return s.Hidden / s.Heads
}

// inner is the width of queries, keys and values.
func (s *stack) inner() int { return s.Heads * s.headSize() }

func (s *stack) scale(layer int) float64 {
	if s.scales == nil {
		return 1 / math.Sqrt(float64(s.headSize()))
	}
	return s.scales[layer]
}

// forward is a language model: the stack and its head.
func (s *stack) forward(b *layers.Builder, in Inputs, layersPerBlock int) Outputs {
	x, hidden := s.run(b, in, memory{}, layersPerBlock)
	return Outputs{Logits: s.languageHead(b, x), Hidden: hidden}
}

// run adds the stack to the graph: what heads read, [B,T,C], and the stream from the embeddings on as Outputs.Hidden has it.
func (s *stack) run(b *layers.Builder, in Inputs, mem memory, layersPerBlock int) (x *Node, hidden []*Node) {
	_, _, hidden = s.runNodes(b, in, mem, layersPerBlock)
	if b.Err() != nil {
		return nil, nil
	}
	return hidden[len(hidden)-1], hidden
}

// runNodes is run with what the stack itself adds to the tokens: all rows, and how many of them each example has (nil: all).
func (s *stack) runNodes(b *layers.Builder, in Inputs, mem memory, layersPerBlock int) (x, lens *Node, hidden []*Node) {
	if b.Err() != nil {
		return nil, nil, nil
	}
	x = s.embed(b, in)
	hidden = []*Node{x}
	in.readers = s.readers(b, x, in.Lens)
	x, in.Lens = s.prepend(b, x, in.Lens)
	in.first = b.Scope(fmt.Sprint(s.names.layer, 0))
	if s.reverse {
		x = s.reversible(b, x, in, mem, layersPerBlock)
	} else if s.pool != "" { // layers are levels of ever coarser rows
		x = layers.Hierarchy(b.Scope(s.names.pool), x, in.Lens, s.Layers, s.pool, func(l int, x, lens *Node) *Node {
			level := in
			level.Lens = lens
			s.block(b, l, min(layersPerBlock, 1), func(l int) { x = s.layer(b.Scope(fmt.Sprint(s.names.layer, l)), l, x, level, mem) })
			return x
		})
	} else {
		for l := 0; l < s.Layers; {
			l = s.block(b, l, layersPerBlock, func(l int) {
				if l > 0 {
					hidden = append(hidden, s.tokensOf(b, x))
				}
				x = s.layer(b.Scope(fmt.Sprint(s.names.layer, l)), l, x, in, mem)
			})
		}
	}
	if s.names.final != "" {
		x = layers.Dropout(b.Scope(s.names.final), s.norm(b, s.names.final, x), s.finalDropout)
	}
	return x, in.Lens, append(hidden, s.tokensOf(b, x))
}

// layer is one layer.
func (s *stack) layer(b *layers.Builder, l int, x *Node, in Inputs, mem memory) *Node {
	x = s.attend(b, l, x, x, in)
	if s.cross != nil {
		x = s.attendMemory(b, l, x, x, in, mem)
	}
	return s.feed(b, x, x)
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

// reversible runs the layers as y1 = x1 + attention(x2), y2 = x2 + feed(y1) from two equal streams, whose mean goes on. Where there
// is a memory, a layer is three such sums in turn, the one in the middle of what is read from it: the streams change places in the next layer.
// layersPerBlock > 1 keeps the streams before every so many layers and computes back from those.
//
// Source: Kitaev, Kaiser, Levskaya 2020, arXiv 2001.04451, section 3; three sums as their code has them.
// Differs: the streams are averaged, not concatenated, so plain and reversible models have the same weights.
func (s *stack) reversible(b *layers.Builder, x *Node, in Inputs, mem memory, layersPerBlock int) *Node {
	if b.Err() != nil {
		return nil
	}
	var halves []engine.Branch
	for l := range s.Layers {
		lb := b.Scope(fmt.Sprint(s.names.layer, l))
		halves = append(halves, func(x *Node) *Node { return s.attend(lb, l, x, nil, in) })
		if s.cross != nil {
			halves = append(halves, func(x *Node) *Node { return s.attendMemory(lb, l, x, nil, in, mem) })
		}
		halves = append(halves, func(x *Node) *Node { return s.feed(lb, x, nil) })
	}
	return meanOfStreams(b, x, s.Layers, layersPerBlock, halves)
}

// meanOfStreams is the mean of what streams gives.
func meanOfStreams(b *layers.Builder, x *Node, n, layersPerBlock int, halves []engine.Branch) *Node {
	y1, y2 := streams(b, x, n, layersPerBlock, halves)
	return layers.Scale(b, layers.Add(b, y1, y2), 0.5)
}

// streams runs reversible halves of n layers from two equal streams. With layersPerBlock > 1 the streams before every so many layers are kept.
func streams(b *layers.Builder, x *Node, n, layersPerBlock int, halves []engine.Branch) (y1, y2 *Node) {
	anchors := 0
	if layersPerBlock > 1 { // one layer is what is computed back at a time anyway
		anchors = layersPerBlock * len(halves) / n
	}
	y1, y2, err := engine.ReversibleHalves(x, x, anchors, halves...)
	if b.Err() == nil { // else a branch failed and says where
		b.Fail(err)
	}
	return y1, y2
}

func (s *stack) initial() layers.Init {
	if s.init != nil {
		return s.init
	}
	return layers.Normal(0.02)
}

// ofTables are the initial values of embeddings.
func (s *stack) ofTables() layers.Init {
	if s.tables != nil {
		return s.tables
	}
	return s.initial()
}

// pattern is what the attention of a layer reads as far as positions decide it.
func (s *stack) pattern(layer int) attention.Pattern { return s.mixers[layer].Pattern() }

// plain makes mixers of patterns.
func plain(patterns []attention.Pattern) []attention.Mixer {
	all := make([]attention.Mixer, len(patterns))
	for l, p := range patterns {
		all[l] = attention.Plain{Of: p}
	}
	return all
}

// LengthError says that a sequence is longer than the model has positions.
type LengthError struct{ Length, Max int }

func (e *LengthError) Error() string {
	return fmt.Sprintf("a sequence of %d tokens, but max_position_embeddings is %d: use shorter sequences or a model with more positions", e.Length, e.Max)
}
