package train

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/euryale-ml/euryale/data"
	"github.com/euryale-ml/euryale/internal/splitmix"
	"github.com/euryale-ml/euryale/models"
)

// reversed writes words and the same backwards, and returns the path.
func reversed(t *testing.T, n int) string {
	t.Helper()
	var b strings.Builder
	for i := range n {
		h := splitmix.Mix(uint64(i) + 1)
		word := make([]byte, 3+h%6)
		for k := range word {
			h = splitmix.Mix(h)
			word[k] = byte('a' + h%8)
		}
		back := make([]byte, len(word))
		for k, c := range word {
			back[len(word)-1-k] = c
		}
		fmt.Fprintf(&b, `{"text":%q,"target":%q}`+"\n", word, back)
	}
	path := filepath.Join(t.TempDir(), "reversed.jsonl")
	require.NoError(t, os.WriteFile(path, []byte(b.String()), 0o644))
	return path
}

// pairJob trains a small encoder-decoder on them.
func pairJob(path string) Job {
	j := DefaultJob()
	j.Model = json.RawMessage(`{"model_type":"encoder_decoder","vocab_size":262,"hidden_size":32,"decoder_start_token_id":260,"pad_token_id":256,"eos_token_id":261,
		"encoder":{"num_hidden_layers":2,"num_attention_heads":2,"intermediate_size":64,"max_position_embeddings":32,"attention":[{"type":"band","window_left":8}]},
		"decoder":{"num_hidden_layers":2,"num_attention_heads":4,"intermediate_size":48,"max_position_embeddings":32}}`)
	j.Data = data.Config{Path: path, Objective: "seq2seq_lm", TargetLength: 10}
	j.Train.Steps, j.Train.BatchSize, j.Train.SequenceLength, j.Train.WarmupSteps = 6, 8, 11, 2
	j.Train.EvalEvery, j.Train.SaveEvery = 3, 3
	return j
}

// TestPairs: an encoder-decoder trains, goes on to the bit where it stopped, is scored, and writes what its scores say it does.
func TestPairs(t *testing.T) {
	path := reversed(t, 400)
	dirs := [2]string{t.TempDir(), t.TempDir()}
	finish(t, start(t, dirs[0], pairJob(path)), 0)
	finish(t, start(t, dirs[1], pairJob(path)), 4)
	r, err := Resume(dirs[1], nil, Options{})
	require.NoError(t, err)
	finish(t, r, 0)
	require.Equal(t, checkpoint(t, dirs[0], 6), checkpoint(t, dirs[1], 6))

	m, params, w := r.Model.(models.Seq2Seq), r.Trainer.Params, r.Corpus.Test.PlainWindows(11)
	e, err := NewEvaluator(r.Model, params, r.Corpus.Test.Shape(11), 8, 11)
	require.NoError(t, err)
	score, err := e.Run(context.Background(), w, 0, nil)
	require.NoError(t, err)
	require.Equal(t, int64(w.Len()), score.Examples)
	require.Less(t, score.Loss, 5.4, "better than all 262 tokens alike")
	var texts []Written
	s, err := WriteTargets(context.Background(), m, params, w, r.Corpus.Test.Shape(11), r.Corpus.Tokenizer, 7, Decoding{}, func(w Written) { texts = append(texts, w) })
	require.NoError(t, err)
	require.Equal(t, 7, s.Texts)
	require.Len(t, texts, 7)
	for _, x := range texts {
		require.Len(t, x.Wanted, len(x.Source))
		for i := range x.Source {
			require.Equal(t, x.Source[i], x.Wanted[len(x.Source)-1-i])
		}
		require.LessOrEqual(t, len(x.Text), 10)
	}
	require.Positive(t, s.Copy, "letters are those of the source")
	require.Less(t, s.Copy, 100.0)
	_, err = WriteTargets(context.Background(), m, params, w, data.Shape{}, r.Corpus.Tokenizer, 7, Decoding{}, nil)
	require.ErrorContains(t, err, "give pairs")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err = WriteTargets(ctx, m, params, w, r.Corpus.Test.Shape(11), r.Corpus.Tokenizer, 7, Decoding{}, nil)
	require.ErrorIs(t, err, context.Canceled)
}

// TestPairsRecompute: what is computed again in the backward pass, the attention between both halves too, changes no bit.
func TestPairsRecompute(t *testing.T) {
	path := reversed(t, 60)
	for _, residual := range []string{"plain", "reversible"} {
		var want string
		for _, recompute := range []string{"none", "cheap", "block", "every:2"} {
			j := pairJob(path)
			j.Model = json.RawMessage(strings.ReplaceAll(string(j.Model), `"num_hidden_layers":2`, `"num_hidden_layers":2,"residual":"`+residual+`"`))
			j.Train.Steps, j.Train.Recompute = 2, recompute
			dir := t.TempDir()
			finish(t, start(t, dir, j), 0)
			got := checkpoint(t, dir, 2)["model.safetensors"]
			if want == "" {
				want = got
			}
			if residual == "reversible" && recompute == "every:2" { // streams that are kept are not those that are computed back
				require.NotEqual(t, want, got)
				continue
			}
			require.Equal(t, want, got, "%s, %s", residual, recompute)
		}
	}
}

// TestPairsFit: a model that starts or ends in another way than the data is refused before anything is written.
func TestPairsFit(t *testing.T) {
	j := pairJob(reversed(t, 40))
	j.Model = json.RawMessage(strings.NewReplacer(`"decoder_start_token_id":260`, `"decoder_start_token_id":0`, `"eos_token_id":261`, `"eos_token_id":[3,4]`).Replace(string(j.Model)))
	dir := filepath.Join(t.TempDir(), "r")
	_, err := Start(dir, j, nil, Options{})
	require.ErrorContains(t, err, "model.decoder_start_token_id is 0: want 260")
	require.ErrorContains(t, err, "model.eos_token_id is [3,4]: want 261")
	require.NoDirExists(t, dir)
}

// TestWanted: targets end where nothing is to be predicted.
func TestWanted(t *testing.T) {
	require.Equal(t, []int32{4, 5}, wanted([]int32{4, 5, -1, -1}))
	require.Equal(t, []int32{4, 5}, wanted([]int32{4, 5}))
}
