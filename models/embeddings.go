package models

import (
	"fmt"
	"slices"

	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/layers/attention"
)

// embed is the sum of what is known of each token, [B,T,C].
// Errors: *LengthError.
func (s *stack) embed(b *layers.Builder, in Inputs) *Node {
	x, t := s.tokens(b, in)
	if b.Err() != nil {
		return nil
	}
	if s.Positions > 0 && in.First+t > s.Positions {
		return b.Fail(&LengthError{Length: in.First + t, Max: s.Positions})
	}
	if s.types > 0 {
		x = s.addTypes(b, x, in.Types, t)
	}
	if s.typesToo && in.Types != nil {
		x = layers.Add(b, x, layers.Lookup(b.Scope(s.names.tokens), s.table(b), in.Types))
	}
	switch s.position {
	case "learned":
		c := layers.PositionConfig{First: s.offset + in.First}
		if s.counted {
			c = layers.PositionConfig{IDs: layers.CountedPositions(b, in.IDs, nil, s.padding-1), Frozen: s.padding}
			if in.First > 0 {
				c.IDs = layers.Plus(b, c.IDs, in.First)
			}
		}
		x = layers.LearnedPositions(b.Scope(s.names.positions), x, s.Positions+s.offset, s.ofTables(), c)
	case "factorized":
		for axis := range s.shape {
			x = s.addAxis(b, x, axis, in.First, t)
		}
	case "axial":
		pb := b.Scope(s.names.positions)
		x = layers.AddPositions(pb, x, layers.AxialPositions(pb, layers.AxialConfig{Shape: s.shape, Widths: s.widths, First: in.First, Count: t, Init: s.ofTables()}), layers.PositionConfig{})
	case "image":
		x = s.addPlaces(b, x, in.First, t)
	case "sinusoidal":
		x = layers.SinusoidalPositions(b.Scope("positions"), x, in.First+t, false, layers.PositionConfig{First: in.First})
	}
	if s.image != nil {
		x = s.addClass(b, x, in.More["class_labels"])
	}
	if s.embedNorm == "before" {
		x = s.norm(b, s.names.embedNorm, x)
	}
	x = layers.Dropout(b.Scope("embedding"), x, s.embedDropout)
	if s.embedNorm == "after" {
		x = s.norm(b, s.names.embedNorm, x)
	}
	return x
}

// addAxis adds the vector of each position's place on an axis, of so many positions from first on.
//
// Source: Child et al. 2019, arXiv 1904.10509, section 5.3.
func (s *stack) addAxis(b *layers.Builder, x *Node, axis, first, t int) *Node {
	if b.Err() != nil {
		return nil
	}
	places := make([]int32, t)
	for i := range places {
		places[i] = int32(s.place(axis, first+i))
	}
	at := b.Scope(fmt.Sprint(s.names.positions, ".", axis))
	ids := b.Const(fmt.Sprint("positions.", s.shape, ".", axis, ".", first, ".", t), tensor.New(tensor.WithShape(t), tensor.WithBacking(places)))
	return layers.AddPositions(at, x, at.Param("weight", s.ofTables(), s.shape[axis], s.Hidden), layers.PositionConfig{IDs: ids})
}

// place is the coordinate of a position on an axis, the last axis running fastest.
func (s *stack) place(axis, position int) int {
	for _, size := range s.shape[axis+1:] {
		position /= size
	}
	return position % s.shape[axis]
}

// tokens are the vectors of what is read, and how many tokens there are.
func (s *stack) tokens(b *layers.Builder, in Inputs) (x *Node, t int) {
	if s.vectors > 0 {
		if in.Vectors == nil || in.Vectors.Dims() != 3 || in.Vectors.Shape()[2] != s.vectors {
			return b.Failf("the model reads vectors [B,T,%d], not ids: give data of vectors of vector_size", s.vectors), 0
		}
		return layers.Linear(b.Scope(s.names.vectors), in.Vectors, layers.LinearConfig{Out: s.Hidden, Init: s.initial()}), in.Vectors.Shape()[1]
	}
	if in.IDs == nil || in.IDs.Dims() != 2 {
		return b.Failf("the model reads ids [B,T], and there are none: give data of tokens"), 0
	}
	if s.image != nil {
		return s.readLevels(b, in)
	}
	if s.shifted && !in.Begun {
		in.IDs = layers.ShiftIDs(b, in.IDs, s.Vocab-1)
	}
	if t = in.IDs.Shape()[1]; s.padding > 0 {
		x = layers.LookupFrozen(b.Scope(s.names.tokens), s.table(b), in.IDs, s.padding-1)
	} else {
		x = layers.Lookup(b.Scope(s.names.tokens), s.table(b), in.IDs)
	}
	if s.embedScale != 0 {
		x = layers.Scale(b, x, s.embedScale)
	}
	return x, t
}

// table is the token table [V,C], of images that of all channels.
func (s *stack) table(b *layers.Builder) *Node {
	init := s.ofTables()
	if s.ofIDs != nil {
		init = s.ofIDs
	}
	return b.Scope(s.names.tokens).Param("weight", init, s.tableRows(), s.Hidden)
}

// addTypes adds the vector of each token's type, of the first type where none are given.
func (s *stack) addTypes(b *layers.Builder, x, types *Node, t int) *Node {
	if types == nil {
		types = b.Const(fmt.Sprint("token_type_ids.none.", t), tensor.New(tensor.WithShape(t), tensor.WithBacking(make([]int32, t))))
	}
	table := b.Scope(s.names.types).Param("weight", s.ofTables(), s.types, s.Hidden)
	return layers.AddPositions(b.Scope(s.names.types), x, table, layers.PositionConfig{IDs: types})
}

// prepend puts the model's own vectors before the tokens of each example, or spans behind them, so that patterns with external nodes or
// trees can speak of them.
func (s *stack) prepend(b *layers.Builder, x, lens *Node) (y, longer *Node) {
	if s.tree {
		return attention.TreeNodes(b, x, lens)
	}
	if s.external == 0 || b.Err() != nil {
		return x, lens
	}
	own := b.Scope(s.names.external).Param("weight", s.ofTables(), s.external, s.Hidden)
	if lens != nil {
		lens = layers.Plus(b, lens, s.external)
	}
	return layers.Concat(b, 1, layers.Broadcast(b, own, x.Shape()[0]), x), lens
}

// tokensOf drops what prepend added.
func (s *stack) tokensOf(b *layers.Builder, x *Node) *Node {
	if s.tree {
		return attention.TreeTokens(b, x)
	}
	if s.external == 0 || b.Err() != nil {
		return x
	}
	return layers.Slice(b, x, 1, s.external, x.Shape()[1])
}

// readers is how many rows of each example of a stack of trees read another sequence: its tokens.
func (s *stack) readers(b *layers.Builder, x, lens *Node) *Node {
	if !s.tree || lens != nil || b.Err() != nil {
		return lens
	}
	batch, t := x.Shape()[0], x.Shape()[1]
	all := slices.Repeat([]int32{int32(t)}, batch)
	return b.Const(fmt.Sprint("lengths.all.", batch, ".", t), tensor.New(tensor.WithShape(batch), tensor.WithBacking(all)))
}
