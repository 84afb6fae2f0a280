package metrics

import (
	"slices"
	"strings"
	"unicode"
)

// Answers compares answers with those that are right: how often one is the same (exact match), and the F1 of their words, both after lower case,
// without punctuation and without a, an and the. Of several right ones the best counts.
//
// Source: Rajpurkar et al. 2016, arXiv 1606.05250, section 6.1, and the evaluation script of SQuAD 2.0 for questions without an answer: there
// only an empty answer is right.
type Answers struct {
	exact, f1 float64
	n         int
}

// Add counts the answer to a question. right is empty if the question has none.
func (a *Answers) Add(given string, right []string) {
	a.n++
	if len(right) == 0 {
		right = []string{""}
	}
	words := answerWords(given)
	exact, f1 := 0.0, 0.0
	for _, r := range right {
		want := answerWords(r)
		if slices.Equal(words, want) {
			exact = 1
		}
		f1 = max(f1, wordF1(words, want))
	}
	a.exact += exact
	a.f1 += f1
}

// Count is how many answers there are.
func (a *Answers) Count() int { return a.n }

// ExactMatch is the part of the answers that are right, 0 to 1.
func (a *Answers) ExactMatch() float64 { return a.exact / float64(a.n) }

// F1 is the mean over the answers, 0 to 1.
func (a *Answers) F1() float64 { return a.f1 / float64(a.n) }

// answerWords are the words of an answer that count.
func answerWords(s string) []string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsPunct(r) || r < unicode.MaxASCII && unicode.IsSymbol(r) {
			return -1
		}
		return unicode.ToLower(r)
	}, s)
	return slices.DeleteFunc(strings.Fields(s), func(w string) bool { return w == "a" || w == "an" || w == "the" })
}

// wordF1 is the harmonic mean of precision and recall of words, each as often as it stands there.
func wordF1(given, want []string) float64 {
	if len(given) == 0 || len(want) == 0 {
		if len(given) == len(want) {
			return 1
		}
		return 0
	}
	there := map[string]int{}
	for _, w := range want {
		there[w]++
	}
	both := 0
	for _, w := range given {
		if there[w] > 0 {
			there[w]--
			both++
		}
	}
	return 2 * float64(both) / float64(len(given)+len(want))
}
