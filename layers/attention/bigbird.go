package attention

import (
	"fmt"
	"slices"

	"github.com/euryale-ml/euryale/internal/config"
	"github.com/euryale-ml/euryale/internal/splitmix"
)

// BigBird cuts the sequence into blocks of Size (the last may be short), I = 0 … nb-1. What a query reads is whole blocks:
//
//	I = 0 or nb-1:  all
//	else:           {0, nb-1} and {I-1, I, I+1} and Count of the others, drawn at random
//
// each once, in one softmax. Where there are fewer others than Count, all of them: nb <= 4 + Count is full attention. This is the
// ITC form; with Free nothing is global (the ETC form, to which External adds nodes that are) and all blocks beyond the window can
// be drawn.
//
// Every block J has a rank of its own for a block I of queries, from the seed, the stream and both numbers alone; drawn are the Count
// lowest. So every set is equally likely, a row's draws do not depend on other rows, and as a sequence grows a draw changes only
// where a block that came later has a lower rank.
//
// Inside Causal the draws are from the blocks before I-1, and the last block is like any other: what a query reads must not depend
// on how much comes after it.
//
// Cost: O(n · Size · (5 + Count) · D), and 2·Size·n for the global rows. Source: Zaheer et al. 2020, arXiv 2007.14062, section 2.
// Differs from the authors' and from Hugging Face's code: nothing counts twice, blocks are drawn from the whole sequence,
// and lengths are not rounded up to whole blocks.
type BigBird struct {
	alike
	Size, Count int
	Free        bool
	draws
	stored *storedPlan // nil: drawn by the seed
}

// NewBigBird returns the ITC form with the draws of a seed and a stream of it.
func NewBigBird(size, count, seed, stream int) BigBird {
	return BigBird{Size: size, Count: count, draws: draws{seed: seed, stream: stream, plans: newPlans()}}
}

func (p BigBird) String() string {
	word := "big-bird("
	if p.Free {
		word = "big-bird-window("
	}
	s := word + p.numbers(p.Size, p.Count) + ")"
	if p.stored != nil {
		s += fmt.Sprintf("#%016x", p.stored.sum)
	}
	return s
}

// FromEnd is true but inside Causal: the last block is that of the sequence there is.
func (p BigBird) FromEnd() bool { return !p.past }

// blocks is how many there are.
func (p BigBird) blocks(n int) int { return (n + p.Size - 1) / p.Size }

// whole reports whether a block reads all and is read by all.
func (p BigBird) whole(k, nb int) bool { return !p.Free && !p.past && (k == 0 || k == nb-1) }

func (p BigBird) Sees(_, i, j, n int) bool {
	if !inside(i, j, n) {
		return false
	}
	a, b, nb := i/p.Size, j/p.Size, p.blocks(n)
	switch {
	case p.whole(a, nb) || p.whole(b, nb) || b == a || b == a-1:
		return true
	case p.past:
		return !p.Free && b == 0 || b < a && p.plan(n).has(a, b)
	}
	return b == a+1 || p.plan(n).has(a, b)
}

func (p BigBird) Row(_, i, n int, dst []Run) []Run {
	k, nb := i/p.Size, p.blocks(n)
	if p.whole(k, nb) {
		return appendRun(dst, 0, n, 1)
	}
	if !p.Free {
		dst = p.run(dst, 0, 1, n)
		if !p.past {
			dst = p.run(dst, nb-1, nb, n)
		}
	}
	after := k + 2
	if p.past {
		after = k + 1
	}
	dst = p.run(dst, max(0, k-1), after, n)
	for _, j := range p.plan(n).row(k) {
		dst = p.run(dst, int(j), int(j)+1, n)
	}
	return dst
}

func (p BigBird) Col(_, j, n int, dst []Run) []Run {
	k, nb := j/p.Size, p.blocks(n)
	if p.whole(k, nb) || p.past && !p.Free && k == 0 {
		return appendRun(dst, 0, n, 1)
	}
	before := k
	if !p.past {
		before = max(0, k-1)
		if !p.Free {
			dst = p.run(p.run(dst, 0, 1, n), nb-1, nb, n)
		}
	}
	dst = p.run(dst, before, k+2, n)
	for _, i := range p.plan(n).col(k) {
		dst = p.run(dst, int(i), int(i)+1, n)
	}
	return dst
}

// run appends the positions of blocks lo … hi-1.
func (p BigBird) run(dst []Run, lo, hi, n int) []Run {
	return appendRun(dst, lo*p.Size, min(n, hi*p.Size), 1)
}

// NNZ of the ITC form for n = nb·Size, nb >= 5, is Size² (2 nb + 2 (4 + r) + (nb-4) (5 + r)), r at most the blocks there are to draw.
func (p BigBird) NNZ(_, n int) int64 {
	nb, s := p.blocks(n), int64(p.Size)
	if p.past || p.Free { // the number of rows that draw the short last block is no closed form
		window := Blocks{Size: p.Size, Left: p.Size, Right: p.Size}
		if p.past {
			window.Right = 0
		}
		total := window.NNZ(0, n)
		for i := range nb {
			queries := min(s, int64(n)-int64(i)*s)
			for _, j := range p.plan(n).row(i) {
				total += queries * min(s, int64(n)-int64(j)*s)
			}
			if p.past && !p.Free && i > 1 {
				total += queries * s
			}
		}
		return total
	}
	if nb <= 3 {
		return int64(n) * int64(n)
	}
	last := int64(n) - int64(nb-1)*s
	middle := nb - 2 // blocks that are not global, all whole
	total := (s + last) * int64(n)
	for i := 1; i <= middle; i++ {
		near := 3
		if i == 1 || i == middle {
			near = 2
		}
		total += s * (s + last + s*int64(near+min(p.Count, middle-near)))
	}
	return total
}

// causalNNZ counts for each block of queries the whole blocks before it, and the triangle of itself.
func (p BigBird) causalNNZ(n int) int64 {
	var total int64
	for i := range p.blocks(n) {
		own := min(p.Size, n-i*p.Size)
		first, end := p.candidates(i, i+1)
		before := min(i, 1) + min(p.Count, max(0, end-first))
		if !p.Free && i > 1 {
			before++
		}
		total += int64(own)*int64(before)*int64(p.Size) + triangle(own)
	}
	return total
}

func (p BigBird) forStream(stream int) Pattern {
	p.draws = p.draws.forStream(stream)
	return p
}
func (p BigBird) inPast() Pattern {
	p.draws = p.draws.inPast()
	return p
}
func (p BigBird) avoiding(Pattern) (Pattern, bool) { return nil, false }

// candidates are the blocks first … end-1 that block i can draw from, but for the window, in a sequence of nb.
func (p BigBird) candidates(i, nb int) (first, end int) {
	end = nb
	if !p.Free {
		first, end = 1, nb-1
	}
	if p.past {
		end = i - 1
	}
	return first, end
}

// rank orders the blocks that block i can draw; no two are alike.
func (p BigBird) rank(i, j int) uint64 {
	return splitmix.Mix(p.key(i) + uint64(j+1)*splitmix.Increment)
}

// ranked lists by rank, lowest first, those of the blocks first … end-1 that are not in the window of block i.
func (p BigBird) ranked(i, first, end int) []int32 {
	type choice struct {
		rank  uint64
		block int32
	}
	var all []choice
	for j := first; j < end; j++ {
		if j < i-1 || j > i+1 {
			all = append(all, choice{p.rank(i, j), int32(j)})
		}
	}
	slices.SortFunc(all, func(a, b choice) int {
		if a.rank < b.rank {
			return -1
		}
		return 1
	})
	list := make([]int32, len(all))
	for k, c := range all {
		list[k] = c.block
	}
	return list
}

// plan lists the blocks drawn by block of queries.
func (p BigBird) plan(n int) *plan {
	nb := p.blocks(n)
	return p.plans.get(nb, func() *plan {
		return newPlan(nb, func(i int) []int {
			first, end := p.candidates(i, nb)
			if p.whole(i, nb) || first >= end || p.Count == 0 {
				return nil
			}
			var list []int32
			if p.stored != nil && i < len(p.stored.rows) {
				list = p.stored.rows[i]
			} else {
				list = p.ranked(i, first, end)
			}
			var drawn []int
			for _, b := range list {
				j := int(b)
				if len(drawn) == p.Count {
					break
				}
				if j >= first && j < end && (j < i-1 || j > i+1) && !slices.Contains(drawn, j) {
					drawn = append(drawn, j)
				}
			}
			slices.Sort(drawn)
			return drawn
		})
	})
}

func newBigBird(a []int) (Pattern, error) {
	if a[0] < 1 {
		return nil, fmt.Errorf("block size is %d; the smallest is 1", a[0])
	}
	return NewBigBird(a[0], a[1], a[2], optional(a, 3)), nil
}

func newBigBirdWindow(a []int) (Pattern, error) {
	p, err := newBigBird(a)
	if err != nil {
		return nil, err
	}
	free := p.(BigBird)
	free.Free = true
	return free, nil
}

// bigBirdEntry is BigBird, with draws of its own for every head and layer: form itc, whose first and last blocks are global, or
// form etc, with num_globals nodes before the tokens.
type bigBirdEntry struct {
	kind
	BlockSize       *int    `json:"block_size"`
	NumRandomBlocks *int    `json:"num_random_blocks,omitempty"` // 3 if not given
	Form            *string `json:"form,omitempty"`
	NumGlobals      *int    `json:"num_globals,omitempty"`
	Seed            *int    `json:"seed,omitempty"`
}

func (e *bigBirdEntry) check() []error {
	faults := checkPositive(nil, "block_size", e.BlockSize)
	faults = checkSide(faults, "num_random_blocks", e.NumRandomBlocks, false)
	switch {
	case e.Form != nil && *e.Form != "itc" && *e.Form != "etc":
		faults = append(faults, &config.FieldError{Path: "form", Value: *e.Form, Want: "give itc (first and last block are global) or etc (num_globals nodes are)"})
	case e.etc():
		faults = checkPositive(faults, "num_globals", e.NumGlobals)
		if e.NumGlobals != nil && *e.NumGlobals > maxExternal {
			faults = append(faults, &config.FieldError{Path: "num_globals", Value: *e.NumGlobals, Want: fmt.Sprintf("give 1 to %d", maxExternal)})
		}
	case e.NumGlobals != nil:
		faults = append(faults, &config.FieldError{Path: "num_globals", Value: *e.NumGlobals, Want: "is of form etc; the globals of form itc are the first and the last block"})
	}
	return checkSide(faults, "seed", e.Seed, false)
}

func (e *bigBirdEntry) etc() bool { return e.Form != nil && *e.Form == "etc" }

func (e *bigBirdEntry) pattern(Layer) (Pattern, error) {
	count, seed := 3, 0
	if e.NumRandomBlocks != nil {
		count = *e.NumRandomBlocks
	}
	if e.Seed != nil {
		seed = *e.Seed
	}
	p := NewBigBird(*e.BlockSize, count, seed, 0)
	if !e.etc() {
		return p, nil
	}
	p.Free = true
	return Union(External{Count: *e.NumGlobals}, p)
}
