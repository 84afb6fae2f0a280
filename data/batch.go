package data

import (
	"maps"
	"slices"
)

// Batch is what a model reads in one pass, and what is asked of it. What the data do not have is nil; Shape says what they have.
//
// Legend besides B and T: G global tokens, K numbers to be predicted, D size of a vector that is read in place of an id, U tokens of
// the target of an encoder-decoder.
type Batch struct {
	B, T    int
	IDs     []int32 // [B,T]
	Targets []int32 // [B,T], the token that belongs at each place (the next one of a language model); -1 where nothing is to be predicted
	Lens    []int32 // [B], tokens of each row that are not padding; 0 for a row that is padding as a whole

	Types   []int32   // [B,T], segment of each token (token_type_ids)
	Globals []int32   // [B,G], places of tokens that everything may read and that read everything; -1: none
	Vectors []float32 // [B,T,D], what a model without vocabulary reads in place of IDs

	Labels []int32   // [B], class of each row, or [B,2], first and last place of an answer; -1: none
	Values []float32 // [B,K], numbers to be predicted, meaningful in rows with Lens > 0

	TargetIDs     []int32 // [B,U], what the decoder reads: the start token, then the target without its last token
	TargetTargets []int32 // [B,U], what it has to say: the target with its end token; -1 where nothing is to be predicted
	TargetLens    []int32 // [B]

	More map[string][]int32 // inputs of one family alone by name, each [B, Shape.More[name]]

	Tenths []int8  // [B], in which tenth of a row, 0 to 9, a task has put what is to be found; -1: in no particular one; nil for text
	Bytes  float64 // size of the text that is predicted (of TargetTargets if there are any, else of Targets); an answer of a task counts as 1
}

// Shape says what batches of some data have besides ids, targets and lengths, and how large it is; 0, false or nil: they do not have it.
type Shape struct {
	Types   bool
	Globals int            // G
	Vectors int            // D; IDs are then all 0
	Labels  int            // numbers in a row of Labels: 1 class, or 2 places
	Classes int            // the classes are 0 to Classes-1
	Values  int            // K
	Targets int            // U
	More    map[string]int // numbers in a row, by name
}

// MoreNames are the names in More, sorted.
func (s Shape) MoreNames() []string { return slices.Sorted(maps.Keys(s.More)) }

// NewBatch returns a batch with nothing but ids, targets and lengths to fill, as text has them.
func NewBatch(b, t int) *Batch { return Shape{}.NewBatch(b, t) }

// NewBatch returns a batch of this shape to fill.
func (s Shape) NewBatch(b, t int) *Batch {
	ints := func(wanted bool, n int) []int32 {
		if !wanted {
			return nil
		}
		return make([]int32, b*n)
	}
	batch := &Batch{B: b, T: t, IDs: make([]int32, b*t), Targets: make([]int32, b*t), Lens: make([]int32, b),
		Types: ints(s.Types, t), Globals: ints(s.Globals > 0, s.Globals), Labels: ints(s.Labels > 0, s.Labels),
		TargetIDs: ints(s.Targets > 0, s.Targets), TargetTargets: ints(s.Targets > 0, s.Targets), TargetLens: ints(s.Targets > 0, 1)}
	if s.Vectors > 0 {
		batch.Vectors = make([]float32, b*t*s.Vectors)
	}
	if s.Values > 0 {
		batch.Values = make([]float32, b*s.Values)
	}
	for name, n := range s.More {
		if batch.More == nil {
			batch.More = map[string][]int32{}
		}
		batch.More[name] = make([]int32, b*n)
	}
	return batch
}

// Scored is how many of Targets are to be predicted.
func (b *Batch) Scored() int { return CountScored(b.Targets) }

// CountScored is how many targets, or labels, are to be predicted.
func CountScored(targets []int32) int {
	n := 0
	for _, t := range targets {
		if t >= 0 {
			n++
		}
	}
	return n
}

// rowOf is row r of a field with the same number of elements in each row; nil if the batch does not have the field.
func rowOf[E any](b *Batch, field []E, r int) []E {
	n := len(field) / b.B
	return field[r*n : (r+1)*n]
}

// clear makes row r padding as a whole. pad is the id of padding.
func (b *Batch) clear(r int, pad int32) {
	repeat(rowOf(b, b.IDs, r), pad)
	b.Lens[r] = 0
	clear(rowOf(b, b.Types, r))
	clear(rowOf(b, b.Vectors, r))
	clear(rowOf(b, b.Values, r))
	repeat(rowOf(b, b.TargetIDs, r), pad)
	clear(rowOf(b, b.TargetLens, r))
	for _, none := range [][]int32{b.Targets, b.Globals, b.Labels, b.TargetTargets} {
		repeat(rowOf(b, none, r), -1)
	}
	for _, field := range b.More {
		repeat(rowOf(b, field, r), -1)
	}
	if b.Tenths != nil {
		b.Tenths[r] = -1
	}
}

func repeat(x []int32, v int32) {
	for i := range x {
		x[i] = v
	}
}

// pad makes everything from column n of row r padding. id is that of padding.
func (b *Batch) pad(r, n int, id int32) {
	repeat(rowOf(b, b.IDs, r)[n:], id)
	repeat(rowOf(b, b.Targets, r)[n:], -1)
	b.Lens[r] = int32(n)
	if b.Tenths != nil {
		b.Tenths[r] = -1
	}
}
