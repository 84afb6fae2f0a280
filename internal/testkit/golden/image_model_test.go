package golden

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/layers/attention"
	"github.com/euryale-ml/euryale/models"
)

// imageNames are the names of our model for those of the cases; of matrices that are stored the other way round, with a star.
var imageNames = strings.NewReplacer("row_pos", "image_transformer.embeddings.rows.weight", "column_channel_pos", "image_transformer.embeddings.columns.weight",
	"layer", "image_transformer.layers.", "w_q", "*attention.query.weight", "w_k", "*attention.key.weight", "w_v", "*attention.value.weight",
	"b_q", "attention.query.bias", "b_k", "attention.key.bias", "b_v", "attention.value.bias", "b_o", "attention.out.bias",
	"w_o", "*attention.out.weight", "ln1_gain", "attention.norm.weight", "ln1_bias", "attention.norm.bias", "ln2_gain", "mlp.norm.weight", "ln2_bias", "mlp.norm.bias",
	"w_ffn1", "*mlp.up.weight", "b_ffn1", "mlp.up.bias", "w_ffn2", "*mlp.down.weight", "b_ffn2", "mlp.down.bias", "w_logits", "*head.weight", "b_logits", "head.bias")

// imageTable is our table of levels, which has the tables of all channels and then the start.
const imageTable = "image_transformer.embeddings.levels.weight"

// runImageModel is a whole Image Transformer of the product, on levels in the order in which they are generated.
func runImageModel(c *Case, p Precision) ([]Result, error) {
	var s struct {
		imageConfig
		Hidden int `json:"hidden_size"`
		Inner  int `json:"intermediate_size"`
		Layers int `json:"num_layers"`
		Key    int `json:"key_size"`
		Value  int `json:"value_size"`
	}
	if err := c.Decode("config", &s); err != nil {
		return nil, err
	}
	if s.Activation != "relu" || !s.Causal || s.Key != s.Hidden || s.Value != s.Hidden {
		return nil, fmt.Errorf("config %s is not handled", c.Config)
	}
	entry := fmt.Sprintf(`{"type":"image1d","query_block":%d,"memory":%d}`, s.Query, s.Memory)
	if s.Local == "2d" {
		entry = fmt.Sprintf(`{"type":"image2d","query_height":%d,"query_width":%d,"memory_height":%d,"memory_width":%d}`, s.QueryHeight, s.QueryWidth, s.MemoryHeight, s.MemoryWidth)
	}
	var e attention.Entry
	if err := e.UnmarshalJSON([]byte(entry)); err != nil {
		return nil, err
	}
	m, err := models.NewImageTransformer(models.ImageTransformerConfig{Task: "image_density", Height: s.Height, Width: s.Width, Channels: s.Channels, VocabSize: s.Levels,
		HiddenSize: s.Hidden, IntermediateSize: s.Inner, NumHiddenLayers: s.Layers, NumAttentionHeads: s.Heads, AttentionBias: s.Bias, LayerNormEps: s.Eps,
		InitializerRange: 0.02, Norm: s.Norm, Attention: []attention.Entry{e}})
	if err != nil {
		return nil, err
	}
	params := layers.NewParams(p.Dtype())
	r := newRig(c, p)
	r.only("images")
	r.b = layers.New(r.b.Graph(), params, layers.Options{Training: true})
	levels, start := c.Param("level_embedding"), c.Param("start")
	if levels == nil || start == nil {
		return nil, fmt.Errorf("param/level_embedding or param/start is missing")
	}
	rows := s.Channels*s.Levels + 1
	r.fail(params.Load(imageTable, dense(&Tensor{Shape: []int{rows, s.Hidden}, Dtype: levels.Dtype, F: slices.Concat(levels.F, start.F)})))
	for _, name := range c.Params() {
		t, own := c.Param(name), imageNames.Replace(name)
		if name == "level_embedding" || name == "start" {
			continue
		}
		if strings.Contains(own, "*") {
			t, own = transposed(t), strings.Replace(own, "*", "", 1)
		}
		r.fail(params.Load(own, dense(t)))
	}
	images := c.In("images")
	batch, order := images.Shape[0], m.Order()
	n := len(order)
	ids, at := make([]int32, batch*n), make([]int, 0, batch*n*s.Levels)
	for k := range ids {
		from := k/n*n + order[k%n]
		ids[k] = int32(images.I[from])
		for v := range s.Levels {
			at = append(at, from*s.Levels+v)
		}
	}
	in := r.ints("ids", ids, batch, n)
	out := m.Forward(r.b, models.Inputs{IDs: in}, 0)
	if r.b.Err() != nil {
		return nil, r.b.Err()
	}
	r.outAs("logits", out.Logits, at)
	loss := layers.CrossEntropy(r.b, out.Logits, in, 0)
	r.out("bits_per_dim", layers.Scale(r.b, loss, 1/math.Ln2))
	if r.loss != nil {
		loss = layers.Add(r.b, r.loss, loss)
	}
	r.loss = loss
	for _, name := range c.Params() {
		r.wrt = append(r.wrt, imagePlace(r, c, name, rows))
	}
	return r.compare()
}

// imagePlace is where the gradient of a parameter of the case stands in ours.
func imagePlace(r *rig, c *Case, name string, rows int) place {
	own, shape, order := imageNames.Replace(name), slices.Clone(c.Param(name).Shape), []int(nil)
	size := 1
	for _, d := range shape {
		size *= d
	}
	switch {
	case name == "level_embedding" || name == "start":
		width := shape[len(shape)-1]
		own, shape = imageTable, []int{rows, width}
		first := 0
		if name == "start" {
			first = (rows - 1) * width
		}
		for k := range rows * width {
			if k -= first; k < 0 || k >= size {
				k = -1
			}
			order = append(order, k)
		}
	case strings.Contains(own, "*"):
		own, shape = strings.Replace(own, "*", "", 1), []int{shape[1], shape[0]}
		for k := range size {
			order = append(order, k%shape[1]*shape[0]+k/shape[1])
		}
	}
	return place{name, true, r.b.Param(own, nil, shape...), order}
}
