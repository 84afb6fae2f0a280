package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestSweepOfPixels measures the systems of images in small: square ones.
func TestSweepOfPixels(t *testing.T) {
	events := euryale(t, "bench", "--sweep", "--pixels", "--length", "1024", "--steps", "1", "--json").ok(t).events(t)
	require.Len(t, events, 6*len(sweptPixels)+1)
	for k, s := range sweptPixels {
		for i, n := range []float64{64, 144, 256, 576, 1024} {
			e := events[6*k+i]
			require.Equal(t, []any{s.name, n}, []any{e["system"], e["T"]})
			require.Positive(t, e["attention_gflop"], s.name)
		}
		require.Equal(t, s.claim, events[6*k+5]["claim"])
	}
	require.Equal(t, []int{4096, 9216, 16384, 36864, 65536}, pixelsUpTo(65536))
	require.Equal(t, 2, euryale(t, "bench", "--pixels").code)
	require.Equal(t, 2, euryale(t, "bench", "--sweep", "--variant", "band", "--pixels").code)
}
