package engine

import (
	"errors"
	"math"
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

func TestRunAllocatesNothing(t *testing.T) {
	for _, o := range []Options{{}, {CheckFinite: true}} {
		b := newBuild(t, tensor.Float32)
		x, w := b.input(5, 7), b.input(7, 7)
		h := x
		for range 5 {
			h = b.add(h, b.op(quiet{}, h, w))
		}
		s, err := Scale(h, 0.5)
		require.NoError(t, err)
		j, err := Join([]int{100}, []int{0, 50}, s, b.view(h, 0, 35))
		require.NoError(t, err)
		p := b.compile(o, j, Zeros(b.g, TypeOf(x)))
		for _, profile := range []bool{false, true} {
			p.SetProfile(profile)
			require.Zero(t, testing.AllocsPerRun(10, func() {
				if err := p.Run(); err != nil {
					panic(err)
				}
			}))
		}
	}
}

// quiet is an operation without allocations.
type quiet struct{ addOp }

func (quiet) Infer(in []Type) (Type, error) { return in[0], nil }
func (quiet) Run(out Value, in []Value) error {
	copy(Floats[float32](out), Floats[float32](in[0]))
	return nil
}

// broken fails in one way or another.
type broken struct {
	curve
	how func() error
}

func (broken) Name() string { return "broken" }
func (o broken) Run(out Value, _ []Value) error {
	put(out, 2, math.NaN())
	return o.how()
}

func TestRunErrors(t *testing.T) {
	why := errors.New("no reason")
	for _, c := range []struct {
		how  func() error
		want string
	}{
		{func() error { return why }, "decoder.h.3.attn.q: broken: no reason"},
		{func() error { panic("out of luck") }, "decoder.h.3.attn.q: broken: panic: out of luck"},
		{func() error { return nil }, "decoder.h.3.attn.q: broken: element 2 of the result is NaN"},
	} {
		b := newBuild(t, tensor.Float32)
		n := b.op(broken{tanh, c.how}, b.op(tanh, b.input(3, 5)))
		scope := func(m *Node) string {
			if m == n {
				return "decoder.h.3.attn.q"
			}
			return ""
		}
		p := b.compile(Options{Scope: scope, CheckFinite: true}, b.op(tanh, n))
		require.EqualError(t, p.Run(), c.want)
	}
	b := newBuild(t, tensor.Float32)
	n := b.op(broken{tanh, func() error { return why }}, b.input(3, 5))
	require.ErrorIs(t, b.compile(Options{}, n).Run(), why)
}

// marked may hold infinities.
type marked struct{ curve }

func (marked) NonFinite() {}

func TestFiniteWatch(t *testing.T) {
	b := newBuild(t, tensor.Float64)
	up := curve{func(float64) float64 { return math.Inf(1) }, nil}
	x := b.input(3, 5)
	b.run(b.compile(Options{CheckFinite: true}, b.op(marked{up}, x)))
	var e *NonFiniteError
	require.ErrorAs(t, b.compile(Options{CheckFinite: true}, b.op(up, x)).Run(), &e)
	require.Equal(t, 0, e.Index)
	b.run(b.compile(Options{}, b.op(up, x)))
	i, _ := firstBad([]float32{1, 2, float32(math.NaN())}, true)
	require.Equal(t, 2, i)
	i, _ = firstBad([]float32{math.MaxFloat32, math.MaxFloat32}, false)
	require.Equal(t, -1, i)
}

func TestProfile(t *testing.T) {
	b := newBuild(t, tensor.Float64)
	loss, wrt, _ := layers(b, 2)
	p := b.compile(Options{}, append(b.grad(nil, loss, wrt...), loss)...)
	b.run(p)
	require.Zero(t, p.Profile().Runs)
	p.SetProfile(true)
	b.run(p)
	b.run(p)
	r := p.Profile()
	require.Equal(t, 2, r.Runs)
	require.Positive(t, r.Total)
	count := 0
	for _, e := range r.ByOp {
		count += e.Count
	}
	require.Equal(t, p.Plan().Nodes, count)
	require.Contains(t, r.String(), "mat")
}

func TestProgramIsAMachine(t *testing.T) {
	b := newBuild(t, tensor.Float64)
	x := b.input(3, 5)
	y := b.op(tanh, x)
	p := b.compile(Options{}, y)
	var vm gorgonia.VM = p
	require.NoError(t, vm.RunAll())
	want := elements(p.Value(y))
	vm.Reset()
	require.NoError(t, vm.RunAll())
	require.Equal(t, want, elements(p.Value(y)))
	require.Equal(t, x.Value(), p.Value(x))
	require.Nil(t, p.Value(b.op(tanh, y)))
	require.NoError(t, vm.Close())
	require.ErrorContains(t, vm.RunAll(), "closed")
}

// Scalars, integers and constants of Gorgonia.
func TestKindsOfValues(t *testing.T) {
	b := newBuild(t, tensor.Float32)
	two := b.g.AddNode(gorgonia.NewConstant(float32(2)))
	s := b.op(total{3}, b.input(3, 5))
	y := gorgonia.Must(gorgonia.Mul(s, two))
	k := Fill(b.g, Type{tensor.Int32, tensor.Shape{3}}, 7)
	j, err := Join([]int{5}, []int{1}, k)
	require.NoError(t, err)
	scalar := gorgonia.NewScalar(b.g, tensor.Float32, gorgonia.WithName("scalar"), gorgonia.WithValue(float32(5)))
	z := b.add(y, scalar)
	p := b.compile(Options{Poison: true}, s, y, z, j)
	b.run(p)
	require.Equal(t, at(p.Value(s), 0)*2, at(p.Value(y), 0))
	require.InDelta(t, at(p.Value(y), 0)+5, at(p.Value(z), 0), 1e-5)
	require.Equal(t, []int32{0, 7, 7, 7, 0}, Ints(p.Value(j)))
}
