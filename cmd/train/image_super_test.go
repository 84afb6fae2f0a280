package main

import (
	"image"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

const superJob = `{"model":{"model_type":"image_transformer","task":"image_density","height":8,"width":8,"vocab_size":17,"hidden_size":16,"intermediate_size":16,
  "num_hidden_layers":1,"num_attention_heads":2,"initializer_range":1,"attention":[{"type":"image1d","query_block":8,"memory":8}],
  "encoder":{"height":4,"width":2,"num_hidden_layers":1,"attention":[{"type":"full"}]}},
 "train":{"steps":2,"batch_size":4,"sequence_length":64,"lr":1e-3,"warmup_steps":1,"eval_every":2,"eval_batches":1},"data":{"low_size":[4,2]}}`

// TestSuperResolution trains on digits and what they are in small, and makes a small one larger; without it nothing is drawn.
func TestSuperResolution(t *testing.T) {
	t.Chdir(t.TempDir())
	require.NoError(t, os.WriteFile("job.json", []byte(superJob), 0o600))
	done := euryale(t, "fit", "--config", "job.json", "--run", "up", "--json").ok(t).last(t)
	require.Equal(t, done["bits_per_dim"], euryale(t, "eval", "up", "--json").ok(t).last(t)["bits_per_dim"])
	require.Equal(t, image.Rect(0, 0, 261, 261), open(t, "up/samples/step-00000002.png").Bounds())

	white, black := image.NewGray(image.Rect(0, 0, 2, 4)), image.NewGray(image.Rect(0, 0, 20, 40))
	for i := range white.Pix {
		white.Pix[i] = 255
	}
	save(t, "white.png", white)
	save(t, "black.png", black)
	save(t, "tiny.png", image.NewGray(image.Rect(0, 0, 1, 4)))
	draw := func(args ...string) result {
		return euryale(t, append([]string{"generate", "up", "--json", "--count", "2", "--output", "a.png"}, args...)...)
	}
	draw("--low", "white.png").ok(t)
	first := pixels(open(t, "a.png"), 1)
	require.NotEqual(t, first, pixels(open(t, "a.png"), 66))
	draw("--low", "black.png").ok(t)
	require.NotEqual(t, first, pixels(open(t, "a.png"), 1))
	for _, c := range []struct {
		args []string
		says string
	}{{nil, "makes a smaller image of 4x2 larger"}, {[]string{"--low", "tiny.png"}, "tiny.png: 4x1 pixels, the model has images of 4x2"}, {[]string{"--low", "none.png"}, "none.png"}} {
		r := draw(c.args...)
		require.Equal(t, 1, r.code)
		require.Contains(t, r.stderr, c.says)
	}
	r := euryale(t, "fit", "--config", "job.json", "--run", "x", "--set", "data.low_size=[4,4]")
	require.Equal(t, 2, r.code)
	require.Contains(t, r.stderr, "data.low_size is [4,4]: want [4, 2], as model.encoder.height and model.encoder.width say")

	euryale(t, "fit", "--config", "job.json", "--run", "plain", "--set", "model.encoder=null", "--set", "data.low_size=null").ok(t)
	r = euryale(t, "generate", "plain", "--output", "b.png", "--low", "white.png")
	require.Equal(t, 2, r.code)
	require.Contains(t, r.stderr, "this one reads none")
}
