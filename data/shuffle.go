package data

import (
	"math/bits"

	"github.com/euryale-ml/euryale/internal/splitmix"
)

// permutation is a bijection of 0..n-1 that needs no table: a Feistel network on the next power of four, walked until it falls into
// the range (Black and Rogaway, "Ciphers with Arbitrary Finite Domains", 2002, section 3). Cost: O(1) expected for each call.
type permutation struct {
	n    uint64
	half uint
	keys [6]uint64
}

// newPermutation returns the permutation of a key.
func newPermutation(n int, key uint64) permutation {
	p := permutation{n: uint64(n), half: uint(bits.Len64(uint64(max(n, 2)-1))+1) / 2}
	for i := range p.keys {
		p.keys[i] = hash(key, uint64(i))
	}
	return p
}

// at returns where i goes.
func (p *permutation) at(i int) int {
	mask := uint64(1)<<p.half - 1
	x := uint64(i)
	for {
		left, right := x>>p.half, x&mask
		for _, key := range p.keys {
			left, right = right, left^(splitmix.Mix(key^right)&mask)
		}
		x = left<<p.half | right
		if x < p.n {
			return int(x)
		}
	}
}

// hash is a counter-based generator: a well mixed number of the words, in their order.
func hash(words ...uint64) uint64 {
	h := uint64(splitmix.Increment)
	for _, w := range words {
		h = splitmix.Mix(h ^ splitmix.Mix(w+splitmix.Increment))
	}
	return h
}

// below returns a number of 0..n-1 from a hash.
func below(h uint64, n int) int {
	high, _ := bits.Mul64(h, uint64(n))
	return int(high)
}
