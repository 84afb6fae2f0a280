package data

// vocabulary is what is known of each id besides the text it stands for; nil of ids that are no text.
type vocabulary struct {
	sizes       []int32 // bytes
	first, last []bool  // whether the first and the last byte belong to a word
	ids         specialIDs
	typed       bool    // texts in one row have token types, as BERT's
	twice       bool    // there are two separators between them, as in RoBERTa
	text        []int32 // ids that stand for text, of a tokenizer that was trained elsewhere
}

// newVocabulary returns what is known of a tokenizer's ids.
func newVocabulary(tok Tokenizer) *vocabulary {
	v := &vocabulary{ids: specialIDs{-1, -1, -1, -1, -1, -1}}
	if t, ok := tok.(*Pretrained); ok {
		v.ids = t.ids
		v.typed, v.twice = t.tok.Token(t.ids.cls) == "[CLS]", t.tok.Token(t.ids.sep) == "</s>"
	} else if hasSpecials(tok) {
		v.ids = ownIDs
	}
	for id := range tok.VocabSize() {
		piece := tok.Decode([]int32{int32(id)})
		v.sizes = append(v.sizes, int32(len(piece)))
		v.first = append(v.first, piece != "" && wordByte(piece[0]))
		v.last = append(v.last, piece != "" && wordByte(piece[len(piece)-1]))
	}
	if _, ok := tok.(*Pretrained); ok {
		for id, size := range v.sizes {
			if size > 0 {
				v.text = append(v.text, int32(id))
			}
		}
	}
	return v
}

// wordByte reports whether a byte is one of a word: an ASCII letter or digit, or a part of a character outside ASCII.
func wordByte(b byte) bool {
	return b >= '0' && b <= '9' || b|0x20 >= 'a' && b|0x20 <= 'z' || b >= 0x80
}

// size is the number of bytes of text that an id stands for.
func (v *vocabulary) size(id int32) int {
	if v == nil {
		return 1
	}
	return int(v.sizes[id])
}

// pad is the id after the end of a row.
func (v *vocabulary) pad() int32 {
	if v != nil && v.ids.pad >= 0 {
		return v.ids.pad
	}
	return 0
}

// ordinary draws one of the ids that are not special.
func (v *vocabulary) ordinary(h uint64) int32 {
	if v.text != nil {
		return v.text[below(h, len(v.text))]
	}
	id := int32(below(h, len(v.sizes)-len(Specials)))
	if id >= firstSpecial {
		id += int32(len(Specials))
	}
	return id
}

// joined reports whether two neighbours belong to one word.
func (v *vocabulary) joined(a, b int32) bool { return v.last[a] && v.first[b] }
