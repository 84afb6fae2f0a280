package engine

import (
	"fmt"

	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/kernels"
)

// Add returns a + b, of one type. It writes over a or b where the plan allows.
func Add(a, b *Node) (*Node, error) { return Apply(addOp{}, a, b) }

// Sub returns a - b, of one type. It writes over a or b where the plan allows.
func Sub(a, b *Node) (*Node, error) { return Apply(subOp{}, a, b) }

// Scale returns factor * a. It writes over a where the plan allows.
func Scale(a *Node, factor float64) (*Node, error) { return Apply(scaleOp{factor}, a) }

// Fill adds a value of the type with all its elements equal.
func Fill(g *gorgonia.ExprGraph, t Type, value float64) *Node {
	a := &applied{Op: fillOp{t, value}, id: ids.Add(1), out: t}
	return gorgonia.NewUniqueNode(gorgonia.In(g), gorgonia.WithOp(a), gorgonia.WithType(hmType(t)), gorgonia.WithShape(t.Shape...))
}

// Zeros adds a value of zeros.
func Zeros(g *gorgonia.ExprGraph, t Type) *Node { return Fill(g, t, 0) }

// sameFloats is the Infer of elementwise operations.
func sameFloats(in []Type) (Type, error) {
	for _, t := range in {
		if !t.IsFloat() || t.Dtype != in[0].Dtype || !t.Shape.Eq(in[0].Shape) {
			return Type{}, fmt.Errorf("inputs are %v: they must be of one floating-point type and shape", in)
		}
	}
	return in[0], nil
}

type addOp struct{}

func (addOp) Name() string                     { return "add" }
func (addOp) Infer(in []Type) (Type, error)    { return sameFloats(in) }
func (addOp) InPlace() int                     { return 0 }
func (addOp) InPlaces() []int                  { return []int{0, 1} }
func (addOp) Flops(_ []Type, out Type) float64 { return float64(out.Size()) }
func (addOp) Diff(_ Nodes, _, dout *Node) (Nodes, error) {
	return Nodes{dout, dout}, nil
}

func (addOp) Run(out Value, in []Value) error {
	if IsF32(out) {
		add[float32](out, in)
	} else {
		add[float64](out, in)
	}
	return nil
}

func add[F kernels.Float](out Value, in []Value) {
	kernels.Add(Floats[F](in[0]), Floats[F](in[1]), Floats[F](out))
}

type subOp struct{}

func (subOp) Name() string                     { return "sub" }
func (subOp) Infer(in []Type) (Type, error)    { return sameFloats(in) }
func (subOp) InPlace() int                     { return 0 }
func (subOp) InPlaces() []int                  { return []int{0, 1} }
func (subOp) Flops(_ []Type, out Type) float64 { return float64(out.Size()) }
func (subOp) Diff(_ Nodes, _, dout *Node) (Nodes, error) {
	neg, err := Scale(dout, -1)
	return Nodes{dout, neg}, err
}

func (subOp) Run(out Value, in []Value) error {
	if IsF32(out) {
		sub[float32](out, in)
	} else {
		sub[float64](out, in)
	}
	return nil
}

// sub gives the bits of a - b either way: a + (-b) is the same number.
func sub[F kernels.Float](out Value, in []Value) {
	y, a, b := Floats[F](out), Floats[F](in[0]), Floats[F](in[1])
	if len(y) == 0 {
		return
	}
	if &y[0] == &a[0] {
		kernels.Axpy(-1, b, y)
		return
	}
	kernels.Scale(-1, b, y)
	kernels.Add(a, y, y)
}

type scaleOp struct{ factor float64 }

func (scaleOp) Name() string                     { return "scale" }
func (scaleOp) Infer(in []Type) (Type, error)    { return sameFloats(in) }
func (scaleOp) InPlace() int                     { return 0 }
func (scaleOp) Flops(_ []Type, out Type) float64 { return float64(out.Size()) }
func (o scaleOp) Diff(_ Nodes, _, dout *Node) (Nodes, error) {
	d, err := Scale(dout, o.factor)
	return Nodes{d}, err
}

func (o scaleOp) Run(out Value, in []Value) error {
	if IsF32(out) {
		kernels.Scale(float32(o.factor), Floats[float32](in[0]), Floats[float32](out))
	} else {
		kernels.Scale(o.factor, Floats[float64](in[0]), Floats[float64](out))
	}
	return nil
}

type fillOp struct {
	t     Type
	value float64
}

func (fillOp) Name() string                            { return "fill" }
func (o fillOp) Infer([]Type) (Type, error)            { return o.t, nil }
func (fillOp) Diff(Nodes, *Node, *Node) (Nodes, error) { return nil, nil }
func (o fillOp) Run(out Value, _ []Value) error {
	switch o.t.Dtype {
	case tensor.Float32:
		fill(Floats[float32](out), float32(o.value))
	case tensor.Float64:
		fill(Floats[float64](out), o.value)
	case tensor.Int32:
		fill(Ints(out), int32(o.value))
	default:
		return fmt.Errorf("a constant of %v is not supported: use float32, float64 or int32", o.t.Dtype)
	}
	return nil
}

func fill[E float32 | float64 | int32](y []E, v E) {
	if v == 0 {
		clear(y)
		return
	}
	for i := range y {
		y[i] = v
	}
}
