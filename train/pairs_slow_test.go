//go:build slow

package train

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/euryale-ml/euryale/models"
)

// TestPairsAreLearnt: words are written backwards after half a minute: go test -tags slow -run TestPairsAreLearnt ./train
func TestPairsAreLearnt(t *testing.T) {
	j := pairJob(reversed(t, 4000))
	j.Train.Steps, j.Train.BatchSize, j.Train.LR, j.Train.WarmupSteps, j.Train.EvalEvery, j.Train.SaveEvery = 900, 32, 3e-3, 50, 0, 0
	r := start(t, t.TempDir(), j)
	defer func() { require.NoError(t, r.Close()) }()
	_, err := r.Train(context.Background(), 0)
	require.NoError(t, err)
	w, shape := r.Corpus.Test.PlainWindows(11), r.Corpus.Test.Shape(11)
	e, err := NewEvaluator(r.Model, r.Trainer.Params, shape, 32, 11)
	require.NoError(t, err)
	score, err := e.Run(context.Background(), w, 0, nil)
	require.NoError(t, err)
	t.Logf("exact match %.3f", score.ExactMatch())
	require.Greater(t, score.ExactMatch(), 0.95)
	for _, beams := range []int{1, 3} {
		exact := 0
		s, err := WriteTargets(context.Background(), r.Model.(models.Seq2Seq), r.Trainer.Params, w, shape, r.Corpus.Tokenizer, w.Len(),
			Decoding{Beams: beams, LengthPenalty: 1}, func(x Written) {
				if x.Text == x.Wanted {
					exact++
				}
			})
		require.NoError(t, err)
		t.Logf("%d beams: %d of %d, chrF2 %.2f, %.2f of the sources", beams, exact, s.Texts, s.ChrF, s.Copy)
		if beams == 1 {
			require.InDelta(t, score.ExactMatch(), float64(exact)/float64(s.Texts), 0.011, "what is right token by token is what is written")
		}
		require.Greater(t, s.ChrF, 95.0)
	}
}
