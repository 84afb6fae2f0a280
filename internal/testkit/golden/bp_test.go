package golden

import (
	"fmt"
	"slices"
	"strings"

	"github.com/euryale-ml/euryale/internal/kernels"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/layers/attention"
	"github.com/euryale-ml/euryale/models"
)

// bpConfig describes a layer or a model of the BP-Transformer.
type bpConfig struct {
	Lengths   []int
	K, Clip   int
	Causal    bool
	Hidden    int     `json:"hidden_size"`
	Heads     int     `json:"num_heads"`
	Inner     int     `json:"intermediate_size"`
	Eps       float64 `json:"layer_norm_eps"`
	Layers    int     `json:"num_layers"`
	Readout   string
	Vocab     int `json:"vocab_size"`
	Positions int `json:"max_position_embeddings"`
	Classes   int `json:"num_classes"`
}

// runBPLayer is one layer on given states of the nodes of several graphs, which are run as one batch with padding.
func runBPLayer(c *Case, p Precision) ([]Result, error) {
	var config bpConfig
	if err := c.Decode("config", &config); err != nil {
		return nil, err
	}
	bp, err := attention.NewBP(config.K, config.Clip, config.Causal)
	if err != nil {
		return nil, err
	}
	r := newRig(c, p)
	var names []string
	var nodes, edges []int32
	var results []Result
	for g, n := range config.Lengths {
		names = append(names, fmt.Sprint("nodes.", g))
		nodes, edges = append(nodes, int32(attention.NodeCount(bp.Tree, n))), nil
		for _, e := range bp.Tree.Edges(n, config.Clip) {
			edges = append(edges, int32(e.Query), int32(e.Key), int32(e.Label))
		}
		results = append(results, c.CompareOut(fmt.Sprint("edges.", g), edges, p))
	}
	r.only(names...)
	most := int(slices.Max(nodes))
	var rows layers.Nodes
	for g, name := range names {
		rows = append(rows, layers.Reshape(r.b, r.in(name), 1, int(nodes[g]), config.Hidden))
		if more := most - int(nodes[g]); more > 0 { // padding must not matter
			noise := make([]float64, more*config.Hidden)
			for i := range noise {
				noise[i] = float64(i%7) - 3
			}
			rows[g] = layers.Concat(r.b, 1, rows[g], r.floats("padding."+name, noise, 1, more, config.Hidden))
		}
	}
	x := layers.Concat(r.b, 0, rows...)
	linear := func(x *Node, w, bias string, act kernels.Activation, residual *Node) *Node {
		l := layers.LinearConfig{Weight: r.param(w), InOut: true, NoBias: bias == "", Act: act, Residual: residual}
		if bias != "" {
			l.Bias = r.param(bias)
		}
		return layers.Linear(r.b, x, l)
	}
	none := kernels.None
	o, _ := attention.Attend(r.b, attention.Config{Pattern: bp.Tree, Heads: config.Heads, Lens: r.ints("counts", nodes, len(nodes)), Labels: bp.Labels(),
		LabelKeys: layers.Slice(r.b, r.param("rel_key"), 0, 0, bp.Labels().Count())},
		linear(x, "w_q", "", none, nil), linear(x, "w_k", "", none, nil), linear(x, "w_v", "", none, nil))
	x = r.norm(linear(o, "w_o", "", none, x), "ln1", config.Eps)
	x = r.norm(linear(linear(x, "w_ffn1", "b_ffn1", kernels.ReLU, nil), "w_ffn2", "b_ffn2", none, x), "ln2", config.Eps)
	for g, name := range names {
		r.out(name, layers.View(r.b, x, g*most*config.Hidden, int(nodes[g]), config.Hidden))
	}
	compared, err := r.compare()
	return append(results, compared...), err
}

// bpNames are the names of our model for those of the cases; of matrices that are stored the other way round, with a star.
var bpNames = strings.NewReplacer("token_embedding", "bp_transformer.embeddings.tokens.weight", "position_embedding", "bp_transformer.embeddings.positions.weight",
	"ln_emb_gain", "bp_transformer.embeddings.norm.weight", "ln_emb_bias", "bp_transformer.embeddings.norm.bias", "layer", "bp_transformer.layers.",
	"w_q", "*attention.query.weight", "w_k", "*attention.key.weight", "w_v", "*attention.value.weight", "w_o", "*attention.out.weight",
	"rel_key", "attention.labels.weight", "ln1_gain", "attention.norm.weight", "ln1_bias", "attention.norm.bias",
	"ln2_gain", "mlp.norm.weight", "ln2_bias", "mlp.norm.bias", "w_ffn1", "*mlp.up.weight", "b_ffn1", "mlp.up.bias",
	"w_ffn2", "*mlp.down.weight", "b_ffn2", "mlp.down.bias", "w_class", "*classifier.weight", "b_class", "classifier.bias", "b_vocab", "lm_head.bias")

// runBPModel is a whole model of the product on a padded batch.
func runBPModel(c *Case, p Precision) ([]Result, error) {
	var config bpConfig
	if err := c.Decode("config", &config); err != nil {
		return nil, err
	}
	of := models.BPTransformerConfig{Task: "causal_lm", VocabSize: config.Vocab, NumLabels: config.Classes, HiddenSize: config.Hidden,
		IntermediateSize: config.Inner, NumHiddenLayers: config.Layers, NumAttentionHeads: config.Heads, K: config.K, Clip: config.Clip,
		MaxPositionEmbeddings: config.Positions, PositionEmbeddingType: "learned", HiddenAct: "relu", LayerNormEps: config.Eps, TieWordEmbeddings: true}
	if config.Readout == "root" {
		of.Task = "sequence_classification"
	}
	if config.Causal != (of.Task == "causal_lm") {
		return nil, fmt.Errorf("readout %s with causal %v is not handled", config.Readout, config.Causal)
	}
	m, err := models.NewBPTransformer(of)
	if err != nil {
		return nil, err
	}
	params, b := layers.NewParams(p.Dtype()), len(config.Lengths)
	r := newRig(c, p)
	r.only("input_ids", "valid", "labels")
	r.b = layers.New(r.b.Graph(), params, layers.Options{Training: true})
	labels := (2*config.K + 1) * (config.Clip + 1)
	for _, name := range c.Params() {
		t, own := c.Param(name), bpNames.Replace(name)
		if strings.Contains(own, "*") {
			t, own = transposed(t), strings.Replace(own, "*", "", 1)
		}
		if strings.HasSuffix(name, "rel_key") { // it may have rows beyond the labels there are, which nothing reads
			for _, of := range []*Tensor{t, c.Grad(name)} {
				of.Shape, of.F = []int{labels, t.Shape[1]}, of.F[:labels*t.Shape[1]]
			}
		}
		r.fail(params.Load(own, dense(t)))
	}
	lens := make([]int32, b)
	for g, n := range config.Lengths {
		lens[g] = int32(n)
	}
	ids, targets := c.In("input_ids"), c.In("labels")
	t := ids.Shape[1]
	out := m.Forward(r.b, models.Inputs{IDs: r.ints("ids", int32s(ids), b, t), Lens: r.ints("lens", lens, b)}, 0)
	if r.b.Err() != nil {
		return nil, r.b.Err()
	}
	if of.Task == "causal_lm" {
		for g, n := range config.Lengths {
			r.out(fmt.Sprint("logits.", g), layers.View(r.b, out.Logits, g*t*config.Vocab, n, config.Vocab))
		}
	} else {
		r.out("logits", out.Logits)
	}
	r.loss = layers.CrossEntropy(r.b, out.Logits, r.ints("targets", int32s(targets), targets.Shape...), 0)
	for _, name := range c.Params() {
		own, order := bpNames.Replace(name), []int(nil)
		shape := slices.Clone(c.Param(name).Shape)
		if strings.Contains(own, "*") {
			own, shape = strings.Replace(own, "*", "", 1), []int{shape[1], shape[0]}
			for k := range shape[0] * shape[1] {
				order = append(order, k%shape[1]*shape[0]+k/shape[1])
			}
		}
		r.wrt = append(r.wrt, place{name, true, r.b.Param(own, nil, shape...), order})
	}
	return r.compare()
}

func int32s(t *Tensor) []int32 {
	x := make([]int32, len(t.I))
	for i, v := range t.I {
		x[i] = int32(v)
	}
	return x
}
