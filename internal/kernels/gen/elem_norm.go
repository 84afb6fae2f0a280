package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// inverse is 1/n of an integer in every lane.
func inverse(n GPVirtual) VecVirtual {
	v, f, one := V(), XMM(), XMM()
	VXORPS(f, f, f)
	VCVTSI2SSQ(n, f, f)
	VMOVSS(oneScalar(), one)
	VDIVSS(f, one, f)
	VBROADCASTSS(f, v)
	return v
}

func oneScalar() Mem { return bc(1) }

// inverseRoot: v = 1/sqrt(v + eps).
func inverseRoot(v, eps VecVirtual) {
	VADDPS(eps, v, v)
	r := XMM()
	one := XMM()
	VSQRTSS(v.AsX(), v.AsX(), r)
	VMOVSS(oneScalar(), one)
	VDIVSS(r, one, r)
	VBROADCASTSS(r, v)
}

// moments returns the mean, 1/sqrt(var + eps), and -(what the mean lost to rounding) times that, of the row at x.
func moments(x, d GPVirtual, inv, eps VecVirtual) (mu, rstd, shift VecVirtual) {
	s := sums(4)
	over(4, d, func(k int, l span, at func(Register) Mem) {
		if l.part {
			VADDPS(l.load(at(x)), s[k], s[k])
		} else {
			VADDPS(at(x), s[k], s[k])
		}
	})
	mu = total(s)
	VMULPS(inv, mu, mu)
	a, q := sums(2), sums(2)
	over(2, d, func(k int, l span, at func(Register) Mem) {
		v := l.load(at(x))
		VSUBPS(mu, v, v)
		l.inside(v)
		VADDPS(v, a[k], a[k])
		VFMADD231PS(v, v, q[k])
	})
	low, va := total(a), total(q)
	VMULPS(inv, low, low)
	VMULPS(inv, va, va)
	VFNMADD231PS(low, low, va)
	nul := V()
	zero(nul)
	atLeast(va, nul)
	inverseRoot(va, eps)
	shift = V()
	VXORPS(shift, shift, shift)
	VFNMADD231PS(low, va, shift)
	return mu, va, shift
}

func norms() {
	text("layerNorm", "func(rows, d int, x, w, b, y []float32, eps float32)")
	d, x, wt, b, y := number("d"), base("x"), base("w"), base("b"), base("y")
	inv, eps := inverse(d), spread("eps")
	SHLQ(U8(2), d)
	rows(func() {
		mu, rstd, shift := moments(x, d, inv, eps)
		over(2, d, func(_ int, l span, at func(Register) Mem) {
			v, bias := l.load(at(x)), l.load(at(b))
			VSUBPS(mu, v, v)
			VFMADD213PS(shift, rstd, v)
			VFMADD132PS(l.load(at(wt)), bias, v)
			l.store(v, at(y))
		})
		ADDQ(d, x)
		ADDQ(d, y)
	})
	done()

	text("layerNormGrad", "func(rows, d int, x, w, dy, more []float32, ldMore int, dx, dw, db []float32, eps float32)")
	d, x, wt = number("d"), base("x"), base("w")
	dy, dx, dw, db := base("dy"), base("dx"), base("dw"), base("db")
	more, ld := base("more"), number("ldMore")
	inv, eps = inverse(d), spread("eps")
	SHLQ(U8(2), d)
	SHLQ(U8(2), ld)
	rows(func() {
		mu, rstd, shift := moments(x, d, inv, eps)
		unit := func(v VecVirtual) {
			VSUBPS(mu, v, v)
			VFMADD213PS(shift, rstd, v)
		}
		s0, s1 := sums(2), sums(2)
		over(2, d, func(k int, l span, at func(Register) Mem) {
			v, g := l.load(at(x)), l.load(at(dy))
			unit(v)
			t := l.load(at(db))
			VADDPS(g, t, t)
			l.store(t, at(db))
			t = l.load(at(dw))
			VFMADD231PS(g, v, t)
			l.store(t, at(dw))
			VMULPS(l.load(at(wt)), g, g)
			VADDPS(g, s0[k], s0[k])
			VFMADD231PS(g, v, s1[k])
		})
		a, b := total(s0), total(s1)
		VMULPS(inv, a, a)
		VMULPS(inv, b, b)
		over(2, d, func(_ int, l span, at func(Register) Mem) {
			v, g := l.load(at(x)), l.load(at(dy))
			unit(v)
			VMULPS(l.load(at(wt)), g, g) // rounded as in the sum, so that a row of one element gives 0
			VSUBPS(a, g, g)
			VFNMADD231PS(v, b, g)
			VMULPS(rstd, g, g)
			VADDPS(l.load(at(more)), g, g)
			l.store(g, at(dx))
		})
		ADDQ(d, x)
		ADDQ(ld, more)
		ADDQ(d, dy)
		ADDQ(d, dx)
	})
	done()

	// meanSquare returns 1/sqrt(mean(x²) + eps).
	meanSquare := func(x, d GPVirtual, inv, eps VecVirtual) VecVirtual {
		q := sums(4)
		over(4, d, func(k int, l span, at func(Register) Mem) {
			v := l.load(at(x))
			VFMADD231PS(v, v, q[k])
		})
		r := total(q)
		VMULPS(inv, r, r)
		inverseRoot(r, eps)
		return r
	}
	text("rmsNorm", "func(rows, d int, x, w, y []float32, eps float32)")
	d, x, wt, y = number("d"), base("x"), base("w"), base("y")
	inv, eps = inverse(d), spread("eps")
	SHLQ(U8(2), d)
	rows(func() {
		r := meanSquare(x, d, inv, eps)
		over(4, d, func(_ int, l span, at func(Register) Mem) {
			v := l.load(at(x))
			VMULPS(r, v, v)
			VMULPS(l.load(at(wt)), v, v)
			l.store(v, at(y))
		})
		ADDQ(d, x)
		ADDQ(d, y)
	})
	done()

	text("rmsNormGrad", "func(rows, d int, x, w, dy, more []float32, ldMore int, dx, dw []float32, eps float32)")
	d, x, wt, dy, dx, dw = number("d"), base("x"), base("w"), base("dy"), base("dx"), base("dw")
	more, ld = base("more"), number("ldMore")
	inv, eps = inverse(d), spread("eps")
	SHLQ(U8(2), d)
	SHLQ(U8(2), ld)
	rows(func() {
		r := meanSquare(x, d, inv, eps)
		s := sums(2)
		over(2, d, func(k int, l span, at func(Register) Mem) {
			v, g, t := l.load(at(x)), l.load(at(dy)), l.load(at(dw))
			VMULPS(r, v, v)
			VFMADD231PS(g, v, t)
			l.store(t, at(dw))
			VMULPS(l.load(at(wt)), g, g)
			VFMADD231PS(g, v, s[k])
		})
		b := total(s)
		VMULPS(inv, b, b)
		over(2, d, func(_ int, l span, at func(Register) Mem) {
			v, g := l.load(at(x)), l.load(at(dy))
			VMULPS(r, v, v)
			VMULPS(l.load(at(wt)), g, g)
			VFNMADD231PS(v, b, g)
			VMULPS(r, g, g)
			VADDPS(l.load(at(more)), g, g)
			l.store(g, at(dx))
		})
		ADDQ(d, x)
		ADDQ(ld, more)
		ADDQ(d, dy)
		ADDQ(d, dx)
	})
	done()
}
