package attention

import (
	"fmt"

	"github.com/euryale-ml/euryale/internal/config"
	"github.com/euryale-ml/euryale/layers"
)

// someHeads is a type of entry whose Mixer may have some of the heads of a layer, beside others.
type someHeads interface {
	mixed
	// beside says nothing; it marks the types.
	beside()
}

// HeadGroups are groups of heads, one after the other, that attend in ways of their own, such as local heads beside routed ones. Each group has
// maps of its own to queries, keys and values, of as many columns as its heads have; results stand side by side.
// Weights: heads_0.qkv, heads_1.qkv, …, or qk and v of a group that shares queries and keys, besides those of the groups.
type HeadGroups []HeadGroup

// HeadGroup is one of HeadGroups.
type HeadGroup struct {
	Heads int
	Mixer Mixer
}

var _ Mapping = HeadGroups{}

// MapsItself is true.
func (HeadGroups) MapsItself() bool { return true }

// Pattern is the patterns of the groups, head by head.
func (g HeadGroups) Pattern() Pattern {
	var parts []Pattern
	for _, of := range g {
		for h := range of.Heads {
			parts = append(parts, headOf(of.Mixer.Pattern(), h))
		}
	}
	p, err := Heads(parts...)
	if err != nil {
		return Full{}
	}
	return p
}

// Class is the weakest class of causality among the groups; empty if all are patterns.
func (g HeadGroups) Class() string {
	class := ""
	for _, of := range g {
		if c, ok := of.Mixer.(interface{ Class() string }); ok && (class == "" || c.Class() == "C0") {
			class = c.Class()
		}
	}
	return class
}

// Mix adds the groups.
func (g HeadGroups) Mix(b *layers.Builder, in Stream) *Node {
	all, from := Nodes{}, 0
	for i, of := range g {
		if b.Err() != nil {
			return nil
		}
		pb := b.Scope(fmt.Sprint("heads_", i))
		part := in
		part.Heads = of.Heads
		width := in.X.Shape()[2] / in.Heads * of.Heads
		if in.Width > 0 {
			width = in.Width / in.Heads * of.Heads
		}
		part.Width = width
		part.Linear = func(b *layers.Builder, x *Node) *Node { return in.Map(b, x, width) }
		if in.First != nil {
			part.First = in.First.Scope(fmt.Sprint("heads_", i))
		}
		if in.LabelBias != nil {
			part.LabelBias = layers.Slice(b, in.LabelBias, 1, from, from+of.Heads)
		}
		turned := func(x *Node, heads int) *Node {
			if in.Turn == nil {
				return x
			}
			return in.Turn(pb, x, heads)
		}
		part.Project = nil
		if SharesQK(of.Mixer) {
			part.QKV = []*Node{turned(in.Map(pb.Scope("qk"), in.X, width), of.Heads), in.Map(pb.Scope("v"), in.X, width)}
		} else if m, ok := of.Mixer.(Mapping); !ok || !m.MapsItself() {
			part.QKV = []*Node{turned(in.Map(pb.Scope("qkv"), in.X, 3*width), 2*of.Heads)}
			part.Project = func(b *layers.Builder, k int, x *Node) *Node {
				y := in.Map(pb.Scope("qkv"), x, 3*width)
				if b.Err() != nil {
					return nil
				}
				return layers.SplitColumns(b, y, 3)[k]
			}
		}
		all = append(all, of.Mixer.Mix(pb, part))
		from += of.Heads
	}
	return layers.Concat(b, 2, all...)
}

// groups makes HeadGroups of an entry with a part that is more than a pattern; nil if there is none.
func (e *headsEntry) groups(at Layer) (HeadGroups, error) {
	mixes := false
	for _, part := range e.Parts {
		_, more := part.Attention.fields.(someHeads)
		mixes = mixes || more
	}
	if !mixes {
		return nil, nil
	}
	if _, err := e.pattern(at); err != nil { // the number of heads
		return nil, err
	}
	var all HeadGroups
	for k, part := range e.Parts {
		own := at
		own.Heads = *part.Heads
		m, err := part.Attention.Mixer(own)
		if err != nil {
			return nil, config.Prefix(fmt.Sprintf("parts[%d].attention", k), err)
		}
		all = append(all, HeadGroup{*part.Heads, m})
	}
	return all, nil
}
