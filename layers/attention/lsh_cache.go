package attention

import (
	"fmt"
	"math"
	"slices"

	"github.com/euryale-ml/euryale/internal/kernels"
	"github.com/euryale-ml/euryale/layers"
)

// LSHCache continues sequences token by token with LSH of Plan BucketRecent, exactly as reading them at once does. It keeps the keys and values of all
// tokens, as any may be among the last of its bucket for ever.
//
// Cost of a token: hashing, and Hashes·Chunk scores a head at most. Memory: 2·D + Hashes numbers a token, head and candidate. It is not safe for
// concurrent use.
type LSHCache[F kernels.Float] struct {
	of         LSH
	heads, d   int
	limit      int
	buckets    int
	scale, eps F
	rotations  []F // [H,R,C,D]
	lines      []*lshLine[F]

	near    []int32
	scores  []F
	product []F
}

// lshLine is one candidate for the sequence.
type lshLine[F kernels.Float] struct {
	length       int
	keys, values []F     // [T,H,D]
	before       []int32 // [T,H,R]: the token before in the same bucket, -1: none
	newest       []int32 // [H,R,buckets]: the last token of each bucket, -1: none
}

// NewLSHCache returns an empty cache of one candidate, for heads of size d in sequences of at most limit tokens. b stands in the scope of the layer's
// attention in a graph that is not for training: rotations are those that Mix draws there.
// Errors: another plan; sizes below 1.
func NewLSHCache[F kernels.Float](b *layers.Builder, of LSH, heads, d, limit int) (*LSHCache[F], error) {
	if of.Plan != BucketRecent || of.Factors == nil {
		return nil, fmt.Errorf("lsh with plan %q has no cache: later tokens change what earlier ones read; use plan %s", of.Plan, BucketRecent)
	}
	if heads < 1 || d < 1 || limit < 0 {
		return nil, fmt.Errorf("cache of %d heads of size %d for %d tokens: sizes start at 1", heads, d, limit)
	}
	c := &LSHCache[F]{of: of, heads: heads, d: d, limit: limit, scale: F(of.scale(d)), eps: F(of.eps()), buckets: 1}
	columns := 0
	for _, f := range of.Factors {
		c.buckets *= f
		columns += f / 2
	}
	draw := rotations{heads: heads, rounds: of.Hashes, d: d, columns: lshColumns(of.Factors, 0, of.Chunk), seed: b.Seed(), site: b.Site("rotations")}
	c.rotations = make([]F, heads*of.Hashes*columns*d)
	drawRotations(draw, 0, c.rotations)
	c.product = make([]F, columns)
	c.Reset()
	return c, nil
}

// Reset goes back to the start, with one candidate.
func (c *LSHCache[F]) Reset() {
	c.lines = []*lshLine[F]{{newest: slices.Repeat([]int32{-1}, c.heads*c.of.Hashes*c.buckets)}}
}

// Select makes candidates out of those there are.
func (c *LSHCache[F]) Select(parents []int) {
	now, used := make([]*lshLine[F], len(parents)), make([]bool, len(c.lines))
	for k, p := range parents {
		if now[k] = c.lines[p]; used[p] {
			old := c.lines[p]
			now[k] = &lshLine[F]{old.length, slices.Clone(old.keys), slices.Clone(old.values), slices.Clone(old.before), slices.Clone(old.newest)}
		}
		used[p] = true
	}
	c.lines = now
}

// Bytes is the memory of what is held.
func (c *LSHCache[F]) Bytes() (n int) {
	size := 4
	if _, is := any(F(0)).(float64); is {
		size = 8
	}
	for _, l := range c.lines {
		n += size*(len(l.keys)+len(l.values)) + 4*(len(l.before)+len(l.newest))
	}
	return n
}

// Attend adds the next token of each candidate and writes what it reads to o. q, v and o are [N,H·D], k is not read: queries are keys.
// Errors: more tokens than the cache is for.
func (c *LSHCache[F]) Attend(q, _, v, o []F) error {
	width := c.heads * c.d
	for n, l := range c.lines {
		if l.length >= c.limit {
			return fmt.Errorf("the cache is for %d tokens", c.limit)
		}
		for h := range c.heads {
			at := n*width + h*c.d
			c.head(l, h, q[at:][:c.d], v[at:][:c.d], o[at:][:c.d])
		}
		for h := range c.heads {
			l.keys, l.values = append(l.keys, c.key(q[n*width+h*c.d:][:c.d])...), append(l.values, v[n*width+h*c.d:][:c.d]...)
		}
		l.length++
	}
	return nil
}

// key is the normalised query, see LSH.keys.
func (c *LSHCache[F]) key(q []F) []F {
	var square F
	for _, x := range q {
		square += x * x
	}
	factor := 1 / F(math.Sqrt(float64(square/F(c.d)+c.eps)))
	k := make([]F, c.d)
	for i, x := range q {
		k[i] = factor * x
	}
	return k
}

// head is a head of one token, which it enters into its buckets.
func (c *LSHCache[F]) head(l *lshLine[F], h int, q, v, o []F) {
	c.near = c.near[:0]
	for r := range c.of.Hashes {
		newest := &l.newest[(h*c.of.Hashes+r)*c.buckets+c.bucket(h, r, q)]
		l.before = append(l.before, *newest)
		for j, left := *newest, c.of.Chunk; j >= 0 && left > 0; left-- {
			c.near = append(c.near, j)
			j = l.before[(int(j)*c.heads+h)*c.of.Hashes+r]
		}
		*newest = int32(l.length)
	}
	slices.Sort(c.near)
	c.near = slices.Compact(c.near)
	if len(c.near) == 0 {
		copy(o, v)
		return
	}
	c.scores = c.scores[:0]
	most := F(math.Inf(-1))
	for _, j := range c.near {
		s := c.scale * dot(q, l.keys[(int(j)*c.heads+h)*c.d:][:c.d])
		c.scores, most = append(c.scores, s), max(most, s)
	}
	clear(o)
	var sum F
	for i, j := range c.near {
		w := F(math.Exp(float64(c.scores[i] - most)))
		sum += w
		kernels.Axpy(w, l.values[(int(j)*c.heads+h)*c.d:][:c.d], o)
	}
	kernels.Scale(1/sum, o, o)
}

// bucket is that of a query in a round, see Hash.
func (c *LSHCache[F]) bucket(h, r int, q []F) int {
	for i := range c.product {
		c.product[i] = dot(q, c.rotations[((h*c.of.Hashes+r)*len(c.product)+i)*c.d:][:c.d])
	}
	bucket, size, row := 0, 1, c.product
	for _, f := range c.of.Factors {
		bucket += size * int(argmaxOfBoth(row[:f/2]))
		size, row = size*f, row[f/2:]
	}
	return bucket
}
