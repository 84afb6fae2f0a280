package main

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

const blocksJob = `{"model":{"model_type":"image_transformer","task":"image_density","height":8,"width":8,"vocab_size":17,"num_classes":10,"hidden_size":16,"intermediate_size":16,
  "num_hidden_layers":1,"num_attention_heads":2,"initializer_range":1,"attention":[{"type":"image2d","query_height":3,"query_width":4,"memory_height":2,"memory_width":2}]},
 "train":{"steps":2,"batch_size":4,"sequence_length":64,"lr":1e-3,"warmup_steps":1,"eval_every":2,"eval_batches":1},"data":{"order":"blocks(3,4)"}}`

// TestImageTransformer trains on classes in the order of blocks and draws a class, level by level and pixel by pixel; other data are refused.
func TestImageTransformer(t *testing.T) {
	t.Chdir(t.TempDir())
	require.NoError(t, os.WriteFile("job.json", []byte(blocksJob), 0o600))
	for name, set := range map[string]string{"levels": "model.num_mixtures=0", "pixels": "model.num_mixtures=3"} {
		done := euryale(t, "fit", "--config", "job.json", "--run", name, "--set", set, "--json").ok(t).last(t)
		require.Contains(t, done, "bits_per_dim")
		draw := func(args ...string) result {
			return euryale(t, append([]string{"generate", name, "--json", "--count", "2", "--output", "a.png"}, args...)...)
		}
		draw().ok(t)
		turn := pixels(open(t, "a.png"), 66)
		draw("--class", "1").ok(t)
		require.Equal(t, turn, pixels(open(t, "a.png"), 66), "the second image is of the second class")
		draw("--class", "7").ok(t)
		require.NotEqual(t, turn, pixels(open(t, "a.png"), 66))
		r := draw("--class", "ten")
		require.Equal(t, 2, r.code)
		require.Contains(t, r.stderr, "--class is ten: the data of the model have the classes 0, 1, 2")
	}
	for set, says := range map[string]string{
		"data.order=raster":   "data.order is \"raster\": want the order in which the model generates, blocks(3,4)",
		"model.num_classes=9": "model.num_classes is 9: want at least the 10 classes",
		"model.width=9":       "data.image_size",
	} {
		r := euryale(t, "fit", "--config", "job.json", "--run", "x", "--set", set)
		require.Equal(t, 2, r.code, set)
		require.Contains(t, r.stderr, says)
	}
	plain := euryale(t, "fit", "--config", "job.json", "--run", "plain", "--set", "model.num_classes=0")
	plain.ok(t)
	r := euryale(t, "generate", "plain", "--output", "b.png", "--class", "1")
	require.Equal(t, 1, r.code)
	require.Contains(t, r.stderr, "the model knows none")
}
