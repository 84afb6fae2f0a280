package layers

import (
	"fmt"

	"gorgonia.org/tensor"
)

// AxialConfig describes axial positions.
type AxialConfig struct {
	Shape  []int // sizes of the axes, the last one running fastest: as many positions as their product
	Widths []int // of the axes' vectors, which stand side by side
	First  int   // position of the first token
	Count  int   // of tokens
	Init   Init  // nil is Normal(1)
}

// AxialPositions makes the vectors of Count positions: with two axes of sizes n1 and n2
//
//	E[p] = [E1[p / n2] ; E2[p mod n2]]
//
// Shapes: -> [Count, ΣWidths], for AddPositions. Parameters: "weights.0" [n1, 1, d1], "weights.1" [1, n2, d2] and so on.
// Cost: one pass over the result; n1·d1 + n2·d2 numbers in place of n1·n2·(d1 + d2).
// Source: Kitaev, Kaiser, Levskaya 2020, arXiv 2001.04451, official code; names and shapes of weights from transformers.
// Errors: more tokens than there are positions; another number of widths than of axes.
func AxialPositions(b *Builder, c AxialConfig) *Node {
	if b.Err() != nil {
		return nil
	}
	room := 1
	for _, n := range c.Shape {
		room *= n
	}
	if len(c.Shape) == 0 || len(c.Shape) != len(c.Widths) || c.First < 0 || c.Count < 1 || c.First+c.Count > room {
		return b.Failf("axial positions: %d tokens from position %d, widths %v, axes %v with %d positions", c.Count, c.First, c.Widths, c.Shape, room)
	}
	var parts Nodes
	each := room
	for axis, n := range c.Shape {
		each /= n
		places := make([]int32, c.Count)
		for t := range places {
			places[t] = int32((c.First + t) / each % n)
		}
		shape := make([]int, len(c.Shape)+1)
		for i := range shape {
			shape[i] = 1
		}
		shape[axis], shape[len(c.Shape)] = n, c.Widths[axis]
		table := b.Param(fmt.Sprint("weights.", axis), initOr(c.Init, Normal(1)), shape...)
		ids := b.Const(fmt.Sprint("axial.", c.Shape, ".", axis, ".", c.First, ".", c.Count), tensor.New(tensor.WithShape(c.Count), tensor.WithBacking(places)))
		parts = append(parts, Lookup(b, Reshape(b, table, n, c.Widths[axis]), ids))
	}
	if len(parts) == 1 {
		return parts[0]
	}
	return Concat(b, 1, parts...)
}
