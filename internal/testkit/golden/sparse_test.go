package golden

import (
	"fmt"
	"slices"

	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/models"
)

// part is a parameter of a case that is a part of a weight of ours: element k of it is element at(k) there.
type part struct {
	name string
	at   func(k int) int
}

// whole makes a weight of several parameters of the case and says where each of them lies in it.
func (r *rig) whole(own string, shape []int, parts ...part) {
	size := 1
	for _, n := range shape {
		size *= n
	}
	x := make([]float64, size)
	var places []place
	for _, p := range parts {
		t := r.c.Param(p.name)
		if t == nil {
			r.fail(fmt.Errorf("param/%s is missing", p.name))
			return
		}
		order := slices.Repeat([]int{-1}, size)
		for k, v := range t.Float64s() {
			x[p.at(k)], order[p.at(k)] = v, k
		}
		places = append(places, place{p.name, true, nil, order})
	}
	r.fail(r.b.Params().Load(own, tensor.New(tensor.WithShape(shape...), tensor.WithBacking(x))))
	n := r.b.Param(own, layers.Zeros(), shape...)
	for _, p := range places {
		p.n = n
		r.wrt = append(r.wrt, p)
	}
}

// turned is where element k of a matrix [in,out] lies in rows first, first+1, … of a weight [·,in].
func turned(in, out, first int) func(k int) int {
	return func(k int) int { return (first+k%out)*in + k/out }
}

func from(first int) func(k int) int { return func(k int) int { return first + k } }

// runSparseModel is a decoder with factorized positions whose input begins with a vector of its own: the token of the id after the last.
func runSparseModel(c *Case, p Precision) ([]Result, error) {
	var s struct {
		stackConfig
		Hidden int `json:"hidden_size"`
		Inner  int `json:"intermediate_size"`
		Vocab  int `json:"vocab_size"`
		Keys   int `json:"query_key_size"`
	}
	if err := c.Decode("config", &s); err != nil {
		return nil, err
	}
	if s.Pattern != "fixed" || s.Keys != s.Hidden || s.DistinctSummaries {
		return nil, fmt.Errorf("config %s is not handled", c.Config)
	}
	m, err := models.New(fmt.Appendf(nil, `{"model_type":"decoder","vocab_size":%d,"hidden_size":%d,"intermediate_size":%d,"num_hidden_layers":%d,"num_attention_heads":%d,
		"max_position_embeddings":%d,"position_embedding_type":"factorized","position_shape":[%d,%d],"hidden_act":%q,"layer_norm_eps":%g,"initializer":"sparse_transformer",
		"tie_word_embeddings":false,"lm_head_bias":true,"attention":[{"type":"sparse_fixed","stride":%d,"summary":%d,"merge":%q}]}`,
		s.Vocab+1, s.Hidden, s.Inner, s.Layers, s.Heads, s.N, (s.N+s.Stride-1)/s.Stride, s.Stride, s.Activation, s.Eps, s.Stride, s.Summary, s.Merge))
	if err != nil {
		return nil, err
	}
	r := newRig(c, p)
	r.only("input_ids", "valid")
	v, h, f := s.Vocab, s.Hidden, s.Inner
	r.whole("decoder.wte.weight", []int{v + 1, h}, part{"token_embedding", from(0)}, part{"start", from(v * h)})
	for k, name := range []string{"block_pos", "in_block_pos"} {
		r.whole(fmt.Sprintf("decoder.wpe.%d.weight", k), c.Param(name).Shape, part{name, from(0)})
	}
	for l := range s.Layers {
		at, own := fmt.Sprintf("layer%d.", l), fmt.Sprintf("decoder.h.%d.", l)
		r.whole(own+"attn.qkv.weight", []int{3 * h, h}, part{at + "w_q", turned(h, h, 0)}, part{at + "w_k", turned(h, h, h)}, part{at + "w_v", turned(h, h, 2*h)})
		r.whole(own+"attn.qkv.bias", []int{3 * h}, part{at + "b_q", from(0)}, part{at + "b_k", from(h)}, part{at + "b_v", from(2 * h)})
		for _, w := range []struct {
			own, theirs string
			in, out     int
		}{{"attn.out", "p", h, h}, {"mlp.up", "1", h, f}, {"mlp.down", "2", f, h}} {
			r.whole(own+w.own+".weight", []int{w.out, w.in}, part{at + "w_" + w.theirs, turned(w.in, w.out, 0)})
			r.whole(own+w.own+".bias", []int{w.out}, part{at + "b_" + w.theirs, from(0)})
		}
		for _, n := range []string{"1", "2"} {
			r.whole(own+"ln_"+n+".weight", []int{h}, part{at + "ln" + n + "_gain", from(0)})
			r.whole(own+"ln_"+n+".bias", []int{h}, part{at + "ln" + n + "_bias", from(0)})
		}
	}
	r.whole("decoder.ln_f.weight", []int{h}, part{"ln_out_gain", from(0)})
	r.whole("decoder.ln_f.bias", []int{h}, part{"ln_out_bias", from(0)})
	r.whole("lm_head.weight", []int{v + 1, h}, part{"w_logits", turned(h, v, 0)})
	r.whole("lm_head.bias", []int{v + 1}, part{"b_logits", from(0)})

	targets := c.In("input_ids").Int32s()
	ids := make([]int32, len(targets))
	for i := range ids {
		if ids[i] = int32(v); i%s.N > 0 {
			ids[i] = targets[i-1]
		}
	}
	for i, valid := range c.In("valid").Int32s() {
		if valid == 0 {
			targets[i] = -1
		}
	}
	batch := len(s.Lengths)
	out := m.Forward(r.b, models.Inputs{IDs: r.ints("ids", ids, batch, s.N), Lens: r.ints("lens", s.Lengths, batch)}, 0)
	logits := layers.Slice(r.b, out.Logits, 2, 0, v)
	r.out("logits", logits)
	r.loss = layers.CrossEntropy(r.b, logits, r.ints("targets", targets, batch, s.N), 0)
	return r.compare()
}
