package data

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// batchOf are the first examples of a part with everything that they have.
func batchOf(p *Part, n int) *Batch {
	b := p.Shape(p.Length()).NewBatch(n, p.Length())
	p.PlainWindows(p.Length()).Fill(0, b)
	return b
}

func TestNeedleForEncoders(t *testing.T) {
	for first := range 2 {
		c := loadTask(t, fmt.Sprintf("needle(length=23,noise=7,values=5,val=300,first=%d)", first))
		require.Equal(t, Shape{Globals: 1, Labels: 1, Classes: 5}, c.Val.Shape(23))
		b := batchOf(c.Val, 300)
		question := 22 * (1 - first)
		places := map[int]bool{}
		for r := range b.B {
			ids, targets := rowOf(b, b.IDs, r), rowOf(b, b.Targets, r)
			require.EqualValues(t, 12, ids[question], "Q")
			p := slices.IndexFunc(ids, func(id int32) bool { return id >= 7 && id < 12 })
			places[p] = true
			require.Equal(t, ids[p], targets[question])
			require.Equal(t, ids[p]-7, b.Labels[r])
			require.EqualValues(t, question, b.Globals[r])
		}
		require.Len(t, places, 22)
		require.Equal(t, 300, b.Scored())
		require.Equal(t, 300.0, b.Bytes)
	}
	plain, again := loadTask(t, "needle"), loadTask(t, "needle(first=0)")
	require.Equal(t, plain.Digest, again.Digest)
	require.NotContains(t, plain.Name, "first")
	require.NotEqual(t, plain.Digest, loadTask(t, "needle(first=1)").Digest)
}

func TestSectionsForEncoders(t *testing.T) {
	c := loadTask(t, "sections(sections=7,fill=3,noise=5,values=11)")
	b := batchOf(c.Val, 40)
	require.Equal(t, []string{"global_ids", "sentence_ids"}, c.Val.Shape(36).MoreNames())
	for r := range b.B {
		ids, sentence := rowOf(b, b.IDs, r), rowOf(b, b.More["sentence_ids"], r)
		require.Equal(t, slices.Repeat([]int32{23}, 8), rowOf(b, b.More["global_ids"], r), "G")
		asked := slices.Index(ids, ids[35]) / 5
		require.EqualValues(t, 7, sentence[35], "the question is a section of its own")
		found := int32(-1)
		for i, s := range sentence[:35] {
			require.EqualValues(t, i/5, s)
			if int(s) == asked && ids[i] >= 5 && ids[i] < 16 {
				found = ids[i] - 5
			}
		}
		require.Equal(t, found, b.Labels[r])
		require.EqualValues(t, 35, b.Globals[r])
	}
}

func TestSum(t *testing.T) {
	c := loadTask(t, "sum(length=13,marked=4,dims=3,val=200)")
	require.Equal(t, Shape{Vectors: 4, Values: 3}, c.Val.Shape(13))
	b := batchOf(c.Val, 200)
	mean := 0.0
	for r := range b.B {
		rows := rowOf(b, b.Vectors, r)
		marked, sum := 0, make([]float32, 3)
		for i := range 13 {
			switch v := rows[4*i : 4*i+4]; v[0] {
			case 1:
				marked++
				for k := range sum {
					sum[k] += v[1+k]
				}
			default:
				require.Zero(t, v[0])
			}
		}
		require.Equal(t, 4, marked)
		require.Equal(t, sum, rowOf(b, b.Values, r))
		mean += float64(sum[0]) / 200
	}
	require.InDelta(t, 2, mean, 0.15)
	require.Zero(t, b.Scored())
	require.Equal(t, slices.Repeat([]int32{13}, 200), b.Lens)
	c.Val.PlainWindows(13).Fill(199, b)
	require.Zero(t, b.Lens[1], "padding after the last one")
	require.Zero(t, slices.Max(rowOf(b, b.Vectors, 1)))
}

func TestParity(t *testing.T) {
	for first := range 2 {
		c := loadTask(t, fmt.Sprintf("parity(length=19,marked=3,val=200,first=%d)", first))
		require.Equal(t, 5, c.Tokenizer.VocabSize())
		b := batchOf(c.Val, 200)
		ones := 0
		for r := range b.B {
			ids, question := rowOf(b, b.IDs, r), 18*(1-first)
			marked, parity := 0, int32(0)
			for _, id := range ids {
				if id == 2 || id == 3 {
					marked++
					parity ^= id - 2
				}
			}
			require.Equal(t, 3, marked)
			require.EqualValues(t, 4, ids[question])
			require.Equal(t, parity, rowOf(b, b.Targets, r)[question])
			require.Equal(t, parity, b.Labels[r])
			ones += int(parity)
		}
		require.InDelta(t, 100, ones, 30)
	}
}

func TestShuffled(t *testing.T) {
	path := write(t, t.TempDir(), "a.txt", []byte(strings.Repeat("abcdefghijklmnopqrstuvwxyz", 900)))
	c, err := Load(Config{Path: path, Task: "shuffled(length=17,piece=5,val=300)"})
	require.NoError(t, err)
	b := batchOf(c.Val, 300)
	for r := range b.B {
		ids := rowOf(b, b.IDs, r)
		require.EqualValues(t, clsID, ids[0])
		ordered := true
		for i := 2; i < 17; i++ {
			next := ids[i] == ids[i-1]+1 || ids[i] == 'a' && ids[i-1] == 'z'
			require.True(t, next || (i-1)%5 == 0, "pieces stay whole")
			ordered = ordered && next
		}
		require.Equal(t, ordered, b.Labels[r] == 0)
	}
	require.InDelta(t, 150, CountScored(b.Labels)-slicesCount(b.Labels, 0), 40)
}

func slicesCount(x []int32, v int32) (n int) {
	for _, y := range x {
		if y == v {
			n++
		}
	}
	return n
}

// chapters writes 61 chapters of three verses in two translations.
func chapters(t *testing.T) Config {
	var s strings.Builder
	for i := range 183 {
		fmt.Fprintf(&s, "old%03d and more\tnew%03d\t%d\n", i, i, i/3)
	}
	return Config{Path: write(t, t.TempDir(), "a.tsv", []byte(s.String())), TextField: "1", TargetField: "2", GroupField: "3", LabelField: "3"}
}

func TestMatching(t *testing.T) {
	c := chapters(t)
	c.Task = "matching(length=31,val=100)"
	corpus, err := Load(c)
	require.NoError(t, err)
	b := batchOf(corpus.Train, 200)
	same := 0
	for r := range b.B {
		ids := rowOf(b, b.IDs, r)
		require.EqualValues(t, clsID, ids[0])
		require.EqualValues(t, sepID, ids[15])
		old, young := 0, 0
		_, err := fmt.Sscanf(Bytes{}.Decode(ids[1:15]), "old%03d", &old)
		require.NoError(t, err)
		_, err = fmt.Sscanf(Bytes{}.Decode(ids[16:]), "new%03d", &young)
		require.NoError(t, err)
		require.Equal(t, old == young, b.Labels[r] == 1)
		if old != young {
			require.LessOrEqual(t, max(old-young, young-old), 6, "a neighbour, one of other parts between them at most")
		}
		require.Equal(t, append(make([]int32, 16), slices.Repeat([]int32{1}, int(b.Lens[r])-16)...), rowOf(b, b.Types, r)[:b.Lens[r]])
		same += int(b.Labels[r])
	}
	require.InDelta(t, 100, same, 30)
	_, err = Load(Config{Task: "matching"})
	requireError(t, err, ErrFormat, "the book has no pairs", "no targets")
}

func TestCPC(t *testing.T) {
	c := chapters(t)
	c.Task, c.Join = "cpc(length=61,sections=5,hide=40,packed=30,val=100)", true
	verses, err := Load(c)
	require.NoError(t, err)
	book := loadTask(t, "cpc(length=131,sections=7,hide=30,val=100)")
	bpe, err := Load(Config{Task: "cpc(length=61,sections=7,hide=30,val=100)", Tokenizer: "bpe:300"})
	require.NoError(t, err)
	for _, c := range []*Corpus{verses, book, bpe} {
		length := c.Val.Length()
		shape := c.Val.Shape(length)
		require.Equal(t, []string{"duplicate_group", "global_ids", "masked_sentences", "packed_ids", "packed_sentences", "sentence_ids"}, shape.MoreNames())
		b := batchOf(c.Val, 60)
		sections, most := shape.More["global_ids"], shape.More["masked_sentences"]
		hiddenTokens, bytes := 0, 0.0
		for r := range b.B {
			ids, targets, sentence := rowOf(b, b.IDs, r), rowOf(b, b.Targets, r), rowOf(b, b.More["sentence_ids"], r)
			globals, masked := rowOf(b, b.More["global_ids"], r), rowOf(b, b.More["masked_sentences"], r)
			packed, of := rowOf(b, b.More["packed_ids"], r), rowOf(b, b.More["packed_sentences"], r)
			n := int(b.Lens[r])
			last := sentence[n-1]
			require.True(t, slices.IsSorted(sentence[:n]) && sentence[0] == 0 && last >= 1 && int(last) < sections)
			require.Equal(t, slices.Repeat([]int32{-1}, length-n), sentence[n:])
			var hidden []int32
			for s, g := range globals {
				switch {
				case s > int(last):
					require.EqualValues(t, -1, g)
				case g == maskID:
					hidden = append(hidden, int32(s))
				default:
					require.EqualValues(t, clsID, g)
				}
			}
			require.NotEmpty(t, hidden)
			require.LessOrEqual(t, len(hidden), most)
			require.Equal(t, hidden, masked[:len(hidden)])
			require.Equal(t, slices.Repeat([]int32{-1}, most-len(hidden)), masked[len(hidden):])
			for i := range n {
				if slices.Contains(hidden, sentence[i]) {
					require.EqualValues(t, maskID, ids[i])
					require.EqualValues(t, -1, targets[i])
				} else if targets[i] >= 0 {
					hiddenTokens++
					bytes += float64(len(c.Tokenizer.Decode(targets[i : i+1])))
				}
			}
			for k, s := range hidden {
				size := slicesCount(of, int32(k))
				require.Positive(t, size, "each has a target")
				require.LessOrEqual(t, size, slicesCount(sentence, s))
			}
			used := len(of) - slicesCount(of, -1)
			require.True(t, slices.IsSorted(of[:used]))
			require.Equal(t, slices.Repeat([]int32{padID}, len(packed)-used), packed[used:])
			require.Less(t, slices.Max(packed), int32(c.Tokenizer.VocabSize()))
		}
		require.Positive(t, hiddenTokens)
		require.Equal(t, hiddenTokens, b.Scored())
		require.Equal(t, bytes, b.Bytes)
	}

	// Verses are sections, hidden as a whole: the second pass spells them.
	b := batchOf(verses.Val, 60)
	texts := map[string]int32{}
	for r := range b.B {
		packed, of, groups := rowOf(b, b.More["packed_ids"], r), rowOf(b, b.More["packed_sentences"], r), rowOf(b, b.More["duplicate_group"], r)
		for k := range groups {
			a := slices.Index(of, int32(k))
			if a < 0 {
				require.EqualValues(t, -1, groups[k])
				continue
			}
			text := Bytes{}.Decode(packed[a : a+slicesCount(of, int32(k))])
			require.Regexp(t, `^old\d\d\d and m?o?r?e? ?$`, text)
			own := int32(r*len(groups) + k)
			if first, known := texts[text]; known {
				own = first
			}
			texts[text] = own
			require.Equal(t, own, groups[k], "the first with the same text")
		}
	}
	require.Less(t, len(texts), 60, "three verses in the part: most are there twice")
	require.Zero(t, loadTask(t, "cpc(mask=0,val=10)").Val.Shape(512).Labels)
	require.Zero(t, batchOf(loadTask(t, "cpc(mask=0,val=10)").Val, 10).Scored())
}

func TestSectionOrder(t *testing.T) {
	c := chapters(t)
	c.Task, c.Join = "section_order(length=59,sections=4,val=100)", true
	corpus, err := Load(c)
	require.NoError(t, err)
	b := batchOf(corpus.Train, 200)
	swapped := 0
	for r := range b.B {
		n := int(b.Lens[r])
		ids, sentence := rowOf(b, b.IDs, r)[:n], rowOf(b, b.More["sentence_ids"], r)[:n]
		require.EqualValues(t, clsID, ids[0])
		sep := slices.Index(ids, sepID)
		first, second := 0, 0
		_, err := fmt.Sscanf(Bytes{}.Decode(ids[1:sep]), "old%03d", &first)
		require.NoError(t, err)
		_, err = fmt.Sscanf(Bytes{}.Decode(ids[sep+1:]), "old%03d", &second)
		require.NoError(t, err)
		require.Equal(t, first > second, b.Labels[r] == 1)
		require.True(t, slices.IsSorted(sentence), "numbered as they stand there: the numbers tell nothing")
		require.Equal(t, int(sentence[n-1])+1, slicesCount(rowOf(b, b.More["global_ids"], r), clsID))
		require.Equal(t, sentence[sep], sentence[sep-1]+1)
		swapped += int(b.Labels[r])
	}
	require.InDelta(t, 100, swapped, 30)
	long := loadTask(t, "section_order(length=21,val=50)") // sentences of the book do not fit
	for _, n := range batchOf(long.Val, 50).Lens {
		require.LessOrEqual(t, n, int32(21))
		require.Greater(t, n, int32(4))
	}
}

func TestSentences(t *testing.T) {
	text := "One. Two?\nStill (three!) four.\" Five…\n\nsix\n  \n7.5 e.g. eight.”\tEnd.  "
	var got []string
	starts := sentences([]byte(text))
	for i, a := range starts {
		z := len(text)
		if i+1 < len(starts) {
			z = starts[i+1]
		}
		got = append(got, text[a:z])
	}
	require.Equal(t, []string{"One. ", "Two?\n", "Still (three!) ", "four.\" ", "Five…\n\n", "six\n  \n", "7.5 ", "e.g. ", "eight.”\t", "End.  "}[0:2], got[:2])
	require.Equal(t, text, strings.Join(got, ""))
	require.Contains(t, got, "six\n  \n")
	require.Contains(t, got, "eight.”\t")
	require.Equal(t, []int{0}, sentences(nil))
	require.Equal(t, []int{0}, sentences([]byte("  . ")))
}

// TestWithLength: every task has shorter and longer examples by the same rule and with the same ids.
func TestWithLength(t *testing.T) {
	for _, info := range Tasks() {
		c := chapters(t)
		c.Task = info.Name
		if !info.Pairs {
			c = Config{Task: info.Name}
		}
		corpus, err := Load(c)
		require.NoError(t, err, info.Name)
		vocab := int32(corpus.Tokenizer.VocabSize())
		full := corpus.Train.Length()
		lengths := map[string][]int{"sections": {full - 32, 33, 12, 3}, "passkey": {131, 300, 800}}[info.Name]
		if lengths == nil {
			lengths = []int{full / 4 * 2, 16, full}
		}
		for _, n := range lengths {
			p, err := corpus.Train.WithLength(n)
			require.NoError(t, err, "%s %d", info.Name, n)
			require.Equal(t, n, p.Length())
			require.Equal(t, full, corpus.Train.Length(), "the part itself stays")
			shape := p.Shape(n)
			s, err := p.Sampler(n, 1)
			require.NoError(t, err)
			b := shape.NewBatch(5, n)
			s.Fill(7, b)
			again := shape.NewBatch(1, n)
			s.Fill(9, again)
			require.Equal(t, rowOf(b, b.IDs, 2), again.IDs)
			require.Less(t, slices.Max(b.IDs), vocab, info.Name)
			require.Less(t, slices.Max(b.Targets), vocab, info.Name)
			require.Positive(t, CountScored(b.Targets)+CountScored(b.Labels)+CountScored(b.TargetTargets)+len(b.Values), info.Name)
			was := corpus.Train.Shape(full)
			require.Equal(t, []int{was.Classes, was.Values, was.Vectors, was.Globals}, []int{shape.Classes, shape.Values, shape.Vectors, shape.Globals})
			require.Equal(t, slices.Sorted(maps.Keys(was.More)), shape.MoreNames())
		}
		for _, n := range []int{0, -1, 1 << 21} {
			_, err = corpus.Train.WithLength(n)
			require.Error(t, err, "%s %d", info.Name, n)
			own := (*Error)(nil)
			require.ErrorAs(t, err, &own, info.Name)
		}
	}
	_, err := loadTask(t, "duplicate").Train.WithLength(7)
	requireError(t, err, ErrTask, "odd", "even")
	_, err = loadTask(t, "sections").Train.WithLength(40)
	requireError(t, err, ErrTask, "no whole section", "33")
	_, err = loadTask(t, "mqar").Train.WithLength(3)
	requireError(t, err, ErrTask, "too short", "3 tokens")
	text, err := Load(Config{})
	require.NoError(t, err)
	same, err := text.Train.WithLength(9)
	require.NoError(t, err)
	require.Same(t, text.Train, same)
}

// TestTaskFillsDoNotAllocate: a step of the training reads examples into what is there.
func TestTaskFillsDoNotAllocate(t *testing.T) {
	for _, name := range []string{"needle(length=31)", "sum(length=31)", "types", "fetch", "parity(length=31)", "cpc(length=64)", "section_order(length=64)", "sections"} {
		c := loadTask(t, name)
		s, err := c.Train.Sampler(c.Train.Length(), 1)
		require.NoError(t, err)
		b := c.Train.Shape(c.Train.Length()).NewBatch(3, c.Train.Length())
		for at := range int64(300) {
			s.Fill(at, b)
		}
		at := int64(0)
		require.LessOrEqual(t, testing.AllocsPerRun(20, func() { s.Fill(at, b); at += 3 }), 1.0, name)
	}
}
