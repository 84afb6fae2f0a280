package kernels

import "math"

// The generic set: plain Go in the order of the formulas, the oracle of the others.

// newElemGeneric fills the table with the plain Go loops.
func newElemGeneric[F Float]() elemTable[F] {
	t := elemTable[F]{
		exp: goMap(func(x F) F { return exp(x) }), exp2: goMap(func(x F) F { return F(math.Exp2(float64(x))) }),
		add: goAdd[F], mul: goMul[F], axpy: goAxpy[F], scale: goScale[F], addRow: goAddRow[F],
		colSum: goColSum[F], sum: goSum[F], sumSq: goSumSq[F], finite: goFinite[F],
		layerNorm: goLayerNorm[F], layerNormGrad: goLayerNormGrad[F], rmsNorm: goRMSNorm[F], rmsNormGrad: goRMSNormGrad[F],
		maxOf: goMax[F], expSub: goExpSub[F], sumExp: goSumExp[F], subSub: goSubSub[F],
		softmaxGrad: goSoftmaxGrad[F], logSoftmaxGrad: goLogSoftmaxGrad[F],
		adamW: goAdamW[F], dropout: goDropout[F], rope: goRope[F],
	}
	for a := range numActivations {
		t.act[a], t.actGrad[a] = goAct[F](a), goActGrad[F](a)
	}
	return t
}

func exp[F Float](x F) F     { return F(math.Exp(float64(x))) }
func sqrt[F Float](x F) F    { return F(math.Sqrt(float64(x))) }
func sigmoid[F Float](x F) F { return 1 / (1 + exp(-x)) }

// logistic returns the sigmoid and its derivative, from e^-|x| so that neither loses digits.
func logistic[F Float](x F) (s, ds F) {
	z := exp(-max(x, -x))
	q := 1 / (1 + z)
	if x < 0 {
		return z * q, z * q * q
	}
	return q, z * q * q
}

func goMap[F Float](f func(F) F) func(x, y []F) {
	return func(x, y []F) {
		for i, v := range x {
			y[i] = f(v)
		}
	}
}

// goMapGrad makes dx = dy * f(x).
func goMapGrad[F Float](f func(F) F) func(x, dy, dx []F) {
	return func(x, dy, dx []F) {
		for i, v := range x {
			dx[i] = dy[i] * f(v)
		}
	}
}

const (
	invSqrt2Pi = 0.39894228040143267794 // 1/sqrt(2 pi)
	geluK      = 1.5957691216057307117  // 2 sqrt(2/pi)
	geluC      = 0.044715
	quickK     = 1.702
)

func goAct[F Float](a Activation) func(x, y []F) {
	switch a {
	case GELU: // by erfc, so that the left tail keeps its digits
		return goMap(func(x F) F { return F(0.5) * x * F(math.Erfc(-float64(x)*(math.Sqrt2/2))) })
	case GELUTanh: // 0.5 (1 + tanh u) is sigmoid(2u)
		return goMap(func(x F) F { return x * sigmoid(F(geluK)*(x+F(geluC)*x*x*x)) })
	case QuickGELU:
		return goMap(func(x F) F { return x * sigmoid(F(quickK)*x) })
	case SiLU:
		return goMap(func(x F) F { return x * sigmoid(x) })
	case ReLU:
		return goMap(func(x F) F {
			if x < 0 {
				return 0
			}
			return x
		})
	case LeakyReLU:
		return goMap(func(x F) F {
			if x < 0 {
				return F(leak) * x
			}
			return x
		})
	case Softplus: // log(1 + e^x) without overflow
		return goMap(func(x F) F { return max(x, 0) + F(math.Log1p(math.Exp(-math.Abs(float64(x))))) })
	case Sigmoid:
		return goMap(sigmoid[F])
	case Tanh:
		return goMap(func(x F) F { return F(math.Tanh(float64(x))) })
	}
	return goCopy[F]
}

func goCopy[F Float](x, y []F) { copy(y, x) }

func goActGrad[F Float](a Activation) func(x, dy, dx []F) {
	switch a {
	case GELU:
		return goMapGrad(func(x F) F {
			v := min(max(float64(x), -40), 40) // infinities have a limit too
			return F(0.5*math.Erfc(-v*(math.Sqrt2/2)) + v*invSqrt2Pi*math.Exp(-0.5*v*v))
		})
	case GELUTanh:
		return goMapGrad(func(x F) F {
			q := min(x*x, 1e4) // so that no product below is 0 * Inf
			s, ds := logistic(F(geluK) * (x + F(geluC)*x*q))
			return s + x*ds*F(geluK)*(1+3*F(geluC)*q)
		})
	case QuickGELU:
		return goMapGrad(func(x F) F {
			s, ds := logistic(F(quickK) * x)
			return s + x*ds*F(quickK)
		})
	case SiLU:
		return goMapGrad(func(x F) F {
			s, ds := logistic(x)
			return s + x*ds
		})
	case ReLU:
		return goSlopeGrad[F](0)
	case LeakyReLU:
		return goSlopeGrad[F](leak)
	case Softplus:
		return goMapGrad(sigmoid[F])
	case Sigmoid:
		return goMapGrad(func(x F) F {
			_, ds := logistic(x)
			return ds
		})
	case Tanh:
		return goMapGrad(func(x F) F {
			t := F(math.Tanh(float64(x)))
			return 1 - t*t
		})
	}
	return goCopyGrad[F]
}

func goCopyGrad[F Float](_, dy, dx []F) { copy(dx, dy) }

// goSlopeGrad is for the rectifiers: dx = dy above 0 (and at NaN), else slope * dy; dy is chosen, not multiplied by 0 or 1.
func goSlopeGrad[F Float](slope F) func(x, dy, dx []F) {
	return func(x, dy, dx []F) {
		for i, v := range x {
			switch {
			case !(v <= 0):
				dx[i] = dy[i]
			case slope == 0:
				dx[i] = 0
			default:
				dx[i] = slope * dy[i]
			}
		}
	}
}

func goAdd[F Float](x, y, out []F) {
	for i, v := range x {
		out[i] = v + y[i]
	}
}

func goMul[F Float](x, y, out []F) {
	for i, v := range x {
		out[i] = v * y[i]
	}
}

func goAxpy[F Float](alpha F, x, y []F) {
	for i, v := range x {
		y[i] += alpha * v
	}
}

func goScale[F Float](alpha F, x, y []F) {
	for i, v := range x {
		y[i] = alpha * v
	}
}

func goAddRow[F Float](rows, d int, x, row, y []F) {
	for r := range rows {
		goAdd(x[r*d:r*d+d], row, y[r*d:r*d+d])
	}
}

func goColSum[F Float](rows, d int, x []F, ldx int, out []F) {
	for r := range rows {
		for c, v := range x[r*ldx : r*ldx+d] {
			out[c] += v
		}
	}
}

func goSum[F Float](x []F) float64 {
	var s float64
	for _, v := range x {
		s += float64(v)
	}
	return s
}

func goSumSq[F Float](x []F) float64 {
	var s float64
	for _, v := range x {
		s += float64(v) * float64(v)
	}
	return s
}

func goFinite[F Float](x []F) bool {
	for _, v := range x {
		if v-v != 0 {
			return false
		}
	}
	return true
}
