package kernels

// LayerNorm normalises each row of x [rows,d] to mean 0 and variance 1 and sets y = (x - mean)/sqrt(var + eps) * w + b.
// w, b [d] may be nil (1 and 0); y may be x. The variance is the mean of squares around the mean (two passes), and the rounding of
// the mean is taken out, so that rows with a large mean keep their digits. Ba, Kiros, Hinton 2016.
func LayerNorm[F Float](rows, d int, x, w, b, y []F, eps F) {
	j := newJob(opLayerNorm, elem[F]())
	j.d, j.a, j.x, j.y = d, eps, x[:rows*d], y[:rows*d]
	j.weights(w, b)
	j.do(rows, rowChunk(d))
	j.free()
}

// LayerNormGrad sets dx, dw, db from dy; the statistics are computed again from x. more [rows,d] is added to dx, with the bits of
// Add. dx may be dy, x or more; w, more, dw, db may be nil. dw and db are overwritten; chunks of 256 rows are summed alone, the chunks in order.
func LayerNormGrad[F Float](rows, d int, x, w, dy, more, dx, dw, db []F, eps F) {
	k := elem[F]()
	j := newJob(opLayerNormGrad, k)
	j.d, j.a, j.x, j.z, j.y = d, eps, x[:rows*d], dy[:rows*d], dx[:rows*d]
	j.weights(w, nil)
	j.addend(rows, more)
	j.partials(rows, 2*d)
	c := j.do(rows, partialRows)
	j.collect(c, 2*d, 0, dw)
	j.collect(c, 2*d, d, db)
	j.free()
}

// RMSNorm divides each row of x [rows,d] by its root mean square and sets y = x/sqrt(mean(x²) + eps) * w. w [d] may be nil (1);
// y may be x. Zhang, Sennrich 2019.
func RMSNorm[F Float](rows, d int, x, w, y []F, eps F) {
	j := newJob(opRMSNorm, elem[F]())
	j.d, j.a, j.x, j.y = d, eps, x[:rows*d], y[:rows*d]
	j.weights(w, nil)
	j.do(rows, rowChunk(d))
	j.free()
}

// RMSNormGrad sets dx and dw from dy and adds more, as LayerNormGrad does; w, more and dw may be nil.
func RMSNormGrad[F Float](rows, d int, x, w, dy, more, dx, dw []F, eps F) {
	j := newJob(opRMSNormGrad, elem[F]())
	j.d, j.a, j.x, j.z, j.y = d, eps, x[:rows*d], dy[:rows*d], dx[:rows*d]
	j.weights(w, nil)
	j.addend(rows, more)
	j.partials(rows, d)
	c := j.do(rows, partialRows)
	j.collect(c, d, 0, dw)
	j.free()
}

// weights sets u = w and v = b, or ones and zeros for nil.
func (j *job[F]) weights(w, b []F) {
	d := j.d
	if n := len(j.ones); n < d {
		j.ones, j.zeros = make([]F, d), make([]F, d)
		for i := range j.ones {
			j.ones[i] = 1
		}
	}
	if w == nil {
		w = j.ones
	}
	if b == nil {
		b = j.zeros
	}
	j.u, j.v = w[:d], b[:d]
}

// addend sets v to what a gradient adds, nil to the row of zeros of weights again and again.
func (j *job[F]) addend(rows int, more []F) {
	j.ld = 0
	if more != nil {
		j.v, j.ld = more[:rows*j.d], j.d
	}
}

// collect sums the len(out) columns from off of n partial rows of width elements into out, in order.
func (j *job[F]) collect(n, width, off int, out []F) {
	if out == nil {
		return
	}
	out = out[:j.d]
	clear(out)
	for i := range n {
		j.k.add(out, j.part[i*width+off:][:j.d], out)
	}
}
