package main

import (
	"fmt"
	"math"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

func init() { parts["attention"] = attention }

// A score tile is S^T: 64 keys by 64 queries, 256 bytes a key.
const tileRow = 256

func attention() {
	attnStrip8()
	attnTranspose()
	attnMask()
	attnSoftmax()
	attnBackward()
	attnFinish()
	attnRescale()
	attnRows("attnScaleRows", "func(rows, n int, x *float32, ldx int, f, y *float32, ldy int)", true, func(x, y Mem, v, f Op) {
		VMULPS(x, f, v)
		VMOVUPS(v, y)
	})
	attnRows("attnCopyRows", "func(rows, n int, x *float32, ldx int, y *float32, ldy int)", false, func(x, y Mem, v, _ Op) {
		VMOVUPS(x, v)
		VMOVUPS(v, y)
	})
	attnRows("attnAddRows", "func(rows, n int, x *float32, ldx int, y *float32, ldy int)", false, func(x, y Mem, v, _ Op) {
		VMOVUPS(x, v)
		VADDPS(y, v, v)
		VMOVUPS(v, y)
	})
	attnDots()
	attnLabels()
	attnGather()
}

// arg loads an integer or pointer parameter.
func arg(name string) Register { return Load(Param(name), GP64()) }

// floats loads a parameter that counts floats, as bytes.
func floats(name string) Register {
	r := arg(name)
	SHLQ(U8(2), r)
	return r
}

// lane broadcasts a parameter.
func lane(name string) VecVirtual {
	v := V()
	p, err := Param(name).Resolve()
	if err != nil {
		panic(err)
	}
	VBROADCASTSS(p.Addr, v)
	return v
}

// attnStrip8: C[m x 8] (+)= A[m x k](rsa,csa) * B[k x 8](ldb): the last columns of a head size that is no multiple of 16. ymm
// in both sets.
func attnStrip8() {
	text("attnStrip8", "func(m, k int, a *float32, rsa, csa int, b *float32, ldb int, c *float32, ldc int, accum int)")
	m, a, rs, cs := arg("m"), arg("a"), floats("rsa"), floats("csa")
	ldb, c, ldc := floats("ldb"), arg("c"), floats("ldc")
	b, k, p, q := GP64(), GP64(), GP64(), GP64()
	for _, rows := range []int{6, 1} {
		tag := fmt.Sprint(rows)
		Label("m" + tag)
		CMPQ(m, Imm(uint64(rows)))
		JLT(LabelRef("end" + tag))
		acc := make([]VecVirtual, rows)
		for i := range acc {
			acc[i] = YMM()
			zero(acc[i])
		}
		Load(Param("b"), b)
		Load(Param("k"), k)
		MOVQ(a, p)
		LEAQ(Mem{Base: rs, Index: rs, Scale: 2}, q)
		ADDQ(a, q)
		TESTQ(k, k)
		JEQ(LabelRef("sum" + tag))
		Label("k" + tag)
		bv := YMM()
		VMOVUPS(Mem{Base: b}, bv)
		for i := range acc {
			at := Mem{Base: []Register{p, q}[i/3]}
			if i%3 > 0 {
				at.Index, at.Scale = rs, uint8(i%3)
			}
			t := YMM()
			VBROADCASTSS(at, t)
			VFMADD231PS(bv, t, acc[i])
		}
		ADDQ(ldb, b)
		ADDQ(cs, p)
		ADDQ(cs, q)
		DECQ(k)
		JNZ(LabelRef("k" + tag))
		Label("sum" + tag)
		Load(Param("accum"), k)
		TESTQ(k, k)
		JEQ(LabelRef("store" + tag))
		MOVQ(c, p)
		for i := range acc {
			VADDPS(Mem{Base: p}, acc[i], acc[i])
			ADDQ(ldc, p)
		}
		Label("store" + tag)
		for i := range acc {
			VMOVUPS(acc[i], Mem{Base: c})
			ADDQ(ldc, c)
		}
		for range rows {
			ADDQ(rs, a)
		}
		SUBQ(Imm(uint64(rows)), m)
		JMP(LabelRef("m" + tag))
		Label("end" + tag)
	}
	done()
}

// attnTranspose: dst[i][r] = scale * x[r][i] for 8*groups rows of d floats (d%8 == 0); rows of dst are 80 floats. ymm in both.
func attnTranspose() {
	text("attnTranspose", "func(groups, d int, x *float32, ldx int, scale float32, dst *float32)")
	groups, ld := arg("groups"), floats("ldx")
	x, dst := arg("x"), arg("dst")
	scale := lane("scale").AsY()
	n, p, q, src := GP64(), GP64(), GP64(), GP64()
	Label("group")
	Load(Param("d"), n)
	MOVQ(x, src)
	MOVQ(dst, q)
	Label("col")
	MOVQ(src, p)
	var r, t, u [8]VecVirtual
	for i := range r {
		r[i] = YMM()
		VMULPS(Mem{Base: p}, scale, r[i])
		ADDQ(ld, p)
	}
	for i := 0; i < 8; i += 2 {
		t[i], t[i+1] = YMM(), YMM()
		VUNPCKLPS(r[i+1], r[i], t[i])
		VUNPCKHPS(r[i+1], r[i], t[i+1])
	}
	for i := range u {
		u[i] = YMM()
		f, s := i/4*4+i%4/2, uint8(0x44)
		if i%2 == 1 {
			s = 0xee
		}
		VSHUFPS(U8(s), t[f+2], t[f], u[i])
	}
	for i := range 8 {
		z, s := YMM(), uint8(0x20)
		if i >= 4 {
			s = 0x31
		}
		VPERM2F128(U8(s), u[i%4+4], u[i%4], z)
		VMOVUPS(z, Mem{Base: q, Disp: i * 320})
	}
	ADDQ(U32(8*320), q)
	ADDQ(Imm(32), src)
	SUBQ(Imm(8), n)
	JNZ(LabelRef("col"))
	LEAQ(Mem{Base: x, Index: ld, Scale: 8}, x)
	ADDQ(Imm(32), dst)
	DECQ(groups)
	JNZ(LabelRef("group"))
	done()
}

// attnMask: s[c][r] = fill where bit r of mask[c] is 0.
func attnMask() {
	text("attnMask", "func(keys int, s *float32, mask *uint64, fill float32)")
	n, s, mk := arg("keys"), arg("s"), arg("mask")
	fill := lane("fill")
	var bit VecVirtual
	if !w.wide {
		g := GLOBL("attnBits", RODATA|NOPTR)
		for i := range 8 {
			DATA(i*4, U32(1<<i))
		}
		bit = V()
		VMOVUPS(g, bit)
	}
	Label("row")
	for i := range tileRow / w.bytes {
		if w.wide { // a masked store writes the hidden lanes only
			k := K()
			KMOVW(Mem{Base: mk, Disp: i * 2}, k)
			KNOTW(k, k)
			VMOVUPS(fill, k, row(s, i))
			continue
		}
		b, x := V(), V()
		VPBROADCASTB(Mem{Base: mk, Disp: i}, b)
		VPAND(bit, b, b)
		VPCMPEQD(bit, b, b)
		VBLENDVPS(b, row(s, i), fill, x)
		VMOVUPS(x, row(s, i))
	}
	ADDQ(U32(tileRow), s)
	ADDQ(Imm(8), mk)
	DECQ(n)
	JNZ(LabelRef("row"))
	done()
}

// sweep emits body for every 4 vectors of queries: a whole row of a tile in AVX-512, two halves in AVX2. It moves the pointers.
func sweep(pointers []Register, body func(tag string)) {
	for h := range tileRow / (4 * w.bytes) {
		if h > 0 {
			for _, p := range pointers {
				ADDQ(U32(4*w.bytes), p)
			}
		}
		body(fmt.Sprint(h))
	}
}

// attnSoftmax: online softmax in base 2 of S^T. Queries lie along the lanes, so nothing is reduced across lanes. mx and l are
// the state of the 64 queries, alpha the factors by which what was summed up before must be scaled. Where a score is NaN, P
// and l become NaN, whatever the maximum does with it.
func attnSoftmax() {
	text("attnSoftmax", "func(keys int, s, mx, l, alpha *float32)")
	s, mx, l, al := arg("s"), arg("mx"), arg("l"), arg("alpha")
	p, n := GP64(), GP64()
	expInit()
	sweep([]Register{s, mx, l, al}, func(tag string) {
		var m, m2, sum [4]VecVirtual
		for i := range m {
			m[i], m2[i] = V(), V()
			VMOVUPS(row(mx, i), m[i])
			VMOVAPS(m[i], m2[i])
		}
		MOVQ(s, p)
		Load(Param("keys"), n)
		SUBQ(Imm(2), n)
		JLT(LabelRef("odd" + tag))
		Label("max" + tag)
		for i := range m {
			VMAXPS(row(p, i), m[i], m[i])
			VMAXPS(row(p, i).Offset(tileRow), m2[i], m2[i])
		}
		ADDQ(U32(2*tileRow), p)
		SUBQ(Imm(2), n)
		JGE(LabelRef("max" + tag))
		Label("odd" + tag)
		ADDQ(Imm(2), n)
		JEQ(LabelRef("top" + tag))
		for i := range m {
			VMAXPS(row(p, i), m[i], m[i])
		}
		Label("top" + tag)
		for i := range m {
			VMAXPS(m2[i], m[i], m[i])
			a := V()
			VMOVUPS(row(mx, i), a)
			VSUBPS(m[i], a, a)
			exp2v(a)
			VMOVUPS(a, row(al, i))
			VMOVUPS(m[i], row(mx, i))
			sum[i] = V()
			VMULPS(row(l, i), a, sum[i])
		}
		MOVQ(s, p)
		Load(Param("keys"), n)
		Label("exp" + tag)
		for i := range m {
			x := V()
			VMOVUPS(row(p, i), x)
			VSUBPS(m[i], x, x)
			exp2v(x)
			VMOVUPS(x, row(p, i))
			VADDPS(x, sum[i], sum[i])
		}
		ADDQ(U32(tileRow), p)
		DECQ(n)
		JNZ(LabelRef("exp" + tag))
		for i := range m {
			VMOVUPS(sum[i], row(l, i))
		}
	})
	done()
}

// attnBackward: s becomes P = 2^(s-lse), dp becomes P*(dp-delta); lse and delta lie along the lanes.
func attnBackward() {
	text("attnBackward", "func(keys int, s, dp, lse, delta *float32)")
	s, dp, lse, de := arg("s"), arg("dp"), arg("lse"), arg("delta")
	n, p, q := GP64(), GP64(), GP64()
	expInit()
	sweep([]Register{s, dp, lse, de}, func(tag string) {
		var lv, dv [4]VecVirtual
		for i := range lv {
			lv[i], dv[i] = V(), V()
			VMOVUPS(row(lse, i), lv[i])
			VMOVUPS(row(de, i), dv[i])
		}
		MOVQ(s, p)
		MOVQ(dp, q)
		Load(Param("keys"), n)
		Label("row" + tag)
		for i := range lv {
			x, d := V(), V()
			VMOVUPS(row(p, i), x)
			VSUBPS(lv[i], x, x)
			exp2v(x)
			VMOVUPS(x, row(p, i))
			VMOVUPS(row(q, i), d)
			VSUBPS(dv[i], d, d)
			VMULPS(x, d, d)
			VMOVUPS(d, row(q, i))
		}
		ADDQ(U32(tileRow), p)
		ADDQ(U32(tileRow), q)
		DECQ(n)
		JNZ(LabelRef("row" + tag))
	})
	done()
}

// attnFinish: inv = 1/l and lse = log(l 2^m), for 64 queries; NaN where l is. With l = f 2^e, f around 1, and
// z = (f-1)/(f+1): log f = 2 (z + z^3/3 + z^5/5 ...), of which the terms up to z^9 are enough for float32.
func attnFinish() {
	text("attnFinish", "func(mx, l, inv, lse *float32)")
	mx, l, inv, lse := arg("mx"), arg("l"), arg("inv"), arg("lse")
	one, ln2, n := V(), V(), GP64()
	VMOVUPS(bc(1), one)
	VMOVUPS(bc(math.Ln2), ln2)
	MOVQ(U32(tileRow/w.bytes), n)
	Label("loop")
	x, e, f, z, z2, p := V(), V(), V(), V(), V(), V()
	VMOVUPS(Mem{Base: l}, x)
	VDIVPS(x, one, p)
	VMOVUPS(p, Mem{Base: inv})
	VPSUBD(bci(0x3f3504f3), x, e) // the bits of sqrt(1/2)
	VPSRAD(U8(23), e, e)
	VPSLLD(U8(23), e, f)
	VPSUBD(f, x, f)
	VCVTDQ2PS(e, e)
	VSUBPS(one, f, z)
	VADDPS(one, f, f)
	VDIVPS(f, z, z)
	VMULPS(z, z, z2)
	VMOVUPS(bc(2./9), p)
	for _, c := range []float32{2. / 7, 2. / 5, 2. / 3, 2} {
		VFMADD213PS(bc(c), z2, p)
	}
	VMULPS(z, p, p)
	VFMADD231PS(ln2, e, p)
	VFMADD231PS(Mem{Base: mx}, ln2, p)
	VSUBPS(x, x, x) // 0, or NaN
	VADDPS(x, p, p)
	VMOVUPS(p, Mem{Base: lse})
	for _, r := range []Register{mx, l, inv, lse} {
		ADDQ(U32(w.bytes), r)
	}
	DECQ(n)
	JNZ(LabelRef("loop"))
	done()
}
