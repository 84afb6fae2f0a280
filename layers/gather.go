package layers

import (
	"fmt"

	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/kernels"
)

// indexed checks an index of rows, int32 [R] or [B,R], and returns R.
func indexed(t engine.Type, batch int) (int, error) {
	if err := isInts("indices", t); err != nil {
		return 0, err
	}
	if s := t.Shape; len(s) == 1 || len(s) == 2 && s[0] == batch {
		return lastOf(s), nil
	}
	return 0, fmt.Errorf("an index of shape %v, want [R] or [%d,R]", t.Shape, batch)
}

// ofExample is the index of one example.
func ofExample(index []int32, rows, b int) []int32 {
	if len(index) == rows {
		return index
	}
	return index[b*rows:][:rows]
}

// gather has inputs: x, index.
type gather struct{}

func (gather) Name() string    { return "gather" }
func (gather) Cheap()          {}
func (gather) DiffWRT() []bool { return []bool{true, false} }

func (gather) Infer(in []engine.Type) (engine.Type, error) {
	s := in[0].Shape
	if len(s) != 3 || !in[0].IsFloat() {
		return engine.Type{}, fmt.Errorf("rows of %v, want floats [B,T,C]", in[0])
	}
	rows, err := indexed(in[1], s[0])
	return engine.Type{Dtype: in[0].Dtype, Shape: tensor.Shape{s[0], rows, s[2]}}, err
}

func (gather) Run(out engine.Value, in []engine.Value) error {
	if engine.IsF32(out) {
		return gatherRun[float32](out, in)
	}
	return gatherRun[float64](out, in)
}

func gatherRun[F kernels.Float](out engine.Value, in []engine.Value) error {
	x, y, index := engine.Floats[F](in[0]), engine.Floats[F](out), engine.Ints(in[1])
	t, rows, c := in[0].Shape()[1], out.Shape()[1], out.Shape()[2]
	for b := range out.Shape()[0] {
		for r, i := range ofExample(index, rows, b) {
			row := y[(b*rows+r)*c:][:c]
			switch {
			case int(i) >= t:
				return fmt.Errorf("index[%d][%d] is %d, there are %d rows", b, r, i, t)
			case i < 0:
				clear(row)
			default:
				copy(row, x[(b*t+int(i))*c:])
			}
		}
	}
	return nil
}

func (gather) Diff(in Nodes, _, dout *Node) (Nodes, error) {
	dx, err := engine.Apply(scatter{t: in[0].Shape()[1]}, dout, in[1])
	return Nodes{dx, nil}, err
}

// scatter has inputs: x, index.
type scatter struct{ t int }

func (scatter) Name() string    { return "scatter" }
func (scatter) DiffWRT() []bool { return []bool{true, false} }

func (o scatter) Infer(in []engine.Type) (engine.Type, error) {
	s := in[0].Shape
	if len(s) != 3 || !in[0].IsFloat() {
		return engine.Type{}, fmt.Errorf("rows of %v, want floats [B,R,C]", in[0])
	}
	rows, err := indexed(in[1], s[0])
	if err == nil && rows != s[1] {
		err = fmt.Errorf("%d indices for %d rows", rows, s[1])
	}
	return engine.Type{Dtype: in[0].Dtype, Shape: tensor.Shape{s[0], o.t, s[2]}}, err
}

func (o scatter) Run(out engine.Value, in []engine.Value) error {
	if engine.IsF32(out) {
		return scatterRun[float32](o, out, in)
	}
	return scatterRun[float64](o, out, in)
}

func scatterRun[F kernels.Float](o scatter, out engine.Value, in []engine.Value) error {
	x, y, index := engine.Floats[F](in[0]), engine.Floats[F](out), engine.Ints(in[1])
	rows, c := in[0].Shape()[1], out.Shape()[2]
	clear(y)
	for b := range out.Shape()[0] {
		for r, i := range ofExample(index, rows, b) {
			if int(i) >= o.t {
				return fmt.Errorf("index[%d][%d] is %d, there are %d rows", b, r, i, o.t)
			}
			if i < 0 {
				continue
			}
			row := y[(b*o.t+int(i))*c:][:c]
			kernels.Axpy(1, x[(b*rows+r)*c:][:c], row)
		}
	}
	return nil
}

func (o scatter) Diff(in Nodes, _, dout *Node) (Nodes, error) {
	dx, err := engine.Apply(gather{}, dout, in[1])
	return Nodes{dx, nil}, err
}

// broadcast repeats for each example.
type broadcast struct{ batch int }

func (broadcast) Name() string { return "broadcast" }
func (broadcast) Cheap()       {}

func (o broadcast) Infer(in []engine.Type) (engine.Type, error) {
	if len(in[0].Shape) != 2 || !in[0].IsFloat() || o.batch < 1 {
		return engine.Type{}, fmt.Errorf("rows %v for %d examples, want floats [R,C]", in[0], o.batch)
	}
	return engine.Type{Dtype: in[0].Dtype, Shape: append(tensor.Shape{o.batch}, in[0].Shape...)}, nil
}

func (o broadcast) Run(out engine.Value, in []engine.Value) error {
	if engine.IsF32(out) {
		broadcastRun[float32](out, in)
	} else {
		broadcastRun[float64](out, in)
	}
	return nil
}

func broadcastRun[F kernels.Float](out engine.Value, in []engine.Value) {
	x, y := engine.Floats[F](in[0]), engine.Floats[F](out)
	for len(y) > 0 {
		y = y[copy(y, x):]
	}
}

func (o broadcast) Diff(_ Nodes, _, dout *Node) (Nodes, error) {
	dx, err := engine.Apply(foldBatch{}, dout)
	return Nodes{dx}, err
}

// foldBatch sums over examples, in their order.
type foldBatch struct{ firstOrder }

func (foldBatch) Name() string { return "broadcast_grad" }

func (foldBatch) Infer(in []engine.Type) (engine.Type, error) {
	return engine.Type{Dtype: in[0].Dtype, Shape: in[0].Shape[1:].Clone()}, nil
}

func (foldBatch) Run(out engine.Value, in []engine.Value) error {
	if engine.IsF32(out) {
		foldRun[float32](out, in)
	} else {
		foldRun[float64](out, in)
	}
	return nil
}

func foldRun[F kernels.Float](out engine.Value, in []engine.Value) {
	x, y := engine.Floats[F](in[0]), engine.Floats[F](out)
	copy(y, x)
	for x = x[len(y):]; len(x) > 0; x = x[len(y):] {
		kernels.Axpy(1, x[:len(y)], y)
	}
}

// maskRows has inputs: x, lens. It is its own gradient.
type maskRows struct{}

func (maskRows) Name() string    { return "mask_rows" }
func (maskRows) Cheap()          {}
func (maskRows) InPlace() int    { return 0 }
func (maskRows) DiffWRT() []bool { return []bool{true, false} }

func (maskRows) Infer(in []engine.Type) (engine.Type, error) {
	return in[0], rowsAndLens(in)
}

// rowsAndLens checks x [B,T,C] and, if there are any, lens [B].
func rowsAndLens(in []engine.Type) error {
	if len(in[0].Shape) != 3 || !in[0].IsFloat() {
		return fmt.Errorf("rows %v, want floats [B,T,C]", in[0])
	}
	if len(in) > 1 && (in[1].Dtype != tensor.Int32 || len(in[1].Shape) != 1 || in[1].Shape[0] != in[0].Shape[0]) {
		return fmt.Errorf("lengths %v, want int32 [%d]", in[1], in[0].Shape[0])
	}
	return nil
}

// used is how many rows of example b count.
func used(in []engine.Value, at, b, t int) int {
	if len(in) <= at {
		return t
	}
	return min(max(int(engine.Ints(in[at])[b]), 0), t)
}

func (maskRows) Run(out engine.Value, in []engine.Value) error {
	if engine.IsF32(out) {
		maskRun[float32](out, in)
	} else {
		maskRun[float64](out, in)
	}
	return nil
}

func maskRun[F kernels.Float](out engine.Value, in []engine.Value) {
	x, y := engine.Floats[F](in[0]), engine.Floats[F](out)
	t, c := out.Shape()[1], out.Shape()[2]
	for b := range out.Shape()[0] {
		n := used(in, 1, b, t)
		copy(y[b*t*c:][:n*c], x[b*t*c:])
		clear(y[(b*t+n)*c : (b+1)*t*c])
	}
}

func (o maskRows) Diff(in Nodes, _, dout *Node) (Nodes, error) {
	dx, err := engine.Apply(o, dout, in[1])
	return Nodes{dx, nil}, err
}

// poolRows has inputs: x, perhaps lens.
type poolRows struct{ max bool }

func (o poolRows) Name() string {
	if o.max {
		return "max_rows"
	}
	return "mean_rows"
}

func (o poolRows) Infer(in []engine.Type) (engine.Type, error) {
	if err := rowsAndLens(in); err != nil {
		return engine.Type{}, err
	}
	return engine.Type{Dtype: in[0].Dtype, Shape: tensor.Shape{in[0].Shape[0], in[0].Shape[2]}}, nil
}

func (o poolRows) Run(out engine.Value, in []engine.Value) error {
	if engine.IsF32(out) {
		poolRun[float32](o, out, in)
	} else {
		poolRun[float64](o, out, in)
	}
	return nil
}

func poolRun[F kernels.Float](o poolRows, out engine.Value, in []engine.Value) {
	x, y := engine.Floats[F](in[0]), engine.Floats[F](out)
	t, c := in[0].Shape()[1], in[0].Shape()[2]
	for b := range out.Shape()[0] {
		n, row := used(in, 1, b, t), y[b*c:][:c]
		clear(row)
		for i := range n {
			src := x[(b*t+i)*c:][:c]
			switch {
			case !o.max:
				kernels.Axpy(1/F(n), src, row)
			case i == 0:
				copy(row, src)
			default:
				for j, v := range src {
					row[j] = max(row[j], v)
				}
			}
		}
	}
}

func (o poolRows) Diff(in Nodes, out, dout *Node) (Nodes, error) {
	args := Nodes{in[0], out, dout}
	dx, err := engine.Apply(poolGrad{o}, append(args, in[1:]...)...)
	return append(Nodes{dx}, make(Nodes, len(in)-1)...), err
}

// poolGrad has inputs: x, the pooled, its gradient, perhaps lens.
type poolGrad struct{ poolRows }

func (o poolGrad) Name() string                                { return o.poolRows.Name() + "_grad" }
func (o poolGrad) Infer(in []engine.Type) (engine.Type, error) { return in[0], nil }
func (o poolGrad) Diff(Nodes, *Node, *Node) (Nodes, error)     { return firstOrder{}.Diff(nil, nil, nil) }
func (o poolGrad) Run(out engine.Value, in []engine.Value) error {
	if engine.IsF32(out) {
		poolGradRun[float32](o, out, in)
	} else {
		poolGradRun[float64](o, out, in)
	}
	return nil
}

func poolGradRun[F kernels.Float](o poolGrad, out engine.Value, in []engine.Value) {
	x, y, dy, dx := engine.Floats[F](in[0]), engine.Floats[F](in[1]), engine.Floats[F](in[2]), engine.Floats[F](out)
	t, c := in[0].Shape()[1], in[0].Shape()[2]
	clear(dx)
	for b := range in[0].Shape()[0] {
		n := used(in, 3, b, t)
		if !o.max {
			for i := range n {
				row := dx[(b*t+i)*c:][:c]
				for j, d := range dy[b*c:][:c] {
					row[j] = d / F(n)
				}
			}
			continue
		}
		for j := range c {
			at := b*c + j
			for i := range n {
				if k := (b*t+i)*c + j; x[k] == y[at] {
					dx[k] = dy[at]
					break
				}
			}
		}
	}
}
