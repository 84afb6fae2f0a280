package layers

import (
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/tensor"
)

// Tables of whole numbers stand beside the weights, under names of their own.
func TestInts(t *testing.T) {
	p := NewParams(tensor.Float32)
	require.NoError(t, p.Load("a.weight", tensor.New(tensor.WithShape(2), tensor.WithBacking([]float32{1, 2}))))
	values := []int32{3, 5, 7, -1, 2, 0}
	require.NoError(t, p.DrawInts("a.plan", []int{2, 3}, values))
	values[0] = 9
	plan, ok := p.Ints("a.plan")
	require.True(t, ok)
	require.Equal(t, &Ints{Name: "a.plan", Shape: []int{2, 3}, Values: []int32{3, 5, 7, -1, 2, 0}}, plan)
	_, ok = p.Ints("a.weight")
	require.False(t, ok)
	require.Equal(t, 1, p.Len())
	require.Equal(t, int64(2), p.Count())

	require.NoError(t, p.DrawInts("b.plan", []int{1}, []int32{4}))
	p.StoreInts()
	require.NoError(t, p.SetInts("a.plan", []int{1, 2}, []int32{8, 8}))
	all := p.AllInts()
	require.Len(t, all, 2)
	require.Equal(t, &Ints{"a.plan", []int{1, 2}, []int32{8, 8}, true}, all[0])
	require.True(t, all[1].Stored)

	require.ErrorContains(t, p.SetInts("c", []int{2, 2}, []int32{1, 2, 3}), "table c: 3 values for shape [2 2]")
	require.ErrorContains(t, p.SetInts("a.weight", []int{1}, []int32{1}), "there is a weight of that name")
}
