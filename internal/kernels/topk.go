package kernels

import (
	"fmt"
	"slices"
)

// TopK finds the keys with the greatest products q·k of each query, exactly: of equal ones the first, NaN as the least of all. Scores
// are computed for 64 queries and 256 keys at a time and never kept; of each query a heap of K keys is.
//
// Cost: O(TQ·TK·D) for each example and head, O(K log(TK/K)) heap operations a query at random order; memory O(64·256 + 64·K) for
// each worker and the result.
type TopK[F Float] struct {
	B, H, TQ, TK, D int
	K               int // keys of a query, at most TK
	Causal          bool
	LensQ, LensK    []int32 // valid tokens of each example; nil: all
	Valid           []int32 // [B,TK], 0: no key (and, if Self, no query); nil: all are
	Self            bool
	Q, Keys         Rows[F]
	Out             []int32 // [B,H,TQ,K], rising; -1 behind them where there are fewer
}

// topKeys is how many keys are scored at a time.
const topKeys = 4 * Tile

// topJob is a call with its scratch.
type topJob[F Float] struct {
	a  *TopK[F]
	t  *attnTable[F]
	ws []topSpace[F]

	run func(worker, task int)
}

// topSpace is the scratch of one worker.
type topSpace[F Float] struct {
	qt, s  []F
	worst  [Tile]F // of the heaps that are full
	scores []F     // [64][K], each a heap with the worst on top
	keys   []int32
	count  [Tile]int
}

var (
	topJobs32 FreeList[topJob[float32]]
	topJobs64 FreeList[topJob[float64]]
)

func topPool[F Float]() *FreeList[topJob[F]] { return FreeListOf[topJob[F]](&topJobs32, &topJobs64) }

// Run fills Out. Errors: sizes that do not fit.
func (a *TopK[F]) Run() error {
	if a.K < 1 || a.K > a.TK || a.D < 1 || len(a.Out) < a.B*a.H*a.TQ*a.K {
		return fmt.Errorf("%w: the %d best of %d keys, in %d places", ErrAttention, a.K, a.TK, len(a.Out))
	}
	if err := fits("Q", &a.Q, a.B, a.H, a.TQ, a.D); err != nil {
		return err
	}
	if err := fits("K", &a.Keys, a.B, a.H, a.TK, a.D); err != nil {
		return err
	}
	p := topPool[F]()
	j := p.Take(func() *topJob[F] {
		j := &topJob[F]{}
		j.run = j.tile
		return j
	})
	j.a, j.t = a, attnKernelsFor[F](a.D, a.D)
	for len(j.ws) < Workers() {
		j.ws = append(j.ws, topSpace[F]{})
	}
	for i := range j.ws {
		w := &j.ws[i]
		w.qt, w.s = grown(w.qt, a.D*laneStride), grown(w.s, topKeys*Tile)
		w.scores, w.keys = grown(w.scores, Tile*a.K), grown(w.keys, Tile*a.K)
	}
	Par(a.B*a.H*tilesOf(a.TQ), j.run)
	j.a = nil
	p.Give(j)
	return nil
}

// tile finds the keys of 64 queries. The last ones are first, which have the most to do where it is causal.
func (j *topJob[F]) tile(worker, task int) {
	a, w, tiles := j.a, &j.ws[worker], tilesOf(j.a.TQ)
	bh, first := task%(a.B*a.H), (tiles-1-task/(a.B*a.H))*Tile
	b, h := bh/a.H, bh%a.H
	lq, lk := a.TQ, a.TK
	if a.LensQ != nil {
		lq = min(lq, int(a.LensQ[b]))
	}
	if a.LensK != nil {
		lk = min(lk, int(a.LensK[b]))
	}
	n := max(0, min(Tile, lq-first))
	w.count = [Tile]int{}
	for r := range w.worst { // a query that is full of nothing takes nothing
		w.worst[r] = lowest[F]()
	}
	if n > 0 {
		j.t.transpose(n, a.D, a.Q.at(b, h, first), a.Q.Row, 1, w.qt)
		end := lk
		if a.Causal {
			end = min(lk, first+n)
		}
		for from := 0; from < end; from += topKeys {
			m := min(topKeys, end-from)
			j.t.gemm(m, Tile, a.D, a.Keys.at(b, h, from), a.Keys.Row, 1, w.qt, laneStride, w.s, Tile, false)
			for c := range m {
				if a.Valid == nil || a.Valid[b*a.TK+from+c] != 0 {
					low := 0
					if a.Causal {
						low = max(0, from+c-first)
					}
					w.take(int32(from+c), w.s[c*Tile:][:Tile], low, n, a.K)
				}
			}
		}
	}
	for r := range min(Tile, a.TQ-first) {
		out := a.Out[(bh*a.TQ+first+r)*a.K:][:a.K]
		m := w.count[r]
		if r >= n || a.Self && a.Valid != nil && a.Valid[b*a.TK+first+r] == 0 {
			m = 0
		}
		copy(out, w.keys[r*a.K:][:m])
		slices.Sort(out[:m])
		for x := m; x < a.K; x++ {
			out[x] = -1
		}
	}
}

// take offers a key to the queries low to n-1; keys come in rising order, so that of equal ones those that are in stay.
func (w *topSpace[F]) take(key int32, s []F, low, n, k int) {
	for r := low; r < n; r++ {
		x := s[r]
		if x <= w.worst[r] && w.count[r] == k {
			continue
		}
		if x != x { // NaN
			if w.count[r] == k {
				continue
			}
			x = -lowest[F]()
		}
		scores, keys := w.scores[r*k:][:k], w.keys[r*k:][:k]
		if w.count[r] < k {
			scores[w.count[r]], keys[w.count[r]] = x, key
			if w.count[r]++; w.count[r] == k {
				for i := k/2 - 1; i >= 0; i-- {
					sift(scores, keys, i)
				}
				w.worst[r] = scores[0]
			}
			continue
		}
		scores[0], keys[0] = x, key
		sift(scores, keys, 0)
		w.worst[r] = scores[0]
	}
}

// sift moves an entry of a heap down to its place: above it are worse ones, by score and then by place.
func sift[F Float](scores []F, keys []int32, i int) {
	s, k := scores[i], keys[i]
	for {
		c := 2*i + 1
		if c >= len(keys) {
			break
		}
		if c+1 < len(keys) && worse(scores[c+1], keys[c+1], scores[c], keys[c]) {
			c++
		}
		if !worse(scores[c], keys[c], s, k) {
			break
		}
		scores[i], keys[i] = scores[c], keys[c]
		i = c
	}
	scores[i], keys[i] = s, k
}

// worse tells whether a key comes behind another.
func worse[F Float](s F, k int32, t F, l int32) bool { return s < t || s == t && k > l }

// Dots writes the products of q with n rows of d of x, ldx apart: out[e] = q · x[rows[e]].
func Dots[F Float](d int, q, x []F, ldx int, rows []int32, out []F) {
	attnKernelsFor[F](d, d).gatherDots(len(rows), d, q, x, ldx, rows, out)
}

// Products writes c[i][j] = a[i] · b[j] for m rows of a and n of b, of k numbers (best a multiple of 8), on the caller's worker alone. Cost:
// m·n·k.
func Products[F Float](m, n, k int, a []F, lda int, b []F, ldb int, c []F, ldc int) {
	t := attnKernelsFor[F](k, k)
	for j := 0; j < n; j += Tile {
		cols := min(Tile, n-j)
		for i := range m {
			t.gatherDots(cols, k, a[i*lda:], b[j*ldb:], ldb, inOrder[:cols], c[i*ldc+j:])
		}
	}
}

// inOrder is 0, 1, 2, …
var inOrder = func() (rows [Tile]int32) {
	for x := range rows {
		rows[x] = int32(x)
	}
	return rows
}()

// Best moves the m keys with the greatest scores to the front, in no order; of equal scores those that come first. It returns how many
// they are.
func Best[F Float](m int, scores []F, keys []int32) int {
	if m = min(m, len(keys)); m == 0 || m == len(keys) {
		return m
	}
	for i := m/2 - 1; i >= 0; i-- {
		sift(scores[:m], keys[:m], i)
	}
	for x := m; x < len(keys); x++ {
		if s, k := scores[x], keys[x]; worse(scores[0], keys[0], s, k) {
			scores[0], keys[0], keys[x] = s, k, keys[0]
			sift(scores[:m], keys[:m], 0)
		}
	}
	return m
}
