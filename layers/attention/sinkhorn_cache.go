package attention

import (
	"fmt"
	"math"
	"unsafe"

	"github.com/euryale-ml/euryale/internal/kernels"
	"github.com/euryale-ml/euryale/layers"
)

// SinkhornCache holds what one layer of Sinkhorn keeps while a sequence is generated token by token: keys and values of all tokens, the mean
// key of each whole block, and the slot of the block at hand. Row u of the weights is computed once, with the first token of block u, from tokens
// up to that one, and does not change within the block: then a token costs 2·Size scores.
//
// There may be several candidates for the sequence, of one length; see Select. Memory: all tokens. A SinkhornCache is not safe for concurrent
// use.
type SinkhornCache[F kernels.Float] struct {
	of       Sinkhorn
	n        int // longest sequence
	heads, d int
	scale    F
	turn     func(x []F, rows, position int) // takes the rotation of a position away; nil: there is none
	length   int
	branches []sinkhornBranch[F]

	q, k, scores, row []F
}

// sinkhornBranch is what a candidate has seen.
type sinkhornBranch[F kernels.Float] struct {
	keys, values [][]F   // by head, [T,D]
	slotK, slotV [][]F   // by head, [Size,D]; nil before block 1
	sumQ, sumK   []F     // of queries up to now, and of keys of the block at hand, [H·D]
	means        [][]F   // by head, [blocks,D]: mean keys of the whole blocks
	columns      [][][]F // prefix: by head and iteration, the logarithms of the columns up to now
}

// Uncached says why a layer cannot be generated from what a SinkhornCache keeps; empty: it can.
func (a Sinkhorn) Uncached() string {
	switch {
	case a.Net != "" && a.Net != NetBilinear:
		return fmt.Sprintf("its blocks are sorted by the network %s", a.Net)
	case a.LogReLU:
		return "its weights are made of logarithms of scores"
	}
	return ""
}

// NewSinkhornCache returns an empty cache with one candidate, for heads of size d in sequences of at most n tokens. scale is that of the scores;
// 0: 1/√d. turn takes the rotation of a position away from rows of queries or keys [H·d]; nil: they have none.
// Errors: sizes below 1; a layer that is not causal, or see Uncached.
func NewSinkhornCache[F kernels.Float](a Sinkhorn, heads, d, n int, scale float64, turn func(x []F, rows, position int)) (*SinkhornCache[F], error) {
	if heads < 1 || d < 1 || n < 0 {
		return nil, fmt.Errorf("cache of %d heads of size %d for %d tokens: sizes start at 1", heads, d, n)
	}
	if why := a.Uncached(); why != "" || !a.Causal {
		return nil, fmt.Errorf("sinkhorn (causal: %v) cannot be kept token by token: %s", a.Causal, why)
	}
	if scale == 0 {
		scale = 1 / math.Sqrt(float64(d))
	}
	c := &SinkhornCache[F]{of: a, n: n, heads: heads, d: d, scale: F(scale), turn: turn}
	c.Reset()
	return c, nil
}

// Len is the number of tokens seen.
func (c *SinkhornCache[F]) Len() int { return c.length }

// Reset goes back to the start, with one candidate.
func (c *SinkhornCache[F]) Reset() {
	c.length, c.branches = 0, []sinkhornBranch[F]{{keys: make([][]F, c.heads), values: make([][]F, c.heads), means: make([][]F, c.heads),
		sumQ: make([]F, c.heads*c.d), sumK: make([]F, c.heads*c.d)}}
}

// Bytes is the memory of what is held.
func (c *SinkhornCache[F]) Bytes() int {
	var f F
	total := 0
	for _, b := range c.branches {
		for _, list := range [][][]F{b.keys, b.values, b.slotK, b.slotV, b.means, {b.sumQ, b.sumK}} {
			for _, x := range list {
				total += cap(x)
			}
		}
		for _, h := range b.columns {
			for _, x := range h {
				total += cap(x)
			}
		}
	}
	return total * int(unsafe.Sizeof(f))
}

// Select makes candidates out of those there are: the new candidate k goes on from parents[k]. What several go on from is copied.
func (c *SinkhornCache[F]) Select(parents []int) {
	old := c.branches
	c.branches = make([]sinkhornBranch[F], len(parents))
	taken := make([]bool, len(old))
	for k, p := range parents {
		b := old[p]
		if taken[p] {
			b.keys, b.values, b.means = cloneLevels(b.keys), cloneLevels(b.values), cloneLevels(b.means)
			b.slotK, b.slotV = cloneLevels(b.slotK), cloneLevels(b.slotV)
			both := cloneLevels([][]F{b.sumQ, b.sumK})
			b.sumQ, b.sumK = both[0], both[1]
			columns := make([][][]F, len(b.columns))
			for h := range columns {
				columns[h] = cloneLevels(b.columns[h])
			}
			b.columns = columns
		}
		c.branches[k], taken[p] = b, true
	}
}

// Attend adds the next token's key [H·D] and value and writes what its query reads to o: row Len() of Sinkhorn on the whole sequence. Of N
// candidates all four are [N,H·D]. Cost: 2·Size scores of D for each head and candidate; for the first token of block u, u·Size·2·D more.
// Errors: more tokens than the cache was made for.
func (c *SinkhornCache[F]) Attend(q, k, v, o []F) error {
	t, width := c.length, c.heads*c.d
	if t >= c.n {
		return fmt.Errorf("token %d is beyond the %d that the cache was made for; shorten the text or raise max_position_embeddings", t+1, c.n)
	}
	rows := len(c.branches)
	c.q, c.k = append(c.q[:0], q[:rows*width]...), append(c.k[:0], k[:rows*width]...)
	if c.turn != nil {
		c.turn(c.q, rows, t)
		c.turn(c.k, rows, t)
	}
	for x := range c.branches {
		b := &c.branches[x]
		kernels.Add(b.sumQ, c.q[x*width:][:width], b.sumQ)
		if t > 0 && t%c.of.Size == 0 {
			c.begin(b)
		}
		kernels.Add(b.sumK, c.k[x*width:][:width], b.sumK)
		for h := range c.heads {
			b.keys[h] = append(b.keys[h], k[x*width+h*c.d:][:c.d]...)
			b.values[h] = append(b.values[h], v[x*width+h*c.d:][:c.d]...)
			c.read(b, h, q[x*width+h*c.d:][:c.d], o[x*width+h*c.d:][:c.d])
		}
	}
	c.length++
	return nil
}

// begin makes the slot of the block that begins.
func (c *SinkhornCache[F]) begin(b *sinkhornBranch[F]) {
	size, d := c.of.Size, c.d
	u := c.length / size
	if len(b.slotK) == 0 {
		b.slotK, b.slotV = make([][]F, c.heads), make([][]F, c.heads)
		for h := range c.heads {
			b.slotK[h], b.slotV[h] = make([]F, size*d), make([]F, size*d)
		}
		b.columns = make([][][]F, c.heads)
	}
	for h := range c.heads {
		mean := len(b.means[h])
		b.means[h] = append(b.means[h], b.sumK[h*d:][:d]...)
		kernels.Scale(1/F(size), b.means[h][mean:], b.means[h][mean:])

		p := sized(c.row, u)
		c.row = p
		kernels.Gemm(false, true, 1, u, d, b.sumQ[h*d:], d, b.means[h], d, p, u, false, nil)
		kernels.Scale(F(1/float64(c.length+1)/math.Sqrt(float64(d))), p, p)
		c.weigh(b, h, p)
		if c.of.Hard != "" {
			best := 0
			for v, x := range p {
				if x > p[best] {
					best = v
				}
			}
			copy(b.slotK[h], b.keys[h][best*size*d:][:size*d])
			copy(b.slotV[h], b.values[h][best*size*d:][:size*d])
			continue
		}
		kernels.Gemm(false, false, 1, size*d, u, p, u, b.keys[h], size*d, b.slotK[h], size*d, false, nil)
		kernels.Gemm(false, false, 1, size*d, u, p, u, b.values[h], size*d, b.slotV[h], size*d, false, nil)
	}
	clear(b.sumK)
}

// weigh makes weights of the scores of row u.
func (c *SinkhornCache[F]) weigh(b *sinkhornBranch[F], h int, r []F) {
	for v, x := range r {
		r[v] = F(float64(min(max(x, -layers.MaxSinkhornScore), layers.MaxSinkhornScore)) / c.of.Tau)
	}
	if c.of.Normalizer != layers.SinkhornPrefix {
		kernels.Softmax(1, len(r), r, r)
		return
	}
	if b.columns[h] == nil {
		b.columns[h] = make([][]F, c.of.Iterations)
	}
	for k := range b.columns[h] {
		kernels.LogSoftmax(1, len(r), r, r)
		b.columns[h][k] = append(b.columns[h][k], F(math.Inf(-1)))
		for v, x := range r {
			sum := layers.LogAdd(b.columns[h][k][v], x)
			b.columns[h][k][v], r[v] = sum, x-sum
		}
	}
	if c.of.FinishRow {
		kernels.Softmax(1, len(r), r, r)
	} else {
		kernels.Exp(r, r)
	}
}

// read writes what the query of the newest token reads in a head.
func (c *SinkhornCache[F]) read(b *sinkhornBranch[F], h int, q, o []F) {
	size, d := c.of.Size, c.d
	first := c.length / size * size
	own := c.length - first + 1
	keys, values := b.keys[h][first*d:], b.values[h][first*d:]
	slots := size
	if c.length < size {
		slots = 0
	}
	switch {
	case c.of.Combine == CombineSumScore && slots > 0:
		s := c.part(q, keys, own)
		more := c.scores[own:][:own]
		kernels.Gemm(false, true, 1, own, d, q, d, b.slotK[h], d, more, own, false, nil)
		kernels.Scale(c.scale, more, more)
		kernels.Add(s, more, s)
		kernels.Softmax(1, own, s, s)
		kernels.Gemm(false, false, 1, d, own, s, own, b.slotV[h], d, o, d, false, nil)
	case c.of.Combine == CombineSumOut && slots > 0:
		s := c.part(q, b.slotK[h], slots)
		kernels.Softmax(1, slots, s, s)
		kernels.Gemm(false, false, 1, d, slots, s, slots, b.slotV[h], d, o, d, false, nil)
		s = c.part(q, keys, own)
		kernels.Softmax(1, own, s, s)
		kernels.Gemm(false, false, 1, d, own, s, own, values, d, o, d, true, nil)
	default:
		c.scores = sized(c.scores, slots+own)
		s := c.scores
		if slots > 0 {
			kernels.Gemm(false, true, 1, slots, d, q, d, b.slotK[h], d, s, slots, false, nil)
		}
		kernels.Gemm(false, true, 1, own, d, q, d, keys, d, s[slots:], own, false, nil)
		kernels.Scale(c.scale, s, s)
		kernels.Softmax(1, len(s), s, s)
		kernels.Gemm(false, false, 1, d, own, s[slots:], own, values, d, o, d, false, nil)
		if slots > 0 {
			kernels.Gemm(false, false, 1, d, slots, s, slots, b.slotV[h], d, o, d, true, nil)
		}
	}
	if c.of.Combine == CombineMixture {
		all := c.length + 1
		s := c.part(q, b.keys[h], all)
		kernels.Softmax(1, all, s, s)
		kernels.Gemm(false, false, 1, d, all, s, all, b.values[h], d, o, d, true, nil)
	}
}

// part are the scores of a query with n keys; there is room for as many behind them.
func (c *SinkhornCache[F]) part(q, keys []F, n int) []F {
	c.scores = sized(c.scores, 2*n)
	s := c.scores[:n]
	kernels.Gemm(false, true, 1, n, c.d, q, c.d, keys, c.d, s, n, false, nil)
	kernels.Scale(c.scale, s, s)
	return s
}
