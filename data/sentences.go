package data

import "strings"

// sentences returns where the sentences of a text begin, from 0 on. One ends after '.', '!' or '?', with what closes a quotation or a parenthesis, before a
// blank, and at an empty line. It is a rule for prose, which takes an abbreviation for an end. Blanks belong to what is before them.
func sentences(text []byte) []int {
	starts := []int{0}
	for i := 0; i < len(text); {
		lines := 0
		ended := false
		if isBlank(text[i]) {
			j := i
			for ; j < len(text) && isBlank(text[j]); j++ {
				if text[j] == '\n' {
					lines++
				}
			}
			ended = i > 0 && (lines > 1 || closes(text[:i]))
			i = j
		} else {
			i++
		}
		if ended && i < len(text) {
			starts = append(starts, i)
		}
	}
	return starts
}

func isBlank(b byte) bool { return b == ' ' || b == '\n' || b == '\r' || b == '\t' }

// closes reports whether a text ends a sentence.
func closes(text []byte) bool {
	tail := string(text[max(0, len(text)-12):])
	for {
		cut := strings.TrimRight(tail, "\"')]_*")
		for _, quote := range []string{"”", "’", "»"} {
			cut = strings.TrimSuffix(cut, quote)
		}
		if cut == tail {
			return strings.HasSuffix(tail, ".") || strings.HasSuffix(tail, "!") || strings.HasSuffix(tail, "?")
		}
		tail = cut
	}
}
