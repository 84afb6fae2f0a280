package layers

import (
	"fmt"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/kernels"
)

// mixJob is one run of mixBlocks or of its gradient. The rows t0 … t0+step-1 of all blocks are a chunk: they are copied side by side, so
// that the chunk is one product of matrices.
type mixJob[F kernels.Float] struct {
	o                 mixBlocks
	b, h, n, m, t, d  int // N slots, M blocks, T rows
	step, chunks      int
	stride            int // rows of a slot in y
	p, x, y, dp, dx   []F
	lens, chosen      []int32
	work              []mixSpace[F] // of each worker
	forward, backward func(worker, task int)
}

type mixSpace[F kernels.Float] struct{ x, y []F }

// mixPool keeps jobs, with their memory, for the next run.
type mixPool[F kernels.Float] struct{ kernels.FreeList[mixJob[F]] }

var (
	mixJobs32 mixPool[float32]
	mixJobs64 mixPool[float64]
)

func (p *mixPool[F]) take() *mixJob[F] {
	return p.Take(func() *mixJob[F] {
		j := &mixJob[F]{}
		j.forward, j.backward = j.forwardOf, j.backwardOf
		return j
	})
}

func (p *mixPool[F]) give(j *mixJob[F]) {
	j.p, j.x, j.y, j.dp, j.dx, j.lens, j.chosen = nil, nil, nil, nil, nil, nil, nil
	p.Give(j)
}

// chunkNumbers bounds the numbers of a chunk, so that it stays in the second cache, and chunkColumns those of a row of it from below: each chunk goes
// through P and its gradient once.
const (
	chunkNumbers = 1 << 15
	chunkColumns = 256
)

func (j *mixJob[F]) begin(o mixBlocks, in []engine.Value) error {
	p, x := in[0].Shape(), in[1].Shape()
	j.o, j.b, j.h, j.n, j.m, j.t, j.d = o, p[0], p[1], p[2], p[3], x[1], x[2]/p[1]
	j.p, j.x = engine.Floats[F](in[0]), engine.Floats[F](in[1])
	j.step = max(1, min(o.Size, max(chunkNumbers/(max(j.n, j.m, 1)*j.d), chunkColumns/j.d)))
	j.chunks = (o.Size + j.step - 1) / j.step
	j.stride = o.Size
	if o.Own {
		j.stride = 2 * o.Size
	}
	if o.lens >= 0 {
		j.lens = engine.Ints(in[o.lens])
	}
	if o.chosen >= 0 {
		j.chosen = engine.Ints(in[o.chosen])
		for i, v := range j.chosen {
			if int(v) >= j.m {
				return fmt.Errorf("slot %d takes block %d of %d", i%j.n, v, j.m)
			}
		}
	}
	for len(j.work) < kernels.Workers() {
		j.work = append(j.work, mixSpace[F]{})
	}
	return nil
}

// length is how many rows of x count.
func (j *mixJob[F]) length(b int) int {
	if j.lens == nil {
		return j.t
	}
	return min(max(int(j.lens[b]), 0), j.t)
}

// row is where row i of example b of x begins for a head.
func (j *mixJob[F]) row(b, h, i int) int { return ((b*j.t+i)*j.h + h) * j.d }

// slot is where row t of slot u begins for a head.
func (j *mixJob[F]) slot(b, h, u, t int) int { return ((b*j.n*j.stride+u*j.stride+t)*j.h + h) * j.d }

// load copies rows t0 … t0+c-1 of all blocks of x, [M, c·D], with zeros for those that do not count.
func (j *mixJob[F]) load(b, h, t0, c int, dst []F) {
	n := j.length(b)
	for v := range j.m {
		for t := range c {
			to := dst[(v*c+t)*j.d:][:j.d]
			if i := v*j.o.Size + t0 + t; i < n {
				copy(to, j.x[j.row(b, h, i):])
			} else {
				clear(to)
			}
		}
	}
}

// wedge is how many rows of P are multiplied at once where only earlier blocks count.
const wedge = 16

func (j *mixJob[F]) forwardOf(worker, task int) {
	b, h, t0 := task/(j.h*j.chunks), task/j.chunks%j.h, task%j.chunks*j.step
	c := min(j.step, j.o.Size-t0)
	w, cols := &j.work[worker], c*j.d
	x, y, p := grown(&w.x, j.m*cols), grown(&w.y, j.n*cols), j.p[(b*j.h+h)*j.n*j.m:]
	j.load(b, h, t0, c, x)
	switch {
	case j.chosen != nil:
		for u, v := range j.chosen[(b*j.h+h)*j.n:][:j.n] {
			if v < 0 {
				clear(y[u*cols:][:cols])
			} else {
				copy(y[u*cols:][:cols], x[int(v)*cols:])
			}
		}
	case j.o.Earlier:
		for u := 0; u < j.n; u += wedge {
			rows := min(wedge, j.n-u)
			kernels.Gemm(false, false, rows, cols, min(u+rows-1, j.m), p[u*j.m:], j.m, x, cols, y[u*cols:], cols, false, nil)
		}
	default:
		kernels.Gemm(false, false, j.n, cols, j.m, p, j.m, x, cols, y, cols, false, nil)
	}
	for u := range j.n {
		for t := range c {
			copy(j.y[j.slot(b, h, u, t0+t):][:j.d], y[(u*c+t)*j.d:])
		}
	}
	if j.o.Own {
		for u := range j.n {
			for t := range c {
				copy(j.y[j.slot(b, h, u, j.o.Size+t0+t):][:j.d], x[(u*c+t)*j.d:])
			}
		}
	}
}

// backwardOf does one head, chunk after chunk, as they add up in dP.
func (j *mixJob[F]) backwardOf(worker, task int) {
	b, h := task/j.h, task%j.h
	p, dp := j.p[task*j.n*j.m:], j.dp[task*j.n*j.m:][:j.n*j.m]
	clear(dp)
	for i := j.length(b); i < j.t; i++ {
		clear(j.dx[j.row(b, h, i):][:j.d])
	}
	for t0 := 0; t0 < j.o.Size; t0 += j.step {
		c := min(j.step, j.o.Size-t0)
		w, cols := &j.work[worker], c*j.d
		x, dy := grown(&w.x, j.m*cols), grown(&w.y, j.n*cols)
		j.load(b, h, t0, c, x)
		for u := range j.n {
			for t := range c {
				copy(dy[(u*c+t)*j.d:][:j.d], j.y[j.slot(b, h, u, t0+t):])
			}
		}
		if j.o.Earlier && j.chosen == nil {
			for u := 0; u < j.n; u += wedge {
				rows := min(wedge, j.n-u)
				kernels.Gemm(false, true, rows, min(u+rows-1, j.m), cols, dy[u*cols:], cols, x, cols, dp[u*j.m:], j.m, true, nil)
			}
		} else {
			kernels.Gemm(false, true, j.n, j.m, cols, dy, cols, x, cols, dp, j.m, true, nil)
		}
		j.spread(b, h, c, p, dy, x)
		j.store(b, h, t0, c, x)
	}
}

// spread writes Σ_u P_uv dy_u over x.
func (j *mixJob[F]) spread(b, h, c int, p, dy, x []F) {
	cols := c * j.d
	switch {
	case j.chosen != nil:
		clear(x)
		for u, v := range j.chosen[(b*j.h+h)*j.n:][:j.n] {
			if v >= 0 {
				kernels.Add(x[int(v)*cols:][:cols], dy[u*cols:][:cols], x[int(v)*cols:][:cols])
			}
		}
	case j.o.Earlier:
		for v := 0; v < j.m; v += wedge {
			rows, from := min(wedge, j.m-v), min(v+1, j.n)
			kernels.Gemm(true, false, rows, cols, j.n-from, p[min(from*j.m+v, len(p)):], j.m, dy[from*cols:], cols, x[v*cols:], cols, false, nil)
		}
	default:
		kernels.Gemm(true, false, j.m, cols, j.n, p, j.m, dy, cols, x, cols, false, nil)
	}
}

// store writes the gradient of a chunk, and adds that of own rows.
func (j *mixJob[F]) store(b, h, t0, c int, x []F) {
	n := j.length(b)
	for v := range j.m {
		for t := range c {
			i := v*j.o.Size + t0 + t
			if i >= n {
				break
			}
			to, from := j.dx[j.row(b, h, i):][:j.d], x[(v*c+t)*j.d:][:j.d]
			if j.o.Own {
				kernels.Add(from, j.y[j.slot(b, h, v, j.o.Size+t0+t):][:j.d], to)
			} else {
				copy(to, from)
			}
		}
	}
}
