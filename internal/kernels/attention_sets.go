package kernels

import "unsafe"

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
