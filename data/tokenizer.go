package data

import (
	"fmt"
	"os"
	"strings"

	"github.com/euryale-ml/euryale/data/tokenizers"
)

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

// NewTokenizer returns the tokenizer of a name: "bytes" ("" too), "bytes+special", or the path of a tokenizer or its folder (see LoadTokenizer). "bpe:SIZE"
// is an error, since it belongs to the data that it was trained on.
//
// Errors: ErrTokenizer; those of LoadTokenizer.
func NewTokenizer(name string) (Tokenizer, error) {
	switch {
	case name == "" || name == "bytes":
		return Bytes{}, nil
	case name == BytesSpecial{}.Name():
		return BytesSpecial{}, nil
	case strings.HasPrefix(name, "bpe:"):
		size, err := bpeSize(name)
		if err != nil {
			return nil, err
		}
		return nil, &untrained{size}
	case strings.HasSuffix(name, ".json") || strings.ContainsAny(name, `/\`) || isFolder(name):
		tok, found, err := LoadTokenizer(name)
		if err == nil && !found {
			err = &Error{Kind: ErrMissing, Path: name, What: "no tokenizer in this folder", Fix: "give a folder with one of " + strings.Join(tokenizers.Files, ", ")}
		}
		if err != nil {
			return nil, err
		}
		return tok, nil
	}
	return nil, &Error{Kind: ErrTokenizer, What: fmt.Sprintf("unknown tokenizer %q", name), Fix: `use "bytes", "bpe:2048" or a path of a tokenizer.json`}
}

func isFolder(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
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
