package main

import (
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A decoder that sorts blocks, from the command line: stopped and taken up it comes to the same weights, and it is written without reading all
// anew, where its network lets it.
func TestSinkhornDecoder(t *testing.T) {
	t.Chdir(t.TempDir())
	args := func(run, net string, more ...string) []string {
		return append([]string{"fit", "--json", "--run", run, "--set", "model.hidden_size=24", "--set", "model.intermediate_size=32", "--set", "model.num_hidden_layers=2",
			"--set", "model.num_attention_heads=2", "--set", "model.max_position_embeddings=128",
			"--set", `model.attention=[{"type":"sinkhorn","block_size":16,"normalizer":"prefix","sort_net":"` + net + `"}]`,
			"--set", "train.sequence_length=64", "--set", "train.steps=4", "--set", "train.batch_size=2",
			"--set", "data.task=twin(length=64,train=64,val=16,test=16)"}, more...)
	}
	for _, net := range []string{"bilinear", "mlp"} {
		whole := euryale(t, args("whole-"+net, net)...).ok(t).last(t)
		euryale(t, args("half-"+net, net, "--steps", "2")...).ok(t)
		resumed := euryale(t, "resume", "half-"+net, "--json").ok(t).last(t)
		same(t, whole["checkpoint"].(string), resumed["checkpoint"].(string))
		require.Equal(t, whole["val_loss"], resumed["val_loss"])

		g := euryale(t, "generate", "whole-"+net, "--json", "--max-new-tokens", "20", "--prompt", "Call me Ishmael. Some years ago").ok(t)
		require.EqualValues(t, 20, g.last(t)["tokens"])
		if net == "mlp" {
			require.Contains(t, g.stderr, "its blocks are sorted by the network mlp")
		} else {
			require.NotContains(t, g.stderr, "every token cost")
		}
	}
}

// What is written from caches says nothing; what reads the whole text for each token says so, why, and which form is exact.
func TestGenerateByContent(t *testing.T) {
	t.Chdir(t.TempDir())
	require.NoError(t, os.WriteFile("a.txt", []byte(strings.Repeat("Some years ago, never mind how long. ", 40)), 0o644))
	n := 0
	for entry, says := range map[string]string{
		`{"type":"routing","num_clusters":4,"window":8}`:                       "with membership topw later tokens change what earlier ones read; membership recent is exact",
		`{"type":"routing","num_clusters":4,"window":8,"membership":"recent"}`: "",
		`{"type":"lsh","chunk":8,"num_hashes":2}`:                              "later tokens move the chunks that earlier ones read; plan bucketRecent is exact",
		`{"type":"lsh","chunk":8,"num_hashes":2,"plan":"bucketRecent"}`:        "",
		`{"type":"heads","parts":[{"heads":1,"attention":{"type":"routing","num_clusters":4,"window":8,"membership":"recent"}},{"heads":1,"attention":{"type":"band","window_left":7}}]}`: "",
		`{"type":"topk","k":5}`:            "",
		`{"type":"mips","k":5}`:            "is more than a pattern",
		`{"type":"sac","local_pointer":4}`: "is more than a pattern",
	} {
		n++
		run := strconv.Itoa(n)
		euryale(t, "fit", "--run", run, "--steps", "1", "--set", "model.hidden_size=24", "--set", "model.intermediate_size=32", "--set", "model.num_hidden_layers=1",
			"--set", "model.num_attention_heads=2", "--set", "model.max_position_embeddings=64", "--set", "train.sequence_length=32", "--set", "train.batch_size=1",
			"--set", "train.global_batch=1", "--set", "data.path=a.txt", "--set", "model.attention=["+entry+"]").ok(t)
		g := euryale(t, "generate", run, "--json", "--max-new-tokens", "9", "--prompt", "Call me Ishmael").ok(t)
		require.EqualValues(t, 9, g.last(t)["tokens"])
		if says == "" {
			require.NotContains(t, g.stderr, "every token cost", entry)
			continue
		}
		require.Contains(t, g.stderr, "every token cost a pass over all before it: the attention of layer 0 ", entry)
		require.Contains(t, g.stderr, says, entry)
	}
}
