package metrics

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestChrF(t *testing.T) {
	for _, c := range []struct {
		written, wanted string
		score           float64
	}{
		{"", "", 0},
		{"", "abc", 0},
		{"abc", "", 0},
		{"xyz", "abc", 0},
		{"abc", "abc", 100},
		{"In the beginning God created", "In the beginning God created", 100},
		{"In the beginning", "Inthe begin\nning ", 100}, // without white space
		{"abc", "abd", 100 * (2.0/3 + 1.0/2) / 3},
		{"ab", "abcd", 100 * 5 * (5.0 / 12) / (4 + 5.0/12)},   // precision 1, recall (1/2 + 1/3)/2
		{"abcd", "ab", 100 * 5 * (5.0 / 12) / (4*5.0/12 + 1)}, // the other way round
		{"aaa", "a", 100 * 5.0 / 3 / (4.0/3 + 1)},             // the second a is one too many; the text has no pairs
		{"ÄÖ", "ÄÜ", 25},                                      // characters, not bytes: (1/2 + 0)/2
	} {
		var f ChrF
		f.Add(c.written, c.wanted)
		require.InDelta(t, c.score, f.Score(), 1e-12, "%q for %q", c.written, c.wanted)
	}
	// All texts together: singles 3 of 5 written and of 4 wanted; pairs 1 of 3 and of 2; triples 0 of 1 and none wanted.
	var f ChrF
	f.Add("ab", "ab")
	f.Add("xyc", "cd")
	p, r := (3.0/5+1.0/3)/2, (3.0/4+1.0/2)/2
	require.InDelta(t, 100*5*p*r/(4*p+r), f.Score(), 1e-12)
}
