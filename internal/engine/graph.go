package engine

import (
	"slices"

	"gorgonia.org/gorgonia"
)

// role says why a node exists besides the forward pass.
type role uint8

const (
	forward  role = iota
	gradient      // made while the gradient of another node was built
	rebuilt       // a second computation of another node, for its gradient
)

// Children returns the inputs of a node, in order, repeated where an input is used twice.
func Children(n *Node) Nodes {
	it := n.Graph().From(n.ID())
	if it == nil {
		return nil
	}
	r := make(Nodes, 0, it.Len())
	for it.Next() {
		r = append(r, it.Node().(*Node))
	}
	return r
}

// Origin returns the forward node that n belongs to: n itself, or the node whose gradient or rebuilt copy n is.
func Origin(n *Node) *Node {
	for {
		a, ok := n.Op().(*applied)
		if !ok || a.of == nil {
			return n
		}
		n = a.of
	}
}

// mark notes that the nodes added to the graph since it had `from` of them belong to node of.
func mark(g *gorgonia.ExprGraph, from int, of *Node, r role) {
	for _, n := range g.AllNodes()[from:] {
		if a, ok := n.Op().(*applied); ok && a.of == nil && n != of {
			a.of, a.role = of, r
		}
	}
}

// below returns the nodes that roots depend on, roots included, by rising id: inputs come before what reads them.
// It does not look below a node for which stop is true.
func below(roots Nodes, stop func(*Node) bool) (Nodes, map[*Node]Nodes) {
	return walk(roots, func(n *Node) (kids, follow Nodes) {
		if stop == nil || !stop(n) {
			kids = Children(n)
		}
		return kids, kids
	})
}

// walk collects roots and what can be reached from them, by rising id, with the inputs of each. visit tells the inputs of a node
// and which of them to go on to; it is not asked for graph inputs.
func walk(roots Nodes, visit func(*Node) (kids, follow Nodes)) (Nodes, map[*Node]Nodes) {
	kids := map[*Node]Nodes{}
	var order Nodes
	stack := slices.Clone(roots)
	for len(stack) > 0 {
		n := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if _, seen := kids[n]; seen {
			continue
		}
		order = append(order, n)
		kids[n] = nil
		if n.Op() != nil {
			var follow Nodes
			kids[n], follow = visit(n)
			stack = append(stack, follow...)
		}
	}
	slices.SortFunc(order, byID)
	return order, kids
}

func byID(a, b *Node) int { return int(a.ID() - b.ID()) }

func size(n *Node) int { return TypeOf(n).Size() }
