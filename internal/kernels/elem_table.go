package kernels

import "unsafe"

// elemTable holds the inner loops of everything elementwise and row-wise for one element type: plain Go for both types, assembly
// for float32. All slices of a call have the length of the first (or rows*d); outputs may be inputs where the exported function
// says so. Nothing here is parallel.
type elemTable[F Float] struct {
	act     [numActivations]func(x, y []F)
	actGrad [numActivations]func(x, dy, dx []F)

	exp, exp2   func(x, y []F)
	add, mul    func(x, y, out []F)
	axpy, scale func(alpha F, x, y []F)
	addRow      func(rows, d int, x, row, y []F)

	colSum func(rows, d int, x []F, ldx int, out []F) // adds to out
	sum    func(x []F) float64
	sumSq  func(x []F) float64
	finite func(x []F) bool

	layerNorm     func(rows, d int, x, w, b, y []F, eps F)
	layerNormGrad func(rows, d int, x, w, dy, more []F, ldMore int, dx, dw, db []F, eps F) // adds to dw, db; ldMore may be 0
	rmsNorm       func(rows, d int, x, w, y []F, eps F)
	rmsNormGrad   func(rows, d int, x, w, dy, more []F, ldMore int, dx, dw []F, eps F) // adds to dw

	maxOf          func(x []F) F          // -Inf if empty; NaN may be overlooked
	expSub         func(x, y []F, m F) F  // y = exp(x-m), returns its sum
	sumExp         func(x []F, m F) F     // sum exp(x-m)
	subSub         func(x, y []F, m, l F) // y = x - m - l
	softmaxGrad    func(y, dy, dx []F)    // one row
	logSoftmaxGrad func(y, dy, dx []F)    // one row

	adamW   func(p, m, v, g []F, c *[numAdamW]F)
	dropout func(x, y []F, key, pair uint64, drop uint32, scale F)
	rope    func(x, y, cos, sin []F, sign F) // pairs (x[i], y[i]) in place
}

// elemKernels is the part of a set of float32 kernels that this file's functions use.
type elemKernels = elemTable[float32]

var (
	elemGo64 = newElemGeneric[float64]()
	elemGo32 = newElemGeneric[float32]()
)

// elemGeneric returns the part of the generic set.
func elemGeneric() elemKernels { return elemGo32 }

// elem returns the kernels in use for F.
func elem[F Float]() *elemTable[F] {
	if unsafe.Sizeof(F(0)) == 8 {
		return (*elemTable[F])(unsafe.Pointer(&elemGo64))
	}
	return (*elemTable[F])(unsafe.Pointer(&kn.elemKernels))
}
