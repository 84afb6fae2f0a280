package layers

import (
	"fmt"
	"math"
	"slices"

	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/kernels"
)

// Assignment is how a block is chosen for each slot.
type Assignment string

const (
	AssignRows      Assignment = "rows"      // the heaviest block of each slot; several slots may have one. Slot u depends on row u alone.
	AssignGreedy    Assignment = "greedy"    // the heaviest weight of all, then of what is left, one block a slot
	AssignHungarian Assignment = "hungarian" // the permutation of the greatest sum of log P
)

// maxHungarian bounds the blocks of AssignHungarian, which takes N³ steps.
const maxHungarian = 64

// AssignBlocks chooses a block for each slot by the weights p [B,H,N,N]: int32 [B,H,N], -1 for a slot without weights. Of equal weights the
// first one wins. There is no gradient; MixConfig.Chosen passes it by. Cost: N² (rows), N² log N (greedy), N³ (hungarian) a head.
// Errors: more than 64 blocks for hungarian.
// Source: Kuhn 1955 in the form of Jonker and Volgenant 1987 (shortest augmenting paths).
func AssignBlocks(b *Builder, p *Node, how Assignment) *Node { return b.Op(assign{how}, p) }

type assign struct{ how Assignment }

// OneHotBlocks is 1 where a slot has chosen a block, else 0: chosen int32 [B,H,N] -> [B,H,N,M], in the type of p [B,H,N,M], which is not read.
func OneHotBlocks(b *Builder, chosen, p *Node) *Node { return b.Op(oneHotBlocks{}, chosen, p) }

type oneHotBlocks struct{}

func (oneHotBlocks) Name() string                            { return "one_hot_blocks" }
func (oneHotBlocks) DiffWRT() []bool                         { return []bool{false, false} }
func (oneHotBlocks) Diff(Nodes, *Node, *Node) (Nodes, error) { return Nodes{nil, nil}, nil }

func (oneHotBlocks) Infer(in []engine.Type) (engine.Type, error) {
	if s := in[1].Shape; len(s) != 4 || in[0].Dtype != tensor.Int32 || !slices.Equal(in[0].Shape, s[:3]) {
		return engine.Type{}, fmt.Errorf("blocks %v of weights %v", in[0], in[1])
	}
	return in[1], nil
}

func (oneHotBlocks) Run(out engine.Value, in []engine.Value) error {
	if engine.IsF32(out) {
		oneHotRun[float32](out, in[0])
	} else {
		oneHotRun[float64](out, in[0])
	}
	return nil
}

func oneHotRun[F kernels.Float](out, in engine.Value) {
	y, m := engine.Floats[F](out), lastOf(out.Shape())
	clear(y)
	for slot, v := range engine.Ints(in) {
		if v >= 0 {
			y[slot*m+int(v)] = 1
		}
	}
}

func (assign) Name() string                            { return "assign_blocks" }
func (assign) DiffWRT() []bool                         { return []bool{false} }
func (assign) Diff(Nodes, *Node, *Node) (Nodes, error) { return Nodes{nil}, nil }

func (o assign) Infer(in []engine.Type) (engine.Type, error) {
	s := in[0].Shape
	switch {
	case !in[0].IsFloat() || len(s) != 4 || s[2] != s[3]:
		return engine.Type{}, fmt.Errorf("weights %v, want floats [B,H,N,N]", in[0])
	case o.how == AssignHungarian && s[2] > maxHungarian:
		return engine.Type{}, fmt.Errorf("%d blocks are too many for hungarian, which takes at most %d: use greedy or larger blocks", s[2], maxHungarian)
	case o.how != AssignRows && o.how != AssignGreedy && o.how != AssignHungarian:
		return engine.Type{}, fmt.Errorf("no assignment %q; give rows, greedy or hungarian", o.how)
	}
	return engine.Type{Dtype: tensor.Int32, Shape: s[:3].Clone()}, nil
}

func (o assign) Run(out engine.Value, in []engine.Value) error {
	if engine.IsF32(in[0]) {
		assignRun[float32](o, out, in[0])
	} else {
		assignRun[float64](o, out, in[0])
	}
	return nil
}

func assignRun[F kernels.Float](o assign, out, in engine.Value) {
	p, y, n := engine.Floats[F](in), engine.Ints(out), in.Shape()[2]
	for at := 0; at < len(y); at += n {
		m, to := p[at*n:][:n*n], y[at:][:n]
		switch o.how {
		case AssignRows:
			for u := range to {
				to[u] = heaviest(m[u*n:][:n])
			}
		case AssignGreedy:
			assignGreedy(n, m, to)
		default:
			assignBest(n, m, to)
		}
	}
}

// heaviest is the first of the greatest weights, -1 if all are 0.
func heaviest[F kernels.Float](row []F) int32 {
	best, at := F(0), int32(-1)
	for v, x := range row {
		if x > best {
			best, at = x, int32(v)
		}
	}
	return at
}

// assignGreedy takes the heaviest of what is left again and again. Each row keeps its candidate until that is taken.
func assignGreedy[F kernels.Float](n int, m []F, to []int32) {
	taken, best := make([]bool, n), make([]int32, n)
	look := func(u int) {
		best[u] = -1
		for v, x := range m[u*n:][:n] {
			if !taken[v] && x > 0 && (best[u] < 0 || x > m[u*n+int(best[u])]) {
				best[u] = int32(v)
			}
		}
	}
	for u := range n {
		to[u] = -1
		look(u)
	}
	for range n {
		row := -1
		for u := range n {
			if to[u] < 0 && best[u] >= 0 && (row < 0 || m[u*n+int(best[u])] > m[row*n+int(best[row])]) {
				row = u
			}
		}
		if row < 0 {
			return
		}
		to[row] = best[row]
		taken[best[row]] = true
		for u := range n {
			if to[u] < 0 && best[u] >= 0 && taken[best[u]] {
				look(u)
			}
		}
	}
}

// assignBest is the permutation of the rows that have weights with the least sum of -log P. Rows without weights come behind all others, as
// those of padding do.
func assignBest[F kernels.Float](n int, m []F, to []int32) {
	used := 0
	for u := range n {
		if to[u] = -1; heaviest(m[u*n:][:n]) >= 0 {
			used = u + 1
		}
	}
	cost := func(u, v int) float64 { return -math.Log(max(float64(m[u*n+v]), 1e-300)) }
	// Rows and columns count from 1; column 0 is the row at work.
	rowDual, colDual, rowOf, from := make([]float64, used+1), make([]float64, used+1), make([]int, used+1), make([]int, used+1)
	for u := 1; u <= used; u++ {
		rowOf[0] = u
		at := 0
		least, done := make([]float64, used+1), make([]bool, used+1)
		for v := range least {
			least[v] = math.Inf(1)
		}
		for rowOf[at] != 0 {
			done[at] = true
			row, delta, next := rowOf[at], math.Inf(1), 0
			for v := 1; v <= used; v++ {
				if done[v] {
					continue
				}
				if c := cost(row-1, v-1) - rowDual[row] - colDual[v]; c < least[v] {
					least[v], from[v] = c, at
				}
				if least[v] < delta {
					delta, next = least[v], v
				}
			}
			for v := range done {
				if done[v] {
					rowDual[rowOf[v]] += delta
					colDual[v] -= delta
				} else {
					least[v] -= delta
				}
			}
			at = next
		}
		for at != 0 {
			rowOf[at] = rowOf[from[at]]
			at = from[at]
		}
	}
	for v := 1; v <= used; v++ {
		to[rowOf[v]-1] = int32(v - 1)
	}
}
