// Package kernels holds the inner loops of Euryale: matrix products, attention over tiles, and everything elementwise. float32
// runs in assembly where the CPU allows it, float64 (and float32 elsewhere) in plain Go that is written once for both.
//
// A set of kernels (avx512, avx2, generic) is chosen at start by the CPU, or by EURYALE_CPU. The assembly is generated: see gen/.
//
// Work is shared out by Par and Phases, in tasks that depend on the shape only, and every sum has a fixed order: a result has the
// same bits for any GOMAXPROCS. It may differ in the last bits between sets. Calls allocate nothing once their buffers have grown,
// and may be made from several goroutines, of which one at a time has the workers.
//
// Slices are dense and row major. The assembly trusts its arguments; the exported functions check theirs and panic, as an index
// out of range would.
package kernels

// Float is a type that the kernels compute in.
type Float interface{ float32 | float64 }
