package kernels

import (
	"math"
	"math/bits"
	"sync"
	"unsafe"
)

// attnJob is one call of Forward or Backward with the scratch it needs. Jobs are kept for reuse, their methods bound once, so
// that a call allocates nothing.
type attnJob[F Float] struct {
	a      *Attention[F]
	t      *attnTable[F]
	scale2 F // Scale * log2(e): scores are in base 2
	nq, nk int
	// of Backward
	dO, dQ, dK, dV Rows[F]
	dLSE           []F
	chunks         int
	plans          []*chunkPlan // of each layout
	slots          []F          // private tiles of DK and DV: [b][h][slot][64*(D+DV)]
	base           []int        // first slot of each head

	ws                          []attnSpace[F]
	forwardTasks, backwardTasks func(phase int) int
	forward, backward           func(worker, phase, task int)
}

// laneStride is the distance of rows of Q^T and dO^T: 64 queries, and a cache line more so that a column does not fall into
// few sets of the cache.
const laneStride = Tile + 16

// attnSpace is the scratch of one worker, in one allocation.
type attnSpace[F Float] struct {
	mem         []F
	q, k, dq    []F // [64][ldk]
	do, v, o    []F // [64][ldv]
	qt, dot     []F // [D][laneStride], [DV][laneStride]
	s, dp       []F // [64 keys][64 queries]
	m, l, alpha []F // [64]
	lse, delta  []F // [64]
	mask        [Tile]uint64
	ldk, ldv    int
}

// padded is the row distance of a tile of n channels in scratch: no multiple of 128, see laneStride.
func padded(n int) int {
	if n < 128 {
		return n
	}
	return ((n+15)/16 | 1) * 16
}

// fit makes room for heads of d and dv channels.
func (w *attnSpace[F]) fit(d, dv int) {
	w.ldk, w.ldv = padded(d), padded(dv)
	need := 3*Tile*(w.ldk+w.ldv) + (d+dv)*laneStride + 2*Tile*Tile + 5*Tile + 10*16
	if len(w.mem) < need {
		w.mem = make([]F, need)
	}
	rest := w.mem
	cut := func(n int) []F {
		s := rest[:n:n]
		rest = rest[(n+15)/16*16:]
		return s
	}
	w.s, w.dp = cut(Tile*Tile), cut(Tile*Tile)
	w.m, w.l, w.alpha, w.lse, w.delta = cut(Tile), cut(Tile), cut(Tile), cut(Tile), cut(Tile)
	w.qt, w.dot = cut(d*laneStride), cut(dv*laneStride)
	w.q, w.k, w.dq = cut(Tile*w.ldk), cut(Tile*w.ldk), cut(Tile*w.ldk)
	w.do, w.v, w.o = cut(Tile*w.ldv), cut(Tile*w.ldv), cut(Tile*w.ldv)
}

// attnJobs holds the jobs nobody uses. Not a sync.Pool: that would drop their scratch at every garbage collection.
type attnJobs[F Float] struct {
	sync.Mutex
	free []*attnJob[F]
}

var (
	attnJobs32 attnJobs[float32]
	attnJobs64 attnJobs[float64]
)

func attnPool[F Float]() *attnJobs[F] {
	if unsafe.Sizeof(F(0)) == 8 {
		return (*attnJobs[F])(unsafe.Pointer(&attnJobs64))
	}
	return (*attnJobs[F])(unsafe.Pointer(&attnJobs32))
}

func takeAttnJob[F Float]() *attnJob[F] {
	p := attnPool[F]()
	p.Lock()
	defer p.Unlock()
	if n := len(p.free); n > 0 {
		j := p.free[n-1]
		p.free = p.free[:n-1]
		return j
	}
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
	p := attnPool[F]()
	p.Lock()
	p.free = append(p.free, j)
	p.Unlock()
}

// begin prepares the job for a checked Attention.
func (j *attnJob[F]) begin(a *Attention[F]) {
	j.a, j.t = a, attnKernelsFor[F](a.D, a.DV)
	j.scale2 = a.Scale * math.Log2E
	j.nq, j.nk = tilesOf(a.TQ), tilesOf(a.TK)
	for len(j.ws) < Workers() {
		j.ws = append(j.ws, attnSpace[F]{})
	}
	for i := range j.ws {
		j.ws[i].fit(a.D, a.DV)
	}
}

// layout of head h.
func (j *attnJob[F]) layout(h int) int {
	if len(j.a.Layouts) == 1 {
		return 0
	}
	return h
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

// load returns n rows of width c of tile t and their distance: in place if the rows are tokens in order and copying is not
// asked for, else copied to dst (rows without a token become 0).
func (j *attnJob[F]) load(s *attnSide, x *Rows[F], b, h, t, n int, valid uint64, c int, dst []F, ld int, copying bool) ([]F, int) {
	if s.index == nil {
		if n == 0 || !copying {
			if n == 0 {
				return nil, x.Row
			}
			return x.at(b, h, t*Tile), x.Row
		}
		j.t.copyRows(n, c, x.at(b, h, t*Tile), x.Row, dst, ld)
		return dst, ld
	}
	head := x.Data[b*x.Batch+h*x.Head:]
	for r, tok := range s.index[t*Tile:][:n] {
		if valid>>r&1 == 0 {
			clear(dst[r*ld:][:c])
		} else {
			copy(dst[r*ld:][:c], head[int(tok)*x.Row:])
		}
	}
	return dst, ld
}
