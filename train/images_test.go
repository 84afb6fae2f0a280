package train

import (
	"context"
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/data"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/models"
)

// alone is a density of images in which every level is independent of all others: of classes, or a mixture for each pixel.
type alone struct {
	flat
	levels int
	mix    *layers.MixtureConfig
}

func newAlone(levels int, mix *layers.MixtureConfig) *alone {
	return &alone{flat: flat{task: "image_density", dims: models.Dims{Vocab: levels}}, levels: levels, mix: mix}
}

func (a *alone) Mixture() (layers.MixtureConfig, bool) {
	if a.mix == nil {
		return layers.MixtureConfig{}, false
	}
	return *a.mix, true
}

func (a *alone) Forward(b *layers.Builder, in models.Inputs, _ int) models.Outputs {
	rows, t, out := in.IDs.Shape()[0], in.IDs.Shape()[1], a.levels
	if a.mix != nil {
		t, out = max(1, t/a.mix.Channels), a.mix.Numbers() // T is 1 where weights are made
	}
	one := layers.Reshape(b, b.Param("numbers", layers.Normal(0.3), out), 1, out)
	return models.Outputs{Logits: layers.Reshape(b, layers.Broadcast(b, one, rows*t), rows, t, out)}
}

// TestBitsPerDimension trains the frequencies of levels: bits per dimension come down to what the test part has under those of the train part.
func TestBitsPerDimension(t *testing.T) {
	corpus, err := data.Load(data.Config{Objective: "image_density"})
	require.NoError(t, err)
	shape := corpus.Train.Shape(64)
	for _, k := range []struct {
		mix  *layers.MixtureConfig
		want float64
	}{{nil, 2.96}, {&layers.MixtureConfig{Mixtures: 5, Channels: 1, Levels: 17}, 2.99}} {
		m := newAlone(17, k.mix)
		params, err := models.NewParams(m, tensor.Float32, 1)
		require.NoError(t, err)
		c := DefaultConfig()
		c.Steps, c.LR, c.WarmupSteps, c.BatchSize, c.SequenceLength, c.WeightDecay = 150, 0.1, 1, 16, 64, 0
		tr, err := NewTrainer(m, params, corpus.Train, c)
		require.NoError(t, err)
		first, err := tr.Step()
		require.NoError(t, err)
		for range c.Steps - 1 {
			_, err = tr.Step()
			require.NoError(t, err)
		}
		e, err := NewEvaluator(m, params, shape, 16, 64)
		require.NoError(t, err)
		score, err := e.Run(context.Background(), Windows(m.Task(), corpus.Test, 64), 0, nil)
		require.NoError(t, err)
		require.EqualValues(t, 179*64, score.Tokens)
		require.EqualValues(t, 179, score.Examples)
		require.Equal(t, score.Loss/math.Ln2, score.BitsPerDim())
		require.True(t, math.IsNaN(score.BitsPerByte()))
		require.Less(t, score.BitsPerDim(), first.Loss/math.Ln2-0.1)
		require.InDelta(t, k.want, score.BitsPerDim(), 0.03)
		if k.mix == nil {
			require.Equal(t, "dimensions", score.Unit())
			require.Greater(t, score.Accuracy(), 0.4, "level 0")
		} else {
			require.Equal(t, "pixels", score.Unit())
			require.True(t, math.IsNaN(score.Accuracy()))
		}
	}
	require.True(t, math.IsNaN(Score{Task: "causal_lm", Loss: 1}.BitsPerDim()))
}

// TestColoursOfAMixture: a row is a pixel, its loss the mean of its three channels, and a row of padding counts for nothing.
func TestColoursOfAMixture(t *testing.T) {
	c := layers.MixtureConfig{Mixtures: 2, Channels: 3, Levels: 256}
	m := newAlone(256, &c)
	params, err := models.NewParams(m, tensor.Float64, 1)
	require.NoError(t, err)
	like := data.NewBatch(3, 12)
	for i := range like.IDs {
		like.IDs[i], like.Targets[i] = int32(i*7%256), int32(i*7%256)
		if i >= 24 {
			like.Targets[i] = -1
		}
	}
	g, err := NewGraph(m, params, like, GraphOptions{})
	require.NoError(t, err)
	g.load(like)
	require.NoError(t, g.Program.Run())
	rows, kept := g.goal.count(like)
	require.Equal(t, []int{12, 8}, []int{rows, kept})
	p, _ := params.Get("numbers")
	losses := floats64[float64](g.rows)
	for r := range 12 {
		if r >= 8 {
			require.Zero(t, losses(r))
			continue
		}
		require.InDelta(t, -logMixture(c, p.Value.Float64s(), like.IDs[3*r:3*r+3])/3, losses(r), 1e-9)
	}
}

// logMixture is the probability of a pixel written plainly.
func logMixture(c layers.MixtureConfig, x []float64, levels []int32) float64 {
	sigma := func(x float64) float64 { return 1 / (1 + math.Exp(-x)) }
	value := func(l int32) float64 { return 2*float64(l)/255 - 1 }
	total, weights := 0.0, 0.0
	for k := range c.Mixtures {
		p := math.Exp(x[k])
		weights += p
		for ch := range 3 {
			mean, s := x[c.Mixtures+3*k+ch], math.Exp(x[c.Mixtures*4+3*k+ch])
			t := x[c.Mixtures*7+3*k:]
			switch ch {
			case 1:
				mean += math.Tanh(t[0]) * value(levels[0])
			case 2:
				mean += math.Tanh(t[1])*value(levels[0]) + math.Tanh(t[2])*value(levels[1])
			}
			hi, lo := sigma((value(levels[ch])-mean+1./255)/s), sigma((value(levels[ch])-mean-1./255)/s)
			if levels[ch] == 0 {
				lo = 0
			}
			if levels[ch] == 255 {
				hi = 1
			}
			p *= hi - lo
		}
		total += p
	}
	return math.Log(total / weights)
}

// TestDrawImages: an image depends on the seed and its number, not on how many are drawn; what is given comes first; impossible wishes are refused.
func TestDrawImages(t *testing.T) {
	const text = `{"model_type":"decoder","task":"%s","vocab_size":5,"hidden_size":12,"num_hidden_layers":1,"num_attention_heads":2,"max_position_embeddings":12}`
	m, err := models.New(fmt.Appendf(nil, text, "image_density"))
	require.NoError(t, err)
	params, err := models.NewParams(m, tensor.Float32, 3)
	require.NoError(t, err)
	draw := func(n, size int, given []int32, seed uint64) ([][]int32, error) {
		return DrawImages(context.Background(), m, params, n, size, given, Sampling{Temperature: 1, Seed: seed}, nil)
	}
	five, err := draw(5, 12, nil, 1)
	require.NoError(t, err)
	one, err := draw(1, 12, nil, 1)
	require.NoError(t, err)
	require.Equal(t, five[:1], one)
	require.NotEqual(t, five[0], five[1])
	other, err := draw(1, 12, nil, 2)
	require.NoError(t, err)
	require.NotEqual(t, one, other)
	rest, err := draw(5, 12, five[3][:7], 1)
	require.NoError(t, err)
	for i := range rest {
		require.Equal(t, five[3][:7], rest[i][:7])
	}
	require.Equal(t, five[3], rest[3], "draws do not depend on what was given")

	for _, c := range []struct {
		n, size int
		given   []int32
		says    string
	}{{0, 12, nil, "0 images"}, {1, 2, []int32{0, 1, 2}, "3 of them given"}, {1, 13, nil, "13"}} {
		_, err := draw(c.n, c.size, c.given, 1)
		require.ErrorContains(t, err, c.says)
	}
	_, err = draw(1, 12, []int32{5}, 1)
	require.ErrorContains(t, err, "level 5 is given at place 0")
	stopped, cancel := context.WithCancel(context.Background())
	cancel()
	_, err = DrawImages(stopped, m, params, 1, 12, nil, Sampling{}, nil)
	require.ErrorIs(t, err, context.Canceled)
	m, err = models.New(fmt.Appendf(nil, text, "causal_lm"))
	require.NoError(t, err)
	_, err = draw(1, 12, nil, 1)
	require.ErrorContains(t, err, "causal_lm does not draw images")
}
