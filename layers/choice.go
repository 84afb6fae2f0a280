package layers

import (
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
)

// Choice is what a layer chose by chance, as far as learning from rewards needs it: how likely it was. What is chosen has no gradient, its
// probability has.
type Choice struct {
	Scope string // of the layer
	// LogProb and Entropy, [B,G,S], are the log-probability of each of S actions of G choices an example, and the entropy of the
	// distribution it was drawn from; 0 where there was no action.
	LogProb, Entropy *Node
	// Steps, int32 [B,G], is how many actions there were.
	Steps *Node
	// EntropyWeight is how much of a nat of reward a nat of entropy is worth, so that choices do not become certain too early.
	EntropyWeight float64
}

// Choose notes what a layer chose, for whoever trains it.
func (b *Builder) Choose(c Choice) {
	if b.err == nil {
		c.Scope = b.path
		b.choices = append(b.choices, c)
	}
}

// Choices are those of the graph, in the order of its layers.
func (b *Builder) Choices() []Choice { return b.choices }

// Sampled tells whether layers that choose do so by chance: in training, and where Options.Sampled asks for it; else they take what is
// likeliest.
func (b *Builder) Sampled() bool { return b.opts.Training || b.opts.Sampled }

// Once returns what make gives the first time that it is asked for under a name, which has no scope: what the layers of a model have in
// common. It is nil while an error is pending.
func (b *Builder) Once(name string, make func() *Node) *Node {
	if b.err != nil {
		return nil
	}
	n, ok := b.once[name]
	if !ok {
		n = make()
		b.once[name] = n
	}
	return n
}

// ChoosingWeights is the group of the weights that choose, which learn from rewards.
const ChoosingWeights = "choosing"

// Grouped is Param for a weight of a group with an optimiser of its own; see Param.Group.
func (b *Builder) Grouped(group, name string, init Init, shape ...int) *Node {
	n := b.Param(name, init, shape...)
	if n != nil {
		p, _ := b.params.Get(b.join(name))
		p.Group = group
	}
	return n
}

// StopGradient is x, through which no gradient goes. Cost: none.
func StopGradient(b *Builder, x *Node) *Node { return b.Op(stopped{}, x) }

type stopped struct{}

func (stopped) Name() string                                { return "stop_gradient" }
func (stopped) DiffWRT() []bool                             { return []bool{false} }
func (stopped) View() (input, offset int)                   { return 0, 0 }
func (stopped) Infer(in []engine.Type) (engine.Type, error) { return in[0], nil }
func (stopped) Diff(Nodes, *Node, *Node) (Nodes, error)     { return Nodes{nil}, nil }
func (stopped) Run(out engine.Value, in []engine.Value) error {
	if in[0].Dtype() == tensor.Int32 {
		copy(engine.Ints(out), engine.Ints(in[0]))
		return nil
	}
	return copyValue(out, in[0])
}
