package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// dotRows: y[i] = sum_p x[p] w[i][p] for n rows of k > 0 floats, ldw apart; four rows at a time.
func dotRows() {
	text("dotRows", "func(n, k int, x, w *float32, ldw int, y *float32)")
	n := Load(Param("n"), GP64())
	x := Load(Param("x"), GP64())
	wp := Load(Param("w"), GP64())
	ld := Load(Param("ldw"), GP64())
	y := Load(Param("y"), GP64())
	SHLQ(U8(2), ld)
	rest := GP64()
	Load(Param("k"), rest)
	t := newTail(rest)
	for _, rows := range []int{4, 1} {
		tag := fmt.Sprint(rows)
		Label("rows" + tag)
		CMPQ(n, Imm(uint64(rows)))
		JLT(LabelRef("end" + tag))
		ld3, at, xp, k := GP64(), GP64(), GP64(), GP64()
		LEAQ(Mem{Base: ld, Index: ld, Scale: 2}, ld3)
		MOVQ(wp, at)
		MOVQ(x, xp)
		Load(Param("k"), k)
		src := func(i, u int) Mem {
			m := Mem{Base: at, Disp: u * w.bytes}
			switch i {
			case 1:
				m.Index, m.Scale = ld, 1
			case 2:
				m.Index, m.Scale = ld, 2
			case 3:
				m.Index, m.Scale = ld3, 1
			}
			return m
		}
		per := 2 // sums of a row
		if rows == 1 {
			per = 4
		}
		acc := make([]VecVirtual, rows*per)
		for i := range acc {
			acc[i] = V()
			zero(acc[i])
		}
		xv := V()
		SUBQ(U32(per*lanes()), k)
		JLT(LabelRef("single" + tag))
		Label("k" + tag)
		for u := range per {
			VMOVUPS(row(xp, u), xv)
			for i := range rows {
				VFMADD231PS(src(i, u), xv, acc[i*per+u])
			}
		}
		ADDQ(U32(per*w.bytes), xp)
		ADDQ(U32(per*w.bytes), at)
		SUBQ(U32(per*lanes()), k)
		JGE(LabelRef("k" + tag))
		Label("single" + tag)
		ADDQ(U32((per-1)*lanes()), k)
		JLT(LabelRef("masked" + tag))
		Label("one" + tag)
		VMOVUPS(row(xp, 0), xv)
		for i := range rows {
			VFMADD231PS(src(i, 0), xv, acc[i*per])
		}
		ADDQ(Imm(uint64(w.bytes)), xp)
		ADDQ(Imm(uint64(w.bytes)), at)
		SUBQ(Imm(uint64(lanes())), k)
		JGE(LabelRef("one" + tag))
		Label("masked" + tag)
		TESTQ(rest, rest)
		JEQ(LabelRef("sum" + tag))
		wv := V()
		t.load(row(xp, 0), xv)
		for i := range rows {
			t.load(src(i, 0), wv)
			VFMADD231PS(wv, xv, acc[i*per])
		}
		Label("sum" + tag)
		for i := range rows {
			for u := 1; u < per; u++ {
				VADDPS(acc[i*per+u], acc[i*per], acc[i*per])
			}
			hred(acc[i*per], add, false)
			VMOVSS(acc[i*per].AsX(), Mem{Base: y, Disp: 4 * i})
		}
		for range rows {
			ADDQ(ld, wp)
		}
		ADDQ(Imm(uint64(4*rows)), y)
		SUBQ(Imm(uint64(rows)), n)
		JMP(LabelRef("rows" + tag))
		Label("end" + tag)
	}
	done()
}

// axpyRows: y[j] += sum_p x[p] w[p][j] for k rows of n > 0 floats, ldw apart; four rows at a time.
func axpyRows() {
	text("axpyRows", "func(n, k int, x, w *float32, ldw int, y *float32)")
	k := Load(Param("k"), GP64())
	x := Load(Param("x"), GP64())
	wp := Load(Param("w"), GP64())
	ld := Load(Param("ldw"), GP64())
	y := Load(Param("y"), GP64())
	SHLQ(U8(2), ld)
	rest := GP64()
	Load(Param("n"), rest)
	t := newTail(rest)
	ld3 := GP64()
	LEAQ(Mem{Base: ld, Index: ld, Scale: 2}, ld3)
	for _, rows := range []int{4, 1} {
		tag := fmt.Sprint(rows)
		Label("rows" + tag)
		CMPQ(k, Imm(uint64(rows)))
		JLT(LabelRef("end" + tag))
		at, yp, n, ahead := GP64(), GP64(), GP64(), GP64()
		MOVQ(wp, at)
		MOVQ(y, yp)
		LEAQ(Mem{Base: wp, Index: ld, Scale: 4}, ahead)
		Load(Param("n"), n)
		from := func(base Register, i, disp int) Mem {
			m := Mem{Base: base, Disp: disp}
			switch i {
			case 1:
				m.Index, m.Scale = ld, 1
			case 2:
				m.Index, m.Scale = ld, 2
			case 3:
				m.Index, m.Scale = ld3, 1
			}
			return m
		}
		src := func(i, u int) Mem { return from(at, i, u*w.bytes) }
		xv := make([]VecVirtual, rows)
		for i := range xv {
			xv[i] = V()
			VBROADCASTSS(Mem{Base: x, Disp: 4 * i}, xv[i])
		}
		const wide = 4
		var s [wide]VecVirtual
		for u := range s {
			s[u] = V()
		}
		SUBQ(U32(wide*lanes()), n)
		JLT(LabelRef("single" + tag))
		Label("n" + tag)
		for d := 0; d < wide*w.bytes; d += 64 { // the next rows: the hardware looks ahead within a page, that is within a row
			for i := range xv {
				PREFETCHT0(from(ahead, i, d))
			}
		}
		ADDQ(U32(wide*w.bytes), ahead)
		for u := range s {
			VMOVUPS(row(yp, u), s[u])
			for i := range xv {
				VFMADD231PS(src(i, u), xv[i], s[u])
			}
			VMOVUPS(s[u], row(yp, u))
		}
		ADDQ(U32(wide*w.bytes), yp)
		ADDQ(U32(wide*w.bytes), at)
		SUBQ(U32(wide*lanes()), n)
		JGE(LabelRef("n" + tag))
		Label("single" + tag)
		ADDQ(U32((wide-1)*lanes()), n)
		JLT(LabelRef("masked" + tag))
		Label("one" + tag)
		VMOVUPS(row(yp, 0), s[0])
		for i := range xv {
			VFMADD231PS(src(i, 0), xv[i], s[0])
		}
		VMOVUPS(s[0], row(yp, 0))
		ADDQ(Imm(uint64(w.bytes)), yp)
		ADDQ(Imm(uint64(w.bytes)), at)
		SUBQ(Imm(uint64(lanes())), n)
		JGE(LabelRef("one" + tag))
		Label("masked" + tag)
		TESTQ(rest, rest)
		JEQ(LabelRef("next" + tag))
		t.load(row(yp, 0), s[0])
		for i := range xv {
			t.load(src(i, 0), s[1])
			VFMADD231PS(s[1], xv[i], s[0])
		}
		t.store(s[0], row(yp, 0))
		Label("next" + tag)
		for range rows {
			ADDQ(ld, wp)
		}
		ADDQ(Imm(uint64(4*rows)), x)
		SUBQ(Imm(uint64(rows)), k)
		JMP(LabelRef("rows" + tag))
		Label("end" + tag)
	}
	done()
}
