// Package kernels holds the inner loops of Euryale, for float32 in assembly where the CPU allows it and for float32 and
// float64 in plain Go.
package kernels

// Float is a type that the kernels compute in.
type Float interface{ float32 | float64 }
