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

// newTokens returns room for n tokens of a tokenizer.
func newTokens(tok Tokenizer, n int) tokens {
	switch tok.(type) {
	case Bytes, BytesSpecial:
		return tokens{small: make([]byte, n)}
	}
	return tokens{wide: make([]int32, n)}
}

// put writes n tokens of others, from start on, at a place.
func (t *tokens) put(at int, of tokens, start, n int) {
	if t.wide != nil {
		copy(t.wide[at:], of.wide[start:start+n])
		return
	}
	copy(t.small[at:], of.small[start:start+n])
}

// first are the first n tokens.
func (t *tokens) first(n int) tokens {
	if t.wide != nil {
		return tokens{wide: t.wide[:n]}
	}
	return tokens{small: t.small[:n]}
}

// drop takes the first n tokens away.
func (t *tokens) drop(n int) {
	if n == 0 {
		return
	}
	if t.wide != nil {
		t.wide = t.wide[:copy(t.wide, t.wide[n:])]
		return
	}
	t.small = t.small[:copy(t.small, t.small[n:])]
}

// last are the last n tokens.
func (t *tokens) last(n int) tokens {
	if t.wide != nil {
		return tokens{wide: t.wide[len(t.wide)-n:]}
	}
	return tokens{small: t.small[len(t.small)-n:]}
}

// data are the tokens as a slice, []uint8 or []int32.
func (t tokens) data() any {
	if t.wide != nil {
		return t.wide
	}
	return t.small
}
