package bigbird_theory

import (
	"fmt"
	"math"

	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/layers/attention"
)

// Jacobian says, for every pair of nodes, how much the output of the first moves when the input of the second does: the largest
// partial derivative, by central differences, of attention layers of a pattern with random weights and residual sums, [n,n].
func Jacobian(p attention.Pattern, n, depth int) ([]float64, error) {
	const heads, c, h = 2, 6, 1e-5
	params := layers.NewParams(tensor.Float64)
	b := layers.New(gorgonia.NewGraph(), params, layers.Options{Seed: 11})
	in := b.Input("x", tensor.Float64, 1, n, c)
	x := in
	for l := range depth {
		lb := b.Scope(fmt.Sprint("layer.", l))
		qkv := layers.Linear(lb.Scope("qkv"), x, layers.LinearConfig{Out: 3 * c, Init: layers.Normal(0.4)})
		o, _ := attention.AttendQKV(lb, attention.Config{Pattern: p, Heads: heads}, qkv)
		x = layers.Linear(lb.Scope("out"), o, layers.LinearConfig{Out: c, Init: layers.Normal(0.7), Residual: x})
	}
	if b.Err() != nil {
		return nil, b.Err()
	}
	program, err := engine.Compile(b.Graph(), layers.Nodes{x}, engine.Options{})
	if err != nil {
		return nil, err
	}
	values := layers.InputValue(in).Float64s()
	at := layers.Normal(1)("x", []int{1, n, c}, 5)
	for i := range values {
		values[i] = at(i)
	}
	run := func() []float64 {
		if e := program.Run(); e != nil && err == nil {
			err = e
		}
		return append([]float64(nil), engine.Floats[float64](program.Value(x))...)
	}
	moves := make([]float64, n*n)
	for e := range values {
		keep := values[e]
		values[e] = keep + h
		up := run()
		values[e] = keep - h
		down := run()
		values[e] = keep
		for k := range up {
			pair := k/c*n + e/c
			moves[pair] = math.Max(moves[pair], math.Abs(up[k]-down[k])/(2*h))
		}
	}
	return moves, err
}
