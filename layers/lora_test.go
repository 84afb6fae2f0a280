package layers

import (
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
)

// A changed weight computes what the merged one does, and only what changes it has a gradient.
func TestLoRA(t *testing.T) {
	for _, inOut := range []bool{false, true} {
		params := NewParams(tensor.Float64)
		run := func(p *Params) []float64 {
			g := gorgonia.NewGraph()
			b := New(g, p, Options{Seed: 3})
			x := b.Const("x", tensor.New(tensor.WithShape(3, 7), tensor.WithBacking(someValues(21))))
			y := Linear(b.Scope("a"), x, LinearConfig{Out: 5, InOut: inOut, Init: Normal(1)})
			require.NoError(t, b.Err())
			program, err := engine.Compile(g, Nodes{y}, engine.Options{})
			require.NoError(t, err)
			require.NoError(t, program.Run())
			return append([]float64(nil), engine.Floats[float64](program.Value(y))...)
		}
		before := run(params)
		require.NoError(t, params.AddLoRA("a.weight", LoRA{Rank: 2, Alpha: 3}, 1))
		require.Equal(t, before, run(params), "at first nothing changes")
		require.EqualValues(t, 2*(7+5)+5, params.Trainable(), "A, B and the bias")
		bp, ok := params.Get("a.lora_B.weight")
		require.True(t, ok)
		copy(bp.Value.Float64s(), someValues(10))
		after := run(params)
		require.NotEqual(t, before, after)

		merged := params.Merged()
		require.Equal(t, 2, merged.Len())
		require.InDeltaSlice(t, after, run(merged), 1e-12)
		require.Equal(t, before, run(onlyBase(t, params)), "the weight itself stays")

		g := gorgonia.NewGraph()
		b := New(g, params, Options{})
		x := b.Const("x", tensor.New(tensor.WithShape(3, 7), tensor.WithBacking(someValues(21))))
		Linear(b.Scope("a"), x, LinearConfig{Out: 5, InOut: inOut})
		trained, _ := b.Weights()
		var names []string
		for _, p := range trained {
			names = append(names, p.Name)
		}
		require.ElementsMatch(t, []string{"a.lora_A.weight", "a.lora_B.weight", "a.bias"}, names)

		a, _ := params.Get("a.lora_A.weight")
		base := onlyBase(t, params)
		require.NoError(t, base.MergeLoRA("a.weight", a.Value, bp.Value, 3))
		require.InDeltaSlice(t, after, run(base), 1e-12)
	}
}

func someValues(n int) []float64 {
	v := make([]float64, n)
	for i := range v {
		v[i] = float64(i*7%11)/5 - 1
	}
	return v
}

// onlyBase are the weights without what changes them.
func onlyBase(t *testing.T, p *Params) *Params {
	out := NewParams(p.Dtype())
	for _, q := range p.All() {
		if _, _, added := LoRAParts(q.Name); !added {
			require.NoError(t, out.Load(q.Name, q.Value))
		}
	}
	return out
}

func TestLoRARefuses(t *testing.T) {
	params := NewParams(tensor.Float32)
	require.NoError(t, params.Load("a.weight", tensor.New(tensor.Of(tensor.Float32), tensor.WithShape(5, 7))))
	require.NoError(t, params.Load("a.bias", tensor.New(tensor.Of(tensor.Float32), tensor.WithShape(5))))
	require.ErrorContains(t, params.AddLoRA("b.weight", LoRA{Rank: 1}, 0), "no weight b.weight")
	require.ErrorContains(t, params.AddLoRA("a.bias", LoRA{Rank: 1}, 0), "want a matrix")
	require.ErrorContains(t, params.AddLoRA("a.weight", LoRA{Rank: 6}, 0), "want 1 to 5")
	require.ErrorContains(t, params.AddLoRA("a.weight", LoRA{}, 0), "want 1 to 5")
	v := tensor.New(tensor.Of(tensor.Float32), tensor.WithShape(2, 7))
	require.ErrorContains(t, params.MergeLoRA("a.weight", v, v, 1), "matrices (2, 7) and (2, 7)")
	require.Same(t, params, params.Merged())
}

func TestMatchName(t *testing.T) {
	name := "bert.encoder.layer.1.attention.self.query.weight"
	for pattern, want := range map[string]bool{
		"query": true, "self.query": true, "uery": false, "key": false, name: true, "*": true, "*.query.*": true, "bert.*": true, "bert.encoder.layer.1": false,
		"bert.encoder.layer.1.*": true, "*.layer.2.*": false, "*weight": true, "*bias": false, "bert*self*weight": true, "bert*weight*self*": false,
	} {
		require.Equal(t, want, MatchName(pattern, name), pattern)
	}
}
