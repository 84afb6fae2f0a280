package kernels

import (
	"math"
	"unsafe"
)

// attnKernels are the attention kernels of a set.
type attnKernels struct{ attn attnTable[float32] }

func attnGeneric() attnKernels { return attnKernels{attnGo32} }

// attnKernelsFor returns the kernels for heads of d and dv channels: those in assembly want multiples of 8.
func attnKernelsFor[F Float](d, dv int) *attnTable[F] {
	switch {
	case unsafe.Sizeof(F(0)) == 8:
		return (*attnTable[F])(unsafe.Pointer(&attnGo64))
	case d%8 != 0 || dv%8 != 0:
		return (*attnTable[F])(unsafe.Pointer(&attnGo32))
	}
	return (*attnTable[F])(unsafe.Pointer(&kn.attn))
}

// logSum32 is log(l 2^m) to float32 accuracy; l is at least 1, or NaN. A short series is an order of magnitude faster than
// the library's.
func logSum32(m, l float32) float32 {
	if !(l >= 1 && l <= math.MaxFloat32) {
		return float32((float64(m) + math.Log2(float64(l))) * math.Ln2)
	}
	b := math.Float32bits(l)
	e := int32(b>>23) - 127
	x := float64(math.Float32frombits(b&0x7fffff | 0x3f800000))
	if x > math.Sqrt2 {
		x *= 0.5
		e++
	}
	z := (x - 1) / (x + 1)
	z2 := z * z
	return float32((float64(m)+float64(e))*math.Ln2 + 2*z*(1+z2*(1./3+z2*(1./5+z2*(1./7+z2*(1./9+z2*(1./11)))))))
}
