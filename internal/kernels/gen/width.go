package main

import (
	"fmt"
	"math"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// width is a vector width: everything that differs between the two sets.
type width struct {
	suffix string
	bytes  int // of one vector
	v      func() VecVirtual
	wide   bool // 512 bits: 32 registers, so constants live in registers
}

var (
	ymm = width{"AVX2", 32, YMM, false}
	zmm = width{"AVX512", 64, ZMM, true}
	w   = ymm
)

// V is a new vector register of the set.
func V() VecVirtual { return w.v() }

// lanes is the number of float32 in a vector.
func lanes() int { return w.bytes / 4 }

// row is the i-th vector at base.
func row(base Register, i int) Mem { return Mem{Base: base, Disp: i * w.bytes} }

// text starts a function; its name gets the suffix of the set.
func text(name, sig string) {
	TEXT(name+w.suffix, NOSPLIT, sig)
	Pragma("noescape")
	ec = expConsts{}
}

// done ends a function.
func done() {
	VZEROUPPER()
	RET()
}

// zero uses VXORPS for zmm too (AVX512DQ): avo knows that it does not read its operand. VPXORD it takes for a read, so the
// accumulators of all blocks would be alive at once and the allocator would run out of registers.
func zero(v VecVirtual) { VXORPS(v, v, v) }

var constants = map[uint32]Mem{}

// bc is a constant in every lane, in memory; equal constants share it.
func bc(x float32) Mem { return bci(math.Float32bits(x)) }

// bci is bc for an integer.
func bci(x uint32) Mem {
	m, ok := constants[x]
	if !ok {
		m = GLOBL(fmt.Sprintf("c%08x", x), RODATA|NOPTR)
		for i := 0; i < lanes(); i++ {
			DATA(i*4, U32(x))
		}
		constants[x] = m
	}
	return m
}

// tail makes loads and stores of the last n%lanes floats: a mask register, or a vector of masks from a table.
type tail struct {
	k   Register
	vec VecVirtual
}

var tailMasks Mem // AVX2: 8 lanes set, then 8 clear

// newTail clobbers n, the number of floats, of which it leaves n%lanes.
func newTail(n GPVirtual) tail {
	ANDQ(Imm(uint64(lanes()-1)), n)
	if w.wide {
		bits, k := GP64(), K()
		MOVQ(U32(0xffff), bits)
		BZHIQ(n, bits, bits)
		KMOVW(bits.As32(), k)
		return tail{k: k}
	}
	if tailMasks.Base == nil {
		tailMasks = GLOBL("tailMasks", RODATA|NOPTR)
		for i := range 8 {
			DATA(i*4, U32(0xffffffff))
		}
		for i := range 8 {
			DATA(32+i*4, U32(0))
		}
	}
	at, v := GP64(), V()
	LEAQ(tailMasks, at)
	NEGQ(n)
	VMOVUPS(Mem{Base: at, Index: n, Scale: 4, Disp: 32}, v)
	NEGQ(n)
	return tail{vec: v}
}

// load reads the tail, 0 in the other lanes; memory behind it is not touched.
func (t tail) load(m Mem, v VecVirtual) {
	if w.wide {
		VMOVUPS_Z(m, t.k, v)
	} else {
		VMASKMOVPS(m, t.vec, v)
	}
}

func (t tail) store(v VecVirtual, m Mem) {
	if w.wide {
		VMOVUPS(v, t.k, m)
	} else {
		VMASKMOVPS(v, t.vec, m)
	}
}

// expConsts holds, for one function, the constants of exp2v: registers if there are 32 of them, else memory.
type expConsts struct {
	loaded      bool
	c           [7]Op // of the polynomial; c[0] is 1
	least, bias Op
}

var ec expConsts

// expInit must stand before the loop of every function that uses exp2v or horner.
func expInit() {
	// 2^f on [-.5,.5] (Cephes exp2f)
	poly := []float32{1, 6.931472028550421e-1, 2.402264791363012e-1, 5.550332471162809e-2,
		9.618437357674640e-3, 1.339887440266574e-3, 1.535336188319500e-4}
	if w.wide { // 2^f on [0,1): minimax, relative error 1.3e-8
		poly = []float32{1, 0.6931470444431614, 0.24022930555502736, 0.05548528060340304,
			0.009675451602392051, 0.0012467846077792004, 0.0002161291635752292}
	}
	ec = expConsts{loaded: true}
	for i, x := range poly {
		ec.c[i] = bc(x)
		if w.wide {
			r := V()
			VMOVUPS(bc(x), r)
			ec.c[i] = r
		}
	}
	if !w.wide {
		ec.bias = bci(127)
		r := V() // a register, because the operand of a maximum that may be NaN must be the last one
		VMOVUPS(bc(-127), r)
		ec.least = r
	}
}

// horner: p = 2^f for a fraction f of the set's interval.
func horner(f, p VecVirtual) {
	if !ec.loaded {
		panic("expInit missing")
	}
	VMOVUPS(ec.c[6], p)
	for i := 5; i >= 0; i-- {
		VFMADD213PS(ec.c[i], f, p)
	}
}

// exp2v: x = 2^x in place. NaN stays NaN, -Inf gives 0. With AVX2 x must be below 128 (or NaN), and below -126.5 the result is 0.
func exp2v(x VecVirtual) {
	p := V()
	if w.wide {
		f := V()
		VREDUCEPS(U8(9), x, f) // x - floor(x); 0 for infinities
		horner(f, p)
		VSCALEFPS(x, p, x) // p * 2^floor(x)
		return
	}
	n := V()
	VMAXPS(x, ec.least, x) // a NaN in the first operand here is kept
	VROUNDPS(U8(0), x, n)
	VSUBPS(n, x, x)
	horner(x, p)
	VCVTPS2DQ(n, n)
	VPADDD(ec.bias, n, n)
	VPSLLD(U8(23), n, n)
	VMULPS(n, p, x)
}

// hred reduces v by op and leaves the result in every lane (lane 0 only if all is false).
func hred(v VecVirtual, op func(a, b, c Op), all bool) {
	y := v.AsY()
	if w.wide {
		h := YMM()
		VEXTRACTF64X4(U8(1), v, h)
		op(h, y, h)
		y = h
	}
	lo := XMM()
	VEXTRACTF128(U8(1), y, lo)
	op(lo, y.(interface{ AsX() Register }).AsX(), lo)
	t := XMM()
	VPERMILPS(U8(0x4e), lo, t)
	op(t, lo, lo)
	VPERMILPS(U8(0xb1), lo, t)
	op(t, lo, lo)
	if all {
		VBROADCASTSS(lo, v)
	} else {
		VMOVAPS(lo, v.AsX())
	}
}

func add(a, b, c Op)  { VADDPS(a, b, c) }
func vmax(a, b, c Op) { VMAXPS(a, b, c) }
