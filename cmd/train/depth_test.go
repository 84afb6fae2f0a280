package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestDepth: what passes through a reversible step does not grow with depth, and everything kept does.
func TestDepth(t *testing.T) {
	lines := euryale(t, "bench", "--depth", "--json", "--variant", "band", "--length", "53", "--window", "7", "--steps", "1", "--vocab", "16", "--set", "model.hidden_size=16",
		"--set", "model.intermediate_size=40").ok(t).events(t)
	require.Len(t, lines, len(depths)*len(memories)+1)
	for _, l := range lines[:len(lines)-1] {
		require.Equal(t, 53.0, l["T"])
		require.Positive(t, l["passing_mb"])
		require.Positive(t, l["outputs_mb"])
		require.Zero(t, l["chosen_mb"])
		require.Equal(t, l["memory"] == "reversible" || l["memory"] == "reversible every:c", l["residual"] == "reversible")
		if l["memory"] == "none" {
			require.Equal(t, 1.0, l["time_ratio"])
		}
	}
	require.Equal(t, "every:6", lines[len(lines)-2]["recompute"], "the root of 32")
	done := lines[len(lines)-1]
	growth, slope := done["growth"].(map[string]any), done["slope_to_all"].(map[string]any)
	require.LessOrEqual(t, growth["reversible"], 1.05)
	require.Less(t, slope["reversible"], 0.05)
	require.Greater(t, growth["none"], 5.0)
	require.Less(t, slope["block"], slope["cheap"])
	require.Less(t, slope["cheap"], 1.0)
	require.Equal(t, 2, euryale(t, "bench", "--depth", "--sweep").code)
	require.Equal(t, 2, euryale(t, "bench", "--depth", "--variant", "longformer").code, "those of Hugging Face are plain")
}
