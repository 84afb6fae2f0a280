package data

import (
	"bytes"
	"fmt"
	"slices"
	"unicode/utf8"
)

// PartNames are the parts of a corpus.
var PartNames = []string{"train", "val", "test"}

// splitEvery is the period of the rule for documents; fewer than that are cut themselves.
const splitEvery = 20

// split deals the documents out to train, val and test, see Load. whole ones are never cut, nor are those of a group or with sections.
//
// Errors: ErrTooShort if there are too few of these.
func split(src *source, whole bool) (parts [3][]document, err error) {
	own, n := true, 0
	index, groups := make([]int, len(src.docs)), map[string]int{}
	for i, doc := range src.docs {
		own = own && doc.part != ""
		whole = whole || doc.group != "" || doc.sections != nil
		at, known := groups[doc.group]
		if !known || doc.group == "" {
			at = n
			groups[doc.group] = n
			n++
		}
		index[i] = at
	}
	if !own && whole && n < splitEvery {
		return parts, &Error{Kind: ErrTooShort, Path: src.name, What: fmt.Sprintf("%d documents, too few for three parts of whole ones", n),
			Fix: fmt.Sprintf("give at least %d, or a jsonl file in which \"split\" says train, val or test", splitEvery)}
	}
	for i, doc := range src.docs {
		switch {
		case own:
			k := slices.Index(PartNames, doc.part)
			parts[k] = append(parts[k], doc)
		case n < splitEvery:
			a := cut(doc.text, len(doc.text)*90/100)
			b := cut(doc.text, len(doc.text)*95/100)
			for k, text := range [][]byte{doc.text[:a], doc.text[a:b], doc.text[b:]} {
				parts[k] = append(parts[k], document{name: doc.name, text: text})
			}
		case index[i]%splitEvery == splitEvery/2-1:
			parts[1] = append(parts[1], doc)
		case index[i]%splitEvery == splitEvery-1:
			parts[2] = append(parts[2], doc)
		default:
			parts[0] = append(parts[0], doc)
		}
	}
	return parts, nil
}

// cut returns where to cut a text at or after a position: after the next blank line, else after the next line, else before the next
// character. It looks no further than a fortieth of the text, so that the part after it keeps half of its twentieth.
func cut(text []byte, at int) int {
	near := text[at : at+len(text)/40]
	best := -1
	for _, blank := range []string{"\n\n", "\n\r\n"} {
		if i := bytes.Index(near, []byte(blank)); i >= 0 && (best < 0 || i+len(blank) < best) {
			best = i + len(blank)
		}
	}
	if best >= 0 {
		return at + best
	}
	if i := bytes.IndexByte(near, '\n'); i >= 0 {
		return at + i + 1
	}
	for i := at; i < len(text) && i < at+utf8.UTFMax; i++ {
		if utf8.RuneStart(text[i]) {
			return i
		}
	}
	return at
}
