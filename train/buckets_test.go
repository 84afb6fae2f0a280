package train

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/euryale-ml/euryale/internal/config"
)

// unequal is a small classifier's job on documents of 3 to 40 letters.
func unequal(t *testing.T, more string) Job {
	t.Helper()
	path := filepath.Join(t.TempDir(), "a.jsonl")
	var text []byte
	for i := range 300 {
		class := string(rune('a' + i%2))
		line, err := json.Marshal(map[string]string{"text": strings.Repeat(class+"x", 1+i*i%20), "label": class})
		require.NoError(t, err)
		text = append(append(text, line...), '\n')
	}
	require.NoError(t, os.WriteFile(path, text, 0o666))
	j := DefaultJob()
	require.NoError(t, config.Decode([]byte(`{"model":{"model_type":"encoder","task":"sequence_classification","num_labels":2,"vocab_size":262,"hidden_size":12,"intermediate_size":20,
		"num_hidden_layers":2,"num_attention_heads":2,"max_position_embeddings":43},
		"train":{"steps":24,"batch_size":3,"global_batch":6,"sequence_length":43,"warmup_steps":1,"lr":0.01,"save_every":6,"eval_every":5,"eval_batches":2`+more+`},
		"data":{"path":"`+path+`","objective":"sequence_classification"}}`), &j))
	return j
}

// TestLengthBuckets: batches that are as short as what they hold teach what long ones teach, and a run goes on to the bit.
func TestLengthBuckets(t *testing.T) {
	alike, short, parts := t.TempDir(), t.TempDir(), t.TempDir()
	r := start(t, alike, unequal(t, `,"length_buckets":1`))
	finish(t, r, 0)
	long := weightsOf(r.Trainer.Params)
	job := unequal(t, `,"length_buckets":4`)
	r = start(t, short, job)
	finish(t, r, 0)
	for name, want := range long {
		require.InDeltaSlice(t, want, weightsOf(r.Trainer.Params)[name], 1e-4, name)
	}

	lengths := map[int]int{}
	metrics, err := os.ReadFile(filepath.Join(short, "metrics.jsonl"))
	require.NoError(t, err)
	for line := range strings.Lines(string(metrics)) {
		var e StepEvent
		require.NoError(t, json.Unmarshal([]byte(line), &e))
		if e.Event == "step" {
			lengths[e.Length]++
		}
	}
	require.Len(t, lengths, 4, "%v", lengths)
	for _, n := range []int{43, 22, 11, 6} {
		require.Greater(t, lengths[n], 2, "%v", lengths)
	}

	finish(t, start(t, parts, job), 5)
	for _, until := range []int{15, 0} {
		r, err := Resume(parts, nil, Options{})
		require.NoError(t, err)
		finish(t, r, until)
	}
	require.Equal(t, checkpoint(t, short, 24), checkpoint(t, parts, 24))
}

func TestLengthBucketsRefuse(t *testing.T) {
	for more, want := range map[string]string{
		`,"length_buckets":-1`:                          "length_buckets is -1: want 0",
		`,"length_buckets":17`:                          "length_buckets is 17: want 0",
		`,"length_buckets":7`:                           "the shortest has sequence_length / 2^6 tokens",
		`,"length_buckets":2,"curriculum":{"start":10}`: "0 beside curriculum and stages",
	} {
		require.ErrorContains(t, unequal(t, more).Train.Validate(), want, more)
	}
	j := unequal(t, `,"length_buckets":2`)
	j.Data.Streaming, j.Data.Classes, j.Data.HeldOut = true, []string{"a", "b"}, 20
	_, err := Start(t.TempDir(), j, nil, Options{})
	require.ErrorContains(t, err, "train.length_buckets is 2: want 0 with data.streaming: the lengths of a stream are not known beforehand")
}
