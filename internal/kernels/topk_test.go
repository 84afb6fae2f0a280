package kernels

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// topReference sorts all scores.
func topReference(a *TopK[float64]) []int32 {
	var out []int32
	for at := range a.B * a.H * a.TQ {
		b, h, i := at/a.TQ/a.H, at/a.TQ%a.H, at%a.TQ
		var keys []int32
		score := make([]float64, a.TK)
		for j := range a.TK {
			if a.LensQ != nil && i >= int(a.LensQ[b]) || a.LensK != nil && j >= int(a.LensK[b]) || a.Causal && j > i ||
				a.Valid != nil && (a.Valid[b*a.TK+j] == 0 || a.Self && a.Valid[b*a.TK+i] == 0) {
				continue
			}
			for e := range a.D {
				score[j] += a.Q.at(b, h, i)[e] * a.Keys.at(b, h, j)[e]
			}
			if score[j] != score[j] {
				score[j] = math.Inf(-1)
			}
			keys = append(keys, int32(j))
		}
		slices.SortStableFunc(keys, func(x, y int32) int {
			switch {
			case score[x] > score[y]:
				return -1
			case score[x] < score[y]:
				return 1
			}
			return 0
		})
		keys = keys[:min(len(keys), a.K)]
		slices.Sort(keys)
		for len(keys) < a.K {
			keys = append(keys, -1)
		}
		out = append(out, keys...)
	}
	return out
}

func TestTopKAgainstSorting(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 5))
	for name, a := range map[string]TopK[float64]{
		"causal":  {B: 2, H: 2, TQ: 131, TK: 131, D: 8, K: 7, Causal: true},
		"all":     {B: 1, H: 3, TQ: 70, TK: 307, D: 5, K: 13, LensK: []int32{290}},
		"more":    {B: 2, H: 1, TQ: 67, TK: 67, D: 8, K: 67, LensQ: []int32{67, 31}, LensK: []int32{67, 31}},
		"one":     {B: 1, H: 2, TQ: 5, TK: 600, D: 16, K: 1},
		"holes":   {B: 2, H: 2, TQ: 67, TK: 67, D: 3, K: 5, Self: true, Causal: true},
		"ties":    {B: 1, H: 1, TQ: 97, TK: 513, D: 2, K: 31},
		"nothing": {B: 1, H: 1, TQ: 7, TK: 9, D: 2, K: 3, LensK: []int32{0}},
	} {
		t.Run(name, func(t *testing.T) {
			values := func(n int) []float64 {
				x := make([]float64, n)
				for i := range x {
					x[i] = float64(rng.IntN(7) - 3) // exact in both, and with ties
				}
				return x
			}
			a.Q = Rows[float64]{values(a.B * a.TQ * a.H * a.D), a.TQ * a.H * a.D, a.H * a.D, a.D}
			a.Keys = Rows[float64]{values(a.B * a.TK * a.H * a.D), a.TK * a.H * a.D, a.H * a.D, a.D}
			if name == "holes" {
				a.Keys.Data[17] = math.NaN()
				for range a.B * a.TK {
					a.Valid = append(a.Valid, int32(rng.IntN(3)))
				}
			}
			a.Out = make([]int32, a.B*a.H*a.TQ*a.K)
			require.NoError(t, a.Run())
			want := topReference(&a)
			require.Equal(t, want, a.Out)
			eachAttnSet(t, func(t *testing.T) {
				f := func(x []float64) []float32 {
					y := make([]float32, len(x))
					for i, v := range x {
						y[i] = float32(v)
					}
					return y
				}
				s := TopK[float32]{B: a.B, H: a.H, TQ: a.TQ, TK: a.TK, D: a.D, K: a.K, Causal: a.Causal, LensQ: a.LensQ, LensK: a.LensK, Valid: a.Valid, Self: a.Self,
					Q: Rows[float32]{f(a.Q.Data), a.Q.Batch, a.Q.Row, a.Q.Head}, Keys: Rows[float32]{f(a.Keys.Data), a.Keys.Batch, a.Keys.Row, a.Keys.Head}, Out: make([]int32, len(a.Out))}
				require.NoError(t, s.Run())
				require.Equal(t, want, s.Out)
			})
		})
	}
	bad := TopK[float32]{B: 1, H: 1, TQ: 1, TK: 2, D: 1, K: 3}
	require.ErrorIs(t, bad.Run(), ErrAttention)
}

func TestBestAndProducts(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 5))
	for n := range 40 {
		scores, keys := make([]float64, n), make([]int32, n)
		for i := range keys {
			scores[i], keys[i] = float64(rng.IntN(9)), int32(i)
		}
		rng.Shuffle(n, func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
		of := make([]float64, n)
		for i, k := range keys {
			of[k] = scores[i]
		}
		want := slices.Clone(keys)
		slices.SortFunc(want, func(a, b int32) int {
			if of[a] != of[b] {
				return int(of[b] - of[a])
			}
			return int(a - b)
		})
		m := Best(7, scores, keys)
		require.Equal(t, min(7, n), m)
		require.ElementsMatch(t, want[:m], keys[:m])
	}
	const m, n, k = 3, 131, 16
	a, b, c := make([]float32, m*k), make([]float32, n*(k+3)), make([]float32, m*n)
	for i := range a {
		a[i] = float32(rng.IntN(9) - 4)
	}
	for i := range b {
		b[i] = float32(rng.IntN(9) - 4)
	}
	eachAttnSet(t, func(t *testing.T) {
		Products(m, n, k, a, k, b, k+3, c, n)
		for i := range m {
			for j := range n {
				var want float32
				for e := range k {
					want += a[i*k+e] * b[j*(k+3)+e]
				}
				require.Equal(t, want, c[i*n+j])
			}
		}
		out := make([]float32, 2)
		Dots(k, a, b, k+3, []int32{100, 7}, out)
		require.Equal(t, []float32{c[100], c[7]}, out)
	})
}
