package kernels

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
)

// causalBand is the layout in which query i reads the keys i-w < j <= i.
func causalBand(t testing.TB, n, w int) *Layout {
	l, err := NewLayout(n, n, func(qt int) []int32 {
		var near []int32
		for k := max(0, qt*Tile-w+1) / Tile; k <= qt; k++ {
			near = append(near, int32(k))
		}
		return near
	}, func(qt, kt int, mask *[Tile]uint64) TileKind {
		if kt < qt && kt*Tile > qt*Tile+Tile-1-w {
			return TileFull
		}
		for r := range mask {
			for c := range Tile {
				if i, j := qt*Tile+r, kt*Tile+c; j <= i && j > i-w {
					mask[r] |= 1 << c
				}
			}
		}
		return TilePartial
	})
	require.NoError(t, err)
	return l
}

// fusedCall is an attention with 4 heads of d as a model has it: Q, K and V in one buffer [T, 3C], O in [T, C].
func fusedCall(l *Layout, d int) (forward, backward func() error) {
	const h = 4
	c := h * d
	rng := rand.New(rand.NewPCG(1, 1))
	memory := func(n int) []float32 { // as the engine's arena
		x := make([]float32, n)
		AdviseHugePages(unsafe.Slice((*byte)(unsafe.Pointer(&x[0])), 4*n))
		return x
	}
	values := func(n int) []float32 {
		x := memory(n)
		for i := range x {
			x[i] = float32(rng.NormFloat64())
		}
		return x
	}
	of := func(x []float32, part, parts int) Rows[float32] { return Rows[float32]{x[part*c:], 0, parts * c, d} }
	qkv, dqkv := values(3*l.NQ*c), memory(3*l.NQ*c)
	dO := of(values(l.NQ*c), 0, 1)
	a := &Attention[float32]{B: 1, H: h, TQ: l.NQ, TK: l.NK, D: d, DV: d, Scale: float32(1 / math.Sqrt(float64(d))), Layouts: []*Layout{l},
		Q: of(qkv, 0, 3), K: of(qkv, 1, 3), V: of(qkv, 2, 3), O: of(memory(l.NQ*c), 0, 1), LSE: make([]float32, h*l.NQ)}
	return a.Forward, func() error { return a.Backward(dO, nil, of(dqkv, 0, 3), of(dqkv, 1, 3), of(dqkv, 2, 3)) }
}

// attnBench are lengths and windows; a window of the whole length is dense causal attention.
var attnBench = [][2]int{{4096, 256}, {4096, 512}, {16384, 256}, {16384, 512}, {4096, 4096}}

// TestAttentionPeer prints a line a shape as PyTorch's script does (B=1, 4 heads of 64), from the fastest repetitions, so that
// both can be run in turn; gflops_* count the products of the listed tiles.
//
//	EURYALE_BENCH_ATTENTION=1 GOMAXPROCS=1 go test ./internal/kernels -run TestAttentionPeer -v -count=1
//
// EURYALE_BENCH_ATTENTION is the number of seconds for each measurement, or "S:T,W" for one shape; EURYALE_CPU selects the set.
func TestAttentionPeer(t *testing.T) {
	spec := os.Getenv("EURYALE_BENCH_ATTENTION")
	if spec == "" {
		t.Skip("EURYALE_BENCH_ATTENTION is not set: no timing wanted")
	}
	limit, one, _ := strings.Cut(spec, ":")
	seconds, err := strconv.ParseFloat(limit, 64)
	require.NoError(t, err)
	shapes := attnBench
	if one != "" {
		n, w, _ := strings.Cut(one, ",")
		length, err := strconv.Atoi(n)
		require.NoError(t, err)
		window, err := strconv.Atoi(w)
		require.NoError(t, err)
		shapes = [][2]int{{length, window}}
	}
	out := json.NewEncoder(os.Stdout)
	for _, s := range shapes {
		const d = 64
		l := causalBand(t, s[0], s[1])
		forward, backward := fusedCall(l, d)
		fwd, both := time.Hour, time.Hour
		for start, n := time.Now(), 0; n < 4 || time.Since(start).Seconds() < 2*seconds; n++ {
			t0 := time.Now()
			require.NoError(t, forward())
			t1 := time.Since(t0)
			require.NoError(t, backward())
			if n > 0 { // the first call makes the scratch
				fwd, both = min(fwd, t1), min(both, time.Since(t0))
			}
		}
		gflops := func(flops float64, d time.Duration) float64 { return math.Round(4*flops/d.Seconds()/1e7) / 100 }
		require.NoError(t, out.Encode(map[string]any{"impl": "euryale", "set": Set(), "T": s[0], "window": s[1], "threads": Workers(),
			"fwd_s_min": math.Round(fwd.Seconds()*1e6) / 1e6, "fwdbwd_s_min": math.Round(both.Seconds()*1e6) / 1e6,
			"gflops_fwd": gflops(l.ForwardFlops(d, d), fwd), "gflops_fwdbwd": gflops(l.ForwardFlops(d, d)+l.BackwardFlops(d, d), both)}))
	}
}
