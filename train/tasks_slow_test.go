//go:build slow

package train

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/euryale-ml/euryale/data"
)

// TestTasksAreLearnt trains two layers of width 64 for less than a minute a task: go test -tags slow -run TestTasksAreLearnt ./train
func TestTasksAreLearnt(t *testing.T) {
	for _, c := range []struct {
		task      string
		attention string
		length    int
		steps     int
	}{
		{"needle(length=64)", `[{"type":"full"}]`, 64, 250},
		{"copy(gap=32)", `[{"type":"full"}]`, 64, 300},
		{"mqar(length=32,pairs=4)", `[{"type":"band","window_left":1},{"type":"full"}]`, 32, 1400},
	} {
		t.Run(c.task, func(t *testing.T) {
			j := DefaultJob()
			j.Model = json.RawMessage(`{"model_type":"decoder","vocab_size":97,"hidden_size":64,"intermediate_size":256,"num_hidden_layers":2,
				"num_attention_heads":4,"max_position_embeddings":64,"position_embedding_type":"learned","tie_word_embeddings":false,"initializer_range":0.05,"attention":` + c.attention + `}`)
			j.Data = data.Config{Task: c.task}
			j.Train.Steps, j.Train.BatchSize, j.Train.SequenceLength = c.steps, 32, c.length
			j.Train.LR, j.Train.WarmupSteps, j.Train.AdamBeta2, j.Train.WeightDecay = 2e-3, 50, 0.98, 0.1
			j.Train.EvalEvery, j.Train.SaveEvery, j.Train.Schedule = 0, 0, "constant"
			r := start(t, t.TempDir(), j)
			defer func() { require.NoError(t, r.Close()) }()
			_, err := r.Train(context.Background(), 0)
			require.NoError(t, err)
			e, err := NewEvaluator(r.Model, r.Trainer.Params, data.Shape{}, 32, c.length)
			require.NoError(t, err)
			score, err := e.Run(context.Background(), r.Corpus.Test.PlainWindows(c.length), 0, nil)
			require.NoError(t, err)
			t.Logf("accuracy %.4f, exact match %.4f", score.Accuracy(), score.ExactMatch())
			require.Greater(t, score.Accuracy(), 0.95)
		})
	}
}
