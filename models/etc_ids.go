package models

import (
	"fmt"
	"slices"

	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/layers/attention"
)

// ids computes whole numbers for each example of a batch from rows of others: it is how ETC tells what belongs together.
type ids struct {
	name    string
	columns int // of the result, [B,columns]
	row     func(out []int32, in [][]int32)
}

func (o ids) Name() string { return o.name }

func (o ids) Infer(in []engine.Type) (engine.Type, error) {
	for _, t := range in {
		if t.Dtype != tensor.Int32 || len(t.Shape) == 0 || t.Shape[0] != in[0].Shape[0] {
			return engine.Type{}, fmt.Errorf("%v, want int32 [%d,·]", t, in[0].Shape[0])
		}
	}
	return engine.Type{Dtype: tensor.Int32, Shape: tensor.Shape{in[0].Shape[0], o.columns}}, nil
}

func (o ids) Run(out engine.Value, in []engine.Value) error {
	rows := make([][]int32, len(in))
	for b := range out.Shape()[0] {
		for k, v := range in {
			n := v.Shape().TotalSize() / v.Shape()[0]
			rows[k] = engine.Ints(v)[b*n:][:n]
		}
		o.row(engine.Ints(out)[b*o.columns:][:o.columns], rows)
	}
	return nil
}

func (o ids) Diff(in layers.Nodes, _, _ *Node) (layers.Nodes, error) {
	return make(layers.Nodes, len(in)), nil
}

// structure is what the ids of a batch say: [B,T] of the long input, [B,g] of the global one.
type structure struct {
	longIDs, globalIDs *Node // the example, 0 for padding
	sentences          *Node // the global node that a token belongs to
	segments           *Node // may be nil
	globals            *Node // ids of the global tokens
}

// structure reads the inputs, or makes them up: one example of Lens tokens, cut into as many sentences of equal length as there are
// global nodes.
func (m *ETC) structure(b *layers.Builder, in Inputs) structure {
	batch, t := in.IDs.Shape()[0], in.IDs.Shape()[1]
	g := m.cfg.NumGlobals
	var s structure
	given := in.More["global_ids"]
	if given != nil {
		g = given.Shape()[1]
	}
	if s.longIDs = in.More["long_example_ids"]; s.longIDs == nil {
		if in.Lens == nil {
			s.longIDs = filled(b, "etc.one_example", batch, t, func(int) int32 { return 1 })
		} else {
			s.longIDs = b.Op(ids{"example_ids", t, func(out []int32, in [][]int32) {
				for i := range out {
					out[i] = 0
					if i < int(in[0][0]) {
						out[i] = 1
					}
				}
			}}, in.Lens)
		}
	}
	if s.sentences = in.More["sentence_ids"]; s.sentences == nil {
		s.sentences = b.Op(ids{"sentence_ids", t, func(out []int32, in [][]int32) {
			n := 0 // of the example, so that padding changes nothing
			for _, id := range in[0] {
				if id > 0 {
					n++
				}
			}
			for i := range out {
				out[i] = int32(attention.PartOf(i, n, g))
			}
		}}, s.longIDs)
	}
	if given == nil {
		given = filled(b, "etc.globals", batch, g, func(int) int32 { return int32(m.cfg.GlobalTokenID) })
	}
	if s.globalIDs = in.More["global_example_ids"]; s.globalIDs == nil {
		only := in.More["global_ids"] != nil && in.More["long_example_ids"] == nil // then a node without tokens is of the one example
		s.globalIDs = b.Op(ids{"global_example_ids", g, func(out []int32, in [][]int32) {
			for u := range out {
				if out[u] = 0; only {
					out[u] = 1
				}
			}
			for i, u := range in[1] {
				if u >= 0 && int(u) < len(out) && in[0][i] > 0 {
					out[u] = in[0][i]
				}
			}
			for u, id := range in[2] {
				if id < 0 {
					out[u] = 0
				}
			}
		}}, s.longIDs, s.sentences, given)
	}
	s.segments = in.More["global_segment_ids"]
	s.globals = b.Op(ids{"global_tokens", g, func(out []int32, in [][]int32) {
		for u, id := range in[0] {
			out[u] = max(id, 0)
		}
	}}, given)
	return s
}

// packed is the structure of the second pass that the data made: the hidden sentences one after the other, each with a global node.
func (m *ETC) packed(b *layers.Builder, in Inputs, chosen *Node) structure {
	sentences := in.More["packed_sentences"]
	if sentences == nil {
		b.Failf("etc: packed_ids without packed_sentences")
		return structure{}
	}
	next := func(name string, of *Node, value func(k int, x int32) int32) *Node {
		return b.Op(ids{name, of.Shape()[1], func(out []int32, in [][]int32) {
			for k, x := range in[0] {
				if out[k] = 0; x >= 0 {
					out[k] = value(k, x)
				}
			}
		}}, of)
	}
	return structure{longIDs: next("packed_examples", sentences, func(_ int, x int32) int32 { return x + 1 }),
		globalIDs: next("packed_globals", chosen, func(k int, _ int32) int32 { return int32(k) + 1 }), sentences: sentences,
		globals: filled(b, "etc.globals", chosen.Shape()[0], chosen.Shape()[1], func(int) int32 { return int32(m.cfg.GlobalTokenID) })}
}

// filled is a constant [B,n] with equal rows.
func filled(b *layers.Builder, name string, batch, n int, f func(i int) int32) *Node {
	v := make([]int32, batch*n)
	for i := range v {
		v[i] = f(i % n)
	}
	return b.Const(fmt.Sprint(name, ".", batch, ".", n), tensor.New(tensor.WithShape(batch, n), tensor.WithBacking(v)))
}

// hide puts a mask in the place of the tokens of the chosen sentences [B,S], and marks their global nodes.
func (m *ETC) hide(b *layers.Builder, tokens *Node, s structure, chosen *Node) (*Node, structure) {
	mask, mark := int32(m.cfg.MaskTokenID), int32(m.cfg.CPCTokenID)
	tokens = b.Op(ids{"hidden_tokens", tokens.Shape()[1], func(out []int32, in [][]int32) {
		for i, id := range in[0] {
			if out[i] = id; in[1][i] >= 0 && slices.Contains(in[2], in[1][i]) {
				out[i] = mask
			}
		}
	}}, tokens, s.sentences, chosen)
	s.globals = b.Op(ids{"marked_globals", s.globals.Shape()[1], func(out []int32, in [][]int32) {
		for u, id := range in[0] {
			if out[u] = id; slices.Contains(in[1], int32(u)) {
				out[u] = mark
			}
		}
	}}, s.globals, chosen)
	return tokens, s
}

// apart makes each of the chosen sentences an example of its own, and of all else padding.
func (m *ETC) apart(b *layers.Builder, s structure, chosen *Node) structure {
	s.longIDs = b.Op(ids{"own_examples", s.longIDs.Shape()[1], func(out []int32, in [][]int32) {
		for i, u := range in[1] {
			if out[i] = 0; in[0][i] > 0 && u >= 0 && slices.Contains(in[2], u) {
				out[i] = u + 1
			}
		}
	}}, s.longIDs, s.sentences, chosen)
	s.globalIDs = b.Op(ids{"own_globals", s.globalIDs.Shape()[1], func(out []int32, in [][]int32) {
		for u := range out {
			if out[u] = 0; slices.Contains(in[0], int32(u)) {
				out[u] = int32(u) + 1
			}
		}
	}}, chosen)
	s.segments = nil
	return s
}

// twins numbers the chosen sentences [B,S], row by row: equal numbers for the same tokens, -1 for none. The result is [B·S].
type twins struct{}

func (twins) Name() string { return "equal_sentences" }

func (twins) Infer(in []engine.Type) (engine.Type, error) {
	return engine.Type{Dtype: tensor.Int32, Shape: tensor.Shape{in[2].Size()}}, nil
}

// Run has inputs: tokens [B,T], sentences [B,T], chosen [B,S].
func (twins) Run(out engine.Value, in []engine.Value) error {
	tokens, sentences, chosen, groups := engine.Ints(in[0]), engine.Ints(in[1]), engine.Ints(in[2]), engine.Ints(out)
	t, s := in[0].Shape()[1], in[2].Shape()[1]
	texts := make([][]int32, len(chosen))
	for k, u := range chosen {
		if groups[k] = -1; u < 0 {
			continue
		}
		for i := k / s * t; i < (k/s+1)*t; i++ {
			if sentences[i] == u {
				texts[k] = append(texts[k], tokens[i])
			}
		}
		groups[k] = int32(slices.IndexFunc(texts[:k+1], func(other []int32) bool { return slices.Equal(other, texts[k]) }))
		for first := int(groups[k]); first < k && chosen[first] < 0; first++ { // that of no sentence has no tokens either
			groups[k] = int32(first + 1)
		}
	}
	return nil
}

func (twins) Diff(in layers.Nodes, _, _ *Node) (layers.Nodes, error) {
	return make(layers.Nodes, len(in)), nil
}
