package models

import (
	"fmt"
	"math"

	"github.com/euryale-ml/euryale/internal/config"
	"github.com/euryale-ml/euryale/internal/kernels"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/layers/attention"
)

// GPT2Config is the part of Hugging Face's GPT2Config that changes the computation. Other keys are kept and written back.
type GPT2Config struct {
	ModelType            string  `json:"model_type"`
	VocabSize            int     `json:"vocab_size"`
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
	ScaleAttnWeights     bool    `json:"scale_attn_weights"`              // scores times 1/sqrt(D)
	ScaleAttnByInverseLI bool    `json:"scale_attn_by_inverse_layer_idx"` // and times 1/(layer+1)
	TieWordEmbeddings    bool    `json:"tie_word_embeddings"`
}

// GPT2 is GPT-2: learned positions, dense causal attention, tanh GELU, weights stored [in, out].
//
// Source: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", section 2.3; names and details from
// transformers' GPT2LMHeadModel.
// Differs: attention probabilities have no dropout.
type GPT2 struct {
	cfg  GPT2Config
	rest extra
	stack
}

var _ Causal = (*GPT2)(nil)

func newGPT2(raw []byte) (Model, error) {
	c := GPT2Config{ModelType: "gpt2", VocabSize: 50257, NPositions: 1024, NEmbd: 768, NLayer: 12, NHead: 12, ActivationFunction: "gelu_new",
		ResidPdrop: 0.1, EmbdPdrop: 0.1, AttnPdrop: 0.1, LayerNormEpsilon: 1e-5, InitializerRange: 0.02, ScaleAttnWeights: true, TieWordEmbeddings: true}
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
	if err := config.Merge(read, p.err()); err != nil {
		return nil, err
	}
	scales := make([]float64, c.NLayer)
	for l := range scales {
		scales[l] = 1
		if c.ScaleAttnWeights {
			scales[l] = 1 / math.Sqrt(float64(c.NEmbd/c.NHead))
		}
		if c.ScaleAttnByInverseLI {
			scales[l] /= float64(l + 1)
		}
	}
	patterns := make([]attention.Pattern, c.NLayer)
	for l := range patterns {
		patterns[l] = attention.Causal(attention.Full{})
	}
	m := &GPT2{c, rest, stack{
		Dims: Dims{Vocab: c.VocabSize, Hidden: c.NEmbd, Inner: inner, Layers: c.NLayer, Heads: c.NHead, Positions: c.NPositions},
		names: names{tokens: "transformer.wte", positions: "transformer.wpe", layer: "transformer.h.", norm1: "ln_1", qkv: "attn.c_attn",
			out: "attn.c_proj", norm2: "ln_2", up: "mlp.c_fc", down: "mlp.c_proj", final: "transformer.ln_f", head: "lm_head"},
		act: act, eps: c.LayerNormEpsilon, position: "learned", typesToo: true, inOut: true, untied: !c.TieWordEmbeddings,
		embedDropout: c.EmbdPdrop, residDropout: c.ResidPdrop,
		init: layers.Normal(c.InitializerRange), last: layers.Normal(c.InitializerRange / math.Sqrt(2*float64(c.NLayer))),
		mixers: plain(patterns), scales: scales,
	}}
	return withHeadOf(&p, m, "GPT2", "GPT2LMHeadModel", rest)
}

// hfSizes are the keys and values that every decoder of Hugging Face has, for their checks.
type hfSizes struct {
	vocabKey     string
	vocab        int
	positionsKey string
	positions    int
	hiddenKey    string
	hidden       int
	layersKey    string
	layers       int
	headsKey     string
	heads        int
	innerKey     string
	inner        int
	actKey, act  string
	epsKey       string
	eps          float64
}

// sizes checks them and reads the activation.
func (p *problems) sizes(s hfSizes) kernels.Activation {
	p.size(s.vocabKey, s.vocab, maxSize)
	p.size(s.positionsKey, s.positions, maxSize)
	p.size(s.hiddenKey, s.hidden, maxSize)
	p.size(s.layersKey, s.layers, maxLayers)
	p.size(s.innerKey, s.inner, maxSize)
	p.want(s.heads >= 1 && s.hidden%max(s.heads, 1) == 0, s.headsKey, s.heads, fmt.Sprintf("a divisor of %s (%d)", s.hiddenKey, s.hidden))
	p.want(s.eps > 0, s.epsKey, s.eps, "more than 0")
	act, err := kernels.ParseActivation(s.act)
	if err != nil {
		p.add(&config.FieldError{Path: s.actKey, Value: s.act, Want: err.Error()})
	}
	return act
}

func (p *problems) dropout(key string, v float64) {
	p.want(v >= 0 && v < 1, key, v, "from 0 to less than 1")
}

// attentionDropout warns where attention probabilities should have dropout.
func attentionDropout(key string, v float64) []string {
	if v == 0 {
		return nil
	}
	return []string{fmt.Sprintf("%s is %g: dropout of attention probabilities is not applied in training; set it to 0 to silence this", key, v)}
}

// Type is "gpt2".
func (m *GPT2) Type() string { return "gpt2" }

// Task is "causal_lm".
func (m *GPT2) Task() string { return "causal_lm" }

// Dims are the sizes.
func (m *GPT2) Dims() Dims { return m.stack.Dims }

// Config is the resolved config.json, with the keys that were there before.
func (m *GPT2) Config() ([]byte, error) { return marshalConfig(m.cfg, m.rest) }

// Warnings tells of attention dropout, and of keys that are likely misspelt.
func (m *GPT2) Warnings() []string {
	return append(attentionDropout("attn_pdrop", m.cfg.AttnPdrop), misspelled(&m.cfg, m.rest)...)
}

// Forward adds the network to the graph.
func (m *GPT2) Forward(b *layers.Builder, in Inputs, layersPerBlock int) Outputs {
	return m.forward(b, in, layersPerBlock)
}

func (m *GPT2) causal() *stack { return &m.stack }
