package engine

import (
	"fmt"

	"gorgonia.org/gorgonia"
)

// VJP adds the nodes of a vector-Jacobian product, reverse mode: for each node of wrt the gradient of sum_i <outs[i], douts[i]>.
// It is the total derivative: what reaches one wrt through another counts for both. A wrt that is not reached gets zeros.
//
// Unlike gorgonia.Grad it keeps nothing on the nodes, so it may be called many times on one graph, for inner nodes too, and
// from inside the Diff of an operation. It differentiates every gorgonia.SDOp. Sums are made in a fixed order, by nodes that
// the plan runs in place. r (nil: nothing) says which forward values the gradient computes again instead of keeping.
func VJP(outs, douts, wrt Nodes, r *Recompute) (Nodes, error) {
	return vjp(outs, douts, wrt, r, nil)
}

// recomputer is an Op whose gradient contains VJPs of its own, which have to know what to compute again.
type recomputer interface {
	diffWith(in Nodes, out, dout *Node, r *Recompute) (Nodes, error)
}

// vjp is VJP without looking below the nodes of cut.
func vjp(outs, douts, wrt Nodes, r *Recompute, cut map[*Node]bool) (Nodes, error) {
	if len(outs) == 0 || len(outs) != len(douts) {
		return nil, fmt.Errorf("vjp: %d outputs with %d gradients", len(outs), len(douts))
	}
	for _, n := range wrt {
		if n == nil {
			return nil, fmt.Errorf("vjp: a node to differentiate by is missing")
		}
	}
	want := make(map[*Node]bool, len(wrt))
	for _, n := range wrt {
		want[n] = true
	}
	order, kids := below(outs, func(n *Node) bool { return cut[n] })
	reach := reaching(order, kids, want)

	sums := map[*Node]*sum{}
	for i, n := range outs {
		if a, b := TypeOf(n), TypeOf(douts[i]); a.Dtype != b.Dtype || !a.Shape.Eq(b.Shape) {
			return nil, fmt.Errorf("vjp: output %d is %v, its gradient %v", i, a, b)
		}
		if err := accumulate(sums, n, douts[i]); err != nil {
			return nil, err
		}
	}
	g := outs[0].Graph()
	again := newRebuilder(r, outs, wrt, order, kids)
	done := make(map[*Node]*Node, len(wrt))
	for i := len(order) - 1; i >= 0; i-- {
		n := order[i]
		s := sums[n]
		if s == nil || !reach[n] {
			continue
		}
		delete(sums, n)
		from := len(g.AllNodes())
		d, err := s.node()
		if err != nil {
			return nil, err
		}
		if want[n] {
			done[n] = d
		}
		if len(kids[n]) == 0 {
			mark(g, from, n, gradient)
			continue
		}
		if err := backward(sums, reach, n, kids[n], d, r, again); err != nil {
			return nil, err
		}
		mark(g, from, n, gradient)
	}
	res := make(Nodes, len(wrt))
	for i, n := range wrt {
		if done[n] == nil {
			done[n] = Zeros(g, TypeOf(n))
		}
		res[i] = done[n]
	}
	return res, nil
}

// reaching finds the nodes whose gradient matters to a wanted one.
func reaching(order Nodes, kids map[*Node]Nodes, want map[*Node]bool) map[*Node]bool {
	reach := make(map[*Node]bool, len(order))
	for _, n := range order {
		if want[n] {
			reach[n] = true
			continue
		}
		op, ok := n.Op().(gorgonia.SDOp)
		if !ok || len(kids[n]) == 0 {
			continue
		}
		for i, d := range op.DiffWRT(len(kids[n])) {
			if d && i < len(kids[n]) && reach[kids[n][i]] {
				reach[n] = true
				break
			}
		}
	}
	return reach
}

// backward adds the gradient nodes of one operation and hands them to its inputs.
func backward(sums map[*Node]*sum, reach map[*Node]bool, n *Node, kids Nodes, d *Node, r *Recompute, again *rebuilder) error {
	op, ok := n.Op().(gorgonia.SDOp)
	if !ok {
		return nil
	}
	diffs := op.DiffWRT(len(kids))
	needed := false
	for i, c := range kids {
		needed = needed || diffs[i] && reach[c]
	}
	if !needed {
		return nil
	}
	in, out, err := again.at(n, kids)
	if err != nil {
		return err
	}
	var ds Nodes
	switch o := OpOf(n).(type) {
	case recomputer:
		ds, err = o.diffWith(in, out, d, r)
	case AddDiffer:
		var more *Node
		if s := sums[kids[0]]; s != nil && reach[kids[0]] {
			more = s.take()
		}
		if ds, err = o.DiffAdd(in, out, d, more); err != nil {
			err = fmt.Errorf("gradient of %s: %w", n.Op(), err)
		}
	default:
		ds, err = op.SymDiff(in, out, d)
	}
	if err != nil {
		return err
	}
	if len(ds) != len(kids) {
		return fmt.Errorf("gradient of %v: %d nodes for %d inputs", op, len(ds), len(kids))
	}
	for i, c := range kids {
		if !diffs[i] || !reach[c] || ds[i] == nil {
			continue
		}
		if err := accumulate(sums, c, ds[i]); err != nil {
			return fmt.Errorf("gradient of %v: input %d: %w", op, i, err)
		}
	}
	return nil
}

// sum is a gradient that is being added up. What comes from views of the node stays in parts until the end, so that disjoint
// parts are joined without additions, and the operation that made a packed node finds them (see Parts).
type sum struct {
	of    *Node
	whole *Node
	parts []term
}

func accumulate(sums map[*Node]*sum, n, d *Node) error {
	s := sums[n]
	if s == nil {
		s = &sum{of: n}
		sums[n] = s
	}
	if j, ok := OpOf(d).(join); ok && len(j.offsets) == 1 {
		p := term{Children(d)[0], j.offsets[0]}
		for i, q := range s.parts {
			if a, b := q.offset, q.offset+size(q.n); a == p.offset && b == a+size(p.n) {
				n, err := shaped(p.n, q.n.Shape())
				if err == nil {
					s.parts[i].n, err = Add(q.n, n)
				}
				return err
			} else if a < p.offset+size(p.n) && p.offset < b {
				return s.add(d)
			}
		}
		s.parts = append(s.parts, p)
		return nil
	}
	return s.add(d)
}

func (s *sum) add(d *Node) error {
	d, err := shaped(d, s.of.Shape())
	if err != nil {
		return err
	}
	if s.whole == nil {
		s.whole = d
		return nil
	}
	s.whole, err = Add(s.whole, d)
	return err
}

// take returns what has been added up so far, to be taken up in the next term: nil if there is nothing, or parts.
func (s *sum) take() *Node {
	n := s.whole
	if n == nil || len(s.parts) > 0 || splits(n, nil) {
		return nil
	}
	s.whole = nil
	return n
}

// node is the finished gradient.
func (s *sum) node() (*Node, error) {
	if len(s.parts) > 0 {
		offsets, parts := make([]int, len(s.parts)), make(Nodes, len(s.parts))
		for i, p := range s.parts {
			offsets[i], parts[i] = p.offset, p.n
		}
		s.parts = nil
		j, err := Join(s.of.Shape(), offsets, parts...)
		if err != nil {
			return nil, err
		}
		if err := s.add(j); err != nil {
			return nil, err
		}
	}
	return s.whole, nil
}
