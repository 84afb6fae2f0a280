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

// sinkhornArguments are those of the classes of sinkhorn-transformer, and of the sequences: e examples of g heads.
type sinkhornArguments struct {
	BucketSize       int      `json:"bucket_size"`
	Dim              int      `json:"dim"`
	DimHeads         int      `json:"dim_heads"`
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

	e, g, t, d  int
	qMask, mask []bool // [g,t], nil: none
}

// orElse is what a pointer points at, or what is given.
func orElse[T any](p *T, value T) T {
	if p != nil {
		return *p
	}
	return value
}

// runSinkhornPackage puts the classes of sinkhorn-transformer together from our operations. Sequences are heads of one example, since each can
// have a mask or a rotation of its own.
func runSinkhornPackage(c *Case, p Precision) ([]Result, error) {
	a := &sinkhornArguments{}
	d := json.NewDecoder(bytes.NewReader(c.Kwargs))
	d.DisallowUnknownFields()
	if err := d.Decode(a); err != nil {
		return nil, fmt.Errorf("kwargs: %w", err)
	}
	r := newRig(c, p)
	if c.Class == "SinkhornSelfAttention" {
		return a.runSelf(r)
	}
	r.only("q", "k", "v", "q_mask", "kv_mask")
	s := c.In("q").Shape
	a.e, a.g, a.t, a.d = 1, s[0]*s[1], s[2], s[3]
	if m := c.In("kv_mask"); m != nil {
		for g := range a.g {
			a.qMask = append(a.qMask, c.In("q_mask").Bools()[g/s[1]*a.t:][:a.t]...)
			a.mask = append(a.mask, m.Bools()[g/s[1]*a.t:][:a.t]...)
		}
	}
	order := tokensFirst(a.g, a.t, a.d, a.t)
	if c.Class == "SinkhornCausalAttention" { // the second half of the heads is rotated to the left
		for e, at := range order {
			if g := e / a.d % a.g; a.rotated(g) {
				i := e / (a.d * a.g)
				order[e] = at + ((i+a.BucketSize-1)%a.t-i)*a.d
			}
		}
	}
	node := func(name string) *Node { return r.inAs(name, order, 1, a.t, a.g*a.d) }
	q, k, v := node("q"), node("k"), node("v")
	var o *Node
	switch c.Class {
	case "SinkhornCausalAttention":
		o = a.causal(r, q, k, v)
	case "SinkhornAttention":
		o = a.attend(r, q, k, v)
	default:
		return nil, fmt.Errorf("no adapter for class %q", c.Class)
	}
	r.outAs("out", o, order)
	return r.compare()
}

func (a *sinkhornArguments) buckets() int       { return a.t / a.BucketSize }
func (a *sinkhornArguments) rotated(g int) bool { return g%a.Heads >= a.Heads/2 }

// runSelf is SinkhornSelfAttention; heads with local attention come first.
func (a *sinkhornArguments) runSelf(r *rig) ([]Result, error) {
	r.only("x")
	x := r.in("x")
	linear := func(w string, bias *Node, x *Node) *Node {
		return layers.Linear(r.b, x, layers.LinearConfig{Weight: r.param(w), Bias: bias, NoBias: bias == nil})
	}
	q, kv := linear("to_q.weight", nil, x), linear("to_kv.weight", nil, x)
	if r.err != nil || r.b.Err() != nil {
		return nil, r.err
	}
	width := q.Shape()[2]
	a.e, a.t, a.d = x.Shape()[0], x.Shape()[1], width/a.Heads
	a.g = a.Heads - a.NLocalAttnHeads
	cut := a.NLocalAttnHeads * a.d
	part := func(x *Node, from, to int) *Node { return layers.Slice(r.b, x, 2, from, to) }
	local, _ := attention.Attend(r.b, attention.Config{Heads: a.NLocalAttnHeads, Pattern: attention.Blocks{Size: a.BucketSize, Left: a.BucketSize, Right: a.BucketSize}},
		part(q, 0, cut), part(kv, 0, cut), part(kv, width, width+cut))
	a.DimHeads, a.SinkhornIter = a.d, ptr(orElse(a.SinkhornIter, 5))
	o := a.attend(r, part(q, cut, width), part(kv, cut, width), part(kv, width+cut, 2*width))
	r.out("out", linear("to_out.weight", r.param("to_out.bias"), layers.Concat(r.b, 2, local, o)))
	return r.compare()
}

func ptr[T any](v T) *T { return &v }

// attend is SinkhornAttention.
func (a *sinkhornArguments) attend(r *rig, q, k, v *Node) *Node {
	b, n := r.b, a.buckets()
	top := min(orElse(a.NTopBuckets, 1), n)
	var scores *Node
	if a.UseSimpleSortNet {
		scores = a.simpleScores(r, q, k)
	} else {
		size := a.BucketSize
		if a.NSortcut > 0 {
			size, top = a.t, a.NSortcut
		}
		scores = layers.HeadScores(b, layers.PoolBlocks(b, q, nil, size, layers.BlockMean), layers.PoolBlocks(b, k, nil, a.BucketSize, layers.BlockMean),
			a.g, 1/math.Sqrt(float64(a.DimHeads)))
	}
	var p *Node
	var first []int // heaviest bucket of each slot
	if orElse(a.NonPermutative, true) {
		temperature := 1.0 // the attention sort net forgets it
		if a.UseSimpleSortNet {
			temperature = orElse(a.Temperature, 0.75)
		}
		p, first = a.heaviest(r, scores, top, temperature)
	} else {
		noise := r.c.Rand("gumbel.0")
		p = layers.Sinkhorn(b, scores, nil, layers.SinkhornConfig{Tau: orElse(a.Temperature, 0.75), Iterations: orElse(a.SinkhornIter, 7), LogReLU: true,
			Noise: r.floats("gumbel", noise.Float64s(), a.e, a.g, n, n)})
	}
	a.recordSort(r, p)
	slots := layers.MixBlocks(b, p, k, layers.MixConfig{Size: a.BucketSize})
	values := slots // the package takes the values of slots from keys
	if a.NSortcut > 0 {
		values = layers.MixBlocks(b, p, v, layers.MixConfig{Size: a.BucketSize})
	}
	width := top * a.BucketSize // of the slots that a query reads
	// A masked query has equal scores with all keys, masked or not: it is 0 and reads them all.
	counts := func(g, i, j int) bool { return a.mask == nil || !a.qMask[g*a.t+i] || a.mask[g*a.t+j] }
	sorted := func(g, i, j int) bool {
		u := i / a.BucketSize
		if a.NSortcut > 0 {
			return j < width
		}
		if j < u*width || j >= (u+1)*width {
			return false
		}
		return a.mask == nil || counts(g, i, first[g*n*top+j/a.BucketSize]*a.BucketSize+j%a.BucketSize)
	}
	own := func(g, i, j int) bool { return i/a.BucketSize == j/a.BucketSize && counts(g, i, j) }
	if a.mask != nil {
		keep := make([]float64, a.t*a.g*a.d)
		for e := range keep {
			if a.qMask[e/a.d%a.g*a.t+e/(a.d*a.g)] {
				keep[e] = 1
			}
		}
		q = layers.Mul(b, q, r.floats("kept queries", keep, 1, a.t, a.g*a.d))
	}
	return a.merge(r, q, slots, values, k, v, sorted, own)
}

// merge reads slots and own buckets in one softmax.
func (a *sinkhornArguments) merge(r *rig, q, slots, values, k, v *Node, sorted, own func(g, i, j int) bool) *Node {
	if r.b.Err() != nil {
		return nil
	}
	rows := slots.Shape()[1]
	inside := func(rows int, sees func(g, i, j int) bool) func(g, i, j int) bool {
		return func(g, i, j int) bool { return i >= 0 && j >= 0 && i < a.t && j < rows && sees(g, i, j) }
	}
	name := r.c.ID() + r.p.String()
	c := attention.Config{Heads: a.g, Pattern: explicit{name + " sorted", a.g, inside(rows, sorted)}, Cross: true}
	var parts [2]attention.Part
	parts[0].O, parts[0].LSE = attention.Attend(r.b, c, q, slots, values)
	c.Pattern = explicit{name + " own", a.g, inside(a.t, own)}
	parts[1].O, parts[1].LSE = attention.Attend(r.b, c, q, k, v)
	return attention.Merge(r.b, parts[:]...).O
}

// recordSort compares the sort matrix.
func (a *sinkhornArguments) recordSort(r *rig, p *Node) {
	if r.b.Err() == nil {
		s := p.Shape()
		r.out("sort_matrix.0", layers.Reshape(r.b, p, s[0]*s[1], s[2], s[3]))
	}
}

// simpleScores are those of the simple sort net: relu([Σq ; Σk] W), W [1,heads,2d,max].
func (a *sinkhornArguments) simpleScores(r *rig, q, k *Node) *Node {
	b, t := r.b, r.c.Param("sort_net.linear")
	heads, rows, most := t.Shape[1], t.Shape[2], t.Shape[3]
	order := make([]int, t.Size()) // [max,heads,2d]
	for e := range order {
		m, h, x := e/(heads*rows), e/rows%heads, e%rows
		order[e] = (h*rows+x)*most + m
	}
	w := layers.Reshape(b, r.paramAs("sort_net.linear", "sort_net", order, most, heads*rows), 1, most, heads*rows)
	all := slices.Repeat(layers.Nodes{w}, a.g/heads)
	pooled := func(x *Node) *Node {
		return layers.Reshape(b, layers.PoolBlocks(b, x, nil, a.BucketSize, layers.BlockSum), a.e, a.buckets(), a.g, a.d)
	}
	both := layers.Reshape(b, layers.Concat(b, 3, pooled(q), pooled(k)), a.e, a.buckets(), a.g*2*a.d)
	return layers.Activation(b, layers.HeadScores(b, both, layers.Concat(b, 2, all...), a.g, 1), kernels.ReLU)
}

// heaviest are, for each row of scores, so many slots: the softmax at its greatest value alone, then that of what is left, and so on. It also
// gives the columns, by slot.
func (a *sinkhornArguments) heaviest(r *rig, scores *Node, top int, temperature float64) (p *Node, columns []int) {
	b := r.b
	x := layers.Scale(b, scores, 1/temperature)
	values, err := r.value(x)
	if err != nil {
		r.fail(err)
		return nil, nil
	}
	s := x.Shape()
	n, m := s[2], s[3]
	recorded := r.c.Out64("sort_matrix.0").Float64s()
	columns = make([]int, a.e*a.g*n*top)
	hidden := make([]float64, len(values)) // -Inf for what is taken
	var slots layers.Nodes
	for k := range top {
		chosen := make([]float64, len(values))
		for row := range a.e * a.g * n {
			best := -1
			for v := range m {
				at := row*m + v
				if math.IsInf(hidden[at], -1) {
					continue
				}
				// Null buckets are equal: the reference took the one that is not 0.
				if best < 0 || values[at] > values[row*m+best]+1e-12 || values[at] > values[row*m+best]-1e-12 && recorded[(row*top+k)*m+v] != 0 {
					best = v
				}
			}
			columns[row*top+k] = best
			chosen[row*m+best] = 1
		}
		soft := layers.Softmax(b, layers.Add(b, x, r.floats(fmt.Sprint("taken ", k), slices.Clone(hidden), s...)))
		slots = append(slots, layers.Mul(b, soft, r.floats(fmt.Sprint("chosen ", k), chosen, s...)))
		for at, c := range chosen {
			if c == 1 {
				hidden[at] = math.Inf(-1)
			}
		}
	}
	return layers.Reshape(b, layers.Concat(b, 3, slots...), s[0], s[1], n*top, m), columns
}

// causal is SinkhornCausalAttention, after the rotation.
func (a *sinkhornArguments) causal(r *rig, q, k, v *Node) *Node {
	b, n, size := r.b, a.buckets(), a.BucketSize
	top := min(orElse(a.NTopBuckets, 2), n)
	first := layers.PoolBlocks(b, q, nil, size, layers.PrefixMean)
	sums := layers.PoolBlocks(b, layers.PoolBlocks(b, k, nil, 1, layers.PrefixMean), nil, size, layers.BlockSum)
	nulls := r.floats("null scores", make([]float64, top*a.g*a.d), 1, top, a.g*a.d)
	scores := layers.HeadScores(b, first, layers.Concat(b, 1, nulls, sums), a.g, 1/math.Sqrt(float64(a.DimHeads)))
	mask := make([]float64, a.g*n*(n+top))
	for e := range mask {
		if u, c := e/(n+top)%n, e%(n+top); c-top >= u {
			mask[e] = math.Inf(-1)
		}
	}
	scores = layers.Add(b, scores, r.floats("later buckets", mask, 1, a.g, n, n+top))
	p, _ := a.heaviest(r, scores, top, orElse(a.Temperature, 1))
	a.recordSort(r, p)
	withNull := func(name string, x *Node) *Node {
		row := layers.Reshape(b, r.param(name), 1, 1, a.Heads*a.d)
		rows := layers.Gather(b, layers.Concat(b, 2, slices.Repeat(layers.Nodes{row}, a.g/a.Heads)...), r.ints("null rows", make([]int32, top*size), top*size))
		return layers.MixBlocks(b, p, layers.Concat(b, 1, rows, x), layers.MixConfig{Size: size})
	}
	// The last bucket of a rotated head holds the first tokens behind its own: token 0 reads slots and itself, later ones each other alone.
	wrapped := func(g, i int) bool { return a.rotated(g) && i/size == n-1 && i%size > 0 }
	sorted := func(g, i, j int) bool { return j/(top*size) == i/size && !wrapped(g, i) }
	own := func(g, i, j int) bool {
		return i/size == j/size && j <= i && !(wrapped(g, i) && j%size == 0)
	}
	return a.merge(r, q, withNull("null_keys", k), withNull("null_values", v), k, v, sorted, own)
}
