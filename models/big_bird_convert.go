package models

import (
	"strings"

	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/layers"
)

// ToBigBird makes a BigBird of a BERT or RoBERTa of Hugging Face, as ToLongformer makes a Longformer: blocks of blockSize tokens, and
// numRandomBlocks drawn for each. As long as a sequence has no more than 5 + 2·numRandomBlocks blocks and the weights no plan of their own, it
// computes what the dense model does. Heads of other tasks than masked_lm differ in form and begin anew: fresh names their weights.
//
// Source: Zaheer et al. 2020, arXiv 2007.14062, section 4 (pre-training starts from RoBERTa).
// Errors: those of ToLongformer.
func ToBigBird(raw []byte, weights map[string]*tensor.Dense, blockSize, numRandomBlocks, tokens int, dtype tensor.Dtype) (m *BigBird, p *layers.Params, fresh []string, err error) {
	made, p, fresh, err := fromDense(raw, weights, denseTarget{modelType: "big_bird", class: "BigBird", nameOf: bigBirdFromDense,
		positions: func(int) int { return 0 },
		set: func(set func(string, any)) {
			set("attention_type", "block_sparse")
			set("block_size", blockSize)
			set("num_random_blocks", numRandomBlocks)
			set("use_bias", true)
			set("rescale_embeddings", false)
		},
	}, tokens, dtype)
	if err != nil {
		return nil, nil, nil, err
	}
	return made.(*BigBird), p, fresh, nil
}

// bigBirdFromDense is where the dense model has what becomes a weight of the BigBird, without the prefix of the base model.
func bigBirdFromDense(d denseFamily, name, _ string) string {
	name = strings.TrimPrefix(name, "bert.")
	if rest, ok := strings.CutPrefix(name, "pooler."); ok {
		return "pooler.dense." + rest
	}
	if d.cls {
		return name
	}
	return strings.NewReplacer("cls.predictions.transform.dense.", "lm_head.dense.", "cls.predictions.transform.LayerNorm.", "lm_head.layer_norm.",
		"cls.predictions.decoder.", "lm_head.decoder.", "cls.predictions.bias", "lm_head.bias").Replace(name)
}
