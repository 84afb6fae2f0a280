package attention

import (
	"encoding/json"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func parse(t require.TestingT, s string) Pattern {
	p, err := Parse(s)
	require.NoError(t, err, s)
	return p
}

// The table of spec "Graph statistics": n = 64; path 0 stands for never.
func TestStatsOfTable(t *testing.T) {
	for _, c := range []struct {
		pattern  string
		nnz      int64
		min, max int
		path     int
		gap      float64
	}{
		{"full", 4096, 64, 64, 1, 1},
		{"causal(full)", 2080, 1, 64, 1, 1},
		{"band(4,4)", 556, 5, 9, 16, 0.0086},
		{"band(7,0)", 484, 1, 8, 9, 0.0251},
		{"causal(band(7,3))", 484, 1, 8, 9, 0.0251},
		{"dilated(4,4,4)", 496, 5, 9, 0, 0},
		{"dilated(7,0,4)", 400, 1, 8, 0, 0},
		{"blocks(8)", 512, 8, 8, 0, 0},
		{"causal(blocks(8))", 288, 1, 8, 0, 0},
		{"blocks(8,4)", 960, 12, 16, 8, 0.0444},
		{"global(0) + band(4,4)", 674, 6, 64, 2, 0.1134},
	} {
		s := Measure(parse(t, c.pattern), 64)
		require.Equal(t, c.nnz, s.NNZ, c.pattern)
		require.Equal(t, c.min, s.MinRow, c.pattern)
		require.Equal(t, c.max, s.MaxRow, c.pattern)
		if c.path == 0 {
			require.Nil(t, s.MaxPath, c.pattern)
		} else {
			require.NotNil(t, s.MaxPath, c.pattern)
			require.Equal(t, c.path, *s.MaxPath, c.pattern)
		}
		require.InDelta(t, c.gap, s.SpectralGap, 1e-4, c.pattern)
	}
	require.Equal(t, 484.0/2080, Measure(parse(t, "band(7,0)"), 64).Density)
	require.Equal(t, 556.0/4096, Measure(parse(t, "band(4,4)"), 64).Density)
}

func TestStatsJSON(t *testing.T) {
	b, err := json.Marshal(Measure(parse(t, "blocks(8)"), 16))
	require.NoError(t, err)
	require.JSONEq(t, `{"length":16,"nodes":16,"nnz":128,"density":0.5,"min_row":8,"max_row":8,"max_path":null,"strongly_connected":false,"spectral_gap":0}`, string(b))
	for n := range 3 {
		s := Measure(Full{}, n)
		require.False(t, math.IsNaN(s.Density+s.SpectralGap))
		require.NotNil(t, s.MaxPath)
	}
}

func TestStatsOfHeads(t *testing.T) {
	s := Measure(parse(t, "heads(blocks(8); dilated(9,9,7))"), 64)
	a, b := Measure(parse(t, "blocks(8)"), 64), Measure(parse(t, "dilated(9,9,7)"), 64)
	require.Equal(t, a.NNZ+b.NNZ, s.NNZ)
	require.InDelta(t, (a.Density+b.Density)/2, s.Density, 1e-15)
	require.Nil(t, a.MaxPath)
	require.Nil(t, b.MaxPath)
	require.NotNil(t, s.MaxPath) // together they join everything
	require.Greater(t, s.SpectralGap, 0.0)
}

// Paths against powers of the boolean matrix.
func TestMaxPathByPowers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := drawHeads(t)
		n := rapid.SampledFrom([]int{1, 2, 3, 5, 8, 13, 29}).Draw(t, "n")
		isCausal := IsCausal(p, n)
		step := make([]bool, n*n)
		for i := range n {
			for j := range n {
				step[i*n+j] = i == j
				for h := range p.Heads() {
					step[i*n+j] = step[i*n+j] || p.Sees(h, i, j, n)
				}
			}
		}
		reach := make([]bool, n*n)
		for i := range n {
			reach[i*n+i] = true
		}
		want := -1
		for l := range n + 1 {
			all := true
			for i := range n {
				for j := range n {
					all = all && (reach[i*n+j] || isCausal && j > i)
				}
			}
			if all {
				want = l
				break
			}
			next := make([]bool, n*n)
			for i := range n {
				for k := range n {
					if step[i*n+k] {
						for j := range n {
							next[i*n+j] = next[i*n+j] || reach[k*n+j]
						}
					}
				}
			}
			reach = next
		}
		s := Measure(p, n)
		for k := range n { // closure
			for i := range n {
				for j := range n {
					step[i*n+j] = step[i*n+j] || step[i*n+k] && step[k*n+j]
				}
			}
		}
		require.Equal(t, !slices.Contains(step, false), s.StronglyConnected, "%s n=%d", p, n)
		if want < 0 {
			require.Nil(t, s.MaxPath, "%s n=%d", p, n)
			return
		}
		require.NotNil(t, s.MaxPath, "%s n=%d", p, n)
		require.Equal(t, want, *s.MaxPath, "%s n=%d", p, n)
	})
}

func TestLanczosEqualsDense(t *testing.T) {
	for _, s := range []string{"band(4,4)", "band(31,0)", "global(0,77)+dilated(3,3,5)", "full", "causal(blocks(40,16))", "blocks(16,8)"} {
		p := parse(t, s)
		want := denseGap(p, 211)
		require.InEpsilon(t, want, lanczosGap(p, 211), 1e-3, s)
	}
}

func TestLongStatsAreQuick(t *testing.T) {
	begin := time.Now()
	s := Measure(parse(t, "causal(band(255,255))"), 16384)
	require.Equal(t, 65, *s.MaxPath)
	require.Equal(t, int64(16384*256-255*256/2), s.NNZ)
	require.Less(t, time.Since(begin), 20*time.Second)
	t.Log(time.Since(begin), s.SpectralGap)
}

func TestMask(t *testing.T) {
	p := parse(t, "heads(band(2,1); blocks(3))")
	m := Mask(p, 2, 7)
	for h := range 2 {
		for i := range 7 {
			for j := range 7 {
				require.Equal(t, p.Sees(h, i, j, 7), m[(h*7+i)*7+j] == 1)
			}
		}
	}
}
