package golden

import (
	"fmt"
	"math"

	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/layers/attention"
)

// blockSinkhorn is the operation alone.
func blockSinkhorn(c *Case, p Precision) ([]Result, error) {
	r := newRig(c, p)
	r.only("r")
	x := r.in("r")
	var n layers.SinkhornConfig
	r.fail(c.Decode("iterations", &n.Iterations))
	if x == nil {
		return nil, r.err
	}
	s := x.Shape()
	for _, name := range c.Outputs() {
		n.Tau, n.Mask = 1, layers.AllBlocks
		if name == "causal_lower_triangle" {
			n.Mask = layers.UpToOwnBlock
		} else if _, err := fmt.Sscanf(name, "tau%g", &n.Tau); err != nil {
			return nil, fmt.Errorf("out/%s is not handled", name)
		}
		y := layers.Sinkhorn(r.b, layers.Reshape(r.b, x, s[0], 1, s[1], s[2]), nil, n)
		r.out(name, layers.Reshape(r.b, y, s...))
	}
	return r.compare()
}

// sinkhornConfig describes a layer.
type sinkhornConfig struct {
	Lengths    []int32
	N          int
	Hidden     int `json:"hidden_size"`
	Heads      int `json:"num_heads"`
	Size       int `json:"head_size"`
	Block      int
	Tau        float64
	Iterations int
	Causal     bool
	Normalizer string
	FinishRow  bool `json:"finish_row"`
	Combine    string
	SortNet    string `json:"sort_net"`
	Gumbel     bool
	Sortcut    int
	LogReLU    bool `json:"log_relu"`
	MaxBlocks  int  `json:"max_blocks"`
}

// runSinkhornLayer is a layer of Sinkhorn or SortCut.
func runSinkhornLayer(c *Case, p Precision) ([]Result, error) {
	var f sinkhornConfig
	if err := c.Decode("config", &f); err != nil {
		return nil, err
	}
	r := newRig(c, p)
	r.only("x", "valid")
	x := r.in("x")
	b, heads := len(f.Lengths), f.Heads
	project := func(name string, x *Node) *Node {
		return layers.Linear(r.b, x, layers.LinearConfig{Weight: r.param(name), InOut: true, NoBias: true})
	}
	combine := map[string]string{"concat": attention.CombineConcat, "sumOut": attention.CombineSumOut}
	how := attention.Sorting{Size: f.Block, Net: f.SortNet, MaxBlocks: f.MaxBlocks, Tau: f.Tau, Iterations: f.Iterations,
		Normalizer: layers.SinkhornNormalizer(f.Normalizer), FinishRow: f.FinishRow, LogReLU: f.LogReLU, Causal: f.Causal}
	most := (f.N + f.Block - 1) / f.Block
	noise := make([]float64, b*heads*most*most) // 0 in evaluation
	if f.Gumbel {
		for i, u := range c.Rand("uniform").Float64s() {
			noise[i] = -math.Log(-math.Log(u))
		}
	}
	how.Noise = r.floats("gumbel", noise, b, heads, most, most)
	if f.SortNet == attention.NetMLP {
		d, m := f.Hidden, f.MaxBlocks
		w1, w2 := make([]int, d*d), make([]int, heads*m*d)
		for e := range w1 {
			w1[e] = e%d*d + e/d
		}
		for e := range w2 {
			w2[e] = (e/d/m*d+e%d)*m + e/d%m
		}
		r.paramAs("sort_w1", "sort.hidden.weight", w1, d, d)
		r.paramAs("sort_b1", "sort.hidden.bias", nil, d)
		r.paramAs("sort_w2", "sort.blocks.weight", w2, heads*m, d)
		r.paramAs("sort_b2", "sort.blocks.bias", nil, heads*m)
	}
	in := attention.Stream{X: x, QKV: []*Node{project("w_q", x), project("w_k", x), project("w_v", x)}, Heads: heads, Lens: r.ints("lens", f.Lengths, b)}
	var a attention.Mixer = attention.Sinkhorn{Sorting: how, Combine: combine[f.Combine]}
	if f.Sortcut > 0 {
		a = attention.SortCut{Sorting: how, Slots: f.Sortcut}
	}
	weights, _ := how.Sort(r.b, in)
	r.out("y", project("w_o", a.Mix(r.b, in)))
	results, err := r.compare()
	if err != nil {
		return nil, err
	}
	all, err := r.value(weights)
	if err != nil {
		return nil, err
	}
	for bh := range b * heads {
		n := (int(f.Lengths[bh/heads]) + f.Block - 1) / f.Block
		m := make([]float64, n*n)
		for e := range m {
			m[e] = all[(bh*most+e/n)*most+e%n]
		}
		results = append(results, c.CompareMid(fmt.Sprintf("permutation.%d.%d", bh/heads, bh%heads), m, p))
	}
	return results, nil
}

// paramAs makes a parameter of the case one of a layer, under the layer's name for it, with its elements in another order and shape.
func (r *rig) paramAs(name, own string, order []int, shape ...int) *Node {
	t := r.c.Param(name)
	if t == nil {
		r.fail(fmt.Errorf("param/%s is missing", name))
		return nil
	}
	v := &Tensor{Shape: shape, Dtype: "F64", F: arranged(t.Float64s(), order)}
	r.fail(r.b.Params().Load(own, dense(v)))
	n := r.b.Param(own, layers.Zeros(), shape...)
	r.wrt = append(r.wrt, place{name, true, n, order})
	return n
}
