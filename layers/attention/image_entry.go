package attention

// image1DEntry is the one-dimensional local attention of the Image Transformer. In a decoder it is Image1D; else queries read the memory on
// both sides of their block, as in the encoder of super-resolution.
type image1DEntry struct {
	kind
	QueryBlock *int `json:"query_block"`
	Memory     *int `json:"memory"`
}

func (e *image1DEntry) check() []error {
	return checkSide(checkPositive(nil, "query_block", e.QueryBlock), "memory", e.Memory, true)
}

func (e *image1DEntry) pattern(at Layer) (Pattern, error) {
	if at.Decoder {
		return Image1D{Query: *e.QueryBlock, Memory: *e.Memory}, nil
	}
	return Blocks{Size: *e.QueryBlock, Left: *e.Memory, Right: *e.Memory}, nil
}
