package golden

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/euryale-ml/euryale/internal/kernels"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/layers/attention"
)

// stackConfig describes layers on given states.
type stackConfig struct {
	Lengths []int32
	N       int
	Heads   int `json:"num_heads"`
	Layers  int `json:"num_layers"`
	Causal  bool

	Stack         string // hier: blocks that grow from layer to layer; list: Patterns
	Block, Growth int
	Patterns      []described `json:"layers"`

	Pattern, Merge    string
	Stride, Summary   int
	PaperInclusive    bool    `json:"paper_inclusive"`
	DistinctSummaries bool    `json:"distinct_summaries"`
	Eps               float64 `json:"layer_norm_eps"`
	Activation, Norm  string
}

func stackOf(c *Case) (s stackConfig, err error) {
	err = c.Decode("config", &s)
	return s, err
}

// stackMask is the mask [layers, heads, n, n] of a stack, padding not included.
func stackMask(patterns []attention.Pattern, heads, n int) []bool {
	var mask []bool
	for _, p := range patterns {
		for h := range heads {
			for e := range n * n {
				mask = append(mask, p.Sees(h%p.Heads(), e/n, e%n, n))
			}
		}
	}
	return mask
}

// attend is attention of the projections x W, W [in,out].
func (r *rig) attend(x *Node, layer int, s stackConfig, lens *Node, p attention.Pattern, bias bool) *Node {
	project := func(name string) *Node {
		c := layers.LinearConfig{Weight: r.param(fmt.Sprintf("layer%d.w_%s", layer, name)), InOut: true, NoBias: !bias}
		if bias {
			c.Bias = r.param(fmt.Sprintf("layer%d.b_%s", layer, name))
		}
		return layers.Linear(r.b, x, c)
	}
	o, _ := attention.Attend(r.b, attention.Config{Pattern: p, Heads: s.Heads, Lens: lens}, project("q"), project("k"), project("v"))
	return o
}

// finish runs a stack and compares its result and masks.
func (r *rig) finish(c *Case, p Precision, y *Node, patterns []attention.Pattern, s stackConfig) ([]Result, error) {
	r.out("y", y)
	results, err := r.compare()
	return append(results, c.CompareOut("mask", stackMask(patterns, s.Heads, s.N), p)), err
}

// runPatternStack is x + MHA(x), layer by layer, without norms or biases.
func runPatternStack(c *Case, p Precision) ([]Result, error) {
	s, err := stackOf(c)
	if err != nil {
		return nil, err
	}
	r := newRig(c, p)
	r.only("x", "valid")
	lens := r.ints("lens", s.Lengths, len(s.Lengths))
	x := r.in("x")
	var patterns []attention.Pattern
	for l := range s.Layers {
		entry := fmt.Sprintf(`{"type":"blocks","block_size":%d}`, min(s.N, s.Block<<(l*s.Growth)))
		if s.Stack == "list" {
			if s.Patterns[l].Type != "shifted_block" {
				return nil, fmt.Errorf("layer %d has type %q", l, s.Patterns[l].Type)
			}
			entry = fmt.Sprintf(`{"type":"shifted_block","block_size":%d}`, s.Patterns[l].Block)
		}
		pattern, err := patternOf(entry, l, s)
		if err != nil {
			return nil, err
		}
		patterns = append(patterns, pattern)
		o := r.attend(x, l, s, lens, pattern, false)
		x = layers.Linear(r.b, o, layers.LinearConfig{Weight: r.param(fmt.Sprintf("layer%d.w_o", l)), InOut: true, NoBias: true, Residual: x})
	}
	return r.finish(c, p, x, patterns, s)
}

// patternOf is what an entry of config.json reads in a layer.
func patternOf(entry string, layer int, s stackConfig) (attention.Pattern, error) {
	var e attention.Entry
	if err := json.Unmarshal([]byte(entry), &e); err != nil {
		return nil, err
	}
	return e.In(attention.Layer{Index: layer, Heads: s.Heads, Decoder: s.Causal})
}

// runSparseStack is the residual block of the Sparse Transformer: H + a + f, a = Attn(LN(H)), f = FFN(LN(H + a)).
func runSparseStack(c *Case, p Precision) ([]Result, error) {
	s, err := stackOf(c)
	if err != nil {
		return nil, err
	}
	if s.Activation != "quick_gelu" || s.Norm != "pre" {
		return nil, fmt.Errorf("activation %q with norm %q is not handled", s.Activation, s.Norm)
	}
	r := newRig(c, p)
	r.only("x", "valid")
	lens := r.ints("lens", s.Lengths, len(s.Lengths))
	x := r.in("x")
	entry := fmt.Sprintf(`{"type":"sparse_strided","stride":%d,"merge":%q,"paper_inclusive":%v}`, s.Stride, s.Merge, s.PaperInclusive)
	if s.Pattern == "fixed" {
		entry = fmt.Sprintf(`{"type":"sparse_fixed","stride":%d,"summary":%d,"merge":%q,"distinct_summaries":%v}`,
			s.Stride, s.Summary, s.Merge, s.DistinctSummaries)
	}
	var patterns []attention.Pattern
	for l := range s.Layers {
		pattern, err := patternOf(entry, l, s)
		if err != nil {
			return nil, err
		}
		patterns = append(patterns, pattern)
		linear := func(x *Node, name string, act kernels.Activation, residual *Node) *Node {
			at := fmt.Sprintf("layer%d.", l)
			return layers.Linear(r.b, x, layers.LinearConfig{Weight: r.param(at + "w_" + name), Bias: r.param(at + "b_" + name), InOut: true,
				Act: act, Residual: residual})
		}
		o := r.attend(r.norm(x, fmt.Sprintf("layer%d.ln1", l), s.Eps), l, s, lens, pattern, true)
		h := linear(o, "p", kernels.None, x)
		f := linear(r.norm(h, fmt.Sprintf("layer%d.ln2", l), s.Eps), "1", kernels.QuickGELU, nil)
		x = linear(f, "2", kernels.None, h)
	}
	return r.finish(c, p, x, patterns, s)
}

// norm is LayerNorm with the parameters NAME_gain and NAME_bias of the case.
func (r *rig) norm(x *Node, name string, eps float64) *Node {
	for _, part := range []string{"gain", "bias"} {
		t := r.c.Param(name + "_" + part)
		if t == nil {
			r.fail(fmt.Errorf("param/%s_%s is missing", name, part))
			return x
		}
		own := name + "." + strings.Replace(part, "gain", "weight", 1)
		r.fail(r.b.Params().Load(own, dense(t)))
		r.wrt = append(r.wrt, place{name + "_" + part, true, r.b.Param(own, layers.Zeros(), t.Shape...), nil})
	}
	return layers.LayerNorm(r.b.Scope(name), x, layers.NormConfig{Eps: eps})
}
