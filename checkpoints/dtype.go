package checkpoints

import "math"

// Dtype is an element type under its safetensors name.
type Dtype string

// Element types of the safetensors format. F8 and C64 can be listed and copied, not converted.
const (
	F64    Dtype = "F64"
	F32    Dtype = "F32"
	F16    Dtype = "F16"
	BF16   Dtype = "BF16"
	I64    Dtype = "I64"
	I32    Dtype = "I32"
	I16    Dtype = "I16"
	I8     Dtype = "I8"
	U64    Dtype = "U64"
	U32    Dtype = "U32"
	U16    Dtype = "U16"
	U8     Dtype = "U8"
	Bool   Dtype = "BOOL"
	F8E4M3 Dtype = "F8_E4M3"
	F8E5M2 Dtype = "F8_E5M2"
	C64    Dtype = "C64"
)

// Size is the number of bytes of one element, 0 for an unknown type.
func (d Dtype) Size() int {
	switch d {
	case F64, I64, U64, C64:
		return 8
	case F32, I32, U32:
		return 4
	case F16, BF16, I16, U16:
		return 2
	case I8, U8, Bool, F8E4M3, F8E5M2:
		return 1
	}
	return 0
}

// IsFloat reports whether values of this type are floating point numbers that Float32s and Float64s convert.
func (d Dtype) IsFloat() bool { return d == F64 || d == F32 || d == F16 || d == BF16 }

// halfToFloat32 converts an IEEE 754 binary16 number, exactly; NaN keeps its payload.
func halfToFloat32(h uint16) float32 {
	sign := uint32(h>>15) << 31
	exp := uint32(h>>10) & 31
	frac := uint32(h) & 1023
	switch {
	case exp == 31:
		return math.Float32frombits(sign | 0xff<<23 | frac<<13)
	case exp != 0:
		return math.Float32frombits(sign | (exp+112)<<23 | frac<<13)
	}
	v := float32(frac) * (1.0 / (1 << 24)) // subnormal: exact in float32
	return math.Float32frombits(sign | math.Float32bits(v))
}

// bfloatToFloat32 converts a bfloat16 number, exactly.
func bfloatToFloat32(h uint16) float32 { return math.Float32frombits(uint32(h) << 16) }
