package models

import (
	"context"
	"fmt"
	"slices"
	"sort"

	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/layers"
)

// Sequence is what a model reads of one example.
type Sequence struct {
	IDs     []int32
	Types   []int32 // token types, as long as IDs; nil: 0 everywhere
	Globals []int32 // positions of tokens that the task makes global; nil: what the model says itself
	Targets []int32 // what the decoder of an encoder-decoder reads
}

// Prediction is what a model gives for one sequence, without padding.
type Prediction struct {
	// Logits are those of Outputs.Logits: [T,V] row after row, [labels] of a classifier; nil of a model without a head.
	Logits []float32
	Width  int // of a row of logits
	// Hidden are the rows [T,C] after the last layer and its norm.
	Hidden []float32
	// Pooled is pooler_output [C]; nil if the model has no pooler.
	Pooled []float32
}

// Row is row i of the logits.
func (p Prediction) Row(i int) []float32 { return p.Logits[i*p.Width:][:p.Width] }

// Mean is the mean of the rows of Hidden, [C]: a vector for a text, as sentence encoders make it.
func (p Prediction) Mean(width int) []float32 {
	out := make([]float32, width)
	rows := len(p.Hidden) / width
	for i, v := range p.Hidden {
		out[i%width] += v / float32(rows)
	}
	return out
}

// PredictorOptions say how sequences are put together.
type PredictorOptions struct {
	BatchSize int // sequences at a time; 0: 8
	Bucket    int // lengths are rounded up to a multiple of it, so that few graphs serve all; 0: 64
	Graphs    int // compiled graphs that are kept, the last used; 0: 8
}

// Predictor runs a model on many sequences: those of like lengths together, on graphs that are compiled once for each number and length. What
// comes out for a sequence does not depend on its neighbours beyond rounding.
//
// Not for several goroutines at once. Float32 only.
type Predictor struct {
	model   Model
	params  *layers.Params
	options PredictorOptions
	graphs  []*predictGraph // the last used one in front
}

// NewPredictor prepares predictions of a model.
//
// Errors: weights of another type than float32; negative options.
func NewPredictor(m Model, params *layers.Params, o PredictorOptions) (*Predictor, error) {
	if params.Dtype() != tensor.Float32 {
		return nil, fmt.Errorf("predictor: the weights are %v, want float32", params.Dtype())
	}
	if o.BatchSize < 0 || o.Bucket < 0 || o.Graphs < 0 {
		return nil, fmt.Errorf("predictor: options are %+v, want none below 0", o)
	}
	for _, v := range []struct {
		to  *int
		def int
	}{{&o.BatchSize, 8}, {&o.Bucket, 64}, {&o.Graphs, 8}} {
		if *v.to == 0 {
			*v.to = v.def
		}
	}
	return &Predictor{model: m, params: params, options: o}, nil
}

// Run gives a prediction for each sequence, in their order. It ends early with ctx's error.
//
// Errors: an empty sequence; one longer than the model has positions (*LengthError); ids outside the vocabulary; what the model reports.
func (p *Predictor) Run(ctx context.Context, all []Sequence) ([]Prediction, error) {
	if err := p.check(all); err != nil {
		return nil, err
	}
	order := make([]int, len(all))
	for i := range order {
		order[i] = i
	}
	sort.SliceStable(order, func(a, b int) bool { return len(all[order[a]].IDs) < len(all[order[b]].IDs) })
	out := make([]Prediction, len(all))
	for len(order) > 0 {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		n := p.together(all, order)
		g, err := p.graph(p.shapeOf(all, order[:n]))
		if err != nil {
			return nil, err
		}
		if err := g.run(all, order[:n], out); err != nil {
			return nil, err
		}
		order = order[n:]
	}
	return out, nil
}

func (p *Predictor) check(all []Sequence) error {
	d := p.model.Dims()
	for i, s := range all {
		switch {
		case len(s.IDs) == 0:
			return fmt.Errorf("predictor: sequence %d is empty", i)
		case d.Positions > 0 && len(s.IDs) > d.Positions:
			return &LengthError{Length: len(s.IDs), Max: d.Positions}
		case s.Types != nil && len(s.Types) != len(s.IDs):
			return fmt.Errorf("predictor: sequence %d has %d ids and %d types", i, len(s.IDs), len(s.Types))
		}
		for _, ids := range [][]int32{s.IDs, s.Targets} {
			if at := slices.IndexFunc(ids, func(id int32) bool { return id < 0 || int(id) >= d.Vocab }); at >= 0 {
				return fmt.Errorf("predictor: sequence %d has the id %d, the vocabulary has %d", i, ids[at], d.Vocab)
			}
		}
	}
	return nil
}

// predictShape is what a graph is compiled for.
type predictShape struct {
	b, t, globals, targets int
	types                  bool
}

// together is how many of the next sequences are run at once: those that have the same inputs and the same bucket.
func (p *Predictor) together(all []Sequence, order []int) int {
	first := p.shapeOf(all, order[:1])
	n := 1
	for n < len(order) && n < p.options.BatchSize && p.shapeOf(all, order[n:n+1]) == first {
		n++
	}
	return n
}

func (p *Predictor) shapeOf(all []Sequence, order []int) (s predictShape) {
	up := func(n int) int { return (n + p.options.Bucket - 1) / p.options.Bucket * p.options.Bucket }
	s.b = len(order)
	for _, i := range order {
		s.t = max(s.t, up(len(all[i].IDs)))
		s.globals = max(s.globals, len(all[i].Globals))
		s.types = s.types || all[i].Types != nil
		if n := len(all[i].Targets); n > 0 {
			s.targets = max(s.targets, up(n))
		}
	}
	if most := p.model.Dims().Positions; most > 0 {
		s.t, s.targets = min(s.t, most), min(s.targets, most)
	}
	return s
}

// graph is one for a shape, compiled or found.
func (p *Predictor) graph(s predictShape) (*predictGraph, error) {
	if at := slices.IndexFunc(p.graphs, func(g *predictGraph) bool { return g.shape == s }); at >= 0 {
		g := p.graphs[at]
		p.graphs = slices.Insert(slices.Delete(p.graphs, at, at+1), 0, g)
		return g, nil
	}
	g, err := newPredictGraph(p.model, p.params, s)
	if err != nil {
		return nil, err
	}
	if len(p.graphs) == p.options.Graphs {
		p.graphs = p.graphs[:p.options.Graphs-1]
	}
	p.graphs = slices.Insert(p.graphs, 0, g)
	return g, nil
}

// predictGraph is a model without gradients for sequences of one shape.
type predictGraph struct {
	shape                                            predictShape
	program                                          *engine.Program
	ids, lens, types, globals, targetIDs, targetLens []int32
	logits, hidden, pooled                           gorgonia.Value
	perToken                                         bool // logits have a row for each token
}

func newPredictGraph(m Model, params *layers.Params, s predictShape) (*predictGraph, error) {
	eg := gorgonia.NewGraph()
	b := layers.New(eg, params, layers.Options{})
	g := &predictGraph{shape: s}
	input := func(name string, shape ...int) (*Node, []int32) {
		n := b.Input(name, tensor.Int32, shape...)
		if b.Err() != nil {
			return nil, nil
		}
		return n, layers.InputValue(n).Int32s()
	}
	var in Inputs
	in.IDs, g.ids = input("input_ids", s.b, s.t)
	in.Lens, g.lens = input("lengths", s.b)
	if s.types {
		in.Types, g.types = input("token_type_ids", s.b, s.t)
	}
	if s.globals > 0 {
		in.Globals, g.globals = input("globals", s.b, s.globals)
	}
	if s.targets > 0 {
		in.TargetIDs, g.targetIDs = input("decoder_input_ids", s.b, s.targets)
		in.TargetLens, g.targetLens = input("target_lengths", s.b)
	}
	out := m.Forward(b, in, 0)
	if err := b.Err(); err != nil {
		return nil, fmt.Errorf("predictor: %w", err)
	}
	nodes := layers.Nodes{out.Hidden[len(out.Hidden)-1]}
	if out.Logits != nil {
		nodes = append(nodes, out.Logits)
	}
	pooler := out.More["pooler_output"]
	if pooler != nil {
		nodes = append(nodes, pooler)
	}
	program, err := engine.Compile(eg, nodes, engine.Options{Scope: b.ScopeOf})
	if err != nil {
		return nil, fmt.Errorf("predictor: %w", err)
	}
	g.program, g.hidden = program, program.Value(nodes[0])
	if out.Logits != nil {
		g.logits, g.perToken = program.Value(out.Logits), out.Logits.Dims() == 3
	}
	if pooler != nil {
		g.pooled = program.Value(pooler)
	}
	return g, nil
}

// run fills the inputs, runs the graph and takes the outputs apart.
func (g *predictGraph) run(all []Sequence, order []int, out []Prediction) error {
	clear(g.ids)
	clear(g.types)
	clear(g.targetIDs)
	for i := range g.globals {
		g.globals[i] = -1
	}
	for r, i := range order {
		s := all[i]
		copy(g.ids[r*g.shape.t:], s.IDs)
		g.lens[r] = int32(len(s.IDs))
		if g.types != nil {
			copy(g.types[r*g.shape.t:], s.Types)
		}
		copy(g.globals[r*g.shape.globals:], s.Globals)
		if g.targetIDs != nil {
			copy(g.targetIDs[r*g.shape.targets:], s.Targets)
			g.targetLens[r] = int32(len(s.Targets))
		}
	}
	if err := g.program.Run(); err != nil {
		return fmt.Errorf("predictor: %w", err)
	}
	rows := g.shape.t
	if g.shape.targets > 0 {
		rows = g.shape.targets
	}
	for r, i := range order {
		n := len(all[i].IDs)
		if g.shape.targets > 0 {
			n = len(all[i].Targets)
		}
		p := &out[i]
		p.Hidden = rowsOfExample(g.hidden, r, g.shape.b, rows, n)
		if g.pooled != nil {
			p.Pooled = rowsOfExample(g.pooled, r, g.shape.b, 1, 1)
		}
		if g.logits != nil {
			if shape := g.logits.Shape(); g.perToken {
				p.Logits, p.Width = rowsOfExample(g.logits, r, g.shape.b, rows, n), shape[2]
			} else {
				p.Logits, p.Width = rowsOfExample(g.logits, r, g.shape.b, 1, 1), shape[1]
			}
		}
	}
	return nil
}

// rowsOfExample copies the first n of the rows of example r.
func rowsOfExample(v gorgonia.Value, r, b, rows, n int) []float32 {
	data := engine.Floats[float32](v)
	each := len(data) / b
	return slices.Clone(data[r*each:][:each/rows*n])
}
