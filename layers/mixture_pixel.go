package layers

import (
	"math"

	"github.com/euryale-ml/euryale/internal/kernels"
)

// leastLogScale bounds scales from below; a number below it has no gradient.
const leastLogScale = -7

// pixel is the mixture of one pixel and its levels.
type pixel[F kernels.Float] struct {
	MixtureConfig
	x      []F
	levels []int32
}

func (p *pixel[F]) ignored() bool {
	for _, l := range p.levels {
		if l < 0 {
			return true
		}
	}
	return false
}

// value is what a level stands for, in -1 to 1.
func (c MixtureConfig) value(level int32) float64 { return 2*float64(level)/float64(c.Levels-1) - 1 }

// logProbability is log sum_k softmax(logits)_k prod_c P_kc(level_c).
func (p *pixel[F]) logProbability() float64 {
	var weights, all running
	for k := range p.Mixtures {
		logit := float64(p.x[k])
		weights.add(logit)
		all.add(logit + p.mixture(k))
	}
	return all.log() - weights.log()
}

// running is log sum exp of numbers that come one by one.
type running struct {
	most, sum float64
	any       bool
}

func (r *running) add(x float64) {
	switch {
	case !r.any:
		r.most, r.sum, r.any = x, 1, true
	case x > r.most:
		r.sum = r.sum*math.Exp(r.most-x) + 1
		r.most = x
	default:
		r.sum += math.Exp(x - r.most)
	}
}

func (r *running) log() float64 { return r.most + math.Log(r.sum) }

// mixture is the logarithm of the probability of the levels under mixture k.
func (p *pixel[F]) mixture(k int) float64 {
	sum := 0.0
	for c := range p.Channels {
		mean, logScale, _ := p.logistic(k, c)
		l, _, _ := p.bin(c, mean, logScale)
		sum += l
	}
	return sum
}

// logistic is the mean and the logarithm of the scale of a channel of mixture k; free tells whether the latter may have a gradient.
func (p *pixel[F]) logistic(k, c int) (mean, logScale float64, free bool) {
	mean = float64(p.x[p.at(means)+k*p.Channels+c])
	if c > 0 {
		t := p.x[p.at(coefficients)+3*k:]
		if c == 1 {
			mean += math.Tanh(float64(t[0])) * p.value(p.levels[0])
		} else {
			mean += math.Tanh(float64(t[1]))*p.value(p.levels[0]) + math.Tanh(float64(t[2]))*p.value(p.levels[1])
		}
	}
	logScale = float64(p.x[p.at(scales)+k*p.Channels+c])
	return mean, math.Max(logScale, leastLogScale), !(logScale < leastLogScale)
}

// bin is the logarithm of the mass that a logistic has in the bin of the level of channel c, with its derivatives by the mean and by the logarithm
// of the scale.
func (p *pixel[F]) bin(c int, mean, logScale float64) (l, byMean, byScale float64) {
	level := p.levels[c]
	half := 1 / float64(p.Levels-1)
	x, inverse := p.value(level)-mean, math.Exp(-logScale)
	a, b := (x+half)*inverse, (x-half)*inverse // the ends of the bin
	switch {
	case level == 0: // sigma(a)
		most, rest, above := tail(-a)
		return -most - math.Log(rest), -above * inverse, -a * above
	case int(level) == p.Levels-1: // 1 - sigma(b)
		most, rest, below := tail(b)
		return -most - math.Log(rest), below * inverse, b * below
	}
	// sigma(a) - sigma(b) = sigma(a) sigma(-b) (1 - exp(b-a)), whose logarithm loses nothing far from the mean.
	width := a - b
	part := -math.Expm1(-width)
	mostA, restA, above := tail(-a)
	mostB, restB, below := tail(b)
	l = -mostA - mostB - math.Log(restA*restB/part)
	if p.Approximate > 0 && math.Exp(l) <= p.Approximate {
		middle := x * inverse
		most, rest, beyond := tail(-middle)
		by := 1 - 2*beyond // -d/d(middle) of the logarithm of the density
		return -middle - logScale - 2*(most+math.Log(rest)) + math.Log(2*half), by * inverse, middle*by - 1
	}
	return l, (below - above) * inverse, b*below - a*above - width*(1-part)/part
}

// tail is log(1+exp(x)) as most + log(rest), and 1/(1+exp(-x)).
func tail(x float64) (most, rest, sigmoid float64) {
	e := math.Exp(-math.Abs(x))
	if x >= 0 {
		return x, 1 + e, 1 / (1 + e)
	}
	return 0, 1 + e, e / (1 + e)
}

// gradient writes scale times the gradient of logProbability to d, which may be the numbers themselves.
func (p *pixel[F]) gradient(scale float64, d []F) {
	var weights, all running
	var room [16]float64
	var more [2 * 3 * 16]float64
	joint, by := room[:0], more[:0] // logarithms with the levels; derivatives by the mean and the scale of each channel of each mixture
	for k := range p.Mixtures {
		logit := float64(p.x[k])
		weights.add(logit)
		sum := logit
		for c := range p.Channels {
			mean, logScale, free := p.logistic(k, c)
			l, byMean, byScale := p.bin(c, mean, logScale)
			if !free {
				byScale = 0
			}
			sum += l
			by = append(by, byMean, byScale)
		}
		joint = append(joint, sum)
		all.add(sum)
	}
	prior, posterior := weights.log(), all.log()
	for k := range p.Mixtures {
		share := math.Exp(joint[k] - posterior)
		d[k] = F(scale * (share - math.Exp(float64(p.x[k])-prior)))
		p.mixtureGradient(k, scale*share, by[2*p.Channels*k:], d)
	}
}

// mixtureGradient writes the gradient by the means, scales and coefficients of mixture k.
func (p *pixel[F]) mixtureGradient(k int, scale float64, by []float64, d []F) {
	for c := range p.Channels {
		d[p.at(means)+k*p.Channels+c] = F(scale * by[2*c])
		d[p.at(scales)+k*p.Channels+c] = F(scale * by[2*c+1])
	}
	if p.Channels == 3 {
		red, green, at := p.value(p.levels[0]), p.value(p.levels[1]), p.at(coefficients)+3*k
		for i, by := range [3]float64{by[2] * red, by[4] * red, by[4] * green} {
			t := math.Tanh(float64(p.x[at+i]))
			d[at+i] = F(scale * by * (1 - t*t))
		}
	}
}
