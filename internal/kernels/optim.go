package kernels

import "math"

// AdamW holds the scalars of one step of the optimiser of Loshchilov and Hutter 2019, with the semantics of torch.optim.AdamW.
type AdamW struct {
	LR, Beta1, Beta2, Eps, WeightDecay float64
	Scale                              float64 // multiplies the gradient first (clipping, averaging)
	Step                               int     // of this update, from 1
}

// Scalars of a step in the order in which the kernels read them.
const (
	adamBeta1  = iota
	adamBeta1c // 1 - beta1
	adamBeta2
	adamBeta2c // 1 - beta2
	adamLR     // lr / (1 - beta1^step)
	adamRoot   // 1 / sqrt(1 - beta2^step)
	adamEps
	adamDecay // 1 - lr * decay
	adamScale
	numAdamW
)

// AdamWStep updates p and its moments m, v [n] from the gradient g:
// p *= 1 - lr wd; m = b1 m + (1-b1) g; v = b2 v + (1-b2) g²; p -= lr/(1-b1^t) m / (sqrt(v)/sqrt(1-b2^t) + eps).
func AdamWStep[F Float](o AdamW, p, m, v, g []F) {
	j := newJob(opAdamW, elem[F]())
	t := float64(o.Step)
	j.adam = [numAdamW]F{F(o.Beta1), F(1 - o.Beta1), F(o.Beta2), F(1 - o.Beta2), F(o.LR / (1 - math.Pow(o.Beta1, t))),
		F(1 / math.Sqrt(1-math.Pow(o.Beta2, t))), F(o.Eps), F(1 - o.LR*o.WeightDecay), F(o.Scale)}
	n := len(p)
	j.x, j.y, j.z, j.u = p, m[:n], v[:n], g[:n]
	j.do(n, elemChunk)
	j.free()
}

func goAdamW[F Float](p, m, v, g []F, c *[numAdamW]F) {
	for i, x := range g {
		x *= c[adamScale]
		m[i] = c[adamBeta1]*m[i] + c[adamBeta1c]*x
		v[i] = c[adamBeta2]*v[i] + c[adamBeta2c]*x*x
		p[i] = p[i]*c[adamDecay] - c[adamLR]*m[i]/(sqrt(v[i])*c[adamRoot]+c[adamEps])
	}
}
