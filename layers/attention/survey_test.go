package attention

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// The table of Vaswani et al., counted: T=64 and K=4 give 21 layers of a convolution, 3 if they are dilated.
func TestSurvey(t *testing.T) {
	rows, err := Survey()
	require.NoError(t, err)
	want := []LayerCost{
		{Complexity: "T^2 D", Sequential: []float64{1, 1, 1}, MaxPath: []int{1, 1, 1}},
		{Complexity: "T^2 D^2", Sequential: []float64{1, 1, 1}, MaxPath: []int{1, 1, 1}},
		{Complexity: "T D^2", Sequential: []float64{1, 1, 1}, MaxPath: []int{5, 21, 85}},
		{Complexity: "T D^2", Sequential: []float64{1, 1, 1}, MaxPath: []int{2, 3, 4}},
		{Complexity: "T D^2", MaxPath: []int{15, 63, 255}},
	}
	require.Len(t, rows, len(want))
	for i, w := range want {
		got := rows[i]
		require.Equal(t, w.Complexity, got.Complexity, got.Layer)
		require.Equal(t, w.MaxPath, got.MaxPath, got.Layer)
		require.InDelta(t, 1, got.ExponentT/float64(int(got.ExponentT+0.5)), 0.03, got.Layer)
		require.InDelta(t, 1, got.ExponentD/float64(int(got.ExponentD+0.5)), 0.03, got.Layer)
		if w.Sequential != nil {
			require.Equal(t, w.Sequential, got.Sequential, got.Layer)
		}
	}
	steps := rows[4].Sequential // grows with T
	require.InDelta(t, 4, steps[1]/steps[0], 0.3)
	require.InDelta(t, 4, steps[2]/steps[1], 0.1)
}
