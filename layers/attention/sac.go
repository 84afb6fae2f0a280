package attention

import (
	"fmt"

	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/kernels"
	"github.com/euryale-ml/euryale/layers"
)

// SAC is a predictor of edges: an LSTM that chooses nodes one after the other by a pointer, each given those before it. With e_i = W_e' x_i,
// κ_i = W_κ' e_i and y_t the node chosen last (e_start at first) plus the slot of the step,
//
//	h_t = LSTM(y_t, h_{t-1}),  u_i = (W_η' h_t)·κ_i/√P + E_δ[bin(distance from the node chosen last)],  a_t ~ softmax(u over what may be chosen)
//
// Source: Li, Meng, Zhou, Han, Wu, Li 2020, SAC: Accelerating and structuring self-attention via sparse adaptive connection, NeurIPS,
// section 3. There is no public code: sizes, slots, bins and rules are ours.
type SAC struct {
	SACRules
	Graphs   int    // G: choices for each example; 0: 1
	Key      uint64 // of the nodes that are looked at with Local
	Features bool   // the gradient of the choices goes on into x; else it stops there
	Net      SACNet
}

// SACNet are the weights of a predictor of P numbers, for nodes of C.
type SACNet struct {
	Features *Node // W_e [C,P]
	Start    *Node // [P], input before the first action
	Slot     *Node // [2,P], added to the input of steps that choose a source, a destination
	WeightX  *Node // [P,4P]
	WeightH  *Node // [P,4P]
	Bias     *Node // [4P]
	Eta      *Node // W_η [P,P]
	Kappa    *Node // W_κ [P,P]
	Distance *Node // E_δ [D+2], the last for what cannot be reached
	Head     *Node // [G,P], added to the first input of each graph; nil: nothing
	Layer    *Node // [P], likewise for all of a layer; nil: nothing
}

// SACExamples are the nodes of the examples: x [B,T,C], how many there are, int32 [B] (nil: all), and edges int32 [B,E,2] of the graph that
// distances are measured on, if they are (negative: none).
type SACExamples struct{ X, Lens, Graph *Node }

// sacNodes is a predictor with what it knows of the nodes before the first step.
type sacNodes struct {
	sacStage
	net          SACNet
	ez, keys     *Node // [B,T,4P], [B,T,P]
	first, slots *Node // [G,4P], [2,4P]
	more         Nodes // lengths, graph
	batch, t     int
}

// read adds what is computed once for all steps.
func (s SAC) read(b *layers.Builder, in SACExamples) sacNodes {
	r := sacNodes{net: s.Net, sacStage: sacStage{rules: s.SACRules, graphs: max(s.Graphs, 1), key: s.Key, lens: in.Lens != nil, graph: in.Graph != nil}}
	if b.Err() != nil {
		return r
	}
	if s.Graph && in.Graph == nil {
		b.Failf("sac: distances on a graph, but the examples have none")
		return r
	}
	r.batch, r.t = in.X.Shape()[0], in.X.Shape()[1]
	for _, n := range []*Node{in.Lens, in.Graph} {
		if n != nil {
			r.more = append(r.more, n)
		}
	}
	x := in.X
	if !s.Features {
		x = layers.StopGradient(b, x)
	}
	by := func(x, w, bias *Node) *Node {
		return layers.Linear(b, x, layers.LinearConfig{Weight: w, InOut: true, NoBias: bias == nil, Bias: bias})
	}
	e := by(x, s.Net.Features, nil)
	first := layers.Reshape(b, s.Net.Start, 1, -1)
	if s.Net.Layer != nil {
		first = layers.Add(b, first, layers.Reshape(b, s.Net.Layer, 1, -1))
	}
	if s.Net.Head != nil && b.Err() == nil {
		p := first.Shape()[1]
		each := layers.Reshape(b, layers.Broadcast(b, first, r.graphs), r.graphs, p)
		first = layers.Add(b, each, s.Net.Head)
	} else if r.graphs > 1 && b.Err() == nil {
		first = layers.Reshape(b, layers.Broadcast(b, first, r.graphs), r.graphs, first.Shape()[1])
	}
	r.ez, r.keys = by(e, s.Net.WeightX, nil), by(e, s.Net.Kappa, nil)
	r.first, r.slots = by(first, s.Net.WeightX, nil), by(s.Net.Slot, s.Net.WeightX, s.Net.Bias)
	return r
}

// rollout draws actions, or takes the likeliest ones: int32 [B,G,S].
func (r sacNodes) rollout(b *layers.Builder, greedy bool) *Node {
	op := sacRollout{sacStage: r.sacStage, greedy: greedy, seed: b.Seed(), site: b.Site("sac")}
	return b.Op(op, append(Nodes{r.ez, r.keys, r.first, r.slots, r.net.WeightH, r.net.Eta, r.net.Distance, b.Step()}, r.more...)...)
}

// replay is how likely actions were: log-probabilities and entropies [B,G,S], which have gradients.
func (r sacNodes) replay(b *layers.Builder, actions *Node) (logProb, entropy *Node) {
	z := b.Op(sacInputs{r.sacStage}, append(Nodes{r.ez, r.first, r.slots, actions}, r.more...)...)
	h, _ := layers.LSTMSteps(b, z, r.net.WeightH, nil, nil)
	eta := layers.Linear(b, h, layers.LinearConfig{Weight: r.net.Eta, InOut: true, NoBias: true})
	packed := b.Op(sacPointer{r.sacStage}, append(Nodes{eta, r.keys, r.net.Distance, actions}, r.more...)...)
	if b.Err() != nil {
		return nil, nil
	}
	s := actions.Shape()
	return layers.View(b, packed, 0, s...), layers.View(b, packed, s.TotalSize(), s...)
}

// Rollout chooses: int32 [B,G,S], S = Steps(T), -1 where a step had nothing to choose or the rollout was over. Greedy takes the first of
// the likeliest; else draws are counted by seed, training step, place, example, graph and step, so that padding changes nothing.
// Cost: S (T P + 10 P²) operations a rollout, one step after the other, with Local in place of T if it is less. No gradient.
func (s SAC) Rollout(b *layers.Builder, in SACExamples, greedy bool) *Node {
	return s.read(b, in).rollout(b, greedy)
}

// Replay is the log-probability of given actions, and the entropy of the distribution of each, [B,G,S]; both have gradients for the
// weights, computed by backpropagation through the recurrence, and with Features for x. Memory: 9 P numbers a step; logits are not kept.
// Errors, when run: an action that may not be chosen.
func (s SAC) Replay(b *layers.Builder, in SACExamples, actions *Node) (logProb, entropy *Node) {
	return s.read(b, in).replay(b, actions)
}

// Both is Rollout and Replay of what it chose.
func (s SAC) Both(b *layers.Builder, in SACExamples, greedy bool) (actions, logProb, entropy *Node) {
	r := s.read(b, in)
	actions = r.rollout(b, greedy)
	logProb, entropy = r.replay(b, actions)
	return actions, logProb, entropy
}

// RandomActions draws as a predictor does to which everything is as likely: x [B,T,·].
func (r SACRules) RandomActions(b *layers.Builder, in SACExamples, graphs int) *Node {
	o := sacRollout{sacStage: sacStage{rules: r, graphs: graphs, lens: in.Lens != nil}, uniform: true, seed: b.Seed(), site: b.Site("sac")}
	o.rules.Graph = false
	args := Nodes{in.X, b.Step()}
	if in.Lens != nil {
		args = append(args, in.Lens)
	}
	return b.Op(o, args...)
}

// Edges are the pairs int32 [B,G,M,2] of actions [B,G,S]: source and destination, -1 where there is none.
func (r SACRules) Edges(b *layers.Builder, actions *Node) *Node { return b.Op(sacEdges{r}, actions) }

type sacEdges struct{ rules SACRules }

func (sacEdges) Name() string { return "sac_edges" }

func (o sacEdges) Infer(in []engine.Type) (engine.Type, error) {
	s := in[0].Shape
	if len(s) != 3 || in[0].Dtype != tensor.Int32 {
		return engine.Type{}, fmt.Errorf("actions %v, want int32 [B,G,S]", in[0])
	}
	m := s[2] / 2
	if o.rules.PerNode {
		m = s[2]
	}
	return engine.Type{Dtype: tensor.Int32, Shape: tensor.Shape{s[0], s[1], m, 2}}, nil
}

func (o sacEdges) Run(out engine.Value, in []engine.Value) error {
	a, e, steps := engine.Ints(in[0]), engine.Ints(out), in[0].Shape()[2]
	if !o.rules.PerNode {
		copy(e, a)
		return nil
	}
	for i, v := range a {
		e[2*i], e[2*i+1] = int32(i%steps/int(o.rules.Alpha)), v
	}
	return nil
}

func (sacEdges) Diff(Nodes, *Node, *Node) (Nodes, error) { return Nodes{nil}, nil }

// StepsOf is how many steps rollouts have taken, int32 [B,G]: T of their examples.
func (r SACRules) StepsOf(b *layers.Builder, actions, lens *Node) *Node {
	in := Nodes{actions}
	if lens != nil {
		in = append(in, lens)
	}
	return b.Op(sacSteps{r}, in...)
}

// sacSteps has inputs: actions, lengths. Without lengths the examples are as long as S says.
type sacSteps struct{ rules SACRules }

func (sacSteps) Name() string { return "sac_steps" }

func (sacSteps) Infer(in []engine.Type) (engine.Type, error) {
	if s := in[0].Shape; len(s) != 3 || in[0].Dtype != tensor.Int32 {
		return engine.Type{}, fmt.Errorf("actions %v, want int32 [B,G,S]", in[0])
	}
	return engine.Type{Dtype: tensor.Int32, Shape: in[0].Shape[:2].Clone()}, nil
}

func (o sacSteps) Run(out engine.Value, in []engine.Value) error {
	s, a, t := in[0].Shape(), engine.Ints(in[0]), engine.Ints(out)
	for n := range t {
		steps := s[2]
		if len(in) > 1 {
			steps = min(steps, o.rules.Steps(max(int(engine.Ints(in[1])[n/s[1]]), 0)))
		}
		for t[n] = 0; int(t[n]) < steps; t[n]++ {
			if !o.rules.PerNode && t[n]%2 == 0 && a[n*s[2]+int(t[n])] < 0 { // no source was left
				break
			}
		}
	}
	return nil
}

func (sacSteps) Diff(in Nodes, _, _ *Node) (Nodes, error) { return make(Nodes, len(in)), nil }

// sacCount adds up, for people: pairs that are read, nodes. Inputs: edges [B,G,M,2], lengths if there are any.
type sacCount struct {
	dtype tensor.Dtype
	t     int
	links Links
}

func (sacCount) Name() string { return "sac_count" }

func (o sacCount) Infer([]engine.Type) (engine.Type, error) {
	return engine.Type{Dtype: o.dtype, Shape: tensor.Shape{2}}, nil
}

func (sacCount) Diff(in Nodes, _, _ *Node) (Nodes, error) { return make(Nodes, len(in)), nil }

func (o sacCount) Run(out engine.Value, in []engine.Value) error {
	if engine.IsF32(out) {
		countSAC(o, engine.Floats[float32](out), in)
	} else {
		countSAC(o, engine.Floats[float64](out), in)
	}
	return nil
}

func countSAC[F kernels.Float](o sacCount, out []F, in []engine.Value) {
	s, e := in[0].Shape(), engine.Ints(in[0])
	pairs, nodes := 0, 0
	seen := map[[2]int32]bool{}
	for n := range s[0] * s[1] {
		clear(seen)
		for k := n * s[2]; k < (n+1)*s[2]; k++ {
			i, j := e[2*k], e[2*k+1]
			if i < 0 || j < 0 || i == j {
				continue
			}
			if o.links.Causal {
				i, j = max(i, j), min(i, j)
			}
			seen[[2]int32{i, j}] = true
			if o.links.Symmetric {
				seen[[2]int32{j, i}] = true
			}
		}
		size := o.t
		if len(in) > 1 {
			size = min(max(int(engine.Ints(in[1])[n/s[1]]), 0), o.t)
		}
		pairs, nodes = pairs+len(seen)+size, nodes+size
	}
	out[0], out[1] = F(pairs), F(nodes)
}
