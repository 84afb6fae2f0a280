// Package testkit holds what the tests of several packages share: comparison that shows the worst place, gradients by finite
// differences. Recorded cases are in testkit/golden.
package testkit

import (
	"math"
	"testing"

	"github.com/euryale-ml/euryale/internal/testkit/golden"
)

// Float is an element type of tensors.
type Float interface{ float32 | float64 }

// AllClose fails the test if any |got-want| > abs + rel*max|want|. It prints the worst place: its coordinates in the shape
// (nil for a flat slice), its index and both values. NaN is close to NaN, an infinity to itself.
func AllClose[A, B Float](t testing.TB, name string, got []A, want []B, shape []int, abs, rel float64) bool {
	t.Helper()
	if shape == nil {
		shape = []int{len(want)}
	}
	r := golden.Compare(name, wide(got), wide(want), shape, abs, rel, nil)
	if !r.OK {
		t.Errorf("%v", r)
	}
	return r.OK
}

func wide[T Float](in []T) []float64 {
	out := make([]float64, len(in))
	for i, v := range in {
		out[i] = float64(v)
	}
	return out
}

// GradCheck compares a gradient at x with central differences of f, which must be smooth near x. At most 64 coordinates are
// tried, spread evenly. tol is relative to the larger of 1 and the largest gradient; 1e-7 suits most functions in float64.
// f must not keep or change its argument.
func GradCheck(t testing.TB, name string, f func(x []float64) float64, x, grad []float64, tol float64) bool {
	t.Helper()
	if len(x) != len(grad) {
		t.Errorf("%s: %d gradients of %d variables", name, len(grad), len(x))
		return false
	}
	scale := 1.0
	for _, g := range grad {
		if math.Abs(g) > scale { // false for NaN, which fails below
			scale = math.Abs(g)
		}
	}
	stride := (len(x)+63)/64 | 1 // odd, or it would walk down one column
	y := append([]float64(nil), x...)
	worst, at, num := -1.0, 0, 0.0
	for i := 0; i < len(x); i += stride {
		n := difference(f, y, i)
		d := math.Abs(n - grad[i])
		if math.IsNaN(d) {
			d = math.Inf(1)
		}
		if d > worst {
			worst, at, num = d, i, n
		}
	}
	if !(worst <= tol*scale) {
		t.Errorf("%s: gradient %d is %.12g, finite differences give %.12g (difference %.3g > %.3g)", name, at, grad[at], num, worst, tol*scale)
		return false
	}
	return true
}

// difference is the central difference of fourth order; its error is near 1e-11 where f and its derivatives are near 1.
func difference(f func([]float64) float64, x []float64, i int) float64 {
	x0 := x[i]
	h := 1e-3 * math.Max(1, math.Abs(x0))
	at := func(d float64) float64 {
		x[i] = x0 + d
		v := f(x)
		x[i] = x0
		return v
	}
	return (8*(at(h)-at(-h)) - (at(2*h) - at(-2*h))) / (12 * h)
}
