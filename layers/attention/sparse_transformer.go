package attention

import "fmt"

// Strided is the merged strided pattern of the Sparse Transformer: a query reads the last Stride keys, itself included, and every
// Stride-th key before it. Causal. The two halves alone are Band{Left: Stride-1} and Dilated{Left: far, Gap: Stride}.
// Cost: n·Stride + n²/Stride pairs, least at Stride = √n. Source: Child et al. 2019, arXiv 1904.10509, section 4.2; the local
// half as in the released code (the paper's formula has one key more).
type Strided struct {
	alike
	Stride int
}

func (s Strided) String() string { return fmt.Sprintf("strided(%d)", s.Stride) }
func (s Strided) Sees(_, i, j, n int) bool {
	return inside(i, j, n) && j <= i && (i-j < s.Stride || (i-j)%s.Stride == 0)
}
func (s Strided) Row(_, i, n int, dst []Run) []Run {
	dst = appendRun(dst, i%s.Stride, i-s.Stride+1, s.Stride)
	return appendRun(dst, max(0, i-s.Stride+1), min(n, i+1), 1)
}
func (s Strided) Col(_, j, n int, dst []Run) []Run {
	dst = appendRun(dst, j, min(n, j+s.Stride), 1)
	return appendRun(dst, j+s.Stride, n, s.Stride)
}
func (s Strided) NNZ(_, n int) int64 {
	return int64(n) + offsets(n, s.Stride-1, 1) + offsets(n, n, s.Stride)
}
func (s Strided) causalNNZ(n int) int64 { return s.NNZ(0, n) }

// Fixed is the merged fixed pattern of the Sparse Transformer: a query reads its own block of Stride keys and the last Summary
// columns of every block, both up to itself. Causal. The two halves alone are Causal(Blocks{Size: Stride}) and Summary.
// Source: Child et al. 2019, arXiv 1904.10509, section 4.2.
type Fixed struct {
	alike
	Stride, Summary int
}

func (f Fixed) String() string { return fmt.Sprintf("fixed(%d,%d)", f.Stride, f.Summary) }
func (f Fixed) Sees(_, i, j, n int) bool {
	return inside(i, j, n) && j <= i && (j/f.Stride == i/f.Stride || j%f.Stride >= f.Stride-f.Summary)
}
func (f Fixed) Row(h, i, n int, dst []Run) []Run {
	start := i / f.Stride * f.Stride
	dst = f.columns().rowBefore(start, dst)
	return appendRun(dst, start, min(n, i+1), 1)
}
func (f Fixed) Col(h, j, n int, dst []Run) []Run {
	if j%f.Stride >= f.Stride-f.Summary {
		return appendRun(dst, j, n, 1)
	}
	return appendRun(dst, j, min(n, (j/f.Stride+1)*f.Stride), 1)
}
func (f Fixed) NNZ(_, n int) int64 {
	var total int64
	for start := 0; start < n; start += f.Stride {
		rows := min(f.Stride, n-start)
		total += triangle(rows) + int64(rows)*int64(start/f.Stride*f.Summary)
	}
	return total
}
func (f Fixed) causalNNZ(n int) int64 { return f.NNZ(0, n) }
func (f Fixed) columns() Summary      { return Summary{Stride: f.Stride, Columns: f.Summary} }

// Summary is the second half of Fixed: a query reads some columns of every block of Stride keys, up to itself: the last Columns,
// or those that stand Group·Columns before them (heads with columns of their own). Causal; the first queries read nothing.
type Summary struct {
	alike
	Stride, Columns, Group int

	earlier bool // only of blocks before the query's own
}

func (s Summary) String() string {
	if s.earlier {
		return fmt.Sprintf("summary(%d,%d,%d) before", s.Stride, s.Columns, s.Group)
	}
	if s.Group == 0 {
		return fmt.Sprintf("summary(%d,%d)", s.Stride, s.Columns)
	}
	return fmt.Sprintf("summary(%d,%d,%d)", s.Stride, s.Columns, s.Group)
}

// within returns the columns of a block.
func (s Summary) within() (lo, hi int) {
	hi = s.Stride - s.Group*s.Columns
	return hi - s.Columns, hi
}
func (s Summary) reads(j int) bool {
	lo, hi := s.within()
	return j%s.Stride >= lo && j%s.Stride < hi
}
func (s Summary) Sees(_, i, j, n int) bool {
	return inside(i, j, n) && j <= i && s.reads(j) && !(s.earlier && j/s.Stride == i/s.Stride)
}
func (s Summary) Row(_, i, n int, dst []Run) []Run {
	start := i / s.Stride * s.Stride
	lo, hi := s.within()
	dst = s.rowBefore(start, dst)
	if s.earlier {
		return dst
	}
	return appendRun(dst, start+lo, min(n, i+1, start+hi), 1)
}

// rowBefore appends the columns of the blocks before a start of a block.
func (s Summary) rowBefore(start int, dst []Run) []Run {
	lo, _ := s.within()
	if s.Columns == 1 {
		return appendRun(dst, lo, start, s.Stride)
	}
	for b := 0; b < start; b += s.Stride {
		dst = append(dst, Run{b + lo, b + lo + s.Columns, 1})
	}
	return dst
}
func (s Summary) Col(_, j, n int, dst []Run) []Run {
	if !s.reads(j) {
		return dst
	}
	if s.earlier {
		return appendRun(dst, (j/s.Stride+1)*s.Stride, n, 1)
	}
	return appendRun(dst, j, n, 1)
}
func (s Summary) NNZ(_, n int) int64 {
	var total int64
	lo, hi := s.within()
	for start := 0; start < n; start += s.Stride {
		rows := min(s.Stride, n-start)
		total += int64(rows) * int64(start/s.Stride*s.Columns)
		if rows > lo && !s.earlier { // of the block itself
			own := min(rows, hi) - lo
			total += triangle(own) + int64(rows-lo-own)*int64(own)
		}
	}
	return total
}
func (s Summary) causalNNZ(n int) int64 { return s.NNZ(0, n) }

func newStrided(a []int) (Pattern, error) {
	if a[0] < 1 {
		return nil, fmt.Errorf("stride is %d; the smallest is 1", a[0])
	}
	return Strided{Stride: a[0]}, nil
}

func newFixed(a []int) (Pattern, error) {
	if err := checkSummary(a[0], a[1], 0); err != nil {
		return nil, err
	}
	return Fixed{Stride: a[0], Summary: a[1]}, nil
}

func newSummary(a []int) (Pattern, error) {
	s := Summary{Stride: a[0], Columns: a[1]}
	if len(a) > 2 {
		s.Group = a[2]
	}
	if err := checkSummary(s.Stride, s.Columns, s.Group); err != nil {
		return nil, err
	}
	return s, nil
}

func checkSummary(stride, columns, group int) error {
	switch {
	case stride < 1:
		return fmt.Errorf("stride is %d; the smallest is 1", stride)
	case columns < 1 || columns > stride:
		return fmt.Errorf("summary columns are %d; give 1 to %d, the stride", columns, stride)
	case group >= stride/columns:
		return fmt.Errorf("group of columns is %d; a stride of %d has groups 0 to %d of %d", group, stride, stride/columns-1, columns)
	}
	return nil
}
