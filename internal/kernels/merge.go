package kernels

import (
	"math"
)

// Merge brings the results of attention on parts of the keys together: lse = log sum exp(lse_k), o = sum exp(lse_k - lse) o_k
// (Milakov and Gimelshein 2018, arXiv 1805.02867). O is [B,T,H,D], LSE [B,H,T]. A query that reads nothing in a part has
// lse_k = -Inf there; one that reads nothing at all has o = 0 and lse = -Inf.
// Cost: B·T·H·D a part. Work is cut by shape only. Take it, Add the parts, run it, Release it: then nothing is allocated.
type Merge[F Float] struct {
	b, t, h, d int
	o, lse     [][]F // of the parts
	out, sum   []F   // merged
	dO, dLSE   []F
	grads      []F // of o and lse of each part
	ws         []mergeSpace[F]
	kernels    *attnTable[F]
	e          *elemTable[F]

	forward, backward func(worker, task int)
}

// mergeSpace is the scratch of one worker, by query of a tile.
type mergeSpace[F Float] struct{ top, total, w, all, one [Tile]F }

// Those that nobody uses.
var (
	merges32 FreeList[Merge[float32]]
	merges64 FreeList[Merge[float64]]
)

func mergePool[F Float]() *FreeList[Merge[F]] { return FreeListOf[Merge[F]](&merges32, &merges64) }

func newMerge[F Float]() *Merge[F] {
	m := &Merge[F]{}
	m.forward, m.backward = m.runForward, m.runBackward
	return m
}

// TakeMerge returns a Merge without parts.
func TakeMerge[F Float](b, t, h, d int) *Merge[F] {
	m := mergePool[F]().Take(newMerge[F])
	m.b, m.t, m.h, m.d = b, t, h, d
	m.kernels, m.e = attnKernelsFor[F](d, d), elem[F]()
	if len(m.ws) < Workers() {
		m.ws = make([]mergeSpace[F], Workers())
	}
	return m
}

// Add adds a part.
func (m *Merge[F]) Add(o, lse []F) { m.o, m.lse = append(m.o, o), append(m.lse, lse) }

// Release gives the Merge back without the caller's memory.
func (m *Merge[F]) Release() {
	clear(m.o)
	clear(m.lse)
	m.o, m.lse = m.o[:0], m.lse[:0]
	m.out, m.sum, m.dO, m.dLSE, m.grads = nil, nil, nil, nil, nil
	mergePool[F]().Give(m)
}

// Forward writes o and lse of all parts.
func (m *Merge[F]) Forward(o, lse []F) {
	m.out, m.sum = o, lse
	Par(m.b*m.h*tilesOf(m.t), m.forward)
}

// Backward writes the gradients of o and lse of each part, one after the other, from the merged ones and their gradients: with
// w = exp(lse_k - lse), do_k = w do and dlse_k = w (do·(o_k - o) + dlse).
func (m *Merge[F]) Backward(o, lse, dO, dLSE, grads []F) {
	m.out, m.sum, m.dO, m.dLSE, m.grads = o, lse, dO, dLSE, grads
	Par(m.b*m.h*tilesOf(m.t), m.backward)
}

// tile returns where the queries of a task stand in o and in lse, and how many they are.
func (m *Merge[F]) tile(task int) (o, lse, n int) {
	tiles := tilesOf(m.t)
	bh, t := task/tiles, task%tiles*Tile
	return ((bh/m.h*m.t+t)*m.h + bh%m.h) * m.d, bh*m.t + t, min(Tile, m.t-t)
}

// weights fills w with exp(lse - by), 0 where lse is -Inf.
func (m *Merge[F]) weights(w, lse, by []F) {
	for r, x := range lse {
		w[r] = x - by[r]
		if x == F(math.Inf(-1)) {
			w[r] = x
		}
	}
	m.e.exp(w, w)
}

func (m *Merge[F]) runForward(worker, task int) {
	at, first, n := m.tile(task)
	s := &m.ws[worker]
	top, total, w := s.top[:n], s.total[:n], s.w[:n]
	copy(top, m.lse[0][first:])
	for _, lse := range m.lse[1:] {
		for r := range top {
			top[r] = max(top[r], lse[first+r])
		}
	}
	clear(total)
	for _, lse := range m.lse {
		m.weights(w, lse[first:first+n], top)
		m.e.add(total, w, total)
	}
	sum := m.sum[first:][:n]
	for r, x := range total {
		sum[r] = top[r] + F(math.Log(float64(x)))
	}
	ld := m.h * m.d
	for k, o := range m.o {
		m.weights(w, m.lse[k][first:first+n], sum)
		if k == 0 {
			m.kernels.scaleRows(n, m.d, o[at:], ld, w, m.out[at:], ld)
			continue
		}
		for r, f := range w {
			m.e.axpy(f, o[at+r*ld:][:m.d], m.out[at+r*ld:][:m.d])
		}
	}
}

func (m *Merge[F]) runBackward(worker, task int) {
	at, first, n := m.tile(task)
	s := &m.ws[worker]
	w, all, one, ld := s.w[:n], s.all[:n], s.one[:n], m.h*m.d
	m.kernels.dots(n, m.d, m.dO[at:], ld, m.out[at:], ld, all)
	size := m.b * m.t * m.h * (m.d + 1) // of the gradients of a part
	for k, o := range m.o {
		do, dlse := m.grads[k*size:], m.grads[k*size+size-m.b*m.t*m.h:]
		m.weights(w, m.lse[k][first:first+n], m.sum[first:first+n])
		m.kernels.scaleRows(n, m.d, m.dO[at:], ld, w, do[at:], ld)
		m.kernels.dots(n, m.d, m.dO[at:], ld, o[at:], ld, one)
		for r, f := range w {
			if dlse[first+r] = 0; f != 0 {
				dlse[first+r] = f * (one[r] - all[r] + m.dLSE[first+r])
			}
		}
	}
}
