package train

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"
	"github.com/stretchr/testify/require"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/data"
	"github.com/euryale-ml/euryale/internal/config"
	"github.com/euryale-ml/euryale/models"
)

// streamFiles writes the same 67 documents in several forms and returns their paths.
func streamFiles(t *testing.T, dir string) map[string]string {
	t.Helper()
	type row struct {
		Text string `parquet:"text"`
	}
	var rows []row
	var lines, text, table bytes.Buffer
	for i := range 67 {
		doc := fmt.Sprintf("Document %d", i)
		for k := range i * 31 % 47 {
			doc += fmt.Sprintf(" %d", (i*i+k*k*7)%997)
		}
		rows = append(rows, row{doc})
		fmt.Fprintf(&lines, "{\"text\":%q}\n", doc)
		fmt.Fprintf(&text, "%s\nIt was number %d.\n\n%s.\n\n", doc, i, doc[len(doc)/2:])
	}
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, err := z.Write(lines.Bytes())
	require.NoError(t, err)
	require.NoError(t, z.Close())
	require.NoError(t, parquet.Write(&table, rows, parquet.MaxRowsPerRowGroup(17)))
	paths := map[string]string{}
	for name, content := range map[string][]byte{"a.jsonl": lines.Bytes(), "a.jsonl.gz": packed.Bytes(), "a.txt": text.Bytes(), "a.parquet": table.Bytes()} {
		paths[name] = filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(paths[name], content, 0o666))
	}
	return paths
}

// streamJob trains on a stream, through several epochs of it.
func streamJob(path string) Job {
	j := tinyJob()
	j.Data = data.Config{Path: path, Streaming: true, ShuffleBuffer: 23, HeldOut: 4}
	if strings.HasSuffix(path, ".txt") {
		j.Data.HeldOut = 2
	}
	return j
}

// TestStreamResumes: a run on a stream that was stopped, several times, is to the bit one that was not: weights, moments, what waits in the buffer, losses.
func TestStreamResumes(t *testing.T) {
	for name, path := range streamFiles(t, t.TempDir()) {
		whole, parts := t.TempDir(), t.TempDir()
		r := start(t, whole, streamJob(path))
		finish(t, r, 0)
		require.Greater(t, r.Trainer.sampler.Epoch(0), int64(1), name)
		finish(t, start(t, parts, streamJob(path)), 9)
		for _, until := range []int{10, 22, 31, 0} {
			r, err := Resume(parts, nil, Options{})
			require.NoError(t, err)
			finish(t, r, until)
		}
		a, b := checkpoint(t, whole, 40), checkpoint(t, parts, 40)
		require.Equal(t, a["model.safetensors"], b["model.safetensors"], name)
		require.Equal(t, a["optimizer.safetensors"], b["optimizer.safetensors"], name)
		require.Contains(t, a["optimizer.safetensors"], `"stream/buffer"`)
		require.Equal(t, steps(t, whole), steps(t, parts))
		require.Len(t, steps(t, parts), 40)
	}
}

// steps are the lines of metrics.jsonl that are of steps.
func steps(t *testing.T, dir string) (lines []string) {
	for _, l := range losses(t, dir) {
		if strings.Contains(l, `"event":"step"`) {
			lines = append(lines, l)
		}
	}
	return lines
}

// TestStreamWorkers: the number of workers changes no bit, and what is read is another with another seed.
func TestStreamWorkers(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	path := streamFiles(t, t.TempDir())["a.jsonl"]
	var want map[string]string
	for _, n := range []int{1, 2, 3} {
		runtime.GOMAXPROCS(n)
		j := streamJob(path)
		j.Train.Steps = 7
		dir := t.TempDir()
		finish(t, start(t, dir, j), 0)
		got := checkpoint(t, dir, 7)
		if want == nil {
			want = got
		}
		require.Equal(t, want["model.safetensors"], got["model.safetensors"], "GOMAXPROCS %d", n)
		require.Equal(t, want["optimizer.safetensors"], got["optimizer.safetensors"], "GOMAXPROCS %d", n)
	}
}

// TestStreamAccumulation: a step reads the same examples in one batch or in several, so a run may go on with batches of another size.
func TestStreamAccumulation(t *testing.T) {
	path := streamFiles(t, t.TempDir())["a.jsonl"]
	stream := func(batch int) (*data.StreamState, []float64) {
		j := streamJob(path)
		j.Model = json.RawMessage(strings.Replace(string(j.Model), `"hidden_dropout_prob":0.1`, `"hidden_dropout_prob":0`, 1))
		j.Train.BatchSize = batch
		m, err := j.Check()
		require.NoError(t, err)
		corpus, err := j.Load(m)
		require.NoError(t, err)
		params, err := models.NewParams(m, tensor.Float64, 3)
		require.NoError(t, err)
		tr, err := NewTrainer(m, params, corpus.Train, j.Train)
		require.NoError(t, err)
		defer tr.sampler.Close()
		var all []float64
		for range 9 {
			e, err := tr.Step()
			require.NoError(t, err)
			all = append(all, e.Loss)
		}
		return tr.sampler.State(), all
	}
	one, a := stream(4)
	two, b := stream(2)
	require.Equal(t, one, two)
	require.EqualValues(t, 36, one.Drawn)
	require.InDeltaSlice(t, a, b, 1e-10)

	dir := t.TempDir()
	finish(t, start(t, dir, streamJob(path)), 5)
	r, err := Resume(dir, func(c *Config) error { c.BatchSize = 4; return nil }, Options{})
	require.NoError(t, err)
	finish(t, r, 8)
	_, err = Resume(dir, func(c *Config) error { c.GlobalBatch = 8; return nil }, Options{})
	var changed *ChangedError
	require.ErrorAs(t, err, &changed)
	require.ErrorContains(t, err, "global_batch")
}

// TestStreamStages: stages that change the model go on in the same stream.
func TestStreamStages(t *testing.T) {
	path := streamFiles(t, t.TempDir())["a.txt"]
	j := streamJob(path)
	j.Train.Stages = staged().Train.Stages
	j.Train.Curriculum = &Curriculum{Start: 7}
	j.Train.LengthBuckets = 1
	_, err := j.Check()
	var paths []string
	for _, f := range config.Faults(err) {
		field := (*config.FieldError)(nil)
		require.ErrorAs(t, f, &field)
		paths = append(paths, field.Path)
	}
	require.Equal(t, []string{"train.stages", "train.length_buckets", "train.curriculum", "train.length_buckets", "train.stages[0].sequence_length", "train.stages[1].sequence_length"}, paths)

	j.Train.Curriculum, j.Train.LengthBuckets = nil, 0
	j.Train.Stages[0].SequenceLength, j.Train.Stages[1].SequenceLength = 0, 61
	j.Train.Steps = 14
	whole, parts := t.TempDir(), t.TempDir()
	finish(t, start(t, whole, j), 0)
	finish(t, start(t, parts, j), 5)
	r, err := Resume(parts, nil, Options{})
	require.NoError(t, err)
	finish(t, r, 7)
	r, err = Resume(parts, nil, Options{})
	require.NoError(t, err)
	finish(t, r, 0)
	a, b := checkpoint(t, whole, 14), checkpoint(t, parts, 14)
	require.Equal(t, a["model.safetensors"], b["model.safetensors"])
	require.Equal(t, a["optimizer.safetensors"], b["optimizer.safetensors"])
}

// TestStreamKill: a process that is killed at any moment leaves a run that goes on to the same end.
func TestStreamKill(t *testing.T) {
	job := func(path string) Job {
		j := streamJob(path)
		j.Train.SaveEvery = 3
		return j
	}
	if dir := os.Getenv("EURYALE_TEST_STREAM_KILL"); dir != "" {
		if r, err := Start(dir, job(os.Getenv("EURYALE_TEST_STREAM")), nil, Options{}); err == nil {
			_, _ = r.Train(context.Background(), 0)
		}
		return
	}
	path := streamFiles(t, t.TempDir())["a.jsonl.gz"]
	whole := t.TempDir()
	finish(t, start(t, whole, job(path)), 0)
	for _, wait := range []time.Duration{0, 7, 31} {
		killAndResume(t, whole, "TestStreamKill", wait, "EURYALE_TEST_STREAM_KILL", "EURYALE_TEST_STREAM="+path)
	}
}

// TestStreamRefusals: what cannot go on says why in a line, names the file, and leaves everything as it was; what can, goes on.
func TestStreamRefusals(t *testing.T) {
	files := t.TempDir()
	path := streamFiles(t, files)["a.jsonl"]
	dir := t.TempDir()
	finish(t, start(t, dir, streamJob(path)), 6)
	before := checkpoint(t, dir, 6)
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	refused := func(kind error, want ...string) {
		t.Helper()
		_, err := Resume(dir, nil, Options{})
		require.ErrorIs(t, err, kind)
		require.NotContains(t, err.Error(), "\n")
		for _, w := range want {
			require.ErrorContains(t, err, w)
		}
		require.Equal(t, before, checkpoint(t, dir, 6))
	}
	require.NoError(t, os.WriteFile(path, bytes.Replace(text, []byte("Document 50"), []byte("document 50"), 1), 0o666))
	refused(data.ErrChanged, path, "another beginning or end")
	require.NoError(t, os.WriteFile(path, bytes.Replace(text, []byte("Document 1 "), []byte("Document 01 "), 1), 0o666)) // held out
	refused(data.ErrChanged, path, "bytes, it had")
	require.NoError(t, os.Remove(path))
	refused(data.ErrMissing, path)
	require.NoError(t, os.WriteFile(path, text, 0o666))

	job, err := os.ReadFile(filepath.Join(dir, "config.json"))
	require.NoError(t, err)
	change := func(from, to string) {
		t.Helper()
		changed := bytes.Replace(job, []byte(from), []byte(to), 1)
		require.NotEqual(t, job, changed)
		require.NoError(t, os.WriteFile(filepath.Join(dir, "config.json"), changed, 0o666))
	}
	change(`"shuffle_buffer": 23`, `"shuffle_buffer": 24`)
	refused(data.ErrPlace, "data.shuffle_buffer was 23, it is 24")
	change("\"streaming\": true,\n    \"shuffle_buffer\": 23,\n    \"held_out\": 4", `"text_field": "text"`)
	_, err = Resume(dir, nil, Options{})
	var changed *ChangedError
	require.ErrorAs(t, err, &changed)
	require.ErrorContains(t, err, "data.streaming was true, it is false")

	// The same files elsewhere are the same stream.
	moved := filepath.Join(t.TempDir(), "a.jsonl")
	require.NoError(t, os.WriteFile(moved, text, 0o666))
	require.NoError(t, os.Remove(path))
	from, to := must(json.Marshal(path)), must(json.Marshal(moved))
	change(string(from), string(to))
	r, err := Resume(dir, nil, Options{})
	require.NoError(t, err)
	finish(t, r, 8)

	// A stream that cannot give an example leaves no run.
	j := streamJob(moved)
	j.Data.HeldOut = 67
	dir = filepath.Join(t.TempDir(), "none")
	_, err = Start(dir, j, nil, Options{})
	require.ErrorIs(t, err, data.ErrTooShort)
	require.NoFileExists(t, filepath.Join(dir, "config.json"))

	// A record that is broken ends the run where it is read; what was saved stays.
	bad := filepath.Join(t.TempDir(), "bad.jsonl")
	require.NoError(t, os.WriteFile(bad, append(bytes.Clone(text), '{', '\n'), 0o666))
	dir = t.TempDir()
	r = start(t, dir, streamJob(bad))
	_, err = r.Train(context.Background(), 0)
	require.ErrorIs(t, err, data.ErrTorn)
	require.ErrorContains(t, err, "bad.jsonl:68")
	require.Regexp(t, `^step \d+: `, err.Error())
	require.NoError(t, r.Close())
}

// TestStreamsOfOtherTasks: masked tokens and classes are learnt from streams, too, and resume.
func TestStreamsOfOtherTasks(t *testing.T) {
	var lines bytes.Buffer
	for i := range 90 {
		fmt.Fprintf(&lines, "{\"text\":\"%s %d\",\"label\":\"%s\"}\n", []string{"good", "bad"}[i%2], i, []string{"yes", "no"}[i%2])
	}
	path := filepath.Join(t.TempDir(), "a.jsonl")
	require.NoError(t, os.WriteFile(path, lines.Bytes(), 0o666))
	for _, task := range []string{"masked_lm", "sequence_classification"} {
		j := tinyJob()
		j.Model = json.RawMessage(`{"model_type":"encoder","task":"` + task + `","vocab_size":262,"hidden_size":24,"intermediate_size":56,"num_hidden_layers":1,"num_attention_heads":3,
			"max_position_embeddings":64,"attention":[{"type":"full"}]}`)
		j.Train.SequenceLength, j.Train.Steps, j.Train.LR = 7, 30, 5e-3
		j.Data = data.Config{Path: path, Streaming: true, HeldOut: 10, ShuffleBuffer: 31}
		if task == "sequence_classification" {
			j.Model = bytes.Replace(j.Model, []byte(`"hidden_size"`), []byte(`"num_labels":2,"hidden_size"`), 1)
			j.Data.Classes = []string{"no", "yes"}
		}
		whole, parts := t.TempDir(), t.TempDir()
		var first float64
		r, err := Start(whole, j, nil, Options{Hooks: Hooks{Step: func(e StepEvent) {
			if e.Step == 1 {
				first = e.Loss
			}
		}}})
		require.NoError(t, err)
		res, err := r.Train(context.Background(), 0)
		require.NoError(t, err)
		require.NoError(t, r.Close())
		require.Less(t, *res.ValLoss, 0.9*first, task)
		finish(t, start(t, parts, j), 17)
		r, err = Resume(parts, nil, Options{})
		require.NoError(t, err)
		finish(t, r, 0)
		require.Equal(t, checkpoint(t, whole, 30)["optimizer.safetensors"], checkpoint(t, parts, 30)["optimizer.safetensors"], task)
	}
}
