package layers

import (
	"math"

	"github.com/euryale-ml/euryale/internal/kernels"
)

func (j *sinkhornJob[F]) backwardOf(worker, task int) {
	n, w := j.used(task), &j.work[worker]
	p, dp, dr := j.p[task*j.n*j.n:], j.dp[task*j.n*j.n:], j.dr[task*j.n*j.n:][:j.n*j.n]
	g := grown(&w.g, n*n)
	for u := range n {
		kernels.Mul(p[u*j.n:][:n], dp[u*j.n:][:n], g[u*n:][:n])
	}
	if j.o.Normalizer == SinkhornPrefix {
		j.undoPrefix(task, n, w)
	} else {
		j.undo(task, n, w)
	}
	clear(dr)
	for u := range n {
		for v, x := range g[u*n:][:n] {
			if j.o.Mask.has(u, v) {
				at := u*j.n + v
				dr[at] = F(float64(x) * j.o.slope(float64(j.r[task*j.n*j.n+at])) / j.o.Tau)
			}
		}
	}
}

// undo goes back through the steps: what a matrix was after step s is (R + g)/τ less the logarithms of steps up to s.
func (j *sinkhornJob[F]) undo(task, n int, w *sinkhornSpace[F]) {
	r, e := grown(&w.r, n*n), grown(&w.e, n*n)
	j.start(task, n, r)
	rows, cols := grown(&w.rows, n), grown(&w.cols, n)
	clear(rows)
	clear(cols)
	line := func(s int) []F { return j.logs[(task*j.o.steps()+s)*j.n:][:n] }
	for s := range j.o.steps() {
		if j.o.onRows(s) {
			kernels.Add(rows, line(s), rows)
		} else {
			kernels.Add(cols, line(s), cols)
		}
	}
	for s := j.o.steps() - 1; s >= 0; s-- {
		for u := range n {
			row := e[u*n:][:n]
			for v, x := range r[u*n:][:n] {
				row[v] = x - rows[u] - cols[v]
			}
		}
		kernels.Exp(e, e)
		if j.o.onRows(s) {
			undoRows(n, w.g, e)
			kernels.Axpy(-1, line(s), rows)
		} else {
			undoColumns(n, w.g, e, grown(&w.line, n))
			kernels.Axpy(-1, line(s), cols)
		}
	}
}

// undoRows is g -= Z∘(sums of the rows of g).
func undoRows[F kernels.Float](n int, g, z []F) {
	for u := range n {
		row := g[u*n:][:n]
		var sum F
		for _, x := range row {
			sum += x
		}
		kernels.Axpy(-sum, z[u*n:][:n], row)
	}
}

// undoColumns is g -= Z∘(sums of the columns of g).
func undoColumns[F kernels.Float](n int, g, z, sums []F) {
	clear(sums)
	for u := range n {
		kernels.Add(sums, g[u*n:][:n], sums)
	}
	for u := range n {
		row := g[u*n:][:n]
		for v, x := range z[u*n:][:n] {
			row[v] -= x * sums[v]
		}
	}
}

// undoPrefix computes the steps again and goes back through them.
func (j *sinkhornJob[F]) undoPrefix(task, n int, w *sinkhornSpace[F]) {
	steps := j.o.steps()
	states := grown(&w.states, (steps+1)*n*n)
	at := func(s int) []F { return states[s*n*n:][:n*n] } // before step s
	j.start(task, n, at(0))
	for s := range steps {
		copy(at(s+1), at(s))
		if j.o.onRows(s) {
			takeRows(n, at(s+1), j.logs[(task*steps+s)*j.n:])
		} else {
			prefixColumns(n, at(s+1), grown(&w.cols, n))
		}
	}
	e := grown(&w.e, n*n)
	for s := steps - 1; s >= 0; s-- {
		kernels.Exp(at(s+1), e)
		if j.o.onRows(s) {
			undoRows(n, w.g, e)
		} else {
			undoPrefixColumns(n, w.g, at(s), at(s+1), e)
		}
	}
}

// undoPrefixColumns is g_u -= exp(y_u) T_u for the entries of a column, with T_u = g_u + exp(c_u - c_{u+1}) T_{u+1} and c_u the logarithm
// of row u; before and after are the matrix before and after the step, z the exponential of after. No factor is above 1.
func undoPrefixColumns[F kernels.Float](n int, g, before, after, z []F) {
	for v := range n {
		var t float64
		next := math.Inf(-1) // c of the row below that has an entry
		for u := n - 1; u >= 0; u-- {
			at := u*n + v
			x := float64(before[at])
			if math.IsInf(x, -1) {
				continue
			}
			c := x - float64(after[at])
			if !math.IsInf(next, -1) {
				t *= math.Exp(c - next)
			}
			next = c
			t += float64(g[at])
			g[at] -= F(float64(z[at]) * t)
		}
	}
}
