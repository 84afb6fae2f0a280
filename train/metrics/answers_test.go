package metrics

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAnswers(t *testing.T) {
	for _, c := range []struct {
		given     string
		right     []string
		exact, f1 float64
	}{
		{"The  Whale!", []string{"whale"}, 1, 1},
		{"white whale", []string{"the whale", "a white, white whale"}, 0, 0.8},
		{"whale whale", []string{"whale"}, 0, 2.0 / 3},
		{"sea", []string{"whale"}, 0, 0},
		{"", nil, 1, 1},
		{"sea", nil, 0, 0},
		{"", []string{"sea"}, 0, 0},
		{"Zürich", []string{"zürich."}, 1, 1},
	} {
		var a Answers
		a.Add(c.given, c.right)
		require.Equal(t, c.exact, a.ExactMatch(), c.given)
		require.InDelta(t, c.f1, a.F1(), 1e-12, c.given)
	}
	var a Answers
	a.Add("sea", []string{"sea"})
	a.Add("sea", []string{"whale"})
	require.Equal(t, 0.5, a.ExactMatch())
	require.Equal(t, 2, a.Count())
}
