package attention

import (
	"math"

	"github.com/euryale-ml/euryale/internal/kernels"
)

// NormMap turns the search for the greatest inner product into one for the nearest neighbour, by more channels. Queries are of unit
// length in it, for their length changes no choice; keys are divided by a bound M of their lengths, times U.
type NormMap string

const (
	// NoMap divides keys and queries by their own length: the nearest are those of the smallest angle.
	NoMap NormMap = "cosine"
	// SimpleLSH is x = k/M, P = [x; √(1-|x|²)], Q = [q; 0]: unit vectors, whose cosine is q·x. (Neyshabur and Srebro 2015, arXiv 1410.5518)
	SimpleLSH NormMap = "simple_lsh"
	// L2ALSH is x = kU/M, P = [x; |x|²; |x|⁴; …; |x|^(2^m)], Q = [q; ½; …; ½], m = 3, U = 0.83:
	// |Q-P|² = 1 + m/4 - 2 q·x + |x|^(2^(m+1)). (Shrivastava and Li 2014, arXiv 1405.5869)
	L2ALSH NormMap = "l2_alsh"
	// SignALSH is x = kU/M, P = [x; ½-|x|²; …; ½-|x|^(2^m)], Q = [q; 0; …; 0], m = 2, U = 0.75: |P|² = m/4 + |x|^(2^(m+1)), Q·P = q·x.
	// (Shrivastava and Li 2015, arXiv 1410.5410)
	SignALSH NormMap = "sign_alsh"
)

// Extra is how many channels the map adds.
func (m NormMap) Extra() int {
	switch m {
	case SimpleLSH:
		return 1
	case L2ALSH:
		return 3
	case SignALSH:
		return 2
	}
	return 0
}

// shrink is U.
func (m NormMap) shrink() float64 {
	switch m {
	case L2ALSH:
		return 0.83
	case SignALSH:
		return 0.75
	}
	return 1
}

// length of a vector.
func length[F kernels.Float](x []F) float64 {
	sum := 0.0
	for _, v := range x {
		sum += float64(v) * float64(v)
	}
	return math.Sqrt(sum)
}

// scaled writes x times f; all zeros where f is not finite.
func scaled[F kernels.Float](x []F, f float64, out []F) {
	if math.IsInf(f, 0) || math.IsNaN(f) {
		f = 0
	}
	for i, v := range x {
		out[i] = F(f * float64(v))
	}
}

// MapKey maps a key of d channels to out, d + Extra of them; bound is M.
func MapKey[F kernels.Float](m NormMap, x []F, bound float64, out []F) {
	d := len(x)
	if m == NoMap {
		scaled(x, 1/length(x), out)
		return
	}
	scaled(x, m.shrink()/bound, out[:d])
	n := length(out[:d])
	n *= n
	if m == SimpleLSH {
		out[d] = F(math.Sqrt(max(0, 1-n)))
		return
	}
	for e := range out[d : d+m.Extra()] { // |x|^(2^(e+1))
		out[d+e] = F(n)
		if m == SignALSH {
			out[d+e] = F(0.5 - n)
		}
		n *= n
	}
}

// MapQuery maps a query.
func MapQuery[F kernels.Float](m NormMap, q []F, out []F) {
	scaled(q, 1/length(q), out[:len(q)])
	for e := range out[len(q):][:m.Extra()] {
		out[len(q)+e] = 0
		if m == L2ALSH {
			out[len(q)+e] = 0.5
		}
	}
}
