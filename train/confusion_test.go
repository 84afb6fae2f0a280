package train

import (
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/data"
)

func TestConfusion(t *testing.T) {
	logits := tensor.New(tensor.WithShape(5, 3), tensor.WithBacking([]float32{9, 0, 0, 0, 9, 0, 0, 9, 0, 1, 0, 0, 0, 0, 1}))
	c := newConfusion("sequence_classification", logits)
	b := &data.Batch{B: 5, Labels: []int32{0, 1, 0, 1, -1}}
	c.add(objectives["sequence_classification"], b, logits)
	require.Equal(t, Confusion{{1, 1, 0}, {1, 1, 0}, {0, 0, 0}}, c)
	require.InDelta(t, 0.5, c.F1(0), 1e-12)
	require.InDelta(t, 0.5, c.MacroF1(), 1e-12, "a class that is nowhere does not count")
	c.add(objectives["sequence_classification"], &data.Batch{B: 5, Labels: []int32{-1, -1, -1, -1, 2}}, logits)
	require.InDelta(t, 2.0/3, c.MacroF1(), 1e-12)
	require.Nil(t, newConfusion("causal_lm", logits))
}
