package data

import (
	"container/heap"
	"fmt"
	"slices"
	"strconv"

	"github.com/euryale-ml/euryale/data/tokenizers"
)

// The sizes that a vocabulary may have: all bytes and Specials, at most what fits comfortably into memory.
const (
	leastBPE = firstSpecial + 6
	mostBPE  = 1 << 20
)

// untrained is the error that a tokenizer is to be trained first.
type untrained struct{ size int }

func (u *untrained) Error() string {
	return fmt.Sprintf("data: the tokenizer bpe:%d belongs to the data that it was trained on; it is read from the folder of the model (tokenizer.json)", u.size)
}

func (u *untrained) Unwrap() error { return ErrTokenizer }

// bpeSize reads "bpe:SIZE".
func bpeSize(name string) (int, error) {
	n, err := strconv.Atoi(name[len("bpe:"):])
	if err != nil || n < leastBPE || n > mostBPE {
		return 0, &Error{Kind: ErrTokenizer, What: fmt.Sprintf("the tokenizer is %q", name), Fix: fmt.Sprintf("give bpe: and a number of ids from %d to %d, such as bpe:2048", leastBPE, mostBPE)}
	}
	return n, nil
}

// trainBPE learns merges from documents: again and again the most frequent pair of neighbours within words becomes a token, of equally
// frequent ones that with the lower ids. It ends with size ids, or when no pair is there twice.
//
// Cost: each merge costs what it joins, so O(n log n) in the size of the different words, whatever their length.
func trainBPE(size int, docs []document) (*BPE, error) {
	t := newTrainer(docs)
	pieces := make([]string, 256, size)
	for i := range pieces {
		pieces[i] = string([]byte{byte(i)})
	}
	special := map[string]int32{}
	for _, name := range Specials {
		special[name] = int32(len(pieces))
		pieces = append(pieces, "")
	}
	var merges []pair
	ids, made := map[string]int32{}, map[pair]bool{}
	for len(pieces) < size {
		p, ok := t.best()
		if !ok {
			break
		}
		whole := pieces[p.a] + pieces[p.b]
		id, known := ids[whole] // two merges may spell the same, ab+c and a+bc: they make the same token
		if !known {
			id = int32(len(pieces))
			ids[whole], pieces = id, append(pieces, whole)
		}
		t.merge(p, id)
		if !made[p] { // a pair may come back with a token that a later merge makes too
			made[p], merges = true, append(merges, p)
		}
	}
	return newBPE(pieces, special, merges)
}

// trainer holds the different words one after the other, as lists of ids linked by place.
type trainer struct {
	ids        []int32 // -1: joined to one before
	prev, next []int32 // -1: none in the word
	freq       []int64 // how often the word of a place is there

	count  map[pair]int64
	places map[pair][]int32 // of the first id; some are out of date
	heap   candidates       // every pair with its count at some time; the current one is among them
	dirty  map[pair]bool    // pairs whose count the running merge has raised
}

func newTrainer(docs []document) *trainer {
	t := &trainer{count: map[pair]int64{}, places: map[pair][]int32{}, dirty: map[pair]bool{}}
	seen := map[string]int{}
	var words []string
	var freq []int64
	count := func(text string) {
		for len(text) > 0 {
			n := tokenizers.GPT2Word(text)
			at, ok := seen[text[:n]]
			if !ok {
				at = len(words)
				seen[text[:n]] = at
				words, freq = append(words, text[:n]), append(freq, 0)
			}
			freq[at]++
			text = text[n:]
		}
	}
	for _, doc := range docs {
		count(string(doc.text))
		count(string(doc.target))
	}
	for i, w := range words {
		for k := range len(w) {
			at := int32(len(t.ids))
			t.ids, t.freq = append(t.ids, int32(w[k])), append(t.freq, freq[i])
			prev, next := at-1, at+1
			if k == 0 {
				prev = -1
			}
			if k == len(w)-1 {
				next = -1
			}
			t.prev, t.next = append(t.prev, prev), append(t.next, next)
		}
	}
	for i := range t.ids {
		t.add(int32(i))
	}
	for p := range t.dirty {
		t.heap = append(t.heap, candidate{t.count[p], p})
	}
	heap.Init(&t.heap)
	clear(t.dirty)
	return t
}

// add counts the pair at a place.
func (t *trainer) add(i int32) {
	if j := t.next[i]; j >= 0 {
		p := pair{t.ids[i], t.ids[j]}
		t.count[p] += t.freq[i]
		t.places[p] = append(t.places[p], i)
		t.dirty[p] = true
	}
}

// remove discounts the pair at a place, which stays among its places.
func (t *trainer) remove(i int32) {
	if j := t.next[i]; i >= 0 && j >= 0 {
		t.count[pair{t.ids[i], t.ids[j]}] -= t.freq[i]
	}
}

// best is the pair that is merged next; false if none is there twice.
func (t *trainer) best() (pair, bool) {
	for len(t.heap) > 0 {
		top := t.heap[0]
		is := t.count[top.pair]
		switch {
		case is == top.count && is >= 2:
			return top.pair, true
		case is >= 2 && is < top.count: // it was discounted since
			t.heap[0].count = is
			heap.Fix(&t.heap, 0)
		default:
			heap.Pop(&t.heap)
		}
	}
	return pair{}, false
}

// merge puts id in the place of a pair everywhere, from left to right.
func (t *trainer) merge(p pair, id int32) {
	places := t.places[p]
	slices.Sort(places)
	for _, i := range places {
		j := t.next[i]
		if t.ids[i] != p.a || j < 0 || t.ids[j] != p.b {
			continue
		}
		if before := t.prev[i]; before >= 0 {
			t.remove(before)
		}
		t.remove(j)
		t.ids[i], t.ids[j] = id, -1
		t.next[i] = t.next[j]
		if after := t.next[i]; after >= 0 {
			t.prev[after] = i
		}
		if before := t.prev[i]; before >= 0 {
			t.add(before)
		}
		t.add(i)
	}
	delete(t.places, p)
	delete(t.count, p)
	for q := range t.dirty {
		if n := t.count[q]; n > 0 {
			heap.Push(&t.heap, candidate{n, q})
		}
	}
	clear(t.dirty)
}

// candidate is a pair with a count that it has, or had.
type candidate struct {
	count int64
	pair  pair
}

// candidates is a heap with the best one on top.
type candidates []candidate

func (c candidates) Len() int      { return len(c) }
func (c candidates) Swap(i, j int) { c[i], c[j] = c[j], c[i] }
func (c candidates) Less(i, j int) bool {
	x, y := c[i], c[j]
	switch {
	case x.count != y.count:
		return x.count > y.count
	case x.pair.a != y.pair.a:
		return x.pair.a < y.pair.a
	}
	return x.pair.b < y.pair.b
}

// Push and Pop are for container/heap.
func (c *candidates) Push(x any) { *c = append(*c, x.(candidate)) }

// Pop takes the last one.
func (c *candidates) Pop() any {
	last := len(*c) - 1
	x := (*c)[last]
	*c = (*c)[:last]
	return x
}
