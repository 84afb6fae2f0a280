package attention

import (
	"fmt"
	"math"
	"slices"
	"unsafe"

	"github.com/euryale-ml/euryale/internal/kernels"
)

// Cache holds the keys and values of one layer while a sequence is generated token by token: only those that the pattern lets a
// later query read. A band of w keys takes w slots however long the text gets; a global position stays. It may hold several
// candidates for the sequence, which grow together, see Select.
//
// Memory: at most MostLive keys and values of each head and candidate. A Cache is not safe for concurrent use.
type Cache[F kernels.Float] struct {
	pattern    Pattern
	n          int // longest sequence
	heads      int
	d, dv      int
	scale      F
	bias       func(h, i, j int) F
	top        int // keys of a query that are read, of those it may; 0: all
	length     int // tokens seen
	candidates int
	groups     []slots[F]
	q          []F // scaled queries
	scores     []F
	readable   []bool
	runs       []Run

	best       []F // of keepTop
	bestPlaces []int32
}

// Cached is a Mixer that may be nothing but attention on its Pattern, with draws as Stored gives them (TopK on the best of it, see SetTop),
// so that a Cache continues a sequence exactly. All others read the whole sequence anew for each token that is generated.
type Cached interface {
	Mixer
	// Cached tells whether it is.
	Cached() bool
}

// Cached is true.
func (Plain) Cached() bool { return true }

// Cached is true.
func (Drawn) Cached() bool { return true }

// slots are the kept keys of heads that read alike. Slot s of head h of candidate c holds the key keys[c·heads+h][s·D:].
type slots[F kernels.Float] struct {
	first, heads int     // heads first … first+heads-1
	position     []int32 // of each slot, -1: free
	last         []int32 // query after which the slot is free
	spare        []int32 // free slots
	keys, values [][]F
	old          [][]F // memory for Select
	most         int
}

// NewCache returns an empty cache for heads of sizes d (keys) and dv (values) in sequences of at most n tokens. The pattern is
// cut to earlier keys; positions counted from the end are counted from n. scale is that of the scores; 0: 1/√d.
// Errors: the pattern describes another number of heads; sizes below 1.
func NewCache[F kernels.Float](p Pattern, heads, d, dv, n int, scale float64) (*Cache[F], error) {
	if heads < 1 || d < 1 || dv < 1 || n < 0 {
		return nil, fmt.Errorf("cache of %d heads of sizes %d and %d for %d tokens: sizes start at 1", heads, d, dv, n)
	}
	if err := CheckHeads(p, heads); err != nil {
		return nil, err
	}
	if scale == 0 {
		scale = 1 / math.Sqrt(float64(d))
	}
	c := &Cache[F]{pattern: Causal(p), n: n, heads: heads, d: d, dv: dv, scale: F(scale), candidates: 1}
	for h := range p.Heads() {
		g := slots[F]{first: h, heads: heads / p.Heads(), most: MostLive(c.pattern, h, n)}
		g.keys, g.values = make([][]F, g.heads), make([][]F, g.heads)
		c.groups = append(c.groups, g)
	}
	return c, nil
}

// SetBias makes the cache add bias(h, i, j) to the score of query i and key j in head h, as relative positions do.
func (c *Cache[F]) SetBias(bias func(h, i, j int) F) { c.bias = bias }

// SetTop makes every query read only the k keys with the greatest scores of those that the pattern shows, of equal ones the first, as
// TopK does.
func (c *Cache[F]) SetTop(k int) { c.top = k }

// keepTop hides all scores of a query but the greatest.
func (c *Cache[F]) keepTop(g *slots[F], row []F) {
	c.best, c.bestPlaces = c.best[:0], c.bestPlaces[:0]
	for s, seen := range c.readable {
		if seen {
			c.best, c.bestPlaces = append(c.best, row[s]), append(c.bestPlaces, g.position[s])
		}
	}
	kept := c.bestPlaces[:kernels.Best(c.top, c.best, c.bestPlaces)]
	slices.Sort(kept)
	for s, seen := range c.readable {
		if _, keep := slices.BinarySearch(kept, g.position[s]); seen && !keep {
			row[s] = F(math.Inf(-1))
		}
	}
}

// MostLive is the greatest number of keys of head h that must be held at once while n tokens are generated.
func MostLive(p Pattern, h, n int) int {
	p = Causal(p)
	change := make([]int32, n+2)
	var runs []Run
	for j := range n {
		var last int
		if last, runs = lastReader(p, h, j, n, runs); last >= j {
			change[j]++
			change[last+1]--
		}
	}
	live, most := 0, 0
	for _, d := range change {
		live += int(d)
		most = max(most, live)
	}
	return most
}

// Len is the number of tokens seen.
func (c *Cache[F]) Len() int { return c.length }

// Live is the number of keys held, summed over heads and candidates.
func (c *Cache[F]) Live() int {
	live := 0
	for _, g := range c.groups {
		for _, p := range g.position {
			if p >= 0 {
				live += g.heads
			}
		}
	}
	return live * c.candidates
}

// Bytes is the memory of the held keys and values.
func (c *Cache[F]) Bytes() int {
	var f F
	total := 0
	for _, g := range c.groups {
		for h := range g.keys {
			total += cap(g.keys[h]) + cap(g.values[h])
		}
		for _, b := range g.old {
			total += cap(b)
		}
	}
	return total * int(unsafe.Sizeof(f))
}

// Reset empties the cache for another sequence, of one candidate, and keeps its memory.
func (c *Cache[F]) Reset() {
	c.length = 0
	for g := range c.groups {
		for s := range c.groups[g].last {
			c.groups[g].last[s] = -1
		}
	}
	c.drop(0)
	c.Select([]int{0})
}

// Select makes candidates out of those there are: the new candidate k goes on from what parents[k] has read. Cost: a copy of the
// keys and values that are held, but for a candidate that stays in its place.
func (c *Cache[F]) Select(parents []int) {
	for i := range c.groups {
		g := &c.groups[i]
		g.keys, g.old = chosen(g.keys, g.old, g.heads, parents)
		g.values, g.old = chosen(g.values, g.old, g.heads, parents)
	}
	c.candidates = len(parents)
}

// chosen copies the buffers of candidates, heads each, and takes and returns buffers that are not in use.
func chosen[F kernels.Float](from, spare [][]F, heads int, parents []int) (to, left [][]F) {
	used := make([]bool, len(from))
	to = make([][]F, len(parents)*heads)
	for k, p := range parents {
		if k == p {
			for h := k * heads; h < (k+1)*heads; h++ {
				to[h], used[h] = from[h], true
			}
		}
	}
	for k, p := range parents {
		if k == p {
			continue
		}
		for h := range heads {
			src := from[p*heads+h]
			var b []F
			if n := len(spare); n > 0 {
				b, spare = spare[n-1], spare[:n-1]
			}
			b = sized(b, len(src))
			copy(b, src)
			to[k*heads+h] = b
		}
	}
	for h, b := range from {
		if !used[h] {
			spare = append(spare, b)
		}
	}
	return to, spare
}

// Append adds the keys [T,H·D] and values [T,H·DV] of the next T tokens, whose rows are ldk and ldv apart, without attending:
// this is how a prompt enters that was read by a whole forward pass. What no query after them can read is not kept. All candidates
// get the same.
// Errors: more tokens than the cache was made for.
func (c *Cache[F]) Append(t int, k []F, ldk int, v []F, ldv int) error {
	end := c.length + t
	if end > c.n {
		return fmt.Errorf("token %d is beyond the %d that the cache was made for; shorten the text or raise max_position_embeddings", end, c.n)
	}
	c.drop(end)
	for r := range t {
		c.add(c.length+r, end, k[r*ldk:], 0, v[r*ldv:], 0)
	}
	c.length = end
	return nil
}

// Attend adds the next token's key [H·D] and value [H·DV] and writes what its query q [H·D] reads to o [H·DV]: row Len() of
// Attend on the whole sequence. Of N candidates all four are [N,…]. Cost: O(keys held · (D + DV)) for each head and candidate.
// Errors: more tokens than the cache was made for.
func (c *Cache[F]) Attend(q, k, v, o []F) error {
	t := c.length
	if t >= c.n {
		return fmt.Errorf("token %d is beyond the %d that the cache was made for; shorten the text or raise max_position_embeddings", t+1, c.n)
	}
	c.drop(t)
	c.add(t, t, k, c.heads*c.d, v, c.heads*c.dv)
	c.length++
	c.q = sized(c.q, c.candidates*c.heads*c.d)
	kernels.Scale(c.scale, q[:len(c.q)], c.q)
	for i := range c.groups {
		c.read(&c.groups[i], t, o)
	}
	return nil
}

// drop frees the slots that no query from t on reads.
func (c *Cache[F]) drop(t int) {
	for i := range c.groups {
		g := &c.groups[i]
		for s, p := range g.position {
			if p >= 0 && int(g.last[s]) < t {
				g.position[s] = -1
				g.spare = append(g.spare, int32(s))
			}
		}
	}
}

// add keeps the key of a position if a query from `from` on reads it. Those of the candidates are ldk and ldv apart.
func (c *Cache[F]) add(position, from int, k []F, ldk int, v []F, ldv int) {
	for i := range c.groups {
		g := &c.groups[i]
		var last int
		if last, c.runs = lastReader(c.pattern, g.first, position, c.n, c.runs); last < from {
			continue
		}
		if len(g.spare) == 0 {
			g.grow(c.d, c.dv, c.candidates)
		}
		s := int(g.spare[len(g.spare)-1])
		g.spare = g.spare[:len(g.spare)-1]
		g.position[s], g.last[s] = int32(position), int32(last)
		for x := range c.candidates {
			for h := range g.heads {
				copy(g.keys[x*g.heads+h][s*c.d:][:c.d], k[x*ldk+(g.first+h)*c.d:])
				copy(g.values[x*g.heads+h][s*c.dv:][:c.dv], v[x*ldv+(g.first+h)*c.dv:])
			}
		}
	}
}

// grow adds slots: as many as there are, but no more than can be live.
func (g *slots[F]) grow(d, dv, candidates int) {
	n := max(len(g.position)+1, min(max(2*len(g.position), 16), g.most))
	for s := n - 1; s >= len(g.position); s-- {
		g.spare = append(g.spare, int32(s))
	}
	for len(g.position) < n {
		g.position, g.last = append(g.position, -1), append(g.last, -1)
	}
	for h := range candidates * g.heads {
		g.keys[h], g.values[h] = enlarge(g.keys[h], n*d), enlarge(g.values[h], n*dv)
	}
}

func enlarge[F kernels.Float](old []F, n int) []F {
	s := make([]F, n)
	copy(s, old)
	return s
}

// read writes the outputs of the heads of a group for query t.
func (c *Cache[F]) read(g *slots[F], t int, o []F) {
	n := len(g.position)
	rows := c.candidates * g.heads
	c.readable = c.readable[:0]
	found := false
	for _, p := range g.position {
		seen := p >= 0 && c.pattern.Sees(g.first, t, int(p), c.n)
		c.readable = append(c.readable, seen)
		found = found || seen
	}
	ck, cv := c.heads*c.d, c.heads*c.dv
	if !found {
		for x := range c.candidates {
			clear(o[x*cv+g.first*c.dv:][:g.heads*c.dv])
		}
		return
	}
	c.scores = sized(c.scores, rows*n)
	hidden := F(math.Inf(-1))
	for r := range rows {
		x, h := r/g.heads, r%g.heads
		row := c.scores[r*n:][:n]
		kernels.Gemm(false, true, 1, n, c.d, c.q[x*ck+(g.first+h)*c.d:], c.d, g.keys[r], c.d, row, n, false, nil)
		for s, seen := range c.readable {
			switch {
			case !seen:
				row[s] = hidden
			case c.bias != nil:
				row[s] += c.bias(g.first+h, t, int(g.position[s]))
			}
		}
		if c.top > 0 {
			c.keepTop(g, row)
		}
	}
	kernels.Softmax(rows, n, c.scores, c.scores)
	for r := range rows {
		x, h := r/g.heads, r%g.heads
		kernels.Gemm(false, false, 1, c.dv, n, c.scores[r*n:], n, g.values[r], c.dv, o[x*cv+(g.first+h)*c.dv:], c.dv, false, nil)
	}
}
