package layers

import (
	"math"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/kernels"
	"github.com/euryale-ml/euryale/internal/splitmix"
)

// sinkhornJob is one run of sinkhorn or of its gradient; a task is the matrix of one example and head.
type sinkhornJob[F kernels.Float] struct {
	o               sinkhorn
	matrices, heads int
	n               int // rows as stored
	r, noise        []F
	blocks          []int32
	key             uint64

	p, logs, dp, dr []F
	work            []sinkhornSpace[F] // of each worker

	forward, backward func(worker, task int)
}

// sinkhornSpace are matrices [n,n] of the blocks there are.
type sinkhornSpace[F kernels.Float] struct {
	r, e, g    []F
	rows, cols []F // sums over all steps that are not undone yet
	line       []F
	states     []F // of the prefix normalizer
}

// sinkhornPool keeps jobs, with their memory, for the next run.
type sinkhornPool[F kernels.Float] struct {
	kernels.FreeList[sinkhornJob[F]]
}

var (
	sinkhornJobs32 sinkhornPool[float32]
	sinkhornJobs64 sinkhornPool[float64]
)

func (p *sinkhornPool[F]) take() *sinkhornJob[F] {
	return p.Take(func() *sinkhornJob[F] {
		j := &sinkhornJob[F]{}
		j.forward, j.backward = j.forwardOf, j.backwardOf
		return j
	})
}

func (p *sinkhornPool[F]) give(j *sinkhornJob[F]) {
	j.r, j.noise, j.blocks, j.p, j.logs, j.dp, j.dr = nil, nil, nil, nil, nil, nil, nil
	p.Give(j)
}

func (j *sinkhornJob[F]) begin(o sinkhorn, in []engine.Value) {
	s := in[0].Shape()
	j.o, j.matrices, j.heads, j.n, j.r = o, s[0]*s[1], s[1], s[2], engine.Floats[F](in[0])
	if o.blocks >= 0 {
		j.blocks = engine.Ints(in[o.blocks])
	}
	if o.noise >= 0 {
		j.noise = engine.Floats[F](in[o.noise])
	}
	if o.step >= 0 {
		j.key = splitmix.Mix(splitmix.Mix(o.seed^o.site) + uint64(engine.Ints(in[o.step])[0])*splitmix.Increment)
	}
	for len(j.work) < kernels.Workers() {
		j.work = append(j.work, sinkhornSpace[F]{})
	}
}

// used is how many blocks the example of a matrix has.
func (j *sinkhornJob[F]) used(task int) int {
	if j.blocks == nil {
		return j.n
	}
	return min(max(int(j.blocks[task/j.heads]), 0), j.n)
}

// grown is a slice of n elements.
func grown[F kernels.Float](s *[]F, n int) []F {
	if cap(*s) < n {
		*s = make([]F, n)
	}
	*s = (*s)[:n]
	return *s
}

// score is what R stands for.
func (o sinkhorn) score(r float64) float64 {
	if o.LogReLU { // which is small whatever R
		return math.Log(max(r, 0) + 1e-6)
	}
	return min(max(r, -MaxSinkhornScore), MaxSinkhornScore)
}

// slope is the derivative of score.
func (o sinkhorn) slope(r float64) float64 {
	switch {
	case o.LogReLU && r > 0:
		return 1 / (r + 1e-6)
	case o.LogReLU || r < -MaxSinkhornScore || r > MaxSinkhornScore:
		return 0
	}
	return 1
}

// gumbel is the noise of an entry.
func gumbel(key uint64, u, v int) float64 {
	x := splitmix.Unit(splitmix.Mix(key + (uint64(u)<<32|uint64(v)+1)*splitmix.Increment))
	return -math.Log(-math.Log(min(max(x, 1e-6), 1-1e-6)))
}

// start writes (R + g)/τ, -Inf where there is no entry.
func (j *sinkhornJob[F]) start(task, n int, r []F) {
	key := splitmix.Mix(j.key + uint64(task+1)*splitmix.Increment)
	for u := range n {
		src := j.r[(task*j.n+u)*j.n:][:n]
		for v, x := range src {
			if !j.o.Mask.has(u, v) {
				r[u*n+v] = F(math.Inf(-1))
				continue
			}
			s := j.o.score(float64(x))
			switch {
			case j.noise != nil:
				s += float64(j.noise[(task*j.n+u)*j.n+v])
			case j.o.step >= 0:
				s += gumbel(key, u, v)
			}
			r[u*n+v] = F(s / j.o.Tau)
		}
	}
}

func (j *sinkhornJob[F]) forwardOf(worker, task int) {
	n, w := j.used(task), &j.work[worker]
	r, p := grown(&w.r, n*n), j.p[task*j.n*j.n:][:j.n*j.n]
	clear(p)
	j.start(task, n, r)
	for s := range j.o.steps() {
		line := j.logs[(task*j.o.steps()+s)*j.n:][:j.n]
		clear(line)
		switch {
		case j.o.onRows(s):
			rowLogs(n, r, grown(&w.e, n*n), line)
			takeRows(n, r, line)
		case j.o.Normalizer == SinkhornPrefix:
			prefixColumns(n, r, grown(&w.cols, n))
		default:
			columnLogs(n, r, grown(&w.e, n*n), line, grown(&w.cols, n))
			takeColumns(n, r, line)
		}
	}
	kernels.Exp(r, r)
	for u := range n {
		copy(p[u*j.n:], r[u*n:][:n])
	}
}

// rowLogs are log Σ exp of the rows, 0 for one without entries. e is scratch.
func rowLogs[F kernels.Float](n int, r, e, line []F) {
	for u := range n {
		row := r[u*n:][:n]
		top := highest(row)
		line[u] = top
		for v, x := range row {
			e[u*n+v] = x - top
		}
	}
	kernels.Exp(e, e)
	for u := range n {
		var sum F
		for _, x := range e[u*n:][:n] {
			sum += x
		}
		line[u] = logOf(line[u], sum)
	}
}

// highest is the maximum of a row, 0 for one without entries.
func highest[F kernels.Float](row []F) F {
	top := F(math.Inf(-1))
	for _, x := range row {
		top = max(top, x)
	}
	if math.IsInf(float64(top), -1) {
		return 0
	}
	return top
}

// logOf is top + log sum, 0 for a sum of nothing.
func logOf[F kernels.Float](top, sum F) F {
	if sum == 0 {
		return 0
	}
	return top + F(math.Log(float64(sum)))
}

func takeRows[F kernels.Float](n int, r, line []F) {
	for u := range n {
		row := r[u*n:][:n]
		for v := range row {
			row[v] -= line[u]
		}
	}
}

// columnLogs is rowLogs of the columns.
func columnLogs[F kernels.Float](n int, r, e, line, sums []F) {
	tops := line[:n]
	for v := range tops {
		tops[v] = F(math.Inf(-1))
	}
	for u := range n {
		for v, x := range r[u*n:][:n] {
			tops[v] = max(tops[v], x)
		}
	}
	for v, t := range tops {
		if math.IsInf(float64(t), -1) {
			tops[v] = 0
		}
	}
	for u := range n {
		row := e[u*n:][:n]
		for v, x := range r[u*n:][:n] {
			row[v] = x - tops[v]
		}
	}
	kernels.Exp(e, e)
	clear(sums)
	for u := range n {
		for v, x := range e[u*n:][:n] {
			sums[v] += x
		}
	}
	for v, sum := range sums {
		line[v] = logOf(tops[v], sum)
	}
}

func takeColumns[F kernels.Float](n int, r, line []F) {
	for u := range n {
		row := r[u*n:][:n]
		for v := range row {
			row[v] -= line[v]
		}
	}
}

// prefixColumns takes from each entry the log Σ exp of its column up to its row. c is scratch.
func prefixColumns[F kernels.Float](n int, r, c []F) {
	for v := range c {
		c[v] = F(math.Inf(-1))
	}
	for u := range n {
		row := r[u*n:][:n]
		for v, x := range row {
			if c[v] = LogAdd(c[v], x); !math.IsInf(float64(x), -1) {
				row[v] = x - c[v]
			}
		}
	}
}

// LogAdd is log(exp a + exp b); -Inf stands for nothing.
func LogAdd[F kernels.Float](a, b F) F {
	if a < b {
		a, b = b, a
	}
	if math.IsInf(float64(b), -1) {
		return a
	}
	return a + F(math.Log1p(math.Exp(float64(b-a))))
}
