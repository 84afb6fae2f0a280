package kernels

// WeightGrad computes C[m,n] = Aᵀ B from A [k,m] and B [k,n], row major, and the sums of the columns of A [m] and of B [n] while
// they are in the cache; sumA and sumB may be nil. With A = dy and B = x these are the gradients of weight [out,in] and bias of
// a linear layer, with A = x and B = dy those of a weight [in,out]. Else it is Gemm.
func WeightGrad[F Float](m, n, k int, a []F, lda int, b []F, ldb int, c []F, ldc int, sumA, sumB []F) {
	k = max(k, 0)
	if m <= 1 || n <= 1 || k == 0 { // no blocks
		Gemm(true, false, m, n, k, a, lda, b, ldb, c, ldc, false, nil)
		if sumA != nil {
			ColSum(k, m, a, lda, sumA, false)
		}
		if sumB != nil {
			ColSum(k, n, b, ldb, sumB, false)
		}
		return
	}
	j := gemmJobsOf[F]().get(newGemmJob[F])
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

// columns adds the sums of the columns of x [rows,d] to out. They are summed apart first, for the digits.
func (j *gemmJob[F]) columns(worker, rows, d int, x []F, ldx int, out []F) {
	e, s := elem[F](), &j.work[worker]
	s.sum = growTo(s.sum, d)
	for i0 := 0; i0 < rows; i0 += 4 * packDepth { // short calls: assembly cannot be preempted
		n := min(4*packDepth, rows-i0)
		clear(s.sum[:d])
		e.colSum(n, d, x[i0*ldx:], ldx, s.sum[:d])
		e.add(out[:d], s.sum[:d], out[:d])
	}
}
