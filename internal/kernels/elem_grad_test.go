package kernels

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// gradCase is a function of several float64 arrays and its gradients.
type gradCase struct {
	name  string
	out   int // elements of the result
	in    [][]float64
	f     func(in [][]float64, out []float64)
	grad  func(in [][]float64, dout []float64, din [][]float64)
	delta float64
}

// Gradients agree with central differences of sum(weights * f) in float64.
func TestElemGradients(t *testing.T) {
	const rows, d = 3, 11
	c := newCase(rows, d, fresh).double()
	n := rows * d
	id := []int32{4, -1, 10}
	cases := []gradCase{
		{"layerNorm", n, [][]float64{c.a, c.w, c.v},
			func(in [][]float64, out []float64) { LayerNorm(rows, d, in[0], in[1], in[2], out, 1e-5) },
			func(in [][]float64, dout []float64, din [][]float64) {
				LayerNormGrad(rows, d, in[0], in[1], dout, nil, din[0], din[1], din[2], 1e-5)
			}, 1e-5},
		{"rmsNorm", n, [][]float64{c.a, c.w},
			func(in [][]float64, out []float64) { RMSNorm(rows, d, in[0], in[1], out, 1e-5) },
			func(in [][]float64, dout []float64, din [][]float64) {
				RMSNormGrad(rows, d, in[0], in[1], dout, nil, din[0], din[1], 1e-5)
			}, 1e-5},
		{"softmax", n, [][]float64{c.a}, func(in [][]float64, out []float64) { Softmax(rows, d, in[0], out) },
			func(in [][]float64, dout []float64, din [][]float64) {
				y := make([]float64, n)
				Softmax(rows, d, in[0], y)
				SoftmaxGrad(rows, d, y, dout, din[0])
			}, 1e-5},
		{"logSoftmax", n, [][]float64{c.a}, func(in [][]float64, out []float64) { LogSoftmax(rows, d, in[0], out) },
			func(in [][]float64, dout []float64, din [][]float64) {
				y := make([]float64, n)
				LogSoftmax(rows, d, in[0], y)
				LogSoftmaxGrad(rows, d, y, dout, din[0])
			}, 1e-5},
		{"crossEntropy", rows, [][]float64{c.a}, func(in [][]float64, out []float64) { CrossEntropy(rows, d, in[0], id, 0.1, out) },
			func(in [][]float64, dout []float64, din [][]float64) {
				CrossEntropyGrad(rows, d, in[0], id, 0.1, dout, din[0])
			}, 1e-5},
		{"embed", n, [][]float64{c.a}, func(in [][]float64, out []float64) {
			if err := Embed(rows, d, rows, in[0], []int32{2, 0, 2}, out); err != nil {
				panic(err)
			}
		}, func(_ [][]float64, dout []float64, din [][]float64) {
			EmbedGrad(rows, d, rows, []int32{2, 0, 2}, dout, din[0])
		}, 1e-5},
		{"dropout", n, [][]float64{c.a}, func(in [][]float64, out []float64) { Dropout(0.4, 1, 2, 3, in[0], out) },
			func(_ [][]float64, dout []float64, din [][]float64) { Dropout(0.4, 1, 2, 3, dout, din[0]) }, 1e-5},
		{"addRow", n, [][]float64{c.a, c.w}, func(in [][]float64, out []float64) { AddRow(rows, d, in[0], in[1], out) },
			func(_ [][]float64, dout []float64, din [][]float64) {
				copy(din[0], dout)
				ColSum(rows, d, dout, d, din[1], false)
			}, 1e-5},
	}
	cos, sin := RopeTable[float64](9, 4, 100)
	for _, interleaved := range []bool{false, true} {
		turn := func(x []float64, inverse bool) {
			Rope(rows, 2, 4, x, d, []int32{8, 0, 3}, cos, sin, interleaved, inverse)
		}
		cases = append(cases, gradCase{"rope", n, [][]float64{c.a},
			func(in [][]float64, out []float64) { copy(out, in[0]); turn(out, false) },
			func(_ [][]float64, dout []float64, din [][]float64) { copy(din[0], dout); turn(din[0], true) }, 1e-5})
	}
	for a := range numActivations {
		cases = append(cases, gradCase{a.String(), n, [][]float64{c.a}, func(in [][]float64, out []float64) { Act(a, in[0], out) },
			func(in [][]float64, dout []float64, din [][]float64) { ActGrad(a, in[0], dout, din[0]) }, 1e-5})
	}
	for _, g := range cases {
		dout := c.c[:g.out]
		loss := func() (s float64) {
			out := make([]float64, g.out)
			g.f(g.in, out)
			for i, v := range out {
				s += v * dout[i]
			}
			return s
		}
		var din [][]float64
		for _, x := range g.in {
			din = append(din, make([]float64, len(x)))
		}
		g.grad(g.in, append([]float64(nil), dout...), din)
		for k, x := range g.in {
			for i, v := range x {
				x[i] = v + g.delta
				up := loss()
				x[i] = v - g.delta
				down := loss()
				x[i] = v
				require.InDelta(t, (up-down)/(2*g.delta), din[k][i], 2e-8, "%s: input %d, element %d", g.name, k, i)
			}
		}
	}
}
