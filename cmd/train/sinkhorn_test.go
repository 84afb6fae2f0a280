package main

import (
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
			require.NotContains(t, g.stderr, "anew")
		}
	}
}
