package golden

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"

	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/models"
)

// axialConfig describes the cases of the Axial Transformer.
type axialConfig struct {
	Batch, Height, Width, Channels, Levels int

	Hidden     int     `json:"hidden_size"`
	Heads      int     `json:"num_heads"`
	Factor     int     `json:"hdim_factor"`
	Encoder    int     `json:"encoder_layers"`
	Outer      int     `json:"outer_layers"`
	Inner      int     `json:"inner_layers"`
	Eps        float64 `json:"layer_norm_eps"`
	Activation string
	Norm       string
}

// axialNames are the names of the cases for ours: the whole of the first ones, of layers what follows the layer.
var axialNames = strings.NewReplacer("tokens.weight", "token_embedding", "encoder.conv.weight", "enc_conv_w", "encoder.conv.bias", "enc_conv_b",
	"encoder.positions.0.weight", "enc_row_pos", "encoder.positions.1.weight", "enc_col_pos",
	"decoder.positions.0.weight", "dec_row_pos", "decoder.positions.1.weight", "dec_col_pos",
	"ln_f.weight", "ln_out_gain", "ln_f.bias", "ln_out_bias", "head.weight", "w_logits", "head.bias", "b_logits",
	"encoder.h.", "enc", "outer.h.", "outer", "inner.h.", "inner", "ln_1.weight", "ln1_gain", "ln_1.bias", "ln1_bias", "ln_2.weight", "ln2_gain", "ln_2.bias", "ln2_bias",
	"attn.q_proj.weight", "w_q", "attn.q_proj.bias", "b_q", "attn.k_proj.weight", "w_k", "attn.k_proj.bias", "b_k",
	"attn.v_proj.weight", "w_v", "attn.v_proj.bias", "b_v", "attn.out_proj.weight", "w_o", "attn.out_proj.bias", "b_o",
	"mlp.fc_in.weight", "w_ffn1", "mlp.fc_in.bias", "b_ffn1", "mlp.fc_out.weight", "w_ffn2", "mlp.fc_out.bias", "b_ffn2")

// runAxialModel is the whole model: the loss of drawn slices with its gradients, and the logits of all of them.
func runAxialModel(c *Case, p Precision) ([]Result, error) {
	var s axialConfig
	if err := c.Decode("config", &s); err != nil {
		return nil, err
	}
	if s.Norm != "pre" {
		return nil, fmt.Errorf("config %s is not handled", c.Config)
	}
	raw, err := json.Marshal(map[string]any{"model_type": "axial_transformer", "vocab_size": s.Levels, "height": s.Height, "width": s.Width, "channels": s.Channels,
		"hidden_size": s.Hidden, "intermediate_size": s.Factor * s.Hidden, "num_attention_heads": s.Heads, "encoder_layers": s.Encoder, "outer_layers": s.Outer,
		"inner_layers": s.Inner, "hidden_act": s.Activation, "layer_norm_eps": s.Eps})
	if err != nil {
		return nil, err
	}
	m, err := models.New(raw)
	if err != nil {
		return nil, err
	}
	params, err := models.NewParams(m, p.Dtype(), 1)
	if err != nil {
		return nil, err
	}
	loaded := 0
	for _, w := range params.All() {
		t := c.Param(axialNames.Replace(w.Name))
		if t == nil {
			return nil, fmt.Errorf("no parameter for %s", w.Name)
		}
		value := tensor.New(tensor.WithShape(w.Value.Shape()...), tensor.WithBacking(t.Float64s()))
		if err := params.Load(w.Name, value); err != nil {
			return nil, err
		}
		loaded++
	}
	if all := len(c.Params()); loaded != all {
		return nil, fmt.Errorf("%d of %d parameters are used", loaded, all)
	}

	pixels := s.Height * s.Width
	graph := func(training bool) (*rig, models.Outputs, *Node) {
		r := &rig{c: c, p: p, b: layers.New(gorgonia.NewGraph(), params, layers.Options{Training: training})}
		r.only("images")
		ids := r.ints("images", int32s(c.In("images")), s.Batch, pixels*s.Channels)
		in := models.Inputs{IDs: ids}
		if training {
			in.More = map[string]*Node{"slices": r.ints("slice", int32s(c.Tensor("rand/slice")), s.Batch)}
		}
		return r, m.Forward(r.b, in, 0), ids
	}
	r, out, ids := graph(true)
	targets, logits := ids, out.Logits
	if out.Slices != nil {
		targets = layers.PickSlice(r.b, ids, out.Slices, s.Channels)
	}
	r.loss = layers.Mean(r.b, layers.CrossEntropyRows(r.b, logits, targets, 0))
	weights, nodes := r.b.Weights()
	for i, w := range weights {
		r.wrt = append(r.wrt, place{axialNames.Replace(w.Name), true, nodes[i], nil})
	}
	results, err := r.compare()
	if err != nil {
		return nil, err
	}

	r, out, ids = graph(false)
	bits := layers.Scale(r.b, layers.Mean(r.b, layers.CrossEntropyRows(r.b, out.Logits, ids, 0)), 1/math.Ln2)
	r.outAs("bits_per_dim_all_slices", bits, nil)
	var order []int // [B,P,S,K] among [B,S,P,K]
	for i := range s.Batch * pixels * s.Channels * s.Levels {
		level, slice, pixel, image := i%s.Levels, i/s.Levels%s.Channels, i/s.Levels/s.Channels%pixels, i/s.Levels/s.Channels/pixels
		order = append(order, ((image*s.Channels+slice)*pixels+pixel)*s.Levels+level)
	}
	r.outAs("logits", out.Logits, order)
	whole, err := r.compare()
	return append(results, whole...), err
}
