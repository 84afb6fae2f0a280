package main

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/euryale-ml/euryale/checkpoints"
)

// What a trained model reads is counted layer by layer, drawn, and written as masks.
func TestPatternOfModel(t *testing.T) {
	t.Chdir(t.TempDir())
	require.NoError(t, os.WriteFile("a.txt", []byte(strings.Repeat("what a model chose. ", 3)), 0o644))
	euryale(t, "fit", "--run", "r", "--steps", "1", "--set", "model.num_hidden_layers=2", "--set", "model.hidden_size=32", "--set", "train.sequence_length=32",
		"--set", "train.batch_size=1", "--set", "train.global_batch=1", "--set", "data.path=a.txt",
		"--set", `model.attention=[{"type":"band","window_left":7},{"type":"topk","k":3}]`).ok(t)
	r := euryale(t, "pattern", "--model", "r", "--input", "a.txt", "--out", "m.safetensors", "--json")
	r.ok(t)
	lines := strings.Split(strings.TrimSpace(r.stdout), "\n")
	require.Len(t, lines, 2, r.stdout)
	var layers [2]layerRead
	for i := range layers {
		require.NoError(t, json.Unmarshal([]byte(lines[i]), &layers[i]))
		require.Equal(t, 60, layers[i].Nodes)
		require.Equal(t, 4, layers[i].Heads)
	}
	require.EqualValues(t, 4*(60*8-28), layers[0].NNZ)
	require.EqualValues(t, 4*(60*3-3), layers[1].NNZ)
	require.Equal(t, 3, layers[1].MaxRow)
	file, err := checkpoints.OpenSafetensors("m.safetensors")
	require.NoError(t, err)
	for i, l := range layers {
		mask, err := file.Int64s("mask." + l.Layer)
		require.NoError(t, err)
		require.Len(t, mask, 4*60*60)
		var sum int64
		for at, x := range mask {
			sum += x
			require.False(t, x == 1 && at%60 > at/60%60, "layer %d reads the future", i)
		}
		require.Equal(t, l.NNZ, sum)
	}
	require.NoError(t, file.Close())
	for _, out := range []string{"p.png", "p.svg"} {
		euryale(t, "pattern", "--model", "r", "--input", "a.txt", "--out", out).ok(t)
		require.FileExists(t, out)
	}
	for want, args := range map[string][]string{
		"pattern --model wants --input":     {"--model", "r"},
		"--input and --set go with --model": {"full", "--input", "a.txt"},
		"end it with .png, .svg":            {"--model", "r", "--input", "a.txt", "--out", "p.gif"},
		"pattern wants no pattern with":     {"full", "--model", "r", "--input", "a.txt"},
		"none.txt: no such file or folder":  {"--model", "r", "--input", "none.txt"},
	} {
		require.Contains(t, euryale(t, append([]string{"pattern"}, args...)...).stderr, want)
	}
}

// A layer that attends in two ways has two lines and two masks.
func TestPatternOfModelInTwoWays(t *testing.T) {
	t.Chdir(t.TempDir())
	require.NoError(t, os.WriteFile("a.txt", []byte(strings.Repeat("what a model chose. ", 3)), 0o644))
	euryale(t, "fit", "--run", "r", "--steps", "1", "--set", "model.num_hidden_layers=1", "--set", "model.hidden_size=32", "--set", "train.sequence_length=32", "--set", "data.path=a.txt",
		"--set", `model.attention=[{"type":"cross_block","block_size":5}]`).ok(t)
	r := euryale(t, "pattern", "--model", "r", "--input", "a.txt", "--out", "m.safetensors", "--json").ok(t)
	require.Equal(t, 2, strings.Count(r.stdout, "\n"), r.stdout)
	file, err := checkpoints.OpenSafetensors("m.safetensors")
	require.NoError(t, err)
	require.Len(t, file.Names(), 2)
	for _, name := range []string{"mask.decoder.h.0.attn", "mask.decoder.h.0.attn.2"} {
		mask, err := file.Int64s(name)
		require.NoError(t, err)
		require.Contains(t, mask, int64(1))
	}
	require.NoError(t, file.Close())
}
