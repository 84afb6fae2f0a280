package train

import (
	"fmt"
	"math"

	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/kernels"
	"github.com/euryale-ml/euryale/layers"
)

// AdamW is the optimiser with its moments, which are part of a checkpoint.
//
// Source: Loshchilov, Hutter 2019, arXiv 1711.05101, algorithm 2, in the form of torch.optim.AdamW (golden cases blocks/adamw_*).
// Memory: two values for each weight.
type AdamW struct {
	Step    int // steps done
	skipped int // of these, how many did not change the weights
	params  []*layers.Param
	m, v    []*tensor.Dense // first and second moments
}

// NewAdamW makes an optimiser for the weights, moments zero.
func NewAdamW(params []*layers.Param) *AdamW {
	o := &AdamW{params: params}
	for _, p := range params {
		o.m = append(o.m, tensor.New(tensor.Of(p.Value.Dtype()), tensor.WithShape(p.Value.Shape()...)))
		o.v = append(o.v, tensor.New(tensor.Of(p.Value.Dtype()), tensor.WithShape(p.Value.Shape()...)))
	}
	return o
}

// Update changes the weights by their gradients times scale. Weight decay leaves out weights that are marked NoDecay.
func (o *AdamW) Update(c Config, lr, scale float64, grads []gorgonia.Value) {
	o.Step++
	for i, p := range o.params {
		k := kernels.AdamW{LR: lr, Beta1: c.AdamBeta1, Beta2: c.AdamBeta2, Eps: c.AdamEpsilon, WeightDecay: c.WeightDecay, Scale: scale, Step: o.Step - o.skipped}
		if p.Decay != nil {
			k.WeightDecay = *p.Decay
		} else if p.NoDecay {
			k.WeightDecay = 0
		}
		if p.Rate != 0 {
			k.LR *= p.Rate
		}
		if engine.IsF32(p.Value) {
			adamw[float32](k, p.Value, o.m[i], o.v[i], grads[i])
		} else {
			adamw[float64](k, p.Value, o.m[i], o.v[i], grads[i])
		}
	}
}

// Skip counts a step that leaves the weights alone.
func (o *AdamW) Skip() {
	o.Step++
	o.skipped++
}

func adamw[F kernels.Float](k kernels.AdamW, p, m, v, g gorgonia.Value) {
	kernels.AdamWStep(k, engine.Floats[F](p), engine.Floats[F](m), engine.Floats[F](v), engine.Floats[F](g))
}

// Moments calls f for the moments of each weight, under the names that a checkpoint gives them.
func (o *AdamW) Moments(f func(name string, value *tensor.Dense) error) error {
	for i, p := range o.params {
		if err := f("exp_avg/"+p.Name, o.m[i]); err != nil {
			return err
		}
		if err := f("exp_avg_sq/"+p.Name, o.v[i]); err != nil {
			return err
		}
	}
	return nil
}

// ClipFactor is what gradients of a global norm are multiplied by so that it is at most limit (0: no limit), as in
// torch.nn.utils.clip_grad_norm_.
func ClipFactor(norm, limit float64) float64 {
	if limit == 0 {
		return 1
	}
	return min(1, limit/(norm+1e-6))
}

// GlobalNorm is the Euclidean norm of all gradients together.
func GlobalNorm(grads []gorgonia.Value) float64 {
	s := 0.0
	for _, g := range grads {
		s += sumSquares(g)
	}
	return math.Sqrt(s)
}

// DivergedError says that the loss or the gradient is not a finite number. The weights are as before the step.
type DivergedError struct {
	Step       int
	Loss, Norm float64
	Evaluation bool // of an evaluation, of which there is the loss alone
}

func (e *DivergedError) Error() string {
	if e.Evaluation {
		return fmt.Sprintf("evaluation: the loss is %g: the weights have diverged; take an older checkpoint, and a smaller train.lr to go on from it", e.Loss)
	}
	return fmt.Sprintf("diverged at step %d: loss %g, gradient norm %g; the weights are as before that step: resume from a checkpoint with a smaller train.lr", e.Step, e.Loss, e.Norm)
}
