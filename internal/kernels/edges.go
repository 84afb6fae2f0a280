package kernels

import (
	"fmt"
	"math"
	"slices"
	"sort"
)

// Edges is a pattern as lists: the keys of each query, and the queries of each key. It is for graphs of low degree without
// blocks, such as trees and random graphs, whose tiles would be almost empty: the work is that of the pairs, not of tiles.
// Keys that follow one another without a gap (all tokens that a span covers, all that a hub reads) are not listed.
// Edges do not change once built (but by Reset) and may be shared; memory is 16 bytes a pair at most.
type Edges struct {
	NQ, NK int
	Labels int // how many there are; 0: none

	ptr    []int32 // pairs of query i are ptr[i]:ptr[i+1]
	first  []int32 // of query i: where its keys begin in keys, or ^k: they are k, k+1, …
	keys   []int32
	label  []Label // of each pair: number among the labels of its item
	labels []Label // labels of the items, one item after the other

	colPtr      []int32 // pairs of key j are colPtr[j]:colPtr[j+1] of
	query, pair []int32 // the query, rising, and the number of the pair by query
	next        []int32 // of ByKey

	rows, cols edgeWork
	longest    int     // pairs of an item
	iota       []int32 // 0, 1, 2, …
}

// edgeWork cuts the lines of a list (its queries or its keys) into items of about equal size.
type edgeWork struct {
	items  []edgeItem
	splits []edgeSplit
	slots  int // parts of split lines
}

// edgeItem is up to 64 lines, or a part of one line that is too long for one worker: a hub.
type edgeItem struct {
	line, lines int32
	lo, hi      int32 // its pairs
	slot        int32 // of a part, -1: none
	lab, labEnd int32 // its labels
}

// edgeSplit is a line that is cut into parts.
type edgeSplit struct{ line, slot, parts int32 }

// itemPairs bounds the pairs of an item; tests lower it.
var itemPairs = 4096

// NewEdges lists nq queries. keys appends those of query i, rising, each once, below nk.
// Errors: keys out of order or range; more than 2^31-1 pairs.
func NewEdges(nq, nk int, keys func(i int, dst []int32) []int32) (*Edges, error) {
	e := &Edges{}
	if err := e.Reset(nq, nk, keys); err != nil {
		return nil, err
	}
	e.ByKey()
	return e, nil
}

// Reset makes the lists anew, as NewEdges does, in the memory that they have: for pairs that each run chooses. Nobody else may use
// them meanwhile. Backward needs ByKey after it.
func (e *Edges) Reset(nq, nk int, keys func(i int, dst []int32) []int32) error {
	e.NQ, e.NK, e.Labels = nq, nk, 0
	e.ptr, e.first, e.colPtr = zeros(e.ptr, nq+1), grown(e.first, nq), zeros(e.colPtr, nk+1)
	e.keys, e.query, e.pair, e.label, e.labels = e.keys[:0], e.query[:0], e.pair[:0], nil, nil
	for i := range nq {
		at := len(e.keys)
		e.keys = keys(i, e.keys)
		row := e.keys[at:]
		if len(row) > math.MaxInt32-int(e.ptr[i]) {
			return fmt.Errorf("%w: more than %d pairs", ErrLayout, math.MaxInt32)
		}
		last := int32(-1)
		for k, j := range row {
			if j <= last || int(j) >= nk {
				return fmt.Errorf("%w: key %d of %d at place %d of query %d: list them once, in rising order", ErrLayout, j, nk, k, i)
			}
			last = j
			e.colPtr[j+1]++
		}
		if n := len(row); n > 0 && int(row[n-1]-row[0]) == n-1 {
			e.first[i], e.keys = ^row[0], e.keys[:at]
		} else {
			e.first[i] = int32(at)
		}
		e.ptr[i+1] = e.ptr[i] + int32(len(row))
	}
	for j := range nk {
		e.colPtr[j+1] += e.colPtr[j]
	}
	e.rows.cut(e.ptr)
	e.cols = edgeWork{items: e.cols.items[:0], splits: e.cols.splits[:0]}
	e.longest = 0
	e.fitIota(e.rows.items)
	return nil
}

// fitIota makes iota as long as the longest item.
func (e *Edges) fitIota(items []edgeItem) {
	for _, it := range items {
		e.longest = max(e.longest, int(it.hi-it.lo))
	}
	for k := len(e.iota); k < e.longest; k++ {
		e.iota = append(e.iota, int32(k))
	}
}

// ByKey lists the pairs by key, which Backward needs.
func (e *Edges) ByKey() {
	e.query, e.pair = grown(e.query, e.Pairs()), grown(e.pair, e.Pairs())
	e.next = append(e.next[:0], e.colPtr...)
	for i := range e.NQ {
		for x := e.ptr[i]; x < e.ptr[i+1]; x++ {
			j := e.key(i, x)
			e.query[e.next[j]], e.pair[e.next[j]] = int32(i), x
			e.next[j]++
		}
	}
	e.cols.cut(e.colPtr)
	e.fitIota(e.cols.items)
}

// Pairs returns the number of pairs.
func (e *Edges) Pairs() int { return int(e.ptr[e.NQ]) }

// Bytes returns the memory the lists take.
func (e *Edges) Bytes() int64 {
	return int64(4*(len(e.ptr)+len(e.first)+len(e.keys)+len(e.colPtr)+len(e.query)+len(e.pair)+len(e.iota)) + 2*(len(e.label)+len(e.labels)))
}

// key is that of pair x, which is one of query i.
func (e *Edges) key(i int, x int32) int32 {
	if f := e.first[i]; f < 0 {
		return ^f + x - e.ptr[i]
	}
	return e.keys[e.first[i]+x-e.ptr[i]]
}

// Labelled returns the same lists with a label for each pair, of 0 to count-1.
func (e *Edges) Labelled(count int, label func(i, j int) int) (*Edges, error) {
	if count < 1 || count > MaxLabels {
		return nil, fmt.Errorf("%w: %d labels, from 1 to %d can be told apart", ErrAttention, count, MaxLabels)
	}
	l := *e
	l.Labels, l.label, l.rows.items = count, make([]Label, e.Pairs()), slices.Clone(e.rows.items)
	number := make([]int32, count) // 1 + number in the item
	for k := range l.rows.items {
		it := &l.rows.items[k]
		it.lab = int32(len(l.labels))
		for i := int(it.line); i < int(it.line+it.lines); i++ {
			for x := max(it.lo, e.ptr[i]); x < min(it.hi, e.ptr[i+1]); x++ {
				v := label(i, int(e.key(i, x)))
				if v < 0 || v >= count {
					return nil, fmt.Errorf("%w: the label of pair (%d,%d) is %d, not of 0 to %d", ErrAttention, i, e.key(i, x), v, count-1)
				}
				if number[v] == 0 {
					l.labels = append(l.labels, Label(v))
					number[v] = int32(len(l.labels)) - it.lab
				}
				l.label[x] = Label(number[v] - 1)
			}
		}
		it.labEnd = int32(len(l.labels))
		for _, v := range l.labels[it.lab:] {
			number[v] = 0
		}
	}
	return &l, nil
}

// cut makes the items of a list.
func (w *edgeWork) cut(ptr []int32) {
	w.items, w.splits, w.slots = w.items[:0], w.splits[:0], 0
	n := len(ptr) - 1
	for i := 0; i < n; {
		if size := int(ptr[i+1] - ptr[i]); size > itemPairs {
			parts := (size + itemPairs - 1) / itemPairs
			w.splits = append(w.splits, edgeSplit{int32(i), int32(w.slots), int32(parts)})
			for k := range parts {
				lo, hi := ptr[i]+int32(size*k/parts), ptr[i]+int32(size*(k+1)/parts)
				w.items = append(w.items, edgeItem{line: int32(i), lines: 1, lo: lo, hi: hi, slot: int32(w.slots)})
				w.slots++
			}
			i++
			continue
		}
		from := i
		for i < n && i < from+Tile && int(ptr[i+1]-ptr[from]) <= itemPairs {
			i++
		}
		w.items = append(w.items, edgeItem{line: int32(from), lines: int32(i - from), lo: ptr[from], hi: ptr[i], slot: -1})
	}
}

// share returns the items of part c of `parts` of about equal numbers of pairs and lines.
func (w *edgeWork) share(c, parts int) []edgeItem {
	if len(w.items) == 0 {
		return nil
	}
	end := w.items[len(w.items)-1]
	cost := func(line, pair int32) int64 { return 4*int64(line) + int64(pair) }
	total := cost(end.line+end.lines, end.hi)
	at := func(c int) int {
		return sort.Search(len(w.items), func(k int) bool {
			return cost(w.items[k].line, w.items[k].lo)*int64(parts) >= total*int64(c)
		})
	}
	return w.items[at(c):at(c+1)]
}

// Keys appends the keys of query i.
func (e *Edges) Keys(i int, dst []int32) []int32 {
	for x := e.ptr[i]; x < e.ptr[i+1]; x++ {
		dst = append(dst, e.key(i, x))
	}
	return dst
}
