package main

import (
	"math"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

const (
	geluK  = 1.5957691216057307 // 2 sqrt(2/pi)
	geluC  = 0.044715
	quickK = 1.702
)

// forward emits y = f(x). prepare loads what f needs and returns it; f may spend x.
func forward(name string, u int, prepare func() (f func(x VecVirtual) VecVirtual)) {
	text(name, "func(x, y []float32)")
	f := prepare()
	n, x, y := size("x"), base("x"), base("y")
	over(u, n, func(_ int, l span, at func(Register) Mem) { l.store(f(l.load(at(x))), at(y)) })
	done()
}

// backward emits dx = dy * f(x).
func backward(name string, u int, prepare func() (f func(x VecVirtual) VecVirtual)) {
	text(name, "func(x, dy, dx []float32)")
	f := prepare()
	n, x, dy, dx := size("x"), base("x"), base("dy"), base("dx")
	over(u, n, func(_ int, l span, at func(Register) Mem) {
		v := f(l.load(at(x)))
		if l.part {
			VMULPS(l.load(at(dy)), v, v)
		} else {
			VMULPS(at(dy), v, v)
		}
		l.store(v, at(dx))
	})
	done()
}

// normal is Φ(-a).
func normal(a float64) float64 { return .5 * math.Erfc(a/math.Sqrt2) }

func density(a float64) float64 { return math.Exp(-a*a/2) / math.Sqrt(2*math.Pi) }

// geluPieces: they end at 6.5625, where a Φ(-a) and its derivative are below 2e-9.
func geluPieces(f func(float64) float64, zeroFirst bool) pieces {
	if w.wide {
		return newPieces(f, 16, 7./16, 6, zeroFirst, true, false)
	}
	return newPieces(f, 8, 15./16, 9, zeroFirst, true, false)
}

func activations() {
	forward("exp", 2, func() func(VecVirtual) VecVirtual { return newPower(1, true, false).of })
	forward("exp2", 2, func() func(VecVirtual) VecVirtual {
		least, most, c := hold(-151), hold(129), keepAll(exp2Fit())
		return func(x VecVirtual) VecVirtual {
			atLeast(x, least)
			atMost(x, most)
			n := copyOf(x)
			nearest(n)
			VSUBPS(n, x, x)
			p := polynomial(c, x)
			scaleByPower(p, n, true)
			return p
		}
	})

	// GELU is x - a Φ(-a) above 0 and -a Φ(-a) below, with a = |x|.
	forward("gelu", 2, func() func(VecVirtual) VecVirtual {
		s := geluPieces(func(a float64) float64 { return a * normal(a) }, true)
		abs, nul := keepBits(absBits), V()
		zero(nul)
		return func(x VecVirtual) VecVirtual {
			y := s.of(magnitude(x, abs))
			t := V()
			VMULPS(nul, x, t) // 0, or NaN of -Inf
			whereNegative(x, t, x)
			VSUBPS(y, x, y)
			return y
		}
	})
	backward("geluGrad", 2, func() func(VecVirtual) VecVirtual {
		r := geluPieces(func(a float64) float64 { return normal(a) - a*density(a) }, false)
		abs, one := keepBits(absBits), hold(1)
		return func(x VecVirtual) VecVirtual {
			v := r.of(magnitude(x, abs))
			y := V()
			VSUBPS(v, one, y)
			whereNegative(x, v, y)
			return y
		}
	})

	// x/(1 + e^-u)
	gate := func(x, e, one VecVirtual) VecVirtual {
		VADDPS(one, e, e)
		VDIVPS(e, x, e)
		return e
	}
	// cubic returns u/x and du/dx of u = K(x + C x³) over K.
	cubic := func() func(x VecVirtual) (u, du VecVirtual) {
		c1, c3, one, most := keep(geluC), keep(3*geluC), hold(1), hold(1e4)
		return func(x VecVirtual) (u, du VecVirtual) {
			q := V()
			VMULPS(x, x, q)
			atMost(q, most) // so that no product below is 0 * Inf
			u, du = copyOf(one), copyOf(one)
			VFMADD231PS(c1, q, u)
			VFMADD231PS(c3, q, du)
			VMULPS(x, u, u)
			return u, du
		}
	}
	forward("geluTanh", 2, func() func(VecVirtual) VecVirtual {
		e, u, one := newPower(-geluK, false, false), cubic(), hold(1)
		return func(x VecVirtual) VecVirtual {
			v, _ := u(x)
			return gate(x, e.of(v), one)
		}
	})
	backward("geluTanhGrad", 1, func() func(VecVirtual) VecVirtual {
		f, u, k := logistic(geluK), cubic(), keep(geluK)
		return func(x VecVirtual) VecVirtual {
			v, du := u(x)
			s, ds := f(v)
			VMULPS(k, du, du)
			return gated(s, ds, x, du)
		}
	})
	for _, g := range []struct {
		name string
		k    float64
	}{{"silu", 1}, {"quickGELU", quickK}} {
		forward(g.name, 2, func() func(VecVirtual) VecVirtual {
			e, one := newPower(-g.k, false, false), hold(1)
			return func(x VecVirtual) VecVirtual { return gate(x, e.of(x), one) }
		})
		backward(g.name+"Grad", 2, func() func(VecVirtual) VecVirtual {
			f, k := logistic(g.k), keep(g.k)
			return func(x VecVirtual) VecVirtual {
				s, ds := f(x)
				return gated(s, ds, x, k)
			}
		})
	}
	sigma := func() func(VecVirtual) VecVirtual {
		e, one := newPower(-1, false, false), hold(1)
		return func(x VecVirtual) VecVirtual { return gate(one, e.of(x), one) }
	}
	forward("sigmoid", 2, sigma)
	backward("softplusGrad", 2, sigma)
	backward("sigmoidGrad", 2, func() func(VecVirtual) VecVirtual {
		f := logistic(1)
		return func(x VecVirtual) VecVirtual {
			_, ds := f(x)
			return ds
		}
	})
	// max(x, 0) + log(1 + e^-|x|), the logarithm by a polynomial in the power
	forward("softplus", 2, func() func(VecVirtual) VecVirtual {
		e, sign, nul := newPower(1, false, true), keepBits(signBit), V()
		zero(nul)
		c := keepAll(fit(func(z float64) float64 { return math.Log1p(z) / z }, 0, 1, 10))
		return func(x VecVirtual) VecVirtual {
			a := V()
			VORPS(sign, x, a)
			z := e.of(a)
			p := polynomial(c, z)
			atLeast(x, nul)
			VFMADD213PS(x, z, p)
			return p
		}
	})
	hyperbolic := func() func(VecVirtual) VecVirtual {
		// up to 9.375, where tanh is 1 in float32
		t, abs, sign := newPieces(math.Tanh, 16, 5./8, 7, true, false, true), keepBits(absBits), keepBits(signBit)
		return func(x VecVirtual) VecVirtual {
			y := t.of(magnitude(x, abs))
			VANDPS(sign, x, x)
			VORPS(x, y, y)
			return y
		}
	}
	forward("tanh", 2, hyperbolic)
	backward("tanhGrad", 2, func() func(VecVirtual) VecVirtual {
		t, one := hyperbolic(), hold(1)
		return func(x VecVirtual) VecVirtual {
			y, d := t(x), copyOf(one)
			VFNMADD231PS(y, y, d)
			return d
		}
	})
	rectifiers()
}

// logistic prepares s(u) = 1/(1 + e^-u) and its derivative, both from z = e^-|u| so that neither loses digits:
// s is q = 1/(1+z) or, below 0, z q; the derivative is z q².
func logistic(scale float64) func(u VecVirtual) (s, ds VecVirtual) {
	e, one, sign := newPower(scale, false, true), hold(1), keepBits(signBit)
	return func(u VecVirtual) (s, ds VecVirtual) {
		a := V()
		VORPS(sign, u, a)
		z := e.of(a)
		s = V()
		VADDPS(one, z, s)
		VDIVPS(s, one, s)
		VMULPS(s, z, z)
		ds = V()
		VMULPS(s, z, ds)
		whereNegative(u, z, s)
		return s, ds
	}
}

// gated returns s + x ds du, the derivative of x s(u); s and ds are spent.
func gated(s, ds, x VecVirtual, du Op) VecVirtual {
	VMULPS(x, ds, ds)
	VFMADD231PS(du, ds, s)
	return s
}

func rectifiers() {
	forward("relu", 4, func() func(VecVirtual) VecVirtual {
		nul := V()
		zero(nul)
		return func(x VecVirtual) VecVirtual {
			atLeast(x, nul)
			return x
		}
	})
	forward("leakyReLU", 4, func() func(VecVirtual) VecVirtual {
		k := keep(0.01)
		return func(x VecVirtual) VecVirtual {
			t := V()
			VMULPS(k, x, t)
			VMAXPS(t, x, x)
			return x
		}
	})
	// dx = dy where x > 0 or x is NaN, else slope * dy
	grad := func(name string, slope float64) {
		text(name, "func(x, dy, dx []float32)")
		n, x, dy, dx := size("x"), base("x"), base("dy"), base("dx")
		nul, s := V(), keep(slope)
		zero(nul)
		over(4, n, func(_ int, l span, at func(Register) Mem) {
			v, g, y := l.load(at(x)), l.load(at(dy)), V()
			if slope == 0 {
				zero(y)
			} else {
				VMULPS(s, g, y)
			}
			const notLE = 6
			if w.wide {
				k := K()
				VCMPPS(U8(notLE), nul, v, k)
				VMOVAPS(g, k, y)
			} else {
				VCMPPS(U8(notLE), nul, v, v)
				VBLENDVPS(v, g, y, y)
			}
			l.store(y, at(dx))
		})
		done()
	}
	grad("reluGrad", 0)
	grad("leakyReLUGrad", 0.01)
}
