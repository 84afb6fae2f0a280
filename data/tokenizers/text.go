package tokenizers

import "unicode/utf8"

// span is a range of bytes of the original text.
type span struct{ from, to int32 }

// text is a piece of text on its way: its bytes now, and for each of them where it comes from.
type text struct {
	s  string
	at []span // of each byte; nil: byte i comes from byte base+i
	// base is where an unchanged text begins.
	base int32
}

// slice is the bytes from a to b.
func (t text) slice(a, b int) text {
	if t.at == nil {
		return text{s: t.s[a:b], base: t.base + int32(a)}
	}
	return text{s: t.s[a:b], at: t.at[a:b]}
}

// span is where the bytes from a to b come from.
func (t text) span(a, b int) span {
	switch {
	case t.at == nil:
		return span{t.base + int32(a), t.base + int32(b)}
	case a < b:
		return span{t.at[a].from, t.at[b-1].to}
	case len(t.at) == 0:
		return span{t.base, t.base}
	case a < len(t.at):
		return span{t.at[a].from, t.at[a].from}
	}
	return span{t.at[a-1].to, t.at[a-1].to}
}

// rewriter makes a text of another, character by character.
type rewriter struct {
	b  []byte
	at []span
}

func newRewriter(t text) *rewriter {
	return &rewriter{make([]byte, 0, len(t.s)+16), make([]span, 0, len(t.s)+16)}
}

// put adds a character that comes from there.
func (w *rewriter) put(r rune, from span) {
	n := len(w.b)
	w.b = utf8.AppendRune(w.b, r)
	for range len(w.b) - n {
		w.at = append(w.at, from)
	}
}

func (w *rewriter) puts(s string, from span) {
	w.b = append(w.b, s...)
	for range len(s) {
		w.at = append(w.at, from)
	}
}

func (w *rewriter) text(of text) text { return text{s: string(w.b), at: w.at, base: of.base} }

// mapped is a text whose characters f replaces: put says what stands for a character, nothing if it is not called.
func (t text) mapped(f func(r rune, put func(rune))) text {
	w := newRewriter(t)
	for i, r := range t.s {
		at := t.span(i, i+runeLen(t.s, i))
		f(r, func(q rune) { w.put(q, at) })
	}
	return w.text(t)
}

// runeLen is the number of bytes of the character at i; 1 for a byte that is none.
func runeLen(s string, i int) int {
	if s[i] < utf8.RuneSelf {
		return 1
	}
	_, n := utf8.DecodeRuneInString(s[i:])
	return n
}
