package layers

import (
	"slices"

	"github.com/euryale-ml/euryale/internal/kernels"
)

// arg is an input of an example: floats of a shape, or, with ids, integers below a bound.
type arg struct {
	shape []int
	ids   []int32
}

func dense(shape ...int) arg { return arg{shape: shape} }

func tokens(shape []int, v ...int32) arg { return arg{shape: shape, ids: v} }

// example is a small graph made of one layer.
type example struct {
	name  string
	args  []arg
	build func(b *Builder, in Nodes) *Node
}

// registry has an example for every operation of the package; TestEveryOpIsRegistered fails for one that no example uses.
var registry = append([]example{
	{"linear", []arg{dense(2, 3, 7)}, func(b *Builder, in Nodes) *Node {
		return Linear(b.Scope("q"), in[0], LinearConfig{Out: 5})
	}},
	{"linear in-out", []arg{dense(3, 7)}, func(b *Builder, in Nodes) *Node {
		return Linear(b.Scope("q"), in[0], LinearConfig{Out: 5, InOut: true})
	}},
	{"linear without bias", []arg{dense(7)}, func(b *Builder, in Nodes) *Node {
		return Linear(b, in[0], LinearConfig{Out: 1, NoBias: true})
	}},
	{"linear in-out without bias", []arg{dense(3, 7)}, func(b *Builder, in Nodes) *Node {
		return Linear(b, in[0], LinearConfig{Out: 5, NoBias: true, InOut: true})
	}},
	{"linear with residual", []arg{dense(2, 3, 7), dense(2, 3, 5)}, func(b *Builder, in Nodes) *Node {
		return Linear(b, in[0], LinearConfig{Out: 5, Residual: in[1]})
	}},
	{"linear with residual, without bias", []arg{dense(2, 3, 7), dense(2, 3, 5)}, func(b *Builder, in Nodes) *Node {
		return Linear(b, in[0], LinearConfig{Out: 5, Residual: in[1], NoBias: true})
	}},
	{"linear with activation and residual", []arg{dense(2, 3, 7), dense(2, 3, 5)}, func(b *Builder, in Nodes) *Node {
		return Linear(b, in[0], LinearConfig{Out: 5, Residual: in[1], Act: kernels.GELU})
	}},
	{"residual stream", []arg{dense(2, 3, 7)}, residualStream},
	{"two readers", []arg{dense(3, 7)}, func(b *Builder, in Nodes) *Node {
		x := LayerNorm(b.Scope("ln"), in[0], NormConfig{})
		return Mul(b, Linear(b.Scope("q"), x, LinearConfig{Out: 5}), Linear(b.Scope("k"), x, LinearConfig{Out: 5, InOut: true}))
	}},
	{"tied table", []arg{tokens([]int{2, 3}, 4, 0, 10, 4, 4, 1)}, func(b *Builder, in Nodes) *Node {
		x := Embedding(b.Scope("wte"), in[0], 11, 5, nil)
		table := b.Scope("wte").Param("weight", nil, 11, 5)
		return Linear(b, x, LinearConfig{Weight: table, NoBias: true})
	}},
	{"tied table and a bias", []arg{dense(3, 5), dense(11, 5)}, func(b *Builder, in Nodes) *Node {
		return Linear(b, in[0], LinearConfig{Weight: in[1]})
	}},
	{"layer norm", []arg{dense(2, 3, 7)}, func(b *Builder, in Nodes) *Node {
		return LayerNorm(b.Scope("ln"), in[0], NormConfig{})
	}},
	{"layer norm without bias", []arg{dense(5, 7)}, func(b *Builder, in Nodes) *Node {
		return LayerNorm(b, in[0], NormConfig{NoBias: true, Eps: 1e-3})
	}},
	{"layer norm without weight", []arg{dense(5, 7)}, func(b *Builder, in Nodes) *Node {
		return LayerNorm(b, in[0], NormConfig{NoWeight: true})
	}},
	{"rms norm", []arg{dense(2, 3, 7)}, func(b *Builder, in Nodes) *Node { return RMSNorm(b, in[0], NormConfig{}) }},
	{"rms norm without weight", []arg{dense(5, 7)}, func(b *Builder, in Nodes) *Node {
		return RMSNorm(b, in[0], NormConfig{NoWeight: true})
	}},
	{"feed-forward", []arg{dense(2, 3, 5)}, func(b *Builder, in Nodes) *Node {
		return FeedForward(b, in[0], FeedForwardConfig{Hidden: 11, Act: kernels.GELUTanh, Residual: in[0]})
	}},
	{"feed-forward with dropout", []arg{dense(2, 3, 5), dense(2, 3, 5)}, func(b *Builder, in Nodes) *Node {
		return FeedForward(b, in[0], FeedForwardConfig{Hidden: 11, Act: kernels.SiLU, Residual: in[1], Dropout: 0.3})
	}},
	{"feed-forward with a gate", []arg{dense(2, 3, 5)}, func(b *Builder, in Nodes) *Node {
		return FeedForward(b, in[0], FeedForwardConfig{Hidden: 11, Act: kernels.GELUTanh, NoBias: true, Gate: "gate", Residual: in[0]})
	}},
	{"feed-forward with a gate and dropout within", []arg{dense(2, 3, 5)}, func(b *Builder, in Nodes) *Node {
		return FeedForward(b, in[0], FeedForwardConfig{Hidden: 11, Act: kernels.GELUTanh, Gate: "gate", Inner: 0.2})
	}},
	{"dropout", []arg{dense(2, 3, 7)}, func(b *Builder, in Nodes) *Node { return Dropout(b, in[0], 0.4) }},
	{"embedding", []arg{tokens([]int{2, 3}, 4, 0, 12, 4, 4, 1)}, func(b *Builder, in Nodes) *Node {
		return Embedding(b, in[0], 13, 5, Normal(1))
	}},
	{"learned positions", []arg{dense(2, 3, 5)}, func(b *Builder, in Nodes) *Node {
		return LearnedPositions(b, in[0], 7, nil, PositionConfig{First: 2})
	}},
	{"learned positions by id", []arg{dense(2, 3, 5), tokens([]int{3}, 6, 0, 6)}, func(b *Builder, in Nodes) *Node {
		return LearnedPositions(b, in[0], 7, nil, PositionConfig{IDs: in[1]})
	}},
	{"learned positions of each example", []arg{dense(2, 3, 5), tokens([]int{2, 3}, 6, 0, 6, 1, 2, 3)}, func(b *Builder, in Nodes) *Node {
		return LearnedPositions(b, in[0], 7, nil, PositionConfig{IDs: in[1]})
	}},
	{"counted positions", []arg{dense(2, 5, 3), tokens([]int{2, 5}, 6, 2, 2, 7, 2, 5, 6, 7, 8, 9), tokens([]int{2}, 5, 3)}, func(b *Builder, in Nodes) *Node {
		return LearnedPositions(b, in[0], 11, nil, PositionConfig{IDs: Plus(b, CountedPositions(b, in[1], in[2], 2), 1)})
	}},
	{"sinusoidal positions", []arg{dense(2, 3, 6)}, func(b *Builder, in Nodes) *Node {
		return SinusoidalPositions(b, in[0], 7, false, PositionConfig{First: 4})
	}},
	{"shifted ids", []arg{tokens([]int{2, 3}, 4, 0, 11, 4, 4, 1)}, func(b *Builder, in Nodes) *Node {
		return Embedding(b, ShiftIDs(b, in[0], 12), 13, 5, Normal(1))
	}},
	{"ids of channels", []arg{tokens([]int{2, 3}, 4, 0, 3, 4, 4, 1), tokens([]int{3}, 8, 0, 4)}, func(b *Builder, in Nodes) *Node {
		return Embedding(b, PlusEach(b, in[0], in[1]), 13, 5, Normal(1))
	}},
	{"rope", []arg{dense(2, 5, 12)}, func(b *Builder, in Nodes) *Node {
		return Rope(b, in[0], RopeConfig{Heads: 3, HeadSize: 4})
	}},
	{"rope on a part, interleaved", []arg{dense(2, 5, 23)}, func(b *Builder, in Nodes) *Node {
		return Rope(b, in[0], RopeConfig{Heads: 2, HeadSize: 7, Offset: 3, Dim: 6, Interleaved: true, Base: 100,
			Positions: PositionConfig{First: 11}})
	}},
	{"rope by id", []arg{dense(2, 3, 8), tokens([]int{2, 3}, 6, 0, 6, 1, 29, 3)}, func(b *Builder, in Nodes) *Node {
		return Rope(b, in[0], RopeConfig{Heads: 2, HeadSize: 4, Positions: PositionConfig{IDs: in[1]}})
	}},
	{"cross entropy", []arg{dense(2, 3, 7), tokens([]int{2, 3}, 6, -100, 0, 2, -1, 3)}, func(b *Builder, in Nodes) *Node {
		return CrossEntropy(b, in[0], in[1], 0)
	}},
	{"cross entropy of each row, smoothed", []arg{dense(5, 7), tokens([]int{5}, 6, 0, 2, -1, 3)}, func(b *Builder, in Nodes) *Node {
		return CrossEntropyRows(b, in[0], in[1], 0.1)
	}},
	{"pointer", []arg{dense(3, 5, 2), tokens([]int{3, 2}, 4, 0, -1, 2, 3, 3)}, func(b *Builder, in Nodes) *Node {
		return PointerRows(b, in[0], in[1], nil)
	}},
	{"pointer with padding", []arg{dense(3, 5, 2), tokens([]int{3, 2}, 1, 0, -1, 2, 3, 3), tokens([]int{3}, 2, 3, 5)}, func(b *Builder, in Nodes) *Node {
		return PointerRows(b, in[0], in[1], in[2])
	}},
	{"softmax", []arg{dense(2, 3, 7)}, func(b *Builder, in Nodes) *Node { return Softmax(b, in[0]) }},
	{"log softmax", []arg{dense(2, 3, 7)}, func(b *Builder, in Nodes) *Node { return LogSoftmax(b, in[0]) }},
	{"mul", []arg{dense(3, 5), dense(3, 5)}, func(b *Builder, in Nodes) *Node { return Mul(b, in[0], in[1]) }},
	{"square", []arg{dense(3, 5)}, func(b *Builder, in Nodes) *Node { return Mul(b, in[0], in[0]) }},
	{"sum", []arg{dense(3, 5)}, func(b *Builder, in Nodes) *Node { return Sum(b, in[0]) }},
	{"mean", []arg{dense(3, 5)}, func(b *Builder, in Nodes) *Node { return Mean(b, Mul(b, in[0], in[0])) }},
	{"add, scale, reshape, view", []arg{dense(3, 5), dense(15)}, func(b *Builder, in Nodes) *Node {
		return View(b, Add(b, Scale(b, in[0], 3), Reshape(b, in[1], -1, 5)), 4, 7)
	}},
}, slices.Concat(activationExamples(), rowsExamples, starExamples, mixtureExamples, lstmExamples, sinkhornExamples)...)

func activationExamples() []example {
	var r []example
	for act := kernels.GELU; act <= kernels.Tanh; act++ {
		r = append(r, example{act.String(), []arg{dense(3, 7)}, func(b *Builder, in Nodes) *Node { return Activation(b, in[0], act) }})
	}
	return r
}

// residualStream is two blocks with a norm of each kind in front.
func residualStream(b *Builder, in Nodes) *Node {
	x := in[0]
	x = Linear(b.Scope("a"), LayerNorm(b.Scope("n1"), x, NormConfig{}), LinearConfig{Out: 7, Residual: x})
	return Linear(b.Scope("b"), RMSNorm(b.Scope("n2"), x, NormConfig{}), LinearConfig{Out: 7, Residual: x})
}
