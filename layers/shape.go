package layers

import (
	"errors"
	"fmt"

	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
)

// firstOrder is part of every operation that is itself a gradient.
type firstOrder struct{}

func (firstOrder) Diff(Nodes, *Node, *Node) (Nodes, error) {
	return nil, errors.New("a gradient has no gradient of its own here")
}

// part is a copy of the elements of a value from an offset on.
type part struct {
	firstOrder
	offset int
	shape  tensor.Shape
}

// Part copies elements of a packed value from an offset on. The gradient of a weight that is packed with those of activations is to be such a copy: a view
// would keep all of them until the weight is updated.
func Part(packed *Node, offset int, shape ...int) (*Node, error) {
	return engine.Apply(part{offset: offset, shape: shape}, packed)
}

func (o part) Name() string { return "part" }

func (o part) Infer(in []engine.Type) (engine.Type, error) {
	return engine.Type{Dtype: in[0].Dtype, Shape: o.shape.Clone()}, nil
}

func (o part) Run(out engine.Value, in []engine.Value) error {
	if engine.IsF32(out) {
		copy(engine.Floats[float32](out), engine.Floats[float32](in[0])[o.offset:])
	} else {
		copy(engine.Floats[float64](out), engine.Floats[float64](in[0])[o.offset:])
	}
	return nil
}

// sameFloat checks that all inputs are floating-point and of one dtype.
func sameFloat(in ...engine.Type) error {
	for i, t := range in {
		if !t.IsFloat() {
			return fmt.Errorf("input %d has dtype %v, want float32 or float64", i, t.Dtype)
		}
		if t.Dtype != in[0].Dtype {
			return fmt.Errorf("input %d has dtype %v, input 0 has %v", i, t.Dtype, in[0].Dtype)
		}
	}
	return nil
}

// isInts checks that an input holds int32 numbers.
func isInts(what string, t engine.Type) error {
	if t.Dtype != tensor.Int32 {
		return fmt.Errorf("%s have dtype %v, want int32", what, t.Dtype)
	}
	return nil
}

// lastOf is the size of the last axis, 0 for a scalar.
func lastOf(s tensor.Shape) int {
	if len(s) == 0 {
		return 0
	}
	return s[len(s)-1]
}

// withLast is a copy of a shape with another last size.
func withLast(s tensor.Shape, n int) tensor.Shape {
	c := s.Clone()
	c[len(c)-1] = n
	return c
}
