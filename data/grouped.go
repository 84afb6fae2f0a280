package data

import (
	"cmp"
	"slices"
)

// groupBatches is how many batches are sorted by length together: enough that a batch holds examples of like length, few enough that the order stays a
// drawn one.
const groupBatches = 32

// grouping puts examples of like length together, so that batches can be as short as what they hold.
type grouping struct {
	rows    int
	window  int64 // the one that order belongs to
	order   []int64
	lengths []int
}

// GroupByLength makes Fill give examples in batches of rows that are alike in length: of every 32 batches of the shuffled sequence the examples are
// sorted by length and cut into batches, which come in an order that is drawn. Example number p is still a pure function of (part, T, seed, rows, p), and
// the same examples come in an epoch, but for those of the 32 batches at its ends. Positions that are asked for must be multiples of rows.
//
// Errors: ErrFormat for a stream, of which no length is known beforehand.
func (s *Sampler) GroupByLength(rows int) error {
	if s.flow != nil {
		return &Error{Kind: ErrFormat, Path: s.part.source, What: "the lengths of a stream are not known beforehand", Fix: "set train.length_buckets to 0, or data.streaming to false"}
	}
	s.group = &grouping{rows: rows, window: -1, order: make([]int64, rows*groupBatches), lengths: make([]int, rows*groupBatches)}
	return nil
}

// Longest is the number of tokens that rows must have for the examples position to position+n-1, the largest target included where rows of targets are
// as long as those of sources.
func (s *Sampler) Longest(position int64, n int) (longest int) {
	for p := range int64(n) {
		longest = max(longest, s.length(s.grouped(position+p)))
	}
	return longest
}

// length is how many tokens the example at a place of the shuffled sequence has.
func (s *Sampler) length(position int64) int {
	epoch, i := s.shuffled(position)
	if s.part.task != nil {
		return s.t
	}
	w := s.window(epoch, i)
	n := w.end - w.start + s.part.view.frame().beside
	if v, ok := s.part.view.(pairView); ok && v.length == 0 {
		targets, _ := v.scored(s.part, w, s.t, 0)
		n = max(n, targets)
	}
	return n
}

// grouped is the place in the shuffled sequence of the example that comes at a position.
func (s *Sampler) grouped(position int64) int64 {
	g := s.group
	if g == nil {
		return position
	}
	size := int64(len(g.order))
	if w := position / size; w != g.window {
		g.window = w
		for k := range g.order {
			g.lengths[k] = s.length(w*size + int64(k))
			g.order[k] = w*size + int64(k)
		}
		slices.SortFunc(g.order, func(a, b int64) int {
			return cmp.Or(cmp.Compare(g.lengths[a-w*size], g.lengths[b-w*size]), cmp.Compare(a, b))
		})
	}
	at := int(position % size)
	batches := newPermutation(groupBatches, hash(s.seed, uint64(g.window), 6))
	return g.order[batches.at(at/g.rows)*g.rows+at%g.rows]
}
