package layers

import (
	"errors"
	"fmt"
	"slices"

	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/splitmix"
)

// Short names for the types that every layer handles.
type (
	Node  = gorgonia.Node
	Nodes = gorgonia.Nodes
)

// Options say what a graph is built for.
type Options struct {
	Seed     uint64 // of initial weights and dropout masks
	Training bool   // dropout is active, and values that a gradient needs are kept apart
	Sampled  bool   // without training: layers that choose draw, and do not take what is likeliest
}

// ScopeError says where in the model an error arose.
type ScopeError struct {
	Scope string // path such as "decoder.h.3.attn.q"; empty at the top
	Err   error
}

func (e *ScopeError) Error() string {
	if e.Scope == "" {
		return e.Err.Error()
	}
	return e.Scope + ": " + e.Err.Error()
}

func (e *ScopeError) Unwrap() error { return e.Err }

// Builder adds nodes to a graph. The first error sticks: afterwards every method that returns a node returns nil.
//
// A Builder is a path into shared state; Scope returns one that is a level deeper. It is not safe for concurrent use.
type Builder struct {
	*state
	path string
}

type state struct {
	graph  *gorgonia.ExprGraph
	params *Params
	opts   Options
	err    error

	scopes  map[*Node]string
	blocks  map[*Node]int
	block   int // current recompute block, 0 outside
	last    int // newest recompute block
	again   bool
	sites   map[string]int
	inputs  map[string]*Node
	weight  map[string]*Node
	adapted map[string]*Node // of weights that are changed, see LoRA
	order   []string         // names of the parameters in use, in order of first use

	updates []StateUpdate
	terms   Nodes // of the model's own loss
	choices []Choice
	once    map[string]*Node
}

// New returns a Builder at the top scope. Parameters that params lacks are added to it with their initial values; those it
// has are used as they are, so several graphs can share one set of weights. Floating-point nodes have the dtype of params.
func New(g *gorgonia.ExprGraph, params *Params, o Options) *Builder {
	return &Builder{state: &state{
		graph: g, params: params, opts: o,
		scopes: map[*Node]string{}, blocks: map[*Node]int{}, sites: map[string]int{},
		inputs: map[string]*Node{}, weight: map[string]*Node{}, adapted: map[string]*Node{}, once: map[string]*Node{},
	}}
}

// Graph is the graph under construction.
func (b *Builder) Graph() *gorgonia.ExprGraph { return b.graph }

// Params is the set of weights in use.
func (b *Builder) Params() *Params { return b.params }

// Dtype is that of the parameters and of every floating-point node.
func (b *Builder) Dtype() tensor.Dtype { return b.params.dtype }

// Seed is that of the options.
func (b *Builder) Seed() uint64 { return b.opts.Seed }

// Training tells whether the graph is built for training.
func (b *Builder) Training() bool { return b.opts.Training }

// Path is the scope, such as "decoder.h.3.attn"; empty at the top.
func (b *Builder) Path() string { return b.path }

// Scope returns a Builder one level deeper. An empty name returns b.
func (b *Builder) Scope(name string) *Builder {
	if name == "" {
		return b
	}
	return &Builder{state: b.state, path: b.join(name)}
}

func (b *Builder) join(name string) string {
	if b.path == "" {
		return name
	}
	return b.path + "." + name
}

// Err is the first error, a *ScopeError, or nil.
func (b *Builder) Err() error { return b.err }

// Fail records err with the scope, unless an error is already pending; nil is ignored. It returns nil, so that a layer can
// end with "return b.Fail(...)".
func (b *Builder) Fail(err error) *Node {
	if err != nil && b.err == nil {
		var se *ScopeError
		if !errors.As(err, &se) {
			err = &ScopeError{Scope: b.path, Err: err}
		}
		b.err = err
	}
	return nil
}

// Failf is Fail with a formatted message.
func (b *Builder) Failf(format string, a ...any) *Node { return b.Fail(fmt.Errorf(format, a...)) }

// Op adds an operation. It returns nil while an error is pending; what is wrong with the inputs becomes that error.
func (b *Builder) Op(op engine.Op, in ...*Node) *Node {
	if b.err != nil {
		return nil
	}
	n, err := engine.Apply(op, in...)
	if err != nil {
		return b.Fail(err)
	}
	return b.made(n)
}

// made notes where a node was created.
func (b *Builder) made(n *Node) *Node {
	b.scopes[n] = b.path
	if b.block != 0 {
		b.blocks[n] = b.block
	}
	return n
}

// Param returns the node of a parameter, called after the scope and the name ("transformer.h.0.attn.c_attn.weight"). The
// same full name gives the same node, which is how weights are tied.
// Errors: the set holds a value of another shape under that name; sizes below 1, or more than 2^40 elements; no init for a
// weight that the set lacks.
func (b *Builder) Param(name string, init Init, shape ...int) *Node {
	if b.err != nil {
		return nil
	}
	full := b.join(name)
	p, err := b.params.require(full, init, b.opts.Seed, shape)
	if err != nil {
		return b.Fail(err)
	}
	n := b.leaf(p)
	if p.changed {
		return b.changed(p, n)
	}
	return n
}

// leaf is the node of a weight, as it lies in memory.
func (b *Builder) leaf(p *Param) *Node {
	if n := b.weight[p.Name]; n != nil {
		return n
	}
	shape := p.Value.Shape()
	n := gorgonia.NewTensor(b.graph, b.Dtype(), len(shape), gorgonia.WithShape(shape...), gorgonia.WithName(p.Name),
		gorgonia.WithValue(p.Value))
	b.scopes[n] = b.path
	b.weight[p.Name] = n
	b.order = append(b.order, p.Name)
	return n
}

// Weights returns the parameters of this graph and their nodes, in order of first use, frozen ones and state left out.
func (b *Builder) Weights() ([]*Param, Nodes) {
	var ps []*Param
	var ns Nodes
	for _, name := range b.order {
		if p, ok := b.params.Get(name); ok && !p.Frozen && !p.State {
			ps = append(ps, p)
			ns = append(ns, b.weight[name])
		}
	}
	return ps, ns
}

// Input returns the node of a value that changes between runs, bound to a zero value which the caller fills before each run
// (InputValue). The same name gives the same node. Names of inputs have no scope.
// Errors: an input of that name has another type.
func (b *Builder) Input(name string, dtype tensor.Dtype, shape ...int) *Node {
	if b.err != nil {
		return nil
	}
	if n := b.inputs[name]; n != nil {
		if n.Dtype() != dtype || !slices.Equal(n.Shape(), shape) {
			return b.Failf("input %s: asked for as %v%v, exists as %v", name, dtype, shape, engine.TypeOf(n))
		}
		return n
	}
	if len(shape) == 0 {
		return b.Failf("input %s: a scalar; give it shape 1", name)
	}
	return b.bind(name, tensor.New(tensor.Of(dtype), tensor.WithShape(shape...)))
}

// Const returns the node of a value that never changes, such as a table of positions. It is bound to v itself. The name
// has no scope; the same name gives the first node.
func (b *Builder) Const(name string, v *tensor.Dense) *Node {
	if b.err != nil {
		return nil
	}
	if n := b.inputs[name]; n != nil {
		return n
	}
	return b.bind(name, v)
}

func (b *Builder) bind(name string, v *tensor.Dense) *Node {
	n := gorgonia.NewTensor(b.graph, v.Dtype(), v.Dims(), gorgonia.WithShape(v.Shape()...), gorgonia.WithName(name),
		gorgonia.WithValue(v))
	b.scopes[n] = b.path
	b.inputs[name] = n
	return n
}

// InputValue is the tensor that a node of Input, Const or Param is bound to, nil for any other node.
func InputValue(n *Node) *tensor.Dense {
	if n == nil || n.Op() != nil {
		return nil
	}
	v, _ := n.Value().(*tensor.Dense)
	return v
}

// Step is the input "step", int32 [1]: the number of the training step, which dropout masks and other draws depend on.
func (b *Builder) Step() *Node { return b.Input("step", tensor.Int32, 1) }

// Block runs fn; the nodes it adds form one recompute block. A block inside a block belongs to the outer one.
func (b *Builder) Block(fn func()) {
	if b.block != 0 {
		fn()
		return
	}
	b.last++
	b.block = b.last
	fn()
	b.block = 0
}

// Again runs fn; the nodes it adds form a block that is computed again for its gradient whatever else is. Inside a block it belongs to that.
func (b *Builder) Again(fn func()) {
	b.again = true
	b.Block(fn)
}

// Blocks tells whether there are blocks that are computed again in any case.
func (b *Builder) Blocks() bool { return b.again }

// BlockOf is the recompute block of a node, 0 for none: what engine.Recompute asks for.
func (b *Builder) BlockOf(n *Node) int { return b.blocks[n] }

// ScopeOf is the path of the layer that made a node, empty for a node that none made: what engine.Options asks for.
func (b *Builder) ScopeOf(n *Node) string { return b.scopes[n] }

// site numbers the random draws of a scope: the same place in the model gives the same number in every graph.
func (b *Builder) site(kind string) uint64 {
	name := b.join(kind)
	k := b.sites[name]
	b.sites[name]++
	return splitmix.Mix(hashName(name) + uint64(k)*splitmix.Increment)
}
