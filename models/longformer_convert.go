package models

import (
	"strings"

	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/layers"
)

// ToLongformer makes a Longformer of a BERT or RoBERTa of Hugging Face: config is its config.json, weights are its tensors by name, with
// or without the prefix of the base model. The Longformer has the same head, windows of attention_window keys (both sides together)
// and takes sequences of `tokens` tokens (0: as many as before). Positions past the old ones repeat them (ExtendPositions), and
// the global projections are copies of the others (CopyGlobalProjections). As long as no token is global and no sequence is longer
// than half a window, it computes what the dense model does.
//
// Source: Beltagy, Peters, Cohan 2020, arXiv 2004.05150, section 5.
// Differs: lengths need not be multiples of the old one, and all rows of the table are filled.
// Errors: another model_type; faults of the config as of New; *WeightsError.
func ToLongformer(raw []byte, weights map[string]*tensor.Dense, attentionWindow, tokens int, dtype tensor.Dtype) (*Longformer, *layers.Params, error) {
	m, params, _, err := fromDense(raw, weights, denseTarget{modelType: "longformer", class: "Longformer", heads: true, nameOf: longformerFromDense,
		positions: func(pad int) int { return pad + 1 },
		set:       func(set func(string, any)) { set("attention_window", attentionWindow) },
	}, tokens, dtype)
	if err != nil {
		return nil, nil, err
	}
	return m.(*Longformer), params, nil
}

// longformerFromDense is where the dense model has what becomes a weight of the Longformer, without the prefix of the base model.
func longformerFromDense(d denseFamily, name, task string) string {
	name = strings.Replace(strings.TrimPrefix(name, "longformer."), "_global.", ".", 1)
	if !d.cls {
		return name
	}
	renames := []string{"lm_head.dense.", "cls.predictions.transform.dense.", "lm_head.layer_norm.", "cls.predictions.transform.LayerNorm.",
		"lm_head.decoder.", "cls.predictions.decoder.", "lm_head.bias", "cls.predictions.bias"}
	if ofExamples(task) { // its pooler is the first layer of our head
		renames = append(renames, "classifier.dense.", "pooler.dense.", "classifier.out_proj.", "classifier.")
	}
	return strings.NewReplacer(renames...).Replace(name)
}

// CopyGlobalProjections sets the projections of global tokens to those of all tokens, in every layer of a longformer or led. Pre-training
// without global tokens leaves them as they were, so this is done after it, before a task with globals. It returns how many weights
// were set.
func CopyGlobalProjections(p *layers.Params) (int, error) {
	n := 0
	for _, q := range p.All() {
		local, ok := p.Get(strings.Replace(q.Name, "_global.", ".", 1))
		if !strings.Contains(q.Name, "_global.") || !ok {
			continue
		}
		if err := p.Load(q.Name, local.Value); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}
