package golden

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/kernels"
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

// Outcome holds what a model gave: []float32 or []float64, by name.
type Outcome struct {
	Out   map[string]any   // logits (of an answer start_logits and end_logits, too), hidden_states.0 …, loss if there is one
	Shape map[string][]int // of each of Out
	Grad  map[string]any   // of every weight, zero where it does not reach the loss
}

// Run runs a model on a batch, in the precision of its weights. With gradients it builds the graph for training, without them
// that for inference. Dropout is off. Padding follows Hugging Face for its families, see padding.
//
// Errors: *InputError; what building and running report.
func Run(m models.Model, params *layers.Params, in Batch, gradients bool) (*Outcome, error) {
	return run(m, params, in, gradients, nil)
}

// Watch runs a model without gradients and shows what stands inside: want chooses nodes of its graph, and sees their values when it has run.
func Watch(m models.Model, params *layers.Params, in Batch, want func(b *layers.Builder) layers.Nodes, sees func(value func(n *layers.Node) engine.Value) error) error {
	_, err := run(m, params, in, false, &watcher{want, sees})
	return err
}

// watcher is what Watch is given.
type watcher struct {
	want func(b *layers.Builder) layers.Nodes
	sees func(value func(n *layers.Node) engine.Value) error
}

func run(m models.Model, params *layers.Params, in Batch, gradients bool, watch *watcher) (*Outcome, error) {
	m, err := withoutDropout(m)
	if err != nil {
		return nil, err
	}
	if d := m.Dims().Vectors; d > 0 && in.Vectors == nil {
		return nil, inputErrorf("the model reads vectors of %d numbers, not token ids: give in/vectors [B,T,%d]", d, d)
	}
	for i, id := range in.IDs {
		if v := m.Dims().Vocab; id < 0 || int(id) >= v {
			return nil, inputErrorf("in/input_ids[%d][%d] is %d; the model has ids 0 to %d", i/in.T, i%in.T, id, v-1)
		}
	}
	if slices.Contains([]string{"bigbird_pegasus", "led", "longt5", "reformer"}, m.Type()) && in.Types != nil {
		return nil, inputErrorf("in/token_type_ids: a model of type %s knows no types of tokens; leave it out", m.Type())
	}
	t := in.T
	in, err = in.reformerRows(m)
	if err != nil {
		return nil, err
	}
	blocks, err := bigBirdOf(m, params, in)
	if err == nil && blocks != nil {
		if in, err = blocks.padded(m, in); err == nil {
			err = blocks.check(in)
		}
	}
	if err != nil {
		return nil, err
	}
	eg := gorgonia.NewGraph()
	b := layers.New(eg, params, layers.Options{Training: gradients})
	given, err := in.inputs(m, b, blocks)
	if err != nil {
		return nil, err
	}
	if blocks != nil {
		if blocks.dense && in.Mask != nil && m.Task() == "seq2seq_lm" {
			blocks.hidden = in.hiddenKeys(b, "attention_mask")
		}
		given.Attend = blocks.attend(given.Attend)
	}
	got := m.Forward(b, given, 0)
	if err := b.Err(); err != nil {
		return nil, err
	}
	named := outputsOf(m, b, got)
	if in.T > t {
		in.cut(b, named, m.Task(), t)
		in.T = t
	}
	loss, err := in.loss(b, m.Task(), named)
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
	outputs = append(outputs, grads...)
	if watch != nil {
		outputs = append(outputs, watch.want(b)...)
	}
	program, err := engine.Compile(eg, outputs, engine.Options{Scope: b.ScopeOf})
	if err != nil {
		return nil, err
	}
	if err := program.Run(); err != nil {
		return nil, err
	}
	if watch != nil {
		if err := watch.sees(func(n *layers.Node) engine.Value { return program.Value(n) }); err != nil {
			return nil, err
		}
	}
	r := &Outcome{map[string]any{}, map[string][]int{}, map[string]any{}}
	for name, n := range named {
		r.Out[name], r.Shape[name] = copied(program.Value(n)), n.Shape()
	}
	for i, w := range weights {
		r.Grad[w.Name] = copied(program.Value(grads[i]))
	}
	return r, program.Close()
}

// inputs adds the inputs of a model to its graph.
func (in Batch) inputs(m models.Model, b *layers.Builder, blocks *bigBird) (given models.Inputs, err error) {
	ints := func(name string, x []int32, shape ...int) *layers.Node {
		if x == nil {
			return nil
		}
		n := b.Input(name, tensor.Int32, shape...)
		if b.Err() == nil {
			copy(layers.InputValue(n).Int32s(), x)
		}
		return n
	}
	given.IDs, given.Types = ints("input_ids", in.IDs, in.B, in.T), ints("token_type_ids", in.Types, in.B, in.T)
	if in.Vectors != nil {
		given.Vectors = constant(b, "vectors", in.Vectors, []int{in.B, in.T, len(in.Vectors) / (in.B * in.T)})
	}
	if in.Globals != nil {
		index, g := in.globals()
		given.Globals = ints("globals", index, in.B, g)
	}
	if m.Task() == "seq2seq_lm" {
		ids, u := in.TargetIDs, in.U
		if ids == nil && in.Labels != nil {
			start, pad, err := startOf(m)
			if err != nil {
				return given, err
			}
			ids, u = in.shifted(start, pad), len(in.Labels)/in.B
		}
		if ids == nil {
			return given, inputErrorf("there is neither in/decoder_input_ids nor in/labels, for what the decoder reads")
		}
		given.TargetIDs = ints("decoder_input_ids", ids, in.B, u)
		if in.TargetMask != nil {
			if len(in.TargetMask) != in.B*u {
				return given, inputErrorf("in/decoder_attention_mask has %d values for %d examples of %d tokens that the decoder reads", len(in.TargetMask), in.B, u)
			}
			given.AttendTarget = Batch{B: in.B, T: u, Mask: in.TargetMask}.hiding(b, "decoder_attention_mask", everyKey)
		}
	}
	if in.Mask != nil {
		err = padding(m, b, in, blocks, &given)
	}
	if err == nil {
		err = in.rotations(b, &given)
	}
	if err == nil {
		err = b.Err()
	}
	return given, err
}

// startOf reads which token starts a text and which one is padding.
func startOf(m models.Model) (start, pad int32, err error) {
	text, err := m.Config()
	if err != nil {
		return 0, 0, err
	}
	var c struct {
		Start *int32 `json:"decoder_start_token_id"`
		Pad   *int32 `json:"pad_token_id"`
	}
	if err := json.Unmarshal(text, &c); err != nil {
		return 0, 0, err
	}
	if c.Start == nil {
		return 0, 0, inputErrorf("there is no in/decoder_input_ids, and config.json has no decoder_start_token_id")
	}
	if c.Pad != nil {
		pad = *c.Pad
	}
	return *c.Start, pad, nil
}

// outputsOf names what a model gives as Hugging Face does.
func outputsOf(m models.Model, b *layers.Builder, got models.Outputs) map[string]*layers.Node {
	named := map[string]*layers.Node{}
	for name, n := range got.More {
		named[name] = n
	}
	of := ""
	if m.Task() == "seq2seq_lm" {
		of = "decoder_"
	} else {
		named["last_hidden_state"] = got.Hidden[len(got.Hidden)-1]
	}
	for i, h := range got.Hidden {
		named[fmt.Sprint(of, "hidden_states.", i)] = h
	}
	if got.Logits == nil {
		return named
	}
	named["logits"] = got.Logits
	if m.Task() == "question_answering" {
		s := got.Logits.Shape()
		for i, name := range []string{"start_logits", "end_logits"} {
			named[name] = layers.Reshape(b, layers.Slice(b, got.Logits, 2, i, i+1), s[0], s[1])
		}
	}
	return named
}

// loss adds the loss: that of the task if there are labels, or else the weighted sum of outputs; nil if there is neither.
func (in Batch) loss(b *layers.Builder, task string, named map[string]*layers.Node) (*layers.Node, error) {
	if in.Labels != nil || in.Values != nil {
		return in.taskLoss(b.Scope("loss"), task, named["logits"])
	}
	lb := b.Scope("loss")
	var sum *layers.Node
	for _, name := range sortedKeys(in.Weights) {
		n, w := named[name], in.Weights[name]
		if n == nil || w.Size() != n.Shape().TotalSize() {
			return nil, inputErrorf("in/loss_weight.%s has shape %v; the model has %s", name, w.Shape, shapes(named))
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

// taskLoss is the loss of transformers: the mean cross entropy, of an answer that of its two ends, or the mean squared error.
func (in Batch) taskLoss(b *layers.Builder, task string, logits *layers.Node) (*layers.Node, error) {
	if logits == nil {
		return nil, inputErrorf("there are in/labels, but the model has no head; give in/loss_weight.*")
	}
	shape, labels := logits.Shape().Clone(), in.Labels
	switch task {
	case "causal_lm":
		if labels = nil; len(in.Labels) == in.B*in.T {
			labels = in.targets()
		}
		shape = shape[:2]
	case "question_answering":
		if len(labels) == 2*in.B {
			return in.answerLoss(b, logits)
		}
		shape = []int{shape[0], 2}
	case "regression":
		if len(in.Values) != shape.TotalSize() {
			return nil, inputErrorf("in/labels has %d values, a model of regression with logits %v wants as many numbers", len(in.Values), shape)
		}
		d := layers.Add(b, logits, layers.Scale(b, constant(b, "labels", in.Values, shape), -1))
		return layers.Mean(b, layers.Mul(b, d, d)), b.Err()
	case "sequence_classification", "multi_label_classification":
		if in.Values != nil { // as transformers takes them: each label for itself, by its binary cross entropy
			if len(in.Values) != shape.TotalSize() {
				return nil, inputErrorf("in/labels has %d values, a model of %s with logits %v wants as many numbers", len(in.Values), task, shape)
			}
			wrong := layers.Mul(b, logits, constant(b, "labels", in.Values, shape))
			return layers.Mean(b, layers.Add(b, layers.Activation(b, logits, kernels.Softplus), layers.Scale(b, wrong, -1))), b.Err()
		}
		shape = shape[:1]
	default:
		shape = shape[:len(shape)-1]
	}
	if len(labels) != shape.TotalSize() {
		return nil, inputErrorf("in/labels has %d whole numbers, a model of %s with logits %v wants them of shape %v", len(in.Labels), task, logits.Shape(), shape)
	}
	targets := b.Input("labels", tensor.Int32, shape...)
	if b.Err() == nil {
		copy(layers.InputValue(targets).Int32s(), labels)
	}
	return layers.CrossEntropy(b, logits, targets, 0), b.Err()
}

// answerLoss is the mean of those of start and end, each the mean over the examples whose place is a token. As transformers has it, places before the
// first token are the first one, and those behind the last one do not count.
func (in Batch) answerLoss(b *layers.Builder, logits *layers.Node) (*layers.Node, error) {
	places := b.Input("labels", tensor.Int32, in.B, 2)
	if b.Err() != nil {
		return nil, b.Err()
	}
	kept, weights := [2]float64{}, make([]float64, 2*in.B)
	for i, label := range in.Labels {
		if label = max(label, 0); int(label) >= in.T {
			label = -1
		} else {
			kept[i%2]++
		}
		layers.InputValue(places).Int32s()[i] = label
	}
	for i := range weights {
		weights[i] = 1 / (2 * max(kept[i%2], 1))
	}
	return layers.Sum(b, layers.Mul(b, layers.PointerRows(b, logits, places, nil), constant(b, "weights of ends", weights, []int{in.B, 2}))), b.Err()
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
