package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestBadInput(t *testing.T) {
	corpus := text(t)
	dir := t.TempDir()
	t.Chdir(dir)
	write := func(name, content string) string {
		require.NoError(t, os.WriteFile(name, []byte(content), 0o644))
		return name
	}
	fit(t, "--data", corpus, "--run", "r", "--steps", "1").ok(t)
	before := tree(t, dir)
	bad := t.TempDir()
	file := func(name, content string) string { return write(filepath.Join(bad, name), content) }
	set := func(s string) []string {
		return append(append([]string{"fit", "--data", corpus}, tiny...), "--set", s)
	}
	for _, c := range []struct {
		args []string
		code int
		want []string
	}{
		{[]string{"fitt"}, 2, []string{"fitt", "did you mean fit"}},
		{[]string{"fit", "--stesp", "3"}, 2, []string{"--stesp", "--steps"}},
		{[]string{"fit", "--steps", "many"}, 2, []string{"--steps", "many"}},
		{[]string{"fit", "--steps", "-1"}, 2, []string{"--steps is -1"}},
		{[]string{"fit", "extra"}, 2, []string{"extra"}},
		{[]string{"resume"}, 2, []string{"resume wants a run folder"}},
		{[]string{"resume", "nowhere"}, 2, []string{"nowhere is not a run folder"}},
		{[]string{"eval", "nowhere"}, 1, []string{"nowhere", "no such folder"}},
		{[]string{"eval", "r", "--data", "nowhere.txt"}, 1, []string{"nowhere.txt", "no such file"}},
		{[]string{"inspect", "nowhere"}, 1, []string{"nowhere"}},
		{[]string{"verify", "r"}, 2, []string{"--reference"}},
		{[]string{"verify", "r", "--reference", "nowhere.safetensors"}, 1, []string{"nowhere.safetensors"}},
		{[]string{"predict", "r", "--input", corpus}, 2, []string{"--output"}},
		{[]string{"predict", "r", "--input", "nowhere.txt", "--output", "x.safetensors"}, 1, []string{"nowhere.txt"}},
		{[]string{"pattern", "causal(bnad(1,2))"}, 2, []string{"band", "column 8"}},
		{[]string{"pattern", "full", "--length", "0"}, 2, []string{"--length is 0"}},
		{[]string{"pattern", "full", "--length", "1000000000000"}, 2, []string{"--length is 1000000000000", "4194304"}},
		{[]string{"pattern", "full", "--length", "8", "--out", "x.gif"}, 2, []string{"x.gif", ".png"}},
		{[]string{"bench", "--variant", "bandd"}, 2, []string{"bandd", "dense"}},
		{[]string{"bench", "--length", "0"}, 2, []string{"--length is 0"}},
		{[]string{"fit", "--data", "nowhere.txt"}, 1, []string{"nowhere.txt"}},
		{[]string{"fit", "--data", file("empty.txt", "")}, 1, []string{"empty"}},
		{[]string{"fit", "--data", file("short.txt", "A short text.\n\nWith two paragraphs of some words each, and a third.\n\nHere it is.\n")}, 1, []string{"short.txt", "sequence_length"}},
		{[]string{"fit", "--data", file("binary.txt", "a\x00b")}, 1, []string{"binary"}},
		{[]string{"fit", "--data", file("torn.jsonl", "{\"text\":\"a\"}\n{\"te")}, 1, []string{"torn.jsonl:2"}},
		{[]string{"fit", "--data", "task:nedle"}, 2, []string{"task:nedle", `"needle"`}},
		{set("train.learning_rate=1"), 2, []string{"train.learning_rate", "unknown key"}},
		{set("train.step=1"), 2, []string{`"train.steps"`}},
		{set("train.lr=fast"), 2, []string{"train.lr", `"fast"`}},
		{set("train.lr"), 2, []string{"path=value"}},
		{set("model.hiden_size=8"), 2, []string{"model.hiden_size", "hidden_size"}},
		{set("model.num_attention_heads=5"), 2, []string{"model.num_attention_heads"}},
		{set(`model.attention=[{"type":"band","window_left":-1}]`), 2, []string{"window_left", "-1"}},
		{set(`model.attention=[{"type":"pattern","pattern":"band(3,0) + global(99999)"}]`), 2, []string{"model.attention[0]", "position 99999 is past the end of", "max_position_embeddings"}},
		{set(`model.attention=[{"type":"sparse_strided","stride":0},{"type":"bp","k":0,"clip":1},{"type":"blocks","block_size":0}]`), 2, []string{"3 faults", "attention[0].stride is 0", "attention[1].k is 0", "attention[2].block_size is 0"}},
		{set("model.model_type=encoder"), 2, []string{"model.vocab_size is 256: want at least the tokenizer's 262"}}, // nothing of the default decoder is in the way
		{append(set("model.model_type=encoder"), "--dry-run"), 2, []string{"want at least the tokenizer's 262"}},
		{set("model.model_type=decodr"), 2, []string{"decodr", "decoder"}},
		{set("train.sequence_length=99"), 2, []string{"train.sequence_length", "64"}},
		{set("data.tokenizer=bpe"), 2, []string{"bpe", "bytes"}},
		{[]string{"fit", "--config", file("torn.json", "{\"train\": {\"lr\": 1e-3,\n  \"steps\"")}, 2, []string{"torn.json", "line 2"}},
		{[]string{"fit", "--config", file("many.json", `{"train": {"lr": "x", "stpes": 3, "seed": -1}, "modle": {}}`)}, 2, []string{"4 faults", "train.lr", "train.stpes", "train.seed", "modle"}},
		{[]string{"fit", "--config", file("two.json", `{"train": {"lr": -1, "batch_size": 0}}`)}, 2, []string{"train.lr", "train.batch_size"}},
		{[]string{"fit", "--config", "nowhere.json"}, 2, []string{"nowhere.json", "check the path"}},
		{[]string{"fit", "--from", "nowhere"}, 1, []string{"nowhere"}},
		{[]string{"fit", "--run", "a", "--name", "b"}, 2, []string{"--run", "--name"}},
		{[]string{"fit", "--name", "../b"}, 2, []string{"--name is ../b", "--run"}},
		{[]string{"fit", "--data", ""}, 2, []string{"--data is empty"}},
		{[]string{"resume", "r/checkpoints/step-00000001"}, 2, []string{"is a checkpoint", "run folder, r"}},
		{[]string{"generate", "r", "--count", "3"}, 2, []string{"--count is for models of images"}},
		{[]string{"generate", "r", "--beams", "99999"}, 2, []string{"--beams is 99999", "1024"}},
		{[]string{"fit", "--config", file("utf16.json", "\xff\xfe{\x00}\x00")}, 2, []string{"utf16.json", "UTF-16"}},
	} {
		name := strings.Join(c.args, " ")
		r := euryale(t, c.args...)
		require.Equal(t, c.code, r.code, "%s: %s", name, r.stderr)
		for _, w := range c.want {
			require.Contains(t, r.stderr, w, name)
		}
		require.True(t, strings.HasPrefix(r.stderr, "error: "), name)
		if !strings.Contains(r.stderr, " faults\n") {
			require.Equal(t, 1, strings.Count(r.stderr, "\n"), "%s: one line: %s", name, r.stderr)
		}
		require.Empty(t, r.stdout, name)
	}
	require.Equal(t, before, tree(t, dir), "nothing was written")
}

// tree lists all files below a folder with their sizes.
func tree(t *testing.T, dir string) map[string]int64 {
	t.Helper()
	all := map[string]int64{}
	require.NoError(t, filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err == nil && info.Mode().IsRegular() {
			all[path] = info.Size()
		}
		return err
	}))
	return all
}

func TestResumeWithAChangedModel(t *testing.T) {
	corpus := text(t)
	t.Chdir(t.TempDir())
	fit(t, "--data", corpus, "--run", "r", "--steps", "1").ok(t)
	config := filepath.Join("r", "config.json")
	b, err := os.ReadFile(config)
	require.NoError(t, err)
	changed := strings.Replace(string(b), `"window_left": 6`, `"window_left": 5`, 1)
	require.NotEqual(t, string(b), changed)
	require.NoError(t, os.WriteFile(config, []byte(changed), 0o644))
	before := tree(t, ".")
	r := euryale(t, "resume", "r")
	require.Equal(t, 2, r.code)
	require.Contains(t, r.stderr, "the model in config.json is not that of the checkpoint")
	require.Equal(t, 1, strings.Count(r.stderr, "\n"))
	require.Equal(t, before, tree(t, "."))

	require.NoError(t, os.WriteFile(config, b, 0o644))
	require.NoError(t, os.WriteFile(corpus, []byte(strings.Repeat("Another text.\n\n", 200)), 0o644))
	r = euryale(t, "resume", "r")
	require.Equal(t, 2, r.code)
	require.Contains(t, r.stderr, "are not those that the run has read")
}

// A model without finite weights says so, and writes nothing.
func TestGenerateWithoutNumbers(t *testing.T) {
	corpus := text(t)
	t.Chdir(t.TempDir())
	fit(t, "--data", corpus, "--run", "r", "--steps", "1").ok(t)
	euryale(t, "export", "r", "m").ok(t)
	weights := filepath.Join("m", "model.safetensors")
	b, err := os.ReadFile(weights)
	require.NoError(t, err)
	for i := len(b) - 4000; i < len(b); i++ {
		b[i] = 0xff
	}
	require.NoError(t, os.WriteFile(weights, b, 0o600))
	for _, beams := range []string{"1", "3"} {
		r := euryale(t, "generate", "m", "--json", "--max-new-tokens", "3", "--beams", beams)
		require.Equal(t, 1, r.code, r.stderr)
		require.Contains(t, r.stderr, "no number")
		require.NotContains(t, r.stdout, `"done"`)
	}
}

// fullDisk is a writer that takes nothing.
type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, errors.New("no space left on device") }

// Results that could not be written are no success.
func TestFullStandardOutput(t *testing.T) {
	for _, args := range [][]string{{"recipes"}, {"recipes", "--json"}, {"pattern", "full", "--length", "7"}} {
		var stderr strings.Builder
		require.Equal(t, 1, execute(t.Context(), args, strings.NewReader(""), fullDisk{}, &stderr), args)
		require.Contains(t, stderr.String(), "standard output: cannot be written (no space left on device)")
	}
}
