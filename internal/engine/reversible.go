package engine

import (
	"fmt"
	"slices"

	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// Branch builds one side of a residual: nodes from a stream x to a result of the same type.
type Branch func(x *Node) *Node

// ReversibleBlock is y1 = x1 + F(x2), y2 = x2 + G(y1).
type ReversibleBlock struct{ F, G Branch }

// Reversible adds a stack of reversible residual blocks over two streams of one type (Gomez et al. 2017, The Reversible
// Residual Network, section 3; Kitaev et al. 2020, Reformer, section 3). See ReversibleHalves.
func Reversible(x1, x2 *Node, blocks ...ReversibleBlock) (y1, y2 *Node, err error) {
	halves := make([]Branch, 0, 2*len(blocks))
	for _, b := range blocks {
		halves = append(halves, b.F, b.G)
	}
	return ReversibleHalves(x1, x2, 0, halves...)
}

// ReversibleHalves adds reversible residuals one by one: of two streams of one type the first becomes itself plus a branch of the second,
// then the second itself plus a branch of the first, and so on in turn, any number of them. A block of Reversible is two of them, a layer with
// attention on another sequence three.
//
// The gradient starts from y1 and y2 and computes the streams back, as a stream before a half is what it is after it less the branch, so
// memory for activations does not grow with depth; it costs one more forward pass. Branches are called once. Their operations are
// applied again with the same parameters in the backward pass, so that counter-based dropout repeats itself. Results that are
// no floating-point numbers (buckets, chosen indices) are kept instead: computed again they could fall the other way. Whatever
// float nodes branches read besides their stream get a gradient: parameters, an encoder's output, also when they share them. What of a branch's
// inner nodes is read outside, as the sums that state is updated by, is a result of the forward pass alone; a term of the loss has its gradient within
// the branch (layers.Builder.AddLoss).
// Streams that are computed back differ from the first ones by rounding, so gradients do, too. anchors > 0 keeps the streams as they were
// before the first half and after every so many, and goes on from those; with 1, or 2 where halves are even in number, gradients have the
// bits of a stack that keeps everything, unless halves share weights. 0 keeps none.
func ReversibleHalves(x1, x2 *Node, anchors int, halves ...Branch) (y1, y2 *Node, err error) {
	if x1 == nil || x2 == nil {
		return nil, nil, fmt.Errorf("reversible: a stream is missing")
	}
	t := TypeOf(x1)
	if u := TypeOf(x2); !t.IsFloat() || t.Dtype != u.Dtype || !t.Shape.Eq(u.Shape) {
		return nil, nil, fmt.Errorf("reversible: streams are %v and %v: they must be of one floating-point type", t, u)
	}
	if len(halves) == 0 {
		return x1, x2, nil
	}
	op := &reversible{t: t}
	y := [2]*Node{x1, x2}
	for i, h := range halves {
		var kept [2]*Node
		if anchors > 0 && i%anchors == 0 {
			kept = y
		}
		r, err := record(h, y[1-i%2], t)
		if err == nil {
			y[i%2], err = Add(y[i%2], r.out)
		}
		if err != nil {
			return nil, nil, fmt.Errorf("reversible: half %d: %w", i, err)
		}
		op.halves, op.kept = append(op.halves, r), append(op.kept, kept)
	}
	op.params = op.reads()
	in := append(Nodes{y[0], y[1], x1, x2}, op.params...)
	both, err := Apply(op, in...)
	if err != nil {
		return nil, nil, err
	}
	return op.streams(both)
}

// Inverse computes the streams x1 and x2 back from y1, y2 of Reversible, given y1, by the same operations as the gradient does.
func Inverse(y1 *Node) (x1, x2 *Node, err error) {
	kids := Children(y1)
	if len(kids) == 1 {
		if op, ok := OpOf(kids[0]).(*reversible); ok {
			y, err := op.back(kids[0], nil)
			return y[0], y[1], err
		}
	}
	return nil, nil, fmt.Errorf("reversible: %v is no stream of a reversible stack", y1)
}

// recording is what a branch built.
type recording struct {
	x, out *Node
	inner  Nodes           // nodes that the branch made, by rising id
	kids   map[*Node]Nodes // their inputs
	params Nodes           // float nodes that they read besides x, which were there before or are inputs of the graph
}

func record(b Branch, x *Node, t Type) (recording, error) {
	all := x.Graph().AllNodes()
	last := all[len(all)-1].ID() // before the branch
	out := b(x)
	if out == nil {
		return recording{}, fmt.Errorf("a branch returned no node")
	}
	if u := TypeOf(out); u.Dtype != t.Dtype || !u.Shape.Eq(t.Shape) {
		return recording{}, fmt.Errorf("a branch of %v returned %v", t, u)
	}
	r := recording{x: x, out: out, kids: map[*Node]Nodes{}}
	order, kids := below(Nodes{out}, func(n *Node) bool { return n.ID() <= last })
	inner := map[*Node]bool{x: true}
	for _, n := range order {
		// What does not depend on x is computed again, too: keys and values of a memory, say, would else be kept for every layer.
		if n.ID() > last && len(kids[n]) > 0 {
			inner[n] = true
			r.inner = append(r.inner, n)
			r.kids[n] = kids[n]
		}
	}
	seen := map[*Node]bool{}
	note := func(n *Node) {
		if !inner[n] && !seen[n] && TypeOf(n).IsFloat() && !isConstant(n) {
			seen[n] = true
			r.params = append(r.params, n)
		}
	}
	for _, n := range r.inner {
		for _, c := range kids[n] {
			note(c)
		}
	}
	note(out) // a branch may not depend on x at all
	slices.SortFunc(r.params, byID)
	return r, nil
}

// at applies the branch again, to another x.
func (r recording) at(x *Node) (*Node, error) {
	m := map[*Node]*Node{r.x: x}
	for _, n := range r.inner {
		if !TypeOf(n).IsFloat() {
			continue
		}
		in := slices.Clone(r.kids[n])
		for i, c := range in {
			if d := m[c]; d != nil {
				in[i] = d
			}
		}
		var err error
		from := len(n.Graph().AllNodes())
		if op := OpOf(n); op != nil {
			m[n], err = Apply(op, in...)
		} else {
			m[n], err = gorgonia.ApplyOp(n.Op(), in...)
		}
		if err != nil {
			return nil, err
		}
		mark(n.Graph(), from, n, rebuilt)
	}
	if y := m[r.out]; y != nil {
		return y, nil
	}
	return r.out, nil
}

// reversible packs y1 and y2 of a stack into [2, size]. Its inputs are y1, y2, x1, x2 and what the branches read; it has
// gradients for all but the first two, which are there for their values.
type reversible struct {
	t      Type
	halves []recording
	kept   [][2]*Node // the streams before each half, where they are kept
	params Nodes
}

var (
	_ Reader     = (*reversible)(nil)
	_ Differ     = (*reversible)(nil)
	_ recomputer = (*reversible)(nil)
	_ gatherer   = (*reversible)(nil)
)

// reads collects the nodes that the branches read besides the streams.
func (o *reversible) reads() (ps Nodes) {
	seen := map[*Node]bool{}
	for _, r := range o.halves {
		for _, p := range r.params {
			if !seen[p] {
				seen[p] = true
				ps = append(ps, p)
			}
		}
	}
	slices.SortFunc(ps, byID)
	return ps
}

func (*reversible) Name() string { return "reversible" }

func (o *reversible) Infer([]Type) (Type, error) {
	return Type{o.t.Dtype, tensor.Shape{2, o.t.Size()}}, nil
}

func (o *reversible) Reads() []bool {
	r := make([]bool, 4+len(o.params))
	r[0], r[1] = true, true
	return r
}

func (o *reversible) DiffWRT() []bool {
	r := make([]bool, 4+len(o.params))
	for i := 2; i < len(r); i++ {
		r[i] = true
	}
	return r
}

func (o *reversible) gather() []int { return []int{0, o.t.Size()} }

func (o *reversible) Run(out Value, in []Value) error {
	return join{offsets: o.gather()}.Run(out, in[:2])
}

func (o *reversible) Diff(in Nodes, out, dout *Node) (Nodes, error) {
	return o.diffWith(in, out, dout, nil)
}

// streams are y1 and y2 of what the operation gives.
func (o *reversible) streams(both *Node) (y1, y2 *Node, err error) {
	if y1, err = View(both, 0, o.t.Shape...); err != nil {
		return nil, nil, err
	}
	y2, err = View(both, o.t.Size(), o.t.Shape...)
	return y1, y2, err
}

func (o *reversible) diffWith(in Nodes, out, dout *Node, r *Recompute) (Nodes, error) {
	n := o.t.Size()
	ds, err := Parts(dout, n, n)
	if err != nil {
		return nil, err
	}
	for i := range ds {
		if ds[i] == nil {
			ds[i] = Zeros(out.Graph(), o.t)
		} else if ds[i], err = shaped(ds[i], o.t.Shape); err != nil {
			return nil, err
		}
	}
	inner := inBranch(r)
	grads := make(map[*Node]*Node, len(o.params))
	if _, err := o.back(out, func(r recording, f, arg *Node, a int) error {
		return r.gradient(f, arg, ds[a], &ds[1-a], grads, inner)
	}); err != nil {
		return nil, err
	}
	res := append(make(Nodes, 0, len(in)), nil, nil, ds[0], ds[1])
	for _, p := range o.params {
		res = append(res, grads[p])
	}
	return res, nil
}

// back walks from the last half to the first. Of each it applies the branch again, to arg, calls visit, if not nil, with the result f that the half
// added to stream a, and takes that away. It returns the streams before the first half.
func (o *reversible) back(out *Node, visit func(r recording, f, arg *Node, a int) error) (y [2]*Node, err error) {
	if y[0], y[1], err = o.streams(out); err != nil {
		return y, err
	}
	for i := len(o.halves) - 1; i >= 0; i-- {
		a, r := i%2, o.halves[i]
		if was := o.kept[i][1-a]; was != nil { // a half leaves the stream that it reads as it is
			y[1-a] = was
		}
		f, err := r.at(y[1-a])
		if err != nil {
			return y, err
		}
		before := o.kept[i][a]
		if before == nil {
			if before, err = Sub(y[a], f); err != nil {
				return y, err
			}
		}
		y[a] = before
		if visit != nil {
			if err := visit(r, f, y[1-a], a); err != nil {
				return y, err
			}
		}
	}
	return y, nil
}

// gradient runs that of f, the branch at arg, for the gradient d: into that of arg, and of what the branch reads.
func (r recording) gradient(f, arg, d *Node, darg **Node, grads map[*Node]*Node, rec *Recompute) error {
	wrt := append(Nodes{arg}, r.params...)
	cut := make(map[*Node]bool, len(wrt))
	for _, n := range wrt {
		cut[n] = true
	}
	gs, err := vjp(Nodes{f}, Nodes{d}, wrt, rec, cut)
	if err != nil {
		return err
	}
	if *darg, err = Add(*darg, gs[0]); err != nil {
		return err
	}
	for i, p := range r.params {
		if grads[p] == nil {
			grads[p] = gs[i+1]
		} else if grads[p], err = Add(grads[p], gs[i+1]); err != nil {
			return err
		}
	}
	return nil
}

// inBranch is the recomputation inside a branch, whose nodes are copies of those that the rules are about.
func inBranch(r *Recompute) *Recompute {
	if r == nil {
		return nil
	}
	s := &Recompute{Cheap: r.Cheap}
	if r.Block != nil {
		s.Block = func(n *Node) int { return r.Block(Origin(n)) }
	}
	if r.Keep != nil {
		s.Keep = func(n *Node) bool { return r.Keep(Origin(n)) }
	}
	return s
}
