package attention

import (
	"math"

	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/mat"
)

// neighbours returns row i of W = A or Aᵀ or I without repetitions.
func neighbours(p Pattern, i, n int, dst []Run) []Run {
	return disjoint(append(anyCol(p, i, n, anyRow(p, i, n, dst[:0])), Run{i, i + 1, 1}))
}

// denseGap diagonalises; n³.
func denseGap(p Pattern, n int) float64 {
	w := mat.NewSymDense(n, nil)
	degree := make([]float64, n)
	rows := make([][]Run, n)
	for i := range n {
		rows[i] = neighbours(p, i, n, nil)
		for _, r := range rows[i] {
			degree[i] += float64(r.Len())
		}
	}
	for i := range n {
		for _, r := range rows[i] {
			for j := r.Lo; j < r.Hi; j += r.Step {
				w.SetSym(i, j, 1/math.Sqrt(degree[i]*degree[j]))
			}
		}
	}
	var e mat.EigenSym
	e.Factorize(w, false)
	values := e.Values(nil) // ascending
	return 1 - values[n-2]
}

// lanczosGap finds λ₂ as the greatest eigenvalue of what is orthogonal to √degree, the eigenvector of λ₁ = 1. Only the last
// three vectors are kept: extreme eigenvalues survive the loss of orthogonality, which merely repeats them.
func lanczosGap(p Pattern, n int) float64 {
	var (
		rows         = make([][]Run, n)
		root         = make([]float64, n) // √degree
		first        = make([]float64, n)
		u, v, w      = make([]float64, n), make([]float64, n), make([]float64, n)
		x, sums      = make([]float64, n), make([]float64, n+1)
		alpha, betas []float64
	)
	for i := range n {
		rows[i] = neighbours(p, i, n, nil)
		d := 0
		for _, r := range rows[i] {
			d += r.Len()
		}
		root[i] = math.Sqrt(float64(d))
	}
	copy(first, root)
	floats.Scale(1/floats.Norm(first, 2), first)
	deflate := func(y []float64) { floats.AddScaled(y, -floats.Dot(y, first), first) }
	state := uint64(1)
	for i := range v { // a fixed start with a part in every direction
		state = state*6364136223846793005 + 1442695040888963407
		v[i] = float64(state>>11)/(1<<53) - 0.5 + float64(i)/float64(n)
	}
	deflate(v)
	floats.Scale(1/floats.Norm(v, 2), v)
	previous, beta := math.Inf(-1), 0.0
	for step := 1; step <= 4000; step++ {
		for i := range x {
			x[i] = v[i] / root[i]
			sums[i+1] = sums[i] + x[i]
		}
		for i, row := range rows {
			var s float64
			for _, r := range row {
				if r.Step == 1 && r.Hi-r.Lo > 8 {
					s += sums[r.Hi] - sums[r.Lo]
					continue
				}
				for j := r.Lo; j < r.Hi; j += r.Step {
					s += x[j]
				}
			}
			w[i] = s / root[i]
		}
		a := floats.Dot(v, w)
		floats.AddScaled(w, -a, v)
		floats.AddScaled(w, -beta, u)
		deflate(w)
		alpha = append(alpha, a)
		beta = floats.Norm(w, 2)
		if step%25 == 0 || beta < 1e-13 {
			top := greatest(alpha, betas)
			if beta < 1e-13 || top-previous < 1e-5*(1-top) && step >= 50 {
				return 1 - top
			}
			previous = top
		}
		betas = append(betas, beta)
		floats.Scale(1/beta, w)
		u, v, w = v, w, u
	}
	return 1 - greatest(alpha, betas[:len(alpha)-1])
}

// greatest is the greatest eigenvalue of a symmetric tridiagonal matrix, by bisection.
func greatest(diagonal, beside []float64) float64 {
	lo, hi := -2.0, 2.0
	for range 60 {
		mid := (lo + hi) / 2
		above, d := false, 1.0
		for i, a := range diagonal { // signs of the pivots of T - mid: one positive means an eigenvalue above
			d = a - mid - func() float64 {
				if i == 0 {
					return 0
				}
				return beside[i-1] * beside[i-1] / d
			}()
			if d == 0 {
				d = 1e-300
			}
			if d > 0 {
				above = true
				break
			}
		}
		if above {
			lo = mid
		} else {
			hi = mid
		}
	}
	return (lo + hi) / 2
}
