package train

import (
	"fmt"

	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/data"
	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/kernels"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/models"
)

// Graph is a model compiled for one batch shape: the loss of each token and, for training, the gradient of every weight.
type Graph struct {
	B, T    int
	Program *engine.Program

	ids, targets, lens []int32
	step               []int32        // dropout's counter, if there is dropout
	weights            gorgonia.Value // [B,T] factor of each token's loss, for training
	rows               gorgonia.Value // [B,T] loss of each token in nats
	logits             gorgonia.Value // [B,T,V], for evaluation

	Params []*layers.Param // trained weights, in the order of first use
	grads  []gorgonia.Value
}

// GraphOptions say what a graph is for.
type GraphOptions struct {
	Seed           uint64
	Train          bool // with gradients, and dropout is active
	Recompute      string
	LabelSmoothing float64 // training only
	CheckFinite    bool    // stop at the first NaN and name its layer; costs a pass over every value

	poison bool // for tests, see engine.Options
}

// NewGraph builds and compiles a model for B sequences of T tokens. params holds its weights; missing ones get their initial values.
func NewGraph(m models.Model, params *layers.Params, batch, t int, o GraphOptions) (*Graph, error) {
	cheap, layersPerBlock := false, 0
	if o.Train {
		var err error
		if cheap, layersPerBlock, err = ParseRecompute(o.Recompute); err != nil {
			return nil, err
		}
	}
	eg := gorgonia.NewGraph()
	b := layers.New(eg, params, layers.Options{Seed: o.Seed, Training: o.Train})
	ids := b.Input("input_ids", tensor.Int32, batch, t)
	targets := b.Input("labels", tensor.Int32, batch, t)
	lens := b.Input("lengths", tensor.Int32, batch)
	out := m.Forward(b, models.Inputs{IDs: ids, Lens: lens}, layersPerBlock)
	smoothing := 0.0
	if o.Train {
		smoothing = o.LabelSmoothing
	}
	rows := layers.CrossEntropyRows(b.Scope("loss"), out.Logits, targets, smoothing) // [B,T]
	var weights *layers.Node
	outputs := layers.Nodes{rows}
	g := &Graph{B: batch, T: t}
	if o.Train {
		weights = b.Input("loss_weights", params.Dtype(), batch, t)
		if b.Err() == nil {
			var nodes layers.Nodes
			g.Params, nodes = b.Weights()
			r := &engine.Recompute{Cheap: cheap}
			if layersPerBlock > 0 {
				r.Block = b.BlockOf
			}
			grads, err := engine.VJP(layers.Nodes{rows}, layers.Nodes{weights}, nodes, r)
			if err != nil {
				return nil, fmt.Errorf("train: %w", err)
			}
			outputs = append(outputs, grads...)
		}
	} else {
		outputs = append(outputs, out.Logits)
	}
	if err := b.Err(); err != nil {
		return nil, fmt.Errorf("train: %w", err)
	}
	program, err := engine.Compile(eg, outputs, engine.Options{Scope: b.ScopeOf, CheckFinite: o.CheckFinite, Poison: o.poison})
	if err != nil {
		return nil, fmt.Errorf("train: %w", err)
	}
	g.Program = program
	g.ids, g.targets, g.lens = layers.InputValue(ids).Int32s(), layers.InputValue(targets).Int32s(), layers.InputValue(lens).Int32s()
	g.rows = program.Value(rows)
	if o.Train {
		g.weights = layers.InputValue(weights)
		g.step = layers.InputValue(b.Step()).Int32s()
		for _, n := range outputs[1:] {
			g.grads = append(g.grads, program.Value(n))
		}
	} else {
		g.logits = program.Value(out.Logits)
	}
	return g, nil
}

// load copies a batch of the graph's shape into its inputs.
func (g *Graph) load(b *data.Batch) {
	copy(g.ids, b.IDs)
	copy(g.targets, b.Targets)
	copy(g.lens, b.Lens)
}

// setWeights gives every token the same factor; tokens without target have no loss whatever it is.
func (g *Graph) setWeights(w float64) {
	if engine.IsF32(g.weights) {
		fill(engine.Floats[float32](g.weights), float32(w))
	} else {
		fill(engine.Floats[float64](g.weights), w)
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
