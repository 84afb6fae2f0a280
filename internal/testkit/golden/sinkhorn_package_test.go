package golden

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"slices"

	"github.com/euryale-ml/euryale/internal/kernels"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/layers/attention"
)

// sinkhornArguments are those of the classes of sinkhorn-transformer.
type sinkhornArguments struct {
	BucketSize       int      `json:"bucket_size"`
	KVBucketSize     int      `json:"kv_bucket_size"`
	Dim              int      `json:"dim"`
	DimHeads         int      `json:"dim_heads"`
	DimHead          int      `json:"dim_head"`
	Heads            int      `json:"heads"`
	MaxSeqLen        int      `json:"max_seq_len"`
	NonPermutative   *bool    `json:"non_permutative"`
	SinkhornIter     *int     `json:"sinkhorn_iter"`
	Temperature      *float64 `json:"temperature"`
	NSortcut         int      `json:"n_sortcut"`
	NTopBuckets      *int     `json:"n_top_buckets"`
	UseSimpleSortNet bool     `json:"use_simple_sort_net"`
	Causal           bool     `json:"causal"`
	NLocalAttnHeads  int      `json:"n_local_attn_heads"`
	AttnDropout      float64  `json:"attn_dropout"`
	Dropout          float64  `json:"dropout"`

	params map[string]*Node // that are in the graph
}

// sorted is one call of the package's attention: sequences are heads of one example, since each can have a mask or a rotation of its own.
type sorted struct {
	*sinkhornArguments
	r           *rig
	name        string // of the call
	heads       int    // of the class; of g sequences number g % heads is one
	g, t, s, d  int    // sequences, queries, keys, head size
	qMask, mask []bool // [g,t], [g,s]; nil: none
	noise       []float64
	prefix      string // of parameters
	recorded    []float64
}

// orElse is what a pointer points at, or what is given.
func orElse[T any](p *T, value T) T {
	if p != nil {
		return *p
	}
	return value
}

// runSinkhornPackage puts the classes of sinkhorn-transformer together from our operations.
func runSinkhornPackage(c *Case, p Precision) ([]Result, error) {
	a := &sinkhornArguments{}
	d := json.NewDecoder(bytes.NewReader(c.Kwargs))
	d.DisallowUnknownFields()
	if err := d.Decode(a); err != nil {
		return nil, fmt.Errorf("kwargs: %w", err)
	}
	a.params = map[string]*Node{}
	if a.KVBucketSize == 0 {
		a.KVBucketSize = a.BucketSize
	}
	r := newRig(c, p)
	switch c.Class {
	case "SinkhornSelfAttention":
		return a.runSelf(r)
	case "SinkhornAttention", "SinkhornCausalAttention":
	default:
		return nil, fmt.Errorf("no adapter for class %q", c.Class)
	}
	r.only("q", "k", "v", "q_mask", "kv_mask")
	shape, keys := c.In("q").Shape, c.In("k").Shape
	x := sorted{sinkhornArguments: a, r: r, heads: shape[1], g: shape[0] * shape[1], t: shape[2], s: keys[2], d: shape[3]}
	x.masks(c.In("q_mask"), c.In("kv_mask"), shape[0], 0)
	if n := c.Rand("gumbel.0"); n != nil {
		x.noise = n.Float64s()
	}
	if m := c.Out64("sort_matrix.0"); m != nil {
		x.recorded = m.Float64s()
	}
	order := func(n int) []int { return tokensFirst(x.g, n, x.d, n) }
	node := func(name string, n int) *Node { return r.inAs(name, order(n), 1, n, x.g*x.d) }
	q, k, v := node("q", x.t), node("k", x.s), node("v", x.s)
	o, m := x.attend(c.Class == "SinkhornCausalAttention", q, k, v)
	r.out("sort_matrix.0", m)
	r.outAs("out", o, order(x.t))
	return r.compare()
}

// masks takes the masks of an example on, from [batch,t] and [batch,s].
func (x *sorted) masks(q, kv *Tensor, batch, first int) {
	if q == nil && kv == nil {
		return
	}
	all := slices.Repeat([]bool{true}, batch*x.t)
	if q != nil {
		all = q.Bools()
	}
	keys := all
	if kv != nil {
		keys = kv.Bools()
	}
	for g := range x.g {
		e := first + g/x.heads
		x.qMask = append(x.qMask, all[e*x.t:][:x.t]...)
		x.mask = append(x.mask, keys[e*x.s:][:x.s]...)
	}
}

// runSelf is SinkhornSelfAttention, example by example; heads with local attention come first.
func (a *sinkhornArguments) runSelf(r *rig) ([]Result, error) {
	r.only("x", "input_mask")
	all := r.in("x")
	if all == nil {
		return nil, r.err
	}
	batch, t := all.Shape()[0], all.Shape()[1]
	heads := a.Heads
	if heads == 0 {
		heads = 8
	}
	d := a.DimHead
	if d == 0 {
		d = a.Dim / heads
	}
	iterations := orElse(a.SinkhornIter, 5)
	a.DimHeads, a.SinkhornIter = d, &iterations
	top, temperature := orElse(a.NTopBuckets, 1), orElse(a.Temperature, 0.75)
	a.NTopBuckets, a.Temperature = &top, &temperature
	weights := map[string]*Node{"to_q.weight": r.param("to_q.weight"), "to_kv.weight": r.param("to_kv.weight"), "to_out.weight": r.param("to_out.weight")}
	linear := func(w string, bias *Node, x *Node) *Node {
		return layers.Linear(r.b, x, layers.LinearConfig{Weight: weights[w], Bias: bias, NoBias: bias == nil})
	}
	cut, width := a.NLocalAttnHeads*d, heads*d
	var outs, matrices layers.Nodes
	for e := range batch {
		one := layers.Slice(r.b, all, 0, e, e+1)
		q, kv := linear("to_q.weight", nil, one), linear("to_kv.weight", nil, one)
		part := func(x *Node, from, to int) *Node { return layers.Slice(r.b, x, 2, from, to) }
		x := sorted{sinkhornArguments: a, r: r, name: fmt.Sprint(" example ", e), heads: heads - a.NLocalAttnHeads, g: heads - a.NLocalAttnHeads, t: t, s: t, d: d,
			prefix: "sinkhorn_attention."}
		x.masks(r.c.In("input_mask"), nil, batch, e)
		share := func(t *Tensor) []float64 {
			if t == nil {
				return nil
			}
			n := t.Size() / batch
			return t.Float64s()[e*n:][:n]
		}
		x.noise, x.recorded = share(r.c.Rand("gumbel.0")), share(r.c.Out64("sort_matrix.0"))
		var parts layers.Nodes
		if cut > 0 {
			parts = append(parts, x.local(part(q, 0, cut), part(kv, 0, cut), part(kv, width, width+cut)))
		}
		o, m := x.attend(a.Causal, part(q, cut, width), part(kv, cut, width), part(kv, width+cut, 2*width))
		outs, matrices = append(outs, layers.Concat(r.b, 2, append(parts, o)...)), append(matrices, m)
	}
	r.out("sort_matrix.0", layers.Concat(r.b, 0, matrices...))
	r.out("out", linear("to_out.weight", r.param("to_out.bias"), layers.Concat(r.b, 0, outs...)))
	return r.compare()
}

// local is the attention of local heads: windows before and, if not causal, behind.
func (x *sorted) local(q, k, v *Node) *Node {
	p := attention.Pattern(attention.Blocks{Size: x.BucketSize, Left: x.BucketSize, Right: x.BucketSize})
	if x.Causal {
		p = attention.Causal(attention.Blocks{Size: x.BucketSize, Left: x.BucketSize})
	}
	if x.mask != nil {
		base := p
		p = explicit{x.r.c.ID() + x.r.p.String() + x.name + " local", x.NLocalAttnHeads, func(_, i, j int) bool { return base.Sees(0, i, j, x.t) && x.mask[j] }}
		for i := range x.t {
			if len(p.Row(0, i, x.t, nil)) == 0 {
				x.r.fail(fmt.Errorf("a local query without keys is not handled"))
			}
		}
	}
	o, _ := attention.Attend(x.r.b, attention.Config{Heads: x.NLocalAttnHeads, Pattern: p}, q, k, v)
	return o
}

// attend gives the output and the sort matrix [g,slots,buckets].
func (x *sorted) attend(causal bool, q, k, v *Node) (o, matrix *Node) {
	if causal {
		return x.causal(q, k, v)
	}
	return x.bidirectional(q, k, v)
}

// bidirectional is SinkhornAttention.
func (x *sorted) bidirectional(q, k, v *Node) (o, matrix *Node) {
	b, n, buckets := x.r.b, x.t/x.BucketSize, x.s/x.KVBucketSize
	top := min(orElse(x.NTopBuckets, 1), buckets)
	var scores *Node
	if x.UseSimpleSortNet {
		pooled := func(y *Node) *Node { return layers.PoolBlocks(b, y, nil, x.BucketSize, layers.BlockSum) }
		scores = layers.Activation(b, x.net(pooled(q), pooled(k), buckets), kernels.ReLU)
	} else {
		size := x.BucketSize
		if x.NSortcut > 0 {
			size, n, top = x.t, 1, x.NSortcut
		}
		scores = layers.HeadScores(b, layers.PoolBlocks(b, q, nil, size, layers.BlockMean), layers.PoolBlocks(b, k, nil, x.KVBucketSize, layers.BlockMean),
			x.g, 1/math.Sqrt(float64(x.DimHeads)))
	}
	var p *Node
	switch {
	case orElse(x.NonPermutative, true):
		temperature := 1.0 // the attention sort net forgets it
		if x.UseSimpleSortNet {
			temperature = orElse(x.Temperature, 0.75)
		}
		p = x.heaviest(scores, top, temperature)
	case n == 1: // columns of one row are 1
		p, top = x.r.floats("ones"+x.name, slices.Repeat([]float64{1}, x.g*buckets), 1, x.g, 1, buckets), 1
	default:
		top = 1
		p = layers.Sinkhorn(b, scores, nil, layers.SinkhornConfig{Tau: orElse(x.Temperature, 0.75), Iterations: orElse(x.SinkhornIter, 7), LogReLU: true,
			Noise: x.r.floats("gumbel"+x.name, x.noise, 1, x.g, n, buckets)})
	}
	kept := p
	if rows := n * top; x.NSortcut > 0 && x.NSortcut < rows && b.Err() == nil {
		kept = layers.Slice(b, p, 2, 0, x.NSortcut)
	}
	slots := layers.MixBlocks(b, kept, k, layers.MixConfig{Size: x.KVBucketSize})
	values := slots // the package takes the values of slots from keys
	if x.NSortcut > 0 {
		values = layers.MixBlocks(b, kept, v, layers.MixConfig{Size: x.KVBucketSize})
	}
	if b.Err() != nil {
		return nil, nil
	}
	width, rows := top*x.KVBucketSize, slots.Shape()[1]
	first := x.argmax(kept)
	sorted := func(g, i, j int) (listed, shown bool) {
		bucket := first[g*(rows/x.KVBucketSize)+j/x.KVBucketSize]
		shown = x.mask == nil || x.mask[g*x.s+bucket*x.KVBucketSize+j%x.KVBucketSize]
		return x.NSortcut > 0 || j/width == i/x.BucketSize, shown
	}
	own := func(g, i, j int) (listed, shown bool) {
		return x.t/x.BucketSize == buckets && i/x.BucketSize == j/x.KVBucketSize, x.mask == nil || x.mask[g*x.s+j]
	}
	return x.merge(q, slots, values, k, v, sorted, own), x.matrix(p)
}

// merge reads slots and own buckets in one softmax, over the keys that are listed, of which some are hidden. A query that is masked, or whose keys
// all are hidden, has equal scores with all that are listed: it is 0 and reads them all.
func (x *sorted) merge(q, slots, values, k, v *Node, sorted, own func(g, i, j int) (listed, shown bool)) *Node {
	if x.r.b.Err() != nil || x.r.err != nil {
		return nil
	}
	b, rows := x.r.b, slots.Shape()[1]
	keep, blank := make([]float64, x.t*x.g*x.d), make([]bool, x.g*x.t)
	for g := range x.g {
		for i := range x.t {
			seen := false
			for _, part := range []struct {
				n    int
				sees func(g, i, j int) (bool, bool)
			}{{rows, sorted}, {x.s, own}} {
				for j := range part.n {
					listed, shown := part.sees(g, i, j)
					seen = seen || listed && shown
				}
			}
			if blank[g*x.t+i] = !seen || x.qMask != nil && !x.qMask[g*x.t+i]; !blank[g*x.t+i] {
				for c := range x.d {
					keep[(i*x.g+g)*x.d+c] = 1
				}
			}
		}
	}
	if slices.Contains(blank, true) {
		q = layers.Mul(b, q, x.r.floats("kept queries"+x.name, keep, 1, x.t, x.g*x.d))
	}
	pattern := func(what string, n int, sees func(g, i, j int) (bool, bool)) attention.Pattern {
		return explicit{x.r.c.ID() + x.r.p.String() + x.name + what, x.g, func(g, i, j int) bool {
			if i < 0 || j < 0 || i >= x.t || j >= n {
				return false
			}
			listed, shown := sees(g, i, j)
			return listed && (shown || blank[g*x.t+i])
		}}
	}
	c := attention.Config{Heads: x.g, Pattern: pattern(" sorted", rows, sorted), Cross: true}
	var parts [2]attention.Part
	parts[0].O, parts[0].LSE = attention.Attend(b, c, q, slots, values)
	c.Pattern = pattern(" own", x.s, own)
	parts[1].O, parts[1].LSE = attention.Attend(b, c, q, k, v)
	return attention.Merge(b, parts[:]...).O
}

// matrix is a sort matrix as it is recorded.
func (x *sorted) matrix(p *Node) *Node {
	if x.r.b.Err() != nil {
		return nil
	}
	s := p.Shape()
	return layers.Reshape(x.r.b, p, s[1], s[2], s[3])
}

// argmax is the heaviest bucket of each slot.
func (x *sorted) argmax(p *Node) []int {
	values, err := x.r.value(p)
	if err != nil {
		x.r.fail(err)
		return nil
	}
	m := p.Shape()[3]
	first := make([]int, len(values)/m)
	for row := range first {
		for v, w := range values[row*m:][:m] {
			if w > values[row*m+first[row]] {
				first[row] = v
			}
		}
	}
	return first
}

// net is the linear map of the simple sort nets: [a ; b] W, W [1,heads,2d,max], the first columns.
func (x *sorted) net(a, c *Node, columns int) *Node {
	b, t := x.r.b, x.r.c.Param(x.prefix+"sort_net.linear")
	if t == nil || b.Err() != nil {
		x.r.fail(fmt.Errorf("param/%ssort_net.linear is missing", x.prefix))
		return nil
	}
	heads, rows, most := t.Shape[1], t.Shape[2], t.Shape[3]
	order := make([]int, t.Size()) // [max,heads,2d]
	for e := range order {
		m, h, y := e/(heads*rows), e/rows%heads, e%rows
		order[e] = (h*rows+y)*most + m
	}
	if x.params["sort_net"] == nil {
		x.params["sort_net"] = x.r.paramAs(x.prefix+"sort_net.linear", "sort_net", order, most, heads*rows)
	}
	w := layers.Reshape(b, layers.Slice(b, x.params["sort_net"], 0, 0, columns), 1, columns, heads*rows)
	n := a.Shape()[1]
	apart := func(y *Node) *Node { return layers.Reshape(b, y, 1, n, x.g, x.d) }
	both := layers.Reshape(b, layers.Concat(b, 3, apart(a), apart(c)), 1, n, x.g*2*x.d)
	return layers.HeadScores(b, both, layers.Concat(b, 2, slices.Repeat(layers.Nodes{w}, x.g/heads)...), x.g, 1)
}

// heaviest are, for each row of scores, so many slots: the softmax at its greatest value alone, then that of what is left, and so on.
func (x *sorted) heaviest(scores *Node, top int, temperature float64) *Node {
	b := x.r.b
	y := layers.Scale(b, scores, 1/temperature)
	values, err := x.r.value(y)
	if err != nil {
		x.r.fail(err)
		return nil
	}
	s := y.Shape()
	n, m := s[2], s[3]
	hidden := make([]float64, len(values)) // -Inf for what is taken
	var slots layers.Nodes
	for k := range top {
		chosen := make([]float64, len(values))
		for row := range x.g * n {
			best := -1
			for v := range m {
				at := row*m + v
				if math.IsInf(hidden[at], -1) {
					continue
				}
				// Null buckets are equal: the reference took the one that is not 0.
				if best < 0 || values[at] > values[row*m+best]+1e-12 || values[at] > values[row*m+best]-1e-12 && x.recorded[(row*top+k)*m+v] != 0 {
					best = v
				}
			}
			chosen[row*m+best] = 1
		}
		soft := layers.Softmax(b, layers.Add(b, y, x.r.floats(fmt.Sprint("taken ", k, x.name), slices.Clone(hidden), s...)))
		slots = append(slots, layers.Mul(b, soft, x.r.floats(fmt.Sprint("chosen ", k, x.name), chosen, s...)))
		for at, c := range chosen {
			if c == 1 {
				hidden[at] = math.Inf(-1)
			}
		}
	}
	return layers.Reshape(b, layers.Concat(b, 3, slots...), s[0], s[1], n*top, m)
}
