package data

// tokens stores ids in a byte each where the vocabulary allows it: text of a gigabyte shall not take four.
type tokens struct {
	small []byte
	wide  []int32
}

func (t *tokens) len() int {
	if t.wide != nil {
		return len(t.wide)
	}
	return len(t.small)
}

// append adds the tokens of a document.
func (t *tokens) append(tok Tokenizer, text []byte) {
	switch tok.(type) {
	case Bytes, BytesSpecial:
		t.small = append(t.small, text...)
		return
	}
	t.wide = append(t.wide, tok.Encode(string(text))...)
}

// copy writes the tokens from start on to dst.
func (t *tokens) copy(dst []int32, start int) {
	if t.wide != nil {
		copy(dst, t.wide[start:])
		return
	}
	for i, b := range t.small[start : start+len(dst)] {
		dst[i] = int32(b)
	}
}
