package attention

import (
	"fmt"
	"math"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/layers"
)

// Sinkhorn is attention on the own block of Size tokens and on one that is sorted to stand beside it: for queries of block u
//
//	K'_{u,t} = Σ_v P[u,v] K_{v,t},  V' likewise;  o_i = softmax(s q_i·[K'_u ; K_u]) [V'_u ; V_u]
//
// where P, a soft permutation of blocks, is made of scores of a sorting network, see Sorting. A slot's key that is made of padding in part, m of
// it by weight not, has log m added to its score, and is left out where m is 0. Combine has other ways to put both together. With Causal a slot
// is made of earlier blocks alone, block 0 has none, and of the own block tokens up to the query count.
//
// Cost: T·2·Size scores; mixing 2·T²/Size products of D for keys and values each, so Size = √T makes all of it T^1.5.
// Source: Tay, Bahri, Yang, Metzler, Juan 2020, arXiv 2002.11296.
// Differs: see Sorting. Published code appends a learned key where a slot is empty, shrinks keys by weights that do not add up to 1, or takes the
// values of slots from keys; none of it is here.
type Sinkhorn struct {
	Sorting
	Combine string // CombineConcat ("") or another
}

// Values of Sinkhorn.Combine.
const (
	CombineConcat   = "concat"    // one softmax over slot and own block
	CombineSumOut   = "sum_out"   // one softmax each, the results added
	CombineSumScore = "sum_score" // softmax(q·K' + q·K) V': row t of the slot with row t of the own block
	CombineMixture  = "mixture"   // concat, and full attention, the results added; the cost is that of full attention
)

var _ Mixer = Sinkhorn{}

// Pattern is every pair: a slot has something of all blocks that it may be made of.
func (a Sinkhorn) Pattern() Pattern {
	if a.Causal {
		return Causal(Full{})
	}
	return Full{}
}

// Class is "C1" in a decoder: no later token changes anything, what is sorted included.
func (a Sinkhorn) Class() string {
	if a.Causal {
		return "C1"
	}
	return ""
}

// Mix adds the attention of a layer.
func (a Sinkhorn) Mix(b *layers.Builder, in Stream) *Node {
	q, k, v := in.Split(b)
	if b.Err() != nil {
		return nil
	}
	if in.Labels != nil {
		return b.Failf("sinkhorn: biases by relative position, but sorted keys have no position; use other positions")
	}
	in.QKV = []*Node{q, k, v}
	s := a.sorted(b, in, k.Shape()[1])
	s.tell(b, readSlots{own: true, past: a.Causal, rows: a.Causal && a.Combine == CombineSumScore}, in, q, k, in.Lens)
	switch a.Combine {
	case CombineSumOut:
		slots := s.attend(b, in, slotPattern{size: a.Size, past: a.Causal}, false, q, s.slots(b, k, false), s.slots(b, v, false))
		own, _ := Attend(b, in.Config(a.own()), q, k, v)
		return layers.Add(b, slots, own)
	case CombineSumScore:
		return a.sumScore(b, in, s, q, k, v)
	}
	o := s.attend(b, in, slotPattern{size: a.Size, own: true, past: a.Causal}, true, q, s.slots(b, k, true), s.slots(b, v, true))
	if a.Combine == CombineMixture {
		full, _ := Attend(b, in.Config(a.Pattern()), q, k, v)
		o = layers.Add(b, o, full)
	}
	return o
}

// own is the own block.
func (a Sinkhorn) own() Pattern {
	if a.Causal {
		return Causal(Blocks{Size: a.Size})
	}
	return Blocks{Size: a.Size}
}

// sumScore is CombineSumScore. In a decoder block 0, which has no slot, reads itself.
func (a Sinkhorn) sumScore(b *layers.Builder, in Stream, s sortedBlocks, q, k, v *Node) *Node {
	t := k.Shape()[1]
	keys := layers.Add(b, s.slots(b, k, false), wholeBlocks(b, layers.MaskRows(b, k, s.lens), a.Size))
	o := s.attend(b, in, slotPattern{size: a.Size, past: a.Causal, triangle: a.Causal}, false, q, keys, s.slots(b, v, false))
	if !a.Causal {
		return o
	}
	own, _ := Attend(b, in.Config(a.own()), q, k, v)
	if t <= a.Size || b.Err() != nil {
		return own
	}
	return layers.Concat(b, 1, layers.Slice(b, own, 1, 0, a.Size), layers.Slice(b, o, 1, a.Size, t))
}

// wholeBlocks puts zeros behind x [B,T,C], so that the last block has size rows.
func wholeBlocks(b *layers.Builder, x *Node, size int) *Node {
	if b.Err() != nil || x.Shape()[1]%size == 0 {
		return x
	}
	more := size - x.Shape()[1]%size
	return layers.Concat(b, 1, x, engine.Zeros(b.Graph(), engine.Type{Dtype: x.Dtype(), Shape: []int{x.Shape()[0], more, x.Shape()[2]}}))
}

// sortedBlocks is a soft permutation of the blocks of a sequence, and what follows from it.
type sortedBlocks struct {
	Sorting
	p      *Node // [B,H,N,N], or its first rows
	chosen *Node // int32 [B,H,N]: instead, a block each; nil: none
	lens   *Node // int32 [B] where a block may be short; nil: all blocks are whole
}

// sorted sorts the blocks of t tokens.
func (a Sinkhorn) sorted(b *layers.Builder, in Stream, t int) sortedBlocks {
	p, chosen := a.Sort(b, in)
	s := sortedBlocks{Sorting: a.Sorting, p: p, chosen: chosen, lens: in.Lens}
	if s.lens == nil && t%a.Size != 0 && !a.Causal && b.Err() == nil {
		s.lens = layers.EveryRow(b, p.Shape()[0], t)
	}
	return s
}

// slots are keys or values of the slots, beside those of the own blocks if own.
func (s sortedBlocks) slots(b *layers.Builder, x *Node, own bool) *Node {
	return layers.MixBlocks(b, s.p, x, layers.MixConfig{Size: s.Size, Own: own, Earlier: s.Causal, Lens: s.lens, Chosen: s.chosen})
}

// attend reads slots. Where they may be made of padding in part, a channel more says how much by.
func (s sortedBlocks) attend(b *layers.Builder, in Stream, p Pattern, own bool, q, k, v *Node) *Node {
	if b.Err() != nil {
		return nil
	}
	c := in.Config(p)
	c.Cross, c.Lens, c.LensQ, c.made = true, nil, in.Lens, true
	if s.lens != nil && !s.Causal { // whole blocks alone come before another
		if c.Scale == 0 {
			c.Scale = 1 / math.Sqrt(float64(q.Shape()[2]/in.Heads))
		}
		weights := s.p
		if s.chosen != nil {
			weights = layers.OneHotBlocks(b, s.chosen, s.p)
		}
		bias := layers.Scale(b, layers.SlotBias(b, weights, s.lens, s.Size, own), 1/c.Scale)
		q, k = layers.AddChannel(b, q, nil, in.Heads), layers.AddChannel(b, k, bias, in.Heads)
		c.IndexK = layers.SlotKeys(b, weights, s.lens, s.Size, own)
	}
	o, _ := Attend(b, c, q, k, v)
	return o
}

// slotPattern lets the queries of a block read its slot, rows in the order of layers.MixBlocks.
type slotPattern struct {
	alike
	size     int
	own      bool // the own block stands behind each slot and is read, too
	past     bool // block 0 has no slot, and of the own block tokens up to the query are read
	triangle bool // row t of the slot is for queries from row t of their block on
}

func (p slotPattern) String() string {
	return fmt.Sprintf("slots(%d,%v,%v,%v)", p.size, p.own, p.past, p.triangle)
}

// span is what query i reads.
func (p slotPattern) span(i int) (lo, hi int) {
	u, t := i/p.size, i%p.size
	switch {
	case p.own && p.past && u == 0:
		return p.size, p.size + t + 1
	case p.own && p.past:
		return 2 * u * p.size, (2*u+1)*p.size + t + 1
	case p.own:
		return 2 * u * p.size, 2 * (u + 1) * p.size
	case p.past && u == 0:
		return 0, 0
	case p.triangle:
		return u * p.size, u*p.size + t + 1
	}
	return u * p.size, (u + 1) * p.size
}

func (p slotPattern) Sees(_, i, j, n int) bool {
	lo, hi := p.span(i)
	return inside(i, j, n) && j >= lo && j < hi
}

func (p slotPattern) Row(_, i, n int, dst []Run) []Run {
	if i >= n {
		return dst
	}
	lo, hi := p.span(i)
	return appendRun(dst, lo, min(hi, n), 1)
}

func (p slotPattern) Col(h, j, n int, dst []Run) []Run {
	u := j / p.size
	if p.own {
		u /= 2
	}
	from, to := u*p.size, min((u+1)*p.size, n)
	for from < to && !p.Sees(h, from, j, n) { // who reads it are the last of the block
		from++
	}
	return appendRun(dst, from, to, 1)
}

func (p slotPattern) NNZ(h, n int) int64 { return countRows(p, h, n) }
