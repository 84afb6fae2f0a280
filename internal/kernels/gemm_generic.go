package kernels

import "unsafe"

// gemmGeneric is the plain Go form of the kernels, the oracle of the others.
func gemmGeneric[F Float]() gemmKernels[F] {
	return gemmKernels[F]{
		nr: 16, kc: 256, kcLong: 256, mc: 96, nb: 256, keepB: 1 << 16,
		strips:     [5]stripFn[F]{1: strip16Go[F]},
		stripAhead: stripAheadGo[F],
		packRows:   packRowsGo[F],
		packT16:    packT16Go[F],
		packRows12: packRows12Go[F],
		dotRows:    dotRowsGo[F],
		axpyRows:   axpyRowsGo[F],
	}
}

// strip16Go does 2 x 4 elements of C at a time: as many sums as plain Go keeps in registers.
func strip16Go[F Float](m, k int, a *F, rsa, csa int, b *F, ldb int, c *F, ldc int, accum int) {
	if m == 0 {
		return
	}
	cs := unsafe.Slice(c, (m-1)*ldc+16)
	if k == 0 {
		for i := 0; i < m && accum == 0; i++ {
			clear(cs[i*ldc : i*ldc+16])
		}
		return
	}
	as, bs := unsafe.Slice(a, (m-1)*rsa+(k-1)*csa+1), unsafe.Slice(b, (k-1)*ldb+16)
	for i := 0; i < m; i += 2 {
		second := min(i+1, m-1) // the last row of an odd m is done twice at once
		for j := 0; j < 16; j += 4 {
			s := dot2x4(k, as[i*rsa:], as[second*rsa:], csa, bs[j:], ldb)
			r0, r1 := cs[i*ldc+j:i*ldc+j+4], cs[second*ldc+j:second*ldc+j+4]
			if accum != 0 {
				for x := range 4 {
					s[x] += r0[x]
					s[x+4] += r1[x]
				}
			}
			copy(r0, s[:4])
			copy(r1, s[4:])
		}
	}
}

func stripAheadGo[F Float](m, k int, a *F, rsa, csa int, b *F, ldb int, c *F, ldc int, accum int, _ *F, _, _ int) {
	strip16Go(m, k, a, rsa, csa, b, ldb, c, ldc, accum)
}

func dot2x4[F Float](k int, a0, a1 []F, csa int, b []F, ldb int) [8]F {
	var s0, s1, s2, s3, t0, t1, t2, t3 F
	for p, q := 0, 0; k > 0; k-- {
		x, y, r := a0[p], a1[p], b[q:q+4:q+4]
		s0 += x * r[0]
		s1 += x * r[1]
		s2 += x * r[2]
		s3 += x * r[3]
		t0 += y * r[0]
		t1 += y * r[1]
		t2 += y * r[2]
		t3 += y * r[3]
		p += csa
		q += ldb
	}
	return [8]F{s0, s1, s2, s3, t0, t1, t2, t3}
}

func packRowsGo[F Float](k, np, width int, x *F, ldx int, dst *F, pstride int) {
	xs, ds := unsafe.Slice(x, (k-1)*ldx+np*width), unsafe.Slice(dst, (np-1)*pstride+k*width)
	for i := range k {
		for p := range np {
			copy(ds[p*pstride+i*width:][:width], xs[i*ldx+p*width:])
		}
	}
}

func packT16Go[F Float](k int, x *F, ldx int, dst *F, ldd int) {
	xs, ds := unsafe.Slice(x, 15*ldx+k), unsafe.Slice(dst, (k-1)*ldd+16)
	for j := range 16 {
		for i, v := range xs[j*ldx : j*ldx+k] {
			ds[i*ldd+j] = v
		}
	}
}

func packRows12Go[F Float](k, np int, x *F, ldx int, dst *F, pstride int) {
	packRowsGo(k, np, 12, x, ldx, dst, pstride)
}

func dotRowsGo[F Float](n, k int, x, w *F, ldw int, y *F) {
	xs, ws, ys := unsafe.Slice(x, k), unsafe.Slice(w, (n-1)*ldw+k), unsafe.Slice(y, n)
	for i := range ys {
		var s0, s1, s2, s3 F
		r, p := ws[i*ldw:][:k], 0
		for ; p+4 <= k; p += 4 {
			s0 += xs[p] * r[p]
			s1 += xs[p+1] * r[p+1]
			s2 += xs[p+2] * r[p+2]
			s3 += xs[p+3] * r[p+3]
		}
		for ; p < k; p++ {
			s0 += xs[p] * r[p]
		}
		ys[i] = s0 + s1 + (s2 + s3)
	}
}

func axpyRowsGo[F Float](n, k int, x, w *F, ldw int, y *F) {
	xs, ws, ys := unsafe.Slice(x, k), unsafe.Slice(w, (k-1)*ldw+n), unsafe.Slice(y, n)
	for p, v := range xs {
		for i, u := range ws[p*ldw:][:n] {
			ys[i] += v * u
		}
	}
}
