package train

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/data"
	"github.com/euryale-ml/euryale/models"
)

// A model that is asked for a number in a long text finds it, and says so in words, over windows that overlap.
func TestAnswers(t *testing.T) {
	var lines strings.Builder
	for i := range 60 {
		at := i * 41 % 60
		fmt.Fprintf(&lines, "{\"question\":\"n?\",\"context\":\"%s<%d>%s\",\"answer\":\"<%d>\"}\n", strings.Repeat("u", at), 10+i, strings.Repeat("u", 60-at), 10+i)
	}
	path := filepath.Join(t.TempDir(), "q.jsonl")
	require.NoError(t, os.WriteFile(path, []byte(lines.String()), 0o600))
	j := Job{Model: []byte(`{"model_type":"encoder","task":"question_answering","vocab_size":262,"hidden_size":32,"num_hidden_layers":1,"num_attention_heads":2,
		"attention":[{"type":"band","window_left":7,"window_right":7}]}`), Train: DefaultConfig(), Data: data.Config{Path: path, DocStride: 9}}
	j.Train.Steps, j.Train.BatchSize, j.Train.SequenceLength, j.Train.LR, j.Train.WarmupSteps = 60, 16, 29, 1e-2, 5
	m, err := j.Check()
	require.NoError(t, err)
	corpus, err := j.Load(m)
	require.NoError(t, err)
	params, err := models.NewParams(m, tensor.Float32, 1)
	require.NoError(t, err)
	evaluate := func() Score {
		e, err := NewEvaluator(m, params, corpus.Test.Shape(29), 5, 29)
		require.NoError(t, err)
		s, err := e.Run(context.Background(), corpus.Test.PlainWindows(29), 0, nil)
		require.NoError(t, err)
		require.Len(t, s.Answers.Answers, 3, "a question each")
		return s
	}
	before := evaluate()
	require.Less(t, before.Answers.ExactMatch, 1.0)
	trainer, err := NewTrainer(m, params, corpus.Train, j.Train)
	require.NoError(t, err)
	for range j.Train.Steps {
		_, err = trainer.Step()
		require.NoError(t, err)
	}
	after := evaluate()
	require.Less(t, after.Loss, before.Loss/3)
	require.Equal(t, 1.0, after.Answers.ExactMatch, "%+v", after.Answers)
	require.Equal(t, 1.0, after.Answers.F1)
	for _, a := range after.Answers.Answers {
		require.Equal(t, a.Right[0], a.Text)
	}
}

// The best span is one that could be an answer, the whole text counts, and no answer is one only where it may be.
func TestBestSpan(t *testing.T) {
	path := filepath.Join(t.TempDir(), "q.jsonl")
	text := `{"question":"q","context":"abcdefghij","answer":"b"}` + "\n"
	for _, none := range []bool{false, true} {
		if none {
			text += `{"question":"q","context":"abcdefghij","answer":""}` + "\n"
		}
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		part, err := data.LoadWhole(data.Config{Path: path, Objective: "question_answering"})
		require.NoError(t, err)
		w := part.PlainWindows(9) // five letters of the text
		var a answering
		for i := range w.Len() {
			q, ok := w.Question(i)
			require.True(t, ok)
			require.Equal(t, 3, q.First)
			a.add(q, func(place, end int) float64 {
				switch {
				case place == 0:
					return 9
				case i == 1 && (place == 5 && end == 0 || place == 6 && end == 1 || place == 4 && end == 1):
					return float64(place)
				}
				return 0
			})
		}
		s := a.score()
		want := "ef" // the window begins with c
		if none {
			want = ""
		}
		require.Equal(t, want, s.Answers[0].Text)
	}
}
