package engine

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/kernels"
)

// mat is the matrix product of [m,k] and [k,n].
type mat struct{ transA, transB bool }

func (mat) Name() string { return "mat" }

func (o mat) dims(in []Type) (m, k, k2, n int) {
	m, k, k2, n = in[0].Shape[0], in[0].Shape[1], in[1].Shape[0], in[1].Shape[1]
	if o.transA {
		m, k = k, m
	}
	if o.transB {
		k2, n = n, k2
	}
	return
}

func (o mat) Infer(in []Type) (Type, error) {
	if m, k, k2, n := o.dims(in); k == k2 {
		return Type{in[0].Dtype, tensor.Shape{m, n}}, nil
	}
	return Type{}, fmt.Errorf("inner sizes of %v and %v differ", in[0], in[1])
}

func (o mat) Flops(in []Type, out Type) float64 {
	_, k, _, _ := o.dims(in)
	return 2 * float64(k*out.Size())
}

func (o mat) Run(out Value, in []Value) error {
	m, k, _, n := o.dims([]Type{{Shape: in[0].Shape()}, {Shape: in[1].Shape()}})
	if IsF32(out) {
		matRun(o, m, k, n, Floats[float32](in[0]), Floats[float32](in[1]), Floats[float32](out))
	} else {
		matRun(o, m, k, n, Floats[float64](in[0]), Floats[float64](in[1]), Floats[float64](out))
	}
	return nil
}

func matRun[F kernels.Float](o mat, m, k, n int, a, b, c []F) {
	for i := range m {
		for j := range n {
			var s F
			for l := range k {
				p, q := i*k+l, l*n+j
				if o.transA {
					p = l*m + i
				}
				if o.transB {
					q = j*k + l
				}
				s += a[p] * b[q]
			}
			c[i*n+j] = s
		}
	}
}

// Diff is for plain products.
func (o mat) Diff(in Nodes, _, d *Node) (Nodes, error) {
	da, err := Apply(mat{transB: true}, d, in[1])
	if err != nil {
		return nil, err
	}
	db, err := Apply(mat{transA: true}, in[0], d)
	return Nodes{da, db}, err
}

// curve is an elementwise function, run in place; its gradient reads the input.
type curve struct{ f, df func(float64) float64 }

var (
	tanh = curve{math.Tanh, func(x float64) float64 { t := math.Tanh(x); return 1 - t*t }}
	sine = curve{math.Sin, math.Cos}
)

func (curve) Name() string                  { return "curve" }
func (curve) Infer(in []Type) (Type, error) { return sameFloats(in) }
func (curve) InPlace() int                  { return 0 }
func (c curve) Run(out Value, in []Value) error {
	each(out, func(x ...float64) float64 { return c.f(x[0]) }, in...)
	return nil
}
func (c curve) Diff(in Nodes, _, d *Node) (Nodes, error) {
	g, err := Apply(curveGrad{c}, in[0], d)
	return Nodes{g}, err
}

type curveGrad struct{ c curve }

func (curveGrad) Name() string                  { return "curve_grad" }
func (curveGrad) Infer(in []Type) (Type, error) { return sameFloats(in) }
func (curveGrad) InPlace() int                  { return 1 }
func (g curveGrad) Run(out Value, in []Value) error {
	each(out, func(x ...float64) float64 { return g.c.df(x[0]) * x[1] }, in...)
	return nil
}
func (curveGrad) Diff(Nodes, *Node, *Node) (Nodes, error) { return nil, fmt.Errorf("not needed") }

// cheap is a curve that `recompute=cheap` does not keep.
type cheap struct{ curve }

func (cheap) Cheap() {}

// noise scales elements by a hash of seed and index, like dropout: the same parameters give the same mask.
type noise struct{ seed uint64 }

func (noise) Name() string                  { return "noise" }
func (noise) Infer(in []Type) (Type, error) { return sameFloats(in) }
func (o noise) Run(out Value, in []Value) error {
	i := uint64(0)
	each(out, func(x ...float64) float64 {
		i++
		return x[0] * float64((i*2654435761+o.seed*97)>>3%3)
	}, in...)
	return nil
}
func (o noise) Diff(_ Nodes, _, d *Node) (Nodes, error) {
	g, err := Apply(o, d)
	return Nodes{g}, err
}

// times is the elementwise product.
type times struct{}

func (times) Name() string                  { return "times" }
func (times) Infer(in []Type) (Type, error) { return sameFloats(in) }
func (times) InPlaces() []int               { return []int{1, 0} }
func (times) Run(out Value, in []Value) error {
	each(out, func(x ...float64) float64 { return x[0] * x[1] }, in...)
	return nil
}
func (times) Diff(in Nodes, _, d *Node) (Nodes, error) {
	a, err := Apply(times{}, d, in[1])
	if err != nil {
		return nil, err
	}
	b, err := Apply(times{}, d, in[0])
	return Nodes{a, b}, err
}

// total is the sum of all elements times a weight, a scalar.
type total struct{ weight float64 }

func (total) Name() string                  { return "total" }
func (total) Infer(in []Type) (Type, error) { return Type{Dtype: in[0].Dtype}, nil }
func (o total) Run(out Value, in []Value) error {
	s := 0.0
	each(nil, func(x ...float64) float64 { s += x[0]; return 0 }, in...)
	put(out, 0, s*o.weight)
	return nil
}
func (o total) Diff(in Nodes, _, d *Node) (Nodes, error) {
	g, err := Apply(spread{o.weight, in[0].Shape()}, d)
	return Nodes{g}, err
}

// spread is the gradient of total.
type spread struct {
	weight float64
	shape  tensor.Shape
}

func (spread) Name() string                    { return "spread" }
func (o spread) Infer(in []Type) (Type, error) { return Type{in[0].Dtype, o.shape}, nil }
func (o spread) Run(out Value, in []Value) error {
	v := at(in[0], 0) * o.weight
	each(out, func(...float64) float64 { return v }, out)
	return nil
}
func (o spread) Diff(_ Nodes, _, d *Node) (Nodes, error) {
	g, err := Apply(total{o.weight}, d)
	return Nodes{g}, err
}

// both packs sin x and cos x into one value of twice the size; its gradient looks for the parts.
type both struct{}

func (both) Name() string { return "both" }
func (both) Infer(in []Type) (Type, error) {
	return Type{in[0].Dtype, tensor.Shape{2, in[0].Size()}}, nil
}
func (both) Run(out Value, in []Value) error {
	n := Type{Shape: in[0].Shape()}.Size()
	for i := range n {
		x := at(in[0], i)
		put(out, i, math.Sin(x))
		put(out, n+i, math.Cos(x))
	}
	return nil
}
func (both) Diff(in Nodes, out, d *Node) (Nodes, error) {
	n := size(in[0])
	parts, err := Parts(d, n, n)
	if err != nil {
		return nil, err
	}
	args := Nodes{in[0]}
	for _, p := range parts {
		if p == nil {
			p = Zeros(in[0].Graph(), TypeOf(in[0]))
		}
		args = append(args, p)
	}
	g, err := Apply(bothGrad{}, args...)
	return Nodes{g}, err
}

type bothGrad struct{}

func (bothGrad) Name() string                  { return "both_grad" }
func (bothGrad) Infer(in []Type) (Type, error) { return in[0], nil }
func (bothGrad) Run(out Value, in []Value) error {
	for i := range max(1, out.Size()) {
		x := at(in[0], i)
		put(out, i, math.Cos(x)*at(in[1], i)-math.Sin(x)*at(in[2], i))
	}
	return nil
}
func (bothGrad) Diff(Nodes, *Node, *Node) (Nodes, error) { return nil, fmt.Errorf("not needed") }

func at(v Value, i int) float64 {
	if IsF32(v) {
		return float64(Floats[float32](v)[i])
	}
	return Floats[float64](v)[i]
}

func put(v Value, i int, x float64) {
	if IsF32(v) {
		Floats[float32](v)[i] = float32(x)
	} else {
		Floats[float64](v)[i] = x
	}
}

// each computes out[i] = f(in[0][i], in[1][i], ...).
func each(out Value, f func(x ...float64) float64, in ...Value) {
	var x [4]float64
	for i := range (Type{Shape: in[0].Shape()}).Size() {
		for k, v := range in {
			x[k] = at(v, i)
		}
		if y := f(x[:len(in)]...); out != nil {
			put(out, i, y)
		}
	}
}

// build makes graphs in tests.
type build struct {
	t   testing.TB
	g   *gorgonia.ExprGraph
	dt  tensor.Dtype
	rng *rand.Rand
	n   int
}

func newBuild(t testing.TB, dt tensor.Dtype) *build {
	return &build{t: t, g: gorgonia.NewGraph(), dt: dt, rng: rand.New(rand.NewPCG(7, 11))}
}

func (b *build) input(shape ...int) *Node {
	b.n++
	v := NewValue(Type{b.dt, shape})
	for i := range (Type{Shape: shape}).Size() {
		put(v, i, b.rng.NormFloat64()*0.5)
	}
	return gorgonia.NewTensor(b.g, b.dt, len(shape), gorgonia.WithShape(shape...), gorgonia.WithName(fmt.Sprintf("x%d", b.n)), gorgonia.WithValue(v))
}

func (b *build) op(o Op, in ...*Node) *Node {
	n, err := Apply(o, in...)
	require.NoError(b.t, err)
	return n
}

func (b *build) add(x, y *Node) *Node { return b.op(addOp{}, x, y) }

func (b *build) view(n *Node, offset int, shape ...int) *Node {
	v, err := View(n, offset, shape...)
	require.NoError(b.t, err)
	return v
}

func (b *build) grad(r *Recompute, loss *Node, wrt ...*Node) Nodes {
	one := Fill(b.g, TypeOf(loss), 1)
	gs, err := VJP(Nodes{loss}, Nodes{one}, wrt, r)
	require.NoError(b.t, err)
	return gs
}

func (b *build) compile(o Options, outs ...*Node) *Program {
	p, err := Compile(b.g, outs, o)
	require.NoError(b.t, err)
	return p
}

func (b *build) run(p *Program) { require.NoError(b.t, p.Run()) }

// elements copies a value.
func elements(v Value) []float64 {
	r := make([]float64, (Type{Shape: v.Shape()}).Size())
	for i := range r {
		r[i] = at(v, i)
	}
	return r
}
