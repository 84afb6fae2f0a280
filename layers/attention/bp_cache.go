package attention

import (
	"fmt"
	"math"
	"math/bits"
	"unsafe"

	"github.com/euryale-ml/euryale/internal/kernels"
)

// TreeCache holds the keys and values of the nodes of a BP-Transformer, in one layer, while its sequence is generated token by token. A
// token never reads a span that ends behind it, so a span is made, once and for all, with its last token: token t makes 1 + log₂ of the
// largest power of two that divides t+1 nodes, two on average.
//
// There may be several candidates for the sequence, of one length; see Select. Memory: all tokens and spans, twice the tokens. A
// TreeCache is not safe for concurrent use.
type TreeCache[F kernels.Float] struct {
	bp       BP
	n        int // longest sequence
	heads    int
	d, dv    int
	scale    F
	table    []F // [V,D], keys of labels
	length   int // tokens seen
	branches []treeBranch[F]

	reads  []treeRead // of the node at work
	scores []F
}

// treeBranch is what a candidate has seen: by level the keys [H·D] and values [H·DV] of its nodes.
type treeBranch[F kernels.Float] struct{ keys, values [][]F }

// treeRead is a node that is read, and the role of the edge.
type treeRead struct{ level, node, label int }

// NewTreeCache returns an empty cache with one candidate, for heads of sizes d (keys) and dv (values) in sequences of at most n tokens.
// bp is causal; labels are the weights of its labels, [V,d]; scale is that of the scores, 0: 1/√d.
// Errors: sizes below 1; a table of another size.
func NewTreeCache[F kernels.Float](bp BP, heads, d, dv, n int, labels []F, scale float64) (*TreeCache[F], error) {
	if heads < 1 || d < 1 || dv < 1 || n < 0 {
		return nil, fmt.Errorf("cache of %d heads of sizes %d and %d for %d tokens: sizes start at 1", heads, d, dv, n)
	}
	if !bp.Tree.past {
		return nil, fmt.Errorf("%s reads what is not written yet; a cache is for the causal one", bp.Tree)
	}
	if want := bp.Labels().Count() * d; len(labels) != want {
		return nil, fmt.Errorf("the keys of labels are %d numbers, want %d", len(labels), want)
	}
	if scale == 0 {
		scale = 1 / math.Sqrt(float64(d))
	}
	return &TreeCache[F]{bp: bp, n: n, heads: heads, d: d, dv: dv, scale: F(scale), table: labels, branches: make([]treeBranch[F], 1)}, nil
}

// SpansAfter is how many spans the token after so many completes, one on each level from the first on.
func SpansAfter(tokens int) int { return bits.TrailingZeros(uint(tokens + 1)) }

// Len is the number of tokens seen.
func (c *TreeCache[F]) Len() int { return c.length }

// Bytes is the memory of the keys and values.
func (c *TreeCache[F]) Bytes() int {
	var f F
	total := 0
	for _, b := range c.branches {
		for _, list := range [2][][]F{b.keys, b.values} {
			for _, level := range list {
				total += cap(level)
			}
		}
	}
	return total * int(unsafe.Sizeof(f))
}

// Reset goes back to the start, with one candidate.
func (c *TreeCache[F]) Reset() { c.length, c.branches = 0, make([]treeBranch[F], 1) }

// Select makes candidates out of those there are: the new candidate k goes on from parents[k]. What several go on from is copied.
func (c *TreeCache[F]) Select(parents []int) {
	old := c.branches
	c.branches = make([]treeBranch[F], len(parents))
	taken := make([]bool, len(old))
	for k, p := range parents {
		if c.branches[k] = old[p]; taken[p] {
			c.branches[k] = treeBranch[F]{cloneLevels(old[p].keys), cloneLevels(old[p].values)}
		}
		taken[p] = true
	}
}

func cloneLevels[F kernels.Float](levels [][]F) [][]F {
	out := make([][]F, len(levels))
	for j, l := range levels {
		out[j] = append([]F(nil), l...)
	}
	return out
}

// Attend adds the nodes that the next token makes, and writes what their queries read to o: rows of Attend on the whole sequence. Rows of
// q, k [1+S,N,H·D], v and o [1+S,N,H·DV], S = SpansAfter(Len()), are those of the token for each of the N candidates, then those of the spans that
// it completes, level by level.
// Cost: O((pairs of a token + log n) · (D + DV)) for each head and candidate, on average.
// Errors: more tokens than the cache was made for.
func (c *TreeCache[F]) Attend(q, k, v, o []F) error {
	t := c.length
	spans := SpansAfter(t)
	if t >= c.n {
		return fmt.Errorf("token %d is beyond the %d that the cache was made for; shorten the text or raise max_position_embeddings", t+1, c.n)
	}
	ck, cv := c.heads*c.d, c.heads*c.dv
	for b := range c.branches {
		to := &c.branches[b]
		for j := range spans + 1 {
			if j == len(to.keys) {
				to.keys, to.values = append(to.keys, nil), append(to.values, nil)
			}
			row := j*len(c.branches) + b
			to.keys[j] = append(to.keys[j], k[row*ck:][:ck]...)
			to.values[j] = append(to.values[j], v[row*cv:][:cv]...)
		}
	}
	c.length++
	for j := range spans + 1 {
		c.reads = c.reads[:0]
		if j == 0 {
			c.bp.Tree.token(t, treeLevels(t+1), c.bp.Clip, func(level, node, label int) {
				c.reads = append(c.reads, treeRead{level, node, label})
			})
		} else {
			for i := t + 1 - 1<<j; i <= t; i++ {
				c.reads = append(c.reads, treeRead{0, i, (2*c.bp.Tree.K + 1) * min(j, c.bp.Clip)})
			}
		}
		for b := range c.branches {
			row := j*len(c.branches) + b
			c.read(&c.branches[b], q[row*ck:][:ck], o[row*cv:][:cv])
		}
	}
	return nil
}

// read writes what a node reads to o.
func (c *TreeCache[F]) read(from *treeBranch[F], q, o []F) {
	n, ck, cv := len(c.reads), c.heads*c.d, c.heads*c.dv
	if len(c.scores) < n {
		c.scores = make([]F, 2*n)
	}
	p := c.scores[:n]
	for h := range c.heads {
		qh := q[h*c.d:][:c.d]
		for x, r := range c.reads {
			key, label := from.keys[r.level][r.node*ck+h*c.d:][:c.d], c.table[r.label*c.d:][:c.d]
			sum := F(0)
			for i, v := range qh {
				sum += v * (key[i] + label[i])
			}
			p[x] = c.scale * sum
		}
		kernels.Softmax(1, n, p, p)
		oh := o[h*c.dv:][:c.dv]
		clear(oh)
		for x, r := range c.reads {
			for i, v := range from.values[r.level][r.node*cv+h*c.dv:][:c.dv] {
				oh[i] += p[x] * v
			}
		}
	}
}
