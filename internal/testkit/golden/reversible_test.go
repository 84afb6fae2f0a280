package golden

import (
	"fmt"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/kernels"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/layers/attention"
)

// runReversible is a stack of reversible blocks of attention and feed-forward parts, computed back from its results, and from streams that are kept
// after each block or after two of them.
func runReversible(c *Case, p Precision) (all []Result, err error) {
	for _, anchors := range []int{0, 2, 4} {
		results, err := runReversibleStack(c, p, anchors)
		if err != nil {
			return nil, err
		}
		all = append(all, results...)
	}
	return all, nil
}

func runReversibleStack(c *Case, p Precision, anchors int) ([]Result, error) {
	var s struct {
		Lengths    []int32
		N          int
		Heads      int `json:"num_heads"`
		Blocks     int `json:"num_blocks"`
		Pattern    described
		Causal     bool
		Entry      string
		Share      bool    `json:"share_blocks"`
		Eps        float64 `json:"layer_norm_eps"`
		Activation string
	}
	if err := c.Decode("config", &s); err != nil {
		return nil, err
	}
	if s.Activation != "gelu_erf" {
		return nil, fmt.Errorf("activation %q is not handled", s.Activation)
	}
	var pattern attention.Pattern = attention.Full{}
	if s.Pattern.Type != "full" {
		var err error
		if pattern, err = s.Pattern.pattern(c); err != nil {
			return nil, err
		}
	}
	if s.Causal {
		pattern = attention.Causal(pattern)
	}
	r := newRig(c, p)
	r.only("x", "x1", "x2", "valid")
	lens := r.ints("lens", s.Lengths, len(s.Lengths))
	var x1, x2 *Node
	switch s.Entry {
	case "separate":
		x1, x2 = r.in("x1"), r.in("x2")
	case "duplicate":
		x1 = r.in("x")
		x2 = x1
	default:
		return nil, fmt.Errorf("entry %q is not handled", s.Entry)
	}
	var halves []engine.Branch
	for l := range s.Blocks {
		if s.Share {
			l = 0
		}
		w := func(name string) *Node { return r.param(fmt.Sprintf("block%d.%s", l, name)) }
		linear := func(x *Node, weight string) *Node {
			return layers.Linear(r.b, x, layers.LinearConfig{Weight: w(weight), InOut: true, NoBias: true})
		}
		halves = append(halves, func(x *Node) *Node {
			h := r.norm(x, fmt.Sprintf("block%d.ln_f", l), s.Eps)
			o, _ := attention.Attend(r.b, attention.Config{Pattern: pattern, Heads: s.Heads, Lens: lens}, linear(h, "w_q"), linear(h, "w_k"), linear(h, "w_v"))
			return linear(o, "w_o")
		}, func(x *Node) *Node {
			h := r.norm(x, fmt.Sprintf("block%d.ln_g", l), s.Eps)
			h = layers.Linear(r.b, h, layers.LinearConfig{Weight: w("w_ffn1"), Bias: w("b_ffn1"), InOut: true, Act: kernels.GELU})
			return layers.Linear(r.b, h, layers.LinearConfig{Weight: w("w_ffn2"), Bias: w("b_ffn2"), InOut: true})
		})
	}
	y1, y2, err := engine.ReversibleHalves(x1, x2, anchors, halves...)
	if err != nil {
		return nil, err
	}
	r.out("y1", y1)
	r.out("y2", y2)
	return r.compare()
}
