package data

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/euryale-ml/euryale/internal/config"
)

// streamDocs are documents of many lengths, no two alike. Some say that they are not for training.
func streamDocs(n int) (all []tableRow) {
	for i := range n {
		text := fmt.Sprintf("%d", i)
		for k := range i * 37 % 101 {
			text += fmt.Sprintf(" %d", (i*i+k*7)%1000)
		}
		row := tableRow{ID: int32(i), Text: text, Label: int64(i % 3)}
		if i%11 == 5 {
			row.Split = &PartNames[1+i%2]
		}
		all = append(all, row)
	}
	return all
}

// streamFormats writes documents in every form that a stream reads, in one file or in several, and returns the paths.
func streamFormats(t testing.TB, docs []tableRow) map[string]string {
	dir := t.(interface{ TempDir() string }).TempDir()
	tt, ok := t.(*testing.T)
	require.True(t, ok)
	split := func(r tableRow) string {
		if r.Split == nil {
			return ""
		}
		return *r.Split
	}
	lines := func(docs []tableRow) []byte {
		var b bytes.Buffer
		for i, r := range docs {
			fmt.Fprintf(&b, "{\"text\":%q,\"label\":%d,\"split\":%q}\n", r.Text, r.Label, split(r))
			if i%5 == 0 {
				b.WriteString(" \n")
			}
		}
		return b.Bytes()
	}
	var table, tabs, bare bytes.Buffer
	table.WriteString("text,label,split\r\n")
	tabs.WriteString("kind\tbody\tlabel\n")
	for i, r := range docs {
		fmt.Fprintf(&table, "\"%s\",%d,%s\n", r.Text, r.Label, split(r))
		if i%7 == 0 {
			table.WriteString("\n")
		}
		fmt.Fprintf(&bare, "%d,\"%s\"\n", r.Label, r.Text)
		fmt.Fprintf(&tabs, "a\t%s\t%d\r\n", r.Text, r.Label)
	}
	var text bytes.Buffer
	for again := range 6 {
		for _, r := range docs {
			fmt.Fprintf(&text, "%d: %s.\n\n", again, r.Text)
			if r.ID%3 == 0 {
				fmt.Fprintf(&text, "So it is in %d.\nä%s", r.ID, strings.Repeat("ö", int(r.ID)%5))
			}
		}
	}
	paths := map[string]string{
		"jsonl":      write(tt, dir, "a.jsonl", lines(docs)),
		"jsonl.gz":   write(tt, dir, "b.jsonl.gz", gzipped(tt, lines(docs))),
		"csv":        write(tt, dir, "a.csv", table.Bytes()),
		"csv.gz":     write(tt, dir, "b.csv.gz", gzipped(tt, table.Bytes())),
		"bare.csv":   write(tt, dir, "bare.csv", bare.Bytes()),
		"tsv":        write(tt, dir, "a.tsv", tabs.Bytes()),
		"parquet":    write(tt, dir, "a.parquet", parquetOf(tt, docs, parquet.MaxRowsPerRowGroup(13), parquet.PageBufferSize(512))),
		"txt":        write(tt, dir, "a.txt", text.Bytes()),
		"txt.gz":     write(tt, dir, "b.txt.gz", gzipped(tt, text.Bytes())),
		"shards":     filepath.Join(dir, "shards"),
		"books":      filepath.Join(dir, "books"),
		"shards.mix": filepath.Join(dir, "mix"),
	}
	for i := range 5 {
		part := docs[i*len(docs)/5 : (i+1)*len(docs)/5]
		write(tt, paths["shards"], fmt.Sprintf("%d/part.jsonl", i), lines(part))
		write(tt, paths["shards.mix"], fmt.Sprintf("%d.ndjson.gz", i), gzipped(tt, lines(part)))
	}
	write(tt, paths["shards.mix"], "empty.jsonl.gz", gzipped(tt, nil))
	for i := range 3 {
		write(tt, paths["books"], fmt.Sprintf("%d.txt", i), text.Bytes()[i*text.Len()/4:(i+1)*text.Len()/4+i])
	}
	write(tt, paths["books"], "short.text", []byte("A short one."))
	write(tt, paths["books"], "empty.txt", nil)
	write(tt, paths["books"], "table.tsv", []byte("no\ttext\n"))
	return paths
}

// streamConfig is the configuration of a format.
func streamConfig(name, path string, buffer int) Config {
	c := Config{Path: path, Streaming: true, ShuffleBuffer: buffer, HeldOut: 5}
	switch name {
	case "tsv":
		c.TextField = "body"
	case "bare.csv":
		c.TextField, c.LabelField = "2", "1"
	}
	return c
}

func streamSampler(t *testing.T, c Config, length int, seed uint64) (*Corpus, *Sampler) {
	t.Helper()
	corpus, err := Load(c)
	require.NoError(t, err)
	s, err := corpus.Train.Sampler(length, seed)
	require.NoError(t, err)
	t.Cleanup(s.Close)
	return corpus, s
}

// example1 is an example as a batch of one row.
func example1(t *testing.T, corpus *Corpus, s *Sampler, at int64) *Batch {
	t.Helper()
	b := corpus.Train.Shape(s.T()).NewBatch(1, s.T())
	require.NoError(t, s.Fill(at, b))
	return b
}

// tokensOf1 are the tokens of an example of a language model.
func tokensOf1(b *Batch) string {
	n := b.Lens[0]
	return Bytes{}.Decode(append(slices.Clone(b.IDs[:n]), b.Targets[n-1]))
}

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

// trained are the documents of a test that are not held out and are for training.
func trained(docs []tableRow, marked bool) (texts []string) {
	for _, r := range docs[5:] {
		if r.Split == nil || !marked {
			texts = append(texts, r.Text)
		}
	}
	return texts
}

// TestStreamCutsLikeParts: with a buffer of one the examples are those of the documents in their order, each cut by the rule of parts in memory.
func TestStreamCutsLikeParts(t *testing.T) {
	docs := streamDocs(97)
	const length = 29
	for name, path := range streamFormats(t, docs) {
		if strings.HasPrefix(name, "txt") || name == "books" || strings.HasPrefix(name, "shards") {
			continue
		}
		corpus, s := streamSampler(t, streamConfig(name, path, 1), length, 3)
		at, offsets := int64(0), map[int]bool{}
		for epoch := range 3 {
			for _, doc := range trained(docs, name != "tsv" && name != "bare.csv") {
				n := sequences(len(doc)-1, length)
				if len(doc) < 2 {
					n = 0
				}
				for from, i := 0, 0; i < n; i++ {
					got := tokensOf1(example1(t, corpus, s, at))
					if at++; i == 0 {
						from = strings.Index(doc, got)
						require.LessOrEqual(t, from, max(0, len(doc)-1-n*length), "%s: %q of %q", name, got, doc)
						require.GreaterOrEqual(t, from, 0)
						offsets[from] = true
					}
					require.Equal(t, doc[from+i*length:min(len(doc), from+(i+1)*length+1)], got, "%s, epoch %d", name, epoch)
				}
			}
			require.EqualValues(t, epoch+1, s.Epoch(0), "%s: one is read ahead", name)
			require.Zero(t, s.PerEpoch())
		}
		require.Greater(t, len(offsets), 20, "they differ by epoch and document")
	}
}

// TestStreamOfText: a plain text gives windows end to end, from an offset of its epoch on, until less than one is left.
func TestStreamOfText(t *testing.T) {
	docs := streamDocs(97)
	paths := streamFormats(t, docs)
	text, err := os.ReadFile(paths["txt"])
	require.NoError(t, err)
	require.Greater(t, len(text), 5*leastPiece)
	for _, name := range []string{"txt", "txt.gz"} {
		for _, length := range []int{53, 5003} { // many windows in a piece; a window of many pieces
			c := streamConfig(name, paths[name], 1)
			if c.HeldOut = 2; length == 53 {
				c.HeldOut = 3
			}
			corpus, s := streamSampler(t, c, length, 5)
			held := corpus.Val.Bytes() + corpus.Test.Bytes()
			require.Equal(t, []int{1, 1}, []int{corpus.Val.Documents(), corpus.Test.Documents()}, "pieces of one text are one document")
			require.Equal(t, string(text[:held]), Bytes{}.Decode(corpus.Val.Document(0))+Bytes{}.Decode(corpus.Test.Document(0)))
			rest := string(text[held:])
			at, first := int64(0), map[int]bool{}
			for range 3 {
				from := strings.Index(rest, tokensOf1(example1(t, corpus, s, at)))
				require.GreaterOrEqual(t, from, 0)
				first[from] = true
				n := sequences(len(rest)-1, length)
				if at++; n >= freePhase-1 { // longer than what is looked at beforehand
					require.Less(t, from, length)
					n = (len(rest) - 1 - from) / length
				}
				for i := 1; i < n; i++ {
					require.Equal(t, rest[from+i*length:from+(i+1)*length+1], tokensOf1(example1(t, corpus, s, at)))
					at++
				}
			}
			require.Len(t, first, 3, "another offset in each epoch")
		}
	}
}

// TestStreamBufferHoldsEachOnce: what was drawn and what waits is together what was read, in any form, for any size of the buffer. So each example comes once an
// epoch, apart from those that wait when it ends.
func TestStreamBufferHoldsEachOnce(t *testing.T) {
	docs := streamDocs(61)
	for name, path := range streamFormats(t, docs) {
		const seed, draws = 9, 700
		length := 41
		if name == "books" || strings.HasPrefix(name, "txt") {
			length = 301
		}
		corpus, order := streamSampler(t, streamConfig(name, path, 1), length, seed)
		var read []string
		for at := range int64(draws + 101) {
			read = append(read, tokensOf1(example1(t, corpus, order, at)))
		}
		for _, buffer := range []int{2, 17, 101} {
			corpus, s := streamSampler(t, streamConfig(name, path, buffer), length, seed)
			count, moved := map[string]int{}, 0
			for at := range int64(draws) {
				got := tokensOf1(example1(t, corpus, s, at))
				count[got]++
				if got != read[at] {
					moved++
				}
			}
			require.Greater(t, moved, draws/3, "shuffled")
			f := s.flow
			require.Len(t, f.lens, buffer)
			for slot, n := range f.lens {
				count[string(f.buffer.tokens.small[slot*f.width:slot*f.width+int(n)+1])]++
			}
			want := map[string]int{}
			for _, x := range read[:draws+buffer] {
				want[x]++
			}
			require.Equal(t, want, count, "%s, buffer %d", name, buffer)
			require.Positive(t, s.Epoch(0), "several epochs")
		}
	}
}

// A buffer that is larger than an epoch holds one epoch.
func TestStreamSmallerThanItsBuffer(t *testing.T) {
	docs := streamDocs(40)
	path := streamFormats(t, docs)["jsonl"]
	corpus, s := streamSampler(t, streamConfig("jsonl", path, 0), 380, 1)
	require.Equal(t, standardBuffer, corpus.Train.streamed.buffer)
	require.NoError(t, s.Begin())
	require.Len(t, s.flow.lens, len(trained(docs, true)))
	require.Len(t, s.flow.buffer.tokens.small, len(s.flow.lens)*381)
	require.EqualValues(t, 1, s.Epoch(0))
	for at := range int64(100) {
		example1(t, corpus, s, at)
	}
}

// TestStreamShufflesFiles: the order of the files is another in each epoch and for each seed.
func TestStreamShufflesFiles(t *testing.T) {
	path := streamFormats(t, streamDocs(61))["shards"]
	orders := map[string]bool{}
	for seed := range uint64(3) {
		_, s := streamSampler(t, streamConfig("shards", path, 1), 41, seed)
		for epoch := range int64(4) {
			s.flow.turn(epoch)
			order := ""
			for i := range 5 {
				order += fmt.Sprint(s.flow.order.at(i))
			}
			orders[order] = true
		}
	}
	require.Greater(t, len(orders), 8)
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

// TestStreamFormsAgree: the same documents give the same examples in any form, and the same parts to evaluate.
func TestStreamFormsAgree(t *testing.T) {
	docs := streamDocs(61)
	for i := range docs {
		docs[i].Split = nil
	}
	var want []*Batch
	var parts []string
	paths := streamFormats(t, docs)
	for _, name := range []string{"jsonl", "jsonl.gz", "csv", "csv.gz", "bare.csv", "tsv", "parquet"} {
		c := streamConfig(name, paths[name], 13)
		c.Objective, c.Classes = "sequence_classification", []string{"0", "1", "2"}
		corpus, s := streamSampler(t, c, 47, 2)
		var got []*Batch
		for at := range int64(90) {
			got = append(got, example1(t, corpus, s, at))
		}
		held := []string{fmt.Sprint(corpus.Val.labels, corpus.Test.labels)}
		for _, p := range []*Part{corpus.Val, corpus.Test} {
			for d := range p.Documents() {
				held = append(held, Bytes{}.Decode(p.Document(d)))
			}
		}
		if want == nil {
			want, parts = got, held
			require.Equal(t, []string{"[0 1 2] [0 1]", docs[0].Text, docs[1].Text, docs[2].Text, docs[3].Text, docs[4].Text}, held)
		}
		require.Equal(t, want, got, name)
		require.Equal(t, parts, held, name)
	}
}

// TestStreamHoldsOut: documents that say so themselves are tested on if they are among the first, and never trained on.
func TestStreamHoldsOut(t *testing.T) {
	var b strings.Builder
	for i := range 40 {
		part := []string{"train", "val", "test"}[i%3]
		fmt.Fprintf(&b, "{\"text\":\"the number %d\",\"split\":%q}\n", i, part)
	}
	path := write(t, t.TempDir(), "a.jsonl", []byte(b.String()))
	corpus, s := streamSampler(t, Config{Path: path, Streaming: true, HeldOut: 9, ShuffleBuffer: 1}, 12, 1)
	numbers := func(p *Part) (all []string) {
		for d := range p.Documents() {
			all = append(all, strings.TrimPrefix(Bytes{}.Decode(p.Document(d)), "the number "))
		}
		return all
	}
	require.Equal(t, []string{"0", "1", "3", "4", "7"}, numbers(corpus.Val), "train is no part to evaluate on: by halves")
	require.Equal(t, []string{"2", "5", "6", "8"}, numbers(corpus.Test))
	var seen []string
	for at := range int64(11) {
		seen = append(seen, strings.TrimPrefix(tokensOf1(example1(t, corpus, s, at)), "the number "))
	}
	require.Equal(t, []string{"9", "12", "15", "18", "21", "24", "27", "30", "33", "36", "39"}, seen)
	files, size, ok := corpus.Train.Stream()
	require.Equal(t, []any{1, int64(b.Len()), true}, []any{files, size, ok})
	_, _, ok = corpus.Val.Stream()
	require.False(t, ok)
	require.Zero(t, corpus.Train.PlainWindows(11).Len())
}

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
		"label":         func(st *StreamState) { st.Label = 3 },
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
		for at := 0; at < len(states); at += 5 {
			_, fresh := streamSampler(t, c, 5, 1)
			require.NoError(t, fresh.Restore(states[at]))
			var again error
			for k := int64(at); again == nil; k++ {
				again = fresh.Fill(k, b)
			}
			require.Equal(t, err, again, name)
		}
	}
}
