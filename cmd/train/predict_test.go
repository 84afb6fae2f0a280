package main

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/euryale-ml/euryale/checkpoints"
)

// shapes are the tensors of a file.
func shapes(t *testing.T, path string) map[string][]int {
	t.Helper()
	s, err := checkpoints.OpenSafetensors(path)
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	all := map[string][]int{}
	for _, name := range s.Names() {
		info, _ := s.Info(name)
		all[name] = info.Shape
	}
	return all
}

// TestPredictPairs: an encoder-decoder reads sources, and targets where there are any; what predict wrote is an input that gives the same.
func TestPredictPairs(t *testing.T) {
	t.Chdir(t.TempDir())
	var lines strings.Builder
	for i := range 60 {
		fmt.Fprintf(&lines, "{\"text\":\"line %d\",\"target\":\"%d enil\"}\n", i, i)
	}
	require.NoError(t, os.WriteFile("pairs.jsonl", []byte(lines.String()), 0o644))
	half := `{"num_hidden_layers":1,"num_attention_heads":2,"max_position_embeddings":32}`
	euryale(t, "fit", "--data", "pairs.jsonl", "--run", "r", "--set", "model="+`{"model_type":"encoder_decoder","vocab_size":262,"hidden_size":16,"decoder_start_token_id":260,
		"pad_token_id":256,"eos_token_id":261,"encoder":`+half+`,"decoder":`+half+`}`,
		"--set", "train.steps=2", "--set", "train.sequence_length=20", "--set", "train.warmup_steps=1").ok(t)
	require.NoError(t, os.WriteFile("sources.jsonl", []byte("{\"text\":\"line 5\"}\n{\"text\":\"line\"}\n{\"text\":\"lin\"}\n"), 0o644))

	euryale(t, "predict", "r", "--input", "sources.jsonl", "--output", "s.safetensors").ok(t)
	require.Equal(t, map[string][]int{"in/input_ids": {3, 7}, "in/attention_mask": {3, 7}, "in/decoder_input_ids": {3, 1}, "out/logits": {3, 1, 262}}, shapes(t, "s.safetensors"))
	require.NoError(t, os.WriteFile("two.jsonl", []byte("{\"text\":\"line 5\",\"target\":\"5 en\"}\n{\"text\":\"a longer line than there is room for\",\"target\":\"x\"}\n"), 0o644))
	euryale(t, "predict", "r", "--input", "two.jsonl", "--output", "p.safetensors").ok(t)
	require.Equal(t, map[string][]int{"in/input_ids": {2, 20}, "in/attention_mask": {2, 20}, "in/decoder_input_ids": {2, 5}, "out/logits": {2, 5, 262}}, shapes(t, "p.safetensors"))
	euryale(t, "predict", "r", "--input", "p.safetensors", "--output", "q.safetensors").ok(t)
	a, err := os.ReadFile("p.safetensors")
	require.NoError(t, err)
	b, err := os.ReadFile("q.safetensors")
	require.NoError(t, err)
	require.Equal(t, a, b)
	require.NotZero(t, euryale(t, "eval", "r", "--data", "sources.jsonl").code, "pairs without targets have no loss")
}

// TestPredictWords: a model of a task reads lines in the words of the task.
func TestPredictWords(t *testing.T) {
	t.Chdir(t.TempDir())
	euryale(t, "fit", "--recipe", "topk-recall", "--smoke", "--run", "r").ok(t)
	require.NoError(t, os.WriteFile("w.txt", []byte("k0 v5 k1 v3 _ k0\n\nk7 v2 k3\n"), 0o644))
	euryale(t, "predict", "r", "--input", "w.txt", "--output", "w.safetensors").ok(t)
	require.Equal(t, map[string][]int{"in/input_ids": {2, 6}, "in/attention_mask": {2, 6}, "out/logits": {2, 6, 65}}, shapes(t, "w.safetensors"))
	r := euryale(t, "pattern", "--model", "r", "--input", "w.txt").ok(t)
	require.Contains(t, r.stdout, "length        6 (6 nodes)")
	for text, want := range map[string][]string{"k0 v5 zebra": {`"zebra" is no word of task:mqar`, `such as "k0"`}, strings.Repeat("k0 ", 3000): {"3000 words", "positions"}, "\n": {"no text"}} {
		require.NoError(t, os.WriteFile("bad.txt", []byte(text), 0o644))
		r := euryale(t, "predict", "r", "--input", "bad.txt", "--output", "b.safetensors")
		require.NotZero(t, r.code)
		for _, w := range want {
			require.Contains(t, r.stderr, w)
		}
	}
	r = euryale(t, "predict", "r", "--input", "w.jsonl", "--output", "b.safetensors")
	require.Equal(t, 2, r.code)
	require.Contains(t, r.stderr, "in/input_ids")
}
