package data

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"
	"github.com/stretchr/testify/require"
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
