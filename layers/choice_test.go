package layers

import (
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
)

// What goes through StopGradient counts as a constant.
func TestStopGradient(t *testing.T) {
	b := New(gorgonia.NewGraph(), NewParams(tensor.Float64), Options{Training: true})
	x := b.Input("x", tensor.Float64, 3)
	copy(InputValue(x).Float64s(), []float64{2, -3, 5})
	y := Sum(b, Mul(b, x, StopGradient(b, x)))
	require.NoError(t, b.Err())
	ds, err := engine.VJP(Nodes{y}, Nodes{engine.Fill(b.Graph(), engine.TypeOf(y), 1)}, Nodes{x}, nil)
	require.NoError(t, err)
	p, err := engine.Compile(b.Graph(), Nodes{y, ds[0]}, engine.Options{})
	require.NoError(t, err)
	require.NoError(t, p.Run())
	require.Equal(t, []float64{38}, floats(p.Value(y)))
	require.Equal(t, []float64{2, -3, 5}, floats(p.Value(ds[0])))
}

func TestOnceAndChoices(t *testing.T) {
	b := New(gorgonia.NewGraph(), NewParams(tensor.Float64), Options{})
	n := b.Scope("a").Once("plan", func() *Node { return b.Input("x", tensor.Float64, 3) })
	require.Same(t, n, b.Scope("b").Once("plan", func() *Node { t.Fatal("made twice"); return nil }))
	b.Scope("h.3").Choose(Choice{LogProb: n})
	require.Equal(t, []Choice{{Scope: "h.3", LogProb: n}}, b.Choices())
	require.False(t, b.Sampled())
	w := b.Scope("a").Grouped(ChoosingWeights, "w", Ones(), 2)
	p, _ := b.Params().Get("a.w")
	require.NotNil(t, w)
	require.Equal(t, ChoosingWeights, p.Group)
}
