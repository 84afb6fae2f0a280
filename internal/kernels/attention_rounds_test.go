package kernels

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// roundsCall is attention of every example and head over layouts of its own, on q, k and v [B,T,H,D].
func roundsCall[F Float](b, h, t, d int, seed uint64) (*Attention[F], Rows[F]) {
	rng := rand.New(rand.NewPCG(seed, 1))
	values := func() Rows[F] {
		x := make([]F, b*t*h*d)
		for i := range x {
			x[i] = F(float32(rng.NormFloat64()))
		}
		return Rows[F]{x, t * h * d, h * d, d}
	}
	a := &Attention[F]{B: b, H: h, TQ: t, TK: t, D: d, DV: d, Scale: 0.5, Q: values(), K: values(), V: values(), LSE: make([]F, b*h*t),
		O: Rows[F]{make([]F, b*t*h*d), t * h * d, h * d, d}, TokensQ: t, TokensK: t}
	return a, values()
}

// reused lays pairs out again in a layout that was used before.
func reused(l *Layout, n int, sees func(i, j int) bool) *Layout {
	l.Reset(n, n)
	for qt := range tilesOf(n) {
		for kt := range tilesOf(n) {
			var mask [Tile]uint64
			full := true
			for c := range min(Tile, n-kt*Tile) {
				for r := range min(Tile, n-qt*Tile) {
					if sees(qt*Tile+r, kt*Tile+c) {
						mask[c] |= 1 << r
					} else {
						full = false
					}
				}
			}
			if full {
				l.AddFull(kt)
			} else {
				l.AddMask(kt, &mask)
			}
		}
		l.EndRow()
	}
	return l
}

// Rounds over disjoint pairs, brought together in O and LSE, are attention over all of them, forward and backward; every example and
// head has layouts of its own, and the same memory serves each round.
func TestRoundsAreOne(t *testing.T) {
	eachAttnSet(t, func(t *testing.T) {
		roundsAreOne[float64](t, 1e-12)
		roundsAreOne[float32](t, 2e-5)
	})
}

func roundsAreOne[F Float](t *testing.T, tol float64) {
	const b, h, n, d, rounds = 2, 2, 131, 8, 3
	of := func(bh, i, j int) int { return (i*7+j*3+bh*5+i*j)%5 - 1 } // round of a pair; none if it is not one
	order := make([]int32, b*h*n)
	for x := range order {
		order[x] = int32((x%n*11 + x/n) % n)
	}
	whole, do := roundsCall[F](b, h, n, d, 3)
	parts, _ := roundsCall[F](b, h, n, d, 3)
	grads := func() [3]Rows[F] {
		var g [3]Rows[F]
		for i := range g {
			g[i] = Rows[F]{make([]F, b*n*h*d), n * h * d, h * d, d}
		}
		return g
	}
	run := func(a *Attention[F], sees func(bh, i, j, r int) bool, rounds int) [3]Rows[F] {
		layouts := make([]*Layout, b*h)
		for x := range layouts {
			layouts[x] = &Layout{}
		}
		a.IndexQ, a.IndexK, a.Layouts = order, order, layouts
		each := func(f func() error) {
			for r := range rounds {
				for bh, l := range layouts {
					at := order[bh*n:][:n]
					reused(l, n, func(i, j int) bool { return sees(bh, int(at[i]), int(at[j]), r) })
				}
				a.Add = r > 0
				require.NoError(t, f())
			}
		}
		each(a.Forward)
		g := grads()
		each(func() error { return a.Backward(do, nil, g[0], g[1], g[2]) })
		return g
	}
	want := run(whole, func(bh, i, j, _ int) bool { return of(bh, i, j) >= 0 && i%17 != 4 }, 1)
	got := run(parts, func(bh, i, j, r int) bool { return of(bh, i, j) == r && i%17 != 4 }, rounds+1)
	near := func(x, y []F) {
		for i := range x {
			if math.IsInf(float64(x[i]), -1) {
				require.Equal(t, x[i], y[i])
				continue
			}
			require.InDelta(t, float64(x[i]), float64(y[i]), tol*(1+math.Abs(float64(x[i]))))
		}
	}
	near(whole.O.Data, parts.O.Data)
	near(whole.LSE, parts.LSE)
	for i := range want {
		near(want[i].Data, got[i].Data)
	}
}

// What does not go with rounds, and with results by row, is refused.
func TestRoundsRefuse(t *testing.T) {
	a, _ := roundsCall[float64](1, 1, 5, 8, 1)
	a.Layouts = []*Layout{FullLayout(5, 5)}
	a.Add = true
	require.ErrorContains(t, a.Forward(), "Add wants IndexQ")
	a.Add, a.RowsQ = false, true
	require.ErrorContains(t, a.Forward(), "RowsQ wants IndexQ")
	a.RowsQ, a.Layouts = false, make([]*Layout, 3)
	require.ErrorContains(t, a.Forward(), "3 layouts for 1 heads of 1 examples")
}

// Once the same shape has run, layouts and lists that are made anew allocate nothing.
func TestResetAllocatesNothing(t *testing.T) {
	l, e := &Layout{}, &Edges{}
	a, do := roundsCall[float32](1, 2, 131, 8, 1)
	index := make([]int32, 131)
	for i := range index {
		index[i] = int32(130 - i)
	}
	keys := func(i int, dst []int32) []int32 { return append(dst, int32(i/3), int32(i/2+1)) }
	layouts, lists := []*Layout{l}, []*Edges{e}
	g := Rows[float32]{make([]float32, 3*131*2*8), 131 * 16, 16, 8}
	gk, gv := g, g
	gk.Data, gv.Data = g.Data[131*16:], g.Data[2*131*16:]
	see := func(i, j int) bool { return j <= i }
	step := func() {
		a.Layouts, a.Edges, a.IndexQ, a.IndexK = layouts, nil, index, index
		reused(l, 131, see)
		if err := a.Forward(); err != nil {
			t.Error(err)
		}
		if err := a.Backward(do, nil, g, gk, gv); err != nil {
			t.Error(err)
		}
		if err := e.Reset(131, 131, keys); err != nil {
			t.Error(err)
		}
		e.ByKey()
		a.Layouts, a.Edges, a.IndexQ, a.IndexK = nil, lists, nil, nil
		if err := a.Forward(); err != nil {
			t.Error(err)
		}
		if err := a.Backward(do, nil, g, gk, gv); err != nil {
			t.Error(err)
		}
	}
	step()
	require.LessOrEqual(t, testing.AllocsPerRun(5, step), 1.0)
}
