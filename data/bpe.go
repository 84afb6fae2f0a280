package data

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/euryale-ml/euryale/data/tokenizers"
)

// BPE is a byte-level byte pair encoding: a text is cut into words (tokenizers.GPT2Word), each word starts as its bytes, and the merges join
// neighbours, the earliest merge first. Decode(Encode(text)) is the text, for any bytes.
//
// One that is trained here has the ids 0 to 255 for the bytes, then Specials, then a token for each merge in order.
//
// Source: Sennrich et al. 2015, arXiv 1508.07909, on bytes as in GPT-2 (Radford et al. 2019).
type BPE struct {
	pieces  []string // bytes of each id; "" of one that stands for no text
	byteIDs [256]int32
	merges  []pair                          // in order of their rank
	ranks   map[[2]int32]tokenizers.Merging // the same, to look up
	special map[string]int32                // ids that stand for no text
	ours    bool                            // Specials have their ids
}

// pair is two neighbours.
type pair struct{ a, b int32 }

var _ Tokenizer = (*BPE)(nil)

// newBPE makes a tokenizer of what each id stands for and the merges.
//
// Errors: a byte without id; a merge whose parts or whole have none.
func newBPE(pieces []string, special map[string]int32, merges []pair) (*BPE, error) {
	t := &BPE{pieces: pieces, merges: merges, ranks: make(map[[2]int32]tokenizers.Merging, len(merges)), special: special, ours: true}
	ids := make(map[string]int32, len(pieces))
	for id, piece := range pieces {
		if piece == "" {
			continue
		}
		if other, taken := ids[piece]; taken {
			return nil, fmt.Errorf("ids %d and %d stand for the same text", other, id)
		}
		ids[piece] = int32(id)
	}
	for i := range t.byteIDs {
		id, ok := ids[string([]byte{byte(i)})]
		if !ok {
			return nil, fmt.Errorf("no id for byte %d", i)
		}
		t.byteIDs[i] = id
	}
	for rank, m := range merges {
		whole := pieces[m.a] + pieces[m.b]
		id, ok := ids[whole]
		if !ok {
			return nil, fmt.Errorf("merge %d makes %q, which has no id", rank, whole)
		}
		if _, twice := t.ranks[[2]int32{m.a, m.b}]; twice {
			return nil, fmt.Errorf("merge %d is there twice", rank)
		}
		t.ranks[[2]int32{m.a, m.b}] = tokenizers.Merging{Rank: int32(rank), ID: id}
	}
	for i, name := range Specials {
		id, ok := special[name]
		t.ours = t.ours && ok && id == int32(firstSpecial+i)
	}
	return t, nil
}

// Name returns "bpe:" and the number of ids.
func (t *BPE) Name() string { return "bpe:" + strconv.Itoa(len(t.pieces)) }

// VocabSize is the number of ids.
func (t *BPE) VocabSize() int { return len(t.pieces) }

// Encode returns the ids of a text. Cost: O(n log n) of the longest word, and each different word once.
func (t *BPE) Encode(text string) []int32 {
	ids := make([]int32, 0, len(text)/3)
	known := map[string][]int32{}
	var w tokenizers.Merger
	for len(text) > 0 {
		n := tokenizers.GPT2Word(text)
		piece := text[:n]
		text = text[n:]
		got, ok := known[piece]
		if !ok {
			got = t.word(&w, piece)
			known[piece] = got
		}
		ids = append(ids, got...)
	}
	return ids
}

// Decode returns the text of ids. Those that stand for no text and those outside the vocabulary are left out.
func (t *BPE) Decode(ids []int32) string {
	var s strings.Builder
	for _, id := range ids {
		if id >= 0 && int(id) < len(t.pieces) {
			s.WriteString(t.pieces[id])
		}
	}
	return s.String()
}

// word returns the ids of one word.
func (t *BPE) word(w *tokenizers.Merger, text string) []int32 {
	w.Begin()
	for i := range len(text) {
		w.Add(t.byteIDs[text[i]], i, i+1)
	}
	w.Merge(t.ranks)
	return w.IDs(nil)
}
