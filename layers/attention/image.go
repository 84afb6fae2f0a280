package attention

import "fmt"

// Image1D is the one-dimensional local attention of the Image Transformer in the form that generates: the queries of a block of
// Query positions read the Memory positions before the block and their own block up to themselves. Causal.
// Source: Parmar et al. 2018, arXiv 1802.05751, section 3.3; the form that sees both sides is Blocks.
type Image1D struct {
	alike
	Query, Memory int
}

func (m Image1D) String() string { return fmt.Sprintf("image1d(%d,%d)", m.Query, m.Memory) }
func (m Image1D) blocks() Blocks { return Blocks{Size: m.Query, Left: m.Memory} }
func (m Image1D) Sees(h, i, j, n int) bool {
	return j <= i && m.blocks().Sees(h, i, j, n)
}
func (m Image1D) Row(_, i, n int, dst []Run) []Run {
	lo, _ := m.blocks().memory(i/m.Query, n)
	return appendRun(dst, lo, min(n, i+1), 1)
}
func (m Image1D) Col(_, j, n int, dst []Run) []Run {
	return appendRun(dst, j, min(n, ((j+m.Memory)/m.Query+1)*m.Query), 1)
}
func (m Image1D) NNZ(_, n int) int64    { return m.blocks().causalNNZ(n) }
func (m Image1D) causalNNZ(n int) int64 { return m.blocks().causalNNZ(n) }

// Image2D is the two-dimensional local attention of the Image Transformer in the form that generates an image of Height x Width
// positions, kept row by row: blocks of QueryHeight x QueryWidth are generated in the order of reading, and the positions inside
// a block likewise. A query reads its own block up to itself and, of what is generated before, MemoryHeight rows above the block and
// MemoryWidth columns on both sides. It is causal in this order, not in that of the rows. Positions beyond the image see nothing.
// Source: Parmar et al. 2018, arXiv 1802.05751, section 3.3.
type Image2D struct {
	alike
	Height, Width, QueryHeight, QueryWidth, MemoryHeight, MemoryWidth int
}

func (m Image2D) String() string {
	return fmt.Sprintf("image2d(%d,%d,%d,%d,%d,%d)", m.Height, m.Width, m.QueryHeight, m.QueryWidth, m.MemoryHeight, m.MemoryWidth)
}
func (m Image2D) size() int { return m.Height * m.Width }

// block returns the corner of the block of a place.
func (m Image2D) block(y, x int) (top, left int) {
	return y / m.QueryHeight * m.QueryHeight, x / m.QueryWidth * m.QueryWidth
}

func (m Image2D) Sees(_, i, j, n int) bool {
	if !inside(i, j, min(n, m.size())) {
		return false
	}
	iy, ix, jy, jx := i/m.Width, i%m.Width, j/m.Width, j%m.Width
	top, left := m.block(iy, ix)
	bottom, right := top+m.QueryHeight, left+m.QueryWidth
	switch {
	case jy >= bottom || jy < top-m.MemoryHeight || jx < left-m.MemoryWidth || jx >= right+m.MemoryWidth:
		return false
	case jy < top || jx < left:
		return true
	}
	return jx < right && (jy < iy || jy == iy && jx <= ix)
}

func (m Image2D) Row(_, i, n int, dst []Run) []Run {
	n = min(n, m.size())
	if i >= n {
		return dst
	}
	iy, ix := i/m.Width, i%m.Width
	top, left := m.block(iy, ix)
	from := max(0, left-m.MemoryWidth)
	for y := max(0, top-m.MemoryHeight); y < min(m.Height, top+m.QueryHeight); y++ {
		to := left // rows below the query: only earlier blocks
		switch {
		case y < top:
			to = left + m.QueryWidth + m.MemoryWidth
		case y < iy:
			to = left + m.QueryWidth
		case y == iy:
			to = ix + 1
		}
		dst = appendRun(dst, y*m.Width+from, min(n, y*m.Width+min(to, m.Width)), 1)
	}
	return dst
}

func (m Image2D) Col(_, j, n int, dst []Run) []Run {
	n = min(n, m.size())
	if j >= n {
		return dst
	}
	jy, jx := j/m.Width, j%m.Width
	top, left := m.block(jy, jx)
	// Blocks whose columns reach j: from the first whose right margin does to the last whose left margin does.
	first := max(0, jx-m.MemoryWidth) / m.QueryWidth * m.QueryWidth
	end := min(m.Width, ((jx+m.MemoryWidth)/m.QueryWidth+1)*m.QueryWidth)
	line := func(y, from, to int) {
		dst = appendRun(dst, y*m.Width+from, min(n, y*m.Width+to), 1)
	}
	for y := top; y < min(m.Height, top+m.QueryHeight); y++ {
		own := min(m.Width, left+m.QueryWidth)
		switch {
		case y == jy:
			line(y, jx, own)
		case y > jy:
			line(y, left, own)
		}
		line(y, own, end) // later blocks beside it
	}
	for y := top + m.QueryHeight; y < min(m.Height, ((jy+m.MemoryHeight)/m.QueryHeight+1)*m.QueryHeight); y++ {
		line(y, first, end)
	}
	return dst
}
func (m Image2D) NNZ(_, n int) int64 { return countRows(m, 0, n) }

// Rank is the place of a position in the order of generation.
func (m Image2D) Rank(position int) int {
	y, x := position/m.Width, position%m.Width
	top, left := m.block(y, x)
	high, wide := min(m.QueryHeight, m.Height-top), min(m.QueryWidth, m.Width-left)
	return top*m.Width + left*high + (y-top)*wide + x - left
}

// ImageRow lets the positions of an image, kept row by row, read their own row (attention along the width); positions beyond the
// image see nothing. Source: Ho et al. 2019, arXiv 1912.12180 (axial attention).
type ImageRow struct {
	alike
	Height, Width int
}

func (r ImageRow) String() string { return fmt.Sprintf("row(%d,%d)", r.Height, r.Width) }
func (r ImageRow) size() int      { return r.Height * r.Width }
func (r ImageRow) Sees(_, i, j, n int) bool {
	return inside(i, j, min(n, r.size())) && i/r.Width == j/r.Width
}
func (r ImageRow) Row(_, i, n int, dst []Run) []Run {
	start := i / r.Width * r.Width
	return appendRun(dst, start, min(n, r.size(), start+r.Width), 1)
}
func (r ImageRow) Col(h, j, n int, dst []Run) []Run { return r.Row(h, j, n, dst) }
func (r ImageRow) NNZ(h, n int) int64               { return Blocks{Size: r.Width}.NNZ(h, min(n, r.size())) }
func (r ImageRow) causalNNZ(n int) int64 {
	return Blocks{Size: r.Width}.causalNNZ(min(n, r.size()))
}

// ImageColumn lets the positions of an image, kept row by row, read their own column (attention along the height); positions
// beyond the image see nothing. Source: Ho et al. 2019, arXiv 1912.12180 (axial attention).
type ImageColumn struct {
	alike
	Height, Width int
}

func (c ImageColumn) String() string { return fmt.Sprintf("column(%d,%d)", c.Height, c.Width) }
func (c ImageColumn) size() int      { return c.Height * c.Width }
func (c ImageColumn) Sees(_, i, j, n int) bool {
	return inside(i, j, min(n, c.size())) && (i-j)%c.Width == 0
}
func (c ImageColumn) Row(_, i, n int, dst []Run) []Run {
	if n = min(n, c.size()); i >= n {
		return dst
	}
	return appendRun(dst, i%c.Width, n, c.Width)
}
func (c ImageColumn) Col(h, j, n int, dst []Run) []Run { return c.Row(h, j, n, dst) }

// column lengths: the first n mod Width columns have one position more.
func (c ImageColumn) heights(n int) (full, longer int) {
	n = min(n, c.size())
	return n / c.Width, n % c.Width
}
func (c ImageColumn) NNZ(_, n int) int64 {
	full, longer := c.heights(n)
	return int64(c.Width-longer)*int64(full)*int64(full) + int64(longer)*int64(full+1)*int64(full+1)
}
func (c ImageColumn) causalNNZ(n int) int64 {
	full, longer := c.heights(n)
	return int64(c.Width-longer)*triangle(full) + int64(longer)*triangle(full+1)
}

func newImage1D(a []int) (Pattern, error) {
	if a[0] < 1 {
		return nil, fmt.Errorf("query block is %d; the smallest is 1", a[0])
	}
	return Image1D{Query: a[0], Memory: a[1]}, nil
}

func newImage2D(a []int) (Pattern, error) {
	if err := checkImage(a[0], a[1]); err != nil {
		return nil, err
	}
	if a[2] < 1 || a[3] < 1 {
		return nil, fmt.Errorf("query block is %d x %d; the smallest is 1 x 1", a[2], a[3])
	}
	return Image2D{Height: a[0], Width: a[1], QueryHeight: a[2], QueryWidth: a[3], MemoryHeight: a[4], MemoryWidth: a[5]}, nil
}

func newImage2DGenerated(a []int) (Pattern, error) {
	p, err := newImage2D(a)
	if err != nil {
		return nil, err
	}
	return Image2DGenerated{Image2D: p.(Image2D)}, nil
}

func newRow(a []int) (Pattern, error) {
	return ImageRow{Height: a[0], Width: a[1]}, checkImage(a[0], a[1])
}

func newColumn(a []int) (Pattern, error) {
	return ImageColumn{Height: a[0], Width: a[1]}, checkImage(a[0], a[1])
}

func checkImage(height, width int) error {
	switch {
	case height < 1 || width < 1:
		return fmt.Errorf("image is %d x %d; the smallest is 1 x 1", height, width)
	case height > maxNumber/width:
		return fmt.Errorf("image of %d x %d has more than %d positions", height, width, maxNumber)
	}
	return nil
}
