package attention

import (
	"fmt"
	"slices"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/kernels"
)

// sortedRun is a run of a sortedPlan. Within a chunk the order of slots does not matter, so tokens are sorted there: masks then are
// staircases, of which the kernels leave out much, and which are made column by column instead of pair by pair.
type sortedRun struct {
	p                      sortedPlan
	b, g, heads, rounds    int
	tq, tk, slotsQ, slotsK int // tokens; slots of a round
	lensQ, lensK           []int32
	orderQ, orderK         []int32 // given
	buckets                []int32
	numBuckets             int

	rowsQ, rowsK []int32 // tokens of the slots, sorted within chunks, -1: none. [R,B,G,S], of keys with WrapAcross [B,G,R·S]
	heads1       []*sortedHead
	layouts      []*kernels.Layout // of every example and head
	now          int               // round that is being laid out

	sort, lay func(worker, bg int)
}

// sortedHead is what one group of heads of one example needs.
type sortedHead struct {
	layout         kernels.Layout
	err            error
	chunkQ, chunkK []int32    // [R,T]: chunk of each token in each round, -1: none
	countQ, countK []int32    // [R]: chunks of each round
	validQ, validK []int32    // [R,C]: tokens of each chunk
	own            []int32    // memory of validK where queries read that are no keys
	apart          [3][]int32 // of all three where keys have an order of their own: never that of the queries, whose slices those of the keys may be
	seen, same     []uint64   // queries of the tile by chunk and by bucket, for each round
	segments       []segment
	near           []span
	tiles          []int32
	mask           [kernels.Tile]uint64
}

// span is a run of slots of keys with tokens.
type span struct{ lo, hi int }

// segment is the part of a chunk of queries that stands in a tile: its slots, and the numbers of the spans it reads.
type segment struct{ lo, hi, from, to int }

var spareSorted kernels.FreeList[sortedRun]

func (p sortedPlan) begin(o *picked, in []engine.Value, lensQ, lensK []int32, _ bool) (rounds, error) {
	s := spareSorted.Take(nil)
	if s.sort == nil {
		s.sort, s.lay = s.sortHead, s.layHead
	}
	s.p, s.b, s.heads, s.tq, s.tk, s.lensQ, s.lensK = p, o.b, o.heads, o.tq, o.tk, lensQ, lensK
	s.g, s.rounds, s.slotsQ = p.order(in[0].Shape())
	s.orderQ, s.orderK, s.slotsK, s.buckets = engine.Ints(in[0]), nil, s.slotsQ, nil
	if p.apart {
		s.orderK = engine.Ints(in[1])
		_, _, s.slotsK = p.order(in[1].Shape())
	}
	if p.buckets {
		s.buckets = engine.Ints(in[len(in)-1])
		s.numBuckets = 0
		if len(s.buckets) > 0 {
			s.numBuckets = int(max(0, slices.Max(s.buckets)+1))
		}
	}
	n := s.b * s.g
	s.rowsQ = sized(s.rowsQ, s.rounds*n*s.slotsQ)
	if s.alone() {
		s.rowsK = sized(s.rowsK, s.rounds*n*s.slotsK)
	}
	for len(s.heads1) < n {
		s.heads1 = append(s.heads1, new(sortedHead))
	}
	kernels.Par(n, s.sort)
	for bg, h := range s.heads1[:n] {
		if h.err != nil {
			err := fmt.Errorf("example %d: %w", bg/s.g, h.err)
			s.release()
			return nil, err
		}
	}
	s.layouts = s.layouts[:0]
	for b := range s.b {
		for h := range s.heads {
			s.layouts = append(s.layouts, &s.heads1[b*s.g+h%s.g].layout)
		}
	}
	return s, nil
}

// alone reports whether rowsK is not rowsQ.
func (s *sortedRun) alone() bool { return s.p.apart || s.p.wrap == WrapAcross }

// keyRows are the slots of the keys of a group that round r reads, and the first of its own among them.
func (s *sortedRun) keyRows(r, bg int) []int32 {
	switch n := s.b * s.g; {
	case s.p.wrap == WrapAcross:
		return s.rowsK[bg*s.rounds*s.slotsK:][:s.rounds*s.slotsK]
	case s.p.apart:
		return s.rowsK[(r*n+bg)*s.slotsK:][:s.slotsK]
	default:
		return s.queryRows(r, bg)
	}
}

func (s *sortedRun) queryRows(r, bg int) []int32 {
	return s.rowsQ[(r*s.b*s.g+bg)*s.slotsQ:][:s.slotsQ]
}

func (s *sortedRun) count() int { return s.rounds }

func (s *sortedRun) release() {
	s.orderQ, s.orderK, s.buckets, s.lensQ, s.lensK = nil, nil, nil, nil, nil
	spareSorted.Give(s)
}

func (s *sortedRun) token(b, h, row int) int {
	if !s.p.slots {
		return row
	}
	return int(s.queryRows(0, b*s.g+h%s.g)[row])
}

func (s *sortedRun) round(r int, c *kernelCall) error {
	s.now = r
	n := s.b * s.g
	kernels.Par(n, s.lay)
	*c = kernelCall{layouts: s.layouts, tq: s.slotsQ, tk: s.slotsK, rowsQ: s.p.slots}
	c.indexQ = s.rowsQ[r*n*s.slotsQ:][:n*s.slotsQ]
	switch {
	case s.p.wrap == WrapAcross:
		c.tk *= s.rounds
		c.indexK = s.rowsK[:n*c.tk]
	case s.p.apart:
		c.indexK = s.rowsK[r*n*s.slotsK:][:n*s.slotsK]
	default:
		c.indexK = c.indexQ
	}
	return nil
}

// chunksOf is how many chunks of m slots there may be.
func chunksOf(slots, m int) int { return (slots + m - 1) / m }

// sortHead sorts the chunks of all rounds of a group.
func (s *sortedRun) sortHead(_, bg int) {
	h, p := s.heads1[bg], &s.p
	lq, lk := s.tq, s.tk
	if s.lensQ != nil {
		lq = int(s.lensQ[bg/s.g])
	}
	if s.lensK != nil {
		lk = int(s.lensK[bg/s.g])
	}
	cq, ck := chunksOf(s.slotsQ, p.chunkQ), chunksOf(s.slotsK, p.chunkK)
	h.chunkQ, h.countQ, h.validQ = sized(h.chunkQ, s.rounds*s.tq), sized(h.countQ, s.rounds), sized(h.validQ, s.rounds*cq)
	h.err = nil
	for r := range s.rounds {
		given := s.orderQ[(bg*s.rounds+r)*s.slotsQ:][:s.slotsQ]
		n, err := sortChunks(given, s.queryRows(r, bg), p.chunkQ, s.tq, lq, h.chunkQ[r*s.tq:][:s.tq], h.validQ[r*cq:][:cq], p.slots, p.slots)
		if err != nil {
			h.err = fmt.Errorf("round %d: %w", r, err)
			return
		}
		h.countQ[r] = int32(n)
	}
	if !p.apart {
		h.chunkK, h.countK, h.validK = h.chunkQ, h.countQ, h.validQ
		if lk < lq { // the tokens of a chunk that are no keys stand behind those that are
			h.own = sized(h.own, len(h.validQ))
			h.validK = h.own
			for r := range s.rounds {
				rows := s.queryRows(r, bg)
				for c, n := range h.validQ[r*cq:][:cq] {
					at, _ := slices.BinarySearch(rows[c*p.chunkQ:][:n], int32(lk))
					h.validK[r*cq+c] = int32(at)
				}
			}
		}
		if p.wrap == WrapAcross {
			for r := range s.rounds {
				copy(s.keyRows(0, bg)[r*s.slotsK:], s.queryRows(r, bg))
			}
		}
		return
	}
	h.apart[0], h.apart[1], h.apart[2] = sized(h.apart[0], s.rounds*s.tk), sized(h.apart[1], s.rounds), sized(h.apart[2], s.rounds*ck)
	h.chunkK, h.countK, h.validK = h.apart[0], h.apart[1], h.apart[2]
	for r := range s.rounds {
		given := s.orderK[(bg*s.rounds+r)*s.slotsK:][:s.slotsK]
		n, err := sortChunks(given, s.keyRows(r, bg), p.chunkK, s.tk, lk, h.chunkK[r*s.tk:][:s.tk], h.validK[r*ck:][:ck], p.slots, false)
		if err != nil {
			h.err = fmt.Errorf("round %d, keys: %w", r, err)
			return
		}
		h.countK[r] = int32(n)
	}
}

// sortChunks writes the tokens below n of every chunk of m slots, rising, and then -1; chunk gets the chunk of each token, valid the
// number of tokens of each chunk. A token may stand in several chunks if many; tokens
// must stand in their places already if fixed. It returns the number of chunks.
func sortChunks(given, rows []int32, m, tokens, n int, chunk, valid []int32, many, fixed bool) (int, error) {
	end := len(given)
	for end > 0 && given[end-1] < 0 {
		end--
	}
	for t := range chunk {
		chunk[t] = -1
	}
	count := chunksOf(end, m)
	for c := range chunksOf(len(given), m) {
		lo, hi := c*m, min((c+1)*m, len(given))
		out, sorted, last := lo, true, int32(-1)
		for x, t := range given[lo:hi] {
			if int(t) >= tokens {
				return 0, fmt.Errorf("slot %d holds token %d of %d", lo+x, t, tokens)
			}
			if t < 0 || int(t) >= n {
				continue
			}
			sorted = sorted && t > last && (!fixed || out == lo+x)
			last = t
			rows[out] = t
			out++
		}
		if !sorted {
			if fixed {
				return 0, fmt.Errorf("the tokens of chunk %d are not rising, or have gaps between them", c)
			}
			slices.Sort(rows[lo:out])
		}
		valid[c] = int32(out - lo)
		for _, t := range rows[lo:out] {
			if chunk[t] >= 0 && !many || chunk[t] == int32(c) {
				return 0, fmt.Errorf("token %d stands in two slots", t)
			}
			chunk[t] = int32(c)
		}
		for x := out; x < hi; x++ {
			rows[x] = -1
		}
	}
	return count, nil
}
