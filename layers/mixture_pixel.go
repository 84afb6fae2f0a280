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
	case level == 0:
		l = -softplus(-a)
		return l, -sigmoid(-a) * inverse, -a * sigmoid(-a)
	case int(level) == p.Levels-1:
		l = -softplus(b)
		return l, sigmoid(b) * inverse, b * sigmoid(b)
	}
	// sigma(a) - sigma(b) = sigma(a) sigma(-b) (1 - exp(b-a)), whose logarithm loses nothing far from the mean.
	width := a - b
	l = -softplus(-a) - softplus(b) + math.Log(-math.Expm1(-width))
	if p.Approximate > 0 && math.Exp(l) <= p.Approximate {
		middle := x * inverse
		by := 1 - 2*sigmoid(-middle) // -d/d(middle) of the logarithm of the density
		return -middle - logScale - 2*softplus(-middle) + math.Log(2*half), by * inverse, middle*by - 1
	}
	return l, (sigmoid(b) - sigmoid(-a)) * inverse, b*sigmoid(b) - a*sigmoid(-a) - width/math.Expm1(width)
}

// gradient writes scale times the gradient of logProbability to d, which may be the numbers themselves.
func (p *pixel[F]) gradient(scale float64, d []F) {
	var weights, all running
	var room [16]float64
	joint := room[:0] // with the levels
	for k := range p.Mixtures {
		logit := float64(p.x[k])
		weights.add(logit)
		joint = append(joint, logit+p.mixture(k))
		all.add(joint[k])
	}
	prior, posterior := weights.log(), all.log()
	for k := range p.Mixtures {
		share := math.Exp(joint[k] - posterior)
		d[k] = F(scale * (share - math.Exp(float64(p.x[k])-prior)))
		p.mixtureGradient(k, scale*share, d)
	}
}

// mixtureGradient writes the gradient by the means, scales and coefficients of mixture k.
func (p *pixel[F]) mixtureGradient(k int, scale float64, d []F) {
	var byMean, byScale [3]float64
	for c := range p.Channels {
		mean, logScale, free := p.logistic(k, c)
		_, byMean[c], byScale[c] = p.bin(c, mean, logScale)
		if !free {
			byScale[c] = 0
		}
	}
	for c := range p.Channels {
		d[p.at(means)+k*p.Channels+c] = F(scale * byMean[c])
		d[p.at(scales)+k*p.Channels+c] = F(scale * byScale[c])
	}
	if p.Channels == 3 {
		red, green, at := p.value(p.levels[0]), p.value(p.levels[1]), p.at(coefficients)+3*k
		for i, by := range [3]float64{byMean[1] * red, byMean[2] * red, byMean[2] * green} {
			t := math.Tanh(float64(p.x[at+i]))
			d[at+i] = F(scale * by * (1 - t*t))
		}
	}
}

// sigmoid is 1/(1+exp(-x)).
func sigmoid(x float64) float64 {
	if x >= 0 {
		return 1 / (1 + math.Exp(-x))
	}
	e := math.Exp(x)
	return e / (1 + e)
}

// softplus is log(1+exp(x)).
func softplus(x float64) float64 { return math.Max(x, 0) + math.Log1p(math.Exp(-math.Abs(x))) }
