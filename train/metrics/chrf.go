// Package metrics measures texts that a model wrote against those that were wanted.
package metrics

import (
	"strings"
	"unicode"
)

// order is the longest n-gram that ChrF counts.
const order = 6

// ChrF is the character n-gram F-score of texts, chrF2: precision and recall of the n-grams of 1 to 6 characters, each in the mean
// over n, and recall counting twice as much. White space does not count. It is that of all texts together, not a mean over texts.
//
// Source: Popović 2015, "chrF: character n-gram F-score for automatic MT evaluation"; counted as sacreBLEU does (chrF2, without
// words and without smoothing).
type ChrF struct {
	written, wanted, both [order]int64 // n-grams, by n-1
}

// Add counts a text.
func (c *ChrF) Add(written, wanted string) {
	w, r := letters(written), letters(wanted)
	for n := 1; n <= order; n++ {
		there := map[string]int64{}
		for i := n; i <= len(r); i++ {
			there[string(r[i-n:i])]++
			c.wanted[n-1]++
		}
		for i := n; i <= len(w); i++ {
			c.written[n-1]++
			if g := string(w[i-n : i]); there[g] > 0 {
				there[g]--
				c.both[n-1]++
			}
		}
	}
}

// letters are the characters of a text but for white space.
func letters(s string) []rune {
	return []rune(strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) {
			return -1
		}
		return r
	}, s))
}

// Score is 0 to 100; 0 if nothing was counted.
func (c *ChrF) Score() float64 {
	var precision, recall, orders float64
	for n := range order {
		if c.written[n] > 0 && c.wanted[n] > 0 {
			precision += float64(c.both[n]) / float64(c.written[n])
			recall += float64(c.both[n]) / float64(c.wanted[n])
			orders++
		}
	}
	if precision+recall == 0 {
		return 0
	}
	const beta2 = 2 * 2
	precision, recall = precision/orders, recall/orders
	return 100 * (1 + beta2) * precision * recall / (beta2*precision + recall)
}
