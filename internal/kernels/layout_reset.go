package kernels

import "math/bits"

// Reset begins the layout anew for nq queries and nk keys, in the memory that it has: for patterns that each run makes for itself.
// The caller then lists the tiles of each query tile in rising order by AddFull and AddMask, and ends it with EndRow. Nobody else may
// use the layout meanwhile. Equal masks are not looked for.
func (l *Layout) Reset(nq, nk int) {
	l.NQ, l.NK, l.reused = nq, nk, true
	l.Ptr, l.Col, l.Mask = append(l.Ptr[:0], 0), l.Col[:0], l.Mask[:0]
	l.Masks, l.trims, l.full, l.pairs = l.Masks[:0], l.trims[:0], 0, 0
	for _, p := range l.plans {
		if p != nil {
			p.chunks = 0
		}
	}
}

// AddFull lists key tile kt as full.
func (l *Layout) AddFull(kt int) {
	l.Col, l.Mask = append(l.Col, int32(kt)), append(l.Mask, -1)
	l.full++
	l.pairs += int64(min(Tile, l.NQ-(len(l.Ptr)-1)*Tile)) * int64(min(Tile, l.NK-kt*Tile))
}

// AddMask lists key tile kt with a mask by key: bit r of mask[c] tells whether query r of the tile reads its key c. Bits beyond nq and
// nk must be 0. A mask without a bit is not listed.
func (l *Layout) AddMask(kt int, mask *[Tile]uint64) {
	pairs := 0
	for _, x := range mask {
		pairs += bits.OnesCount64(x)
	}
	if pairs == 0 {
		return
	}
	l.Col, l.Mask = append(l.Col, int32(kt)), append(l.Mask, int32(len(l.Masks)))
	l.Masks, l.trims = append(l.Masks, *mask), append(l.trims, trimOf(mask))
	l.pairs += int64(pairs)
}

// EndRow ends a query tile.
func (l *Layout) EndRow() { l.Ptr = append(l.Ptr, int32(len(l.Col))) }
