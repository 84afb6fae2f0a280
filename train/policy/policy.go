// Package policy learns from rewards what has no gradient: which edges, keys or experts a layer chooses. A layer notes its choices with their
// probabilities (layers.Choice); here rewards become advantages, and these a loss whose gradient is an estimate of that of the expected
// reward.
package policy

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/kernels"
	"github.com/euryale-ml/euryale/layers"
)

// Short names for the graph's types.
type (
	Node  = gorgonia.Node
	Nodes = gorgonia.Nodes
)

var errNoSecond = errors.New("a gradient has no gradient of its own here")

// Rewards is the mean log-likelihood of what each example had to tell, [B]: the negative mean of the losses [B,..] of its rows that have a
// target (targets int32 of that shape, negative: none; nil: all have one). An example without any gets 0. It has no gradient.
func Rewards(b *layers.Builder, rows, targets *Node) *Node {
	in := Nodes{rows}
	if targets != nil {
		in = append(in, targets)
	}
	return b.Op(rewards{len(in)}, in...)
}

type rewards struct{ inputs int }

func (rewards) Name() string                             { return "rewards" }
func (rewards) Diff(in Nodes, _, _ *Node) (Nodes, error) { return make(Nodes, len(in)), nil }
func (o rewards) DiffWRT() []bool                        { return make([]bool, o.inputs) }
func (rewards) Infer(in []engine.Type) (engine.Type, error) {
	if len(in[0].Shape) == 0 || len(in) > 1 && in[1].Size() != in[0].Size() {
		return engine.Type{}, fmt.Errorf("losses and targets of %v, want one shape [B,..]", in)
	}
	return engine.Type{Dtype: in[0].Dtype, Shape: tensor.Shape{in[0].Shape[0]}}, nil
}

func (rewards) Run(out engine.Value, in []engine.Value) error {
	if engine.IsF32(out) {
		runRewards(engine.Floats[float32](out), engine.Floats[float32](in[0]), in[1:])
	} else {
		runRewards(engine.Floats[float64](out), engine.Floats[float64](in[0]), in[1:])
	}
	return nil
}

func runRewards[F kernels.Float](r, rows []F, targets []engine.Value) {
	each := len(rows) / len(r)
	for b := range r {
		sum, n := 0.0, 0
		for i, x := range rows[b*each:][:each] {
			if len(targets) == 0 || engine.Ints(targets[0])[b*each+i] >= 0 {
				sum, n = sum+float64(x), n+1
			}
		}
		r[b] = F(-sum / float64(max(n, 1)))
	}
}

// Baselines are the ways to say which reward was to be expected.
const (
	EMA          = "ema"           // the mean of past rewards, the last counting most
	LeaveOneOut  = "leave_one_out" // the mean of the other choices for the same example
	BatchMean    = "batch_mean"    // the mean of the batch, the example itself included: shrinks the gradient by (B-1)/B
	SelfCritical = "self_critical" // what the likeliest choice would have got
	None         = "none"
)

// BaselineNames are those of all baselines.
func BaselineNames() []string { return []string{EMA, LeaveOneOut, BatchMean, SelfCritical, None} }

// Past is what an EMA baseline has seen: moving means of rewards and of their squared distance from the baseline of their time, corrected for
// having begun at 0. It is changed after use, so that a baseline never depends on the choice that it is held against.
type Past struct {
	Mean   float64 `json:"mean"`
	Spread float64 `json:"spread"`
	Count  int     `json:"count"` // of steps
}

// Baseline is what the past says of the rewards to come: their mean b and their deviation σ, at least 1e-3; both 0 without any past.
func (p Past) Baseline(decay float64) (mean, scale float64) {
	if p.Count == 0 {
		return 0, 0
	}
	seen := 1 - math.Pow(decay, float64(p.Count))
	return p.Mean / seen, math.Sqrt(max(p.Spread/seen, 1e-6))
}

// Note takes up the rewards of a step: their mean and that of their squared distance from the baseline used.
func (p *Past) Note(decay, mean, spread float64) {
	p.Mean = decay*p.Mean + (1-decay)*mean
	p.Spread = decay*p.Spread + (1-decay)*spread
	p.Count++
}

// AdvantageClip bounds advantages on both sides.
const AdvantageClip = 5

// Advantages are clip((R - b)/σ, ±5), of the shape of the rewards R; 0 where σ is 0, as it is while there is no past to compare with.
// baseline and scale σ have the shape of R, or [1]. With LeaveOneOut and BatchMean b is what their names say, of groups of so many
// consecutive rewards or of all, and baseline is left alone. They have no gradient.
func Advantages(b *layers.Builder, kind string, group int, rewards, baseline, scale *Node) *Node {
	return b.Op(advantages{kind, group}, rewards, baseline, scale)
}

type advantages struct {
	kind  string
	group int
}

func (advantages) Name() string                             { return "advantages" }
func (advantages) Diff(in Nodes, _, _ *Node) (Nodes, error) { return make(Nodes, len(in)), nil }
func (advantages) DiffWRT() []bool                          { return []bool{false, false, false} }

func (o advantages) Infer(in []engine.Type) (engine.Type, error) {
	for _, t := range in[1:] {
		if n := t.Size(); n != 1 && n != in[0].Size() || t.Dtype != in[0].Dtype {
			return engine.Type{}, fmt.Errorf("rewards, baseline and scale are %v, want one number for all or one for each", in)
		}
	}
	if o.kind == LeaveOneOut && (o.group < 2 || in[0].Size()%o.group != 0) {
		return engine.Type{}, fmt.Errorf("%d choices in groups of %d, want groups of two or more", in[0].Size(), o.group)
	}
	return in[0], nil
}

func (o advantages) Run(out engine.Value, in []engine.Value) error {
	if engine.IsF32(out) {
		runAdvantages(o, engine.Floats[float32](out), engine.Floats[float32](in[0]), engine.Floats[float32](in[1]), engine.Floats[float32](in[2]))
	} else {
		runAdvantages(o, engine.Floats[float64](out), engine.Floats[float64](in[0]), engine.Floats[float64](in[1]), engine.Floats[float64](in[2]))
	}
	return nil
}

func runAdvantages[F kernels.Float](o advantages, a, r, baseline, scale []F) {
	mean := 0.0
	for _, x := range r {
		mean += float64(x) / float64(len(r))
	}
	for i, x := range r {
		var b float64
		switch o.kind {
		case BatchMean:
			b = mean
		case LeaveOneOut:
			for k := i / o.group * o.group; k < (i/o.group+1)*o.group; k++ {
				if k != i {
					b += float64(r[k]) / float64(o.group-1)
				}
			}
		default:
			b = float64(baseline[i%len(baseline)])
		}
		s := float64(scale[i%len(scale)])
		if a[i] = 0; s > 0 {
			a[i] = F(min(max((float64(x)-b)/s, -AdvantageClip), AdvantageClip))
		}
	}
}

// Entropy is the mean entropy of a step, in nats, over layers, examples and graphs, [1].
func Entropy(b *layers.Builder, choices []layers.Choice) *Node {
	var total *Node
	for _, c := range choices {
		// The loss of a choice with advantage 0 and an entropy weight of -1.
		zero := b.Const(fmt.Sprint("policy.zero.", c.Steps.Shape()), tensor.New(tensor.Of(b.Dtype()), tensor.WithShape(c.Steps.Shape()...)))
		term := b.Op(loss{-1}, c.LogProb, c.Entropy, c.Steps, zero)
		if total == nil {
			total = term
		} else {
			total = layers.Add(b, total, term)
		}
	}
	if len(choices) > 1 {
		total = layers.Scale(b, total, 1/float64(len(choices)))
	}
	return total
}

// Loss is what choices are trained by, [1]: the mean over layers, examples and graphs of
//
//	-(1/T) Σ_t A log p_t(a_t) - β (1/T) Σ_t H(p_t)
//
// with T the steps there were, β the entropy weight of the layer and A the advantages, [B] or [B,G]. Its gradient for what the
// probabilities come from is the estimate of the score function, and that of the entropy exactly.
// Source: Williams 1992, REINFORCE; Mnih et al. 2016, arXiv 1602.01783, for the entropy.
// Differs: log-probabilities are divided by T, so that a rate of learning holds for any number of steps.
func Loss(b *layers.Builder, choices []layers.Choice, advantages *Node) *Node {
	var total *Node
	for _, c := range choices {
		term := b.Op(loss{c.EntropyWeight}, c.LogProb, c.Entropy, c.Steps, advantages)
		if total == nil {
			total = term
		} else {
			total = layers.Add(b, total, term)
		}
	}
	if len(choices) > 1 {
		total = layers.Scale(b, total, 1/float64(len(choices)))
	}
	return total
}

// loss has inputs: log-probabilities and entropies [B,G,S], steps int32 [B,G], advantages.
type loss struct{ entropy float64 }

func (loss) Name() string    { return "policy_loss" }
func (loss) DiffWRT() []bool { return []bool{true, true, false, false} }

func (loss) Infer(in []engine.Type) (engine.Type, error) {
	s := in[0].Shape
	if len(s) != 3 || !slices.Equal(s, in[1].Shape) || !slices.Equal(s[:2], in[2].Shape) || in[2].Dtype != tensor.Int32 {
		return engine.Type{}, fmt.Errorf("log-probabilities, entropies and steps are %v, want [B,G,S] twice and int32 [B,G]", in[:3])
	}
	if n := in[3].Size(); n != s[0] && n != s[0]*s[1] {
		return engine.Type{}, fmt.Errorf("advantages of shape %v for choices of shape %v", in[3].Shape, s)
	}
	return engine.Type{Dtype: in[0].Dtype, Shape: tensor.Shape{1}}, nil
}

func (o loss) Run(out engine.Value, in []engine.Value) error {
	if engine.IsF32(out) {
		engine.Floats[float32](out)[0] = runLoss[float32](o, in)
	} else {
		engine.Floats[float64](out)[0] = runLoss[float64](o, in)
	}
	return nil
}

// weights calls f for each choice with its steps and the factors of its log-probabilities and entropies.
func (o loss) weights(shape tensor.Shape, steps []int32, advantage func(i int) float64, n int, f func(i, steps int, logProb, entropy float64)) {
	rows := shape[0] * shape[1]
	for i := range rows {
		t := int(steps[i])
		if t == 0 {
			continue
		}
		each := 1 / (float64(t) * float64(rows))
		f(i, t, -advantage(i/(rows/n))*each, -o.entropy*each)
	}
}

func runLoss[F kernels.Float](o loss, in []engine.Value) F {
	logProb, entropy, a := engine.Floats[F](in[0]), engine.Floats[F](in[1]), engine.Floats[F](in[3])
	s, sum := in[0].Shape(), 0.0
	o.weights(s, engine.Ints(in[2]), func(i int) float64 { return float64(a[i]) }, len(a), func(i, steps int, l, h float64) {
		for t := range steps {
			sum += l*float64(logProb[i*s[2]+t]) + h*float64(entropy[i*s[2]+t])
		}
	})
	return F(sum)
}

func (o loss) Diff(in Nodes, _, dout *Node) (Nodes, error) {
	packed, err := engine.Apply(lossGrad{o}, dout, in[0], in[2], in[3])
	if err != nil {
		return nil, err
	}
	return engine.Unpack(packed, in, 2)
}

// lossGrad has the gradients for log-probabilities and entropies, one after the other. Inputs: the gradient of the loss,
// log-probabilities (for their shape), steps, advantages.
type lossGrad struct{ loss }

func (lossGrad) Name() string                            { return "policy_loss_grad" }
func (lossGrad) DiffWRT() []bool                         { return make([]bool, 4) }
func (lossGrad) Diff(Nodes, *Node, *Node) (Nodes, error) { return nil, errNoSecond }

func (lossGrad) Infer(in []engine.Type) (engine.Type, error) {
	return engine.Type{Dtype: in[0].Dtype, Shape: append(tensor.Shape{2}, in[1].Shape...)}, nil
}

func (o lossGrad) Run(out engine.Value, in []engine.Value) error {
	if engine.IsF32(out) {
		runLossGrad[float32](o, out, in)
	} else {
		runLossGrad[float64](o, out, in)
	}
	return nil
}

func runLossGrad[F kernels.Float](o lossGrad, out engine.Value, in []engine.Value) {
	d, a, x := float64(engine.Floats[F](in[0])[0]), engine.Floats[F](in[3]), engine.Floats[F](out)
	s := in[1].Shape()
	clear(x)
	o.weights(s, engine.Ints(in[2]), func(i int) float64 { return float64(a[i]) }, len(a), func(i, steps int, l, h float64) {
		for t := range steps {
			x[i*s[2]+t], x[s.TotalSize()+i*s[2]+t] = F(d*l), F(d*h)
		}
	})
}
