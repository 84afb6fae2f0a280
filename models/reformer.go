package models

import (
	"encoding/json"
	"fmt"
	"math/bits"
	"slices"
	"strings"

	"github.com/euryale-ml/euryale/internal/config"
	"github.com/euryale-ml/euryale/internal/kernels"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/layers/attention"
)

// ReformerConfig is the part of Hugging Face's ReformerConfig that changes the computation. Other keys are kept and written back.
type ReformerConfig struct {
	ModelType                  string    `json:"model_type"`
	Task                       string    `json:"task,omitempty"` // ours; without it the head is that of architectures
	VocabSize                  int       `json:"vocab_size"`
	HiddenSize                 int       `json:"hidden_size"` // C, of each of the two streams
	NumAttentionHeads          int       `json:"num_attention_heads"`
	AttentionHeadSize          int       `json:"attention_head_size"` // D
	FeedForwardSize            int       `json:"feed_forward_size"`
	AttnLayers                 []string  `json:"attn_layers"` // lsh or local, of each layer
	IsDecoder                  bool      `json:"is_decoder"`  // causal
	HiddenAct                  string    `json:"hidden_act"`
	HiddenDropoutProb          float64   `json:"hidden_dropout_prob"`
	ClassifierDropout          *float64  `json:"classifier_dropout"` // null: hidden_dropout_prob
	LayerNormEps               float64   `json:"layer_norm_eps"`
	InitializerRange           float64   `json:"initializer_range"`
	MaxPositionEmbeddings      int       `json:"max_position_embeddings"`
	AxialPosEmbds              bool      `json:"axial_pos_embds"`
	AxialPosShape              []int     `json:"axial_pos_shape"`
	AxialPosEmbdsDim           []int     `json:"axial_pos_embds_dim"`
	AxialNormStd               float64   `json:"axial_norm_std"`
	LSHAttnChunkLength         int       `json:"lsh_attn_chunk_length"`
	LSHNumChunksBefore         int       `json:"lsh_num_chunks_before"`
	LSHNumChunksAfter          int       `json:"lsh_num_chunks_after"`
	LSHAttentionProbsDropout   float64   `json:"lsh_attention_probs_dropout_prob"` // no effect, see Warnings
	NumHashes                  int       `json:"num_hashes"`
	NumBuckets                 bucketsOf `json:"num_buckets"` // a number or its factors; null: that of sequences of max_position_embeddings
	HashSeed                   *int64    `json:"hash_seed"`   // the same rotations in every step
	LocalAttnChunkLength       int       `json:"local_attn_chunk_length"`
	LocalNumChunksBefore       int       `json:"local_num_chunks_before"`
	LocalNumChunksAfter        int       `json:"local_num_chunks_after"`
	LocalAttentionProbsDropout float64   `json:"local_attention_probs_dropout_prob"` // no effect, see Warnings
	PadTokenID                 int       `json:"pad_token_id"`
	TieWordEmbeddings          bool      `json:"tie_word_embeddings"`     // only false
	ChunkSizeFeedForward       int       `json:"chunk_size_feed_forward"` // rows of the feed-forward part at a time; 0: all
}

// bucketsOf are the factors of a number of buckets.
type bucketsOf []int

func (n *bucketsOf) UnmarshalJSON(raw []byte) error {
	var one int
	if json.Unmarshal(raw, &one) == nil {
		*n = bucketsOf{one}
		return nil
	}
	var list []int
	if json.Unmarshal(raw, &list) != nil {
		return fmt.Errorf("want an even number, or a list of its even factors")
	}
	*n = list
	return nil
}

func (n bucketsOf) MarshalJSON() ([]byte, error) {
	if len(n) == 1 {
		return json.Marshal(n[0])
	}
	return json.Marshal([]int(n))
}

// Reformer is the model, with two reversible streams:
//
//	y1 = y2 = tokens + [axial_1 | axial_2];  for each layer: y1 = y1 + out(attention(norm(y2))), y2 = y2 + down(act(up(norm(y1))))
//	y = norm([y1 | y2])
//
// with attention by hashing (attention.LSH) or in chunks in the layers' order. What comes of the streams has the width 2·hidden_size.
// Inputs.More["rotations.N"], [H,R,C,D], takes the place of the draws of the layer of hashing number N. Memory for activations does not grow with
// depth.
//
// Source: Kitaev, Kaiser, Levskaya 2020, arXiv 2001.04451; names and details from transformers' ReformerModelWithLMHead and its like: a pair that
// several rounds find counts several times, chunks wrap round, rounds run into each other, padding reads, sequences are padded to whole chunks.
// Differs: num_buckets null means the number for max_position_embeddings, not for the first sequence that comes; training takes sequences of any
// length; where all rounds together have fewer chunks than a query of a layer of hashing looks at, a chunk counts once; attention probabilities have no dropout, and no whole channels of axial positions are dropped.
type Reformer struct {
	cfg  ReformerConfig
	rest extra
	encoderFamily
	hashed attention.LSH
}

// ReformerLM is the causal language model.
type ReformerLM struct{ *Reformer }

var (
	_ Model  = (*Reformer)(nil)
	_ Causal = ReformerLM{}
)

func (m ReformerLM) causal() *stack { return &m.stack }

func newReformer(raw []byte) (Model, error) {
	c := ReformerConfig{ModelType: "reformer", VocabSize: 320, HiddenSize: 256, NumAttentionHeads: 12, AttentionHeadSize: 64, FeedForwardSize: 512,
		AttnLayers: []string{"local", "lsh", "local", "lsh", "local", "lsh"}, HiddenAct: "relu", HiddenDropoutProb: 0.05, LayerNormEps: 1e-12,
		InitializerRange: 0.02, MaxPositionEmbeddings: 4096, AxialPosEmbds: true, AxialPosShape: []int{64, 64}, AxialPosEmbdsDim: []int{64, 192},
		AxialNormStd: 1, LSHAttnChunkLength: 64, LSHNumChunksBefore: 1, NumHashes: 1, LocalAttnChunkLength: 64, LocalNumChunksBefore: 1,
		LocalAttentionProbsDropout: 0.05}
	rest, read := decodeHF(raw, &c)
	if config.IsSyntax(read) {
		return nil, read
	}
	var p problems
	task, labels := c.task(&p, rest)
	act := c.check(&p)
	p.derived(rest, "num_hidden_layers", len(c.AttnLayers), "attn_layers")
	if err := config.Merge(read, p.err()); err != nil {
		return nil, err
	}
	if c.NumBuckets == nil {
		c.NumBuckets = c.buckets()
	}
	m := &Reformer{cfg: c, rest: rest}
	m.hashed = attention.LSH{Chunk: c.LSHAttnChunkLength, Hashes: c.NumHashes, Factors: c.NumBuckets, Before: c.LSHNumChunksBefore, After: c.LSHNumChunksAfter,
		Dup: attention.DupCount, Wrap: attention.WrapAcross, Causal: c.IsDecoder, PaddingReads: true, Fixed: c.HashSeed != nil}
	depth := len(c.AttnLayers)
	m.encoderFamily = encoderFamily{base: "reformer.", head: head{task: task, labels: labels},
		stack: stack{Dims: Dims{Vocab: c.VocabSize, Hidden: c.HiddenSize, Inner: c.FeedForwardSize, Layers: depth, Heads: c.NumAttentionHeads,
			Positions: c.MaxPositionEmbeddings, Labels: labels}, act: act, eps: c.LayerNormEps, size: c.AttentionHeadSize,
			init: layers.Normal(c.InitializerRange), reverse: true, residDropout: c.HiddenDropoutProb, embedDropout: c.HiddenDropoutProb}}
	for _, kind := range c.AttnLayers {
		m.mixers = append(m.mixers, m.mixer(kind, c.MaxPositionEmbeddings))
	}
	if task == "causal_lm" {
		return ReformerLM{m}, nil
	}
	return m, nil
}

// task is the head, see hfTask.
func (c *ReformerConfig) task(p *problems, rest extra) (string, int) {
	const language = "ReformerModelWithLMHead"
	var architectures []string
	p.key(rest, "architectures", &architectures)
	task := c.Task
	if task == "" && (len(architectures) == 0 && c.IsDecoder || len(architectures) > 0 && architectures[0] == language) {
		task = "causal_lm"
	}
	if task == "causal_lm" {
		rest["architectures"], _ = json.Marshal([]string{language})
		p.want(c.IsDecoder, "is_decoder", c.IsDecoder, "true: a causal language model reads earlier tokens alone")
		return task, 0
	}
	task, labels := p.hfTask("Reformer", c.Task, rest)
	p.want(task != "token_classification", "task", task, "causal_lm, masked_lm, sequence_classification, regression or question_answering: this family has no other heads")
	p.want(task != "masked_lm" || !c.IsDecoder, "is_decoder", c.IsDecoder, "false: masked tokens are told from both sides")
	return task, labels
}

// check checks the values.
func (c *ReformerConfig) check(p *problems) kernels.Activation {
	p.size("vocab_size", c.VocabSize, maxSize)
	p.size("hidden_size", c.HiddenSize, maxSize/2)
	p.size("num_attention_heads", c.NumAttentionHeads, maxSize)
	p.size("attention_head_size", c.AttentionHeadSize, maxSize)
	p.size("feed_forward_size", c.FeedForwardSize, maxSize)
	p.size("max_position_embeddings", c.MaxPositionEmbeddings, maxSize)
	p.want(len(c.AttnLayers) >= 1 && len(c.AttnLayers) <= maxLayers, "attn_layers", c.AttnLayers, `a list with "lsh" or "local" for each layer`)
	for l, kind := range c.AttnLayers {
		p.oneOf(fmt.Sprintf("attn_layers[%d]", l), kind, "lsh", "local")
	}
	act, err := kernels.ParseActivation(c.HiddenAct)
	if err != nil {
		p.add(&config.FieldError{Path: "hidden_act", Value: c.HiddenAct, Want: err.Error()})
	}
	p.dropout("hidden_dropout_prob", c.HiddenDropoutProb)
	if c.ClassifierDropout != nil {
		p.dropout("classifier_dropout", *c.ClassifierDropout)
	}
	p.want(c.LayerNormEps > 0, "layer_norm_eps", c.LayerNormEps, "more than 0")
	p.want(c.InitializerRange > 0, "initializer_range", c.InitializerRange, "more than 0")
	if c.AxialPosEmbds {
		c.checkAxial(p)
	}
	p.size("lsh_attn_chunk_length", c.LSHAttnChunkLength, maxSize)
	p.size("local_attn_chunk_length", c.LocalAttnChunkLength, maxSize)
	p.size("num_hashes", c.NumHashes, maxHashes)
	for _, n := range []struct {
		key   string
		value int
	}{{"lsh_num_chunks_before", c.LSHNumChunksBefore}, {"lsh_num_chunks_after", c.LSHNumChunksAfter}, {"local_num_chunks_before", c.LocalNumChunksBefore},
		{"local_num_chunks_after", c.LocalNumChunksAfter}, {"chunk_size_feed_forward", c.ChunkSizeFeedForward}} {
		p.want(n.value >= 0 && n.value <= maxSize, n.key, n.value, fmt.Sprintf("0 to %d", maxSize))
	}
	buckets := 1
	for _, f := range c.NumBuckets {
		ok := f >= 2 && f%2 == 0 && f <= maxBuckets/buckets
		p.want(ok, "num_buckets", c.NumBuckets, fmt.Sprintf("an even number up to %d, or its even factors", maxBuckets))
		if !ok {
			break
		}
		buckets *= f
	}
	p.want(c.PadTokenID >= 0 && c.PadTokenID < max(c.VocabSize, 1), "pad_token_id", c.PadTokenID, "a token of the vocabulary")
	p.want(!c.TieWordEmbeddings, "tie_word_embeddings", c.TieWordEmbeddings, "false: the head reads both streams and is twice as wide as the table")
	return act
}

const (
	maxHashes  = 1 << 10
	maxBuckets = 1 << 24
)

func (c *ReformerConfig) checkAxial(p *problems) {
	room, width := 1, 0
	for i, n := range c.AxialPosShape {
		p.size(fmt.Sprintf("axial_pos_shape[%d]", i), n, maxSize)
		room = min(room*max(n, 1), maxSize)
	}
	for i, n := range c.AxialPosEmbdsDim {
		p.size(fmt.Sprintf("axial_pos_embds_dim[%d]", i), n, maxSize)
		width = min(width+max(n, 0), maxSize)
	}
	p.want(len(c.AxialPosShape) > 0 && len(c.AxialPosShape) == len(c.AxialPosEmbdsDim), "axial_pos_shape", c.AxialPosShape,
		fmt.Sprintf("as many axes as axial_pos_embds_dim has widths (%d)", len(c.AxialPosEmbdsDim)))
	p.want(width == c.HiddenSize, "axial_pos_embds_dim", c.AxialPosEmbdsDim, fmt.Sprintf("widths that make hidden_size (%d)", c.HiddenSize))
	p.want(c.AxialNormStd > 0, "axial_norm_std", c.AxialNormStd, "more than 0")
}

// buckets are those of sequences of max_position_embeddings.
func (c *ReformerConfig) buckets() bucketsOf {
	chunks := c.MaxPositionEmbeddings / c.LSHAttnChunkLength
	power := max(bits.Len(uint(2*chunks))-1, 1)
	root := 0
	for (root+1)*(root+1) <= chunks {
		root++
	}
	if 1<<power > 2*max(root, c.LSHAttnChunkLength) {
		return bucketsOf{1 << (power / 2), 1 << (power - power/2)}
	}
	return bucketsOf{1 << power}
}

// room is how many positions there are.
func (c *ReformerConfig) room() int {
	room := c.MaxPositionEmbeddings
	if c.AxialPosEmbds {
		room = 1
		for _, n := range c.AxialPosShape {
			room = min(room*n, maxSize)
		}
	}
	return room
}

// Padded is how long sequences of t tokens are with padding to whole chunks.
func (m *Reformer) Padded(t int) int { return m.cfg.length(t) }

// length is that of t tokens with padding to whole chunks.
func (c *ReformerConfig) length(t int) int {
	whole, least := 1, maxSize // a multiple of the chunks of all layers, and the shortest chunk
	for _, kind := range c.AttnLayers {
		n := c.LSHAttnChunkLength
		if kind == "local" {
			n = c.LocalAttnChunkLength
		}
		a, b := whole, n
		for b > 0 {
			a, b = b, a%b
		}
		whole, least = min(whole/a*n, maxSize), min(least, n)
	}
	if t <= least {
		return t
	}
	return (t + whole - 1) / whole * whole
}

// Type is "reformer".
func (m *Reformer) Type() string { return "reformer" }

// Config is the resolved config.json, with the keys that were there before.
func (m *Reformer) Config() ([]byte, error) { return marshalConfig(m.cfg, m.rest) }

// Warnings tells of attention dropout and of seeds.
func (m *Reformer) Warnings() []string {
	all := append(misspelled(&m.cfg, m.rest), attentionDropout("lsh_attention_probs_dropout_prob", m.cfg.LSHAttentionProbsDropout)...)
	if slices.Contains(m.cfg.AttnLayers, "local") {
		all = append(all, attentionDropout("local_attention_probs_dropout_prob", m.cfg.LocalAttentionProbsDropout)...)
	}
	if m.cfg.HashSeed != nil {
		all = append(all, fmt.Sprintf("hash_seed is %d: rotations stay the same, but they are not those of PyTorch", *m.cfg.HashSeed))
	}
	return all
}

// local is the name of a weight of a file; none for what is no weight.
func (m *Reformer) local(name string) string {
	if strings.Contains(name, "mask_value_float") || name == "lm_head.decoder.bias" {
		return ""
	}
	return name
}
