package attention

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// causalCounter is an atom that knows how many of its pairs have j <= i.
type causalCounter interface {
	causalNNZ(n int) int64
}

// alike is what atoms share: all heads are the same and positions are counted from the front.
type alike struct{}

func (alike) Heads() int    { return 1 }
func (alike) FromEnd() bool { return false }

// inside reports whether both positions exist.
func inside(i, j, n int) bool { return i >= 0 && j >= 0 && i < n && j < n }

// triangle is 1 + 2 + … + n.
func triangle(n int) int64 { return int64(n) * int64(n+1) / 2 }

// Full lets every query read every key.
type Full struct{ alike }

func (Full) String() string                   { return "full" }
func (Full) Sees(_, i, j, n int) bool         { return inside(i, j, n) }
func (Full) Row(_, _, n int, dst []Run) []Run { return appendRun(dst, 0, n, 1) }
func (Full) Col(_, _, n int, dst []Run) []Run { return appendRun(dst, 0, n, 1) }
func (Full) NNZ(_, n int) int64               { return int64(n) * int64(n) }
func (Full) causalNNZ(n int) int64            { return triangle(n) }

// Band lets a query read itself, Left keys before it and Right keys after it (sliding window). Left and Right are numbers of
// neighbours: a causal window of w keys is Left = w-1.
type Band struct {
	alike
	Left, Right int
}

func (b Band) String() string           { return fmt.Sprintf("band(%d,%d)", b.Left, b.Right) }
func (b Band) Sees(_, i, j, n int) bool { return inside(i, j, n) && j >= i-b.Left && j <= i+b.Right }
func (b Band) Row(_, i, n int, dst []Run) []Run {
	return appendRun(dst, max(0, i-b.Left), min(n, i+b.Right+1), 1)
}
func (b Band) Col(_, j, n int, dst []Run) []Run {
	return appendRun(dst, max(0, j-b.Right), min(n, j+b.Left+1), 1)
}
func (b Band) NNZ(_, n int) int64    { return int64(n) + offsets(n, b.Left, 1) + offsets(n, b.Right, 1) }
func (b Band) causalNNZ(n int) int64 { return int64(n) + offsets(n, b.Left, 1) }

// offsets counts the pairs at distances gap, 2·gap, …, steps·gap on one side of the diagonal.
func offsets(n, steps, gap int) int64 {
	if n == 0 {
		return 0
	}
	m := min(steps, (n-1)/gap)
	return int64(m)*int64(n) - int64(gap)*triangle(m)
}

// Dilated lets a query read itself and every Gap-th key, Left of them before and Right after it (dilated window; Gap 1 is Band).
type Dilated struct {
	alike
	Left, Right, Gap int
}

func (d Dilated) String() string { return fmt.Sprintf("dilated(%d,%d,%d)", d.Left, d.Right, d.Gap) }
func (d Dilated) Sees(_, i, j, n int) bool {
	return inside(i, j, n) && (j-i)%d.Gap == 0 && (i-j)/d.Gap <= d.Left && (j-i)/d.Gap <= d.Right
}
func (d Dilated) Row(_, i, n int, dst []Run) []Run { return d.around(i, n, d.Left, d.Right, dst) }
func (d Dilated) Col(_, j, n int, dst []Run) []Run { return d.around(j, n, d.Right, d.Left, dst) }

func (d Dilated) around(i, n, before, after int, dst []Run) []Run {
	if i >= n {
		return dst
	}
	return appendRun(dst, i-min(before, i/d.Gap)*d.Gap, i+min(after, (n-1-i)/d.Gap)*d.Gap+1, d.Gap)
}
func (d Dilated) NNZ(_, n int) int64 {
	return int64(n) + offsets(n, d.Left, d.Gap) + offsets(n, d.Right, d.Gap)
}
func (d Dilated) causalNNZ(n int) int64 { return int64(n) + offsets(n, d.Left, d.Gap) }

// Blocks cuts the sequence into blocks of Size (the last may be short); a query reads its own block, Left keys before it and
// Right keys after it.
type Blocks struct {
	alike
	Size, Left, Right int
}

func (b Blocks) String() string {
	switch {
	case b.Left != b.Right:
		return fmt.Sprintf("blocks(%d,%d,%d)", b.Size, b.Left, b.Right)
	case b.Left > 0:
		return fmt.Sprintf("blocks(%d,%d)", b.Size, b.Left)
	}
	return fmt.Sprintf("blocks(%d)", b.Size)
}

// memory is what the queries of block k read.
func (b Blocks) memory(k, n int) (lo, hi int) {
	return max(0, k*b.Size-b.Left), min(n, (k+1)*b.Size+b.Right)
}
func (b Blocks) Sees(_, i, j, n int) bool {
	k := i / b.Size
	return inside(i, j, n) && j >= k*b.Size-b.Left && j < (k+1)*b.Size+b.Right
}
func (b Blocks) Row(_, i, n int, dst []Run) []Run {
	lo, hi := b.memory(i/b.Size, n)
	return appendRun(dst, lo, hi, 1)
}
func (b Blocks) Col(_, j, n int, dst []Run) []Run {
	first, last := max(0, j-b.Right)/b.Size, (j+b.Left)/b.Size
	return appendRun(dst, first*b.Size, min(n, (last+1)*b.Size), 1)
}
func (b Blocks) NNZ(_, n int) int64 {
	var total int64
	for k := 0; k*b.Size < n; k++ {
		lo, hi := b.memory(k, n)
		total += int64(min(b.Size, n-k*b.Size)) * int64(hi-lo)
	}
	return total
}
func (b Blocks) causalNNZ(n int) int64 {
	var total int64
	for k := 0; k*b.Size < n; k++ {
		lo, _ := b.memory(k, n)
		rows := min(b.Size, n-k*b.Size)
		total += int64(rows)*int64(k*b.Size-lo) + triangle(rows)
	}
	return total
}

// ShiftedBlocks is Blocks with all borders Shift positions earlier, so that the first block is the shorter one (without wrapping
// round). Alternating with Blocks of the same size, Shift = Size/2, it carries news across borders.
type ShiftedBlocks struct {
	alike
	Size, Shift int
}

func (b ShiftedBlocks) String() string { return fmt.Sprintf("shifted-blocks(%d,%d)", b.Size, b.Shift) }
func (b ShiftedBlocks) Sees(_, i, j, n int) bool {
	return inside(i, j, n) && (i+b.Shift)/b.Size == (j+b.Shift)/b.Size
}
func (b ShiftedBlocks) Row(_, i, n int, dst []Run) []Run {
	start := (i+b.Shift)/b.Size*b.Size - b.Shift
	return appendRun(dst, max(0, start), min(n, start+b.Size), 1)
}
func (b ShiftedBlocks) Col(h, j, n int, dst []Run) []Run { return b.Row(h, j, n, dst) }
func (b ShiftedBlocks) NNZ(h, n int) int64 {
	first := min(n, b.Size-b.Shift)
	return int64(first)*int64(first) + Blocks{Size: b.Size}.NNZ(h, n-first)
}
func (b ShiftedBlocks) causalNNZ(n int) int64 {
	first := min(n, b.Size-b.Shift)
	return triangle(first) + Blocks{Size: b.Size}.causalNNZ(n-first)
}

// Global makes some positions read all and be read by all. Negative positions count from the end: -1 is the last.
// Positions that the sequence does not have are ignored.
type Global struct {
	positions []int // sorted, each once
}

// NewGlobal returns the pattern for these positions, in any order; repetitions count once.
func NewGlobal(positions ...int) Global {
	p := slices.Clone(positions)
	slices.Sort(p)
	return Global{slices.Compact(p)}
}

func (g Global) String() string {
	s := make([]string, len(g.positions))
	for k, p := range g.positions {
		s[k] = strconv.Itoa(p)
	}
	return "global(" + strings.Join(s, ",") + ")"
}
func (g Global) Heads() int    { return 1 }
func (g Global) FromEnd() bool { return len(g.positions) > 0 && g.positions[0] < 0 }

// at returns the positions in a sequence of n, sorted.
func (g Global) at(n int) []int {
	if !g.FromEnd() {
		k, _ := slices.BinarySearch(g.positions, n)
		return g.positions[:k]
	}
	var out []int
	for _, p := range g.positions {
		if p < 0 {
			p += n
		}
		if p >= 0 && p < n {
			out = append(out, p)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func (g Global) has(i, n int) bool {
	if _, ok := slices.BinarySearch(g.positions, i); ok {
		return true
	}
	_, ok := slices.BinarySearch(g.positions, i-n)
	return ok
}

func (g Global) Sees(_, i, j, n int) bool         { return inside(i, j, n) && (g.has(i, n) || g.has(j, n)) }
func (g Global) Row(_, i, n int, dst []Run) []Run { return g.cross(i, n, dst) }
func (g Global) Col(_, j, n int, dst []Run) []Run { return g.cross(j, n, dst) }

func (g Global) cross(i, n int, dst []Run) []Run {
	if g.has(i, n) {
		return appendRun(dst, 0, n, 1)
	}
	for _, p := range g.at(n) {
		dst = append(dst, Run{p, p + 1, 1})
	}
	return dst
}
func (g Global) NNZ(_, n int) int64 {
	k := int64(len(g.at(n)))
	return 2*int64(n)*k - k*k
}
func (g Global) causalNNZ(n int) int64 {
	k := len(g.at(n))
	return int64(k)*int64(n+1) - triangle(k)
}
