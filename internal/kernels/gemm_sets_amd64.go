//go:build amd64 && !noasm

package kernels

func gemmAVX2() gemmKernels[float32] {
	return gemmKernels[float32]{
		nr: 16, kc: 512, kcLong: 256, mc: 96, nb: 256, keepB: 1 << 18, copyA: true,
		strips:     [5]stripFn[float32]{1: strip16AVX2},
		stripAhead: stripAhead16AVX2,
		packRows:   packRowsAVX2,
		packT16:    packT16AVX2,
		packRows12: packRows12AVX2,
		dotRows:    dotRowsAVX2,
		axpyRows:   axpyRowsAVX2,
	}
}

func gemmAVX512() gemmKernels[float32] {
	return gemmKernels[float32]{
		nr: 64, kc: 512, kcLong: 128, mc: 96, nb: 256, keepB: 1 << 18,
		strips:     [5]stripFn[float32]{1: strip16AVX512, 2: strip32AVX512, 4: strip64AVX512},
		stripAhead: stripAhead64AVX512,
		packRows:   packRowsAVX512,
		packT16:    packT16AVX512,
		packRows12: packRows12AVX512,
		dotRows:    dotRowsAVX512,
		axpyRows:   axpyRowsAVX512,
	}
}
