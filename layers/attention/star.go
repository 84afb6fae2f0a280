package attention

// Star is the graph of the Star-Transformer: node 0 is the relay, which reads all and is read by all; the tokens behind it form a
// ring, each reading itself and its two neighbours, and the first and last are neighbours. An open ring is
// External{Count: 1} + Band{Left: 1, Right: 1}. It cannot be causal.
// Source: Guo et al. 2019, arXiv 1902.09113, section 3.
type Star struct{ alike }

func (Star) String() string { return "star" }

// FromEnd is true: the ring closes over the tokens there are.
func (Star) FromEnd() bool { return true }
func (Star) space() space  { return space{front: 1} }
func (Star) Sees(_, i, j, n int) bool {
	if !inside(i, j, n) {
		return false
	}
	d := max(i-j, j-i)
	return i == 0 || j == 0 || d <= 1 || d == n-2 // the last is d: 1 and n-1
}
func (Star) Row(_, i, n int, dst []Run) []Run {
	if i >= n {
		return dst
	}
	if i == 0 {
		return append(dst, Run{0, n, 1})
	}
	dst = append(dst, Run{0, 1, 1}, Run{max(1, i-1), min(n, i+2), 1})
	switch {
	case i == 1:
		dst = append(dst, Run{n - 1, n, 1})
	case i == n-1:
		dst = append(dst, Run{1, 2, 1})
	}
	return dst
}
func (s Star) Col(h, j, n int, dst []Run) []Run { return s.Row(h, j, n, dst) }
func (Star) NNZ(_, n int) int64 {
	if n == 0 {
		return 0
	}
	tokens := int64(n) - 1
	ring := tokens + 2*max(0, tokens-1)
	if tokens > 2 {
		ring += 2
	}
	return 1 + 2*tokens + ring
}
