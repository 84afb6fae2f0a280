package models

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/euryale-ml/euryale/internal/config"
	"github.com/euryale-ml/euryale/internal/kernels"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/layers/attention"
)

// LongT5Config is the part of Hugging Face's LongT5Config that changes the computation. Other keys are kept and written back.
type LongT5Config struct {
	ModelType                    string   `json:"model_type"`
	Task                         string   `json:"task,omitempty"` // ours: seq2seq_lm
	VocabSize                    int      `json:"vocab_size"`
	DModel                       int      `json:"d_model"`
	DKV                          int      `json:"d_kv"` // D of a head
	DFF                          int      `json:"d_ff"`
	NumLayers                    int      `json:"num_layers"`         // of the encoder
	NumDecoderLayers             int      `json:"num_decoder_layers"` // 0: num_layers
	NumHeads                     int      `json:"num_heads"`
	RelativeAttentionNumBuckets  int      `json:"relative_attention_num_buckets"`
	RelativeAttentionMaxDistance int      `json:"relative_attention_max_distance"`
	DropoutRate                  float64  `json:"dropout_rate"`
	LayerNormEpsilon             float64  `json:"layer_norm_epsilon"`
	InitializerFactor            float64  `json:"initializer_factor"`
	FeedForwardProj              string   `json:"feed_forward_proj"`      // relu, gated-gelu, gated-silu, …
	EncoderAttentionType         string   `json:"encoder_attention_type"` // local, transient-global
	LocalRadius                  int      `json:"local_radius"`
	GlobalBlockSize              int      `json:"global_block_size"`
	DecoderStartTokenID          int      `json:"decoder_start_token_id"`
	PadTokenID                   int      `json:"pad_token_id"`
	EosTokenID                   tokenIDs `json:"eos_token_id"`
	TieWordEmbeddings            bool     `json:"tie_word_embeddings"`
	ScaleDecoderOutputs          *bool    `json:"scale_decoder_outputs,omitempty"` // the head reads the decoder's output times 1/sqrt(d_model); default: if it is tied
}

// LongT5 is T5 with a window, or a window and transient global tokens, in the encoder. The decoder is dense, and so is what it reads of
// the encoder. There are no positions but the biases by distance, and no limit of length.
//
// Source: Guo et al. 2021, arXiv 2112.07916; names and details from transformers' LongT5ForConditionalGeneration.
// Differs: no dropout of attention probabilities. A head that is not tied is one of its own, as in transformers 4, where 5 ties it and leaves out the scale.
type LongT5 struct {
	cfg  LongT5Config
	rest extra
	seq2seq
}

var _ Seq2Seq = (*LongT5)(nil)

func newLongT5(raw []byte) (Model, error) {
	c := LongT5Config{ModelType: "longt5", VocabSize: 32128, DModel: 512, DKV: 64, DFF: 2048, NumLayers: 6, NumHeads: 8,
		RelativeAttentionNumBuckets: 32, RelativeAttentionMaxDistance: 128, DropoutRate: 0.1, LayerNormEpsilon: 1e-6, InitializerFactor: 1, FeedForwardProj: "relu",
		EncoderAttentionType: "local", LocalRadius: 127, GlobalBlockSize: 16, EosTokenID: tokenIDs{1}, TieWordEmbeddings: true}
	rest, read := decodeHF(raw, &c)
	if config.IsSyntax(read) {
		return nil, read
	}
	if c.NumDecoderLayers == 0 {
		c.NumDecoderLayers = c.NumLayers
	}
	var p problems
	var architectures []string
	p.key(rest, "architectures", &architectures)
	if len(architectures) > 0 {
		p.oneOf("architectures", architectures[0], "LongT5ForConditionalGeneration")
	}
	if c.Task != "" {
		p.oneOf("task", c.Task, "seq2seq_lm")
	}
	p.size("vocab_size", c.VocabSize, maxSize)
	p.size("d_model", c.DModel, maxSize)
	p.size("d_kv", c.DKV, maxSize)
	p.size("d_ff", c.DFF, maxSize)
	p.size("num_layers", c.NumLayers, maxLayers)
	p.size("num_decoder_layers", c.NumDecoderLayers, maxLayers)
	p.size("num_heads", c.NumHeads, maxSize)
	p.want(c.NumHeads <= maxSize/max(c.DKV, 1), "num_heads", c.NumHeads, fmt.Sprintf("at most %d, with d_kv (%d)", maxSize/max(c.DKV, 1), c.DKV))
	p.want(c.RelativeAttentionNumBuckets >= 4 && c.RelativeAttentionNumBuckets <= maxSize, "relative_attention_num_buckets", c.RelativeAttentionNumBuckets, "at least 4")
	p.want(c.RelativeAttentionMaxDistance > c.RelativeAttentionNumBuckets/2, "relative_attention_max_distance", c.RelativeAttentionMaxDistance,
		fmt.Sprintf("more than half of relative_attention_num_buckets (%d)", c.RelativeAttentionNumBuckets))
	p.dropout("dropout_rate", c.DropoutRate)
	p.want(c.LayerNormEpsilon > 0, "layer_norm_epsilon", c.LayerNormEpsilon, "more than 0")
	p.want(c.InitializerFactor > 0, "initializer_factor", c.InitializerFactor, "more than 0")
	p.oneOf("encoder_attention_type", c.EncoderAttentionType, "local", "transient-global")
	p.want(c.LocalRadius >= 0 && c.LocalRadius <= maxSize, "local_radius", c.LocalRadius, fmt.Sprintf("0 to %d", maxSize))
	p.size("global_block_size", c.GlobalBlockSize, maxSize)
	act, gated := c.activation(&p)
	p.derived(rest, "is_gated_act", gated, "feed_forward_proj")
	p.derived(rest, "dense_act_fn", c.actName(), "feed_forward_proj")
	m := &LongT5{rest: rest}
	m.special = p.special(c.VocabSize, c.DecoderStartTokenID, c.PadTokenID, c.EosTokenID)
	if err := config.Merge(read, p.err()); err != nil {
		return nil, err
	}
	m.cfg = c

	local := c.EncoderAttentionType == "local"
	attn := "layer.0.TransientGlobalSelfAttention"
	if local {
		attn = "layer.0.LocalSelfAttention"
	}
	m.encoder = c.half("encoder", attn, "layer.1", c.NumLayers, act, gated)
	m.decoder = c.half("decoder", "layer.0.SelfAttention", "layer.2", c.NumDecoderLayers, act, gated)
	labels := attention.T5Labels{Bidirectional: true, Buckets: c.RelativeAttentionNumBuckets, MaxDistance: c.RelativeAttentionMaxDistance}
	m.encoder.relative, m.decoder.relative = labels, attention.T5Labels{Buckets: labels.Buckets, MaxDistance: labels.MaxDistance}
	window := attention.TransientGlobal{Radius: c.LocalRadius, Block: c.GlobalBlockSize, Labels: labels, Eps: c.LayerNormEpsilon}
	for range c.NumLayers {
		if local {
			m.encoder.mixers = append(m.encoder.mixers, attention.Plain{Of: window.Pattern()})
		} else {
			m.encoder.mixers = append(m.encoder.mixers, window)
		}
	}
	m.decoder.mixers = plain(slices.Repeat([]attention.Pattern{attention.Causal(attention.Full{})}, c.NumDecoderLayers))
	m.decoder.cross = slices.Repeat([]attention.Pattern{attention.Full{}}, c.NumDecoderLayers)
	if scaled := c.ScaleDecoderOutputs; scaled == nil && c.TieWordEmbeddings || scaled != nil && *scaled {
		m.headScale = 1 / math.Sqrt(float64(c.DModel))
	}
	return m, nil
}

// activation is that of the feed-forward part, and whether it has a gate.
func (c LongT5Config) activation(p *problems) (kernels.Activation, bool) {
	gated := strings.HasPrefix(c.FeedForwardProj, "gated-")
	act, err := kernels.ParseActivation(c.actName())
	if err != nil {
		p.add(&config.FieldError{Path: "feed_forward_proj", Value: c.FeedForwardProj, Want: "want an activation such as relu, or gated- and one: " + err.Error()})
	}
	return act, gated
}

// actName is the activation's.
func (c LongT5Config) actName() string {
	name, gated := strings.CutPrefix(c.FeedForwardProj, "gated-")
	if gated && name == "gelu" {
		return "gelu_new" // as T5 1.1 has it
	}
	return name
}

// half is the encoder or the decoder without its attention.
func (c LongT5Config) half(name, attn, feed string, n int, act kernels.Activation, gated bool) stack {
	factor := func(std float64) layers.Init { return layers.Normal(c.InitializerFactor * std) }
	s := stack{
		Dims: Dims{Vocab: c.VocabSize, Hidden: c.DModel, Inner: c.DFF, Layers: n, Heads: c.NumHeads},
		names: names{tokens: "shared", layer: name + ".block.", norm1: "layer.0.layer_norm", attn: attn, q: attn + ".q", k: attn + ".k", v: attn + ".v",
			out: attn + ".o", relative: attn + ".relative_attention_bias",
			normCross: "layer.1.layer_norm", crossAttn: "layer.1.EncDecAttention", crossQ: "layer.1.EncDecAttention.q", crossK: "layer.1.EncDecAttention.k",
			crossV: "layer.1.EncDecAttention.v", crossOut: "layer.1.EncDecAttention.o",
			norm2: feed + ".layer_norm", up: feed + ".DenseReluDense.wi", down: feed + ".DenseReluDense.wo", final: name + ".final_layer_norm", head: "lm_head"},
		act: act, eps: c.LayerNormEpsilon, rms: true, size: c.DKV, init: factor(1 / math.Sqrt(float64(c.DModel))), last: factor(1 / math.Sqrt(float64(c.DFF))),
		tables: factor(1), noQKV: true, noOut: true, noFeed: true, untied: !c.TieWordEmbeddings, position: "relative", scales: slices.Repeat([]float64{1}, n),
		embedDropout: c.DropoutRate, residDropout: c.DropoutRate, innerDropout: c.DropoutRate, finalDropout: c.DropoutRate,
	}
	if gated {
		s.names.up, s.names.gate = feed+".DenseReluDense.wi_0", feed+".DenseReluDense.wi_1"
	}
	return s
}

// Type is "longt5".
func (m *LongT5) Type() string { return "longt5" }

// Task is "seq2seq_lm".
func (m *LongT5) Task() string { return "seq2seq_lm" }

// local is the name of a weight of a file: of the copies of the shared table that older files hold that of the table.
func (m *LongT5) local(name string) string {
	if name == "encoder.embed_tokens.weight" || name == "decoder.embed_tokens.weight" || name == "lm_head.weight" && m.cfg.TieWordEmbeddings {
		return "shared.weight"
	}
	return name
}

// Config is the resolved config.json, with the keys that were there before.
func (m *LongT5) Config() ([]byte, error) { return marshalConfig(m.cfg, m.rest) }

// Warnings tells of dropout that is not done, and of keys that are likely misspelt.
func (m *LongT5) Warnings() []string {
	return append(attentionDropout("dropout_rate", m.cfg.DropoutRate), misspelled(&m.cfg, m.rest)...)
}

// Forward adds the network to the graph.
func (m *LongT5) Forward(b *layers.Builder, in Inputs, layersPerBlock int) Outputs {
	return m.forward(b, in, layersPerBlock)
}
