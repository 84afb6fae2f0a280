//go:build amd64 && !noasm

package kernels

func elemAVX2() elemKernels   { return elemGeneric() }
func elemAVX512() elemKernels { return elemGeneric() }
