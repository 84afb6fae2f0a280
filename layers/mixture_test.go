package layers

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/splitmix"
)

// mixtureExamples are pixels of one and of three channels, with the open bins and one that is left out.
var mixtureExamples = []example{
	{"mixture of logistics", []arg{dense(2, 3, 9), tokens([]int{2, 3}, 0, 16, -1, 7, 8, 3)}, func(b *Builder, in Nodes) *Node {
		return MixtureRows(b, in[0], in[1], MixtureConfig{Mixtures: 3, Channels: 1, Levels: 17})
	}},
	{"mixture of logistics of three channels", []arg{dense(3, 20), tokens([]int{3, 3}, 0, 255, 13, 200, 0, 255, 128, -1, 5)}, func(b *Builder, in Nodes) *Node {
		return MixtureRows(b, in[0], in[1], MixtureConfig{Mixtures: 2, Channels: 3, Levels: 256, Approximate: 1e-5})
	}},
}

// someNumbers are numbers of a mixture, with scales between least and least+4.
func someNumbers(c MixtureConfig, seed uint64, least float64) []float64 {
	x := make([]float64, c.Numbers())
	for i := range x {
		x[i] = 4*splitmix.Unit(splitmix.Mix(seed<<20+uint64(i))) - 2
		if i >= c.at(scales) && i < c.at(coefficients) {
			x[i] += least + 2
		}
	}
	return x
}

// TestMixtureIsADistribution: the probabilities of all levels are 1 together, however narrow the logistics, unless masses are approximated.
func TestMixtureIsADistribution(t *testing.T) {
	for _, levels := range []int{2, 17, 256} {
		for seed := range uint64(20) {
			c := MixtureConfig{Mixtures: 5, Channels: 1, Levels: levels}
			for _, least := range []float64{-9, -4, 0, 5} {
				x := someNumbers(c, seed, least)
				sum := 0.0
				for l := range levels {
					p := pixel[float64]{c, x, []int32{int32(l)}}
					sum += math.Exp(p.logProbability())
				}
				require.InDelta(t, 1, sum, 1e-12, "%d levels, scales from exp(%v)", levels, least)
			}
		}
	}
	c := MixtureConfig{Mixtures: 3, Channels: 3, Levels: 7}
	x, sum := someNumbers(c, 3, -4), 0.0
	for l := range int32(7 * 7 * 7) {
		p := pixel[float64]{c, x, []int32{l / 49, l / 7 % 7, l % 7}}
		sum += math.Exp(p.logProbability())
	}
	require.InDelta(t, 1, sum, 1e-12)

	c = MixtureConfig{Mixtures: 5, Channels: 1, Levels: 256, Approximate: 1e-5}
	wide, sum := someNumbers(c, 1, -1), 0.0
	for l := range 256 {
		p := pixel[float64]{c, wide, []int32{int32(l)}}
		sum += math.Exp(p.logProbability())
	}
	require.InDelta(t, 1, sum, 1e-9, "no mass of wide logistics is that small")
}

// TestMixtureGradient compares every derivative with differences, above all in the open bins, the bins beside them and far from the means.
func TestMixtureGradient(t *testing.T) {
	for _, c := range []MixtureConfig{{3, 1, 256, 0}, {2, 3, 256, 0}, {2, 3, 17, 0}, {3, 1, 2, 0}} {
		last := int32(c.Levels - 1)
		for seed, levels := range [][]int32{{0, 0, 0}, {last, last, last}, {0, last, 1}, {last - 1, 0, last}, {last / 2, 1, last - 1}, {last, last / 3, 0}} {
			for _, least := range []float64{-7.5, -4, 0} { // the first has scales below the least one
				x := someNumbers(c, uint64(seed), least)
				p := pixel[float64]{c, x, levels[:c.Channels]}
				got := make([]float64, len(x))
				p.gradient(0.7, got)
				for i := range x {
					at := func(h float64) float64 {
						defer func(was float64) { x[i] = was }(x[i])
						x[i] += h
						return p.logProbability()
					}
					const h = 1e-3
					want := 0.7 * (8*(at(h)-at(-h)) - (at(2*h) - at(-2*h))) / (12 * h)
					require.InDelta(t, want, got[i], 1e-6+1e-6*math.Abs(want), "%+v, levels %v, number %d", c, levels, i)
				}
				inPlace := append([]float64(nil), x...)
				q := pixel[float64]{c, inPlace, levels[:c.Channels]}
				q.gradient(0.7, inPlace)
				require.Equal(t, got, inPlace)
			}
		}
	}
}

// TestMixtureFarAway: where a difference of sigmoids is 0 there is a probability, and a gradient that leads back.
func TestMixtureFarAway(t *testing.T) {
	c := MixtureConfig{Mixtures: 1, Channels: 1, Levels: 256}
	x := []float64{0, 0.9, -6.5} // the mean is 0.9, the scale 0.0015
	p := pixel[float64]{c, x, []int32{10}}
	l, d := p.logProbability(), make([]float64, 3)
	require.InDelta(t, (p.value(10)-0.9)*math.Exp(6.5), l, 10)
	p.gradient(1, d)
	require.InDelta(t, -math.Exp(6.5), d[1], 1e-9, "down")
	require.Greater(t, d[2], 1000.0, "wider")
	x[2] = -20
	p.gradient(1, d)
	require.Zero(t, d[2], "not below the least scale")
	require.False(t, math.IsInf(p.logProbability(), 0))
}

// TestMixtureSamples: levels are drawn as often as they are probable.
func TestMixtureSamples(t *testing.T) {
	const n = 40_000
	for _, c := range []MixtureConfig{{3, 1, 17, 0}, {2, 3, 3, 0}} {
		x := someNumbers(c, 5, -2.5)
		size := 1
		for range c.Channels {
			size *= c.Levels
		}
		count, levels := make([]float64, size), make([]int32, c.Channels)
		next := uint64(0)
		uniform := func() float64 {
			next++
			return splitmix.Unit(splitmix.Mix(next))
		}
		for range n {
			SampleMixture(c, x, 1, uniform, levels)
			at := 0
			for _, l := range levels {
				at = at*c.Levels + int(l)
			}
			count[at]++
		}
		for at := range count {
			rest := at
			for ch := c.Channels - 1; ch >= 0; ch-- {
				levels[ch] = int32(rest % c.Levels)
				rest /= c.Levels
			}
			p := pixel[float64]{c, x, levels}
			want := math.Exp(p.logProbability())
			require.InDelta(t, want, count[at]/n, 5*math.Sqrt(want/n)+1e-4, levels)
		}
	}
	c := MixtureConfig{Mixtures: 2, Channels: 1, Levels: 11}
	levels := []int32{-1}
	SampleMixture(c, []float32{1, 2, 0, 0.41, 0, 0}, 0, func() float64 { return 0.99 }, levels)
	require.Equal(t, []int32{7}, levels, "the likelier mixture, level nearest to its mean")
	for _, u := range []float64{0, 1 - 1e-16} {
		SampleMixture(c, []float32{1, 2, 0, 0.41, 9, 9}, 1, func() float64 { return u }, levels)
		require.Equal(t, int32(math.Round(u))*10, levels[0])
	}
}

func TestBadMixtures(t *testing.T) {
	for _, c := range []MixtureConfig{{0, 1, 3, 0}, {1, 2, 3, 0}, {1, 1, 1, 0}, {1, 1, 3, -1}, {1, 1, 3, math.NaN()}} {
		b := New(gorgonia.NewGraph(), NewParams(tensor.Float64), Options{})
		MixtureRows(b, b.Input("x", tensor.Float64, 2, 3), b.Input("y", tensor.Int32, 2), c)
		require.Error(t, b.Err(), c)
	}
	c := MixtureConfig{Mixtures: 2, Channels: 3, Levels: 5}
	for _, shapes := range [][2][]int{{{7, 19}, {7, 3}}, {{7, 20}, {7}}, {{20}, {3}}} {
		b := New(gorgonia.NewGraph(), NewParams(tensor.Float64), Options{})
		MixtureRows(b, b.Input("x", tensor.Float64, shapes[0]...), b.Input("y", tensor.Int32, shapes[1]...), c)
		require.Error(t, b.Err(), shapes)
	}
	b := New(gorgonia.NewGraph(), NewParams(tensor.Float64), Options{})
	levels := b.Input("y", tensor.Int32, 7, 3)
	rows := MixtureRows(b, b.Input("x", tensor.Float64, 7, 20), levels, c)
	require.NoError(t, b.Err())
	p, err := engine.Compile(b.Graph(), Nodes{rows}, engine.Options{})
	require.NoError(t, err)
	require.NoError(t, p.Run())
	InputValue(levels).Int32s()[4] = 5
	require.ErrorContains(t, p.Run(), "level 5 at index 4, want below 5")
}
