package main

import (
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestTasks takes every synthetic task through fit, a stop, resume and eval, and refuses what does not go together.
func TestTasks(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, c := range []struct {
		spec    string
		length  int
		answers int
		depth   bool
	}{
		{"needle(length=29,val=7,test=11)", 29, 1, true},
		{"copy(gap=5,count=6,val=7,test=11)", 17, 6, false},
		{"reverse(gap=5,count=6,val=7,test=11)", 17, 6, false},
		{"duplicate(length=22,val=7,test=11)", 22, 10, false},
		{"mqar(length=23,pairs=5,val=7,test=11)", 23, 5, false},
		{"twin(length=34,val=7,test=11)", 34, 17, false},
		{"passkey(length=131,min_length=113,val=7,test=11)", 131, 5, true},
		{"sections(sections=5,fill=3,val=7,test=11)", 26, 1, true},
		{"types(types=5,each=2,fill=3,queries=4,val=7,test=11)", 17, 4, false},
	} {
		t.Run(c.spec, func(t *testing.T) {
			args := []string{"--data", "task:" + c.spec, "--set", "train.sequence_length=" + strconv.Itoa(c.length), "--set", "model.max_position_embeddings=256",
				"--set", "train.steps=4", "--set", "train.eval_every=0"}
			whole := fit(t, append(args, "--run", filepath.Join(c.spec, "whole"))...).ok(t).last(t)
			require.Contains(t, whole, "test_accuracy")
			half := filepath.Join(c.spec, "half")
			fit(t, append(args, "--run", half, "--steps", "2")...).ok(t)
			resumed := euryale(t, "resume", half, "--json").ok(t).last(t)
			require.Equal(t, whole["val_loss"], resumed["val_loss"])
			same(t, whole["checkpoint"].(string), resumed["checkpoint"].(string))

			r := euryale(t, "eval", half, "--json").ok(t)
			done := r.last(t)
			require.Equal(t, "test", done["split"])
			require.EqualValues(t, 11*c.answers, done["tokens"])
			require.Equal(t, whole["test_bpb"], done["bits_per_byte"])
			require.Contains(t, done, "exact_match")
			require.Contains(t, r.stderr, "exact match")
			if c.depth {
				n := 0.0
				for _, d := range done["by_depth"].([]any) {
					n += d.(map[string]any)["examples"].(float64)
				}
				require.EqualValues(t, 11, n)
			} else {
				require.NotContains(t, done, "by_depth")
			}
			again := euryale(t, "eval", half, "--json", "--data", "task:"+c.spec).ok(t).last(t)
			require.Equal(t, done["loss"], again["loss"], "the test part")
			r = euryale(t, "eval", half, "--json", "--data", "task:needle")
			require.Equal(t, 2, r.code)
			require.Contains(t, r.stderr, "train.sequence_length=256")
		})
	}
	for _, bad := range []struct {
		args []string
		want string
	}{
		{[]string{"--data", "task:needle"}, "train.sequence_length=256"},
		{[]string{"--data", "task:needle(lenght=19)"}, `"length"`},
		{[]string{"--data", "task:needle(length=19)", "--set", "model.vocab_size=96"}, "97"},
		{[]string{"--data", "task:needle(length=19)", "--set", "data.path=a.txt"}, "data.path"},
	} {
		r := fit(t, bad.args...)
		require.Equal(t, 2, r.code, r.stderr)
		require.Contains(t, r.stderr, bad.want)
	}
	r := fit(t, "--data", "task:needle(length=19)", "--steps", "1").ok(t)
	require.Contains(t, r.last(t)["checkpoint"], filepath.Join("runs", "task-needle", "checkpoints"))
	r = euryale(t, "eval", "runs/task-needle", "--data", "task:twin(length=38)", "--set", "train.sequence_length=38").ok(t)
	require.Contains(t, r.stdout+r.stderr, "task:twin(length=38)")
	require.Contains(t, euryale(t, "generate", "runs/task-needle", "--prompt", "n3 v1 Q", "--max-new-tokens", "2").ok(t).stdout, "n3 v1 Q")
	r = euryale(t, "generate", "runs/task-needle", "--prompt", "hello")
	require.Equal(t, 2, r.code)
	require.Contains(t, r.stderr, `"n0 "`)
	r = euryale(t, "predict", "runs/task-needle", "--input", "a.txt", "--output", "o.safetensors")
	require.Equal(t, 1, r.code)
	require.Contains(t, r.stderr, "a.txt: no such file")
	small := fit(t, "--data", "task:needle(length=19)", "--set", "model.vocab_size=97", "--run", "small", "--steps", "1").ok(t).last(t)
	r = euryale(t, "eval", small["checkpoint"].(string), "--data", "task:twin(length=38)", "--set", "train.sequence_length=38")
	require.Equal(t, 2, r.code)
	require.Contains(t, r.stderr, "256")
}
