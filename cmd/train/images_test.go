package main

import (
	"bytes"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

const imageJob = `{"model":{"model_type":"imagegpt","task":"image_density","vocab_size":18,"n_positions":64,"n_embd":16,"n_layer":1,"n_head":2,"resid_pdrop":0,"embd_pdrop":0,"attn_pdrop":0},
 "train":{"steps":8,"batch_size":8,"sequence_length":64,"lr":3e-3,"warmup_steps":2,"eval_every":4,"eval_batches":2},"data":{"order":"blocks(4,8)"}}`

// TestImages takes the digits through fit, a stop, resume, eval and generate.
func TestImages(t *testing.T) {
	t.Chdir(t.TempDir())
	require.NoError(t, os.WriteFile("job.json", []byte(imageJob), 0o600))
	whole := euryale(t, "fit", "--config", "job.json", "--run", "whole", "--json").ok(t).last(t)
	require.Contains(t, whole, "bits_per_dim")
	require.Contains(t, whole, "val_bits_per_dim")
	require.Nil(t, whole["val_bpb"])
	require.NotContains(t, whole, "test_exact_match")
	euryale(t, "fit", "--config", "job.json", "--run", "half", "--steps", "5").ok(t)
	resumed := euryale(t, "resume", "half", "--json").ok(t).last(t)
	require.Equal(t, whole["bits_per_dim"], resumed["bits_per_dim"])
	same(t, whole["checkpoint"].(string), resumed["checkpoint"].(string))
	for _, step := range []string{"4", "8"} {
		require.Equal(t, image.Rect(0, 0, 261, 261), open(t, filepath.Join("whole", "samples", "step-0000000"+step+".png")).Bounds())
	}

	r := euryale(t, "eval", "whole", "--json").ok(t)
	require.Equal(t, whole["bits_per_dim"], r.last(t)["bits_per_dim"])
	require.EqualValues(t, 179*64, r.last(t)["tokens"])
	require.Contains(t, r.stderr, "test part of digits: 11456 dimensions")

	runs := euryale(t, "runs", ".", "--json").ok(t).events(t)
	listed := runs[len(runs)-1]
	require.Equal(t, []any{"half", whole["val_bits_per_dim"], whole["bits_per_dim"]}, []any{listed["name"], listed["val_bits_per_dim"], listed["bits_per_dim"]})
	require.Contains(t, euryale(t, "runs", ".").ok(t).stdout, "TEST BITS/DIM")

	draw := func(args ...string) result {
		return euryale(t, append([]string{"generate", "whole", "--json"}, args...)...)
	}
	done := draw("--output", "a.png", "--count", "3").ok(t).last(t)
	require.EqualValues(t, 3, done["count"])
	require.EqualValues(t, 8, done["height"])
	draw("--output", "b.png", "--count", "3").ok(t)
	require.Equal(t, read(t, "a.png"), read(t, "b.png"))
	draw("--output", "c.png", "--count", "3", "--seed", "2").ok(t)
	require.NotEqual(t, read(t, "a.png"), read(t, "c.png"))

	// The upper half of an image is kept, in all that are drawn, the lower one is not.
	half := image.NewGray(image.Rect(0, 0, 8, 8))
	for i := range half.Pix {
		half.Pix[i] = byte(i * 4)
	}
	save(t, "half.png", half)
	done = draw("--output", "d.png", "--count", "2", "--prompt", "half.png").ok(t).last(t)
	require.EqualValues(t, 32, done["given"])
	one, two := pixels(open(t, "d.png"), 1), pixels(open(t, "d.png"), 66)
	require.Equal(t, one[:32], two[:32])
	for i := range 32 {
		require.Equal(t, byte((i*4*17/256*255+15)/16), one[i])
	}
	require.NotEqual(t, one[32:], two[32:])

	save(t, "wrong.png", image.NewGray(image.Rect(0, 0, 9, 8)))
	for _, c := range []struct {
		code int
		args []string
		says string
	}{
		{1, []string{"--output", "e.png", "--prompt", "wrong.png"}, "wrong.png: 8x9 pixels, the model has images of 8x8"},
		{1, []string{"--output", "e.png", "--prompt", "none.png"}, "none.png"},
		{2, nil, "--output"},
		{2, []string{"--output", "e.jpg"}, "e.jpg: images are written as PNG"},
		{2, []string{"--output", "e.png", "--beams", "2"}, "--beams is for models of text"},
		{2, []string{"--output", "e.png", "--count", "0"}, "--count"},
		{2, []string{"--output", "e.png", "--keep", "2"}, "--keep"},
	} {
		r := draw(c.args...)
		require.Equal(t, c.code, r.code, c.args)
		require.Contains(t, r.stderr, c.says)
	}
	r = euryale(t, "fit", "--config", "job.json", "--run", "x", "--set", "train.sequence_length=32")
	require.Equal(t, 1, r.code)
	require.Contains(t, r.stderr, "train.sequence_length=64")
	r = euryale(t, "fit", "--config", "job.json", "--run", "x", "--set", "model.vocab_size=17")
	require.Equal(t, 2, r.code)
	require.Contains(t, r.stderr, "model.vocab_size")
	require.NoDirExists(t, "x/checkpoints")
}

func read(t *testing.T, path string) []byte {
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	return b
}

func open(t *testing.T, path string) image.Image {
	img, err := png.Decode(bytes.NewReader(read(t, path)))
	require.NoError(t, err)
	return img
}

func save(t *testing.T, path string, img image.Image) {
	var file bytes.Buffer
	require.NoError(t, png.Encode(&file, img))
	require.NoError(t, os.WriteFile(path, file.Bytes(), 0o600))
}

// pixels are those of an image of 8x8 in a grid, each drawn 8x8, whose left edge is given.
func pixels(grid image.Image, left int) []byte {
	var all []byte
	small := image.NewGray(image.Rect(0, 0, 64, 64))
	draw.Draw(small, small.Bounds(), grid, image.Pt(left, 1), draw.Src)
	for y := range 8 {
		for x := range 8 {
			all = append(all, small.At(8*x+3, 8*y+3).(color.Gray).Y)
		}
	}
	return all
}
