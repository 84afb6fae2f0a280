// Package small writes a folder as Hugging Face has them, with a BERT that is so small that the programs beside it run in seconds: two layers of
// 32 numbers, 64 positions, weights by chance, and a tokenizer of single letters.
package small

import (
	"encoding/json"
	"strings"

	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/checkpoints"
	"github.com/euryale-ml/euryale/models"
)

// WriteBERT writes the folder.
func WriteBERT(dir string) error {
	vocab := []string{"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"}
	for _, c := range "abcdefghijklmnopqrstuvwxyz0123456789.,?" {
		vocab = append(vocab, string(c), "##"+string(c))
	}
	config, err := json.Marshal(map[string]any{
		"model_type": "bert", "architectures": []string{"BertForMaskedLM"}, "vocab_size": len(vocab), "hidden_size": 32, "intermediate_size": 64,
		"num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 64, "type_vocab_size": 2, "pad_token_id": 0,
		"hidden_act": "gelu", "layer_norm_eps": 1e-12, "hidden_dropout_prob": 0, "attention_probs_dropout_prob": 0,
	})
	if err != nil {
		return err
	}
	model, err := models.New(config)
	if err != nil {
		return err
	}
	params, err := models.NewParams(model, tensor.Float32, 1)
	if err != nil {
		return err
	}
	return checkpoints.WriteModel(dir, config, models.Tensors(params), map[string][]byte{
		"vocab.txt":             []byte(strings.Join(vocab, "\n") + "\n"),
		"tokenizer_config.json": []byte(`{"tokenizer_class": "BertTokenizer", "do_lower_case": true}` + "\n"),
	})
}
