package train

import (
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/layers"
)

// stateParts is a rule for state with what the graph gives for it.
type stateParts struct {
	layers.StateUpdate
	batch []*tensor.Dense // of the batch that was run last
	total []*tensor.Dense // of the step
}

// partsOf finds the parts of the rules among the results of a program.
func partsOf(updates []layers.StateUpdate, p *engine.Program) []stateParts {
	var all []stateParts
	for _, u := range updates {
		s := stateParts{StateUpdate: u}
		for _, part := range u.Parts {
			v := p.Value(part.Node).(*tensor.Dense)
			s.batch = append(s.batch, v)
			s.total = append(s.total, tensor.New(tensor.Of(v.Dtype()), tensor.WithShape(v.Shape()...)))
		}
		all = append(all, s)
	}
	return all
}

// ready reports whether all state has values.
func (g *Graph) ready() bool {
	for _, s := range g.state {
		if s.Ready != nil && !s.Ready() {
			return false
		}
	}
	return true
}

// startState gives state its first values, given that the program has run on a batch.
func (g *Graph) startState() {
	for _, s := range g.state {
		if s.Ready != nil && !s.Ready() {
			s.Start(s.batch)
		}
	}
}

// mergeState takes up what a batch gave.
func (g *Graph) mergeState(first bool) {
	for _, s := range g.state {
		for i, part := range s.Parts {
			switch {
			case first:
				copyTo(s.total[i], s.batch[i])
			case part.Merge != nil:
				part.Merge(s.total[i], s.batch[i])
			default:
				addTo(s.total[i], s.batch[i])
			}
		}
	}
}

// applyState sets the state for the next step and returns the mean of each metric over the rules that tell it; nil if none does.
func (g *Graph) applyState(step int) map[string]float64 {
	var means map[string]float64
	count := map[string]float64{}
	for _, s := range g.state {
		if s.Ready != nil && !s.Ready() {
			continue
		}
		for _, m := range s.Apply(step, s.total) {
			if means == nil {
				means = map[string]float64{}
			}
			count[m.Name]++
			means[m.Name] += (m.Value - means[m.Name]) / count[m.Name]
		}
	}
	return means
}

func copyTo(y, x *tensor.Dense) {
	if engine.IsF32(y) {
		copy(y.Float32s(), x.Float32s())
	} else {
		copy(y.Float64s(), x.Float64s())
	}
}
