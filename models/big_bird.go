package models

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"

	"github.com/euryale-ml/euryale/internal/config"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/layers/attention"
)

// BigBirdConfig is the part of Hugging Face's BigBirdConfig that changes the computation. Other keys are kept and written back.
type BigBirdConfig struct {
	BertConfig
	AttentionType     string `json:"attention_type"`     // block_sparse, original_full
	BlockSize         int    `json:"block_size"`         //
	NumRandomBlocks   int    `json:"num_random_blocks"`  // of a block of queries
	UseBias           bool   `json:"use_bias"`           // in the query, key and value maps
	RescaleEmbeddings bool   `json:"rescale_embeddings"` // vectors of tokens times the square root of hidden_size
	SepTokenID        int    `json:"sep_token_id"`       // what ends a question
}

// BigBird is BERT whose queries read a window of three blocks of tokens, the first and the last block, and blocks drawn at random. The
// draws are part of the model and stored with its weights; a folder without them gets those of seed 0.
//
// Source: Zaheer et al. 2020, arXiv 2007.14062, section 2; names and details from transformers' BigBirdForMaskedLM and its like.
// Differs: the set of blocks is that of attention.BigBird at every length, in training and after it. transformers draws blocks from the
// first of the sequence in training and reads block 0 once more for every random block after it, pads to whole blocks, and
// becomes dense up to 5 + 2 num_random_blocks of them; for weights without a plan `verify` and `predict` follow it there.
// Attention probabilities have no dropout.
type BigBird struct {
	cfg        BigBirdConfig
	rest       extra
	pretrained bool // the folder is one of pre-training
	encoderFamily
}

var _ Model = (*BigBird)(nil)

func newBigBird(raw []byte) (Model, error) {
	c := BigBirdConfig{BertConfig: bertDefaults("big_bird"), AttentionType: "block_sparse", BlockSize: 64, NumRandomBlocks: 3, UseBias: true, SepTokenID: 66}
	c.VocabSize, c.HiddenAct, c.MaxPositionEmbeddings = 50358, "gelu_new", 4096
	rest, read := decodeHF(raw, &c)
	if config.IsSyntax(read) {
		return nil, read
	}
	var p problems
	pretrained := pretraining(rest, "BigBird")
	task, labels := p.hfTask("BigBird", c.Task, rest)
	s := c.stack(&p, "bert.")
	s.mixers = bigBirdMixers(&p, c.AttentionType, c.BlockSize, c.NumRandomBlocks, c.NumHiddenLayers, c.NumAttentionHeads, c.MaxPositionEmbeddings)
	if err := config.Merge(read, p.err()); err != nil {
		return nil, err
	}
	s.noQKV, s.embedNorm, s.Labels = !c.UseBias, "after", labels
	if c.RescaleEmbeddings {
		s.embedScale = math.Sqrt(float64(c.HiddenSize))
	}
	h := head{task: task, labels: labels, transform: "cls.predictions.transform.dense", norm: "cls.predictions.transform.LayerNorm",
		decoder: "cls.predictions", own: "cls.predictions.decoder", act: s.act, eps: s.eps, pooler: "bert.pooler", pooling: "cls",
		out: "classifier", dropout: c.classifierDropout()}
	switch task {
	case "sequence_classification", "multi_label_classification", "regression":
		h.dense, h.out = "classifier.dense", "classifier.out_proj"
	case "question_answering":
		h.pooler, h.out = "", "qa_classifier.qa_outputs"
	}
	return &BigBird{c, rest, pretrained, encoderFamily{stack: s, head: h, base: "bert."}}, nil
}

// bigBirdMixers are the attention of each of so many layers, as Hugging Face's keys say it.
func bigBirdMixers(p *problems, kind string, size, count, depth, heads, positions int) []attention.Mixer {
	p.oneOf("attention_type", kind, "block_sparse", "original_full")
	p.size("block_size", size, maxSize)
	p.want(count >= 0 && count <= maxSize, "num_random_blocks", count, fmt.Sprintf("0 to %d", maxSize))
	if len(*p) > 0 {
		return nil
	}
	entry := attention.Entry{}
	if kind == "block_sparse" {
		entry = attention.EntryOf(attention.NewBigBird(size, count, 0, 0))
	}
	all := make([]attention.Mixer, depth)
	for l := range all {
		var err error
		if all[l], err = entry.Mixer(attention.Layer{Index: l, Heads: heads, Positions: positions}); err != nil {
			p.add(err)
		}
	}
	return all
}

// Forward adds the network to the graph.
func (m *BigBird) Forward(b *layers.Builder, in Inputs, layersPerBlock int) Outputs {
	if m.head.task == "question_answering" {
		return m.answer(b, in, layersPerBlock)
	}
	return m.withHead(b, in, m.head, layersPerBlock)
}

// Type is "big_bird".
func (m *BigBird) Type() string { return "big_bird" }

// Config is the resolved config.json, with the keys that were there before.
func (m *BigBird) Config() ([]byte, error) { return marshalConfig(m.cfg, m.rest) }

// Warnings tells of attention dropout and of a head that is left out.
func (m *BigBird) Warnings() []string {
	all := append(attentionDropout("attention_probs_dropout_prob", m.cfg.AttentionProbsDropout), misspelled(&m.cfg, m.rest)...)
	if m.pretrained {
		all = append(all, "architectures is BigBirdForPreTraining: its head of the next sentence (cls.seq_relationship) is left out")
	}
	return all
}

// pretraining turns the class of pre-training in architectures into that of its masked language model.
func pretraining(rest extra, family string) bool {
	var classes []string
	if json.Unmarshal(rest["architectures"], &classes) != nil || len(classes) == 0 || classes[0] != family+"ForPreTraining" {
		return false
	}
	rest["architectures"], _ = json.Marshal([]string{family + "ForMaskedLM"})
	return true
}

// local leaves out the head of the next sentence, see encoderFamily.
func (m *BigBird) local(name string) string {
	if strings.HasPrefix(name, "cls.seq_relationship.") {
		return ""
	}
	return m.encoderFamily.local(name)
}
