package golden

import (
	"math"
	"strings"
)

// Precision is the type an implementation computed in.
type Precision int

// Precisions.
const (
	Float32 Precision = iota
	Float64
)

func (p Precision) String() string {
	if p == Float64 {
		return "float64"
	}
	return "float32"
}

// Tolerance is the field of this name of a description. A pair (abs, rel) allows |x-y| <= abs + rel*max|y|, where the maximum
// is that of the tensor. What a description leaves out has a default.
type Tolerance struct {
	Exact       bool     `json:"exact"` // all tensors of the case are discrete
	F64Abs      *float64 `json:"f64_abs"`
	F32Abs      *float64 `json:"f32_abs"`
	F32Rel      *float64 `json:"f32_rel"`
	F32GradAbs  *float64 `json:"f32_grad_abs"`
	F32GradRel  *float64 `json:"f32_grad_rel"`
	CompareRows string   `json:"compare_rows"` // which rows of outputs count; words, see rows
}

func or(p *float64, def float64) float64 {
	if p == nil {
		return def
	}
	return *p
}

// output is the tolerance for a result. One that was recorded in float32 only is compared as float32 in both precisions.
func (t Tolerance) output(p Precision, recorded64 bool) (abs, rel float64) {
	if p == Float64 && recorded64 {
		return or(t.F64Abs, 1e-9), 0
	}
	if t.F32Abs != nil && t.F32Rel == nil {
		return *t.F32Abs, 0
	}
	return or(t.F32Abs, 2e-5), or(t.F32Rel, 1e-4)
}

// gradient is the tolerance for a gradient; gradients come from float64 runs and may be stored rounded to float32.
func (t Tolerance) gradient(p Precision, stored64 bool) (abs, rel float64) {
	switch {
	case p == Float32:
		return or(t.F32GradAbs, 5e-5), or(t.F32GradRel, 1e-3)
	case stored64:
		return 1e-8, 0
	}
	return 1e-9, 1.2e-7
}

// rows tells, for a tensor [B,T,...], which of its B*T rows count; nil means all. The words of compare_rows name an input
// mask [B,T]; it holds for outputs that have its shape in front.
func (c *Case) rows(name string, shape []int) []bool {
	if ids := c.In("input_ids"); ids != nil && len(ids.Shape) == 2 && len(shape) == 3 && shape[1] > ids.Shape[1] && strings.HasPrefix(name, "encoder_hidden_states.") {
		kept := make([]bool, shape[0]*shape[1]) // what BigBirdPegasus adds behind its source has no positions, and nothing reads it
		for i := range kept {
			kept[i] = i%shape[1] < ids.Shape[1]
		}
		return kept
	}
	words := c.Tolerance.CompareRows
	if words == "" || len(shape) < 2 {
		return nil
	}
	if strings.HasPrefix(words, "encoder") && !strings.HasPrefix(name, "encoder") {
		return nil
	}
	masks := []string{"valid"}
	switch {
	case strings.Contains(words, "in/attention_mask"):
		masks = []string{"attention_mask"}
	case strings.Contains(words, "example id"):
		masks = []string{name + "_example_ids"}
	}
	for _, m := range masks {
		t := c.In(m)
		if t != nil && len(t.Shape) == 2 && t.Shape[0] == shape[0] && t.Shape[1] == shape[1] {
			return t.Bools()
		}
	}
	return nil
}

// largest is max|y| over finite values of the rows that count.
func largest(want []float64, keep func(i int) bool) float64 {
	m := 0.0
	for i, v := range want {
		if a := math.Abs(v); keep(i) && a > m && !math.IsInf(a, 0) {
			m = a
		}
	}
	return m
}
