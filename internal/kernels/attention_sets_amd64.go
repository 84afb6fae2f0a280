//go:build amd64 && !noasm

package kernels

func attnAVX2() attnKernels   { return attnGeneric() }
func attnAVX512() attnKernels { return attnGeneric() }
