package data

import "fmt"

// Tokenizer maps text to ids and back.
type Tokenizer interface {
	// Name is the word of data.tokenizer that selects it.
	Name() string
	// VocabSize is one more than the largest id.
	VocabSize() int
	// Encode returns the ids of a text. It never fails: every text has ids.
	Encode(text string) []int32
	// Decode returns the text of ids. Ids outside the vocabulary are left out. A token may end within a character, so pieces
	// that are decoded one by one need not be valid UTF-8; joined they are.
	Decode(ids []int32) string
}

// NewTokenizer returns the tokenizer of a name; "" is "bytes".
//
// Errors: ErrTokenizer.
func NewTokenizer(name string) (Tokenizer, error) {
	if name == "" || name == "bytes" {
		return Bytes{}, nil
	}
	return nil, &Error{Kind: ErrTokenizer, What: fmt.Sprintf("unknown tokenizer %q", name), Fix: `use "bytes"`}
}

// Bytes is the tokenizer with an id for each byte of the UTF-8 text: 256 ids, none of them special.
type Bytes struct{}

var _ Tokenizer = Bytes{}

// Name returns "bytes".
func (Bytes) Name() string { return "bytes" }

// VocabSize returns 256.
func (Bytes) VocabSize() int { return 256 }

// Encode returns the bytes of the text.
func (Bytes) Encode(text string) []int32 {
	ids := make([]int32, len(text))
	for i := range len(text) {
		ids[i] = int32(text[i])
	}
	return ids
}

// Decode returns the text with these bytes.
func (Bytes) Decode(ids []int32) string {
	b := make([]byte, 0, len(ids))
	for _, id := range ids {
		if id >= 0 && id < 256 {
			b = append(b, byte(id))
		}
	}
	return string(b)
}
