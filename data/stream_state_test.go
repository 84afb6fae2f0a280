package data

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// saved is a state as a checkpoint gives it back.
func saved(t *testing.T, s *Sampler) *StreamState {
	t.Helper()
	st := s.State()
	require.NotNil(t, st)
	text, err := json.Marshal(st)
	require.NoError(t, err)
	var again StreamState
	require.NoError(t, json.Unmarshal(text, &again))
	for _, x := range st.Tensors {
		switch data := x.Data.(type) {
		case []uint8:
			x.Data = slices.Clone(data)
		case []int32:
			x.Data = slices.Clone(data)
		}
		again.Tensors = append(again.Tensors, x)
	}
	return &again
}

// TestStreamResumes: from a state a stream goes on to the bit, at any place, in any form, whatever is asked.
func TestStreamResumes(t *testing.T) {
	docs := streamDocs(97)
	tok := bookBPE(t)
	for name, path := range streamFormats(t, docs) {
		c := streamConfig(name, path, 7)
		configs := []Config{c, c.With(tok)}
		configs[1].Objective, configs[1].MaskUnit = "masked_lm", "word"
		if !strings.HasPrefix(name, "txt") && name != "books" {
			c.Objective, c.Classes = "sequence_classification", []string{"2", "0", "1"}
			configs = append(configs, c)
		}
		for _, c := range configs {
			const rows, steps = 3, 80
			length := 71
			if name == "books" || strings.HasPrefix(name, "txt") {
				length = 997
			}
			corpus, s := streamSampler(t, c, length, 2)
			first := saved(t, s) // nothing was read
			var want []*Batch
			states := map[int]*StreamState{0: first}
			for i := range steps {
				b := corpus.Train.Shape(length).NewBatch(rows, length)
				require.NoError(t, s.Fill(int64(i*rows), b))
				want = append(want, b)
				if i%7 == 2 || s.flow.rest.len() > s.flow.from+length {
					states[i+1] = saved(t, s)
				}
			}
			require.Greater(t, len(states), 10)
			for at, state := range states {
				again, fresh := streamSampler(t, c, length, 2)
				require.Equal(t, corpus.Digest, again.Digest)
				require.NoError(t, fresh.Restore(state), "%s at %d", name, at)
				for i := at; i < min(steps, at+9); i++ {
					b := corpus.Train.Shape(length).NewBatch(rows, length)
					require.NoError(t, fresh.Fill(int64(i*rows), b))
					require.Equal(t, want[i], b, "%s %s: step %d from %d", name, c.Objective, i, at)
					if i == at+4 {
						fresh.Close() // a file that was closed is opened again
					}
				}
			}
			require.Positive(t, s.Epoch(0), "across the end of an epoch")
		}
	}
}

// TestStreamNoticesChanges: a file that is not what it was is named, be it when a state is restored or when the file is opened again.
func TestStreamNoticesChanges(t *testing.T) {
	docs := streamDocs(97)
	for _, c := range []struct {
		name   string
		change func(t *testing.T, dir string)
		want   []string
	}{
		{"longer", func(t *testing.T, dir string) {
			f, err := os.OpenFile(filepath.Join(dir, "3/part.jsonl"), os.O_APPEND|os.O_WRONLY, 0)
			require.NoError(t, err)
			_, err = f.WriteString("{\"text\":\"more\"}\n")
			require.NoError(t, err)
			require.NoError(t, f.Close())
		}, []string{filepath.Join("3", "part.jsonl"), "bytes, it had"}},
		{"other text", func(t *testing.T, dir string) {
			path := filepath.Join(dir, "3/part.jsonl")
			text, err := os.ReadFile(path)
			require.NoError(t, err)
			write(t, dir, "3/part.jsonl", bytes.Replace(text, []byte(`"text":"6`), []byte(`"text":"7`), 1))
		}, []string{filepath.Join("3", "part.jsonl"), "another beginning or end"}},
		{"gone", func(t *testing.T, dir string) { require.NoError(t, os.Remove(filepath.Join(dir, "3/part.jsonl"))) }, []string{"3/part.jsonl", "not there any more"}},
		{"last gone", func(t *testing.T, dir string) { require.NoError(t, os.Remove(filepath.Join(dir, "4/part.jsonl"))) }, []string{"4/part.jsonl", "not there any more"}},
		{"new", func(t *testing.T, dir string) { write(t, dir, "2/part2.jsonl", []byte("{\"text\":\"more\"}\n")) }, []string{filepath.Join("2", "part2.jsonl"), "was not there"}},
		{"last new", func(t *testing.T, dir string) { write(t, dir, "5/part.jsonl", []byte("{\"text\":\"more\"}\n")) }, []string{filepath.Join("5", "part.jsonl"), "was not there"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := streamFormats(t, docs)["shards"]
			config := streamConfig("shards", dir, 3)
			corpus, s := streamSampler(t, config, 31, 2)
			for at := range int64(40) {
				example1(t, corpus, s, at)
			}
			state := saved(t, s)
			s.Close()
			c.change(t, dir)
			_, fresh := streamSampler(t, config, 31, 2)
			requireError(t, fresh.Restore(state), ErrChanged, c.name, append(c.want, "fit --from")...)
			if strings.HasSuffix(c.name, "new") {
				return // what goes on does not look for new files
			}
			var err error
			for at := int64(40); err == nil && at < 2000; at++ {
				err = s.Fill(at, corpus.Train.Shape(31).NewBatch(1, 31))
			}
			kind := ErrChanged
			if strings.HasSuffix(c.name, "gone") {
				kind = ErrMissing
			}
			requireError(t, err, kind, c.name, filepath.FromSlash(c.want[0]))
			require.Equal(t, err, s.Fill(41, corpus.Train.Shape(31).NewBatch(1, 31)), "there is no going on")
			require.Nil(t, s.State())
		})
	}
}

// TestStreamSum: a file is known by its beginning and by its end, whatever is between.
func TestStreamSum(t *testing.T) {
	content := bytes.Repeat([]byte("words "), 50_000)
	path := write(t, t.TempDir(), "a.txt", content)
	size, sum, err := lookAt(path)
	require.NoError(t, err)
	file := streamFile{path, plainText, StreamFile{"a.txt", size, sum}}
	for at, noticed := range map[int]bool{0: true, summed - 1: true, len(content) / 2: false, len(content) - summed: true, len(content) - 1: true} {
		changed := bytes.Clone(content)
		changed[at] ^= 1
		require.NoError(t, os.WriteFile(path, changed, 0o644))
		err := file.check()
		if !noticed {
			require.NoError(t, err)
			continue
		}
		requireError(t, err, ErrChanged, path, "beginning or end")
	}
}

// TestStreamStates: a state of another stream, or one that cannot be, is refused and leaves the sampler as it was.
func TestStreamStates(t *testing.T) {
	paths := streamFormats(t, streamDocs(97))
	c := streamConfig("jsonl", paths["jsonl"], 7)
	c.Objective, c.Classes = "sequence_classification", []string{"0", "1", "2"}
	corpus, s := streamSampler(t, c, 31, 2)
	for at := range int64(33) {
		example1(t, corpus, s, at)
	}
	good := func() *StreamState { return saved(t, s) }
	set := func(st *StreamState, name string, change func(x *StreamTensor)) {
		for i := range st.Tensors {
			if st.Tensors[i].Name == name {
				change(&st.Tensors[i])
			}
		}
	}
	for name, change := range map[string]func(st *StreamState){
		"drawn":         func(st *StreamState) { st.Drawn = -1 },
		"file":          func(st *StreamState) { st.File = 2 },
		"offset":        func(st *StreamState) { st.Offset = -2 },
		"left":          func(st *StreamState) { st.Left = -2 },
		"no tensors":    func(st *StreamState) { st.Tensors = nil },
		"no buffer":     func(st *StreamState) { st.Tensors = st.Tensors[1:] },
		"no labels":     func(st *StreamState) { st.Tensors = st.Tensors[:2] },
		"other type":    func(st *StreamState) { set(st, "buffer", func(x *StreamTensor) { x.Data = make([]int32, 7*31) }) },
		"other shape":   func(st *StreamState) { set(st, "buffer", func(x *StreamTensor) { x.Shape = []int{7, 30} }) },
		"short":         func(st *StreamState) { set(st, "lengths", func(x *StreamTensor) { x.Data = x.Data.([]int32)[:6] }) },
		"length":        func(st *StreamState) { set(st, "lengths", func(x *StreamTensor) { x.Data.([]int32)[3] = 31 }) },
		"no length":     func(st *StreamState) { set(st, "lengths", func(x *StreamTensor) { x.Data.([]int32)[3] = 0 }) },
		"class":         func(st *StreamState) { set(st, "labels", func(x *StreamTensor) { x.Data.([]int32)[3] = -1 }) },
		"lengths shape": func(st *StreamState) { set(st, "lengths", func(x *StreamTensor) { x.Shape = nil }) },
	} {
		st := good()
		change(st)
		_, fresh := streamSampler(t, c, 31, 2)
		requireError(t, fresh.Restore(st), ErrTorn, name, "state of the stream")
		b := example1(t, corpus, fresh, 0)
		_, first := streamSampler(t, c, 31, 2)
		require.Equal(t, example1(t, corpus, first, 0), b, "as it was")
	}
	for name, of := range map[string]struct {
		length int
		seed   uint64
		change func(c *Config)
	}{
		"train.sequence_length": {30, 2, func(*Config) {}},
		"train.seed":            {31, 3, func(*Config) {}},
		"data.shuffle_buffer":   {31, 2, func(c *Config) { c.ShuffleBuffer = 8 }},
		"data.held_out":         {31, 2, func(c *Config) { c.HeldOut = 6 }},
	} {
		other := c
		of.change(&other)
		_, fresh := streamSampler(t, other, of.length, of.seed)
		requireError(t, fresh.Restore(good()), ErrPlace, name, name)
	}
	whole, err := Load(Config{Path: paths["jsonl"]})
	require.NoError(t, err)
	memory, err := whole.Train.Sampler(31, 2)
	require.NoError(t, err)
	require.Nil(t, memory.State())
	requireError(t, memory.Restore(good()), ErrPlace, "no stream", "data.streaming")
	require.NoError(t, memory.Begin())
	memory.Close()

	// ids that the tokenizer does not have
	c = streamConfig("jsonl", paths["jsonl"], 7).With(bookBPE(t))
	corpus, s = streamSampler(t, c, 31, 2)
	example1(t, corpus, s, 0)
	st := saved(t, s)
	set(st, "buffer", func(x *StreamTensor) { x.Data.([]int32)[40] = int32(corpus.Tokenizer.VocabSize()) })
	_, fresh := streamSampler(t, c, 31, 2)
	requireError(t, fresh.Restore(st), ErrTorn, "ids")
}

// TestStreamTellsTheLine: after a state was restored, errors name the line that they would have named.
func TestStreamTellsTheLine(t *testing.T) {
	dir := t.TempDir()
	var lines, table strings.Builder
	table.WriteString("text\n")
	for i := range 40 {
		fmt.Fprintf(&lines, "{\"text\":\"line %d\"}\n\n", i)
		fmt.Fprintf(&table, "\"a line\nand\r\nanother, %d\"\n\n", i)
	}
	for name, text := range map[string]string{"a.jsonl": lines.String() + "{", "a.csv": table.String() + "one,two\n", "a.csv.gz": table.String() + "one,two\n"} {
		content := []byte(text)
		if strings.HasSuffix(name, "gz") {
			content = gzipped(t, content)
		}
		c := Config{Path: write(t, dir, name, content), Streaming: true, HeldOut: 3, ShuffleBuffer: 1}
		corpus, s := streamSampler(t, c, 5, 1)
		b := corpus.Train.Shape(5).NewBatch(1, 5)
		var states []*StreamState
		var err error
		for at := int64(0); err == nil; at++ {
			states = append(states, saved(t, s))
			err = s.Fill(at, b)
		}
		want := fmt.Sprintf("%s:%d: ", name, strings.Count(text, "\n")+strings.Count(name, "jsonl"))
		requireError(t, err, ErrTorn, name, want)
		for at := len(states) - 1; at >= 0; at -= 5 {
			_, fresh := streamSampler(t, c, 5, 1)
			require.NoError(t, fresh.Restore(states[at]))
			for k := at; k < len(states)-1; k++ {
				require.NoError(t, fresh.Fill(int64(k), b))
			}
			require.Equal(t, err, fresh.Fill(int64(len(states)-1), b), name)
		}
	}
}
