package engine

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// net is a loss over most kinds of nodes: packed results, views, shared inputs, joins.
func net(b *build) (loss *Node, wrt Nodes) {
	x, w, u, v := b.input(5, 3), b.input(3, 7), b.input(7, 7), b.input(2, 35)
	h := b.op(tanh, b.op(mat{}, x, w))
	h = b.add(h, b.op(noise{3}, b.op(mat{}, h, u)))
	p := b.op(both{}, h)
	s, c := b.view(p, 0, 5, 7), b.view(p, 35, 5, 7)
	h = b.add(b.op(times{}, s, h), b.op(times{}, c, c))
	low, high := b.view(v, 0, 5, 7), b.view(v, 35, 5, 7)
	middle, start := b.view(v, 20, 5, 7), b.view(v, 0, 4, 7) // overlap both
	h = b.op(times{}, h, b.add(low, b.op(sine, b.add(high, b.op(tanh, middle)))))
	h = b.add(h, b.op(spread{2, tensor.Shape{5, 7}}, b.op(total{1}, b.op(sine, start))))
	j, err := Join([]int{3, 35}, []int{5, 50}, h, c)
	require.NoError(b.t, err)
	j, err = Scale(b.op(sine, j), 0.7)
	require.NoError(b.t, err)
	j2, err := Sub(j, b.op(times{}, j, j))
	require.NoError(b.t, err)
	return b.op(total{0.3}, j2), Nodes{x, w, u, v}
}

// finite compares gradients with central differences.
func finite(b *build, loss *Node, wrt, grads Nodes) {
	p := b.compile(Options{}, append(Nodes{loss}, grads...)...)
	b.run(p)
	want := make([][]float64, len(grads))
	for i, g := range grads {
		want[i] = elements(p.Value(g))
	}
	const h = 1e-5
	for i, n := range wrt {
		for k := range want[i] {
			x := at(n.Value(), k)
			put(n.Value(), k, x+h)
			b.run(p)
			up := at(p.Value(loss), 0)
			put(n.Value(), k, x-h)
			b.run(p)
			require.InDelta(b.t, (up-at(p.Value(loss), 0))/(2*h), want[i][k], 1e-8, "input %d element %d", i, k)
			put(n.Value(), k, x)
		}
	}
}

func TestVJPFiniteDifferences(t *testing.T) {
	b := newBuild(t, tensor.Float64)
	loss, wrt := net(b)
	finite(b, loss, wrt, b.grad(nil, loss, wrt...))
}

func TestVJPAgreesWithGorgonia(t *testing.T) {
	for _, dt := range []tensor.Dtype{tensor.Float64, tensor.Float32} {
		b := newBuild(t, dt)
		loss, wrt := net(b)
		ours := b.grad(nil, loss, wrt...)
		p := b.compile(Options{CheckFinite: true}, append(Nodes{loss}, ours...)...)
		b.run(p)
		var want [][]float64
		for _, g := range ours {
			want = append(want, elements(p.Value(g)))
		}

		b = newBuild(t, dt)
		loss, wrt = net(b)
		theirs, err := gorgonia.Grad(loss, wrt...)
		require.NoError(t, err)
		vals := make([]gorgonia.Value, len(theirs))
		for i, n := range theirs {
			gorgonia.Read(n, &vals[i])
		}
		vm := gorgonia.NewTapeMachine(b.g)
		require.NoError(t, vm.RunAll())
		require.NoError(t, vm.Close())
		tol := 1e-12
		if dt == tensor.Float32 {
			tol = 1e-5
		}
		for i := range theirs {
			require.InDeltaSlice(t, want[i], elements(vals[i]), tol)
		}
	}
}

// The constants that an operation's gradient adds work in Gorgonia's machine, too.
func TestConstantsUnderGorgonia(t *testing.T) {
	b := newBuild(t, tensor.Float64)
	x := b.input(5, 7)
	loss := b.op(total{1}, b.view(b.op(both{}, x), 0, 5, 7)) // nothing reads the second part
	gs, err := gorgonia.Grad(loss, x)
	require.NoError(t, err)
	var v gorgonia.Value
	gorgonia.Read(gs[0], &v)
	vm := gorgonia.NewTapeMachine(b.g)
	require.NoError(t, vm.RunAll())
	require.NoError(t, vm.Close())
	for i, y := range elements(v) {
		require.InDelta(t, math.Cos(at(x.Value(), i)), y, 1e-12)
	}
}

func TestVJPOverGorgoniaOperations(t *testing.T) {
	b := newBuild(t, tensor.Float64)
	x, w := b.input(3, 5), b.input(5, 2)
	h := gorgonia.Must(gorgonia.Tanh(gorgonia.Must(gorgonia.Mul(x, w))))
	loss := gorgonia.Must(gorgonia.Mean(gorgonia.Must(gorgonia.Square(b.add(h, b.op(tanh, h))))))
	finite(b, loss, Nodes{x, w}, b.grad(nil, loss, x, w))
}

func TestVJPUnreachedAndInner(t *testing.T) {
	b := newBuild(t, tensor.Float64)
	x, w, lost := b.input(3, 5), b.input(5, 2), b.input(2, 2)
	h := b.op(mat{}, x, w)
	loss := b.op(total{1}, b.op(times{}, h, h))
	// by an inner node and by what lies below it; twice on one graph
	for range 2 {
		gs := b.grad(nil, loss, lost, h, w, x, w)
		p := b.compile(Options{}, append(Nodes{h}, gs...)...)
		b.run(p)
		require.Equal(t, make([]float64, 4), elements(p.Value(gs[0])))
		for i, v := range elements(p.Value(h)) {
			require.Equal(t, 2*v, at(p.Value(gs[1]), i))
		}
		require.Equal(t, elements(p.Value(gs[2])), elements(p.Value(gs[4])))
		finite(b, loss, Nodes{w, x}, Nodes{gs[2], gs[3]})
	}
}

func TestVJPSeveralOutputs(t *testing.T) {
	b := newBuild(t, tensor.Float64)
	x, d1, d2 := b.input(3, 5), b.input(3, 5), b.input(3, 5)
	y := b.op(tanh, x)
	z := b.op(sine, y)
	gs, err := VJP(Nodes{y, z, z}, Nodes{d1, d2, d2}, Nodes{x}, nil)
	require.NoError(t, err)
	loss := b.op(total{1}, b.add(b.op(times{}, y, d1), b.op(times{}, b.add(z, z), d2)))
	finite(b, loss, Nodes{x}, gs)
}

func TestVJPErrors(t *testing.T) {
	b := newBuild(t, tensor.Float64)
	x := b.input(3, 5)
	y := b.op(tanh, x)
	_, err := VJP(Nodes{y}, Nodes{b.input(3, 4)}, Nodes{x}, nil)
	require.ErrorContains(t, err, "output 0 is float64(3, 5), its gradient float64(3, 4)")
	_, err = VJP(Nodes{y}, nil, Nodes{x}, nil)
	require.Error(t, err)
	_, err = VJP(Nodes{y}, Nodes{y}, Nodes{nil}, nil)
	require.Error(t, err)
}

// Gradients of a packed value arrive without being copied together.
func TestPartsCopyNothing(t *testing.T) {
	b := newBuild(t, tensor.Float64)
	x := b.input(5, 7)
	p := b.op(both{}, x)
	s, c, c2 := b.view(p, 0, 5, 7), b.view(p, 35, 5, 7), b.view(p, 35, 7, 5)
	loss := b.op(total{1}, b.add(b.op(times{}, s, c), b.view(b.op(sine, c2), 0, 5, 7)))
	gs := b.grad(nil, loss, x)
	prog := b.compile(Options{}, gs...)
	for _, s := range prog.steps {
		require.NotEqual(t, "join", s.name)
	}
	finite(b, loss, Nodes{x}, gs)
}

// TestSumsOfSums: a value that is doubled fifty times over is looked at once, not 2^50 times.
func TestSumsOfSums(t *testing.T) {
	b := newBuild(t, tensor.Float64)
	x := b.input(5, 7)
	y := b.view(b.op(both{}, x), 0, 5, 7)
	for range 50 {
		var err error
		y, err = Add(y, y)
		require.NoError(t, err)
	}
	loss := b.op(total{1}, y)
	p := b.compile(Options{}, b.grad(nil, loss, x)...)
	b.run(p)
}

// A parameter read in slices gets one gradient, put together without additions.
func TestSlicedParameterIsJoined(t *testing.T) {
	b := newBuild(t, tensor.Float64)
	x := b.input(3, 16)
	a, c := b.view(x, 0, 1, 16), b.view(x, 32, 1, 16)
	loss := b.op(total{1}, b.op(times{}, b.op(sine, a), b.op(tanh, c)))
	gs := b.grad(nil, loss, x)
	prog := b.compile(Options{}, gs...)
	joins := 0
	for _, s := range prog.steps {
		require.NotEqual(t, "add", s.name)
		if s.name == "join" {
			joins++
			for _, k := range s.kids {
				r, _ := root(prog.bufs, prog.steps[k].buf)
				require.Equal(t, s.buf, r, "parts are computed in place")
			}
		}
	}
	require.Equal(t, 1, joins)
	finite(b, loss, Nodes{x}, gs)
}
