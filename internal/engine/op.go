package engine

import (
	"encoding/binary"
	"fmt"
	"hash"
	"sync/atomic"

	"github.com/chewxy/hm"
	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// Short names for the Gorgonia types that every operation handles.
type (
	Node  = gorgonia.Node
	Nodes = gorgonia.Nodes
	Value = gorgonia.Value
)

// Type is what is known of a value while the graph is built.
type Type struct {
	Dtype tensor.Dtype
	Shape tensor.Shape // empty for a scalar
}

// IsFloat reports whether values of this type carry gradients.
func (t Type) IsFloat() bool { return t.Dtype == tensor.Float32 || t.Dtype == tensor.Float64 }

// Size is the number of elements; 1 for a scalar.
func (t Type) Size() int {
	n := 1
	for _, d := range t.Shape {
		n *= d
	}
	return n
}

func (t Type) String() string { return fmt.Sprintf("%v%v", t.Dtype, t.Shape) }

// TypeOf returns the type of a node's value.
func TypeOf(n *Node) Type { return Type{n.Dtype(), n.Shape()} }

// Op is what an operation of Euryale has to say about itself; Apply makes a Gorgonia node of it. An Op is a small struct of
// parameters, without state: what changes between runs is an input.
type Op interface {
	// Name is the kind of operation, such as "layer_norm". Errors and plans print it.
	Name() string
	// Infer returns the type of the result, or what is wrong with the inputs.
	Infer(in []Type) (Type, error)
	// Run computes all of out. It is called every step, so it allocates nothing once it is warm. Values are dense, row major.
	Run(out Value, in []Value) error
	// Diff returns the nodes of the gradient, one for each input, nil where there is none.
	Diff(in Nodes, out, dout *Node) (Nodes, error)
}

// InPlacer is an Op whose result may be written over one of its inputs (same size and dtype) when nothing else reads that any more.
type InPlacer interface {
	InPlace() int // index of the input
}

// Viewer is an Op whose result is a part of one of its inputs: elements offset to offset+size. Its Run is only called where
// memory cannot be shared (Gorgonia's own machines) and copies.
type Viewer interface {
	View() (input, offset int)
}

// Cheap marks an Op whose result costs less to compute again than to keep (norms, activations): `recompute=cheap`.
type Cheap interface {
	Cheap()
}

// Differ overrides which inputs have a gradient. Without it: those of a floating-point type.
type Differ interface {
	DiffWRT() []bool
}

// AddDiffer is an Op that can add more, a node of the type of its first input or nil, to the gradient for that input, which
// saves a pass: so a norm or a linear layer takes up what comes past it.
type AddDiffer interface {
	DiffAdd(in Nodes, out, dout, more *Node) (Nodes, error)
}

// Coster tells the floating-point operations of one Run.
type Coster interface {
	Flops(in []Type, out Type) float64
}

// ids numbers applications, see node.WriteHash.
var ids atomic.Uint32

// Apply adds op(in...) to the graph of the inputs.
func Apply(op Op, in ...*Node) (*Node, error) {
	types := make([]Type, len(in))
	for i, n := range in {
		if n == nil {
			return nil, fmt.Errorf("%s: input %d is missing", op.Name(), i)
		}
		types[i] = TypeOf(n)
	}
	out, err := op.Infer(types)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", op.Name(), err)
	}
	a := &applied{Op: op, id: ids.Add(1), in: types, out: out}
	n, err := gorgonia.ApplyOp(a, in...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", op.Name(), err)
	}
	return n, nil
}

// OpOf returns the Op that made a node, or nil for inputs, constants and Gorgonia's own operations.
func OpOf(n *Node) Op {
	if a, ok := n.Op().(*applied); ok {
		return a.Op
	}
	return nil
}

func hmType(t Type) hm.Type {
	if len(t.Shape) == 0 {
		return t.Dtype
	}
	return gorgonia.TensorType{Dims: len(t.Shape), Of: t.Dtype}
}

// applied is an Op in the form that Gorgonia wants. It lives for one application, so types are known.
type applied struct {
	Op
	id  uint32
	in  []Type
	out Type

	of   *Node // the forward node whose gradient or rebuilt copy this is, see origin
	role role
}

var (
	_ gorgonia.SDOp            = (*applied)(nil)
	_ gorgonia.UsePreallocDoer = (*applied)(nil)
)

func (a *applied) Arity() int           { return len(a.in) }
func (a *applied) ReturnsPtr() bool     { return false }
func (a *applied) CallsExtern() bool    { return false }
func (a *applied) OverwritesInput() int { return -1 }
func (a *applied) String() string       { return a.Name() }

// WriteHash gives every application a hash of its own. Gorgonia merges nodes whose 32-bit hashes agree without comparing
// their inputs; merging would also undo recomputation, which builds the same expression twice on purpose.
func (a *applied) WriteHash(h hash.Hash) {
	var b [4]byte
	binary.LittleEndian.PutUint32(b[:], a.id)
	h.Write(b[:])
}

func (a *applied) Hashcode() uint32 { return a.id }

// Type is built for each call: Gorgonia puts what it gets into a pool of its own.
func (a *applied) Type() hm.Type {
	ts := make([]hm.Type, 0, len(a.in)+1)
	for _, t := range a.in {
		ts = append(ts, hmType(t))
	}
	return hm.NewFnType(append(ts, hmType(a.out))...)
}

func (a *applied) InferShape(...gorgonia.DimSizer) (tensor.Shape, error) {
	return a.out.Shape.Clone(), nil
}

// Do is for Gorgonia's own machines; Program calls Run on memory of its plan.
func (a *applied) Do(in ...Value) (Value, error) {
	return a.UsePreallocDo(NewValue(a.out), in...)
}

func (a *applied) UsePreallocDo(out Value, in ...Value) (Value, error) {
	if err := a.Run(out, in); err != nil {
		return nil, fmt.Errorf("%s: %w", a.Name(), err)
	}
	return out, nil
}

func (a *applied) DiffWRT(n int) []bool {
	if d, ok := a.Op.(Differ); ok {
		return d.DiffWRT()
	}
	r := make([]bool, n)
	for i := range r {
		r[i] = a.in[i].IsFloat()
	}
	return r
}

func (a *applied) SymDiff(in Nodes, out, grad *Node) (Nodes, error) {
	r, err := a.Diff(in, out, grad)
	if err != nil {
		return nil, fmt.Errorf("gradient of %s: %w", a.Name(), err)
	}
	return r, nil
}
