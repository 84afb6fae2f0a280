package models

import (
	"fmt"
	"math"

	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/config"
	"github.com/euryale-ml/euryale/internal/kernels"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/layers/attention"
)

// AxialTransformerConfig is the Axial Transformer, a density of images whose attention runs along rows and along columns. JSON keys are Hugging
// Face's words where it has them.
type AxialTransformerConfig struct {
	ModelType         string  `json:"model_type"` // "axial_transformer"
	Task              string  `json:"task"`       // "image_density"
	VocabSize         int     `json:"vocab_size"` // K, the levels
	Height            int     `json:"height"`
	Width             int     `json:"width"`
	Channels          int     `json:"channels"`              // or frames of a video
	ChannelsAs        string  `json:"channels_as"`           // slices: one after the other; rows: each row of the image is a row for each channel
	NumClasses        int     `json:"num_classes,omitempty"` // of class_labels; 0: no classes
	HiddenSize        int     `json:"hidden_size"`
	IntermediateSize  int     `json:"intermediate_size"` // 0 = hidden_size
	NumAttentionHeads int     `json:"num_attention_heads"`
	Preset            string  `json:"preset,omitempty"` // note 8, 4, 4; repo 8, 8, 8; tiny 4, 4, 2: the layers below that are not given
	EncoderLayers     *int    `json:"encoder_layers"`
	OuterLayers       *int    `json:"outer_layers"`
	InnerLayers       *int    `json:"inner_layers"`
	HiddenAct         string  `json:"hidden_act"`
	LayerNormEps      float64 `json:"layer_norm_eps"`
	HiddenDropoutProb float64 `json:"hidden_dropout_prob"`
	Residual          string  `json:"residual"` // plain, reversible: in each of the three parts
}

// axialPresets are layers of the encoder, the outer and the inner decoder.
var axialPresets = map[string][3]int{"note": {8, 4, 4}, "repo": {8, 8, 8}, "tiny": {4, 4, 2}}

// AxialTransformer generates an image slice by slice (a channel, or a frame), each row by row and from left to right. With x_k the
// levels of slice k:
//
//	u = encoder(slices before k + class)                                          rows, columns, ...
//	h = tokens(x_k)
//	v = shift down(outer(h + positions + u + class))                              rows, columns masked, ...: the rows above
//	logits = dense(norm(inner(shift right(h) + v + positions + u + class)))       rows masked: and what is on the left
//
// With num_classes Inputs.More["class_labels"], int32 [B], is the class of each image, negative: none.
// Training takes one slice of each image at a time, drawn anew at each step; its loss stands for those of all of them.
//
// Cost: O(N (H+W)) pairs of N = H·W pixels a slice, and as many heavy steps as rows to generate one (Paint).
// Source: Ho, Kalchbrenner, Weissenborn, Salimans 2019, arXiv 1912.12180, section 3; layer counts of the presets: the note's figure and the official
// configurations.
// Differs: a class has one vector for all three parts.
type AxialTransformer struct {
	cfg AxialTransformerConfig
	// The image as the network has it: with channels as rows it is higher and has one slice.
	height, width, slices int
	order                 []int32 // place among the ids of each level of that image; nil: as they are

	encoder, outer, inner stack
}

var _ OfImages = (*AxialTransformer)(nil)

func newAxialTransformer(raw []byte) (Model, error) {
	c := AxialTransformerConfig{Task: "image_density", Channels: 1, ChannelsAs: "slices", NumAttentionHeads: 1, HiddenAct: "quick_gelu", LayerNormEps: 1e-5, Residual: "plain"}
	err := config.Decode(raw, &c)
	if config.IsSyntax(err) {
		return nil, err
	}
	m, check := NewAxialTransformer(c)
	if err := config.Merge(err, check); err != nil {
		return nil, err
	}
	return m, nil
}

// NewAxialTransformer builds the model.
//
// Errors: every fault as *config.FieldError, joined.
func NewAxialTransformer(c AxialTransformerConfig) (*AxialTransformer, error) {
	c.ModelType = "axial_transformer"
	if c.IntermediateSize == 0 {
		c.IntermediateSize = c.HiddenSize
	}
	if c.Preset == "" {
		c.Preset = "tiny"
	}
	var p problems
	p.oneOf("task", c.Task, "image_density")
	p.size("vocab_size", c.VocabSize, maxSize)
	p.want(c.VocabSize != 1, "vocab_size", c.VocabSize, "at least 2 levels")
	for i, name := range []string{"height", "width", "channels"} {
		p.size(name, []int{c.Height, c.Width, c.Channels}[i], maxAxis)
	}
	p.oneOf("channels_as", c.ChannelsAs, "slices", "rows")
	p.want(c.NumClasses >= 0 && c.NumClasses <= maxSize, "num_classes", c.NumClasses, "0 (no classes) or more")
	p.size("hidden_size", c.HiddenSize, maxSize)
	p.size("intermediate_size", c.IntermediateSize, maxSize)
	p.want(c.NumAttentionHeads >= 1 && c.HiddenSize%max(c.NumAttentionHeads, 1) == 0, "num_attention_heads", c.NumAttentionHeads,
		fmt.Sprintf("a divisor of hidden_size (%d)", c.HiddenSize))
	p.oneOf("preset", c.Preset, "note", "repo", "tiny")
	preset := axialPresets[c.Preset]
	for i, n := range []**int{&c.EncoderLayers, &c.OuterLayers, &c.InnerLayers} {
		if *n == nil {
			*n = &preset[i]
		}
	}
	for i, name := range []string{"encoder_layers", "outer_layers"} {
		n := *[]*int{c.EncoderLayers, c.OuterLayers}[i]
		p.want(n >= 0 && n <= maxLayers && n%2 == 0, name, n, "an even number: rows and columns take turns")
	}
	p.want(*c.InnerLayers >= 1 && *c.InnerLayers <= maxLayers, "inner_layers", *c.InnerLayers, fmt.Sprintf("1 to %d", maxLayers))
	act, err := kernels.ParseActivation(c.HiddenAct)
	if err != nil {
		p.add(&config.FieldError{Path: "hidden_act", Value: c.HiddenAct, Want: err.Error()})
	}
	p.want(c.LayerNormEps > 0, "layer_norm_eps", c.LayerNormEps, "more than 0")
	p.dropout("hidden_dropout_prob", c.HiddenDropoutProb)
	p.residual(c.Residual, "")
	if max(c.Height, c.Width, c.Channels) <= maxAxis {
		p.want(c.Height*c.Width*c.Channels <= maxSize, "height", c.Height, fmt.Sprintf("no more than %d levels in an image", maxSize))
	}
	if err := p.err(); err != nil {
		return nil, err
	}
	c.Preset = ""
	m := &AxialTransformer{cfg: c, height: c.Height, width: c.Width, slices: c.Channels}
	if c.ChannelsAs == "rows" {
		m.stackRows()
	}
	row := attention.ImageRow{Height: m.height, Width: m.width}
	column := attention.ImageColumn{Height: m.height, Width: m.width}
	part := func(name, positions string, layers int, patterns ...attention.Pattern) stack {
		s := m.part(name, positions, act, layers)
		for l := range layers {
			s.mixers = append(s.mixers, attention.Plain{Of: patterns[l%len(patterns)]})
		}
		return s
	}
	m.encoder = part("encoder", "encoder.positions", *c.EncoderLayers, row, column)
	m.outer = part("outer", "decoder.positions", *c.OuterLayers, row, attention.Causal(column))
	m.inner = part("inner", "decoder.positions", *c.InnerLayers, attention.Causal(row))
	return m, nil
}

// maxAxis bounds height, width and slices, so that their product does not overflow.
const maxAxis = 1 << 20

// stackRows makes row r of channel k row r·C+k of one slice.
func (m *AxialTransformer) stackRows() {
	if m.slices == 1 {
		return
	}
	for r := range m.height {
		for k := range m.slices {
			for c := range m.width {
				m.order = append(m.order, int32((r*m.width+c)*m.slices+k))
			}
		}
	}
	m.height, m.slices = m.height*m.slices, 1
}

// part is one of the three stacks of layers. What they write to the stream is almost 0 at first, so that each is the identity.
func (m *AxialTransformer) part(name, positions string, act kernels.Activation, n int) stack {
	c := m.cfg
	return stack{
		Dims: Dims{Hidden: c.HiddenSize, Inner: c.IntermediateSize, Layers: n, Heads: c.NumAttentionHeads},
		names: names{layer: name + ".h.", positions: positions, norm1: "ln_1", attn: "attn", q: "attn.q_proj", k: "attn.k_proj", v: "attn.v_proj", out: "attn.out_proj",
			norm2: "ln_2", up: "mlp.fc_in", down: "mlp.fc_out"},
		act: act, eps: c.LayerNormEps, inOut: true, shape: []int{m.height, m.width}, residDropout: c.HiddenDropoutProb, reverse: c.Residual == "reversible",
		init: layers.VarianceScaling(1, true), last: layers.VarianceScaling(nearZero, true), tables: m.tables(),
	}
}

// nearZero is the variance, times the width, of what is to begin as nothing.
const nearZero = 1e-10

// tables are the initial values of embeddings.
func (m *AxialTransformer) tables() layers.Init {
	return layers.Normal(5 / math.Sqrt(float64(m.cfg.HiddenSize)))
}

// Type is "axial_transformer".
func (m *AxialTransformer) Type() string { return m.cfg.ModelType }

// Task is "image_density".
func (m *AxialTransformer) Task() string { return m.cfg.Task }

// Dims are the sizes; positions are the levels of an image.
func (m *AxialTransformer) Dims() Dims {
	c := m.cfg
	return Dims{Vocab: c.VocabSize, Hidden: c.HiddenSize, Inner: c.IntermediateSize, Layers: m.encoder.Layers + m.outer.Layers + m.inner.Layers,
		Heads: c.NumAttentionHeads, Positions: m.levels()}
}

// levels are those of an image.
func (m *AxialTransformer) levels() int { return m.height * m.width * m.slices }

// Images are those of the configuration; the ids are in raster order, whatever is generated first.
func (m *AxialTransformer) Images() Images {
	return Images{Height: m.cfg.Height, Width: m.cfg.Width, Channels: m.cfg.Channels, Order: "raster", Classes: m.cfg.NumClasses}
}

// Order are the places of the ids.
func (m *AxialTransformer) Order() []int {
	order := make([]int, m.levels())
	for i := range order {
		order[i] = i
	}
	return order
}

// Config is the resolved config.json.
func (m *AxialTransformer) Config() ([]byte, error) { return marshalConfig(m.cfg, nil) }

// Warnings is empty: what the model knows it does.
func (m *AxialTransformer) Warnings() []string { return nil }

// Forward adds the network to the graph: logits [B,T,K] of all levels, in the order of the ids. In training with more slices than one it takes a
// slice of each image: logits are [B,H·W,K], and Outputs.Slices says of which. More["slices"], int32 [B], chooses in place of the draw. There
// is no Hidden: the streams of the parts are of slices.
func (m *AxialTransformer) Forward(b *layers.Builder, in Inputs, layersPerBlock int) Outputs {
	if b.Err() != nil {
		return Outputs{}
	}
	if in.IDs == nil || in.IDs.Dims() != 2 || in.IDs.Shape()[1] != m.levels() {
		return Outputs{Logits: b.Failf("the model has images of %dx%dx%d levels: give data of that size", m.cfg.Height, m.cfg.Width, m.cfg.Channels)}
	}
	ids, batch := in.IDs, in.IDs.Shape()[0]
	if m.order != nil {
		ids = layers.TakeIDs(b, ids, m.constant(b, "axial.order", m.order))
	}
	which := in.More["slices"]
	some := m.slices > 1 && (which != nil || b.Training())
	switch {
	case some && which == nil:
		which = layers.DrawSlices(b.Scope("slices"), batch, m.slices)
	case !some:
		which = m.everySlice(b, batch)
	}
	logits := m.slice(b, ids, which, m.classVectors(b, in.More["class_labels"], which), layersPerBlock)
	if some {
		return Outputs{Logits: logits, Slices: which}
	}
	return Outputs{Logits: m.interleave(b, logits, batch)}
}

// classVectors are those [E,H·W,C] of the classes of images, labels [B], for slice which[e] of image e·B/E; nil if there are none.
func (m *AxialTransformer) classVectors(b *layers.Builder, labels, which *Node) *Node {
	if m.cfg.NumClasses == 0 || b.Err() != nil {
		return nil
	}
	table := b.Scope("classes").Param("weight", m.tables(), m.cfg.NumClasses, m.cfg.HiddenSize)
	if labels == nil {
		return nil
	}
	batch, e := labels.Shape()[0], which.Shape()[0]
	if each := e / batch; each > 1 {
		labels = layers.TakeIDs(b, layers.Reshape(b, labels, batch, 1), m.constant(b, fmt.Sprint("axial.class.", each), make([]int32, each)))
	}
	return ofClasses(b, table, layers.Reshape(b, labels, e), m.height*m.width)
}

// plus adds the vectors of classes, if there are any.
func plus(b *layers.Builder, x, class *Node) *Node {
	if class == nil {
		return x
	}
	return layers.Add(b, x, class)
}

// slice gives the logits [E,H·W,K] of slice which[e] of image e·B/E. class are vectors of classVectors.
func (m *AxialTransformer) slice(b *layers.Builder, ids, which, class *Node, layersPerBlock int) *Node {
	u := m.encode(b, ids, which, class, layersPerBlock)
	h := layers.Embedding(b.Scope("tokens"), layers.PickSlice(b, ids, which, m.slices), m.cfg.VocabSize, m.cfg.HiddenSize, m.tables())

	v := plus(b, layers.Add(b, m.outer.addAxes(b, h), u), class)
	v = m.shiftDown(b, m.outer.through(b, v, layersPerBlock))

	w := layers.Add(b, m.shiftRight(b, h), v)
	w = plus(b, layers.Add(b, m.inner.addAxes(b, w), u), class)
	w = m.inner.through(b, w, layersPerBlock)

	w = layers.LayerNorm(b.Scope("ln_f"), w, layers.NormConfig{Eps: m.cfg.LayerNormEps})
	return layers.Linear(b.Scope("head"), w, layers.LinearConfig{Out: m.cfg.VocabSize, InOut: true, Init: layers.VarianceScaling(nearZero, true)})
}

// encode is u [E,H·W,C]: what the slices before slice which[e] say of each pixel of it. A convolution of 3x3 reads their levels, from 0 to 1, and a
// plane for each slice that is 1 in the one that is asked for.
func (m *AxialTransformer) encode(b *layers.Builder, ids, which, class *Node, layersPerBlock int) *Node {
	planes := layers.SlicePlanes(b, ids, which, layers.PlanesConfig{Height: m.height, Width: m.width, Slices: m.slices, Levels: m.cfg.VocabSize})
	u := layers.Linear(b.Scope("encoder.conv"), planes, layers.LinearConfig{Out: m.cfg.HiddenSize, InOut: true, Init: layers.VarianceScaling(1, true)})
	return m.encoder.through(b, plus(b, m.encoder.addAxes(b, u), class), layersPerBlock)
}

// addAxes adds the vectors of the row and of the column of each pixel.
func (s *stack) addAxes(b *layers.Builder, x *Node) *Node {
	for axis := range s.shape {
		if b.Err() == nil {
			x = s.addAxis(b, x, axis, 0, s.shape[0]*s.shape[1])
		}
	}
	return x
}

// through runs the layers alone.
func (s *stack) through(b *layers.Builder, x *Node, layersPerBlock int) *Node {
	if s.reverse {
		return s.reversible(b, x, Inputs{}, memory{}, layersPerBlock)
	}
	for l := 0; l < s.Layers; {
		l = s.block(b, l, layersPerBlock, func(l int) { x = s.layer(b.Scope(fmt.Sprint(s.names.layer, l)), l, x, Inputs{}, memory{}) })
	}
	return x
}

// shiftDown moves rows down by one, so that a row knows those above it; the first row is 0.
func (m *AxialTransformer) shiftDown(b *layers.Builder, x *Node) *Node {
	return m.shift(b, x, "axial.down", func(p int) int { return max(p-m.width, -1) })
}

// shiftRight moves pixels right by one in their row; the first column is 0.
func (m *AxialTransformer) shiftRight(b *layers.Builder, x *Node) *Node {
	return m.shift(b, x, "axial.right", func(p int) int {
		if p%m.width == 0 {
			return -1
		}
		return p - 1
	})
}

func (m *AxialTransformer) shift(b *layers.Builder, x *Node, name string, from func(p int) int) *Node {
	index := make([]int32, m.height*m.width)
	for p := range index {
		index[p] = int32(from(p))
	}
	return layers.Gather(b, x, m.constant(b, name, index))
}

// everySlice names all slices of so many images.
func (m *AxialTransformer) everySlice(b *layers.Builder, batch int) *Node {
	which := make([]int32, batch*m.slices)
	for e := range which {
		which[e] = int32(e % m.slices)
	}
	return m.constant(b, fmt.Sprint("axial.slices.", batch), which)
}

// interleave brings logits [B·S,H·W,K] into the order of the ids, [B,T,K].
func (m *AxialTransformer) interleave(b *layers.Builder, logits *Node, batch int) *Node {
	if b.Err() != nil || m.slices == 1 && m.order == nil {
		return logits
	}
	pixels := m.height * m.width
	index := make([]int32, m.levels())
	for e := range index {
		if m.order != nil {
			index[m.order[e]] = int32(e)
		} else {
			index[e] = int32(e%m.slices*pixels + e/m.slices)
		}
	}
	return layers.Gather(b, layers.Reshape(b, logits, batch, m.levels(), m.cfg.VocabSize), m.constant(b, "axial.interleave", index))
}

func (m *AxialTransformer) constant(b *layers.Builder, name string, v []int32) *Node {
	return b.Const(name, tensor.New(tensor.WithShape(len(v)), tensor.WithBacking(v)))
}
