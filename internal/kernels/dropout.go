package kernels

// Dropout sets y = x/(1-p) where the element is kept, else 0; y may be x. It is its own gradient: called on dy with the same
// numbers it gives dx. An element is kept with probability 1-p by a counter-based generator, so that nothing is stored:
// elements 2i and 2i+1 take the low and the high half of
//
//	mix(key + (i+1) φ),  key = mix(mix(mix(seed + φ) + step + φ) + site + φ),  φ = 0x9e3779b97f4a7c15
//
// where mix is the finaliser of SplitMix64 (Steele, Lea, Flood 2014), and are dropped if that half is below p 2³².
// A dropped element is 0 even if x is NaN.
func Dropout[F Float](p F, seed, step uint64, site uint64, x, y []F) {
	y = y[:len(x)]
	switch {
	case p <= 0:
		copy(y, x)
		return
	case p >= 1:
		clear(y)
		return
	}
	j := newJob(opDropout, elem[F]())
	j.key = mix(mix(mix(seed+golden)+step+golden) + site + golden)
	j.drop = uint32(min(float64(p)*(1<<32), 1<<32-1))
	j.a, j.x, j.y = 1/(1-p), x, y
	j.do(len(x), elemChunk)
	j.free()
}

const golden = 0x9e3779b97f4a7c15

// mix is the finaliser of SplitMix64: a bijection of 64 bits in which each input bit flips each output bit with probability 1/2.
func mix(z uint64) uint64 {
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// goDropout treats the elements from number 2*pair.
func goDropout[F Float](x, y []F, key, pair uint64, drop uint32, scale F) {
	key += pair * golden
	for i, v := range x {
		if i%2 == 0 {
			key += golden
		}
		if uint32(mix(key)>>(i%2*32)) < drop {
			v = 0
		} else {
			v *= scale
		}
		y[i] = v
	}
}
