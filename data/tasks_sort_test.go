package data

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestSort: what is to be said is the source in order and an end, and each token of it is read after a start.
func TestSort(t *testing.T) {
	const length, values = 13, 7
	c, err := Load(Config{Task: "sort(length=13,values=7,train=50,val=3,test=5)"})
	require.NoError(t, err)
	require.Equal(t, values+2, c.Tokenizer.VocabSize())
	s, err := c.Train.Sampler(length, 1)
	require.NoError(t, err)
	b := c.Train.Shape(length).NewBatch(4, length)
	s.Fill(6, b)
	seen := map[string]bool{}
	for r := range b.B {
		source := slices.Clone(rowOf(b, b.IDs, r))
		seen[c.Tokenizer.Decode(source)] = true
		slices.Sort(source)
		require.Less(t, source[length-1], int32(values))
		require.Equal(t, append(source, values+1), rowOf(b, b.TargetTargets, r))
		require.Equal(t, append([]int32{values}, source...), rowOf(b, b.TargetIDs, r))
		require.EqualValues(t, length+1, b.TargetLens[r])
	}
	require.Len(t, seen, 4)
	require.Equal(t, float64(4*(length+1)), b.Bytes)
	require.Equal(t, "6 <s> </s> ", c.Tokenizer.Decode([]int32{6, 7, 8}))

	short, err := c.Train.WithLength(5)
	require.NoError(t, err)
	b = short.Shape(5).NewBatch(3, 5)
	w := c.Val.PlainWindows(length)
	require.Equal(t, 3, w.Len())
	s, err = short.Sampler(5, 1)
	require.NoError(t, err)
	s.Fill(0, b)
	require.Len(t, rowOf(b, b.TargetTargets, 0), 6)
	require.EqualValues(t, values+1, rowOf(b, b.TargetTargets, 0)[5])
}
