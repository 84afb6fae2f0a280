package attention

import (
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/layers"
)

// Attention on chosen keys, and the choice of keys, have the same bits whatever the number of workers.
func TestChoicesOfWorkers(t *testing.T) {
	procs := runtime.GOMAXPROCS(0)
	defer runtime.GOMAXPROCS(procs)
	const n = 331
	self := choiceCase{b: 1, tq: n, tk: n, heads: 2, d: 8, dv: 8}
	s := sortedCase{choiceCase: self, Sorted: Sorted{ChunkQ: 32, Before: 1, Causal: true, Others: true, Once: true}, rounds: 3, groups: 2}
	s.prepare()
	keys := drawKeys(&self, 2, 9)
	cases := map[string]func(b *layers.Builder, c Chosen, q, k, v *Node) (*Node, *Node){
		"rounds": s.add,
		"by slot": func(b *layers.Builder, c Chosen, q, k, v *Node) (*Node, *Node) {
			order := make([]int32, 0, 4*n)
			for l := range 4 {
				for i := range n {
					if i%4 != l {
						order = append(order, int32(i))
					}
				}
				for len(order)%n != 0 {
					order = append(order, -1)
				}
			}
			return AttendSorted(b, Sorted{Chosen: c, OrderQ: keysNode(b, "order", order, 1, 1, 4*n), ChunkQ: n, Causal: true, Slots: true}, q, k, v)
		},
		"lists": func(b *layers.Builder, c Chosen, q, k, v *Node) (*Node, *Node) {
			return AttendChosen(b, c, keysNode(b, "keys", keys, 1, 2, n, 9), q, k, v)
		},
		"the best": func(b *layers.Builder, c Chosen, q, k, v *Node) (*Node, *Node) {
			return AttendChosen(b, c, TopKeys(b, TopK{K: 7, Causal: true}, c, nil, q, k), q, k, v)
		},
		"cells": func(b *layers.Builder, c Chosen, q, k, v *Node) (*Node, *Node) {
			return AttendChosen(b, c, FoundKeys(b, MIPS{K: 7, Rerank: true}, c, q, k), q, k, v)
		},
		"hashes": func(b *layers.Builder, c Chosen, q, k, v *Node) (*Node, *Node) {
			return AttendChosen(b, c, FoundKeys(b, MIPS{K: 7, Index: HashL2ALSH}, c, q, k), q, k, v)
		},
	}
	for name, add := range cases {
		c := self
		c.add = add
		g := c.build(t, tensor.Float32).g
		runtime.GOMAXPROCS(1)
		one := g.run(t)
		runtime.GOMAXPROCS(max(2, procs))
		require.Equal(t, one, g.run(t), name)
	}
}
