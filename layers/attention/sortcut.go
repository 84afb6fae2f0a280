package attention

import (
	"fmt"

	"github.com/euryale-ml/euryale/layers"
)

// SortCut is attention of all queries on the first Slots of the sorted blocks, see Sinkhorn: Slots·Size keys, each made of the keys of all
// blocks. A decoder cannot have it, as slots are made of the whole sequence; its cross-attention on a memory can, where blocks of the memory are
// sorted by the memory alone.
//
// Cost: T·Slots·Size scores and as many products for mixing, linear in T; the sort matrix takes (T/Size)² numbers and 2·Iterations exponentials
// of each.
// Source: Tay et al. 2020, arXiv 2002.11296, section 3.4.
// Differs: other code makes slots by the mean of all queries and keeps the heaviest blocks one after the other.
type SortCut struct {
	Sorting
	Slots int
}

var _ Crossing = SortCut{}

// Pattern is every pair.
func (SortCut) Pattern() Pattern { return Full{} }

// Mix adds the attention of a layer.
func (a SortCut) Mix(b *layers.Builder, in Stream) *Node {
	q, k, v := in.Split(b)
	if b.Err() != nil {
		return nil
	}
	if in.Labels != nil {
		return b.Failf("sortcut: biases by relative position, but sorted keys have no position; use other positions")
	}
	in.QKV = []*Node{q, k, v}
	s := a.cut(b, in, k.Shape()[1])
	s.tell(b, readSlots{every: true}, in, q, k, in.Lens)
	return s.attend(b, in, Full{}, false, q, s.slots(b, k, false), s.slots(b, v, false))
}

// cut is what is left of the sorted blocks of t tokens.
func (a SortCut) cut(b *layers.Builder, in Stream, t int) sortedBlocks {
	s := Sinkhorn{Sorting: a.Sorting}.sorted(b, in, t)
	if b.Err() != nil {
		return s
	}
	if n := s.p.Shape()[2]; a.Slots < n {
		s.p = layers.Slice(b, s.p, 2, 0, a.Slots)
		if s.chosen != nil {
			s.chosen = layers.Slice(b, s.chosen, 2, 0, a.Slots)
		}
	}
	return s
}

// Cross adds attention of another sequence on a memory, whose blocks are sorted by the memory alone: the queries of a slot are those that the
// layer would make of a block of it. So a slot can be made before anything is written.
func (a SortCut) Cross(b *layers.Builder, in CrossStream) *Node {
	if b.Err() != nil {
		return nil
	}
	memory := Stream{X: in.Memory, QKV: []*Node{nil, in.K, in.V}, Heads: in.Heads, Scale: in.Scale, Lens: in.Lens, Project: in.Project}
	s := a.cut(b, memory, in.K.Shape()[1])
	s.tell(b, readSlots{every: true}, memory, in.Q, in.K, in.LensQ)
	memory.Lens = in.LensQ // from here on of the queries
	return s.attend(b, memory, Full{}, false, in.Q, s.slots(b, in.K, false), s.slots(b, in.V, false))
}

func (a SortCut) String() string { return fmt.Sprintf("sortcut(%d,%d)", a.Size, a.Slots) }
