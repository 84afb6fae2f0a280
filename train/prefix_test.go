package train

import (
	"context"
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/data"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/models"
)

// leaking is a model that reads both ways and says that it does not.
type leaking struct{ models.Model }

func (leaking) Task() string { return "causal_lm" }

func prefixModel(t *testing.T, kind string) (models.Model, *layers.Params) {
	t.Helper()
	m, err := models.New(fmt.Appendf(nil, `{"model_type":%q,"vocab_size":262,"hidden_size":24,"intermediate_size":40,"num_hidden_layers":2,"num_attention_heads":3,
		"max_position_embeddings":61,"initializer_range":0.1,"attention":[{"type":"band","window_left":9},{"type":"full"}]}`, kind))
	require.NoError(t, err)
	params, err := models.NewParams(m, tensor.Float32, 1)
	require.NoError(t, err)
	if kind == "encoder" {
		m = leaking{m}
	}
	return m, params
}

// TestPrefixEval: a model that reads nothing of the future has no gap; one that does has learnt to copy the next token, which the prefix does
// not have, and everything before it is told apart.
func TestPrefixEval(t *testing.T) {
	const length = 61
	corpus, err := data.Load(data.Config{})
	require.NoError(t, err)
	for kind, leaks := range map[string]bool{"decoder": false, "encoder": true} {
		m, params := prefixModel(t, kind)
		c := DefaultConfig()
		c.Steps, c.SequenceLength, c.BatchSize, c.LR, c.WarmupSteps = 50, length, 8, 1e-2, 5
		trainer, err := NewTrainer(m, params, corpus.Train, c)
		require.NoError(t, err)
		for leaks && trainer.Adam.Step < c.Steps { // to copy is soon learnt
			_, err := trainer.Step()
			require.NoError(t, err)
		}
		done := 0
		s, err := PrefixEval(context.Background(), m, params, corpus.Test, length, 100, 3, func(n, all int) {
			require.Equal(t, 100, all)
			require.Equal(t, done+1, n)
			done = n
		})
		require.NoError(t, err)
		require.Equal(t, 100, s.Positions)
		require.Equal(t, 100, done)
		if !leaks {
			require.Less(t, s.Worst, 1e-4)
			require.InDelta(t, 0, s.Gap(), 1e-5)
			require.Equal(t, s.WholeAccuracy, s.PrefixAccuracy)
		} else {
			require.Greater(t, s.Gap(), 0.5)
			require.Greater(t, s.WholeAccuracy, s.PrefixAccuracy)
		}
		again, err := PrefixEval(context.Background(), m, params, corpus.Test, length, 100, 3, nil)
		require.NoError(t, err)
		require.Equal(t, s, again, "the draw depends on the seed alone")
		other, err := PrefixEval(context.Background(), m, params, corpus.Test, length, 100, 4, nil)
		require.NoError(t, err)
		require.NotEqual(t, s.Whole, other.Whole)
	}
}

// TestPrefixEvalOfAll: with all positions the whole windows have the loss and the accuracy of the evaluation itself.
func TestPrefixEvalOfAll(t *testing.T) {
	for _, task := range []string{"mqar(length=31,pairs=3,val=5,test=7)", "duplicate(length=22,test=4)"} {
		corpus, err := data.Load(data.Config{Task: task})
		require.NoError(t, err)
		m, params := prefixModel(t, "decoder")
		length := corpus.Test.Length()
		e, err := NewEvaluator(m, params, corpus.Test.Shape(length), 3, length)
		require.NoError(t, err)
		want, err := e.Run(context.Background(), Windows("causal_lm", corpus.Test, length), 0, nil)
		require.NoError(t, err)
		s, err := PrefixEval(context.Background(), m, params, corpus.Test, length, 1<<20, 1, nil)
		require.NoError(t, err)
		require.EqualValues(t, want.Tokens, s.Positions)
		require.InDelta(t, want.Loss, s.Whole, 1e-6)
		require.InDelta(t, want.Accuracy(), s.WholeAccuracy, 1e-12)
		require.InDelta(t, want.Loss, s.Prefix, 1e-5)
	}
}

func TestPrefixEvalErrors(t *testing.T) {
	m, params := prefixModel(t, "encoder")
	corpus, err := data.Load(data.Config{})
	require.NoError(t, err)
	_, err = PrefixEval(context.Background(), m.(leaking).Model, params, corpus.Test, 61, 10, 1, nil)
	require.ErrorContains(t, err, "causal_lm")
	require.ErrorContains(t, err, "masked_lm")
	m, params = prefixModel(t, "decoder")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err = PrefixEval(ctx, m, params, corpus.Test, 61, 10, 1, nil)
	require.ErrorIs(t, err, context.Canceled)
	p := params.All()[0]
	for i := range p.Value.Float32s() {
		p.Value.Float32s()[i] = float32(math.NaN())
	}
	_, err = PrefixEval(context.Background(), m, params, corpus.Test, 61, 10, 1, nil)
	var diverged *DivergedError
	require.ErrorAs(t, err, &diverged)
}
