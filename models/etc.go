package models

import (
	"fmt"

	"github.com/euryale-ml/euryale/internal/config"
	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/kernels"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/layers/attention"
)

// ETCConfig is the family etc: an encoder of a long input and a global one, whose nodes stand for its sentences. JSON keys are Hugging
// Face's words and those of the entry etc.
type ETCConfig struct {
	ModelType             string  `json:"model_type"` // "etc"
	Task                  string  `json:"task"`       // masked_lm, sequence_classification, token_classification, question_answering, contrastive
	VocabSize             int     `json:"vocab_size"`
	HiddenSize            int     `json:"hidden_size"`
	IntermediateSize      int     `json:"intermediate_size"` // 0 = 4 C
	NumHiddenLayers       int     `json:"num_hidden_layers"`
	NumAttentionHeads     int     `json:"num_attention_heads"`
	MaxPositionEmbeddings int     `json:"max_position_embeddings"` // longest input; there are no absolute positions
	HiddenAct             string  `json:"hidden_act"`
	LayerNormEps          float64 `json:"layer_norm_eps"`
	HiddenDropoutProb     float64 `json:"hidden_dropout_prob"`
	Residual              string  `json:"residual"` // plain, reversible: the norms then stand before each part, and one after the last layer
	InitializerRange      float64 `json:"initializer_range"`
	TypeVocabSize         int     `json:"type_vocab_size"` // long tokens have type 1, global ones type 0
	NumLabels             int     `json:"num_labels"`
	Pooling               string  `json:"pooling"` // where sequence_classification reads: global (the first global node), or the long tokens: cls, mean, last, max

	NumGlobals    int  `json:"num_globals"`         // g where the data do not say: the input is cut into as many equal sentences
	LocalRadius   int  `json:"local_radius"`        // long keys on each side of a long query
	LabelClip     int  `json:"label_clip"`          // distances beyond have the same label
	LabelVocab    int  `json:"relative_vocab_size"` // labels there are; 0 = 2 label_clip + 4
	HardG2L       bool `json:"hard_g2l"`            // a global node reads the tokens of its own sentence alone
	HardL2G       bool `json:"hard_l2g"`            // a token reads the node of its own sentence alone
	ShareQKV      bool `json:"share_qkv"`           // one projection for all four pieces
	ShareKV       bool `json:"share_kv"`            // without share_qkv: what long rows read is projected alike, and what global rows read
	ShareOutput   bool `json:"share_output"`
	GlobalTokenID int  `json:"global_token_id"` // of global tokens where the data do not say

	MaskTokenID    int     `json:"mask_token_id"`       // contrastive: in the place of the tokens of a hidden sentence,
	CPCTokenID     int     `json:"cpc_global_token_id"` // and in that of its global token
	CPCLossWeight  float64 `json:"cpc_loss_weight"`     // masked_lm: factor of the contrastive loss
	CPCTemperature float64 `json:"cpc_temperature"`
}

// ETC is the Extended Transformer Construction.
//
//	nodes = norm(tokens + types), global and long ones with norms of their own
//	for each layer: nodes = norm(nodes + out(attention(nodes))), with norms of their own; nodes = norm(nodes + feed(nodes))
//
// It reads, as Inputs.More, int32: sentence_ids [B,T] (the global node a token belongs to), global_ids [B,g] (tokens of the global nodes),
// long_example_ids [B,T] and global_example_ids [B,g] (several examples in a row, from 1 on; 0 is padding), global_segment_ids [B,g],
// and masked_sentences [B,S] (negative: none), which turn contrastive predictive coding on. What is missing has the values of one
// example of Lens tokens, cut into num_globals sentences of equal length. A negative id in global_ids is padding.
//
// The model hides the masked sentences itself, and encodes them by themselves in their places; or, which costs less, the data have hidden
// them in ids and global_ids and give their tokens once more, one sentence after the other: packed_ids and packed_sentences [B,P] (which
// of masked_sentences, negative: padding), and duplicate_group [B,S], equal for equal sentences of the batch.
//
// More has global_hidden_state [B,g,C], and with masked_sentences cpc_loss, of which Loss is a part, and the vectors cpc_context and
// cpc_target [B,S,C], and cpc_groups [B·S], equal for equal sentences. The logits of the task contrastive are the scores [B·S,B·S] of each masked sentence with each.
//
// Source: Ainslie et al. 2020, arXiv 2004.08483. Masked sentences: section 3.4; what it leaves open (temperature, form of the score, share of
// sentences) is decided in the field's comments and in docs/etc.md.
type ETC struct {
	cfg ETCConfig
	etc attention.ETC
	act kernels.Activation
	stack
}

var _ Model = (*ETC)(nil)

func newETC(raw []byte) (Model, error) {
	c := ETCConfig{Task: "masked_lm", MaxPositionEmbeddings: 16384, HiddenAct: "gelu", LayerNormEps: 1e-12, InitializerRange: 0.02, TypeVocabSize: 16,
		Pooling: "global", NumGlobals: 16, LocalRadius: 84, LabelClip: 12, HardG2L: true, ShareQKV: true, GlobalTokenID: 1, CPCTokenID: 2, MaskTokenID: 3,
		CPCLossWeight: 0.25, CPCTemperature: 1, Residual: "plain"}
	err := config.Decode(raw, &c)
	if config.IsSyntax(err) {
		return nil, err
	}
	m, check := NewETC(c)
	if err := config.Merge(err, check); err != nil {
		return nil, err
	}
	return m, nil
}

// NewETC builds the model.
//
// Errors: every fault as *config.FieldError, joined.
func NewETC(c ETCConfig) (*ETC, error) {
	c.ModelType = "etc"
	if c.IntermediateSize == 0 {
		c.IntermediateSize = 4 * min(max(c.HiddenSize, 1), maxSize/4)
	}
	if c.LabelVocab == 0 {
		c.LabelVocab = 2*min(max(c.LabelClip, 0), maxSize/4) + 4
	}
	var p problems
	p.oneOf("task", c.Task, "masked_lm", "sequence_classification", "token_classification", "question_answering", "contrastive")
	p.size("vocab_size", c.VocabSize, maxSize)
	p.size("hidden_size", c.HiddenSize, maxSize)
	p.size("intermediate_size", c.IntermediateSize, maxSize)
	p.size("num_hidden_layers", c.NumHiddenLayers, maxLayers)
	p.size("num_attention_heads", c.NumAttentionHeads, maxSize)
	p.size("max_position_embeddings", c.MaxPositionEmbeddings, maxSize)
	if c.HiddenSize >= 1 && c.NumAttentionHeads >= 1 {
		p.want(c.HiddenSize%c.NumAttentionHeads == 0, "num_attention_heads", c.NumAttentionHeads, fmt.Sprintf("a divisor of hidden_size (%d)", c.HiddenSize))
	}
	act, err := kernels.ParseActivation(c.HiddenAct)
	if err != nil {
		p.add(&config.FieldError{Path: "hidden_act", Value: c.HiddenAct, Want: err.Error()})
	}
	p.want(c.LayerNormEps > 0, "layer_norm_eps", c.LayerNormEps, "more than 0")
	p.want(c.HiddenDropoutProb >= 0 && c.HiddenDropoutProb < 1, "hidden_dropout_prob", c.HiddenDropoutProb, "from 0 to less than 1")
	p.residual(c.Residual, "")
	p.want(c.InitializerRange > 0, "initializer_range", c.InitializerRange, "more than 0")
	p.want(c.TypeVocabSize >= 2 && c.TypeVocabSize <= maxSize, "type_vocab_size", c.TypeVocabSize, "at least 2: global and long tokens")
	if labelled(c.Task) {
		p.size("num_labels", c.NumLabels, maxSize)
	} else {
		p.want(c.NumLabels == 0, "num_labels", c.NumLabels, "0: "+c.Task+" has no classes")
	}
	p.oneOf("pooling", c.Pooling, "global", "cls", "mean", "last", "max")
	p.size("num_globals", c.NumGlobals, maxSize)
	p.want(c.LocalRadius >= 0 && c.LocalRadius <= maxSize, "local_radius", c.LocalRadius, fmt.Sprintf("0 to %d", maxSize))
	p.want(c.LabelClip >= 0 && c.LabelClip <= maxSize/4, "label_clip", c.LabelClip, fmt.Sprintf("0 to %d", maxSize/4))
	p.want(c.LabelVocab >= 2*c.LabelClip+4 && c.LabelVocab <= maxSize, "relative_vocab_size", c.LabelVocab,
		fmt.Sprintf("at least %d: 2 label_clip + 1 distances and 3 labels between long and global tokens", 2*c.LabelClip+4))
	for _, id := range []struct {
		path  string
		value int
	}{{"global_token_id", c.GlobalTokenID}, {"mask_token_id", c.MaskTokenID}, {"cpc_global_token_id", c.CPCTokenID}} {
		p.want(id.value >= 0 && id.value < max(c.VocabSize, 1), id.path, id.value, fmt.Sprintf("0 to %d, an id of the vocabulary", max(c.VocabSize, 1)-1))
	}
	p.want(c.CPCLossWeight >= 0, "cpc_loss_weight", c.CPCLossWeight, "at least 0")
	p.want(c.CPCTemperature > 0, "cpc_temperature", c.CPCTemperature, "more than 0")
	if err := p.err(); err != nil {
		return nil, err
	}
	s := stack{Dims: Dims{Vocab: c.VocabSize, Hidden: c.HiddenSize, Inner: c.IntermediateSize, Layers: c.NumHiddenLayers, Heads: c.NumAttentionHeads,
		Positions: c.MaxPositionEmbeddings, Labels: c.NumLabels},
		names: names{tokens: "etc.tokens"}, act: act, eps: c.LayerNormEps, init: layers.TruncatedNormal(c.InitializerRange), residDropout: c.HiddenDropoutProb, reverse: c.Residual == "reversible"}
	return &ETC{c, attention.ETC{Radius: c.LocalRadius, Clip: c.LabelClip, HardG2L: c.HardG2L, HardL2G: c.HardL2G, Labels: c.LabelVocab}, act, s}, nil
}

// Type is "etc".
func (m *ETC) Type() string { return m.cfg.ModelType }

// Task is that of the head.
func (m *ETC) Task() string { return m.cfg.Task }

// Dims are the sizes.
func (m *ETC) Dims() Dims { return m.stack.Dims }

// Config is the resolved config.json.
func (m *ETC) Config() ([]byte, error) { return marshalConfig(m.cfg, nil) }

// Warnings is empty: what the family knows it does.
func (m *ETC) Warnings() []string { return nil }

// Forward adds the network to the graph.
func (m *ETC) Forward(b *layers.Builder, in Inputs, layersPerBlock int) Outputs {
	if b.Err() != nil {
		return Outputs{}
	}
	if in.IDs == nil || in.IDs.Dims() != 2 {
		b.Failf("etc reads ids [B,T], and there are none: give data of tokens")
		return Outputs{}
	}
	if t := in.IDs.Shape()[1]; t > m.Positions {
		b.Fail(&LengthError{Length: t, Max: m.Positions})
		return Outputs{}
	}
	s := m.structure(b, in)
	chosen := in.More["masked_sentences"]
	form := b.Scope("cpc").Param("weight", m.initial(), m.Hidden, m.Hidden) // there whatever the batch
	var out Outputs
	var long, globals *Node
	switch packed := in.More["packed_ids"]; {
	case chosen == nil:
		long, globals, out.Hidden = m.encode(b, in.IDs, in.Types, s, layersPerBlock)
		out.More = map[string]*Node{"global_hidden_state": globals}
	case packed == nil:
		tokens, shown := m.hide(b, in.IDs, s, chosen)
		long, globals, out.Hidden = m.encode(b, tokens, in.Types, shown, layersPerBlock)
		out.More = map[string]*Node{"global_hidden_state": globals}
		_, target, _ := m.encode(b, in.IDs, in.Types, m.apart(b, s, chosen), layersPerBlock)
		m.contrast(b, &out, rowsOf(b, globals, chosen), rowsOf(b, target, chosen), form, b.Op(twins{}, in.IDs, s.sentences, chosen))
	default:
		long, globals, out.Hidden = m.encode(b, in.IDs, in.Types, s, layersPerBlock)
		out.More = map[string]*Node{"global_hidden_state": globals}
		_, target, _ := m.encode(b, packed, nil, m.packed(b, in, chosen), layersPerBlock)
		groups := in.More["duplicate_group"]
		if groups == nil {
			b.Failf("etc: packed_ids without duplicate_group")
			return out
		}
		m.contrast(b, &out, rowsOf(b, globals, chosen), target, form, groups)
	}
	h := head{labels: m.cfg.NumLabels, transform: "head.dense", norm: "head.norm", decoder: "head", act: m.act, eps: m.eps}
	switch m.cfg.Task {
	case "masked_lm":
		out.Logits = m.maskedHead(b, h, long)
	case "sequence_classification":
		pooled := firstRow(b, globals)
		if m.cfg.Pooling != "global" {
			pooled = pool(b, m.cfg.Pooling, long, in.Lens)
		}
		pooled = layers.Dropout(b.Scope("head"), pooled, m.cfg.HiddenDropoutProb)
		out.Logits = m.dense(b, "head.out", pooled, m.cfg.NumLabels, kernels.None)
	case "token_classification":
		out.Logits = m.dense(b, "head.out", layers.Dropout(b.Scope("head"), long, m.cfg.HiddenDropoutProb), m.cfg.NumLabels, kernels.None)
	case "question_answering":
		out.Logits = m.dense(b, "head.out", long, 2, kernels.None)
	}
	return out
}

// encode runs the layers: the long tokens [B,T,C], the global nodes [B,g,C], and the long stream from the embeddings on.
func (m *ETC) encode(b *layers.Builder, tokens, types *Node, s structure, layersPerBlock int) (long, globals *Node, hidden []*Node) {
	if b.Err() != nil {
		return nil, nil, nil
	}
	g := s.globals.Shape()[1]
	embed := func(name string, ids, types *Node, kind int32) *Node {
		x := layers.Lookup(b.Scope("etc.tokens"), m.table(b), ids)
		if types == nil && b.Err() == nil {
			types = filled(b, fmt.Sprint("etc.type.", kind), ids.Shape()[0], ids.Shape()[1], func(int) int32 { return kind })
		}
		kinds := layers.Lookup(b.Scope("etc.types"), b.Scope("etc.types").Param("weight", m.initial(), m.cfg.TypeVocabSize, m.Hidden), types)
		x = layers.LayerNorm(b.Scope(name), layers.Add(b, x, kinds), layers.NormConfig{Eps: m.eps})
		return layers.Dropout(b.Scope(name), x, m.cfg.HiddenDropoutProb)
	}
	x := layers.Concat(b, 1, embed("etc.global_norm", s.globals, nil, 0), embed("etc.long_norm", tokens, types, 1)) // [B,g+T,C]
	split := func() (long, globals *Node) {
		if b.Err() != nil {
			return nil, nil
		}
		return layers.Slice(b, x, 1, g, x.Shape()[1]), layers.Slice(b, x, 1, 0, g)
	}
	long, _ = split()
	hidden = []*Node{long}
	if m.reverse {
		x = m.reversible(b, x, g, s, layersPerBlock)
		long, globals = split()
		return long, globals, append(hidden, long)
	}
	for l := 0; l < m.Layers; {
		l = m.block(b, l, layersPerBlock, func(l int) { x = m.layer(b.Scope(fmt.Sprint("etc.layer.", l)), x, g, s) })
	}
	long, globals = split()
	return long, globals, append(hidden, long)
}

// reversible runs the layers on two streams of nodes, with norms before each part.
func (m *ETC) reversible(b *layers.Builder, x *Node, g int, s structure, layersPerBlock int) *Node {
	var halves []engine.Branch
	for l := range m.Layers {
		lb := b.Scope(fmt.Sprint("etc.layer.", l))
		halves = append(halves, func(x *Node) *Node { return m.attend(lb, x, g, s) }, func(x *Node) *Node { return m.feed(lb, x) })
	}
	return layers.LayerNorm(b.Scope("etc.final_norm"), meanOfStreams(b, x, m.Layers, layersPerBlock, halves), layers.NormConfig{Eps: m.eps})
}

// layer is one layer on the nodes x [B,g+T,C], the global ones first.
func (m *ETC) layer(b *layers.Builder, x *Node, g int, s structure) *Node {
	return m.feed(b, m.attend(b, x, g, s))
}

// attend is the attention of a layer with the sum and the norms after it, or, reversible, with the norms before it and no sum.
func (m *ETC) attend(b *layers.Builder, x *Node, g int, s structure) *Node {
	if b.Err() != nil {
		return nil
	}
	norm := func(name string, x *Node) *Node {
		return layers.LayerNorm(b.Scope(name), x, layers.NormConfig{Eps: m.eps})
	}
	if m.reverse {
		x = layers.Concat(b, 1, norm("global_norm", layers.Slice(b, x, 1, 0, g)), norm("long_norm", layers.Slice(b, x, 1, g, x.Shape()[1])))
		if b.Err() != nil {
			return nil
		}
	}
	rows := layers.Slice(b, x, 1, g, x.Shape()[1])
	globals := layers.Slice(b, x, 1, 0, g)
	linear := func(name string, x *Node) *Node { return m.stack.linear(b, name, x, m.Hidden, false) }
	long, global := attention.Projected{}, attention.Projected{}
	switch {
	case m.cfg.ShareQKV:
		q, k, v := linear("query", x), linear("key", x), linear("value", x)
		long.Q, global.Q = layers.Slice(b, q, 1, g, x.Shape()[1]), layers.Slice(b, q, 1, 0, g)
		long.K, long.V, global.K, global.V = k, v, k, v
	case m.cfg.ShareKV:
		long.Q, long.K, long.V = linear("long_query", rows), linear("long_key", x), linear("long_value", x)
		global.Q, global.K, global.V = linear("global_query", globals), linear("global_key", x), linear("global_value", x)
	default:
		long.Q, global.Q = linear("long_query", rows), linear("global_query", globals)
		long.K = layers.Concat(b, 1, linear("l2g_key", globals), linear("l2l_key", rows))
		long.V = layers.Concat(b, 1, linear("l2g_value", globals), linear("l2l_value", rows))
		global.K = layers.Concat(b, 1, linear("g2g_key", globals), linear("g2l_key", rows))
		global.V = layers.Concat(b, 1, linear("g2g_value", globals), linear("g2l_value", rows))
	}
	for k, p := range []*attention.Projected{&long, &global} {
		name := []string{"long_relative", "global_relative"}[k]
		p.LabelKeys = b.Scope(name).Param("embedding", layers.TruncatedNormal(0.5), m.cfg.LabelVocab, m.Hidden)
		p.LabelBias = b.Scope(name).Param("bias", layers.Zeros(), m.cfg.LabelVocab, m.Heads)
	}
	in := attention.ETCInputs{LongIDs: s.longIDs, GlobalIDs: s.globalIDs, Sentences: s.sentences, Segments: s.segments}
	names := [2]string{"long_output", "global_output"}
	if m.cfg.ShareOutput {
		names = [2]string{"attention_output", "attention_output"}
	}
	ofRows, ofGlobals := m.etc.LongRows(b.Scope("long"), long, in, m.Heads), m.etc.GlobalRows(b.Scope("global"), global, in, m.Heads)
	if m.reverse {
		return layers.Concat(b, 1, m.write(b.Scope(names[1]), ofGlobals, nil, false), m.write(b.Scope(names[0]), ofRows, nil, false))
	}
	rows = norm("long_norm", m.write(b.Scope(names[0]), ofRows, rows, false))
	globals = norm("global_norm", m.write(b.Scope(names[1]), ofGlobals, globals, false))
	return layers.Concat(b, 1, globals, rows)
}

// feed is the feed-forward part of a layer, its sum and its norm in the manner of attend.
func (m *ETC) feed(b *layers.Builder, x *Node) *Node {
	norm := func(x *Node) *Node { return layers.LayerNorm(b.Scope("norm"), x, layers.NormConfig{Eps: m.eps}) }
	c := layers.FeedForwardConfig{Hidden: m.Inner, Act: m.act, Up: "intermediate", Down: "output", Init: m.initial(), Dropout: m.cfg.HiddenDropoutProb}
	if m.reverse {
		return layers.FeedForward(b, norm(x), c)
	}
	c.Residual = x
	return norm(layers.FeedForward(b, x, c))
}

// Layer is one layer on given states: long tokens [B,T,C] and global nodes [B,g,C]. Its weights are parameters of b.
func (m *ETC) Layer(b *layers.Builder, long, globals *Node, in attention.ETCInputs) (*Node, *Node) {
	if b.Err() != nil {
		return nil, nil
	}
	g := globals.Shape()[1]
	x := m.layer(b, layers.Concat(b, 1, globals, long), g, structure{in.LongIDs, in.GlobalIDs, in.Sentences, in.Segments, nil})
	if b.Err() != nil {
		return nil, nil
	}
	return layers.Slice(b, x, 1, g, x.Shape()[1]), layers.Slice(b, x, 1, 0, g)
}

// contrast is contrastive predictive coding: the global output of a hidden sentence, read from its surroundings, has to find that of the
// sentence by itself among those of the whole batch. Copies of the sentence do not compete.
// context and target are [B,S,C], groups as layers.Contrast has them, form [C,C] is that of the score, context · form · target.
func (m *ETC) contrast(b *layers.Builder, out *Outputs, context, target, form, groups *Node) {
	if b.Err() != nil {
		return
	}
	groups = layers.Reshape(b, groups, -1)
	of := func(x *Node) *Node {
		x = layers.Reshape(b, x, -1, m.Hidden)
		return layers.LayerNorm(b, x, layers.NormConfig{Eps: m.eps, NoWeight: true, NoBias: true})
	}
	scores := layers.Linear(b, of(context), layers.LinearConfig{Weight: form, InOut: true, NoBias: true})
	scores = layers.Linear(b, scores, layers.LinearConfig{Weight: of(target), NoBias: true})
	if m.cfg.CPCTemperature != 1 {
		scores = layers.Scale(b, scores, 1/m.cfg.CPCTemperature)
	}
	out.More["cpc_context"], out.More["cpc_target"] = context, target
	out.More["cpc_loss"], out.More["cpc_groups"] = layers.Contrast(b, scores, groups), groups
	if m.cfg.Task == "contrastive" {
		out.Logits = layers.Candidates(b, scores, groups)
	} else {
		out.Loss = layers.Reshape(b, layers.Scale(b, out.More["cpc_loss"], m.cfg.CPCLossWeight), 1)
	}
}

// rowsOf are rows of x [B,T,C] by index.
func rowsOf(b *layers.Builder, x, index *Node) *Node {
	if b.Err() != nil {
		return nil
	}
	return layers.Gather(b, x, index)
}
