package engine

// Recompute says which forward values a VJP computes again instead of keeping them until they are used. Both rules combine.
// Results are the same to the bit. Operations of Gorgonia itself are always kept.
type Recompute struct {
	// Cheap rebuilds the results of operations that are marked Cheap from their inputs, right where a gradient reads them.
	Cheap bool
	// Block, if set, tells the block of a forward node, 0 for none. Of a block only what nodes outside of it read is kept; the
	// rest is rebuilt from the values that enter the block, once, when the first gradient in the block needs it.
	Block func(*Node) int
	// Keep, if set, excepts nodes from both rules.
	Keep func(*Node) bool
}

// rebuilder makes the copies of forward nodes for one VJP.
type rebuilder struct {
	Recompute
	kept map[*Node]bool
	// chain holds copies that other copies are computed from, late those that gradients read; they differ only for cheap
	// nodes inside a block, which are dropped again in between.
	chain, late map[*Node]*Node
}

func newRebuilder(r *Recompute, outs, wrt, order Nodes, kids map[*Node]Nodes) *rebuilder {
	if r == nil || !r.Cheap && r.Block == nil {
		return nil
	}
	b := &rebuilder{*r, make(map[*Node]bool, len(order)), map[*Node]*Node{}, map[*Node]*Node{}}
	block := b.Block
	b.Block = func(n *Node) int {
		if block == nil {
			return 0
		}
		// a view without a block of its own belongs to what it shows
		for {
			v, ok := OpOf(n).(Viewer)
			if k := block(n); k != 0 || !ok {
				return k
			}
			i, _ := v.View()
			n = Children(n)[i]
		}
	}
	leaves := map[*Node]bool{} // leaves the block it is in
	for _, ns := range []Nodes{outs, wrt} {
		for _, n := range ns {
			leaves[n] = true
		}
	}
	for i := len(order) - 1; i >= 0; i-- {
		n := order[i]
		_, viewed := OpOf(n).(Viewer)
		for _, c := range kids[n] {
			// a view that leaves keeps the memory that it shows
			if b.Block(c) != b.Block(n) || viewed && leaves[n] {
				leaves[c] = true
			}
		}
	}
	for _, n := range order { // inputs first
		b.kept[n] = b.keeps(n, leaves[n], kids[n])
	}
	return b
}

func (b *rebuilder) keeps(n *Node, leaves bool, kids Nodes) bool {
	op := OpOf(n)
	if op == nil || len(kids) == 0 || b.Keep != nil && b.Keep(n) {
		return true
	}
	if v, ok := op.(Viewer); ok {
		i, _ := v.View()
		return b.kept[kids[i]]
	}
	if b.Block(n) != 0 {
		return leaves
	}
	_, cheap := op.(Cheap)
	return !(b.Cheap && cheap)
}

// at returns the inputs and the result of a node as its gradient shall read them.
func (b *rebuilder) at(n *Node, kids Nodes) (in Nodes, out *Node, err error) {
	if b == nil {
		return kids, n, nil
	}
	in = make(Nodes, len(kids))
	for i, c := range kids {
		if in[i], err = b.get(c, true); err != nil {
			return nil, nil, err
		}
	}
	out, err = b.get(n, true)
	return in, out, err
}

// get returns a node that has the value of n: n itself or a copy. late: for a gradient to read.
func (b *rebuilder) get(n *Node, late bool) (*Node, error) {
	if kept, known := b.kept[n]; kept || !known {
		return n, nil
	}
	late = late && b.cheap(n)
	memo := b.chain
	if late {
		memo = b.late
	}
	if c := memo[n]; c != nil {
		return c, nil
	}
	in := Children(n)
	for i, c := range in {
		var err error
		if in[i], err = b.get(c, late); err != nil {
			return nil, err
		}
	}
	from := len(n.Graph().AllNodes())
	c, err := Apply(OpOf(n), in...)
	if err != nil {
		return nil, err
	}
	mark(n.Graph(), from, n, rebuilt)
	memo[n] = c
	return c, nil
}

// cheap: a copy may be made for every reader. A view is as cheap as what it shows.
func (b *rebuilder) cheap(n *Node) bool {
	if !b.Cheap {
		return false
	}
	op := OpOf(n)
	if v, ok := op.(Viewer); ok {
		i, _ := v.View()
		c := Children(n)[i]
		return !b.kept[c] && b.cheap(c)
	}
	_, ok := op.(Cheap)
	return ok
}
