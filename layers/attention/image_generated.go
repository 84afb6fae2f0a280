package attention

import "fmt"

// Image2DGenerated is Image2D on positions that are kept in the order of their generation, block by block, where it is causal.
// Blocks at the lower and right border are cut off with the image. What an earlier position of another block row or column is read by is
// a whole block, which lies together.
// Source: Parmar et al. 2018, arXiv 1802.05751, section 3.3.
type Image2DGenerated struct{ Image2D }

func (g Image2DGenerated) String() string {
	return "image2d-generated" + g.Image2D.String()[len("image2d"):]
}

// Place is the position in the order of rows of what is generated as number t: the reverse of Rank.
func (g Image2DGenerated) Place(t int) int {
	top := t / (g.Width * g.QueryHeight) * g.QueryHeight
	high := min(g.QueryHeight, g.Height-top)
	t -= top * g.Width
	left := t / (high * g.QueryWidth) * g.QueryWidth
	wide := min(g.QueryWidth, g.Width-left)
	t -= left * high
	return (top+t/wide)*g.Width + left + t%wide
}

func (g Image2DGenerated) Sees(h, i, j, n int) bool {
	return inside(i, j, min(n, g.size())) && g.Image2D.Sees(h, g.Place(i), g.Place(j), g.size())
}

func (g Image2DGenerated) Row(_, i, n int, dst []Run) []Run {
	if n = min(n, g.size()); i >= n {
		return dst
	}
	y, x := g.Place(i)/g.Width, g.Place(i)%g.Width
	top, left := g.block(y, x)
	own := top*g.Width + left*min(g.QueryHeight, g.Height-top)
	from, to := max(0, left-g.MemoryWidth), min(g.Width, left+g.QueryWidth+g.MemoryWidth)
	for at := max(0, top-g.MemoryHeight); at < top; at++ {
		dst = g.line(at, from, to, dst)
	}
	for at := top; at < min(g.Height, top+g.QueryHeight); at++ {
		dst = g.line(at, from, left, dst)
	}
	return appendRun(dst, own, i+1, 1)
}

// line adds the columns from … to-1 of a row of the image, a run for each block.
func (g Image2DGenerated) line(y, from, to int, dst []Run) []Run {
	for x := from; x < to; {
		_, left := g.block(y, x)
		end := min(to, left+g.QueryWidth)
		first := g.Rank(y*g.Width + x)
		dst = appendRun(dst, first, first+end-x, 1)
		x = end
	}
	return dst
}

func (g Image2DGenerated) Col(_, j, n int, dst []Run) []Run {
	if n = min(n, g.size()); j >= n {
		return dst
	}
	y, x := g.Place(j)/g.Width, g.Place(j)%g.Width
	top, left := g.block(y, x)
	whole := func(top, left, end int) { // the blocks of a row of blocks from one to the last that begins before end
		high := min(g.QueryHeight, g.Height-top)
		end = min(g.Width, (end+g.QueryWidth-1)/g.QueryWidth*g.QueryWidth)
		dst = appendRun(dst, top*g.Width+left*high, min(n, top*g.Width+end*high), 1)
	}
	next := min(g.Width, left+g.QueryWidth)
	dst = appendRun(dst, j, min(n, top*g.Width+next*min(g.QueryHeight, g.Height-top)), 1)
	last := x + g.MemoryWidth + 1
	whole(top, next, last)
	first := max(0, x-g.MemoryWidth) / g.QueryWidth * g.QueryWidth
	for below := top + g.QueryHeight; below < g.Height && below <= y+g.MemoryHeight; below += g.QueryHeight {
		whole(below, first, last)
	}
	return dst
}

func (g Image2DGenerated) NNZ(_, n int) int64 { return countRows(g, 0, n) }

// causalNNZ is NNZ: nothing later is read.
func (g Image2DGenerated) causalNNZ(n int) int64 { return g.NNZ(0, n) }

// Generated is the pattern itself, cut to earlier positions or not, if it is an Image2DGenerated.
func Generated(p Pattern) (Image2DGenerated, bool) {
	if c, ok := p.(causal); ok {
		p = c.of
	}
	g, ok := p.(Image2DGenerated)
	return g, ok
}

// Generated1D is Generated of the one-dimensional form.
func Generated1D(p Pattern) (Image1D, bool) {
	if c, ok := p.(causal); ok {
		p = c.of
	}
	g, ok := p.(Image1D)
	return g, ok
}

// image2DEntry is the two-dimensional local attention of the Image Transformer, on positions in the order in which they are generated. It reads
// what is generated before, in an encoder, too.
type image2DEntry struct {
	kind
	Height       *int `json:"height,omitempty"` // of the image; those of the model if it has any
	Width        *int `json:"width,omitempty"`  // in positions, with channels
	QueryHeight  *int `json:"query_height"`
	QueryWidth   *int `json:"query_width"`
	MemoryHeight *int `json:"memory_height"`
	MemoryWidth  *int `json:"memory_width"`
}

func (e *image2DEntry) check() []error {
	var faults []error
	if e.Height != nil || e.Width != nil {
		faults = checkPositive(checkPositive(faults, "height", e.Height), "width", e.Width)
	}
	faults = checkPositive(checkPositive(faults, "query_height", e.QueryHeight), "query_width", e.QueryWidth)
	return checkSide(checkSide(faults, "memory_height", e.MemoryHeight, true), "memory_width", e.MemoryWidth, true)
}

func (e *image2DEntry) pattern(at Layer) (Pattern, error) {
	m := Image2D{Height: at.Height, Width: at.Width, QueryHeight: *e.QueryHeight, QueryWidth: *e.QueryWidth, MemoryHeight: *e.MemoryHeight, MemoryWidth: *e.MemoryWidth}
	if e.Height != nil {
		m.Height, m.Width = *e.Height, *e.Width
	}
	if m.Height == 0 {
		return nil, fmt.Errorf("image2d wants to know the image here: give height and width")
	}
	if err := checkImage(m.Height, m.Width); err != nil {
		return nil, err
	}
	return Image2DGenerated{Image2D: m}, nil
}
