package models

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/config"
	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/layers"
)

const (
	image1D = `{"type":"image1d","query_block":4,"memory":3}`
	image2D = `{"type":"image2d","query_height":2,"query_width":3,"memory_height":1,"memory_width":2}`
)

// smallImages is an Image Transformer for images of 5x3.
func smallImages(t *testing.T, attention, more string) *ImageTransformer {
	t.Helper()
	m, err := New(fmt.Appendf(nil, `{"model_type":"image_transformer","height":5,"width":3,"vocab_size":7,"hidden_size":12,"intermediate_size":10,"num_hidden_layers":2,
		"num_attention_heads":3,"initializer_range":0.5,"attention":[%s]%s}`, attention, more))
	require.NoError(t, err)
	return m.(*ImageTransformer)
}

// imageLogits runs a model on one image of a class in double precision.
func imageLogits(t *testing.T, m Model, params *layers.Params, ids []int32, class int32) []float64 {
	t.Helper()
	b := layers.New(gorgonia.NewGraph(), params, layers.Options{})
	in := Inputs{IDs: intsOf(b, "ids", ids, 1, len(ids)), More: map[string]*Node{"class_labels": intsOf(b, "class_labels", []int32{class}, 1)}}
	out := m.Forward(b, in, 0)
	require.NoError(t, b.Err())
	p, err := engine.Compile(b.Graph(), layers.Nodes{out.Logits}, engine.Options{})
	require.NoError(t, err)
	require.NoError(t, p.Run())
	return slices.Clone(engine.Floats[float64](p.Value(out.Logits)))
}

// TestImageTransformer: over every level of a small image, what depends on it is what the attention of both layers lets reach it in the order of
// generation; token by token the model says the same as the graph.
func TestImageTransformer(t *testing.T) {
	for _, c := range []struct {
		attention, more string
		reach           bool // all earlier levels are read, in two layers
	}{
		{image1D, ``, false}, {image2D, ``, false}, {image1D, `,"channels":3`, false}, {image2D, `,"channels":3`, false},
		{`{"type":"full"}`, `,"num_classes":2,"attention_bias":true`, true}, {image1D, `,"num_mixtures":2`, false}, {image2D, `,"norm":"pre"`, false},
		{image2D, `,"norm":"pre","residual":"reversible"`, false},
		{image1D, `,"num_mixtures":2,"channels":3`, false}, {image2D, `,"num_mixtures":2`, false},
	} {
		t.Run(c.attention+c.more, func(t *testing.T) {
			m := smallImages(t, c.attention, c.more)
			params, err := NewParams(m, tensor.Float64, 5)
			require.NoError(t, err)
			n, each := m.Dims().Positions, m.image.each
			ids := tokens(n, 7)
			got := imageLogits(t, m, params, ids, -1)
			k := len(got) / (n / each)
			reach := m.reach()
			for at := range n {
				other := slices.Clone(ids)
				other[at] = (ids[at] + 3) % 7
				changed := imageLogits(t, m, params, other, -1)
				for p := range n / each {
					same := slices.Equal(got[p*k:][:k], changed[p*k:][:k])
					require.Equal(t, !reach(p, at/each), same, "level %d and position %d", at, p)
					require.True(t, !c.reach || same == (p <= at/each))
				}
			}
			d, why, err := newDecoding[float64](m, params, 0)
			require.NoError(t, err)
			require.Empty(t, why)
			start, ok := StartLevel(m)
			require.True(t, ok)
			read := append(slices.Repeat([]int32{start}, each), ids...)
			for p := range n / each {
				y, err := d.step(read[p*each:][:each])
				require.NoError(t, err)
				require.InDeltaSlice(t, got[p*k:][:k], y, 1e-10, "position %d", p)
			}
			_, err = d.step(read[:each])
			var long *LengthError
			require.ErrorAs(t, err, &long)
		})
	}
}

// reach tells whether the logits of a position depend on the level, or pixel, at another, by the patterns alone.
func (m *ImageTransformer) reach() func(p, at int) bool {
	n := len(m.image.order)
	// rows[i] are the positions of the input that layer l's row i depends on
	rows := make([][]bool, n)
	for i := range rows {
		rows[i] = make([]bool, n)
		rows[i][i] = true
	}
	for l := range m.Layers {
		next := make([][]bool, n)
		for i := range next {
			next[i] = slices.Clone(rows[i])
			for j := range n {
				if m.pattern(l).Sees(0, i, j, n) {
					for k, yes := range rows[j] {
						next[i][k] = next[i][k] || yes
					}
				}
			}
		}
		rows = next
	}
	return func(p, at int) bool { return at+1 < n && rows[p][at+1] } // position at+1 reads the level at
}

// TestImageTransformerClasses: a class changes every position, none is a class of its own, and so it is if none is given.
func TestImageTransformerClasses(t *testing.T) {
	m := smallImages(t, image2D, `,"num_classes":3`)
	params, err := NewParams(m, tensor.Float32, 5)
	require.NoError(t, err)
	ids := tokens(15, 7)
	run := func(classes ...int32) []float32 {
		b := layers.New(gorgonia.NewGraph(), params, layers.Options{})
		in := Inputs{IDs: b.Input("ids", tensor.Int32, 3, 15)}
		if classes != nil {
			in.More = map[string]*Node{"class_labels": b.Input("class_labels", tensor.Int32, 3)}
		}
		out := m.Forward(b, in, 1)
		require.NoError(t, b.Err())
		p, err := engine.Compile(b.Graph(), layers.Nodes{out.Logits}, engine.Options{})
		require.NoError(t, err)
		copy(layers.InputValue(in.IDs).Int32s(), slices.Concat(ids, ids, ids))
		if classes != nil {
			copy(layers.InputValue(in.More["class_labels"]).Int32s(), classes)
		}
		require.NoError(t, p.Run())
		return slices.Clone(engine.Floats[float32](p.Value(out.Logits)))
	}
	none, some := run(), run(-1, 0, 2)
	s, err := NewSession(m, params, 0)
	require.NoError(t, err)
	s.Select([]int{0, 0, 0})
	require.ErrorContains(t, s.SetClasses([]int{0, 1}), "2 classes for 3 candidates")
	require.ErrorContains(t, s.SetClasses([]int{0, 1, 3}), "class 3, the model has 0 to 2")
	require.NoError(t, s.SetClasses([]int{-1, 0, 2}))
	s.Select([]int{2, 0})
	for p := range 15 {
		id := int32(7)
		if p > 0 {
			id = ids[p-1]
		}
		y, err := s.Step(id, id)
		require.NoError(t, err)
		require.InDeltaSlice(t, some[(2*15+p)*7:][:7], y[:7], 1e-5)
		require.InDeltaSlice(t, some[p*7:][:7], y[7:], 1e-5)
	}
	require.InDeltaSlice(t, none[:15*7], some[:15*7], 1e-6)
	for p := range 15 {
		row := func(e int) []float32 { return some[(e*15+p)*7:][:7] }
		require.NotEqual(t, row(0), row(1))
		require.NotEqual(t, row(1), row(2))
	}
}

func TestImageTransformerConfig(t *testing.T) {
	m := smallImages(t, image2D+","+image1D, `,"channels":3,"num_mixtures":2`)
	text, err := m.Config()
	require.NoError(t, err)
	again, err := New(text)
	require.NoError(t, err)
	require.Equal(t, m.cfg, again.(*ImageTransformer).cfg)
	require.Equal(t, 45, m.Dims().Positions)
	require.Equal(t, []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}, m.Order()[:12])
	require.Equal(t, Images{Height: 5, Width: 3, Channels: 3, Order: "blocks(2,3)"}, m.Images())
	require.Equal(t, Images{Height: 5, Width: 3, Channels: 3, Order: "blocks(2,1)"}, smallImages(t, image2D, `,"channels":3`).Images())
	require.Equal(t, Images{Height: 5, Width: 3, Channels: 1, Order: "raster", Classes: 2}, smallImages(t, image1D, `,"num_classes":2`).Images())
	mixture, ok := m.Mixture()
	require.True(t, ok)
	require.Equal(t, layers.MixtureConfig{Mixtures: 2, Channels: 3, Levels: 7}, mixture)
	// Blocks of 2x3 channels are those of 2x1 pixels.
	require.Equal(t, []int{0, 1, 2, 9, 10, 11, 3, 4, 5, 12, 13, 14, 6, 7, 8, 15, 16, 17, 18}, smallImages(t, image2D, `,"channels":3`).Order()[:19])

	_, err = New([]byte(`{"model_type":"image_transformer","task":"causal_lm","height":0,"width":3,"channels":2,"vocab_size":1,"num_classes":-1,"num_mixtures":-1,
		"hidden_size":5,"num_hidden_layers":0,"num_attention_heads":2,"layer_norm_eps":0,"hidden_dropout_prob":1,"initializer_range":0,"norm":"both","attention":[{"type":"full"}]}`))
	require.Len(t, config.Faults(err), 13)
	for attention, want := range map[string]string{
		image2D + `,{"type":"image2d","query_height":2,"query_width":2,"memory_height":1,"memory_width":2}`:           "attention[1]",
		`{"type":"image2d","height":5,"width":4,"query_height":2,"query_width":2,"memory_height":1,"memory_width":2}`: "the model's images",
		`{"type":"image2d","query_height":6,"query_width":2,"memory_height":1,"memory_width":2}`:                      "attention[0]",
		`{"type":"image2d","query_height":2,"query_width":4,"memory_height":1,"memory_width":2}`:                      "no larger than the image, 5 x 3",
		`{"type":"full"},{"type":"image1d","query_block":16,"memory":2}`:                                              "attention[1].query_block is 16: want no more than an image has, 15",
		`{"type":"etc","num_globals":2,"local_radius":2,"label_clip":1}`:                                              "attention[0]",
	} {
		_, err = New(fmt.Appendf(nil, `{"model_type":"image_transformer","height":5,"width":3,"vocab_size":7,"hidden_size":12,"num_hidden_layers":2,"num_attention_heads":3,"attention":[%s]}`, attention))
		require.ErrorContains(t, err, want, attention)
	}
}

// The tables of a mixture begin smooth: a level is near the next one and far from the last, in each channel; what is no level is near none.
func TestMixtureTablesBeginSmooth(t *testing.T) {
	i := &imageOf{levels: 256, channels: 3}
	const c = 64
	of := i.smooth(0.02)("weight", []int{3 * 257, c}, 5)
	row := func(r int) (v []float64) {
		for k := range c {
			v = append(v, of(r*c+k))
		}
		return v
	}
	cosine := func(a, b []float64) float64 {
		ab, aa, bb := 0.0, 0.0, 0.0
		for k := range a {
			ab, aa, bb = ab+a[k]*b[k], aa+a[k]*a[k], bb+b[k]*b[k]
		}
		return ab / math.Sqrt(aa*bb)
	}
	size := 0.0
	for channel := range 3 {
		for _, level := range []int{3, 70, 128, 252} {
			require.Greater(t, cosine(row(channel*257+level), row(channel*257+level+1)), 0.95)
		}
		require.Less(t, cosine(row(channel*257), row(channel*257+255)), 0.3)
		require.Less(t, math.Abs(cosine(row(channel*257+256), row(channel*257+255))), 0.5)
		for level := range 256 {
			for _, x := range row(channel*257 + level) {
				size += x * x
			}
		}
	}
	require.InDelta(t, 0.02, math.Sqrt(size/(3*256*c)), 0.006)
}
