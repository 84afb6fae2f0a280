package golden

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/layers/attention"
	"github.com/euryale-ml/euryale/models"
)

// etcConfig describes the cases of ETC.
type etcConfig struct {
	Hidden  int     `json:"hidden_size"`
	Heads   int     `json:"num_heads"`
	Inner   int     `json:"intermediate_size"`
	Layers  int     `json:"num_layers"`
	Vocab   int     `json:"vocab_size"`
	Radius  int     `json:"local_radius"`
	Clip    int     `json:"label_clip"`
	Labels  int     `json:"label_vocab"`
	Eps     float64 `json:"layer_norm_eps"`
	Shared  bool    `json:"share_qkv"`
	KV      bool    `json:"share_kv"`
	Output  bool    `json:"share_output"`
	HardG2L bool    `json:"hard_g2l"`
	HardL2G bool    `json:"hard_l2g"`

	Mask        int     `json:"mask_id"`
	Global      int     `json:"global_id"`
	CPCGlobal   int     `json:"cpc_global_id"`
	Temperature float64 `json:"temperature"`
}

// config is that of our family.
func (s etcConfig) config() ([]byte, error) {
	return json.Marshal(map[string]any{"model_type": "etc", "task": "masked_lm", "vocab_size": max(s.Vocab, 4), "hidden_size": s.Hidden, "intermediate_size": s.Inner,
		"num_hidden_layers": max(s.Layers, 1), "num_attention_heads": s.Heads, "type_vocab_size": 2, "local_radius": s.Radius, "label_clip": s.Clip,
		"relative_vocab_size": s.Labels, "share_qkv": s.Shared, "share_kv": s.KV, "share_output": s.Output, "hard_g2l": s.HardG2L, "hard_l2g": s.HardL2G,
		"layer_norm_eps": s.Eps, "mask_token_id": s.Mask, "global_token_id": s.Global, "cpc_global_token_id": s.CPCGlobal, "cpc_temperature": max(s.Temperature, 1)})
}

// etcNames are our names of the parameters of a layer: those of the maps begin with w_ and b_ in the cases.
var etcNames = map[string]string{
	"q": "query", "k": "key", "v": "value", "o_long": "long_output", "o_global": "global_output", "ffn1": "intermediate", "ffn2": "output",
	"ln_att_long": "long_norm", "ln_att_global": "global_norm", "ln_ffn": "norm", "rel_emb_long": "long_relative.embedding", "rel_bias_long": "long_relative.bias",
	"rel_emb_global": "global_relative.embedding", "rel_bias_global": "global_relative.bias",
}

// etcParam is our name of a parameter of the cases, and whether it is stored the other way round.
func etcParam(name string, sharedOutput bool) (own string, turned bool) {
	defer func() {
		if sharedOutput {
			own = strings.Replace(own, "long_output", "attention_output", 1)
		}
	}()
	at := ""
	if layer, rest, ok := strings.Cut(name, "."); ok {
		at, name = "etc.layer."+strings.TrimPrefix(layer, "layer")+".", rest
	} else if strings.HasPrefix(name, "token") || strings.HasPrefix(name, "segment") || strings.HasPrefix(name, "ln_emb") || name == "w_cpc" {
		return map[string]string{"token_embedding": "etc.tokens.weight", "segment_embedding": "etc.types.weight", "w_cpc": "cpc.weight",
			"ln_emb_long_gain": "etc.long_norm.weight", "ln_emb_long_bias": "etc.long_norm.bias",
			"ln_emb_global_gain": "etc.global_norm.weight", "ln_emb_global_bias": "etc.global_norm.bias"}[name], false
	}
	if own, ok := etcNames[name]; ok {
		return at + own, false
	}
	for suffix, part := range map[string]string{"_gain": "weight", "_bias": "bias"} {
		if norm, ok := strings.CutSuffix(name, suffix); ok {
			return at + etcNames[norm] + "." + part, false
		}
	}
	kind, short, _ := strings.Cut(name, "_")
	own = etcNames[short]
	if own == "" { // long_q, l2g_k, …
		piece, letter, _ := strings.Cut(short, "_")
		own = piece + "_" + etcNames[letter]
	}
	if kind == "b" {
		return at + own + ".bias", false
	}
	return at + own + ".weight", true
}

// adopt loads every parameter of the case under our name.
func (r *rig) adopt(s etcConfig) {
	for _, name := range r.c.Params() {
		t := r.c.Param(name)
		own, turned := etcParam(name, s.Output)
		shape := slices.Clone(t.Shape)
		var order []int
		switch {
		case turned:
			shape[0], shape[1] = shape[1], shape[0]
			order = make([]int, t.Size())
			for k := range order {
				order[k] = k%shape[1]*shape[0] + k/shape[1]
			}
		case len(shape) == 3:
			shape = []int{shape[0], shape[1] * shape[2]}
		}
		r.fail(r.b.Params().Load(own, tensor.New(tensor.WithShape(shape...), tensor.WithBacking(slices.Clone(arranged(t.Float64s(), order))))))
		r.wrt = append(r.wrt, place{name, true, r.b.Param(own, layers.Zeros(), shape...), order})
	}
}

// runETCLayer is one layer on given states.
func runETCLayer(c *Case, p Precision) ([]Result, error) {
	var s etcConfig
	if err := c.Decode("config", &s); err != nil {
		return nil, err
	}
	text, err := s.config()
	if err != nil {
		return nil, err
	}
	m, err := models.New(text)
	if err != nil {
		return nil, err
	}
	r := newRig(c, p)
	r.only("x_long", "x_global", "long_example_ids", "global_example_ids", "sentence_ids", "global_segment_ids")
	r.adopt(s)
	in := attention.ETCInputs{LongIDs: r.given("long_example_ids"), GlobalIDs: r.given("global_example_ids"), Sentences: r.given("sentence_ids")}
	if c.In("global_segment_ids") != nil {
		in.Segments = r.given("global_segment_ids")
	}
	long, global := m.(*models.ETC).Layer(r.b, r.in("x_long"), r.in("x_global"), in)
	r.out("long", long)
	r.out("global", global)
	results, err := r.compare()
	if err != nil {
		return nil, err
	}
	masks, err := etcMasks(c, s, p)
	return append(results, masks...), err
}

// given is a node with whole numbers of the case.
func (r *rig) given(name string) *Node {
	t := r.c.In(name)
	if t == nil {
		r.fail(fmt.Errorf("in/%s is missing", name))
		return nil
	}
	return r.ints(name, t.Int32s(), t.Shape...)
}

// etcMasks compares who reads whom, and the labels.
func etcMasks(c *Case, s etcConfig, p Precision) ([]Result, error) {
	long, globals := c.In("long_example_ids"), c.In("global_example_ids")
	n, g := long.Shape[1], globals.Shape[1]
	etc := attention.ETC{Radius: s.Radius, Clip: s.Clip, HardG2L: s.HardG2L, HardL2G: s.HardL2G, Labels: s.Labels}
	mask, label := map[string][]bool{}, map[string][]int32{}
	for b := range long.Shape[0] {
		of := func(name string, n int) []int32 {
			if t := c.In(name); t != nil {
				return t.Int32s()[b*n:][:n]
			}
			return nil
		}
		for _, kind := range []string{"long", "global"} {
			pattern, labels := etc.Rows(kind == "global", of("long_example_ids", n), of("global_example_ids", g), of("sentence_ids", n), of("global_segment_ids", g))
			rows := n
			if kind == "global" {
				rows = g
			}
			for e := range rows * (n + g) {
				i, j := e/(n+g), e%(n+g)
				if kind == "long" { // the case has the long columns first
					j = (j + g) % (n + g)
				}
				sees, of := pattern.Sees(0, i, j, n+g), int32(-1)
				if sees {
					of = int32(labels.Label(0, i, j, n+g))
				}
				mask[kind], label[kind] = append(mask[kind], sees), append(label[kind], of)
			}
		}
	}
	var results []Result
	for kind := range mask {
		results = append(results, c.CompareOut("mask_"+kind, mask[kind], p), c.CompareOut("label_"+kind, label[kind], p))
	}
	return results, nil
}

// runETCPieces compares the four pieces of one example without hard sentences.
func runETCPieces(c *Case, p Precision) ([]Result, error) {
	var n, g, radius int
	if _, err := fmt.Sscanf(c.Name, "global%d_long%d_r%d", &g, &n, &radius); err != nil {
		return nil, err
	}
	ones := slices.Repeat([]int32{1}, n)
	etc := attention.ETC{Radius: radius, Clip: radius, Labels: 2*radius + 4}
	longRows, labels := etc.Rows(false, ones, ones[:g], make([]int32, n), nil)
	globalRows, _ := etc.Rows(true, ones, ones[:g], make([]int32, n), nil)
	piece := func(of attention.Pattern, rows, first, columns int) []bool {
		var mask []bool
		for e := range rows * columns {
			mask = append(mask, of.Sees(0, e/columns, first+e%columns, n+g))
		}
		return mask
	}
	distances := make([]int32, n*n) // of the labels
	for e := range distances {
		if l := labels.Label(0, e/n, g+e%n, n+g); l <= radius {
			distances[e] = int32(l)
		} else {
			distances[e] = int32(radius - l)
		}
	}
	return []Result{c.CompareTensor("g2g", piece(globalRows, g, 0, g), p), c.CompareTensor("g2l", piece(globalRows, g, g, n), p),
		c.CompareTensor("l2g", piece(longRows, n, 0, g), p), c.CompareTensor("l2l", piece(longRows, n, g, n), p),
		c.CompareTensor("l2l_relative_clipped", distances, p)}, nil
}

// runContrast is the loss of contrastive predictive coding on given vectors.
func runContrast(c *Case, p Precision) ([]Result, error) {
	r := newRig(c, p)
	r.only("context", "target", "duplicate_group")
	var s etcConfig
	if err := c.Decode("config", &s); err != nil {
		return nil, err
	}
	if s.Temperature != 1 {
		return nil, fmt.Errorf("temperature %v is not handled", s.Temperature)
	}
	bare := layers.NormConfig{Eps: s.Eps, NoWeight: true, NoBias: true}
	context := r.linear(layers.LayerNorm(r.b, r.in("context"), bare), "w_cpc")
	scores := layers.Linear(r.b, context, layers.LinearConfig{Weight: layers.LayerNorm(r.b, r.in("target"), bare), NoBias: true})
	r.loss = layers.Contrast(r.b, scores, r.given("duplicate_group"))
	return r.compare()
}

// runTwoPasses is the model on hidden sentences and on the sentences by themselves.
func runTwoPasses(c *Case, p Precision) ([]Result, error) {
	var s etcConfig
	if err := c.Decode("config", &s); err != nil {
		return nil, err
	}
	text, err := s.config()
	if err != nil {
		return nil, err
	}
	m, err := models.New(text)
	if err != nil {
		return nil, err
	}
	r := newRig(c, p)
	r.only("input_ids", "sentence_ids")
	r.adopt(s)
	sentences, drawn := c.In("sentence_ids"), c.Tensor("rand/masked_sentences")
	batch, t := sentences.Shape[0], sentences.Shape[1]
	long, globals := make([]int32, batch*t), int32(0)
	for i, u := range sentences.Int32s() {
		if globals = max(globals, u+1); u >= 0 {
			long[i] = 1
		}
	}
	chosen := make([]int32, batch*int(globals)) // a row of slots for each example
	for k := range chosen {
		chosen[k] = -1
	}
	var order, used []int // where the drawn ones stand among the slots
	for k := range drawn.Shape[0] {
		b, u := int(drawn.Int32s()[2*k]), drawn.Int32s()[2*k+1]
		slot := b * int(globals)
		for chosen[slot] >= 0 {
			slot++
		}
		chosen[slot] = u
		used = append(used, slot)
	}
	order = make([]int, len(chosen)*s.Hidden)
	for k := range order {
		order[k] = -1
		if at := slices.Index(used, k/s.Hidden); at >= 0 {
			order[k] = at*s.Hidden + k%s.Hidden
		}
	}
	ids := make([]int32, batch*int(globals))
	for k := range ids {
		ids[k] = int32(s.Global)
	}
	out := m.Forward(r.b, models.Inputs{IDs: r.given("input_ids"), More: map[string]*Node{"sentence_ids": r.given("sentence_ids"),
		"long_example_ids": r.ints("long", long, batch, t), "global_ids": r.ints("globals", ids, batch, int(globals)),
		"masked_sentences": r.ints("chosen", chosen, batch, int(globals))}}, 0)
	if err := errors.Join(r.err, r.b.Err()); err != nil {
		return nil, err
	}
	r.loss = out.More["cpc_loss"]
	r.outAs("context", out.More["cpc_context"], order)
	r.outAs("target", out.More["cpc_target"], order)
	results, err := r.compare()
	if err != nil {
		return nil, err
	}
	groups, err := groupsOf(r, out.More["cpc_groups"], used)
	return append(results, c.CompareOut("duplicate_group", groups, p)), err
}

// groupsOf runs the graph for the groups of the sentences, numbered as the case does: by the first of equal ones.
func groupsOf(r *rig, n *Node, used []int) ([]int32, error) {
	program, err := engine.Compile(r.b.Graph(), layers.Nodes{n}, engine.Options{})
	if err != nil {
		return nil, err
	}
	defer func() { _ = program.Close() }()
	if err := program.Run(); err != nil {
		return nil, err
	}
	all := engine.Ints(program.Value(n))
	groups := make([]int32, len(used))
	for k, slot := range used {
		groups[k] = int32(slices.IndexFunc(used, func(other int) bool { return all[other] == all[slot] }))
	}
	return groups, nil
}
