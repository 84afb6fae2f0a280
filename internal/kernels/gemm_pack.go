package kernels

import "fmt"

// Packed B of kc rows and nc columns is a row of panels, each [kc][width]: as many of the widest strip's width as fit, then
// narrower ones, the last padded with zeros to 16. Panel of column j starts at j*kc.

// panel returns the width of the panel where `left` columns are left, and its strip.
func (g *gemmKernels[F]) panel(left int) (int, stripFn[F]) {
	w := g.nr
	for w > 16 && (w > left || g.strips[w/16] == nil) {
		w -= 16
	}
	return w, g.strips[w/16]
}

// cutB packs rows k0..k0+n of a block of B; x is where row k0 of the block starts.
func (g *gemmKernels[F]) cutB(kc, k0, n, nc int, x []F, ldx int, dst []F) {
	for j := 0; j < nc; {
		w, _ := g.panel(nc - j)
		if r := nc - j; r < w {
			for i := range n {
				d := dst[j*kc+(k0+i)*w:][:w]
				clear(d[copy(d, x[i*ldx+j:][:r]):])
			}
			return
		}
		np := 1
		if w == g.nr {
			np = (nc - j) / w
		}
		g.packRows(n, np, w, &x[j], ldx, &dst[j*kc+k0*w], kc*w)
		j += np * w
	}
}

// transposeB packs columns j0..j1 (j0 a multiple of the widest width) of a block of B that is stored [nc][k].
func (g *gemmKernels[F]) transposeB(kc, nc, j0, j1 int, x []F, ldx int, dst []F) {
	k8 := kc &^ 7
	for j := j0; j < j1; {
		w, _ := g.panel(nc - j)
		for i := 0; i < w; i += 16 {
			from, to := x[(j+i)*ldx:], dst[j*kc+i:]
			rows, done := min(16, nc-j-i), 0
			if rows == 16 && k8 > 0 {
				g.packT16(k8, &from[0], ldx, &to[0], w)
				done = k8
			}
			for r := range rows {
				for p, v := range from[r*ldx+done : r*ldx+kc] {
					to[(done+p)*w+r] = v
				}
			}
			for r := rows; r < 16; r++ {
				for p := range kc {
					to[p*w+r] = 0
				}
			}
		}
		j += w
	}
}

// panelStride is the distance of panels of A transposed. If it were a multiple of 4 KB, the pieces of a row would be written to
// one set of the level 1 cache.
func panelStride(kc int) int { return kc*panelA + 16 }

// cutA packs rows k0..k0+n of a block of A that is stored [k][m] into panels [kc][panelA]; x is where row k0 starts. The last
// panel may be narrower; its rows stay panelA apart.
func (g *gemmKernels[F]) cutA(kc, k0, n, m int, x []F, ldx int, dst []F) {
	np := m / panelA
	if np > 0 {
		g.packRows12(n, np, &x[0], ldx, &dst[k0*panelA], panelStride(kc))
	}
	if r := m - np*panelA; r > 0 {
		for i := range n {
			copy(dst[np*panelStride(kc)+(k0+i)*panelA:][:r], x[i*ldx+np*panelA:])
		}
	}
}

func checkMatrix(name string, rows, cols, ld, have int) {
	if rows <= 0 || cols <= 0 {
		return
	}
	if need := (rows-1)*ld + cols; have < need || ld < cols && rows > 1 {
		panic(fmt.Sprintf("kernels.Gemm: %s is [%d,%d] with stride %d and needs %d values, the slice has %d", name, rows, cols, ld, need, have))
	}
}

// growTo returns a slice of at least n elements; what b held is lost if it must grow.
func growTo[T any](b []T, n int) []T {
	if len(b) < n {
		return make([]T, n)
	}
	return b
}

func ceilDiv(a, b int) int { return (a + b - 1) / b }
func roundUp(a, b int) int { return ceilDiv(a, b) * b }

func flag(b bool) int {
	if b {
		return 1
	}
	return 0
}
