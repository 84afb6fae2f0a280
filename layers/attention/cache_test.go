package attention

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/tensor"
	"pgregory.net/rapid"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/kernels"
	"github.com/euryale-ml/euryale/layers"
)

// generate feeds a fused sequence to a cache, the first `prompt` tokens at once, and returns the outputs after it.
func generate[F kernels.Float](t require.TestingT, c *Cache[F], qkv []F, n, prompt int) []float64 {
	hd, hv := c.heads*c.d, c.heads*c.dv
	w := 2*hd + hv
	if prompt > 0 {
		require.NoError(t, c.Append(prompt, qkv[hd:], w, qkv[2*hd:], w))
	}
	var out []float64
	o := make([]F, hv)
	for i := prompt; i < n; i++ {
		row := qkv[i*w:]
		require.NoError(t, c.Attend(row[:hd], row[hd:2*hd], row[2*hd:w], o))
		for _, x := range o {
			out = append(out, float64(x))
		}
	}
	return out
}

func checkGeneration[F kernels.Float](t require.TestingT, p Pattern, n, prompt int, dtype tensor.Dtype, tol float64) {
	s := scene{pattern: Causal(p).String(), b: 1, tq: n, heads: p.Heads(), d: 5, fused: true}
	g := s.build(t, dtype)
	prog, err := engine.Compile(g.b.Graph(), Nodes{g.o}, engine.Options{})
	require.NoError(t, err)
	require.NoError(t, prog.Run())
	want := numbers(prog.Value(g.o))[prompt*s.heads*s.d:]
	c, err := NewCache[F](p, s.heads, s.d, s.d, n, 0)
	require.NoError(t, err)
	qkv := engine.Floats[F](layers.InputValue(g.in[0]))
	for round := range 2 { // the second after Reset
		close(t, want, generate(t, c, qkv, n, prompt), tol, fmt.Sprintf("%s, prompt %d of %d, round %d", p, prompt, n, round))
		require.LessOrEqual(t, c.Live(), mostLiveOf(p, n))
		c.Reset()
	}
}

func mostLiveOf(p Pattern, n int) (total int) {
	for h := range p.Heads() {
		total += MostLive(p, h, n)
	}
	return total
}

func TestGenerationEqualsForward(t *testing.T) {
	for _, s := range []string{"full", "band(7,3)", "dilated(4,0,3)", "blocks(9)", "blocks(6,4)", "global(0,5)", "band(3,0) + global(2,-4)",
		"band(9,0) & dilated(20,0,2)", "heads(full; band(2,0); dilated(3,0,4); blocks(8))",
		"strided(8)", "heads(fixed(9,2); summary(9,2,1))", "random(4,1)", "beyond(band(2,0); random-blocks(5,2,1))", "image1d(8,5)",
		"row(9,8) + column(9,8)", "image2d(9,8,3,4,2,1)", "shifted-blocks(8,4)"} {
		p := parse(t, s)
		for _, prompt := range []int{0, 1, 23, 70} {
			checkGeneration[float64](t, p, 71, prompt, tensor.Float64, 1e-12)
			checkGeneration[float32](t, p, 71, prompt, tensor.Float32, 1e-6)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.SampledFrom([]int{1, 2, 5, 37}).Draw(t, "n")
		checkGeneration[float64](t, drawHeads(t), n, rapid.IntRange(0, n).Draw(t, "prompt"), tensor.Float64, 1e-12)
	})
}

func TestCacheHoldsTheWindowOnly(t *testing.T) {
	const n, heads, d = 1000, 2, 3
	for _, x := range []struct {
		pattern string
		most    int
	}{
		{"band(15,15)", 16},
		{"band(15,0) + global(0,16)", 18},
		{"band(15,0) + global(0,40)", 41}, // query 40 reads everything before it
		{"dilated(3,0,5)", 16},
		{"blocks(32)", 32},
		{"full", n},
		{"strided(32)", 969}, // each until the last query of its remainder
		{"fixed(50,2)", 88},  // the columns of 20 blocks, and the last block but for its columns
		{"image1d(16,9)", 25},
		{"global(9,500)", 501}, // query 500 reads everything before it, later ones read two keys
	} {
		p := parse(t, x.pattern)
		c, err := NewCache[float32](p, heads, d, d, n, 0)
		require.NoError(t, err)
		kv, o := make([]float32, heads*d), make([]float32, heads*d)
		peak := 0
		for i := range n {
			require.NoError(t, c.Attend(kv, kv, kv, o))
			peak = max(peak, c.Live())
			// Held is exactly what a query from here on reads.
			for _, g := range c.groups {
				for s, pos := range g.position {
					require.True(t, pos < 0 || LastReader(Causal(p), 0, int(pos), n) >= i, "%s: slot %d", x.pattern, s)
				}
			}
		}
		require.Equal(t, heads*x.most, peak, x.pattern)
		require.LessOrEqual(t, c.Bytes(), heads*max(x.most, 16)*2*d*4, x.pattern)
		require.ErrorContains(t, c.Attend(kv, kv, kv, o), "token 1001 is beyond the 1000")
		require.ErrorContains(t, c.Append(1, kv, 0, kv, 0), "token 1001 is beyond the 1000")
	}
}

func TestCacheErrors(t *testing.T) {
	_, err := NewCache[float32](parse(t, "heads(full; full)"), 3, 4, 4, 10, 0)
	require.ErrorContains(t, err, "describes 2 heads")
	_, err = NewCache[float32](Full{}, 0, 4, 4, 10, 0)
	require.Error(t, err)
}

func TestCacheStepAllocatesNothing(t *testing.T) {
	c, err := NewCache[float32](parse(t, "band(31,0)"), 2, 8, 8, 1000, 0)
	require.NoError(t, err)
	kv, o := make([]float32, 16), make([]float32, 16)
	for range 100 {
		require.NoError(t, c.Attend(kv, kv, kv, o))
	}
	require.Zero(t, testing.AllocsPerRun(50, func() { _ = c.Attend(kv, kv, kv, o) }))
}
