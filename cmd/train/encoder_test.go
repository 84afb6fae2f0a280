package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/euryale-ml/euryale/internal/testkit/golden"
)

// TestEncoder: hidden tokens are learned, the run stops and goes on to the same bits, and its weights learn classes under another head.
func TestEncoder(t *testing.T) {
	dir := t.TempDir()
	masked := append([]string{"fit", "--data", text(t), "--json", "--set", "model.model_type=encoder", "--set", "model.task=masked_lm", "--set", "model.vocab_size=262"}, tiny...)
	masked = append(masked, "--set", `model.attention=[{"type":"pattern","pattern":"external(2) + band(3,3)"}]`)
	whole, parts := filepath.Join(dir, "whole"), filepath.Join(dir, "parts")
	last := euryale(t, append(masked, "--run", whole)...).ok(t).last(t)
	require.Contains(t, keys(last), "val_loss")
	euryale(t, append(masked, "--run", parts, "--steps", "5")...).ok(t)
	euryale(t, "resume", parts).ok(t)
	same(t, filepath.Join(whole, "checkpoints", "step-00000012"), filepath.Join(parts, "checkpoints", "step-00000012"))
	require.Contains(t, euryale(t, "inspect", whole).ok(t).stdout, "encoder for masked_lm")
	r := euryale(t, "generate", whole)
	require.NotZero(t, r.code)
	require.Contains(t, r.stderr, "does not write text")

	var lines strings.Builder
	for i := range 120 {
		fmt.Fprintf(&lines, `{"text":"line %d is %s","kind":%q}`+"\n", i, []string{"even", "odd"}[i%2], []string{"e", "o"}[i%2])
	}
	classes := filepath.Join(dir, "classes.jsonl")
	require.NoError(t, os.WriteFile(classes, []byte(lines.String()), 0o644))
	tuned := filepath.Join(dir, "tuned")
	r = euryale(t, "fit", "--from", whole, "--data", classes, "--run", tuned, "--set", "data.label_field=kind", "--set", "model.task=sequence_classification",
		"--set", "model.num_labels=2", "--set", "model.pooling=mean", "--set", "train.steps=4", "--set", "train.sequence_length=23", "--set", "train.batch_size=3").ok(t)
	require.Contains(t, r.stderr, "a head of its own, with initial values: head.out.weight, head.out.bias")
	require.Contains(t, r.stderr, "not read, of another head: head.bias, head.dense.bias")
	require.Contains(t, keys(euryale(t, "eval", tuned, "--json").ok(t).last(t)), "accuracy")

	texts, out := filepath.Join(dir, "texts.jsonl"), filepath.Join(dir, "out.safetensors")
	require.NoError(t, os.WriteFile(texts, []byte(`{"text":"line 3 is odd"}`+"\n"+`{"text":"line 4, which is longer than any before, is even"}`+"\n"), 0o644))
	r = euryale(t, "predict", tuned, "--input", texts, "--output", out).ok(t)
	require.Regexp(t, `out/logits +\[2 2\]`, r.stdout)
	require.Regexp(t, `in/input_ids +\[2 23\]`, r.stdout, "the beginning, as long as in training")
	euryale(t, "verify", tuned, "--reference", out).ok(t)
	c, err := golden.OpenReference(out)
	require.NoError(t, err)
	require.Equal(t, int32(258), c.In("input_ids").Int32s()[23], "[CLS]")
	require.Equal(t, []int{2, 23}, c.In("global_attention_mask").Shape)
}

// TestPredictHeads: what predict writes of each kind of head is an input of its own, and gives the same.
func TestPredictHeads(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out.safetensors")
	for model, reference := range map[string]string{"bert": "bert/mlm_pad", "longformer-qa": "longformer/qa_auto_global", "bigbird-seqcls": "bigbird/seqcls_sparse_eval",
		"led": "led/s2s_global_pad"} {
		path, of := goldenFile(t, "hf", model), goldenFile(t, reference+".safetensors")
		euryale(t, "predict", path, "--input", of, "--output", out, "--hidden-states").ok(t)
		euryale(t, "verify", path, "--reference", out).ok(t)
		want, err := golden.OpenReference(of)
		require.NoError(t, err)
		got, err := golden.OpenReference(out)
		require.NoError(t, err)
		for _, name := range want.Names("in/") {
			require.Equal(t, want.In(name).Shape, got.In(name).Shape, name)
			require.Equal(t, want.In(name).Int32s(), got.In(name).Int32s(), name)
		}
		for _, name := range want.Names("out64/") {
			require.True(t, want.CompareOut(name, got.Out(name).F, golden.Float32).OK, "%s %s", model, name)
		}
	}
}

// TestPredictContrastive: a model that has no scores of its own for a text gives what it makes of it, and reads it back.
func TestPredictContrastive(t *testing.T) {
	t.Chdir(t.TempDir())
	euryale(t, "fit", "--recipe", "etc-cpc-book", "--smoke", "--run", "r", "--steps", "1").ok(t)
	require.NoError(t, os.WriteFile("t.jsonl", []byte(`{"text":"Call me Ishmael."}`+"\n"+`{"text":"Some years ago"}`+"\n"), 0o644))
	r := euryale(t, "predict", "r", "--input", "t.jsonl", "--output", "o.safetensors").ok(t)
	require.Regexp(t, `out/last_hidden_state +\[2 16 32\]`, r.stdout)
	require.Regexp(t, `out/global_hidden_state +\[2 \d+ 32\]`, r.stdout)
	euryale(t, "verify", "r", "--reference", "o.safetensors").ok(t)
}

// TestHiddenTokensAndSections: ETC's pre-training, masked tokens and contrastive coding at once, stops and goes on to the same bits.
func TestHiddenTokensAndSections(t *testing.T) {
	t.Chdir(t.TempDir())
	args := []string{"fit", "--recipe", "etc-cpc-book", "--smoke", "--json", "--set", "model.task=masked_lm",
		"--set", "data.task=cpc(length=128,sections=8,hide=10,mask=15,train=64,val=16,test=16)"}
	whole := euryale(t, append(args, "--run", "whole")...).ok(t).events(t)
	for _, e := range whole {
		if e["event"] == "step" {
			require.Positive(t, e["own_loss"], "the contrastive term")
		}
	}
	euryale(t, append(args, "--run", "half", "--steps", "2")...).ok(t)
	euryale(t, "resume", "half").ok(t)
	same(t, filepath.Join("whole", "checkpoints", "step-00000004"), filepath.Join("half", "checkpoints", "step-00000004"))
	require.Contains(t, keys(euryale(t, "eval", "whole", "--json").ok(t).last(t)), "accuracy")
}
