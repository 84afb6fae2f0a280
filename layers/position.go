package layers

import (
	"fmt"
	"math"
	"slices"

	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/kernels"
)

// PositionConfig says which positions the tokens of an input have.
type PositionConfig struct {
	First  int   // position of the first token; the others follow
	IDs    *Node // int32 [T] or [B,T]: position of each token; takes the place of First
	Frozen int   // with IDs: 1 + the row of the table without gradient, see LookupFrozen; 0: none
}

// LearnedPositions adds a row of the table "weight" [P, C] to each token.
//
// Shapes: x [B,T,C] or [T,C] -> the same. Cost: one pass; the gradient is as large as the table.
// Errors: T tokens from First on do not fit into P; when run, an id outside 0..P-1.
// Source: Gehring et al. 2017, arXiv 1705.03122, section 3.1.
func LearnedPositions(b *Builder, x *Node, p int, init Init, c PositionConfig) *Node {
	if b.Err() != nil {
		return nil
	}
	if x == nil || x.Dims() < 2 {
		return b.Failf("positions: the input has no tokens, want [B,T,C] or [T,C]")
	}
	return AddPositions(b, x, b.Param("weight", initOr(init, Normal(0.02)), p, lastOf(x.Shape())), c)
}

// SinusoidalPositions adds fixed sines and cosines to each token, see SinusoidalTable.
//
// Shapes: x [B,T,C] or [T,C] -> the same; p is the number of positions in the table. Cost: one pass.
// Errors: as LearnedPositions; an odd C.
func SinusoidalPositions(b *Builder, x *Node, p int, interleaved bool, c PositionConfig) *Node {
	if b.Err() != nil {
		return nil
	}
	if x == nil || x.Dims() < 2 {
		return b.Failf("positions: the input has no tokens, want [B,T,C] or [T,C]")
	}
	d := lastOf(x.Shape())
	if d%2 != 0 {
		return b.Failf("positions: width %d, want an even one for sines and cosines", d)
	}
	v := tensor.New(tensor.Of(b.Dtype()), tensor.WithShape(p, d))
	table := SinusoidalTable(p, d, interleaved)
	if b.Dtype() == tensor.Float32 {
		fill[float32](v, func(i int) float64 { return table[i] })
	} else {
		fill[float64](v, func(i int) float64 { return table[i] })
	}
	return AddPositions(b, x, b.Const(fmt.Sprintf("sinusoidal.%d.%d.%t", p, d, interleaved), v), c)
}

// SinusoidalTable is [P, C], row major: with a = p * 10000^(-2i/C), sin(a) and cos(a) stand in columns 2i and 2i+1, or, if
// not interleaved, in columns i and C/2+i.
//
// Source: Vaswani et al. 2017, arXiv 1706.03762, section 3.5 (interleaved). C is even.
func SinusoidalTable(p, c int, interleaved bool) []float64 {
	t := make([]float64, p*c)
	for i := range c / 2 {
		f := math.Pow(10000, -2*float64(i)/float64(c))
		s, k := i, c/2+i
		if interleaved {
			s, k = 2*i, 2*i+1
		}
		for n := range p {
			t[n*c+s], t[n*c+k] = math.Sincos(float64(n) * f)
		}
	}
	return t
}

// AddPositions adds rows of a table [P, C] to the tokens of x [B,T,C] or [T,C].
func AddPositions(b *Builder, x, table *Node, c PositionConfig) *Node {
	if c.IDs != nil {
		return b.Op(addRows{ids: true, frozen: c.Frozen}, x, table, c.IDs)
	}
	return b.Op(addRows{first: c.First}, x, table)
}

// addRows has inputs: x, table, and ids if there are any.
type addRows struct {
	first, frozen int
	ids           bool
}

func (o addRows) Name() string    { return "positions" }
func (o addRows) InPlace() int    { return 0 }
func (o addRows) Cheap()          {}
func (o addRows) DiffWRT() []bool { return []bool{true, true, false}[:2+b2i(o.ids)] }

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (o addRows) Infer(in []engine.Type) (engine.Type, error) {
	if err := sameFloat(in[:2]...); err != nil {
		return engine.Type{}, err
	}
	x, table := in[0].Shape, in[1].Shape
	if len(x) < 2 || len(table) != 2 || lastOf(x) != table[1] {
		return engine.Type{}, fmt.Errorf("input of shape %v, table of shape %v, want [B,T,C] or [T,C], and [P,C]", x, table)
	}
	if o.ids {
		return in[0], fitsTokens("position ids", in[2], x)
	}
	if t := x[len(x)-2]; o.first < 0 || o.first+t > table[0] {
		return engine.Type{}, fmt.Errorf("%d tokens from position %d, the table has %d positions", t, o.first, table[0])
	}
	return in[0], nil
}

// fitsTokens checks that ids are int32 [T] or [B,T] for x [B,T,C].
func fitsTokens(what string, ids engine.Type, x tensor.Shape) error {
	if err := isInts(what, ids); err != nil {
		return err
	}
	if s := ids.Shape; slices.Equal(s, x[len(x)-2:len(x)-1]) || slices.Equal(s, x[:len(x)-1]) {
		return nil
	}
	return fmt.Errorf("%s of shape %v for an input of shape %v", what, ids.Shape, x)
}

func (o addRows) Run(out engine.Value, in []engine.Value) error {
	if engine.IsF32(out) {
		return runAddRows[float32](o, out, in)
	}
	return runAddRows[float64](o, out, in)
}

func runAddRows[F kernels.Float](o addRows, out engine.Value, in []engine.Value) error {
	x, table, y := engine.Floats[F](in[0]), engine.Floats[F](in[1]), engine.Floats[F](out)
	p, c := in[1].Shape()[0], in[1].Shape()[1]
	if !o.ids {
		shape := in[0].Shape()
		n := shape[len(shape)-2] * c
		rows := table[o.first*c : o.first*c+n]
		for at := 0; at < len(x); at += n {
			kernels.Add(x[at:at+n], rows, y[at:at+n])
		}
		return nil
	}
	ids := engine.Ints(in[2])
	for i := range len(x) / c {
		id := int(ids[i%len(ids)])
		if id < 0 || id >= p {
			return fmt.Errorf("position %d at index %d, the table has %d positions", id, i%len(ids), p)
		}
		kernels.Add(x[i*c:(i+1)*c], table[id*c:(id+1)*c], y[i*c:(i+1)*c])
	}
	return nil
}

func (o addRows) Diff(in Nodes, out, dout *Node) (Nodes, error) {
	dt, err := engine.Apply(addRowsGrad{addRows: o, p: in[1].Shape()[0]}, append(Nodes{dout}, in[2:]...)...)
	return append(Nodes{dout, dt}, make(Nodes, len(in)-2)...), err
}

// addRowsGrad is the gradient for the table. Inputs: dy, and ids if there are any.
type addRowsGrad struct {
	firstOrder
	addRows addRows
	p       int
}

func (o addRowsGrad) Name() string { return "positions_grad" }

func (o addRowsGrad) Infer(in []engine.Type) (engine.Type, error) {
	return engine.Type{Dtype: in[0].Dtype, Shape: tensor.Shape{o.p, lastOf(in[0].Shape)}}, nil
}

func (o addRowsGrad) Run(out engine.Value, in []engine.Value) error {
	if engine.IsF32(out) {
		runAddRowsGrad[float32](o, out, in)
	} else {
		runAddRowsGrad[float64](o, out, in)
	}
	return nil
}

func runAddRowsGrad[F kernels.Float](o addRowsGrad, out engine.Value, in []engine.Value) {
	dy, dt := engine.Floats[F](in[0]), engine.Floats[F](out)
	shape := in[0].Shape()
	t, c := shape[len(shape)-2], shape[len(shape)-1]
	clear(dt)
	if !o.addRows.ids {
		rows := dt[o.addRows.first*c : (o.addRows.first+t)*c]
		for at := 0; at < len(dy); at += t * c {
			kernels.Axpy(1, dy[at:at+t*c], rows)
		}
		return
	}
	ids := engine.Ints(in[1])
	for i := range len(dy) / c {
		id := int(ids[i%len(ids)])
		kernels.Axpy(1, dy[i*c:(i+1)*c], dt[id*c:(id+1)*c])
	}
	clearRow(dt, c, o.addRows.frozen)
}
