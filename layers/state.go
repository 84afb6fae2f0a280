package layers

import (
	"fmt"

	"gorgonia.org/tensor"
)

// State returns the node of a table that belongs to the model but is learned without gradients, such as the centroids of clusters: it
// is named, drawn, stored and loaded as a parameter is, and read by graphs as one, but no optimiser knows it, so that it has neither
// decay nor moments and no part in the norm of the gradient. What changes it is a StateUpdate.
// Errors: those of Param; a weight has that name.
func (b *Builder) State(name string, init Init, shape ...int) *Node {
	_, weight := b.weight[b.join(name)]
	n := b.Param(name, init, shape...)
	if n == nil {
		return nil
	}
	p, _ := b.params.Get(b.join(name))
	if weight && !p.State {
		return b.Failf("state %s: there is a weight of that name", p.Name)
	}
	p.State = true
	return n
}

// StateUpdate says how state follows from what the graphs of one training step saw. The trainer merges the parts of the step's batches
// in their order and applies the rule once, after the weights were updated; never for a step that was not taken, nor in evaluation.
// Computing nodes again, for a gradient, changes nothing, as parts are nodes of the forward pass.
type StateUpdate struct {
	// Parts are what a graph gives of a batch, dense floats.
	Parts []StatePart
	// Ready reports whether the state has values yet; nil: it always has. If not, the graph of the first step is run once on its first
	// batch before the step itself, and Start takes the values from that.
	Ready func() bool
	// Start sets first values given the parts of one batch. It may leave the state as it is, if they are not finite.
	Start func(parts []*tensor.Dense)
	// Apply sets the values for the next step, given the merged parts, and tells what people watch. step counts from 1.
	Apply func(step int, parts []*tensor.Dense) []Metric
}

// StatePart is something to be merged over the batches of a step.
type StatePart struct {
	Node *Node
	// Merge takes up the part of one more batch; nil: by addition. It must be associative, so that workers can merge what they have.
	Merge func(total, next *tensor.Dense)
}

// Metric is a number for people who watch a training.
type Metric struct {
	Name  string
	Value float64
}

// Update adds a rule for state of this graph; a graph that is not for training has none.
func (b *Builder) Update(u StateUpdate) {
	if b.err == nil && b.Training() {
		b.updates = append(b.updates, u)
	}
}

// Updates are the rules in the order in which they were added.
func (b *Builder) Updates() []StateUpdate { return b.updates }

// StateError says that state has no values yet that a graph could work with.
type StateError struct {
	Name string // of the state
	What string // it wants
}

func (e *StateError) Error() string {
	return fmt.Sprintf("%s has no values yet: %s", e.Name, e.What)
}
