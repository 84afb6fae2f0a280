package models

import (
	"encoding/json"
	"fmt"

	"github.com/euryale-ml/euryale/internal/config"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/layers/attention"
)

// GPTNeoConfig is the part of Hugging Face's GPTNeoConfig that changes the computation. Other keys are kept and written back.
type GPTNeoConfig struct {
	ModelType             string          `json:"model_type"`
	VocabSize             int             `json:"vocab_size"`
	MaxPositionEmbeddings int             `json:"max_position_embeddings"`
	HiddenSize            int             `json:"hidden_size"`
	NumLayers             int             `json:"num_layers"`
	NumHeads              int             `json:"num_heads"`
	AttentionTypes        json.RawMessage `json:"attention_types"` // [[["global", "local"], 12]]: kinds and how often they repeat
	IntermediateSize      *int            `json:"intermediate_size"`
	WindowSize            int             `json:"window_size"` // keys of a local layer, the query's own included
	ActivationFunction    string          `json:"activation_function"`
	ResidDropout          float64         `json:"resid_dropout"`
	EmbedDropout          float64         `json:"embed_dropout"`
	AttentionDropout      float64         `json:"attention_dropout"` // no effect, see Warnings
	LayerNormEpsilon      float64         `json:"layer_norm_epsilon"`
	InitializerRange      float64         `json:"initializer_range"`
	TieWordEmbeddings     bool            `json:"tie_word_embeddings"`
}

// GPTNeo is GPT-Neo: layers with dense and with local causal attention; scores are not scaled; queries, keys and values have no
// bias.
//
// Source: Black et al. 2021, GPT-Neo; names and details from transformers' GPTNeoForCausalLM.
// Differs: attention probabilities have no dropout.
type GPTNeo struct {
	cfg  GPTNeoConfig
	rest extra
	stack
}

var _ Causal = (*GPTNeo)(nil)

func newGPTNeo(raw []byte) (Model, error) {
	c := GPTNeoConfig{ModelType: "gpt_neo", VocabSize: 50257, MaxPositionEmbeddings: 2048, HiddenSize: 2048, NumLayers: 24, NumHeads: 16,
		AttentionTypes: json.RawMessage(`[[["global", "local"], 12]]`), WindowSize: 256, ActivationFunction: "gelu_new",
		LayerNormEpsilon: 1e-5, InitializerRange: 0.02, TieWordEmbeddings: true}
	rest, read := decodeHF(raw, &c)
	if config.IsSyntax(read) {
		return nil, read
	}
	inner := 4 * c.HiddenSize
	if c.IntermediateSize != nil {
		inner = *c.IntermediateSize
	}
	var p problems
	act := p.sizes(hfSizes{"vocab_size", c.VocabSize, "max_position_embeddings", c.MaxPositionEmbeddings, "hidden_size", c.HiddenSize,
		"num_layers", c.NumLayers, "num_heads", c.NumHeads, "intermediate_size", inner, "activation_function", c.ActivationFunction,
		"layer_norm_epsilon", c.LayerNormEpsilon})
	p.dropout("resid_dropout", c.ResidDropout)
	p.dropout("embed_dropout", c.EmbedDropout)
	p.want(c.InitializerRange > 0, "initializer_range", c.InitializerRange, "more than 0")
	p.want(c.WindowSize >= 1, "window_size", c.WindowSize, "at least 1")
	patterns, words, err := c.patterns()
	if p.add(err); err == nil {
		p.derived(rest, "attention_layers", words, "attention_types")
	}
	if err := config.Merge(read, p.err()); err != nil {
		return nil, err
	}
	scales := make([]float64, c.NumLayers)
	for l := range scales {
		scales[l] = 1
	}
	m := &GPTNeo{c, rest, stack{
		Dims: Dims{Vocab: c.VocabSize, Hidden: c.HiddenSize, Inner: inner, Layers: c.NumLayers, Heads: c.NumHeads, Positions: c.MaxPositionEmbeddings},
		names: names{tokens: "transformer.wte", positions: "transformer.wpe", layer: "transformer.h.", norm1: "ln_1",
			q: "attn.attention.q_proj", k: "attn.attention.k_proj", v: "attn.attention.v_proj", out: "attn.attention.out_proj",
			norm2: "ln_2", up: "mlp.c_fc", down: "mlp.c_proj", final: "transformer.ln_f", head: "lm_head"},
		act: act, eps: c.LayerNormEpsilon, position: "learned", typesToo: true, noQKV: true, untied: !c.TieWordEmbeddings,
		embedDropout: c.EmbedDropout, residDropout: c.ResidDropout, init: layers.Normal(c.InitializerRange),
		mixers: plain(patterns), scales: scales,
	}}
	return withHeadOf(&p, m, "GPTNeo", "GPTNeoForCausalLM", rest)
}

// patterns expands attention_types to one pattern a layer, and the word for it.
func (c GPTNeoConfig) patterns() (all []attention.Pattern, words []string, err error) {
	const want = `want pairs of kinds and a count, such as [[["global", "local"], 12]], that make num_layers (%d) layers`
	fault := &config.FieldError{Path: "attention_types", Value: c.AttentionTypes, Want: fmt.Sprintf(want, c.NumLayers)}
	var groups [][2]json.RawMessage
	if json.Unmarshal(c.AttentionTypes, &groups) != nil {
		return nil, nil, fault
	}
	for _, g := range groups {
		var kinds []string
		var times int
		if json.Unmarshal(g[0], &kinds) != nil || json.Unmarshal(g[1], &times) != nil {
			return nil, nil, fault
		}
		if len(kinds) == 0 || times < 1 || times > min(c.NumLayers, maxLayers)/len(kinds) {
			return nil, nil, fault
		}
		for range times {
			for _, kind := range kinds {
				words = append(words, kind)
				switch kind {
				case "global":
					all = append(all, attention.Causal(attention.Full{}))
				case "local":
					all = append(all, attention.Causal(attention.Band{Left: max(c.WindowSize, 1) - 1}))
				default:
					return nil, nil, fault
				}
			}
		}
	}
	if len(all) != c.NumLayers {
		return nil, nil, fault
	}
	return all, words, nil
}

// Type is "gpt_neo".
func (m *GPTNeo) Type() string { return "gpt_neo" }

// Task is "causal_lm".
func (m *GPTNeo) Task() string { return "causal_lm" }

// Dims are the sizes.
func (m *GPTNeo) Dims() Dims { return m.stack.Dims }

// Config is the resolved config.json, with the keys that were there before.
func (m *GPTNeo) Config() ([]byte, error) { return marshalConfig(m.cfg, m.rest) }

// Warnings tells of attention dropout, and of keys that are likely misspelt.
func (m *GPTNeo) Warnings() []string {
	return append(attentionDropout("attention_dropout", m.cfg.AttentionDropout), misspelled(&m.cfg, m.rest)...)
}

// Forward adds the network to the graph.
func (m *GPTNeo) Forward(b *layers.Builder, in Inputs, layersPerBlock int) Outputs {
	return m.forward(b, in, layersPerBlock)
}

func (m *GPTNeo) causal() *stack { return &m.stack }
