package golden

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"sort"

	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/layers/attention"
)

// lshArguments are those of reformer-pytorch's LSHAttention and LSHSelfAttention that change what they compute outside of training.
type lshArguments struct {
	BucketSize   int   `json:"bucket_size"`
	Hashes       int   `json:"n_hashes"`
	Causal       bool  `json:"causal"`
	Duplicates   *bool `json:"allow_duplicate_attention"`
	Across       *bool `json:"attend_across_buckets"`
	Rehash       *bool `json:"rehash_each_round"`
	PerHead      bool  `json:"random_rotations_per_head"`
	ReturnAttn   bool  `json:"return_attn"`
	Dim          int   `json:"dim"`
	Heads        int   `json:"heads"`
	MemKV        int   `json:"num_mem_kv"`
	OneValueHead bool  `json:"one_value_head"`
	LocalHeads   int   `json:"n_local_attn_heads"`
}

// lshRows are sequences [S,T,D] that are hashed each for itself.
type lshRows struct {
	lshArguments
	qk, v   *Node // [1,T,S·D]: sequences as heads of one example
	s, t, d int
	mask    []bool // [S,T]; nil: all count
	name    string // of constants
}

// runReformerPyTorch is a case of reformer-pytorch.
func runReformerPyTorch(c *Case, p Precision) ([]Result, error) {
	var a lshArguments
	if err := json.Unmarshal(c.Kwargs, &a); err != nil {
		return nil, err
	}
	switch c.Class {
	case "LSHAttention":
		return runPlainLSH(c, p, a)
	case "LSHSelfAttention":
		return runSelfLSH(c, p, a)
	}
	return nil, fmt.Errorf("no adapter for class %q", c.Class)
}

// ofProduct tells whether the layer computes what the package does: it keeps padding out of the chunks, where the package lets it stand there as a
// token that is not read, has other ways to count a pair once, and hashes anew in each round.
func (a lshArguments) ofProduct(mask []bool) bool {
	return mask == nil && (a.Duplicates == nil || *a.Duplicates) && (a.Across == nil || *a.Across) && (a.Rehash == nil || *a.Rehash)
}

func (a lshArguments) rotationsOf(t *Tensor, s int) (x []float64, rounds, columns int) {
	d, c := t.Shape[1], t.Shape[3]
	rounds = t.Shape[2]
	all := t.Float64s()
	for r := range rounds {
		for col := range c {
			for k := range d {
				x = append(x, all[((min(s, t.Shape[0]-1)*d+k)*rounds+r)*c+col])
			}
		}
	}
	return x, rounds, c
}

func runPlainLSH(c *Case, p Precision, a lshArguments) ([]Result, error) {
	r := newRig(c, p)
	r.only("qk", "v", "input_mask")
	shape := c.In("qk").Shape
	s, t, d := shape[0], shape[1], shape[2]
	order := tokensFirst(s, t, d, t)
	x := lshRows{lshArguments: a, qk: r.inAs("qk", order, 1, t, s*d), v: r.inAs("v", order, 1, t, s*d), s: s, t: t, d: d, name: "lsh"}
	if m := c.In("input_mask"); m != nil {
		x.mask = m.Bools()
	}
	o, buckets, err := x.attend(r, c.Rand("0.randn"))
	if err != nil {
		return nil, err
	}
	r.outAs("out", o, order)
	results, err := r.compare()
	if err != nil {
		return nil, err
	}
	results = append(results, c.CompareOut("buckets", x.offset(buckets), p))
	if a.ReturnAttn {
		qk, err := r.value(x.qk)
		if err != nil {
			return nil, err
		}
		results = append(results, c.CompareOut("attn", x.shares(qk, buckets), p))
	}
	return results, nil
}

// attend is the attention [1,T,S·D], and the buckets [S,R,T].
func (x lshRows) attend(r *rig, drawn *Tensor) (*Node, []int32, error) {
	b := r.b
	layer := attention.LSH{Chunk: x.BucketSize, Hashes: x.Hashes, Factors: []int{x.t / x.BucketSize}, Before: 1, Dup: attention.DupCount, Wrap: attention.WrapAcross,
		Causal: x.Causal, Scale: 1 / math.Sqrt(float64(x.d)), Eps: 1e-30}
	var parts []*Node
	var buckets []int32
	for s := range x.s {
		g, rounds, columns := x.rotationsOf(drawn, s)
		rotations := r.floats(fmt.Sprint(x.name, ".rotations.", s), g, 1, rounds, columns, x.d)
		of := func(n *Node) *Node { return layers.Slice(b, n, 2, s*x.d, (s+1)*x.d) }
		in := attention.LSHInputs{QK: of(x.qk), V: of(x.v), Heads: 1, Rotations: rotations}
		if x.Rehash != nil && !*x.Rehash {
			best, err := x.best(r, in.QK, g, columns)
			if err != nil {
				return nil, nil, err
			}
			buckets = append(buckets, best...)
			continue
		}
		hashed, err := r.wholeNumbers(attention.Hash(b, attention.Hashing{Heads: 1, Factors: layer.Factors}, in.QK, rotations))
		if err != nil {
			return nil, nil, err
		}
		buckets = append(buckets, hashed...)
		if x.ofProduct(x.mask) {
			o, _ := layer.Attend(b, in)
			parts = append(parts, o)
		}
	}
	if len(parts) > 0 {
		return layers.Concat(b, 2, parts...), buckets, b.Err()
	}
	return x.explicit(r, buckets), buckets, b.Err()
}

// best are for each token of [1,T,D] its Hashes best buckets, the best one last.
func (x lshRows) best(r *rig, qk *Node, g []float64, columns int) ([]int32, error) {
	v, err := r.value(qk)
	if err != nil {
		return nil, err
	}
	out := make([]int32, x.Hashes*x.t)
	for i := range x.t {
		y := make([]float64, 2*columns)
		for c := range columns {
			for k := range x.d {
				y[c] += v[i*x.d+k] * g[c*x.d+k]
			}
			y[columns+c] = -y[c]
		}
		rank := make([]int, len(y))
		for k := range rank {
			rank[k] = k
		}
		sort.SliceStable(rank, func(a, b int) bool { return y[rank[a]] < y[rank[b]] })
		for h, k := range rank[len(rank)-x.Hashes:] {
			out[h*x.t+i] = int32(k)
		}
	}
	return out, nil
}

// offset gives the buckets of each round numbers of their own.
func (x lshRows) offset(buckets []int32) []int32 {
	out := slices.Clone(buckets)
	for i := range out {
		out[i] += int32(i / x.t % x.Hashes * (x.t / x.BucketSize))
	}
	return out
}

// found says of each sequence how often each pair is found in each round, [R][T][T], the token itself too, and whether a mask hides it.
func (x lshRows) found(s int, buckets []int32) [][][]int {
	of := buckets[s*x.Hashes*x.t:][:x.Hashes*x.t]
	var slots [][2]int // round and token
	for h := range x.Hashes {
		order := make([]int, x.t)
		for i := range order {
			order[i] = i
		}
		sort.SliceStable(order, func(a, b int) bool { return of[h*x.t+order[a]] < of[h*x.t+order[b]] })
		for _, i := range order {
			slots = append(slots, [2]int{h, i})
		}
	}
	all := make([][][]int, x.Hashes)
	for h := range all {
		all[h] = make([][]int, x.t)
		for i := range all[h] {
			all[h][i] = make([]int, x.t)
		}
	}
	m := x.BucketSize
	for at, q := range slots {
		first := at/m*m - m + len(slots)
		for k := range 2 * m {
			key := slots[(first+k)%len(slots)]
			i, j := q[1], key[1]
			switch {
			case i == j:
			case x.Causal && j > i, x.mask != nil && (!x.mask[s*x.t+i] || !x.mask[s*x.t+j]):
				continue
			case x.Across != nil && !*x.Across && (q[0] != key[0] || of[q[0]*x.t+i] != of[key[0]*x.t+j]):
				continue
			}
			all[q[0]][i][j]++
		}
	}
	return all
}

// together counts the rounds in which both are in the same chunk, or j in the one before, without the ends of rounds: what the package takes
// for the number of times that a pair is found.
func (x lshRows) together(s int, buckets []int32) [][]int {
	n := make([][]int, x.t)
	for i := range n {
		n[i] = make([]int, x.t)
	}
	for h := range x.Hashes {
		of := buckets[(s*x.Hashes+h)*x.t:][:x.t]
		chunk := make([]int, x.t)
		for i := range chunk {
			before := 0
			for j := range chunk {
				if of[j] < of[i] || of[j] == of[i] && j < i {
					before++
				}
			}
			chunk[i] = before / x.BucketSize
		}
		for i := range n {
			for j := range n {
				if chunk[i] == chunk[j] || chunk[i] == chunk[j]+1 {
					n[i][j]++
				}
			}
		}
	}
	return n
}

// weights are by which a pair counts in the softmax, [S][T][T]; 0: not at all. A token does not read itself.
func (x lshRows) weights(buckets []int32) [][][]float64 {
	all := make([][][]float64, x.s)
	for s := range all {
		rounds, together := x.found(s, buckets), x.together(s, buckets)
		all[s] = make([][]float64, x.t)
		for i := range all[s] {
			all[s][i] = make([]float64, x.t)
			for j := range all[s][i] {
				for h := range rounds {
					if w := float64(rounds[h][i][j]); i != j && w > 0 {
						if x.Duplicates != nil && !*x.Duplicates {
							w *= math.Exp(-float64(float32(math.Log(float64(float32(together[i][j]) + 1e-9))))) // the package has this in float32
						}
						all[s][i][j] += w
					}
				}
			}
		}
	}
	return all
}

// weightClasses are labels of pairs by their weights, each sequence being a head.
type weightClasses struct {
	name  string
	count int
	of    [][][]int
}

func (c weightClasses) String() string           { return c.name }
func (c weightClasses) Count() int               { return c.count }
func (c weightClasses) Heads() int               { return len(c.of) }
func (c weightClasses) Label(h, i, j, _ int) int { return c.of[h][i][j] }

// explicit is the attention by the list of all pairs, whose weights are biases.
func (x lshRows) explicit(r *rig, buckets []int32) *Node {
	w := x.weights(buckets)
	values := []float64{1}
	c := weightClasses{name: r.c.ID() + r.p.String() + x.name, of: make([][][]int, x.s)}
	alone := make([]float64, x.t*x.s*x.d)
	for s := range w {
		c.of[s] = make([][]int, x.t)
		for i := range w[s] {
			c.of[s][i] = make([]int, x.t)
			reads := false
			for j, v := range w[s][i] {
				if v == 0 {
					continue
				}
				reads = true
				at := slices.Index(values, v)
				if at < 0 {
					at = len(values)
					values = append(values, v)
				}
				c.of[s][i][j] = at
			}
			for k := range x.d {
				if !reads {
					alone[(i*x.s+s)*x.d+k] = 1
				}
			}
		}
	}
	c.count = len(values)
	bias := make([]float64, len(values))
	for i, v := range values {
		bias[i] = math.Log(v)
	}
	unit := layers.RMSNorm(r.b, layers.Reshape(r.b, x.qk, 1, x.t, x.s, x.d), layers.NormConfig{Eps: 1e-30, NoWeight: true})
	o, _ := attention.Attend(r.b, attention.Config{Heads: x.s, Scale: 1 / float64(x.d), Labels: c, LabelBias: r.floats(x.name+".bias", bias, len(bias)),
		Pattern: explicit{c.name, x.s, func(h, i, j int) bool { return i < x.t && j < x.t && i >= 0 && j >= 0 && w[h][i][j] > 0 }}},
		x.qk, layers.Reshape(r.b, unit, 1, x.t, x.s*x.d), x.v)
	return layers.Add(r.b, o, layers.Mul(r.b, x.v, r.floats(x.name+".alone", alone, 1, x.t, x.s*x.d)))
}

// shares are the attention probabilities [S,T,T].
func (x lshRows) shares(qk []float64, buckets []int32) []float64 {
	out := make([]float64, x.s*x.t*x.t)
	at := func(s, i int) []float64 { return qk[(i*x.s+s)*x.d:][:x.d] }
	w := x.weights(buckets)
	for s := range x.s {
		rounds := x.found(s, buckets)
		for i := range x.t {
			sum := 0.0
			scores := make([]float64, x.t)
			for j := range x.t {
				dot, norm := 0.0, 0.0
				for k, v := range at(s, j) {
					dot += v * at(s, i)[k]
					norm += v * v
				}
				scores[j] = math.Exp(dot / math.Sqrt(norm) / math.Sqrt(float64(x.d)))
				sum += w[s][i][j] * scores[j]
			}
			for j := range x.t {
				for h := range rounds {
					if i != j && rounds[h][i][j] > 0 {
						out[(s*x.t+i)*x.t+j] += float64(rounds[h][i][j]) * scores[j] / sum
					}
				}
			}
			if sum == 0 {
				out[(s*x.t+i)*x.t+i] = 1
			}
		}
	}
	return out
}
