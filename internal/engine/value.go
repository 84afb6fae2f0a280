package engine

import (
	"fmt"
	"unsafe"

	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/kernels"
)

// NewValue allocates a zero value of the type: a *gorgonia.F32 or *gorgonia.F64 for a floating-point scalar, else a dense tensor.
func NewValue(t Type) Value {
	if len(t.Shape) == 0 {
		switch t.Dtype {
		case tensor.Float32:
			return gorgonia.NewF32(0)
		case tensor.Float64:
			return gorgonia.NewF64(0)
		}
	}
	return tensor.New(tensor.Of(t.Dtype), tensor.WithShape(t.Shape...))
}

// Floats returns the elements of a float32 or float64 value without copying. F must be the value's type.
func Floats[F kernels.Float](v Value) []F {
	switch v := v.(type) {
	case *tensor.Dense:
		if v.Dtype() == tensor.Float32 {
			s := v.Float32s()
			return *(*[]F)(unsafe.Pointer(&s))
		}
		s := v.Float64s()
		return *(*[]F)(unsafe.Pointer(&s))
	case *gorgonia.F32:
		return unsafe.Slice((*F)(unsafe.Pointer(v)), 1)
	case *gorgonia.F64:
		return unsafe.Slice((*F)(unsafe.Pointer(v)), 1)
	}
	panic(fmt.Sprintf("engine: no floats in a %T", v))
}

// Ints returns the elements of an int32 value without copying.
func Ints(v Value) []int32 { return v.(*tensor.Dense).Int32s() }

// IsF32 reports whether a value is single precision.
func IsF32(v Value) bool { return v.Dtype() == tensor.Float32 }
