package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/euryale-ml/euryale/checkpoints"
)

// tiny makes a model of some thousand weights and a short training of it.
var tiny = []string{
	"--set", "model.hidden_size=24", "--set", "model.intermediate_size=40", "--set", "model.num_hidden_layers=2", "--set", "model.num_attention_heads=3",
	"--set", `model.attention=[{"type":"band","window_left":6}]`, "--set", "model.max_position_embeddings=64",
	"--set", "train.sequence_length=19", "--set", "train.batch_size=2", "--set", "train.steps=12", "--set", "train.save_every=4", "--set", "train.eval_every=5",
	"--set", "train.warmup_steps=3",
}

// text writes a small corpus and returns its path.
func text(t *testing.T) string {
	t.Helper()
	var b bytes.Buffer
	for i := range 90 {
		fmt.Fprintf(&b, "Line %d of the text, %d more to come.\n\n", i, 90-i)
	}
	path := filepath.Join(t.TempDir(), "lines.txt")
	require.NoError(t, os.WriteFile(path, b.Bytes(), 0o644))
	return path
}

// result is what one command line gave.
type result struct {
	code           int
	stdout, stderr string
}

// euryale runs a command line within this process.
func euryale(t *testing.T, args ...string) result {
	t.Helper()
	return euryaleIn(t, "", args...)
}

func euryaleIn(t *testing.T, input string, args ...string) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code := execute(t.Context(), args, strings.NewReader(input), &stdout, &stderr)
	return result{code, stdout.String(), stderr.String()}
}

func (r result) ok(t *testing.T) result {
	t.Helper()
	require.Zero(t, r.code, r.stderr)
	return r
}

// events decodes the lines of --json.
func (r result) events(t *testing.T) []map[string]any {
	t.Helper()
	var all []map[string]any
	for line := range strings.Lines(r.stdout) {
		var e map[string]any
		require.NoError(t, json.Unmarshal([]byte(line), &e), "%q", line)
		all = append(all, e)
	}
	require.NotEmpty(t, all)
	return all
}

// last is the last event, which must be "done".
func (r result) last(t *testing.T) map[string]any {
	t.Helper()
	all := r.events(t)
	require.Equal(t, "done", all[len(all)-1]["event"])
	return all[len(all)-1]
}

func keys(m map[string]any) []string {
	var all []string
	for k := range m {
		all = append(all, k)
	}
	return all
}

func fit(t *testing.T, more ...string) result {
	t.Helper()
	return euryale(t, append(append([]string{"fit", "--json"}, tiny...), more...)...)
}

// same requires that two checkpoints hold the same weights and moments, bit for bit.
func same(t *testing.T, a, b string) {
	t.Helper()
	for _, name := range []string{"model.safetensors", "optimizer.safetensors"} {
		x, err := os.ReadFile(filepath.Join(a, name))
		require.NoError(t, err)
		y, err := os.ReadFile(filepath.Join(b, name))
		require.NoError(t, err)
		require.True(t, bytes.Equal(x, y), name)
	}
}

func TestFitResumeAndUse(t *testing.T) {
	corpus := text(t)
	t.Chdir(t.TempDir())
	r := fit(t, "--data", corpus).ok(t)
	events := r.events(t)
	require.ElementsMatch(t, []string{"event", "step", "loss", "lr", "grad_norm", "tokens_per_s"}, keys(events[0]))
	counts := map[string]int{}
	for _, e := range events {
		counts[e["event"].(string)]++
	}
	require.Equal(t, map[string]int{"step": 12, "eval": 3, "done": 1}, counts, "evaluations after 5, 10 and at the end")
	done := r.last(t)
	for _, k := range []string{"steps", "val_loss", "val_bpb", "test_bpb", "checkpoint"} {
		require.Contains(t, done, k)
	}
	whole := filepath.Join("runs", "lines")
	require.Equal(t, filepath.Join(whole, "checkpoints", "step-00000012"), done["checkpoint"])
	require.FileExists(t, filepath.Join(whole, "metrics.jsonl"))

	// A run that stops in between and goes on gives the same weights.
	r = fit(t, "--data", corpus, "--name", "parts", "--steps", "7").ok(t)
	require.Equal(t, 7.0, r.last(t)["steps"])
	parts := filepath.Join("runs", "parts")
	r = euryale(t, "resume", parts, "--json").ok(t)
	require.Equal(t, 12.0, r.last(t)["steps"])
	same(t, filepath.Join(whole, "checkpoints", "step-00000012"), filepath.Join(parts, "checkpoints", "step-00000012"))
	require.Equal(t, done["test_bpb"], r.last(t)["test_bpb"])
	require.Equal(t, 12.0, euryale(t, "resume", parts, "--json").ok(t).last(t)["steps"], "a finished run ends with 0")
	require.Equal(t, 14.0, euryale(t, "resume", parts, "--json", "--steps", "14").ok(t).last(t)["steps"])

	// The same command takes a free name.
	fit(t, "--data", corpus, "--steps", "1").ok(t)
	require.DirExists(t, filepath.Join("runs", "lines-2"))

	r = fit(t, "--data", corpus, "--run", whole)
	require.Equal(t, 2, r.code)
	require.Contains(t, r.stderr, "resume "+whole)

	e := euryale(t, "eval", whole, "--json").ok(t).last(t)
	require.ElementsMatch(t, []string{"event", "split", "loss", "bits_per_byte", "perplexity", "accuracy", "tokens", "checkpoint", "by_position"}, keys(e))
	require.Equal(t, "test", e["split"])
	v := euryale(t, "eval", whole, "--json", "--data", "val", "--set", "train.sequence_length=31").ok(t).last(t)
	require.Equal(t, "val", v["split"])
	all := euryale(t, "eval", whole, "--json", "--data", corpus).ok(t).last(t)
	info, err := os.Stat(corpus)
	require.NoError(t, err)
	require.Equal(t, float64(info.Size()-1), all["tokens"], "every byte but the first is scored once")

	// Fine-tuning starts from the weights.
	r = fit(t, "--data", corpus, "--from", whole, "--name", "tuned", "--set", "train.lr=1e-9", "--steps", "1").ok(t)
	require.InDelta(t, done["test_bpb"].(float64), r.last(t)["test_bpb"].(float64), 0.2)

	list := euryale(t, "runs", "--json").ok(t).events(t)
	require.Len(t, list, 4)
	require.Contains(t, euryale(t, "runs").ok(t).stdout, whole)
}

func TestGenerate(t *testing.T) {
	corpus := text(t)
	t.Chdir(t.TempDir())
	fit(t, "--data", corpus, "--run", "r").ok(t)
	one := euryale(t, "generate", "r", "--prompt", "Line", "--max-new-tokens", "23", "--json").ok(t)
	require.Equal(t, 23.0, one.last(t)["tokens"])
	again := euryaleIn(t, "Line", "generate", "r", "--prompt", "-", "--max-new-tokens", "23", "--json").ok(t)
	require.Equal(t, one.last(t)["text"], again.last(t)["text"], "the same seed")
	other := euryale(t, "generate", "r", "--prompt", "Line", "--max-new-tokens", "23", "--json", "--seed", "7").ok(t)
	require.NotEqual(t, one.last(t)["text"], other.last(t)["text"])
	require.True(t, strings.HasPrefix(euryale(t, "generate", "r", "--prompt", "Line").ok(t).stdout, "Line"))
	require.Equal(t, 61.0, euryale(t, "generate", "r", "--prompt", "Line", "--json", "--temperature", "0").ok(t).last(t)["tokens"],
		"64 positions: 4 of the prompt and 60 that are read back")
	for _, bad := range [][]string{{"--temperature", "-1"}, {"--top-p", "2"}, {"--top-k", "-1"}, {"--max-new-tokens", "0"}, {"--prompt", ""}, {"--prompt", strings.Repeat("x", 65)}} {
		require.Equal(t, 2, euryale(t, append([]string{"generate", "r"}, bad...)...).code, "%v", bad)
	}
}

func TestPredictAndVerify(t *testing.T) {
	corpus := text(t)
	t.Chdir(t.TempDir())
	fit(t, "--data", corpus, "--run", "r").ok(t)
	require.NoError(t, os.WriteFile("in.jsonl", []byte("{\"text\":\"Line 5 of\"}\n{\"text\":\"more\"}\n"), 0o644))
	euryale(t, "predict", "r", "--input", "in.jsonl", "--output", "out.safetensors", "--json").ok(t)
	s, err := checkpoints.OpenSafetensors("out.safetensors")
	require.NoError(t, err)
	info, ok := s.Info("out/logits")
	require.True(t, ok)
	require.Equal(t, []int{2, 9, 256}, info.Shape)
	require.NoError(t, s.Close())

	// The outputs verify the model that made them, and no other.
	r := euryale(t, "verify", "r", "--reference", "out.safetensors", "--json").ok(t)
	require.Equal(t, true, r.last(t)["ok"])
	require.ElementsMatch(t, []string{"name", "max_abs", "max_rel", "ok"}, keys(r.events(t)[0]))
	euryale(t, "verify", "r", "--reference", "out.safetensors", "--float64").ok(t)
	r = euryale(t, "verify", filepath.Join("r", "checkpoints", "step-00000008"), "--reference", "out.safetensors", "--json")
	require.Equal(t, 1, r.code)
	require.Contains(t, r.stdout, `"ok":false`)

	euryale(t, "predict", "r", "--input", "out.safetensors", "--output", "again.safetensors").ok(t)
	a, err := os.ReadFile("out.safetensors")
	require.NoError(t, err)
	b, err := os.ReadFile("again.safetensors")
	require.NoError(t, err)
	require.True(t, bytes.Equal(a, b), "what predict wrote is an input, and gives the same")
}

func TestInspect(t *testing.T) {
	corpus := text(t)
	t.Chdir(t.TempDir())
	fit(t, "--data", corpus, "--run", "r").ok(t)
	done := euryale(t, "inspect", "r", "--check", "--json").ok(t).last(t)
	require.Equal(t, "run", done["kind"])
	require.Equal(t, true, done["ok"])
	last := filepath.Join("r", "checkpoints", "step-00000012")
	require.Equal(t, "checkpoint", euryale(t, "inspect", last, "--json").ok(t).last(t)["kind"])
	weights := filepath.Join(last, "model.safetensors")
	require.Equal(t, "safetensors", euryale(t, "inspect", weights, "--check", "--json").ok(t).last(t)["kind"])

	// One bit.
	b, err := os.ReadFile(weights)
	require.NoError(t, err)
	b[len(b)-5] ^= 4
	require.NoError(t, os.WriteFile(weights, b, 0o644))
	r := euryale(t, "inspect", "r", "--check", "--json")
	require.Equal(t, 1, r.code)
	require.Contains(t, r.stderr, "step-00000012")
	require.Equal(t, 1, euryale(t, "eval", last).code)
	r = euryale(t, "resume", "r", "--json").ok(t)
	require.Contains(t, r.stderr, "step-00000012", "what was passed over is named")
	require.Equal(t, 9.0, r.events(t)[0]["step"], "from the checkpoint before")
	euryale(t, "inspect", "r", "--check").ok(t)
}

func TestDryRunWritesNothing(t *testing.T) {
	corpus := text(t)
	t.Chdir(t.TempDir())
	done := fit(t, "--data", corpus, "--dry-run").ok(t).last(t)
	for _, k := range []string{"parameters", "flops_per_step", "planned_peak_bytes", "holding"} {
		require.NotEmpty(t, done[k], k)
	}
	entries, err := os.ReadDir(".")
	require.NoError(t, err)
	require.Empty(t, entries)
}

func TestConfigFile(t *testing.T) {
	corpus := text(t)
	t.Chdir(t.TempDir())
	require.NoError(t, os.WriteFile("job.json", fmt.Appendf(nil, `{"model": {"model_type": "decoder", "vocab_size": 256, "hidden_size": 24,
		"intermediate_size": 40, "num_hidden_layers": 1, "num_attention_heads": 2, "max_position_embeddings": 32, "attention": [{"type": "full"}]},
		"train": {"steps": 2, "sequence_length": 17}, "data": {"path": %q}}`, corpus), 0o644))
	euryale(t, "fit", "--config", "job.json").ok(t)
	var j struct {
		Train struct {
			Steps int     `json:"steps"`
			LR    float64 `json:"lr"`
		} `json:"train"`
	}
	b, err := os.ReadFile("runs/job/config.json")
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(b, &j))
	require.Equal(t, 2, j.Train.Steps)
	require.Equal(t, 2e-3, j.Train.LR, "what the file leaves out has its default")
	euryale(t, "fit", "--config", "runs/job/config.json", "--name", "copy").ok(t)
	same(t, "runs/job/checkpoints/step-00000002", "runs/copy/checkpoints/step-00000002")
}

func TestDivergence(t *testing.T) {
	corpus := text(t)
	t.Chdir(t.TempDir())
	r := fit(t, "--data", corpus, "--run", "r", "--set", "train.lr=1e38", "--set", "train.grad_clip=0")
	require.Equal(t, 3, r.code, r.stderr)
	require.Contains(t, r.stderr, "diverged at step")
}

func TestPattern(t *testing.T) {
	t.Chdir(t.TempDir())
	e := euryale(t, "pattern", "causal(band(7,0))", "--length", "64", "--json").ok(t).events(t)
	require.ElementsMatch(t, []string{"length", "nodes", "nnz", "density", "min_row", "max_row", "max_path", "strongly_connected", "spectral_gap"}, keys(e[0]))
	require.Equal(t, 484.0, e[0]["nnz"])
	require.Equal(t, 9.0, e[0]["max_path"])
	require.Nil(t, euryale(t, "pattern", "blocks(8)", "--length", "64", "--json").ok(t).events(t)[0]["max_path"])
	for _, name := range []string{"p.png", "p.svg", "p.safetensors"} {
		euryale(t, "pattern", "heads(band(1,2); full)", "--length", "13", "--out", name).ok(t)
	}
	e = euryale(t, "pattern", "star", "--length", "64", "--json", "--out", "star.svg").ok(t).events(t)
	require.Equal(t, []any{64.0, 65.0, 321.0, true}, []any{e[0]["length"], e[0]["nodes"], e[0]["nnz"], e[0]["strongly_connected"]})
	require.Equal(t, 48.0, euryale(t, "pattern", "row(6,8) + column(6,8)", "--json").ok(t).events(t)[0]["length"])
	for args, want := range map[string]string{
		"row(6,8) --length 49":     "row(6,8) has 48 positions, the sequence 49; give a length of 1 to 48",
		"global(3,64) --length 64": "global(3,64): position 64 is past the end of 64; give -64 to 63",
		"global(-65) --length 64":  "position -65 is past the end of 64",
		"causal(star) --length 64": "star cannot be causal",
		"strided(0) --length 64":   "strided: stride is 0; the smallest is 1",
		"band(-1,0) --length 64":   "-1 is negative",
		"image1d(0,3) --length 64": "query block is 0",
		"bp-tree(0) --length 64":   "k is 0; the smallest is 1",
		"fixed(8,9) --length 64":   "summary columns are 9; give 1 to 8",
		"blocks(0) --length 64":    "block size is 0",
		"external(0) --length 64":  "number of nodes is 0",
		"row(2,2) --length 0":      "--length is 0: give 1 to 4194304",
	} {
		r := euryale(t, append([]string{"pattern"}, strings.Fields(args)...)...)
		require.Equal(t, 2, r.code, args)
		require.Contains(t, r.stderr, want)
	}
	s, err := checkpoints.OpenSafetensors("p.safetensors")
	require.NoError(t, err)
	info, _ := s.Info("mask")
	require.Equal(t, []int{2, 13, 13}, info.Shape)
	require.Equal(t, checkpoints.U8, info.Dtype)
	require.NoError(t, s.Close())
}

func TestBench(t *testing.T) {
	r := euryale(t, "bench", "--variant", "dense", "--length", "37", "--steps", "1", "--json", "--set", "model.num_hidden_layers=1", "--set", "model.hidden_size=32").ok(t)
	e := r.events(t)[0]
	require.ElementsMatch(t, []string{"variant", "impl", "T", "time_s_min", "time_s_med", "peak_mb", "tokens_per_s"}, keys(e))
	require.Equal(t, []any{"dense", "euryale", 37.0}, []any{e["variant"], e["impl"], e["T"]})
}

func TestDoctorAndOthers(t *testing.T) {
	done := euryale(t, "doctor", "--json").ok(t).last(t)
	require.NotEmpty(t, done["kernel_set"])
	require.Contains(t, euryale(t, "--version").ok(t).stdout, "euryale ")
	require.Contains(t, euryale(t, "completion", "bash").ok(t).stdout, "complete")
	help := euryale(t, "--help").ok(t).stdout
	for _, c := range []string{"fit", "resume", "eval", "generate", "bench", "pattern", "runs", "inspect", "verify", "predict", "doctor", "completion"} {
		require.Contains(t, help, "\n  "+c+" ")
	}
	t.Chdir(t.TempDir())
	require.Contains(t, euryale(t, "runs").ok(t).stdout, "no runs yet")
}

func TestDefaultJobEndsWithASample(t *testing.T) {
	corpus := text(t)
	t.Chdir(t.TempDir())
	var sets []string
	for i := 1; i < len(tiny); i += 2 {
		sets = append(sets, tiny[i])
	}
	var stdout, stderr bytes.Buffer
	a := &app{out: &output{stdout: &stdout, stderr: &stderr}}
	require.NoError(t, a.fit(t.Context(), fitFlags{jobFlags: jobFlags{data: corpus, sets: sets}, sample: true}))
	_, after, ok := strings.Cut(stdout.String(), "A sample")
	require.True(t, ok, stdout.String())
	sample, next, ok := strings.Cut(after, "Next:")
	require.True(t, ok)
	require.Greater(t, len(sample), 60)
	for _, c := range []string{"generate runs/lines", "resume runs/lines --steps 24", "fit --data my.txt"} {
		require.Contains(t, next, c)
	}
}
