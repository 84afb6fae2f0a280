package kernels

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTransposeBits(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	var a [Tile]uint64
	for i := range a {
		a[i] = rng.Uint64()
	}
	b := a
	transposeBits(&b)
	for r := range Tile {
		for c := range Tile {
			require.Equal(t, a[r]>>c&1, b[c]>>r&1)
		}
	}
}

// A layout sees what the pattern sees, at every ragged size, and counts it.
func TestLayoutSees(t *testing.T) {
	for _, n := range [][2]int{{0, 0}, {1, 1}, {5, 130}, {64, 64}, {130, 67}, {200, 257}} {
		for name, sees := range map[string]func(b, h, i, j int) bool{"all": seesAll, "past": seesPast, "some": seesSome, "far": seesFar, "rows": seesNotRow} {
			l, err := NewLayout(n[0], n[1], nil, func(qt, kt int, mask *[Tile]uint64) TileKind {
				for r := range mask {
					for c := range Tile {
						if sees(0, 0, qt*Tile+r, kt*Tile+c) { // beyond the edge too
							mask[r] |= 1 << c
						}
					}
				}
				return TilePartial
			})
			require.NoError(t, err)
			pairs := int64(0)
			for i := range n[0] {
				for j := range n[1] {
					require.Equal(t, sees(0, 0, i, j), l.Sees(i, j), "%s %v (%d,%d)", name, n, i, j)
					pairs += int64(b2i(l.Sees(i, j)))
				}
			}
			require.Equal(t, pairs, l.Pairs(), name)
			require.False(t, l.Sees(n[0], 0) || l.Sees(0, n[1]) || l.Sees(-1, 0))
			if name == "all" {
				require.Equal(t, l.Tiles(), l.Full())
				require.Equal(t, pairs > 0, l.Fill() == 1)
			}
		}
	}
}

// The trim of a mask holds every visible pair and is tight on both sides.
func TestTrim(t *testing.T) {
	var m [Tile]uint64
	m[20], m[40] = 1<<5|1<<33, 1<<63 // by key
	b := trimOf(&m)
	require.Equal(t, [4][2]uint8{{20, 21}, {64, 0}, {20, 21}, {40, 41}}, b.keys)
	require.Equal(t, [4][2]uint8{{64, 0}, {5, 34}, {63, 64}, {64, 0}}, b.queries)
}

// A band of any length has few masks: memory grows with the tiles alone.
func TestLayoutOfLongBand(t *testing.T) {
	const n, w = 1 << 16, 512
	calls := 0
	l, err := NewLayout(n, n, func(qt int) []int32 {
		var near []int32
		for k := max(0, (qt*Tile-w+1)/Tile); k <= qt; k++ {
			near = append(near, int32(k))
		}
		return near
	}, func(qt, kt int, mask *[Tile]uint64) TileKind {
		calls++
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
	require.Equal(t, calls, l.Tiles())
	require.Len(t, l.Masks, 2)
	require.EqualValues(t, n*w-w*(w-1)/2, l.Pairs())
	require.Less(t, l.Bytes(), int64(100_000))
}

func TestLayoutErrors(t *testing.T) {
	for want, f := range map[string]func(b *LayoutBuilder){
		"key tile 1 after 1 in query tile 0": func(b *LayoutBuilder) { b.Full(1); b.Full(1) },
		"key tile 2 of 2 in query tile 0":    func(b *LayoutBuilder) { b.Full(2) },
		"1 query tiles described":            func(b *LayoutBuilder) { b.EndRow() },
		"query tile 3 of 3":                  func(b *LayoutBuilder) { b.EndRow(); b.EndRow(); b.EndRow(); b.Full(0) },
	} {
		b := NewLayoutBuilder(130, 65)
		f(b)
		_, err := b.Finish()
		require.ErrorIs(t, err, ErrLayout)
		require.ErrorContains(t, err, want)
	}
	_, err := NewLayoutBuilder(-1, 3).Finish()
	require.ErrorContains(t, err, "negative")
}

// Chunks cover all query tiles; every key tile has one place in DK itself, and one private tile in each later chunk.
func TestChunkPlan(t *testing.T) {
	l := FullLayout(300, 200)
	p := l.plan(3, false)
	require.Equal(t, []int32{0, 2, 4, 5}, p.start)
	require.Equal(t, 2*tilesOf(200), p.slots)
	require.Same(t, p, l.plan(3, false))
	g := l.plan(1, true)
	require.Equal(t, tilesOf(200), g.slots)
	first := 0
	for _, s := range p.slot {
		first += int(s & 1)
	}
	require.Equal(t, 3*tilesOf(200), first)
}
