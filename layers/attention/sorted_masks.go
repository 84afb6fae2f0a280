package attention

import (
	"slices"

	"github.com/euryale-ml/euryale/internal/kernels"
)

// layHead lays the current round of a group out in tiles.
func (s *sortedRun) layHead(_, bg int) {
	const tile = kernels.Tile
	h, r, m := s.heads1[bg], s.now, s.p.chunkQ
	keys, count := s.keyRows(r, bg), int(h.countQ[r])
	valid := h.validQ[r*chunksOf(s.slotsQ, m):]
	l := &h.layout
	l.Reset(s.slotsQ, len(keys))
	if s.p.once {
		h.seen = sized(h.seen, r*chunksOf(s.slotsQ, m))
		clear(h.seen)
	}
	if s.p.buckets {
		h.same = sized(h.same, s.rounds*s.numBuckets)
		clear(h.same)
	}
	for first := 0; first < s.slotsQ; first += tile {
		h.segments, h.near, h.tiles = h.segments[:0], h.near[:0], h.tiles[:0]
		for c := first / m; c < count && c*m < first+tile; c++ {
			lo, hi := max(c*m, first), min(c*m+int(valid[c]), first+tile)
			if lo >= hi {
				continue
			}
			from := len(h.near)
			s.window(h, r, c)
			h.segments = append(h.segments, segment{lo, hi, from, len(h.near)})
		}
		for _, n := range h.near {
			for t := n.lo / tile; t*tile < n.hi; t++ {
				h.tiles = append(h.tiles, int32(t))
			}
		}
		slices.Sort(h.tiles)
		h.tiles = slices.Compact(h.tiles)
		s.classes(h, bg, first, true)
		for _, t := range h.tiles {
			s.tile(h, bg, first, int(t), keys)
		}
		s.classes(h, bg, first, false)
		l.EndRow()
	}
}

// window appends the slots of the keys that chunk c of a round reads.
func (s *sortedRun) window(h *sortedHead, r, c int) {
	p := &s.p
	chunks, own := int(h.countK[r]), 0 // of the ring, and those before the round in it
	if p.wrap == WrapAcross {
		chunks = 0
		for k, n := range h.countK[:s.rounds] {
			if k == r {
				own = chunks
			}
			chunks += int(n)
		}
	}
	lo, hi := own+c-p.before, own+c+p.after
	if p.wrap == WrapNone {
		lo, hi = max(lo, 0), min(hi, chunks-1)
	} else if hi-lo >= chunks { // each once
		lo, hi = 0, chunks-1
	}
	for x := lo; x <= hi; x++ {
		at, round := x, r
		if p.wrap != WrapNone {
			at = (x%chunks + chunks) % chunks
		}
		first := 0
		if p.wrap == WrapAcross {
			for round = 0; at >= int(h.countK[round]); round++ {
				at -= int(h.countK[round])
			}
			first = round * s.slotsK
		}
		first += at * p.chunkK
		if n := int(h.validK[round*chunksOf(s.slotsK, p.chunkK)+at]); n > 0 {
			h.near = append(h.near, span{first, first + n})
		}
	}
}

// classes notes which queries of a tile are in each chunk of the rounds before, and in each bucket, or forgets it.
func (s *sortedRun) classes(h *sortedHead, bg, first int, set bool) {
	if !s.p.once && !s.p.buckets {
		return
	}
	rows, chunks := s.queryRows(s.now, bg), chunksOf(s.slotsQ, s.p.chunkQ)
	for _, g := range h.segments {
		for x := g.lo; x < g.hi; x++ {
			t, bit := int(rows[x]), uint64(1)<<(x-first)
			if !set {
				bit = 0
			}
			for r := range s.now {
				if c := h.chunkQ[r*s.tq+t]; s.p.once && c >= 0 {
					mark(&h.seen[r*chunks+int(c)], bit)
				}
			}
			for r := range s.now + 1 {
				if !s.p.buckets {
					break
				}
				if k := s.bucket(bg, r, t); k >= 0 {
					mark(&h.same[r*s.numBuckets+k], bit)
				}
			}
		}
	}
}

// mark sets a bit, or clears all if there is none.
func mark(x *uint64, bit uint64) {
	*x |= bit
	if bit == 0 {
		*x = 0
	}
}

// bucket is that of a token in a round.
func (s *sortedRun) bucket(bg, r, t int) int { return int(s.buckets[(bg*s.rounds+r)*s.tq+t]) }

// tile lists a tile if any of its pairs is seen.
func (s *sortedRun) tile(h *sortedHead, bg, first, t int, keys []int32) {
	const tile = kernels.Tile
	rows := s.queryRows(s.now, bg)
	clear(h.mask[:])
	var all uint64
	for _, g := range h.segments {
		all |= bitsFrom(g.lo-first, g.hi-first)
		for _, n := range h.near[g.from:g.to] {
			lo, hi := max(n.lo, t*tile), min(n.hi, (t+1)*tile)
			if lo < hi {
				s.stairs(rows[g.lo:g.hi], g.lo-first, keys[lo:hi], h.mask[lo-t*tile:])
			}
		}
	}
	full, pairs := true, 0
	for c, j := range keys[t*tile : min(len(keys), (t+1)*tile)] {
		if j < 0 {
			continue
		}
		if h.mask[c] != 0 && (s.p.once || s.p.buckets) {
			h.mask[c] &= s.allowed(h, bg, int(j))
		}
		full = full && h.mask[c] == all
		pairs++
	}
	if full {
		h.layout.AddFull(t)
	} else {
		h.layout.AddMask(t, &h.mask)
	}
}

// bitsFrom has the bits lo to hi-1 set.
func bitsFrom(lo, hi int) uint64 { return (^uint64(0) >> (kernels.Tile - (hi - lo))) << lo }

// stairs adds to a mask by key the queries that read each key; both are rising. at is the bit of the first query.
func (s *sortedRun) stairs(queries []int32, at int, keys []int32, mask []uint64) {
	whole, n, x := bitsFrom(at, at+len(queries)), len(queries), 0
	switch {
	case s.p.causal:
		least := int32(0) // a query reads keys that are so much less
		if s.p.others {
			least = 1
		}
		for c, j := range keys {
			for x < n && queries[x] < j+least {
				x++
			}
			if x == n {
				return
			}
			mask[c] |= whole >> x << x & whole & (^uint64(0) << (at + x))
		}
	case s.p.others:
		for c, j := range keys {
			for x < n && queries[x] < j {
				x++
			}
			mask[c] |= whole
			if x < n && queries[x] == j {
				mask[c] &^= 1 << (at + x)
			}
		}
	default:
		for c := range keys {
			mask[c] |= whole
		}
	}
}

// allowed are the queries of the tile that have the bucket of key j and did not read it in a round before.
func (s *sortedRun) allowed(h *sortedHead, bg, j int) uint64 {
	p, seen := &s.p, ^uint64(0)
	if p.buckets {
		k := s.bucket(bg, s.now, j)
		if k < 0 {
			return 0
		}
		seen = h.same[s.now*s.numBuckets+k]
	}
	if !p.once {
		return seen
	}
	chunks := chunksOf(s.slotsQ, p.chunkQ)
	for r := range s.now {
		c := int(h.chunkK[r*s.tk+j])
		if c < 0 {
			continue
		}
		of, count := h.seen[r*chunks:][:chunks], int(h.countQ[r])
		var read uint64 // by queries of the chunks c-After to c+Before
		lo, hi := c-p.after, c+p.before
		if p.wrap == WrapNone {
			lo, hi = max(lo, 0), min(hi, count-1)
		} else if hi-lo >= count {
			lo, hi = 0, count-1
		}
		for x := lo; x <= hi; x++ {
			if p.wrap == WrapNone {
				read |= of[x]
			} else {
				read |= of[(x%count+count)%count]
			}
		}
		if p.buckets {
			if k := s.bucket(bg, r, j); k >= 0 {
				read &= h.same[r*s.numBuckets+k]
			} else {
				read = 0
			}
		}
		seen &^= read
	}
	return seen
}
