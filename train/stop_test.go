package train

import (
	"context"
	"math"
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/data"
	"github.com/euryale-ml/euryale/internal/config"
	"github.com/euryale-ml/euryale/models"
)

// stopped is how a call of Train ended, in a run that was resumed as often as there are steps to stop at.
func stopped(t *testing.T, dir string, j Job, untils ...int) Result {
	t.Helper()
	r := start(t, dir, j)
	var res Result
	for i, until := range untils {
		if i > 0 {
			var err error
			r, err = Resume(dir, nil, Options{})
			require.NoError(t, err)
		}
		var err error
		res, err = r.Train(context.Background(), until)
		require.NoError(t, err)
		require.NoError(t, r.Close())
	}
	return res
}

// TestEarlyStop: a loss that does not fall ends the run after as many evaluations as the config says, wherever the run was stopped
// and resumed before; resuming it again trains no further.
func TestEarlyStop(t *testing.T) {
	j := tinyJob()
	j.Train.EarlyStopPatience, j.Train.LR = 2, 1e-30 // no weight changes: evaluations at 7 (the best), 14 and 21 are alike
	for _, untils := range [][]int{{0}, {10, 18, 0}, {7, 14, 0}, {0, 0, 0}} {
		dir := t.TempDir()
		res := stopped(t, dir, j, untils...)
		require.Equal(t, 21, res.Steps, "%v", untils)
		require.Equal(t, "early_stop", res.Stopped, "%v", untils)
		require.False(t, res.Interrupted)
		checkpoint(t, dir, 21)
	}
	j.Train.EarlyStopPatience = 0
	j.Train.Steps = 23
	res := stopped(t, t.TempDir(), j, 0)
	require.Equal(t, 23, res.Steps)
	require.Empty(t, res.Stopped)
}

// TestStopBeforeEvaluation: an evaluation that was due when the user stopped the run is made when it goes on.
func TestStopBeforeEvaluation(t *testing.T) {
	j := tinyJob()
	j.Train.Steps = 15
	whole, parts := t.TempDir(), t.TempDir()
	finish(t, start(t, whole, j), 0)

	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	r, err := Start(parts, j, nil, Options{Hooks: Hooks{Step: func(e StepEvent) {
		if e.Step == 7 {
			cancel()
		}
	}}})
	require.NoError(t, err)
	res, err := r.Train(ctx, 0)
	require.NoError(t, err)
	require.True(t, res.Interrupted)
	require.Equal(t, "interrupted", res.Stopped)
	require.Equal(t, 7, res.Steps)
	require.NoError(t, r.Close())
	r, err = Resume(parts, nil, Options{})
	require.NoError(t, err)
	finish(t, r, 0)
	require.Equal(t, losses(t, whole), losses(t, parts))
	require.Equal(t, checkpoint(t, whole, 15), checkpoint(t, parts, 15))
}

// TestDivergedEvaluation: a loss that is no number is an error, not a line of metrics that no reader takes.
func TestDivergedEvaluation(t *testing.T) {
	m, err := tinyJob().Check()
	require.NoError(t, err)
	params, err := models.NewParams(m, tensor.Float32, 3)
	require.NoError(t, err)
	for _, p := range params.All() {
		for i := range p.Value.Float32s() {
			p.Value.Float32s()[i] = 1e38
		}
	}
	e, err := NewEvaluator(m, params, data.Shape{}, 2, 13)
	require.NoError(t, err)
	part := data.FromTokens("made up", []int32{3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5})
	_, err = e.Run(context.Background(), part.PlainWindows(13), 0, nil)
	var d *DivergedError
	require.ErrorAs(t, err, &d)
	require.ErrorContains(t, err, "evaluation: the loss is")
}

// TestResumeRefusesAnotherOrder: what would change which sequences come next is refused; what would not is taken.
func TestResumeRefusesAnotherOrder(t *testing.T) {
	dir := t.TempDir()
	finish(t, start(t, dir, tinyJob()), 3)
	for want, change := range map[string]func(c *Config){
		"seed":            func(c *Config) { c.Seed++ },
		"sequence_length": func(c *Config) { c.SequenceLength-- },
		"global_batch":    func(c *Config) { c.GlobalBatch = 6 },
	} {
		_, err := Resume(dir, func(c *Config) error { change(c); return nil }, Options{})
		var changed *ChangedError
		require.ErrorAs(t, err, &changed, want)
		require.ErrorContains(t, err, want)
		require.NotContains(t, err.Error(), "\n")
	}
	r, err := Resume(dir, func(c *Config) error { c.BatchSize, c.LR = 4, c.LR/2; return nil }, Options{})
	require.NoError(t, err)
	finish(t, r, 4)
}

// TestConfigFaults: all at once, each with its path; what would overflow is one.
func TestConfigFaults(t *testing.T) {
	c := DefaultConfig()
	require.NoError(t, c.Validate())
	c.Steps, c.BatchSize, c.GlobalBatch, c.Schedule, c.Recompute, c.AdamBeta2, c.LabelSmoothing = 0, 3, 7, "cosin", "every:0", 1, -0.1
	var paths []string
	for _, f := range config.Faults(c.Validate()) {
		var fe *config.FieldError
		require.ErrorAs(t, f, &fe)
		require.NotContains(t, f.Error(), "\n")
		paths = append(paths, fe.Path)
	}
	require.Equal(t, []string{"train.steps", "train.global_batch", "train.schedule", "train.adam_beta2", "train.label_smoothing", "train.recompute"}, paths)

	c = DefaultConfig()
	c.BatchSize, c.GlobalBatch = math.MaxInt32/1024+1, 0
	require.ErrorContains(t, c.Validate(), "train.batch_size")
	c = DefaultConfig()
	c.GlobalBatch = math.MaxInt32 + 1
	require.ErrorContains(t, c.Validate(), "train.global_batch")
}
