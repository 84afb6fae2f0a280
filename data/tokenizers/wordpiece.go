package tokenizers

import "unicode/utf8"

// token is what a model makes of a part of a word: an id, and the bytes of the word it stands for.
type token struct{ id, from, to int32 }

// model makes tokens of words.
type model interface {
	// tokens appends those of a word that is not empty.
	tokens(word string, dst []token) []token
	// vocabulary lists the tokens by id; "" of an id that has none.
	vocabulary() []string
}

// wordPiece takes the longest token that a word begins with, then the longest that continues it, and so on.
// Source: Wu et al. 2016, arXiv 1609.08144, section 4.1, with the greedy rule of BERT.
type wordPiece struct {
	names   []string
	ids     map[string]int32 // of what begins a word
	inner   map[string]int32 // of what continues one, without the prefix
	unknown int32
	most    int // characters; a longer word is unknown
	longest int // bytes of a token
}

func newWordPiece(names []string, prefix string, unknown int32, most int) *wordPiece {
	m := &wordPiece{names: names, ids: make(map[string]int32, len(names)), inner: map[string]int32{}, unknown: unknown, most: most}
	for id, name := range names {
		if name == "" {
			continue
		}
		m.ids[name] = int32(id)
		if len(prefix) <= len(name) && name[:len(prefix)] == prefix {
			m.inner[name[len(prefix):]] = int32(id)
		}
		m.longest = max(m.longest, len(name))
	}
	return m
}

func (m *wordPiece) vocabulary() []string { return m.names }

func (m *wordPiece) tokens(word string, dst []token) []token {
	if len(word) > m.most && utf8.RuneCountInString(word) > m.most {
		return append(dst, token{m.unknown, 0, int32(len(word))})
	}
	begun := len(dst)
	for from := 0; from < len(word); {
		table := m.ids
		if from > 0 {
			table = m.inner
		}
		to := min(len(word), from+m.longest)
		for ; to > from; to-- {
			if to < len(word) && !utf8.RuneStart(word[to]) {
				continue
			}
			if id, ok := table[word[from:to]]; ok {
				dst = append(dst, token{id, int32(from), int32(to)})
				break
			}
		}
		if to == from {
			return append(dst[:begun], token{m.unknown, 0, int32(len(word))})
		}
		from = to
	}
	return dst
}

// wordLevel knows whole words.
type wordLevel struct {
	names   []string
	ids     map[string]int32
	unknown int32
}

func (m *wordLevel) vocabulary() []string { return m.names }

func (m *wordLevel) tokens(word string, dst []token) []token {
	id, ok := m.ids[word]
	if !ok {
		if id = m.unknown; id < 0 {
			return dst
		}
	}
	return append(dst, token{id, 0, int32(len(word))})
}
