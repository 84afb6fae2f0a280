package testkit

import (
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

// recorder stands for a test and keeps what it is told.
type recorder struct {
	testing.TB
	text string
}

func (r *recorder) Helper()                        {}
func (r *recorder) Errorf(format string, a ...any) { r.text += fmt.Sprintf(format, a...) }

func TestAllClose(t *testing.T) {
	r := &recorder{TB: t}
	require.True(t, AllClose(r, "x", []float32{1, 2}, []float64{1, 2.001}, nil, 1e-3, 1e-3))
	require.Empty(t, r.text)
	require.False(t, AllClose(r, "x", []float32{1, 2, 3, 4, 5, 6}, []float64{1, 2, 3, 4, 5, 7}, []int{2, 3}, 0.1, 0))
	require.Contains(t, r.text, "at [1 2] (index 5): got 6, want 7")
	require.False(t, AllClose(r, "x", []float32{1}, []float64{1, 2}, nil, 1, 0))
}

func TestGradCheck(t *testing.T) {
	f := func(x []float64) float64 { return math.Sin(x[0])*x[1] + math.Exp(0.3*x[2]) + x[3]*x[3]*x[3] }
	x := []float64{0.7, -1.3, 2.1, 11}
	grad := []float64{math.Cos(x[0]) * x[1], math.Sin(x[0]), 0.3 * math.Exp(0.3*x[2]), 3 * x[3] * x[3]}
	r := &recorder{TB: t}
	require.True(t, GradCheck(r, "f", f, x, grad, 1e-10), r.text)
	grad[1] += 1e-4
	require.False(t, GradCheck(r, "f", f, x, grad, 1e-8))
	require.Contains(t, r.text, "gradient 1 is")
	require.False(t, GradCheck(r, "f", f, x, grad[:3], 1e-8))
	grad[1] = math.NaN()
	require.False(t, GradCheck(r, "f", f, x, grad, 1e-8))
}
