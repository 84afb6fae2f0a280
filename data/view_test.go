package data

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/euryale-ml/euryale/internal/config"
)

// labelled writes a jsonl file of n documents of two classes.
func labelled(t *testing.T, n int) string {
	var s strings.Builder
	for i := range n {
		fmt.Fprintf(&s, "{\"text\":\"%s%d\",\"label\":%d,\"name\":\"%s\",\"set\":%t}\n", strings.Repeat("x", i%7), i, i%2, []string{"ham", "spam"}[i%2], i < 30)
	}
	return write(t, t.TempDir(), "a.jsonl", []byte(s.String()))
}

func TestLabelledDocuments(t *testing.T) {
	path := labelled(t, 41)
	for _, c := range []struct {
		field   string
		classes []string
	}{{"", []string{"0", "1"}}, {"name", []string{"ham", "spam"}}} {
		corpus, err := Load(Config{Path: path, Objective: "sequence_classification", LabelField: c.field})
		require.NoError(t, err)
		require.Equal(t, c.classes, corpus.Classes)
		require.Equal(t, []int{37, 2, 2}, []int{corpus.Train.Documents(), corpus.Val.Documents(), corpus.Test.Documents()})
		require.Equal(t, Shape{Globals: 1, Labels: 1, Classes: 2}, corpus.Val.Shape(5))
		require.Equal(t, 262, corpus.Tokenizer.VocabSize())
		w := corpus.Val.PlainWindows(5)
		require.Equal(t, 2, w.Len())
		b := corpus.Val.Shape(5).NewBatch(3, 5)
		w.Fill(0, b)
		// documents 9 and 29: "xx9", "x29"
		require.Equal(t, []int32{clsID, 'x', 'x', '9', padID, clsID, 'x', '2', '9', padID, padID, padID, padID, padID, padID}, b.IDs)
		require.Equal(t, []int32{4, 4, 0}, b.Lens)
		require.Equal(t, []int32{1, 1, -1}, b.Labels)
		require.Equal(t, []int32{0, 0, -1}, b.Globals)
		require.Zero(t, b.Scored())
		corpus.Val.PlainWindows(3).Fill(0, b3(b, 3))
		s, err := corpus.Train.Sampler(3, 1)
		require.NoError(t, err)
		require.Equal(t, 37, s.PerEpoch())
		short := corpus.Train.Shape(3).NewBatch(37, 3)
		s.Fill(0, short)
		require.Equal(t, 37, slices.Index(short.Lens, 0)+38, "every row is used")
		require.LessOrEqual(t, slices.Max(short.Lens), int32(3), "cut off")
	}
	corpus, err := Load(Config{Path: path, Objective: "sequence_classification", Classes: []string{"1", "0", "2"}})
	require.NoError(t, err)
	require.Equal(t, []string{"1", "0", "2"}, corpus.Classes, "as they were")
	require.EqualValues(t, 0, corpus.Val.labels[0])
	_, err = Load(Config{Path: path, Objective: "sequence_classification", Classes: []string{"1", "3"}})
	requireError(t, err, ErrLabel, "unknown class", `"0"`, "1, 3")

	dir := t.TempDir()
	for i := range 20 {
		write(t, dir, fmt.Sprintf("%s/%d.txt", []string{"neg", "pos"}[i/10], i), []byte(fmt.Sprintf("text %d", i)))
	}
	corpus, err = Load(Config{Path: dir, Objective: "sequence_classification"})
	require.NoError(t, err)
	require.Equal(t, []string{"neg", "pos"}, corpus.Classes)
	require.Equal(t, []int32{0}, corpus.Val.labels)
	require.Equal(t, []int32{1}, corpus.Test.labels)
}

func b3(b *Batch, t int) *Batch { return Shape{Globals: 1, Labels: 1}.NewBatch(b.B, t) }

func TestPairs(t *testing.T) {
	var s strings.Builder
	s.WriteString("id\told\tnew\tchapter\n")
	for i := range 63 {
		fmt.Fprintf(&s, "%d\tthou %d\tyou %d\tc%d\r\n", i, i, i, i/3)
	}
	path := write(t, t.TempDir(), "a.tsv.gz", gzipped(t, []byte(s.String())))
	c := Config{Path: path, Objective: "seq2seq_lm", TextField: "old", TargetField: "new", GroupField: "chapter", TargetLength: 7}
	corpus, err := Load(c)
	require.NoError(t, err)
	require.Equal(t, []int{57, 3, 3}, []int{corpus.Train.Documents(), corpus.Val.Documents(), corpus.Test.Documents()}, "whole chapters")
	require.Equal(t, "thou 27", string(Bytes{}.Decode(corpus.Val.Document(0))))
	require.Equal(t, "thou 57", string(Bytes{}.Decode(corpus.Test.Document(0))))
	require.Equal(t, Shape{Targets: 7}, corpus.Val.Shape(8))
	b := corpus.Val.Shape(8).NewBatch(4, 8)
	w := corpus.Val.PlainWindows(8)
	w.Fill(0, b)
	require.Equal(t, append(Bytes{}.Encode("thou 27"), endID), rowOf(b, b.IDs, 0))
	require.Equal(t, append([]int32{startID}, Bytes{}.Encode("you 27")...), rowOf(b, b.TargetIDs, 0))
	require.Equal(t, append(Bytes{}.Encode("you 27"), endID), rowOf(b, b.TargetTargets, 0))
	require.Equal(t, []int32{7, 7, 7, 0}, b.TargetLens)
	require.Equal(t, []int32{8, 8, 8, 0}, b.Lens)
	require.Zero(t, b.Scored())
	require.Equal(t, 18.0, b.Bytes, "the end is no byte")
	require.Equal(t, 18.0, w.Bytes())
	require.EqualValues(t, 21, w.Scored())
	require.Equal(t, int64(18), corpus.Val.Bytes())

	c.TargetLength = 4
	corpus, err = Load(c)
	require.NoError(t, err)
	b = corpus.Val.Shape(5).NewBatch(1, 5)
	corpus.Val.PlainWindows(5).Fill(0, b)
	require.Equal(t, []int32{'t', 'h', 'o', 'u', endID}, b.IDs)
	require.Equal(t, []int32{'y', 'o', 'u', ' '}, b.TargetTargets, "its end is cut off")
	require.Equal(t, []int32{startID, 'y', 'o', 'u'}, b.TargetIDs)
	require.Equal(t, corpus.Val.PlainWindows(5).Bytes(), 12.0)

	// By number, without names; joined to chapters with a section for each verse.
	bare := write(t, t.TempDir(), "b.tsv", []byte(s.String()[strings.Index(s.String(), "\n")+1:]))
	numbered, err := Load(Config{Path: bare, Objective: "seq2seq_lm", TextField: "2", TargetField: "3", GroupField: "4", TargetLength: 4})
	require.NoError(t, err)
	require.Equal(t, corpus.Digest, numbered.Digest)
	joined, err := Load(Config{Path: bare, Objective: "seq2seq_lm", TextField: "2", TargetField: "3", GroupField: "4", Join: true})
	require.NoError(t, err)
	require.Equal(t, []int{19, 1, 1}, []int{joined.Train.Documents(), joined.Val.Documents(), joined.Test.Documents()})
	require.Equal(t, "thou 27 thou 28 thou 29", string(Bytes{}.Decode(joined.Val.Document(0))))
	require.Equal(t, []int{0, 8, 16}, joined.Val.marks)
	require.Equal(t, Shape{Targets: 11}, joined.Val.Shape(11))
}

// TestSetsAreFound reads sets laid out as the script does.
func TestSetsAreFound(t *testing.T) {
	t.Setenv(Root, "")
	script, err := os.ReadFile(filepath.Join("..", filepath.FromSlash(FetchScript)))
	require.NoError(t, err)
	for _, set := range Sets() {
		require.Contains(t, string(script), "keep "+set.File, "the script that the error names fetches it")
		_, err := Load(Config{Path: set.Name})
		requireError(t, err, ErrMissing, set.Name, set.Name, FetchScript, Root)
		require.True(t, IsName(set.Name))
	}
	dir := t.TempDir()
	t.Setenv(Root, dir)
	_, err = Load(Config{Path: "sotu"})
	requireError(t, err, ErrMissing, "sotu", FetchScript, filepath.Join(dir, "text"))
	require.False(t, IsName(dir))
	require.True(t, IsName(EmbeddedName))

	s := sets[bibleName]
	s.File = strings.TrimSuffix(s.File, ".bz2")
	defer func(was Set) { sets[bibleName] = was }(sets[bibleName])
	sets[bibleName] = s
	var verses strings.Builder
	for i := range 61 {
		fmt.Fprintf(&verses, "I Kings %d:%d\tk%d\tw%d\tr%d\n", i/3, i%3+1, i, i, i)
	}
	write(t, dir, s.File, []byte(verses.String()))
	for _, c := range []struct {
		config Config
		docs   []int
		first  string
	}{
		{Config{}, []int{19, 1, 1}, "k27 k28 k29"},
		{Config{Objective: "masked_lm", TextField: "web"}, []int{19, 1, 1}, "w27 w28 w29"},
		{Config{Objective: "seq2seq_lm"}, []int{55, 3, 3}, "k27"},
		{Config{Objective: "seq2seq_lm", TextField: "web", TargetField: "rv", Join: true}, []int{19, 1, 1}, "w27 w28 w29"},
	} {
		c.config.Path = bibleName
		corpus, err := Load(c.config)
		require.NoError(t, err)
		require.Equal(t, bibleName, corpus.Name)
		require.Equal(t, c.docs, []int{corpus.Train.Documents(), corpus.Val.Documents(), corpus.Test.Documents()})
		require.Equal(t, c.first, Bytes{}.Decode(corpus.Val.Document(0)))
	}
	_, err = Load(Config{Path: bibleName, TextField: "vulgate"})
	requireError(t, err, ErrFormat, "column", `"vulgate"`, "reference, kjv, web, rv")
}

// TestTableOfOneColumn: a tsv file is text, unless a column of it is asked for.
func TestTableOfOneColumn(t *testing.T) {
	path := write(t, t.TempDir(), "a.tsv", []byte("a\tb\n"+strings.Repeat("one\ttwo\n", 20)))
	whole, err := LoadWhole(Config{Path: path})
	require.NoError(t, err)
	require.Equal(t, "a\tb\none", Bytes{}.Decode(whole.Document(0)[:7]))
	column, err := Load(Config{Path: path, TextField: "b"})
	require.NoError(t, err)
	require.Equal(t, 18, column.Train.Documents())
	require.Equal(t, "two", Bytes{}.Decode(column.Train.Document(0)))
}

func TestBadFields(t *testing.T) {
	dir := t.TempDir()
	lines := func(n int, line string) []byte { return []byte(strings.Repeat(line+"\n", n)) }
	for _, c := range []struct {
		name    string
		content []byte
		config  Config
		kind    error
		want    []string
	}{
		{"few.jsonl", lines(19, `{"text":"a b","label":1}`), Config{Objective: "sequence_classification"}, ErrTooShort, []string{"19 documents", "at least 20"}},
		{"none.jsonl", lines(30, `{"text":"a b"}`), Config{Objective: "sequence_classification"}, ErrFormat, []string{`"label"`, "data.label_field", ":1"}},
		{"list.jsonl", lines(30, `{"text":"a b","label":[1]}`), Config{Objective: "sequence_classification"}, ErrFormat, []string{`"label" is not a string`}},
		{"null.jsonl", lines(30, `{"text":"a b","label":null}`), Config{Objective: "sequence_classification"}, ErrFormat, []string{`"label" is not a string`}},
		{"null.jsonl", lines(30, `{"text":"a b","target":null}`), Config{Objective: "seq2seq_lm"}, ErrEmpty, []string{"no document"}},
		{"empty.jsonl", lines(30, `{"text":"a b","target":""}`), Config{Objective: "seq2seq_lm"}, ErrEmpty, []string{"no document"}},
		{"plain.txt", []byte("some text"), Config{Objective: "seq2seq_lm"}, ErrFormat, []string{"no targets", "data.path"}},
		{"plain.txt", []byte("some text"), Config{Objective: "sequence_classification"}, ErrFormat, []string{"no classes"}},
		{"header.tsv", lines(30, "a\tb"), Config{Objective: "seq2seq_lm", TextField: "a"}, ErrFormat, []string{`no column "target"`, "a, b", "data.target_field"}},
		{"narrow.tsv", lines(30, "a\tb"), Config{Objective: "seq2seq_lm", TextField: "1", TargetField: "3"}, ErrTorn, []string{"2 columns, want at least 3", ":1"}},
		{"zero.tsv", []byte("a\tb\x00\n"), Config{Objective: "seq2seq_lm", TextField: "1", TargetField: "2"}, ErrBinary, nil},
		{"groups.tsv", lines(30, "a\tb"), Config{TextField: "1", GroupField: "2"}, ErrTooShort, []string{"1 documents"}},
	} {
		c.config.Path = write(t, dir, c.name, c.content)
		_, err := Load(c.config)
		requireError(t, err, c.kind, c.name, c.want...)
	}
	_, err := Load(Config{Objective: "seq2seq_lm"})
	requireError(t, err, ErrFormat, "the book", EmbeddedName, "no targets")
	err = Config{Objective: "mlm", TargetLength: 1, MaskProbability: 1, MaskUnit: "letter", Join: true, Classes: []string{"a", "a", ""}}.Validate()
	require.Len(t, config.Faults(err), 7)
	_, err = Load(Config{MaskUnit: "letter"})
	field := (*config.FieldError)(nil)
	require.ErrorAs(t, err, &field)
	require.Equal(t, "data.mask_unit", field.Path)
	require.NoError(t, Config{}.Validate())

	foreign := bookBPE(t)
	foreign.special, foreign.ours = nil, false
	_, err = Load(Config{Objective: "masked_lm"}.With(foreign))
	requireError(t, err, ErrTokenizer, "another tokenizer", "[MASK]", "masked_lm")
	_, err = Load(Config{Task: "shuffled"}.With(foreign))
	requireError(t, err, ErrTokenizer, "another tokenizer", "[CLS]", "task:shuffled")
	corpus, err := Load(Config{Task: "shuffled"}.With(bookBPE(t)))
	require.NoError(t, err)
	require.Equal(t, bookBPE(t), corpus.Tokenizer)
	corpus, err = Load(Config{Task: "twin"}.With(foreign))
	require.NoError(t, err)
	require.Equal(t, Bytes{}, corpus.Tokenizer)
	tok, err := Config{Tokenizer: "bytes"}.With(foreign).NewTokenizer()
	require.NoError(t, err)
	require.Equal(t, Bytes{}, tok, "by name")
	tok, err = Config{Tokenizer: "bpe:300"}.With(foreign).NewTokenizer()
	require.NoError(t, err)
	require.Equal(t, foreign, tok)
}

// TestViewsResume: whatever is asked, an example is a function of its number, and the parts share no document.
func TestViewsResume(t *testing.T) {
	path := labelled(t, 60)
	for _, c := range []Config{
		{Path: path, Objective: "masked_lm", MaskUnit: "word"},
		{Path: path, Objective: "sequence_classification"},
		{Path: path, Objective: "seq2seq_lm", TargetField: "name"},
		{Path: path},
		{Path: path, Objective: "masked_lm", Tokenizer: "bpe:264"},
	} {
		corpus, err := Load(c)
		require.NoError(t, err)
		seen := map[string]string{}
		for _, name := range PartNames {
			p, _ := corpus.Part(name)
			for d := range p.Documents() {
				text := corpus.Tokenizer.Decode(p.Document(d))
				require.NotContains(t, seen, text)
				seen[text] = name
			}
		}
		require.Len(t, seen, 60)
		rapid.Check(t, func(t *rapid.T) {
			seed := rapid.Uint64().Draw(t, "seed")
			at := rapid.Int64Range(0, 500).Draw(t, "at")
			all, err := corpus.Train.Sampler(4, seed)
			require.NoError(t, err)
			fresh, err := corpus.Train.Sampler(4, seed)
			require.NoError(t, err)
			shape := corpus.Train.Shape(4)
			three, one := shape.NewBatch(3, 4), shape.NewBatch(1, 4)
			all.Fill(at/2, three)
			all.Fill(at, three)
			fresh.Fill(at+1, one)
			for _, f := range [][2][]int32{{three.IDs, one.IDs}, {three.Targets, one.Targets}, {three.Lens, one.Lens}, {three.Labels, one.Labels}, {three.TargetIDs, one.TargetIDs}, {three.TargetTargets, one.TargetTargets}} {
				require.Equal(t, rowOf(three, f[0], 1), rowOf(one, f[1], 0))
			}
		})
	}
}

func TestFillsDoNotAllocate(t *testing.T) {
	path := labelled(t, 60)
	for _, objective := range Objectives {
		c, n := Config{Path: path, Objective: objective, TargetField: "name"}, 5
		if objective == "image_density" {
			c, n = Config{Objective: objective}, 64
		}
		if objective == "question_answering" {
			c.Path, c.TargetField, n = questions(t, 60), "", 31
		}
		corpus, err := Load(c)
		require.NoError(t, err)
		s, err := corpus.Train.Sampler(n, 1)
		require.NoError(t, err)
		b := corpus.Train.Shape(n).NewBatch(4, n)
		at := int64(0)
		require.Zero(t, testing.AllocsPerRun(50, func() { s.Fill(at, b); at += 4 }), objective)
	}
}
