package golden

import (
	"fmt"
	"slices"
	"strings"

	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/models"
)

// Dtype is the element type of tensors in this precision.
func (p Precision) Dtype() tensor.Dtype {
	if p == Float64 {
		return tensor.Float64
	}
	return tensor.Float32
}

// Batch is the input of a language model.
type Batch struct {
	B, T    int
	IDs     []int32            // [B,T]
	Mask    []bool             // [B,T], false for padding; nil: every token counts
	Labels  []int32            // [B,T], the tokens themselves: position t is scored by label t+1; negative: not scored; nil: no loss
	Weights map[string]*Tensor // without labels: the loss is the sum of each output times its weights
}

// InputError says that tensors in/* cannot be used.
type InputError struct{ What string }

func (e *InputError) Error() string { return e.What }

func inputErrorf(format string, a ...any) error { return &InputError{fmt.Sprintf(format, a...)} }

// Batch reads the inputs of a language model from in/*.
//
// Errors: *InputError for an input that is missing, unknown or of the wrong shape.
func (c *Case) Batch() (Batch, error) {
	ids := c.In("input_ids")
	if ids == nil {
		return Batch{}, inputErrorf("there is no in/input_ids; there are %s", c.listed("in/"))
	}
	in := Batch{IDs: ids.Int32s(), Weights: map[string]*Tensor{}}
	switch {
	case !ids.IsInt() || ids.Size() == 0:
		return Batch{}, inputErrorf("in/input_ids is %s of shape %v, want whole numbers [B,T]", ids.Dtype, ids.Shape)
	case len(ids.Shape) == 1:
		in.B, in.T = 1, ids.Shape[0]
	case len(ids.Shape) == 2:
		in.B, in.T = ids.Shape[0], ids.Shape[1]
	default:
		return Batch{}, inputErrorf("in/input_ids has shape %v, want [B,T]", ids.Shape)
	}
	for _, name := range c.Names("in/") {
		t := c.In(name)
		output, weight := strings.CutPrefix(name, "loss_weight.")
		switch {
		case name == "input_ids":
		case weight:
			in.Weights[output] = t
		case name != "attention_mask" && name != "labels":
			return Batch{}, inputErrorf("in/%s is not an input of a language model; of %s it takes input_ids, attention_mask, labels and loss_weight.*", name, c.listed("in/"))
		case t.Size() != in.B*in.T:
			return Batch{}, inputErrorf("in/%s has shape %v, in/input_ids has %v; they must be alike", name, t.Shape, ids.Shape)
		case name == "labels":
			in.Labels = t.Int32s()
		case slices.Contains(t.Bools(), false):
			in.Mask = t.Bools()
		}
	}
	return in, nil
}

// listed names the tensors with a prefix.
func (c *Case) listed(prefix string) string {
	names := c.Names(prefix)
	for i, n := range names {
		names[i] = prefix + n
	}
	if len(names) == 0 {
		return "no " + prefix + "*"
	}
	return strings.Join(names, ", ")
}

// targets are the labels of the next positions.
func (in Batch) targets() []int32 {
	out := make([]int32, len(in.Labels))
	for i := range out {
		out[i] = -100
		if (i+1)%in.T != 0 {
			out[i] = in.Labels[i+1]
		}
	}
	return out
}

// Outcome holds what a model gave: []float32 or []float64, by name.
type Outcome struct {
	Out  map[string]any // logits, last_hidden_state, hidden_states.0 …, and loss if there is one
	Grad map[string]any // of every weight, zero where it does not reach the loss
}

// Run runs a model on a batch, in the precision of its weights. With gradients it builds the graph for training, without them
// that for inference. Dropout is off. Padding follows Hugging Face for its families, see padding.
//
// Errors: *InputError; what building and running report.
func Run(m models.Model, params *layers.Params, in Batch, gradients bool) (*Outcome, error) {
	m, err := withoutDropout(m)
	if err != nil {
		return nil, err
	}
	for i, id := range in.IDs {
		if v := m.Dims().Vocab; id < 0 || int(id) >= v {
			return nil, inputErrorf("in/input_ids[%d][%d] is %d; the model has ids 0 to %d", i/in.T, i%in.T, id, v-1)
		}
	}
	eg := gorgonia.NewGraph()
	b := layers.New(eg, params, layers.Options{Training: gradients})
	ids := b.Input("input_ids", tensor.Int32, in.B, in.T)
	given := models.Inputs{IDs: ids}
	if in.Mask != nil {
		if err := padding(m, b, in, &given); err != nil {
			return nil, err
		}
	}
	got := m.Forward(b, given, 0)
	if err := b.Err(); err != nil {
		return nil, err
	}
	named := map[string]*layers.Node{"logits": got.Logits, "last_hidden_state": got.Hidden[len(got.Hidden)-1]}
	for i, h := range got.Hidden {
		named[fmt.Sprint("hidden_states.", i)] = h
	}
	loss, err := in.loss(b, named)
	if err != nil {
		return nil, err
	}
	if loss != nil {
		named["loss"] = loss
	}
	var outputs layers.Nodes
	for _, name := range sortedKeys(named) {
		outputs = append(outputs, named[name])
	}
	var weights []*layers.Param
	var grads layers.Nodes
	if gradients {
		if loss == nil {
			return nil, inputErrorf("gradients want in/labels or in/loss_weight.*")
		}
		var nodes layers.Nodes
		weights, nodes = b.Weights()
		if grads, err = engine.VJP(layers.Nodes{loss}, layers.Nodes{engine.Fill(eg, engine.TypeOf(loss), 1)}, nodes, nil); err != nil {
			return nil, err
		}
	}
	program, err := engine.Compile(eg, append(outputs, grads...), engine.Options{Scope: b.ScopeOf})
	if err != nil {
		return nil, err
	}
	copy(layers.InputValue(ids).Int32s(), in.IDs)
	if err := program.Run(); err != nil {
		return nil, err
	}
	r := &Outcome{map[string]any{}, map[string]any{}}
	for name, n := range named {
		r.Out[name] = copied(program.Value(n))
	}
	for i, w := range weights {
		r.Grad[w.Name] = copied(program.Value(grads[i]))
	}
	return r, program.Close()
}

// loss adds the loss: the mean cross entropy of the next token, or else the weighted sum of outputs; nil if there is none.
func (in Batch) loss(b *layers.Builder, named map[string]*layers.Node) (*layers.Node, error) {
	lb := b.Scope("loss")
	if in.Labels != nil {
		targets := lb.Input("labels", tensor.Int32, in.B, in.T)
		if b.Err() == nil {
			copy(layers.InputValue(targets).Int32s(), in.targets())
		}
		return layers.CrossEntropy(lb, named["logits"], targets, 0), b.Err()
	}
	var sum *layers.Node
	for _, name := range sortedKeys(in.Weights) {
		n, w := named[name], in.Weights[name]
		if n == nil || w.Size() != n.Shape().TotalSize() {
			return nil, inputErrorf("in/loss_weight.%s has shape %v; a language model has %s", name, w.Shape, shapes(named))
		}
		part := layers.Sum(lb, layers.Mul(lb, n, constant(lb, "loss_weight."+name, w.Float64s(), n.Shape())))
		if sum == nil {
			sum = part
		} else {
			sum = layers.Add(lb, sum, part)
		}
	}
	return sum, b.Err()
}

// constant adds a value in the precision of the weights.
func constant(b *layers.Builder, name string, x []float64, shape []int) *layers.Node {
	if b.Dtype() == tensor.Float64 {
		return b.Const(name, tensor.New(tensor.WithShape(shape...), tensor.WithBacking(slices.Clone(x))))
	}
	y := make([]float32, len(x))
	for i, v := range x {
		y[i] = float32(v)
	}
	return b.Const(name, tensor.New(tensor.WithShape(shape...), tensor.WithBacking(y)))
}

// copied takes the elements out of a program's memory.
func copied(v engine.Value) any {
	if engine.IsF32(v) {
		return slices.Clone(engine.Floats[float32](v))
	}
	return slices.Clone(engine.Floats[float64](v))
}

func shapes(named map[string]*layers.Node) string {
	var all []string
	for _, name := range sortedKeys(named) {
		all = append(all, fmt.Sprintf("%s %v", name, named[name].Shape()))
	}
	return strings.Join(all, ", ")
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// Rows is the part of a batch from example b on to, and without, example end.
func (in Batch) Rows(b, end int) Batch {
	part := Batch{B: end - b, T: in.T, IDs: in.IDs[b*in.T : end*in.T]}
	if in.Mask != nil {
		part.Mask = in.Mask[b*in.T : end*in.T]
	}
	if in.Labels != nil {
		part.Labels = in.Labels[b*in.T : end*in.T]
	}
	return part
}
