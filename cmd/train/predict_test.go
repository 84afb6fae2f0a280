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
