package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestStream: a run on files that are read while it trains stops and goes on as one that did not: metrics, weights, scores.
func TestStream(t *testing.T) {
	t.Chdir(t.TempDir())
	for i := range 3 {
		var lines strings.Builder
		for k := range 30 {
			fmt.Fprintf(&lines, "{\"body\":\"Line %d of the file %d, %s\"}\n", k, i, strings.Repeat("on and on ", k%7))
		}
		require.NoError(t, os.MkdirAll("shards", 0o777))
		require.NoError(t, os.WriteFile(fmt.Sprintf("shards/%d.jsonl", i), []byte(lines.String()), 0o644))
	}
	stream := []string{"--data", "shards", "--set", "data.streaming=true", "--set", "data.text_field=body", "--set", "data.shuffle_buffer=11", "--set", "data.held_out=6",
		"--set", "data.tokenizer=bpe:280", "--set", "model.vocab_size=280", "--set", "train.steps=60"}
	r := fit(t, append(stream, "--run", "whole")...).ok(t)
	require.Contains(t, r.stderr, "a stream of 3 files with 0.0 MB to train on")
	done := r.last(t)

	fit(t, append(stream, "--run", "parts", "--steps", "7")...).ok(t)
	euryale(t, "resume", "parts", "--steps", "29").ok(t)
	again := euryale(t, "resume", "parts", "--json").ok(t).last(t)
	for _, key := range []string{"val_loss", "val_bpb", "test_loss", "test_bpb"} {
		require.Equal(t, done[key], again[key], key)
	}
	same(t, filepath.Join("whole", "checkpoints", "step-00000060"), filepath.Join("parts", "checkpoints", "step-00000060"))
	losses := func(dir string) (all []string) {
		text, err := os.ReadFile(filepath.Join(dir, "metrics.jsonl"))
		require.NoError(t, err)
		for line := range strings.Lines(string(text)) {
			if step, _, ok := strings.Cut(line, `,"tokens_per_s"`); ok {
				all = append(all, step)
			}
		}
		return all
	}
	require.Len(t, losses("whole"), 60)
	require.Equal(t, losses("whole"), losses("parts"))

	require.Equal(t, done["test_loss"], euryale(t, "eval", "parts", "--json").ok(t).last(t)["loss"])
	require.Equal(t, "val", euryale(t, "eval", "parts", "--data", "val", "--json").ok(t).last(t)["split"])
	euryale(t, "eval", "parts", "--data", "shards/1.jsonl", "--json").ok(t)
	euryale(t, "inspect", "parts", "--check").ok(t)
	e := euryale(t, "eval", "parts", "--data", "train")
	require.Equal(t, 1, e.code)
	require.Contains(t, e.stderr, "the train part is a stream")

	plan := fit(t, append(stream, "--dry-run")...).ok(t).last(t)
	require.Positive(t, plan["train_bytes"])
	require.NotContains(t, euryale(t, append(append([]string{"fit", "--dry-run"}, tiny...), stream...)...).ok(t).stdout, "times the train part")

	f, err := os.OpenFile("shards/2.jsonl", os.O_APPEND|os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = f.WriteString("{\"body\":\"one more\"}\n")
	require.NoError(t, err)
	require.NoError(t, f.Close())
	r = euryale(t, "resume", "parts", "--steps", "61")
	require.Equal(t, 1, r.code)
	require.Contains(t, r.stderr, filepath.Join("shards", "2.jsonl")+": the file has")

	r = fit(t, append(stream, "--set", "data.shuffle_buffer=-1", "--set", "data.objective=seq2seq_lm", "--run", "bad")...)
	require.Equal(t, 2, r.code)
	require.Contains(t, r.stderr, "data.shuffle_buffer")
	require.Contains(t, r.stderr, "data.streaming")
	require.NoDirExists(t, "bad")
}
