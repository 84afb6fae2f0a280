package kernels

import "math"

// RopeTable returns cos and sin [n, d/2] of the angles pos * base^(-2i/d) of rotary positions 0..n-1, computed in float64.
// Su et al. 2021 (RoFormer).
func RopeTable[F Float](n, d int, base float64) (cos, sin []F) {
	h := d / 2
	cos, sin = make([]F, n*h), make([]F, n*h)
	for i := range h {
		f := math.Pow(base, -2*float64(i)/float64(d))
		for p := range n {
			s, c := math.Sincos(float64(p) * f)
			cos[p*h+i], sin[p*h+i] = F(c), F(s)
		}
	}
	return cos, sin
}

// Rope turns x in place by its positions: rows of heads*d elements (d even), ld apart, so that the q and k parts of a fused qkv
// buffer are turned where they lie. Row r has position pos[r mod len(pos)], or r if pos is nil; cos and sin are those of
// RopeTable(n, d, base) with every position below n. Pairs are (i, i+d/2) (GPT-NeoX, LLaMA: rotate_half) or, interleaved,
// (2i, 2i+1) (RoFormer, GPT-J). inverse turns back: the gradient.
func Rope[F Float](rows, heads, d int, x []F, ld int, pos []int32, cos, sin []F, interleaved, inverse bool) {
	if rows == 0 {
		return
	}
	j := newJob(opRope, elem[F]())
	j.d, j.ld, j.heads, j.ids = d, ld, heads, pos
	j.x, j.u, j.v = x[:(rows-1)*ld+heads*d], cos, sin
	j.flag, j.sign = interleaved, 1
	if inverse {
		j.sign = -1
	}
	j.do(rows, rowChunk(heads*d))
	j.free()
}

func (j *job[F]) ropeRows(lo, hi int) {
	d, h := j.d, j.d/2
	for r := lo; r < hi; r++ {
		p := r
		if j.ids != nil {
			p = int(j.ids[r%len(j.ids)])
		}
		cos, sin := j.u[p*h:p*h+h], j.v[p*h:p*h+h]
		for i := range j.heads {
			x := j.x[r*j.ld+i*d:][:d]
			if j.flag {
				ropePairs(x, cos, sin, j.sign)
			} else {
				j.k.rope(x[:h], x[h:], cos, sin, j.sign)
			}
		}
	}
}

// goRope turns the pairs (x[i], y[i]) by sign times the angle.
func goRope[F Float](x, y, cos, sin []F, sign F) {
	for i, a := range x {
		b, c, s := y[i], cos[i], sign*sin[i]
		x[i], y[i] = a*c-b*s, b*c+a*s
	}
}

func ropePairs[F Float](x, cos, sin []F, sign F) {
	for i, c := range cos {
		a, b, s := x[2*i], x[2*i+1], sign*sin[i]
		x[2*i], x[2*i+1] = a*c-b*s, b*c+a*s
	}
}
