package layers

import "math"

// ALiBiSlopes returns the slope of each head: attention adds -slope*distance to its scores. For H a power of two they are
// 2^(-8h/H), h = 1..H; otherwise those of the next lower power, then every second one of the next higher.
//
// Source: Press, Smith, Lewis 2021, arXiv 2108.12409, section 3 and the official get_slopes.
func ALiBiSlopes(heads int) []float64 {
	power := 1
	for 2*power <= heads {
		power *= 2
	}
	s := make([]float64, 0, heads)
	for h := 1; h <= power && h <= heads; h++ {
		s = append(s, math.Exp2(-8*float64(h)/float64(power)))
	}
	for h := 1; len(s) < heads; h += 2 {
		s = append(s, math.Exp2(-4*float64(h)/float64(power)))
	}
	return s
}

// T5Bucket is the bucket of a relative position (that of the key less that of the query): small distances have a bucket
// each, larger ones share buckets of logarithmic width up to maxDistance, beyond which all share the last. Bidirectional
// buckets keep half of them for keys after the query; otherwise such keys count as distance 0.
//
// The logarithm is taken in float32, as Hugging Face does, since distances on the border of a bucket depend on it.
//
// Source: Raffel et al. 2019, arXiv 1910.10683, section 2.1; T5Attention._relative_position_bucket of transformers.
func T5Bucket(relative int, bidirectional bool, buckets, maxDistance int) int {
	first, n := 0, -relative
	if bidirectional {
		buckets /= 2
		if n < 0 {
			first, n = buckets, -n
		}
	}
	n = max(n, 0)
	exact := buckets / 2
	if n < exact {
		return first + n
	}
	ratio := float32(math.Log(float64(float32(n) / float32(exact))))
	large := ratio / float32(math.Log(float64(maxDistance)/float64(exact))) * float32(buckets-exact)
	return first + min(exact+int(large), buckets-1)
}
