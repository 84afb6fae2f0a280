package kernels

import (
	"math"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
)

// Parts come together as by the definition, with its gradients, whoever does the work.
func TestMerge(t *testing.T) {
	limit, procs := workerLimit, runtime.GOMAXPROCS(0)
	defer func() { workerLimit = limit; runtime.GOMAXPROCS(procs) }()
	workerLimit = 4
	const parts = 3
	for _, c := range [][4]int{{2, 131, 3, 8}, {1, 5, 2, 7}, {3, 64, 1, 24}, {1, 0, 2, 8}} {
		b, n, h, d := c[0], c[1], c[2], c[3]
		rng := rand.New(rand.NewPCG(3, uint64(n)))
		normal := func(n int) []float64 {
			x := make([]float64, n)
			for i := range x {
				x[i] = float64(float32(rng.NormFloat64()))
			}
			return x
		}
		o, lse := make([][]float64, parts), make([][]float64, parts)
		for k := range parts {
			o[k], lse[k] = normal(b*n*h*d), normal(b*h*n)
			for i := range lse[k] {
				if (i+k)%3 == 0 || i%7 == 0 { // nothing is read
					lse[k][i] = math.Inf(-1)
					at := ((i/n/h*n+i%n)*h + i/n%h) * d
					clear(o[k][at : at+d])
				}
			}
		}
		do, dl := normal(b*n*h*d), normal(b*h*n)
		wantO, wantLSE, wantGrads := make([]float64, len(do)), make([]float64, len(dl)), make([]float64, parts*(len(do)+len(dl)))
		for i := range dl {
			at := ((i/n/h*n+i%n)*h + i/n%h) * d
			sum := 0.0
			for k := range parts {
				sum += math.Exp(lse[k][i])
			}
			wantLSE[i] = math.Log(sum)
			for k := range parts {
				for e := range d {
					if sum > 0 {
						wantO[at+e] += math.Exp(lse[k][i]) / sum * o[k][at+e]
					}
				}
			}
			for k := range parts {
				w, dot := 0.0, dl[i]
				if sum > 0 {
					w = math.Exp(lse[k][i]) / sum
				}
				for e := range d {
					wantGrads[k*(len(do)+len(dl))+at+e] = w * do[at+e]
					dot += do[at+e] * (o[k][at+e] - wantO[at+e])
				}
				wantGrads[k*(len(do)+len(dl))+len(do)+i] = w * dot
			}
		}
		want := [][]float64{wantO, wantLSE, wantGrads}
		for i, x := range mergeRun[float64](c, o, lse, do, dl) {
			require.LessOrEqual(t, attnWorst(x, want[i]), 1e-13)
		}
		eachAttnSet(t, func(t *testing.T) {
			var first [][]float64
			for _, workers := range []int{1, 3} {
				runtime.GOMAXPROCS(workers)
				got := mergeRun[float32](c, o, lse, do, dl)
				for i, x := range got {
					require.LessOrEqual(t, attnWorst(x, want[i]), 4e-6)
				}
				if first == nil {
					first = got
				}
				require.Equal(t, first, got)
			}
		})
	}
}

func mergeRun[F Float](c [4]int, o, lse [][]float64, do, dl []float64) [][]float64 {
	in := func(x []float64) []F {
		y := make([]F, len(x))
		for i, v := range x {
			y[i] = F(v)
		}
		return y
	}
	m := TakeMerge[F](c[0], c[1], c[2], c[3])
	defer m.Release()
	for k := range o {
		m.Add(in(o[k]), in(lse[k]))
	}
	out, sum, grads := in(make([]float64, len(do))), in(make([]float64, len(dl))), in(make([]float64, len(o)*(len(do)+len(dl))))
	m.Forward(out, sum)
	m.Backward(out, sum, in(do), in(dl), grads)
	return [][]float64{asFloat64(out), asFloat64(sum), asFloat64(grads)}
}
