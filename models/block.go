package models

import (
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/layers/attention"
)

// norm normalises the last axis of x.
func (s *stack) norm(b *layers.Builder, name string, x *Node) *Node {
	c := layers.NormConfig{Eps: s.eps}
	if s.rms {
		return layers.RMSNorm(b.Scope(name), x, c)
	}
	return layers.LayerNorm(b.Scope(name), x, c)
}

// before is what a part of a layer reads and what its result is added to; residual nil leaves the sum out.
func (s *stack) before(b *layers.Builder, norm string, x, residual *Node) (h, to *Node) {
	if s.post {
		return x, residual
	}
	return s.norm(b, norm, x), residual
}

// after is what goes on from a part of a layer.
func (s *stack) after(b *layers.Builder, norm string, x *Node) *Node {
	if s.post {
		return s.norm(b, norm, x)
	}
	return x
}

// attend is the self-attention of a layer.
func (s *stack) attend(b *layers.Builder, l int, x, residual *Node, in Inputs) *Node {
	h, residual := s.before(b, s.names.norm1, x, residual)
	var qkv []*Node
	itself := attention.MapsItself(s.mixers[l])
	switch {
	case itself: // by maps of its own
	case attention.SharesQK(s.mixers[l]):
		qkv = []*Node{s.rotate(b, s.linear(b, s.names.qk, h, s.inner(), s.noQKV), s.Heads), s.linear(b, s.names.v, h, s.inner(), s.noQKV)}
	case s.names.qkv != "":
		qkv = []*Node{s.rotate(b, s.linear(b, s.names.qkv, h, 3*s.inner(), s.noQKV), 2*s.Heads)}
	default:
		for i, name := range []string{s.names.q, s.names.k, s.names.v} {
			p := s.linear(b, name, h, s.inner(), s.noQKV)
			if i < 2 {
				p = s.rotate(b, p, s.Heads)
			}
			qkv = append(qkv, p)
		}
	}
	ab := b.Scope(s.attn())
	read := attention.Stream{X: h, QKV: qkv, Heads: s.Heads, Scale: s.scale(l), Lens: in.Lens, Globals: in.Globals, More: in.More,
		Linear: func(b *layers.Builder, x *Node) *Node { return s.linear(b, "", x, s.inner(), s.noQKV) },
		Map:    func(b *layers.Builder, x *Node, width int) *Node { return s.linear(b, "", x, width, s.noQKV) }, Width: s.inner(),
		Project: func(_ *layers.Builder, part int, x *Node) *Node { return s.project(b, part, x) }}
	if in.first != nil {
		read.First = in.first.Scope(s.attn())
	}
	if s.relative != nil && b.Err() == nil {
		read.Labels = s.relative
		read.LabelBias = in.first.Scope(s.names.relative).Param("weight", s.ofTables(), s.relative.Count(), s.Heads)
	}
	if s.position == "rotary" {
		read.Turn = s.rotate
		read.Rotate = func(b *layers.Builder, x, positions *Node) *Node {
			return layers.Rope(b, x, layers.RopeConfig{Heads: x.Shape()[2] / s.headSize(), HeadSize: s.headSize(), Base: s.ropeBase, Positions: layers.PositionConfig{IDs: positions}})
		}
	}
	var o *Node
	if in.Attend != nil && !itself {
		o = in.Attend(ab, l, read.Config(s.pattern(l)), qkv...)
	} else {
		o = s.mixers[l].Mix(ab, read)
	}
	return s.after(b, s.names.norm1, s.write(b.Scope(s.names.out), o, residual, s.noOut))
}

// project maps rows as those of the stream are mapped to queries (0), keys (1) or values (2).
func (s *stack) project(b *layers.Builder, part int, x *Node) *Node {
	if s.names.qkv == "" {
		return s.linear(b, []string{s.names.q, s.names.k, s.names.v}[part], x, s.inner(), s.noQKV)
	}
	n, axis, shape := s.inner(), 0, []int{3 * s.inner(), s.Hidden}
	if s.inOut {
		axis, shape = 1, []int{s.Hidden, 3 * s.inner()}
	}
	at := b.Scope(s.names.qkv)
	c := layers.LinearConfig{InOut: s.inOut, NoBias: s.noQKV, Weight: layers.Slice(b, at.Param("weight", s.initial(), shape...), axis, part*n, (part+1)*n)}
	if !s.noQKV {
		c.Bias = layers.Slice(b, at.Param("bias", layers.Zeros(), 3*n), 0, part*n, (part+1)*n)
	}
	return layers.Linear(at, x, c)
}

func (s *stack) attn() string {
	if s.names.attn != "" {
		return s.names.attn
	}
	return "attn"
}

// rotate turns the first heads of x by their positions.
func (s *stack) rotate(b *layers.Builder, x *Node, heads int) *Node {
	if s.position != "rotary" {
		return x
	}
	return layers.Rope(b.Scope("attn.rotary"), x, layers.RopeConfig{Heads: heads, HeadSize: s.headSize(), Base: s.ropeBase})
}

// attendMemory is the attention of a layer on another sequence.
func (s *stack) attendMemory(b *layers.Builder, l int, x, residual *Node, in Inputs, mem memory) *Node {
	h, residual := s.before(b, s.names.normCross, x, residual)
	q := s.linear(b, s.names.crossQ, h, s.inner(), s.noQKV)
	k := s.linear(b, s.names.crossK, mem.x, s.inner(), s.noQKV)
	v := s.linear(b, s.names.crossV, mem.x, s.inner(), s.noQKV)
	c := attention.Config{Pattern: s.cross[l], Heads: s.Heads, Scale: s.scale(l), Lens: mem.lens, Cross: true, LensQ: in.Lens}
	if s.tree { // spans do not read
		c.LensQ = in.readers
	}
	ab := b.Scope(s.names.crossAttn)
	var o *Node
	if s.crossing != nil && s.crossing[l] != nil {
		o = s.crossing[l].Cross(ab, attention.CrossStream{Q: q, K: k, V: v, Memory: mem.x, Lens: mem.lens, LensQ: c.LensQ, Heads: s.Heads, Scale: s.scale(l),
			Project: func(_ *layers.Builder, part int, x *Node) *Node {
				return s.linear(b, []string{s.names.crossQ, s.names.crossK, s.names.crossV}[part], x, s.inner(), s.noQKV)
			}})
	} else if in.Attend != nil {
		o = in.Attend(ab, l, c, q, k, v)
	} else {
		o, _ = attention.Attend(ab, c, q, k, v)
	}
	return s.after(b, s.names.normCross, s.write(b.Scope(s.names.crossOut), o, residual, s.noOut))
}

// feed is the feed-forward part of a layer: down(act(up(x))), or down(act(up(x)) * gate(x)).
func (s *stack) feed(b *layers.Builder, x, residual *Node) *Node {
	h, residual := s.before(b, s.names.norm2, x, residual)
	y := layers.FeedForward(b, h, layers.FeedForwardConfig{Hidden: s.Inner, Act: s.act, InOut: s.inOut, NoBias: s.noFeed,
		Up: s.names.up, Gate: s.names.gate, Down: s.names.down, Residual: residual, Init: s.initial(), DownInit: s.last,
		Dropout: s.residDropout, Inner: s.innerDropout, Rows: s.rows})
	return s.after(b, s.names.norm2, y)
}

func (s *stack) linear(b *layers.Builder, name string, x *Node, out int, noBias bool) *Node {
	return layers.Linear(b.Scope(name), x, layers.LinearConfig{Out: out, InOut: s.inOut, NoBias: noBias, Init: s.initial()})
}

// write maps h to the width of the stream, with dropout, and adds it to the residual; nil leaves the sum out.
func (s *stack) write(b *layers.Builder, h, residual *Node, noBias bool) *Node {
	c := layers.LinearConfig{Out: s.Hidden, InOut: s.inOut, NoBias: noBias, Init: s.last}
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
