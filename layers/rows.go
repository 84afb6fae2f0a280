package layers

import (
	"fmt"
	"slices"

	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/kernels"
)

// Slice is x[..., from:to, ...] along an axis, as a copy. Errors: an axis or a range that x does not have.
func Slice(b *Builder, x *Node, axis, from, to int) *Node {
	return b.Op(slice{axis: axis, from: from, to: to}, x)
}

// Concat joins tensors along an axis; their other sizes are equal.
func Concat(b *Builder, axis int, x ...*Node) *Node { return b.Op(concat{axis}, x...) }

// Gather takes rows of x [B,T,C]: index int32 [R] or [B,R] -> [B,R,C], zeros where the index is negative. Rows that are taken twice
// add up their gradients. Errors, when run: an index of T or more.
func Gather(b *Builder, x, index *Node) *Node { return b.Op(gather{}, x, index) }

// Scatter adds rows x [B,R,C] to zeros [B,T,C] at index int32 [R] or [B,R]; those with a negative index are left out. It is the
// transpose of Gather.
func Scatter(b *Builder, x, index *Node, t int) *Node { return b.Op(scatter{t: t}, x, index) }

// Broadcast repeats x [R,C] for each of so many examples: [B,R,C].
func Broadcast(b *Builder, x *Node, batch int) *Node { return b.Op(broadcast{batch}, x) }

// MaskRows is x [B,T,C] with zeros from row lens[b] of each example on; lens is int32 [B], nil leaves x as it is.
func MaskRows(b *Builder, x, lens *Node) *Node {
	if lens == nil {
		return x
	}
	return b.Op(maskRows{}, x, lens)
}

// MeanRows is the mean over the first lens[b] rows of x [B,T,C], [B,C]; lens nil means all T, and no rows give 0.
func MeanRows(b *Builder, x, lens *Node) *Node { return b.Op(poolRows{}, present(x, lens)...) }

// MaxRows is the largest value of each column over the first lens[b] rows of x [B,T,C], [B,C]; lens nil means all T, and no rows
// give 0. The gradient goes to the first row that has it.
func MaxRows(b *Builder, x, lens *Node) *Node { return b.Op(poolRows{max: true}, present(x, lens)...) }

func present(x ...*Node) Nodes {
	return slices.DeleteFunc(x, func(n *Node) bool { return n == nil })
}

// around cuts a shape at an axis: so many blocks of size elements.
func around(s tensor.Shape, axis int) (blocks, size int) {
	blocks, size = 1, 1
	for i, n := range s {
		if i < axis {
			blocks *= n
		} else {
			size *= n
		}
	}
	return blocks, size
}

// slice is a range of an axis.
type slice struct{ axis, from, to int }

func (slice) Name() string { return "slice" }
func (slice) Cheap()       {}

func (o slice) Infer(in []engine.Type) (engine.Type, error) {
	s := in[0].Shape
	if o.axis < 0 || o.axis >= len(s) || o.from < 0 || o.from >= o.to || o.to > s[o.axis] {
		return engine.Type{}, fmt.Errorf("range %d:%d of axis %d of %v", o.from, o.to, o.axis, s)
	}
	s = s.Clone()
	s[o.axis] = o.to - o.from
	return engine.Type{Dtype: in[0].Dtype, Shape: s}, nil
}

func (o slice) Run(out engine.Value, in []engine.Value) error {
	switch out.Dtype() {
	case tensor.Int32:
		sliceRun(o, out, in, engine.Ints)
	case tensor.Float32:
		sliceRun(o, out, in, engine.Floats[float32])
	default:
		sliceRun(o, out, in, engine.Floats[float64])
	}
	return nil
}

func sliceRun[E any](o slice, out engine.Value, in []engine.Value, data func(engine.Value) []E) {
	blocks, whole := around(in[0].Shape(), o.axis)
	_, part := around(out.Shape(), o.axis)
	x, y, first := data(in[0]), data(out), o.from*(whole/in[0].Shape()[o.axis])
	for k := range blocks {
		copy(y[k*part:][:part], x[k*whole+first:])
	}
}

func (o slice) Diff(in Nodes, _, dout *Node) (Nodes, error) {
	dx, err := engine.Apply(unslice{o, in[0].Shape().Clone()}, dout)
	return Nodes{dx}, err
}

// unslice is zeros around a slice.
type unslice struct {
	slice
	whole tensor.Shape
}

func (unslice) Name() string { return "slice_grad" }

func (o unslice) Infer(in []engine.Type) (engine.Type, error) {
	return engine.Type{Dtype: in[0].Dtype, Shape: o.whole.Clone()}, nil
}

func (o unslice) Run(out engine.Value, in []engine.Value) error {
	if engine.IsF32(out) {
		unsliceRun[float32](o, out, in)
	} else {
		unsliceRun[float64](o, out, in)
	}
	return nil
}

func unsliceRun[F kernels.Float](o unslice, out engine.Value, in []engine.Value) {
	blocks, whole := around(o.whole, o.axis)
	_, part := around(in[0].Shape(), o.axis)
	x, y, first := engine.Floats[F](in[0]), engine.Floats[F](out), o.from*(whole/o.whole[o.axis])
	for k := range blocks {
		row := y[k*whole:][:whole]
		clear(row[:first])
		copy(row[first:], x[k*part:][:part])
		clear(row[first+part:])
	}
}

func (o unslice) Diff(_ Nodes, _, dout *Node) (Nodes, error) {
	dx, err := engine.Apply(o.slice, dout)
	return Nodes{dx}, err
}

// concat joins along an axis.
type concat struct{ axis int }

func (concat) Name() string { return "concat" }
func (concat) Cheap()       {}

func (o concat) Infer(in []engine.Type) (engine.Type, error) {
	s := in[0].Shape.Clone()
	if o.axis < 0 || o.axis >= len(s) {
		return engine.Type{}, fmt.Errorf("axis %d of %v", o.axis, s)
	}
	for _, t := range in[1:] {
		other := t.Shape.Clone()
		if len(other) == len(s) {
			other[o.axis] = s[o.axis]
		}
		if t.Dtype != in[0].Dtype || !slices.Equal(other, s) {
			return engine.Type{}, fmt.Errorf("%v and %v do not fit along axis %d", in[0], t, o.axis)
		}
	}
	s[o.axis] = 0
	for _, t := range in {
		s[o.axis] += t.Shape[o.axis]
	}
	return engine.Type{Dtype: in[0].Dtype, Shape: s}, nil
}

func (o concat) Run(out engine.Value, in []engine.Value) error {
	switch out.Dtype() {
	case tensor.Int32:
		concatRun(o, out, in, engine.Ints)
	case tensor.Float32:
		concatRun(o, out, in, engine.Floats[float32])
	default:
		concatRun(o, out, in, engine.Floats[float64])
	}
	return nil
}

func concatRun[E any](o concat, out engine.Value, in []engine.Value, data func(engine.Value) []E) {
	blocks, whole := around(out.Shape(), o.axis)
	y, at := data(out), 0
	for _, v := range in {
		_, part := around(v.Shape(), o.axis)
		x, first := data(v), at
		for k := range blocks {
			copy(y[k*whole+first:][:part], x[k*part:])
		}
		at += part
	}
}

func (o concat) Diff(in Nodes, _, dout *Node) (Nodes, error) {
	ds, at := make(Nodes, len(in)), 0
	for i, n := range in {
		to := at + n.Shape()[o.axis]
		if n.Dtype() != tensor.Int32 {
			var err error
			if ds[i], err = engine.Apply(slice{o.axis, at, to}, dout); err != nil {
				return nil, err
			}
		}
		at = to
	}
	return ds, nil
}
