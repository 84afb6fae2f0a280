package models

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/config"
	"github.com/euryale-ml/euryale/layers"
)

// ToETC lifts the weights of a BERT or RoBERTa of Hugging Face into an ETC that predicts masked tokens: config is its config.json, weights are its
// tensors by name, with or without the prefix of the base model. Projections, feed-forward parts and norms are copied, those of
// global and long tokens alike; tables of labels are 0, so that they say nothing at first; the contrastive form is new. Absolute positions
// are left out. etc is what the dense model does not know, such as {"num_globals": 32, "local_radius": 84}.
//
// With a radius of the whole input and neither hard_g2l nor hard_l2g it computes what the dense model does on the global tokens followed by
// the long ones, as far as that does without its positions.
//
// Source: Ainslie et al. 2020, arXiv 2004.08483, section 3.5.
// Errors: another model_type; faults of the config as of New; *WeightsError.
func ToETC(raw []byte, weights map[string]*tensor.Dense, etc []byte, dtype tensor.Dtype) (*ETC, *layers.Params, error) {
	var dense struct {
		ModelType         string   `json:"model_type"`
		VocabSize         int      `json:"vocab_size"`
		HiddenSize        int      `json:"hidden_size"`
		IntermediateSize  int      `json:"intermediate_size"`
		NumHiddenLayers   int      `json:"num_hidden_layers"`
		NumAttentionHeads int      `json:"num_attention_heads"`
		HiddenAct         string   `json:"hidden_act"`
		LayerNormEps      *float64 `json:"layer_norm_eps"`
		HiddenDropoutProb *float64 `json:"hidden_dropout_prob"`
	}
	if err := json.Unmarshal(raw, &dense); err != nil {
		return nil, nil, err
	}
	d, ok := denseFamilies[dense.ModelType]
	if !ok {
		return nil, nil, &config.FieldError{Path: "model_type", Value: dense.ModelType, Want: "cannot be made an etc; want bert or roberta"}
	}
	types := find(weights, d.base, "embeddings.token_type_embeddings.weight")
	if types == nil {
		return nil, nil, &WeightsError{Missing: []string{d.base + "embeddings.token_type_embeddings.weight"}}
	}
	c := map[string]any{"model_type": "etc", "task": "masked_lm", "vocab_size": dense.VocabSize, "hidden_size": dense.HiddenSize, "intermediate_size": dense.IntermediateSize,
		"num_hidden_layers": dense.NumHiddenLayers, "num_attention_heads": dense.NumAttentionHeads, "type_vocab_size": max(types.Shape()[0], 2), "share_output": true}
	if dense.HiddenAct != "" {
		c["hidden_act"] = dense.HiddenAct
	}
	if dense.LayerNormEps != nil {
		c["layer_norm_eps"] = *dense.LayerNormEps
	}
	if dense.HiddenDropoutProb != nil {
		c["hidden_dropout_prob"] = *dense.HiddenDropoutProb
	}
	if err := json.Unmarshal(etc, &c); err != nil {
		return nil, nil, err
	}
	text, err := json.Marshal(c)
	if err != nil {
		return nil, nil, err
	}
	built, err := newETC(text)
	if err != nil {
		return nil, nil, err
	}
	m := built.(*ETC)
	params, err := NewParams(m, dtype, 0)
	if err != nil {
		return nil, nil, err
	}
	var faults WeightsError
	for _, q := range params.All() {
		if strings.Contains(q.Name, "_relative.") {
			if err := params.Load(q.Name, tensor.New(tensor.Of(dtype), tensor.WithShape(q.Value.Shape()...))); err != nil {
				return nil, nil, err
			}
			continue
		}
		if q.Name == "cpc.weight" {
			continue
		}
		name := longformerFromDense(d, etcFromDense(q.Name), "masked_lm")
		v := find(weights, d.base, name)
		switch {
		case v == nil:
			faults.Missing = append(faults.Missing, d.base+name)
			continue
		case q.Name == "etc.types.weight": // RoBERTa has one type: the others begin as it is
			v = extend(v, 0, 0, q.Value.Shape()[0])
		}
		if !slices.Equal(v.Shape(), q.Value.Shape()) {
			faults.Shape = append(faults.Shape, fmt.Sprintf("%s: %v, want %v", name, v.Shape(), q.Value.Shape()))
		} else if err := params.Load(q.Name, v); err != nil {
			return nil, nil, err
		}
	}
	if faults.Missing != nil || faults.Shape != nil {
		return nil, nil, &faults
	}
	return m, params, nil
}

// etcFromDense is Hugging Face's name, of a longformer, for what becomes a weight of ETC.
func etcFromDense(name string) string {
	if rest, ok := strings.CutPrefix(name, "etc.layer."); ok {
		layer, part, _ := strings.Cut(rest, ".")
		for ours, theirs := range map[string]string{
			"query": "attention.self.query", "key": "attention.self.key", "value": "attention.self.value",
			"long_query": "attention.self.query", "global_query": "attention.self.query",
			"attention_output": "attention.output.dense", "long_output": "attention.output.dense", "global_output": "attention.output.dense",
			"long_norm": "attention.output.LayerNorm", "global_norm": "attention.output.LayerNorm",
			"intermediate": "intermediate.dense", "output": "output.dense", "norm": "output.LayerNorm",
		} {
			if w, ok := strings.CutPrefix(part, ours+"."); ok {
				return "encoder.layer." + layer + "." + theirs + "." + w
			}
		}
		for _, kind := range []string{"key", "value"} { // long_key, l2g_value, …
			if before, w, ok := strings.Cut(part, "_"+kind+"."); ok && !strings.Contains(before, ".") {
				return "encoder.layer." + layer + ".attention.self." + kind + "." + w
			}
		}
		return name
	}
	return strings.NewReplacer("etc.tokens.", "embeddings.word_embeddings.", "etc.types.", "embeddings.token_type_embeddings.",
		"etc.long_norm.", "embeddings.LayerNorm.", "etc.global_norm.", "embeddings.LayerNorm.",
		"head.dense.", "lm_head.dense.", "head.norm.", "lm_head.layer_norm.", "head.bias", "lm_head.bias").Replace(name)
}
