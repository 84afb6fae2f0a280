package attention

import (
	"math"
)

// Stats describes a pattern as a graph with an edge from j to i where query i reads key j.
//
// NNZ, Density and rows are over all heads: Density is the mean of the heads, NNZ their sum. Paths and the spectral gap are
// those of the layer, where an edge of any head counts.
type Stats struct {
	Length  int     `json:"length"`
	Nodes   int     `json:"nodes"`
	NNZ     int64   `json:"nnz"`
	Density float64 `json:"density"` // of n² pairs, or of n(n+1)/2 if no query reads a later key
	MinRow  int     `json:"min_row"` // fewest keys of a query
	MaxRow  int     `json:"max_row"`
	// MaxPath is how many such layers, with residual connections, until every position has reached every other (every later
	// one if causal); nil if that never happens.
	MaxPath *int `json:"max_path"`
	// StronglyConnected says whether every node reaches every other along the edges, in however many layers.
	StronglyConnected bool `json:"strongly_connected"`
	// SpectralGap is 1 - λ₂ of D^-½ W D^-½, W = A or Aᵀ or I: 0 if the graph falls apart, 1 if every pair is joined. Above 512
	// positions it is good to about a thousandth of itself (a fifth where it is below 1e-8).
	SpectralGap float64 `json:"spectral_gap"`
}

// ExactPath is the length up to which MaxPath is exact. Beyond it, it is the longest shortest path from 256 evenly spread
// positions, first and last included, which may be less than the maximum; whether a pair is never reached is always exact.
const ExactPath = 4096

// Measure computes the statistics for a sequence of tokens. With n nodes, time is O(n · runs) but for the path (a search from each
// of at most ExactPath positions) and the gap (n³ up to 512, Lanczos steps of O(nnz) above).
func Measure(p Pattern, tokens int) Stats {
	n := NodeCount(p, tokens)
	s := Stats{Length: tokens, Nodes: n}
	var runs []Run
	for h := range p.Heads() {
		s.NNZ += p.NNZ(h, n)
		for i := range n {
			runs = p.Row(h, i, n, runs[:0])
			c := count(runs)
			s.MaxRow = max(s.MaxRow, c)
			if h == 0 && i == 0 || c < s.MinRow {
				s.MinRow = c
			}
		}
	}
	isCausal := IsCausal(p, n)
	pairs := float64(n) * float64(n)
	if isCausal {
		pairs = float64(triangle(n))
	}
	if n > 0 {
		s.Density = float64(s.NNZ) / pairs / float64(p.Heads())
	}
	s.StronglyConnected = stronglyConnected(p, n)
	if l, ok := maxPath(p, n, isCausal, s.StronglyConnected); ok {
		s.MaxPath = &l
	}
	s.SpectralGap = spectralGap(p, n)
	return s
}

// Mask draws the pattern of n nodes densely: [heads, n, n] bytes, 1 where head h's query i (row) reads key j (column).
func Mask(p Pattern, heads, n int) []uint8 {
	out := make([]uint8, heads*n*n)
	var runs []Run
	for h := range heads {
		for i := range n {
			row := out[(h*n+i)*n:][:n]
			runs = p.Row(h%p.Heads(), i, n, runs[:0])
			for _, r := range runs {
				for j := r.Lo; j < r.Hi; j += r.Step {
					row[j] = 1
				}
			}
		}
	}
	return out
}

// anyRow and anyCol are rows and columns of the layer: the union over heads.
func anyRow(p Pattern, i, n int, dst []Run) []Run {
	for h := range p.Heads() {
		dst = p.Row(h, i, n, dst)
	}
	return dst
}

func anyCol(p Pattern, j, n int, dst []Run) []Run {
	for h := range p.Heads() {
		dst = p.Col(h, j, n, dst)
	}
	return dst
}

// stronglyConnected reports whether the first position reaches all and is reached by all; then all reach all.
func stronglyConnected(p Pattern, n int) bool {
	if n == 0 {
		return true
	}
	s := newSearch(n)
	for _, edges := range []func(p Pattern, i, n int, dst []Run) []Run{anyCol, anyRow} {
		if _, seen := s.from(p, 0, edges); seen < n {
			return false
		}
	}
	return true
}

// maxPath returns the greatest distance between two positions that have to reach each other, false if some never do.
func maxPath(p Pattern, n int, isCausal, connected bool) (int, bool) {
	if n == 0 {
		return 0, true
	}
	s := newSearch(n)
	var runs []Run
	if isCausal {
		// An edge never leads back, so position i reaches i+1 by a direct edge or not at all; with all of these, everything is reached.
		for i := 1; i < n; i++ {
			runs = anyRow(p, i, n, runs[:0])
			found := false
			for _, r := range runs {
				found = found || i-1 >= r.Lo && i-1 < r.Hi && (i-1-r.Lo)%r.Step == 0
			}
			if !found {
				return 0, false
			}
		}
	} else if !connected {
		return 0, false
	}
	sources := n
	if n > ExactPath {
		sources = 256
	}
	longest := 0
	for k := range sources {
		j := k
		if sources < n {
			j = k * (n - 1) / (sources - 1)
		}
		d, _ := s.from(p, j, anyCol)
		longest = max(longest, d)
	}
	return longest, true
}

// search is a breadth-first search that looks at every position once: next jumps over those already seen.
type search struct {
	next, queue, depth []int
	runs               []Run
}

func newSearch(n int) *search {
	return &search{next: make([]int, n+1), queue: make([]int, 0, n), depth: make([]int, n)}
}

// find returns the first unseen position from i on (n if there is none).
func (s *search) find(i int) int {
	root := i
	for s.next[root] != root {
		root = s.next[root]
	}
	for s.next[i] != root {
		s.next[i], i = root, s.next[i]
	}
	return root
}

// from returns the greatest distance from a position and how many positions it reaches, itself included.
func (s *search) from(p Pattern, start int, edges func(p Pattern, i, n int, dst []Run) []Run) (depth, seen int) {
	n := len(s.depth)
	for i := range s.next {
		s.next[i] = i
	}
	s.queue = append(s.queue[:0], start)
	s.depth[start] = 0
	s.next[start] = start + 1
	for k := 0; k < len(s.queue) && len(s.queue) < n; k++ {
		i := s.queue[k]
		s.runs = edges(p, i, n, s.runs[:0])
		for _, r := range s.runs {
			for j := s.find(r.Lo); j < r.Hi; {
				if off := (j - r.Lo) % r.Step; off != 0 { // unseen, but not in the run
					if j += r.Step - off; j < r.Hi {
						j = s.find(j)
					}
					continue
				}
				s.depth[j] = s.depth[i] + 1
				s.next[j] = j + 1
				s.queue = append(s.queue, j)
				j = s.find(j + 1)
			}
		}
	}
	return s.depth[s.queue[len(s.queue)-1]], len(s.queue)
}

// components counts the parts of the graph when directions are forgotten.
func components(p Pattern, n int) int {
	s := newSearch(n)
	both := func(p Pattern, i, n int, dst []Run) []Run { return anyCol(p, i, n, anyRow(p, i, n, dst)) }
	seen := make([]bool, n)
	parts := 0
	for i := range n {
		if seen[i] {
			continue
		}
		parts++
		s.from(p, i, both)
		for _, j := range s.queue {
			seen[j] = true
		}
		if parts > 1 {
			break // more than one is all that is asked
		}
	}
	return parts
}

// spectralGap returns 1 - λ₂ (Stats).
func spectralGap(p Pattern, n int) float64 {
	switch {
	case n < 2:
		return 1
	case components(p, n) > 1:
		return 0
	case n <= 512:
		return denseGap(p, n)
	}
	return math.Max(0, lanczosGap(p, n))
}
