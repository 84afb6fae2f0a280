package attention

import (
	"fmt"
	"math"

	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/config"
	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/layers"
)

// sacEntry is attention on edges that a predictor chooses, see SAC. What a value of plan other than learned puts in the place of its edges has
// the same weights: so attention can be trained on all pairs first, and a trained model be compared with random edges.
type sacEntry struct {
	kind
	Mode           string   `json:"mode,omitempty"`           // pairs (if not given), perNode
	Alpha          *float64 `json:"alpha,omitempty"`          // edges a node, 1 if not given; of perNode a whole number
	Sharing        string   `json:"sharing,omitempty"`        // shared (if not given): one graph for all layers; layer; head
	PredictorSize  int      `json:"predictor_size,omitempty"` // P; 128 if not given
	NoRepeat       bool     `json:"no_repeat,omitempty"`
	Symmetric      *bool    `json:"symmetric,omitempty"` // true if not given; in a decoder the later reads the earlier
	Causal         bool     `json:"causal_predictor,omitempty"`
	EntropyWeight  *float64 `json:"entropy_weight,omitempty"` // 0.003 if not given
	LocalPointer   int      `json:"local_pointer,omitempty"`  // nodes that are looked at in a step; 0: all
	Distance       string   `json:"distance,omitempty"`       // sequence (if not given), graph: hops on the graph of the data, none
	MaxDistance    int      `json:"max_distance_bin,omitempty"`
	BackpropInputs bool     `json:"backprop_features,omitempty"` // the predictor's gradient goes on into its inputs
	Plan           string   `json:"plan,omitempty"`              // learned (if not given), full, random, graph: the edges of the data
}

// sacDefaults are for what is not given.
const (
	sacSize         = 128
	sacMaxDistance  = 16
	sacEntropy      = 0.003
	maxSACSize      = 1 << 14
	maxSACDistances = 1 << 10
)

func (e *sacEntry) check() (faults []error) {
	fault := func(ok bool, path string, value any, want string) {
		if !ok {
			faults = append(faults, &config.FieldError{Path: path, Value: value, Want: want})
		}
	}
	of := func(path, value string, names ...string) {
		for _, n := range names {
			if value == n || value == "" {
				return
			}
		}
		fault(false, path, value, fmt.Sprintf("give one of %v", names))
	}
	of("mode", e.Mode, "pairs", "perNode")
	of("sharing", e.Sharing, "shared", "layer", "head")
	of("distance", e.Distance, "sequence", "graph", "none")
	of("plan", e.Plan, "learned", "full", "random", "graph")
	alpha := e.alpha()
	fault(alpha > 0 && alpha <= maxDegree, "alpha", alpha, fmt.Sprintf("give more than 0, at most %d", maxDegree))
	fault(e.Mode != "perNode" || alpha == math.Trunc(alpha), "alpha", alpha, "give a whole number with mode perNode, which chooses so many keys for every node")
	fault(e.PredictorSize >= 0 && e.PredictorSize <= maxSACSize, "predictor_size", e.PredictorSize, fmt.Sprintf("give 1 to %d", maxSACSize))
	fault(!e.Causal || e.Mode == "perNode", "causal_predictor", e.Causal, "is for mode perNode, whose choices follow the order of the nodes")
	fault(e.EntropyWeight == nil || *e.EntropyWeight >= 0, "entropy_weight", e.EntropyWeight, "give a number from 0 on")
	fault(e.LocalPointer >= 0 && e.LocalPointer != 1 && e.LocalPointer <= maxNumber, "local_pointer", e.LocalPointer, "give a whole number from 2 on, or 0: all nodes")
	fault(e.MaxDistance >= 0 && e.MaxDistance <= maxSACDistances, "max_distance_bin", e.MaxDistance, fmt.Sprintf("give 1 to %d", maxSACDistances))
	fault(!e.Causal || e.Distance != "graph", "distance", e.Distance, "give sequence with causal_predictor: a graph tells of nodes to come")
	return faults
}

// maxDegree bounds the edges of a node.
const maxDegree = 1 << 16

func (e *sacEntry) alpha() float64 {
	if e.Alpha == nil {
		return 1
	}
	return *e.Alpha
}

// pattern is every pair: what is read depends on what the tokens say.
func (e *sacEntry) pattern(Layer) (Pattern, error) { return Full{}, nil }

func (e *sacEntry) mixer(at Layer) (Mixer, error) {
	p, err := Entry{e}.In(at)
	if err != nil {
		return nil, err
	}
	or := func(v, otherwise int) int {
		if v == 0 {
			return otherwise
		}
		return v
	}
	m := &sacMixer{sacEntry: e, most: p, at: at, size: or(e.PredictorSize, sacSize), entropy: sacEntropy,
		links: Links{Self: true, Symmetric: !at.Decoder && (e.Symmetric == nil || *e.Symmetric), Causal: at.Decoder}}
	m.rules = SACRules{PerNode: e.Mode == "perNode", Alpha: e.alpha(), NoRepeat: e.NoRepeat, Causal: e.Causal, Local: e.LocalPointer,
		Graph: e.Distance == "graph", Blind: e.Distance == "none", Distances: or(e.MaxDistance, sacMaxDistance)}
	m.graphs = 1
	if e.Sharing == "head" {
		m.graphs = at.Heads
	}
	if e.EntropyWeight != nil {
		m.entropy = *e.EntropyWeight
	}
	return m, nil
}

// sacMixer is the attention of a layer on predicted edges.
type sacMixer struct {
	*sacEntry
	most    Pattern
	at      Layer
	rules   SACRules
	links   Links
	graphs  int
	size    int
	entropy float64
}

func (m *sacMixer) Pattern() Pattern { return m.most }

// Class is C1 where every choice depends on what is before it alone; else later tokens have a say in which earlier ones are read (C0).
func (m *sacMixer) Class() string {
	if m.Causal || m.Plan == "full" {
		return "C1"
	}
	return "C0"
}

// Mix adds the attention of a layer. The predictor's weights stand in the scope predictor of the first layer's attention, whatever layer it is
// for; with sharing layer or head each layer has a vector layer of its own, and with head each head one of the table head.
func (m *sacMixer) Mix(b *layers.Builder, in Stream) *Node {
	q, k, v := in.Split(b)
	if b.Err() != nil {
		return nil
	}
	if in.Labels != nil {
		return b.Failf("sac: biases of pairs by their distance (relative positions) with edges that are chosen; use another position_embedding_type")
	}
	first := b
	if in.First != nil {
		first = in.First
	}
	net := m.weights(first.Scope("predictor"), b.Scope("predictor"), in.X.Shape()[2])
	t := in.X.Shape()[1]
	var edges *Node
	switch {
	case m.Plan == "full":
		return Plain{m.most}.Mix(b, in)
	case m.rules.Steps(t) == 0: // a node reads itself
		o, _ := Attend(b, in.Config(Band{}), q, k, v)
		return o
	case m.Plan == "graph":
		edges = m.given(b, in)
	case m.Sharing == "" || m.Sharing == "shared":
		edges = first.Once(fmt.Sprintf("sac %s %s %+v", first.Path(), m.Plan, m.rules), func() *Node { return m.edges(b, first, in, net) })
	default:
		edges = m.edges(b, b, in, net)
	}
	o, _ := AttendEdges(b, Chosen{Heads: in.Heads, Scale: in.Scale, Lens: in.Lens}, m.links, edges, q, k, v)
	return o
}

// weights are those of the predictor, of all plans.
func (m *sacMixer) weights(shared, own *layers.Builder, width int) (net SACNet) {
	p, group := m.size, layers.ChoosingWeights
	edge := 1 / math.Sqrt(float64(p))
	square := layers.Uniform(-edge, edge)
	net.Features = shared.Grouped(group, "features", layers.VarianceScaling(1, true), width, p)
	net.Start = shared.Grouped(group, "start", layers.Zeros(), p)
	net.Slot = shared.Grouped(group, "slot", layers.Zeros(), 2, p)
	lstm := shared.Scope("lstm")
	net.WeightX, net.WeightH, net.Bias = layers.LSTMWeights(lstm, p, layers.LSTMConfig{Size: p})
	lstm.Grouped(group, "weight_x", nil, p, 4*p)
	lstm.Grouped(group, "weight_h", nil, p, 4*p)
	lstm.Grouped(group, "bias", nil, 4*p)
	net.Eta = shared.Grouped(group, "query", square, p, p)
	net.Kappa = shared.Grouped(group, "key", square, p, p)
	net.Distance = shared.Grouped(group, "distance", layers.Zeros(), m.rules.Distances+2)
	if m.Sharing == "head" {
		net.Head = shared.Grouped(group, "head", layers.Zeros(), m.graphs, p)
	}
	if m.Sharing == "layer" || m.Sharing == "head" {
		net.Layer = own.Grouped(group, "layer", layers.Zeros(), p)
	}
	return net
}

// given are the edges of the data, int32 [B,1,E,2].
func (m *sacMixer) given(b *layers.Builder, in Stream) *Node {
	n := m.graphOf(b, in)
	if n == nil {
		return nil
	}
	s := n.Shape()
	return layers.Reshape(b, n, s[0], 1, s[1], 2)
}

// graphOf are the edges of the data, int32 [B,E,2].
func (m *sacMixer) graphOf(b *layers.Builder, in Stream) *Node {
	n := in.More["graph_edges"]
	if n == nil {
		return b.Failf("sac: the data have no graph (graph_edges), which the attention asks for: take plan learned and distance sequence or none, or data that are a graph")
	}
	return layers.Reshape(b, n, n.Shape()[0], -1, 2)
}

// edges chooses: int32 [B,G,M,2]. scope is where the choice is noted.
func (m *sacMixer) edges(b, scope *layers.Builder, in Stream, net SACNet) *Node {
	examples := SACExamples{X: in.X, Lens: in.Lens}
	if m.rules.Graph {
		if examples.Graph = m.graphOf(b, in); b.Err() != nil {
			return nil
		}
	}
	if m.Plan == "random" {
		edges := m.rules.Edges(b, m.rules.RandomActions(b, examples, m.graphs))
		m.count(b, in, edges)
		return edges
	}
	s := SAC{SACRules: m.rules, Graphs: m.graphs, Key: b.Site("sac.local"), Features: m.BackpropInputs, Net: net}
	if !b.Training() {
		return m.rules.Edges(b, s.Rollout(b, examples, !b.Sampled()))
	}
	actions, logProb, entropy := s.Both(b, examples, false)
	steps := m.rules.StepsOf(b, actions, in.Lens)
	scope.Choose(layers.Choice{LogProb: logProb, Entropy: entropy, Steps: steps, EntropyWeight: m.entropy})
	edges := m.rules.Edges(b, actions)
	m.count(b, in, edges)
	return edges
}

// count tells people how many edges there are to a node.
func (m *sacMixer) count(b *layers.Builder, in Stream, edges *Node) {
	if !b.Training() {
		return
	}
	args := Nodes{edges}
	if in.Lens != nil {
		args = append(args, in.Lens)
	}
	counted := b.Op(sacCount{b.Dtype(), in.X.Shape()[1], m.links}, args...)
	b.Update(layers.StateUpdate{Parts: []layers.StatePart{{Node: counted}}, Apply: func(_ int, parts []*tensor.Dense) []layers.Metric {
		pairs, nodes := 0.0, 0.0
		if parts[0].Dtype() == tensor.Float32 {
			x := engine.Floats[float32](parts[0])
			pairs, nodes = float64(x[0]), float64(x[1])
		} else {
			x := engine.Floats[float64](parts[0])
			pairs, nodes = x[0], x[1]
		}
		return []layers.Metric{{Name: "edges", Value: pairs / max(nodes, 1)}}
	}})
}
