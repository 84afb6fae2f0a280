package kernels

import "sync/atomic"

// CountProducts runs f and returns how many multiply-adds the products of attention took in it: those of tiles, of lists and of
// tables of labels, as they were executed. For tests: nothing else may run meanwhile, and f must not change the set.
func CountProducts(f func()) int64 {
	var n atomic.Int64
	was, was64 := kn, attnGo64
	counted := *kn
	counted.attn, attnGo64 = counting(kn.attn, &n), counting(attnGo64, &n)
	kn = &counted
	defer func() { kn, attnGo64 = was, was64 }()
	f()
	return n.Load()
}

// counting is a table whose products are counted.
func counting[F Float](t attnTable[F], n *atomic.Int64) attnTable[F] {
	gemm, dots, sum := t.gemm, t.gatherDots, t.gatherSum
	t.gemm = func(m, cols, k int, a []F, rsa, csa int, b []F, ldb int, c []F, ldc int, accumulate bool) {
		n.Add(int64(m) * int64(cols) * int64(k))
		gemm(m, cols, k, a, rsa, csa, b, ldb, c, ldc, accumulate)
	}
	t.gatherDots = func(rows, d int, q, x []F, ldx int, idx []int32, out []F) {
		n.Add(int64(rows) * int64(d))
		dots(rows, d, q, x, ldx, idx, out)
	}
	t.gatherSum = func(rows, d int, w []F, widx []int32, x []F, ldx int, idx []int32, out []F) {
		n.Add(int64(rows) * int64(d))
		sum(rows, d, w, widx, x, ldx, idx, out)
	}
	return t
}
