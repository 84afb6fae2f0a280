package data

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/euryale-ml/euryale/internal/config"
)

// TestPiecesHaveTheWordsOfTheText: a BPE gives the same tokens for the pieces of a text as for all of it.
func TestPiecesHaveTheWordsOfTheText(t *testing.T) {
	src, err := readEmbedded()
	require.NoError(t, err)
	text, tok := src.docs[0].text[:200_000], bookBPE(t)
	left := maxBytes
	in, err := openPieces(write(t, t.TempDir(), "book.txt", text), place{}, &left)
	require.NoError(t, err)
	defer in.close()
	var got []int32
	pieces := 0
	for {
		doc, ok, err := in.next()
		if err == io.EOF {
			break
		}
		require.NoError(t, err)
		require.True(t, ok)
		pieces++
		got = append(got, tok.Encode(string(doc.text))...)
	}
	require.Greater(t, pieces, 40)
	require.Equal(t, tok.Encode(string(text)), got)
	require.Equal(t, place{int64(pieces), int64(len(text)), bytes.Count(text, []byte("\n"))}, in.place())
}

// TestPiecesEndBetweenCharacters: whatever the text, its pieces are all of it, none is too long, and no character is torn.
func TestPiecesEndBetweenCharacters(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		unit := rapid.SampledFrom([]string{"a", "ä", "中", "😀", " ", "x\n", " \n", "ab\n\n", "\u00a0\n"}).Draw(t, "unit")
		other := rapid.SampledFrom([]string{"", "b", "é\n", "\n"}).Draw(t, "other")
		text := []byte(strings.Repeat(unit, rapid.IntRange(0, 60_000).Draw(t, "n")) + other + strings.Repeat(unit, rapid.IntRange(1, 50_000).Draw(t, "m")))
		for rest := text; len(rest) > 0; {
			ahead := rest[:min(len(rest), mostPiece+4)]
			n := pieceEnd(ahead, len(ahead) == len(rest))
			require.Positive(t, n)
			require.LessOrEqual(t, n, mostPiece)
			require.True(t, n == len(rest) || rest[n]&0xc0 != 0x80, "at %d of %d", n, len(rest))
			rest = rest[n:]
		}
	})
}

// TestStreamMemory: 30 MB are read with a small buffer in a small part of their memory, be they lines or one text.
func TestStreamMemory(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a.jsonl", "a.txt"} {
		path := filepath.Join(dir, name)
		f, err := os.Create(path)
		require.NoError(t, err)
		size := 0
		for i := 0; size < 30<<20; i++ {
			line := fmt.Sprintf("%d %s\n", i, strings.Repeat("so it goes ", 150))
			if name == "a.jsonl" {
				line = fmt.Sprintf("{\"text\":%q}\n", line)
			}
			n, err := f.WriteString(line)
			require.NoError(t, err)
			size += n
		}
		require.NoError(t, f.Close())
		heap := func() int {
			runtime.GC()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			return int(m.HeapAlloc)
		}
		before := heap()
		corpus, s := streamSampler(t, Config{Path: path, Streaming: true, ShuffleBuffer: 100, HeldOut: 20}, 1024, 1)
		b := corpus.Train.Shape(1024).NewBatch(8, 1024)
		most, at := 0, int64(0)
		for ; s.Epoch(0) == 0; at += 8 {
			require.NoError(t, s.Fill(at, b))
			if at%4096 == 0 {
				most = max(most, heap()-before)
			}
		}
		require.Greater(t, at, int64(15_000), "all of it was read")
		require.Less(t, most, 2<<20, name)
		runtime.KeepAlive(corpus)
		runtime.KeepAlive(s)
	}
}

func TestStreamRefuses(t *testing.T) {
	docs := streamDocs(97)
	paths := streamFormats(t, docs)
	good := streamConfig("jsonl", paths["jsonl"], 7)
	for name, c := range map[string]struct {
		change func(c *Config)
		fields []string
	}{
		"buffer":    {func(c *Config) { c.ShuffleBuffer = -1 }, []string{"data.shuffle_buffer"}},
		"held out":  {func(c *Config) { c.HeldOut = 1 }, []string{"data.held_out"}},
		"both":      {func(c *Config) { c.HeldOut, c.ShuffleBuffer = -3, -2 }, []string{"data.shuffle_buffer", "data.held_out"}},
		"no stream": {func(c *Config) { c.Streaming = false }, []string{"data.shuffle_buffer", "data.held_out"}},
		"pairs":     {func(c *Config) { c.Objective = "seq2seq_lm" }, []string{"data.streaming"}},
		"questions": {func(c *Config) { c.Objective = "question_answering" }, []string{"data.streaming"}},
		"images":    {func(c *Config) { c.Objective = "image_density" }, []string{"data.streaming"}},
		"classes":   {func(c *Config) { c.Objective = "sequence_classification" }, []string{"data.classes"}},
		"name":      {func(c *Config) { c.Path = "sotu" }, []string{"data.path"}},
		"book":      {func(c *Config) { c.Path = "" }, []string{"data.path"}},
		"group":     {func(c *Config) { c.GroupField = "label" }, []string{"data.group_field"}},
		"task":      {func(c *Config) { c.Task, c.Path = "needle", "" }, []string{"data.streaming"}},
	} {
		config := good
		c.change(&config)
		_, err := Load(config)
		require.Equal(t, c.fields, faultPaths(t, err), name)
	}
	_, err := LoadWhole(Config{Path: good.Path, Streaming: true, ShuffleBuffer: 3, HeldOut: 2})
	require.NoError(t, err, "as a whole")

	dir := t.TempDir()
	broken := string(bytes.Repeat([]byte(`{"text":"some words"}`+"\n"), 30))
	for name, c := range map[string]struct {
		config Config
		length int
		kind   error
		want   []string
	}{
		"no file":       {Config{Path: filepath.Join(dir, "none.txt")}, 5, ErrMissing, []string{"none.txt"}},
		"empty file":    {Config{Path: write(t, dir, "empty.txt", nil)}, 5, ErrEmpty, []string{"empty.txt"}},
		"empty gz":      {Config{Path: write(t, dir, "empty.txt.gz", gzipped(t, nil))}, 5, ErrEmpty, []string{"empty.txt.gz"}},
		"empty folder":  {Config{Path: t.TempDir()}, 5, ErrEmpty, []string{"no file"}},
		"other forms":   {Config{Path: filepath.Dir(write(t, dir, "forms/a.txt", []byte("a")))}, 5, ErrFormat, []string{"b.jsonl", "a.txt"}},
		"extension":     {Config{Path: write(t, dir, "a.doc", []byte("a"))}, 5, ErrFormat, []string{".doc"}},
		"text of class": {Config{Path: paths["books"], Objective: "sequence_classification", Classes: []string{"a"}}, 5, ErrFormat, []string{"no classes"}},
		"held out":      {Config{Path: good.Path, HeldOut: 98}, 5, ErrTooShort, []string{"97 records", "98", "data.held_out"}},
		"all held out":  {Config{Path: good.Path, HeldOut: 97}, 5, ErrTooShort, []string{"97 records", "data.held_out"}},
		"too long":      {Config{Path: good.Path, ShuffleBuffer: 2}, 0, ErrTooShort, []string{"too short for sequence_length", "sequence_length to at most"}},
		"no length":     {Config{Path: good.Path}, -1, ErrTooShort, []string{"sequence_length is -1"}},
		"broken line":   {Config{Path: write(t, dir, "b.jsonl", []byte(broken+"{\n"))}, 5, ErrTorn, []string{"b.jsonl:31"}},
		"broken gzip":   {Config{Path: write(t, dir, "b.jsonl.gz", gzipped(t, []byte(broken))[:40])}, 5, ErrTorn, []string{"b.jsonl.gz"}},
		"binary":        {Config{Path: write(t, dir, "b.txt", append(prose(1000), 0))}, 500, ErrBinary, []string{"b.txt", "is 0"}},
		"field":         {Config{Path: good.Path, TextField: "body"}, 5, ErrFormat, []string{`"body"`}},
		"class": {Config{Path: good.Path, Objective: "sequence_classification", Classes: []string{"0", "1", "2 "}}, 5, ErrLabel,
			[]string{`"2"`}},
	} {
		c.config.Streaming = true
		if c.config.HeldOut == 0 {
			c.config.HeldOut = 3
		}
		if name == "other forms" {
			write(t, dir, "forms/b.jsonl", []byte("{}"))
		}
		if c.length == 0 {
			c.length = longestTrained(docs) // one less would do
		}
		err := func() error {
			corpus, err := Load(c.config)
			if err != nil {
				return err
			}
			s, err := corpus.Train.Sampler(c.length, 1)
			if err != nil {
				return err
			}
			defer s.Close()
			b := corpus.Train.Shape(c.length).NewBatch(1, c.length)
			for at := int64(0); err == nil && at < 400; at++ {
				err = s.Fill(at, b)
			}
			return err
		}()
		requireError(t, err, c.kind, name, c.want...)
	}
	corpus, s := streamSampler(t, Config{Path: good.Path, Streaming: true, HeldOut: 3, ShuffleBuffer: 2}, longestTrained(docs)-1, 1)
	for at := range int64(300) {
		example1(t, corpus, s, at)
	}
	requireError(t, s.Fill(299, corpus.Train.Shape(s.T()).NewBatch(1, s.T())), ErrPlace, "back", "example 299", "example 300")
	example1(t, corpus, s, 300) // it goes on

	large := good
	large.ShuffleBuffer = 1 << 30
	corpus, err = Load(large)
	require.NoError(t, err)
	_, err = corpus.Train.Sampler(7, 1)
	require.Equal(t, []string{"data.shuffle_buffer"}, faultPaths(t, err))

	defer func(was int64) { maxRecord = was }(maxRecord)
	maxRecord = 1 << 17
	corpus, s = streamSampler(t, Config{Path: write(t, dir, "many.jsonl", bytes.Repeat([]byte(broken), 400)), Streaming: true, HeldOut: 3, ShuffleBuffer: 50}, 5, 1)
	for at := int64(0); s.Epoch(0) == 0; at++ {
		example1(t, corpus, s, at) // it is a bound of one record
	}
	long := write(t, dir, "long.jsonl", []byte(broken+`{"text":"`+strings.Repeat("x", 1<<18)+"\"}\n"))
	corpus, s = streamSampler(t, Config{Path: long, Streaming: true, HeldOut: 3, ShuffleBuffer: 50}, 5, 1)
	requireError(t, s.Begin(), ErrTooLarge, "long", "record 31", "131072")
	require.NotNil(t, corpus)
}

// longestTrained is the size of the longest document that TestStreamRefuses trains on.
func longestTrained(docs []tableRow) (n int) {
	for _, r := range docs[3:] {
		if r.Split == nil {
			n = max(n, len(r.Text))
		}
	}
	return n
}

// TestStreamBPE: a BPE is trained on the beginning of what is trained on, no further than its bound.
func TestStreamBPE(t *testing.T) {
	defer func(was int64) { sampleBytes = was }(sampleBytes)
	var b strings.Builder
	for i := range 400 {
		word := "early"
		if i >= 200 {
			word = "later"
		}
		if i < 3 {
			word = "never"
		}
		fmt.Fprintf(&b, "{\"text\":%q}\n", strings.Repeat(word+" ", 10))
	}
	c := Config{Path: write(t, t.TempDir(), "a.jsonl", []byte(b.String())), Streaming: true, HeldOut: 3, Tokenizer: "bpe:300"}
	pieces := func() map[string]bool {
		corpus, err := Load(c)
		require.NoError(t, err)
		all := map[string]bool{}
		for id := range corpus.Tokenizer.VocabSize() {
			all[corpus.Tokenizer.Decode([]int32{int32(id)})] = true
		}
		return all
	}
	all := pieces()
	require.True(t, all[" early"] && all[" later"], slices.Collect(maps.Keys(all)))
	require.False(t, all[" never"], "held out")
	sampleBytes = 5000
	all = pieces()
	require.True(t, all[" early"])
	require.False(t, all[" later"])
}

// faultPaths are the fields that an error names.
func faultPaths(t *testing.T, err error) (paths []string) {
	t.Helper()
	require.Error(t, err)
	for _, f := range config.Faults(err) {
		field := (*config.FieldError)(nil)
		require.ErrorAs(t, f, &field)
		paths = append(paths, field.Path)
	}
	return paths
}
