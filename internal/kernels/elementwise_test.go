package kernels

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

// mathCase is a function of one variable: the float64 truth and the plain float32 transcription, rounded at each step.
type mathCase struct {
	name    string
	run     func(x, y []float32)
	truth   func(x float64) float64
	naive   func(x float32) float32
	scale   float64 // spread of the arguments
	relFrom float64 // results above this are compared by relative error too
}

func f32(f func(float64) float64) func(float32) float32 {
	return func(x float32) float32 { return float32(f(float64(x))) }
}

var (
	nexp  = f32(math.Exp)
	nerf  = f32(math.Erf)
	ntanh = f32(math.Tanh)
	nsig  = func(x float32) float32 { return 1 / (1 + nexp(-x)) }
	dsig  = func(x float64) float64 { return 1 / (1 + math.Exp(-x)) }
)

func gradOf(a Activation) func(x, y []float32) {
	return func(x, y []float32) {
		one := make([]float32, len(x))
		Scale(0, x, one)
		for i := range one {
			one[i] = 1
		}
		ActGrad(a, x, one, y)
	}
}

func actOf(a Activation) func(x, y []float32) { return func(x, y []float32) { Act(a, x, y) } }

func mathCases() []mathCase {
	const k, c = geluK, geluC
	phi := func(x float64) float64 { return math.Exp(-x*x/2) * invSqrt2Pi }
	gate := func(x, k float64) float64 { s := dsig(k * x); return s + k*x*s*dsig(-k*x) }
	ngate := func(x, k float32) float32 { s := nsig(k * x); return s + k*x*s*(1-s) }
	return []mathCase{
		{"exp", Exp[float32], math.Exp, nexp, 30, 1e-30},
		{"exp2", Exp2[float32], math.Exp2, f32(math.Exp2), 40, 1e-30},
		{"gelu", actOf(GELU), func(x float64) float64 { return x * .5 * math.Erfc(-x/math.Sqrt2) },
			func(x float32) float32 { return 0.5 * x * (1 + nerf(x*float32(math.Sqrt2/2))) }, 3, 1e-6},
		{"gelu'", gradOf(GELU), func(x float64) float64 { return .5*math.Erfc(-x/math.Sqrt2) + x*phi(x) },
			func(x float32) float32 {
				return 0.5*(1+nerf(x*float32(math.Sqrt2/2))) + x*(nexp(-0.5*x*x)*float32(invSqrt2Pi))
			}, 3, 1e-2},
		{"gelu_new", actOf(GELUTanh), func(x float64) float64 { return x * dsig(k*(x+c*x*x*x)) },
			func(x float32) float32 { return 0.5 * x * (1 + ntanh(float32(k/2)*(x+float32(c)*x*x*x))) }, 3, 1e-6},
		{"gelu_new'", gradOf(GELUTanh), func(x float64) float64 {
			u := k * (x + c*x*x*x)
			return dsig(u) + x*dsig(u)*dsig(-u)*k*(1+3*c*x*x)
		}, func(x float32) float32 {
			t := ntanh(float32(k/2) * (x + float32(c)*x*x*x))
			return 0.5*(1+t) + 0.5*x*(1-t*t)*float32(k/2)*(1+3*float32(c)*x*x)
		}, 3, 1e-2},
		{"quick_gelu", actOf(QuickGELU), func(x float64) float64 { return x * dsig(quickK*x) },
			func(x float32) float32 { return x * nsig(float32(quickK)*x) }, 4, 1e-6},
		{"quick_gelu'", gradOf(QuickGELU), func(x float64) float64 { return gate(x, quickK) },
			func(x float32) float32 { return ngate(x, quickK) }, 4, 1e-2},
		{"silu", actOf(SiLU), func(x float64) float64 { return x * dsig(x) }, func(x float32) float32 { return x * nsig(x) }, 6, 1e-6},
		{"silu'", gradOf(SiLU), func(x float64) float64 { return gate(x, 1) }, func(x float32) float32 { return ngate(x, 1) }, 6, 1e-2},
		{"softplus", actOf(Softplus), func(x float64) float64 { return math.Max(x, 0) + math.Log1p(math.Exp(-math.Abs(x))) },
			func(x float32) float32 { return max(x, 0) + f32(math.Log1p)(nexp(-max(x, -x))) }, 8, 1e-30},
		{"softplus'", gradOf(Softplus), dsig, nsig, 8, 1e-30},
		{"sigmoid", actOf(Sigmoid), dsig, nsig, 8, 1e-30},
		{"sigmoid'", gradOf(Sigmoid), func(x float64) float64 { return dsig(x) * dsig(-x) },
			func(x float32) float32 { s := nsig(x); return s * (1 - s) }, 6, 1e-6},
		{"tanh", actOf(Tanh), math.Tanh, ntanh, 3, 1e-30},
		{"tanh'", gradOf(Tanh), func(x float64) float64 { t := math.Tanh(x); return 1 - t*t },
			func(x float32) float32 { t := ntanh(x); return 1 - t*t }, 3, 1e-6},
	}
}

// The error of a kernel is at most twice that of the plain float32 loop: the greatest absolute and the greatest relative error
// over arguments of the usual size, dense and random.
func TestFunctionsAgainstFloat64(t *testing.T) {
	forSets(t, func(t *testing.T) {
		for _, c := range mathCases() {
			x := randoms(3, 60000, c.scale)
			for i := range 20000 {
				x = append(x, float32((float64(i)/10000-1)*4*c.scale), float32((float64(i)/10000-1)*0.01))
			}
			y := make([]float32, len(x))
			c.run(x, y)
			var abs, rel, nabs, nrel, at, rat float64
			for i, v := range x {
				want, naive := c.truth(float64(v)), float64(c.naive(v))
				if math.Abs(want) > math.MaxFloat32 || math.IsInf(naive, 0) {
					continue
				}
				e, n := math.Abs(float64(y[i])-want), math.Abs(naive-want)
				if e > abs {
					abs, at = e, float64(v)
				}
				nabs = max(nabs, n)
				if math.Abs(want) > c.relFrom {
					if e/math.Abs(want) > rel {
						rel, rat = e/math.Abs(want), float64(v)
					}
					nrel = max(nrel, n/math.Abs(want))
				}
			}
			t.Logf("%-12s abs %.3g (plain %.3g) at %g   rel %.3g (plain %.3g) at %g", c.name, abs, nabs, at, rel, nrel, rat)
			require.LessOrEqual(t, abs, 2*nabs, "%s: absolute error at %g", c.name, at)
			require.LessOrEqual(t, rel, 2*nrel, "%s: relative error at %g", c.name, rat)
		}
	})
}
