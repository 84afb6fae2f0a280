package data

import (
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
	"math"
)

// Grid draws images, each given by its tokens, side by side: as nearly square as it goes, columns first, a white line of a pixel of the grid between
// them, each pixel of theirs scale x scale pixels (0: so many that an image has at least 64 in each direction). Level 0 is black, the
// last one full. A place that is no level (negative) is drawn in mid grey with a red cast: it has not been generated.
//
// Errors: a row that has not the tokens of an image.
func (s ImageShape) Grid(rows [][]int32, scale int) (image.Image, error) {
	for i, ids := range rows {
		if len(ids) != s.Size() {
			return nil, fmt.Errorf("image %d has %d tokens, want %d (%s)", i, len(ids), s.Size(), s)
		}
	}
	if len(rows) == 0 {
		return nil, fmt.Errorf("a grid of no images")
	}
	if scale <= 0 {
		scale = max(1, (64+min(s.Height, s.Width)-1)/min(s.Height, s.Width))
	}
	columns := int(math.Ceil(math.Sqrt(float64(len(rows)))))
	lines := (len(rows) + columns - 1) / columns
	h, w := s.Height*scale+1, s.Width*scale+1
	if columns*w > maxSide || lines*h > maxSide || columns*w*lines*h > 4*maxPixels {
		return nil, fmt.Errorf("a grid of %dx%d pixels is too large: draw fewer images", lines*h, columns*w)
	}
	grid := image.NewRGBA(image.Rect(0, 0, columns*w+1, lines*h+1))
	for i := range grid.Pix {
		grid.Pix[i] = 255
	}
	for i, ids := range rows {
		raster := s.Raster(ids)
		top, left := i/columns*h+1, i%columns*w+1
		for y := range s.Height * scale {
			for x := range s.Width * scale {
				grid.SetRGBA(left+x, top+y, s.pixel(raster[(y/scale*s.Width+x/scale)*s.Channels:]))
			}
		}
	}
	return grid, nil
}

// pixel is the colour of the levels that begin a row.
func (s ImageShape) pixel(levels []int32) color.RGBA {
	var rgb [3]byte
	for c := range 3 {
		level := levels[min(c, s.Channels-1)]
		if level < 0 {
			return color.RGBA{160, 112, 112, 255}
		}
		// Rounded up, so that floor(value*K/256) is the level again.
		rgb[c] = byte((int(min(level, int32(s.Levels-1)))*255 + s.Levels - 2) / (s.Levels - 1))
	}
	return color.RGBA{rgb[0], rgb[1], rgb[2], 255}
}

// WriteGrid writes Grid as PNG.
func (s ImageShape) WriteGrid(w io.Writer, rows [][]int32, scale int) error {
	grid, err := s.Grid(rows, scale)
	if err != nil {
		return err
	}
	return png.Encode(w, grid)
}

// ReadImage reads a PNG or JPEG file as the tokens of an image of this shape, such as the beginning of what is to be completed. It must have its
// size in pixels.
//
// Errors: those of a file; ErrFormat for another size.
func (s ImageShape) ReadImage(path string) ([]int32, error) { return s.read(path, false) }

// ReadResized is ReadImage of a file that may be larger, and is made small by means.
func (s ImageShape) ReadResized(path string) ([]int32, error) { return s.read(path, true) }

func (s ImageShape) read(path string, larger bool) ([]int32, error) {
	left := maxBytes
	ids := make([]int32, 0, s.Size())
	err := readPhoto(path, "", &left, func(p picture) error {
		if !(larger && p.height >= s.Height && p.width >= s.Width) && (p.height != s.Height || p.width != s.Width) {
			return &Error{Kind: ErrFormat, Path: path, What: fmt.Sprintf("%dx%d pixels, the model has images of %dx%d", p.height, p.width, s.Height, s.Width), Fix: "give an image of that size"}
		}
		p = p.coloured(s.Channels)
		levels := p.resized(s.Height, s.Width, 256, s.Levels)
		for _, at := range s.Order() {
			ids = append(ids, int32(levels[at]))
		}
		return nil
	})
	return ids, err
}
