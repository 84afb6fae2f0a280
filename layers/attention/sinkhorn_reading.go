package attention

import (
	"fmt"

	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/kernels"
	"github.com/euryale-ml/euryale/layers"
)

// HeavyBlocks is the share of the heaviest weight of a slot from which on a block counts as read where pairs are counted and drawn.
const HeavyBlocks = 0.5

// readSlots tells the pairs of attention on sorted blocks: a Reader that computes nothing and that no result depends on, so that it costs nothing where
// nobody asks. A slot has something of all blocks it may be made of; those count whose weight is at least HeavyBlocks of the greatest, or with a
// hard assignment the one that was taken.
// Inputs: the weights [B,H,N,M], or with hard the chosen blocks int32 [B,H,N], then what there is of lengths.
type readSlots struct {
	heads, queries, keys, size int

	hard         bool
	every        bool // every query reads all slots, else those of block u slot u
	own, past    bool // the own block is read, too; of it tokens up to the query
	rows         bool // row t of a slot is read from row t of the block on
	lensQ, lensK int  // places, -1: none
}

var _ Reader = readSlots{}

// tell adds a readSlots. Of o the fields that say how slots are read are given.
func (s sortedBlocks) tell(b *layers.Builder, o readSlots, in Stream, q, k, lensQ *Node) {
	if b.Err() != nil {
		return
	}
	inputs := Nodes{s.p}
	if o.hard = s.chosen != nil; o.hard {
		inputs[0] = s.chosen
	}
	place := func(n *Node) int {
		if n == nil {
			return -1
		}
		inputs = append(inputs, n)
		return len(inputs) - 1
	}
	o.heads, o.queries, o.keys, o.size = in.Heads, q.Shape()[1], k.Shape()[1], s.Size
	o.lensK, o.lensQ = place(s.lens), place(lensQ)
	b.Op(o, inputs...)
}

func (readSlots) Name() string                             { return "read_slots" }
func (o readSlots) DiffWRT() []bool                        { return make([]bool, 1+max(0, o.lensQ, o.lensK)) }
func (readSlots) Diff(in Nodes, _, _ *Node) (Nodes, error) { return make(Nodes, len(in)), nil }
func (readSlots) Run(out engine.Value, _ []engine.Value) error {
	clear(engine.Ints(out))
	return nil
}

func (o readSlots) Infer([]engine.Type) (engine.Type, error) {
	return engine.Type{Dtype: tensor.Int32, Shape: tensor.Shape{1}}, nil
}

// Rule says what counts as read.
func (o readSlots) Rule() string {
	if o.hard {
		return "of sorted blocks the one that a slot takes"
	}
	return fmt.Sprintf("of sorted blocks those with at least %g of the weight of the heaviest in the slot", HeavyBlocks)
}

// Sizes are those of the stream.
func (o readSlots) Sizes() (heads, queries, keys int) { return o.heads, o.queries, o.keys }

// Needs are all inputs.
func (o readSlots) Needs() []int { return places(0, o.lensQ, o.lensK) }

// Pairs are those of the own block, and of the blocks that count of each slot.
func (o readSlots) Pairs(in []engine.Value, b int, add func(h, i, j int)) error {
	lensQ, err := lengths(o.lensQ, o.queries, in)
	if err != nil {
		return err
	}
	lensK, err := lengths(o.lensK, o.keys, in)
	if err != nil {
		return err
	}
	nq, nk := end(lensQ, b, o.queries), end(lensK, b, o.keys)
	for h := range o.heads {
		slots := in[0].Shape()[2]
		made := make([][]int, slots) // blocks of each slot
		for u := range made {
			made[u] = o.blocks(in[0], (b*o.heads+h)*slots+u)
		}
		for i := range nq {
			first, last := i/o.size, i/o.size+1
			if o.own {
				until := min(last*o.size, nk)
				if o.past {
					until = i + 1
				}
				for j := first * o.size; j < until; j++ {
					add(h, i, j)
				}
			}
			if o.every {
				first, last = 0, slots
			}
			for _, blocks := range made[first:last] {
				for _, v := range blocks {
					until := (v + 1) * o.size
					if o.rows {
						until = v*o.size + i%o.size + 1
					}
					for j := v * o.size; j < min(until, nk); j++ {
						add(h, i, j)
					}
				}
			}
		}
	}
	return nil
}

// blocks are those of a slot that count.
func (o readSlots) blocks(v engine.Value, row int) []int {
	n := v.Shape()[v.Shape().Dims()-1]
	switch {
	case o.hard:
		if x := engine.Ints(v)[row]; x >= 0 {
			return []int{int(x)}
		}
		return nil
	case engine.IsF32(v):
		return heavy(engine.Floats[float32](v)[row*n:][:n])
	default:
		return heavy(engine.Floats[float64](v)[row*n:][:n])
	}
}

// heavy are the places of the weights that are at least HeavyBlocks of the greatest.
func heavy[F kernels.Float](weights []F) (at []int) {
	var most F
	for _, w := range weights {
		most = max(most, w)
	}
	for v, w := range weights {
		if w > 0 && w >= HeavyBlocks*most {
			at = append(at, v)
		}
	}
	return at
}
