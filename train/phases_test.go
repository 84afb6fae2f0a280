package train

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/data"
	"github.com/euryale-ml/euryale/internal/config"
	"github.com/euryale-ml/euryale/models"
)

// growing trains on a task with a curriculum that grows whatever the loss.
func growing() Job {
	j := tinyJob()
	j.Model = json.RawMessage(strings.Replace(string(j.Model), `"vocab_size":256`, `"vocab_size":97`, 1))
	j.Data.Task = "needle(length=53,train=500,val=7,test=5)"
	j.Train.Steps, j.Train.SequenceLength, j.Train.EvalEvery = 24, 53, 9
	j.Train.Curriculum = &Curriculum{Start: 5, Grow: 1.7, Below: 100, Window: 3}
	return j
}

// lengths are the sequence lengths of the steps in metrics.jsonl.
func lengths(t *testing.T, dir string) (all []int) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "metrics.jsonl"))
	require.NoError(t, err)
	for line := range strings.Lines(string(text)) {
		var e StepEvent
		require.NoError(t, json.Unmarshal([]byte(line), &e))
		if e.Event == "step" {
			all = append(all, e.Length)
		}
	}
	return all
}

// repeat is each length so many times.
func repeat(n int, lengths ...int) (all []int) {
	for _, l := range lengths {
		for range n {
			all = append(all, l)
		}
	}
	return all
}

// TestCurriculumResumes: lengths grow as said, and a run that stops anywhere, between two lengths too, goes on to the same bits.
func TestCurriculumResumes(t *testing.T) {
	whole, parts := t.TempDir(), t.TempDir()
	finish(t, start(t, whole, growing()), 0)
	require.Equal(t, append(repeat(3, 5, 9, 16, 28, 48), repeat(9, 53)...), lengths(t, whole))
	finish(t, start(t, parts, growing()), 4)
	for _, until := range []int{6, 7, 11, 17, 0} {
		r, err := Resume(parts, nil, Options{})
		require.NoError(t, err)
		finish(t, r, until)
	}
	a, b := checkpoint(t, whole, 24), checkpoint(t, parts, 24)
	require.Equal(t, a["model.safetensors"], b["model.safetensors"])
	require.Equal(t, a["optimizer.safetensors"], b["optimizer.safetensors"])
	require.Equal(t, lengths(t, whole), lengths(t, parts))

	text, err := os.ReadFile(filepath.Join(parts, "config.json"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(parts, "config.json"), []byte(strings.Replace(string(text), `"grow": 1.7`, `"grow": 1.8`, 1)), 0o666))
	_, err = Resume(parts, nil, Options{})
	var changed *ChangedError
	require.ErrorAs(t, err, &changed)
	require.ErrorContains(t, err, "train.curriculum")
}

// TestCurriculumGrowsOnSuccess: the mean of the last steps decides, at this length alone.
func TestCurriculumGrowsOnSuccess(t *testing.T) {
	c := &Curriculum{Start: 4, Grow: 1.5, Below: 0.5, Window: 3}
	p := &progressed{Length: 4}
	var at []int
	for _, loss := range []float64{0.1, 0.1, 1.4, 0.2, 0.2, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1} {
		p.note(c, loss, 10)
		at = append(at, p.Length)
	}
	// .1 .1 1.4 has the mean .53, .1 1.4 .2 more than .5 too, 1.4 .2 .2 is 0.6, .2 .2 .1 is enough; then three steps at a length.
	require.Equal(t, []int{4, 4, 4, 4, 4, 6, 6, 6, 9, 9, 9, 10, 10}, at)
	require.Empty(t, p.Losses)
	slow := &progressed{Length: 4}
	slow.note(&Curriculum{Grow: 1.01, Below: 1, Window: 1}, 0, 10)
	require.Equal(t, 5, slow.Length, "at least by one")
}

// TestCurriculumStandsAtTheRight: the first token of a short example has the position that it will have in a long one, counted from the end.
func TestCurriculumStandsAtTheRight(t *testing.T) {
	j := growing()
	m, err := j.Check()
	require.NoError(t, err)
	corpus, err := data.Load(j.Data)
	require.NoError(t, err)
	params, err := models.NewParams(m, tensor.Float32, 1)
	require.NoError(t, err)
	tr, err := NewTrainer(m, params, corpus.Train, j.Train)
	require.NoError(t, err)
	table, ok := params.Get("decoder.wpe.weight")
	require.True(t, ok)
	before := append([]float32{}, table.Value.Float32s()...)
	_, err = tr.Step()
	require.NoError(t, err)
	width := m.Dims().Hidden
	var moved []int
	for row := range m.Dims().Positions {
		for i := row * width; i < (row+1)*width; i++ {
			// Weight decay shrinks every row, a gradient does more.
			if d := float64(before[i])*(1-tr.Config.LearningRate(1)*tr.Config.WeightDecay) - float64(table.Value.Float32s()[i]); d > 1e-6 || d < -1e-6 {
				moved = append(moved, row)
				break
			}
		}
	}
	require.Equal(t, []int{48, 49, 50, 51, 52}, moved, "five tokens at the end of 53 positions")
}

// staged trains in three stages with growing windows and lengths.
func staged() Job {
	j := tinyJob()
	j.Train.Steps, j.Train.Schedule, j.Train.WarmupSteps, j.Train.LR = 14, "constant", 0, 1e-3
	j.Train.Stages = []Stage{
		{Steps: 5, SequenceLength: 13, LR: 4e-3, Model: json.RawMessage(`{"attention":[{"type":"band","window_left":3}]}`)},
		{Steps: 4, SequenceLength: 31, LR: 2e-3, Model: json.RawMessage(`{"attention":[{"type":"band","window_left":5}]}`)},
	}
	return j
}

// TestStagesResume: each stage has its length and rate, and a run that stops within one or between two goes on to the same bits. The checkpoint
// holds the model of the job.
func TestStagesResume(t *testing.T) {
	whole, parts := t.TempDir(), t.TempDir()
	finish(t, start(t, whole, staged()), 0)
	require.Equal(t, append(append(repeat(5, 13), repeat(4, 31)...), repeat(5, 61)...), lengths(t, whole))
	c := staged().Train
	for step, rate := range map[int]float64{1: 4e-3, 5: 4e-3, 6: 2e-3, 9: 2e-3, 10: 1e-3, 14: 1e-3, 20: 1e-3} {
		require.Equal(t, rate, c.LearningRate(step), "step %d", step)
	}
	finish(t, start(t, parts, staged()), 3)
	for _, until := range []int{5, 6, 9, 0} {
		r, err := Resume(parts, nil, Options{})
		require.NoError(t, err)
		finish(t, r, until)
	}
	a, b := checkpoint(t, whole, 14), checkpoint(t, parts, 14)
	require.Equal(t, a["model.safetensors"], b["model.safetensors"])
	require.Equal(t, a["optimizer.safetensors"], b["optimizer.safetensors"])
	require.Contains(t, a["config.json"], `"window_left": 11`)
}

// TestStageHasItsModel: a stage trains what its model reads: the gradient of a first step is that of a job which has this model itself.
func TestStageHasItsModel(t *testing.T) {
	first := func(j Job) StepEvent {
		j.Model = json.RawMessage(strings.Replace(string(j.Model), `"hidden_dropout_prob":0.1`, `"hidden_dropout_prob":0`, 1))
		m, err := j.Check()
		require.NoError(t, err)
		corpus, err := data.Load(j.Data)
		require.NoError(t, err)
		params, err := models.NewParams(m, tensor.Float32, 1)
		require.NoError(t, err)
		tr, err := NewTrainer(m, params, corpus.Train, j.Train)
		require.NoError(t, err)
		e, err := tr.Step()
		require.NoError(t, err)
		return e
	}
	narrow := tinyJob()
	narrow.Model = json.RawMessage(strings.Replace(string(narrow.Model), `"window_left":11`, `"window_left":3`, 1))
	narrow.Train.SequenceLength = 13
	wide := tinyJob()
	wide.Train.SequenceLength = 13
	got, want, other := first(staged()), first(narrow), first(wide)
	require.Equal(t, []float64{want.Loss, want.GradNorm}, []float64{got.Loss, got.GradNorm})
	require.NotEqual(t, other.Loss, got.Loss)
}

// TestBadPhases: every fault of curriculum and stages is told, by its path.
func TestBadPhases(t *testing.T) {
	for want, change := range map[string]func(j *Job){
		"train.curriculum.start":          func(j *Job) { j.Train.Curriculum = &Curriculum{0, 2, 1, 1} },
		"train.curriculum.grow":           func(j *Job) { j.Train.Curriculum = &Curriculum{5, 1, 1, 1} },
		"train.curriculum.below":          func(j *Job) { j.Train.Curriculum = &Curriculum{5, 2, -1, 1} },
		"train.curriculum.window":         func(j *Job) { j.Train.Curriculum = &Curriculum{5, 2, 1, -1} },
		"train.stages":                    func(j *Job) { j.Train.Curriculum = &Curriculum{5, 2, 1, 1}; j.Train.Stages = []Stage{{Steps: 1}} },
		"train.steps":                     func(j *Job) { j.Train.Stages = []Stage{{Steps: 20}, {Steps: 20}} },
		"train.stages[1].steps":           func(j *Job) { j.Train.Stages = []Stage{{Steps: 2}, {Steps: 0}} },
		"train.stages[0].lr":              func(j *Job) { j.Train.Stages = []Stage{{Steps: 2, LR: -1}} },
		"train.stages[0].sequence_length": func(j *Job) { j.Train.Stages = []Stage{{Steps: 2, SequenceLength: 129}} },
		"train.stages[0].model.attention[0]": func(j *Job) {
			j.Train.Stages = []Stage{{Steps: 2, Model: json.RawMessage(`{"attention":[{"type":"bond"}]}`)}}
		},
		"train.stages[0].model.window": func(j *Job) { j.Train.Stages = []Stage{{Steps: 2, Model: json.RawMessage(`{"window":1}`)}} },
		"train.stages[0].model":        func(j *Job) { j.Train.Stages = []Stage{{Steps: 2, Model: json.RawMessage(`[1]`)}} },
	} {
		j := tinyJob()
		change(&j)
		_, err := j.Check()
		require.Error(t, err, want)
		found := false
		for _, f := range config.Faults(err) {
			found = found || strings.HasPrefix(f.Error(), want)
		}
		require.True(t, found, "%s in %v", want, err)
	}
	for _, other := range []string{`{"intermediate_size":57}`, `{"num_hidden_layers":1}`, `{"num_hidden_layers":3}`} {
		j := tinyJob()
		j.Train.Stages = []Stage{{Steps: 2}, {Steps: 2, Model: json.RawMessage(other)}}
		_, err := Start(t.TempDir(), j, nil, Options{})
		var f *config.FieldError
		require.ErrorAs(t, err, &f, other)
		require.Equal(t, "train.stages[1].model", f.Path)
	}

	var c Curriculum
	require.NoError(t, config.Decode([]byte(`{"start":7}`), &c))
	require.Equal(t, Curriculum{7, 1.4, 0.3, 10}, c)
	require.NoError(t, config.Decode([]byte(`{"below":0.5}`), &c))
	require.Equal(t, Curriculum{16, 1.4, 0.5, 10}, c)
	require.ErrorContains(t, config.Decode([]byte(`{"begin":7}`), &c), "begin")

	j := growing()
	j.Train.Curriculum = nil
	require.NoError(t, config.Set(&j, "train.curriculum.start=7"))
	dir := t.TempDir()
	finish(t, start(t, dir, j), 1)
	var saved Job
	require.NoError(t, config.ReadFile(filepath.Join(dir, "config.json"), &saved))
	require.Equal(t, Curriculum{7, 1.4, 0.3, 10}, *saved.Train.Curriculum)
}
