package train

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/euryale-ml/euryale/checkpoints"
	"github.com/euryale-ml/euryale/data"
	"github.com/euryale-ml/euryale/internal/config"
)

// kinds are a small job for every task that there are data for.
var kinds = map[string]struct{ model, data string }{
	"masked_lm":               {`"model_type":"encoder","vocab_size":262,"attention":[{"type":"band","window_left":3,"window_right":3}]`, `{}`},
	"sequence_classification": {`"model_type":"encoder","vocab_size":97,"num_labels":32,"pooling":"last","attention":[{"type":"longformer","window_left":3}]`, `{"task":"needle(length=19,train=300,val=7,test=5)"}`},
	"token_classification":    {`"model_type":"star_transformer","vocab_size":97,"num_labels":97`, `{"task":"needle(length=19,train=300,val=7,test=5)"}`},
	"regression":              {`"model_type":"encoder","vector_size":10,"num_labels":9`, `{"task":"sum(length=19,train=300,val=7,test=5)"}`},
	"contrastive":             {`"model_type":"etc","vocab_size":262,"local_radius":4`, `{"task":"cpc(length=53,sections=4,train=300,val=7,test=5)"}`},
	"seq2seq_lm": {`"model_type":"encoder_decoder","vocab_size":12,"decoder_start_token_id":10,"pad_token_id":0,"eos_token_id":11,
		"encoder":{"num_hidden_layers":1,"num_attention_heads":3,"max_position_embeddings":64},"decoder":{"num_hidden_layers":1,"num_attention_heads":3,"max_position_embeddings":64,"cross_attention":[{"type":"full"}]}`,
		`{"task":"sort(length=19,train=300,val=7,test=5)"}`},
}

func kindOf(t *testing.T, task string) Job {
	t.Helper()
	k := kinds[task]
	j := tinyJob()
	sizes := `"hidden_size":24,`
	if task != "seq2seq_lm" {
		sizes += `"intermediate_size":40,"num_hidden_layers":1,"num_attention_heads":3,"max_position_embeddings":64,`
	}
	j.Model = json.RawMessage(`{"task":"` + task + `",` + sizes + k.model + `}`)
	require.NoError(t, json.Unmarshal([]byte(k.data), &j.Data))
	j.Train.SequenceLength = 19
	if task == "contrastive" {
		j.Train.SequenceLength = 53
	}
	j.Train.Steps, j.Train.EvalEvery, j.Train.SaveEvery, j.Train.WarmupSteps, j.Train.EvalBatches = 11, 3, 4, 2, 2
	return j
}

// TestEveryTaskResumes: with accumulation, a run of any task that stops goes on to the same bits, its best checkpoint is that of the smallest
// validation loss, and what its loss does not mean is null.
func TestEveryTaskResumes(t *testing.T) {
	for task := range kinds {
		t.Run(task, func(t *testing.T) {
			j := kindOf(t, task)
			whole, parts := t.TempDir(), t.TempDir()
			var evals []EvalEvent
			r, err := Start(whole, j, nil, Options{Hooks: Hooks{Eval: func(e EvalEvent) { evals = append(evals, e) }}})
			require.NoError(t, err)
			finish(t, r, 0)
			finish(t, start(t, parts, j), 4)
			for _, until := range []int{6, 0} {
				r, err := Resume(parts, nil, Options{})
				require.NoError(t, err)
				finish(t, r, until)
			}
			a, b := checkpoint(t, whole, 11), checkpoint(t, parts, 11)
			require.Equal(t, a["model.safetensors"], b["model.safetensors"])
			require.Equal(t, a["optimizer.safetensors"], b["optimizer.safetensors"])

			require.Len(t, evals, 4, "at 3, 6, 9 and the end")
			var best EvalEvent // of the same batches: that of the end scores more than the first two
			for _, e := range evals {
				require.Equal(t, task == "masked_lm" || task == "seq2seq_lm", e.ValBPB != nil)
				require.Equal(t, task != "regression", e.ValAccuracy != nil)
				if e.Best {
					best = e
				}
			}
			var s, stopped state
			for dir, to := range map[string]*state{whole: &s, parts: &stopped} {
				snap, _, err := checkpoints.Load(dir)
				require.NoError(t, err)
				require.NoError(t, snap.DecodeState(to))
			}
			require.Equal(t, best.Step, s.BestStep)
			for _, e := range evals[:3] {
				require.LessOrEqual(t, s.BestLoss, e.ValLoss)
			}
			stopped.Job = s.Job // its data may have a path
			require.Equal(t, s, stopped, "which is the best is judged by the same batches, wherever a run was stopped")
		})
	}
}

// TestEveryTaskStopsEarly: patience counts validation losses of whatever kind.
func TestEveryTaskStopsEarly(t *testing.T) {
	for task := range kinds {
		j := kindOf(t, task)
		j.Train.EarlyStopPatience, j.Train.LR = 2, 1e-30 // nothing changes after the first evaluation
		r := start(t, t.TempDir(), j)
		res, err := r.Train(context.Background(), 0)
		require.NoError(t, err, task)
		require.False(t, r.state.Partial, "done tells of the whole validation part: %s", task)
		require.Equal(t, 2, r.state.Unimproved, task)
		require.NoError(t, r.Close())
		require.Equal(t, "early_stop", res.Stopped, task)
		require.Equal(t, 9, res.Steps, task)
	}
}

// TestTextIsForItsTask: text that is asked something else than the model is for is refused, as is a task without text for text alone.
func TestTextIsForItsTask(t *testing.T) {
	for task, k := range kinds {
		j := kindOf(t, task)
		m, err := j.Check()
		require.NoError(t, err)
		j.Data = data.Config{Objective: "causal_lm"}
		var f *config.FieldError
		require.ErrorAs(t, j.CheckObjective(m), &f, task)
		if slices.Contains(data.Objectives, task) {
			require.Equal(t, "data.objective", f.Path)
			j.Data.Objective = ""
			j.Resolve(m)
			require.Equal(t, task, j.Data.Objective)
			require.NoError(t, j.CheckObjective(m))
		} else {
			require.Equal(t, "model.task", f.Path)
		}
		require.NoError(t, json.Unmarshal([]byte(k.data), &j.Data))
		if j.Data.Task != "" {
			require.NoError(t, j.CheckObjective(m))
		}
	}
}

// TestTasksLearn: of every task a few steps lower the loss on one batch of examples.
func TestTasksLearn(t *testing.T) {
	for task := range kinds {
		j := kindOf(t, task)
		j.Data.Task = strings.Replace(j.Data.Task, "train=300", "train=4", 1)
		j.Train.Steps, j.Train.LR, j.Train.EvalEvery, j.Train.SaveEvery = 40, 1e-2, 0, 0
		if task == "contrastive" { // at such a rate both encodings may become the same for all, from which nothing leads away
			j.Train.Steps, j.Train.LR = 200, 3e-3
		}
		var first, last float64
		r, err := Start(t.TempDir(), j, nil, Options{Hooks: Hooks{Step: func(e StepEvent) {
			if e.Step == 1 {
				first = e.Loss
			}
			last = e.Loss
		}}})
		require.NoError(t, err, task)
		finish(t, r, 0)
		t.Logf("%s: %.4f to %.4f", task, first, last)
		require.Less(t, last, 0.8*first, task)
	}
}
