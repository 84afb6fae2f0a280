package main

import (
	"fmt"
	"math"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

func init() { parts["elem"] = elem }

// elem emits the kernels of elemTable. They take slices of any length and touch nothing outside.
func elem() {
	simple()
	activations()
	reductions()
	norms()
	losses()
	steps()
}

var labels int

// label makes a label that is used once in the file.
func label(name string) string {
	labels++
	return fmt.Sprint(name, labels)
}

// span says which lanes of a vector lie inside the slice: all, or those of a mask.
type span struct {
	part bool
	k    Register   // wide
	m    VecVirtual // not wide
}

// load reads the lanes inside; the others are 0.
func (l span) load(m Mem) VecVirtual {
	v := V()
	switch {
	case !l.part:
		VMOVUPS(m, v)
	case w.wide:
		VMOVUPS_Z(m, l.k, v)
	default:
		VMASKMOVPS(m, l.m, v)
	}
	return v
}

// loadOr reads the lanes inside; the others are those of fill.
func (l span) loadOr(m Mem, fill VecVirtual) VecVirtual {
	if !l.part {
		return l.load(m)
	}
	v := V()
	if w.wide {
		VMOVAPS(fill, v)
		VMOVUPS(m, l.k, v)
		return v
	}
	VMASKMOVPS(m, l.m, v)
	VBLENDVPS(l.m, v, fill, v)
	return v
}

// store writes the lanes inside.
func (l span) store(v VecVirtual, m Mem) {
	switch {
	case !l.part:
		VMOVUPS(v, m)
	case w.wide:
		VMOVUPS(v, l.k, m)
	default:
		VMASKMOVPS(v, l.m, m)
	}
}

// inside clears the lanes outside.
func (l span) inside(v VecVirtual) {
	switch {
	case !l.part:
	case w.wide:
		VMOVAPS_Z(v, l.k, v)
	default:
		VANDPS(l.m, v, v)
	}
}

var maskTable *Mem

// partial is the lane mask of the first rem (> 0) elements, all if rem is more than a vector.
func partial(rem GPVirtual) span {
	if w.wide {
		bits, k := GP32(), K()
		MOVL(U32(math.MaxUint32), bits)
		BZHIL(rem.As32(), bits, bits)
		KMOVW(bits, k)
		return span{part: true, k: k}
	}
	if maskTable == nil {
		t := GLOBL("lanes", RODATA|NOPTR)
		for i := range 16 { // in rising order, as the assembler wants
			DATA(i*4, U32(uint32(math.MaxUint32*(1-i/8))))
		}
		maskTable = &t
	}
	eight, at := GP64(), GP64()
	MOVQ(U32(8), eight)
	CMPQ(rem, eight)
	CMOVQGT(eight, rem)
	NEGQ(rem)
	LEAQ(*maskTable, at)
	m := V()
	VMOVUPS(Mem{Base: at, Index: rem, Scale: 4, Disp: 32}, m)
	return span{part: true, m: m}
}

// over goes through n bytes of floats, u vectors a turn (u*W <= 128), then vector by vector with a mask.
// body k of a turn gets the lanes and the place of its vector in a slice.
func over(u int, n GPVirtual, body func(k int, l span, at func(base Register) Mem)) {
	turn, rest, one, end := label("turn"), label("rest"), label("one"), label("end")
	i, rem := GP64(), GP64()
	XORQ(i, i)
	MOVQ(n, rem)
	SUBQ(U32(u*w.bytes), rem)
	JLT(LabelRef(rest))
	Label(turn)
	for k := range u {
		body(k, span{}, func(b Register) Mem { return Mem{Base: b, Index: i, Scale: 1, Disp: k * w.bytes} })
	}
	ADDQ(U32(u*w.bytes), i)
	SUBQ(U32(u*w.bytes), rem)
	JGE(LabelRef(turn))
	Label(rest)
	CMPQ(i, n)
	JGE(LabelRef(end))
	Label(one)
	left := GP64()
	MOVQ(n, left)
	SUBQ(i, left)
	SHRQ(U8(2), left)
	body(0, partial(left), func(b Register) Mem { return Mem{Base: b, Index: i, Scale: 1} })
	ADDQ(U32(w.bytes), i)
	CMPQ(i, n)
	JLT(LabelRef(one))
	Label(end)
}

// base loads the address of a slice parameter.
func base(name string) GPVirtual {
	r := GP64()
	Load(Param(name).Base(), r)
	return r
}

// size loads the length of a slice parameter in bytes.
func size(name string) GPVirtual {
	r := GP64()
	Load(Param(name).Len(), r)
	SHLQ(U8(2), r)
	return r
}

// number loads an int parameter.
func number(name string) GPVirtual {
	r := GP64()
	Load(Param(name), r)
	return r
}

// spread loads a float32 parameter into every lane.
func spread(name string) VecVirtual {
	p, err := Param(name).Resolve()
	if err != nil {
		panic(err)
	}
	v := V()
	VBROADCASTSS(p.Addr, v)
	return v
}

// keep is a constant: in a register if there are 32 of them, else in memory.
func keep(x float64) Op {
	if w.wide {
		return hold(x)
	}
	return bc(float32(x))
}

// hold is a constant in a register.
func hold(x float64) VecVirtual {
	v := V()
	VMOVUPS(bc(float32(x)), v)
	return v
}

func holdBits(x uint32) VecVirtual {
	v := V()
	VMOVUPS(bci(x), v)
	return v
}

func copyOf(v VecVirtual) VecVirtual {
	c := V()
	VMOVAPS(v, c)
	return c
}

// atMost and atLeast: v = min(v, bound), max(v, bound), NaN stays NaN (the operand named first here is the result then).
func atMost(v, bound VecVirtual)  { VMINPS(v, bound, v) }
func atLeast(v, bound VecVirtual) { VMAXPS(v, bound, v) }

// sums is u accumulators.
func sums(u int) []VecVirtual {
	s := make([]VecVirtual, u)
	for i := range s {
		s[i] = V()
		zero(s[i])
	}
	return s
}

// total adds the accumulators up; the sum is in every lane of the first.
func total(s []VecVirtual) VecVirtual {
	for n := len(s); n > 1; n /= 2 {
		for i := range n / 2 {
			VADDPS(s[i+n/2], s[i], s[i])
		}
	}
	hred(s[0], add, true)
	return s[0]
}

// rows repeats body for the int parameter rows; it must not be negative.
func rows(body func()) {
	n := number("rows")
	loop, end := label("row"), label("end")
	TESTQ(n, n)
	JLE(LabelRef(end))
	Label(loop)
	body()
	DECQ(n)
	JNZ(LabelRef(loop))
	Label(end)
}

// simple emits what needs one operation.
func simple() {
	two := func(name string, op func(a Mem, b, c VecVirtual), masked func(a, b, c Op)) {
		text(name, "func(x, y, out []float32)")
		n, x, y, out := size("x"), base("x"), base("y"), base("out")
		over(4, n, func(_ int, l span, at func(Register) Mem) {
			v := l.load(at(x))
			if l.part {
				masked(l.load(at(y)), v, v)
			} else {
				op(at(y), v, v)
			}
			l.store(v, at(out))
		})
		done()
	}
	two("add", func(a Mem, b, c VecVirtual) { VADDPS(a, b, c) }, func(a, b, c Op) { VADDPS(a, b, c) })
	two("mul", func(a Mem, b, c VecVirtual) { VMULPS(a, b, c) }, func(a, b, c Op) { VMULPS(a, b, c) })

	text("axpy", "func(alpha float32, x, y []float32)")
	a, n, x, y := spread("alpha"), size("x"), base("x"), base("y")
	over(4, n, func(_ int, l span, at func(Register) Mem) {
		v, t := l.load(at(x)), l.load(at(y))
		VFMADD231PS(a, v, t)
		l.store(t, at(y))
	})
	done()

	text("scale", "func(alpha float32, x, y []float32)")
	a, n, x, y = spread("alpha"), size("x"), base("x"), base("y")
	over(4, n, func(_ int, l span, at func(Register) Mem) {
		v := l.load(at(x))
		VMULPS(a, v, v)
		l.store(v, at(y))
	})
	done()

	text("addRow", "func(rows, d int, x, row, y []float32)")
	d, x, r, y := number("d"), base("x"), base("row"), base("y")
	SHLQ(U8(2), d)
	rows(func() {
		over(4, d, func(_ int, l span, at func(Register) Mem) {
			v, t := l.load(at(x)), l.load(at(r))
			VADDPS(t, v, v)
			l.store(v, at(y))
		})
		ADDQ(d, x)
		ADDQ(d, y)
	})
	done()
}
