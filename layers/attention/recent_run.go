package attention

import (
	"math/bits"
	"slices"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/kernels"
)

// recentRun is a run of a recentPlan: a round for each of the clusters, and where queries and keys have clusters of their own another one in which
// tokens read themselves. Rows of the layouts are tokens by (cluster, position).
type recentRun struct {
	p             recentPlan
	b, g, t       int
	heads, rounds int
	lens          []int32 // of an example, nil: all are there
	of, among     []int32 // given

	rowsQ, rowsK []int32 // [R,B,G,T], -1 behind the last token in a cluster
	groups       []*recentHead
	layouts      []*kernels.Layout // of every example and head
	now          int               // round that is being laid out

	sort, lay func(worker, bg int)
}

// recentHead is what one group of heads of one example needs.
type recentHead struct {
	layout  kernels.Layout
	rank    []int32 // [R,T]: place of a token in its cluster
	lo, hi  []int32 // [R,T]: rows of keys that a row of queries reads, neither ever falls
	count   []int32 // [R]: rows of queries
	start   []int32 // of the clusters, of countClusters
	tileCol [kernels.Tile]uint64
}

var spareRecent kernels.FreeList[recentRun]

func (p recentPlan) begin(o *picked, in []engine.Value, lensQ, lensK []int32, _ bool) (rounds, error) {
	s := spareRecent.Take(nil)
	if s.sort == nil {
		s.sort, s.lay = s.sortGroup, s.layGroup
	}
	s.p, s.b, s.heads, s.lens = p, o.b, o.heads, lensK // queries are no more than keys
	s.g, s.rounds, s.t = sortedPlan{}.order(in[0].Shape())
	s.of = engine.Ints(in[0])
	if s.among = s.of; p.apart {
		s.among = engine.Ints(in[1])
	}
	n := s.b * s.g
	s.rowsQ = sized(s.rowsQ, s.count()*n*s.t)
	if p.apart {
		s.rowsK = sized(s.rowsK, s.count()*n*s.t)
	}
	for len(s.groups) < n {
		s.groups = append(s.groups, new(recentHead))
	}
	kernels.Par(n, s.sort)
	s.layouts = s.layouts[:0]
	for b := range s.b {
		for h := range s.heads {
			s.layouts = append(s.layouts, &s.groups[b*s.g+h%s.g].layout)
		}
	}
	return s, nil
}

func (s *recentRun) count() int {
	if s.p.apart && s.p.self {
		return s.rounds + 1
	}
	return s.rounds
}

func (s *recentRun) release() {
	s.of, s.among, s.lens = nil, nil, nil
	spareRecent.Give(s)
}

func (*recentRun) token(_, _, row int) int { return row }

func (s *recentRun) round(r int, c *kernelCall) error {
	s.now = r
	n := s.b * s.g
	kernels.Par(n, s.lay)
	*c = kernelCall{layouts: s.layouts, tq: s.t, tk: s.t}
	c.indexQ = s.rowsQ[r*n*s.t:][:n*s.t]
	if c.indexK = c.indexQ; s.p.apart {
		c.indexK = s.rowsK[r*n*s.t:][:n*s.t]
	}
	return nil
}

// rows are those of round r of a group.
func (s *recentRun) rows(all []int32, r, bg int) []int32 { return all[(r*s.b*s.g+bg)*s.t:][:s.t] }

// clusters are those of round r of a group.
func (s *recentRun) clusters(all []int32, r, bg int) []int32 {
	return all[(bg*s.rounds+r)*s.t:][:s.t]
}

// sortGroup sorts the tokens of a group in every round.
func (s *recentRun) sortGroup(_, bg int) {
	h, n := s.groups[bg], s.t
	if s.lens != nil {
		n = int(s.lens[bg/s.g])
	}
	h.rank, h.count = sized(h.rank, s.rounds*s.t), sized(h.count, s.count())
	h.lo, h.hi = sized(h.lo, s.rounds*s.t), sized(h.hi, s.rounds*s.t)
	for r := range s.rounds {
		of, rows, lo, hi := s.clusters(s.of, r, bg)[:n], s.rows(s.rowsQ, r, bg), h.lo[r*s.t:][:s.t], h.hi[r*s.t:][:s.t]
		h.count[r] = int32(h.byCluster(of, rows))
		if s.p.apart {
			among, keys := s.clusters(s.among, r, bg)[:n], s.rows(s.rowsK, r, bg)
			s.reach(of, among, rows[:h.count[r]], keys[:h.byCluster(among, keys)], lo, hi)
			continue
		}
		first, own := 0, 0
		if s.p.self {
			own = 1
		}
		for x, i := range rows[:h.count[r]] {
			if x > 0 && of[i] != of[rows[x-1]] {
				first = x
			}
			h.rank[r*s.t+int(i)] = int32(x - first)
			lo[x], hi[x] = int32(max(first, x-s.p.window)), int32(x+own)
		}
	}
	if s.count() > s.rounds { // each itself
		of, q, k := s.clusters(s.of, 0, bg), s.rows(s.rowsQ, s.rounds, bg), s.rows(s.rowsK, s.rounds, bg)
		for i := range q {
			if q[i] = -1; i < n && of[i] >= 0 {
				q[i] = int32(i)
			}
		}
		copy(k, q)
	}
}

// byCluster writes the tokens that are in a cluster by (cluster, position), and then -1, and returns how many there are.
func (h *recentHead) byCluster(of, rows []int32) int {
	most := int32(-1)
	if len(of) > 0 {
		most = slices.Max(of)
	}
	h.start = sized(h.start, int(most)+2)
	clear(h.start)
	for _, c := range of {
		if c >= 0 {
			h.start[c+1]++
		}
	}
	for c := range most + 1 {
		h.start[c+1] += h.start[c]
	}
	count := int(h.start[most+1])
	for i, c := range of {
		if c >= 0 {
			rows[h.start[c]] = int32(i)
			h.start[c]++
		}
	}
	for x := count; x < len(rows); x++ {
		rows[x] = -1
	}
	return count
}

// reach fills lo and hi where keys have clusters of their own.
func (s *recentRun) reach(of, among, rows, keys, lo, hi []int32) {
	first, at, last := 0, 0, int32(-1) // of the cluster's keys; the first that is not before the query
	for x, i := range rows {
		if c := of[i]; c != last {
			for first = at; first < len(keys) && among[keys[first]] < c; {
				first++
			}
			at, last = first, c
		}
		for at < len(keys) && among[keys[at]] == last && keys[at] < i {
			at++
		}
		lo[x], hi[x] = int32(max(first, at-s.p.window)), int32(at)
	}
}

// layGroup lays the current round of a group out in tiles.
func (s *recentRun) layGroup(_, bg int) {
	const tile = kernels.Tile
	h, r := s.groups[bg], s.now
	l := &h.layout
	l.Reset(s.t, s.t)
	if r == s.rounds {
		for x := range h.tileCol {
			h.tileCol[x] = 1 << x
		}
		for t := range (s.t + tile - 1) / tile {
			if rest := s.t - t*tile; rest < tile {
				clear(h.tileCol[rest:])
			}
			l.AddMask(t, &h.tileCol)
			l.EndRow()
		}
		return
	}
	rows, count := s.rows(s.rowsQ, r, bg), int(h.count[r])
	keys := rows
	if s.p.apart {
		keys = s.rows(s.rowsK, r, bg)
	}
	lo, hi := h.lo[r*s.t:], h.hi[r*s.t:]
	for a := 0; a < s.t; a += tile {
		z := min(a+tile, count)
		if a < z {
			for t := int(lo[a]) / tile; t*tile < int(hi[z-1]); t++ {
				s.tile(h, bg, t, rows[a:z], keys[t*tile:min((t+1)*tile, s.t)], lo[a:z], hi[a:z])
			}
		}
		l.EndRow()
	}
}

// tile lists a tile if any of its pairs is read.
func (s *recentRun) tile(h *recentHead, bg, t int, rows, keys, lo, hi []int32) {
	all, full := bitsFrom(0, len(rows)), true
	from, to := 0, 0 // queries that read a key: those that reach as far, and do not begin behind it
	clear(h.tileCol[:])
	for c, j := range keys {
		at := int32(t*kernels.Tile + c)
		for from < len(rows) && hi[from] <= at {
			from++
		}
		for to < len(rows) && lo[to] <= at {
			to++
		}
		if from < to {
			x := bitsFrom(from, to)
			if s.now > 0 {
				x = s.unseen(h, bg, x, rows, j)
			}
			h.tileCol[c] = x
		}
		full = full && h.tileCol[c] == all
	}
	if full {
		h.layout.AddFull(t)
	} else {
		h.layout.AddMask(t, &h.tileCol)
	}
}

// unseen are those of the queries x that did not read key j in a round before.
func (s *recentRun) unseen(h *recentHead, bg int, x uint64, rows []int32, j int32) uint64 {
	for r := range s.now {
		of, rank := s.clusters(s.of, r, bg), h.rank[r*s.t:][:s.t]
		c, k := of[j], rank[j]
		for y := x; y != 0 && c >= 0; y &= y - 1 {
			at := bits.TrailingZeros64(y)
			if i := rows[at]; of[i] == c && int(rank[i]-k) <= s.p.window { // it comes later, so in its cluster, too
				x &^= 1 << at
			}
		}
	}
	return x
}
