package train

import (
	"context"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/data"
	"github.com/euryale-ml/euryale/internal/splitmix"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/models"
)

const axialFrames = `{"model_type":"axial_transformer","height":%d,"width":%d,"channels":3,"vocab_size":4,"hidden_size":%d,"num_attention_heads":2,"encoder_layers":2,"outer_layers":2,"inner_layers":1}`

// TestDrawnSlices: a training step has the loss of one slice of each image, three times, since it stands for three; over many steps each slice comes
// as often as the others, and a step is what it was when it is done again.
func TestDrawnSlices(t *testing.T) {
	m, err := models.New(fmt.Appendf(nil, axialFrames, 2, 3, 8))
	require.NoError(t, err)
	params, err := models.NewParams(m, tensor.Float64, 1)
	require.NoError(t, err)
	for _, p := range params.All() {
		x, draw := p.Value.Float64s(), layers.Normal(0.5)(p.Name, p.Value.Shape(), 7)
		for i := range x {
			x[i] += draw(i)
		}
	}
	const images, pixels, slices = 5, 6, 3
	like := data.NewBatch(images, pixels*slices)
	for i := range like.IDs {
		like.IDs[i] = int32(splitmix.Mix(uint64(i)) % 4)
	}
	copy(like.Targets, like.IDs)
	whole, err := NewGraph(m, params, like, GraphOptions{})
	require.NoError(t, err)
	whole.load(like)
	require.NoError(t, whole.Program.Run())
	all := floats64[float64](whole.rows)

	g, err := NewGraph(m, params, like, GraphOptions{Train: true, Seed: 5, Recompute: "none"})
	require.NoError(t, err)
	step := func(k int32) (drawn [images]int) {
		g.load(like)
		g.step[0] = k
		g.setWeights(1, 0)
		require.NoError(t, g.Program.Run())
		rows := floats64[float64](g.rows)
		for i := range images {
			drawn[i] = -1
			for s := range slices {
				off := 0.0
				for p := range pixels {
					off = max(off, math.Abs(rows(i*pixels+p)-slices*all((i*pixels+p)*slices+s)))
				}
				if off < 1e-9 {
					drawn[i] = s
				}
			}
			require.GreaterOrEqual(t, drawn[i], 0, "step %d, image %d", k, i)
		}
		return drawn
	}
	var counts [slices]int
	seen := map[[images]int]bool{}
	for k := range int32(60) {
		drawn := step(k)
		seen[drawn] = true
		for _, s := range drawn {
			counts[s]++
		}
	}
	require.Greater(t, len(seen), 30, "images are drawn together")
	for s, n := range counts {
		require.InDelta(t, 60*images/slices, n, 30, "slice %d", s)
	}
	require.Equal(t, step(7), step(7))
}

// TestFrames: of a film of three frames, in which what is seen moves to the right by a pixel from each to the next, the first frame alone has to be
// learned; the other two are told by the frame before. Frames are slices, here the colours of a file.
func TestFrames(t *testing.T) {
	dir := t.TempDir()
	for n := range 200 {
		film := image.NewRGBA(image.Rect(0, 0, 4, 3))
		for r := range 3 {
			for c := range 4 {
				at := func(c int) uint8 { // of four levels
					if c < 0 {
						return 32
					}
					return uint8(32 + 64*(splitmix.Mix(uint64(n*12+r*4+c))%4))
				}
				film.SetRGBA(c, r, color.RGBA{at(c), at(c - 1), at(c - 2), 255})
			}
		}
		f, err := os.Create(filepath.Join(dir, fmt.Sprintf("%03d.png", n)))
		require.NoError(t, err)
		require.NoError(t, png.Encode(f, film))
		require.NoError(t, f.Close())
	}
	corpus, err := data.Load(data.Config{Path: dir, Objective: "image_density", ImageLevels: 4})
	require.NoError(t, err)
	m, err := models.New(fmt.Appendf(nil, axialFrames, 3, 4, 32))
	require.NoError(t, err)
	params, err := models.NewParams(m, tensor.Float32, 1)
	require.NoError(t, err)
	c := DefaultConfig()
	c.Steps, c.LR, c.WarmupSteps, c.BatchSize, c.SequenceLength, c.WeightDecay = 150, 0.01, 10, 16, 36, 0
	tr, err := NewTrainer(m, params, corpus.Train, c)
	require.NoError(t, err)
	first, err := tr.Step()
	require.NoError(t, err)
	require.InDelta(t, math.Log(4), first.Loss, 1e-4)
	for range c.Steps - 1 {
		_, err = tr.Step()
		require.NoError(t, err)
	}
	e, err := NewEvaluator(m, params, corpus.Train.Shape(36), 20, 36)
	require.NoError(t, err)
	score, err := e.Run(context.Background(), Windows(m.Task(), corpus.Test, 36), 0, nil)
	require.NoError(t, err)
	require.Less(t, score.BitsPerDim(), 1.2, "one frame of 2 bits and two of 0 are 0.67")

	images, err := DrawImages(context.Background(), m, params, 4, 36, nil, Sampling{Temperature: 1, Seed: 1}, nil)
	require.NoError(t, err)
	moved, all := 0, 0
	for _, ids := range images {
		for p := range 12 {
			for frame := 1; frame < 3 && p%4 > 0; frame++ {
				all++
				if ids[p*3+frame] == ids[(p-1)*3+frame-1] {
					moved++
				}
			}
		}
	}
	require.Greater(t, float64(moved)/float64(all), 0.7, "what is drawn moves")
	_, err = DrawImages(context.Background(), m, params, 1, 35, nil, Sampling{Temperature: 1}, nil)
	require.ErrorContains(t, err, "images of 35 levels, the model draws images of 36")
}
