package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestPairs walks an encoder-decoder through the commands.
func TestPairs(t *testing.T) {
	t.Chdir(t.TempDir())
	var lines strings.Builder
	for i := range 200 {
		fmt.Fprintf(&lines, `{"text":"%d and %d","target":"%d, %d"}`+"\n", i, i*7%40, i*7%40, i)
	}
	require.NoError(t, os.WriteFile("pairs.jsonl", []byte(lines.String()), 0o644))
	require.NoError(t, os.WriteFile("pairs.json", []byte(`{"model":{"model_type":"encoder_decoder","vocab_size":262,"hidden_size":24,
		"decoder_start_token_id":260,"pad_token_id":256,"eos_token_id":261,
		"encoder":{"num_hidden_layers":1,"num_attention_heads":3,"intermediate_size":40,"max_position_embeddings":32},
		"decoder":{"num_hidden_layers":2,"num_attention_heads":2,"intermediate_size":32,"max_position_embeddings":24,
			"cross_attention":[{"type":"full"},{"type":"band","window_left":5}]}},
		"train":{"steps":6,"batch_size":4,"sequence_length":16,"warmup_steps":2,"eval_every":3,"save_every":3},
		"data":{"path":"pairs.jsonl","target_length":12}}`), 0o644))
	done := euryale(t, "fit", "--config", "pairs.json", "--run", "a", "--json").ok(t).last(t)
	require.Equal(t, 6.0, done["steps"])
	euryale(t, "fit", "--config", "pairs.json", "--run", "b", "--steps", "3").ok(t)
	euryale(t, "resume", "b").ok(t)
	require.Equal(t, weightsOf(t, "a"), weightsOf(t, "b"))

	score := euryale(t, "eval", "a", "--texts", "5", "--json").ok(t).last(t)
	require.Equal(t, 5.0, score["texts"])
	require.Contains(t, score, "chrf")
	require.Greater(t, score["chrf_copy"], 10.0, "the source has the same numbers")
	require.NotContains(t, euryale(t, "eval", "a", "--texts", "0", "--json").ok(t).last(t), "chrf")
	require.Contains(t, euryale(t, "eval", "a", "--texts", "3").ok(t).stdout, "chrF2")
	require.Equal(t, 2, euryale(t, "eval", "a", "--texts", "-1").code)

	greedy := euryale(t, "generate", "a", "--prompt", "3 and 4", "--json").ok(t).last(t)
	require.Equal(t, greedy["text"], euryale(t, "generate", "a", "--prompt", "3 and 4", "--temperature", "0", "--json").ok(t).last(t)["text"])
	require.LessOrEqual(t, greedy["tokens"], 24.0, "as many as the decoder has positions")
	one := euryale(t, "generate", "a", "--prompt", "3 and 4", "--beams", "1", "--json").ok(t).last(t)
	require.Equal(t, greedy["text"], one["text"])
	require.NotContains(t, one, "score")
	beams := euryale(t, "generate", "a", "--prompt", "3 and 4", "--beams", "3", "--max-new-tokens", "5", "--json").ok(t).last(t)
	require.Contains(t, beams, "score")
	require.LessOrEqual(t, beams["tokens"], 5.0)
	require.NotContains(t, euryale(t, "generate", "a", "--prompt", "3 and 4").ok(t).stdout, "3 and 4", "a source is not part of the text")
	for want, args := range map[string][]string{
		"beams is -1":            {"--beams", "-1"},
		"exclude each other":     {"--beams", "2", "--top-k", "3"},
		"length-penalty is +Inf": {"--length-penalty", "Inf"},
	} {
		r := euryale(t, append([]string{"generate", "a"}, args...)...)
		require.Equal(t, 2, r.code)
		require.Contains(t, r.stderr, want)
	}
	long := euryale(t, "generate", "a", "--prompt", strings.Repeat("x", 40))
	require.NotZero(t, long.code)
	require.Contains(t, long.stderr, "max_position_embeddings is 32")
}

// weightsOf are the bytes of the weights after the last step.
func weightsOf(t *testing.T, run string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(run, "checkpoints", "step-00000006", "model.safetensors"))
	require.NoError(t, err)
	return string(b)
}
