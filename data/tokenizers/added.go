package tokenizers

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Added is a token that is found in a text before anything else happens to it.
type Added struct {
	ID         int32  `json:"id"`
	Content    string `json:"content"`
	SingleWord bool   `json:"single_word"` // only where no letter stands beside it
	LStrip     bool   `json:"lstrip"`      // takes the white space before it
	RStrip     bool   `json:"rstrip"`      // and after it
	Normalized bool   `json:"normalized"`  // is looked for in the normalised text
	Special    bool   `json:"special"`     // decoding may leave it out
}

// finder finds added tokens, at each place the longest.
type finder struct {
	trie trie
	all  []Added
	some bool
}

func newFinder(all []Added, content func(Added) string) *finder {
	f := &finder{all: all}
	for i, a := range all {
		if c := content(a); c != "" {
			f.trie.add(c, int32(i))
			f.some = true
		}
	}
	if f.some {
		f.trie.ready()
	}
	return f
}

// cut calls f for each part of a text: with an added token, or nil.
func (f *finder) cut(t text, part func(t text, a *Added)) {
	from := 0
	for i := 0; f.some && i < len(t.s); {
		if f.trie.root[t.s[i]] == 0 {
			i++
			continue
		}
		n, at := f.trie.longest(t.s[i:])
		if n == 0 {
			i++
			continue
		}
		a, start, stop := &f.all[at], i, i+n
		i = stop
		if a.SingleWord && (wordEnds(t.s[:start]) || wordBegins(t.s[stop:])) {
			continue
		}
		if a.LStrip {
			start = max(from, len(strings.TrimRightFunc(t.s[:start], unicode.IsSpace)))
		}
		if a.RStrip {
			stop = len(t.s) - len(strings.TrimLeftFunc(t.s[stop:], unicode.IsSpace))
		}
		if from < start {
			part(t.slice(from, start), nil)
		}
		part(t.slice(start, stop), a)
		from, i = stop, max(i, stop)
	}
	if from < len(t.s) {
		part(t.slice(from, len(t.s)), nil)
	}
}

func wordEnds(s string) bool {
	r, n := utf8.DecodeLastRuneInString(s)
	return n > 0 && isWord(r)
}

func wordBegins(s string) bool {
	r, n := utf8.DecodeRuneInString(s)
	return n > 0 && isWord(r)
}
