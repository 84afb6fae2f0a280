package data

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestTypes: content in any order, then filling, then questions; the answer is the payload of the last token of the type.
func TestTypes(t *testing.T) {
	c := loadTask(t, "types(types=5,each=3,payloads=7,fill=11,queries=13,noise=2,val=300)")
	require.Equal(t, 39, c.Val.Length())
	require.Equal(t, 5*7+2+5+7, c.Tokenizer.VocabSize())
	require.Equal(t, "c34 _1 q4 p6 ", c.Tokenizer.Decode([]int32{34, 36, 41, 48}))
	orders, payloads, asked := map[string]bool{}, map[int32]bool{}, map[int32]bool{}
	for _, r := range rowsOf(c.Val, 300) {
		count, last, order := map[int32]int{}, map[int32]int32{}, ""
		for _, id := range r.ids[:15] {
			require.Less(t, id, int32(35))
			count[id/7]++
			last[id/7] = id % 7
			payloads[id%7] = true
			order += fmt.Sprint(id / 7)
		}
		require.Equal(t, map[int32]int{0: 3, 1: 3, 2: 3, 3: 3, 4: 3}, count)
		orders[order] = true
		for _, id := range r.ids[15:26] {
			require.True(t, id == 35 || id == 36)
		}
		require.Len(t, r.answers, 13)
		for i := 26; i < 39; i++ {
			kind := r.ids[i] - 37
			asked[kind] = true
			require.Equal(t, 42+last[kind], r.answers[i])
		}
	}
	require.Greater(t, len(orders), 290, "any order")
	require.Len(t, payloads, 7)
	require.Len(t, asked, 5)

	standard := loadTask(t, "types")
	require.Equal(t, 128, standard.Val.Length())
	require.Equal(t, 256+1+16+16, standard.Tokenizer.VocabSize())
	require.Equal(t, 32, len(rowsOf(standard.Val, 1)[0].answers))
	for _, n := range []int{100, 64, 40, 16, 3} { // less filling, then fewer types
		short, err := standard.Train.WithLength(n)
		require.NoError(t, err)
		require.NotEmpty(t, rowsOf(short, 1)[0].answers, n)
	}
}

// TestFetch: names and wanted names are orders of the blocks; the answers are the payload of the wanted block.
func TestFetch(t *testing.T) {
	c := loadTask(t, "fetch(blocks=5,payload=3,symbols=7,val=200)")
	require.Equal(t, 25, c.Val.Length())
	require.Equal(t, 17, c.Tokenizer.VocabSize())
	own, wanted := map[string]bool{}, map[string]bool{}
	for _, r := range rowsOf(c.Val, 200) {
		block, names, wants := map[int32]int{}, "", ""
		for i := range 5 {
			name, want := r.ids[i*5], r.ids[i*5+1]
			require.Less(t, name, int32(5))
			require.NotContains(t, block, name)
			block[name] = i
			names, wants = names+fmt.Sprint(name), wants+fmt.Sprint(want)
			for k := 2; k < 5; k++ {
				require.GreaterOrEqual(t, r.ids[i*5+k], int32(10))
				require.NotContains(t, []int{i * 5, i*5 + 1}, k)
			}
		}
		own[names], wanted[wants] = true, true
		require.Len(t, r.answers, 15)
		for i := range 5 {
			from := block[r.ids[i*5+1]-5]
			for k := 2; k < 5; k++ {
				require.Equal(t, r.ids[from*5+k], r.answers[i*5+k])
			}
		}
	}
	require.Greater(t, len(own), 90, "of 120")
	require.Greater(t, len(wanted), 90, "of 120")
	standard := loadTask(t, "fetch")
	require.Equal(t, 32, standard.Val.Length(), "8 blocks of 4")
	require.Equal(t, 24, standard.Tokenizer.VocabSize())
	_, err := standard.Train.WithLength(10)
	requireError(t, err, ErrTask, "no whole block", "nearest", "8")
}

// TestExcerpt: the class is that of the document that an excerpt is of, each class as often, and documents stay in their part.
func TestExcerpt(t *testing.T) {
	var s strings.Builder
	for i := range 60 {
		class := []string{"x", "x", "y", "x"}[i%4] // three of four
		line, err := json.Marshal(map[string]any{"text": strings.Repeat(fmt.Sprintf("%s%02d ", class, i), 40), "label": class})
		require.NoError(t, err)
		_, _ = fmt.Fprintln(&s, string(line))
	}
	path := write(t, t.TempDir(), "a.jsonl", []byte(s.String()))
	_, err := Load(Config{Path: path, Task: "excerpt(length=18)"})
	requireError(t, err, ErrTooShort, "its val part has x alone", "two")
	text := strings.ReplaceAll(s.String(), `"label"`, `"split":"train","label"`)
	for i, part := range map[int]string{8: "val", 18: "val", 9: "test", 22: "test", 19: "test"} {
		lines := strings.Split(text, "\n")
		lines[i] = strings.Replace(lines[i], "train", part, 1)
		text = strings.Join(lines, "\n")
	}
	path = write(t, t.TempDir(), "b.jsonl", []byte(text))
	for _, c := range []Config{{Path: path, Task: "excerpt(length=18)"}, {Path: path, Task: "excerpt(length=18)", Tokenizer: "bpe:280"}} {
		corpus, err := Load(c)
		require.NoError(t, err)
		require.Equal(t, []string{"x", "y"}, corpus.Classes)
		require.Equal(t, Shape{Globals: 1, Labels: 1, Classes: 2}, corpus.Train.Shape(18))
		seen := map[string]bool{}
		for i, p := range []*Part{corpus.Train, corpus.Val, corpus.Test} {
			b := batchOf(p, 200)
			require.InDelta(t, 100, slicesCount(b.Labels, 0), 30, "each class as often")
			for r := range b.B {
				ids := rowOf(b, b.IDs, r)
				require.EqualValues(t, clsID, ids[0])
				require.Zero(t, b.Globals[r])
				require.EqualValues(t, 18, b.Lens[r])
				text := corpus.Tokenizer.Decode(ids[1:])
				require.Contains(t, text, corpus.Classes[b.Labels[r]])
				require.NotContains(t, text, corpus.Classes[1-b.Labels[r]])
				if c.Tokenizer == "" {
					for _, of := range map[int][]string{1: {"08", "18"}, 2: {"09", "22", "19"}}[i] {
						seen[fmt.Sprint(i, " ", strings.Contains(text, of+" "))] = true
					}
				}
			}
		}
		if c.Tokenizer == "" {
			require.True(t, seen["1 true"] && seen["2 true"])
		}
	}
	long, err := Load(Config{Path: path, Task: "excerpt(length=300,val=9)"})
	require.NoError(t, err)
	require.EqualValues(t, 1+160, batchOf(long.Val, 9).Lens[0], "a short document as a whole")
	_, err = Load(Config{Task: "excerpt"})
	requireError(t, err, ErrFormat, "the book has no classes", "no classes")
}

// TestSotuEras: the class of a speech is its era, or the field that is named.
func TestSotuEras(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "text"), 0o755))
	var s strings.Builder
	for i, year := range []int{1790, 1860, 1861, 1912, 1913, 1960, 1961, 2020} {
		for _, part := range PartNames {
			_, _ = fmt.Fprintf(&s, `{"split":%q,"year":%d,"name":"n%d","party":"p%d","text":"a speech of %d"}`+"\n", part, year, i, i%3, year)
		}
	}
	// Plain text under the name of the set: what is packed is opened by its own tests.
	path := write(t, filepath.Join(dir, "text"), "sotu.jsonl", []byte(s.String()))
	for field, want := range map[string][]string{"": {"1790-1860", "1861-1912", "1913-1960", "1961-"}, "party": {"p0", "p1", "p2"}} {
		src, err := readSotu(path, Config{Objective: "sequence_classification", LabelField: field})
		require.NoError(t, err)
		labels := map[string]bool{}
		for _, doc := range src.docs {
			labels[doc.label] = true
			if field == "" {
				year := 0
				_, err := fmt.Sscanf(string(doc.text), "a speech of %d", &year)
				require.NoError(t, err)
				require.GreaterOrEqual(t, fmt.Sprint(year), doc.label[:4])
			}
		}
		require.Len(t, labels, len(want))
		for _, l := range want {
			require.Contains(t, labels, l)
		}
	}
	src, err := readSotu(path, Config{})
	require.NoError(t, err)
	require.Empty(t, src.docs[0].label, "a language model needs none")
}
