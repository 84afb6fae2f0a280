package attention

import (
	"fmt"
	"math"
	"strings"

	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/kernels"
	"github.com/euryale-ml/euryale/layers"
)

// LayerCost is what kind of layer costs what: a row of the table that compares attention with other layers over T tokens of D channels.
//
// Work and chains are counted in graphs that are built for the purpose, forward pass only; paths in the graph of who reads whom.
type LayerCost struct {
	Layer string `json:"layer"`
	// Complexity is what the exponents come to, such as "T^2 D".
	Complexity string  `json:"complexity"`
	ExponentT  float64 `json:"exponent_t"` // of the floating-point operations in T
	ExponentD  float64 `json:"exponent_d"` // and in D
	// Lengths are the T of Sequential and MaxPath.
	Lengths []int `json:"lengths"`
	// Sequential is the longest chain of operations, as a multiple of that for T = 1.
	Sequential []float64 `json:"sequential_ops"`
	// MaxPath is through how many layers, or steps of one, the most distant pair of tokens is joined.
	MaxPath []int `json:"max_path"`
}

// surveyLengths are the T of chains and paths.
var surveyLengths = []int{16, 64, 256}

// surveyKernel is the width K of convolutions.
const surveyKernel = 4

// surveyed is a kind of layer: how it is built on x [1,T,D], for which T and D its work is counted, and what its layer l reads.
type surveyed struct {
	name   string
	build  func(b *layers.Builder, x *Node) *Node
	sizes  [2][3]int // T, D
	reads  func(l int) Pattern
	causal bool
}

var surveyedLayers = []surveyed{
	{"self-attention", func(b *layers.Builder, x *Node) *Node {
		o, _ := Attend(b, Config{Heads: 1}, x, x, x)
		return o
	}, [2][3]int{{256, 512, 1024}, {16, 32, 64}}, func(int) Pattern { return Full{} }, false},
	{"fully connected", func(b *layers.Builder, x *Node) *Node {
		n := x.Shape().TotalSize()
		return layers.Linear(b, layers.Reshape(b, x, 1, n), layers.LinearConfig{Out: n, NoBias: true, Init: layers.Zeros()})
	}, [2][3]int{{8, 16, 32}, {8, 16, 32}}, func(int) Pattern { return Full{} }, false},
	{fmt.Sprintf("convolution (kernel %d)", surveyKernel), convolution, [2][3]int{{16, 32, 64}, {16, 32, 64}},
		func(int) Pattern { return Band{Left: surveyKernel - 1} }, true},
	{fmt.Sprintf("convolution (kernel %d, dilated by %d^layer)", surveyKernel, surveyKernel), convolution, [2][3]int{{16, 32, 64}, {16, 32, 64}},
		func(l int) Pattern {
			return Dilated{Left: surveyKernel - 1, Gap: int(math.Pow(surveyKernel, float64(min(l, 12))))}
		}, true},
	{"recurrent", recurrence, [2][3]int{{8, 16, 32}, {32, 64, 128}}, func(int) Pattern { return Band{Left: 1} }, true},
}

// convolution is a causal convolution of K taps: one matrix for K tokens side by side.
func convolution(b *layers.Builder, x *Node) *Node {
	t, d := x.Shape()[1], x.Shape()[2]
	taps := Nodes{x}
	for k := 1; k < surveyKernel; k++ {
		back := make([]int32, t)
		for i := range back {
			back[i] = int32(max(i-k, -1))
		}
		taps = append(taps, layers.Gather(b, x, b.Const(fmt.Sprint("back", k), tensor.New(tensor.WithShape(t), tensor.WithBacking(back)))))
	}
	return layers.Linear(b, layers.Concat(b, 2, taps...), layers.LinearConfig{Out: d, NoBias: true, Init: layers.Zeros()})
}

// recurrence is h_t = tanh(W x_t + U h_(t-1)), step by step.
func recurrence(b *layers.Builder, x *Node) *Node {
	t, d := x.Shape()[1], x.Shape()[2]
	var h *Node
	states := make(Nodes, t)
	for i := range t {
		h = layers.Linear(b.Scope("w"), layers.Slice(b, x, 1, i, i+1), layers.LinearConfig{Out: d, NoBias: true, Init: layers.Zeros(), Residual: stateOf(b, h, d)})
		h = layers.Activation(b, h, kernels.Tanh)
		states[i] = h
	}
	return layers.Concat(b, 1, states...)
}

// stateOf is U h, nil before the first step.
func stateOf(b *layers.Builder, h *Node, d int) *Node {
	if h == nil {
		return nil
	}
	return layers.Linear(b.Scope("u"), h, layers.LinearConfig{Out: d, NoBias: true, Init: layers.Zeros()})
}

// Survey compares self-attention with fully connected, convolutional and recurrent layers: work, sequential steps, longest path.
// Source: Vaswani et al. 2017, arXiv 1706.03762, table 1. Everything is counted, nothing is taken from there.
func Survey() ([]LayerCost, error) {
	var all []LayerCost
	for _, s := range surveyedLayers {
		row := LayerCost{Layer: s.name, Lengths: surveyLengths}
		var err error
		if row.ExponentT, err = s.exponent(func(i int) (t, d int) { return s.sizes[0][i], s.sizes[1][1] }); err != nil {
			return nil, fmt.Errorf("%s: %w", s.name, err)
		}
		if row.ExponentD, err = s.exponent(func(i int) (t, d int) { return s.sizes[0][1], s.sizes[1][i] }); err != nil {
			return nil, fmt.Errorf("%s: %w", s.name, err)
		}
		row.Complexity = power("T", row.ExponentT) + power(" D", row.ExponentD)
		row.Complexity = strings.TrimSpace(row.Complexity)
		_, one, err := s.count(1, 8)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.name, err)
		}
		for _, t := range surveyLengths {
			_, chain, err := s.count(t, 8)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", s.name, err)
			}
			row.Sequential = append(row.Sequential, float64(chain)/float64(one))
			row.MaxPath = append(row.MaxPath, layersUntilReached(s.reads, t, s.causal))
		}
		all = append(all, row)
	}
	return all, nil
}

func power(name string, exponent float64) string {
	if e := math.Round(exponent); e != 1 {
		return fmt.Sprintf("%s^%v", name, e)
	}
	return name
}

// count builds the layer and returns its work and the length of its chain.
func (s surveyed) count(t, d int) (flops float64, chain int, err error) {
	b := layers.New(gorgonia.NewGraph(), layers.NewParams(tensor.Float32), layers.Options{})
	y := s.build(b, b.Input("x", tensor.Float32, 1, t, d))
	if err := b.Err(); err != nil {
		return 0, 0, err
	}
	p, err := engine.Compile(b.Graph(), Nodes{y}, engine.Options{})
	if err != nil {
		return 0, 0, err
	}
	defer func() { _ = p.Close() }()
	return p.Plan().TotalFlops(), engine.Chain(y), nil
}

// exponent is the slope of the work in one of the sizes, on logarithmic axes, between the last two of three.
func (s surveyed) exponent(size func(i int) (t, d int)) (float64, error) {
	var flops, sizes [2]float64
	for i := range flops {
		t, d := size(i + 1)
		f, _, err := s.count(t, d)
		if err != nil {
			return 0, err
		}
		flops[i], sizes[i] = f, float64(t*d)
	}
	return math.Log(flops[1]/flops[0]) / math.Log(sizes[1]/sizes[0]), nil
}

// layersUntilReached is how many layers, of which layer l reads reads(l), it takes until every token has reached every other, every later
// one if causal.
func layersUntilReached(reads func(l int) Pattern, n int, causal bool) int {
	reached := make([][]bool, n) // by query
	for i := range reached {
		reached[i] = make([]bool, n)
		reached[i][i] = true
	}
	var runs []Run
	for l := 0; ; l++ {
		done := true
		for i := range reached {
			for j := range reached[i] {
				done = done && (reached[i][j] || causal && j > i)
			}
		}
		if done {
			return l
		}
		next := make([][]bool, n)
		for i := range next {
			next[i] = append([]bool(nil), reached[i]...)
			runs = reads(l).Row(0, i, n, runs[:0])
			for _, r := range runs {
				for k := r.Lo; k < r.Hi; k += r.Step {
					for j, is := range reached[k] {
						next[i][j] = next[i][j] || is
					}
				}
			}
		}
		reached = next
	}
}
