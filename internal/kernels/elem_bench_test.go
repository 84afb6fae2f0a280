package kernels

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// BenchmarkElem times each operation on one core over 64k elements (rows of 256), which stay in the second cache.
func BenchmarkElem(b *testing.B) {
	set := Set()
	defer func() { require.NoError(b, Use(set)) }()
	const rows, d = 256, 256
	c := newCase(rows, d, fresh)
	for i := range c.ids {
		c.ids[i] = int32(i)
	}
	for _, op := range elemOps() {
		for _, set := range Sets() {
			require.NoError(b, Use(set))
			b.Run(op.name+"/"+set, func(b *testing.B) {
				for b.Loop() {
					op.f32(c)
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/(rows*d), "ns/elem")
			})
		}
	}
}

// BenchmarkElemMemory times operations over 64 MB arrays on all cores; the figure is the memory they must move.
func BenchmarkElemMemory(b *testing.B) {
	const rows, d = 65536, 256
	n := rows * d
	x, y, z, w := make([]float32, n), make([]float32, n), make([]float32, n), make([]float32, n)
	v := make([]float32, 2*d)
	for _, op := range []struct {
		name   string
		arrays int // read or written, not counting what a write fetches first
		run    func()
	}{
		{"add", 3, func() { Add(x, y, z) }},
		{"gelu", 2, func() { Act(GELU, x, y) }},
		{"layerNorm", 2, func() { LayerNorm(rows, d, x, v[:d], v[d:], y, 1e-5) }},
		{"layerNormGrad", 3, func() { LayerNormGrad(rows, d, x, v[:d], y, nil, z, v[:d], v[d:], 1e-5) }},
		{"adamW", 7, func() { AdamWStep(AdamW{Beta2: 0.9, Eps: 1, Step: 1}, x, y, z, w) }},
		{"colSum", 1, func() { ColSum(rows, d, x, d, v[:d], false) }},
		{"sumSq", 1, func() { SumSq(x) }},
		{"finite", 1, func() { AllFinite(x) }},
	} {
		b.Run(fmt.Sprint(op.name), func(b *testing.B) {
			b.SetBytes(int64(4 * op.arrays * n))
			for b.Loop() {
				op.run()
			}
		})
	}
}
