package main

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/euryale-ml/euryale/checkpoints"
)

// What a model reads of sorted blocks is counted and drawn, with the rule by which a block counts.
func TestPatternOfSortedBlocks(t *testing.T) {
	t.Chdir(t.TempDir())
	require.NoError(t, os.WriteFile("a.txt", []byte(strings.Repeat("what a model chose. ", 3)), 0o644))
	for name, sets := range map[string][]string{
		"decoder": {"--set", `model.attention=[{"type":"sinkhorn","block_size":7},{"type":"heads","parts":[{"heads":1,"attention":{"type":"band","window_left":3}},{"heads":3,"attention":{"type":"sinkhorn","block_size":8,"hard":"rows"}}]}]`},
		"encoder": {"--set", "model.model_type=encoder", "--set", "model.task=masked_lm", "--set", "model.vocab_size=262", "--set", `model.attention=[{"type":"sinkhorn","block_size":7},{"type":"sortcut","block_size":8,"slots":2}]`},
	} {
		euryale(t, append([]string{"fit", "--run", name, "--steps", "1", "--set", "model.num_hidden_layers=2", "--set", "model.hidden_size=32", "--set", "train.sequence_length=32",
			"--set", "train.batch_size=1", "--set", "train.global_batch=1", "--set", "data.path=a.txt"}, sets...)...).ok(t)
		r := euryale(t, "pattern", "--model", name, "--input", "a.txt", "--out", name+".safetensors", "--json")
		r.ok(t)
		file, err := checkpoints.OpenSafetensors(name + ".safetensors")
		require.NoError(t, err)
		rules := 0
		for line := range strings.Lines(r.stdout) {
			var layer layerRead
			require.NoError(t, json.Unmarshal([]byte(line), &layer))
			require.Equal(t, 60, layer.Nodes)
			rules += strings.Count(layer.Rule, "of sorted blocks")
			mask, err := file.Int64s("mask." + layer.Layer)
			require.NoError(t, err)
			sum := int64(0)
			for at, x := range mask {
				sum += x
				require.False(t, name == "decoder" && x == 1 && at%60 > at/60%60, "%s reads the future", layer.Layer)
			}
			require.Equal(t, layer.NNZ, sum)
			if layer.Layer == "layers.1.attn" { // two slots of eight tokens for every query, each of one block at least
				require.GreaterOrEqual(t, layer.MinRow, 8)
			}
		}
		require.Equal(t, 2, rules, r.stdout)
		require.NoError(t, file.Close())
		r = euryale(t, "pattern", "--model", name, "--input", "a.txt", "--out", name+".png")
		require.Contains(t, r.ok(t).stdout+r.stderr, "counted       of sorted blocks")
	}
}
