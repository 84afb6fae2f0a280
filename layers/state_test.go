package layers

import (
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
)

func TestStateIsNoWeight(t *testing.T) {
	b := New(gorgonia.NewGraph(), NewParams(tensor.Float32), Options{Training: true})
	w := b.Param("w", Ones(), 2, 3)
	s := b.Scope("attn").State("sums", Normal(1), 5, 7)
	require.NoError(t, b.Err())
	ps, ns := b.Weights()
	require.Equal(t, Nodes{w}, ns)
	require.Equal(t, "w", ps[0].Name)
	require.Equal(t, int64(6), b.Params().Count())
	require.Equal(t, int64(35), b.Params().StateCount())
	p, ok := b.Params().Get("attn.sums")
	require.True(t, ok)
	require.True(t, p.State)
	require.Same(t, p.Value, InputValue(s), "graphs read the memory that a rule writes")
	require.Same(t, s, b.Scope("attn").State("sums", nil, 5, 7))
	require.Nil(t, b.State("w", Ones(), 2, 3))
	require.EqualError(t, b.Err(), "state w: there is a weight of that name")
}

// Only graphs for training change state.
func TestUpdatesAreForTraining(t *testing.T) {
	for _, training := range []bool{true, false} {
		b := New(gorgonia.NewGraph(), NewParams(tensor.Float32), Options{Training: training})
		b.Update(StateUpdate{})
		if training {
			require.Len(t, b.Updates(), 1)
		} else {
			require.Empty(t, b.Updates())
		}
	}
}

// The gradient of cost + weight·term, where the term enters at y, with the term stored, computed again in a block, and in a reversible layer.
func TestTermOfTheLoss(t *testing.T) {
	grads := func(how string, weight float64) (values [][]float64, term float64) {
		b := New(gorgonia.NewGraph(), NewParams(tensor.Float64), Options{Seed: 5, Training: true})
		x := b.Input("x", tensor.Float64, 3, 5)
		randomise(InputValue(x), "x")
		branch := func(x *Node) *Node {
			h := Linear(b.Scope("up"), x, LinearConfig{Out: 7, Init: Normal(1)})
			y := Linear(b.Scope("down"), h, LinearConfig{Out: 5, Init: Normal(1)})
			square := Reshape(b, Mean(b, Mul(b, h, h)), 1)
			if how == "added" {
				b.terms = append(b.terms, square) // to be differentiated where it stands
				return y
			}
			return b.AddLoss(y, square)
		}
		y, r := x, (*engine.Recompute)(nil)
		switch how {
		case "reversible":
			y1, y2, err := engine.Reversible(x, x, engine.ReversibleBlock{F: branch, G: func(x *Node) *Node { return Mul(b, x, x) }})
			require.NoError(t, err)
			y = Add(b, y1, y2)
		case "block":
			b.Block(func() { y1 := Add(b, x, branch(x)); y = Add(b, y1, Add(b, x, Mul(b, y1, y1))) })
			r = &engine.Recompute{Block: b.BlockOf}
		default:
			y1 := Add(b, x, branch(x))
			y = Add(b, y1, Add(b, x, Mul(b, y1, y1)))
		}
		dy, w := b.Input("dy", tensor.Float64, 3, 5), b.LossWeight()
		require.NoError(t, b.Err())
		randomise(InputValue(dy), "dy")
		InputValue(w).Float64s()[0] = weight
		own := b.Terms(nil)
		outs := Nodes{y, own}
		if how == "added" {
			outs[1] = b.terms[0]
		}
		_, wrt := b.Weights()
		gs, err := engine.VJP(outs, Nodes{dy, w}, append(wrt, x), r)
		require.NoError(t, err)
		p, err := engine.Compile(b.Graph(), append(gs, own), engine.Options{Poison: true})
		require.NoError(t, err)
		require.NoError(t, p.Run())
		for _, g := range gs {
			values = append(values, floats(p.Value(g)))
		}
		return values, floats(p.Value(own))[0]
	}
	want, term := grads("added", 0.7)
	without, _ := grads("added", 0)
	require.NotEqual(t, want[0], without[0])
	require.Positive(t, term)
	for _, how := range []string{"plain", "block", "reversible"} {
		got, also := grads(how, 0.7)
		require.InDelta(t, term, also, 1e-12, how)
		for i := range want {
			require.InDeltaSlice(t, want[i], got[i], 1e-10, how)
		}
	}
	b := New(gorgonia.NewGraph(), NewParams(tensor.Float64), Options{})
	x := b.Input("x", tensor.Float64, 3, 5)
	require.Same(t, x, b.AddLoss(x, Reshape(b, Sum(b, x), 1)))
	require.Nil(t, b.Terms(nil), "without training there is no term")
}
