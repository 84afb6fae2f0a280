package attention

import (
	"fmt"
	"math"
	"slices"
	"unsafe"

	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/kernels"
	"github.com/euryale-ml/euryale/layers"
)

// RoutingCache continues sequences token by token with Routing of membership Recent, as reading them at once does. Clusters are those of the weights and
// stay. Of each cluster it holds the last Window keys, normalised, and values, in a ring.
//
// Cost of a token: Clusters products of D for queries and for keys, and at most Window scores a head. Memory: 2·Clusters·Window·D numbers a head and
// candidate, however long the text gets. It is not safe for concurrent use.
type RoutingCache[F kernels.Float] struct {
	of       Routing
	heads, d int
	limit    int
	scale    F
	sphere   []F // [H,C,D]
	lines    []*routingLine[F]

	q, k, near, scores []F
}

// routingLine is one candidate for the sequence. Ring c of head h has its keys at [h·C+c]: those of tokens number n-1, n-2, … of the cluster stand at
// the places n-1, n-2, … modulo Window.
type routingLine[F kernels.Float] struct {
	length       int
	keys, values [][]F // [H·C][Window,D], of rings that are not empty
	count        []int // [H·C] tokens that the cluster ever had
}

func (l *routingLine[F]) clone() *routingLine[F] {
	return &routingLine[F]{l.length, cloneLevels(l.keys), cloneLevels(l.values), slices.Clone(l.count)}
}

// Uncached says why a layer cannot be generated from what a RoutingCache keeps; empty: it can.
func (a Routing) Uncached() string {
	switch {
	case a.Membership != Recent:
		return fmt.Sprintf("with membership %s later tokens change what earlier ones read; membership %s is exact", a.Membership, Recent)
	case a.Window < 1:
		return "it reads as many tokens as the length of the text says; give it a window"
	}
	return ""
}

// NewRoutingCache returns an empty cache of one candidate, for heads of size d in sequences of at most limit tokens. b stands in the scope of the layer's
// attention in a graph that is not for training, whose parameters have the clusters. scale is that of the scores; 0: 1/√d.
// Errors: sizes below 1; see Uncached; *layers.StateError where there are no clusters yet, or others than the layer has.
func NewRoutingCache[F kernels.Float](b *layers.Builder, of Routing, heads, d, limit int, scale float64) (*RoutingCache[F], error) {
	if why := of.Uncached(); why != "" {
		return nil, fmt.Errorf("routing has no cache: %s", why)
	}
	if heads < 1 || d < 1 || limit < 0 {
		return nil, fmt.Errorf("cache of %d heads of size %d for %d tokens: sizes start at 1", heads, d, limit)
	}
	state := newClusterState(b, heads, of.Clusters, d)
	if err := b.Err(); err != nil {
		return nil, err
	}
	both := tensor.New(tensor.Of(b.Dtype()), tensor.WithShape(2, heads, of.Clusters, d))
	in := []engine.Value{layers.InputValue(state.emaSum), layers.InputValue(state.emaCount), layers.InputValue(state.progress)}
	if err := (centroids{name: b.Path()}).Run(both, in); err != nil {
		return nil, err
	}
	if scale == 0 {
		scale = 1 / math.Sqrt(float64(d))
	}
	of.Window = min(of.Window, max(limit, 1))
	c := &RoutingCache[F]{of: of, heads: heads, d: d, limit: limit, scale: F(scale), sphere: engine.Floats[F](both)[heads*of.Clusters*d:]}
	c.Reset()
	return c, nil
}

// Reset goes back to the start, with one candidate.
func (c *RoutingCache[F]) Reset() {
	rings := c.heads * c.of.Clusters
	c.lines = []*routingLine[F]{{keys: make([][]F, rings), values: make([][]F, rings), count: make([]int, rings)}}
}

// Select makes candidates out of those there are. What several go on from is copied.
func (c *RoutingCache[F]) Select(parents []int) {
	now, used := make([]*routingLine[F], len(parents)), make([]bool, len(c.lines))
	for k, p := range parents {
		if now[k] = c.lines[p]; used[p] {
			now[k] = c.lines[p].clone()
		}
		used[p] = true
	}
	c.lines = now
}

// Bytes is the memory of what is held.
func (c *RoutingCache[F]) Bytes() (n int) {
	var f F
	for _, l := range c.lines {
		for ring := range l.keys {
			n += (cap(l.keys[ring])+cap(l.values[ring]))*int(unsafe.Sizeof(f)) + int(unsafe.Sizeof(0))
		}
	}
	return n
}

// Attend adds the next token of each candidate and writes what it reads to o; all four are [N,H·D]. Where queries are keys k is q.
// Errors: more tokens than the cache is for.
func (c *RoutingCache[F]) Attend(q, k, v, o []F) error {
	n, width := len(c.lines), c.heads*c.d
	c.q, c.k = sized(c.q, n*width), sized(c.k, n*width)
	kernels.LayerNorm(n*c.heads, c.d, q, nil, nil, c.q, 1e-6)
	kernels.LayerNorm(n*c.heads, c.d, k, nil, nil, c.k, 1e-6)
	for x, l := range c.lines {
		if l.length >= c.limit {
			return fmt.Errorf("token %d is beyond the %d that the cache was made for; shorten the text or raise max_position_embeddings", l.length+1, c.limit)
		}
		for h := range c.heads {
			at := x*width + h*c.d
			c.head(l, h, c.q[at:][:c.d], c.k[at:][:c.d], v[at:][:c.d], o[at:][:c.d])
		}
		l.length++
	}
	return nil
}

// head is a head of one token, which then enters the cluster of its key.
func (c *RoutingCache[F]) head(l *routingLine[F], h int, q, k, v, o []F) {
	d, w := c.d, c.of.Window
	ring := h*c.of.Clusters + c.nearest(h, q)
	held, count := min(l.count[ring], w), l.count[ring]
	own := 0
	if c.of.Self == SelfAllowed {
		own = 1
	}
	switch {
	case held+own == 0: // the last resort
		copy(o, v)
	default:
		keys, values := l.keys[ring], l.values[ring]
		c.scores = sized(c.scores, held+own)
		s, oldest := c.scores, 0
		if count > w {
			oldest = count % w // the ring is full: the oldest stands where the next one will
		}
		for x := range held { // by rising position, as the whole sequence is read
			s[x] = c.scale * dot(q, keys[(oldest+x)%w*d:][:d])
		}
		if own > 0 {
			s[held] = c.scale * dot(q, k)
		}
		kernels.Softmax(1, len(s), s, s)
		clear(o)
		for x := range held {
			kernels.Axpy(s[x], values[(oldest+x)%w*d:][:d], o)
		}
		if own > 0 {
			kernels.Axpy(s[held], v, o)
		}
	}
	if !c.of.SharedQK {
		ring = h*c.of.Clusters + c.nearest(h, k)
		count = l.count[ring]
	}
	if count < w { // a ring grows until it is full
		l.keys[ring], l.values[ring] = append(l.keys[ring], k...), append(l.values[ring], v...)
	} else {
		copy(l.keys[ring][count%w*d:], k)
		copy(l.values[ring][count%w*d:], v)
	}
	l.count[ring]++
}

// nearest is the cluster of a normalised vector, see Nearest.
func (c *RoutingCache[F]) nearest(h int, x []F) int {
	c.near = sized(c.near, c.of.Clusters)
	kernels.Gemm(false, true, c.of.Clusters, 1, c.d, c.sphere[h*c.of.Clusters*c.d:], c.d, x, c.d, c.near, 1, false, nil)
	best, at := F(math.Inf(-1)), 0
	for i, s := range c.near {
		if s > best {
			best, at = s, i
		}
	}
	return at
}
