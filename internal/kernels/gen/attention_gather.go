package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// attnGather emits the two products of attention over lists of rows.
func attnGather() {
	gatherDots()
	gatherSum()
}

// gatherDots: out[e] = q . x[idx[e]] for n rows of d floats (d%8 == 0), four rows at a time.
func gatherDots() {
	text("gatherDots", "func(n, d int, q, x *float32, ldx int, idx *int32, out *float32)")
	n, nb, q, x := arg("n"), floats("d"), arg("q"), arg("x")
	ldx, idx, out := floats("ldx"), arg("idx"), arg("out")
	ADDQ(nb, q)
	ADDQ(nb, x)
	var p [4]GPVirtual
	for _, rows := range []int{4, 1} {
		tag := map[int]string{4: "Quad", 1: "Single"}[rows]
		Label("rows" + tag)
		CMPQ(n, Imm(uint64(rows)))
		JLT(LabelRef("end" + tag))
		acc := make([]VecVirtual, rows)
		for e := range acc {
			if rows == 4 || e == 0 {
				p[e] = GP64()
			}
			MOVLQSX(Mem{Base: idx, Disp: 4 * e}, p[e])
			IMULQ(ldx, p[e])
			ADDQ(x, p[e])
			acc[e] = V()
			zero(acc[e])
		}
		columns(tag, nb, func(disp int, i Register, half bool) {
			at := func(b Register) Mem { return Mem{Base: b, Index: i, Scale: 1, Disp: disp} }
			v := V()
			if half { // the upper half becomes 0 and adds nothing, but must be kept in the sum
				VMOVUPS(at(q), v.AsY())
				for e := range acc {
					t := V()
					VMOVUPS(at(p[e]), t.AsY())
					VFMADD231PS(v, t, acc[e])
				}
				return
			}
			VMOVUPS(at(q), v)
			for e := range acc {
				VFMADD231PS(at(p[e]), v, acc[e])
			}
		})
		if rows == 4 {
			for e := range acc {
				fold(acc[e])
			}
			a, b := acc[0].AsY(), acc[2].AsY()
			VHADDPS(acc[1].AsY(), a, a)
			VHADDPS(acc[3].AsY(), b, b)
			VHADDPS(b, a, a)
			h := XMM()
			VEXTRACTF128(U8(1), a, h)
			VADDPS(h, acc[0].AsX(), h)
			VMOVUPS(h, Mem{Base: out})
		} else {
			hred(acc[0], add, false)
			VMOVSS(acc[0].AsX(), Mem{Base: out})
		}
		ADDQ(Imm(uint64(4*rows)), idx)
		ADDQ(Imm(uint64(4*rows)), out)
		SUBQ(Imm(uint64(rows)), n)
		JMP(LabelRef("rows" + tag))
		Label("end" + tag)
	}
	done()
}

// fold adds the upper half of a vector of 16 to the lower.
func fold(v VecVirtual) {
	if w.wide {
		h := YMM()
		VEXTRACTF64X4(U8(1), v, h)
		VADDPS(h, v.AsY(), v.AsY())
	}
}

// gatherSum: out = sum over n rows of w[widx[e]] x[idx[e]], rows of d floats (d%8 == 0); n > 0. Two sums, of even and of odd
// rows, are kept for four vectors of columns at a time.
func gatherSum() {
	text("gatherSum", "func(n, d int, w *float32, widx *int32, x *float32, ldx int, idx *int32, out *float32)")
	nb, wp, widx := floats("d"), arg("w"), arg("widx")
	x, ldx, idx, out := arg("x"), floats("ldx"), arg("idx"), arg("out")
	strip := func(name string, vectors, bytes int) {
		Label(name)
		CMPQ(nb, U32(vectors*bytes))
		JLT(LabelRef(name + "End"))
		vec := V
		if bytes == 32 {
			vec = YMM
		}
		var acc [2][]VecVirtual
		for s := range acc {
			acc[s] = make([]VecVirtual, vectors)
			for u := range acc[s] {
				acc[s][u] = vec()
				zero(acc[s][u])
			}
		}
		n, e := GP64(), GP64()
		Load(Param("n"), n)
		XORQ(e, e)
		add := func(s int) {
			at, f := GP64(), vec()
			MOVLQSX(Mem{Base: widx, Index: e, Scale: 4, Disp: 4 * s}, at)
			VBROADCASTSS(Mem{Base: wp, Index: at, Scale: 4}, f)
			MOVLQSX(Mem{Base: idx, Index: e, Scale: 4, Disp: 4 * s}, at)
			IMULQ(ldx, at)
			for u := range vectors {
				VFMADD231PS(Mem{Base: x, Index: at, Scale: 1, Disp: u * bytes}, f, acc[s][u])
			}
		}
		SUBQ(Imm(2), n)
		JLT(LabelRef(name + "Odd"))
		Label(name + "Pair")
		add(0)
		add(1)
		ADDQ(Imm(2), e)
		SUBQ(Imm(2), n)
		JGE(LabelRef(name + "Pair"))
		Label(name + "Odd")
		ADDQ(Imm(2), n)
		JEQ(LabelRef(name + "Sum"))
		add(0)
		Label(name + "Sum")
		for u := range vectors {
			VADDPS(acc[1][u], acc[0][u], acc[0][u])
			VMOVUPS(acc[0][u], Mem{Base: out, Disp: u * bytes})
		}
		ADDQ(U32(vectors*bytes), x)
		ADDQ(U32(vectors*bytes), out)
		SUBQ(U32(vectors*bytes), nb)
		JMP(LabelRef(name))
		Label(name + "End")
	}
	strip("four", 4, w.bytes)
	strip("one", 1, w.bytes)
	if w.wide {
		strip("half", 1, 32)
	}
	done()
}
