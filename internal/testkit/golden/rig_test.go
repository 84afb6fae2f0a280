package golden

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/layers"
)

type Node = layers.Node

// rig is a small graph on the inputs and parameters of a case, and what of it is to be compared.
type rig struct {
	c *Case
	p Precision
	b *layers.Builder

	outs, wrt []place
	loss      *Node
	err       error
}

// place ties a node to a tensor of the case. Element k of the node is element order[k] of the tensor, or none if that is
// negative; a nil order is 0, 1, 2, …
type place struct {
	name  string // as in out/NAME, in/NAME or param/NAME
	param bool
	n     *Node
	order []int
}

func newRig(c *Case, p Precision) *rig {
	params := layers.NewParams(p.Dtype())
	r := &rig{c: c, p: p}
	for _, name := range c.Params() {
		r.fail(params.Load(name, dense(c.Param(name))))
	}
	r.b = layers.New(gorgonia.NewGraph(), params, layers.Options{Training: true})
	return r
}

func dense(t *Tensor) *tensor.Dense {
	return tensor.New(tensor.WithShape(t.Shape...), tensor.WithBacking(t.Float64s()))
}

func (r *rig) fail(err error) {
	if r.err == nil {
		r.err = err
	}
}

// only checks that the case has no inputs but these (and weights of the loss).
func (r *rig) only(names ...string) {
	for _, n := range r.c.Names("in/") {
		if !slices.Contains(names, n) && !strings.HasPrefix(n, "loss_weight.") {
			r.fail(fmt.Errorf("in/%s is not handled", n))
		}
	}
}

// in is the node of a floating-point input, which gets a gradient.
func (r *rig) in(name string) *Node {
	t := r.c.In(name)
	if t == nil {
		r.fail(fmt.Errorf("in/%s is missing", name))
		return nil
	}
	return r.inAs(name, nil, t.Shape...)
}

// inAs is in with its elements in another order and shape.
func (r *rig) inAs(name string, order []int, shape ...int) *Node {
	t := r.c.In(name)
	if t == nil {
		r.fail(fmt.Errorf("in/%s is missing", name))
		return nil
	}
	n := r.floats(name, arranged(t.Float64s(), order), shape...)
	r.wrt = append(r.wrt, place{name, false, n, order})
	return n
}

// param is the node of a parameter of the case.
func (r *rig) param(name string) *Node {
	t := r.c.Param(name)
	if t == nil {
		r.fail(fmt.Errorf("param/%s is missing", name))
		return nil
	}
	n := r.b.Param(name, layers.Zeros(), t.Shape...)
	r.wrt = append(r.wrt, place{name, true, n, nil})
	return n
}

// weight makes an input the parameter of a layer, under a name that the layer asks for.
func (r *rig) weight(name string) bool {
	t := r.c.In(name)
	if t == nil {
		return false
	}
	r.fail(r.b.Params().Load(name, dense(t)))
	r.wrt = append(r.wrt, place{name, false, r.b.Param(name, layers.Zeros(), t.Shape...), nil})
	return true
}

// floats is a node with fixed values in the precision of the rig.
func (r *rig) floats(name string, x []float64, shape ...int) *Node {
	return constant(r.b, name, x, shape)
}

// ints is a node with fixed whole numbers.
func (r *rig) ints(name string, x []int32, shape ...int) *Node {
	return r.b.Const(name, tensor.New(tensor.WithShape(shape...), tensor.WithBacking(x)))
}

// out compares a node with out/NAME and adds it to the loss with its weight, if it has one.
func (r *rig) out(name string, n *Node) { r.outAs(name, n, nil) }

func (r *rig) outAs(name string, n *Node, order []int) {
	if r.b.Err() != nil {
		return
	}
	r.outs = append(r.outs, place{name, false, n, order})
	w := r.c.LossWeight(name)
	if w == nil {
		return
	}
	part := n
	if n.Dims() == 0 {
		part = layers.Scale(r.b, n, w.F[0])
	} else {
		part = layers.Sum(r.b, layers.Mul(r.b, n, r.floats("loss_weight."+name, arranged(w.Float64s(), order), n.Shape()...)))
	}
	if r.loss != nil {
		part = layers.Add(r.b, r.loss, part)
	}
	r.loss = part
}

// arranged brings a tensor of a case into the order of a node.
func arranged(x []float64, order []int) []float64 {
	if order == nil {
		return x
	}
	y := make([]float64, len(order))
	for k, i := range order {
		if i >= 0 {
			y[k] = x[i]
		}
	}
	return y
}

// original undoes arranged.
func original(y []float64, order []int) []float64 {
	if order == nil {
		return y
	}
	x := make([]float64, slices.Max(order)+1)
	for k, i := range order {
		if i >= 0 {
			x[i] = y[k]
		}
	}
	return x
}

// compare runs the graph and compares outputs, loss and gradients.
func (r *rig) compare() ([]Result, error) {
	if err := errors.Join(r.err, r.b.Err()); err != nil {
		return nil, err
	}
	var wanted []place
	var nodes, grads layers.Nodes
	for _, w := range r.wrt {
		if w.param && r.c.Grad(w.name) != nil || !w.param && r.c.GradIn(w.name) != nil {
			wanted, nodes = append(wanted, w), append(nodes, w.n)
		}
	}
	g := r.b.Graph()
	outputs := layers.Nodes{}
	for _, o := range r.outs {
		outputs = append(outputs, o.n)
	}
	if len(nodes) > 0 {
		if r.loss == nil {
			return nil, errors.New("the case has gradients but no loss")
		}
		var err error
		if grads, err = engine.VJP(layers.Nodes{r.loss}, layers.Nodes{engine.Fill(g, engine.TypeOf(r.loss), 1)}, nodes, nil); err != nil {
			return nil, err
		}
	}
	if r.loss != nil {
		grads = append(grads, r.loss)
	}
	program, err := engine.Compile(g, append(outputs, grads...), engine.Options{Scope: r.b.ScopeOf})
	if err != nil {
		return nil, err
	}
	defer func() { _ = program.Close() }()
	if err := program.Run(); err != nil {
		return nil, err
	}
	value := func(n *Node, order []int) []float64 {
		x, _ := values(copied(program.Value(n)))
		return original(x, order)
	}
	var results []Result
	for _, o := range r.outs {
		results = append(results, r.c.CompareOut(o.name, value(o.n, o.order), r.p))
	}
	if r.loss != nil && slices.Contains(r.c.Outputs(), "loss") {
		results = append(results, r.c.CompareOut("loss", value(r.loss, nil), r.p))
	}
	for i, w := range wanted {
		x := value(grads[i], w.order)
		if w.param {
			results = append(results, r.c.CompareGrad(w.name, x, r.p))
		} else {
			results = append(results, r.c.CompareGradIn(w.name, x, r.p))
		}
	}
	return results, nil
}

// round gives a computed constant the precision of the run.
func round(x []float64, p Precision) any {
	if p == Float64 {
		return x
	}
	y := make([]float32, len(x))
	for i, v := range x {
		y[i] = float32(v)
	}
	return y
}

// value runs the graph for one node.
func (r *rig) value(n *Node) ([]float64, error) {
	if err := errors.Join(r.err, r.b.Err()); err != nil {
		return nil, err
	}
	program, err := engine.Compile(r.b.Graph(), layers.Nodes{n}, engine.Options{Scope: r.b.ScopeOf})
	if err != nil {
		return nil, err
	}
	defer func() { _ = program.Close() }()
	if err := program.Run(); err != nil {
		return nil, err
	}
	return values(copied(program.Value(n)))
}
