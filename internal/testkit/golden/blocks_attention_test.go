package golden

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/kernels"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/layers/attention"
)

// explicit is a pattern that is given pair by pair, for heads that need not be alike.
type explicit struct {
	name  string // unique: layouts are kept by it
	heads int
	sees  func(h, i, j int) bool // false outside of the sequence
}

func (e explicit) String() string           { return e.name }
func (e explicit) Heads() int               { return e.heads }
func (explicit) FromEnd() bool              { return false }
func (e explicit) Sees(h, i, j, _ int) bool { return e.sees(h, i, j) }
func (e explicit) NNZ(h, n int) (pairs int64) {
	for i := range n {
		pairs += int64(len(e.Row(h, i, n, nil)))
	}
	return pairs
}

func (e explicit) Row(h, i, n int, dst []attention.Run) []attention.Run {
	for j := range n {
		if e.sees(h, i, j) {
			dst = append(dst, attention.Run{Lo: j, Hi: j + 1, Step: 1})
		}
	}
	return dst
}

func (e explicit) Col(h, j, n int, dst []attention.Run) []attention.Run {
	for i := range n {
		if e.sees(h, i, j) {
			dst = append(dst, attention.Run{Lo: i, Hi: i + 1, Step: 1})
		}
	}
	return dst
}

// tokensFirst is the order that turns [N,T,D] of a case into [1,length,N,D]; tokens beyond T are zeros.
func tokensFirst(n, t, d, length int) []int {
	order := make([]int, 0, length*n*d)
	for i := range length {
		for h := range n {
			for k := range d {
				at := -1
				if i < t {
					at = (h*t+i)*d + k
				}
				order = append(order, at)
			}
		}
	}
	return order
}

// blockSDPA is attention in some variants. Examples and heads of the case are the heads of one example here, so that each has a
// mask of its own.
func blockSDPA(c *Case, p Precision) ([]Result, error) {
	q, k, v := c.In("q"), c.In("k"), c.In("v")
	if q == nil || k == nil || v == nil || len(q.Shape) != 4 {
		return nil, errors.New("want in/q, in/k and in/v of shape [B,H,T,D]")
	}
	r := newRig(c, p)
	r.only("q", "k", "v", "mask", "bias")
	batch, heads, tq, tk, d, dv := q.Shape[0], q.Shape[1], q.Shape[2], k.Shape[2], q.Shape[3], v.Shape[3]
	n := batch * heads
	nq := r.inAs("q", tokensFirst(n, tq, d, tq), 1, tq, n, d)
	nk := r.inAs("k", tokensFirst(n, tk, d, tk), 1, tk, n, d)
	nv := r.inAs("v", tokensFirst(n, tk, dv, tk), 1, tk, n, dv)
	for _, name := range c.Outputs() {
		cfg := attention.Config{Heads: n, Pattern: attention.Full{}}
		switch scale, scaled := strings.CutPrefix(name, "scale_"); {
		case name == "no_mask":
		case name == "causal_top_left":
			cfg.Pattern = attention.Causal(attention.Full{})
		case name == "bool_mask" || name == "torch_math_bool_mask_raw":
			at, err := broadcast(c.In("mask"), batch, heads, tq, tk)
			if err != nil {
				return nil, fmt.Errorf("in/mask: %w", err)
			}
			mask := c.In("mask").Bools()
			cfg.Pattern = explicit{c.ID() + p.String(), n, func(h, i, j int) bool { return i < tq && j < tk && mask[at(h, i, j)] }}
		case name == "additive_bias":
			o, err := biased(r, nq, nk, nv, batch, heads)
			if err != nil {
				return nil, err
			}
			r.out(name, o)
			continue
		case scaled:
			var err error
			if cfg.Scale, err = strconv.ParseFloat(scale, 64); err != nil {
				return nil, err
			}
		default:
			return nil, fmt.Errorf("out/%s is not handled", name)
		}
		o, _ := attention.Attend(r.b.Scope(name), cfg, nq, nk, nv)
		r.outAs(name, o, tokensFirst(n, tq, dv, tq))
	}
	return r.compare()
}

// broadcast gives the flat index of head b*H+h, query i, key j in a tensor that is spread over [B,H,TQ,TK].
func broadcast(t *Tensor, batch, heads, tq, tk int) (func(head, i, j int) int, error) {
	if t == nil {
		return nil, errors.New("is missing")
	}
	full := []int{batch, heads, tq, tk}
	if len(t.Shape) > 4 {
		return nil, fmt.Errorf("has shape %v", t.Shape)
	}
	shape := append(slices.Repeat([]int{1}, 4-len(t.Shape)), t.Shape...)
	var stride [4]int
	size := 1
	for a := 3; a >= 0; a-- {
		if shape[a] != 1 {
			if shape[a] != full[a] {
				return nil, fmt.Errorf("has shape %v, which does not spread over %v", t.Shape, full)
			}
			stride[a] = size
		}
		size *= shape[a]
	}
	return func(head, i, j int) int {
		return head/heads*stride[0] + head%heads*stride[1] + i*stride[2] + j*stride[3]
	}, nil
}

// biased is softmax(q k'/sqrt(D) + bias) v, head by head from dense layers: the attention node has no such bias. Its result is
// [B,H,TQ,DV] as in the case.
func biased(r *rig, q, k, v *Node, batch, heads int) (*Node, error) {
	n, tq, tk, d, dv := batch*heads, q.Shape()[1], k.Shape()[1], q.Shape()[3], v.Shape()[3]
	bias := r.in("bias")
	at, err := broadcast(r.c.In("bias"), batch, heads, tq, tk)
	if err != nil {
		return nil, fmt.Errorf("in/bias: %w", err)
	}
	b := r.b
	head := func(x *Node, h, t int) *Node { // [1,T,N,D] -> [T,D]
		ids := make([]int32, t)
		for i := range ids {
			ids[i] = int32(i*n + h)
		}
		width := x.Shape()[3]
		return layers.Lookup(b, layers.Reshape(b, x, t*n, width), r.ints(fmt.Sprintf("head.%d.%d", t, h), ids, t))
	}
	var offsets []int
	var parts []*Node
	for h := range n {
		ids := make([]int32, tq*tk)
		for e := range ids {
			ids[e] = int32(at(h, e/tk, e%tk))
		}
		own := layers.Lookup(b, layers.Reshape(b, bias, r.c.In("bias").Size(), 1), r.ints(fmt.Sprint("bias.", h), ids, tq*tk))
		s := layers.Linear(b, head(q, h, tq), layers.LinearConfig{Weight: head(k, h, tk), NoBias: true})
		s = layers.Add(b, layers.Scale(b, s, 1/math.Sqrt(float64(d))), layers.Reshape(b, own, tq, tk))
		o := layers.Linear(b, layers.Softmax(b, s), layers.LinearConfig{Weight: head(v, h, tk), NoBias: true, InOut: true})
		offsets, parts = append(offsets, h*tq*dv), append(parts, o)
	}
	if b.Err() != nil {
		return nil, b.Err()
	}
	return engine.Join([]int{batch, heads, tq, dv}, offsets, parts...)
}

// blockEncoder is torch.nn.TransformerEncoderLayer. Padding is hidden as a key and attends as a query, so it is told by the
// index of keys.
func blockEncoder(c *Case, p Precision) ([]Result, error) {
	var heads int
	var preNorm bool
	act, eps := "gelu", 1e-5
	err := errors.Join(c.Decode("heads", &heads), c.Decode("norm_first", &preNorm))
	if c.Has("activation") {
		err = errors.Join(err, c.Decode("activation", &act))
	}
	if c.Has("layer_norm_eps") {
		err = errors.Join(err, c.Decode("layer_norm_eps", &eps))
	}
	activation, perr := kernels.ParseActivation(act)
	if err = errors.Join(err, perr); err != nil {
		return nil, err
	}
	r := newRig(c, p)
	r.only("x", "key_padding_mask_true_is_pad")
	x := r.in("x")
	linear := func(weight, bias string, x, residual *Node, act kernels.Activation) *Node {
		return layers.Linear(r.b, x, layers.LinearConfig{Weight: r.param(weight), Bias: r.param(bias), Act: act, Residual: residual})
	}
	norm := func(name string, x *Node) *Node {
		r.param(name + ".weight")
		r.param(name + ".bias")
		return layers.LayerNorm(r.b.Scope(name), x, layers.NormConfig{Eps: eps})
	}
	cfg := attention.Config{Heads: heads}
	if pad := c.In("key_padding_mask_true_is_pad"); pad != nil {
		ids := pad.Int32s()
		for i, hidden := range pad.Bools() {
			if ids[i] = int32(i % pad.Shape[1]); hidden {
				ids[i] = -1
			}
		}
		cfg.IndexK = r.ints("keys", ids, pad.Shape...)
	}
	attend := func(x, residual *Node) *Node {
		o, _ := attention.AttendQKV(r.b, cfg, linear("self_attn.in_proj_weight", "self_attn.in_proj_bias", x, nil, kernels.None))
		return linear("self_attn.out_proj.weight", "self_attn.out_proj.bias", o, residual, kernels.None)
	}
	feed := func(x, residual *Node) *Node {
		return linear("linear2.weight", "linear2.bias", linear("linear1.weight", "linear1.bias", x, nil, activation), residual, kernels.None)
	}
	if preNorm {
		x = attend(norm("norm1", x), x)
		x = feed(norm("norm2", x), x)
	} else {
		x = norm("norm1", attend(x, x))
		x = norm("norm2", feed(x, x))
	}
	r.out("out", x)
	return r.compare()
}
