package engine

import (
	"fmt"
	"math"
	"slices"
	"unsafe"

	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// InPlacers is an InPlacer with a choice: the result may be written over any one of these inputs, tried in order.
type InPlacers interface {
	InPlaces() []int
}

// Reader is an Op whose Run reads only some of its inputs. The others need not be alive any more, nor computed at all.
type Reader interface {
	Reads() []bool
}

// NonFinite marks an Op whose results hold infinities on purpose, such as the log-sum-exp of an empty row. The watch for
// non-finite values then looks for NaN only.
type NonFinite interface {
	NonFinite()
}

// align is the alignment of every buffer in the arena, in bytes: a cache line and the widest vector.
const align = 64

// step is one node of a program.
type step struct {
	node  *Node
	op    Op          // nil: op of Gorgonia itself
	stock gorgonia.Op // set for those
	name  string
	scope string
	kids  []int // steps of the inputs, -1 where the input is not read
	typ   Type
	buf   int // buffer that holds the result
	off   int // where in it, in bytes
	alias bool
	flops float64
	in    []Value
	out   Value
}

// buffer is memory with a lifetime. Views share one, and in-place operations go on using one.
type buffer struct {
	bytes     int
	def, last int            // first and last step that touch it
	bound     unsafe.Pointer // memory of a graph input, not of the arena
	into, at  int            // this is a part of buffer `into` (-1: none), at byte `at`
	offset    int            // in the arena
}

const forever = math.MaxInt

// lay orders the nodes that outputs need and gives each a buffer. share: let buffers die, operate in place, join in place.
func lay(outputs Nodes, o Options, share bool) ([]step, []buffer, error) {
	order, kids := needed(outputs)
	index := make(map[*Node]int, len(order))
	steps := make([]step, len(order))
	for i, n := range order {
		index[n] = i
		s := &steps[i]
		*s = step{node: n, typ: TypeOf(n), scope: scopeOf(n, o.Scope)}
		if n.Op() == nil {
			s.name = "input"
			continue
		}
		if s.op = OpOf(n); s.op == nil {
			s.stock, s.name = n.Op(), fmt.Sprint(n.Op())
		} else {
			s.name = s.op.Name()
		}
		reads := readsOf(s.op)
		for k, c := range kids[n] {
			j, ok := index[c]
			if reads != nil && !reads[k] || !ok {
				j = -1
			}
			s.kids = append(s.kids, j)
		}
		if c, ok := s.op.(Coster); ok {
			in := make([]Type, len(kids[n]))
			for k, c := range kids[n] {
				in[k] = TypeOf(c)
			}
			s.flops = c.Flops(in, s.typ)
		}
	}
	last := lastReads(steps, outputs, index)
	bufs, err := assign(steps, last, share)
	return steps, bufs, err
}

// needed is below, without what is only named as an input and never read.
func needed(outputs Nodes) (Nodes, map[*Node]Nodes) {
	return walk(outputs, func(n *Node) (kids, follow Nodes) {
		kids = Children(n)
		reads := readsOf(OpOf(n))
		if reads == nil {
			return kids, kids
		}
		for i, c := range kids {
			if reads[i] {
				follow = append(follow, c)
			}
		}
		return kids, follow
	})
}

func readsOf(op Op) []bool {
	if r, ok := op.(Reader); ok {
		return r.Reads()
	}
	return nil
}

// lastReads tells for each step when its result is read for the last time, by a view or anything else.
func lastReads(steps []step, outputs Nodes, index map[*Node]int) []int {
	last := make([]int, len(steps))
	for i, s := range steps {
		last[i] = i
		for _, c := range s.kids {
			if c >= 0 {
				last[c] = i
			}
		}
	}
	for _, n := range outputs {
		last[index[n]] = forever
	}
	return last
}

func assign(steps []step, last []int, share bool) ([]buffer, error) {
	var bufs []buffer
	for i := range steps {
		s := &steps[i]
		bytes := s.typ.Size() * int(s.typ.Dtype.Size())
		if s.node.Op() == nil || isConstant(s.node) {
			v, p, err := boundValue(s)
			if err != nil {
				return nil, err
			}
			s.alias, s.out, s.buf = true, v, len(bufs)
			bufs = append(bufs, buffer{bytes: bytes, last: forever, bound: p, into: -1})
			continue
		}
		switch s.typ.Dtype {
		case tensor.Float32, tensor.Float64, tensor.Int32:
		default:
			return nil, fmt.Errorf("%s%s: a result of %v cannot be planned: use float32, float64 or int32", s.prefix(), s.name, s.typ.Dtype)
		}
		if v, ok := s.op.(Viewer); ok {
			k, offset := v.View()
			c := &steps[s.kids[k]]
			s.alias, s.buf, s.off = true, c.buf, c.off+offset*int(s.typ.Dtype.Size())
			bufs[s.buf].last = max(bufs[s.buf].last, last[i])
			continue
		}
		if b := inPlace(steps, bufs, i); share && b >= 0 {
			s.buf = b
			bufs[b].last = last[i]
			continue
		}
		s.buf = len(bufs)
		l := last[i]
		if !share {
			l = forever
		}
		bufs = append(bufs, buffer{bytes: bytes, def: i, last: l, into: -1})
		if g, ok := s.op.(gatherer); ok && share {
			place(g.gather(), steps, bufs, i)
		}
	}
	return bufs, nil
}

// inPlace returns the buffer that step i may write over, -1 if it needs one of its own.
func inPlace(steps []step, bufs []buffer, i int) int {
	s := &steps[i]
	var choice []int
	switch op := s.op.(type) {
	case InPlacers:
		choice = op.InPlaces()
	case InPlacer:
		choice = []int{op.InPlace()}
	}
next:
	for _, k := range choice {
		if k < 0 || k >= len(s.kids) || s.kids[k] < 0 || !dies(steps, bufs, i, k) {
			continue
		}
		c := &steps[s.kids[k]]
		if c.typ.Dtype != s.typ.Dtype || c.typ.Size() != s.typ.Size() {
			continue
		}
		for q, o := range s.kids {
			if q != k && o >= 0 && steps[o].buf == c.buf {
				continue next
			}
		}
		return c.buf
	}
	return -1
}

// dies tells whether input k of step i fills a buffer that nothing else reads from then on. Buffers of graph inputs never die.
func dies(steps []step, bufs []buffer, i, k int) bool {
	c := &steps[steps[i].kids[k]]
	b := &bufs[c.buf]
	return b.last == i && b.bytes == c.typ.Size()*int(c.typ.Dtype.Size())
}

// gatherer is an Op that copies its first inputs to offsets of its result, unless they are there already.
type gatherer interface {
	gather() (offsets []int)
}

// place lets what step i gathers be computed where it belongs.
func place(offsets []int, steps []step, bufs []buffer, i int) {
	whole := steps[i].buf
	for k, o := range offsets {
		c, at := steps[i].kids[k], o*int(steps[i].typ.Dtype.Size())
		if at%align != 0 || !dies(steps, bufs, i, k) {
			continue
		}
		b := &bufs[steps[c].buf]
		b.into, b.at = whole, at
	}
}

// boundValue returns the value of a graph input and its memory.
func boundValue(s *step) (Value, unsafe.Pointer, error) {
	v := s.node.Value()
	if v == nil {
		return nil, nil, fmt.Errorf("input %q has no value: bind one before compiling", s.node.Name())
	}
	if !v.Shape().Eq(s.typ.Shape) || v.Dtype() != s.typ.Dtype {
		return nil, nil, fmt.Errorf("input %q is %v but its value is %v%v", s.node.Name(), s.typ, v.Dtype(), v.Shape())
	}
	if slices.Contains(s.typ.Shape, 0) {
		return nil, nil, fmt.Errorf("input %q is %v, which holds nothing: give at least one of each", s.node.Name(), s.typ)
	}
	if d, ok := v.(*tensor.Dense); ok && (d.RequiresIterator() || d.DataOrder().IsColMajor() || !d.IsNativelyAccessible()) {
		return nil, nil, fmt.Errorf("input %q is not dense in row-major order: clone its value", s.node.Name())
	}
	switch s.typ.Dtype {
	case tensor.Float32:
		return v, unsafe.Pointer(unsafe.SliceData(Floats[float32](v))), nil
	case tensor.Float64:
		return v, unsafe.Pointer(unsafe.SliceData(Floats[float64](v))), nil
	case tensor.Int32:
		if d, ok := v.(*tensor.Dense); ok {
			return v, unsafe.Pointer(unsafe.SliceData(d.Int32s())), nil
		}
	}
	return v, unsafe.Pointer(&none), nil // values of other types pass through, without views
}

var none byte

// isConstant reports a constant of Gorgonia.
func isConstant(n *Node) bool {
	return OpOf(n) == nil && n.Op() != nil && len(Children(n)) == 0 && n.Value() != nil
}

// prefix is the scope in front of an error.
func (s *step) prefix() string {
	if s.scope == "" {
		return ""
	}
	return s.scope + ": "
}

// scopeOf is the scope path of a node; of a gradient that of the node it belongs to.
func scopeOf(n *Node, scope func(*Node) string) string {
	if scope == nil {
		return ""
	}
	var r role
	for {
		if s := scope(n); s != "" {
			switch r {
			case gradient:
				return "gradient of " + s
			case rebuilt:
				return "again " + s
			}
			return s
		}
		a, ok := n.Op().(*applied)
		if !ok || a.of == nil {
			return ""
		}
		if r != gradient {
			r = a.role
		}
		n = a.of
	}
}
