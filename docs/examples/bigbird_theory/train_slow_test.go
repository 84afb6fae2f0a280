//go:build slow

package bigbird_theory

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/euryale-ml/euryale/layers/attention"
)

// What is learnt: one dense layer tells the label of the furthest vector (97 %). BigBird tells it where that is among the keys of its
// first layer, and guesses elsewhere (46 %), in one, two and four layers alike: more layers would have to carry all vectors along.
func TestTrainedFinders(t *testing.T) {
	const steps = 800
	train := func(pattern string, depth int) float64 {
		p, err := attention.Parse(pattern)
		require.NoError(t, err)
		right, err := TrainFinder(p, depth, steps)
		require.NoError(t, err)
		t.Logf("%s, %d layers: %.1f %%", pattern, depth, 100*right)
		return right
	}
	require.Greater(t, train("full", 1), 0.9)
	for _, depth := range []int{1, 2, 4} {
		right := train("big-bird(4,1,0)", depth)
		require.Greater(t, right, 0.40)
		require.Less(t, right, 0.60)
	}
}
