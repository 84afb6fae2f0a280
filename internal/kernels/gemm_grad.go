package kernels

// WeightGrad computes C[m,n] = Aᵀ B from A [k,m] and B [k,n], row major, and the sums of the columns of A [m] and of B [n]; sumA
// and sumB may be nil. With A = dy and B = x these are the gradients of weight [out,in] and bias of a linear layer, with A = x
// and B = dy those of a weight [in,out]. Where k is long and C small, the sums are taken from the blocks that are in the cache
// for the product, else in a pass of their own; that is decided by shape, so the bits do not depend on the number of workers.
func WeightGrad[F Float](m, n, k int, a []F, lda int, b []F, ldb int, c []F, ldc int, sumA, sumB []F) {
	if m <= 1 || n <= 1 || !inChunks(m, n, k) {
		Gemm(true, false, m, n, k, a, lda, b, ldb, c, ldc, false, nil)
		if sumA != nil {
			ColSum(max(k, 0), m, a, lda, sumA, false)
		}
		if sumB != nil {
			ColSum(max(k, 0), n, b, ldb, sumB, false)
		}
		return
	}
	j := gemmJobsOf[F]().Take(newGemmJob[F])
	j.transA, j.transB, j.m, j.n, j.k = true, false, m, n, k
	j.a, j.lda, j.b, j.ldb, j.c, j.ldc, j.accumulate = a, lda, b, ldb, c, ldc, false
	if sumA != nil {
		j.sumA = sumA[:m]
		clear(j.sumA)
	}
	if sumB != nil {
		j.sumB = sumB[:n]
		clear(j.sumB)
	}
	j.do()
}

// columns adds the sums of the columns of some rows of x [rows,d] to out. They are summed apart first, for the digits.
func (j *gemmJob[F]) columns(worker, rows, d int, x []F, ldx int, out []F) {
	e, s := elem[F](), &j.work[worker]
	s.sum = growTo(s.sum, d)
	clear(s.sum[:d])
	e.colSum(rows, d, x, ldx, s.sum[:d])
	e.add(out[:d], s.sum[:d], out[:d])
}
