package attention

import (
	"fmt"
	"slices"
	"sort"
)

// Pattern tells which keys j the query i of head h may read in a sequence of n positions (A_i in the literature, as a set:
// a key reached in two ways counts once). It is a pure function of these four; positions outside [0, n) see nothing.
//
// Sees is the definition. Row, Col and NNZ are the same set, enumerated by row, by column, and counted; tests hold them equal.
type Pattern interface {
	// String is the pattern in the language of Parse.
	String() string
	// Heads is how many heads the pattern tells apart: 1 where all heads are alike.
	Heads() int
	// FromEnd reports whether positions are counted from the end of the sequence. Such a pattern is laid out for each
	// example's own length; all others do not depend on n but for the cut at the end.
	FromEnd() bool
	// Sees reports whether query i of head h reads key j. O(1) for atoms.
	Sees(h, i, j, n int) bool
	// Row appends the keys of query i as runs, in any order, possibly overlapping.
	Row(h, i, n int, dst []Run) []Run
	// Col appends the queries that read key j, in the same form.
	Col(h, j, n int, dst []Run) []Run
	// NNZ is the number of pairs (i, j) of head h, in closed form where there is one, else from O(n) rows.
	NNZ(h, n int) int64
}

// Run is the positions Lo, Lo+Step, … below Hi. Lo < Hi, Step >= 1.
type Run struct{ Lo, Hi, Step int }

// Len is the number of positions.
func (r Run) Len() int { return (r.Hi - r.Lo + r.Step - 1) / r.Step }

// last is the greatest position.
func (r Run) last() int { return r.Lo + (r.Len()-1)*r.Step }

// appendRun adds a run unless it is empty.
func appendRun(dst []Run, lo, hi, step int) []Run {
	if lo < hi {
		dst = append(dst, Run{lo, hi, step})
	}
	return dst
}

// Keys returns the keys that query i of head h reads, sorted, each once.
func Keys(p Pattern, h, i, n int) []int { return positions(p.Row(h, i, n, nil)) }

// LastReader returns the last query that reads key j, or -1 if none does. A generator may drop the key after it.
func LastReader(p Pattern, h, j, n int) int {
	last, _ := lastReader(p, h, j, n, nil)
	return last
}

// lastReader is LastReader with a buffer, which it returns.
func lastReader(p Pattern, h, j, n int, runs []Run) (int, []Run) {
	last := -1
	runs = p.Col(h, j, n, runs[:0])
	for _, r := range runs {
		last = max(last, r.last())
	}
	return last, runs
}

// positions lists what the runs hold, sorted, each once.
func positions(runs []Run) []int {
	n := 0
	for _, r := range runs {
		n += r.Len()
	}
	all := make([]int, 0, n)
	for _, r := range runs {
		for j := r.Lo; j < r.Hi; j += r.Step {
			all = append(all, j)
		}
	}
	sort.Ints(all)
	return slices.Compact(all)
}

// tidy sorts runs, contiguous ones first, and joins those of one step that touch or overlap, in place. Runs of different steps
// may still share positions.
func tidy(runs []Run) []Run {
	for k, r := range runs {
		if r.Step > 1 && r.Len() == 1 {
			runs[k] = Run{r.Lo, r.Lo + 1, 1}
		}
	}
	if len(runs) < 2 {
		return runs
	}
	slices.SortFunc(runs, func(a, b Run) int {
		if d := a.Step - b.Step; d != 0 {
			return d
		}
		if d := a.Lo%a.Step - b.Lo%b.Step; d != 0 {
			return d
		}
		return a.Lo - b.Lo
	})
	out := runs[:1]
	for _, r := range runs[1:] {
		p := &out[len(out)-1]
		if r.Step == p.Step && (r.Lo-p.Lo)%r.Step == 0 && r.Lo <= p.last()+p.Step {
			p.Hi = max(p.Hi, r.Hi)
		} else {
			out = append(out, r)
		}
	}
	return out
}

// disjoint is tidy with every position in one run only.
func disjoint(runs []Run) []Run {
	runs = tidy(runs)
	solid := 0 // contiguous runs
	for solid < len(runs) && runs[solid].Step == 1 {
		solid++
	}
	if solid == len(runs) || len(runs) == 1 {
		return runs
	}
	stepped := slices.Clone(runs[solid:])
	out := runs[:solid:solid]
	for k, r := range stepped {
		for _, q := range stepped[:k] {
			if len(meet(nil, q, r)) > 0 { // of two different steps: list them
				for _, j := range positions(stepped) {
					out = append(out, Run{j, j + 1, 1})
				}
				return tidy(out)
			}
		}
	}
	for _, r := range stepped {
		for _, s := range out[:solid] { // cut out what the contiguous runs hold
			if s.Hi <= r.Lo {
				continue
			}
			if s.Lo >= r.Hi {
				break
			}
			if r.Lo < s.Lo {
				out = append(out, Run{r.Lo, s.Lo, r.Step})
			}
			r.Lo += max(0, (s.Hi-r.Lo+r.Step-1)/r.Step*r.Step)
			if r.Lo >= r.Hi {
				break
			}
		}
		out = appendRun(out, r.Lo, r.Hi, r.Step)
	}
	return out
}

// count is the number of distinct positions.
func count(runs []Run) int {
	n := 0
	for _, r := range disjoint(runs) {
		n += r.Len()
	}
	return n
}

// meet appends the positions that two runs share.
func meet(dst []Run, a, b Run) []Run {
	if a.Step < b.Step {
		a, b = b, a
	}
	lo, hi := max(a.Lo, b.Lo), min(a.last(), b.last())+1
	x := a.Lo
	if x < lo {
		x += (lo - x + a.Step - 1) / a.Step * a.Step
	}
	for k := 0; k < b.Step && x < hi; k++ { // remainders repeat after at most b.Step steps of a
		if (x-b.Lo)%b.Step == 0 {
			return append(dst, Run{x, hi, a.Step / gcd(a.Step, b.Step) * b.Step})
		}
		x += a.Step
	}
	return dst
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// clip cuts runs from index at on to positions in [lo, hi).
func clip(runs []Run, at, lo, hi int) []Run {
	out := runs[:at]
	for _, r := range runs[at:] {
		if r.Lo < lo {
			r.Lo += (lo - r.Lo + r.Step - 1) / r.Step * r.Step
		}
		out = appendRun(out, r.Lo, min(r.Hi, hi), r.Step)
	}
	return out
}

// countRows is NNZ where no closed form is known: exact, O(n) rows.
func countRows(p Pattern, h, n int) int64 {
	var total int64
	var runs []Run
	for i := range n {
		runs = p.Row(h, i, n, runs[:0])
		total += int64(count(runs))
	}
	return total
}

// CheckHeads says whether a model with this many heads can use the pattern.
func CheckHeads(p Pattern, heads int) error {
	if k := p.Heads(); k != 1 && k != heads {
		return fmt.Errorf("pattern %s describes %d heads, the layer has %d; give one part for each head", p, k, heads)
	}
	return nil
}

// IsCausal reports whether no query of any head reads a later key in a sequence of n.
func IsCausal(p Pattern, n int) bool {
	if _, ok := p.(causal); ok {
		return true
	}
	var runs []Run
	for h := range p.Heads() {
		for i := range n {
			runs = p.Row(h, i, n, runs[:0])
			for _, r := range runs {
				if r.last() > i {
					return false
				}
			}
		}
	}
	return true
}
