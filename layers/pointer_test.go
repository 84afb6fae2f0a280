package layers

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
)

// TestPointerIsACrossEntropy: each column is the cross entropy of the tokens that are there.
func TestPointerIsACrossEntropy(t *testing.T) {
	const n, length, ends = 3, 7, 2
	lens, targets := []int32{7, 4, 1}, []int32{6, 0, 3, -1, 0, 0}
	logits := make([]float64, n*length*ends)
	for i := range logits {
		logits[i] = 3 * math.Sin(float64(i*i))
	}
	b := New(gorgonia.NewGraph(), NewParams(tensor.Float64), Options{})
	x := b.Const("logits", tensor.New(tensor.WithShape(n, length, ends), tensor.WithBacking(logits)))
	y := b.Input("targets", tensor.Int32, n, ends)
	z := b.Input("lens", tensor.Int32, n)
	rows := PointerRows(b, x, y, z)
	require.NoError(t, b.Err())
	p, err := engine.Compile(b.Graph(), Nodes{rows}, engine.Options{})
	require.NoError(t, err)
	copy(InputValue(y).Int32s(), targets)
	copy(InputValue(z).Int32s(), lens)
	require.NoError(t, p.Run())
	for r, got := range engine.Floats[float64](p.Value(rows)) {
		if targets[r] < 0 {
			require.Zero(t, got)
			continue
		}
		sum := 0.0
		for k := range int(lens[r/ends]) {
			sum += math.Exp(logits[(r/ends*length+k)*ends+r%ends])
		}
		require.InDelta(t, math.Log(sum)-logits[(r/ends*length+int(targets[r]))*ends+r%ends], got, 1e-12)
	}
	InputValue(y).Int32s()[2] = 4
	require.ErrorContains(t, p.Run(), "target 4 at index 2, want below 4", "a token of padding")

	for _, bad := range [][]int{{n, ends + 1}, {n + 1, ends}, {n * ends}} {
		b := New(gorgonia.NewGraph(), NewParams(tensor.Float64), Options{})
		PointerRows(b, b.Input("x", tensor.Float64, n, length, ends), b.Input("y", tensor.Int32, bad...), nil)
		require.Error(t, b.Err(), bad)
	}
}
