package train

import (
	"fmt"
	"maps"
	"slices"

	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/data"
	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/kernels"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/models"
)

// Graph is a model compiled for batches of one shape: the loss of each row of its task and, for training, the gradient of every weight.
type Graph struct {
	B, T    int
	Program *engine.Program

	goal    objective
	bound   []binding
	step    []int32        // dropout's counter, if there is dropout
	weights gorgonia.Value // factor of each row's loss, for training
	own     gorgonia.Value // [1] factor of the model's own term, for training; nil without one
	rows    gorgonia.Value // loss of each row, in nats (of regression the squared error)
	term    gorgonia.Value // [1] the model's own term; nil without one
	logits  gorgonia.Value // for evaluation

	Params []*layers.Param // trained weights, in the order of first use
	grads  []gorgonia.Value
	state  []stateParts // of what is learned without gradients

	targets *layers.Node   // of the rows; nil: they are numbers
	policy  *policyGraph   // of layers that choose, for training; nil: there are none
	rewards gorgonia.Value // with GraphOptions.rewards
}

// binding is a part of a batch, whole numbers or others, and the graph input that it is copied to.
type binding struct {
	ints   func(b *data.Batch) []int32
	floats func(b *data.Batch) []float32
	to     *tensor.Dense
}

// GraphOptions say what a graph is for.
type GraphOptions struct {
	Seed           uint64
	Train          bool // with gradients, and dropout is active
	Recompute      string
	LabelSmoothing float64 // training only
	CheckFinite    bool    // stop at the first NaN and name its layer; costs a pass over every value
	First          int     // position of the first token of each example
	Policy         Policy  // training only: how layers that choose learn
	Sampled        bool    // without training: layers that choose do so by chance, see Graph.Draw
	rewards        bool    // without training: the reward of each example is computed

	poison bool // for tests, see engine.Options
}

// NewGraph builds and compiles a model for batches with the sizes and the inputs of one. What a batch lacks (token types, say) is no input
// of the graph. params holds the weights; missing ones get their initial values.
//
// Errors: a task without a loss, or one that the batch has no targets for; what the model reports.
func NewGraph(m models.Model, params *layers.Params, like *data.Batch, o GraphOptions) (*Graph, error) {
	goal, err := objectiveOf(m.Task())
	if err != nil {
		return nil, err
	}
	goal = goal.of(m)
	if err := goal.check(m, like); err != nil {
		return nil, err
	}
	cheap, layersPerBlock := false, 0
	if o.Train {
		if cheap, layersPerBlock, err = ParseRecompute(o.Recompute); err != nil {
			return nil, err
		}
	}
	eg := gorgonia.NewGraph()
	b := layers.New(eg, params, layers.Options{Seed: o.Seed, Training: o.Train, Sampled: o.Sampled})
	g := &Graph{B: like.B, T: like.T, goal: goal}
	in := g.inputs(b, like)
	in.First = o.First
	out := m.Forward(b, in, layersPerBlock)
	if err := b.Err(); err != nil {
		return nil, fmt.Errorf("train: %w", err)
	}
	out.Loss = b.Terms(out.Loss)
	smoothing := 0.0
	if o.Train {
		smoothing = o.LabelSmoothing
	}
	rows, err := g.loss(b, m.Task(), out, in.Lens, like, smoothing)
	if err != nil {
		return nil, err
	}
	outputs := layers.Nodes{rows}
	if out.Loss != nil {
		outputs = append(outputs, out.Loss)
	}
	var weights layers.Nodes
	var gradients layers.Nodes
	var told []told
	if o.Train {
		weights = layers.Nodes{b.Input("loss_weights", params.Dtype(), rows.Shape()...)}
		if out.Loss != nil {
			weights = append(weights, b.LossWeight())
		}
		if len(b.Choices()) > 0 {
			var loss *layers.Node
			loss, told = g.addPolicy(b, o.Policy, rows)
			outputs, weights = append(outputs, loss), append(weights, b.Input("loss_weight.policy", params.Dtype(), 1))
			g.policy.weight = layers.InputValue(weights[len(weights)-1])
		}
		if err := b.Err(); err != nil {
			return nil, fmt.Errorf("train: %w", err)
		}
		var nodes layers.Nodes
		g.Params, nodes = b.Weights()
		r := &engine.Recompute{Cheap: cheap}
		if layersPerBlock > 0 || b.Blocks() {
			r.Block = b.BlockOf
		}
		grads, err := engine.VJP(outputs, weights, nodes, r)
		if err != nil {
			return nil, fmt.Errorf("train: %w", err)
		}
		gradients, outputs = grads, append(outputs, grads...)
		for _, u := range b.Updates() {
			for _, p := range u.Parts {
				outputs = append(outputs, p.Node)
			}
		}
	} else {
		outputs = append(outputs, out.Logits)
		if o.rewards {
			told = g.tellRewards(b, rows)
		}
	}
	for _, t := range told {
		outputs = append(outputs, t.node)
	}
	program, err := engine.Compile(eg, outputs, engine.Options{Scope: b.ScopeOf, CheckFinite: o.CheckFinite, Poison: o.poison})
	if err != nil {
		return nil, fmt.Errorf("train: %w", err)
	}
	g.Program = program
	g.rows = program.Value(rows)
	if out.Loss != nil {
		g.term = program.Value(out.Loss)
	}
	for _, t := range told {
		*t.to = program.Value(t.node)
	}
	if o.Sampled {
		g.step = layers.InputValue(b.Step()).Int32s()
	}
	if !o.Train {
		g.logits = program.Value(out.Logits)
		return g, nil
	}
	g.weights = layers.InputValue(weights[0])
	if out.Loss != nil {
		g.own = layers.InputValue(weights[1])
	}
	g.step = layers.InputValue(b.Step()).Int32s()
	for _, n := range gradients {
		g.grads = append(g.grads, program.Value(n))
	}
	g.state = partsOf(b.Updates(), program)
	return g, nil
}

// inputs makes the inputs of a model, those that a batch has.
func (g *Graph) inputs(b *layers.Builder, like *data.Batch) models.Inputs {
	ints := func(name string, of func(b *data.Batch) []int32, shape ...int) *layers.Node {
		if len(of(like)) == 0 {
			return nil
		}
		n := b.Input(name, tensor.Int32, shape...)
		g.bind(n, binding{ints: of})
		return n
	}
	rows, t, u := like.B, like.T, len(like.TargetIDs)/like.B
	in := models.Inputs{
		IDs:        ints("input_ids", func(b *data.Batch) []int32 { return b.IDs }, rows, t),
		Lens:       ints("lengths", func(b *data.Batch) []int32 { return b.Lens }, rows),
		Types:      ints("token_type_ids", func(b *data.Batch) []int32 { return b.Types }, rows, t),
		Globals:    ints("globals", func(b *data.Batch) []int32 { return b.Globals }, rows, len(like.Globals)/rows),
		TargetIDs:  ints("decoder_input_ids", func(b *data.Batch) []int32 { return b.TargetIDs }, rows, u),
		TargetLens: ints("decoder_lengths", func(b *data.Batch) []int32 { return b.TargetLens }, rows),
	}
	if d := len(like.Vectors) / (rows * t); d > 0 {
		in.Vectors = b.Input("vectors", b.Dtype(), rows, t, d)
		g.bind(in.Vectors, binding{floats: func(b *data.Batch) []float32 { return b.Vectors }})
	}
	for _, name := range slices.Sorted(maps.Keys(like.More)) {
		if in.More == nil {
			in.More = map[string]*layers.Node{}
		}
		in.More[name] = ints(name, func(b *data.Batch) []int32 { return b.More[name] }, rows, len(like.More[name])/rows)
	}
	return in
}

// loss adds the loss of each row of a task. Where the logits are of one slice of each image, its rows stand for those of all slices.
func (g *Graph) loss(b *layers.Builder, task string, out models.Outputs, lens *layers.Node, like *data.Batch, smoothing float64) (*layers.Node, error) {
	logits := out.Logits
	if logits == nil {
		return nil, fmt.Errorf("train: the model has no head for %s: set model.task", task)
	}
	shape, err := g.goal.targetShape(task, logits)
	if err != nil {
		return nil, err
	}
	slices := 1
	if out.Slices != nil {
		slices = like.T / shape[1]
		shape[1] *= slices
	}
	if n, _ := g.goal.count(like); n*max(1, g.goal.mixed) != shape.TotalSize() {
		return nil, fmt.Errorf("train: the model gives logits of shape %v for %s, but the data have %d targets for %d examples", logits.Shape(), task, n, like.B)
	}
	lb, in := b.Scope("loss"), taskInputs{lens: lens}
	if of := g.goal.targets; of != nil {
		in.targets = lb.Input("labels", tensor.Int32, shape...)
		g.bind(in.targets, binding{ints: of})
	} else {
		in.values = lb.Input("values", b.Dtype(), shape...)
		g.bind(in.values, binding{floats: func(b *data.Batch) []float32 { return b.Values }})
	}
	if g.targets = in.targets; slices > 1 {
		g.targets = nil
		in.targets = layers.PickSlice(lb, in.targets, out.Slices, slices)
	}
	rows := g.goal.rows(lb, logits, in, smoothing)
	if slices > 1 {
		rows = layers.Scale(lb, rows, float64(slices))
	}
	if err := b.Err(); err != nil {
		return nil, fmt.Errorf("train: %w", err)
	}
	return rows, nil
}

func (g *Graph) bind(n *layers.Node, in binding) {
	if n != nil {
		in.to = layers.InputValue(n)
		g.bound = append(g.bound, in)
	}
}

// load copies a batch of the graph's shape into its inputs.
func (g *Graph) load(b *data.Batch) {
	for _, in := range g.bound {
		switch {
		case in.ints != nil:
			copy(in.to.Int32s(), in.ints(b))
		case in.to.Dtype() == tensor.Float32:
			copy(in.to.Float32s(), in.floats(b))
		default:
			for i, x := range in.floats(b) {
				in.to.Float64s()[i] = float64(x)
			}
		}
	}
}

// setWeights gives every row the same factor, and the model's own term another; rows without target have no loss whatever it is.
func (g *Graph) setWeights(row, own float64) {
	fillWith(g.weights, row)
	if g.own != nil {
		fillWith(g.own, own)
	}
}

func fillWith(v gorgonia.Value, x float64) {
	if engine.IsF32(v) {
		fill(engine.Floats[float32](v), float32(x))
	} else {
		fill(engine.Floats[float64](v), x)
	}
}

func fill[F kernels.Float](x []F, v F) {
	for i := range x {
		x[i] = v
	}
}

// sum adds up a value in float64, in a fixed order.
func sum(v gorgonia.Value) float64 {
	if engine.IsF32(v) {
		return kernels.Sum(engine.Floats[float32](v))
	}
	return kernels.Sum(engine.Floats[float64](v))
}

// sumSquares is the squared Euclidean norm of a value.
func sumSquares(v gorgonia.Value) float64 {
	if engine.IsF32(v) {
		return kernels.SumSq(engine.Floats[float32](v))
	}
	return kernels.SumSq(engine.Floats[float64](v))
}

// addTo adds x to y.
func addTo(y, x gorgonia.Value) {
	if engine.IsF32(y) {
		kernels.Axpy(1, engine.Floats[float32](x), engine.Floats[float32](y))
	} else {
		kernels.Axpy(1, engine.Floats[float64](x), engine.Floats[float64](y))
	}
}
