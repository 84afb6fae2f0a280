package models_test

import (
	"bytes"
	"fmt"
	"log"

	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/checkpoints"
	"github.com/euryale-ml/euryale/models"
)

// An encoder that has learnt from hidden tokens becomes a classifier: the body is read, the head is new.
func ExampleStart() {
	const body = `"model_type": "encoder", "vocab_size": 262, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
		"attention": [{"type": "longformer", "window_left": 16}]`
	masked, err := models.New([]byte(`{"task": "masked_lm", ` + body + `}`))
	if err != nil {
		log.Fatal(err)
	}
	learnt, err := models.NewParams(masked, tensor.Float32, 1)
	if err != nil {
		log.Fatal(err)
	}
	var file bytes.Buffer // model.safetensors
	if err := checkpoints.WriteSafetensors(&file, models.Tensors(learnt)); err != nil {
		log.Fatal(err)
	}

	classifier, err := models.New([]byte(`{"task": "sequence_classification", "num_labels": 3, "pooling": "mean", ` + body + `}`))
	if err != nil {
		log.Fatal(err)
	}
	weights, err := checkpoints.ReadSafetensors(bytes.NewReader(file.Bytes()), int64(file.Len()), "model.safetensors")
	if err != nil {
		log.Fatal(err)
	}
	params, fresh, left, err := models.Start(classifier, weights, tensor.Float32, 1)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(params.Len(), "weights, new:", fresh)
	fmt.Println("left:", left)
	// Output:
	// 41 weights, new: [head.out.weight head.out.bias]
	// left: [head.bias head.dense.bias head.dense.weight head.norm.bias head.norm.weight]
}
