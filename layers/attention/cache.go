package attention

import (
	"fmt"
	"math"
	"unsafe"

	"github.com/euryale-ml/euryale/internal/kernels"
)

// Cache holds the keys and values of one sequence and one layer while it is generated token by token: only those that the
// pattern lets a later query read. A band of w keys takes w slots however long the text gets; a global position stays.
//
// Memory: at most MostLive keys and values of each head. A Cache is not safe for concurrent use.
type Cache[F kernels.Float] struct {
	pattern  Pattern
	n        int // longest sequence
	heads    int
	d, dv    int
	scale    F
	length   int // tokens seen
	groups   []slots[F]
	q        []F // scaled query
	scores   []F
	readable []bool
	runs     []Run
}

// slots are the kept keys of heads that read alike. Slot s of head h holds the key keys[h][s·D:].
type slots[F kernels.Float] struct {
	first, heads int     // heads first … first+heads-1
	position     []int32 // of each slot, -1: free
	last         []int32 // query after which the slot is free
	spare        []int32 // free slots
	keys, values [][]F
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
	c := &Cache[F]{pattern: Causal(p), n: n, heads: heads, d: d, dv: dv, scale: F(scale), q: make([]F, heads*d)}
	for h := range p.Heads() {
		g := slots[F]{first: h, heads: heads / p.Heads(), most: MostLive(c.pattern, h, n)}
		g.keys, g.values = make([][]F, g.heads), make([][]F, g.heads)
		c.groups = append(c.groups, g)
	}
	return c, nil
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

// Live is the number of keys held, summed over heads.
func (c *Cache[F]) Live() int {
	live := 0
	for _, g := range c.groups {
		for _, p := range g.position {
			if p >= 0 {
				live += g.heads
			}
		}
	}
	return live
}

// Bytes is the memory of the held keys and values.
func (c *Cache[F]) Bytes() int {
	var f F
	total := 0
	for _, g := range c.groups {
		for h := range g.keys {
			total += cap(g.keys[h]) + cap(g.values[h])
		}
	}
	return total * int(unsafe.Sizeof(f))
}

// Reset empties the cache for another sequence and keeps its memory.
func (c *Cache[F]) Reset() {
	c.length = 0
	for g := range c.groups {
		for s := range c.groups[g].last {
			c.groups[g].last[s] = -1
		}
	}
	c.drop(0)
}

// Append adds the keys [T,H·D] and values [T,H·DV] of the next T tokens, whose rows are ldk and ldv apart, without attending:
// this is how a prompt enters that was read by a whole forward pass. What no query after them can read is not kept.
// Errors: more tokens than the cache was made for.
func (c *Cache[F]) Append(t int, k []F, ldk int, v []F, ldv int) error {
	end := c.length + t
	if end > c.n {
		return fmt.Errorf("token %d is beyond the %d that the cache was made for; shorten the text or raise max_position_embeddings", end, c.n)
	}
	c.drop(end)
	for r := range t {
		c.add(c.length+r, end, k[r*ldk:], v[r*ldv:])
	}
	c.length = end
	return nil
}

// Attend adds the next token's key [H·D] and value [H·DV] and writes what its query q [H·D] reads to o [H·DV]: row Len() of
// Attend on the whole sequence. Cost: O(keys held · (D + DV)) for each head.
// Errors: more tokens than the cache was made for.
func (c *Cache[F]) Attend(q, k, v, o []F) error {
	t := c.length
	if t >= c.n {
		return fmt.Errorf("token %d is beyond the %d that the cache was made for; shorten the text or raise max_position_embeddings", t+1, c.n)
	}
	c.drop(t)
	c.add(t, t, k, v)
	c.length++
	kernels.Scale(c.scale, q[:c.heads*c.d], c.q)
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

// add keeps the key of a position if a query from `from` on reads it.
func (c *Cache[F]) add(position, from int, k, v []F) {
	for i := range c.groups {
		g := &c.groups[i]
		var last int
		if last, c.runs = lastReader(c.pattern, g.first, position, c.n, c.runs); last < from {
			continue
		}
		if len(g.spare) == 0 {
			g.grow(c.d, c.dv)
		}
		s := int(g.spare[len(g.spare)-1])
		g.spare = g.spare[:len(g.spare)-1]
		g.position[s], g.last[s] = int32(position), int32(last)
		for h := range g.heads {
			copy(g.keys[h][s*c.d:][:c.d], k[(g.first+h)*c.d:])
			copy(g.values[h][s*c.dv:][:c.dv], v[(g.first+h)*c.dv:])
		}
	}
}

// grow adds slots: as many as there are, but no more than can be live.
func (g *slots[F]) grow(d, dv int) {
	n := max(len(g.position)+1, min(max(2*len(g.position), 16), g.most))
	for s := n - 1; s >= len(g.position); s-- {
		g.spare = append(g.spare, int32(s))
	}
	for len(g.position) < n {
		g.position, g.last = append(g.position, -1), append(g.last, -1)
	}
	for h := range g.heads {
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
	if len(c.scores) < g.heads*n {
		c.scores = make([]F, g.heads*n)
	}
	scores := c.scores[:g.heads*n]
	c.readable = c.readable[:0]
	found := false
	for _, p := range g.position {
		seen := p >= 0 && c.pattern.Sees(g.first, t, int(p), c.n)
		c.readable = append(c.readable, seen)
		found = found || seen
	}
	if !found {
		clear(o[g.first*c.dv:][:g.heads*c.dv])
		return
	}
	hidden := F(math.Inf(-1))
	for h := range g.heads {
		row := scores[h*n:][:n]
		kernels.Gemm(false, true, 1, n, c.d, c.q[(g.first+h)*c.d:], c.d, g.keys[h], c.d, row, n, false, nil)
		for s, seen := range c.readable {
			if !seen {
				row[s] = hidden
			}
		}
	}
	kernels.Softmax(g.heads, n, scores, scores)
	for h := range g.heads {
		kernels.Gemm(false, false, 1, c.dv, n, scores[h*n:], n, g.values[h], c.dv, o[(g.first+h)*c.dv:], c.dv, false, nil)
	}
}
