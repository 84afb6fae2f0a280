package attention

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/euryale-ml/euryale/internal/config"
)

// TestImage2DGenerated: places are a permutation whose inverse is Rank, what is read is what Image2D says, and nothing later is.
func TestImage2DGenerated(t *testing.T) {
	for _, a := range [][]int{{4, 4, 2, 2, 2, 2}, {5, 7, 2, 3, 1, 2}, {3, 11, 5, 4, 2, 7}, {1, 1, 1, 1, 0, 0}, {7, 2, 3, 5, 0, 1}} {
		p, err := newImage2DGenerated(a)
		require.NoError(t, err)
		g := p.(Image2DGenerated)
		m := g.Image2D
		n := m.size()
		for i := range n {
			require.Equal(t, i, m.Rank(g.Place(i)), "%v", g)
			for j := range n {
				require.Equal(t, m.Sees(0, g.Place(i), g.Place(j), n), g.Sees(0, i, j, n))
				require.False(t, j > i && g.Sees(0, i, j, n), "%v: %d reads %d", g, i, j)
			}
		}
		require.Equal(t, m.NNZ(0, n), g.NNZ(0, n))
		of, ok := Generated(Causal(g))
		require.True(t, ok)
		require.Equal(t, g, of)
	}
	p, err := newImage2DGenerated([]int{4, 4, 2, 2, 2, 2})
	require.NoError(t, err)
	require.EqualValues(t, 136, p.NNZ(0, 16))
	_, ok := Generated(Full{})
	require.False(t, ok)
}

// TestImage2DEntry: the image is the model's unless the entry has one.
func TestImage2DEntry(t *testing.T) {
	in := func(text string, at Layer) (Pattern, error) {
		var e Entry
		if err := json.Unmarshal([]byte(text), &e); err != nil {
			return nil, err
		}
		return e.In(at)
	}
	const plain = `{"type":"image2d","query_height":2,"query_width":3,"memory_height":0,"memory_width":1}`
	p, err := in(plain, Layer{Heads: 1, Decoder: true, Height: 5, Width: 7})
	require.NoError(t, err)
	require.Equal(t, "causal(image2d-generated(5,7,2,3,0,1))", p.String())
	p, err = in(`{"type":"image2d","height":4,"width":6,"query_height":2,"query_width":3,"memory_height":0,"memory_width":1}`, Layer{Heads: 1, Height: 5, Width: 7})
	require.NoError(t, err)
	require.Equal(t, "image2d-generated(4,6,2,3,0,1)", p.String())
	_, err = in(plain, Layer{Heads: 1, Decoder: true})
	require.ErrorContains(t, err, "give height and width")
	_, err = in(`{"type":"image2d","height":4,"query_height":0,"query_width":3,"memory_height":-1,"memory_width":1}`, Layer{Heads: 1})
	require.Len(t, config.Faults(err), 3)
}
