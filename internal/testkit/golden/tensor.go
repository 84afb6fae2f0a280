package golden

import (
	"fmt"

	"github.com/euryale-ml/euryale/checkpoints"
)

// Tensor is a tensor of a case. Floating point values are in F, whole numbers and booleans in I; the other is nil.
type Tensor struct {
	Name  string // full name in the file
	Shape []int  // empty for a scalar
	Dtype checkpoints.Dtype
	F     []float64
	I     []int64
}

// Size is the number of elements.
func (t *Tensor) Size() int { return len(t.F) + len(t.I) }

// IsInt reports whether the tensor holds whole numbers or booleans, which are compared exactly.
func (t *Tensor) IsInt() bool { return !t.Dtype.IsFloat() }

// Float64s returns the values as float64; the caller owns them.
func (t *Tensor) Float64s() []float64 {
	out := make([]float64, 0, t.Size())
	out = append(out, t.F...)
	for _, v := range t.I {
		out = append(out, float64(v))
	}
	return out
}

// Float32s returns the values as float32; inputs and parameters of cases are exact in it.
func (t *Tensor) Float32s() []float32 {
	out := make([]float32, 0, t.Size())
	for _, v := range t.F {
		out = append(out, float32(v))
	}
	for _, v := range t.I {
		out = append(out, float32(v))
	}
	return out
}

// Int32s returns whole numbers as int32, which is the type of ids in Euryale. Values of a case fit.
func (t *Tensor) Int32s() []int32 {
	out := make([]int32, 0, t.Size())
	for _, v := range t.I {
		out = append(out, int32(v))
	}
	for _, v := range t.F {
		out = append(out, int32(v))
	}
	return out
}

// Bools returns true where a value is not 0.
func (t *Tensor) Bools() []bool {
	out := make([]bool, 0, t.Size())
	for _, v := range t.Float64s() {
		out = append(out, v != 0)
	}
	return out
}

// readTensor converts a tensor of a file.
func readTensor(f *checkpoints.Safetensors, name string) (*Tensor, error) {
	info, ok := f.Info(name)
	if !ok {
		return nil, fmt.Errorf("%s: no tensor %q", f.Path(), name)
	}
	t := &Tensor{Name: name, Shape: info.Shape, Dtype: info.Dtype}
	var err error
	if info.Dtype.IsFloat() {
		t.F, err = f.Float64s(name)
	} else {
		t.I, err = f.Int64s(name)
	}
	return t, err
}

// values converts what an implementation returned.
func values(got any) ([]float64, error) {
	switch g := got.(type) {
	case []float64:
		return g, nil
	case []float32:
		return widen(g), nil
	case []int32:
		return widen(g), nil
	case []int64:
		return widen(g), nil
	case []int:
		return widen(g), nil
	case []uint8:
		return widen(g), nil
	case []bool:
		out := make([]float64, len(g))
		for i, v := range g {
			if v {
				out[i] = 1
			}
		}
		return out, nil
	case float64:
		return []float64{g}, nil
	case float32:
		return []float64{float64(g)}, nil
	}
	return nil, fmt.Errorf("values of type %T cannot be compared", got)
}

func widen[T float32 | int32 | int64 | int | uint8](in []T) []float64 {
	out := make([]float64, len(in))
	for i, v := range in {
		out[i] = float64(v)
	}
	return out
}
