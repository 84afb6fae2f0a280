package models_test

import (
	"bytes"
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

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

// A folder is loaded, whoever wrote it, and asked about texts of different lengths: those of like length run together.
func ExampleNewPredictor() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	folder := filepath.Join(dir, "classifier")
	if err := writeClassifier(folder); err != nil {
		log.Fatal(err)
	}

	m, err := models.Load(folder, tensor.Float32)
	if err != nil {
		log.Fatal(err)
	}
	p, err := models.NewPredictor(m, m.Params, models.PredictorOptions{BatchSize: 4})
	if err != nil {
		log.Fatal(err)
	}
	all, err := p.Run(context.Background(), []models.Sequence{{IDs: []int32{2, 7, 7, 3}}, {IDs: []int32{2, 3}}, {IDs: make([]int32, 70)}})
	if err != nil {
		log.Fatal(err)
	}
	for _, x := range all {
		fmt.Println(len(x.Logits), "classes,", len(x.Hidden)/32, "tokens, a vector of", len(x.Mean(32)))
	}
	// Output:
	// 3 classes, 4 tokens, a vector of 32
	// 3 classes, 2 tokens, a vector of 32
	// 3 classes, 70 tokens, a vector of 32
}

// writeClassifier writes a folder with a small BERT that tells three classes.
func writeClassifier(folder string) error {
	m, err := models.New([]byte(`{"model_type": "bert", "architectures": ["BertForSequenceClassification"], "num_labels": 3, "vocab_size": 11, "hidden_size": 32,
		"intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "max_position_embeddings": 128}`))
	if err != nil {
		return err
	}
	params, err := models.NewParams(m, tensor.Float32, 1)
	if err != nil {
		return err
	}
	config, err := m.Config()
	if err != nil {
		return err
	}
	return checkpoints.WriteModel(folder, config, models.Tensors(params), nil)
}
