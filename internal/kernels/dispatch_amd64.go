//go:build amd64 && !noasm

package kernels

import "golang.org/x/sys/cpu"

// nativeSets returns the assembly sets that the CPU and the operating system support, best first.
func nativeSets() []*set {
	var s []*set
	if !cpu.X86.HasAVX2 || !cpu.X86.HasFMA {
		return nil
	}
	if cpu.X86.HasAVX512F && cpu.X86.HasAVX512DQ && cpu.X86.HasAVX512BW && cpu.X86.HasAVX512VL {
		s = append(s, &set{"avx512", gemmAVX512(), elemAVX512(), attnAVX512()})
	}
	return append(s, &set{"avx2", gemmAVX2(), elemAVX2(), attnAVX2()})
}
