package engine

import (
	"fmt"

	"gorgonia.org/tensor"
)

// View returns elements offset to offset+size of n, in row-major order, in a shape (none: a scalar). In a Program the result
// shares the memory of n.
func View(n *Node, offset int, shape ...int) (*Node, error) {
	return Apply(view{offset, tensor.Shape(shape).Clone()}, n)
}

// Reshape returns n in another shape of the same size, without a copy.
func Reshape(n *Node, shape ...int) (*Node, error) {
	if s, want := size(n), (Type{Shape: shape}).Size(); s != want {
		return nil, fmt.Errorf("reshape: %v has %d elements and cannot be shaped %v", TypeOf(n), s, tensor.Shape(shape))
	}
	return View(n, 0, shape...)
}

// Unview returns a value of the shape that holds part from element offset on and zeros elsewhere: the gradient of View.
func Unview(part *Node, offset int, shape ...int) (*Node, error) {
	return Join(shape, []int{offset}, part)
}

// Join returns a value of the shape that holds each part from its offset on and zeros in the gaps. Parts must not overlap.
// The plan lets the parts be computed in place where it can.
func Join(shape []int, offsets []int, parts ...*Node) (*Node, error) {
	return Apply(join{tensor.Shape(shape).Clone(), append([]int(nil), offsets...)}, parts...)
}

type view struct {
	offset int
	shape  tensor.Shape
}

func (view) Name() string                { return "view" }
func (v view) View() (input, offset int) { return 0, v.offset }

func (v view) Infer(in []Type) (Type, error) {
	out := Type{in[0].Dtype, v.shape}
	if v.offset < 0 || v.offset+out.Size() > in[0].Size() {
		return Type{}, fmt.Errorf("elements %d to %d do not lie in %v", v.offset, v.offset+out.Size(), in[0])
	}
	return out, nil
}

func (v view) Diff(in Nodes, _, dout *Node) (Nodes, error) {
	if size(in[0]) == size(dout) {
		d, err := Reshape(dout, in[0].Shape()...)
		return Nodes{d}, err
	}
	d, err := Unview(dout, v.offset, in[0].Shape()...)
	return Nodes{d}, err
}

func (v view) Run(out Value, in []Value) error {
	switch out.Dtype() {
	case tensor.Float32:
		y := Floats[float32](out)
		copy(y, Floats[float32](in[0])[v.offset:])
	case tensor.Float64:
		y := Floats[float64](out)
		copy(y, Floats[float64](in[0])[v.offset:])
	case tensor.Int32:
		copy(Ints(out), Ints(in[0])[v.offset:])
	default:
		return fmt.Errorf("values of %v are not supported", out.Dtype())
	}
	return nil
}

type join struct {
	shape   tensor.Shape
	offsets []int
}

func (join) Name() string    { return "join" }
func (j join) gather() []int { return j.offsets }

func (j join) Infer(in []Type) (Type, error) {
	if len(in) == 0 || len(in) != len(j.offsets) {
		return Type{}, fmt.Errorf("%d parts with %d offsets", len(in), len(j.offsets))
	}
	out := Type{in[0].Dtype, j.shape}
	for i, t := range in {
		from, to := j.offsets[i], j.offsets[i]+t.Size()
		if t.Dtype != out.Dtype || from < 0 || from == to || to > out.Size() {
			return Type{}, fmt.Errorf("part %d, %v at element %d, does not fit into %v", i, t, from, out)
		}
		for k := range i {
			if from < j.offsets[k]+in[k].Size() && j.offsets[k] < to {
				return Type{}, fmt.Errorf("parts %d and %d overlap", k, i)
			}
		}
	}
	return out, nil
}

func (j join) Diff(in Nodes, _, dout *Node) (Nodes, error) {
	sizes := make([]int, len(in))
	for i, n := range in {
		sizes[i] = size(n)
	}
	ds, err := slice(dout, j.offsets, sizes)
	if err != nil {
		return nil, err
	}
	for i, n := range in {
		switch {
		case !TypeOf(n).IsFloat():
			ds[i] = nil
		case ds[i] == nil:
			ds[i] = Zeros(n.Graph(), TypeOf(n))
		default:
			if ds[i], err = shaped(ds[i], n.Shape()); err != nil {
				return nil, err
			}
		}
	}
	return ds, nil
}

func (j join) Run(out Value, in []Value) error {
	switch out.Dtype() {
	case tensor.Float32:
		joinRun(j, Floats[float32](out), in, Floats[float32])
	case tensor.Float64:
		joinRun(j, Floats[float64](out), in, Floats[float64])
	case tensor.Int32:
		joinRun(j, Ints(out), in, Ints)
	default:
		return fmt.Errorf("values of %v are not supported", out.Dtype())
	}
	return nil
}

// joinRun copies the parts that the plan did not put into place already, and clears what no part covers.
func joinRun[E float32 | float64 | int32](j join, y []E, in []Value, data func(Value) []E) {
	for at := 0; at < len(y); {
		next, part := len(y), -1 // the first part at or after at
		for i, o := range j.offsets {
			if o >= at && (o < next || part < 0) {
				next, part = o, i
			}
		}
		clear(y[at:next])
		if part < 0 {
			return
		}
		x := data(in[part])
		if at = next + len(x); &x[0] != &y[next] {
			copy(y[next:], x)
		}
	}
}

// shaped is Reshape, or n itself if it has the shape.
func shaped(n *Node, shape tensor.Shape) (*Node, error) {
	if n.Shape().Eq(shape) {
		return n, nil
	}
	return Reshape(n, shape...)
}

// Unpack cuts the gradients of the first count inputs, which stand one after the other in a packed result, out of it: what a Diff returns, nil
// for the other inputs.
func Unpack(packed *Node, in Nodes, count int) (Nodes, error) {
	grads, at := make(Nodes, len(in)), 0
	for i, n := range in[:count] {
		var err error
		if grads[i], err = View(packed, at, n.Shape()...); err != nil {
			return nil, err
		}
		at += n.Shape().TotalSize()
	}
	return grads, nil
}

// Parts takes the gradient of a packed value apart, for the operation that made it: sizes are the numbers of elements of its
// results, in order. It returns a node for each, nil where no gradient arrives. Gradients that come through View nodes are
// found as they are (in the shape of the view), without a copy; anything else is viewed.
func Parts(dout *Node, sizes ...int) (Nodes, error) {
	offsets := make([]int, len(sizes))
	for i := range sizes[1:] {
		offsets[i+1] = offsets[i] + sizes[i]
	}
	return slice(dout, offsets, sizes)
}

func slice(dout *Node, offsets, sizes []int) (Nodes, error) {
	terms := peel(dout, 0, nil)
	r := make(Nodes, len(sizes))
	for i := range sizes {
		from, to := offsets[i], offsets[i]+sizes[i]
		for _, t := range terms {
			n, err := t.within(from, to)
			if err != nil {
				return nil, err
			}
			if n == nil {
				continue
			}
			if r[i] == nil {
				r[i] = n
				continue
			}
			if n, err = shaped(n, r[i].Shape()); err != nil {
				return nil, err
			}
			if r[i], err = Add(r[i], n); err != nil {
				return nil, err
			}
		}
	}
	return r, nil
}

// term is a part of a sum: node n at an offset, zeros elsewhere.
type term struct {
	n      *Node
	offset int
}

// peel writes a node as a sum of terms, looking through Add, Join and Reshape.
func peel(n *Node, offset int, terms []term) []term {
	switch op := OpOf(n).(type) {
	case addOp:
		if !splits(n, nil) {
			break
		}
		for _, c := range Children(n) {
			terms = peel(c, offset, terms)
		}
		return terms
	case join:
		for i, c := range Children(n) {
			terms = peel(c, offset+op.offsets[i], terms)
		}
		return terms
	case view:
		if c := Children(n)[0]; size(c) == size(n) && splits(c, nil) {
			return peel(c, offset, terms)
		}
	case fillOp:
		if op.value == 0 {
			return terms
		}
	}
	return append(terms, term{n, offset})
}

// splits reports whether a sum behind a reshape is worth looking into: there is a Join in it. seen are nodes without one (nil at
// first): terms may stand in a sum many times over.
func splits(n *Node, seen map[*Node]bool) bool {
	switch OpOf(n).(type) {
	case join:
		return true
	case addOp, view:
		if seen == nil {
			seen = map[*Node]bool{}
		}
		for _, c := range Children(n) {
			if seen[c] {
				continue
			}
			seen[c] = true
			if size(c) == size(n) && splits(c, seen) {
				return true
			}
		}
	}
	return false
}

// within returns what a term adds to elements from to to of the sum, nil if nothing.
func (t term) within(from, to int) (*Node, error) {
	a, b := max(from, t.offset), min(to, t.offset+size(t.n))
	if a >= b {
		return nil, nil
	}
	n, err := t.n, error(nil)
	if b-a < size(n) {
		if n, err = View(n, a-t.offset, b-a); err != nil {
			return nil, err
		}
	}
	if b-a < to-from {
		n, err = Unview(n, a-from, to-from)
	}
	return n, err
}
