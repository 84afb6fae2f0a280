package kernels

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

var (
	nan32 = float32(math.NaN())
	inf32 = float32(math.Inf(1))
)

// specials are arguments at the edges, in the middle of a vector and in its tail.
func specials() []float32 {
	x := []float32{nan32, inf32, -inf32, 0, float32(math.Copysign(0, -1)), 1e-45, -1e-45, 1e-38, math.MaxFloat32, -math.MaxFloat32,
		1e20, -1e20, 88.7, 88.8, -87, -87.5, -100, -103.9, -104.1, 127.9, 128, -126, -149, -151, 13, -13, 6.5625, -6.5625, 9.4, -9.4, 1, -1}
	return append(x, x[:7]...)
}

// equivalent: both NaN, or equal, or near.
func equivalent(a, b float32) bool {
	if a != a || b != b {
		return a != a && b != b
	}
	if a == b || math.IsInf(float64(a), 0) || math.IsInf(float64(b), 0) {
		return a == b
	}
	return math.Abs(float64(a)-float64(b)) <= 2e-6*math.Max(math.Abs(float64(b)), 1e-2)
}

func TestElemSpecialValues(t *testing.T) {
	set := Set()
	defer func() { require.NoError(t, Use(set)) }()
	x := specials()
	one := make([]float32, len(x))
	for i := range one {
		one[i] = 1
	}
	type call struct {
		name string
		run  func(y []float32)
	}
	calls := []call{
		{"exp", func(y []float32) { Exp(x, y) }},
		{"exp2", func(y []float32) { Exp2(x, y) }},
		{"scale", func(y []float32) { Scale(2, x, y) }},
		{"mul", func(y []float32) { Mul(x, x, y) }},
	}
	for a := range numActivations {
		calls = append(calls, call{a.String(), func(y []float32) { Act(a, x, y) }}, call{a.String() + "'", func(y []float32) { ActGrad(a, x, one, y) }})
	}
	for _, c := range calls {
		require.NoError(t, Use("generic"))
		want := make([]float32, len(x))
		c.run(want)
		for i, v := range x {
			if v != v && c.name != "relu'" && c.name != "leaky_relu'" && c.name != "none'" {
				require.True(t, want[i] != want[i], "%s drops a NaN", c.name)
			}
		}
		for _, set := range Sets() {
			require.NoError(t, Use(set))
			got := make([]float32, len(x))
			c.run(got)
			for i, v := range x {
				require.True(t, equivalent(got[i], want[i]), "%s(%g) on %s: %g, plain %g", c.name, v, set, got[i], want[i])
			}
		}
	}
}

func TestExpEdges(t *testing.T) {
	forSets(t, func(t *testing.T) {
		x := []float32{-inf32, inf32, 100, -200, 0, -103, 88.72}
		y := make([]float32, len(x))
		Exp(x, y)
		require.Equal(t, []float32{0, inf32, inf32, 0, 1}, y[:5])
		require.InDelta(t, math.Exp(-103), y[5], 1.5e-45)
		require.InEpsilon(t, math.Exp(88.72), y[6], 1e-5)
		Act(ReLU, []float32{float32(math.Copysign(0, -1))}, y[:1])
		require.True(t, math.Signbit(float64(y[0])))
	})
}

// A row that sees nothing gives zeros; NaN and +Inf spread over their row alone.
func TestSoftmaxSpecialRows(t *testing.T) {
	forSets(t, func(t *testing.T) {
		const d = 19
		row := func(at int, v float32) []float32 {
			x := make([]float32, d)
			x[at] = v
			return x
		}
		hidden := make([]float32, d)
		for i := range hidden {
			hidden[i] = -inf32
		}
		almost := append([]float32(nil), hidden...)
		almost[17] = -3
		lost := append([]float32(nil), hidden...)
		lost[18] = nan32
		y := make([]float32, d)
		Softmax(1, d, hidden, y)
		require.Equal(t, make([]float32, d), y)
		LogSoftmax(1, d, hidden, y)
		require.Equal(t, hidden, y)
		Softmax(1, d, almost, y)
		require.Equal(t, row(17, 1), y)
		for _, x := range [][]float32{row(3, nan32), row(18, nan32), row(4, inf32), lost} {
			Softmax(1, d, x, y)
			for i, v := range y {
				require.True(t, v != v || (x[i] == 0 && v == 0), "softmax of %v is %v", x, y)
			}
			loss := make([]float32, 1)
			CrossEntropy(1, d, x, []int32{2}, 0, loss)
			require.True(t, loss[0] != loss[0] || loss[0] > 1e30, "%v", loss)
		}
		// large values do not overflow, hidden classes do not count
		x := []float32{1e4, 1e4, -inf32}
		Softmax(1, 3, x, y[:3])
		require.Equal(t, []float32{0.5, 0.5, 0}, y[:3])
		CrossEntropy(1, 3, x, []int32{0}, 0, y[:1])
		require.InDelta(t, math.Ln2, y[0], 1e-6)
		CrossEntropyGrad(2, 3, []float32{1, 2, 3, 1, 2, 3}, []int32{-1, 0}, 0, []float32{5, 0}, y[:6])
		require.Equal(t, make([]float32, 6), y[:6])
	})
}

// Rows with a large mean and a tiny spread keep their digits; a constant row gives the bias.
func TestLayerNormHardRows(t *testing.T) {
	forSets(t, func(t *testing.T) {
		const rows, d = 3, 53
		x := make([]float32, rows*d)
		for i, v := range randoms(5, rows*d, 1) {
			x[i] = []float32{1000 + 0.01*v, -30, 1e-3 * v}[i/d]
		}
		w, b := randoms(6, d, 1), randoms(7, d, 1)
		y := make([]float32, rows*d)
		LayerNorm(rows, d, x, w, b, y, 1e-5)
		c := elemCase[float32]{a: x, w: w, v: b}
		t64 := c.double()
		y64 := make([]float64, rows*d)
		LayerNorm(rows, d, t64.a, t64.w, t64.v, y64, 1e-5)
		for i, v := range y64 {
			require.InDelta(t, v, y[i], 2e-5)
		}
		require.Equal(t, b, y[d:2*d])
		x[2*d+7] = nan32
		LayerNorm(rows, d, x, w, b, y, 1e-5)
		require.True(t, AllFinite(y[:2*d]))
		require.True(t, y[2*d] != y[2*d])
	})
}

func TestAllFinite(t *testing.T) {
	forSets(t, func(t *testing.T) {
		for _, n := range []int{1, 7, 16, 67, elemChunk, 2*elemChunk + 3} {
			x := randoms(1, n, 1)
			x[0], x[n/2] = math.MaxFloat32, 1e-45
			require.True(t, AllFinite(x))
			for _, bad := range []float32{nan32, inf32, -inf32} {
				for _, at := range []int{0, n / 2, n - 1} {
					was := x[at]
					x[at] = bad
					require.False(t, AllFinite(x), "%g at %d of %d", bad, at, n)
					x[at] = was
				}
			}
		}
		require.True(t, AllFinite([]float32(nil)))
	})
}
