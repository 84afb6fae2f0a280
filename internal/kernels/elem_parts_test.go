package kernels

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

// All sets and both types drop the same elements, the rate is p, streams differ, and a slice of a slice sees its own counters.
func TestDropout(t *testing.T) {
	const n = 1 << 18
	x := make([]float64, n)
	for i := range x {
		x[i] = 1
	}
	want := make([]float64, n)
	Dropout(0.25, 1, 2, 3, x, want)
	forSets(t, func(t *testing.T) {
		in, y := make([]float32, n), make([]float32, n)
		for i := range in {
			in[i] = 1
		}
		Dropout(0.25, 1, 2, 3, in, y)
		kept := 0
		for i, v := range y {
			require.Equal(t, float32(want[i]), v, i)
			if v != 0 {
				require.Equal(t, float32(1)/0.75, v)
				kept++
			}
		}
		require.InDelta(t, 0.75, float64(kept)/n, 5*math.Sqrt(0.25*0.75/n))
		for _, other := range [][3]uint64{{2, 2, 3}, {1, 3, 3}, {1, 2, 4}, {2, 1, 3}} {
			z := make([]float32, n)
			Dropout(0.25, other[0], other[1], other[2], in, z)
			both := 0
			for i := range z {
				if z[i] != 0 && y[i] != 0 {
					both++
				}
			}
			require.InDelta(t, 0.75*0.75, float64(both)/n, 0.006, "%v repeats", other)
		}
		// no correlation at short distances
		for lag := 1; lag < 40; lag++ {
			both := 0
			for i := lag; i < n; i++ {
				if y[i] != 0 && y[i-lag] != 0 {
					both++
				}
			}
			require.InDelta(t, 0.75*0.75, float64(both)/float64(n-lag), 0.006, "lag %d", lag)
		}
		Dropout(0, 1, 2, 3, in, y)
		require.Equal(t, in, y)
		Dropout(1, 1, 2, 3, in, y)
		require.Equal(t, make([]float32, n), y)
		Dropout(0.999, 1, 2, 3, []float32{nan32, nan32, nan32}, y[:3])
		require.Equal(t, make([]float32, 3), y[:3])
	})
	// SplitMix64's first output for seed 1234567 (its reference implementation)
	seed := uint64(1234567)
	require.Equal(t, uint64(6457827717110365317), mix(seed+golden))
}

// Rotation in place of the q and k parts of a fused buffer leaves the rest alone, keeps lengths, and is undone by its inverse.
func TestRope(t *testing.T) {
	forSets(t, func(t *testing.T) {
		for _, d := range []int{2, 10, 34, 64} {
			const batch, seq, heads = 2, 5, 3
			ld := 3 * heads * d
			pos := []int32{0, 1, 2, 3, 40}
			x := randoms(uint64(d), batch*seq*ld, 1)
			cos, sin := RopeTable[float32](41, d, 10000)
			for _, interleaved := range []bool{false, true} {
				y := append([]float32(nil), x...)
				for part := range 2 {
					Rope(batch*seq, heads, d, y[part*heads*d:], ld, pos, cos, sin, interleaved, false)
				}
				for r := range batch * seq {
					for c := range ld {
						h, i := c/d, c%d
						first, second, k := i, i+d/2, i
						if interleaved {
							first, second, k = i-i%2, i-i%2+1, i/2
						}
						if !interleaved && i >= d/2 {
							first, second, k = i-d/2, i, i-d/2
						}
						want := float64(x[r*ld+c])
						if h < 2*heads {
							s, co := math.Sincos(float64(pos[r%seq]) * math.Pow(10000, -2*float64(k)/float64(d)))
							a, b := float64(x[r*ld+h*d+first]), float64(x[r*ld+h*d+second])
							want = a*co - b*s
							if i == second {
								want = b*co + a*s
							}
						}
						require.InDelta(t, want, y[r*ld+c], 1e-6, "d %d row %d column %d interleaved %v", d, r, c, interleaved)
					}
				}
				for part := range 2 {
					Rope(batch*seq, heads, d, y[part*heads*d:], ld, pos, cos, sin, interleaved, true)
				}
				for i, v := range x {
					require.InDelta(t, v, y[i], 1e-6)
				}
			}
		}
	})
}

func TestEmbed(t *testing.T) {
	forSets(t, func(t *testing.T) {
		const rows, d, vocab = 700, 131, 29
		ids := make([]int32, rows)
		for i := range ids {
			ids[i] = int32(i * i % vocab)
		}
		table, dout := randoms(1, vocab*d, 1), randoms(2, rows*d, 1)
		out, dtable := make([]float32, rows*d), randoms(3, vocab*d, 1)
		require.NoError(t, Embed(rows, d, vocab, table, ids, out))
		want := make([]float32, vocab*d)
		for r, id := range ids {
			require.Equal(t, table[int(id)*d:int(id)*d+d], out[r*d:r*d+d])
			for c := range d {
				want[int(id)*d+c] += dout[r*d+c]
			}
		}
		EmbedGrad(rows, d, vocab, ids, dout, dtable)
		require.Equal(t, want, dtable)
		for _, bad := range []int32{-1, vocab} {
			ids[69] = bad
			err := Embed(rows, d, vocab, table, ids, out)
			var e *IndexError
			require.ErrorAs(t, err, &e)
			require.Equal(t, IndexError{69, int(bad), vocab}, *e)
		}
	})
}

func TestParseActivation(t *testing.T) {
	for a := range numActivations {
		b, err := ParseActivation(a.String())
		require.NoError(t, err)
		require.Equal(t, a, b)
	}
	for name, want := range map[string]Activation{"swish": SiLU, "gelu_pytorch_tanh": GELUTanh, "gelu_new": GELUTanh, "": None} {
		a, err := ParseActivation(name)
		require.NoError(t, err)
		require.Equal(t, want, a)
	}
	_, err := ParseActivation("gleu")
	require.ErrorContains(t, err, `"gleu"`)
	require.Equal(t, "Activation(77)", Activation(77).String())
}
