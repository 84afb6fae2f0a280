package layers

import (
	"github.com/euryale-ml/euryale/internal/engine"
)

// AddLoss makes term [1] a part of the loss that the model itself adds to that of its task (see Terms), and returns x, through which the
// term's gradient comes in: where a gradient reaches the result, the term gets LossWeight as its own. So a term that arises inside of
// a reversible layer, which is computed again for its gradient, has its gradient there and keeps nothing.
// Without training it is x and there is no term. Cost: none.
// Errors: term is not [1].
func (b *Builder) AddLoss(x, term *Node) *Node {
	if b.err != nil || !b.Training() {
		return x
	}
	if term.Shape().TotalSize() != 1 || term.Shape().Dims() != 1 {
		return b.Failf("a term of the loss of shape %v, want [1]", term.Shape())
	}
	b.terms = append(b.terms, term)
	return b.Op(withTerm{}, x, term, b.LossWeight())
}

// LossWeight is the input "loss_weight.own" [1]: the factor of the model's own loss in what a gradient is taken of. It is 0 until it is set.
func (b *Builder) LossWeight() *Node { return b.Input("loss_weight.own", b.Dtype(), 1) }

// Terms is the sum of own [1], which may be nil, and of what AddLoss was given; nil if there is nothing. Terms of AddLoss count by
// their values alone: their gradients are taken care of.
func (b *Builder) Terms(own *Node) *Node {
	for _, t := range b.terms {
		t = StopGradient(b, t)
		if own == nil {
			own = t
		} else {
			own = Add(b, own, t)
		}
	}
	return own
}

// withTerm is its first input. Inputs: x, the term, its weight.
type withTerm struct{}

func (withTerm) Name() string                                  { return "add_loss" }
func (withTerm) DiffWRT() []bool                               { return []bool{true, true, false} }
func (withTerm) View() (input, offset int)                     { return 0, 0 }
func (withTerm) Infer(in []engine.Type) (engine.Type, error)   { return in[0], nil }
func (withTerm) Run(out engine.Value, in []engine.Value) error { return copyValue(out, in[0]) }
func (withTerm) Diff(in Nodes, _, dout *Node) (Nodes, error)   { return Nodes{dout, in[2], nil}, nil }

func copyValue(out, in engine.Value) error {
	if engine.IsF32(out) {
		copy(engine.Floats[float32](out), engine.Floats[float32](in))
	} else {
		copy(engine.Floats[float64](out), engine.Floats[float64](in))
	}
	return nil
}
