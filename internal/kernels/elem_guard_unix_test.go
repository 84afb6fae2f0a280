//go:build unix

package kernels

import (
	"math/rand/v2"
	"testing"
)

// No operand is read or written outside its elements, at either end: the process would die of it.
func TestElemStaysInside(t *testing.T) {
	forSets(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(1, 5))
		for _, front := range []bool{false, true} {
			for n := 1; n < 68; n += 3 {
				c := newCase(2, n, func(n int) []float32 { return guarded(t, rng, n, front) })
				for _, op := range elemOps() {
					op.f32(c)
				}
				cos, sin := guarded(t, rng, n, front), guarded(t, rng, n, front)
				x := guarded(t, rng, 2*n, front)
				Rope(1, 1, 2*n, x, 2*n, nil, cos, sin, false, false)
				Rope(1, 1, 2*n, x, 2*n, nil, cos, sin, true, false)
				ColSum(2, n, guarded(t, rng, 2*n+5, front), n+5, c.dw, false)
			}
		}
	})
}
