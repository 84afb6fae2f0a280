package attention

import (
	"bufio"
	"fmt"
	"html"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"io"
	"math"
	"strings"
)

// Sizes of a picture in pixels. A panel shows the mask of one head: queries go down, keys to the right.
const (
	panelSize   = 480
	panelGap    = 28
	panelMargin = 24
	panelsWide  = 4   // heads side by side before a new row begins
	svgCells    = 240 // finest grid of an SVG picture
	maxPanels   = 64
)

var (
	paper   = color.NRGBA{0xff, 0xff, 0xff, 0xff}
	hidden  = color.NRGBA{0xf1, 0xf3, 0xf5, 0xff}
	frame   = color.NRGBA{0xad, 0xb5, 0xbd, 0xff}
	ink     = "#343a40"
	palette = []color.NRGBA{ // one for each term of a union
		{0x36, 0x4f, 0xc7, 0xff}, {0xe8, 0x59, 0x0c, 0xff}, {0x2b, 0x8a, 0x3e, 0xff}, {0x9c, 0x36, 0xb5, 0xff},
		{0x0b, 0x72, 0x85, 0xff}, {0xc9, 0x2a, 0x2a, 0xff},
	}
)

// WritePNG draws the pattern for n nodes (positions, if there are no other nodes): a panel for each head, or one if all are alike. Terms of a union have colours of
// their own. A sequence longer than the panel is drawn in cells, the stronger the more of their pairs are visible.
// Errors: n is 0, more heads than 64, those of w.
func WritePNG(w io.Writer, p Pattern, n int) error {
	if err := drawable(p, n); err != nil {
		return err
	}
	cells, size := grain(n, panelSize)
	wide, high := panels(p.Heads())
	img := image.NewNRGBA(image.Rect(0, 0, 2*panelMargin+wide*size+(wide-1)*panelGap, 2*panelMargin+high*size+(high-1)*panelGap))
	draw.Draw(img, img.Bounds(), image.NewUniform(paper), image.Point{}, draw.Src)
	unit := size / cells
	line := 0 // between cells, where they are large enough
	if unit >= 6 {
		line = 1
	}
	for h := range p.Heads() {
		left, top := corner(h, size)
		fill(img, left-1, top-1, size+2, size+2, frame)
		fill(img, left, top, size, size, paper)
		grid := shade(p, h, n, cells)
		for i := range cells {
			for j := range cells {
				fill(img, left+j*unit, top+i*unit, unit-line, unit-line, grid[i*cells+j])
			}
		}
	}
	return png.Encode(w, img)
}

func fill(img *image.NRGBA, x, y, w, h int, c color.NRGBA) {
	draw.Draw(img, image.Rect(x, y, x+w, y+h), image.NewUniform(c), image.Point{}, draw.Src)
}

// WriteSVG draws the pattern like WritePNG, as text, with a title, axes and a legend.
func WriteSVG(w io.Writer, p Pattern, n int) error {
	if err := drawable(p, n); err != nil {
		return err
	}
	cells, _ := grain(n, svgCells)
	wide, high := panels(p.Heads())
	legend := 0
	for h := range p.Heads() {
		legend = max(legend, len(terms(p, h)))
	}
	below := 22 * legend
	unit := float64(panelSize) / float64(cells)
	out := bufio.NewWriter(w)
	width := 2*panelMargin + wide*panelSize + (wide-1)*panelGap + 16
	height := 2*panelMargin + 56 + high*(panelSize+below) + (high-1)*panelGap
	fmt.Fprintf(out, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %[1]d %[2]d" font-family="system-ui, sans-serif" font-size="14" fill="%s">`+"\n",
		width, height, ink)
	fmt.Fprintf(out, `<rect width="100%%" height="100%%" fill="%s"/>`+"\n", hex(paper))
	title := shorten(p.String(), (width-2*panelMargin)/9)
	fmt.Fprintf(out, `<text x="%d" y="%d" font-size="16" font-weight="600">%s</text>`+"\n", panelMargin+16, panelMargin+6, title)
	nodes := "positions"
	if (spaceOf(p) != space{}) {
		nodes = "nodes"
	}
	fmt.Fprintf(out, `<text x="%d" y="%d" fill="#868e96">%d %s · keys →</text>`+"\n", panelMargin+16, panelMargin+30, n, nodes)
	for h := range p.Heads() {
		left, top := corner(h, panelSize)
		left, top = left+16, top+44+h/panelsWide*below
		fmt.Fprintf(out, `<g transform="translate(%d %d)">`+"\n", left, top)
		if h%panelsWide == 0 {
			fmt.Fprintf(out, `<text transform="translate(-8 0) rotate(-90)" text-anchor="end" fill="#868e96">← queries</text>`+"\n")
		}
		fmt.Fprintf(out, `<rect width="%d" height="%[1]d" fill="%s"/>`+"\n", panelSize, hex(hidden))
		svgCellsOf(out, shade(p, h, n, cells), cells, unit)
		fmt.Fprintf(out, `<rect width="%d" height="%[1]d" fill="none" stroke="%s"/>`+"\n", panelSize, hex(frame))
		for k, term := range terms(p, h) {
			y := panelSize + 10 + 22*k
			fmt.Fprintf(out, `<rect y="%d" width="12" height="12" rx="2" fill="%s"/>`, y, hex(palette[k%len(palette)]))
			fmt.Fprintf(out, `<text x="20" y="%d">%s</text>`+"\n", y+11, shorten(term.String(), panelSize/8))
		}
		fmt.Fprintln(out, `</g>`)
	}
	fmt.Fprintln(out, `</svg>`)
	return out.Flush()
}

// svgCellsOf writes cells of one colour as rectangles, as long as they go to the right and then, where rows are equal, down.
func svgCellsOf(out io.Writer, grid []color.NRGBA, cells int, unit float64) {
	gap := 0.0
	if unit >= 6 {
		gap = 1
	}
	for i := 0; i < cells; {
		row := grid[i*cells:][:cells]
		down := 1
		for gap == 0 && i+down < cells && equal(row, grid[(i+down)*cells:][:cells]) {
			down++
		}
		for j := 0; j < cells; {
			right := 1
			for gap == 0 && j+right < cells && row[j+right] == row[j] {
				right++
			}
			if row[j] != hidden {
				fmt.Fprintf(out, `<rect x="%s" y="%s" width="%s" height="%s" fill="%s"/>`+"\n", number(float64(j)*unit), number(float64(i)*unit),
					number(float64(right)*unit-gap), number(float64(down)*unit-gap), hex(row[j]))
			}
			j += right
		}
		i += down
	}
}

func equal(a, b []color.NRGBA) bool {
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// shorten makes text fit into a number of letters and escapes it.
func shorten(s string, letters int) string {
	if runes := []rune(s); len(runes) > letters {
		s = string(runes[:letters-1]) + "…"
	}
	return html.EscapeString(s)
}

func number(x float64) string {
	return strings.TrimSuffix(strings.TrimRight(fmt.Sprintf("%.2f", x), "0"), ".")
}

func hex(c color.NRGBA) string { return fmt.Sprintf("#%02x%02x%02x", c.R, c.G, c.B) }

// drawable says why there is no picture.
func drawable(p Pattern, n int) error {
	switch {
	case n < 1:
		return fmt.Errorf("no picture of %d positions; choose a length from 1 on", n)
	case p.Heads() > maxPanels:
		return fmt.Errorf("no picture of %d heads; %d is the most", p.Heads(), maxPanels)
	}
	return nil
}

// grain returns the cells of a side, at most `finest`, and the panel's size in pixels, a multiple of them.
func grain(n, finest int) (cells, size int) {
	if n > finest {
		return finest, panelSize / finest * finest
	}
	return n, max(1, panelSize/n) * n
}

// panels arranges heads.
func panels(heads int) (wide, high int) {
	return min(heads, panelsWide), (heads + panelsWide - 1) / panelsWide
}

func corner(h, size int) (left, top int) {
	return panelMargin + h%panelsWide*(size+panelGap), panelMargin + h/panelsWide*(size+panelGap)
}

// terms takes the union that a head is apart.
func terms(p Pattern, h int) []Pattern {
	switch q := p.(type) {
	case perHead:
		return terms(q[h], 0)
	case union:
		return append(terms(q.a, h), terms(q.b, h)...)
	case beyond:
		return terms(q.union, h)
	case onTokens:
		parts := terms(q.of, h)
		for k := range parts {
			parts[k] = onTokens{parts[k], q.in}
		}
		return parts
	case causal:
		parts := terms(q.of, h)
		for k := range parts {
			parts[k] = Causal(parts[k])
		}
		return parts
	}
	return []Pattern{headOf(p, h)}
}

// shade colours a grid of cells x cells. Where terms overlap the first one counts.
func shade(p Pattern, h, n, cells int) []color.NRGBA {
	parts := terms(p, h)
	cover := make([][]float32, len(parts)) // of each term: visible pairs of a cell
	var runs []Run
	for k, part := range parts {
		cover[k] = make([]float32, cells*cells)
		for i := range n {
			row := cover[k][i*cells/n*cells:][:cells]
			runs = tidy(part.Row(0, i, n, runs[:0]))
			for _, r := range runs {
				spread(row, r, n)
			}
		}
	}
	grid := make([]color.NRGBA, cells*cells)
	area := float64(n) / float64(cells) * float64(n) / float64(cells)
	for at := range grid {
		mixed, left := [3]float64{float64(hidden.R), float64(hidden.G), float64(hidden.B)}, 1.0
		for k := range parts {
			part := min(float64(cover[k][at])/area, 1)
			if n > cells {
				part = math.Cbrt(part) // so that thin lines stay visible
			}
			part = min(part, left)
			left -= part
			c := palette[k%len(palette)]
			for i, x := range [3]uint8{c.R, c.G, c.B} {
				mixed[i] += part * (float64(x) - float64([3]uint8{hidden.R, hidden.G, hidden.B}[i]))
			}
		}
		grid[at] = color.NRGBA{uint8(mixed[0] + 0.5), uint8(mixed[1] + 0.5), uint8(mixed[2] + 0.5), 0xff}
	}
	return grid
}

// spread adds a run of keys to the cells of a row, evenly if it has a step.
func spread(row []float32, r Run, n int) {
	cells := len(row)
	if r.Step*cells >= n { // at most one key a cell
		for j := r.Lo; j < r.Hi; j += r.Step {
			row[j*cells/n]++
		}
		return
	}
	for c := r.Lo * cells / n; c < cells && (c*n+cells-1)/cells < r.Hi; c++ {
		lo, hi := max((c*n+cells-1)/cells, r.Lo), min(((c+1)*n+cells-1)/cells, r.Hi)
		row[c] += float32(hi-lo) / float32(r.Step)
	}
}
