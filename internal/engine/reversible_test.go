package engine

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// stack builds L blocks, reversible or plain; all share one input of F, and hold dropout and a cheap operation.
func stack(b *build, depth, rows, width int, rev bool) (loss *Node, wrt Nodes) {
	x1, x2, shared := b.input(rows, width), b.input(rows, width), b.input(width, width)
	wrt = Nodes{x1, x2, shared}
	var blocks []ReversibleBlock
	for l := range depth {
		w, u := b.input(width, width), b.input(width, width)
		wrt = append(wrt, w, u)
		f := func(x *Node) *Node {
			return b.op(noise{uint64(l)}, b.op(mat{}, b.op(tanh, b.op(mat{}, x, w)), shared))
		}
		g := func(x *Node) *Node { return b.op(mat{}, b.op(cheap{sine}, x), u) }
		blocks = append(blocks, ReversibleBlock{f, g})
	}
	y1, y2 := x1, x2
	if rev {
		var err error
		y1, y2, err = Reversible(x1, x2, blocks...)
		require.NoError(b.t, err)
	} else {
		for _, k := range blocks {
			y1 = b.add(y1, k.F(y2))
			y2 = b.add(y2, k.G(y1))
		}
	}
	return b.op(total{0.1}, b.op(times{}, b.op(tanh, y1), y2)), wrt
}

func TestReversibleGradient(t *testing.T) {
	var want [][]float64
	for _, c := range []struct {
		rev bool
		r   *Recompute
	}{{}, {rev: true}, {true, &Recompute{Cheap: true}}, {true, &Recompute{Cheap: true, Block: func(*Node) int { return 1 }}}} {
		b := newBuild(t, tensor.Float64)
		loss, wrt := stack(b, 3, 5, 7, c.rev)
		gs := b.grad(c.r, loss, wrt...)
		p := b.compile(Options{Poison: true}, append(Nodes{loss}, gs...)...)
		b.run(p)
		for i, n := range append(Nodes{loss}, gs...) {
			if !c.rev {
				want = append(want, elements(p.Value(n)))
			} else {
				require.InDeltaSlice(t, want[i], elements(p.Value(n)), 1e-12, "%d", i)
			}
		}
		finite(b, loss, wrt[:4], gs[:4])
	}
}

func TestReversibleUnderGorgonia(t *testing.T) {
	b := newBuild(t, tensor.Float64)
	loss, wrt := stack(b, 2, 5, 7, true)
	p := b.compile(Options{}, b.grad(nil, loss, wrt...)...)
	b.run(p)

	c := newBuild(t, tensor.Float64)
	loss, wrt = stack(c, 2, 5, 7, true)
	gs, err := gorgonia.Grad(loss, wrt...)
	require.NoError(t, err)
	vals := make([]gorgonia.Value, len(gs))
	for i, n := range gs {
		gorgonia.Read(n, &vals[i])
	}
	vm := gorgonia.NewTapeMachine(c.g)
	require.NoError(t, vm.RunAll())
	require.NoError(t, vm.Close())

	b = newBuild(t, tensor.Float64)
	loss, wrt = stack(b, 2, 5, 7, false)
	ours := b.grad(nil, loss, wrt...)
	p = b.compile(Options{}, ours...)
	b.run(p)
	for i, n := range ours {
		require.InDeltaSlice(t, elements(p.Value(n)), elements(vals[i]), 1e-12)
	}
}

// The planned peak of a reversible stack, without the weight gradients, does not grow with depth.
func TestReversibleMemory(t *testing.T) {
	activations := func(depth int, rev bool) int {
		const rows, width = 64, 16
		b := newBuild(t, tensor.Float32)
		loss, wrt := stack(b, depth, rows, width, rev)
		p := b.compile(Options{}, append(Nodes{loss}, b.grad(nil, loss, wrt...)...)...)
		weights := 2 * depth * width * width * 4
		return p.Plan().Arena - weights
	}
	few, many := activations(4, true), activations(32, true)
	require.LessOrEqual(t, float64(many), 1.05*float64(few))
	require.Greater(t, activations(32, false), 3*many)
}

// Choices made from a stream are kept, not made again.
func TestReversibleKeepsIntegers(t *testing.T) {
	b := newBuild(t, tensor.Float64)
	x1, x2 := b.input(3, 5), b.input(3, 5)
	var signs *Node
	f := func(x *Node) *Node {
		signs = b.op(sign{}, x)
		return b.op(flip{}, x, signs)
	}
	y1, y2, err := Reversible(x1, x2, ReversibleBlock{f, f})
	require.NoError(t, err)
	loss := b.op(total{1}, b.op(times{}, y1, y2))
	gs := b.grad(nil, loss, x1, x2)
	p := b.compile(Options{}, append(gs, loss)...)
	n := 0
	for _, s := range p.steps {
		if s.name == "sign" {
			n++
		}
	}
	require.Equal(t, 2, n)
	finite(b, loss, Nodes{x1, x2}, gs)
}

func TestReversibleErrors(t *testing.T) {
	b := newBuild(t, tensor.Float64)
	x := b.input(3, 5)
	nothing := func(*Node) *Node { return nil }
	other := func(*Node) *Node { return b.input(5, 3) }
	_, _, err := Reversible(x, b.input(5, 3))
	require.ErrorContains(t, err, "streams are float64(3, 5) and float64(5, 3)")
	_, _, err = Reversible(x, x, ReversibleBlock{nothing, nothing})
	require.ErrorContains(t, err, "half 0: a branch returned no node")
	_, _, err = Reversible(x, x, ReversibleBlock{other, other})
	require.ErrorContains(t, err, "returned float64(5, 3)")
}

// sign is 1 or -1, as integers; flip multiplies by it.
type (
	sign struct{}
	flip struct{}
)

func (sign) Name() string                            { return "sign" }
func (sign) Infer(in []Type) (Type, error)           { return Type{tensor.Int32, in[0].Shape}, nil }
func (sign) Diff(Nodes, *Node, *Node) (Nodes, error) { return Nodes{nil}, nil }
func (sign) DiffWRT() []bool                         { return []bool{false} }
func (sign) Run(out Value, in []Value) error {
	for i := range Ints(out) {
		Ints(out)[i] = 1
		if at(in[0], i) < 0 {
			Ints(out)[i] = -1
		}
	}
	return nil
}

func (flip) Name() string { return "flip" }
func (flip) Infer(in []Type) (Type, error) {
	if in[1].Dtype != tensor.Int32 {
		return Type{}, fmt.Errorf("signs are %v", in[1])
	}
	return in[0], nil
}
func (flip) Run(out Value, in []Value) error {
	for i, s := range Ints(in[1]) {
		put(out, i, float64(s)*at(in[0], i))
	}
	return nil
}
func (f flip) Diff(in Nodes, _, d *Node) (Nodes, error) {
	g, err := Apply(f, d, in[1])
	return Nodes{g, nil}, err
}
