package tokenizers

import (
	"strings"
	"unicode"
)

// Encoding is a text as tokens.
type Encoding struct {
	IDs     []int32
	TypeIDs []int32  // which of two texts a token belongs to, as the template says
	Tokens  []string // as the vocabulary writes them
	Offsets [][2]int // characters (runes) of its own text that a token stands for; 0, 0 of one that the template adds
	Special []bool   // added by the template
}

func (e *Encoding) add(id int32, name string, at [2]int, special bool) {
	e.IDs, e.Tokens, e.Offsets = append(e.IDs, id), append(e.Tokens, name), append(e.Offsets, at)
	e.Special, e.TypeIDs = append(e.Special, special), append(e.TypeIDs, 0)
}

// Truncate keeps the first tokens.
func (e *Encoding) Truncate(n int) {
	n = max(0, min(n, len(e.IDs)))
	e.IDs, e.TypeIDs, e.Tokens, e.Offsets, e.Special = e.IDs[:n], e.TypeIDs[:n], e.Tokens[:n], e.Offsets[:n], e.Special[:n]
}

// Pad adds a token at the end until there are n.
func (e *Encoding) Pad(n int, id int32, name string) {
	for len(e.IDs) < n {
		e.add(id, name, [2]int{}, true)
	}
}

// post finishes what the model has made: it trims offsets and puts special tokens around.
type post interface {
	// finish joins the encodings of one text or two; special: with the template's tokens.
	finish(t *Tokenizer, parts []*Encoding, special bool) *Encoding
	// adds is how many tokens the template adds to so many texts.
	adds(texts int) int
}

// slot is a place of a template: a text (0 or 1), or tokens.
type slot struct {
	of     int // which text; negative: ids
	ids    []int32
	typeID int32
}

// template puts tokens around one text, or around two.
type template struct{ single, pair []slot }

func (p template) slots(texts int) []slot {
	if texts == 1 {
		return p.single
	}
	return p.pair
}

func (p template) adds(texts int) (n int) {
	for _, s := range p.slots(texts) {
		if s.of < 0 {
			n += len(s.ids)
		}
	}
	return n
}

func (p template) finish(t *Tokenizer, parts []*Encoding, special bool) *Encoding {
	out := &Encoding{}
	for _, s := range p.slots(len(parts)) {
		begun := len(out.IDs)
		if s.of >= 0 {
			out.append(parts[s.of])
		} else if special {
			for _, id := range s.ids {
				out.add(id, t.Token(id), [2]int{}, true)
			}
		}
		for i := begun; i < len(out.IDs); i++ {
			out.TypeIDs[i] = s.typeID
		}
	}
	return out
}

func (e *Encoding) append(o *Encoding) {
	e.IDs, e.TypeIDs, e.Tokens = append(e.IDs, o.IDs...), append(e.TypeIDs, o.TypeIDs...), append(e.Tokens, o.Tokens...)
	e.Offsets, e.Special = append(e.Offsets, o.Offsets...), append(e.Special, o.Special...)
}

// plain is no template: texts one after the other, of types 0 and 1.
type plain struct{}

func (plain) adds(int) int { return 0 }

func (plain) finish(_ *Tokenizer, parts []*Encoding, _ bool) *Encoding {
	out := &Encoding{}
	for k, p := range parts {
		begun := len(out.IDs)
		out.append(p)
		for i := begun; i < len(out.IDs); i++ {
			out.TypeIDs[i] = int32(k)
		}
	}
	return out
}

// trimmed leaves the blanks of byte-level tokens out of their offsets, before what is behind it.
type trimmed struct {
	prefix bool // a blank was put before the text, which is no part of it
	then   post
}

func (p trimmed) adds(texts int) int { return p.then.adds(texts) }

func (p trimmed) finish(t *Tokenizer, parts []*Encoding, special bool) *Encoding {
	isBlank := func(r rune) bool { return r == byteLetters[' '] || unicode.IsSpace(r) }
	for _, e := range parts {
		for i, name := range e.Tokens {
			at := &e.Offsets[i]
			lead := len([]rune(name)) - len([]rune(strings.TrimLeftFunc(name, isBlank)))
			trail := len([]rune(name)) - len([]rune(strings.TrimRightFunc(name, isBlank)))
			if lead > 0 {
				if lead == 1 && p.prefix && (i == 0 || at[0] == 0) { // of several none was put there
					lead = 0
				}
				at[0] = min(at[0]+lead, at[1])
			}
			if trail > 0 && at[1] >= trail {
				at[1] = max(at[1]-trail, at[0])
			}
		}
	}
	return p.then.finish(t, parts, special)
}

// posts do one after the other; the last one puts the texts together.
type posts []post

func (ps posts) adds(texts int) (n int) {
	for _, p := range ps {
		n += p.adds(texts)
	}
	return n
}

func (ps posts) finish(t *Tokenizer, parts []*Encoding, special bool) *Encoding {
	for _, p := range ps[:len(ps)-1] {
		if trim, ok := p.(trimmed); ok {
			trim.finish(t, parts, false)
		}
	}
	return ps[len(ps)-1].finish(t, parts, special)
}
