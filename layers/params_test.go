package layers

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
	"gonum.org/v1/gonum/stat/distuv"
	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

func drawn(t *testing.T, dtype tensor.Dtype, seed uint64, name string, init Init, shape ...int) []float64 {
	t.Helper()
	b := New(gorgonia.NewGraph(), NewParams(dtype), Options{Seed: seed})
	b.Param(name, init, shape...)
	require.NoError(t, b.Err())
	p, ok := b.Params().Get(name)
	require.True(t, ok)
	return floats(p.Value)
}

// These numbers are the contract: a change of them changes every model that is trained from scratch.
func TestInitialValuesAreFixed(t *testing.T) {
	require.Equal(t, uint64(0xcbf29ce484222325), hashName(""))
	require.Equal(t, uint64(0xaf63dc4c8601ec8c), hashName("a"))
	require.Equal(t, []float64{0.025037634462403594, 0.05033549386036496, -0.010349179979433982, -0.035357708533258314,
		0.006098270357199647}, drawn(t, tensor.Float64, 1, "h.0.attn.c_attn.weight", Normal(0.02), 5))
	require.Equal(t, []float64{2.578774068969956, 2.976313092371764, 0.2096715668476079},
		drawn(t, tensor.Float64, 1, "h.0.attn.c_attn.weight", Uniform(-1, 3), 3))
	require.Equal(t, []float64{0, 0, 0}, drawn(t, tensor.Float64, 1, "w", Zeros(), 3))
	require.Equal(t, []float64{1, 1, 1}, drawn(t, tensor.Float64, 1, "w", Ones(), 3))
	require.Equal(t, []float64{-2.5, -2.5}, drawn(t, tensor.Float64, 1, "w", Const(-2.5), 2))
}

func TestNormalQuantile(t *testing.T) {
	n := distuv.UnitNormal
	for _, p := range []float64{1e-300, 1e-20, 1e-12, 1e-6, 0.001, 0.02425, 0.07, 0.075, 0.3, 0.5, 0.61, 0.924, 0.926, 0.999, 1 - 1e-12} {
		want := n.Quantile(p)
		require.InDelta(t, want, normalQuantile(p), 1e-9*max(1, math.Abs(want)), "p = %g", p)
		if p > 1e-10 && p < 0.9999 {
			require.InEpsilon(t, p, n.CDF(normalQuantile(p)), 1e-11, "p = %g", p)
		}
	}
	for _, x := range []float64{1e-300, 0.07, 0.5, 0.7, math.Sqrt2 / 2, 1, 3, 1e20} {
		require.InDelta(t, math.Log(x), naturalLog(x), 4e-16*max(1, math.Abs(math.Log(x))), "x = %g", x)
	}
}

func TestDrawsFollowTheirDistribution(t *testing.T) {
	const n = 100003
	moments := func(v []float64) (mean, std, kurtosis float64) {
		for _, x := range v {
			mean += x / n
		}
		for _, x := range v {
			std += (x - mean) * (x - mean) / n
			kurtosis += math.Pow(x-mean, 4) / n
		}
		return mean, math.Sqrt(std), kurtosis / (std * std)
	}
	mean, std, kurtosis := moments(drawn(t, tensor.Float64, 1, "h.0.w", Normal(0.02), n))
	require.InDelta(t, 0, mean, 4*0.02/math.Sqrt(n))
	require.InEpsilon(t, 0.02, std, 0.01)
	require.InEpsilon(t, 3, kurtosis, 0.03)

	u := drawn(t, tensor.Float64, 1, "h.0.w", XavierUniform(), 401, 211)
	bound := math.Sqrt(6.0 / (401 + 211))
	most := 0.0
	for _, x := range u {
		most = max(most, math.Abs(x))
	}
	require.LessOrEqual(t, most, bound)
	require.Greater(t, most, 0.999*bound)
}

func TestDrawsDependOnSeedNameAndIndexOnly(t *testing.T) {
	base := drawn(t, tensor.Float64, 7, "h.0.w", Normal(1), 5, 3)
	require.Equal(t, base, drawn(t, tensor.Float64, 7, "h.0.w", Normal(1), 15))
	require.Equal(t, base[:7], drawn(t, tensor.Float64, 7, "h.0.w", Normal(1), 7))
	require.NotEqual(t, base, drawn(t, tensor.Float64, 8, "h.0.w", Normal(1), 5, 3))
	require.NotEqual(t, base, drawn(t, tensor.Float64, 7, "h.1.w", Normal(1), 5, 3))
	for i, x := range drawn(t, tensor.Float32, 7, "h.0.w", Normal(1), 5, 3) {
		require.Equal(t, float64(float32(base[i])), x)
	}
}

func TestParams(t *testing.T) {
	p := NewParams(tensor.Float32)
	require.Equal(t, tensor.Float32, p.Dtype())
	b := New(gorgonia.NewGraph(), p, Options{})
	b.Param("w", Normal(1), 3, 5)
	b.Param("a", Zeros(), 7)
	require.Equal(t, int64(22), p.Count())
	require.Equal(t, []string{"w", "a"}, []string{p.All()[0].Name, p.All()[1].Name})
	require.False(t, p.All()[0].NoDecay)
	require.True(t, p.All()[1].NoDecay)
	_, ok := p.Get("b")
	require.False(t, ok)

	memory := p.All()[1].Value.Float32s()
	require.NoError(t, p.Load("a", tensor.New(tensor.WithBacking([]float64{1, 2, 3, 4, 5, 6, 7.5}))))
	require.Equal(t, []float32{1, 2, 3, 4, 5, 6, 7.5}, memory)
	require.EqualError(t, p.Load("a", tensor.New(tensor.WithBacking([]float32{1, 2}))),
		"parameter a: a value of shape (2), the model has (7)")
	require.EqualError(t, p.Load("a", tensor.New(tensor.WithBacking([]int32{1, 2}))),
		"parameter a: a value of int32, want float32 or float64")

	v := tensor.New(tensor.WithShape(2, 2), tensor.WithBacking([]float32{1, 2, 3, 4}))
	require.NoError(t, p.Load("new", v))
	v.Float32s()[0] = 9
	q, ok := p.Get("new")
	require.True(t, ok)
	require.Equal(t, []float32{1, 2, 3, 4}, q.Value.Float32s())
	require.NotNil(t, b.Param("new", Zeros(), 2, 2))
	require.Equal(t, []float32{1, 2, 3, 4}, q.Value.Float32s(), "a loaded value is not initialised again")
}

func TestImpossibleParams(t *testing.T) {
	for _, c := range []struct {
		init  Init
		shape []int
		want  string
	}{
		{Zeros(), nil, "want sizes of at least 1"},
		{Zeros(), []int{3, 0}, "want sizes of at least 1"},
		{Zeros(), []int{3, -1}, "want sizes of at least 1"},
		{Zeros(), []int{1 << 31, 1 << 31}, "want at most"},
		{Zeros(), []int{1 << 62, 4}, "want at most"}, // 0 where it overflows
		{nil, []int{3, 5}, "no initial value"},
	} {
		p := NewParams(tensor.Float32)
		b := New(gorgonia.NewGraph(), p, Options{})
		require.Nil(t, b.Scope("h").Param("w", c.init, c.shape...))
		require.ErrorContains(t, b.Err(), "parameter h.w: ")
		require.ErrorContains(t, b.Err(), c.want)
		require.Zero(t, p.Len())
	}
}

// The truncated normal has no tails, and the spread of what is left: 1 - 2·2·φ(2)/(Φ(2)-Φ(-2)).
func TestTruncatedNormal(t *testing.T) {
	x := drawn(t, tensor.Float64, 1, "w", TruncatedNormal(0.5), 20_011)
	sum, squares := 0.0, 0.0
	for _, v := range x {
		sum, squares = sum+v, squares+v*v
	}
	n := float64(len(x))
	require.InDelta(t, 0, sum/n, 0.01)
	require.InDelta(t, 0.5*math.Sqrt(1-4*math.Exp(-2)/math.Sqrt(2*math.Pi)/math.Erf(math.Sqrt2)), math.Sqrt(squares/n), 0.01)
	for _, v := range x {
		require.LessOrEqual(t, math.Abs(v), 1.0)
	}
}

func TestVarianceScaling(t *testing.T) {
	want := drawn(t, tensor.Float64, 1, "w", Normal(0.25), 3, 8)
	require.Equal(t, want, drawn(t, tensor.Float64, 1, "w", VarianceScaling(0.5, false), 3, 8))
	require.Equal(t, want, drawn(t, tensor.Float64, 1, "w", VarianceScaling(0.5, true), 8, 3))
}
