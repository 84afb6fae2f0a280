package train

import (
	"github.com/euryale-ml/euryale/data"
	"github.com/euryale-ml/euryale/train/metrics"
)

// longestAnswer is how many tokens an answer may have.
const longestAnswer = 30

// Answer is what a model answers to a question: the span with the largest sum of its two logits, over all windows of the text.
type Answer struct {
	Document int
	Text     string  // "": the text has no answer
	Score    float64 // the sum
	Right    []string
}

// AnswerScore is how well questions are answered in words, see metrics.Answers.
type AnswerScore struct {
	ExactMatch float64
	F1         float64
	Answers    []Answer // in the order of the documents
}

// answering collects the best spans of an evaluation. That a text has no answer may be said only where there are questions of this kind.
type answering struct {
	all     []Answer
	none    []float64 // the smallest score of [CLS] over the windows of each document
	allowed bool
}

// add looks for the best span of the window in a row of logits [T,2]. Windows of a document follow each other.
func (a *answering) add(q data.Question, logit func(place, end int) float64) {
	if n := len(a.all); n == 0 || a.all[n-1].Document != q.Document {
		a.all, a.none = append(a.all, Answer{Document: q.Document, Right: q.Answers}), append(a.none, 0)
		a.allowed = a.allowed || len(q.Answers) == 0
		a.none[n] = logit(0, 0) + logit(0, 1)
		a.all[n].Text, a.all[n].Score = q.Text(0, 0), logit(q.First, 0)+logit(q.First, 1)
	}
	best := &a.all[len(a.all)-1]
	none := &a.none[len(a.all)-1]
	*none = min(*none, logit(0, 0)+logit(0, 1))
	from, to, found := 0, 0, false
	for i := range q.Tokens {
		start := logit(q.First+i, 0)
		for j := i; j < min(q.Tokens, i+longestAnswer); j++ {
			if s := start + logit(q.First+j, 1); s > best.Score {
				best.Score, from, to, found = s, i, j, true
			}
		}
	}
	if found {
		best.Text = q.Text(from, to)
	}
}

// score compares what was found with what is right; nil if nothing was asked.
func (a *answering) score() *AnswerScore {
	if len(a.all) == 0 {
		return nil
	}
	var m metrics.Answers
	for i := range a.all {
		if x := &a.all[i]; a.allowed && a.none[i] > x.Score {
			x.Text, x.Score = "", a.none[i]
		}
		m.Add(a.all[i].Text, a.all[i].Right)
	}
	return &AnswerScore{m.ExactMatch(), m.F1(), a.all}
}
