package kernels

import (
	"errors"
	"fmt"
	"math/bits"
	"sync"
)

// Tile is the edge of a tile of the score matrix: 64 queries by 64 keys.
const Tile = 64

// TileKind says how much of a tile a pattern lets through.
type TileKind uint8

const (
	// TileEmpty is a tile without a visible pair; it is not listed.
	TileEmpty TileKind = iota
	// TilePartial is a tile of which a bit mask tells the visible pairs.
	TilePartial
	// TileFull is a tile whose every pair within the layout is visible.
	TileFull
)

// Layout is a pattern compiled for NQ queries and NK keys: for each tile of 64 queries the tiles of 64 keys that some of them
// read, in rising order (compressed rows), and for each listed tile either "full" or a bit mask. Equal masks are stored once,
// so that a band has two or three of them at any length. The last tiles may be ragged: pairs beyond NQ and NK do not exist, and
// a tile that shows all the others is full. A Layout does not change once built (but by Reset) and may be shared; memory is 8 bytes a listed
// tile and 544 bytes a mask.
type Layout struct {
	NQ, NK int
	Ptr    []int32        // tiles of query tile i are Ptr[i]:Ptr[i+1]
	Col    []int32        // key tile of each listed tile
	Mask   []int32        // index into Masks, or -1: full
	Masks  [][Tile]uint64 // transposed: bit r of Masks[m][c] tells whether query r of the tile reads its key c

	trims []trim
	full  int
	pairs int64

	reused bool // made anew for each run, see Reset

	mu    sync.Mutex
	plans [2]*chunkPlan // the last way the backward pass was cut, without and with gather
}

// trim bounds the visible part of a mask, so that the products of a partial tile can leave out what is hidden.
type trim struct {
	keys    [Tile / 16][2]uint8 // by 16 queries: the keys that any of them reads, as a range
	queries [Tile / 16][2]uint8 // by 16 keys: the queries that read any of them
}

// Tiles returns how many tiles are listed.
func (l *Layout) Tiles() int { return len(l.Col) }

// Full returns how many of the listed tiles are full; the others have masks.
func (l *Layout) Full() int { return l.full }

// Pairs returns the number of visible (query, key) pairs.
func (l *Layout) Pairs() int64 { return l.pairs }

// Fill returns the part of the listed tiles' area that is visible: what the 64x64 tiles make of the pattern. 0 without tiles.
func (l *Layout) Fill() float64 {
	var area int64
	for i := 0; i+1 < len(l.Ptr); i++ {
		rows := int64(min(Tile, l.NQ-i*Tile))
		for _, c := range l.Col[l.Ptr[i]:l.Ptr[i+1]] {
			area += rows * int64(min(Tile, l.NK-int(c)*Tile))
		}
	}
	if area == 0 {
		return 0
	}
	return float64(l.pairs) / float64(area)
}

// ForwardFlops returns the floating-point operations of the two products of a forward pass over one head, on whole tiles.
func (l *Layout) ForwardFlops(d, dv int) float64 {
	return 2 * Tile * Tile * float64(len(l.Col)) * float64(d+dv)
}

// BackwardFlops is ForwardFlops of the five products of a backward pass.
func (l *Layout) BackwardFlops(d, dv int) float64 {
	return 2 * Tile * Tile * float64(len(l.Col)) * float64(3*d+2*dv)
}

// Costs is CostsOf for the layout.
func (l *Layout) Costs() (tiles, lists float64) {
	area := 0
	for _, id := range l.Mask {
		if id < 0 {
			area += Tile * Tile
			continue
		}
		for _, k := range l.trims[id].keys {
			area += 16 * max(0, int(k[1])-int(k[0]))
		}
	}
	return CostsOf(tilesOf(l.NQ), len(l.Col), float64(area)/(Tile*Tile), l.NQ, l.pairs)
}

// CostsOf estimates the time of a forward and a backward pass over one head, by tiles and by lists (Edges) of the same pairs, in
// units of about 50 ns at 64 channels: what was measured for bands, trees and random graphs, to a third. area is that of strips of
// 16 queries and the range of keys they read, in tiles.
func CostsOf(queryTiles, listed int, area float64, queries int, pairs int64) (tiles, lists float64) {
	const (
		perQueryTile, perTile, perArea = 150, 130, 280
		perQuery, perPair              = 5, 0.65
	)
	return perQueryTile*float64(queryTiles) + perTile*float64(listed) + perArea*area, perQuery*float64(queries) + perPair*float64(pairs)
}

// Bytes returns the memory the layout takes.
func (l *Layout) Bytes() int64 {
	return int64(4*(len(l.Ptr)+len(l.Col)+len(l.Mask))) + int64(len(l.Masks))*(8*Tile+16)
}

// Sees tells whether query i reads key j. Cost O(log tiles of the row).
func (l *Layout) Sees(i, j int) bool {
	if i < 0 || j < 0 || i >= l.NQ || j >= l.NK {
		return false
	}
	lo, hi := int(l.Ptr[i/Tile]), int(l.Ptr[i/Tile+1])
	for lo < hi {
		if mid := (lo + hi) / 2; int(l.Col[mid]) < j/Tile {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if lo == int(l.Ptr[i/Tile+1]) || int(l.Col[lo]) != j/Tile {
		return false
	}
	m := l.Mask[lo]
	return m < 0 || l.Masks[m][j%Tile]>>(i%Tile)&1 == 1
}

// ErrLayout marks the errors of a layout that was described wrongly.
var ErrLayout = errors.New("layout")

// NewLayout compiles a pattern for nq queries and nk keys. keys tells the key tiles worth asking about for a query tile,
// rising and without repetition (nil: all of them); tile says what the tile of query tile qt and key tile kt is. For a partial
// tile it sets bit c of mask[r] where query qt*64+r reads key kt*64+c; mask comes cleared, bits beyond nq and nk are ignored,
// and a mask that turns out empty or full is taken as such. Cost: one call of tile for each candidate.
func NewLayout(nq, nk int, keys func(qt int) []int32, tile func(qt, kt int, mask *[Tile]uint64) TileKind) (*Layout, error) {
	b := NewLayoutBuilder(nq, nk)
	all := make([]int32, 0)
	if keys == nil {
		for k := 0; k < tilesOf(nk); k++ {
			all = append(all, int32(k))
		}
	}
	for qt := 0; qt < tilesOf(nq); qt++ {
		cand := all
		if keys != nil {
			cand = keys(qt)
		}
		for _, kt := range cand {
			var mask [Tile]uint64
			switch tile(qt, int(kt), &mask) {
			case TileFull:
				b.Full(int(kt))
			case TilePartial:
				b.Partial(int(kt), &mask)
			}
		}
		b.EndRow()
	}
	return b.Finish()
}

// FullLayout is the layout in which every query reads every key.
func FullLayout(nq, nk int) *Layout {
	l, _ := NewLayout(nq, nk, nil, func(int, int, *[Tile]uint64) TileKind { return TileFull }) // cannot fail: in order
	return l
}

// LayoutBuilder makes a Layout tile by tile: the tiles of the first query tile in rising order, EndRow, those of the second …
// The first mistake is kept and returned by Finish.
type LayoutBuilder struct {
	l    *Layout
	last int              // key tile listed last in this row, -1 at its start
	ids  map[uint64]int32 // newest mask with this hash
	next []int32          // the mask before it with the same hash, or -1
	err  error
}

// NewLayoutBuilder starts a layout of nq queries and nk keys.
func NewLayoutBuilder(nq, nk int) *LayoutBuilder {
	b := &LayoutBuilder{l: &Layout{NQ: nq, NK: nk, Ptr: []int32{0}}, last: -1, ids: map[uint64]int32{}}
	if nq < 0 || nk < 0 {
		b.fail("size %d x %d is negative", nq, nk)
	}
	return b
}

func (b *LayoutBuilder) fail(format string, args ...any) {
	if b.err == nil {
		b.err = fmt.Errorf("%w: %s", ErrLayout, fmt.Sprintf(format, args...))
	}
}

// row is the query tile that is being described.
func (b *LayoutBuilder) row() int { return len(b.l.Ptr) - 1 }

// add lists a tile whose `pairs` are visible.
func (b *LayoutBuilder) add(kt int, id int32, pairs int) {
	b.l.Col, b.l.Mask = append(b.l.Col, int32(kt)), append(b.l.Mask, id)
	b.l.pairs += int64(pairs)
	if id < 0 {
		b.l.full++
	}
}

// check reports whether key tile kt may be listed next.
func (b *LayoutBuilder) check(kt int) bool {
	switch {
	case b.row() >= tilesOf(b.l.NQ):
		b.fail("query tile %d of %d", b.row(), tilesOf(b.l.NQ))
	case kt < 0 || kt >= tilesOf(b.l.NK):
		b.fail("key tile %d of %d in query tile %d", kt, tilesOf(b.l.NK), b.row())
	case kt <= b.last:
		b.fail("key tile %d after %d in query tile %d: list them once, in rising order", kt, b.last, b.row())
	default:
		b.last = kt
		return b.err == nil
	}
	return false
}

// Full lists key tile kt as full.
func (b *LayoutBuilder) Full(kt int) {
	if b.check(kt) {
		b.add(kt, -1, min(Tile, b.l.NQ-b.row()*Tile)*min(Tile, b.l.NK-kt*Tile))
	}
}

// Partial lists key tile kt with a mask by query: bit c of mask[r]. Empty and full masks are recognised.
func (b *LayoutBuilder) Partial(kt int, mask *[Tile]uint64) {
	if !b.check(kt) {
		return
	}
	rows, cols := min(Tile, b.l.NQ-b.row()*Tile), min(Tile, b.l.NK-kt*Tile)
	within := ^uint64(0) >> (Tile - cols)
	t := *mask
	pairs := 0
	for r := range t {
		if r >= rows {
			t[r] = 0
		}
		t[r] &= within
		pairs += bits.OnesCount64(t[r])
	}
	switch pairs {
	case 0:
	case rows * cols:
		b.add(kt, -1, pairs)
	default:
		transposeBits(&t)
		b.add(kt, b.intern(&t), pairs)
	}
}

// intern returns the number of a transposed mask, a new one only if it was not seen before.
func (b *LayoutBuilder) intern(t *[Tile]uint64) int32 {
	h := uint64(1469598103934665603)
	for _, x := range t {
		h = bits.RotateLeft64((h^x)*0x9e3779b97f4a7c15, 29)
	}
	first, ok := b.ids[h]
	if !ok {
		first = -1
	}
	for id := first; id >= 0; id = b.next[id] {
		if b.l.Masks[id] == *t {
			return id
		}
	}
	id := int32(len(b.l.Masks))
	b.l.Masks = append(b.l.Masks, *t)
	b.l.trims = append(b.l.trims, trimOf(t))
	b.next = append(b.next, first)
	b.ids[h] = id
	return id
}

// EndRow ends a query tile.
func (b *LayoutBuilder) EndRow() {
	b.l.Ptr = append(b.l.Ptr, int32(len(b.l.Col)))
	b.last = -1
}

// Finish returns the layout; the builder must not be used again.
func (b *LayoutBuilder) Finish() (*Layout, error) {
	if b.row() != tilesOf(b.l.NQ) {
		b.fail("%d query tiles described, %d queries have %d", b.row(), b.l.NQ, tilesOf(b.l.NQ))
	}
	if b.err != nil {
		return nil, b.err
	}
	return b.l, nil
}

// tilesOf returns how many tiles cover n rows.
func tilesOf(n int) int { return (n + Tile - 1) / Tile }

// trimOf bounds a transposed mask.
func trimOf(t *[Tile]uint64) (b trim) {
	for s := range b.keys {
		b.keys[s], b.queries[s] = [2]uint8{Tile, 0}, [2]uint8{Tile, 0}
	}
	for c, x := range t {
		for s := range b.keys {
			y := x >> (16 * s) & 0xffff
			if y == 0 {
				continue
			}
			k, q := &b.keys[s], &b.queries[c/16]
			k[0], k[1] = min(k[0], uint8(c)), max(k[1], uint8(c+1))
			q[0] = min(q[0], uint8(16*s+bits.TrailingZeros64(y)))
			q[1] = max(q[1], uint8(16*s+bits.Len64(y)))
		}
	}
	return b
}

// transposeBits transposes a 64x64 bit matrix in place (Warren, Hacker's Delight, 7-3).
func transposeBits(a *[Tile]uint64) {
	m := uint64(0x00000000ffffffff)
	for j := Tile / 2; j != 0; j, m = j/2, m^(m<<(j/2)) {
		for k := 0; k < Tile; k = (k + j + 1) &^ j {
			t := (a[k]>>j ^ a[k+j]) & m
			a[k] ^= t << j
			a[k+j] ^= t
		}
	}
}
