package data

// Specials are the tokens that stand for no text. A tokenizer that has them gives them the ids 256 to 261 in this order, after the 256
// bytes; no text is ever encoded as one, and Decode leaves them out.
//
//	[PAD]      after the end of a row (Batch.Lens says the same)
//	[MASK]     in place of a token that a masked language model is to find
//	[CLS]      before a text that is classified
//	[SEP]      between two texts in one row
//	<s>, </s>  where the target of an encoder-decoder begins and ends; </s> also ends its source
var Specials = []string{"[PAD]", "[MASK]", "[CLS]", "[SEP]", "<s>", "</s>"}

// firstSpecial is the id of the first of Specials.
const firstSpecial = 256

// The ids of Specials.
const (
	padID = firstSpecial + iota
	maskID
	clsID
	sepID
	startID
	endID
)

// specialIDs are the ids of Specials in a tokenizer, -1 where it has none.
type specialIDs struct{ pad, mask, cls, sep, start, end int32 }

// ownIDs are those of a tokenizer of ours.
var ownIDs = specialIDs{padID, maskID, clsID, sepID, startID, endID}

func (s specialIDs) of(name string) int32 {
	for i, id := range []int32{s.pad, s.mask, s.cls, s.sep, s.start, s.end} {
		if Specials[i] == name {
			return id
		}
	}
	return -1
}

// BytesSpecial is Bytes with the ids of Specials after the 256 of the bytes.
type BytesSpecial struct{ Bytes }

var _ Tokenizer = BytesSpecial{}

// Name returns "bytes+special".
func (BytesSpecial) Name() string { return "bytes+special" }

// VocabSize returns 262.
func (BytesSpecial) VocabSize() int { return firstSpecial + len(Specials) }

// Special returns the id of one of Specials, or of a token that a loaded tokenizer calls special; false if it does not have it.
func Special(tok Tokenizer, name string) (id int32, ok bool) {
	switch t := tok.(type) {
	case *BPE:
		id, ok = t.special[name]
		return id, ok
	case *Pretrained:
		id = t.ids.of(name)
		return id, id >= 0
	}
	if !hasSpecials(tok) {
		return 0, false
	}
	for i, s := range Specials {
		if s == name {
			return int32(firstSpecial + i), true
		}
	}
	return 0, false
}

func hasSpecials(tok Tokenizer) bool {
	switch t := tok.(type) {
	case BytesSpecial:
		return true
	case *BPE:
		return t.ours
	}
	return false
}
