//go:build unix

package kernels

import (
	"math/rand/v2"
	"os"
	"syscall"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
)

// guarded returns n random values that end (or, if front, begin) at a page that may not be touched.
func guarded(t *testing.T, rng *rand.Rand, n int, front bool) []float32 {
	page := os.Getpagesize()
	size := roundUp(max(4*n, 1), page)
	mem, err := syscall.Mmap(-1, 0, size+2*page, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, syscall.Munmap(mem)) })
	require.NoError(t, syscall.Mprotect(mem[:page], syscall.PROT_NONE))
	require.NoError(t, syscall.Mprotect(mem[page+size:], syscall.PROT_NONE))
	at := page
	if !front {
		at += size - 4*n
	}
	x := unsafe.Slice((*float32)(unsafe.Pointer(&mem[at])), n)
	for i := range x {
		x[i] = float32(rng.NormFloat64())
	}
	return x
}

// No operand is read or written outside its elements: the process would die of it.
func TestGemmStaysInside(t *testing.T) {
	forSets(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(1, 3))
		gemmShapes(func(c gemmCase) {
			if c.m*c.n*c.k > 1<<22 {
				return
			}
			for _, front := range []bool{false, true} {
				t.Run(c.String(), func(t *testing.T) {
					lda, ldb := c.k+c.padA, c.n+c.padB
					if c.transA {
						lda = c.m + c.padA
					}
					if c.transB {
						ldb = c.k + c.padB
					}
					size := func(trans bool, rows, cols, ld int) int {
						if trans {
							rows, cols = cols, rows
						}
						return max(0, (rows-1)*ld+cols)
					}
					a := guarded(t, rng, size(c.transA, c.m, c.k, lda), front)
					b := guarded(t, rng, size(c.transB, c.k, c.n, ldb), front)
					ldc := c.n + c.padC
					Gemm(c.transA, c.transB, c.m, c.n, c.k, a, lda, b, ldb, guarded(t, rng, (c.m-1)*ldc+c.n, front), ldc, c.accumulate, nil)
				})
			}
		})
	})
}
