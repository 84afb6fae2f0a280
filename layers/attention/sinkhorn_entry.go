package attention

import (
	"fmt"
	"strings"

	"github.com/euryale-ml/euryale/internal/config"
	"github.com/euryale-ml/euryale/layers"
)

// sinkhornEntry is {"type": "sinkhorn", "block_size": 64}.
type sinkhornEntry struct {
	kind
	BlockSize  *int     `json:"block_size"`
	Tau        *float64 `json:"tau,omitempty"`        // 0.75 if not given
	Iterations *int     `json:"iterations,omitempty"` // 8 if not given
	Normalizer string   `json:"normalizer,omitempty"` // sinkhorn; in a decoder row, or prefix
	Combine    string   `json:"combine,omitempty"`    // concat, sum_out, sum_score, mixture
	SortNet    string   `json:"sort_net,omitempty"`   // bilinear, mlp, linear
	FinishRow  *bool    `json:"finish_row,omitempty"` // true if not given
	Hard       string   `json:"hard,omitempty"`       // rows, greedy, hungarian: one block for each slot
	MaxBlocks  *int     `json:"max_blocks,omitempty"` // of mlp and linear; those of max_position_embeddings if not given
}

// oneOf checks a word.
func oneOf(faults []error, path, value string, allowed ...string) []error {
	for _, a := range allowed {
		if value == a {
			return faults
		}
	}
	return append(faults, &config.FieldError{Path: path, Value: value, Want: "give one of " + strings.Join(allowed, ", ")})
}

// maxIterations bounds normalizations that would never end; after some tens nothing changes any more.
const maxIterations = 1024

func (e *sinkhornEntry) check() []error {
	faults := checkPositive(nil, "block_size", e.BlockSize)
	if e.Tau != nil && !(*e.Tau > 0) {
		faults = append(faults, &config.FieldError{Path: "tau", Value: *e.Tau, Want: "give a number above 0"})
	}
	for _, n := range []struct {
		path string
		v    *int
	}{{"iterations", e.Iterations}, {"max_blocks", e.MaxBlocks}} {
		if n.v != nil {
			faults = checkPositive(faults, n.path, n.v)
		}
	}
	if e.Iterations != nil && *e.Iterations > maxIterations {
		faults = append(faults, &config.FieldError{Path: "iterations", Value: *e.Iterations, Want: fmt.Sprintf("give at most %d", maxIterations)})
	}
	if e.Normalizer == "paper" {
		faults = append(faults, &config.FieldError{Path: "normalizer", Value: e.Normalizer,
			Want: "the sums of columns go over later rows, so earlier tokens learn of later ones; give row or prefix in a decoder, sinkhorn in an encoder"})
	} else if e.Normalizer != "" {
		faults = oneOf(faults, "normalizer", e.Normalizer, "sinkhorn", "row", "prefix")
	}
	if e.Combine != "" {
		faults = oneOf(faults, "combine", e.Combine, CombineConcat, CombineSumOut, CombineSumScore, CombineMixture)
	}
	if e.SortNet != "" {
		faults = oneOf(faults, "sort_net", e.SortNet, NetBilinear, NetMLP, NetLinear)
	}
	if e.Hard != "" {
		faults = oneOf(faults, "hard", e.Hard, "rows", "greedy", "hungarian")
	}
	if e.MaxBlocks != nil && (e.SortNet == "" || e.SortNet == NetBilinear) {
		faults = append(faults, &config.FieldError{Path: "max_blocks", Value: *e.MaxBlocks, Want: "is for the sort_net mlp or linear; leave it out"})
	}
	return faults
}

func (*sinkhornEntry) beside() {}

func (e *sinkhornEntry) pattern(Layer) (Pattern, error) { return Full{}, nil }

// sorting is how blocks are sorted in a layer. Errors: *config.FieldError.
func (e *sinkhornEntry) sorting(at Layer) (Sorting, error) {
	s := Sorting{Size: *e.BlockSize, Net: e.SortNet, Tau: 0.75, Iterations: 8, Normalizer: layers.SinkhornNormalizer(e.Normalizer),
		FinishRow: e.FinishRow == nil || *e.FinishRow, Hard: layers.Assignment(e.Hard), Causal: at.Decoder}
	if e.Tau != nil {
		s.Tau = *e.Tau
	}
	if e.Iterations != nil {
		s.Iterations = *e.Iterations
	}
	if at.Decoder && s.Normalizer == layers.SinkhornRowsColumns {
		return s, &config.FieldError{Path: "normalizer", Value: e.Normalizer,
			Want: "the sums of columns go over later rows, so earlier tokens would learn of later ones; in a decoder give row or prefix"}
	}
	if at.Decoder && e.Hard != "" && s.Hard != layers.AssignRows {
		return s, &config.FieldError{Path: "hard", Value: e.Hard, Want: "a later block may take what an earlier one would have; in a decoder give rows"}
	}
	most := (at.Positions + s.Size - 1) / s.Size
	if s.Hard == layers.AssignHungarian && most > 64 {
		return s, &config.FieldError{Path: "hard", Value: e.Hard,
			Want: fmt.Sprintf("max_position_embeddings (%d) are %d blocks, hungarian is for at most 64; give greedy, or a larger block_size", at.Positions, most)}
	}
	if s.Net != NetMLP && s.Net != NetLinear {
		return s, nil
	}
	switch s.MaxBlocks = most; {
	case e.MaxBlocks == nil && most == 0:
		return s, &config.FieldError{Path: "max_blocks", Want: "missing; give the greatest number of blocks, which the sort_net " + s.Net + " has weights for"}
	case e.MaxBlocks != nil && *e.MaxBlocks < most:
		return s, &config.FieldError{Path: "max_blocks", Value: *e.MaxBlocks,
			Want: fmt.Sprintf("max_position_embeddings (%d) are %d blocks of %d; give at least that, or use the sort_net bilinear", at.Positions, most, s.Size)}
	case e.MaxBlocks != nil:
		s.MaxBlocks = *e.MaxBlocks
	}
	return s, nil
}

func (e *sinkhornEntry) mixer(at Layer) (Mixer, error) {
	s, err := e.sorting(at)
	if err != nil {
		return nil, err
	}
	return Sinkhorn{Sorting: s, Combine: e.Combine}, nil
}

// sortcutEntry is {"type": "sortcut", "block_size": 64, "slots": 2}.
type sortcutEntry struct {
	sinkhornEntry
	Slots *int `json:"slots"`
}

func (e *sortcutEntry) check() []error {
	faults := checkPositive(e.sinkhornEntry.check(), "slots", e.Slots)
	if e.Combine != "" && e.Combine != CombineConcat {
		faults = append(faults, &config.FieldError{Path: "combine", Value: e.Combine, Want: "there is no own block to combine slots with; leave it out"})
	}
	return faults
}

func (e *sortcutEntry) mixer(at Layer) (Mixer, error) {
	if at.Decoder {
		return nil, fmt.Errorf("sortcut cannot be causal: every slot is made of all blocks, so tokens would read later ones; use sinkhorn, or sortcut as cross_attention")
	}
	s, err := e.sorting(at)
	if err != nil {
		return nil, err
	}
	return SortCut{Sorting: s, Slots: *e.Slots}, nil
}
