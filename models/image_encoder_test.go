package models

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/config"
	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/layers"
)

// lowLogits runs a model with an encoder on an image and a smaller one.
func lowLogits(t *testing.T, m Model, params *layers.Params, ids, low []int32) ([]float64, error) {
	t.Helper()
	b := layers.New(gorgonia.NewGraph(), params, layers.Options{})
	in := Inputs{IDs: intsOf(b, "ids", ids, 1, len(ids)), More: map[string]*Node{"low_ids": intsOf(b, "low_ids", low, 1, len(low))}}
	out := m.Forward(b, in, 0)
	if err := b.Err(); err != nil {
		return nil, err
	}
	p, err := engine.Compile(b.Graph(), layers.Nodes{out.Logits}, engine.Options{})
	require.NoError(t, err)
	require.NoError(t, p.Run())
	return slices.Clone(engine.Floats[float64](p.Value(out.Logits))), nil
}

// TestImageEncoder: every position depends on every level of the smaller image, and on those before its own and no other; level by level or pixel by
// pixel the model says the same as the graph.
func TestImageEncoder(t *testing.T) {
	for _, more := range []string{``, `,"norm":"pre","residual":"reversible","cross_attention":[{"type":"full"}]`, `,"channels":3,"num_mixtures":2`, `,"channels":3,"num_classes":2`} {
		t.Run(more, func(t *testing.T) {
			m := smallImages(t, image1D, `,"encoder":{"height":3,"width":2,"num_hidden_layers":1,"attention":[{"type":"full"}]}`+more)
			params, err := NewParams(m, tensor.Float64, 5)
			require.NoError(t, err)
			n, each := m.Dims().Positions, m.image.each
			ids, low := tokens(n, 7), tokens(6*m.cfg.Channels, 7)
			got, err := lowLogits(t, m, params, ids, low)
			require.NoError(t, err)
			k := len(got) / (n / each)
			for at := range low {
				other := slices.Clone(low)
				other[at] = (low[at] + 3) % 7
				changed, err := lowLogits(t, m, params, ids, other)
				require.NoError(t, err)
				for p := range n / each {
					require.NotEqual(t, got[p*k:][:k], changed[p*k:][:k], "low level %d and position %d", at, p)
				}
			}
			reach := m.reach()
			for at := range n {
				other := slices.Clone(ids)
				other[at] = (ids[at] + 3) % 7
				changed, err := lowLogits(t, m, params, other, low)
				require.NoError(t, err)
				for p := range n / each {
					require.Equal(t, !reach(p, at/each), slices.Equal(got[p*k:][:k], changed[p*k:][:k]), "level %d and position %d", at, p)
				}
			}
			_, err = lowLogits(t, m, params, ids, slices.Repeat([]int32{-1}, len(low))) // padding as a whole
			require.NoError(t, err)
			_, err = lowLogits(t, m, params, ids, low[1:])
			require.ErrorContains(t, err, "data.low_size to [3,2]")

			d, _, err := newDecoding[float64](m, params, 0)
			require.NoError(t, err)
			start, _ := StartLevel(m)
			read := append(slices.Repeat([]int32{start}, each), ids...)
			_, err = d.step(read[:each])
			require.ErrorIs(t, err, errNothingRead)
			for range 2 { // the second time from the start again
				require.NoError(t, d.(*cachedOf[float64]).read(low))
				for p := range n / each {
					y, err := d.step(read[p*each:][:each])
					require.NoError(t, err)
					require.InDeltaSlice(t, got[p*k:][:k], y, 1e-10, "position %d", p)
				}
			}
		})
	}
}

func TestImageEncoderFaults(t *testing.T) {
	const text = `{"model_type":"image_transformer","height":5,"width":3,"vocab_size":7,"hidden_size":12,"num_hidden_layers":1,"num_attention_heads":3,"attention":[{"type":"full"}]%s}`
	for _, c := range []struct {
		more string
		says []string
	}{
		{`,"encoder":{"height":6,"width":0,"num_hidden_layers":0,"attention":[{"type":"full"}]}`, []string{"encoder.height is 6", "encoder.width is 0", "encoder.num_hidden_layers is 0"}},
		{`,"encoder":{"height":2,"width":2,"num_hidden_layers":1}`, []string{"encoder.attention"}},
		{`,"encoder":{"height":2,"width":2,"num_hidden_layers":1,"heigth":1,"attention":[{"type":"full"}]}`, []string{"heigth"}},
		{`,"encoder":{"height":2,"width":2,"num_hidden_layers":1,"attention":[{"type":"full"}]},"cross_attention":[{"type":"sac"}]`, []string{"cross_attention"}},
		{`,"cross_attention":[{"type":"full"}]`, []string{"cross_attention", "without an encoder"}},
	} {
		_, err := New(fmt.Appendf(nil, text, c.more))
		require.NotEmpty(t, config.Faults(err), c.more)
		for _, says := range c.says {
			require.ErrorContains(t, err, says)
		}
	}

	m := smallImages(t, image1D, "")
	params, err := NewParams(m, tensor.Float32, 5)
	require.NoError(t, err)
	s, err := NewSession(m, params, 0)
	require.NoError(t, err)
	require.ErrorContains(t, s.ReadLow([]int32{1}), "the model reads none")
	m = smallImages(t, image1D, `,"num_classes":2,"encoder":{"height":3,"width":2,"num_hidden_layers":1,"attention":[{"type":"image1d","query_block":2,"memory":2}]}`)
	params, err = NewParams(m, tensor.Float32, 5)
	require.NoError(t, err)
	s, err = NewSession(m, params, 0)
	require.NoError(t, err)
	require.ErrorContains(t, s.ReadLow([]int32{1}), "a smaller image of 1 levels, the model reads one of 6")
	require.ErrorContains(t, s.ReadLow([]int32{1, 2, 3, 4, 5, 7}), "7")
	require.NoError(t, s.ReadLow([]int32{1, 2, 3, 4, 5, 6}))
	require.NoError(t, s.SetClasses([]int{1}))
	again, err := m.Config()
	require.NoError(t, err)
	other, err := New(again)
	require.NoError(t, err)
	require.Equal(t, m.cfg, other.(*ImageTransformer).cfg)
}
