package layers

import (
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
)

// By hand: position 5 of axes 2 and 3 has the vectors 1 and 2; tokens may start later, and gradients add up by axis.
func TestAxialPositions(t *testing.T) {
	params := NewParams(tensor.Float64)
	b := New(gorgonia.NewGraph(), params, Options{})
	e := AxialPositions(b, AxialConfig{Shape: []int{2, 3}, Widths: []int{1, 2}, First: 1, Count: 5, Init: Normal(1)})
	require.NoError(t, b.Err())
	_, weights := b.Weights()
	grads, err := engine.VJP(Nodes{e}, Nodes{engine.Fill(b.Graph(), engine.TypeOf(e), 1)}, weights, nil)
	require.NoError(t, err)
	p, err := engine.Compile(b.Graph(), append(Nodes{e}, grads...), engine.Options{})
	require.NoError(t, err)
	require.NoError(t, p.Run())
	first, second := InputValue(weights[0]).Float64s(), InputValue(weights[1]).Float64s()
	require.Equal(t, tensor.Shape{2, 1, 1}, weights[0].Shape())
	require.Equal(t, tensor.Shape{1, 3, 2}, weights[1].Shape())
	y := engine.Floats[float64](p.Value(e))
	require.Len(t, y, 15)
	require.Equal(t, []float64{first[1], second[4], second[5]}, y[12:], "position 5")
	require.Equal(t, []float64{first[0], second[2], second[3]}, y[:3], "position 1")
	require.Equal(t, []float64{2, 3}, engine.Floats[float64](p.Value(grads[0])))
	require.Equal(t, []float64{1, 1, 2, 2, 2, 2}, engine.Floats[float64](p.Value(grads[1])))

	for _, c := range []AxialConfig{{Shape: []int{2, 3}, Widths: []int{4, 4}, First: 2, Count: 5}, {Shape: []int{2, 3}, Widths: []int{4}, Count: 1}, {Count: 1}} {
		b := New(gorgonia.NewGraph(), NewParams(tensor.Float64), Options{})
		require.Nil(t, AxialPositions(b, c))
		require.ErrorContains(t, b.Err(), "axial positions")
	}
}
