package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/checkpoints"
	"github.com/euryale-ml/euryale/data"
	"github.com/euryale-ml/euryale/docs/examples/small"
	"github.com/euryale-ml/euryale/models"
)

func TestRun(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	require.NoError(t, small.WriteBERT(at("bert")))
	var table strings.Builder
	table.WriteString("label,text\n")
	for i := range 60 {
		class := i % 3 % 2
		fmt.Fprintf(&table, "%s,\"%s, %d\"\n", []string{"ship", "tree"}[class], strings.Repeat([]string{"sail ", "leaf "}[class], 5), i)
	}
	require.NoError(t, os.WriteFile(at("data.csv"), []byte(table.String()), 0o600))
	for name, c := range map[string]struct {
		lora, layers int
		learn        string // LoRA: A and B of four matrices of 32 x 32 and two of 32 x 64, and the head of 32 x 33 and 2 x 33
	}{"full": {}, "lora": {lora: 4, layers: 2, learn: fmt.Sprint(2*4*(4*64+2*96)+32*33+2*33, " of ")}, "one layer": {layers: 1}} {
		var out bytes.Buffer
		o := options{from: at("bert"), data: at("data.csv"), run: at(name + "-run"), to: at(name), length: 41, steps: 120, batch: 8, lr: 1e-2, seed: 3}
		o.lora, o.layers, o.targets, o.evals = c.lora, c.layers, "*.encoder.layer.*", 2
		require.NoError(t, run(context.Background(), o, &out))
		require.Contains(t, out.String(), "2 classes; new: [")
		require.Contains(t, out.String(), c.learn)
		require.Contains(t, out.String(), "step 60: loss ")
		require.Contains(t, out.String(), "test: accuracy 1.000", name)
		m, err := models.Load(at(name), tensor.Float32)
		require.NoError(t, err)
		require.Equal(t, "sequence_classification", m.Task())
		if c.layers > 0 {
			require.Equal(t, c.layers, m.Dims().Layers)
		}
	}
}

// A task takes its texts from a path, and has classes by their numbers.
func TestTask(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	var out bytes.Buffer
	encoder := `{"model_type": "encoder", "task": "masked_lm", "vocab_size": 270, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
		"max_position_embeddings": 41, "position_embedding_type": "rotary", "attention": [{"type": "full"}]}`
	book, err := data.Load(data.Config{Tokenizer: "bpe:270"})
	require.NoError(t, err)
	model, err := models.New([]byte(encoder))
	require.NoError(t, err)
	params, err := models.NewParams(model, tensor.Float32, 1)
	require.NoError(t, err)
	require.NoError(t, checkpoints.WriteModel(at("encoder"), []byte(encoder), models.Tensors(params), data.TokenizerFiles(book.Tokenizer)))
	o := options{from: at("encoder"), data: "task:shuffled(length=41,train=16,val=4,test=11)", run: at("run"), to: at("to"), length: 41, steps: 2, batch: 4, evals: 1, lr: 1e-3}
	require.NoError(t, run(context.Background(), o, &out))
	require.Contains(t, out.String(), "of 11 documents")
	m, err := models.Load(at("to"), tensor.Float32)
	require.NoError(t, err)
	require.Equal(t, 2, m.Dims().Labels)

	o.layers, o.run = 3, at("again")
	require.ErrorContains(t, run(context.Background(), o, &out), "fewer than 3 layers")
}
