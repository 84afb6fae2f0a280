package kernels

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

const hugePage = 2 << 20

// AdviseHugePages asks for large pages for memory that was not touched yet: long activations are walked in strides for which the
// TLB has too few small ones. It is advice; a system that does not take it works all the same.
func AdviseHugePages(m []byte) {
	if len(m) < hugePage {
		return
	}
	skip := int(-uintptr(unsafe.Pointer(&m[0])) & (hugePage - 1))
	if len(m) < skip+hugePage {
		return
	}
	_ = unix.Madvise(m[skip:skip+(len(m)-skip)&^(hugePage-1)], unix.MADV_HUGEPAGE)
}
