package kernels

// Epilogue is what Gemm does to C after the product, block by block while it is in cache:
// C = act(C + Bias) + Residual. Empty parts are left out.
type Epilogue[F Float] struct {
	Bias       []F // [n]
	Act        Activation
	Residual   []F // [m, n]
	LdResidual int
}

// Gemm computes C[m,n] (+)= op(A)[m,k] op(B)[k,n], row major, then the epilogue. op(A) is A [m,k] or, with transA, the
// transpose of A [k,m]; op(B) likewise B [k,n] or the transpose of B [n,k]. lda, ldb, ldc are the row strides as stored.
// C may not overlap A or B; it may be ep.Residual.
func Gemm[F Float](transA, transB bool, m, n, k int, a []F, lda int, b []F, ldb int, c []F, ldc int, accumulate bool, ep *Epilogue[F]) {
	ra, ca, rb, cb := lda, 1, ldb, 1
	if transA {
		ra, ca = 1, lda
	}
	if transB {
		rb, cb = 1, ldb
	}
	for i := range m {
		row := c[i*ldc : i*ldc+n]
		if !accumulate {
			clear(row)
		}
		for p := range k {
			x, q := a[i*ra+p*ca], p*rb
			for j := range row {
				row[j] += x * b[q]
				q += cb
			}
		}
		if ep != nil {
			ep.apply(i, row)
		}
	}
}

// apply does row i of C, whose bias is all of Bias.
func (ep *Epilogue[F]) apply(i int, row []F) {
	e := elem[F]()
	if ep.Bias != nil {
		e.add(row, ep.Bias[:len(row)], row)
	}
	if ep.Act != None {
		e.act[ep.Act](row, row)
	}
	if ep.Residual != nil {
		e.add(row, ep.Residual[i*ep.LdResidual:][:len(row)], row)
	}
}
