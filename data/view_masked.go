package data

import (
	"math"

	"github.com/euryale-ml/euryale/internal/splitmix"
)

// maskedView hides some of the tokens and asks for them: of those chosen 80 % become [MASK], 10 % a random token and 10 % stay.
//
// All draws are by counter: those of a place are a hash of (seed, epoch, example, place) in training, of (window, place) in an
// evaluation, which therefore always hides the same. A window in which nothing would be hidden hides one token.
//
// Source: Devlin et al. 2018, arXiv 1810.04805, section 3.1 (there exactly 15 % of each sequence; here each unit by itself).
type maskedView struct {
	probability float64
	unit        string // token, word or span
}

// Units of masking: single tokens; all tokens of a word at once; spans of 1 to 10 tokens, lengths geometric with p = 0.2 (Joshi et al.
// 2019, arXiv 1907.10529, section 3.1). The tokens of a unit share the draw of 80, 10 and 10 %.
var maskUnits = []string{"token", "word", "span"}

const (
	spanStop    = 0.2
	longestSpan = 10
)

func (maskedView) frame() frame    { return frame{} }
func (maskedView) shape(int) Shape { return Shape{} }

func (m maskedView) fill(b *Batch, r int, p *Part, w span, key uint64) {
	ids, targets := rowOf(b, b.IDs, r), rowOf(b, b.Targets, r)
	n := w.end - w.start
	p.tokens.copy(ids[:n], w.start)
	m.hide(p.vocab, ids[:n], targets[:n], key)
	b.pad(r, n, p.vocab.pad())
	b.Bytes += p.size(targets[:n])
}

func (m maskedView) scored(p *Part, w span, _ int, key uint64) (targets int, bytes int64) {
	ids, hidden := make([]int32, w.end-w.start), make([]int32, w.end-w.start)
	p.tokens.copy(ids, w.start)
	m.hide(p.vocab, ids, hidden, key)
	return CountScored(hidden), int64(p.size(hidden))
}

// hide chooses among ids, writes what they were to targets and -1 where nothing was chosen, and changes them.
func (m maskedView) hide(v *vocabulary, ids, targets []int32, key uint64) {
	for i := range targets {
		targets[i] = -1
	}
	chosen := false
	cover := func(start, end int) {
		chosen = true
		kind := splitmix.Unit(hash(key, uint64(start), 1))
		for i := start; i < end; i++ {
			if targets[i] >= 0 {
				continue
			}
			targets[i] = ids[i]
			switch {
			case kind < 0.8:
				ids[i] = v.ids.mask
			case kind < 0.9:
				ids[i] = v.ordinary(hash(key, uint64(i), 2))
			}
		}
	}
	if m.unit == "span" {
		start := -math.Log1p(-m.probability) / meanSpan // so that a place is free of spans with 1 - probability
		for i := range ids {
			if splitmix.Unit(hash(key, uint64(i), 0)) < start {
				cover(i, min(len(ids), i+spanLength(hash(key, uint64(i), 3))))
			}
		}
	} else {
		for i := 0; i < len(ids); {
			end := i + 1
			for m.unit == "word" && end < len(ids) && v.joined(ids[end-1], ids[end]) {
				end++
			}
			if splitmix.Unit(hash(key, uint64(i), 0)) < m.probability {
				cover(i, end)
			}
			i = end
		}
	}
	if !chosen && len(ids) > 0 {
		i := below(hash(key, uint64(len(ids)), 4), len(ids))
		cover(i, i+1)
	}
}

// meanSpan is the mean of spanLength.
var meanSpan = (1 - math.Pow(1-spanStop, longestSpan)) / spanStop

// spanLength draws a length: k with probability p(1-p)^(k-1), the rest at longestSpan.
func spanLength(h uint64) int {
	return min(longestSpan, 1+int(math.Log1p(-splitmix.Unit(h))/math.Log1p(-spanStop)))
}
