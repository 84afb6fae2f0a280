package models

import (
	"slices"
	"strings"

	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/checkpoints"
	"github.com/euryale-ml/euryale/layers"
)

// Start reads the weights of a file for a model that goes on to learn something else: those of Weights, but the head may be another one.
// What the file lacks of the head, or has for another number of classes, starts from the initial values of the seed, as NewParams
// makes them; what it has of another head is left. Both are listed.
//
// Errors: *WeightsError where anything but the head does not fit; *checkpoints.FileError.
func Start(m Model, file *checkpoints.Safetensors, dtype tensor.Dtype, seed uint64) (params *layers.Params, fresh, left []string, err error) {
	if params, err = NewParams(m, dtype, seed); err != nil {
		return nil, nil, nil, err
	}
	faults, err := readWeights(m, params, file)
	if err != nil {
		return nil, nil, nil, err
	}
	ofHead := func(fault string) bool {
		name, _, _ := strings.Cut(fault, ": ")
		return isHead(strings.TrimPrefix(name, BasePrefix(m)))
	}
	for _, f := range append(slices.Clone(faults.Missing), faults.Shape...) {
		if name, _, _ := strings.Cut(f, ": "); ofHead(f) {
			fresh = append(fresh, name)
		}
	}
	for _, f := range append(slices.Clone(faults.Unknown), faults.Unequal...) {
		if name, _, _ := strings.Cut(f, ": "); ofHead(f) {
			left = append(left, name)
		}
	}
	faults.Unequal = slices.DeleteFunc(faults.Unequal, ofHead)
	faults.Missing, faults.Unknown, faults.Shape = slices.DeleteFunc(faults.Missing, ofHead), slices.DeleteFunc(faults.Unknown, ofHead), slices.DeleteFunc(faults.Shape, ofHead)
	if !faults.none() {
		return nil, nil, nil, faults
	}
	return params, fresh, left, nil
}

// heads are what the names of the weights of heads begin with, of our skeletons and of Hugging Face's families.
var heads = []string{"head.", "lm_head.", "cls.", "classifier.", "qa_outputs.", "qa_classifier.", "pooler.", "score."}

// IsHead reports whether a weight of a model belongs to its head.
func IsHead(m Model, name string) bool { return isHead(strings.TrimPrefix(name, BasePrefix(m))) }

func isHead(name string) bool {
	return slices.ContainsFunc(heads, func(h string) bool { return strings.HasPrefix(name, h) })
}
