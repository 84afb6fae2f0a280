package layers

import (
	"math"

	"github.com/euryale-ml/euryale/internal/splitmix"
)

// Init gives the initial elements of a weight as a function of their row-major index. It depends on nothing but the
// arguments: weights do not depend on the order in which a model is built, and those of one seed agree between machines to
// the bit and between float32 and float64 up to rounding.
type Init func(name string, shape []int, seed uint64) func(i int) float64

// Zeros sets every element to 0.
func Zeros() Init { return Const(0) }

// Ones sets every element to 1.
func Ones() Init { return Const(1) }

// Const sets every element to c.
func Const(c float64) Init {
	return func(string, []int, uint64) func(int) float64 { return func(int) float64 { return c } }
}

// Normal draws from the normal distribution of mean 0 and the given standard deviation.
func Normal(std float64) Init {
	return func(name string, _ []int, seed uint64) func(int) float64 {
		key := splitmix.Mix(hashName(name) ^ splitmix.Mix(seed))
		return func(i int) float64 { return std * normalQuantile(uniform(key, i)) }
	}
}

// TruncatedNormal draws from the normal distribution of mean 0 and a standard deviation, within two of these on both sides.
func TruncatedNormal(std float64) Init {
	tail := math.Erfc(math.Sqrt2) / 2 // of one side
	return func(name string, _ []int, seed uint64) func(int) float64 {
		key := splitmix.Mix(hashName(name) ^ splitmix.Mix(seed))
		return func(i int) float64 { return std * normalQuantile(tail+(1-2*tail)*uniform(key, i)) }
	}
}

// Uniform draws from the interval (low, high).
func Uniform(low, high float64) Init {
	return func(name string, _ []int, seed uint64) func(int) float64 {
		key := splitmix.Mix(hashName(name) ^ splitmix.Mix(seed))
		return func(i int) float64 { return low + float64((high-low)*uniform(key, i)) }
	}
}

// XavierUniform draws a matrix from the interval (-a, a) with a = sqrt(6/(rows+columns)). Other shapes count as the matrix of
// their first size and the product of the rest.
//
// Source: Glorot and Bengio 2010, Understanding the difficulty of training deep feedforward neural networks, equation 16.
func XavierUniform() Init {
	return func(name string, shape []int, seed uint64) func(int) float64 {
		in, out := 1, shape[0]
		for _, d := range shape[1:] {
			in *= d
		}
		a := math.Sqrt(6 / float64(in+out))
		return Uniform(-a, a)(name, shape, seed)
	}
}

// VarianceScaling draws a matrix from the normal distribution of variance scale/in, in being the number of its inputs: the columns of
// [out, in], or with inOut the rows of [in, out]. Other shapes count as theirs.
//
// Source: He et al. 2015, arXiv 1502.01852, section 2.2 (scale 2).
func VarianceScaling(scale float64, inOut bool) Init {
	return func(name string, shape []int, seed uint64) func(int) float64 {
		in := 1
		switch {
		case inOut:
			in = shape[0]
		case len(shape) > 1:
			in = shape[len(shape)-1]
		}
		return Normal(math.Sqrt(scale/float64(in)))(name, shape, seed)
	}
}

// hashName is 64-bit FNV-1a.
func hashName(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return h
}

// uniform is draw i of a stream, strictly between 0 and 1.
func uniform(key uint64, i int) float64 {
	return (float64(splitmix.Mix(key+uint64(i+1)*splitmix.Increment)>>11) + 0.5) / (1 << 53)
}

// normalQuantile is the inverse of the normal distribution function, relative error 1e-15.
//
// Every product is rounded by a conversion: Go may otherwise fuse it with the sum that follows, on some machines only.
//
// Source: Wichura 1988, Algorithm AS 241, The percentage points of the normal distribution, function PPND16.
func normalQuantile(p float64) float64 {
	q := p - 0.5
	if math.Abs(q) <= 0.425 {
		r := 0.180625 - float64(q*q)
		return q * horner(r, &quantileA) / horner(r, &quantileB)
	}
	r := p
	if q > 0 {
		r = 1 - p
	}
	r = math.Sqrt(-naturalLog(r))
	var x float64
	if r <= 5 {
		r -= 1.6
		x = horner(r, &quantileC) / horner(r, &quantileD)
	} else {
		r -= 5
		x = horner(r, &quantileE) / horner(r, &quantileF)
	}
	return math.Copysign(x, q)
}

// horner evaluates a polynomial whose coefficients start with the constant.
func horner(x float64, c *[8]float64) float64 {
	y := c[7]
	for i := 6; i >= 0; i-- {
		y = float64(y*x) + c[i]
	}
	return y
}

var (
	quantileA = [8]float64{3.3871328727963666080, 1.3314166789178437745e2, 1.9715909503065514427e3, 1.3731693765509461125e4,
		4.5921953931549871457e4, 6.7265770927008700853e4, 3.3430575583588128105e4, 2.5090809287301226727e3}
	quantileB = [8]float64{1, 4.2313330701600911252e1, 6.8718700749205790830e2, 5.3941960214247511077e3,
		2.1213794301586595867e4, 3.9307895800092710610e4, 2.8729085735721942674e4, 5.2264952788528545610e3}
	quantileC = [8]float64{1.42343711074968357734, 4.63033784615654529590, 5.76949722146069140550, 3.64784832476320460504,
		1.27045825245236838258, 2.41780725177450611770e-1, 2.27238449892691845833e-2, 7.74545014278341407640e-4}
	quantileD = [8]float64{1, 2.05319162663775882187, 1.67638483018380384940, 6.89767334985100004550e-1,
		1.48103976427480074590e-1, 1.51986665636164571966e-2, 5.47593808499534494600e-4, 1.05075007164441684324e-9}
	quantileE = [8]float64{6.65790464350110377720, 5.46378491116411436990, 1.78482653991729133580, 2.96560571828504891230e-1,
		2.65321895265761230930e-2, 1.24266094738807843860e-3, 2.71155556874348757815e-5, 2.01033439929228813265e-7}
	quantileF = [8]float64{1, 5.99832206555887937690e-1, 1.36929880922735805310e-1, 1.48753612908506148525e-2,
		7.86869131145613259100e-4, 1.84631831751005468180e-5, 1.42151175831644588870e-7, 2.04426310338993978564e-15}
)

// naturalLog is the logarithm of a positive normal number by the series of artanh, without the assembly and the fused
// operations that make math.Log differ between machines in the last bit.
func naturalLog(x float64) float64 {
	m, e := math.Frexp(x)
	if m < math.Sqrt2/2 {
		m, e = 2*m, e-1
	}
	z := (m - 1) / (m + 1)
	z2 := float64(z * z)
	s := 0.0
	for k := 21; k >= 1; k -= 2 {
		s = float64(s*z2) + 1/float64(k)
	}
	return float64(2*z*s) + float64(float64(e)*math.Ln2)
}
