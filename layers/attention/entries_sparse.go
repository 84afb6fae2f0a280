package attention

import (
	"fmt"
	"math"

	"github.com/euryale-ml/euryale/internal/config"
)

// shiftedEntry is blocks of tokens whose borders are half a block earlier in every second layer.
type shiftedEntry struct {
	kind
	BlockSize *int `json:"block_size"`
}

func (e *shiftedEntry) check() []error { return checkPositive(nil, "block_size", e.BlockSize) }
func (e *shiftedEntry) pattern(at Layer) (Pattern, error) {
	if at.Index%2 == 0 {
		return Blocks{Size: *e.BlockSize}, nil
	}
	return ShiftedBlocks{Size: *e.BlockSize, Shift: *e.BlockSize / 2}, nil
}

// overlapEntry is blocks of queries that also read tokens before and behind their block.
type overlapEntry struct {
	kind
	BlockSize    *int `json:"block_size"`
	OverlapLeft  *int `json:"overlap_left"`
	OverlapRight *int `json:"overlap_right,omitempty"`
}

func (e *overlapEntry) check() []error {
	faults := checkPositive(nil, "block_size", e.BlockSize)
	faults = checkSide(faults, "overlap_left", e.OverlapLeft, true)
	return checkSide(faults, "overlap_right", e.OverlapRight, false)
}
func (e *overlapEntry) pattern(at Layer) (Pattern, error) {
	return Blocks{Size: *e.BlockSize, Left: *e.OverlapLeft, Right: right(e.OverlapRight, *e.OverlapLeft, at.Decoder)}, nil
}

// randomEntry is a random graph, of its own for every head and layer: degree keys of a query (blocks, with a block_size), or every
// pair with a probability.
type randomEntry struct {
	kind
	Degree      *int     `json:"degree,omitempty"`
	Probability *float64 `json:"probability,omitempty"`
	BlockSize   *int     `json:"block_size,omitempty"`
	Seed        *int     `json:"seed,omitempty"`
}

// probabilities are kept as multiples of a billionth.
const billion = 1_000_000_000

func (e *randomEntry) check() (faults []error) {
	switch {
	case e.Degree == nil && e.Probability == nil:
		faults = append(faults, &config.FieldError{Path: "degree", Want: "missing; give a whole number from 1 on, or a probability"})
	case e.Degree != nil && e.Probability != nil:
		faults = append(faults, &config.FieldError{Path: "probability", Value: *e.Probability, Want: "stands beside degree; give one of them"})
	case e.Degree != nil:
		faults = checkPositive(faults, "degree", e.Degree)
	case !(*e.Probability > 0 && *e.Probability <= 1):
		faults = append(faults, &config.FieldError{Path: "probability", Value: *e.Probability, Want: "give a number above 0, at most 1"})
	case e.BlockSize != nil:
		faults = append(faults, &config.FieldError{Path: "block_size", Value: *e.BlockSize, Want: "blocks are drawn by degree, not by probability"})
	}
	if e.BlockSize != nil {
		faults = checkPositive(faults, "block_size", e.BlockSize)
	}
	return checkSide(faults, "seed", e.Seed, false)
}
func (e *randomEntry) pattern(Layer) (Pattern, error) {
	seed := 0
	if e.Seed != nil {
		seed = *e.Seed
	}
	switch {
	case e.Probability != nil:
		num := max(1, int(math.Round(*e.Probability*billion)))
		d := gcd(num, billion)
		return NewBernoulli(num/d, billion/d, seed, 0), nil
	case e.BlockSize != nil:
		return NewRandomBlocks(*e.BlockSize, *e.Degree, seed, 0), nil
	}
	return NewRandom(*e.Degree, seed, 0), nil
}

// merging is how the two sets of keys of a Sparse Transformer come together: in one softmax (merged, the default), in turn by layer
// (interleaved), or in turn by head (multihead).
type merging struct {
	Merge *string `json:"merge,omitempty"`
}

func (m merging) check(faults []error) []error {
	if m.Merge == nil {
		return faults
	}
	switch *m.Merge {
	case "merged", "interleaved", "multihead":
		return faults
	}
	return append(faults, &config.FieldError{Path: "merge", Value: *m.Merge, Want: "give one of interleaved, merged, multihead"})
}

// of returns what the heads of a layer read, given the two sets and, if not nil, their merged form.
func (m merging) of(at Layer, first, second func(head int) Pattern, merged Pattern) (Pattern, error) {
	way := "merged"
	if m.Merge != nil {
		way = *m.Merge
	}
	if way == "merged" && merged != nil {
		return merged, nil
	}
	parts := make([]Pattern, at.each())
	alike := true
	for h := range parts {
		switch {
		case way == "merged":
			parts[h] = union{first(h), second(h)}
		case way == "interleaved" && at.Index%2 == 0 || way == "multihead" && h%2 == 0:
			parts[h] = first(h)
		default:
			parts[h] = second(h)
		}
		alike = alike && parts[h].String() == parts[0].String()
	}
	if alike {
		parts = parts[:1]
	}
	return Heads(parts...)
}

// stridedEntry is Strided, or its halves by layer or head.
type stridedEntry struct {
	kind
	Stride *int `json:"stride"`
	merging
	PaperInclusive *bool `json:"paper_inclusive,omitempty"` // one local key more, as the paper's formula has it
}

func (e *stridedEntry) check() []error {
	return e.merging.check(checkPositive(nil, "stride", e.Stride))
}
func (e *stridedEntry) pattern(at Layer) (Pattern, error) {
	local, merged := Band{Left: *e.Stride - 1}, Pattern(Strided{Stride: *e.Stride})
	if e.PaperInclusive != nil && *e.PaperInclusive {
		local.Left++
		merged = nil
	}
	return e.merging.of(at,
		func(int) Pattern { return local },
		func(int) Pattern { return Dilated{Left: maxNumber, Gap: *e.Stride} },
		merged)
}

// fixedEntry is Fixed, or its halves by layer or head.
type fixedEntry struct {
	kind
	Stride  *int `json:"stride"`
	Summary *int `json:"summary"`
	merging
	DistinctSummaries *bool `json:"distinct_summaries,omitempty"` // heads take turns in which columns they read
}

func (e *fixedEntry) check() []error {
	faults := checkPositive(checkPositive(nil, "stride", e.Stride), "summary", e.Summary)
	if len(faults) == 0 && *e.Summary > *e.Stride {
		faults = append(faults, &config.FieldError{Path: "summary", Value: *e.Summary, Want: fmt.Sprintf("give 1 to %d, the stride", *e.Stride)})
	}
	return e.merging.check(faults)
}
func (e *fixedEntry) pattern(at Layer) (Pattern, error) {
	groups, merged := 1, Pattern(Fixed{Stride: *e.Stride, Summary: *e.Summary})
	if e.DistinctSummaries != nil && *e.DistinctSummaries {
		groups, merged = *e.Stride / *e.Summary, nil
	}
	return e.merging.of(at,
		func(int) Pattern { return Causal(Blocks{Size: *e.Stride}) },
		func(h int) Pattern { return Summary{Stride: *e.Stride, Columns: *e.Summary, Group: h % groups} },
		merged)
}
