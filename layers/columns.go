package layers

import (
	"fmt"

	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/kernels"
)

// SplitColumns cuts x [B,T,N·C] into N parts [B,T,C], in one pass; so does its gradient, where slices would each make a gradient of the
// width of x. Errors: a width that N does not divide.
func SplitColumns(b *Builder, x *Node, n int) Nodes {
	packed := b.Op(splitColumns{n}, x)
	if b.Err() != nil {
		return make(Nodes, n)
	}
	s := x.Shape()
	parts := make(Nodes, n)
	for k := range parts {
		parts[k] = View(b, packed, k*s.TotalSize()/n, s[0], s[1], s[2]/n)
	}
	return parts
}

// splitColumns has one input; its result is one part after the other.
type splitColumns struct{ parts int }

func (splitColumns) Name() string { return "split_columns" }
func (splitColumns) Cheap()       {}

func (o splitColumns) Infer(in []engine.Type) (engine.Type, error) {
	if s := in[0].Shape; !in[0].IsFloat() || len(s) != 3 || o.parts < 1 || s[2]%o.parts != 0 {
		return engine.Type{}, fmt.Errorf("%d parts of %v, want floats [B,T,N·C]", o.parts, in[0])
	}
	return engine.Type{Dtype: in[0].Dtype, Shape: tensor.Shape{in[0].Size()}}, nil
}

func (o splitColumns) Run(out engine.Value, in []engine.Value) error {
	if engine.IsF32(out) {
		splitColumnsRun[float32](o, out, in[0])
	} else {
		splitColumnsRun[float64](o, out, in[0])
	}
	return nil
}

func splitColumnsRun[F kernels.Float](o splitColumns, out, in engine.Value) {
	x, y := engine.Floats[F](in), engine.Floats[F](out)
	width := in.Shape()[2]
	c, rows := width/o.parts, len(x)/width
	for k := range o.parts {
		for r := range rows {
			copy(y[(k*rows+r)*c:][:c], x[r*width+k*c:])
		}
	}
}

func (o splitColumns) Diff(in Nodes, out, dout *Node) (Nodes, error) {
	s := in[0].Shape()
	sizes := make([]int, o.parts)
	for k := range sizes {
		sizes[k] = s.TotalSize() / o.parts
	}
	parts, err := engine.Parts(dout, sizes...)
	if err != nil {
		return nil, err
	}
	for k, p := range parts {
		if p == nil {
			parts[k] = engine.Zeros(out.Graph(), engine.Type{Dtype: out.Dtype(), Shape: tensor.Shape{sizes[k]}})
		}
	}
	dx, err := engine.Apply(joinColumns{s.Clone()}, parts...)
	return Nodes{dx}, err
}

// joinColumns puts parts, its inputs, side by side.
type joinColumns struct{ shape tensor.Shape }

func (joinColumns) Name() string { return "split_columns_grad" }

func (o joinColumns) Infer(in []engine.Type) (engine.Type, error) {
	return engine.Type{Dtype: in[0].Dtype, Shape: o.shape.Clone()}, nil
}

func (o joinColumns) Run(out engine.Value, in []engine.Value) error {
	if engine.IsF32(out) {
		joinColumnsRun[float32](out, in)
	} else {
		joinColumnsRun[float64](out, in)
	}
	return nil
}

func joinColumnsRun[F kernels.Float](out engine.Value, in []engine.Value) {
	y, width := engine.Floats[F](out), out.Shape()[2]
	c := width / len(in)
	for k, v := range in {
		x := engine.Floats[F](v)
		for r := range len(y) / width {
			copy(y[r*width+k*c:][:c], x[r*c:])
		}
	}
}

func (joinColumns) Diff(Nodes, *Node, *Node) (Nodes, error) { return firstOrder{}.Diff(nil, nil, nil) }
