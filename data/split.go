package data

import (
	"bytes"
	"unicode/utf8"
)

// PartNames are the parts of a corpus.
var PartNames = []string{"train", "val", "test"}

// splitEvery is the period of the rule for documents; fewer than that are cut themselves.
const splitEvery = 20

// split deals the documents out to train, val and test, see Load.
func split(src *source) (parts [3][]document) {
	own := true
	for _, doc := range src.docs {
		own = own && doc.part != ""
	}
	for i, doc := range src.docs {
		switch {
		case own:
			for k, name := range PartNames {
				if doc.part == name {
					parts[k] = append(parts[k], doc)
				}
			}
		case len(src.docs) < splitEvery:
			a := cut(doc.text, len(doc.text)*90/100)
			b := cut(doc.text, len(doc.text)*95/100)
			for k, text := range [][]byte{doc.text[:a], doc.text[a:b], doc.text[b:]} {
				parts[k] = append(parts[k], document{name: doc.name, text: text})
			}
		case i%splitEvery == splitEvery/2-1:
			parts[1] = append(parts[1], doc)
		case i%splitEvery == splitEvery-1:
			parts[2] = append(parts[2], doc)
		default:
			parts[0] = append(parts[0], doc)
		}
	}
	return parts
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
