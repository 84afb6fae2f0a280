package kernels

import (
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
)

// forSets runs a test with every set this CPU has.
func forSets(t *testing.T, test func(t *testing.T)) {
	before := Set()
	t.Cleanup(func() { require.NoError(t, Use(before)) })
	for _, s := range Sets() {
		require.NoError(t, Use(s))
		t.Run(s, test)
	}
}

// gemmCase is a product with everything that can be asked of it.
type gemmCase struct {
	transA, transB   bool
	m, n, k          int
	padA, padB, padC int // stride minus columns
	accumulate       bool
	bias, residual   bool
	act              Activation
}

func (c gemmCase) String() string {
	op := [2]string{"n", "t"}
	return fmt.Sprintf("%s%s %dx%dx%d pad %d,%d,%d accumulate %v bias %v act %v residual %v", op[flag(c.transA)], op[flag(c.transB)],
		c.m, c.n, c.k, c.padA, c.padB, c.padC, c.accumulate, c.bias, c.act, c.residual)
}

const canary = 12345.678 // no sum of the tests comes near it

// gemmCheck multiplies random matrices and compares with sums in float64: the greatest error is at most twice that of the plain
// loop in F, plus one rounding of the sum of absolute values.
func gemmCheck[F Float](t *testing.T, c gemmCase, rng *rand.Rand) {
	t.Helper()
	matrix := func(rows, cols, pad int) ([]F, int) {
		x := make([]F, max(0, (rows-1)*(cols+pad)+cols))
		for i := range x {
			x[i] = F(math.NaN()) // the padding is not to be used
		}
		for r := range rows {
			for i := range cols {
				x[r*(cols+pad)+i] = F(rng.NormFloat64())
			}
		}
		return x, cols + pad
	}
	shape := func(trans bool, rows, cols, pad int) ([]F, int, int, int) {
		if trans {
			x, ld := matrix(cols, rows, pad)
			return x, ld, 1, ld
		}
		x, ld := matrix(rows, cols, pad)
		return x, ld, ld, 1
	}
	a, lda, ra, ca := shape(c.transA, c.m, c.k, c.padA)
	b, ldb, rb, cb := shape(c.transB, c.k, c.n, c.padB)
	var ep Epilogue[F]
	if c.bias {
		ep.Bias, _ = matrix(1, c.n, 0)
	}
	if c.residual {
		ep.Residual, ep.LdResidual = matrix(c.m, c.n, c.padC+1)
	}
	ep.Act = c.act

	ldc, margin := c.n+c.padC, 64
	all := make([]F, margin+c.m*ldc+margin)
	for i := range all {
		all[i] = canary
	}
	got := all[margin : margin+c.m*ldc]
	start := make([]F, c.m*c.n)
	for i := range c.m {
		for j := range c.n {
			start[i*c.n+j] = F(rng.NormFloat64())
			got[i*ldc+j] = start[i*c.n+j]
		}
	}
	Gemm(c.transA, c.transB, c.m, c.n, c.k, a, lda, b, ldb, got[:(c.m-1)*ldc+c.n], ldc, c.accumulate, &ep)

	var worst, naive, slack float64
	for i := range c.m {
		for j := range c.n {
			var sum, abs float64
			var plain F
			for p := range c.k {
				x, y := a[i*ra+p*ca], b[p*rb+j*cb]
				plain += x * y
				sum += float64(x) * float64(y)
				abs += math.Abs(float64(x) * float64(y))
			}
			if c.accumulate {
				plain += start[i*c.n+j]
				sum += float64(start[i*c.n+j])
				abs += math.Abs(float64(start[i*c.n+j]))
			}
			if c.bias {
				plain += ep.Bias[j]
				sum += float64(ep.Bias[j])
				abs += math.Abs(float64(ep.Bias[j]))
			}
			if c.act == ReLU {
				plain, sum = max(plain, 0), max(sum, 0)
			}
			if c.residual {
				r := ep.Residual[i*ep.LdResidual+j]
				plain += r
				sum += float64(r)
				abs += math.Abs(float64(r))
			}
			e := math.Abs(float64(got[i*ldc+j]) - sum)
			if math.IsNaN(e) {
				e = math.Inf(1)
			}
			worst, naive, slack = max(worst, e), max(naive, math.Abs(float64(plain)-sum)), max(slack, abs)
			got[i*ldc+j] = canary
		}
	}
	eps := 0x1p-24
	if _, double := any(F(0)).(float64); double {
		eps = 0x1p-53 * math.Sqrt(float64(c.k+1)) // the reference is no more exact than what it judges
	}
	require.LessOrEqual(t, worst, 2*naive+eps*slack, "%v", c)
	for i, v := range all {
		if v != canary {
			require.Failf(t, "wrote outside C", "%v: index %d is %v", c, i-margin, v)
		}
	}
}

// gemmShapes calls f for every transposition of shapes that meet each edge of the blocking.
func gemmShapes(f func(c gemmCase)) {
	var shapes [][3]int
	for s := 1; s <= 67; s++ {
		shapes = append(shapes, [3]int{s, 19, 37}, [3]int{19, s, 37}, [3]int{19, 37, s})
	}
	shapes = append(shapes, [3]int{1, 1, 1}, [3]int{2, 3, 0}, [3]int{1, 211, 1031}, [3]int{3, 67, 131}, [3]int{211, 1, 521}, [3]int{2, 65, 521},
		[3]int{23, 193, 523}, [3]int{97, 211, 523}, [3]int{131, 67, 1031}, [3]int{389, 71, 257}, [3]int{29, 4139, 37}, [3]int{61, 47, 2311},
		[3]int{193, 128, 96}, [3]int{48, 64, 2048}, [3]int{37, 277, 67}, [3]int{64, 131, 40}, [3]int{128, 128, 48}, [3]int{127, 128, 41})
	rng := rand.New(rand.NewPCG(1, 2))
	for i, s := range shapes {
		for mode := range 4 {
			c := gemmCase{transA: mode&1 > 0, transB: mode&2 > 0, m: s[0], n: s[1], k: s[2]}
			if (i+mode)%3 > 0 {
				c.padA, c.padB, c.padC = rng.IntN(9), rng.IntN(9), rng.IntN(9)
			}
			c.accumulate, c.bias, c.residual = rng.IntN(2) > 0, rng.IntN(3) == 0, rng.IntN(3) == 0
			if rng.IntN(3) == 0 {
				c.act = ReLU
			}
			f(c)
		}
	}
}

func TestGemm(t *testing.T) {
	forSets(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(3, 4))
		gemmShapes(func(c gemmCase) { gemmCheck[float32](t, c, rng) })
	})
}

func TestGemmFloat64(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	gemmShapes(func(c gemmCase) { gemmCheck[float64](t, c, rng) })
}

// The epilogue is the row functions, in this order.
func TestGemmEpilogue(t *testing.T) {
	forSets(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(7, 8))
		const m, n, k = 37, 83, 521
		a, b, bias, res := normal(rng, m*k), normal(rng, k*n), normal(rng, n), normal(rng, m*n)
		for act := None; act < numActivations; act++ {
			want, got := make([]float32, m*n), make([]float32, m*n)
			Gemm(false, false, m, n, k, a, k, b, n, want, n, false, nil)
			for i := range m {
				row := want[i*n : i*n+n]
				Add(row, bias, row)
				Act(act, row, row)
				Add(row, res[i*n:i*n+n], row)
			}
			Gemm(false, false, m, n, k, a, k, b, n, got, n, false, &Epilogue[float32]{Bias: bias, Act: act, Residual: res, LdResidual: n})
			for i := range want {
				require.InDelta(t, want[i], got[i], 2e-5*(1+math.Abs(float64(want[i]))), "%v at %d", act, i)
			}
		}
	})
}

func normal(rng *rand.Rand, n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(rng.NormFloat64())
	}
	return x
}

// withWorkers runs f with a number of workers that the machine may not have.
func withWorkers(n int, f func()) {
	limit, procs := workerLimit, runtime.GOMAXPROCS(n)
	workerLimit = n
	defer func() {
		workerLimit = limit
		runtime.GOMAXPROCS(procs)
	}()
	f()
}

func TestGemmSameBitsForAnyWorkers(t *testing.T) {
	forSets(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(9, 10))
		for _, c := range []gemmCase{{m: 523, n: 131, k: 67}, {m: 97, n: 1031, k: 1031, transB: true}, {m: 61, n: 259, k: 4099, transA: true},
			{m: 67, n: 131, k: 523, transA: true, transB: true}, {m: 1, n: 2053, k: 1031}, {m: 1, n: 2053, k: 1031, transB: true}, {m: 17, n: 1031, k: 1031},
			{m: 2053, n: 1, k: 1031}} {
			a, b := normal(rng, c.m*c.k), normal(rng, c.k*c.n)
			lda, ldb := c.k, c.n
			if c.transA {
				lda = c.m
			}
			if c.transB {
				ldb = c.k
			}
			var first []float32
			for _, w := range []int{1, 2, 3, 5} {
				got := make([]float32, c.m*c.n)
				withWorkers(w, func() {
					Gemm(c.transA, c.transB, c.m, c.n, c.k, a, lda, b, ldb, got, c.n, false, nil)
				})
				if first == nil {
					first = got
				}
				for i := range got {
					if math.Float32bits(got[i]) != math.Float32bits(first[i]) {
						require.Failf(t, "bits differ", "%v: %d workers, index %d: %v, with one %v", c, w, i, got[i], first[i])
					}
				}
			}
		}
	})
}

// A value that is not finite reaches its row and column of C and nothing else.
func TestGemmNotFinite(t *testing.T) {
	forSets(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(11, 12))
		for _, s := range [][3]int{{1, 131, 67}, {67, 1, 131}, {29, 83, 37}, {131, 211, 523}} {
			m, n, k := s[0], s[1], s[2]
			for mode := range 4 {
				a, b, c := normal(rng, m*k), normal(rng, k*n), make([]float32, m*n)
				i, j, p := rng.IntN(m), rng.IntN(n), rng.IntN(k)
				lda, ldb, ia, ib := k, n, i*k+p, p*n+j
				if mode&1 > 0 {
					lda, ia = m, p*m+i
				}
				if mode&2 > 0 {
					ldb, ib = k, j*k+p
				}
				a[ia], b[ib] = float32(math.NaN()), float32(math.Inf(1))
				Gemm(mode&1 > 0, mode&2 > 0, m, n, k, a, lda, b, ldb, c, n, false, nil)
				for x, v := range c {
					switch f := float64(v); {
					case x/n == i:
						require.True(t, math.IsNaN(f), "%v mode %d (%d,%d)", s, mode, x/n, x%n)
					case x%n == j:
						require.True(t, math.IsInf(f, 0), "%v mode %d (%d,%d): %v", s, mode, x/n, x%n, v)
					default:
						require.False(t, math.IsNaN(f) || math.IsInf(f, 0), "%v mode %d (%d,%d): %v", s, mode, x/n, x%n, v)
					}
				}
			}
		}
	})
}

func TestGemmRefusesShortSlices(t *testing.T) {
	x := make([]float32, 100)
	ok := func(a, b, c []float32, lda int, ep *Epilogue[float32]) func() {
		return func() { Gemm(false, false, 5, 7, 3, a, lda, b, 7, c, 7, false, ep) }
	}
	require.NotPanics(t, ok(x[:15], x[:21], x[50:85], 3, nil))
	for name, f := range map[string]func(){
		"A":        ok(x[:14], x[:21], x[50:85], 3, nil),
		"B":        ok(x[:15], x[:20], x[50:85], 3, nil),
		"C":        ok(x[:15], x[:21], x[50:84], 3, nil),
		"stride":   ok(x[:15], x[:21], x[50:85], 2, nil),
		"bias":     ok(x[:15], x[:21], x[50:85], 3, &Epilogue[float32]{Bias: x[:6]}),
		"residual": ok(x[:15], x[:21], x[50:85], 3, &Epilogue[float32]{Residual: x[:34], LdResidual: 7}),
	} {
		require.Panics(t, f, name)
	}
}

func TestGemmAllocatesNothing(t *testing.T) {
	forSets(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(13, 14))
		a, b, c, bias := normal(rng, 1<<16), normal(rng, 1<<16), make([]float32, 1<<16), normal(rng, 1<<10)
		withWorkers(2, func() {
			for _, s := range []struct {
				transA, transB bool
				m, n, k        int
			}{{false, false, 131, 67, 131}, {true, false, 29, 31, 2053}, {false, true, 97, 131, 257}, {false, false, 1, 521, 67}, {true, true, 5, 7, 11},
				{false, true, 1, 521, 67}} {
				lda, ldb := s.k, s.n
				if s.transA {
					lda = s.m
				}
				if s.transB {
					ldb = s.k
				}
				call := func() {
					Gemm(s.transA, s.transB, s.m, s.n, s.k, a, lda, b, ldb, c, s.n, false, &Epilogue[float32]{Bias: bias, Act: ReLU})
				}
				require.Zero(t, mallocs(20, call), "%v", s)
			}
		})
	})
}

// mallocs is the average number of allocations of a call, all workers together, as testing.AllocsPerRun counts with one.
func mallocs(runs int, f func()) int {
	f()
	f()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range runs {
		f()
	}
	runtime.ReadMemStats(&after)
	return int(after.Mallocs-before.Mallocs) / runs
}

func BenchmarkGemm(b *testing.B) {
	for _, s := range gemmBench {
		b.Run(s.String(), func(b *testing.B) {
			run := s.operands()
			b.ReportAllocs()
			for b.Loop() {
				run()
			}
			b.ReportMetric(s.flops()*float64(b.N)/b.Elapsed().Seconds()/1e9, "GF/s")
		})
	}
}
