package attention

import (
	"fmt"
	"math/bits"
	"slices"

	"github.com/euryale-ml/euryale/internal/splitmix"
)

// drawn is an atom that is drawn at random, once: the same numbers give the same keys for ever, in every order of asking.
type drawn interface {
	Pattern
	// forStream is the atom with draws of its own for a head of a layer, if it was not given a stream already.
	forStream(stream int) Pattern
	// inPast draws a query's keys from those up to itself.
	inPast() Pattern
	// avoiding draws none of the keys that a pattern of tokens has already.
	avoiding(base Pattern) (Pattern, bool)
}

// draws are the numbers that every random atom has.
type draws struct {
	seed, stream int
	past         bool
	base         Pattern // whose keys are not drawn; nil: none
	plans        *plans
}

// Random lets a query read Degree different keys drawn uniformly; all of them where there are fewer. Inside Causal they are drawn
// from the keys up to the query. Source: the random graph of BigBird, Zaheer et al. 2020, arXiv 2007.14062, by token.
type Random struct {
	alike
	Degree int
	draws
}

// NewRandom returns the pattern of a seed and a stream of it: heads and layers have streams of their own.
func NewRandom(degree, seed, stream int) Random {
	return Random{Degree: degree, draws: draws{seed: seed, stream: stream, plans: newPlans()}}
}

func (r Random) String() string { return "random(" + r.numbers(r.Degree) + ")" }
func (d draws) numbers(first ...int) string {
	s := ""
	for _, x := range first {
		s += fmt.Sprintf("%d,", x)
	}
	if s += fmt.Sprint(d.seed); d.stream != 0 {
		s += fmt.Sprintf(",%d", d.stream)
	}
	return s
}
func (d draws) FromEnd() bool { return !d.past || d.base != nil && d.base.FromEnd() }

func (r Random) FromEnd() bool { return r.draws.FromEnd() }
func (r Random) Sees(_, i, j, n int) bool {
	return inside(i, j, n) && r.plan(n).has(i, j)
}
func (r Random) Row(_, i, n int, dst []Run) []Run {
	return singles(r.plan(n).row(i), dst)
}
func (r Random) Col(_, j, n int, dst []Run) []Run {
	return singles(r.plan(n).col(j), dst)
}
func (r Random) NNZ(_, n int) int64 {
	switch {
	case r.base != nil:
		return int64(len(r.plan(n).cols))
	case r.past:
		k := min(r.Degree, n)
		return triangle(k) + int64(n-k)*int64(k)
	}
	return int64(n) * int64(min(r.Degree, n))
}
func (r Random) forStream(stream int) Pattern {
	r.draws = r.draws.forStream(stream)
	return r
}
func (r Random) inPast() Pattern {
	r.draws = r.draws.inPast()
	return r
}
func (r Random) avoiding(base Pattern) (Pattern, bool) {
	r.draws = r.draws.avoiding(base)
	return r, true
}

func (r Random) plan(n int) *plan {
	return r.plans.get(n, func() *plan {
		return newPlan(n, func(i int) []int {
			among := n
			if r.past {
				among = i + 1
			}
			var taken []int
			if r.base != nil {
				taken = positions(clip(r.base.Row(0, i, n, nil), 0, 0, among))
			}
			return r.draw(i, r.Degree, among, taken)
		})
	})
}

// RandomBlocks cuts the sequence into blocks of Size; the queries of a block read Count whole blocks drawn uniformly; all of them
// where there are fewer. Inside Causal they are drawn from the blocks up to their own.
// Source: BigBird, Zaheer et al. 2020, arXiv 2007.14062, section 2.
type RandomBlocks struct {
	alike
	Size, Count int
	draws
}

// NewRandomBlocks returns the pattern of a seed and a stream of it.
func NewRandomBlocks(size, count, seed, stream int) RandomBlocks {
	return RandomBlocks{Size: size, Count: count, draws: draws{seed: seed, stream: stream, plans: newPlans()}}
}

func (r RandomBlocks) String() string { return "random-blocks(" + r.numbers(r.Size, r.Count) + ")" }
func (r RandomBlocks) FromEnd() bool  { return r.draws.FromEnd() }
func (r RandomBlocks) Sees(_, i, j, n int) bool {
	return inside(i, j, n) && r.plan(n).has(i/r.Size, j/r.Size)
}
func (r RandomBlocks) Row(_, i, n int, dst []Run) []Run {
	return r.blocks(r.plan(n).row(i/r.Size), n, dst)
}
func (r RandomBlocks) Col(_, j, n int, dst []Run) []Run {
	return r.blocks(r.plan(n).col(j/r.Size), n, dst)
}
func (r RandomBlocks) blocks(list []int32, n int, dst []Run) []Run {
	for _, k := range list {
		dst = appendRun(dst, int(k)*r.Size, min(n, (int(k)+1)*r.Size), 1)
	}
	return dst
}
func (r RandomBlocks) NNZ(_, n int) int64 {
	var total int64
	p := r.plan(n)
	for k := 0; k*r.Size < n; k++ {
		keys := 0
		for _, j := range p.row(k) {
			keys += min(r.Size, n-int(j)*r.Size)
		}
		total += int64(min(r.Size, n-k*r.Size)) * int64(keys)
	}
	return total
}
func (r RandomBlocks) forStream(stream int) Pattern {
	r.draws = r.draws.forStream(stream)
	return r
}
func (r RandomBlocks) inPast() Pattern {
	r.draws = r.draws.inPast()
	return r
}
func (r RandomBlocks) avoiding(base Pattern) (Pattern, bool) {
	r.draws = r.draws.avoiding(base)
	return r, true
}

// plan lists blocks of keys by block of queries. A block is taken if the base lets the block's first query read any of it.
func (r RandomBlocks) plan(n int) *plan {
	blocks := (n + r.Size - 1) / r.Size
	return r.plans.get(n, func() *plan {
		return newPlan(blocks, func(k int) []int {
			among := blocks
			if r.past {
				among = k + 1
			}
			var taken []int
			if r.base != nil {
				for _, j := range positions(clip(r.base.Row(0, k*r.Size, n, nil), 0, 0, min(n, among*r.Size))) {
					taken = append(taken, j/r.Size)
				}
				taken = slices.Compact(taken)
			}
			return r.draw(k, r.Count, among, taken)
		})
	})
}

// Bernoulli keeps every pair with probability Num/Den, each for itself (an Erdős–Rényi graph).
type Bernoulli struct {
	alike
	Num, Den int
	draws
}

// NewBernoulli returns the pattern of a seed and a stream of it, 0 <= num <= den.
func NewBernoulli(num, den, seed, stream int) Bernoulli {
	return Bernoulli{Num: num, Den: den, draws: draws{seed: seed, stream: stream, plans: newPlans()}}
}

func (b Bernoulli) String() string { return "bernoulli(" + b.numbers(b.Num, b.Den) + ")" }
func (b Bernoulli) FromEnd() bool  { return false }
func (b Bernoulli) Sees(_, i, j, n int) bool {
	if !inside(i, j, n) {
		return false
	}
	if b.Num == b.Den {
		return true
	}
	limit, _ := bits.Div64(uint64(b.Num), 0, uint64(b.Den))
	return splitmix.Mix(b.key(i)+uint64(j+1)*splitmix.Increment) < limit
}
func (b Bernoulli) Row(_, i, n int, dst []Run) []Run {
	if p := b.plan(n); p != nil {
		return singles(p.row(i), dst)
	}
	for j := range n {
		if b.Sees(0, i, j, n) {
			dst = append(dst, Run{j, j + 1, 1})
		}
	}
	return dst
}
func (b Bernoulli) Col(_, j, n int, dst []Run) []Run {
	if p := b.plan(n); p != nil {
		return singles(p.col(j), dst)
	}
	for i := range n {
		if b.Sees(0, i, j, n) {
			dst = append(dst, Run{i, i + 1, 1})
		}
	}
	return dst
}

// maxPairs bounds the pairs of a plan that is only kept to save time.
const maxPairs = 1 << 25

// plan lists the pairs, where they are not too many; else nil.
func (b Bernoulli) plan(n int) *plan {
	if float64(n)*float64(n)*float64(b.Num)/float64(b.Den) > maxPairs {
		return nil
	}
	return b.plans.get(n, func() *plan {
		return newPlan(n, func(i int) (row []int) {
			for j := range n {
				if b.Sees(0, i, j, n) {
					row = append(row, j)
				}
			}
			return row
		})
	})
}
func (b Bernoulli) NNZ(_, n int) int64 { return countRows(b, 0, n) }
func (b Bernoulli) forStream(stream int) Pattern {
	b.draws = b.draws.forStream(stream)
	return b
}
func (b Bernoulli) inPast() Pattern                  { return b }
func (b Bernoulli) avoiding(Pattern) (Pattern, bool) { return nil, false }

func (d draws) forStream(stream int) draws {
	if d.stream == 0 && stream != 0 {
		d.stream, d.plans = stream, newPlans()
	}
	return d
}

func (d draws) inPast() draws {
	if !d.past {
		d.past, d.plans = true, newPlans()
	}
	return d
}

func (d draws) avoiding(base Pattern) draws {
	d.base, d.plans = base, newPlans()
	return d
}

// key is where the draws of a row begin. They depend on nothing but the numbers of the atom and the row.
func (d draws) key(row int) uint64 {
	return splitmix.Mix(splitmix.Mix(splitmix.Mix(uint64(d.seed)+splitmix.Increment)+uint64(d.stream)*splitmix.Increment) + uint64(row+1)*splitmix.Increment)
}

// draw returns k of the numbers 0 … among-1 that are not taken, sorted. taken is sorted. Every set of k is equally likely.
// Source: Floyd's algorithm (Bentley and Floyd 1987, A sample of brilliance).
func (d draws) draw(row, k, among int, taken []int) []int {
	free := among - len(taken)
	k = min(k, free)
	key := d.key(row)
	picked := make([]int, 0, k)
	for t := free - k; t < free; t++ {
		key += splitmix.Increment
		x, _ := bits.Mul64(splitmix.Mix(key), uint64(t+1))
		if at, found := slices.BinarySearch(picked, int(x)); found {
			picked = append(picked, t)
		} else {
			picked = slices.Insert(picked, at, int(x))
		}
	}
	skipped := 0 // ranks among the free ones become numbers
	for at := range picked {
		for skipped < len(taken) && taken[skipped] <= picked[at]+skipped {
			skipped++
		}
		picked[at] += skipped
	}
	return picked
}

func newRandom(a []int) (Pattern, error) { return NewRandom(a[0], a[1], optional(a, 2)), nil }

func newRandomBlocks(a []int) (Pattern, error) {
	if a[0] < 1 {
		return nil, fmt.Errorf("block size is %d; the smallest is 1", a[0])
	}
	return NewRandomBlocks(a[0], a[1], a[2], optional(a, 3)), nil
}

func newBernoulli(a []int) (Pattern, error) {
	if a[1] < 1 || a[0] > a[1] {
		return nil, fmt.Errorf("probability is %d/%d; give a fraction from 0 to 1", a[0], a[1])
	}
	return NewBernoulli(a[0], a[1], a[2], optional(a, 3)), nil
}

// optional is an argument that is 0 where it is not given.
func optional(a []int, at int) int {
	if at < len(a) {
		return a[at]
	}
	return 0
}
