package tokenizers

import (
	"slices"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// unicodeForm is one of the four forms of Unicode, with the tables of Unicode 9 as the originals have them: what is newer is left as it is.
// Where a character comes from is what matters here beside the characters, so that parts are put in order and together one by one.
type unicodeForm struct{ norm.Form }

// formed is a character of a form. removed says how many characters of the text besides the next one it stands for; -1: it stands behind the
// one before it and for none.
type formed struct {
	r       rune
	class   uint8 // among the marks behind a letter; 0: no mark
	removed int
}

// normalize puts a text into the form. Cost: a look at each character of a text that is in the form, else about 100 ns for each that is not ASCII.
func (f unicodeForm) normalize(t text) text {
	if f.IsNormalString(t.s) {
		return t
	}
	parts := f.decompose(t.s)
	if f.Form == norm.NFC || f.Form == norm.NFKC {
		parts = compose(parts)
	}
	w := newRewriter(t)
	at, last := 0, span{t.base, t.base}
	for _, p := range parts {
		if p.removed >= 0 {
			last = t.span(at, at+runeLen(t.s, at))
			w.put(p.r, last)
			for range 1 + p.removed {
				n := runeLen(t.s, at)
				last = t.span(at, at+n)
				at += n
			}
			continue
		}
		w.put(p.r, last)
	}
	return w.text(t)
}

// decompose takes characters apart and puts the marks behind a letter in order.
func (f unicodeForm) decompose(s string) []formed {
	form := norm.NFD
	if f.Form == norm.NFKD || f.Form == norm.NFKC {
		form = norm.NFKD
	}
	parts := make([]formed, 0, len(s))
	marks := 0 // where those that are not yet in order begin
	order := func() {
		slices.SortStableFunc(parts[marks:], func(a, b formed) int { return int(a.class) - int(b.class) })
	}
	for _, r := range s {
		from := len(parts)
		apart(form, r, func(q rune) {
			p := formed{q, class(q), 0}
			if len(parts) > from {
				p.removed = -1
			}
			if p.class == 0 {
				order()
				marks = len(parts)
			}
			parts = append(parts, p)
		})
	}
	order()
	return parts
}

// apart puts the characters that r is made of.
func apart(form norm.Form, r rune, put func(rune)) {
	if r < 0xa0 || newForms.has(r) {
		put(r)
		return
	}
	p := form.PropertiesString(string(r))
	if r >= 0xac00 && r <= 0xd7a3 || p.Decomposition() != nil {
		for _, q := range form.String(string(r)) {
			put(q)
		}
		return
	}
	put(r)
}

// class is the place of a mark among those behind a letter.
func class(r rune) uint8 {
	if r < 0x300 || newForms.has(r) {
		return 0
	}
	return norm.NFD.PropertiesString(string(r)).CCC()
}

// compose puts letters and their marks together (Unicode, annex 15): a mark goes to the last letter, unless one of its class or a higher one that
// stays stands between.
func compose(parts []formed) []formed {
	out := parts[:0] // never longer than what is read
	letter := -1     // of out
	var last uint8   // class of what stands behind the letter
	for _, p := range parts {
		behind := letter >= 0 && letter < len(out)-1
		if letter >= 0 && (!behind || last < p.class) {
			if r, ok := pair(out[letter].r, p.r); ok {
				out[letter].r = r
				out[letter].removed += p.removed + 1
				continue
			}
		}
		if p.class == 0 {
			letter = len(out)
		}
		last = p.class
		out = append(out, p)
	}
	return out
}

// pair is the one character for two.
func pair(a, b rune) (rune, bool) {
	if b < 0x300 || norm.NFC.PropertiesString(string(b)).BoundaryBefore() {
		return 0, false
	}
	one := []rune(norm.NFC.String(string([]rune{a, b})))
	return one[0], len(one) == 1 && !newForms.has(one[0])
}

// stripAccents takes marks of every kind away; they stand behind letters after a decomposition. BERT's own part takes fewer (isMark).
type stripAccents struct{}

func (stripAccents) normalize(t text) text {
	return t.mapped(func(r rune, put func(rune)) {
		if r < 0x300 || (!unicode.Is(unicode.M, r) || notStripped.has(r)) && r != 0x1cf2 && r != 0x1cf3 {
			put(r)
		}
	})
}
