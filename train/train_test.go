package train

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/checkpoints"
	"github.com/euryale-ml/euryale/data"
	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/testkit"
	"github.com/euryale-ml/euryale/models"
)

// tinyJob trains a small model with everything that could make a resume differ: dropout, accumulation, learned positions.
func tinyJob() Job {
	j := DefaultJob()
	j.Model = json.RawMessage(`{"model_type":"decoder","vocab_size":256,"hidden_size":24,"intermediate_size":56,"num_hidden_layers":2,
		"num_attention_heads":3,"max_position_embeddings":128,"position_embedding_type":"learned","hidden_dropout_prob":0.1,
		"attention":[{"type":"band","window_left":11}]}`)
	j.Train.Steps, j.Train.SequenceLength, j.Train.BatchSize, j.Train.GlobalBatch = 40, 61, 2, 4
	j.Train.EvalEvery, j.Train.SaveEvery, j.Train.EvalBatches, j.Train.WarmupSteps = 7, 6, 3, 5
	return j
}

// finish trains to the end or to a step and returns the bytes of the newest checkpoint and the metrics without times.
func finish(t *testing.T, r *Run, until int) {
	t.Helper()
	_, err := r.Train(context.Background(), until)
	require.NoError(t, err)
	require.NoError(t, r.Close())
}

func checkpoint(t *testing.T, dir string, step int) map[string]string {
	t.Helper()
	files := map[string]string{}
	at := checkpoints.StepDir(filepath.Join(dir, "checkpoints"), step)
	for _, name := range []string{"model.safetensors", "optimizer.safetensors", "state.json", "config.json"} {
		b, err := os.ReadFile(filepath.Join(at, name))
		require.NoError(t, err)
		files[name] = string(b)
	}
	return files
}

// losses are the lines of metrics.jsonl without the speed.
func losses(t *testing.T, dir string) []string {
	t.Helper()
	f, err := os.Open(filepath.Join(dir, "metrics.jsonl"))
	require.NoError(t, err)
	defer f.Close()
	var lines []string
	for s := bufio.NewScanner(f); s.Scan(); {
		line, _, _ := strings.Cut(s.Text(), `,"tokens_per_s"`)
		lines = append(lines, line)
	}
	return lines
}

func start(t *testing.T, dir string, j Job) *Run {
	t.Helper()
	r, err := Start(dir, j, nil, Options{})
	require.NoError(t, err)
	return r
}

// TestResume: 40 steps are 20 steps, a stop and 20 more, to the bit: weights, moments, state, losses, evaluations.
func TestResume(t *testing.T) {
	whole, parts := t.TempDir(), t.TempDir()
	finish(t, start(t, whole, tinyJob()), 0)
	finish(t, start(t, parts, tinyJob()), 20)
	for _, until := range []int{21, 33, 0} {
		r, err := Resume(parts, nil, Options{})
		require.NoError(t, err)
		finish(t, r, until)
	}
	a, b := checkpoint(t, whole, 40), checkpoint(t, parts, 40)
	require.Equal(t, a["model.safetensors"], b["model.safetensors"])
	require.Equal(t, a["optimizer.safetensors"], b["optimizer.safetensors"])
	steps := func(lines []string) (s []string) {
		for _, l := range lines {
			if strings.Contains(l, `"event":"step"`) {
				s = append(s, l)
			}
		}
		return s
	}
	require.Equal(t, steps(losses(t, whole)), steps(losses(t, parts)))
	require.Len(t, steps(losses(t, parts)), 40)
}

// TestWorkers: the number of workers changes no bit.
func TestWorkers(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	j := tinyJob()
	j.Train.Steps = 5
	var want map[string]string
	for _, n := range []int{1, 2, 3, 5} {
		runtime.GOMAXPROCS(n)
		dir := t.TempDir()
		finish(t, start(t, dir, j), 0)
		got := checkpoint(t, dir, 5)
		if want == nil {
			want = got
		}
		require.Equal(t, want["model.safetensors"], got["model.safetensors"], "GOMAXPROCS %d", n)
		require.Equal(t, want["optimizer.safetensors"], got["optimizer.safetensors"], "GOMAXPROCS %d", n)
	}
}

// TestRecompute: what is computed again instead of kept changes no bit.
func TestRecompute(t *testing.T) {
	var want map[string]string
	for _, how := range []string{"none", "cheap", "block", "every:2"} {
		j := tinyJob()
		j.Train.Steps, j.Train.Recompute = 3, how
		dir := t.TempDir()
		finish(t, start(t, dir, j), 0)
		got := checkpoint(t, dir, 3)
		if want == nil {
			want = got
		}
		require.Equal(t, want["model.safetensors"], got["model.safetensors"], how)
	}
}

// TestKill: a process that is killed at any moment leaves a run that goes on to the same end.
func TestKill(t *testing.T) {
	if dir := os.Getenv("EURYALE_TEST_KILL"); dir != "" {
		j := tinyJob()
		j.Train.SaveEvery = 1
		if r, err := Start(dir, j, nil, Options{}); err == nil {
			_, _ = r.Train(context.Background(), 0)
		}
		return
	}
	j := tinyJob()
	j.Train.SaveEvery = 1
	whole := t.TempDir()
	finish(t, start(t, whole, j), 0)
	for _, wait := range []time.Duration{0, 3, 11, 26, 41} {
		killAndResume(t, whole, "TestKill", wait, "EURYALE_TEST_KILL")
	}
}

// killAndResume runs a test of this binary as a program that trains in the folder that a variable names, kills it so many milliseconds after its first
// checkpoint, and lets the run go on: it ends as the one in whole did, 40 steps without a stop.
func killAndResume(t *testing.T, whole, test string, wait time.Duration, dirIn string, env ...string) {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0], "-test.run=^"+test+"$")
	cmd.Env = append(append(os.Environ(), dirIn+"="+dir), env...)
	require.NoError(t, cmd.Start())
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if all, _ := checkpoints.List(filepath.Join(dir, "checkpoints")); len(all) > 0 {
			break
		}
	}
	time.Sleep(wait * time.Millisecond)
	require.NoError(t, cmd.Process.Kill())
	_ = cmd.Wait()
	r, err := Resume(dir, nil, Options{})
	require.NoError(t, err)
	finish(t, r, 0)
	want, got := checkpoint(t, whole, 40), checkpoint(t, dir, 40)
	require.Equal(t, want["model.safetensors"], got["model.safetensors"])
	require.Equal(t, want["optimizer.safetensors"], got["optimizer.safetensors"])
	require.Equal(t, losses(t, whole), losses(t, dir))
}

// TestAccumulation: a step of two batches of two is a step of one batch of four, but for rounding.
func TestAccumulation(t *testing.T) {
	gradient := func(batch int) (StepEvent, *Trainer) {
		j := tinyJob()
		j.Model = json.RawMessage(strings.Replace(string(j.Model), `"hidden_dropout_prob":0.1`, `"hidden_dropout_prob":0`, 1))
		j.Train.BatchSize, j.Train.GlobalBatch = batch, 4
		m, err := j.Check()
		require.NoError(t, err)
		corpus, err := data.Load(j.Data)
		require.NoError(t, err)
		params, err := models.NewParams(m, tensor.Float64, 3)
		require.NoError(t, err)
		tr, err := NewTrainer(m, params, corpus.Train, j.Train)
		require.NoError(t, err)
		e, err := tr.Step()
		require.NoError(t, err)
		return e, tr
	}
	one, a := gradient(4)
	two, b := gradient(2)
	require.InDelta(t, one.Loss, two.Loss, 1e-12)
	require.InDelta(t, one.GradNorm, two.GradNorm, 1e-12)
	for i, g := range a.graph.grads {
		testkit.AllClose(t, a.graph.Params[i].Name, engine.Floats[float64](b.total[i]), engine.Floats[float64](g), g.Shape(), 1e-13, 0)
	}
}

// TestSteadyStep: the engine allocates nothing in a step that is not the first.
func TestSteadyStep(t *testing.T) {
	j := tinyJob()
	m, err := j.Check()
	require.NoError(t, err)
	corpus, err := data.Load(j.Data)
	require.NoError(t, err)
	params, err := models.NewParams(m, tensor.Float32, 3)
	require.NoError(t, err)
	tr, err := NewTrainer(m, params, corpus.Train, j.Train)
	require.NoError(t, err)
	for range 3 {
		_, err := tr.Step()
		require.NoError(t, err)
	}
	require.Zero(t, testing.AllocsPerRun(5, func() {
		if err := tr.graph.Program.Run(); err != nil {
			t.Error(err)
		}
	}))
}

// TestDiverged: an infinite rate is caught before it reaches the weights, and the checkpoint from before stays.
func TestDiverged(t *testing.T) {
	j := tinyJob()
	j.Train.LR, j.Train.WarmupSteps, j.Train.GradClip, j.Train.SaveEvery = 1e30, 0, 0, 1
	dir := t.TempDir()
	r := start(t, dir, j)
	_, err := r.Train(context.Background(), 0)
	var d *DivergedError
	require.ErrorAs(t, err, &d)
	require.Equal(t, d.Step-1, r.Step())
	for _, p := range r.Trainer.Params.All() {
		for _, v := range p.Value.Float32s() {
			require.False(t, math.IsNaN(float64(v)))
		}
	}
	require.NoError(t, r.Close())
}

// faulty is a file system on which everything fails to be written while full is set.
type faulty struct {
	checkpoints.FS
	full *bool
}

func (f faulty) Mkdir(path string, mode os.FileMode) error {
	if *f.full && strings.Contains(path, "step-") {
		return errors.New("no space left on device")
	}
	return f.FS.Mkdir(path, mode)
}

// TestFullDisk: older checkpoints stay, training goes on, and the end says that the last save failed.
func TestFullDisk(t *testing.T) {
	full := false
	var warnings []string
	dir := t.TempDir()
	r, err := Start(dir, tinyJob(), nil, Options{FS: faulty{checkpoints.OSFS{}, &full}, Hooks: Hooks{Warning: func(s string) { warnings = append(warnings, s) }}})
	require.NoError(t, err)
	_, err = r.Train(context.Background(), 6)
	require.NoError(t, err)
	full = true
	_, err = r.Train(context.Background(), 0)
	require.ErrorContains(t, err, "no space left")
	require.Equal(t, 40, r.Step())
	require.NotEmpty(t, warnings)
	require.NoError(t, r.Close())
	rep, err := checkpoints.Latest(dir)
	require.NoError(t, err)
	require.Equal(t, 6, rep.Step)
	full = false
	r, err = Resume(dir, nil, Options{})
	require.NoError(t, err)
	finish(t, r, 0)
	require.Equal(t, 40, r.Step())
}

// TestRefusals: what cannot go on says so and leaves everything as it was.
func TestRefusals(t *testing.T) {
	dir := t.TempDir()
	j := tinyJob()
	r := start(t, dir, j)
	_, err := Resume(dir, nil, Options{})
	require.ErrorIs(t, err, checkpoints.ErrInUse)
	finish(t, r, 6)
	before := checkpoint(t, dir, 6)

	_, err = Start(dir, j, nil, Options{})
	var exists *ExistsError
	require.ErrorAs(t, err, &exists)

	text, err := os.ReadFile(filepath.Join(dir, "config.json"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "config.json"), bytes.Replace(text, []byte(`"window_left": 11`), []byte(`"window_left": 12`), 1), 0o666))
	_, err = Resume(dir, nil, Options{})
	var changed *ChangedError
	require.ErrorAs(t, err, &changed)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "config.json"), text, 0o666))
	require.Equal(t, before, checkpoint(t, dir, 6))

	at := filepath.Join(checkpoints.StepDir(filepath.Join(dir, "checkpoints"), 6), "model.safetensors")
	weights, err := os.ReadFile(at)
	require.NoError(t, err)
	weights[len(weights)/2] ^= 4
	require.NoError(t, os.WriteFile(at, weights, 0o666))
	_, err = Resume(dir, nil, Options{})
	require.ErrorIs(t, err, checkpoints.ErrCorrupt)
}

// TestSchedule: the first step has the rate of step 1, the last the floor, and later ones stay there.
func TestSchedule(t *testing.T) {
	c := DefaultConfig()
	require.InDelta(t, c.LR/40, c.LearningRate(1), 1e-18)
	require.InDelta(t, c.LR, c.LearningRate(40), 1e-18)
	require.InDelta(t, c.LR*0.1, c.LearningRate(c.Steps), 1e-18)
	require.InDelta(t, c.LR*0.1, c.LearningRate(c.Steps+7), 1e-18)
	c.WarmupSteps = 0
	require.InDelta(t, c.LR, c.LearningRate(1), c.LR*1e-4)
	c.Schedule, c.LR, c.WarmupSteps, c.MinLRRatio = "rsqrt", 1, 100, 0
	require.InDelta(t, 0.1, c.LearningRate(100), 1e-15)
	require.InDelta(t, 0.05, c.LearningRate(50), 1e-15)
	require.InDelta(t, 0.05, c.LearningRate(400), 1e-15)
}

// TestSampler: what is cut off is never drawn, temperature 0 is the most likely token, equal seeds draw equally.
func TestSampler(t *testing.T) {
	logits := []float32{1, 3, 2, -5, 2.5}
	draw := func(s Sampling, n int) map[int32]int {
		d, err := NewSampler(s)
		require.NoError(t, err)
		count := map[int32]int{}
		for range n {
			count[d.Next(logits)]++
		}
		return count
	}
	require.Equal(t, map[int32]int{1: 9}, draw(Sampling{}, 9))
	require.Equal(t, draw(Sampling{Temperature: 1, Seed: 4}, 500), draw(Sampling{Temperature: 1, Seed: 4}, 500))
	require.NotContains(t, draw(Sampling{Temperature: 2, TopK: 3}, 2000), int32(0))
	require.Len(t, draw(Sampling{Temperature: 2, TopK: 3}, 2000), 3)
	require.Len(t, draw(Sampling{Temperature: 1, TopP: 0.4}, 500), 1) // the first token has 0.49
	require.Len(t, draw(Sampling{Temperature: 1, TopP: 0.5}, 500), 2)
	n := 200000
	total := 0.0
	for _, x := range logits {
		total += math.Exp(float64(x))
	}
	for id, c := range draw(Sampling{Temperature: 1, Seed: 1}, n) {
		require.InDelta(t, math.Exp(float64(logits[id]))/total, float64(c)/float64(n), 0.005)
	}
	for _, bad := range []Sampling{{Temperature: -1}, {TopK: -1}, {TopP: 1.5}} {
		_, err := NewSampler(bad)
		require.Error(t, err, fmt.Sprint(bad))
	}
}
