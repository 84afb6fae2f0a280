package attention

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/euryale-ml/euryale/internal/kernels"
)

// decode turns the tiles of a layout back into pairs and checks that no tile is empty, listed twice or needlessly masked.
func decode(t require.TestingT, l *kernels.Layout) map[[2]int]bool {
	pairs := map[[2]int]bool{}
	for qt := 0; qt+1 < len(l.Ptr); qt++ {
		before := int32(-1)
		for e := l.Ptr[qt]; e < l.Ptr[qt+1]; e++ {
			require.Greater(t, l.Col[e], before)
			before = l.Col[e]
			seen, all := 0, 0
			for r := range kernels.Tile {
				for c := range kernels.Tile {
					i, j := qt*kernels.Tile+r, int(l.Col[e])*kernels.Tile+c
					if i >= l.NQ || j >= l.NK {
						continue
					}
					all++
					if l.Mask[e] < 0 || l.Masks[l.Mask[e]][c]>>r&1 == 1 {
						pairs[[2]int{i, j}] = true
						seen++
					}
				}
			}
			require.NotZero(t, seen)
			require.Equal(t, seen == all, l.Mask[e] < 0)
		}
	}
	return pairs
}

func TestCompileEqualsSees(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := drawAny(t)
		nq := rapid.SampledFrom([]int{0, 1, 5, 64, 67, 130, 193}).Draw(t, "nq")
		nk := nq
		if rapid.Bool().Draw(t, "cross") {
			nk = rapid.SampledFrom([]int{1, 63, 65, 149}).Draw(t, "nk")
		}
		layoutCovers(t, p, nq, nk)
	})
}

// layoutCovers demands that the tiles of a pattern hold its pairs, each once, and no others.
func layoutCovers(t require.TestingT, p Pattern, nq, nk int) {
	ls, err := Compile(p, p.Heads(), nq, nk)
	require.NoError(t, err)
	require.Len(t, ls, p.Heads())
	for h, l := range ls {
		pairs := decode(t, l)
		count := 0
		for i := range nq {
			for j := range nk {
				if p.Sees(h, i, j, max(nq, nk)) {
					count++
					require.True(t, pairs[[2]int{i, j}], "%s: query %d key %d is missing", p, i, j)
				}
			}
		}
		require.Len(t, pairs, count, "%s: pairs that the pattern does not have", p)
		require.Equal(t, int64(count), l.Pairs())
	}
}

func TestCompileIsKept(t *testing.T) {
	p := parse(t, "band(6,1)")
	a, err := Compile(p, 3, 70, 70)
	require.NoError(t, err)
	require.Len(t, a, 1)
	b, err := Compile(parse(t, "band( 6,1 )"), 2, 70, 70)
	require.NoError(t, err)
	require.Same(t, a[0], b[0])
	for n := range 3 * maxLayouts {
		_, err = Compile(p, 1, n, n)
		require.NoError(t, err)
	}
	require.LessOrEqual(t, len(compiled.entries), maxLayouts)
	_, err = Compile(parse(t, "heads(full; full)"), 3, 8, 8)
	require.EqualError(t, err, "pattern heads(full; full) describes 2 heads, the layer has 3; give one part for each head")
}

func TestCompileIsQuick(t *testing.T) {
	for s, most := range map[string]time.Duration{
		"causal(band(255,255))":      2 * time.Second,
		"causal(full)":               2 * time.Second,
		"band(255,0) + global(0,-1)": 2 * time.Second,
	} {
		begin := time.Now()
		l, err := compileHead(parse(t, s), 0, 1<<16, 1<<16, arrangement{})
		require.NoError(t, err)
		require.Less(t, time.Since(begin), most, s)
		t.Log(s, time.Since(begin), l.Tiles(), len(l.Masks))
	}
}
