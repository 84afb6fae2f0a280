package attention

import (
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/layers"
)

// A last resort gives empty rows their values, and their gradients to these.
func TestLastResort(t *testing.T) {
	for name, among := range map[string]func(b *layers.Builder) *Node{
		"all":     func(*layers.Builder) *Node { return nil },
		"lengths": func(b *layers.Builder) *Node { return keysNode(b, "among", []int32{7, 3}, 2) },
		"tokens": func(b *layers.Builder) *Node {
			return keysNode(b, "among", []int32{1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0}, 2, 1, 7)
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := choiceCase{b: 2, tq: 7, tk: 7, heads: 2, d: 3, dv: 3}
			const width = 3
			keys := drawKeys(&c, 1, width)
			copy(keys[2*width:], []int32{-1, -1, -1})
			copy(keys[12*width:], []int32{-1, -1, -1})
			c.listed(keys, 1, width)
			inner := c.reads
			c.reads = func(b, h, row int) (int, []int) {
				token, list := inner(b, h, row)
				if len(list) == 0 && (name == "all" || b == 0 || row < 3) {
					return token, []int{token} // one key of weight 1
				}
				return token, list
			}
			c.add = func(b *layers.Builder, cfg Chosen, q, k, v *Node) (*Node, *Node) {
				o, lse := AttendChosen(b, cfg, keysNode(b, "keys", keys, c.b, 1, c.tq, width), q, k, v)
				return LastResort(b, o, lse, v, among(b)), lse
			}
			g := c.build(t, tensor.Float64)
			got := g.g.run(t)
			var in [3][]float64
			for i, n := range g.g.in {
				in[i] = numbers(layers.InputValue(n))
			}
			o, _, _ := c.oracle(in[0], in[1], in[2])
			close(t, o, got.o, 1e-12, "o")
			for at := range in[2] {
				in[2][at] += 0.5
				_, _, up := c.oracle(in[0], in[1], in[2])
				in[2][at]--
				_, _, down := c.oracle(in[0], in[1], in[2])
				in[2][at] += 0.5
				require.InDelta(t, up-down, got.grads[2][at], 1e-12) // linear in v
			}
			for i := range 2 { // of q and k as if those rows were not
				none := c
				none.reads = inner
				close(t, none.bare(t, keys, width).grads[i], got.grads[i], 1e-12, "gradients of q and k")
			}
		})
	}
}

// bare is a case of lists without anything behind.
func (c choiceCase) bare(t *testing.T, keys []int32, width int) results {
	c.add = func(b *layers.Builder, cfg Chosen, q, k, v *Node) (*Node, *Node) {
		return AttendChosen(b, cfg, keysNode(b, "keys", keys, c.b, 1, c.tq, width), q, k, v)
	}
	return c.build(t, tensor.Float64).g.run(t)
}
