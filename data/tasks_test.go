package data

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func loadTask(t *testing.T, spec string) *Corpus {
	t.Helper()
	c, err := Load(Config{}.Spec("task:" + spec))
	require.NoError(t, err)
	return c
}

// rows are the examples of a part as tokens and the positions that have a target.
type row struct {
	ids, targets []int32
	answers      map[int]int32
	tenth        int
}

func rowsOf(p *Part, n int) []row {
	b := NewBatch(n, p.Length())
	p.PlainWindows(p.Length()).Fill(0, b)
	rows := make([]row, n)
	for r := range rows {
		size := int(b.Lens[r])
		rows[r] = row{b.IDs[r*b.T:][:size], b.Targets[r*b.T:][:b.T], map[int]int32{}, int(b.Tenths[r])}
		for i, target := range rows[r].targets {
			if target >= 0 {
				rows[r].answers[i] = target
			}
		}
	}
	return rows
}

// An answer that is read back stands in the next place.
func requireReadBack(t *testing.T, r row) {
	t.Helper()
	for i, target := range r.answers {
		require.Less(t, i, len(r.ids))
		if i+1 < len(r.ids) {
			require.Equal(t, target, r.ids[i+1])
		}
	}
}

func TestNeedle(t *testing.T) {
	c := loadTask(t, "needle(length=31,noise=7,values=5,val=300)")
	require.Equal(t, 13, c.Tokenizer.VocabSize())
	places, values := map[int]int{}, map[int32]int{}
	for _, r := range rowsOf(c.Val, 300) {
		require.Len(t, r.ids, 31)
		require.EqualValues(t, 12, r.ids[30], "Q")
		p := slices.IndexFunc(r.ids[:30], func(id int32) bool { return id >= 7 })
		require.GreaterOrEqual(t, p, 0)
		require.Equal(t, map[int]int32{30: r.ids[p]}, r.answers)
		require.Equal(t, p*10/30, r.tenth)
		for i, id := range r.ids[:30] {
			if i != p {
				require.Less(t, id, int32(7), "one needle")
			}
		}
		places[p]++
		values[r.ids[p]]++
	}
	require.Len(t, places, 30, "every place")
	require.Len(t, values, 5, "every value")
}

func TestNeedleNear(t *testing.T) {
	c := loadTask(t, "needle(length=101,near=6,train=1000,val=1000)")
	near := func(p *Part) (n int) {
		for _, r := range rowsOf(p, 1000) {
			if at := slices.IndexFunc(r.ids, func(id int32) bool { return id >= 64 }); 100-at < 6 {
				n++
			}
		}
		return n
	}
	require.InDelta(t, 525, near(c.Train), 65, "half of them, and 5 % of the others")
	require.InDelta(t, 50, near(c.Val), 30, "uniform")
}

func TestCopyAndReverse(t *testing.T) {
	for _, name := range []string{"copy", "reverse"} {
		c := loadTask(t, name+"(gap=11,count=5,symbols=7)")
		require.Equal(t, 21, c.Val.Length())
		require.Equal(t, 9, c.Tokenizer.VocabSize())
		for _, r := range rowsOf(c.Val, 50) {
			requireReadBack(t, r)
			var got []int32
			for i := 16; i < 21; i++ {
				got = append(got, r.answers[i])
			}
			require.Len(t, r.answers, 5)
			require.Equal(t, slices.Repeat([]int32{7}, 11), r.ids[5:16])
			require.EqualValues(t, 8, r.ids[16])
			want := slices.Clone(r.ids[:5])
			if name == "reverse" {
				slices.Reverse(want)
			}
			require.Equal(t, want, got)
		}
	}
}

func TestDuplicate(t *testing.T) {
	c := loadTask(t, "duplicate(length=26,symbols=5)")
	require.Equal(t, 6, c.Tokenizer.VocabSize())
	for _, r := range rowsOf(c.Test, 50) {
		require.Equal(t, r.ids[:13], r.ids[13:])
		require.Zero(t, r.ids[0])
		require.Positive(t, slices.Min(r.ids[1:13]))
		require.LessOrEqual(t, slices.Max(r.ids), int32(5))
		requireReadBack(t, r)
		require.Len(t, r.answers, 12)
		require.Contains(t, r.answers, 13)
		require.NotContains(t, r.answers, 25)
	}
}

func TestMQAR(t *testing.T) {
	for _, length := range []int{53, 20} { // 20: no blank is left
		c := loadTask(t, fmt.Sprintf("mqar(length=%d,pairs=5,keys=7,values=11)", length))
		require.Equal(t, 19, c.Tokenizer.VocabSize())
		places, orders := map[int]bool{}, map[string]bool{}
		for _, r := range rowsOf(c.Val, 400) {
			pairs, order := map[int32]int32{}, ""
			for i := 0; i < 10; i += 2 {
				require.NotContains(t, pairs, r.ids[i], "distinct keys")
				require.Less(t, r.ids[i], int32(7))
				require.True(t, r.ids[i+1] >= 7 && r.ids[i+1] < 18)
				pairs[r.ids[i]] = r.ids[i+1]
			}
			asked := map[int32]bool{}
			for i := 10; i < length; i++ {
				if r.ids[i] == 18 {
					require.NotContains(t, r.answers, i)
					continue
				}
				require.Equal(t, pairs[r.ids[i]], r.answers[i])
				require.Equal(t, pairs[r.ids[i]], r.ids[i+1], "the slot")
				asked[r.ids[i]] = true
				order += fmt.Sprint(slices.Index(r.ids[:10], r.ids[i]), " ")
				places[i] = true
				i++
			}
			require.Len(t, asked, 5)
			require.Len(t, r.answers, 5)
			orders[order] = true
		}
		require.Greater(t, len(orders), 100, "of 120")
		if length == 53 {
			require.Len(t, places, 42, "10 to 51")
		}
	}
}

func TestSections(t *testing.T) {
	c := loadTask(t, "sections(sections=7,fill=3,noise=5,values=11)")
	require.Equal(t, 36, c.Val.Length())
	require.Equal(t, 24, c.Tokenizer.VocabSize())
	places := map[int]bool{}
	for _, r := range rowsOf(c.Val, 200) {
		heads := map[int32]bool{}
		for g := range 7 {
			section := r.ids[g*5 : g*5+5]
			require.GreaterOrEqual(t, section[0], int32(16))
			heads[section[0]] = true
			at := slices.IndexFunc(section[1:], func(id int32) bool { return id >= 5 })
			places[at] = true
			value := section[1+at]
			require.Less(t, value, int32(16))
			if section[0] == r.ids[35] {
				require.Equal(t, map[int]int32{35: value}, r.answers)
				require.Equal(t, g*10/7, r.tenth)
			}
		}
		require.Len(t, heads, 7)
	}
	require.Len(t, places, 4)
}

func TestTwin(t *testing.T) {
	c := loadTask(t, "twin(length=62)")
	book, err := Load(Config{})
	require.NoError(t, err)
	require.Equal(t, "bytes", c.Tokenizer.Name())
	for i, p := range []*Part{c.Train, c.Val, c.Test} {
		text := c.Tokenizer.Decode([]*Part{book.Train, book.Val, book.Test}[i].Document(0))
		for _, r := range rowsOf(p, 20) {
			require.Equal(t, r.ids[:31], r.ids[31:])
			require.Contains(t, text, c.Tokenizer.Decode(r.ids[:31]), "of its own part")
			requireReadBack(t, r)
			require.Len(t, r.answers, 31)
			require.Contains(t, r.answers, 30)
		}
	}
}

func TestPasskey(t *testing.T) {
	c := loadTask(t, "passkey(length=211,min_length=101)")
	lengths, tenths := map[int]bool{}, map[int]bool{}
	for _, p := range []*Part{c.Train, c.Val} {
		for _, r := range rowsOf(p, 300) {
			text := c.Tokenizer.Decode(r.ids)
			at := strings.Index(text, " The pass key is ")
			require.GreaterOrEqual(t, at, 0)
			key := text[at+17 : at+22]
			require.True(t, strings.HasSuffix(text, "\nWhat is the pass key? The pass key is "+key[:4]), text)
			var answer []int32
			for i := len(r.ids) - 5; i < len(r.ids); i++ {
				answer = append(answer, r.answers[i])
			}
			require.Equal(t, key, c.Tokenizer.Decode(answer))
			require.Len(t, r.answers, 5)
			requireReadBack(t, r)
			tenths[r.tenth] = true
			if p == c.Train {
				lengths[len(r.ids)] = true
			} else {
				require.Len(t, r.ids, 211)
			}
		}
	}
	require.Len(t, tenths, 10)
	require.Greater(t, len(lengths), 90, "of 111")
}

// TestTaskExamples: an example is a function of (task, part, index): the same alone, in a batch, in any order; parts differ; epochs are
// permutations; the position says everything.
func TestTaskExamples(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		spec := rapid.SampledFrom([]string{"needle(length=29,train=17)", "reverse(gap=3,train=13)", "mqar(train=11)", "sections(fill=2,train=7)", "passkey(train=19,length=173)"}).Draw(t, "task")
		c, err := Load(Config{Task: spec})
		require.NoError(t, err)
		again, err := Load(Config{Task: " " + strings.ReplaceAll(spec, "=", " = ")})
		require.NoError(t, err)
		require.Equal(t, c.Digest, again.Digest)
		n, length := c.Train.Documents(), c.Train.Length()
		s, err := c.Train.Sampler(length, 3)
		require.NoError(t, err)
		require.Equal(t, n, s.PerEpoch())
		at := rapid.Int64Range(0, 100).Draw(t, "position")
		size := rapid.IntRange(1, 9).Draw(t, "batch")
		batch, one := NewBatch(size, length), NewBatch(1, length)
		s.Fill(at, batch)
		other, err := again.Train.Sampler(length, 3)
		require.NoError(t, err)
		for r := size - 1; r >= 0; r-- {
			other.Fill(at+int64(r), one)
			require.Equal(t, one.IDs, batch.IDs[r*length:(r+1)*length])
			require.Equal(t, one.Targets, batch.Targets[r*length:(r+1)*length])
			require.Equal(t, one.Lens[0], batch.Lens[r])
		}
		seen := map[string]bool{}
		for i := range int64(n) {
			s.Fill(int64(n)+i, one)
			seen[fmt.Sprint(one.IDs)] = true
		}
		require.Len(t, seen, n, "an epoch holds each example once")
		for i := range n {
			require.True(t, seen[fmt.Sprint(padded(c.Train.Document(i), length))])
			require.NotEqual(t, c.Val.Document(i), c.Train.Document(i))
			require.NotEqual(t, c.Test.Document(i), c.Val.Document(i))
		}
	})
}

func padded(ids []int32, n int) []int32 { return append(ids, make([]int32, n-len(ids))...) }

// TestTaskSizes: what a part says of itself, and windows past its end.
func TestTaskSizes(t *testing.T) {
	c := loadTask(t, "mqar(pairs=3,length=17,train=101,val=5)")
	require.Equal(t, []int{101, 5, 2000}, []int{c.Train.Documents(), c.Val.Documents(), c.Test.Documents()})
	require.Equal(t, 101*17, c.Train.Tokens())
	require.EqualValues(t, 303, c.Train.Bytes())
	w := c.Val.StridedWindows(17, 9)
	require.Equal(t, 5, w.Len())
	require.EqualValues(t, 15, w.Scored())
	require.InDelta(t, 15, w.Bytes(), 0, "an answer is a byte")
	b := NewBatch(7, 17)
	w.Fill(1, b)
	require.Equal(t, 12, b.Scored())
	require.Equal(t, []int32{17, 17, 17, 17, 0, 0, 0}, b.Lens)
	wide := NewBatch(2, 19)
	c.Val.PlainWindows(19).Fill(1, wide)
	require.Equal(t, b.IDs[17:34], wide.IDs[19:36], "a longer window has the example at its start")
	require.Equal(t, []int32{17, 17}, wide.Lens)
	require.Zero(t, c.Val.PlainWindows(16).Len())
	require.NoError(t, c.Val.CheckWindows(17))
	_, err := c.Train.Sampler(16, 1)
	requireError(t, err, ErrTask, "length", "sequence_length is 16", "train.sequence_length=17")
	requireError(t, c.Val.CheckWindows(18), ErrTask, "windows", "17 tokens")
	whole, err := LoadWhole(Config{Task: "mqar"})
	require.NoError(t, err)
	require.Equal(t, "test", whole.Name)
	allocs := testing.AllocsPerRun(20, func() { w.Fill(0, b) })
	require.Zero(t, allocs)
}

// TestTaskNumbers pins the numbers themselves: a run that was started can be resumed by every later version.
func TestTaskNumbers(t *testing.T) {
	var s stream
	s.state = 1234567
	require.Equal(t, []uint64{6457827717110365317, 3203168211198807973, 9817491932198370423}, []uint64{s.next(), s.next(), s.next()}, "the published test vector")
	require.Equal(t, uint64(0xaf63bd4c8601b7be), taskHash("a"), "FNV-1, not FNV-1a")
	got := map[string]string{}
	for _, task := range Tasks() {
		if task.Pairs {
			continue
		}
		got[task.Name] = loadTask(t, task.Name).Digest[:16]
	}
	require.Equal(t, map[string]string{
		"needle": "a987c3e202041845", "copy": "af94a49b5e3b87ac", "reverse": "ec02d1d99602062c", "duplicate": "948aa871bec1654e",
		"mqar": "e112ffb45a6c5246", "twin": "b69f8920d918a69b", "passkey": "ed09bc30cba258f5", "sections": "dfabbefa57a725c8",
		"cpc": "45014a00e7d902d1", "pointer": "22588420d4fad977", "blocks": "e341fdd781044e47", "fetch": "b4c214c19c72172e", "types": "8a5f5dfb1cdcdede", "parity": "897954d7ce9cf21d", "section_order": "e48573a314f56ec4", "shuffled": "035b9fc52a91c420", "sort": "b5574fa11a98f215", "sum": "5637fc0761341063"}, got)
}

func TestTaskWords(t *testing.T) {
	c := loadTask(t, "needle(noise=3,values=2)")
	require.Equal(t, "task", c.Tokenizer.Name())
	require.Equal(t, "n0 v1 Q ", c.Tokenizer.Decode([]int32{0, 4, -1, 6, 5}))
	require.Equal(t, []int32{0, 4, 5}, c.Tokenizer.Encode(" n0 v1 n3  Q"))
	tok, err := Config{Task: "duplicate"}.NewTokenizer()
	require.NoError(t, err)
	require.Equal(t, "0 s0 s30 ", tok.Decode([]int32{0, 1, 31}))
	tok, err = Config{}.NewTokenizer()
	require.NoError(t, err)
	require.Equal(t, "bytes", tok.Name())
}

func TestBadTasks(t *testing.T) {
	for _, c := range []struct {
		spec string
		kind error
		want []string
	}{
		{"nedle", ErrUnknownTask, []string{"task:nedle", `"needle"?`, "needle, copy, reverse, duplicate, mqar, twin, passkey, sections"}},
		{"needles(length=8)", ErrUnknownTask, []string{`unknown task "needles"`, `"needle"?`}},
		{"zzz", ErrUnknownTask, []string{"the tasks are"}},
		{"?", ErrUnknownTask, []string{"the tasks are"}},
		{"needle(lenght=8)", ErrTask, []string{`unknown parameter "lenght", did you mean "length"?`, "needle(length=256,noise=64,values=32,near=0,first=0,train=50000,val=1000,test=2000)"}},
		{"needle(length=1)", ErrTask, []string{`length is "1", want a whole number from 2 to 1048576`}},
		{"needle(length=a,noise=,values=1,foo=2)", ErrTask, []string{`length is "a"`, `noise is ""`, `values is "1"`, `unknown parameter "foo"`}},
		{"needle(length)", ErrTask, []string{"length has no value"}},
		{"needle(length=8,length=9)", ErrTask, []string{"twice"}},
		{"needle(length=8", ErrTask, []string{`")" is missing`}},
		{"needle(length=8,)", ErrTask, []string{`unknown parameter ""`}},
		{"needle(length=8,near=9)", ErrTask, []string{"near is 9", "(8)"}},
		{"needle(near=1)", ErrTask, []string{"near is 1"}},
		{"needle(length=99999999999999999999)", ErrTask, []string{"1048576"}},
		{"copy(gap=1048576)", ErrTask, []string{"1048608 tokens", "at most 1048576"}},
		{"duplicate(length=7)", ErrTask, []string{"even"}},
		{"twin(length=7)", ErrTask, []string{"even"}},
		{"mqar(pairs=17,keys=16,length=67)", ErrTask, []string{"keys is 16, want at least pairs (17)", "length is 67, want at least 4 times pairs (68)"}},
		{"passkey(length=100)", ErrTask, []string{"min_length is 128, want at most length (100)"}},
		{"passkey(length=3)", ErrTask, []string{`length is "3"`}},
		{"twin(length=900000)", ErrTooShort, []string{"450000 bytes in a row", "val part"}},
	} {
		_, err := Load(Config{}.Spec("task:" + c.spec))
		requireError(t, err, c.kind, c.spec, c.want...)
	}
	_, err := Load(Config{Task: "needle", Path: "a.txt"})
	requireError(t, err, ErrTask, "path", `data.path is "a.txt"`)
	_, err = Load(Config{Task: "needle", Tokenizer: "bytes"})
	requireError(t, err, ErrTask, "tokenizer", `data.tokenizer is "bytes"`)
	_, err = Load(Config{Task: "twin", Path: "nowhere.txt"})
	requireError(t, err, ErrMissing, "text", "nowhere.txt")
	require.Equal(t, "my.txt", Config{Path: "my.txt"}.Spec("task:twin(length=8)").Path)
	require.Empty(t, Config{Path: "my.txt"}.Spec("task:needle").Path)
}

func FuzzTask(f *testing.F) {
	for _, s := range []string{"needle", "mqar(pairs=3)", "copy(gap=1,", "(", "twin(length=4)x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, spec string) {
		c, err := parseTask(spec)
		if err != nil {
			require.NotContains(t, err.Error(), "\n")
			return
		}
		again, err := parseTask(c.name)
		require.NoError(t, err)
		require.Equal(t, c.name, again.name)
	})
}
