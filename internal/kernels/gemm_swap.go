package kernels

const (
	swapRows = 128 // rows of C at most
	swapCols = 128 // columns at least
	turnRows = 256 // rows that one task transposes
)

// swapped is for dozens of rows of C and B transposed: packing B would cost more than the product. It computes
// the transpose, op(B)ᵀ op(A)ᵀ, for which only the small A is packed and B is read where it is, and turns the result round.
func (j *gemmJob[F]) swapped() {
	ld := roundUp(j.m, 16)
	j.partial = growTo(j.partial, j.n*ld)
	Gemm(false, !j.transA, j.n, j.m, j.k, j.b, j.ldb, j.a, j.lda, j.partial[:j.n*ld], ld, false, nil)
	if n := ceilDiv(j.n, turnRows); j.alone {
		for t := range n {
			j.turn(0, t)
		}
	} else {
		Par(n, j.turnTask)
	}
}

// turn writes columns [task*turnRows, …) of C from the rows of its transpose.
func (j *gemmJob[F]) turn(_, task int) {
	ld, j0 := roundUp(j.m, 16), task*turnRows
	j1 := min(j.n, j0+turnRows)
	done := 0 // rows of C that are written by blocks
	if m8 := j.m &^ 7; !j.accumulate && m8 > 0 {
		done = m8
		for x := j0; x+16 <= j1; x += 16 {
			j.kg.packT16(m8, &j.partial[x*ld], ld, &j.c[x], j.ldc)
		}
	}
	for i := range j.m {
		x := j0
		if i < done {
			x += (j1 - j0) &^ 15
		}
		row := j.c[i*j.ldc:][:j1]
		for ; x < j1; x++ {
			v := j.partial[x*ld+i]
			if j.accumulate {
				v += row[x]
			}
			row[x] = v
		}
	}
	j.finish(0, j.m, j0, j1)
}
