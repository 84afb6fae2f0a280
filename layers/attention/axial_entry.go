package attention

// axialEntry is attention along the rows (ImageRow) or the columns (ImageColumn) of an image that is kept row by row. In a decoder it is cut to
// earlier positions, as of all entries: in a row those on the left, in a column those above.
type axialEntry struct {
	kind
	Height *int `json:"height"`
	Width  *int `json:"width"`
}

func (e *axialEntry) check() []error {
	return checkPositive(checkPositive(nil, "height", e.Height), "width", e.Width)
}

func (e *axialEntry) pattern(Layer) (Pattern, error) {
	if err := checkImage(*e.Height, *e.Width); err != nil {
		return nil, err
	}
	if e.Type == "axial_row" {
		return ImageRow{Height: *e.Height, Width: *e.Width}, nil
	}
	return ImageColumn{Height: *e.Height, Width: *e.Width}, nil
}
