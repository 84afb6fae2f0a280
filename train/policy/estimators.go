package policy

import (
	"fmt"
	"math"
	"slices"

	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/kernels"
	"github.com/euryale-ml/euryale/layers"
)

// Estimator is a way to learn what to choose: how a choice among n stands in a graph, and what is taken for its gradient.
type Estimator interface {
	// Name is that of configurations and tables.
	Name() string
	// Unbiased tells whether the expected gradient is that of the expected loss.
	Unbiased() bool
	// Select chooses for each row of logits [N,n]. draws are numbers in (0,1) of that shape, new ones for each step.
	Select(b *layers.Builder, logits, draws *Node) Selection
}

// Selection is what an Estimator chose.
type Selection struct {
	// Weights [N,n] stand for the choice in what follows; their gradient, if they have one, is the estimator's.
	Weights *Node
	// Index, int32 [N], is what was chosen; nil: no single one was.
	Index *Node
	// LogProb [N] is the log-probability of what was chosen, with a gradient, for the Loss of a Choice; nil: the gradient comes through
	// Weights.
	LogProb *Node
}

// ScoreFunction draws from softmax(logits); nothing goes back through what was drawn. Its gradient is that of LogProb times an advantage, see
// Loss. Source: Williams 1992, Simple statistical gradient-following algorithms (REINFORCE).
type ScoreFunction struct{}

func (ScoreFunction) Name() string   { return "score_function" }
func (ScoreFunction) Unbiased() bool { return true }

// Select draws by the maxima of logits in Gumbel noise.
func (e ScoreFunction) Select(b *layers.Builder, logits, draws *Node) Selection {
	index := b.Op(gumbelIndex{}, logits, draws)
	return Selection{Weights: b.Op(relaxed{kind: e.Name()}, logits, draws), Index: index,
		LogProb: layers.Scale(b, layers.CrossEntropyRows(b, logits, index, 0), -1)}
}

// StraightThrough draws from softmax(logits) and takes for the gradient of what was drawn that of the softmax.
// Source: Bengio, Léonard and Courville 2013, arXiv 1308.3432, section 4.
type StraightThrough struct{}

func (StraightThrough) Name() string   { return "straight_through" }
func (StraightThrough) Unbiased() bool { return false }
func (e StraightThrough) Select(b *layers.Builder, logits, draws *Node) Selection {
	return Selection{Weights: b.Op(relaxed{kind: e.Name(), tau: 1}, logits, draws), Index: b.Op(gumbelIndex{}, logits, draws)}
}

// GumbelSoftmax is softmax((logits + Gumbel noise)/τ): a mixture, near to a choice for small τ. With Hard what is largest is chosen and the
// gradient is that of the mixture. Source: Jang, Gu and Poole 2016, arXiv 1611.01144; Maddison et al. 2016, arXiv 1611.00712.
type GumbelSoftmax struct {
	Tau  float64
	Hard bool
}

func (e GumbelSoftmax) Name() string {
	if e.Hard {
		return "straight_through_gumbel"
	}
	return "gumbel_softmax"
}
func (GumbelSoftmax) Unbiased() bool { return false }
func (e GumbelSoftmax) Select(b *layers.Builder, logits, draws *Node) Selection {
	s := Selection{Weights: b.Op(relaxed{kind: e.Name(), tau: e.Tau}, logits, draws)}
	if e.Hard {
		s.Index = b.Op(gumbelIndex{}, logits, draws)
	}
	return s
}

// TopK takes the K largest logits, with weight 1, and for the gradient that of σ((s - s_K)/τ), s_K being the least of those taken, as a
// constant. Nothing is drawn.
type TopK struct {
	K   int
	Tau float64
}

func (TopK) Name() string   { return "top_k" }
func (TopK) Unbiased() bool { return false }
func (e TopK) Select(b *layers.Builder, logits, draws *Node) Selection {
	return Selection{Weights: b.Op(relaxed{kind: e.Name(), tau: e.Tau, k: e.K}, logits, draws)}
}

// Estimators are one of each kind, with usual settings.
func Estimators() []Estimator {
	return []Estimator{ScoreFunction{}, StraightThrough{}, GumbelSoftmax{Tau: 1}, GumbelSoftmax{Tau: 1, Hard: true}, TopK{K: 1, Tau: 1}}
}

// gumbelIndex is where logits + Gumbel noise are largest. Inputs: logits [N,n], draws.
type gumbelIndex struct{}

func (gumbelIndex) Name() string                             { return "gumbel_index" }
func (gumbelIndex) DiffWRT() []bool                          { return []bool{false, false} }
func (gumbelIndex) Diff(in Nodes, _, _ *Node) (Nodes, error) { return make(Nodes, 2), nil }

func (gumbelIndex) Infer(in []engine.Type) (engine.Type, error) {
	if len(in[0].Shape) != 2 || !slices.Equal(in[0].Shape, in[1].Shape) {
		return engine.Type{}, fmt.Errorf("logits and draws are %v, want one shape [N,n]", in)
	}
	return engine.Type{Dtype: tensor.Int32, Shape: tensor.Shape{in[0].Shape[0]}}, nil
}

func (gumbelIndex) Run(out engine.Value, in []engine.Value) error {
	if engine.IsF32(in[0]) {
		runIndex(engine.Ints(out), engine.Floats[float32](in[0]), engine.Floats[float32](in[1]))
	} else {
		runIndex(engine.Ints(out), engine.Floats[float64](in[0]), engine.Floats[float64](in[1]))
	}
	return nil
}

func runIndex[F kernels.Float](index []int32, u, draws []F) {
	n := len(u) / max(len(index), 1)
	for r := range index {
		index[r] = int32(largest(noisy(u[r*n:][:n], draws[r*n:][:n], 1)))
	}
}

// noisy is (u + Gumbel noise)/τ.
func noisy[F kernels.Float](u, draws []F, tau float64) []float64 {
	y := make([]float64, len(u))
	for k, v := range u {
		y[k] = (float64(v) - math.Log(-math.Log(float64(draws[k])))) / tau
	}
	return y
}

func largest(x []float64) int {
	best := 0
	for k, v := range x {
		if v > x[best] {
			best = k
		}
	}
	return best
}

func softmax(u []float64) []float64 {
	most, sum := u[largest(u)], 0.0
	p := make([]float64, len(u))
	for k, v := range u {
		p[k] = math.Exp(v - most)
		sum += p[k]
	}
	for k := range p {
		p[k] /= sum
	}
	return p
}

// relaxed are the weights of a Selection. Inputs: logits [N,n], draws.
type relaxed struct {
	kind string
	tau  float64
	k    int
}

func (o relaxed) Name() string    { return o.kind }
func (o relaxed) DiffWRT() []bool { return []bool{o.kind != ScoreFunction{}.Name(), false} }
func (relaxed) Infer(in []engine.Type) (engine.Type, error) {
	_, err := gumbelIndex{}.Infer(in)
	return in[0], err
}

func (o relaxed) Run(out engine.Value, in []engine.Value) error {
	if engine.IsF32(out) {
		runRelaxed(o, engine.Floats[float32](out), engine.Floats[float32](in[0]), engine.Floats[float32](in[1]), in[0].Shape()[1])
	} else {
		runRelaxed(o, engine.Floats[float64](out), engine.Floats[float64](in[0]), engine.Floats[float64](in[1]), in[0].Shape()[1])
	}
	return nil
}

func runRelaxed[F kernels.Float](o relaxed, y, u, draws []F, n int) {
	clear(y)
	for r := 0; r < len(u); r += n {
		row, to := u[r:][:n], y[r:][:n]
		switch o.kind {
		case "gumbel_softmax":
			for k, p := range softmax(noisy(row, draws[r:][:n], o.tau)) {
				to[k] = F(p)
			}
		case "top_k":
			least := o.least(row)
			for k, v := range row {
				if float64(v) >= least {
					to[k] = 1
				}
			}
		default:
			to[largest(noisy(row, draws[r:][:n], 1))] = 1
		}
	}
}

// least is the least of the k largest.
func (o relaxed) least(row any) float64 {
	var s []float64
	switch row := row.(type) {
	case []float32:
		for _, v := range row {
			s = append(s, float64(v))
		}
	case []float64:
		s = slices.Clone(row)
	}
	slices.Sort(s)
	return s[len(s)-min(max(o.k, 1), len(s))]
}

func (o relaxed) Diff(in Nodes, _, dout *Node) (Nodes, error) {
	if o.kind == (ScoreFunction{}).Name() {
		return make(Nodes, 2), nil
	}
	du, err := engine.Apply(relaxedGrad{o}, dout, in[0], in[1])
	return Nodes{du, nil}, err
}

// relaxedGrad has inputs: the gradient of the weights, logits, draws.
type relaxedGrad struct{ of relaxed }

func (o relaxedGrad) Name() string                              { return o.of.kind + "_grad" }
func (relaxedGrad) DiffWRT() []bool                             { return make([]bool, 3) }
func (relaxedGrad) Diff(Nodes, *Node, *Node) (Nodes, error)     { return nil, errNoSecond }
func (relaxedGrad) Infer(in []engine.Type) (engine.Type, error) { return in[1], nil }

func (o relaxedGrad) Run(out engine.Value, in []engine.Value) error {
	n := in[1].Shape()[1]
	if engine.IsF32(out) {
		runRelaxedGrad(o.of, engine.Floats[float32](out), engine.Floats[float32](in[0]), engine.Floats[float32](in[1]), engine.Floats[float32](in[2]), n)
	} else {
		runRelaxedGrad(o.of, engine.Floats[float64](out), engine.Floats[float64](in[0]), engine.Floats[float64](in[1]), engine.Floats[float64](in[2]), n)
	}
	return nil
}

func runRelaxedGrad[F kernels.Float](o relaxed, du, dy, u, draws []F, n int) {
	for r := 0; r < len(u); r += n {
		row, d, to := u[r:][:n], dy[r:][:n], du[r:][:n]
		if o.kind == "top_k" {
			least := o.least(row)
			for k, v := range row {
				s := 1 / (1 + math.Exp(-(float64(v)-least)/o.tau))
				to[k] = F(float64(d[k]) * s * (1 - s) / o.tau)
			}
			continue
		}
		var p []float64
		if o.kind == (StraightThrough{}).Name() {
			wide := make([]float64, n)
			for k, v := range row {
				wide[k] = float64(v)
			}
			p = softmax(wide)
		} else {
			p = softmax(noisy(row, draws[r:][:n], o.tau))
		}
		mean := 0.0
		for k, q := range p {
			mean += q * float64(d[k])
		}
		for k, q := range p {
			to[k] = F(q * (float64(d[k]) - mean) / o.tau)
		}
	}
}
