package attention

import (
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/kernels"
	"github.com/euryale-ml/euryale/layers"
)

// attended is a compiled AttendQKV whose input can be changed between runs.
type attended struct {
	program *engine.Program
	o       *Node
	qkv     []float32
	lens    []int32
}

func attendOn(t *testing.T, p Pattern, b, n, heads, d int, padded bool) attended {
	lb := layers.New(gorgonia.NewGraph(), layers.NewParams(tensor.Float32), layers.Options{})
	in := lb.Input("qkv", tensor.Float32, b, n, 3*heads*d)
	fillFrom(layers.InputValue(in), "qkv")
	c := Config{Pattern: p, Heads: heads}
	if padded {
		c.Lens = lb.Input("lens", tensor.Int32, b)
	}
	a := attended{qkv: layers.InputValue(in).Float32s()}
	a.o, _ = AttendQKV(lb, c, in)
	require.NoError(t, lb.Err())
	if padded {
		a.lens = layers.InputValue(c.Lens).Int32s()
	}
	var err error
	a.program, err = engine.Compile(lb.Graph(), Nodes{a.o}, engine.Options{})
	require.NoError(t, err)
	return a
}

func (a attended) run(t *testing.T) []float32 {
	require.NoError(t, a.program.Run())
	return append([]float32(nil), engine.Floats[float32](a.program.Value(a.o))...)
}

var causalPatterns = []string{"full", "band(9,0)", "dilated(3,0,4)", "blocks(16,3)", "global(0,30) + band(4,4)", "heads(blocks(7); full)",
	"strided(9)", "fixed(16,3)", "summary(16,2,1) + band(1,0)", "heads(random(5,3); beyond(band(2,0); random-blocks(8,2,3)))", "image1d(16,9)", "column(11,13)", "big-bird(9,2,3)"}

// Changing token t changes no output before it, to the bit, and only outputs of queries that read it after it.
func TestCausalityByPerturbation(t *testing.T) {
	const n, heads, d = 131, 2, 8
	for _, s := range causalPatterns {
		p := Causal(parse(t, s))
		a := attendOn(t, p, 1, n, heads, d, false)
		before := a.run(t)
		for _, at := range []int{0, 1, 63, 64, 100, 130} {
			row := a.qkv[at*3*heads*d:][:3*heads*d]
			keep := append([]float32(nil), row...)
			for i := range row {
				row[i] = 3 - row[i]
			}
			after := a.run(t)
			copy(row, keep)
			for i := range n {
				for h := range heads {
					x, y := before[(i*heads+h)*d:][:d], after[(i*heads+h)*d:][:d]
					reads := i == at || p.Sees(h%p.Heads(), i, at, n)
					if reads {
						require.NotEqual(t, x, y, "%s: token %d does not reach query %d", s, at, i)
					} else {
						require.Equal(t, x, y, "%s: token %d reaches query %d", s, at, i)
					}
				}
			}
		}
	}
}

// Neither the amount of padding nor what stands in it changes anything.
func TestPaddingInvariance(t *testing.T) {
	for _, s := range append([]string{"global(-1,0) + band(2,2)", "band(3,7)"}, causalPatterns...) {
		paddingChangesNothing(t, parse(t, s))
	}
}

// paddingChangesNothing runs a batch with more and more padding.
func paddingChangesNothing(t *testing.T, p Pattern) {
	const d = 8
	heads := max(2, p.Heads())
	lens := []int32{67, 13, 1, 0}
	var first []float32
	for _, pad := range []int{0, 1, 17} {
		n := 67 + pad
		a := attendOn(t, p, len(lens), n, heads, d, true)
		copy(a.lens, lens)
		for b, l := range lens { // what is not padding does not depend on n
			for i := range n {
				for c := range 3 * heads * d {
					x := float32(noise(fmt.Sprint("token ", b, i), c))
					if i >= int(l) {
						x = float32(1e4 * noise(fmt.Sprint("padding ", pad), c+i))
					}
					a.qkv[(b*n+i)*3*heads*d+c] = x
				}
			}
		}
		o := a.run(t)
		var valid []float32
		for b, l := range lens {
			rows := o[b*n*heads*d:][:n*heads*d]
			valid = append(valid, rows[:int(l)*heads*d]...)
			for _, x := range rows[int(l)*heads*d:] {
				require.Zero(t, x, p.String())
			}
		}
		if first == nil {
			first = valid
		}
		for i := range first {
			require.InDelta(t, first[i], valid[i], 1e-6, "%s, %d more", p, pad)
		}
	}
}

// A window, block or reach of the whole length is full attention, to the bit.
func TestWideAttendEqualsFull(t *testing.T) {
	const n = 97
	want := attendOn(t, Full{}, 2, n, 2, 8, false).run(t)
	for _, s := range []string{"band(96,96)", "blocks(97)", "blocks(1000)", "dilated(96,96,1)", "global(3) + blocks(50,50)"} {
		require.Equal(t, want, attendOn(t, parse(t, s), 2, n, 2, 8, false).run(t), s)
	}
	// Blocks of one token pass the values on.
	a := attendOn(t, Blocks{Size: 1}, 1, n, 2, 8, false)
	o := a.run(t)
	for i := range n {
		for c := range 16 {
			require.InDelta(t, a.qkv[i*48+32+c], o[i*16+c], 1e-6)
		}
	}
}

// Every head does what it would do alone.
func TestHeadsAreIndependent(t *testing.T) {
	const n, d = 71, 5
	parts := []string{"band(3,3)", "causal(full)", "blocks(9)", "dilated(2,2,3)"}
	all := parse(t, "heads("+parts[0]+";"+parts[1]+";"+parts[2]+";"+parts[3]+")")
	got := attendOn(t, all, 1, n, 4, d, false).run(t)
	for h, s := range parts {
		alone := attendOn(t, parse(t, s), 1, n, 4, d, false).run(t)
		for i := range n {
			require.InDeltaSlice(t, alone[(i*4+h)*d:][:d], got[(i*4+h)*d:][:d], 1e-6)
		}
	}
}

// Scores of ±10,000 neither overflow nor spoil a neighbour.
func TestLargeScores(t *testing.T) {
	a := attendOn(t, parse(t, "causal(band(20,0))"), 1, 67, 2, 8, false)
	for i := range a.qkv {
		if i%48 < 32 {
			a.qkv[i] *= 60
		}
	}
	for _, x := range a.run(t) {
		require.False(t, math.IsNaN(float64(x)) || math.IsInf(float64(x), 0))
		require.LessOrEqual(t, math.Abs(float64(x)), 2.0001)
	}
}

// The result has the same bits in every set of kernels run twice, and close ones across sets.
func TestKernelSetsAgree(t *testing.T) {
	now := kernels.Set()
	defer func() { require.NoError(t, kernels.Use(now)) }()
	for _, s := range causalPatterns {
		var first []float32
		for _, set := range kernels.Sets() {
			require.NoError(t, kernels.Use(set))
			a := attendOn(t, Causal(parse(t, s)), 2, 131, 2, 8, false)
			x := a.run(t)
			require.Equal(t, x, a.run(t))
			if first == nil {
				first = x
			}
			require.InDeltaSlice(t, first, x, 2e-6, "%s in %s", s, set)
		}
	}
}
