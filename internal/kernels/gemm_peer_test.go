package kernels

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// gemmBenchShape is C[M x N] = op(A) op(B) of depth K; op as in PyTorch's peer: nn, nt (B transposed), tn (A transposed).
type gemmBenchShape struct {
	M, K, N int
	Op      string
}

// gemmBench are the products of a transformer's training step.
var gemmBench = []gemmBenchShape{
	{512, 512, 512, "nn"}, {1024, 1024, 1024, "nn"}, {2048, 2048, 2048, "nn"},
	{4096, 256, 256, "nn"}, {4096, 256, 768, "nn"}, {4096, 256, 1024, "nn"}, {4096, 1024, 256, "nn"},
	{4096, 1024, 256, "nt"}, {256, 4096, 1024, "tn"}, {1024, 4096, 256, "tn"}, {256, 16384, 256, "tn"},
	{16384, 256, 1024, "nn"},
}

func (s gemmBenchShape) String() string { return fmt.Sprintf("%dx%dx%d_%s", s.M, s.K, s.N, s.Op) }

func (s gemmBenchShape) flops() float64 { return 2 * float64(s.M) * float64(s.K) * float64(s.N) }

// operands returns the product as a function.
func (s gemmBenchShape) operands() func() {
	rng := rand.New(rand.NewPCG(1, 1))
	a, b, c := normal(rng, s.M*s.K), normal(rng, s.K*s.N), make([]float32, s.M*s.N)
	lda, ldb := s.K, s.N
	ta, tb := s.Op == "tn", s.Op == "nt"
	if ta {
		lda = s.M
	}
	if tb {
		ldb = s.K
	}
	return func() { Gemm(ta, tb, s.M, s.N, s.K, a, lda, b, ldb, c, s.N, false, nil) }
}

// TestGemmPeer prints a line a shape as PyTorch's script does, from the fastest repetition, so that both can be run in turn:
//
//	EURYALE_BENCH_GEMM=1 GOMAXPROCS=2 go test ./internal/kernels -run TestGemmPeer -v -count=1
//
// EURYALE_BENCH_GEMM is the number of seconds a shape, or "S:M,K,N,op" for one shape; EURYALE_CPU selects the set.
func TestGemmPeer(t *testing.T) {
	spec := os.Getenv("EURYALE_BENCH_GEMM")
	if spec == "" {
		t.Skip("EURYALE_BENCH_GEMM is not set: no timing wanted")
	}
	seconds, one, _ := strings.Cut(spec, ":")
	limit, err := strconv.ParseFloat(seconds, 64)
	require.NoError(t, err)
	shapes := gemmBench
	if one != "" {
		f := strings.Split(one, ",")
		require.Len(t, f, 4)
		var d [3]int
		for i := range d {
			d[i], err = strconv.Atoi(f[i])
			require.NoError(t, err)
		}
		shapes = []gemmBenchShape{{d[0], d[1], d[2], f[3]}}
	}
	out := json.NewEncoder(os.Stdout)
	for _, s := range shapes {
		run := s.operands()
		run()
		best := time.Hour
		for start, n := time.Now(), 0; n < 3 || time.Since(start).Seconds() < limit; n++ {
			t0 := time.Now()
			run()
			best = min(best, time.Since(t0))
		}
		require.NoError(t, out.Encode(map[string]any{"M": s.M, "K": s.K, "N": s.N, "op": s.Op, "set": Set(), "threads": Workers(),
			"gflops": float64(int(10*s.flops()/best.Seconds()/1e9)) / 10}))
	}
}
