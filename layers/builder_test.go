package layers

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/kernels"
)

func builder(training bool) *Builder {
	return New(gorgonia.NewGraph(), NewParams(tensor.Float32), Options{Seed: 1, Training: training})
}

func TestFirstErrorSticksAndNamesTheScope(t *testing.T) {
	b := builder(true)
	x := b.Input("x", tensor.Float32, 3, 96)
	w := b.Param("w", Zeros(), 5, 128)
	q := b.Scope("decoder").Scope("h.3").Scope("attn.q")
	require.Nil(t, Linear(q, x, LinearConfig{Weight: w, NoBias: true}))
	require.EqualError(t, b.Err(), "decoder.h.3.attn.q: linear: input width 96, weight wants 128")

	var se *ScopeError
	require.ErrorAs(t, q.Err(), &se)
	require.Equal(t, "decoder.h.3.attn.q", se.Scope)

	// Everything after it is quiet, does nothing and keeps the error.
	nodes := len(b.Graph().AllNodes())
	require.Nil(t, LayerNorm(b, nil, NormConfig{}))
	require.Nil(t, b.Op(mul{}, nil, nil))
	require.Nil(t, Add(b, x, nil))
	require.Nil(t, b.Param("other", Zeros(), 3))
	require.Nil(t, b.Input("y", tensor.Int32, 3))
	b.Fail(errors.New("second"))
	require.ErrorContains(t, b.Err(), "96")
	require.Len(t, b.Graph().AllNodes(), nodes)
	require.Equal(t, 1, b.Params().Len())
}

func TestMessages(t *testing.T) {
	f32 := func(b *Builder, shape ...int) *Node { return b.Input("x", tensor.Float32, shape...) }
	i32 := func(b *Builder, shape ...int) *Node { return b.Input("i", tensor.Int32, shape...) }
	for _, c := range []struct {
		want  string
		build func(b *Builder)
	}{
		{"linear: input 0 is missing", func(b *Builder) { b.Op(linear{}, nil, nil) }},
		{"reshape: input 0 is missing", func(b *Builder) { Reshape(b, nil, 3) }},
		{"add: input 1 is missing", func(b *Builder) { Add(b, f32(b, 2, 3), nil) }},
		{"scale: input 0 is missing", func(b *Builder) { Scale(b, nil, 3) }},
		{"reshape: float32(2, 3) has 6 elements and cannot be shaped (5)", func(b *Builder) { Reshape(b, f32(b, 2, 3), 5) }},
		{"reshape: float32(2, 3) has 6 elements and cannot be shaped (4, -1)", func(b *Builder) { Reshape(b, f32(b, 2, 3), 4, -1) }},
		{"linear: the input has no width", func(b *Builder) { Linear(b, nil, LinearConfig{Out: 3}) }},
		{"linear: output width 0, want at least 1", func(b *Builder) { Linear(b, f32(b, 2, 3), LinearConfig{}) }},
		{"linear: input 1 has dtype float64, input 0 has float32", func(b *Builder) {
			Linear(b, f32(b, 2, 3), LinearConfig{Weight: b.Input("w", tensor.Float64, 5, 3), NoBias: true})
		}},
		{"linear: weight of shape (3), want two axes", func(b *Builder) {
			Linear(b, f32(b, 2, 3), LinearConfig{Weight: b.Input("w", tensor.Float32, 3), NoBias: true})
		}},
		{"linear: bias of shape (4), weight wants (5)", func(b *Builder) {
			Linear(b, f32(b, 2, 3), LinearConfig{Out: 5, Bias: b.Input("bias", tensor.Float32, 4)})
		}},
		{"linear: residual of shape (2, 3), result has (2, 5)", func(b *Builder) {
			Linear(b, f32(b, 2, 3), LinearConfig{Out: 5, Residual: f32(b, 2, 3)})
		}},
		{"layer_norm: eps -1, want at least 0", func(b *Builder) { LayerNorm(b, f32(b, 2, 3), NormConfig{Eps: -1}) }},
		{"rms_norm: the input has no width", func(b *Builder) { RMSNorm(b, nil, NormConfig{}) }},
		{"layer_norm: input width 3, weight has shape (5)", func(b *Builder) {
			b.Op(norm{weight: true}, f32(b, 2, 3), b.Param("w", Ones(), 5))
		}},
		{"gelu: input 0 has dtype int32, want float32 or float64", func(b *Builder) { Activation(b, i32(b, 2), kernels.GELU) }},
		{"feed-forward: hidden width 0, want at least 1", func(b *Builder) { FeedForward(b, f32(b, 2, 3), FeedForwardConfig{}) }},
		{"dropout: probability 1, want 0 <= p < 1", func(b *Builder) { Dropout(b, f32(b, 2, 3), 1) }},
		{"embedding: ids have dtype float32, want int32", func(b *Builder) { Embedding(b, f32(b, 2, 3), 5, 7, nil) }},
		{"positions: 3 tokens from position 3, the table has 5 positions", func(b *Builder) {
			LearnedPositions(b, f32(b, 2, 3, 7), 5, nil, PositionConfig{First: 3})
		}},
		{"positions: position ids of shape (2) for an input of shape (2, 3, 7)", func(b *Builder) {
			LearnedPositions(b, f32(b, 2, 3, 7), 5, nil, PositionConfig{IDs: i32(b, 2)})
		}},
		{"positions: width 7, want an even one for sines and cosines", func(b *Builder) {
			SinusoidalPositions(b, f32(b, 3, 7), 5, false, PositionConfig{})
		}},
		{"rope: 3 rotated columns in heads of 3, want an even number from 2 to the head size", func(b *Builder) {
			Rope(b, f32(b, 5, 12), RopeConfig{Heads: 4, HeadSize: 3})
		}},
		{"rope: 4 heads of 4 from column 0, the input has 12 columns", func(b *Builder) {
			Rope(b, f32(b, 5, 12), RopeConfig{Heads: 4, HeadSize: 4})
		}},
		{"cross_entropy: targets of shape (5) for logits of shape (2, 3, 7), want all axes but the last", func(b *Builder) {
			CrossEntropy(b, f32(b, 2, 3, 7), i32(b, 5), 0)
		}},
		{"cross_entropy: label smoothing 1, want 0 <= s < 1", func(b *Builder) { CrossEntropy(b, f32(b, 2, 3), i32(b, 2), 1) }},
		{"mul: shapes (2, 3) and (3) differ", func(b *Builder) { Mul(b, f32(b, 2, 3), b.Input("y", tensor.Float32, 3)) }},
		{"input x: asked for as float32[2], exists as float32(2, 3)", func(b *Builder) { f32(b, 2, 3); f32(b, 2) }},
		{"input x: a scalar; give it shape 1", func(b *Builder) { f32(b) }},
		{"parameter w: shape [3 0], want sizes of at least 1", func(b *Builder) { b.Param("w", Ones(), 3, 0) }},
		{"parameter w: the value has shape (3), the model wants [3 5]", func(b *Builder) {
			b.Param("w", Ones(), 3)
			b.Param("w", Ones(), 3, 5)
		}},
	} {
		b := builder(true)
		c.build(b)
		require.EqualError(t, b.Err(), c.want)
	}
}

func TestErrorsOfARun(t *testing.T) {
	for _, c := range []struct {
		want  string
		value int32
		build func(b *Builder, ids *Node) *Node
	}{
		{"wte: embedding: id 7 at index 1 is outside [0, 7): check the tokenizer against vocab_size", 7,
			func(b *Builder, ids *Node) *Node { return Embedding(b.Scope("wte"), ids, 7, 5, nil) }},
		{"positions: position -1 at index 1, the table has 7 positions", -1, func(b *Builder, ids *Node) *Node {
			return LearnedPositions(b, b.Input("x", tensor.Float32, 3, 5), 7, nil, PositionConfig{IDs: ids})
		}},
		{"rope: position -1 at index 1, want at least 0", -1, func(b *Builder, ids *Node) *Node {
			return Rope(b, b.Input("x", tensor.Float32, 3, 6), RopeConfig{Heads: 1, HeadSize: 6, Positions: PositionConfig{IDs: ids}})
		}},
		{"cross_entropy: target 5 at index 1, want below 5 or negative to ignore", 5, func(b *Builder, ids *Node) *Node {
			return CrossEntropy(b, b.Input("x", tensor.Float32, 3, 5), ids, 0)
		}},
	} {
		b := builder(true)
		ids := b.Input("ids", tensor.Int32, 3)
		y := c.build(b, ids)
		require.NoError(t, b.Err())
		p, err := engine.Compile(b.Graph(), Nodes{y}, engine.Options{Scope: b.ScopeOf})
		require.NoError(t, err)
		require.NoError(t, p.Run())
		InputValue(ids).Int32s()[1] = c.value
		require.EqualError(t, p.Run(), c.want)
	}
}

func TestNamesScopesAndBlocks(t *testing.T) {
	b := builder(true)
	x := b.Input("x", tensor.Float32, 3, 5)
	h := b.Scope("h").Scope("").Scope("0")
	require.Equal(t, "h.0", h.Path())

	var y, z *Node
	b.Block(func() {
		y = Linear(h.Scope("fc"), x, LinearConfig{Out: 7})
		b.Block(func() { z = Activation(h, y, kernels.SiLU) })
	})
	b.Block(func() { z = LayerNorm(h.Scope("ln"), z, NormConfig{}) })
	w := Add(b, z, z)
	require.NoError(t, b.Err())

	require.Equal(t, []int{0, 1, 1, 2, 0}, []int{b.BlockOf(x), b.BlockOf(y), b.BlockOf(engine.Children(z)[0]), b.BlockOf(z), b.BlockOf(w)})
	require.Equal(t, []string{"h.0.fc", "h.0.ln", ""}, []string{b.ScopeOf(y), b.ScopeOf(z), b.ScopeOf(w)})

	names := func() (names []string) {
		ps, ns := b.Weights()
		for i, p := range ps {
			require.Same(t, p.Value, InputValue(ns[i]))
			names = append(names, p.Name)
		}
		return names
	}
	require.Equal(t, []string{"h.0.fc.weight", "h.0.fc.bias", "h.0.ln.weight", "h.0.ln.bias"}, names())
	p, ok := b.Params().Get("h.0.fc.bias")
	require.True(t, ok)
	p.Frozen = true
	require.Equal(t, []string{"h.0.fc.weight", "h.0.ln.weight", "h.0.ln.bias"}, names())

	require.Same(t, b.Param("h.0.fc.weight", nil, 7, 5), h.Scope("fc").Param("weight", nil, 7, 5))
	require.Same(t, x, b.Scope("deep").Input("x", tensor.Float32, 3, 5))
	require.Nil(t, InputValue(y))
	require.Nil(t, InputValue(nil))
}

func TestGraphsShareWeights(t *testing.T) {
	params := NewParams(tensor.Float64)
	value := func(set float64) []float64 {
		b := New(gorgonia.NewGraph(), params, Options{Seed: 1})
		x := b.Input("x", tensor.Float64, 1, 3)
		copy(InputValue(x).Float64s(), []float64{1, 2, 3})
		y := Linear(b, x, LinearConfig{Out: 2, NoBias: true})
		require.NoError(t, b.Err())
		p, err := engine.Compile(b.Graph(), Nodes{y}, engine.Options{})
		require.NoError(t, err)
		require.NoError(t, params.Load("weight", tensor.New(tensor.WithShape(2, 3), tensor.WithBacking([]float64{set, 0, 0, 0, 0, 1}))))
		require.NoError(t, p.Run())
		return floats(p.Value(y))
	}
	require.Equal(t, []float64{5, 3}, value(5))
	require.Equal(t, []float64{7, 3}, value(7))
	require.Equal(t, 1, params.Len())
}

// A mask depends on seed, step and place, and on nothing else.
func TestDropoutMask(t *testing.T) {
	draw := func(seed uint64, step int32, scope string, skip int) []float64 {
		b := New(gorgonia.NewGraph(), NewParams(tensor.Float32), Options{Seed: seed, Training: true})
		x := b.Input("x", tensor.Float32, 997)
		for i := range InputValue(x).Float32s() {
			InputValue(x).Float32s()[i] = 1
		}
		for range skip {
			Dropout(b.Scope(scope), x, 0.25)
		}
		y := Dropout(b.Scope(scope), x, 0.25)
		InputValue(b.Step()).Int32s()[0] = step
		p, err := engine.Compile(b.Graph(), Nodes{y}, engine.Options{})
		require.NoError(t, err)
		require.NoError(t, p.Run())
		return floats(p.Value(y))
	}
	base := draw(1, 5, "h.0", 0)
	dropped := 0
	for _, v := range base {
		if v == 0 {
			dropped++
		} else {
			require.InDelta(t, 1/0.75, v, 1e-6)
		}
	}
	require.InDelta(t, 997*0.25, dropped, 50)
	require.Equal(t, base, draw(1, 5, "h.0", 0))
	for _, other := range [][]float64{draw(2, 5, "h.0", 0), draw(1, 6, "h.0", 0), draw(1, 5, "h.1", 0), draw(1, 5, "h.0", 1)} {
		require.NotEqual(t, base, other)
	}
}

func TestDropoutIsNothingOutsideTraining(t *testing.T) {
	b := builder(false)
	x := b.Input("x", tensor.Float32, 5)
	require.Same(t, x, Dropout(b, x, 0.5))
	require.Same(t, x, Dropout(builder(true), x, 0))
	require.Same(t, x, Activation(b, x, kernels.None))
}

// The weights' gradient of a norm must not keep the gradient of its input in memory.
func TestNormGradientLetsTheInputGo(t *testing.T) {
	const n, d, layers = 997, 64, 16
	b := builder(true)
	x := b.Input("x", tensor.Float32, n, d)
	for i := range layers {
		x = LayerNorm(b.Scope(string(rune('a'+i))), x, NormConfig{})
	}
	cost := Sum(b, x)
	_, ws := b.Weights()
	ds, err := engine.VJP(Nodes{cost}, Nodes{engine.Fill(b.Graph(), engine.TypeOf(cost), 1)}, ws, nil)
	require.NoError(t, err)
	p, err := engine.Compile(b.Graph(), append(Nodes{cost}, ds...), engine.Options{})
	require.NoError(t, err)
	require.Less(t, p.Plan().Arena, (layers+5)*n*d*4)
}
