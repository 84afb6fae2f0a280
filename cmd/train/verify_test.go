package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/euryale-ml/euryale/checkpoints"
	"github.com/euryale-ml/euryale/internal/testkit/golden"
)

// goldenFile is a file of the copy of the golden cases in the repository.
func goldenFile(t *testing.T, parts ...string) string {
	path, err := filepath.Abs(filepath.Join(append([]string{"..", "..", "testdata", "golden"}, parts...)...))
	require.NoError(t, err)
	return path
}

// rewritten writes the tensors of a file into another, changed; with a nil Data they are left out.
func rewritten(t *testing.T, from, to string, change func(x *checkpoints.Tensor)) {
	s, err := checkpoints.OpenSafetensors(from)
	require.NoError(t, err)
	var all []checkpoints.Tensor
	for _, name := range s.Names() {
		info, _ := s.Info(name)
		x := checkpoints.Tensor{Name: name, Shape: info.Shape}
		if info.Dtype.IsFloat() {
			x.Data, err = s.Float64s(name)
		} else {
			x.Data, err = s.Int64s(name)
		}
		require.NoError(t, err)
		if change(&x); x.Data != nil {
			all = append(all, x)
		}
	}
	require.NoError(t, s.Close())
	f, err := os.Create(to)
	require.NoError(t, err)
	require.NoError(t, checkpoints.WriteSafetensors(f, all))
	require.NoError(t, f.Close())
}

func TestVerifyReference(t *testing.T) {
	for _, c := range [][2]string{{"gpt2", "gpt2/lm"}, {"gpt-neo", "gpt_neo/global_local"}} {
		model, reference := goldenFile(t, "hf", c[0]), goldenFile(t, c[1]+".safetensors")
		single := euryale(t, "verify", model, "--reference", reference, "--json").ok(t)
		double := euryale(t, "verify", model, "--reference", reference, "--json", "--float64").ok(t)
		lines := map[string]float64{}
		for _, e := range single.events(t)[:len(single.events(t))-1] {
			require.ElementsMatch(t, []string{"name", "max_abs", "max_rel", "ok"}, keys(e))
			require.Equal(t, true, e["ok"])
			lines[e["name"].(string)] = e["max_abs"].(float64)
		}
		for _, name := range []string{"out64/logits", "out64/loss", "out/hidden_states.0", "grad/transformer.wte.weight", "grad/transformer.h.1.ln_2.bias"} {
			require.Contains(t, lines, name)
		}
		require.Greater(t, lines["out64/logits"], 1e-9)
		for _, e := range double.events(t) {
			if e["name"] == "out64/logits" {
				require.Less(t, e["max_abs"], 1e-9)
			}
		}
		done := single.last(t)
		require.Equal(t, true, done["ok"])
		require.Equal(t, lines[done["tensor"].(string)], done["worst"])
		for _, x := range lines {
			require.LessOrEqual(t, x, done["worst"])
		}
		table := euryale(t, "verify", model, "--reference", reference).ok(t).stdout
		require.Contains(t, table, "max_abs")
		require.Contains(t, table, "tensors are as in")
	}
}

func TestVerifyFinds(t *testing.T) {
	model, reference := goldenFile(t, "hf", "gpt2"), goldenFile(t, "gpt2", "lm.safetensors")
	t.Chdir(t.TempDir())
	verify := func(change func(x *checkpoints.Tensor), args ...string) result {
		rewritten(t, reference, "ref.safetensors", change)
		return euryale(t, append([]string{"verify", model, "--reference", "ref.safetensors", "--json"}, args...)...)
	}
	// No description: the default tolerances hold.
	verify(func(*checkpoints.Tensor) {}).ok(t)
	// One gradient is off.
	r := verify(func(x *checkpoints.Tensor) {
		if x.Name == "grad/transformer.h.0.attn.c_attn.bias" {
			x.Data.([]float64)[7] += 0.01
		}
	})
	require.Equal(t, 1, r.code)
	require.Equal(t, 1, strings.Count(r.stdout, `"ok":false}`))
	require.Contains(t, r.stderr, "FAILS at [7]")
	require.Contains(t, r.stderr, "1 of 33 tensors")
	// The description's tolerance counts.
	require.NoError(t, os.WriteFile("ref.json", []byte(`{"tolerance":{"f32_grad_abs":0.02,"f32_grad_rel":0}}`), 0o666))
	euryale(t, "verify", model, "--reference", "ref.safetensors").ok(t)
	require.Equal(t, 1, euryale(t, "verify", model, "--reference", "ref.safetensors", "--float64").code)
	require.NoError(t, os.Remove("ref.json"))

	renamed := func(from, to string) func(x *checkpoints.Tensor) {
		return func(x *checkpoints.Tensor) {
			if x.Name == from {
				x.Name = to
			}
		}
	}
	for _, c := range []struct {
		from, to string
		want     []string
	}{
		{"out/logits", "rand/logits", []string{"cannot compare rand/logits", "out64/*"}},
		{"in/labels", "in/positions", []string{"in/positions", "in/input_ids", "labels"}},
		{"in/input_ids", "in/ids", []string{"no in/input_ids", "in/ids, in/labels"}},
		{"in/labels", "in/loss_weight.pooled", []string{"in/loss_weight.pooled", "logits (2, 30, 40)"}},
		{"grad/transformer.wpe.weight", "grad/wpf.weight", []string{"grad/wpf.weight", "no such weight", "transformer.wpe.weight"}},
		{"out/hidden_states.1", "out/attentions.1", []string{"out/attentions.1", "no such output", "hidden_states.2"}},
		{"grad/transformer.ln_f.bias", "param/transformer.ln_f.bias", []string{"param/transformer.ln_f.bias", "FAILS"}},
	} {
		r := verify(renamed(c.from, c.to))
		require.Equal(t, 1, r.code, "%v", c)
		for _, w := range c.want {
			require.Contains(t, r.stderr, w, "%v", c)
		}
	}
	r = verify(func(x *checkpoints.Tensor) {
		if x.Name == "in/input_ids" {
			x.Data.([]int64)[31] = 40
		}
	})
	require.Equal(t, 1, r.code)
	require.Contains(t, r.stderr, "in/input_ids[1][1] is 40; the model has ids 0 to 39")

	// A head that is not there.
	text, err := os.ReadFile(filepath.Join(model, "config.json"))
	require.NoError(t, err)
	weights, err := os.ReadFile(filepath.Join(model, "model.safetensors"))
	require.NoError(t, err)
	var config map[string]any
	require.NoError(t, json.Unmarshal(text, &config))
	config["architectures"], config["resid_pdrop"], config["embd_pdrop"] = []string{"GPT2DoubleHeadsModel"}, 0.5, 0.5
	require.NoError(t, os.Mkdir("m", 0o777))
	require.NoError(t, os.WriteFile("m/model.safetensors", weights, 0o666))
	write := func() {
		text, err := json.Marshal(config)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile("m/config.json", text, 0o666))
	}
	write()
	r = euryale(t, "verify", "m", "--reference", reference)
	require.Equal(t, 2, r.code)
	require.Contains(t, r.stderr, "GPT2DoubleHeadsModel")
	// Dropout of the config does not matter.
	config["architectures"] = []string{"GPT2LMHeadModel"}
	write()
	euryale(t, "verify", "m", "--reference", reference).ok(t)
}

func TestPredictReference(t *testing.T) {
	model, reference, other := goldenFile(t, "hf", "gpt-neo"), goldenFile(t, "gpt_neo", "global_local.safetensors"), goldenFile(t, "blocks", "rope.safetensors")
	t.Chdir(t.TempDir())
	r := euryale(t, "predict", model, "--input", reference, "--output", "p.safetensors", "--hidden-states", "--json").ok(t)
	require.Equal(t, "p.safetensors", r.last(t)["output"])
	got, err := golden.OpenReference("p.safetensors")
	require.NoError(t, err)
	require.Equal(t, []string{"hidden_states.0", "hidden_states.1", "hidden_states.2", "logits", "loss"}, got.Names("out/"))
	want, err := golden.OpenReference(reference)
	require.NoError(t, err)
	for _, name := range got.Names("out/") {
		require.Equal(t, want.Out(name).Shape, got.Out(name).Shape)
		require.True(t, want.CompareOut(name, got.Out(name).F, golden.Float32).OK, name)
	}
	require.Equal(t, want.In("labels").I, got.In("labels").I)
	euryale(t, "verify", model, "--reference", "p.safetensors").ok(t)

	r = euryale(t, "predict", model, "--input", other, "--output", "x.safetensors")
	require.Equal(t, 1, r.code)
	require.Contains(t, r.stderr, "no in/input_ids; there are in/loss_weight.half_split")
	require.NoFileExists(t, "x.safetensors")
	require.NoError(t, os.WriteFile("t.txt", []byte("some text"), 0o666))
	r = euryale(t, "predict", model, "--input", "t.txt", "--output", "x.safetensors")
	require.Equal(t, 1, r.code)
	require.Contains(t, r.stderr, "tokenizer")
}

// A text that is longer than the model has positions is cut into windows; the last one is padded.
func TestPredictWindows(t *testing.T) {
	corpus := text(t)
	t.Chdir(t.TempDir())
	fit(t, "--data", corpus, "--run", "r").ok(t)
	require.NoError(t, os.WriteFile("t.txt", []byte(strings.Repeat("Line of words. ", 11)), 0o666)) // 165 bytes, 64 positions
	euryale(t, "predict", "r", "--input", "t.txt", "--output", "p.safetensors").ok(t)
	p, err := golden.OpenReference("p.safetensors")
	require.NoError(t, err)
	require.Equal(t, []int{3, 64, 256}, p.Out("logits").Shape)
	mask := p.In("attention_mask").I
	require.Equal(t, []int64{1, 0}, []int64{mask[2*64+36], mask[2*64+37]})
	require.Equal(t, int64('i'), p.In("input_ids").I[1])
	require.NotContains(t, p.Names("out/"), "hidden_states.0")
	euryale(t, "verify", "r", "--reference", "p.safetensors").ok(t)
}
