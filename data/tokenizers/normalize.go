package tokenizers

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// normalizer changes a text before it is cut.
type normalizer interface{ normalize(t text) text }

type normalizers []normalizer

func (ns normalizers) normalize(t text) text {
	for _, n := range ns {
		t = n.normalize(t)
	}
	return t
}

// bertNormalizer is BERT's: control characters go, white space becomes blanks, blanks stand around Chinese characters, accents go, upper
// case becomes lower case.
type bertNormalizer struct{ clean, chinese, accents, lower bool }

func (n bertNormalizer) normalize(t text) text {
	if n.plain(t.s) {
		return t
	}
	t = t.mapped(func(r rune, put func(rune)) {
		if n.clean {
			if isControl(r) {
				return
			}
			if unicode.IsSpace(r) { // of tab, line feed, carriage return and the blanks of Unicode, those that are no control characters
				r = ' '
			}
		}
		if n.chinese && isHan(r) {
			put(' ')
			put(r)
			put(' ')
			return
		}
		put(r)
	})
	if n.accents {
		if strings.IndexFunc(t.s, ordered) >= 0 {
			t = unicodeForm{norm.NFD}.normalize(t).mapped(func(r rune, put func(rune)) {
				if !isMark(r) {
					put(r)
				}
			})
		} else {
			t = t.mapped(bare)
		}
	}
	if n.lower {
		t = t.mapped(lower)
	}
	return t
}

// ordered reports whether a character stays and has a place among the marks behind a letter.
func ordered(r rune) bool {
	return r >= 0x302e && !isMark(r) && !newMarks.has(r) && norm.NFD.PropertiesString(string(r)).CCC() != 0
}

// bare puts the parts of a character that are no marks. Marks are not put in order before, as a decomposition does: they go anyway.
func bare(r rune, put func(rune)) {
	if r < 0xc0 {
		put(r)
		return
	}
	apart(norm.NFD, r, func(q rune) {
		if !isMark(q) {
			put(q)
		}
	})
}

// plain reports whether nothing would change: small ASCII.
func (n bertNormalizer) plain(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= 0x7f || n.lower && c >= 'A' && c <= 'Z' {
			return false
		}
	}
	return true
}

// lowercase puts lower case in place of upper case.
type lowercase struct{}

func (lowercase) normalize(t text) text { return t.mapped(lower) }

// strip takes white space away at the ends.
type strip struct{ left, right bool }

func (n strip) normalize(t text) text {
	a, b := 0, len(t.s)
	if n.left {
		a = b - len(strings.TrimLeftFunc(t.s, unicode.IsSpace))
	}
	if n.right {
		b = a + len(strings.TrimRightFunc(t.s[a:], unicode.IsSpace))
	}
	return t.slice(a, b)
}

// prepend puts something before a text that is not empty.
type prepend struct{ what string }

func (n prepend) normalize(t text) text {
	if t.s == "" {
		return t
	}
	w := newRewriter(t)
	w.puts(n.what, t.span(0, runeLen(t.s, 0)))
	return joined(w, t)
}

// joined is what w holds and then all of t.
func joined(w *rewriter, t text) text {
	for i := range len(t.s) {
		w.b = append(w.b, t.s[i])
		w.at = append(w.at, t.span(i, i+1))
	}
	if t.at == nil { // of whole characters
		for i := len(w.at) - len(t.s); i < len(w.at); {
			from := i - (len(w.at) - len(t.s))
			n := runeLen(t.s, from)
			for k := range n {
				w.at[i+k] = t.span(from, from+n)
			}
			i += n
		}
	}
	return w.text(t)
}

// replace puts one text in place of what find finds.
type replace struct {
	find func(s string) (from, to int) // the first match; from < 0: none
	with string
}

func (n replace) normalize(t text) text {
	var w *rewriter
	at := 0
	for at < len(t.s) {
		from, to := n.find(t.s[at:])
		if from < 0 || to == from {
			break
		}
		if w == nil {
			w = newRewriter(t)
		}
		joined(w, t.slice(at, at+from))
		_, last := utf8.DecodeLastRuneInString(t.s[at+from : at+to]) // what is put in comes from the last character that it replaces
		w.puts(n.with, t.span(at+to-last, at+to))
		at += to
	}
	if w == nil {
		return t
	}
	return joined(w, t.slice(at, len(t.s)))
}

// findText finds a text.
func findText(what string) func(s string) (int, int) {
	return func(s string) (int, int) {
		i := strings.Index(s, what)
		return i, i + len(what)
	}
}

// nmt is SentencePiece's cleaning of control characters.
type nmt struct{}

func (nmt) normalize(t text) text {
	return t.mapped(func(r rune, put func(rune)) {
		switch {
		case r >= 1 && r <= 8, r == 0xb, r >= 0xe && r <= 0x1f, r == 0x7f, r == 0x8f, r == 0x9f:
		case r == 9, r == 10, r == 12, r == 13, r == 0x1680, r >= 0x200b && r <= 0x200f, r == 0x2028, r == 0x2029, r == 0x2581, r == 0xfeff, r == 0xfffd:
			put(' ')
		default:
			put(r)
		}
	})
}
