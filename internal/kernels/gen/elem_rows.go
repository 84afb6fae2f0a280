package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

func reductions() {
	text("colSum", "func(rows, d int, x []float32, ldx int, out []float32)")
	n, x, ld, out := number("d"), base("x"), number("ldx"), base("out")
	SHLQ(U8(2), n)
	SHLQ(U8(2), ld)
	p, r := GP64(), GP64()
	// down adds the column of vectors at p to acc.
	down := func(acc []VecVirtual, l span) {
		Load(Param("rows"), r)
		loop := label("down")
		Label(loop)
		for i, a := range acc {
			if l.part {
				VADDPS(l.load(Mem{Base: p}), a, a)
			} else {
				VADDPS(row(p, i), a, a)
			}
		}
		ADDQ(ld, p)
		DECQ(r)
		JNZ(LabelRef(loop))
	}
	const strip = 4
	four, rest, one, end := label("four"), label("rest"), label("one"), label("end")
	Label(four)
	CMPQ(n, U32(strip*w.bytes))
	JLT(LabelRef(rest))
	acc := make([]VecVirtual, strip)
	for i := range acc {
		acc[i] = V()
		VMOVUPS(row(out, i), acc[i])
	}
	MOVQ(x, p)
	down(acc, span{})
	for i := range acc {
		VMOVUPS(acc[i], row(out, i))
	}
	ADDQ(U32(strip*w.bytes), x)
	ADDQ(U32(strip*w.bytes), out)
	SUBQ(U32(strip*w.bytes), n)
	JMP(LabelRef(four))
	Label(rest)
	TESTQ(n, n)
	JLE(LabelRef(end))
	Label(one)
	left := GP64()
	MOVQ(n, left)
	SHRQ(U8(2), left)
	l := partial(left)
	a := l.load(Mem{Base: out})
	MOVQ(x, p)
	down([]VecVirtual{a}, l)
	l.store(a, Mem{Base: out})
	ADDQ(U32(w.bytes), x)
	ADDQ(U32(w.bytes), out)
	SUBQ(U32(w.bytes), n)
	JG(LabelRef(one))
	Label(end)
	done()

	// in float64, half a vector at a time
	wide := func(name string, op func(v, acc VecVirtual)) {
		text(name, "func(x []float32) float64")
		n, x := size("x"), base("x")
		s := sums(4)
		over(2, n, func(k int, l span, at func(Register) Mem) {
			v := l.load(at(x))
			lo, hi := V(), V()
			if w.wide {
				h := YMM()
				VEXTRACTF64X4(U8(1), v, h)
				VCVTPS2PD(v.AsY(), lo)
				VCVTPS2PD(h, hi)
			} else {
				h := XMM()
				VEXTRACTF128(U8(1), v, h)
				VCVTPS2PD(v.AsX(), lo)
				VCVTPS2PD(h, hi)
			}
			op(lo, s[2*k])
			op(hi, s[2*k+1])
		})
		VADDPD(s[2], s[0], s[0])
		VADDPD(s[3], s[1], s[1])
		VADDPD(s[1], s[0], s[0])
		y := s[0].AsY()
		if w.wide {
			h := YMM()
			VEXTRACTF64X4(U8(1), s[0], h)
			VADDPD(h, y, h)
			y = h
		}
		t := XMM()
		VEXTRACTF128(U8(1), y, t)
		lo := y.(interface{ AsX() Register }).AsX()
		VADDPD(lo, t, t)
		h := XMM()
		VPERMILPD(U8(1), t, h)
		VADDSD(h, t, t)
		Store(t, ReturnIndex(0))
		done()
	}
	wide("sum", func(v, acc VecVirtual) { VADDPD(v, acc, acc) })
	wide("sumSq", func(v, acc VecVirtual) { VFMADD231PD(v, v, acc) })

	// the greatest magnitude as an integer shows an infinity or a NaN
	text("finite", "func(x []float32) bool")
	n, x = size("x"), base("x")
	abs, s := keepBits(absBits), sums(4)
	over(4, n, func(k int, l span, at func(Register) Mem) {
		v := l.load(at(x))
		VANDPS(abs, v, v)
		VPMAXSD(v, s[k], s[k])
	})
	VPMAXSD(s[1], s[0], s[0])
	VPMAXSD(s[3], s[2], s[2])
	VPMAXSD(s[2], s[0], s[0])
	hred(s[0], func(a, b, c Op) { VPMAXSD(a, b, c) }, false)
	bits, ok := GP32(), GP8()
	VMOVD(s[0].AsX(), bits)
	CMPL(bits, U32(0x7f800000))
	SETLT(ok)
	Store(ok, ReturnIndex(0))
	done()
}

// losses emits the passes over one row of softmax and cross entropy.
func losses() {
	text("maxOf", "func(x []float32) float32")
	n, x := size("x"), base("x")
	least := holdBits(0xff800000)
	m := make([]VecVirtual, 4)
	for i := range m {
		m[i] = copyOf(least)
	}
	over(4, n, func(k int, l span, at func(Register) Mem) {
		VMAXPS(m[k], l.loadOr(at(x), least), m[k]) // a NaN is passed over
	})
	VMAXPS(m[1], m[0], m[0])
	VMAXPS(m[3], m[2], m[2])
	VMAXPS(m[2], m[0], m[0])
	hred(m[0], vmax, false)
	Store(m[0].AsX(), ReturnIndex(0))
	done()

	exps := func(name, sig string, store bool) {
		text(name, sig)
		n, x, m := size("x"), base("x"), spread("m")
		y := x
		if store {
			y = base("y")
		}
		e, s := newPower(1, false, true), sums(2)
		over(2, n, func(k int, l span, at func(Register) Mem) {
			v := l.load(at(x))
			VSUBPS(m, v, v)
			p := e.of(v)
			if store {
				l.store(p, at(y))
			}
			l.inside(p)
			VADDPS(p, s[k], s[k])
		})
		Store(total(s).AsX(), ReturnIndex(0))
		done()
	}
	exps("expSub", "func(x, y []float32, m float32) float32", true)
	exps("sumExp", "func(x []float32, m float32) float32", false)

	text("subSub", "func(x, y []float32, m, l float32)")
	n, x, y := size("x"), base("x"), base("y")
	mv, lv := spread("m"), spread("l")
	over(4, n, func(_ int, l span, at func(Register) Mem) {
		v := l.load(at(x))
		VSUBPS(mv, v, v)
		VSUBPS(lv, v, v)
		l.store(v, at(y))
	})
	done()

	text("softmaxGrad", "func(y, dy, dx []float32)")
	n, y = size("y"), base("y")
	dy, dx := base("dy"), base("dx")
	s := sums(4)
	over(4, n, func(k int, l span, at func(Register) Mem) {
		VFMADD231PS(l.load(at(y)), l.load(at(dy)), s[k])
	})
	t := total(s)
	over(4, n, func(_ int, l span, at func(Register) Mem) {
		g := l.load(at(dy))
		VSUBPS(t, g, g)
		VMULPS(l.load(at(y)), g, g)
		l.store(g, at(dx))
	})
	done()

	text("logSoftmaxGrad", "func(y, dy, dx []float32)")
	n, y, dy, dx = size("y"), base("y"), base("dy"), base("dx")
	s = sums(4)
	over(4, n, func(k int, l span, at func(Register) Mem) { VADDPS(l.load(at(dy)), s[k], s[k]) })
	t = total(s)
	e := newPower(1, false, true)
	over(2, n, func(_ int, l span, at func(Register) Mem) {
		g := l.load(at(dy))
		VFNMADD231PS(e.of(l.load(at(y))), t, g)
		l.store(g, at(dx))
	})
	done()
}
