package main

import "fmt"

// sweptPixels are the systems of bench --sweep --pixels, which generate square images of n levels. Blocks and flanges of the Image Transformer stay
// as they are, stride and rows grow with the side.
var sweptPixels = []sweptSystem{
	{name: "image_transformer 1d", claim: 1, model: sweptImage(func(n int) string {
		return fmt.Sprintf(`{"type":"image1d","query_block":%d,"memory":128}`, min(128, n))
	})},
	{name: "image_transformer 2d", claim: 1, model: sweptImage(func(n int) string {
		return fmt.Sprintf(`{"type":"image2d","query_height":8,"query_width":%d,"memory_height":8,"memory_width":16}`, min(16, isqrt(n)))
	})},
	{name: "axial_transformer", claim: 1.5, model: func(n int) string { // two layers outside, a row and a column, and one inside
		return fmt.Sprintf(`{"model_type":"axial_transformer","task":"image_density","height":%d,"width":%d,"vocab_size":16,"hidden_size":64,"intermediate_size":64,
			"num_attention_heads":2,"encoder_layers":0,"outer_layers":2,"inner_layers":1}`, isqrt(n), isqrt(n))
	}},
	{name: "sparse_strided", claim: 1.5, model: sweptRoot(`{"type":"sparse_strided","stride":%d}`)},
}

func sweptImage(entry func(n int) string) func(n int) string {
	return func(n int) string {
		return fmt.Sprintf(`{"model_type":"image_transformer","task":"image_density","height":%d,"width":%d,%s,"attention":[%s]}`, isqrt(n), isqrt(n), sweptSizes, entry(n))
	}
}

// pixelsUpTo are those of five square images, the sides of which are quarters to the whole of that of the largest, so that tiles of attention fill alike.
func pixelsUpTo(n int) (all []int) {
	side := isqrt(n)
	for _, eighths := range []int{2, 3, 4, 6, 8} {
		all = append(all, side*eighths/8*(side*eighths/8))
	}
	return all
}
