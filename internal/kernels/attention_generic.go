package kernels

import "math"

// attnTable holds the inner loops of attention for one element type. A score tile is [keys][64 queries]; scores are in base 2.
type attnTable[F Float] struct {
	strip int // queries of the strips in which scores of a partial tile are computed: 16 or 32
	// c[m,n] (+)= a[m,k] b[k,n]; a has strides rsa and csa
	gemm func(m, n, k int, a []F, rsa, csa int, b []F, ldb int, c []F, ldc int, accumulate bool)
	// dst[i][r] = scale * x[r][i] for n <= 64 rows of d, 0 for r in [n,64); rows of dst are laneStride apart
	transpose func(n, d int, x []F, ldx int, scale F, dst []F)
	// s[c][r] = fill where bit r of mask[c] is 0
	mask func(keys int, s []F, mask *[Tile]uint64, fill F)
	// s = 2^(s - m) with the new maximum m; l is brought up to date; alpha is the factor of what was summed before
	softmax func(keys int, s, m, l, alpha []F)
	// s = P = 2^(s - lse), dp = P (dp - delta)
	backward func(keys int, s, dp, lse, delta []F)
	// x[r] *= f[r]
	rescale func(rows, n int, f, x []F, ldx int)
	// y[r] = x[r] * f[r]
	scaleRows func(rows, n int, x []F, ldx int, f, y []F, ldy int)
	// y[r] = x[r]
	copyRows func(rows, n int, x []F, ldx int, y []F, ldy int)
	// y[r] += x[r]
	addRows func(rows, n int, x []F, ldx int, y []F, ldy int)
	// out[r] = x[r] . y[r]
	dots func(rows, n int, x []F, ldx int, y []F, ldy int, out []F)
	// s[c][r] += table[lab[c][r]][r], and the reverse: table[lab[c][r]][r] += s[c][r]
	label, unlabel func(keys int, s []F, lab *[Tile * Tile]Label, table []F)
	// out[e] = q . x[idx[e]] for n rows of d
	gatherDots func(n, d int, q, x []F, ldx int, idx []int32, out []F)
	// out = sum over n rows of w[widx[e]] x[idx[e]], of d; n > 0
	gatherSum func(n, d int, w []F, widx []int32, x []F, ldx int, idx []int32, out []F)
	// inv = 1/l and lse = log(l 2^m) for 64 queries
	finish func(m, l, inv, lse []F)
}

var (
	attnGo64 = newAttnGeneric[float64]()
	attnGo32 = newAttnGeneric[float32]()
)

// newAttnGeneric is the plain Go set, the oracle of the others.
func newAttnGeneric[F Float]() attnTable[F] {
	return attnTable[F]{
		strip: 16, gemm: attnGemm[F], transpose: attnTranspose[F], mask: attnMask[F], softmax: attnSoftmax[F], backward: attnBackward[F],
		rescale:   func(rows, n int, f, x []F, ldx int) { attnScaleRows(rows, n, x, ldx, f, x, ldx) },
		scaleRows: attnScaleRows[F], copyRows: attnCopyRows[F], addRows: attnAddRows[F], dots: attnDots[F],
		label: attnLabel[F], unlabel: attnUnlabel[F], gatherDots: attnGatherDots[F], gatherSum: attnGatherSum[F], finish: attnFinish[F],
	}
}

func attnGemm[F Float](m, n, k int, a []F, rsa, csa int, b []F, ldb int, c []F, ldc int, accumulate bool) {
	for i := range m {
		row := c[i*ldc:][:n]
		if !accumulate {
			clear(row)
		}
		for p := range k {
			x := a[i*rsa+p*csa]
			for q, y := range b[p*ldb:][:n] {
				row[q] += x * y
			}
		}
	}
}

func attnTranspose[F Float](n, d int, x []F, ldx int, scale F, dst []F) {
	for i := range d {
		row := dst[i*laneStride:][:Tile]
		for r := range n {
			row[r] = scale * x[r*ldx+i]
		}
		clear(row[n:])
	}
}

func attnMask[F Float](keys int, s []F, mask *[Tile]uint64, fill F) {
	for c := range keys {
		for r := range Tile {
			if mask[c]>>r&1 == 0 {
				s[c*Tile+r] = fill
			}
		}
	}
}

func attnSoftmax[F Float](keys int, s, m, l, alpha []F) {
	for r := range Tile {
		top := m[r]
		for c := range keys {
			top = max(top, s[c*Tile+r])
		}
		alpha[r] = F(math.Exp2(float64(m[r] - top)))
		m[r] = top
		l[r] *= alpha[r]
	}
	for c := range keys {
		for r := range Tile {
			p := F(math.Exp2(float64(s[c*Tile+r] - m[r])))
			s[c*Tile+r] = p
			l[r] += p
		}
	}
}

func attnBackward[F Float](keys int, s, dp, lse, delta []F) {
	for c := range keys {
		for r := range Tile {
			p := F(math.Exp2(float64(s[c*Tile+r] - lse[r])))
			s[c*Tile+r] = p
			dp[c*Tile+r] = p * (dp[c*Tile+r] - delta[r])
		}
	}
}

func attnLabel[F Float](keys int, s []F, lab *[Tile * Tile]Label, table []F) {
	for c := range keys {
		row, l := (*[Tile]F)(s[c*Tile:]), (*[Tile]Label)(lab[c*Tile:])
		for r := range row {
			row[r] += table[int(l[r])*Tile+r]
		}
	}
}

func attnUnlabel[F Float](keys int, s []F, lab *[Tile * Tile]Label, table []F) {
	for c := range keys {
		row, l := (*[Tile]F)(s[c*Tile:]), (*[Tile]Label)(lab[c*Tile:])
		for r := range row {
			table[int(l[r])*Tile+r] += row[r]
		}
	}
}

func attnGatherDots[F Float](n, d int, q, x []F, ldx int, idx []int32, out []F) {
	for e := range n {
		var sum F
		for i, v := range x[int(idx[e])*ldx:][:d] {
			sum += q[i] * v
		}
		out[e] = sum
	}
}

func attnGatherSum[F Float](n, d int, w []F, widx []int32, x []F, ldx int, idx []int32, out []F) {
	out = out[:d]
	clear(out)
	for e := range n {
		f := w[widx[e]]
		for i, v := range x[int(idx[e])*ldx:][:d] {
			out[i] += f * v
		}
	}
}

func attnFinish[F Float](m, l, inv, lse []F) {
	for r := range Tile {
		inv[r] = 1 / l[r]
		lse[r] = F((float64(m[r]) + math.Log2(float64(l[r]))) * math.Ln2)
	}
}

func attnScaleRows[F Float](rows, n int, x []F, ldx int, f, y []F, ldy int) {
	for r := range rows {
		for i, v := range x[r*ldx:][:n] {
			y[r*ldy+i] = v * f[r]
		}
	}
}

func attnCopyRows[F Float](rows, n int, x []F, ldx int, y []F, ldy int) {
	for r := range rows {
		copy(y[r*ldy:][:n], x[r*ldx:])
	}
}

func attnAddRows[F Float](rows, n int, x []F, ldx int, y []F, ldy int) {
	for r := range rows {
		out := y[r*ldy:][:n]
		for i, v := range x[r*ldx:][:n] {
			out[i] += v
		}
	}
}

func attnDots[F Float](rows, n int, x []F, ldx int, y []F, ldy int, out []F) {
	for r := range rows {
		var sum F
		for i, v := range x[r*ldx:][:n] {
			sum += v * y[r*ldy+i]
		}
		out[r] = sum
	}
}
