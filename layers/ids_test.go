package layers

import (
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
)

// TestCountedPositions: padding inside and behind the tokens has position pad, the others count on.
func TestCountedPositions(t *testing.T) {
	for _, c := range []struct {
		lens, want []int32
	}{
		{nil, []int32{2, 1, 3, 4, 1, 1, 2, 3, 4, 5}},
		{[]int32{3, 5}, []int32{2, 1, 3, 1, 1, 1, 2, 3, 4, 5}},
	} {
		b := New(gorgonia.NewGraph(), NewParams(tensor.Float64), Options{})
		ids := b.Input("ids", tensor.Int32, 2, 5)
		copy(InputValue(ids).Int32s(), []int32{9, 1, 8, 7, 1, 1, 5, 5, 6, 0})
		var lens *Node
		if c.lens != nil {
			lens = b.Input("lens", tensor.Int32, 2)
			copy(InputValue(lens).Int32s(), c.lens)
		}
		y := CountedPositions(b, ids, lens, 1)
		z := Plus(b, y, -3)
		require.NoError(t, b.Err())
		p, err := engine.Compile(b.Graph(), Nodes{y, z}, engine.Options{})
		require.NoError(t, err)
		require.NoError(t, p.Run())
		require.Equal(t, c.want, engine.Ints(p.Value(y)))
		for i, v := range c.want {
			require.Equal(t, v-3, engine.Ints(p.Value(z))[i])
		}
	}
}

// TestFrozenRow: a frozen row is read as any other and gets no gradient; the others get theirs.
func TestFrozenRow(t *testing.T) {
	const v, c = 7, 3
	b := New(gorgonia.NewGraph(), NewParams(tensor.Float64), Options{})
	ids := b.Input("ids", tensor.Int32, 2, 4)
	copy(InputValue(ids).Int32s(), []int32{2, 5, 2, 6, 6, 2, 5, 0})
	table, places := b.Param("table", Normal(1), v, c), b.Param("places", Normal(1), v, c)
	for _, of := range []struct{ y, table *Node }{
		{LookupFrozen(b, table, ids, 2), table},
		{AddPositions(b, Lookup(b, table, ids), places, PositionConfig{IDs: ids, Frozen: 3}), places},
	} {
		y := of.y
		require.NoError(t, b.Err())
		grads, err := engine.VJP(Nodes{y}, Nodes{engine.Fill(b.Graph(), engine.TypeOf(y), 1)}, Nodes{of.table}, nil)
		require.NoError(t, err)
		p, err := engine.Compile(b.Graph(), Nodes{y, grads[0]}, engine.Options{})
		require.NoError(t, err)
		require.NoError(t, p.Run())
		g := engine.Floats[float64](p.Value(grads[0]))
		for row, want := range []float64{1, 0, 0, 0, 0, 2, 2} {
			for k := range c {
				require.Equal(t, want, g[row*c+k], "row %d", row)
			}
		}
		require.NotZero(t, engine.Floats[float64](p.Value(y))[0])
	}
}
