package bigbird_theory

import (
	"math"
	"slices"

	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/layers/attention"
)

// Unit draws n vectors of length 1, [n,d].
func Unit(n, d int, seed uint64) []float64 {
	at := layers.Normal(1)("unit", []int{n, d}, seed)
	x := make([]float64, n*d)
	for i := range n {
		row := x[i*d:][:d]
		norm := 0.0
		for k := range row {
			row[k] = at(i*d + k)
			norm += row[k] * row[k]
		}
		for k := range row {
			row[k] /= math.Sqrt(norm)
		}
	}
	return x
}

// Furthest is, for every vector, the place of the one that is furthest from it: argmin_j ⟨x_i, x_j⟩. It is the task of which the paper
// shows (section 3.4), under a conjecture on orthogonal vectors, that sparse attention needs about as many layers as there are
// vectors, where dense attention needs one.
func Furthest(x []float64, n, d int) []int {
	all := make([]int, n)
	for i := range n {
		least := math.Inf(1)
		for j := range n {
			if s := dot(x[i*d:][:d], x[j*d:][:d]); s < least {
				least, all[i] = s, j
			}
		}
	}
	return all
}

func dot(a, b []float64) (s float64) {
	for k := range a {
		s += a[k] * b[k]
	}
	return s
}

// Finder is one layer of attention whose weights are set by hand to find the furthest vector that its pattern lets it read: the query is
// -β x_i, the key x_j, the value the place j as a unit vector, and β is so large that the softmax is its largest score.
type Finder struct {
	n       int
	program *engine.Program
	in      []float64
	out     *layers.Node
}

// NewFinder builds the layer for n vectors of d numbers.
func NewFinder(p attention.Pattern, n, d int) (*Finder, error) {
	const beta = 1e6
	b := layers.New(gorgonia.NewGraph(), layers.NewParams(tensor.Float64), layers.Options{})
	x := b.Input("x", tensor.Float64, 1, n, d)
	places := make([]float64, n*n)
	for j := range n {
		places[j*n+j] = 1
	}
	v := b.Const("places", tensor.New(tensor.WithShape(1, n, n), tensor.WithBacking(places)))
	o, _ := attention.Attend(b, attention.Config{Pattern: p, Heads: 1, Scale: 1}, layers.Scale(b, x, -beta), x, v)
	if b.Err() != nil {
		return nil, b.Err()
	}
	program, err := engine.Compile(b.Graph(), layers.Nodes{o}, engine.Options{})
	return &Finder{n, program, layers.InputValue(x).Float64s(), o}, err
}

// Outputs are what the layer gives for vectors [n,d]: for each the places that it found, [n,n].
func (f *Finder) Outputs(x []float64) ([]float64, error) {
	copy(f.in, x)
	err := f.program.Run()
	return append([]float64(nil), engine.Floats[float64](f.program.Value(f.out))...), err
}

// Find is the place of the vector that was found for each.
func (f *Finder) Find(x []float64) ([]int, error) {
	o, err := f.Outputs(x)
	all := make([]int, f.n)
	for i := range all {
		row := o[i*f.n:][:f.n]
		all[i] = slices.Index(row, slices.Max(row))
	}
	return all, err
}
