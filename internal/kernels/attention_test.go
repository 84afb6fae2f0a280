package kernels

import (
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
)

// Patterns of the tests, by token.
func seesAll(_, _, _, _ int) bool    { return true }
func seesPast(_, _, i, j int) bool   { return j <= i }
func seesBand(_, h, i, j int) bool   { return j <= i && j > i-70-9*h }
func seesSome(_, h, i, j int) bool   { return (i*31+j*17+h*7)%11 > 6 }
func seesFar(_, _, i, j int) bool    { return i < 2 || j == 5 || j <= i && j > i-40 } // global rows and a global key
func seesNotRow(_, _, i, j int) bool { return i%5 != 3 && j%7 != 2 }                  // empty rows, unread keys
func seesRowsOf(n int) func(_, _, i, j int) bool {
	return func(_, _, i, j int) bool { return i >= n && j <= i }
}

// eachSet runs f with every set of this CPU.
func eachAttnSet(t *testing.T, f func(t *testing.T)) {
	was := Set()
	defer func() { require.NoError(t, Use(was)) }()
	for _, s := range Sets() {
		require.NoError(t, Use(s))
		t.Run(s, f)
	}
}

func attnCases() map[string]attnCase {
	perm := func(n, step int) []int32 {
		p := make([]int32, n)
		for i := range p {
			p[i] = int32(i * step % n)
		}
		return p
	}
	perHead := func(b, h, n int) []int32 {
		var p []int32
		for bh := range b * h {
			p = append(p, perm(n, []int{3, 7, 11, 16}[bh%4])...)
		}
		return p
	}
	holes := perm(131, 9)
	gone := map[int]bool{}
	for _, r := range []int{3, 64, 130} {
		gone[int(holes[r])] = true
		holes[r] = -1
	}
	return map[string]attnCase{
		"one":      {b: 1, h: 1, tq: 1, tk: 1, d: 8, dv: 8, sees: seesAll},
		"five":     {b: 2, h: 3, tq: 5, tk: 5, d: 16, dv: 8, sees: seesPast},
		"63":       {b: 1, h: 2, tq: 63, tk: 63, d: 24, dv: 24, sees: seesSome, dLSE: true},
		"64":       {b: 1, h: 2, tq: 64, tk: 64, d: 32, dv: 40, sees: seesAll, shared: true},
		"65":       {b: 2, h: 1, tq: 65, tk: 65, d: 40, dv: 32, sees: seesPast},
		"causal":   {b: 1, h: 2, tq: 257, tk: 257, d: 64, dv: 64, sees: seesPast, shared: true},
		"band":     {b: 1, h: 3, tq: 257, tk: 257, d: 64, dv: 64, sees: seesBand, dLSE: true},
		"many":     {b: 3, h: 7, tq: 70, tk: 70, d: 8, dv: 8, sees: seesBand},
		"80":       {b: 1, h: 1, tq: 130, tk: 130, d: 80, dv: 96, sees: seesFar},
		"128":      {b: 1, h: 1, tq: 130, tk: 130, d: 128, dv: 64, sees: seesSome},
		"256":      {b: 1, h: 1, tq: 130, tk: 130, d: 256, dv: 256, sees: seesPast},
		"any":      {b: 1, h: 2, tq: 130, tk: 130, d: 7, dv: 13, sees: seesFar, dLSE: true},
		"cross":    {b: 2, h: 2, tq: 65, tk: 257, d: 16, dv: 24, sees: seesSome, dLSE: true},
		"wide":     {b: 1, h: 2, tq: 257, tk: 5, d: 16, dv: 24, sees: seesAll, shared: true},
		"global":   {b: 1, h: 2, tq: 385, tk: 385, d: 16, dv: 16, sees: seesFar},
		"long":     {b: 1, h: 1, tq: 1100, tk: 1100, d: 8, dv: 8, sees: seesFar}, // more key tiles than a worker keeps
		"empty":    {b: 1, h: 2, tq: 130, tk: 130, d: 16, dv: 16, sees: seesNotRow, dLSE: true},
		"no tiles": {b: 1, h: 2, tq: 130, tk: 130, d: 16, dv: 16, sees: seesRowsOf(100), dLSE: true},
		"nothing":  {b: 1, h: 1, tq: 70, tk: 130, d: 8, dv: 8, sees: func(_, _, _, _ int) bool { return false }},
		"no keys":  {b: 1, h: 1, tq: 70, tk: 0, d: 8, dv: 8, sees: seesAll},
		"lens": {b: 4, h: 2, tq: 131, tk: 131, d: 24, dv: 16, sees: seesBand, dLSE: true,
			lensQ: []int32{131, 0, 67, 1}, lensK: []int32{65, 131, 1, 0}},
		"permuted": {b: 2, h: 2, tq: 131, tk: 131, d: 16, dv: 24, sees: seesBand, dLSE: true, indexQ: perm(131, 7), indexK: perm(131, 7)},
		"permuted by head, lens": {b: 2, h: 2, tq: 131, tk: 131, d: 16, dv: 16, sees: seesAll, shared: true,
			indexQ: perHead(2, 2, 131), indexK: perHead(2, 2, 131), lensQ: []int32{131, 50}, lensK: []int32{101, 67}},
		"keys permuted by example": {b: 2, h: 1, tq: 65, tk: 131, d: 16, dv: 16, sees: seesAll, shared: true, indexK: perHead(2, 1, 131)},
		"holes": {b: 1, h: 2, tq: 131, tk: 131, d: 16, dv: 16, indexQ: holes, indexK: holes, dLSE: true, sees: func(_, _, i, j int) bool {
			return j <= i && !gone[i] && !gone[j]
		}},
		"some tokens": {b: 1, h: 20, tq: 70, tk: 65, d: 16, dv: 16, tokensQ: 131, tokensK: 131, dLSE: true,
			sees:   func(_, _, i, j int) bool { return i%2 == 0 && i < 140 && j >= 131-65 },
			indexQ: evenTokens(70, 131), indexK: lastTokens(65, 131)},
		"labels of distance": {b: 2, h: 3, tq: 257, tk: 257, d: 24, dv: 16, sees: seesBand, dLSE: true, labels: 19, relative: true,
			label: func(_, i, j int) int { return max(-9, min(9, j-i)) + 9 }},
		"labels of heads": {b: 1, h: 2, tq: 131, tk: 131, d: 16, dv: 24, sees: seesSome, labels: 5, oneTable: true,
			label: func(h, i, j int) int { return (i/7 + h + j/5) % 5 }},
		"a bias": {b: 2, h: 9, tq: 70, tk: 65, d: 8, dv: 8, sees: seesAll, shared: true, labels: 300, noR: true, relative: true,
			label: func(_, i, j int) int { return j - i + 150 }},
		"labels, permuted": {b: 2, h: 2, tq: 131, tk: 131, d: 16, dv: 16, sees: seesBand, dLSE: true, indexQ: perm(131, 7), indexK: perm(131, 7),
			labels: 11, noBias: true, label: func(h, i, j int) int { return (i + 3*j + h) % 11 }},
		"labels, lens, any": {b: 4, h: 2, tq: 131, tk: 131, d: 7, dv: 5, sees: seesFar, dLSE: true, lensQ: []int32{131, 0, 67, 1},
			lensK: []int32{65, 131, 1, 0}, labels: 4, oneTable: true, label: func(_, i, j int) int { return b2i(i < 2) + 2*b2i(j == 5) }},
	}
}

// evenTokens is the even tokens of n, then holes.
func evenTokens(rows, n int) []int32 {
	x := make([]int32, rows)
	for i := range x {
		if x[i] = int32(2 * i); 2*i >= n {
			x[i] = -1
		}
	}
	return x
}

// lastTokens is the last rows of n tokens, backwards.
func lastTokens(rows, n int) []int32 {
	x := make([]int32, rows)
	for i := range x {
		x[i] = int32(n - 1 - i)
	}
	return x
}

// Every set is at most twice as wrong as softmax attention by its definition in float32, and the generic one is right in
// float64, whatever the pattern and the way the tensors lie.
func TestAttention(t *testing.T) {
	for name, c := range attnCases() {
		c.scale, c.seed = 1/math.Sqrt(float64(c.d)), 3
		x := c.data()
		want, naive := attnReference[float64](&c, x), attnReference[float32](&c, x)
		t.Run(name, func(t *testing.T) {
			requireClose(t, want, want, attnRun[float64](t, &c, x), 1, 2e-13*float64(c.d))
			eachAttnSet(t, func(t *testing.T) {
				requireClose(t, want, naive, attnRun[float32](t, &c, x), 2, 1.2e-6*float64(1+b2i(c.labels > 0)))
			})
		})
	}
}

// The gradients are those of the function, by differences in float64.
func TestAttentionFiniteDifferences(t *testing.T) {
	for name, c := range attnCases() {
		if c.b*c.h*c.tq*c.d > 16000 {
			continue
		}
		t.Run(name, func(t *testing.T) {
			c.scale, c.seed = 0.4, 5
			x := c.data()
			tq, tk := c.tokens()
			loss := func(x attnData) float64 {
				a, _, _, _, _ := newAttention[float64](t, &c, x)
				require.NoError(t, a.Forward())
				sum := 0.0
				for i, v := range attnDense(&a.O, c.b, c.h, tq, c.dv) {
					sum += v * x.do[i]
				}
				for i, v := range a.LSE {
					if c.dLSE && !math.IsInf(v, -1) {
						sum += v * x.dl[i]
					}
				}
				return sum
			}
			got := attnRun[float64](t, &c, x)
			rng := rand.New(rand.NewPCG(1, 2))
			for i, g := range [][]float64{got.dq, got.dk, got.dv, got.dr, got.db} {
				v := [][]float64{x.q, x.k, x.v, x.r, x.bias}[i]
				for range min(len(v), 4) {
					const h = 1e-5
					at := rng.IntN(len(v))
					was := v[at]
					v[at] = was + h
					up := loss(x)
					v[at] = was - h
					down := loss(x)
					v[at] = was
					require.InDelta(t, (up-down)/(2*h), g[at], 1e-7, "gradient %d of %d, [%d,%d] tokens", i, at, tq, tk)
				}
			}
		})
	}
}

// Tokens that several rows of IndexK stand for get the sum of the gradients.
func TestAttentionRepeatedKeys(t *testing.T) {
	const n, d = 67, 8
	once := attnCase{b: 1, h: 1, tq: n, tk: n, d: d, dv: d, sees: seesAll, scale: 0.3, seed: 8}
	x := once.data()
	want := attnRun[float64](t, &once, x) // twice every key is the same softmax, its LSE is larger by log 2
	twice := once
	twice.tk, twice.tokensK = 2*n, n
	for i := range 2 * n {
		twice.indexK = append(twice.indexK, int32(i*3%n))
	}
	got := attnRun[float64](t, &twice, x)
	for i := range want.lse {
		want.lse[i] += math.Ln2
	}
	requireClose(t, want, want, got, 1, 1e-12)
}

// The bits do not depend on the number of workers, nor on the call.
func TestAttentionDeterminism(t *testing.T) {
	limit, procs := workerLimit, runtime.GOMAXPROCS(0)
	defer func() { workerLimit = limit; runtime.GOMAXPROCS(procs) }()
	workerLimit = 8
	all := attnCases()
	for _, name := range []string{"global", "causal", "many", "permuted", "lens", "labels of distance", "a bias"} {
		c := all[name]
		c.scale, c.seed = 0.2, 9
		x := c.data()
		eachAttnSet(t, func(t *testing.T) {
			var want attnResult
			for _, n := range []int{1, 2, 3, 5} {
				runtime.GOMAXPROCS(n)
				got := attnRun[float32](t, &c, x)
				if n == 1 {
					want = got
				}
				require.Equal(t, want, got, "%s with %d workers", name, n)
			}
		})
	}
}

// A NaN makes the results of the queries that read it NaN, and no others but those that share its tile.
func TestAttentionNaN(t *testing.T) {
	c := attnCase{b: 1, h: 1, tq: 257, tk: 257, d: 8, dv: 8, sees: seesPast, scale: 0.3, seed: 4}
	const bad = 70 // token
	eachAttnSet(t, func(t *testing.T) {
		for i, put := range []func(x *attnData) *float64{
			func(x *attnData) *float64 { return &x.q[bad*c.d+3] },
			func(x *attnData) *float64 { return &x.k[bad*c.d+3] },
			func(x *attnData) *float64 { return &x.v[bad*c.dv+3] },
		} {
			x := c.data()
			*put(&x) = math.NaN()
			got := attnRun[float32](t, &c, x)
			nan := func(row int) bool { return math.IsNaN(got.o[row*c.dv+3]) }
			require.True(t, nan(bad), "input %d", i)
			require.False(t, nan(63), "input %d", i)
			require.Equal(t, i > 0, nan(256), "input %d", i)
			require.Equal(t, i < 2, math.IsNaN(got.lse[bad]), "input %d", i)
			require.True(t, math.IsNaN(got.dq[bad*c.d]), "input %d", i)
			require.True(t, math.IsNaN(got.dv[bad*c.dv]) || i == 2, "input %d", i)
		}
	})
}

// What a query without keys is given as a gradient does not matter, and infinite scores do not come out finite.
func TestAttentionEdgesOfFloats(t *testing.T) {
	c := attnCase{b: 1, h: 1, tq: 130, tk: 130, d: 8, dv: 8, sees: seesNotRow, scale: 0.3, seed: 4, dLSE: true}
	eachAttnSet(t, func(t *testing.T) {
		x := c.data()
		want := attnRun[float32](t, &c, x)
		for i := 3; i < c.tq; i += 5 {
			x.do[i*c.dv], x.dl[i] = math.NaN(), math.Inf(1)
		}
		require.Equal(t, want, attnRun[float32](t, &c, x))
		x.q[10*c.d] = math.Inf(1)
		require.True(t, math.IsNaN(attnRun[float32](t, &c, x).o[10*c.dv]))
		x.q[10*c.d] = 1e5 // one key takes all, the others are exactly 0
		got := attnRun[float32](t, &c, x)
		best, top := 0, math.Inf(-1)
		for j := range c.tk {
			if s := x.k[j*c.d]; c.sees(0, 0, 10, j) && s > top {
				best, top = j, s
			}
		}
		for e := range c.dv {
			require.Equal(t, x.v[best*c.dv+e], got.o[10*c.dv+e])
		}
	})
}

func TestAttentionAllocatesNothing(t *testing.T) {
	c := attnCases()["global"]
	c.scale = 1
	x := c.data()
	a, do, dq, dk, dv := newAttention[float32](t, &c, x)
	run := func() {
		if a.Forward() != nil || a.Backward(do, nil, dq, dk, dv) != nil {
			panic("attention")
		}
	}
	run()
	require.Zero(t, testing.AllocsPerRun(20, run))
}

func TestAttentionErrors(t *testing.T) {
	c := attnCase{b: 2, h: 3, tq: 65, tk: 70, d: 8, dv: 16, sees: seesAll, scale: 1}
	x := c.data()
	for want, spoil := range map[string]func(a *Attention[float32]){
		"LSE has":            func(a *Attention[float32]) { a.LSE = a.LSE[1:] },
		"2 layouts":          func(a *Attention[float32]) { a.Layouts = a.Layouts[:2] },
		"layout 0 is for":    func(a *Attention[float32]) { a.TQ-- },
		"V has":              func(a *Attention[float32]) { a.V.Data = a.V.Data[:100] },
		"LensK has 1":        func(a *Attention[float32]) { a.LensK = []int32{1} },
		"IndexQ has 7":       func(a *Attention[float32]) { a.IndexQ = make([]int32, 7) },
		"IndexK[3] is":       func(a *Attention[float32]) { a.IndexK = make([]int32, 70); a.IndexK[3] = 70 },
		"negative stride":    func(a *Attention[float32]) { a.Q.Row = -1 },
		"size B=2 H=3 TQ=65": func(a *Attention[float32]) { a.D = 0 },
	} {
		a, _, _, _, _ := newAttention[float32](t, &c, x)
		spoil(a)
		err := a.Forward()
		require.ErrorIs(t, err, ErrAttention)
		require.ErrorContains(t, err, want)
	}
	a, do, dq, dk, dv := newAttention[float32](t, &c, x)
	require.ErrorContains(t, a.Backward(do, make([]float32, 3), dq, dk, dv), "dLSE has 3")
	dk.Data = dk.Data[:9]
	require.ErrorContains(t, a.Backward(do, nil, dq, dk, dv), "dK has 9")
}

func ExampleNewLayout() {
	// A causal band of 100 keys over 200 tokens.
	l, err := NewLayout(200, 200, func(qt int) []int32 {
		var near []int32
		for k := max(0, (qt*Tile-99)/Tile); k <= qt; k++ {
			near = append(near, int32(k))
		}
		return near
	}, func(qt, kt int, mask *[Tile]uint64) TileKind {
		for r := range mask {
			for c := range Tile {
				if i, j := qt*Tile+r, kt*Tile+c; j <= i && j > i-100 {
					mask[r] |= 1 << c
				}
			}
		}
		return TilePartial
	})
	fmt.Println(err, l.Tiles(), l.Full(), len(l.Masks), l.Pairs(), l.Sees(150, 51), l.Sees(150, 50))
	// Output: <nil> 9 1 5 15050 true false
}
