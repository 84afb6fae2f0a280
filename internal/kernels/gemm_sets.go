package kernels

// gemmKernels are the kernels of matrix products of a set. The assembly ones may be given the address of any element of a
// slice; they touch exactly the elements that are named.
type gemmKernels[F Float] struct {
	nr     int  // width of the widest strip
	kc     int  // depth of a block of k
	kcLong int  // the same where k is cut into chunks: what a task packs, the next block and its C stay in the level 2 cache
	mc     int  // rows of C in a task, at most
	nb     int  // columns of C in a task
	keepB  int  // elements of packed B to keep in the level 2 cache
	copyA  bool // rows of A a multiple of 4 KB apart collide in a small level 1 cache: copy them

	// strips, by width/16 (nil where the set has none; strips[1] and strips[nr/16] are always there):
	// C[m x width] (+)= A[m x k] B[k x width], A with strides for rows and columns, B and C with row strides; k may be 0.
	// A call is atomic to the scheduler, so keep m*k below about 64k.
	strips [5]stripFn[F]
	// stripAhead is the widest strip, which also fetches memory: one line of 64 bytes for every 4 of k and 6 rows, from ahead on;
	// after `lines` of them it goes on `jump` bytes further.
	stripAhead func(m, k int, a *F, rsa, csa int, b *F, ldb int, c *F, ldc int, accum int, ahead *F, lines, jump int)
	// packRows cuts k rows of np*width floats (width%16 == 0), ldx apart, into np panels [k][width], pstride apart; k, np > 0.
	packRows func(k, np, width int, x *F, ldx int, dst *F, pstride int)
	// packT16 transposes 16 rows of k floats (k%8 == 0, k > 0), ldx apart, into k rows of 16, ldd apart.
	packT16 func(k int, x *F, ldx int, dst *F, ldd int)
	// packRows12 is packRows for panels of 12.
	packRows12 func(k, np int, x *F, ldx int, dst *F, pstride int)
	// dotRows: y[i] = sum_p x[p] w[i][p] for n rows of k > 0.
	dotRows func(n, k int, x, w *F, ldw int, y *F)
	// axpyRows: y[j] += sum_p x[p] w[p][j] for k rows of n > 0.
	axpyRows func(n, k int, x, w *F, ldw int, y *F)
}

type stripFn[F Float] func(m, k int, a *F, rsa, csa int, b *F, ldb int, c *F, ldc int, accum int)

var gemm64 = gemmGeneric[float64]()

// gemmOf returns the kernels for F: those of the set in use for float32, the generic ones for float64.
func gemmOf[F Float]() *gemmKernels[F] {
	if g, ok := any(&kn.gemm).(*gemmKernels[F]); ok {
		return g
	}
	return any(&gemm64).(*gemmKernels[F])
}
