package tokenizers

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
	if r < utf8.RuneSelf {
		switch {
		case r|0x20 >= 'a' && r|0x20 <= 'z':
			return letter
		case r >= '0' && r <= '9':
			return number
		case r == ' ' || r >= 9 && r <= 13:
			return blank
		}
		return other
	}
	switch {
	case r == utf8.RuneError && size == 1:
		return other
	case isLetter(r):
		return letter
	case isNumber(r):
		return number
	case unicode.IsSpace(r):
		return blank
	}
	return other
}

// contractions are words of their own after what they are joined to.
var contractions = []string{"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"}

// GPT2Word returns the size of the first word of a text that is not empty. It is GPT-2's rule, the first match of
//
//	's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
//
// that is: one blank before a run of letters, digits or other characters belongs to it; of several, all but the last are a word.
func GPT2Word(s string) int {
	if s[0] == '\'' {
		for _, c := range contractions {
			if strings.HasPrefix(s, c) {
				return len(c)
			}
		}
	}
	start := 0
	if s[0] == ' ' {
		start = 1
	}
	if start < len(s) {
		r, size := utf8.DecodeRuneInString(s[start:])
		if kind := kindOf(r, size); kind != blank {
			return start + run(s[start:], kind)
		}
	}
	n := run(s, blank)
	if n == len(s) {
		return n
	}
	if _, last := utf8.DecodeLastRuneInString(s[:n]); last < n {
		return n - last
	}
	return n
}

// run is the size of the characters of a kind at the beginning of a text.
func run(s string, kind charKind) int {
	for i := 0; i < len(s); {
		r, size := rune(s[i]), 1
		if r >= utf8.RuneSelf {
			r, size = utf8.DecodeRuneInString(s[i:])
		}
		if kindOf(r, size) != kind {
			return i
		}
		i += size
	}
	return len(s)
}
