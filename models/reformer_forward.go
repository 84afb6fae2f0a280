package models

import (
	"fmt"
	"math"

	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/kernels"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/layers/attention"
)

// Forward adds the network to the graph. Hidden are the second stream, first that of the embeddings, then behind each layer; the last one is what
// heads read, [B,T,2C].
func (m *Reformer) Forward(b *layers.Builder, in Inputs, layersPerBlock int) Outputs {
	x := m.embed(b, &in)
	if b.Err() != nil {
		return Outputs{}
	}
	var out Outputs
	var halves []engine.Branch
	hashed := 0
	for l, kind := range m.cfg.AttnLayers {
		lb := b.Scope(fmt.Sprint("reformer.encoder.layers.", l))
		number := hashed
		if kind == "lsh" {
			hashed++
		}
		halves = append(halves, func(x *Node) *Node {
			out.Hidden = append(out.Hidden, x)
			return m.attendIn(lb.Scope("attention"), l, number, x, in)
		}, func(x *Node) *Node { return m.feedIn(lb.Scope("feed_forward"), x) })
	}
	y1, y2 := streams(b, x, m.Layers, layersPerBlock, halves)
	if b.Err() != nil {
		return Outputs{}
	}
	eb := b.Scope("reformer.encoder")
	y := m.norm(eb, "layer_norm", layers.Concat(eb, 2, y1, y2))
	y = layers.Dropout(eb, y, m.residDropout)
	out.Hidden = append(out.Hidden, y2, y)
	if t := in.IDs.Shape()[1]; b.Err() == nil && t < y.Shape()[1] {
		for i, h := range out.Hidden {
			out.Hidden[i] = layers.Slice(b, h, 1, 0, t)
		}
	}
	m.answer(b, &out, in)
	return out
}

// embed is the sum of the vectors of tokens and positions, with padding to whole chunks, of which in.Lens then knows.
// Errors: *LengthError.
func (m *Reformer) embed(b *layers.Builder, in *Inputs) *Node {
	if b.Err() != nil {
		return nil
	}
	if in.IDs == nil || in.IDs.Dims() != 2 {
		return b.Failf("the model reads ids [B,T], and there are none: give data of tokens")
	}
	batch, t := in.IDs.Shape()[0], in.IDs.Shape()[1]
	whole, eb := m.cfg.length(t), b.Scope("reformer.embeddings")
	if room := m.cfg.room(); in.First+whole > room || in.First+t > m.Positions {
		return b.Fail(&LengthError{Length: in.First + whole, Max: min(room, m.Positions)})
	}
	tb := eb.Scope("word_embeddings")
	table := tb.Param("weight", m.initial(), m.Vocab, m.Hidden)
	x := layers.Lookup(tb, table, in.IDs)
	if more := whole - t; more > 0 {
		ids := make([]int32, batch*more)
		for i := range ids {
			ids[i] = int32(m.cfg.PadTokenID)
		}
		pad := b.Const(fmt.Sprint("input_ids.padding.", batch, ".", more), tensor.New(tensor.WithShape(batch, more), tensor.WithBacking(ids)))
		x = layers.Concat(tb, 1, x, layers.Lookup(tb, table, pad))
		if in.Lens == nil {
			in.Lens = layers.EveryRow(b, batch, t)
		}
	}
	pb := eb.Scope("position_embeddings")
	if m.cfg.AxialPosEmbds {
		positions := layers.AxialPositions(pb, layers.AxialConfig{Shape: m.cfg.AxialPosShape, Widths: m.cfg.AxialPosEmbdsDim,
			First: in.First, Count: whole, Init: layers.Normal(m.cfg.AxialNormStd)})
		x = layers.AddPositions(pb, x, positions, layers.PositionConfig{})
	} else {
		x = layers.LearnedPositions(pb.Scope("embedding"), x, m.Positions, m.initial(), layers.PositionConfig{First: in.First})
	}
	return layers.Dropout(eb, x, m.embedDropout)
}

// mixer is the attention of a kind of layer, in sequences of n tokens.
func (m *Reformer) mixer(kind string, n int) attention.Mixer {
	c := m.cfg
	if kind == "lsh" {
		return m.hashed
	}
	p, size := attention.Pattern(attention.Full{}), c.LocalAttnChunkLength
	ring := attention.RingOfChunks{Size: size, Before: c.LocalNumChunksBefore, After: c.LocalNumChunksAfter, Length: n}
	switch {
	case n > size && c.IsDecoder && c.LocalNumChunksAfter == 0 && most(ring) == 1:
		p = attention.Blocks{Size: size, Left: c.LocalNumChunksBefore * size, Right: c.LocalNumChunksAfter * size}
	case n > size:
		p = ring
	}
	if c.IsDecoder {
		p = attention.Causal(p)
	}
	return inChunks{p}
}

// most is how often a query of a ring reads a chunk at most: where there are fewer chunks than it looks at it comes round to the same ones.
func most(r attention.RingOfChunks) int {
	chunks := max(r.Length/r.Size, 1)
	return (r.Before + 1 + r.After + chunks - 1) / chunks
}

// timesRead labels a pair with how often a ring reads it, less one.
type timesRead struct{ attention.RingOfChunks }

func (l timesRead) String() string { return "times-" + l.RingOfChunks.String() }

// Count is how many labels there are.
func (l timesRead) Count() int { return most(l.RingOfChunks) }

// Label is the number of steps, from Before back to After ahead, that lead to the key's chunk, less one.
func (l timesRead) Label(_, i, j, _ int) int {
	chunks, times := l.Length/l.Size, 0
	for d := (j/l.Size - i/l.Size + chunks) % chunks; d <= l.After; d += chunks {
		times++
	}
	for d := (i/l.Size - j/l.Size + chunks) % chunks; d <= l.Before; d += chunks {
		if d > 0 {
			times++
		}
	}
	return max(times-1, 0)
}

// logarithms of 1 to n, [n], which count a score so often.
func logarithms(b *layers.Builder, n int) *Node {
	x := tensor.New(tensor.Of(b.Dtype()), tensor.WithShape(n))
	for k := range n {
		if b.Dtype() == tensor.Float64 {
			x.Float64s()[k] = math.Log(float64(k + 1))
		} else {
			x.Float32s()[k] = float32(math.Log(float64(k + 1)))
		}
	}
	return b.Const(fmt.Sprint("logarithms.", n), x)
}

// inChunks is attention.Plain but that it does not offer to be run with a cache: the streams around it are not those of the stack.
type inChunks struct{ of attention.Pattern }

func (c inChunks) Pattern() attention.Pattern { return c.of }

func (c inChunks) Mix(b *layers.Builder, in attention.Stream) *Node {
	return attention.Plain{Of: c.of}.Mix(b, in)
}

// attendIn is the attention of a layer, the number-th of hashing if it is one.
func (m *Reformer) attendIn(b *layers.Builder, l, number int, x *Node, in Inputs) *Node {
	h, ab := m.norm(b, "layer_norm", x), b.Scope("self_attention")
	project := func(name string) *Node { return m.linear(ab, name, h, m.inner(), true) }
	var o *Node
	if b.Err() != nil {
		return nil
	}
	if m.cfg.AttnLayers[l] == "lsh" {
		o, _ = m.hashed.Attend(ab, attention.LSHInputs{QK: project("query_key"), V: project("value"), Heads: m.Heads, Lens: in.Lens,
			Rotations: in.More[fmt.Sprint("rotations.", number)]})
	} else {
		n := x.Shape()[1]
		c := attention.Config{Pattern: m.mixer("local", n).Pattern(), Heads: m.Heads, Lens: in.Lens, Cross: true} // queries of padding read
		if ring := (attention.RingOfChunks{Size: m.cfg.LocalAttnChunkLength, Before: m.cfg.LocalNumChunksBefore, After: m.cfg.LocalNumChunksAfter, Length: n}); n > ring.Size && most(ring) > 1 {
			c.Labels, c.LabelBias = timesRead{ring}, logarithms(ab, most(ring))
		}
		o, _ = attention.Attend(ab, c, project("query"), project("key"), project("value"))
	}
	return m.write(b.Scope("output.dense"), o, nil, true)
}

// feedIn is the feed-forward part of a layer. Dropout stands before the activation, too.
func (m *Reformer) feedIn(b *layers.Builder, x *Node) *Node {
	return layers.FeedForward(b, m.norm(b, "layer_norm", x), layers.FeedForwardConfig{Hidden: m.Inner, Act: m.act, Up: "dense.dense", Down: "output.dense",
		Init: m.initial(), Dropout: m.residDropout, Inner: m.residDropout, Early: true, Rows: m.cfg.ChunkSizeFeedForward})
}

// answer adds the head, which reads the last of the hidden ones.
func (m *Reformer) answer(b *layers.Builder, out *Outputs, in Inputs) {
	if b.Err() != nil {
		return
	}
	y := out.Hidden[len(out.Hidden)-1]
	switch m.head.task {
	case "causal_lm", "masked_lm":
		hb := b.Scope("lm_head")
		out.Logits = layers.Linear(hb, y, layers.LinearConfig{Weight: hb.Scope("decoder").Param("weight", m.initial(), m.Vocab, 2*m.Hidden),
			Bias: hb.Param("bias", layers.Zeros(), m.Vocab)})
	case "sequence_classification", "multi_label_classification", "regression":
		drop := m.cfg.HiddenDropoutProb
		if m.cfg.ClassifierDropout != nil {
			drop = *m.cfg.ClassifierDropout
		}
		cb := b.Scope("classifier")
		h := layers.Dropout(cb, firstRow(b, y), drop)
		h = layers.Dropout(cb, m.dense(b, "classifier.dense", h, m.Hidden, kernels.Tanh), drop)
		out.Logits = m.dense(b, "classifier.out_proj", h, m.Labels, kernels.None)
	case "question_answering":
		out.Logits = m.dense(b, "qa_outputs", y, 2, kernels.None)
	}
}
