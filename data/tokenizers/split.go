package tokenizers

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// splitter cuts a text into words, in order, and may change them.
type splitter interface {
	split(t text, dst []text) []text
}

type splitters []splitter

func (ss splitters) split(t text, dst []text) []text {
	all := []text{t}
	for _, s := range ss {
		var next []text
		for _, w := range all {
			next = s.split(w, next)
		}
		all = next
	}
	return append(dst, all...)
}

// behaviour says what becomes of the characters at which a text is cut.
type behaviour string

const (
	removed      behaviour = "Removed"
	isolated     behaviour = "Isolated"
	withPrevious behaviour = "MergedWithPrevious"
	withNext     behaviour = "MergedWithNext"
	contiguous   behaviour = "Contiguous"
)

// cutter cuts at characters of a kind (is), or at what find finds.
type cutter struct {
	is   func(r rune) bool
	find func(s string) (from, to int)
	how  behaviour
	not  bool // at everything else
}

// piece is a part of a text that is, or is not, what is cut at.
type piece struct {
	from, to int
	hit      bool
}

func (c cutter) split(t text, dst []text) []text {
	var last piece // held back until it is known what it belongs to
	open := false
	flush := func() {
		if open && last.from < last.to {
			dst = append(dst, t.slice(last.from, last.to))
		}
		open = false
	}
	c.pieces(t.s, func(p piece) {
		if p.from == p.to {
			return
		}
		switch {
		case c.how == removed:
			if flush(); !p.hit {
				last, open = p, true
			}
		case c.how == contiguous && open && p.hit && last.hit,
			c.how == withPrevious && open && p.hit && !last.hit,
			c.how == withNext && open && last.hit && !p.hit:
			last.to, last.hit = p.to, p.hit || c.how == contiguous
		default:
			flush()
			last, open = p, true
		}
	})
	flush()
	return dst
}

// pieces calls f for each part of a text.
func (c cutter) pieces(s string, f func(piece)) {
	from := 0
	if c.is != nil {
		for i := 0; i < len(s); {
			r, n := utf8.DecodeRuneInString(s[i:])
			if c.is(r) != c.not {
				f(piece{from, i, false})
				f(piece{i, i + n, true})
				from = i + n
			}
			i += n
		}
		f(piece{from, len(s), false})
		return
	}
	for from < len(s) {
		a, b := c.find(s[from:])
		if a < 0 || a == b {
			break
		}
		f(piece{from, from + a, c.not})
		f(piece{from + a, from + b, !c.not})
		from += b
	}
	f(piece{from, len(s), c.not})
}

// bertSplitter cuts at white space and around punctuation.
type bertSplitter struct{}

func (bertSplitter) split(t text, dst []text) []text {
	from := 0
	word := func(to int) {
		if from < to {
			dst = append(dst, t.slice(from, to))
		}
	}
	for i := 0; i < len(t.s); {
		r, n := rune(t.s[i]), 1
		if r >= utf8.RuneSelf {
			r, n = utf8.DecodeRuneInString(t.s[i:])
		}
		switch {
		case unicode.IsSpace(r):
			word(i)
			from = i + n
		case isPunct(r):
			word(i)
			dst = append(dst, t.slice(i, i+n))
			from = i + n
		}
		i += n
	}
	word(len(t.s))
	return dst
}

// byteLevel cuts by GPT-2's rule, if it is asked to. Words stay bytes: their tokens are.
type byteLevel struct{ prefix, rule bool }

func (l byteLevel) split(t text, dst []text) []text {
	if l.prefix && t.s != "" && !strings.HasPrefix(t.s, " ") {
		t = prepend{" "}.normalize(t)
	}
	if !l.rule {
		if t.s == "" {
			return dst
		}
		return append(dst, t)
	}
	for i := 0; i < len(t.s); {
		n := GPT2Word(t.s[i:])
		dst = append(dst, t.slice(i, i+n))
		i += n
	}
	return dst
}

// metaspace writes a mark in place of blanks, and before a text, and cuts before each mark.
type metaspace struct {
	mark  string
	first string // always, first, never: where a mark stands before the text
	cut   bool
}

func (m metaspace) split(t text, dst []text) []text {
	if t.s == "" {
		return dst
	}
	start := t.span(0, 1).from == 0
	t = replace{findText(" "), m.mark}.normalize(t)
	if (m.first == "always" || m.first == "first" && start) && !strings.HasPrefix(t.s, m.mark) {
		t = prepend{m.mark}.normalize(t)
	}
	if !m.cut {
		return append(dst, t)
	}
	return cutter{find: findText(m.mark), how: withNext}.split(t, dst)
}

// words cuts by the expression \w+|[^\w\s]+.
type words struct{}

func (words) split(t text, dst []text) []text {
	kind := func(r rune) int {
		switch {
		case isWord(r):
			return 1
		case unicode.IsSpace(r):
			return 0
		}
		return 2
	}
	from, was := 0, 0
	for i := 0; i <= len(t.s); {
		k, n := -1, 1
		if i < len(t.s) {
			var r rune
			r, n = utf8.DecodeRuneInString(t.s[i:])
			k = kind(r)
		}
		if k != was {
			if was > 0 {
				dst = append(dst, t.slice(from, i))
			}
			from, was = i, k
		}
		i += n
	}
	return dst
}
