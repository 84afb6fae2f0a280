// Package splitmix is the counter-based generator behind everything that is drawn outside the kernels: initial weights, the order of
// the data, synthetic tasks, random patterns, sampled tokens. Number i of a stream is Mix(key + i*Increment): nothing is drawn in
// order, so nothing has to be stored to go on. (Dropout uses the same function inside its kernels, which have their own.)
//
// Source: Steele, Lea, Flood 2014, Fast splittable pseudorandom number generators, figure 16 (SplitMix64).
package splitmix

// Increment is 2^64 over the golden ratio, the step of SplitMix64 from one number to the next.
const Increment = 0x9e3779b97f4a7c15

// Mix is the output function of SplitMix64: a bijection in which every bit of x changes half of the bits of the result.
func Mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// Unit is a number in [0, 1) from the upper 53 bits of a mixed one.
func Unit(mixed uint64) float64 { return float64(mixed>>11) / (1 << 53) }
