package golden

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/layers/attention"
)

// axialArguments are those of axial-attention's AxialAttention and of axial_positional_embedding's AxialPositionalEmbedding.
type axialArguments struct {
	Dim        int
	Heads      int
	Dimensions int   `json:"num_dimensions"`
	DimIndex   int   `json:"dim_index"` // axis of the channels
	Sum        bool  `json:"sum_axial_out"`
	Shape      []int `json:"axial_shape"`
	Sizes      []int `json:"axial_dims"`
}

// runAxialAttention is a layer with an attention along each axis, or a table of positions for each.
func runAxialAttention(c *Case, p Precision) ([]Result, error) {
	a := axialArguments{Dimensions: 2, Heads: 8, DimIndex: -1, Sum: true}
	d := json.NewDecoder(bytes.NewReader(c.Kwargs))
	d.DisallowUnknownFields()
	if err := d.Decode(&a); err != nil {
		return nil, fmt.Errorf("kwargs: %w", err)
	}
	r := newRig(c, p)
	r.only("x")
	switch c.Class {
	case "AxialAttention":
		return a.attention(r)
	case "AxialPositionalEmbedding":
		return a.positions(r)
	}
	return nil, fmt.Errorf("no adapter for class %q", c.Class)
}

func (a axialArguments) attention(r *rig) ([]Result, error) {
	shape := r.c.In("x").Shape
	sizes, order := shape[1:len(shape)-1], []int(nil)
	if a.DimIndex == 1 {
		sizes = shape[2:]
	} else if a.DimIndex != -1 {
		return nil, fmt.Errorf("dim_index %d is not handled", a.DimIndex)
	}
	if len(sizes) != a.Dimensions {
		return nil, fmt.Errorf("in/x of shape %v for %d axes", shape, a.Dimensions)
	}
	n := 1
	for _, s := range sizes {
		n *= s
	}
	if a.DimIndex == 1 { // the package has channels first, we have them last
		for i := range shape[0] * n * a.Dim {
			order = append(order, (i/a.Dim/n*a.Dim+i%a.Dim)*n+i/a.Dim%n)
		}
	}
	x := r.inAs("x", order, shape[0], n, a.Dim)
	var sum *Node
	for axis := range sizes {
		pattern, err := along(sizes, axis, n)
		if err != nil {
			return nil, err
		}
		y := a.layer(r, fmt.Sprintf("axial_attentions.%d.fn.", axis), pattern, x)
		switch {
		case !a.Sum: // one after the other, and nothing is added
			x = y
		case sum == nil:
			sum = y
		default:
			sum = layers.Add(r.b, sum, y)
		}
	}
	if !a.Sum {
		sum = x
	}
	r.outAs("out", sum, order)
	return r.compare()
}

// along is attention of positions that differ in one coordinate alone.
func along(sizes []int, axis, n int) (attention.Pattern, error) {
	s, inner := sizes[axis], 1
	for _, next := range sizes[axis+1:] {
		inner *= next
	}
	switch {
	case inner == 1:
		return attention.ImageRow{Height: n / s, Width: s}, nil
	case axis == 0:
		return attention.ImageColumn{Height: s, Width: inner}, nil
	}
	return attention.Intersection(attention.Blocks{Size: s * inner}, attention.ImageColumn{Height: n / inner, Width: inner})
}

// layer is the attention of an axis. Keys and values are one map, without a bias.
func (a axialArguments) layer(r *rig, at string, pattern attention.Pattern, x *Node) *Node {
	q, kv, out, bias := r.param(at+"to_q.weight"), r.param(at+"to_kv.weight"), r.param(at+"to_out.weight"), r.param(at+"to_out.bias")
	linear := func(w *Node) *Node { return layers.Linear(r.b, x, layers.LinearConfig{Weight: w, NoBias: true}) }
	n := kv.Shape()[0] / 2
	o, _ := attention.Attend(r.b, attention.Config{Pattern: pattern, Heads: a.Heads}, linear(q), linear(layers.Slice(r.b, kv, 0, 0, n)), linear(layers.Slice(r.b, kv, 0, n, 2*n)))
	return layers.Linear(r.b, o, layers.LinearConfig{Weight: out, Bias: bias})
}

// positions are a vector of the first coordinate and, behind it, one of the second. Of the input only the length counts.
func (a axialArguments) positions(r *rig) ([]Result, error) {
	if len(a.Shape) != 2 || len(a.Sizes) != 2 {
		return nil, fmt.Errorf("shape %v in parts %v is not handled", a.Shape, a.Sizes)
	}
	t := r.c.In("x").Shape[1]
	var parts []*Node
	for axis, size := range a.Shape {
		ids := make([]int32, t)
		for i := range ids {
			ids[i] = int32([]int{i / a.Shape[1], i % a.Shape[1]}[axis])
		}
		table := layers.Reshape(r.b, r.param(fmt.Sprint("weights.", axis)), size, a.Sizes[axis])
		parts = append(parts, layers.Lookup(r.b, table, r.ints(fmt.Sprint("axis.", axis), ids, t)))
	}
	r.out("out", layers.Reshape(r.b, layers.Concat(r.b, 1, parts...), 1, t, a.Dim))
	return r.compare()
}
