package attention

import (
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/tensor"
	"pgregory.net/rapid"

	"github.com/euryale-ml/euryale/layers"
)

// Whatever chunks, rounds, lengths and flags: what comes out is what the definition says, and both precisions agree on it and on the
// gradients. Eight channels go through the kernels of the machine.
func TestAttendSortedAnything(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.SampledFrom([]int{1, 2, 13, 64, 67, 131}).Draw(t, "tokens")
		s := sortedCase{choiceCase: choiceCase{b: 2, tq: n, tk: n, heads: 2, d: 8, dv: 8}, groups: rapid.IntRange(1, 2).Draw(t, "groups"),
			rounds: rapid.IntRange(1, 3).Draw(t, "rounds"), missing: rapid.Bool().Draw(t, "missing"), padded: rapid.Bool().Draw(t, "padded")}
		s.ChunkQ = rapid.SampledFrom([]int{1, 5, 16, 64, 70, 200}).Draw(t, "chunk")
		s.Before, s.After = rapid.IntRange(0, 2).Draw(t, "before"), rapid.IntRange(0, 2).Draw(t, "after")
		s.Wrap = rapid.SampledFrom([]string{"", WrapNone, WrapRound, WrapAcross}).Draw(t, "wrap")
		s.Causal, s.Others = rapid.Bool().Draw(t, "causal"), rapid.Bool().Draw(t, "others")
		s.Once = s.Wrap != WrapAcross && rapid.Bool().Draw(t, "once")
		s.lastResort = rapid.Bool().Draw(t, "last resort")
		s.lens = []int32{int32(n), int32(rapid.IntRange(0, n).Draw(t, "length"))}
		s.slotsQ = n + rapid.SampledFrom([]int{0, 0, 3, 130}).Draw(t, "empty slots")
		if rapid.Bool().Draw(t, "buckets") {
			s.drawBuckets(4)
		}
		s.prepare()
		g := s.build(t, tensor.Float64)
		got, single := g.g.run(t), s.build(t, tensor.Float32).g.run(t)
		var in [3][]float64
		for i, x := range g.g.in {
			in[i] = numbers(layers.InputValue(x))
		}
		o, lse, _ := s.known().oracle(in[0], in[1], in[2])
		close(t, o, got.o, 1e-12, "o")
		close(t, lse, got.lse, 1e-12, "lse")
		close(t, got.o, single.o, 2e-5, "float32: o")
		for i := range got.grads {
			close(t, got.grads[i], single.grads[i], 5e-5, "float32: gradients")
		}
		require.NotEmpty(t, got.grads)
	})
}
