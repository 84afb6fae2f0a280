//go:build unix

package kernels

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// Nothing outside the elements of an operand is read or written, at either end: the process would die of it.
func TestAttentionStaysInside(t *testing.T) {
	eachAttnSet(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(1, 3))
		for _, n := range []int{1, 7, 64, 65, 131} {
			for _, d := range []int{8, 24, 64} {
				for _, front := range []bool{false, true} {
					l, err := NewLayout(n, n, nil, func(qt, kt int, mask *[Tile]uint64) TileKind {
						for r := range mask {
							mask[r] = ^uint64(0) >> (r % 50)
						}
						return TilePartial
					})
					require.NoError(t, err)
					const h = 2
					c := h * d
					of := func(x []float32, part, parts int) Rows[float32] { return Rows[float32]{x[part*c:], 0, parts * c, d} }
					qkv, dqkv := guarded(t, rng, 3*n*c, front), guarded(t, rng, 3*n*c, front)
					o, dO := guarded(t, rng, n*c, front), guarded(t, rng, n*c, front)
					a := Attention[float32]{B: 1, H: h, TQ: n, TK: n, D: d, DV: d, Scale: 0.2, Layouts: []*Layout{l},
						Q: of(qkv, 0, 3), K: of(qkv, 1, 3), V: of(qkv, 2, 3), O: of(o, 0, 1), LSE: guarded(t, rng, h*n, front)}
					require.NoError(t, a.Forward())
					dLSE := guarded(t, rng, h*n, front)
					require.NoError(t, a.Backward(of(dO, 0, 1), dLSE, of(dqkv, 0, 3), of(dqkv, 1, 3), of(dqkv, 2, 3)))

					e, err := NewEdges(n, n, func(i int, keys []int32) []int32 {
						for j := i % 5; j < n; j += 1 + i%3 {
							keys = append(keys, int32(j))
						}
						return keys
					})
					require.NoError(t, err)
					e, err = e.Labelled(7, func(i, j int) int { return (i + j) % 7 })
					require.NoError(t, err)
					a.Layouts, a.Edges = nil, []*Edges{e}
					a.R = Rows[float32]{Data: guarded(t, rng, 7*d, front), Row: d}
					a.DR = Rows[float32]{Data: guarded(t, rng, 7*d, front), Row: d}
					require.NoError(t, a.Forward())
					require.NoError(t, a.Backward(of(dO, 0, 1), dLSE, of(dqkv, 0, 3), of(dqkv, 1, 3), of(dqkv, 2, 3)))

					s, err := NewLabels(l, 7, false, func(i, j int) int { return (i + j) % 7 })
					require.NoError(t, err)
					a.Layouts, a.Edges, a.Labels = []*Layout{l}, nil, []*Labels{s}
					require.NoError(t, a.Forward())
					require.NoError(t, a.Backward(of(dO, 0, 1), dLSE, of(dqkv, 0, 3), of(dqkv, 1, 3), of(dqkv, 2, 3)))
				}
			}
		}
	})
}
