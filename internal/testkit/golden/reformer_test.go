package golden

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/kernels"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/layers/attention"
)

// reformerConfig is that of the cases of def_reformer.
type reformerConfig struct {
	Plan          string   `json:"plan"`
	Lengths       []int32  `json:"lengths"`
	N             int      `json:"n"`
	NumHeads      int      `json:"num_heads"`
	HeadSize      int      `json:"head_size"`
	BucketFactors []int    `json:"bucket_factors"`
	Chunk         int      `json:"chunk"`
	NumHashes     int      `json:"num_hashes"`
	Causal        bool     `json:"causal"`
	ChunksBefore  int      `json:"chunks_before"`
	ChunksAfter   int      `json:"chunks_after"`
	Dup           string   `json:"dup"`
	Wrap          string   `json:"wrap"`
	SameBucket    bool     `json:"same_bucket_only"`
	KeyEps        float64  `json:"key_eps"`
	Attention     []string `json:"attention"`
	Intermediate  int      `json:"intermediate_size"`
	Vocab         int      `json:"vocab_size"`
	Hidden        int      `json:"hidden_size"`
	AxialShape    []int    `json:"axial_shape"`
	AxialDims     []int    `json:"axial_dims"`
	LocalChunk    int      `json:"local_chunk"`
	Eps           float64  `json:"layer_norm_eps"`
}

func (c reformerConfig) lsh() attention.LSH {
	return attention.LSH{Chunk: c.Chunk, Hashes: c.NumHashes, Factors: c.BucketFactors, Before: c.ChunksBefore, After: c.ChunksAfter, Plan: c.Plan,
		Dup: c.Dup, Wrap: c.Wrap, SameBucket: c.SameBucket, Causal: c.Causal, Eps: c.KeyEps}
}

// runReformer is a case of def_reformer: a layer, or a small model.
func runReformer(c *Case, p Precision) ([]Result, error) {
	var g reformerConfig
	if err := json.Unmarshal(c.Config, &g); err != nil {
		return nil, err
	}
	switch c.Variant {
	case "reformer_lsh_attention":
		return runLSHLayer(c, p, g)
	case "reformer_two_stream_model":
		return runTwoStreams(c, p, g)
	}
	return nil, fmt.Errorf("no adapter for variant %s of %s", c.Variant, c.System)
}

// rotations are those of all factors of a layer, rand/rotations.F + suffix [H,R,D,C], as [H,R,ΣC,D].
func (r *rig) rotations(suffix string, factors []int) *Node {
	var h, rounds, d, total int
	for f := range factors {
		t := r.c.Rand(fmt.Sprint("rotations.", f, suffix))
		if t == nil || len(t.Shape) != 4 || t.Shape[3] != factors[f]/2 {
			r.fail(fmt.Errorf("rand/rotations.%d%s is missing or of another shape", f, suffix))
			return nil
		}
		h, rounds, d, total = t.Shape[0], t.Shape[1], t.Shape[2], total+t.Shape[3]
	}
	x := make([]float64, h*rounds*total*d)
	first := 0
	for f := range factors {
		t := r.c.Rand(fmt.Sprint("rotations.", f, suffix))
		columns := t.Shape[3]
		for i, v := range t.Float64s() {
			hr, k, col := i/(d*columns), i/columns%d, i%columns
			x[(hr*total+first+col)*d+k] = v
		}
		first += columns
	}
	return r.floats("rotations"+suffix, x, h, rounds, total, d)
}

// wholeNumbers runs the graph for a node of whole numbers.
func (r *rig) wholeNumbers(n *Node) ([]int32, error) {
	if err := errors.Join(r.err, r.b.Err()); err != nil {
		return nil, err
	}
	program, err := engine.Compile(r.b.Graph(), layers.Nodes{n}, engine.Options{Scope: r.b.ScopeOf})
	if err != nil {
		return nil, err
	}
	defer func() { _ = program.Close() }()
	if err := program.Run(); err != nil {
		return nil, err
	}
	return append([]int32(nil), engine.Ints(program.Value(n))...), nil
}

// project maps x without a bias, by a matrix [in,out].
func (r *rig) project(x *Node, name string) *Node {
	return layers.Linear(r.b, x, layers.LinearConfig{Weight: r.param(name), InOut: true, NoBias: true})
}

// runLSHLayer is a layer, and what it chooses: buckets, their order, and how often a pair is found.
func runLSHLayer(c *Case, p Precision, g reformerConfig) ([]Result, error) {
	r, a := newRig(c, p), g.lsh()
	r.only("x", "valid")
	x := r.in("x")
	lens := r.ints("lengths", g.Lengths, len(g.Lengths))
	qk, v := r.project(x, "w_qk"), r.project(x, "w_v")
	in := attention.LSHInputs{QK: qk, V: v, Heads: g.NumHeads, Lens: lens, Rotations: r.rotations("", g.BucketFactors)}
	o, _ := a.Attend(r.b, in)
	r.out("y", r.project(o, "w_o"))
	results, err := r.compare()
	if err != nil {
		return nil, err
	}
	attended, err := r.value(o)
	if err != nil {
		return nil, err
	}
	buckets := attention.Hash(r.b, attention.Hashing{Heads: g.NumHeads, Factors: g.BucketFactors, Lens: lens}, qk, in.Rotations)
	hashed, err := r.wholeNumbers(buckets)
	if err != nil {
		return nil, err
	}
	order, err := r.wholeNumbers(attention.SortBuckets(r.b, buckets, nil))
	if err != nil {
		return nil, err
	}
	found := g.found(order)
	if g.Plan == attention.BucketRecent {
		found = g.foundRecent(hashed)
	} else if g.SameBucket {
		found = g.found(order, hashed...)
	}
	return append(results, c.CompareMid("attention", attended, p), c.CompareOut("buckets", hashed, p), c.CompareOut("order", order, p),
		c.CompareOut("multiplicity", found, p)), nil
}

// found counts the rounds in which i may read j, [B,H,n,n], by the words of the definition.
func (g reformerConfig) found(order []int32, buckets ...int32) []int32 {
	n, rounds := g.N, g.NumHashes
	out := make([]int32, len(g.Lengths)*g.NumHeads*n*n)
	for bhr := range len(g.Lengths) * g.NumHeads * rounds {
		valid := int(g.Lengths[bhr/(g.NumHeads*rounds)])
		slot := make([]int, n)
		for s, token := range order[bhr*n:][:n] {
			slot[token] = s
		}
		for i := range valid {
			for j := range valid {
				ci, cj := slot[i]/g.Chunk, slot[j]/g.Chunk
				sees := cj >= ci-g.ChunksBefore && cj <= ci+g.ChunksAfter && i != j && (!g.Causal || j < i)
				if len(buckets) > 0 {
					sees = sees && buckets[bhr*n+i] == buckets[bhr*n+j]
				}
				if sees {
					out[(bhr/rounds*n+i)*n+j]++
				}
			}
		}
	}
	return out
}

// foundRecent is found where the last Chunk tokens of a bucket are read.
func (g reformerConfig) foundRecent(buckets []int32) []int32 {
	n, rounds := g.N, g.NumHashes
	out := make([]int32, len(g.Lengths)*g.NumHeads*n*n)
	for bhr := range len(g.Lengths) * g.NumHeads * rounds {
		bucket := buckets[bhr*n:][:n]
		for i := range int(g.Lengths[bhr/(g.NumHeads*rounds)]) {
			left := g.Chunk
			for j := i - 1; j >= 0 && left > 0; j-- {
				if bucket[j] == bucket[i] {
					out[(bhr/rounds*n+i)*n+j]++
					left--
				}
			}
		}
	}
	return out
}

// runTwoStreams is a model of local and hashing layers over two reversible streams, both of which the head reads.
func runTwoStreams(c *Case, p Precision, g reformerConfig) ([]Result, error) {
	r := newRig(c, p)
	r.only("input_ids", "labels", "valid")
	b, batch := r.b, len(g.Lengths)
	ids, lens := r.ints("input_ids", c.In("input_ids").Int32s(), batch, g.N), r.ints("lengths", g.Lengths, batch)
	var axes [2]*Node
	for axis := range axes { // the product has them as weights.N, with axes of one
		t := c.Param(fmt.Sprint("axial_", axis+1))
		shape := []int{1, 1, g.AxialDims[axis]}
		shape[axis] = g.AxialShape[axis]
		name := fmt.Sprint("weights.", axis)
		values := dense(t)
		r.fail(values.Reshape(shape...))
		r.fail(b.Params().Load(name, values))
		axes[axis] = b.Param(name, layers.Zeros(), shape...)
		r.wrt = append(r.wrt, place{fmt.Sprint("axial_", axis+1), true, axes[axis], nil})
	}
	positions := layers.AxialPositions(b, layers.AxialConfig{Shape: g.AxialShape, Widths: g.AxialDims, Count: g.N})
	x := layers.AddPositions(b, layers.Lookup(b, r.param("token_embedding"), ids), positions, layers.PositionConfig{})
	var blocks []engine.ReversibleBlock
	for l, kind := range g.Attention {
		at := func(name string) string { return fmt.Sprint("layer", l, ".", name) }
		rotations := (*Node)(nil)
		if kind == "lsh" {
			rotations = r.rotations(fmt.Sprint(".layer", l), g.BucketFactors)
		}
		blocks = append(blocks, engine.ReversibleBlock{
			F: func(x *Node) *Node {
				h := r.normed(x, at("ln_attn"), g.Eps)
				if kind == "lsh" {
					o, _ := g.lsh().Attend(b, attention.LSHInputs{QK: r.project(h, at("w_qk")), V: r.project(h, at("w_v")), Heads: g.NumHeads, Lens: lens, Rotations: rotations})
					return r.project(o, at("w_o"))
				}
				var e attention.Entry
				r.fail(json.Unmarshal(fmt.Appendf(nil, `{"type":"local","chunk":%d}`, g.LocalChunk), &e))
				pattern, err := e.Pattern(g.NumHeads, g.Causal)
				r.fail(err)
				o, _ := attention.Attend(b, attention.Config{Pattern: pattern, Heads: g.NumHeads, Lens: lens}, r.project(h, at("w_q")), r.project(h, at("w_k")), r.project(h, at("w_v")))
				return r.project(o, at("w_o"))
			},
			G: func(x *Node) *Node {
				h := layers.Linear(b, r.normed(x, at("ln_ffn"), g.Eps), layers.LinearConfig{Weight: r.param(at("w_ffn1")), Bias: r.param(at("b_ffn1")), InOut: true, Act: kernels.GELU})
				return layers.Linear(b, h, layers.LinearConfig{Weight: r.param(at("w_ffn2")), Bias: r.param(at("b_ffn2")), InOut: true})
			},
		})
	}
	y1, y2, err := engine.Reversible(x, x, blocks...)
	if err := errors.Join(b.Err(), r.err, err); err != nil {
		return nil, err
	}
	y := r.normed(layers.Concat(b, 2, y1, y2), "ln_out", g.Eps)
	logits := layers.Linear(b, y, layers.LinearConfig{Weight: r.param("w_logits"), Bias: r.param("b_logits"), InOut: true})
	r.out("logits", logits)
	labels := c.In("labels").Int32s()
	for i := range labels {
		if i%g.N >= int(g.Lengths[i/g.N]) {
			labels[i] = -1
		}
	}
	r.loss = layers.CrossEntropy(b, logits, r.ints("labels", labels, batch, g.N), 0)
	return r.compare()
}

// normed is a norm whose weights are called after it, _gain and _bias.
func (r *rig) normed(x *Node, name string, eps float64) *Node {
	for _, w := range [][2]string{{"weight", "_gain"}, {"bias", "_bias"}} {
		t := r.c.Param(name + w[1])
		r.fail(r.b.Params().Load(name+"."+w[0], dense(t)))
		r.wrt = append(r.wrt, place{name + w[1], true, r.b.Param(name+"."+w[0], layers.Zeros(), t.Shape...), nil})
	}
	return layers.LayerNorm(r.b.Scope(name), x, layers.NormConfig{Eps: eps})
}
