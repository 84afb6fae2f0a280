package models

import (
	"github.com/euryale-ml/euryale/internal/kernels"
	"github.com/euryale-ml/euryale/layers"
)

// head is what stands on a stack for a task. Scopes are those of the weights; an empty one leaves its part out.
type head struct {
	task   string
	labels int // classes, or numbers of a regression

	// transform and norm of masked_lm: logits = norm(act(transform(y))) · table + bias. The bias is called bias under the scope decoder.
	// Weight and bias of a head that is not tied stand under the scope own.
	transform, norm, decoder, own string
	act                           kernels.Activation
	eps                           float64

	// pooling of sequence_classification and regression: cls, mean, last, max. The pooler is tanh(pooler(first token)), which is the
	// output pooler_output; with classifyPooled it is what is classified. dense, with act, stands before out.
	pooling        string
	pooler         string
	classifyPooled bool
	dense, out     string
	dropout        float64
}

// predicted is how many ids are predicted.
func (s *stack) predicted() int {
	if s.classes > 0 {
		return s.classes
	}
	return s.Vocab
}

// languageHead gives the logits [B,T,V] of each next token.
func (s *stack) languageHead(b *layers.Builder, x *Node) *Node {
	if s.untied {
		c := layers.LinearConfig{Out: s.predicted(), NoBias: !s.biased, Init: s.outInit}
		if c.Init == nil {
			c.Init = s.initial()
		}
		return layers.Linear(b.Scope(s.names.head), x, c)
	}
	if b.Err() != nil {
		return nil
	}
	table := s.table(b)
	if s.predicted() < s.Vocab {
		table = layers.Slice(b, table, 0, 0, s.predicted())
	}
	return layers.Linear(b.Scope(s.names.head), x, layers.LinearConfig{Weight: table, NoBias: !s.biased})
}

// withHead is a stack and its head: the outputs of an encoder.
func (s *stack) withHead(b *layers.Builder, in Inputs, h head, layersPerBlock int) Outputs {
	x, hidden := s.run(b, in, memory{}, layersPerBlock)
	out := Outputs{Hidden: hidden, More: map[string]*Node{}}
	var pooled *Node // [B,C]
	if h.pooler != "" && b.Err() == nil {
		pooled = s.dense(b, h.pooler, firstRow(b, x), s.Hidden, kernels.Tanh)
		out.More["pooler_output"] = pooled
	}
	switch h.task {
	case "masked_lm":
		out.Logits = s.maskedHead(b, h, x)
	case "sequence_classification", "multi_label_classification", "regression":
		if !h.classifyPooled {
			pooled = pool(b, h.pooling, x, in.Lens)
		}
		pooled = layers.Dropout(b.Scope(h.out), pooled, h.dropout)
		if h.dense != "" {
			pooled = layers.Dropout(b.Scope(h.dense), s.dense(b, h.dense, pooled, s.Hidden, h.act), h.dropout)
		}
		out.Logits = s.dense(b, h.out, pooled, h.labels, kernels.None)
	case "token_classification":
		out.Logits = s.dense(b, h.out, layers.Dropout(b.Scope(h.out), x, h.dropout), h.labels, kernels.None)
	case "question_answering":
		out.Logits = s.dense(b, h.out, x, 2, kernels.None) // [B,T,2]: start, end
	}
	return out
}

// maskedHead gives the logits [B,T,V] of the tokens themselves.
func (s *stack) maskedHead(b *layers.Builder, h head, x *Node) *Node {
	x = s.dense(b, h.transform, x, s.Hidden, h.act)
	x = layers.LayerNorm(b.Scope(h.norm), x, layers.NormConfig{Eps: h.eps})
	if b.Err() != nil {
		return nil
	}
	scope := b.Scope(h.decoder)
	var c layers.LinearConfig
	if s.untied {
		scope = b.Scope(h.own)
		c.Weight = scope.Param("weight", s.initial(), s.Vocab, s.Hidden)
	} else {
		c.Weight = s.table(b)
	}
	c.Bias = scope.Param("bias", layers.Zeros(), s.Vocab)
	return layers.Linear(scope, x, c)
}

// dense is a linear layer of a head.
func (s *stack) dense(b *layers.Builder, name string, x *Node, out int, act kernels.Activation) *Node {
	return layers.Linear(b.Scope(name), x, layers.LinearConfig{Out: out, Act: act, Init: s.initial()})
}

// pool makes one vector of each example, [B,C].
func pool(b *layers.Builder, how string, x, lens *Node) *Node {
	if b.Err() != nil {
		return nil
	}
	switch how {
	case "mean":
		return layers.MeanRows(b, x, lens)
	case "max":
		return layers.MaxRows(b, x, lens)
	case "last":
		return lastRow(b, x, lens)
	}
	return firstRow(b, x)
}

// firstRow is the first token of each example, [B,C].
func firstRow(b *layers.Builder, x *Node) *Node {
	if b.Err() != nil {
		return nil
	}
	s := x.Shape()
	return layers.Reshape(b, layers.Slice(b, x, 1, 0, 1), s[0], s[2])
}

// lastRow is the last token of each example that is not padding, [B,C]; zeros where there is none.
func lastRow(b *layers.Builder, x, lens *Node) *Node {
	s := x.Shape()
	if lens == nil {
		return layers.Reshape(b, layers.Slice(b, x, 1, s[1]-1, s[1]), s[0], s[2])
	}
	at := layers.Reshape(b, layers.Plus(b, lens, -1), s[0], 1)
	return layers.Reshape(b, layers.Gather(b, x, at), s[0], s[2])
}
