package main

import (
	"fmt"
	"math"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// fit returns the coefficients, from the constant up, of the polynomial that meets f in the Chebyshev nodes of [lo, hi]: within a
// small factor of the best one.
func fit(f func(float64) float64, lo, hi float64, degree int) []float64 {
	n := degree + 1
	x, d := make([]float64, n), make([]float64, n)
	for i := range x {
		x[i] = (lo+hi)/2 + (hi-lo)/2*math.Cos(math.Pi*(float64(i)+.5)/float64(n))
		d[i] = f(x[i])
	}
	for k := 1; k < n; k++ { // divided differences
		for i := n - 1; i >= k; i-- {
			d[i] = (d[i] - d[i-1]) / (x[i] - x[i-k])
		}
	}
	c := make([]float64, n)
	for i := n - 1; i >= 0; i-- { // c = c*(t - x[i]) + d[i]
		for k := n - 1; k > 0; k-- {
			c[k] = c[k-1] - x[i]*c[k]
		}
		c[0] = d[i] - x[i]*c[0]
	}
	return c
}

// polynomial evaluates c[0] + c[1] t + ... into a new register.
func polynomial(c []Op, t VecVirtual) VecVirtual {
	p := V()
	VMOVUPS(c[len(c)-1], p)
	for i := len(c) - 2; i >= 0; i-- {
		VFMADD213PS(c[i], t, p)
	}
	return p
}

func keepAll(c []float64) []Op {
	ops := make([]Op, len(c))
	for i, x := range c {
		ops[i] = keep(x)
	}
	return ops
}

// roundingMagic added to a small number rounds it to an integer, which is then in the low bits.
const roundingMagic = 3 << 22

// power is e^(scale x): 2^n 2^f with n the nearest integer to scale x log2(e) and f the exact rest.
type power struct {
	hi, lo             Op // scale log2(e) in two parts
	least, most, magic VecVirtual
	c                  []Op
	full, neg          bool
}

// newPower prepares e^(scale x). full: results in the whole range of float32 (else, in AVX2, below 2^-126.5 they are 0 and above
// 2^127.5 infinite). neg: x is never above 0 (scale > 0).
func newPower(scale float64, full, neg bool) power {
	k := scale * math.Log2E
	e := power{hi: keep(k), lo: keep(k - float64(float32(k))), magic: hold(roundingMagic), full: full, neg: neg}
	low, high := -88.3, 88.9
	if w.wide || full {
		low, high = -104.5, 89.5
	}
	low, high = low/scale, high/scale
	e.least, e.most = hold(min(low, high)), nil
	if !neg {
		e.most = hold(max(low, high))
	}
	e.c = keepAll(exp2Fit())
	return e
}

func exp2Fit() []float64 {
	c := fit(func(f float64) float64 { return (math.Exp2(f) - 1) / f }, -.5, .5, 5)
	return append([]float64{1}, c...)
}

// of returns e^(scale x) in a new register. NaN stays NaN.
func (e power) of(x VecVirtual) VecVirtual {
	x = copyOf(x)
	atLeast(x, e.least)
	if !e.neg {
		atMost(x, e.most)
	}
	n, f := copyOf(e.magic), V()
	VFMADD231PS(e.hi, x, n) // its low bits are the nearest integer
	VSUBPS(e.magic, n, n)
	VMOVAPS(n, f)
	VFMSUB231PS(e.hi, x, f) // x hi - n
	VFMADD231PS(e.lo, x, f)
	p := polynomial(e.c, f)
	scaleByPower(p, n, e.full)
	return p
}

// nearest rounds to integers.
func nearest(v VecVirtual) {
	if w.wide {
		VRNDSCALEPS(U8(8), v, v)
	} else {
		VROUNDPS(U8(8), v, v)
	}
}

// scaleByPower: p *= 2^n for integers n; n is spent. Not full: n in [-127, 128].
func scaleByPower(p, n VecVirtual, full bool) {
	if w.wide {
		VSCALEFPS(n, p, p)
		return
	}
	VCVTPS2DQ(n, n)
	bias := bci(127)
	if full { // in two steps, each within the exponents there are
		h := V()
		VPSRAD(U8(1), n, h)
		VPSUBD(h, n, n)
		VPADDD(bias, h, h)
		VPSLLD(U8(23), h, h)
		VMULPS(h, p, p)
	}
	VPADDD(bias, n, n)
	VPSLLD(U8(23), n, n)
	VMULPS(n, p, p)
}

// pieces is a function on [0, top], and constant beyond, by a polynomial for each of 8 or 16 pieces: coefficients are fetched by
// permutations. Piece i is centred at i*width; its variable is the distance from there, which is exact.
type pieces struct {
	inv, width Op
	top, magic VecVirtual
	c          []column
	low, unit  column // what the rounding of c[0] lost, and 1 where it is kept out of c[1]; nil if not exact
}

// column is a coefficient of all pieces: one vector or, for 16 pieces with AVX2, two.
type column []Op

// fetch returns the column's value for the piece in the low bits of i; half has the bit above those in its sign.
func (c column) fetch(i, half VecVirtual) VecVirtual {
	v := V()
	VPERMPS(c[0], i, v)
	if len(c) > 1 {
		t := V()
		VPERMPS(c[1], i, t)
		VBLENDVPS(half, t, v, v)
	}
	return v
}

var tables int

// newPieces fits f with n pieces of the given width, which has few bits; top is width*(n-1). zeroFirst: f is 0 at 0, with full
// relative accuracy near it; zeroLast: exactly 0 from top on; exact: the constant of each piece is kept in two parts.
func newPieces(f func(float64) float64, n int, width float64, degree int, zeroFirst, zeroLast, exact bool) pieces {
	h := width / 2
	coef := make([][]float64, n)
	for i := range coef {
		g := func(t float64) float64 { return f(math.Abs(float64(i)*width + t)) }
		switch {
		case i == 0 && zeroFirst:
			coef[i] = append([]float64{0}, fit(func(t float64) float64 { return g(t) / t }, 0, h, degree-1)...)
		case i == 0:
			coef[i] = fit(g, 0, h, degree)
		case i == n-1 && zeroLast:
			coef[i] = append([]float64{0}, fit(func(t float64) float64 { return (g(t) - g(0)) / t }, -h, 0, degree-1)...)
		case i == n-1:
			coef[i] = fit(g, -h, 0, degree)
		default:
			coef[i] = fit(g, -h, h, degree)
		}
	}
	tables++
	table := func(name string, of func(i int) float64) (c column) {
		for first := 0; first < n; first += lanes() {
			m := GLOBL(fmt.Sprintf("pieces%d_%s_%d", tables, name, first), RODATA|NOPTR)
			for i := range lanes() {
				DATA(i*4, U32(math.Float32bits(float32(of(first+i)))))
			}
			if !w.wide {
				c = append(c, m)
				continue
			}
			r := V()
			VMOVUPS(m, r)
			c = append(c, r)
		}
		return c
	}
	p := pieces{inv: keep(1 / width), width: keep(width), magic: hold(roundingMagic), top: hold(float64(n-1) * width)}
	if exact {
		coef[0][1]--
		p.low = table("low", func(i int) float64 { return coef[i][0] - float64(float32(coef[i][0])) })
		p.unit = table("unit", func(i int) float64 { return float64(1 - min(i, 1)) })
	}
	for k := range degree + 1 {
		p.c = append(p.c, table(fmt.Sprint(k), func(i int) float64 { return coef[i][k] }))
	}
	return p
}

// of returns the function of a >= 0, which is spent. NaN stays NaN.
func (p pieces) of(a VecVirtual) VecVirtual {
	atMost(a, p.top)
	i, n := copyOf(p.magic), V()
	VFMADD231PS(p.inv, a, i) // its low bits are the nearest integer
	VSUBPS(p.magic, i, n)
	VFNMADD231PS(p.width, n, a) // t
	half := i
	if len(p.c[0]) > 1 {
		half = V()
		VPSLLD(U8(28), i, half)
	}
	last := len(p.c) - 1
	y := p.c[last].fetch(i, half)
	for k := last - 1; k >= 0; k-- {
		if k == 0 && p.low != nil {
			VFMADD213PS(p.low.fetch(i, half), a, y)
			c := p.c[0].fetch(i, half)
			VFMADD231PS(p.unit.fetch(i, half), a, c)
			VADDPS(c, y, y)
			continue
		}
		VFMADD213PS(p.c[k].fetch(i, half), a, y)
	}
	return y
}

// whereNegative: y = v in the lanes where x has its sign bit set.
func whereNegative(x, v, y VecVirtual) {
	if w.wide {
		k := K()
		VPMOVD2M(x, k)
		VMOVAPS(v, k, y)
		return
	}
	VBLENDVPS(x, v, y, y)
}

// magnitude is |x|.
func magnitude(x VecVirtual, abs Op) VecVirtual {
	a := V()
	VANDPS(abs, x, a)
	return a
}

func keepBits(x uint32) Op {
	if w.wide {
		return holdBits(x)
	}
	return bci(x)
}

const absBits, signBit = 0x7fffffff, 0x80000000
