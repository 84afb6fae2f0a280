package models

import (
	"fmt"
	"math"

	"github.com/euryale-ml/euryale/internal/config"
	"github.com/euryale-ml/euryale/internal/kernels"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/layers/attention"
)

// ImageTransformerConfig is the Image Transformer for images of one size. JSON keys are Hugging Face's words where it has them.
type ImageTransformerConfig struct {
	ModelType         string            `json:"model_type"` // "image_transformer"
	Task              string            `json:"task"`       // "image_density"
	Height            int               `json:"height"`
	Width             int               `json:"width"`
	Channels          int               `json:"channels"`               // 1 or 3
	VocabSize         int               `json:"vocab_size"`             // K, the levels of a channel
	NumClasses        int               `json:"num_classes,omitempty"`  // of class_labels; 0: no classes
	NumMixtures       int               `json:"num_mixtures,omitempty"` // logistics that tell a pixel; 0: each level has a probability of its own
	HiddenSize        int               `json:"hidden_size"`            // even: half tells the row, half the column and the channel
	IntermediateSize  int               `json:"intermediate_size"`      // 0 = 4 hidden_size
	NumHiddenLayers   int               `json:"num_hidden_layers"`
	NumAttentionHeads int               `json:"num_attention_heads"`
	AttentionBias     bool              `json:"attention_bias"` // of the maps to queries, keys and values and back
	LayerNormEps      float64           `json:"layer_norm_eps"`
	HiddenDropoutProb float64           `json:"hidden_dropout_prob"` // on the embeddings and on what each part adds to the stream
	InitializerRange  float64           `json:"initializer_range"`   // standard deviation of the initial embeddings
	Norm              string            `json:"norm"`                // post: after each residual sum; pre: before each part of a layer, and after the last
	Residual          string            `json:"residual"`            // plain, reversible (with norm pre)
	Attention         []attention.Entry `json:"attention"`           // an entry a layer, of any system that may be causal; a shorter list repeats

	Encoder        *ImageEncoderConfig `json:"encoder,omitempty"`         // of super-resolution; nil: there is no smaller image
	CrossAttention []attention.Entry   `json:"cross_attention,omitempty"` // on what the encoder makes of it, an entry a layer; none: full
}

// ImageTransformer is the model:
//
//	x = level before (of its channel's table; start for the first) + [row of the place | column and channel of the place] + class
//	for each layer: x = norm(x + out(attention(x)));  x = norm(x + down(relu(up(x))))      (norm: pre has x + out(attention(norm(x))))
//	logits = x · head + bias
//
// With an encoder each layer also reads, between its two parts, what that makes of the same image in small, Inputs.More["low_ids"].
//
// Levels come in the order in which they are generated (Order): by rows, or where the attention is image2d by its blocks. Widths of image2d count
// channels, as the positions do. With num_mixtures a position is a pixel, reads the sum of its channels' vectors, and gives the numbers of a
// mixture. Inputs.More["class_labels"], int32 [B], is the class of each image, negative: none.
//
// Source: Parmar et al. 2018, arXiv 1802.05751.
// Differs: the shift runs along the order of generation, where the official code shifts within each block of the two-dimensional form;
// a mixture reads levels by tables, not by a map of their values, but the tables begin as such a map; embeddings are not multiplied by sqrt(C).
type ImageTransformer struct {
	cfg ImageTransformerConfig
	stack
}

var (
	_ Causal   = (*ImageTransformer)(nil)
	_ Mixture  = (*ImageTransformer)(nil)
	_ OfImages = (*ImageTransformer)(nil)
)

func newImageTransformer(raw []byte) (Model, error) {
	c := ImageTransformerConfig{Task: "image_density", Channels: 1, LayerNormEps: 1e-6, InitializerRange: 0.02, Norm: "post", Residual: "plain"}
	err := config.Decode(raw, &c)
	if config.IsSyntax(err) {
		return nil, err
	}
	m, check := NewImageTransformer(c)
	if err := config.Merge(err, check); err != nil {
		return nil, err
	}
	return m, nil
}

// NewImageTransformer builds the model.
//
// Errors: every fault as *config.FieldError, joined.
func NewImageTransformer(c ImageTransformerConfig) (*ImageTransformer, error) {
	c.ModelType = "image_transformer"
	if c.IntermediateSize == 0 {
		c.IntermediateSize = 4 * min(max(c.HiddenSize, 1), maxSize/4)
	}
	image, err := c.check()
	if err != nil {
		return nil, err
	}
	at := attention.Layer{Heads: c.NumAttentionHeads, Positions: len(image.order), Decoder: true, Height: c.Height, Width: image.width}
	mixers, external, err := mixersOf(c.Attention, c.NumHiddenLayers, at)
	if err == nil && external > 0 {
		err = &config.FieldError{Path: "attention[0]", Value: c.Attention[0], Want: "want attention without nodes of its own"}
	}
	if err == nil {
		image.order, image.blocks, err = orderOf(mixers, len(image.order))
	}
	if err != nil {
		return nil, err
	}
	classes := c.VocabSize
	if image.mixed {
		classes = image.mixture.Numbers()
	}
	small, cross, err := c.encoder()
	if err != nil {
		return nil, err
	}
	image.encoder = small
	m := &ImageTransformer{c, stack{
		Dims: Dims{Vocab: c.VocabSize + 1, Hidden: c.HiddenSize, Inner: c.IntermediateSize, Layers: c.NumHiddenLayers, Heads: c.NumAttentionHeads, Positions: len(image.order)},
		names: names{tokens: "image_transformer.embeddings.levels", positions: "image_transformer.embeddings", layer: "image_transformer.layers.",
			norm1: "attention.norm", attn: "attention", q: "attention.query", k: "attention.key", v: "attention.value", out: "attention.out",
			normCross: "cross.norm", crossAttn: "cross", crossQ: "cross.query", crossK: "cross.key", crossV: "cross.value", crossOut: "cross.out",
			norm2: "mlp.norm", up: "mlp.up", down: "mlp.down", head: "head"},
		act: kernels.ReLU, eps: c.LayerNormEps, post: true, reverse: c.Residual == "reversible", cross: cross, noQKV: !c.AttentionBias, noOut: !c.AttentionBias, untied: true, biased: true,
		init: layers.XavierUniform(), tables: layers.Normal(c.InitializerRange), position: "image", image: image, classes: classes, shifted: true,
		embedDropout: c.HiddenDropoutProb, residDropout: c.HiddenDropoutProb, mixers: mixers,
	}}
	if image.mixed {
		m.ofIDs = image.smooth(c.InitializerRange)
		if small != nil {
			small.ofIDs = small.image.smooth(c.InitializerRange)
		}
	}
	if c.Norm == "pre" {
		m.post, m.names.final = false, "image_transformer.norm"
		m.last = ofDepth(c.NumHiddenLayers)
	}
	return m, nil
}

// check lists the faults of the configuration but those of the attention, and says what images the model has.
func (c ImageTransformerConfig) check() (*imageOf, error) {
	var p problems
	p.oneOf("task", c.Task, "image_density")
	p.size("height", c.Height, maxSize)
	p.size("width", c.Width, maxSize)
	p.want(c.Channels == 1 || c.Channels == 3, "channels", c.Channels, "1 or 3")
	if c.Height >= 1 && c.Width >= 1 {
		p.want(c.Height <= maxPlaces/c.Width, "height", c.Height, fmt.Sprintf("height times width up to %d", maxPlaces))
	}
	p.want(c.VocabSize >= 2 && c.VocabSize <= 1<<16, "vocab_size", c.VocabSize, "2 to 65536 levels")
	p.want(c.NumClasses >= 0 && c.NumClasses <= maxSize, "num_classes", c.NumClasses, "0 (no classes) or more")
	p.want(c.NumMixtures >= 0 && c.NumMixtures <= 1<<16, "num_mixtures", c.NumMixtures, "0 (a probability for each level) to 65536")
	p.size("hidden_size", c.HiddenSize, maxSize)
	p.want(c.HiddenSize%2 == 0, "hidden_size", c.HiddenSize, "an even number: half of it tells the row, half the column")
	p.size("intermediate_size", c.IntermediateSize, maxSize)
	p.size("num_hidden_layers", c.NumHiddenLayers, maxLayers)
	p.size("num_attention_heads", c.NumAttentionHeads, maxSize)
	if c.HiddenSize >= 1 && c.NumAttentionHeads >= 1 {
		p.want(c.HiddenSize%c.NumAttentionHeads == 0, "num_attention_heads", c.NumAttentionHeads, fmt.Sprintf("a divisor of hidden_size (%d)", c.HiddenSize))
	}
	p.want(c.LayerNormEps > 0, "layer_norm_eps", c.LayerNormEps, "more than 0")
	p.dropout("hidden_dropout_prob", c.HiddenDropoutProb)
	p.want(c.InitializerRange > 0, "initializer_range", c.InitializerRange, "more than 0")
	p.oneOf("norm", c.Norm, "post", "pre")
	if c.Norm == "post" {
		p.residual(c.Residual, normAfter)
	} else {
		p.residual(c.Residual, "")
	}
	if err := p.err(); err != nil {
		return nil, err
	}
	i := &imageOf{height: c.Height, width: c.Width * c.Channels, channels: c.Channels, levels: c.VocabSize, classes: c.NumClasses, each: 1,
		classNames: "image_transformer.embeddings.classes"}
	if c.NumMixtures > 0 {
		i.mixed, i.width, i.each = true, c.Width, c.Channels
		i.mixture = layers.MixtureConfig{Mixtures: c.NumMixtures, Channels: c.Channels, Levels: c.VocabSize}
	}
	i.order = make([]int, i.height*i.width)
	return i, nil
}

// ofDepth are initial values of what writes to the stream of so many layers with norms before their parts.
func ofDepth(layersOf int) layers.Init {
	return divided(layers.XavierUniform(), math.Sqrt(2*float64(layersOf)))
}

// maxPlaces bounds the pixels of an image.
const maxPlaces = 1 << 24

// orderOf are the places of n positions in the order in which they are generated: that of the blocks of image2d, whose sizes it tells, else of
// the rows.
func orderOf(mixers []attention.Mixer, n int) (order []int, sizes [2]int, err error) {
	var blocks *attention.Image2DGenerated
	for l, m := range mixers {
		if p, ok := attention.Generated1D(m.Pattern()); ok && p.Query > n {
			return nil, sizes, &config.FieldError{Path: fmt.Sprintf("attention[%d].query_block", l), Value: p.Query, Want: fmt.Sprintf("want no more than an image has, %d", n)}
		}
		g, ok := attention.Generated(m.Pattern())
		if !ok {
			continue
		}
		if g.QueryHeight > g.Height || g.QueryWidth > g.Width {
			return nil, sizes, &config.FieldError{Path: fmt.Sprintf("attention[%d]", l), Value: g.String(), Want: fmt.Sprintf(
				"want query_height and query_width no larger than the image, %d x %d", g.Height, g.Width)}
		}
		if blocks != nil && (g.QueryHeight != blocks.QueryHeight || g.QueryWidth != blocks.QueryWidth) {
			return nil, sizes, &config.FieldError{Path: fmt.Sprintf("attention[%d]", l), Value: g.String(), Want: fmt.Sprintf(
				"want blocks of %d x %d, as a layer before has: the image is generated in their order", blocks.QueryHeight, blocks.QueryWidth)}
		}
		blocks = &g
	}
	order = make([]int, n)
	for t := range order {
		order[t] = t
	}
	if blocks == nil {
		return order, sizes, nil
	}
	if blocks.Height*blocks.Width != n {
		return nil, sizes, &config.FieldError{Path: "attention", Value: blocks.String(), Want: "want the height and width of the model's images, or none"}
	}
	for t := range order {
		order[t] = blocks.Place(t)
	}
	return order, [2]int{blocks.QueryHeight, blocks.QueryWidth}, nil
}

// Type is "image_transformer".
func (m *ImageTransformer) Type() string { return m.cfg.ModelType }

// Task is "image_density".
func (m *ImageTransformer) Task() string { return m.cfg.Task }

// Dims are the sizes; positions are levels, whatever number of them is read at once.
func (m *ImageTransformer) Dims() Dims {
	d := m.stack.Dims
	d.Vocab = m.cfg.VocabSize
	d.Positions *= m.image.each
	return d
}

// levels is how many levels an image has.
func (m *ImageTransformer) levels() int { return m.Dims().Positions }

// Mixture is the form of the logits with num_mixtures.
func (m *ImageTransformer) Mixture() (layers.MixtureConfig, bool) {
	return m.image.mixture, m.image.mixed
}

// Images are those of the model. Where the width of a block is no whole number of pixels no data have the order.
func (m *ImageTransformer) Images() Images {
	of := Images{Height: m.cfg.Height, Width: m.cfg.Width, Channels: m.cfg.Channels, Order: "raster", Classes: m.cfg.NumClasses}
	if e := m.cfg.Encoder; e != nil {
		of.LowHeight, of.LowWidth = e.Height, e.Width
	}
	h, w, pixel := m.image.blocks[0], m.image.blocks[1], m.cfg.Channels/m.image.each
	switch {
	case h > 0 && w%pixel == 0:
		of.Order = fmt.Sprintf("blocks(%d,%d)", h, w/pixel)
	case h > 0:
		of.Order = fmt.Sprintf("blocks of %d x %d channels, which data do not have: make query_width a multiple of %d", h, w, pixel)
	}
	return of
}

// Order are the places of the levels in the order in which they are generated, counted row by row and by channels within a pixel.
func (m *ImageTransformer) Order() []int {
	var order []int
	for _, place := range m.image.order {
		for c := range m.image.each {
			order = append(order, place*m.image.each+c)
		}
	}
	return order
}

// Config is the resolved config.json.
func (m *ImageTransformer) Config() ([]byte, error) { return marshalConfig(m.cfg, nil) }

// Warnings is empty: what the model knows it does.
func (m *ImageTransformer) Warnings() []string { return nil }

// Forward adds the network to the graph.
func (m *ImageTransformer) Forward(b *layers.Builder, in Inputs, layersPerBlock int) Outputs {
	if m.image.each > 1 { // of images there are all levels
		in.Lens = nil
	}
	x, hidden := m.run(b, in, m.encode(b, in, layersPerBlock), layersPerBlock)
	return Outputs{Logits: m.languageHead(b, x), Hidden: hidden}
}

func (m *ImageTransformer) causal() *stack { return &m.stack }
