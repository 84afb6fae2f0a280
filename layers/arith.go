package layers

import (
	"fmt"
	"slices"

	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/kernels"
)

// lift turns a function of the engine into a method of a layer: errors stick to the Builder.
func (b *Builder) lift(make func() (*Node, error)) *Node {
	if b.err != nil {
		return nil
	}
	n, err := make()
	if err != nil {
		return b.Fail(err)
	}
	return b.made(n)
}

// Add returns x + y, both of one shape. Where nothing else reads x or y, it is computed in place.
func Add(b *Builder, x, y *Node) *Node {
	return b.lift(func() (*Node, error) { return engine.Add(x, y) })
}

// Scale returns factor * x.
func Scale(b *Builder, x *Node, factor float64) *Node {
	return b.lift(func() (*Node, error) { return engine.Scale(x, factor) })
}

// Reshape returns x in another shape of the same size, without a copy. One size may be -1: what remains.
func Reshape(b *Builder, x *Node, shape ...int) *Node {
	if x == nil {
		return b.Failf("reshape: input 0 is missing")
	}
	return b.lift(func() (*Node, error) {
		s := slices.Clone(shape)
		known, free := 1, -1
		for i, d := range s {
			if d == -1 && free < 0 {
				free = i
			} else {
				known *= d
			}
		}
		if size := engine.TypeOf(x).Size(); free >= 0 && known > 0 && size%known == 0 {
			s[free] = size / known
		}
		return engine.Reshape(x, s...)
	})
}

// View returns the elements of x from offset on, in row-major order, in a shape, without a copy.
func View(b *Builder, x *Node, offset int, shape ...int) *Node {
	return b.lift(func() (*Node, error) { return engine.View(x, offset, shape...) })
}

// Mul returns the product of x and y element by element, both of one shape. A gradient keeps both.
func Mul(b *Builder, x, y *Node) *Node { return b.Op(mul{}, x, y) }

// Sum returns the sum of all elements, a scalar, added up in float64 in a fixed order.
func Sum(b *Builder, x *Node) *Node { return b.Op(total{}, x) }

// Mean returns the mean of all elements, a scalar.
func Mean(b *Builder, x *Node) *Node { return b.Op(total{mean: true}, x) }

// mul is x y.
type mul struct{}

func (o mul) Name() string { return "mul" }
func (o mul) Cheap()       {}
func (o mul) InPlace() int { return 0 }

func (o mul) Infer(in []engine.Type) (engine.Type, error) {
	if err := sameFloat(in...); err != nil {
		return engine.Type{}, err
	}
	if !slices.Equal(in[0].Shape, in[1].Shape) {
		return engine.Type{}, fmt.Errorf("shapes %v and %v differ", in[0].Shape, in[1].Shape)
	}
	return in[0], nil
}

func (o mul) Flops(in []engine.Type, out engine.Type) float64 { return float64(out.Size()) }

func (o mul) Run(out engine.Value, in []engine.Value) error {
	if engine.IsF32(out) {
		kernels.Mul(engine.Floats[float32](in[0]), engine.Floats[float32](in[1]), engine.Floats[float32](out))
	} else {
		kernels.Mul(engine.Floats[float64](in[0]), engine.Floats[float64](in[1]), engine.Floats[float64](out))
	}
	return nil
}

func (o mul) Diff(in Nodes, out, dout *Node) (Nodes, error) {
	dx, err := engine.Apply(o, dout, in[1])
	if err != nil {
		return nil, err
	}
	dy, err := engine.Apply(o, dout, in[0])
	return Nodes{dx, dy}, err
}

// total is the sum or the mean of all elements.
type total struct{ mean bool }

func (o total) Name() string {
	if o.mean {
		return "mean"
	}
	return "sum"
}

func (o total) Infer(in []engine.Type) (engine.Type, error) {
	return engine.Type{Dtype: in[0].Dtype}, sameFloat(in...)
}

func (o total) Run(out engine.Value, in []engine.Value) error {
	if engine.IsF32(out) {
		runTotal[float32](o, out, in)
	} else {
		runTotal[float64](o, out, in)
	}
	return nil
}

func runTotal[F kernels.Float](o total, out engine.Value, in []engine.Value) {
	x := engine.Floats[F](in[0])
	s := kernels.Sum(x)
	if o.mean {
		s /= float64(len(x))
	}
	engine.Floats[F](out)[0] = F(s)
}

func (o total) Diff(in Nodes, out, dout *Node) (Nodes, error) {
	t := engine.TypeOf(in[0])
	scale := 1.0
	if o.mean {
		scale = 1 / float64(t.Size())
	}
	dx, err := engine.Apply(spread{shape: t.Shape, scale: scale}, dout)
	return Nodes{dx}, err
}

// spread gives every element of a shape the value scale*x, x a scalar.
type spread struct {
	firstOrder
	shape tensor.Shape
	scale float64
}

func (o spread) Name() string { return "spread" }

func (o spread) Infer(in []engine.Type) (engine.Type, error) {
	return engine.Type{Dtype: in[0].Dtype, Shape: o.shape.Clone()}, nil
}

func (o spread) Run(out engine.Value, in []engine.Value) error {
	if engine.IsF32(out) {
		runSpread[float32](o, out, in)
	} else {
		runSpread[float64](o, out, in)
	}
	return nil
}

func runSpread[F kernels.Float](o spread, out engine.Value, in []engine.Value) {
	y, v := engine.Floats[F](out), F(o.scale)*engine.Floats[F](in[0])[0]
	for i := range y {
		y[i] = v
	}
}
