package main

import (
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// A BERT with its own tokenizer is trained, stopped, resumed to the same bits, evaluated and exported with the tokenizer beside it.
func TestPretrainedTokenizer(t *testing.T) {
	f, err := os.Open(filepath.Join("..", "..", "data", "tokenizers", "testdata", "wordpiece.json.gz"))
	require.NoError(t, err)
	defer f.Close()
	z, err := gzip.NewReader(f)
	require.NoError(t, err)
	raw, err := io.ReadAll(z)
	require.NoError(t, err)
	t.Chdir(t.TempDir())
	require.NoError(t, os.Mkdir("tok", 0o755))
	require.NoError(t, os.WriteFile("tok/tokenizer.json", raw, 0o644))
	job := []string{"--set", `model={"model_type":"bert","vocab_size":30528,"hidden_size":8,"num_hidden_layers":1,"num_attention_heads":2,"intermediate_size":8,"max_position_embeddings":24,"architectures":["BertForMaskedLM"]}`,
		"--set", "data.tokenizer=tok", "--set", "train.steps=4", "--set", "train.sequence_length=16", "--set", "train.batch_size=2", "--set", "train.global_batch=2",
		"--set", "train.warmup_steps=1"}
	require.NoError(t, os.WriteFile("a.txt", []byte("The whale, the whale! Up helm, up helm! Oh, all ye sweet powers of air, now hug me close. "+
		"Let not Queequeg die, if die he must, in a woman's fainting fit.\n\nTowards thee I roll, thou all-destroying but unconquering whale; to the last I grapple with thee."), 0o644))
	fit := func(run string, more ...string) {
		euryale(t, append(append([]string{"fit", "--data", "a.txt", "--run", run}, job...), more...)...).ok(t)
	}
	fit("a")
	fit("b", "--steps", "2")
	require.NoError(t, os.RemoveAll("tok"), "the tokenizer lies beside the checkpoints")
	euryale(t, "resume", "b").ok(t)
	for _, run := range []string{"a", "b"} {
		euryale(t, "export", run, "model-"+run).ok(t)
	}
	for _, name := range []string{"model.safetensors", "tokenizer.json"} {
		a, err := os.ReadFile("model-a/" + name)
		require.NoError(t, err)
		b, err := os.ReadFile("model-b/" + name)
		require.NoError(t, err)
		require.Equal(t, a, b, name)
	}
	euryale(t, "eval", "model-a", "--data", "a.txt").ok(t)
	euryale(t, "predict", "model-a", "--input", "a.txt", "--output", "o.safetensors").ok(t)
	euryale(t, "fit", "--from", "model-a", "--data", "a.txt", "--run", "c", "--set", "train.steps=1", "--set", "train.sequence_length=16", "--set", "train.batch_size=1", "--set", "train.global_batch=1").ok(t)
}
