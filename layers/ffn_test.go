package layers

import (
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/kernels"
)

// TestFeedForwardByRows: groups of rows give the bits of all rows at once, and of their gradient, whether with gates, residuals and dropout or without; the
// gradients of the weights are the same but for rounding. What lies between the layers is then only there for a group at a time.
func TestFeedForwardByRows(t *testing.T) {
	const batch, length, width = 3, 131, 29
	for _, c := range []FeedForwardConfig{
		{Hidden: 67, Act: kernels.GELU},
		{Hidden: 67, Act: kernels.ReLU, Dropout: 0.3, NoBias: true, InOut: true},
		{Hidden: 67, Act: kernels.SiLU, Gate: "gate"},
	} {
		for _, dtype := range []tensor.Dtype{tensor.Float32, tensor.Float64} {
			run := func(rows int, residual, reversible bool) (all [][]float64, passing int) {
				b := New(gorgonia.NewGraph(), NewParams(dtype), Options{Seed: 3, Training: true})
				x, dy := b.Input("x", dtype, batch, length, width), b.Input("dy", dtype, batch, length, width)
				for _, n := range []*Node{x, dy} {
					draw := Normal(1)(n.Name(), n.Shape(), 5)
					for i := range n.Shape().TotalSize() {
						if dtype == tensor.Float32 {
							InputValue(n).Float32s()[i] = float32(draw(i))
						} else {
							InputValue(n).Float64s()[i] = draw(i)
						}
					}
				}
				c := c
				c.Rows, c.Init = rows, Normal(0.3)
				if residual {
					c.Residual = x
				}
				y := x
				if reversible {
					branch := func(x *Node) *Node { return FeedForward(b, x, c) }
					y1, y2, err := engine.Reversible(x, x, engine.ReversibleBlock{F: branch, G: branch})
					require.NoError(t, err)
					y = Add(b, y1, y2)
				} else {
					y = FeedForward(b, x, c)
				}
				require.NoError(t, b.Err())
				_, wrt := b.Weights()
				r := &engine.Recompute{}
				if b.Blocks() {
					r.Block = b.BlockOf
				}
				gs, err := engine.VJP(Nodes{y}, Nodes{dy}, append(Nodes{x}, wrt...), r)
				require.NoError(t, err)
				p, err := engine.Compile(b.Graph(), append(Nodes{y}, gs...), engine.Options{Poison: true, CheckFinite: true})
				require.NoError(t, err)
				require.NoError(t, p.Run())
				for _, n := range append(Nodes{y}, gs...) {
					var f []float64
					if dtype == tensor.Float32 {
						for _, v := range engine.Floats[float32](p.Value(n)) {
							f = append(f, float64(v))
						}
					} else {
						f = append(f, engine.Floats[float64](p.Value(n))...)
					}
					all = append(all, f)
				}
				return all, p.Plan().Passing
			}
			for _, residual := range []bool{false, true} {
				want, whole := run(0, residual, false)
				for _, rows := range []int{1, 64, 70, 196} { // 1 is too few: it is 64
					got, passing := run(rows, residual, false)
					require.Equal(t, want[0], got[0], "%d rows", rows)
					if !residual && c.Gate == "" { // else the terms of the gradient are added up in another order
						require.Equal(t, want[1], got[1], "%d rows", rows)
					}
					for i := range want {
						require.InDeltaSlice(t, want[i], got[i], 2e-3)
						if dtype == tensor.Float64 {
							require.InDeltaSlice(t, want[i], got[i], 1e-11)
						}
					}
					require.Less(t, passing, whole)
				}
				got, _ := run(197, residual, false)
				require.Equal(t, want, got, "one group is all")
			}
			if dtype == tensor.Float64 {
				want, whole := run(0, false, true)
				got, passing := run(64, false, true)
				for i := range want {
					require.InDeltaSlice(t, want[i], got[i], 1e-10)
				}
				require.Less(t, passing, whole)
			}
		}
	}
}
