package kernels

// ColSum sums the rows of x (rows of d elements, ldx apart) into out [d], or adds them to out if accumulate (the gradient of a
// bias). Each chunk of 256 rows is summed alone, the chunks in order.
func ColSum[F Float](rows, d int, x []F, ldx int, out []F, accumulate bool) {
	out = out[:d]
	if !accumulate {
		clear(out)
	}
	if rows == 0 || d == 0 {
		return
	}
	x = x[:(rows-1)*ldx+d]
	k := elem[F]()
	j := newJob(opColSum, k)
	j.d, j.ld, j.x = d, ldx, x
	j.partials(rows, d)
	c := j.do(rows, partialRows)
	for i := range c {
		k.add(out, j.part[i*d:i*d+d], out)
	}
	j.free()
}

// Sum returns the sum of x, accumulated in float64 in fixed chunks.
func Sum[F Float](x []F) float64 {
	k := elem[F]()
	return reduce(k, k.sum, x)
}

// SumSq returns the sum of the squares of x, accumulated in float64 in fixed chunks.
func SumSq[F Float](x []F) float64 {
	k := elem[F]()
	return reduce(k, k.sumSq, x)
}

func reduce[F Float](k *elemTable[F], f func([]F) float64, x []F) float64 {
	if len(x) <= elemChunk {
		return f(x)
	}
	j := newJob(opSum, k)
	j.fs, j.x = f, x
	c := (len(x) + elemChunk - 1) / elemChunk
	if cap(j.part64) < c {
		j.part64 = make([]float64, c)
	}
	j.part64 = j.part64[:c]
	j.do(len(x), elemChunk)
	var s float64
	for _, p := range j.part64 {
		s += p
	}
	j.free()
	return s
}

// AllFinite reports whether x holds neither NaN nor an infinity.
func AllFinite[F Float](x []F) bool {
	k := elem[F]()
	if len(x) <= elemChunk {
		return k.finite(x)
	}
	j := newJob(opFinite, k)
	j.x = x
	j.bad.Store(0)
	j.do(len(x), elemChunk)
	ok := j.bad.Load() == 0
	j.free()
	return ok
}

// partials makes room for a cleared row of d for each chunk of partialRows rows.
func (j *job[F]) partials(rows, d int) {
	n := (rows + partialRows - 1) / partialRows * d
	if cap(j.part) < n {
		j.part = make([]F, n)
	}
	j.part = j.part[:n]
	clear(j.part)
}
