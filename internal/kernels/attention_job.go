package kernels

import (
	"math"
	"math/bits"
	"unsafe"
)

// attnJob is one call of Forward or Backward with the scratch it needs. Jobs are kept for reuse, their methods bound once, so
// that a call allocates nothing.
type attnJob[F Float] struct {
	a      *Attention[F]
	t      *attnTable[F]
	scale2 F // Scale * log2(e): scores are in base 2
	nq, nk int
	group  int // query tiles of a task of Forward
	cached int // key tiles that a worker keeps, see attnSpace.keys; 0: keys and values are read in place
	// of Backward
	dO, dQ, dK, dV Rows[F]
	dLSE           []F
	chunks         int
	plans          []*chunkPlan // of each layout
	slots          []F          // private tiles of DK and DV: [b][h][slot][64*(D+DV)]
	dqRows         []F          // [b][h][row][D], with RowsQ
	base           []int        // first slot of each head of each example
	// with labels
	numLabels int
	tables    tableGrads[F]

	ws                          []attnSpace[F]
	forwardTasks, backwardTasks func(phase int) int
	forward, backward           func(worker, phase, task int)
}

// laneStride is the distance of rows of Q^T and dO^T: 64 queries, and a cache line more so that a column does not fall into
// few sets of the cache.
const laneStride = Tile + 16

// attnSpace is the scratch of one worker.
type attnSpace[F Float] struct {
	mem         []F
	q, dq       []F // [64][ldk]
	do, o       []F // [64][ldv]
	qt, dot     []F // [D][laneStride], [DV][laneStride]
	s, dp       []F // [64 keys][64 queries]
	m, l, alpha []F // [64]
	lse, delta  []F // [64]
	mask        [Tile]uint64
	ldk, ldv    int

	table, dtable []F // [labels][64 queries]: what a label adds to a score, and its gradient
	tableOf       int // head that the table is of, if all its tiles share it; -1: none

	// Copies of the tiles of K and V used last, tile t in slot t modulo their number. In a fused buffer the rows of a tile lie so
	// far apart that they share few sets of the caches and many pages; neighbouring query tiles read the same key tiles.
	kv    []F
	tags  []int32 // 1 + tile in each slot
	owner int     // head of this call that they belong to, -1: none
}

// padded is the row distance of a tile of n channels in scratch: no multiple of 128, see laneStride.
func padded(n int) int {
	if n < 128 {
		return n
	}
	return ((n+15)/16 | 1) * 16
}

// fit makes room for heads of d and dv channels, `cached` key tiles and so many labels.
func (w *attnSpace[F]) fit(d, dv, cached, labels int) {
	w.ldk, w.ldv = padded(d), padded(dv)
	need := 2*Tile*(w.ldk+w.ldv) + (d+dv)*laneStride + 2*Tile*Tile + 5*Tile
	if len(w.mem) < need {
		w.mem = make([]F, need)
	}
	rest := w.mem
	cut := func(n int) []F {
		s := rest[:n:n]
		rest = rest[n:]
		return s
	}
	w.s, w.dp = cut(Tile*Tile), cut(Tile*Tile)
	w.m, w.l, w.alpha, w.lse, w.delta = cut(Tile), cut(Tile), cut(Tile), cut(Tile), cut(Tile)
	w.qt, w.dot = cut(d*laneStride), cut(dv*laneStride)
	w.q, w.dq = cut(Tile*w.ldk), cut(Tile*w.ldk)
	w.do, w.o = cut(Tile*w.ldv), cut(Tile*w.ldv)
	if n := cached * Tile * (w.ldk + w.ldv); len(w.kv) < n {
		w.kv = make([]F, n)
	}
	if len(w.tags) < cached {
		w.tags = make([]int32, cached)
	}
	if len(w.table) < labels*Tile {
		w.table, w.dtable = make([]F, labels*Tile), make([]F, labels*Tile)
	}
}

// Jobs that nobody uses.
var (
	attnJobs32 FreeList[attnJob[float32]]
	attnJobs64 FreeList[attnJob[float64]]
)

func attnPool[F Float]() *FreeList[attnJob[F]] {
	return FreeListOf[attnJob[F]](&attnJobs32, &attnJobs64)
}

func newAttnJob[F Float]() *attnJob[F] {
	j := &attnJob[F]{}
	j.forwardTasks, j.forward = j.countForward, j.runForward
	j.backwardTasks, j.backward = j.countBackward, j.runBackward
	return j
}

// release gives the job back without the caller's memory.
func (j *attnJob[F]) release() {
	j.a, j.dLSE = nil, nil
	j.dO, j.dQ, j.dK, j.dV = Rows[F]{}, Rows[F]{}, Rows[F]{}, Rows[F]{}
	clear(j.plans)
	attnPool[F]().Give(j)
}

// Limits of the scratch and of the tasks of a call, in bytes and in tiles.
const (
	cacheBytes   = 16 << 20 // of the key tiles that one worker keeps
	forwardTasks = 64       // at least, where there are as many query tiles
	maxGroup     = 8
)

// begin prepares the job for a checked Attention.
func (j *attnJob[F]) begin(a *Attention[F]) {
	j.a, j.t = a, attnKernelsFor[F](a.D, a.DV)
	j.scale2 = a.Scale * math.Log2E
	j.nq, j.nk = tilesOf(a.TQ), tilesOf(a.TK)
	j.group = max(1, min(maxGroup, a.B*a.H*j.nq/forwardTasks))
	tiles := 0
	for _, l := range a.Layouts {
		tiles += len(l.Col)
	}
	j.cached = 0
	dense := a.K.Row == a.D && a.V.Row == a.DV
	if a.IndexK != nil || !dense && tiles >= 2*j.nk*len(a.Layouts) {
		size := Tile * (padded(a.D) + padded(a.DV)) * int(unsafe.Sizeof(F(0)))
		row := tiles / max(1, len(a.Layouts)*j.nq) // tiles of a query tile, on average
		j.cached = max(1, min(j.nk, max(4, 2*row+2), cacheBytes/size))
	}
	j.numLabels = a.labelCount()
	for len(j.ws) < Workers() {
		j.ws = append(j.ws, attnSpace[F]{})
	}
	for i := range j.ws {
		j.ws[i].fit(a.D, a.DV, j.cached, j.numLabels)
		j.ws[i].owner, j.ws[i].tableOf = -1, -1
	}
}

// layout is the number of that of head h of example b.
func (j *attnJob[F]) layout(b, h int) int { return perHead(len(j.a.Layouts), j.a.H, b, h) }

// perHead is which of n things belongs to head h of example b: there is one for all, one for each of heads, or one for each of all.
func perHead(n, heads, b, h int) int {
	switch n {
	case 1:
		return 0
	case heads:
		return h
	}
	return b*heads + h
}

// attnSide is one example and head of the queries or of the keys.
type attnSide struct {
	rows  int     // of the layout
	limit int     // tokens from here on do not exist
	index []int32 // of the rows; nil: row t is token t
}

func (j *attnJob[F]) side(b, h, rows, tokens int, lens, index []int32) attnSide {
	s := attnSide{rows: rows, limit: tokens}
	if lens != nil {
		s.limit = max(0, min(tokens, int(lens[b])))
	}
	switch {
	case index == nil:
	case len(index) == rows:
		s.index = index
	case len(index) == j.a.B*j.a.H*rows:
		s.index = index[(b*j.a.H+h)*rows:][:rows]
	default:
		s.index = index[b*rows:][:rows]
	}
	return s
}

func (j *attnJob[F]) queries(b, h int) attnSide {
	tq, _ := j.a.tokens()
	return j.side(b, h, j.a.TQ, tq, j.a.LensQ, j.a.IndexQ)
}

func (j *attnJob[F]) keys(b, h int) attnSide {
	_, tk := j.a.tokens()
	return j.side(b, h, j.a.TK, tk, j.a.LensK, j.a.IndexK)
}

// tile returns the rows of tile t that stand for a token, as bits, and how many rows reach to the last of them.
func (s *attnSide) tile(t int) (n int, valid uint64) {
	n = min(Tile, s.rows-t*Tile)
	if s.index == nil {
		n = max(0, min(n, s.limit-t*Tile))
		return n, firstBits(n)
	}
	for r, x := range s.index[t*Tile:][:n] {
		if x >= 0 && int(x) < s.limit {
			valid |= 1 << r
		}
	}
	return bits.Len64(valid), valid
}

// firstBits has the lowest n bits set.
func firstBits(n int) uint64 {
	if n == 0 {
		return 0
	}
	return ^uint64(0) >> (Tile - n)
}

// load returns n rows of c channels of tile t and their distance: in place if the rows are tokens in order and copying is not
// asked for, else copied to dst (rows without a token become 0).
func (j *attnJob[F]) load(s *attnSide, x *Rows[F], b, h, t, n int, valid uint64, c int, dst []F, ld int, copying bool) ([]F, int) {
	if s.index == nil {
		if !copying {
			return x.at(b, h, t*Tile), x.Row
		}
		j.t.copyRows(n, c, x.at(b, h, t*Tile), x.Row, dst, ld)
		return dst, ld
	}
	head := x.Data[b*x.Batch+h*x.Head:]
	for r, token := range s.index[t*Tile:][:n] {
		if valid>>r&1 == 0 {
			clear(dst[r*ld:][:c])
		} else {
			copy(dst[r*ld:][:c], head[int(token)*x.Row:])
		}
	}
	return dst, ld
}

// keys returns a tile of K and one of V, and the distances of their rows.
func (w *attnSpace[F]) keys(j *attnJob[F], ks *attnSide, b, h int, x *attnTile) (k []F, ldk int, v []F, ldv int) {
	a := j.a
	if j.cached == 0 {
		return a.K.at(b, h, x.t*Tile), a.K.Row, a.V.at(b, h, x.t*Tile), a.V.Row
	}
	if w.owner != b*a.H+h {
		w.owner = b*a.H + h
		clear(w.tags)
	}
	slot := x.t % j.cached
	k = w.kv[slot*Tile*(w.ldk+w.ldv):][:Tile*(w.ldk+w.ldv)]
	k, v = k[:Tile*w.ldk], k[Tile*w.ldk:]
	if w.tags[slot] != int32(x.t+1) {
		w.tags[slot] = int32(x.t + 1)
		j.load(ks, &a.K, b, h, x.t, x.n, x.valid, a.D, k, w.ldk, true)
		j.load(ks, &a.V, b, h, x.t, x.n, x.valid, a.DV, v, w.ldv, true)
	}
	return k, w.ldk, v, w.ldv
}
