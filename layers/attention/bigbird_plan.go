package attention

import (
	"fmt"
	"slices"
	"sync"

	"github.com/euryale-ml/euryale/internal/splitmix"
	"github.com/euryale-ml/euryale/layers"
)

// The draws of BigBird are part of the model. They are stored with its weights as a table random_blocks, int32 [H, blocks, width]: row
// I lists, best first, blocks that the queries of block I may draw, -1 behind the last. A sequence of nb blocks takes the first
// num_random_blocks of the list that it has and that are not read anyway, so that one table is the plan of every length.
// What is stored is what counts: a model whose table was changed reads other blocks, whatever its seed.

// planTable is the name of the table in the scope of the attention.
const planTable = "random_blocks"

// storedPlan is the plan of one head.
type storedPlan struct {
	rows [][]int32
	sum  uint64 // tells plans apart
}

func newStoredPlan(rows [][]int32) *storedPlan {
	sum := uint64(len(rows))
	for _, r := range rows {
		sum = splitmix.Mix(sum + uint64(len(r)) + splitmix.Increment)
		for _, j := range r {
			sum = splitmix.Mix(sum + uint64(j+1)*splitmix.Increment)
		}
	}
	return &storedPlan{rows, sum}
}

// WithPlan is the pattern with draws that are given: rows[I] lists the blocks that block I of queries draws, best first. Rows that are
// missing are drawn by the seed. Errors: a negative block.
func (p BigBird) WithPlan(rows [][]int32) (BigBird, error) {
	for i, r := range rows {
		if k := slices.IndexFunc(r, func(j int32) bool { return j < 0 }); k >= 0 {
			return p, fmt.Errorf("the plan of %s lets block %d draw block %d; blocks are 0, 1, …", p, i, r[k])
		}
	}
	p.stored, p.plans = newStoredPlan(rows), newPlans()
	return p, nil
}

// planRows lists, for every block of queries of a sequence of at most nb, every block that it draws in a sequence of some length up to
// that: those that are among the Count lowest ranks of the blocks before them. There are about Count · ln nb.
func (p BigBird) planRows(nb int) [][]int32 {
	rows := make([][]int32, nb)
	for i := range rows {
		first, end := p.candidates(i, nb)
		if p.Count == 0 || first >= end || p.whole(i, nb) {
			continue
		}
		if p.past {
			list := p.ranked(i, first, end)
			rows[i] = list[:min(p.Count, len(list))]
			continue
		}
		keep := map[int32]bool{}
		var lowest []uint64 // the Count lowest ranks so far, sorted
		for _, j := range p.arrivals(i, first, end) {
			rank := p.rank(i, int(j))
			at, _ := slices.BinarySearch(lowest, rank)
			if at == p.Count {
				continue
			}
			keep[j] = true
			if lowest = slices.Insert(lowest, at, rank); len(lowest) > p.Count {
				lowest = lowest[:p.Count]
			}
		}
		for _, j := range p.ranked(i, first, end) {
			if keep[j] {
				rows[i] = append(rows[i], j)
			}
		}
	}
	return rows
}

// chooses reports whether any block of nb has something to draw.
func (p BigBird) chooses(nb int) bool {
	for i := range nb {
		first, end := p.candidates(i, nb)
		for j := first; j < end && p.Count > 0 && !p.whole(i, nb); j++ {
			if j < i-1 || j > i+1 {
				return true
			}
		}
	}
	return false
}

// arrivals lists what block i can draw: first those of the shortest sequence that has it, by rank, then the others as they come.
func (p BigBird) arrivals(i, first, end int) []int32 {
	all := p.ranked(i, first, min(end, i))
	for j := max(first, i+2); j < end; j++ {
		all = append(all, int32(j))
	}
	return all
}

// Drawn is the Mixer of a pattern with draws of BigBird, which are stored with the weights.
type Drawn struct {
	of    Pattern
	at    Layer
	table func() drawnTable
}

// drawnTable is the plan that the seed gives.
type drawnTable struct {
	shape  []int
	values []int32
}

// newDrawn returns nil if there is nothing to store: no draws, or none to choose from, several in one head, or no longest length.
func newDrawn(p Pattern, at Layer) Mixer {
	if at.Positions < 1 {
		return nil
	}
	found := false
	for h := range at.Heads {
		atoms := 0
		rewrite(headOf(p, h), func(a Pattern) Pattern {
			if b, ok := a.(BigBird); ok && b.stored == nil && b.chooses(b.blocks(at.Positions)) {
				atoms++
			}
			return a
		})
		if atoms > 1 {
			return nil
		}
		found = found || atoms == 1
	}
	if !found {
		return nil
	}
	d := Drawn{of: p, at: at}
	d.table = sync.OnceValue(d.draw)
	return d
}

// heads calls f for the draws of every head, and returns the pattern with what f puts in their place.
func (d Drawn) heads(f func(h int, b BigBird) BigBird) Pattern {
	parts := make([]Pattern, d.at.Heads)
	for h := range parts {
		parts[h] = rewrite(headOf(d.of, h), func(a Pattern) Pattern {
			if b, ok := a.(BigBird); ok && b.Count > 0 {
				return f(h, b)
			}
			return a
		})
	}
	if len(parts) == 1 {
		return parts[0]
	}
	return perHead(parts)
}

// draw makes the table.
func (d Drawn) draw() drawnTable {
	all := make([][][]int32, d.at.Heads)
	blocks, width := 1, 1
	d.heads(func(h int, b BigBird) BigBird {
		all[h] = b.planRows(b.blocks(d.at.Positions))
		blocks = max(blocks, len(all[h]))
		for _, r := range all[h] {
			width = max(width, len(r))
		}
		return b
	})
	t := drawnTable{[]int{d.at.Heads, blocks, width}, slices.Repeat([]int32{-1}, d.at.Heads*blocks*width)}
	for h, rows := range all {
		for i, r := range rows {
			copy(t.values[(h*blocks+i)*width:], r)
		}
	}
	return t
}

// Pattern is what the seed draws.
func (d Drawn) Pattern() Pattern { return d.of }

// Stored is the pattern with the draws that are stored in params for the attention of a scope; where there are none, those of the
// seed. Errors: a table that is no plan of such a layer.
func (d Drawn) Stored(params *layers.Params, scope string) (Pattern, error) {
	t, ok := params.Ints(scoped(scope, planTable))
	if !ok {
		return d.of, nil
	}
	if len(t.Shape) != 3 || t.Shape[0] != d.at.Heads {
		return nil, fmt.Errorf("%s has shape %v, want [heads, blocks, choices] with %d heads: the plan belongs to another model", t.Name, t.Shape, d.at.Heads)
	}
	if seed := d.table(); slices.Equal(seed.shape, t.Shape) && slices.Equal(seed.values, t.Values) {
		return d.of, nil
	}
	blocks, width := t.Shape[1], t.Shape[2]
	for e, j := range t.Values {
		if j < -1 || int(j) >= blocks {
			return nil, fmt.Errorf("%s[%d][%d][%d] is %d, want a block from 0 to %d, or -1 for none", t.Name, e/width/blocks, e/width%blocks, e%width, j, blocks-1)
		}
	}
	return d.heads(func(h int, b BigBird) BigBird {
		rows := make([][]int32, blocks)
		for i := range rows {
			r := t.Values[(h*blocks+i)*width:][:width]
			if k := slices.Index(r, -1); k >= 0 {
				r = r[:k]
			}
			rows[i] = r
		}
		b.stored, b.plans = newStoredPlan(rows), newPlans()
		return b
	}), nil
}

func scoped(scope, name string) string {
	if scope == "" {
		return name
	}
	return scope + "." + name
}

// Mix is that of the stored plan; where there is none it is drawn, and stored when the weights are trained.
func (d Drawn) Mix(b *layers.Builder, in Stream) *Node {
	if b.Err() != nil {
		return nil
	}
	name := scoped(b.Path(), planTable)
	if _, ok := b.Params().Ints(name); !ok {
		t := d.table()
		if err := b.Params().DrawInts(name, t.shape, t.values); err != nil {
			return b.Fail(err)
		}
	}
	p, err := d.Stored(b.Params(), b.Path())
	if err != nil {
		return b.Fail(err)
	}
	return Plain{p}.Mix(b, in)
}

// Stored is the pattern of a mixer with the draws that are stored with the weights, in the scope of the attention of its layer.
func Stored(m Mixer, params *layers.Params, scope string) (Pattern, error) {
	if d, ok := m.(Drawn); ok {
		return d.Stored(params, scope)
	}
	return m.Pattern(), nil
}
