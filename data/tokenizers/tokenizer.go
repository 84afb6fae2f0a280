package tokenizers

import (
	"strings"
	"unicode/utf8"
)

// Tokenizer makes ids of text and text of ids. It may be used by one goroutine at a time.
type Tokenizer struct {
	raw, first *finder // added tokens, looked for in the text as it is, and in the normalised one
	normalizer normalizer
	splitter   splitter
	model      model
	post       post
	decoder    decoder

	added   []Added
	names   []string // by id, added tokens too
	ids     map[string]int32
	special map[int32]bool
	limit   int   // of truncation; 0: none
	pad     int32 // negative: none
	fixed   int   // length that padding fills; 0: that of the longest

	cache map[string][]token // words that were seen
}

// maxCache bounds the words that are remembered.
const maxCache = 1 << 16

// VocabSize is one more than the largest id.
func (t *Tokenizer) VocabSize() int { return len(t.names) }

// Token is the name of an id; "" outside the vocabulary.
func (t *Tokenizer) Token(id int32) string {
	if id < 0 || int(id) >= len(t.names) {
		return ""
	}
	return t.names[id]
}

// ID is the id of a token.
func (t *Tokenizer) ID(name string) (int32, bool) {
	id, ok := t.ids[name]
	return id, ok
}

// IsSpecial reports whether an id stands for no text.
func (t *Tokenizer) IsSpecial(id int32) bool { return t.special[id] }

// AddedTokens are those that are found before anything else.
func (t *Tokenizer) AddedTokens() []Added { return t.added }

// PadID is the id that fills up; false if the file names none.
func (t *Tokenizer) PadID() (int32, bool) { return t.pad, t.pad >= 0 }

// MaxLength is the length to which the file says that texts are cut; 0: it does not.
func (t *Tokenizer) MaxLength() int { return t.limit }

// finish prepares what the parts of a file have set.
func (t *Tokenizer) finish() {
	t.names = append([]string(nil), t.model.vocabulary()...)
	t.ids, t.special, t.cache = map[string]int32{}, map[int32]bool{}, map[string][]token{}
	for _, a := range t.added {
		for int(a.ID) >= len(t.names) {
			t.names = append(t.names, "")
		}
		t.names[a.ID] = a.Content
		t.special[a.ID] = t.special[a.ID] || a.Special
	}
	for id, name := range t.names {
		if _, twice := t.ids[name]; name != "" && !twice {
			t.ids[name] = int32(id)
		}
	}
	t.raw = newFinder(t.added, func(a Added) string {
		if a.Normalized {
			return ""
		}
		return a.Content
	})
	t.first = newFinder(t.added, func(a Added) string {
		switch {
		case !a.Normalized:
			return ""
		case t.normalizer == nil:
			return a.Content
		}
		return t.normalizer.normalize(text{s: a.Content}).s
	})
}

// parts calls f for each token of a text, in order: with its id and where it comes from, in bytes.
func (t *Tokenizer) parts(s string, f func(id int32, at span)) {
	var wordsOf []text
	t.raw.cut(text{s: s}, func(p text, a *Added) {
		if a != nil {
			f(a.ID, p.span(0, len(p.s)))
			return
		}
		if t.normalizer != nil {
			p = t.normalizer.normalize(p)
		}
		t.first.cut(p, func(p text, a *Added) {
			if a != nil {
				f(a.ID, p.span(0, len(p.s)))
				return
			}
			wordsOf = wordsOf[:0]
			if t.splitter == nil {
				wordsOf = append(wordsOf, p)
			} else {
				wordsOf = t.splitter.split(p, wordsOf)
			}
			for _, w := range wordsOf {
				if w.s == "" {
					continue
				}
				for _, k := range t.word(w.s) {
					f(k.id, w.span(int(k.from), int(k.to)))
				}
			}
		})
	})
}

// word is the tokens of a word.
func (t *Tokenizer) word(s string) []token {
	if known, ok := t.cache[s]; ok {
		return known
	}
	got := t.model.tokens(s, nil)
	if len(s) <= 64 {
		if len(t.cache) >= maxCache {
			clear(t.cache)
		}
		t.cache[strings.Clone(s)] = got
	}
	return got
}

// IDs are the ids of a text, without special tokens around them.
func (t *Tokenizer) IDs(s string) []int32 {
	ids := make([]int32, 0, len(s)/3)
	t.parts(s, func(id int32, _ span) { ids = append(ids, id) })
	return ids
}

// Encode makes tokens of one text, or of two; special: with those that the file's template puts around them. Nothing is cut or filled up.
func (t *Tokenizer) Encode(special bool, texts ...string) *Encoding {
	parts := make([]*Encoding, len(texts))
	for i, s := range texts {
		parts[i] = t.encode(s)
	}
	return t.post.finish(t, parts, special)
}

// EncodeWithin is Encode of at most n tokens: of two texts, the longer one is cut first.
func (t *Tokenizer) EncodeWithin(n int, special bool, texts ...string) *Encoding {
	parts := make([]*Encoding, len(texts))
	for i, s := range texts {
		parts[i] = t.encode(s)
	}
	if special {
		n -= t.post.adds(len(texts))
	}
	n = max(n, 0)
	switch len(parts) {
	case 1:
		parts[0].Truncate(n)
	case 2:
		a, b := len(parts[0].IDs), len(parts[1].IDs)
		if a+b > n {
			short := min(a, b)
			if 2*short > n { // both are cut
				short = n / 2
			}
			long := n - short
			if a > b {
				a, b = long, short
			} else {
				a, b = short, long
			}
			parts[0].Truncate(a)
			parts[1].Truncate(b)
		}
	}
	return t.post.finish(t, parts, special)
}

// encode is a text alone, with offsets in characters.
func (t *Tokenizer) encode(s string) *Encoding {
	e := &Encoding{}
	ascii := true
	for i := 0; i < len(s) && ascii; i++ {
		ascii = s[i] < utf8.RuneSelf
	}
	var chars []int32 // of each byte, the character it belongs to
	if !ascii {
		chars = make([]int32, 0, len(s)+1)
		n := int32(0)
		for i := 0; i < len(s); n++ {
			for range runeLen(s, i) {
				chars = append(chars, n)
			}
			i = len(chars)
		}
		chars = append(chars, n)
	}
	t.parts(s, func(id int32, at span) {
		from, to := int(at.from), int(at.to)
		if !ascii {
			if to > from {
				to = int(chars[to-1]) + 1
			} else {
				to = int(chars[to])
			}
			from = int(chars[from])
		}
		e.add(id, t.Token(id), [2]int{from, to}, false)
	})
	return e
}

// Text is what an id stands for within a text, behind other words: "ing" of "##ing", " the" of "the", of a byte-level token its bytes. It is empty
// of a special token and outside the vocabulary.
func (t *Tokenizer) Text(id int32) string {
	name := t.Token(id)
	if name == "" || t.special[id] {
		return ""
	}
	if b, ok := t.model.(*bpe); ok && b.byByte {
		if raw, ok := FromLetters(name); ok {
			return raw
		}
	}
	return strings.TrimPrefix(strings.Join(t.decoder.decode([]string{"x", name}), ""), "x")
}

// Decode makes text of ids; skip leaves special tokens out. Ids outside the vocabulary are left out.
func (t *Tokenizer) Decode(ids []int32, skip bool) string {
	pieces := make([]string, 0, len(ids))
	for _, id := range ids {
		if name := t.Token(id); name != "" && !(skip && t.special[id]) {
			pieces = append(pieces, name)
		}
	}
	return strings.Join(t.decoder.decode(pieces), "")
}
