//go:build amd64 && !noasm

package kernels

// attnAsm is the assembly of a set; head sizes are multiples of 8.
type attnAsm struct {
	strip             int
	strips            [5]stripFn[float32] // by columns/16
	strip8            stripFn[float32]
	transpose         func(groups, d int, x *float32, ldx int, scale float32, dst *float32)
	mask              func(keys int, s *float32, mask *uint64, fill float32)
	softmax           func(keys int, s, mx, l, alpha *float32)
	backward          func(keys int, s, dp, lse, delta *float32)
	label, unlabel    func(keys int, s *float32, lab *uint16, table *float32) // unlabel nil: plain Go
	gatherDots        func(n, d int, q, x *float32, ldx int, idx *int32, out *float32)
	gatherSum         func(n, d int, w *float32, widx *int32, x *float32, ldx int, idx *int32, out *float32)
	finish            func(mx, l, inv, lse *float32)
	rescale           func(rows, n int, f, x *float32, ldx int)
	scaleRows         func(rows, n int, x *float32, ldx int, f, y *float32, ldy int)
	copyRows, addRows func(rows, n int, x *float32, ldx int, y *float32, ldy int)
	dots              func(rows, n int, x *float32, ldx int, y *float32, ldy int, out *float32)
}

func attnAVX2() attnKernels {
	return attnAsm{
		strip: 16, strips: gemmAVX2().strips, strip8: attnStrip8AVX2,
		transpose: attnTransposeAVX2, mask: attnMaskAVX2, softmax: attnSoftmaxAVX2, backward: attnBackwardAVX2, label: attnLabelAVX2, gatherDots: gatherDotsAVX2, gatherSum: gatherSumAVX2, finish: attnFinishAVX2,
		rescale: attnRescaleAVX2, scaleRows: attnScaleRowsAVX2, copyRows: attnCopyRowsAVX2, addRows: attnAddRowsAVX2, dots: attnDotsAVX2,
	}.kernels()
}

func attnAVX512() attnKernels {
	return attnAsm{
		strip: 32, strips: gemmAVX512().strips, strip8: attnStrip8AVX512,
		transpose: attnTransposeAVX512, mask: attnMaskAVX512, softmax: attnSoftmaxAVX512, backward: attnBackwardAVX512, label: attnLabelAVX512, unlabel: attnUnlabelAVX512, gatherDots: gatherDotsAVX512, gatherSum: gatherSumAVX512, finish: attnFinishAVX512,
		rescale: attnRescaleAVX512, scaleRows: attnScaleRowsAVX512, copyRows: attnCopyRowsAVX512, addRows: attnAddRowsAVX512, dots: attnDotsAVX512,
	}.kernels()
}

// kernels gives the assembly the form of the generic set. Counts of rows, keys and channels are never 0.
func (k attnAsm) kernels() attnKernels {
	return attnKernels{attnTable[float32]{
		strip: k.strip,
		gemm: func(m, n, depth int, a []float32, rsa, csa int, b []float32, ldb int, c []float32, ldc int, accumulate bool) {
			acc := b2i(accumulate)
			for j := 0; j < n; {
				width, f := 8, k.strip8
				for w := 64; w >= 16; w /= 2 {
					if k.strips[w/16] != nil && n-j >= w {
						width, f = w, k.strips[w/16]
						break
					}
				}
				f(m, depth, &a[0], rsa, csa, &b[j], ldb, &c[j], ldc, acc)
				j += width
			}
		},
		transpose: func(n, d int, x []float32, ldx int, scale float32, dst []float32) {
			if n >= 8 {
				k.transpose(n/8, d, &x[0], ldx, scale, &dst[0])
			}
			if n == Tile {
				return
			}
			for i := range d {
				row := dst[i*laneStride:][:Tile]
				for r := n &^ 7; r < n; r++ {
					row[r] = scale * x[r*ldx+i]
				}
				clear(row[n:])
			}
		},
		mask: func(keys int, s []float32, mask *[Tile]uint64, fill float32) { k.mask(keys, &s[0], &mask[0], fill) },
		softmax: func(keys int, s, m, l, alpha []float32) {
			k.softmax(keys, &s[0], &m[0], &l[0], &alpha[0])
		},
		backward: func(keys int, s, dp, lse, delta []float32) {
			k.backward(keys, &s[0], &dp[0], &lse[0], &delta[0])
		},
		label: func(keys int, s []float32, lab *[Tile * Tile]Label, table []float32) {
			k.label(keys, &s[0], &lab[0], &table[0])
		},
		unlabel: func(keys int, s []float32, lab *[Tile * Tile]Label, table []float32) {
			if k.unlabel == nil {
				attnUnlabel(keys, s, lab, table)
			} else {
				k.unlabel(keys, &s[0], &lab[0], &table[0])
			}
		},
		gatherDots: func(n, d int, q, x []float32, ldx int, idx []int32, out []float32) {
			k.gatherDots(n, d, &q[0], &x[0], ldx, &idx[0], &out[0])
		},
		gatherSum: func(n, d int, w []float32, widx []int32, x []float32, ldx int, idx []int32, out []float32) {
			k.gatherSum(n, d, &w[0], &widx[0], &x[0], ldx, &idx[0], &out[0])
		},
		finish:  func(m, l, inv, lse []float32) { k.finish(&m[0], &l[0], &inv[0], &lse[0]) },
		rescale: func(rows, n int, f, x []float32, ldx int) { k.rescale(rows, n, &f[0], &x[0], ldx) },
		scaleRows: func(rows, n int, x []float32, ldx int, f, y []float32, ldy int) {
			k.scaleRows(rows, n, &x[0], ldx, &f[0], &y[0], ldy)
		},
		copyRows: func(rows, n int, x []float32, ldx int, y []float32, ldy int) {
			k.copyRows(rows, n, &x[0], ldx, &y[0], ldy)
		},
		addRows: func(rows, n int, x []float32, ldx int, y []float32, ldy int) {
			k.addRows(rows, n, &x[0], ldx, &y[0], ldy)
		},
		dots: func(rows, n int, x []float32, ldx int, y []float32, ldy int, out []float32) {
			k.dots(rows, n, &x[0], ldx, &y[0], ldy, &out[0])
		},
	}}
}
