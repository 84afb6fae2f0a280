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
// Edges do not change once built and may be shared; memory is 16 bytes a pair at most.
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
	e := &Edges{NQ: nq, NK: nk, ptr: make([]int32, nq+1), first: make([]int32, nq), colPtr: make([]int32, nk+1)}
	var row []int32
	for i := range nq {
		row = keys(i, row[:0])
		if len(row) > math.MaxInt32-int(e.ptr[i]) {
			return nil, fmt.Errorf("%w: more than %d pairs", ErrLayout, math.MaxInt32)
		}
		for k, j := range row {
			if j < 0 || int(j) >= nk || k > 0 && j <= row[k-1] {
				return nil, fmt.Errorf("%w: key %d of %d at place %d of query %d: list them once, in rising order", ErrLayout, j, nk, k, i)
			}
			e.colPtr[j+1]++
		}
		if n := len(row); n > 0 && int(row[n-1]-row[0]) == n-1 {
			e.first[i] = ^row[0]
		} else {
			e.first[i] = int32(len(e.keys))
			e.keys = append(e.keys, row...)
		}
		e.ptr[i+1] = e.ptr[i] + int32(len(row))
	}
	e.transpose()
	e.rows, e.cols = cutLines(e.ptr), cutLines(e.colPtr)
	for _, it := range slices.Concat(e.rows.items, e.cols.items) {
		e.longest = max(e.longest, int(it.hi-it.lo))
	}
	e.iota = make([]int32, e.longest)
	for k := range e.iota {
		e.iota[k] = int32(k)
	}
	return e, nil
}

// transpose lists the pairs by key. colPtr[j+1] is how many there are of key j.
func (e *Edges) transpose() {
	for j := range e.NK {
		e.colPtr[j+1] += e.colPtr[j]
	}
	e.query, e.pair = make([]int32, e.Pairs()), make([]int32, e.Pairs())
	next := slices.Clone(e.colPtr)
	for i := range e.NQ {
		for x := e.ptr[i]; x < e.ptr[i+1]; x++ {
			j := e.key(i, x)
			e.query[next[j]], e.pair[next[j]] = int32(i), x
			next[j]++
		}
	}
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

// cutLines makes the items of a list.
func cutLines(ptr []int32) (w edgeWork) {
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
	return w
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
