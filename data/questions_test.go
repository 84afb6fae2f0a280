package data

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// questions writes n lines; the answer of line i is a number in the middle of 97 letters.
func questions(t *testing.T, n int) string {
	var s strings.Builder
	for i := range n {
		at := i * 90 / n
		text := strings.Repeat("ä", at) + fmt.Sprintf("<%03d>", i) + strings.Repeat("b", 92-at)
		fmt.Fprintf(&s, "{\"question\":\"who?\",\"context\":%q,\"answer\":\"<%03d>\",\"answer_start\":%d}\n", text, i, at)
	}
	return write(t, t.TempDir(), "a.jsonl", []byte(s.String()))
}

func TestQuestions(t *testing.T) {
	corpus, err := Load(Config{Path: questions(t, 41), Objective: "question_answering", DocStride: 11})
	require.NoError(t, err)
	const length = 31
	require.Equal(t, Shape{Labels: 2}, corpus.Train.Shape(length))
	b := corpus.Train.Shape(length).NewBatch(37, length)
	answerOf := func(r int) string {
		first, last := b.Labels[2*r], b.Labels[2*r+1]
		return Bytes{}.Decode(rowOf(b, b.IDs, r)[first : last+1])
	}
	s, err := corpus.Train.Sampler(length, 3)
	require.NoError(t, err)
	require.Equal(t, 37, s.PerEpoch(), "an example for each question")
	seen, places := map[string]bool{}, map[int32]bool{}
	for epoch := range 3 {
		s.Fill(int64(37*epoch), b)
		for r := range b.B {
			require.EqualValues(t, clsID, rowOf(b, b.IDs, r)[0])
			require.Equal(t, "who?", Bytes{}.Decode(rowOf(b, b.IDs, r)[:6]))
			require.EqualValues(t, sepID, rowOf(b, b.IDs, r)[5])
			require.EqualValues(t, sepID, rowOf(b, b.IDs, r)[b.Lens[r]-1])
			require.Regexp(t, `^<\d\d\d>$`, answerOf(r), "the whole answer is in the window")
			seen[answerOf(r)], places[b.Labels[2*r]] = true, true
		}
	}
	require.Len(t, seen, 37)
	require.Greater(t, len(places), 12, "it stands at any place")
	again := corpus.Train.Shape(length).NewBatch(37, length)
	s.Fill(37*2, again)
	require.Equal(t, b.IDs, again.IDs)

	w := corpus.Val.PlainWindows(length)
	require.Greater(t, w.Len(), 2*7)
	b = corpus.Val.Shape(length).NewBatch(w.Len(), length)
	w.Fill(0, b)
	covered, whole, scored := map[int]int{}, 0, 0
	for r := range b.B {
		q, ok := w.Question(r)
		require.True(t, ok)
		require.Equal(t, 6, q.First)
		covered[q.Document] += q.Tokens
		require.Equal(t, int(b.Lens[r]), q.First+q.Tokens+1)
		if b.Labels[2*r] >= 0 {
			whole++
			scored += 2
			require.Equal(t, q.Answers[0], answerOf(r))
			require.Equal(t, q.Answers[0], q.Text(int(b.Labels[2*r])-q.First, int(b.Labels[2*r+1])-q.First))
		} else {
			require.EqualValues(t, -1, b.Labels[2*r+1])
		}
	}
	require.EqualValues(t, scored, w.Scored())
	require.GreaterOrEqual(t, whole, 2, "windows that overlap hold each answer")
	for d := range corpus.Val.Documents() {
		require.Greater(t, covered[d], len(corpus.Val.Document(d)))
	}
	_, ok := w.Question(w.Len())
	require.False(t, ok)
}

func TestQuestionsOfPretrained(t *testing.T) {
	tok, _, err := LoadTokenizer(wordPieceFolder(t))
	require.NoError(t, err)
	path := write(t, t.TempDir(), "a.jsonl", []byte(`{"id":"1","question":"Where was he born?","context":"Ärnold Unbelievable was born in Zürich, far away.","answers":{"text":["Zürich","in Zürich"],"answer_start":[32,29]}}
{"id":"2","question":"Why?","context":"Nobody says why.","answers":{"text":[],"answer_start":[]}}
`))
	part, err := LoadWhole(Config{Path: path, Objective: "question_answering"}.With(tok))
	require.NoError(t, err)
	const length = 29
	require.Equal(t, Shape{Labels: 2, Types: true}, part.Shape(length))
	w := part.PlainWindows(length)
	require.Equal(t, 2, w.Len())
	b := part.Shape(length).NewBatch(2, length)
	w.Fill(0, b)
	q, _ := w.Question(0)
	require.Equal(t, []string{"Zürich", "in Zürich"}, q.Answers)
	first, last := int(b.Labels[0])-q.First, int(b.Labels[1])-q.First
	require.Equal(t, "Zürich", q.Text(first, last), "as it is written")
	require.Equal(t, "Ärnold", q.Text(0, slices.IndexFunc(part.asked[0].offsets, func(o [2]int32) bool { return o[1] == int32(len("Ärnold")) })))
	require.Equal(t, []int32{0, 0}, b.Labels[2:], "no answer: [CLS]")
	require.Equal(t, q.Tokens+1, countOf(b.Types[:length], 1))
	require.EqualValues(t, 101, b.IDs[0])
	require.EqualValues(t, 102, b.IDs[q.First-1])
	require.EqualValues(t, 4, w.Scored())
}

func countOf(x []int32, v int32) (n int) {
	for _, y := range x {
		if y == v {
			n++
		}
	}
	return n
}

// Every form of a source gives the same questions.
func TestSourcesOfQuestions(t *testing.T) {
	type squad struct {
		Text  []string `parquet:"text,list"`
		Start []int32  `parquet:"answer_start,list"`
	}
	type row struct {
		Question string `parquet:"question"`
		Context  string `parquet:"context"`
		Answers  squad  `parquet:"answers"`
	}
	dir := t.TempDir()
	var all []row
	var lines, table, nowhere bytes.Buffer
	table.WriteString("question,context,answer,answer_start\n")
	nowhere.WriteString("q\tc\ta\n")
	for i := range 23 {
		context := fmt.Sprintf("é, the %d answers", i)
		all = append(all, row{"what", context, squad{[]string{"answers"}, []int32{int32(strings.Index(context, "answers") - 1)}}})
		fmt.Fprintf(&lines, "{\"question\":\"what\",\"context\":%q,\"answer\":\"answers\"}\n", context)
		fmt.Fprintf(&table, "what,\"%s\",answers,%d\n", context, strings.Index(context, "answers")-1)
		fmt.Fprintf(&nowhere, "what\t%s\tanswers\n", context)
	}
	c := Config{Path: write(t, dir, "a.jsonl", lines.Bytes()), Objective: "question_answering"}
	want, err := Load(c)
	require.NoError(t, err)
	for _, path := range []string{write(t, dir, "a.csv", table.Bytes()), write(t, dir, "a.parquet", parquetOf(t, all)), write(t, dir, "a.tsv", nowhere.Bytes())} {
		c.Path = path
		if strings.HasSuffix(path, ".tsv") {
			c.QuestionField, c.TextField, c.TargetField = "q", "c", "a"
		}
		got, err := Load(c)
		require.NoError(t, err, path)
		require.Equal(t, want.Digest, got.Digest, path)
	}
}

func TestRefusedQuestions(t *testing.T) {
	dir := t.TempDir()
	for name, c := range map[string]struct {
		line string
		part string
	}{
		"place":    {`{"question":"q","context":"abc","answer":"b","answer_start":2}`, `"b" is not in the text`},
		"words":    {`{"question":"q","context":"abc","answer":"d"}`, `"d" is not in the text`},
		"past":     {`{"question":"q","context":"abc","answer":"c","answer_start":77}`, "not in the text"},
		"question": {`{"question":" ","context":"abc","answer":"c"}`, "question is empty"},
		"field":    {`{"context":"abc","answer":"c"}`, "data.question_field"},
		"answer":   {`{"context":"abc","question":"c"}`, "data.target_field"},
		"counts":   {`{"question":"q","context":"abc","answers":{"text":["a"],"answer_start":[0,1]}}`, "1 answers and 2 places"},
	} {
		_, err := LoadWhole(Config{Path: write(t, dir, "a.jsonl", []byte(c.line+"\n")), Objective: "question_answering"})
		require.ErrorIs(t, err, ErrFormat, name)
		require.Contains(t, err.Error(), c.part, name)
		require.Contains(t, err.Error(), "a.jsonl:1", name)
	}
	_, err := LoadWhole(Config{Path: write(t, dir, "a.txt", prose(9)), Objective: "question_answering"})
	require.ErrorContains(t, err, "has no questions")
	require.Error(t, Config{Objective: "question_answering", GroupField: "g", Join: true, DocStride: -1}.Validate())
}
