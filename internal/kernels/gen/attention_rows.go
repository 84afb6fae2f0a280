package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// columns emits body for the nb bytes of a row (a multiple of 32), four vectors, one vector and, in AVX-512, half a vector a
// turn; i is the offset from the end of the row. tag tells several of them in one function apart.
func columns(tag string, nb Register, body func(disp int, i Register, half bool)) {
	i := GP64()
	MOVQ(nb, i)
	NEGQ(i)
	turn := func(name string, vectors, bytes int) {
		name += tag
		ADDQ(U32(vectors*bytes), i)
		JG(LabelRef(name + "End"))
		Label(name)
		for u := range vectors {
			body((u-vectors)*bytes, i, bytes < w.bytes)
		}
		ADDQ(U32(vectors*bytes), i)
		JLE(LabelRef(name))
		Label(name + "End")
		SUBQ(U32(vectors*bytes), i)
	}
	turn("four", 4, w.bytes)
	turn("one", 1, w.bytes)
	if w.wide {
		turn("half", 1, 32)
	}
}

// attnRows emits a function over rows of n floats (n%8 == 0).
func attnRows(name, sig string, factor bool, body func(x, y Mem, v, f Op)) {
	text(name, sig)
	rows, nb := arg("rows"), floats("n")
	x, ldx, y, ldy := arg("x"), floats("ldx"), arg("y"), floats("ldy")
	var fp Register
	if factor {
		fp = arg("f")
	}
	ADDQ(nb, x)
	ADDQ(nb, y)
	Label("row")
	f := V()
	if factor {
		VBROADCASTSS(Mem{Base: fp}, f)
		ADDQ(Imm(4), fp)
	}
	columns("", nb, func(disp int, i Register, half bool) {
		at := func(b Register) Mem { return Mem{Base: b, Index: i, Scale: 1, Disp: disp} }
		if half {
			body(at(x), at(y), YMM(), f.AsY())
		} else {
			body(at(x), at(y), V(), f)
		}
	})
	ADDQ(ldx, x)
	ADDQ(ldy, y)
	DECQ(rows)
	JNZ(LabelRef("row"))
	done()
}

// attnRescale: x[r] *= f[r]; rows whose factor is 1 are left alone.
func attnRescale() {
	text("attnRescale", "func(rows, n int, f, x *float32, ldx int)")
	rows, nb, fp := arg("rows"), floats("n"), arg("f")
	x, ldx := arg("x"), floats("ldx")
	ADDQ(nb, x)
	one, s := XMM(), XMM()
	VMOVSS(bc(1), one)
	Label("row")
	VMOVSS(Mem{Base: fp}, s)
	VUCOMISS(one, s)
	JNE(LabelRef("do"))
	JPC(LabelRef("next"))
	Label("do")
	f := V()
	VBROADCASTSS(s, f)
	columns("", nb, func(disp int, i Register, half bool) {
		at := Mem{Base: x, Index: i, Scale: 1, Disp: disp}
		if half {
			t := YMM()
			VMULPS(at, f.AsY(), t)
			VMOVUPS(t, at)
		} else {
			t := V()
			VMULPS(at, f, t)
			VMOVUPS(t, at)
		}
	})
	Label("next")
	ADDQ(Imm(4), fp)
	ADDQ(ldx, x)
	DECQ(rows)
	JNZ(LabelRef("row"))
	done()
}

// attnDots: out[r] = x[r] . y[r] for rows of n floats (n%8 == 0).
func attnDots() {
	text("attnDots", "func(rows, n int, x *float32, ldx int, y *float32, ldy int, out *float32)")
	rows, nb := arg("rows"), floats("n")
	x, ldx, y, ldy, out := arg("x"), floats("ldx"), arg("y"), floats("ldy"), arg("out")
	ADDQ(nb, x)
	ADDQ(nb, y)
	Label("row")
	var sum [5]VecVirtual
	for i := range sum {
		sum[i] = V()
		zero(sum[i])
	}
	columns("", nb, func(disp int, i Register, half bool) {
		at := func(b Register) Mem { return Mem{Base: b, Index: i, Scale: 1, Disp: disp} }
		if half { // the upper half of sum[4] stays 0
			t := YMM()
			VMOVUPS(at(x), t)
			VFMADD231PS(at(y), t, sum[4].AsY())
		} else {
			t := V()
			VMOVUPS(at(x), t)
			VFMADD231PS(at(y), t, sum[(disp/w.bytes+4)%4])
		}
	})
	for _, v := range [][2]int{{1, 0}, {3, 2}, {4, 2}, {2, 0}} {
		VADDPS(sum[v[0]], sum[v[1]], sum[v[1]])
	}
	hred(sum[0], add, false)
	VMOVSS(sum[0].AsX(), Mem{Base: out})
	ADDQ(ldx, x)
	ADDQ(ldy, y)
	ADDQ(Imm(4), out)
	DECQ(rows)
	JNZ(LabelRef("row"))
	done()
}
