package layers

import (
	"fmt"
	"slices"

	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/kernels"
)

// MixtureConfig describes a discretised mixture of logistics over the levels of a pixel.
//
// The numbers of a pixel are, with K mixtures and C channels, K logits, then for each mixture its C means, then likewise its C logarithms of scales
// and, where C is 3, its 3 coefficients, of which tanh is taken. Level l stands for x = 2l/(L-1) - 1. The mean of green is moved by c0 x_red,
// that of blue by c1 x_red + c2 x_green. The first and the last bin are open.
type MixtureConfig struct {
	Mixtures int // K
	Channels int // C, 1 or 3
	Levels   int // L
	// Approximate is the mass of a bin up to which the density in its middle times its width is taken instead, as the official code does for
	// 1e-5; 0: never. Only then are the probabilities of all levels 1 together, however small the scales are.
	Approximate float64
}

// Numbers is how many numbers there are for a pixel: 10K of three channels, 3K of one.
func (c MixtureConfig) Numbers() int { return c.at(coefficients) + c.Mixtures*c.coefficients() }

// coefficients of a mixture.
func (c MixtureConfig) coefficients() int {
	if c.Channels == 3 {
		return 3
	}
	return 0
}

// The groups of numbers after the logits.
const (
	means = iota
	scales
	coefficients
)

// at is where a group begins.
func (c MixtureConfig) at(group int) int { return c.Mixtures * (1 + group*c.Channels) }

func (c MixtureConfig) check() error {
	if c.Mixtures < 1 || c.Channels != 1 && c.Channels != 3 || c.Levels < 2 || !(c.Approximate >= 0 && c.Approximate < 1) {
		return fmt.Errorf("%d mixtures, %d channels, %d levels, approximate up to %g: want at least 1, 1 or 3, at least 2, 0 to 1", c.Mixtures, c.Channels, c.Levels, c.Approximate)
	}
	return nil
}

// MixtureRows is the loss of each pixel in nats, all its channels together: -log of the probability that a discretised mixture of logistics gives its
// levels; 0, without a gradient, where one of them is negative.
//
// Shapes: numbers [.., Numbers], levels int32 with C for each pixel -> [..]. Cost: about 60 K C FLOP and 7 K C calls of exp or log a pixel, in
// float64 whatever the precision. Nothing is kept for the gradient.
// Errors: shapes that do not fit; when run, a level of L or more.
// Source: Salimans et al. 2017, arXiv 1701.05517, section 2; as used by Parmar et al. 2018, arXiv 1802.05751, section 3.2.
// Differs: bins have their exact mass in logarithms, sigma(a) sigma(-b) (1 - exp(b-a)), in place of a difference (see Approximate).
func MixtureRows(b *Builder, numbers, levels *Node, c MixtureConfig) *Node {
	if err := c.check(); err != nil {
		return b.Failf("mixture: %v", err)
	}
	return b.Op(mixture{c}, numbers, levels)
}

// mixture has inputs: numbers, levels.
type mixture struct{ MixtureConfig }

func (o mixture) Name() string    { return "mixture" }
func (o mixture) DiffWRT() []bool { return []bool{true, false} }

func (o mixture) Infer(in []engine.Type) (engine.Type, error) {
	if err := sameFloat(in[0]); err != nil {
		return engine.Type{}, err
	}
	if err := isInts("levels", in[1]); err != nil {
		return engine.Type{}, err
	}
	x := in[0].Shape
	if len(x) < 2 || x[len(x)-1] != o.Numbers() {
		return engine.Type{}, fmt.Errorf("numbers of shape %v, want [.., %d] for %d mixtures and %d channels", x, o.Numbers(), o.Mixtures, o.Channels)
	}
	if rows := in[0].Size() / o.Numbers(); in[1].Size() != rows*o.Channels {
		return engine.Type{}, fmt.Errorf("levels of shape %v for %d pixels of %d channels", in[1].Shape, rows, o.Channels)
	}
	return engine.Type{Dtype: in[0].Dtype, Shape: tensor.Shape(slices.Clone(x[:len(x)-1]))}, nil
}

func (o mixture) Flops(in []engine.Type, _ engine.Type) float64 { return 20 * float64(in[0].Size()) }

func (o mixture) Run(out engine.Value, in []engine.Value) error {
	levels := engine.Ints(in[1])
	for i, l := range levels {
		if int(l) >= o.Levels {
			return fmt.Errorf("level %d at index %d, want below %d or negative to ignore", l, i, o.Levels)
		}
	}
	if engine.IsF32(out) {
		runMixture[float32](o.MixtureConfig, out, in[0], levels)
	} else {
		runMixture[float64](o.MixtureConfig, out, in[0], levels)
	}
	return nil
}

// mixtureChunk is how many pixels are a task of the workers.
const mixtureChunk = 16

func runMixture[F kernels.Float](c MixtureConfig, out, numbers engine.Value, levels []int32) {
	loss, x, n := engine.Floats[F](out), engine.Floats[F](numbers), c.Numbers()
	kernels.Par((len(loss)+mixtureChunk-1)/mixtureChunk, func(_, task int) {
		for r := task * mixtureChunk; r < min((task+1)*mixtureChunk, len(loss)); r++ {
			p := pixel[F]{c, x[r*n : (r+1)*n], levels[r*c.Channels : (r+1)*c.Channels]}
			loss[r] = 0
			if !p.ignored() {
				loss[r] = F(-p.logProbability())
			}
		}
	})
}

func (o mixture) Diff(in Nodes, _, dout *Node) (Nodes, error) {
	dx, err := engine.Apply(mixtureGrad(o), in[0], in[1], dout)
	return Nodes{dx, nil}, err
}

// mixtureGrad has inputs: numbers, levels, gradient of each pixel's loss.
type mixtureGrad struct{ MixtureConfig }

func (o mixtureGrad) Name() string                                { return "mixture_grad" }
func (o mixtureGrad) InPlace() int                                { return 0 }
func (o mixtureGrad) Infer(in []engine.Type) (engine.Type, error) { return in[0], nil }
func (o mixtureGrad) Diff(in Nodes, out, dout *Node) (Nodes, error) {
	return firstOrder{}.Diff(in, out, dout)
}
func (o mixtureGrad) Flops(_ []engine.Type, out engine.Type) float64 {
	return 30 * float64(out.Size())
}

func (o mixtureGrad) Run(out engine.Value, in []engine.Value) error {
	if engine.IsF32(out) {
		runMixtureGrad[float32](o.MixtureConfig, out, in)
	} else {
		runMixtureGrad[float64](o.MixtureConfig, out, in)
	}
	return nil
}

func runMixtureGrad[F kernels.Float](c MixtureConfig, out engine.Value, in []engine.Value) {
	dx, x, levels, dout, n := engine.Floats[F](out), engine.Floats[F](in[0]), engine.Ints(in[1]), engine.Floats[F](in[2]), c.Numbers()
	kernels.Par((len(dout)+mixtureChunk-1)/mixtureChunk, func(_, task int) {
		for r := task * mixtureChunk; r < min((task+1)*mixtureChunk, len(dout)); r++ {
			p, d := pixel[F]{c, x[r*n : (r+1)*n], levels[r*c.Channels : (r+1)*c.Channels]}, dx[r*n:(r+1)*n]
			if p.ignored() || dout[r] == 0 {
				clear(d)
			} else {
				p.gradient(-float64(dout[r]), d)
			}
		}
	})
}
