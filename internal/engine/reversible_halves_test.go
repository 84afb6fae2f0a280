package engine

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/tensor"
)

// halves are n branches over two streams, reversible with anchors or stored (anchors < 0). With share each third has the weight of the one before.
func halves(b *build, n, rows, width, anchors int, share bool) (loss *Node, wrt Nodes) {
	x1, x2 := b.input(rows, width), b.input(rows, width)
	wrt = Nodes{x1, x2}
	var all []Branch
	var w *Node
	for i := range n {
		if !share || i%3 != 2 {
			w = b.input(width, width)
			wrt = append(wrt, w)
		}
		w := w
		all = append(all, func(x *Node) *Node {
			return b.op(noise{uint64(i)}, b.op(mat{}, b.op(tanh, b.op(mat{}, b.op(cheap{sine}, x), w)), w))
		})
	}
	y := [2]*Node{x1, x2}
	if anchors < 0 {
		for i, h := range all {
			y[i%2] = b.add(y[i%2], h(y[1-i%2]))
		}
	} else {
		var err error
		y[0], y[1], err = ReversibleHalves(x1, x2, anchors, all...)
		require.NoError(b.t, err)
	}
	return b.op(total{0.1}, b.op(times{}, b.op(tanh, y[0]), y[1])), wrt
}

// TestReversibleHalves: any number of halves, and anchors at any distance, have the gradients of what stores everything; with an anchor after every
// half or block to the bit, unless they share weights, whose gradients are added up in another order.
func TestReversibleHalves(t *testing.T) {
	for k, n := range []int{1, 2, 7, 8, 7, 8} {
		share := k >= 4
		var want [][]float64
		for _, anchors := range []int{-1, 0, 1, 2, 3, 4, 100} {
			b := newBuild(t, tensor.Float64)
			loss, wrt := halves(b, n, 5, 7, anchors, share)
			gs := b.grad(nil, loss, wrt...)
			p := b.compile(Options{Poison: true}, append(Nodes{loss}, gs...)...)
			b.run(p)
			for i, g := range append(Nodes{loss}, gs...) {
				switch {
				case anchors < 0:
					want = append(want, elements(p.Value(g)))
				case !share && (anchors == 1 || anchors == 2 && n%2 == 0):
					require.Equal(t, want[i], elements(p.Value(g)), "%d halves, anchors %d, output %d", n, anchors, i)
				default:
					require.InDeltaSlice(t, want[i], elements(p.Value(g)), 1e-11, "%d halves, anchors %d, output %d", n, anchors, i)
				}
			}
			if anchors == 1 && n <= 2 {
				finite(b, loss, wrt, gs)
			}
		}
	}
}

// TestAnchorsMemory: each anchor holds two streams, nothing else.
func TestAnchorsMemory(t *testing.T) {
	const rows, width, depth = 64, 16, 24
	held := map[int]int{}
	for _, anchors := range []int{0, 8, 4, 2} {
		b := newBuild(t, tensor.Float32)
		loss, wrt := halves(b, depth, rows, width, anchors, false)
		p := b.compile(Options{}, append(Nodes{loss}, b.grad(nil, loss, wrt...)...)...)
		held[anchors] = p.Plan().Live
	}
	const stream = rows * width * 4
	for anchors, n := range map[int]int{8: 2, 4: 5, 2: 11} {
		require.LessOrEqual(t, held[anchors]-held[0], 2*n*stream, "anchors %d", anchors)
	}
	// Not all of them are there when gradients of weights are most.
	require.True(t, held[8] < held[4] && held[4] < held[2] && held[2]-held[0] > 11*stream, "%v", held)
}

// TestReversibleByHand: F(x) = 2x, G(x) = 3x, both streams and both gradients 1.
func TestReversibleByHand(t *testing.T) {
	times := func(b *build, k float64) Branch {
		return func(x *Node) *Node {
			return b.op(curve{func(x float64) float64 { return k * x }, func(float64) float64 { return k }}, x)
		}
	}
	b := newBuild(t, tensor.Float64)
	x1, x2, d := b.input(1), b.input(1), b.input(1)
	for _, n := range []*Node{x1, x2, d} {
		put(n.Value(), 0, 1)
	}
	y1, y2, err := Reversible(x1, x2, ReversibleBlock{times(b, 2), times(b, 3)})
	require.NoError(t, err)
	r1, r2, err := Inverse(y1)
	require.NoError(t, err)
	gs, err := VJP(Nodes{y1, y2}, Nodes{d, d}, Nodes{x1, x2}, nil)
	require.NoError(t, err)
	p := b.compile(Options{Poison: true}, append(Nodes{y1, y2, r1, r2}, gs...)...)
	b.run(p)
	var got []float64
	for _, n := range append(Nodes{y1, y2, r1, r2}, gs...) {
		got = append(got, at(p.Value(n), 0))
	}
	require.Equal(t, []float64{3, 10, 1, 1, 4, 9}, got)
	_, _, err = Inverse(x1)
	require.ErrorContains(t, err, "no stream of a reversible stack")
}

// TestCheckpointsByHand: of 9 layers in blocks of 3 three inputs are stored, one of them that of the graph, and at most three activations of a
// block beside them.
func TestCheckpointsByHand(t *testing.T) {
	const size = 1 << 10
	peak := func(blocks bool) int {
		b := newBuild(t, tensor.Float32)
		x := b.input(size)
		in := map[*Node]int{}
		h := b.op(noise{}, x) // so that the first input is stored, too
		for l := range 9 {
			h = b.op(sine, h)
			in[h] = l/3 + 1
		}
		r := &Recompute{}
		if blocks {
			r.Block = func(n *Node) int { return in[n] }
		}
		dh := b.input(size)
		gs, err := VJP(Nodes{h}, Nodes{dh}, Nodes{x}, r)
		require.NoError(t, err)
		return b.compile(Options{Poison: true}, gs...).Plan().Live / (4 * size)
	}
	require.Equal(t, 9+1, peak(false), "and a gradient")
	require.LessOrEqual(t, peak(true), 3+3+1)
}

// TestReversibleDrift: streams that are computed back through L blocks are off by rounding, linearly in depth.
func TestReversibleDrift(t *testing.T) {
	const rows, width = 16, 64
	for _, depth := range []int{6, 24, 96} {
		b := newBuild(t, tensor.Float32)
		x1, x2 := b.input(rows, width), b.input(rows, width)
		var blocks []ReversibleBlock
		for range depth {
			mlp := func(x *Node) *Node {
				w, u := b.input(width, width), b.input(width, width)
				for _, n := range []*Node{w, u} {
					for i := range width * width {
						put(n.Value(), i, at(n.Value(), i)/math.Sqrt(width))
					}
				}
				return b.op(mat{}, b.op(tanh, b.op(mat{}, b.op(sine, x), w)), u) // bounded, as by a norm before
			}
			blocks = append(blocks, ReversibleBlock{mlp, mlp})
		}
		y1, _, err := Reversible(x1, x2, blocks...)
		require.NoError(t, err)
		r1, r2, err := Inverse(y1)
		require.NoError(t, err)
		p := b.compile(Options{}, r1, r2)
		b.run(p)
		worst, top := 0.0, 0.0
		for k, x := range []*Node{x1, x2} {
			for i, v := range elements(x.Value()) {
				worst, top = max(worst, math.Abs(v-at(p.Value([]*Node{r1, r2}[k]), i))), max(top, math.Abs(v))
			}
		}
		require.Less(t, worst/top, 1e-6*float64(depth)*10)
		t.Logf("%d layers: %.2g", depth, worst/top)
		require.Positive(t, worst, "it is computed back")
	}
}

// TestReversibleMemoryOfChoices: what is chosen is kept, 4 bytes each, and grows with depth; besides it and the gradients of weights nothing does.
func TestReversibleMemoryOfChoices(t *testing.T) {
	const rows, width = 64, 16
	plan := func(depth int) *Plan {
		b := newBuild(t, tensor.Float32)
		x1, x2 := b.input(rows, width), b.input(rows, width)
		wrt := Nodes{x1, x2}
		var all []Branch
		for range depth {
			w := b.input(width, width)
			wrt = append(wrt, w)
			all = append(all, func(x *Node) *Node {
				h := b.op(mat{}, x, w)
				return b.op(flip{}, h, b.op(sign{}, h))
			})
		}
		y1, y2, err := ReversibleHalves(x1, x2, 0, all...)
		require.NoError(t, err)
		gs := b.grad(nil, b.op(total{1}, b.op(times{}, y1, y2)), wrt...)
		return b.compile(Options{}, gs...).Plan()
	}
	few, many := plan(4), plan(32)
	require.Equal(t, 4*4*rows*width, few.Whole)
	require.Equal(t, 32*4*rows*width, many.Whole)
	require.Equal(t, few.Passing, many.Passing)
	require.Equal(t, (32*width*width+2*rows*width)*4, many.Outputs)
}

// TestReversibleMemoryOfAMemory: what a branch makes of something else than its stream, keys of an encoder's output, say, is computed again as well, and
// the gradients of that something are added up layer by layer.
func TestReversibleMemoryOfAMemory(t *testing.T) {
	const rows, width = 64, 16
	run := func(depth int, dtype tensor.Dtype, stored bool) (values [][]float64, passing int) {
		b := newBuild(t, dtype)
		x1, x2, memory := b.input(rows, width), b.input(rows, width), b.op(tanh, b.input(rows, width))
		wrt := Nodes{x1, x2, memory}
		var all []Branch
		for range depth {
			w, u := b.input(width, width), b.input(width, width)
			for _, n := range []*Node{w, u} {
				for i := range width * width {
					put(n.Value(), i, at(n.Value(), i)/width)
				}
			}
			wrt = append(wrt, w, u)
			all = append(all, func(x *Node) *Node {
				keys := b.op(tanh, b.op(mat{}, memory, u))
				return b.op(times{}, b.op(mat{}, x, w), b.op(sine, keys))
			})
		}
		y := [2]*Node{x1, x2}
		if stored {
			for i, h := range all {
				y[i%2] = b.add(y[i%2], h(y[1-i%2]))
			}
		} else {
			var err error
			y[0], y[1], err = ReversibleHalves(x1, x2, 0, all...)
			require.NoError(t, err)
		}
		gs := b.grad(nil, b.op(total{1}, b.op(times{}, y[0], y[1])), wrt...)
		p := b.compile(Options{Poison: true}, gs...)
		b.run(p)
		for _, g := range gs {
			values = append(values, elements(p.Value(g)))
		}
		return values, p.Plan().Passing
	}
	want, _ := run(6, tensor.Float64, true)
	got, _ := run(6, tensor.Float64, false)
	for i := range want {
		require.InDeltaSlice(t, want[i], got[i], 1e-11)
	}
	_, few := run(4, tensor.Float32, false)
	_, many := run(32, tensor.Float32, false)
	require.Equal(t, few, many)
}
