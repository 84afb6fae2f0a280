package data

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// kinds of characters that GPT-2's rule tells apart; a byte that is no UTF-8 is other.
type charKind uint8

const (
	other charKind = iota
	letter
	number
	blank
)

func kindOf(r rune, size int) charKind {
	switch {
	case r == utf8.RuneError && size == 1:
		return other
	case unicode.IsLetter(r):
		return letter
	case unicode.IsNumber(r):
		return number
	case unicode.IsSpace(r):
		return blank
	}
	return other
}

// contractions are words of their own after what they are joined to.
var contractions = []string{"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"}

// pretoken returns the size of the first word of a text that is not empty. It is GPT-2's rule, the first match of
//
//	's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
//
// that is: one blank before a run of letters, digits or other characters belongs to it; of several, all but the last are a word.
func pretoken(text string) int {
	if text[0] == '\'' {
		for _, c := range contractions {
			if strings.HasPrefix(text, c) {
				return len(c)
			}
		}
	}
	start := 0
	if text[0] == ' ' {
		start = 1
	}
	if start < len(text) {
		r, size := utf8.DecodeRuneInString(text[start:])
		if kind := kindOf(r, size); kind != blank {
			return start + run(text[start:], kind)
		}
	}
	n := run(text, blank)
	if n == len(text) {
		return n
	}
	if _, last := utf8.DecodeLastRuneInString(text[:n]); last < n {
		return n - last
	}
	return n
}

// run is the size of the characters of a kind at the beginning of a text.
func run(text string, kind charKind) int {
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRuneInString(text[i:])
		if kindOf(r, size) != kind {
			return i
		}
		i += size
	}
	return len(text)
}
