package layers

import (
	"math"

	"github.com/euryale-ml/euryale/internal/kernels"
)

// SampleMixture draws the levels of a pixel: a mixture, then channel after channel a value of its logistic, which is brought to the nearest level,
// so that each level has the mass of its bin. uniform gives numbers in [0,1), 1 + C of them. temperature divides the logits and multiplies the
// scales; 0 takes the likeliest mixture and the level nearest to its mean.
//
// Shapes: numbers [Numbers], levels [C] to be written.
func SampleMixture[F kernels.Float](c MixtureConfig, numbers []F, temperature float64, uniform func() float64, levels []int32) {
	p := pixel[F]{c, numbers, levels}
	k, draw := p.likeliest(), uniform()
	if temperature > 0 {
		k = p.choose(temperature, draw)
	}
	for ch := range c.Channels {
		mean, logScale, _ := p.logistic(k, ch)
		u := math.Min(math.Max(uniform(), 1e-300), 1-1e-16)
		x := mean + temperature*math.Exp(logScale)*(math.Log(u)-math.Log1p(-u))
		level := math.Round((x + 1) / 2 * float64(c.Levels-1))
		levels[ch] = int32(math.Min(math.Max(level, 0), float64(c.Levels-1)))
	}
}

func (p *pixel[F]) likeliest() int {
	best := 0
	for k := range p.Mixtures {
		if p.x[k] > p.x[best] {
			best = k
		}
	}
	return best
}

// choose is the mixture in whose part of the softmax of logits/temperature a number of [0,1) lies.
func (p *pixel[F]) choose(temperature, draw float64) int {
	var all running
	for k := range p.Mixtures {
		all.add(float64(p.x[k]) / temperature)
	}
	total, sum := all.log(), 0.0
	for k := range p.Mixtures {
		if sum += math.Exp(float64(p.x[k])/temperature - total); draw < sum {
			return k
		}
	}
	return p.Mixtures - 1
}
