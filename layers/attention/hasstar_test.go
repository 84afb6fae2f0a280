package attention

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestHasStar(t *testing.T) {
	for s, want := range map[string]int{
		"full": 0, "big-bird(4,0,0)": 0, "band(2,2) + global(11)": 11, "external(2) + big-bird-window(4,1,3)": 0, "star": 0,
		"band(22,22)": 0, "band(14,14)": 8, "heads(global(5) & band(9,9); full & global(5))": 5,
		"band(9,9)": -1, "big-bird-window(4,2,1)": -1, "causal(full)": -1, "causal(big-bird(4,1,0))": -1, "strided(4)": -1,
	} {
		center, ok := HasStar(parse(t, s), 23)
		require.Equal(t, want, center, s)
		require.Equal(t, want >= 0, ok, s)
		if ok {
			require.LessOrEqual(t, *Measure(parse(t, s), 23-spaceOf(parse(t, s)).front).MaxPath, 2, s)
		}
	}
	_, ok := HasStar(Full{}, 0)
	require.False(t, ok)
}
