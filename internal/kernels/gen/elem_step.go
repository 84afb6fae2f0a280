package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// steps emits the optimiser, dropout and rotary positions.
func steps() {
	text("adamW", "func(p, m, v, gr []float32, c *[9]float32)")
	n, p, m, v, g, c := size("p"), base("p"), base("m"), base("v"), base("gr"), GP64()
	Load(Param("c"), c)
	var k [9]VecVirtual
	for i := range k {
		k[i] = V()
		VBROADCASTSS(Mem{Base: c, Disp: 4 * i}, k[i])
	}
	over(1, n, func(_ int, l span, at func(Register) Mem) {
		gv, mv, vv, t := l.load(at(g)), l.load(at(m)), l.load(at(v)), V()
		VMULPS(k[8], gv, gv)
		VMULPS(k[0], mv, mv)
		VFMADD231PS(k[1], gv, mv)
		l.store(mv, at(m))
		VMULPS(gv, gv, gv)
		VMULPS(k[2], vv, vv)
		VFMADD231PS(k[3], gv, vv)
		l.store(vv, at(v))
		VSQRTPS(vv, t)
		VFMADD213PS(k[6], k[5], t)
		VMULPS(k[4], mv, mv)
		VDIVPS(t, mv, mv)
		pv := l.load(at(p))
		VFMSUB132PS(k[7], mv, pv)
		l.store(pv, at(p))
	})
	done()

	dropout()

	text("rope", "func(x, y, cos, sin []float32, sign float32)")
	n, x, y, cos, sin, sign := size("cos"), base("x"), base("y"), base("cos"), base("sin"), spread("sign")
	over(1, n, func(_ int, l span, at func(Register) Mem) {
		a, b, c, s := l.load(at(x)), l.load(at(y)), l.load(at(cos)), l.load(at(sin))
		VMULPS(sign, s, s)
		t, u := V(), V()
		VMULPS(s, b, t)
		VFMSUB231PS(c, a, t)
		VMULPS(s, a, u)
		VFMADD231PS(c, b, u)
		l.store(t, at(x))
		l.store(u, at(y))
	})
	done()
}

const splitMix = 0x9e3779b97f4a7c15

// dropout draws 64 bits for two elements, see Dropout in package kernels.
func dropout() {
	text("dropout", "func(x, y []float32, key, pair uint64, drop uint32, scale float32)")
	n, x, y, sc := size("x"), base("x"), base("y"), spread("scale")
	// counters: key + (pair + 1 + lane) * splitMix
	t := GLOBL("counters", RODATA|NOPTR)
	for i := range w.bytes / 8 {
		k := uint64(splitMix)
		DATA(i*8, U64(k*uint64(i+1)))
	}
	quads := func(v uint64) VecVirtual {
		r, q := V(), GP64()
		MOVQ(U64(v), q)
		VMOVQ(q, r.AsX())
		VPBROADCASTQ(r.AsX(), r)
		return r
	}
	key, pair := GP64(), GP64()
	Load(Param("pair"), pair)
	MOVQ(U64(splitMix), key)
	IMULQ(key, pair)
	Load(Param("key"), key)
	ADDQ(pair, key)
	ctr := V()
	VMOVQ(key, ctr.AsX())
	VPBROADCASTQ(ctr.AsX(), ctr)
	VPADDQ(t, ctr, ctr)
	turn := uint64(splitMix)
	turn *= uint64(w.bytes / 8)
	step, m1, m2 := quads(turn), quads(0xbf58476d1ce4e5b9), quads(0x94d049bb133111eb)
	d := GP32()
	Load(Param("drop"), d)
	if !w.wide {
		XORL(U32(signBit), d)
	}
	limit := V()
	VMOVD(d, limit.AsX())
	VPBROADCASTD(limit.AsX(), limit)
	over(2, n, func(_ int, l span, at func(Register) Mem) {
		z, s := copyOf(ctr), V()
		VPADDQ(step, ctr, ctr)
		for i, m := range []VecVirtual{m1, m2} {
			VPSRLQ(U8(30-3*i), z, s)
			xor(s, z)
			multiply(m, z)
		}
		VPSRLQ(U8(31), z, s)
		xor(s, z)
		v := l.load(at(x))
		VMULPS(sc, v, v)
		if w.wide {
			k := K()
			const notBelow = 5
			VPCMPUD(U8(notBelow), limit, z, k)
			VMOVAPS_Z(v, k, v)
		} else { // signed comparison: turn the sign bits over
			VXORPS(bci(signBit), z, z)
			VPCMPGTD(z, limit, z) // limit > z: dropped
			VANDNPS(v, z, v)
		}
		l.store(v, at(y))
	})
	done()
}

func xor(s, z VecVirtual) { VXORPS(s, z, z) }

// multiply: z *= m in 64 bits.
func multiply(m, z VecVirtual) {
	if w.wide {
		VPMULLQ(m, z, z)
		return
	}
	h, t := V(), V()
	VPSRLQ(U8(32), z, h)
	VPMULUDQ(m, h, h) // high z * low m
	VPSRLQ(U8(32), m, t)
	VPMULUDQ(z, t, t) // low z * high m
	VPADDQ(t, h, h)
	VPSLLQ(U8(32), h, h)
	VPMULUDQ(m, z, z)
	VPADDQ(h, z, z)
}
