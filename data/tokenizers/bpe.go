package tokenizers

import (
	"fmt"
	"unicode/utf8"
)

// bpe joins neighbours, the earliest merge first and of equal ones the leftmost, beginning with characters or, if the tokens are bytes, with
// bytes.
// Source: Sennrich et al. 2015, arXiv 1508.07909; on bytes, GPT-2 (Radford et al. 2019).
type bpe struct {
	names   []string // as the file has them
	ids     map[string]int32
	merges  map[[2]int32]Merging
	unknown int32 // negative: none
	byByte  bool  // tokens are bytes: ids has their bytes, not their letters
	bytes   bool  // an unknown character becomes the tokens of its bytes
	fuse    bool  // unknown characters in a row are one
	whole   bool  // a word that is a token is taken as it is
	prefix  string
	suffix  string
	first   [256]int32 // ids of bytes, -1: none

	w Merger
}

// Merging is what becomes of a pair, and how early.
type Merging struct{ Rank, ID int32 }

// newBPE makes the model of tokens and merges.
//
// Errors: a merge whose parts or whole are no tokens.
func newBPE(names []string, merges [][2]string, byByte bool, prefix string) (*bpe, error) {
	m := &bpe{names: names, ids: make(map[string]int32, len(names)), merges: make(map[[2]int32]Merging, len(merges)), unknown: -1, byByte: byByte, prefix: prefix}
	byName := make(map[string]int32, len(names))
	for id, name := range names {
		if name == "" {
			continue
		}
		byName[name] = int32(id)
		if byByte {
			if raw, ok := FromLetters(name); ok {
				m.ids[raw] = int32(id)
			}
			continue
		}
		m.ids[name] = int32(id)
	}
	for i := range m.first {
		id, ok := m.ids[string([]byte{byte(i)})]
		if !ok {
			id = -1
		}
		m.first[i] = id
	}
	for rank, p := range merges {
		a, okA := byName[p[0]]
		b, okB := byName[p[1]]
		right := p[1]
		if prefix != "" && len(right) > len(prefix) && right[:len(prefix)] == prefix {
			right = right[len(prefix):]
		}
		whole, ok := byName[p[0]+right]
		if !okA || !okB || !ok {
			return nil, fmt.Errorf("merge %d, %q and %q, is not of tokens that make a token", rank, p[0], p[1])
		}
		if _, twice := m.merges[[2]int32{a, b}]; !twice {
			m.merges[[2]int32{a, b}] = Merging{int32(rank), whole}
		}
	}
	return m, nil
}

func (m *bpe) vocabulary() []string { return m.names }

func (m *bpe) tokens(word string, dst []token) []token {
	if m.whole {
		if id, ok := m.ids[word]; ok {
			return append(dst, token{id, 0, int32(len(word))})
		}
	}
	w := &m.w
	w.Begin()
	if m.byByte {
		for i := range len(word) {
			if id := m.first[word[i]]; id >= 0 {
				w.Add(id, i, i+1)
			}
		}
	} else {
		m.characters(word)
	}
	w.Merge(m.merges)
	for _, p := range w.parts {
		if p.id >= 0 {
			dst = append(dst, p)
		}
	}
	return dst
}

// characters begins a word with its characters.
func (m *bpe) characters(word string) {
	w := &m.w
	for i := 0; i < len(word); {
		n := runeLen(word, i)
		name := word[i : i+n]
		if i > 0 {
			name = m.prefix + name
		}
		if i+n == len(word) {
			name += m.suffix
		}
		t := token{-1, int32(i), int32(i + n)}
		if id, ok := m.ids[name]; ok {
			t.id = id
			w.parts = append(w.parts, t)
		} else if ids := byteTokens(m.ids, word[i:i+n]); m.bytes && ids != nil {
			for _, id := range ids {
				w.parts = append(w.parts, token{id, t.from, t.to})
			}
		} else if m.unknown >= 0 {
			if t.id = m.unknown; m.fuse && len(w.parts) > 0 && w.parts[len(w.parts)-1].id == m.unknown {
				w.parts[len(w.parts)-1].to = t.to
			} else {
				w.parts = append(w.parts, t)
			}
		}
		i += n
	}
}

// Merger joins the parts of words, neighbour by neighbour: begun with Begin and Add, Merge joins, IDs are what is left. It may be used again.
type Merger struct {
	parts      []token // id -1: joined to one before
	prev, next []int32
	heap       []uint64 // rank<<32 | place
}

// Begin forgets the last word.
func (w *Merger) Begin() { w.parts = w.parts[:0] }

// Add adds a part, which stands for the bytes from `from` to `to` of the word.
func (w *Merger) Add(id int32, from, to int) {
	w.parts = append(w.parts, token{id, int32(from), int32(to)})
}

// IDs appends what is left of the parts.
func (w *Merger) IDs(dst []int32) []int32 {
	for _, p := range w.parts {
		if p.id >= 0 {
			dst = append(dst, p.id)
		}
	}
	return dst
}

// Merge joins parts, the earliest merge first and of equal ones the leftmost. Cost: O(n log n) in the parts.
func (w *Merger) Merge(merges map[[2]int32]Merging) {
	n := len(w.parts)
	w.prev, w.next, w.heap = w.prev[:0], w.next[:0], w.heap[:0]
	for i := range n {
		w.prev, w.next = append(w.prev, int32(i-1)), append(w.next, int32(i+1))
	}
	for i := range n - 1 {
		w.offer(merges, int32(i))
	}
	for len(w.heap) > 0 {
		top := w.pop()
		i := int32(top)
		j := w.next[i]
		if w.parts[i].id < 0 || int(j) >= n {
			continue
		}
		m, ok := merges[[2]int32{w.parts[i].id, w.parts[j].id}]
		if !ok || m.Rank != int32(top>>32) {
			continue // one of the two was merged with another
		}
		w.parts[i].id, w.parts[i].to, w.parts[j].id = m.ID, w.parts[j].to, -1
		w.next[i] = w.next[j]
		if int(w.next[i]) < n {
			w.prev[w.next[i]] = i
			w.offer(merges, i)
		}
		if w.prev[i] >= 0 {
			w.offer(merges, w.prev[i])
		}
	}
}

// offer puts the pair at a place into the heap if there is a merge for it.
func (w *Merger) offer(merges map[[2]int32]Merging, i int32) {
	m, ok := merges[[2]int32{w.parts[i].id, w.parts[w.next[i]].id}]
	if !ok {
		return
	}
	w.heap = append(w.heap, uint64(m.Rank)<<32|uint64(i))
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
func (w *Merger) pop() uint64 {
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

// The letters of GPT-2: a byte that prints in Latin-1 is that character, the others are those from U+0100 on, in order.
var byteLetters, letterBytes = func() (letters [256]rune, bytes map[rune]byte) {
	bytes = map[rune]byte{}
	next := rune(0x100)
	for b := range 256 {
		r := rune(b)
		if r < '!' || r > '~' && r < 0xa1 || r == 0xad {
			r = next
			next++
		}
		letters[b], bytes[r] = r, byte(b)
	}
	return letters, bytes
}()

// ToLetters writes bytes as GPT-2's letters.
func ToLetters(raw string) string {
	b := make([]byte, 0, len(raw)+8)
	for i := range len(raw) {
		b = utf8.AppendRune(b, byteLetters[raw[i]])
	}
	return string(b)
}

// FromLetters reads them; false if one stands for no byte.
func FromLetters(name string) (string, bool) {
	b := make([]byte, 0, len(name))
	for _, r := range name {
		c, ok := letterBytes[r]
		if !ok {
			return "", false
		}
		b = append(b, c)
	}
	return string(b), true
}
