package layers

import (
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
)

// filled is an input with values.
func filled(b *Builder, name string, shape []int, v ...int32) *Node {
	n := b.Input(name, tensor.Int32, shape...)
	copy(InputValue(n).Int32s(), v)
	return n
}

// TestSlicePlanes: a pixel reads the levels of the slices before the one that is asked for, and the plane of this one, around it and not beyond the
// image.
func TestSlicePlanes(t *testing.T) {
	const h, w, s = 2, 3, 2
	b := New(gorgonia.NewGraph(), NewParams(tensor.Float64), Options{})
	levels := []int32{4, 0, 1, 3, 2, 2, 0, 1, 3, 4, 1, 0}
	y := SlicePlanes(b, filled(b, "ids", []int{1, 12}, levels...), filled(b, "which", []int{2}, 1, 0), PlanesConfig{Height: h, Width: w, Slices: s, Levels: 5})
	require.NoError(t, b.Err())
	p, err := engine.Compile(b.Graph(), Nodes{y}, engine.Options{})
	require.NoError(t, err)
	require.NoError(t, p.Run())
	got := engine.Floats[float64](p.Value(y))
	for e, k := range []int{1, 0} {
		for r := range h {
			for c := range w {
				for dy := -1; dy <= 1; dy++ {
					for dx := -1; dx <= 1; dx++ {
						for plane := range 2 * s {
							want, in := 0.0, r+dy >= 0 && r+dy < h && c+dx >= 0 && c+dx < w
							switch {
							case in && plane < k:
								want = float64(levels[((r+dy)*w+c+dx)*s+plane]) / 4
							case in && plane == s+k:
								want = 1
							}
							require.Equal(t, want, got[(((e*h+r)*w+c)*9+(dy+1)*3+dx+1)*2*s+plane], "%d: %d %d, %d %d, plane %d", e, r, c, dy, dx, plane)
						}
					}
				}
			}
		}
	}
}

// TestSliceFaults: what does not fit is an error of the graph, and what is not there one of the run.
func TestSliceFaults(t *testing.T) {
	for name, build := range map[string]func(b *Builder, ids *Node) *Node{
		"slices of a part of the images": func(b *Builder, ids *Node) *Node { return PickSlice(b, ids, filled(b, "w", []int{3}), 2) },
		"broken pixels":                  func(b *Builder, ids *Node) *Node { return PickSlice(b, ids, filled(b, "w", []int{2}), 5) },
		"no slices":                      func(b *Builder, ids *Node) *Node { return PickSlice(b, ids, filled(b, "w", []int{2}), 0) },
		"another size": func(b *Builder, ids *Node) *Node {
			return SlicePlanes(b, ids, filled(b, "w", []int{2}), PlanesConfig{Height: 2, Width: 2, Slices: 2, Levels: 5})
		},
		"one level": func(b *Builder, ids *Node) *Node {
			return SlicePlanes(b, ids, filled(b, "w", []int{2}), PlanesConfig{Height: 1, Width: 3, Slices: 2, Levels: 1})
		},
		"an index of two axes": func(b *Builder, ids *Node) *Node { return TakeIDs(b, ids, ids) },
		"no images":            func(b *Builder, ids *Node) *Node { return DrawSlices(b, 0, 2) },
	} {
		b := New(gorgonia.NewGraph(), NewParams(tensor.Float32), Options{})
		require.Nil(t, build(b, filled(b, "ids", []int{2, 6})), name)
		require.Error(t, b.Err(), name)
	}
	for name, build := range map[string]func(b *Builder, ids *Node) *Node{
		"slice -1 is asked for": func(b *Builder, ids *Node) *Node { return PickSlice(b, ids, filled(b, "w", []int{2}, 0, -1), 2) },
		"slice 2 is asked for of example 1": func(b *Builder, ids *Node) *Node {
			return SlicePlanes(b, ids, filled(b, "w", []int{2}, 0, 2), PlanesConfig{Height: 1, Width: 3, Slices: 2, Levels: 5})
		},
		"index[1] is 6": func(b *Builder, ids *Node) *Node { return TakeIDs(b, ids, filled(b, "i", []int{2}, 0, 6)) },
	} {
		b := New(gorgonia.NewGraph(), NewParams(tensor.Float32), Options{})
		y := build(b, filled(b, "ids", []int{2, 6}))
		require.NoError(t, b.Err())
		p, err := engine.Compile(b.Graph(), Nodes{y}, engine.Options{})
		require.NoError(t, err)
		require.ErrorContains(t, p.Run(), name)
	}
}
