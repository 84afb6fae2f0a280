package golden

import (
	"fmt"
	"math"
	"strings"
)

// Result is the comparison of one tensor.
type Result struct {
	Name   string  `json:"name"`    // full name in the case, such as "out64/logits"
	MaxAbs float64 `json:"max_abs"` // largest |got-want|
	MaxRel float64 `json:"max_rel"` // MaxAbs / max|want|, 0 if all of want is 0
	OK     bool    `json:"ok"`

	Worst int     `json:"-"` // index of the largest difference in the flat tensor, -1 if there is none
	At    []int   `json:"-"` // its coordinates
	Got   float64 `json:"-"`
	Want  float64 `json:"-"`
	Limit float64 `json:"-"` // what |got-want| may be
	Fault string  `json:"-"` // why nothing could be compared; "" if it could
}

// String is one line: the name, and on failure the worst place with both values.
func (r Result) String() string {
	switch {
	case r.Fault != "":
		return fmt.Sprintf("%s: %s", r.Name, r.Fault)
	case r.OK:
		return fmt.Sprintf("%s: ok, max |diff| %.3g (limit %.3g)", r.Name, r.MaxAbs, r.Limit)
	}
	return fmt.Sprintf("%s: max |diff| %.6g > %.6g at %v (index %d): got %.9g, want %.9g", r.Name, r.MaxAbs, r.Limit, r.At, r.Worst, r.Got, r.Want)
}

// fault is a failed comparison without numbers. Its differences are the largest number, not infinity, which JSON lacks.
func fault(name, format string, a ...any) Result {
	return Result{Name: name, MaxAbs: math.MaxFloat64, MaxRel: math.MaxFloat64, Worst: -1, Fault: fmt.Sprintf(format, a...)}
}

// Compare compares a flat tensor with what it should be: ok if every |got-want| <= abs + rel*max|want|. NaN equals NaN and an
// infinity equals itself; any other pair with one of them fails. rows may be nil; else it says which of the len(rows) equal
// parts of the tensor count.
func Compare(name string, got, want []float64, shape []int, abs, rel float64, rows []bool) Result {
	if len(got) != len(want) {
		return fault(name, "has %d values, want %d (shape %v)", len(got), len(want), shape)
	}
	keep := func(int) bool { return true }
	if len(rows) > 0 && len(want)%len(rows) == 0 {
		width := len(want) / len(rows)
		keep = func(i int) bool { return rows[i/width] }
	}
	r := Result{Name: name, OK: true, Worst: -1}
	top := largest(want, keep)
	r.Limit = abs + rel*top
	for i, w := range want {
		if !keep(i) {
			continue
		}
		g := got[i]
		d := math.Abs(g - w)
		if g == w || math.IsNaN(g) && math.IsNaN(w) {
			d = 0
		} else if math.IsNaN(d) || math.IsInf(d, 0) {
			d = math.MaxFloat64
		}
		if d > r.MaxAbs || r.Worst < 0 {
			r.MaxAbs, r.Worst, r.Got, r.Want = d, i, g, w
		}
	}
	if top > 0 {
		r.MaxRel = min(r.MaxAbs/top, math.MaxFloat64)
	}
	r.OK = r.MaxAbs <= r.Limit
	if r.Worst >= 0 {
		r.At = Coordinates(r.Worst, shape)
	}
	return r
}

// Coordinates turns a flat index into one for each axis.
func Coordinates(i int, shape []int) []int {
	at := make([]int, len(shape))
	for a := len(shape) - 1; a >= 0; a-- {
		if shape[a] > 0 {
			at[a], i = i%shape[a], i/shape[a]
		}
	}
	return at
}

// CompareOut compares a result, `loss` too, with out64/NAME, else with out/NAME. got is a slice of floats, whole numbers or
// booleans, or one float. Discrete results must be equal.
func (c *Case) CompareOut(name string, got any, p Precision) Result {
	want, full := c.Out64(name), "out64/"+name
	if want == nil {
		want, full = c.Out(name), "out/"+name
	}
	return c.compareOutput(full, name, want, got, p)
}

// CompareMid compares an intermediate value with mid64/NAME.
func (c *Case) CompareMid(name string, got any, p Precision) Result {
	return c.compareOutput("mid64/"+name, name, c.Mid64(name), got, p)
}

// CompareState compares a buffer after the call.
func (c *Case) CompareState(name string, got any, p Precision) Result {
	return c.compareOutput("state_after/"+name, "", c.StateAfter(name), got, p)
}

// CompareTensor compares with any tensor by its full name, as an output.
func (c *Case) CompareTensor(full string, got any, p Precision) Result {
	return c.compareOutput(full, "", c.Tensor(full), got, p)
}

func (c *Case) compareOutput(full, name string, want *Tensor, got any, p Precision) Result {
	if want == nil {
		return fault(full, "is not in %s", c.ID())
	}
	g, err := values(got)
	if err != nil {
		return fault(full, "%v", err)
	}
	if want.IsInt() {
		return Compare(full, g, want.Float64s(), want.Shape, 0, 0, nil)
	}
	abs, rel := c.Tolerance.output(p, want.Dtype == "F64")
	if want.Dtype == "F32" && strings.HasPrefix(full, "out/") {
		abs += c.ReferenceError // all that there is of it is in float32, with that error
	}
	if c.Tolerance.Exact {
		abs, rel = 0, 0
	}
	return Compare(full, g, want.F, want.Shape, abs, rel, c.rows(name, want.Shape))
}

// CompareGrad compares the gradient of a parameter. One that does not reach the loss must have a zero gradient; got may then
// be nil.
func (c *Case) CompareGrad(param string, got any, p Precision) Result {
	return c.compareGradient("grad/"+param, c.Grad(param), c.Param(param), !c.HasGrad(param), got, p)
}

// CompareGradIn compares the gradient of an input.
func (c *Case) CompareGradIn(input string, got any, p Precision) Result {
	return c.compareGradient("grad_in/"+input, c.GradIn(input), c.In(input), false, got, p)
}

func (c *Case) compareGradient(full string, want, of *Tensor, unreached bool, got any, p Precision) Result {
	if want == nil && unreached && of != nil {
		if got == nil {
			return Result{Name: full, OK: true, Worst: -1}
		}
		want = &Tensor{Shape: of.Shape, Dtype: "F64", F: make([]float64, of.Size())}
	}
	if want == nil {
		return fault(full, "is not in %s", c.ID())
	}
	g, err := values(got)
	if err != nil {
		return fault(full, "%v", err)
	}
	abs, rel := c.Tolerance.gradient(p, want.Dtype == "F64")
	return Compare(full, g, want.F, want.Shape, abs, rel, nil)
}
