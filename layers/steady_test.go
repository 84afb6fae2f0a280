package layers

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/kernels"
)

// step is a training step of a small model that uses most layers, large enough to be shared among workers.
func step(t *testing.T, dtype tensor.Dtype) (p *engine.Program, outputs Nodes) {
	t.Helper()
	const batch, n, d, v = 2, 307, 40, 53
	b := New(gorgonia.NewGraph(), NewParams(dtype), Options{Seed: 1, Training: true})
	tokens, targets := b.Input("tokens", tensor.Int32, batch, n), b.Input("targets", tensor.Int32, batch, n)
	for i := range InputValue(tokens).Int32s() {
		InputValue(tokens).Int32s()[i] = int32(i * i % v)
		InputValue(targets).Int32s()[i] = int32((i+1)*(i+1)%v) - int32(i%2)
	}
	x := Embedding(b.Scope("wte"), tokens, v, d, nil)
	x = LearnedPositions(b.Scope("wpe"), x, n, nil, PositionConfig{})
	for l := range 2 {
		h := b.Scope(fmt.Sprintf("h.%d", l))
		qkv := Linear(h.Scope("qkv"), LayerNorm(h.Scope("ln_1"), x, NormConfig{}), LinearConfig{Out: 3 * d})
		qkv = Rope(h, qkv, RopeConfig{Heads: 10, HeadSize: 8})
		x = Linear(h.Scope("o"), qkv, LinearConfig{Out: d, Residual: x})
		x = FeedForward(h.Scope("mlp"), RMSNorm(h.Scope("ln_2"), x, NormConfig{}),
			FeedForwardConfig{Hidden: 4 * d, Act: kernels.GELU, Residual: x, Dropout: 0.1})
	}
	logits := Linear(b, LayerNorm(b.Scope("ln_f"), x, NormConfig{}),
		LinearConfig{Weight: b.Scope("wte").Param("weight", nil, v, d), NoBias: true})
	loss := CrossEntropy(b, logits, targets, 0.1)
	require.NoError(t, b.Err())
	_, ws := b.Weights()
	ds, err := engine.VJP(Nodes{loss}, Nodes{engine.Fill(b.Graph(), engine.TypeOf(loss), 1)}, ws, &engine.Recompute{Cheap: true})
	require.NoError(t, err)
	outputs = append(Nodes{loss}, ds...)
	p, err = engine.Compile(b.Graph(), outputs, engine.Options{Scope: b.ScopeOf})
	require.NoError(t, err)
	return p, outputs
}

func TestSteadyStepAllocatesNothing(t *testing.T) {
	for _, dtype := range []tensor.Dtype{tensor.Float32, tensor.Float64} {
		p, _ := step(t, dtype)
		require.NoError(t, p.Run())
		require.Zero(t, testing.AllocsPerRun(5, func() {
			if err := p.Run(); err != nil {
				panic(err)
			}
		}))
	}
}

func TestStepHasTheSameBitsForAnyNumberOfWorkers(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	var want [][]float64
	for _, workers := range []int{1, 2, 3, 5} {
		runtime.GOMAXPROCS(workers)
		p, outputs := step(t, tensor.Float32)
		require.NoError(t, p.Run())
		var got [][]float64
		for _, n := range outputs {
			got = append(got, floats(p.Value(n)))
		}
		if want == nil {
			want = got
		}
		require.Equal(t, want, got, "%d workers", workers)
	}
}
