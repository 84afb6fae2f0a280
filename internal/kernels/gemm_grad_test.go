package kernels

import (
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
)

func normals[F Float](rng *rand.Rand, n int) []F {
	x := make([]F, n)
	for i := range x {
		x[i] = F(rng.NormFloat64())
	}
	return x
}

// Starting from a matrix has the bits of accumulating onto it, on every path of Gemm.
func TestGemmStart(t *testing.T) { forSets(t, gemmStart[float32]) }

func TestGemmStart64(t *testing.T) { gemmStart[float64](t) }

func gemmStart[F Float](t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 5))
	for _, s := range []struct {
		transA, transB bool
		m, n, k        int
	}{{false, true, 389, 277, 67}, {false, false, 131, 67, 1031}, {false, true, 67, 613, 131}, {true, false, 37, 53, 2311}, {false, true, 1, 211, 103},
		{true, true, 211, 1, 13}, {false, false, 5, 7, 0}, {false, false, 13, 71, 29}} {
		m, n, k := s.m, s.n, s.k
		a, b, bias, start := normals[F](rng, m*k), normals[F](rng, k*n), normals[F](rng, n), normals[F](rng, m*(n+3))
		lda, ldb, ldc := k, n, n+5
		if s.transA {
			lda = m
		}
		if s.transB {
			ldb = k
		}
		got, want := normals[F](rng, m*ldc), make([]F, m*ldc)
		copy(want, got)
		for i := range m {
			copy(want[i*ldc:][:n], start[i*(n+3):])
		}
		same := append([]F(nil), want...)
		Gemm(s.transA, s.transB, m, n, k, a, lda, b, ldb, want, ldc, true, &Epilogue[F]{Bias: bias})
		Gemm(s.transA, s.transB, m, n, k, a, lda, b, ldb, got, ldc, false, &Epilogue[F]{Bias: bias, Start: start, LdStart: n + 3})
		require.Equal(t, want, got, "%+v", s)
		Gemm(s.transA, s.transB, m, n, k, a, lda, b, ldb, same, ldc, false, &Epilogue[F]{Bias: bias, Start: same, LdStart: ldc})
		require.Equal(t, want, same, "%+v over itself", s)
	}
}

// The product has the bits of Gemm, the sums are those of the columns, and neither depends on the number of workers.
func TestWeightGrad(t *testing.T) { forSets(t, weightGrad[float32]) }

func TestWeightGrad64(t *testing.T) { weightGrad[float64](t) }

func weightGrad[F Float](t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	rng := rand.New(rand.NewPCG(7, 11))
	for _, s := range [][3]int{{67, 131, 2311}, {1061, 37, 2053}, {37, 1061, 2053}, {389, 277, 521}, {739, 719, 131}, {13, 17, 19}, {1, 5, 31}, {5, 1, 31}, {7, 3, 0}} {
		m, n, k := s[0], s[1], s[2]
		a, b := normals[F](rng, k*(m+3)), normals[F](rng, k*(n+5))
		want := make([]F, m*n)
		Gemm(true, false, m, n, k, a, m+3, b, n+5, want, n, false, nil)
		var first [2][]F
		for _, procs := range []int{2, 1, 3} {
			runtime.GOMAXPROCS(procs)
			c, sums := normals[F](rng, m*n), [2][]F{normals[F](rng, m), normals[F](rng, n)}
			WeightGrad(m, n, k, a, m+3, b, n+5, c, n, sums[0], sums[1])
			require.Equal(t, want, c, "%v", s)
			for i, x := range [2][]F{a, b} {
				d, ld := [2]int{m, n}[i], [2]int{m + 3, n + 5}[i]
				for q, v := range sums[i] {
					var exact float64
					for r := range k {
						exact += float64(x[r*ld+q])
					}
					require.InDelta(t, exact, float64(v), 1e-4, "%v: operand %d column %d of %d", s, i, q, d)
				}
			}
			if first[0] == nil {
				first = sums
			}
			require.Equal(t, first, sums, "%v with %d workers", s, procs)
			clear(c)
			WeightGrad(m, n, k, a, m+3, b, n+5, c, n, nil, nil)
			require.Equal(t, want, c, "%v", s)
		}
	}
}
