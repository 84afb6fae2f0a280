package golden

import (
	"encoding/json"
	"fmt"
	"strings"

	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/layers/attention"
)

// acrossConfig describes the ways across blocks.
type acrossConfig struct {
	Lengths []int32
	N       int
	Hidden  int `json:"hidden_size"`
	Heads   int `json:"num_heads"`
	Layers  int `json:"num_layers"`
	Block   int
	Pool    string
	Causal  bool
}

// linear is x W, W a parameter of the case.
func (r *rig) linear(x *Node, weight string) *Node {
	return layers.Linear(r.b, x, layers.LinearConfig{Weight: r.param(weight), InOut: true, NoBias: true})
}

// owned loads a parameter of the case under the name by which a layer asks for it, in the shape it wants.
func (r *rig) owned(name, own string, shape ...int) {
	t := r.c.Param(name)
	if t == nil {
		r.fail(fmt.Errorf("param/%s is missing", name))
		return
	}
	r.fail(r.b.Params().Load(own, tensor.New(tensor.WithShape(shape...), tensor.WithBacking(t.Float64s()))))
	r.wrt = append(r.wrt, place{name, true, r.b.Param(own, layers.Zeros(), shape...), nil})
}

// runCrossBlock is one layer of cross-block attention.
func runCrossBlock(c *Case, p Precision) ([]Result, error) {
	var s acrossConfig
	if err := c.Decode("config", &s); err != nil {
		return nil, err
	}
	r := newRig(c, p)
	r.only("x", "valid")
	x := r.in("x")
	r.owned("pool_query", "summary_query", 1, s.Hidden)
	var entry attention.Entry
	if err := json.Unmarshal(fmt.Appendf(nil, `{"type":"cross_block","block_size":%d}`, s.Block), &entry); err != nil {
		return nil, err
	}
	mixer, err := entry.Mixer(attention.Layer{Heads: s.Heads, Decoder: s.Causal})
	if err != nil {
		return nil, err
	}
	o := mixer.Mix(r.b, attention.Stream{X: x, QKV: []*Node{r.linear(x, "w_q"), r.linear(x, "w_k"), r.linear(x, "w_v")}, Heads: s.Heads,
		Lens: r.ints("lens", s.Lengths, len(s.Lengths)),
		Project: func(_ *layers.Builder, part int, x *Node) *Node {
			return r.linear(x, []string{"w_q", "w_k", "w_v"}[part])
		},
		Linear: func(b *layers.Builder, x *Node) *Node {
			return r.linear(x, map[string]string{"summary_key": "w_ck", "summary_value": "w_cv"}[b.Path()])
		}})
	r.out("y", r.linear(o, "w_o"))
	results, err := r.compare()
	if err != nil {
		return nil, err
	}
	for b, length := range s.Lengths { // rows of padding stand in the mask, and are empty
		n := int(length)
		nodes := attention.NodeCount(mixer.Pattern(), n)
		mask := make([]bool, s.N*nodes)
		for e := range n * nodes {
			mask[e] = mixer.Pattern().Sees(0, e/nodes, e%nodes, nodes)
		}
		results = append(results, c.CompareOut(fmt.Sprint("mask.", b), columnsOf(mask, s.N, nodes, n, c.Out(fmt.Sprint("mask.", b))), p))
	}
	return results, nil
}

// columnsOf moves the columns behind the first n of a mask to where the case has them: behind all its columns of tokens.
func columnsOf(mask []bool, rows, columns, n int, like *Tensor) []bool {
	wide := like.Shape[1]
	out := make([]bool, rows*wide)
	for i := range rows {
		for j := range columns {
			if to := j; mask[i*columns+j] {
				if j >= n {
					to = wide - (columns - j)
				}
				out[i*wide+to] = true
			}
		}
	}
	return out
}

// runHierarchy is block-local attention on pairs of pairs, each level a residual layer.
func runHierarchy(c *Case, p Precision) ([]Result, error) {
	var s acrossConfig
	if err := c.Decode("config", &s); err != nil {
		return nil, err
	}
	r := newRig(c, p)
	r.only("x", "valid")
	lens := r.ints("lens", s.Lengths, len(s.Lengths))
	y := layers.Hierarchy(r.b, r.in("x"), lens, s.Layers, layers.Pool(s.Pool), func(l int, x, lens *Node) *Node {
		w := func(name string) string { return fmt.Sprintf("layer%d.w_%s", l, name) }
		o, _ := attention.Attend(r.b, attention.Config{Pattern: attention.Blocks{Size: s.Block}, Heads: s.Heads, Lens: lens},
			r.linear(x, w("q")), r.linear(x, w("k")), r.linear(x, w("v")))
		return layers.Linear(r.b, o, layers.LinearConfig{Weight: r.param(w("o")), InOut: true, NoBias: true, Residual: x})
	})
	r.out("y", layers.MaskRows(r.b, y, lens))
	for _, n := range c.Params() {
		if strings.HasPrefix(n, "pool") {
			return nil, fmt.Errorf("param/%s is not handled", n)
		}
	}
	return r.compare()
}
