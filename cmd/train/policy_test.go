package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// A model that chooses is evaluated with its likeliest edges, and by chance; the samples differ, and are the same when asked again.
func TestEvalSamples(t *testing.T) {
	t.Chdir(t.TempDir())
	fit := euryale(t, "fit", "--recipe", "sac-pointer", "--smoke", "--json", "--run", "a").ok(t)
	rewarded := 0
	for _, e := range fit.events(t) {
		if p, ok := e["policy"].(map[string]any); ok {
			rewarded++
			require.Negative(t, p["reward"])
			require.Positive(t, p["entropy"])
		}
	}
	require.Equal(t, 2, rewarded, "two steps on all pairs, two on edges of its own")
	e := euryale(t, "eval", "a", "--samples", "3", "--json").ok(t).last(t)
	samples := e["samples"].([]any)
	require.Len(t, samples, 3)
	require.NotEqual(t, samples[0], samples[1])
	require.Equal(t, samples, euryale(t, "eval", "a", "--samples", "3", "--json").ok(t).last(t)["samples"])
	require.NotContains(t, euryale(t, "eval", "a", "--json").ok(t).last(t), "samples")
	require.Contains(t, euryale(t, "eval", "a", "--samples", "2").ok(t).stdout+euryale(t, "eval", "a", "--samples", "2").ok(t).stderr, "mean of 2: loss")

	euryale(t, "fit", "--recipe", "sac-pointer:full", "--smoke", "--json", "--run", "b").ok(t)
	for _, bad := range [][]string{{"eval", "b", "--samples", "2"}, {"eval", "a", "--samples", "-1"}, {"eval", "a", "--samples", "257"}} {
		r := euryale(t, bad...)
		require.Equal(t, 2, r.code, bad)
		require.Contains(t, r.stderr, "--samples", bad)
	}
}
