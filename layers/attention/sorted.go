package attention

import (
	"fmt"

	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/layers"
)

// Sorted is attention within chunks of tokens that something has sorted: by hash buckets (Reformer) or into clusters (Routing
// Transformer). Slots hold tokens; Chunk slots that follow one another are a chunk; the tokens of chunk c read those of the chunks
// c-Before to c+After. Every predicate speaks of tokens, not of slots.
type Sorted struct {
	Chosen

	// OrderQ, int32 [B,G,R,S] or [B,G,S], G = 1 (alike for all heads) or H, R rounds, says which token stands in a slot; negative: none.
	// Slots without a token at the end of a round do not exist, so that the number of chunks depends on those with one. OrderK is the
	// same of the keys, with as many rounds; nil: OrderQ.
	OrderQ, OrderK *Node
	ChunkQ, ChunkK int // slots of a chunk; ChunkK 0: as ChunkQ
	Before, After  int // chunks read besides the one of the same number
	// Wrap is what stands before the first chunk of a round, and behind its last: nothing (WrapNone, ""), the other end of the round
	// (WrapRound), or that of the round before or behind in a ring of all rounds (WrapAcross), as in the published code of Reformer;
	// then a key that is reached twice counts twice.
	Wrap string

	Causal bool // a token reads those that come no later
	Others bool // a token does not read itself
	// Once lets a pair count only in the first round in which it occurs, so that all rounds together are one softmax over the union of
	// what they read; else it counts as often as it occurs.
	Once bool
	// Buckets, int32 [B,G,R,T]: a token reads only those that have its bucket in the round; negative: none. It may be nil.
	Buckets *Node

	// Slots makes one result for each slot of the queries instead of one for each token: o [B,S,H,D] (or [B,S,H·D]), lse [B,H,S], for
	// orders in which a token may stand in several chunks. There is one round then; the tokens of a chunk of queries are rising.
	// See MeanOfSlots. Else a token stands in one slot of a round at most (and may be missing), and the results of all rounds are one.
	Slots bool
}

// AttendSorted is attention on the keys that stand near each query in sorted order: o and lse are those of AttendChosen on
//
//	A_i = { j : chunk(i) - Before <= chunk(j) <= chunk(i) + After in some round, j <= i if Causal, j != i if Others, … }
//
// Shapes of q, k, v, o and lse as for AttendChosen. Cost: for each tile of 64 slots of queries those of 64 slots of keys that hold a
// pair, gathered, as the tiles of Attend; masks are made when it runs, which costs about a twentieth of that. Memory is that of o and
// lse, whatever the number of rounds: they are brought together row by row, and the backward pass of each takes the lse of all.
// Source: Kitaev et al. 2020, arXiv 2001.04451, section 2; Roy et al. 2021, arXiv 2003.05997, section 4.1.
// Errors (kept by b): shapes that do not fit; when it runs: tokens that do not exist, a token in two slots of a round.
func AttendSorted(b *layers.Builder, s Sorted, q, k, v *Node) (o, lse *Node) {
	p := sortedPlan{chunkQ: s.ChunkQ, chunkK: s.ChunkK, before: s.Before, after: s.After, wrap: s.Wrap, causal: s.Causal, others: s.Others,
		once: s.Once, slots: s.Slots, buckets: s.Buckets != nil, apart: s.OrderK != nil && s.OrderK != s.OrderQ}
	if p.chunkK == 0 {
		p.chunkK = p.chunkQ
	}
	if p.wrap == "" {
		p.wrap = WrapNone
	}
	choice := []*Node{s.OrderQ}
	if p.apart {
		choice = append(choice, s.OrderK)
	}
	if p.buckets {
		choice = append(choice, s.Buckets)
	}
	return addChosen(b, s.Chosen, p, choice, q, k, v)
}

// sortedPlan is the selection. Inputs: orders of queries and, apart, of keys, buckets.
type sortedPlan struct {
	chunkQ, chunkK, before, after int
	wrap                          string
	causal, others, once, slots   bool
	buckets, apart                bool
}

func (sortedPlan) name() string { return "attend_sorted" }

// order takes the shape of an order apart.
func (sortedPlan) order(s tensor.Shape) (g, rounds, slots int) {
	if len(s) == 3 {
		return s[1], 1, s[2]
	}
	return s[1], s[2], s[3]
}

func (p sortedPlan) check(o *picked, in []engine.Type) (int, error) {
	switch {
	case p.chunkQ < 1 || p.chunkK < 1:
		return 0, fmt.Errorf("chunks of %d queries and %d keys, want at least 1", p.chunkQ, p.chunkK)
	case p.before < 0 || p.after < 0:
		return 0, fmt.Errorf("%d chunks before and %d behind, want 0 or more", p.before, p.after)
	case p.wrap != WrapNone && p.wrap != WrapRound && p.wrap != WrapAcross:
		return 0, fmt.Errorf("wrap %q is none of %s, %s, %s", p.wrap, WrapNone, WrapRound, WrapAcross)
	case p.once && p.wrap == WrapAcross:
		return 0, fmt.Errorf("pairs cannot count once with wrap %s; use %s or %s", WrapAcross, WrapNone, WrapRound)
	case p.wrap != WrapNone && p.apart:
		return 0, fmt.Errorf("separate orders of queries and keys with a Wrap")
	case p.wrap == WrapAcross && p.slots:
		return 0, fmt.Errorf("results by slot with wrap %s", WrapAcross)
	case o.cross && (p.causal || p.others || p.buckets):
		return 0, fmt.Errorf("cross-attention knows neither Causal nor Others nor Buckets")
	}
	g, rounds, _ := 0, 0, 0
	for i, t := range in {
		s := t.Shape
		if t.Dtype != tensor.Int32 || len(s) != 3 && len(s) != 4 || s[0] != o.b || s[1] != 1 && s[1] != o.heads {
			return 0, fmt.Errorf("order or buckets are %v, want int32 [%d,G,R,·] with G = 1 or %d", t, o.b, o.heads)
		}
		gi, ri, slots := p.order(s)
		if i == 0 {
			g, rounds = gi, ri
		}
		if gi != g || ri != rounds {
			return 0, fmt.Errorf("%v and %v are of different heads or rounds", in[0], t)
		}
		if p.buckets && i == len(in)-1 && slots != o.tq {
			return 0, fmt.Errorf("buckets are %v, want one for each of %d tokens", t, o.tq)
		}
	}
	if !p.slots {
		return 0, nil
	}
	_, rounds, slots := p.order(in[0].Shape)
	if rounds != 1 || slots == 0 {
		return 0, fmt.Errorf("results by slot of an order %v, want one round", in[0])
	}
	return slots, nil
}

func (p sortedPlan) flops(o *picked, in []engine.Type, perPair int) float64 {
	_, rounds, slots := p.order(in[0].Shape)
	return 2 * float64(o.b*o.heads*rounds*slots) * float64(min(slots, (p.before+1+p.after)*p.chunkK)) * float64(perPair)
}
