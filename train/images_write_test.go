package train

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/models"
)

// drawing is an Image Transformer for colour images of 3x2 and its weights.
func drawing(t *testing.T, more string) (models.Model, *layers.Params) {
	m, err := models.New(fmt.Appendf(nil, `{"model_type":"image_transformer","height":3,"width":2,"channels":3,"vocab_size":5,"hidden_size":12,"num_hidden_layers":1,"num_attention_heads":2,
		"initializer_range":1,"attention":[{"type":"image1d","query_block":4,"memory":3}]%s}`, more))
	require.NoError(t, err)
	params, err := models.NewParams(m, tensor.Float32, 3)
	require.NoError(t, err)
	return m, params
}

// TestDrawPixels: by a mixture whole pixels are drawn, each image from its own draws; what is given comes first.
func TestDrawPixels(t *testing.T) {
	m, params := drawing(t, `,"num_mixtures":2`)
	draw := func(n, size int, given []int32, s Sampling) ([][]int32, error) {
		var told []int
		all, err := DrawImages(context.Background(), m, params, n, size, given, s, func(done, _ int) { told = append(told, done) })
		if err == nil {
			require.Equal(t, []int{3, 6, 9, 12, 15, 18}, told)
		}
		return all, err
	}
	four, err := draw(4, 18, nil, Sampling{Temperature: 1, Seed: 1})
	require.NoError(t, err)
	one, err := draw(1, 18, nil, Sampling{Temperature: 1, Seed: 1})
	require.NoError(t, err)
	require.Equal(t, four[:1], one)
	require.NotEqual(t, four[0], four[1])
	for _, image := range four {
		require.Len(t, image, 18)
		for _, level := range image {
			require.True(t, level >= 0 && level < 5)
		}
	}
	rest, err := draw(4, 18, four[2][:7], Sampling{Temperature: 1, Seed: 1})
	require.NoError(t, err)
	require.Equal(t, four[2], rest[2])
	require.Equal(t, four[2][:7], rest[3][:7])
	sure, err := draw(2, 18, nil, Sampling{Seed: 1})
	require.NoError(t, err)
	require.Equal(t, sure[0], sure[1], "at temperature 0 nothing is drawn")

	_, err = draw(1, 19, nil, Sampling{})
	require.ErrorContains(t, err, "18")
	_, err = draw(1, 17, nil, Sampling{})
	require.ErrorContains(t, err, "a pixel of the model has 3")
	class := 1
	_, err = draw(1, 18, nil, Sampling{Class: &class})
	require.ErrorContains(t, err, "the model knows none")
}

// TestDrawClasses: without a class images are of all classes in turn.
func TestDrawClasses(t *testing.T) {
	for _, kind := range []string{"image", "axial"} {
		m, params := drawing(t, `,"num_classes":2`)
		if kind == "axial" {
			var err error
			m, err = models.New([]byte(`{"model_type":"axial_transformer","height":3,"width":2,"channels":3,"vocab_size":5,"num_classes":2,"hidden_size":8,"num_attention_heads":2,
				"encoder_layers":0,"outer_layers":2,"inner_layers":1}`))
			require.NoError(t, err)
			params, err = models.NewParams(m, tensor.Float32, 3)
			require.NoError(t, err)
			for _, name := range []string{"head.weight", "inner.h.0.mlp.fc_out.weight"} {
				p, ok := params.Get(name)
				require.True(t, ok)
				draw, x := layers.Normal(1)(name, p.Value.Shape(), 7), p.Value.Float32s()
				for i := range x {
					x[i] = float32(draw(i))
				}
			}
		}
		draw := func(class *int) [][]int32 {
			all, err := DrawImages(context.Background(), m, params, 4, 18, nil, Sampling{Temperature: 1, Seed: 1, Class: class}, nil)
			require.NoError(t, err)
			return all
		}
		zero, one := 0, 1
		turn, of := draw(nil), [][][]int32{draw(&zero), draw(&one)}
		for i := range turn {
			require.Equal(t, of[i%2][i], turn[i])
			require.NotEqual(t, of[1-i%2][i], turn[i], kind)
		}
		two := 2
		_, err := DrawImages(context.Background(), m, params, 1, 18, nil, Sampling{Class: &two}, nil)
		require.ErrorContains(t, err, "class 2, the model has 0 to 1")
		_, err = DrawImages(context.Background(), m, params, 1, 18, nil, Sampling{Low: []int32{1}}, nil)
		require.ErrorContains(t, err, "reads none")
	}
	m, params := drawing(t, `,"encoder":{"height":1,"width":2,"num_hidden_layers":1,"attention":[{"type":"full"}]}`)
	up := func(low []int32) ([][]int32, error) {
		return DrawImages(context.Background(), m, params, 4, 18, nil, Sampling{Temperature: 1, Seed: 1, Low: low}, nil)
	}
	a, err := up([]int32{0, 0, 0, 0, 0, 0})
	require.NoError(t, err)
	b, err := up([]int32{4, 4, 4, 4, 4, 4})
	require.NoError(t, err)
	require.NotEqual(t, a, b)
	_, err = up(nil)
	require.ErrorContains(t, err, "makes a smaller image of 1x2 larger")
}
