package data

import (
	"fmt"
	"strconv"
	"strings"
)

// BPE is a byte-level byte pair encoding: a text is cut into words (see pretokens), each word starts as its bytes, and the merges join
// neighbours, the earliest merge first. Decode(Encode(text)) is the text, for any bytes.
//
// One that is trained here has the ids 0 to 255 for the bytes, then Specials, then a token for each merge in order.
//
// Source: Sennrich et al. 2015, arXiv 1508.07909, on bytes as in GPT-2 (Radford et al. 2019).
type BPE struct {
	pieces  []string // bytes of each id; "" of one that stands for no text
	byteIDs [256]int32
	merges  []pair           // in order of their rank
	ranks   map[pair]merging // the same, to look up
	special map[string]int32 // ids that stand for no text
	ours    bool             // Specials have their ids
}

// pair is two neighbours.
type pair struct{ a, b int32 }

// merging is what becomes of a pair, and how early.
type merging struct{ rank, id int32 }

var _ Tokenizer = (*BPE)(nil)

// newBPE makes a tokenizer of what each id stands for and the merges.
//
// Errors: a byte without id; a merge whose parts or whole have none.
func newBPE(pieces []string, special map[string]int32, merges []pair) (*BPE, error) {
	t := &BPE{pieces: pieces, merges: merges, ranks: make(map[pair]merging, len(merges)), special: special, ours: true}
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
		if _, twice := t.ranks[m]; twice {
			return nil, fmt.Errorf("merge %d is there twice", rank)
		}
		t.ranks[m] = merging{int32(rank), id}
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
	var w word
	for len(text) > 0 {
		n := pretoken(text)
		piece := text[:n]
		text = text[n:]
		got, ok := known[piece]
		if !ok {
			got = w.encode(t, piece)
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

// word is a word while it is merged: a list of ids, linked by place, and a heap of the pairs that can be merged.
type word struct {
	ids        []int32 // -1: joined to one before
	prev, next []int32
	heap       []uint64 // rank<<32 | place
}

// encode returns the ids of one word.
func (w *word) encode(t *BPE, text string) []int32 {
	n := len(text)
	w.ids, w.prev, w.next, w.heap = w.ids[:0], w.prev[:0], w.next[:0], w.heap[:0]
	for i := range n {
		w.ids = append(w.ids, t.byteIDs[text[i]])
		w.prev = append(w.prev, int32(i-1))
		w.next = append(w.next, int32(i+1))
	}
	for i := range n - 1 {
		w.offer(t, int32(i))
	}
	for len(w.heap) > 0 {
		top := w.pop()
		i := int32(top)
		j := w.next[i]
		if w.ids[i] < 0 || int(j) >= n {
			continue
		}
		m, ok := t.ranks[pair{w.ids[i], w.ids[j]}]
		if !ok || m.rank != int32(top>>32) {
			continue // one of the two was merged with another
		}
		w.ids[i], w.ids[j] = m.id, -1
		w.next[i] = w.next[j]
		if int(w.next[i]) < n {
			w.prev[w.next[i]] = i
			w.offer(t, i)
		}
		if w.prev[i] >= 0 {
			w.offer(t, w.prev[i])
		}
	}
	var ids []int32
	for _, id := range w.ids {
		if id >= 0 {
			ids = append(ids, id)
		}
	}
	return ids
}

// offer puts the pair at a place into the heap if there is a merge for it.
func (w *word) offer(t *BPE, i int32) {
	m, ok := t.ranks[pair{w.ids[i], w.ids[w.next[i]]}]
	if !ok {
		return
	}
	w.heap = append(w.heap, uint64(m.rank)<<32|uint64(i))
	for c := len(w.heap) - 1; c > 0; {
		p := (c - 1) / 2
		if w.heap[p] <= w.heap[c] {
			break
		}
		w.heap[p], w.heap[c] = w.heap[c], w.heap[p]
		c = p
	}
}

// pop takes the earliest merge, of the first place, out of the heap.
func (w *word) pop() uint64 {
	top, last := w.heap[0], len(w.heap)-1
	w.heap[0] = w.heap[last]
	w.heap = w.heap[:last]
	for p := 0; ; {
		c := 2*p + 1
		if c >= last {
			return top
		}
		if c+1 < last && w.heap[c+1] < w.heap[c] {
			c++
		}
		if w.heap[p] <= w.heap[c] {
			return top
		}
		w.heap[p], w.heap[c] = w.heap[c], w.heap[p]
		p = c
	}
}
