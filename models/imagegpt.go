package models

import (
	"math"

	"github.com/euryale-ml/euryale/internal/config"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/layers/attention"
)

// ImageGPTConfig is the part of Hugging Face's ImageGPTConfig that changes the computation, and the task. Other keys are kept and written back.
type ImageGPTConfig struct {
	ModelType            string  `json:"model_type"`
	Task                 string  `json:"task,omitempty"` // image_density, or causal_lm (the default): as Hugging Face's, ids begin with the start token
	VocabSize            int     `json:"vocab_size"`     // K+1: the levels, and behind them the start token
	NPositions           int     `json:"n_positions"`
	NEmbd                int     `json:"n_embd"`
	NLayer               int     `json:"n_layer"`
	NHead                int     `json:"n_head"`
	NInner               *int    `json:"n_inner"` // null: 4 n_embd
	ActivationFunction   string  `json:"activation_function"`
	ResidPdrop           float64 `json:"resid_pdrop"`
	EmbdPdrop            float64 `json:"embd_pdrop"`
	AttnPdrop            float64 `json:"attn_pdrop"` // no effect, see Warnings
	LayerNormEpsilon     float64 `json:"layer_norm_epsilon"`
	InitializerRange     float64 `json:"initializer_range"`
	ScaleAttnWeights     bool    `json:"scale_attn_weights"`
	ScaleAttnByInverseLI bool    `json:"scale_attn_by_inverse_layer_idx"`
	TieWordEmbeddings    bool    `json:"tie_word_embeddings"`
}

// ImageGPT is a dense decoder over the levels of images: GPT-2 with RMSNorm, x σ(1.702 x) and a head of its own over the K levels.
//
// Source: Chen et al. 2020, "Generative Pretraining from Pixels"; names and details from transformers' ImageGPTForCausalImageModeling.
// Differs: attention probabilities have no dropout; levels need not be clusters of colours.
type ImageGPT struct {
	cfg  ImageGPTConfig
	rest extra
	stack
}

var _ Causal = (*ImageGPT)(nil)

func newImageGPT(raw []byte) (Model, error) {
	c := ImageGPTConfig{ModelType: "imagegpt", VocabSize: 513, NPositions: 1024, NEmbd: 512, NLayer: 24, NHead: 8, ActivationFunction: "quick_gelu",
		ResidPdrop: 0.1, EmbdPdrop: 0.1, AttnPdrop: 0.1, LayerNormEpsilon: 1e-5, InitializerRange: 0.02, ScaleAttnWeights: true}
	rest, read := decodeHF(raw, &c)
	if config.IsSyntax(read) {
		return nil, read
	}
	inner := 4 * c.NEmbd
	if c.NInner != nil {
		inner = *c.NInner
	}
	var p problems
	act := p.sizes(hfSizes{"vocab_size", c.VocabSize, "n_positions", c.NPositions, "n_embd", c.NEmbd, "n_layer", c.NLayer, "n_head", c.NHead,
		"n_inner", inner, "activation_function", c.ActivationFunction, "layer_norm_epsilon", c.LayerNormEpsilon})
	p.dropout("resid_pdrop", c.ResidPdrop)
	p.dropout("embd_pdrop", c.EmbdPdrop)
	p.want(c.InitializerRange > 0, "initializer_range", c.InitializerRange, "more than 0")
	p.want(c.VocabSize >= 3, "vocab_size", c.VocabSize, "at least 3: two levels and the start token")
	p.want(!c.TieWordEmbeddings, "tie_word_embeddings", c.TieWordEmbeddings, "false: the head has no row for the start token")
	if c.Task != "" {
		p.oneOf("task", c.Task, "image_density", "causal_lm")
	}
	if err := config.Merge(read, p.err()); err != nil {
		return nil, err
	}
	scales := make([]float64, c.NLayer)
	patterns := make([]attention.Pattern, c.NLayer)
	for l := range scales {
		patterns[l] = attention.Causal(attention.Full{})
		scales[l] = 1
		if c.ScaleAttnWeights {
			scales[l] = 1 / math.Sqrt(float64(c.NEmbd/c.NHead))
		}
		if c.ScaleAttnByInverseLI {
			scales[l] /= float64(l + 1)
		}
	}
	m := &ImageGPT{c, rest, stack{
		Dims: Dims{Vocab: c.VocabSize, Hidden: c.NEmbd, Inner: inner, Layers: c.NLayer, Heads: c.NHead, Positions: c.NPositions},
		names: names{tokens: "transformer.wte", positions: "transformer.wpe", layer: "transformer.h.", norm1: "ln_1", qkv: "attn.c_attn",
			out: "attn.c_proj", norm2: "ln_2", up: "mlp.c_fc", down: "mlp.c_proj", final: "transformer.ln_f", head: "lm_head"},
		act: act, eps: c.LayerNormEpsilon, rms: true, position: "learned", typesToo: true, inOut: true, untied: true,
		classes: c.VocabSize - 1, shifted: c.Task == "image_density",
		embedDropout: c.EmbdPdrop, residDropout: c.ResidPdrop,
		init: layers.Normal(c.InitializerRange), last: layers.Normal(c.InitializerRange / math.Sqrt(2*float64(c.NLayer))),
		mixers: plain(patterns), scales: scales,
	}}
	if c.Task != "" {
		return m, nil
	}
	return withHeadOf(&p, m, "ImageGPT", "ImageGPTForCausalImageModeling", rest)
}

// Type is "imagegpt".
func (m *ImageGPT) Type() string { return "imagegpt" }

// Task is image_density or causal_lm.
func (m *ImageGPT) Task() string {
	if m.shifted {
		return m.cfg.Task
	}
	return "causal_lm"
}

// Dims are the sizes; of image_density the ids are the levels, without the start token.
func (m *ImageGPT) Dims() Dims { return m.dims() }

// Config is the resolved config.json, with the keys that were there before.
func (m *ImageGPT) Config() ([]byte, error) { return marshalConfig(m.cfg, m.rest) }

// Warnings tells of attention dropout, and of keys that are likely misspelt.
func (m *ImageGPT) Warnings() []string {
	return append(attentionDropout("attn_pdrop", m.cfg.AttnPdrop), misspelled(&m.cfg, m.rest)...)
}

// Forward adds the network to the graph.
func (m *ImageGPT) Forward(b *layers.Builder, in Inputs, layersPerBlock int) Outputs {
	return m.forward(b, in, layersPerBlock)
}

func (m *ImageGPT) causal() *stack { return &m.stack }
