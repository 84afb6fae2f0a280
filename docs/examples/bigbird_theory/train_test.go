package bigbird_theory

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/euryale-ml/euryale/layers/attention"
)

// The training runs; what comes of it says the slow test.
func TestTrainFinder(t *testing.T) {
	right, err := TrainFinder(attention.Full{}, 1, 3)
	require.NoError(t, err)
	require.Greater(t, right, 0.01)
	require.Less(t, right, 0.3)
}

// Every set has the labels of its furthest vectors, and sets of other seeds are others.
func TestDraw(t *testing.T) {
	const c = numbers + labels
	x, y := make([]float32, vectors*c), make([]float32, vectors*c)
	right, other := make([]int32, vectors), make([]int32, vectors)
	draw(5, x, right)
	draw(6, y, other)
	require.NotEqual(t, x, y)
	seen := map[int32]bool{}
	for i, j := range Furthest(Unit(vectors, numbers, 5), vectors, numbers) {
		require.Equal(t, float32(1), x[j*c+numbers+int(right[i])])
		seen[right[i]] = true
	}
	require.Greater(t, len(seen), 5)
}
