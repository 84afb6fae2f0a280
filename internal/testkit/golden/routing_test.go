package golden

import (
	"errors"
	"fmt"

	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/layers/attention"
)

func init() {
	adapters["def_routing"] = runRouting
}

// routingConfig describes the cases of def_routing.
type routingConfig struct {
	Lengths    []int32 `json:"lengths"`
	Heads      int     `json:"num_heads"`
	Clusters   int     `json:"num_clusters"`
	Window     int     `json:"window"`
	Causal     bool    `json:"causal"`
	Shared     bool    `json:"shared_qk"`
	Self       string  `json:"self"`
	Membership string  `json:"membership"`
	Combine    string  `json:"combine"`
	Decay      float64 `json:"decay"`
	Commitment float64 `json:"commitment"`
	Steps      int     `json:"steps"`
	Scale      float64 `json:"scale"`
}

func (s routingConfig) attention() attention.Routing {
	a := attention.Routing{Clusters: s.Clusters, Window: s.Window, Membership: attention.Membership(s.Membership), Union: s.Combine == "union",
		SharedQK: s.Shared, Decay: s.Decay, Commitment: s.Commitment, Causal: s.Causal}
	if s.Self == "allow" {
		a.Self = attention.SelfAllowed
	}
	return a
}

// runRouting is steps of a training with weights that stay the same, so that only the clusters learn.
func runRouting(c *Case, p Precision) ([]Result, error) {
	var s routingConfig
	if err := c.Decode("config", &s); err != nil {
		return nil, err
	}
	params := layers.NewParams(p.Dtype())
	b := layers.New(gorgonia.NewGraph(), params, layers.Options{Training: true})
	load := func(name string, t *Tensor) error {
		return params.Load(name, tensor.New(tensor.WithShape(t.Shape...), tensor.WithBacking(t.Float64s())))
	}
	faults := []error{load("ema_sum", c.StateBefore("m")), load("ema_count", c.StateBefore("cnt")),
		params.Load("progress", tensor.New(tensor.WithBacking([]float64{1, 0})))}
	shape := c.In("x.0").Shape
	x := b.Input("x", p.Dtype(), shape...)
	lens := b.Const("lens", tensor.New(tensor.WithShape(len(s.Lengths)), tensor.WithBacking(s.Lengths)))
	weights := map[string]*Node{}
	linear := func(name string, x *Node) *Node {
		faults = append(faults, load(name, c.Param(name)))
		weights[name] = b.Param(name, nil, c.Param(name).Shape...)
		return layers.Linear(b, x, layers.LinearConfig{Weight: weights[name], InOut: true, NoBias: true})
	}
	in := attention.Stream{X: x, Heads: s.Heads, Scale: s.Scale, Lens: lens, QKV: []*Node{linear("w_q", x)}}
	if !s.Shared {
		in.QKV = append(in.QKV, linear("w_k", x))
	}
	in.QKV = append(in.QKV, linear("w_v", x))
	y := linear("w_o", s.attention().Mix(b, in))
	if err := errors.Join(append(faults, b.Err())...); err != nil {
		return nil, err
	}
	w := b.Input("weight of y", p.Dtype(), y.Shape()...)
	loss := layers.Sum(b, layers.Mul(b, y, w))
	fill(layers.InputValue(b.LossWeight()), []float64{1})
	commit := b.Terms(nil)
	if err := b.Err(); err != nil {
		return nil, err
	}
	var wrt layers.Nodes
	for _, name := range c.Params() {
		wrt = append(wrt, weights[name])
	}
	grads, err := engine.VJP(layers.Nodes{loss}, layers.Nodes{engine.Fill(b.Graph(), engine.TypeOf(loss), 1)}, append(wrt, x), nil)
	if err != nil {
		return nil, err
	}
	nearest, members := made(b, "nearest_cluster"), made(b, "cluster_members")
	outputs := append(append(append(layers.Nodes{y, commit}, grads...), nearest...), members...)
	update := b.Updates()[0]
	for _, part := range update.Parts {
		outputs = append(outputs, part.Node)
	}
	program, err := engine.Compile(b.Graph(), outputs, engine.Options{Scope: b.ScopeOf, Poison: true})
	if err != nil {
		return nil, err
	}
	defer func() { _ = program.Close() }()

	var results []Result
	total := 0.0
	sums := make([][]float64, len(wrt))
	for step := range s.Steps {
		at := func(name string) string { return fmt.Sprint(name, ".", step) }
		fill(layers.InputValue(x), c.In(at("x")).F)
		fill(layers.InputValue(w), c.In(at("loss_weight.y")).F)
		if err := program.Run(); err != nil {
			return nil, err
		}
		ys, _ := values(copied(program.Value(y)))
		term, _ := values(copied(program.Value(commit)))
		results = append(results, c.CompareOut(at("y"), ys, p), c.CompareOut(at("commit_loss"), term[0], p))
		for i, v := range c.In(at("loss_weight.y")).F {
			total += v * ys[i]
		}
		total += term[0]
		for i := range wrt {
			g, _ := values(copied(program.Value(grads[i])))
			if sums[i] == nil {
				sums[i] = make([]float64, len(g))
			}
			for k, v := range g {
				sums[i][k] += v
			}
		}
		results = append(results, c.CompareGradIn(at("x"), copied(program.Value(grads[len(wrt)])), p))
		chosen := choice{s: s, t: shape[1]}
		for _, n := range nearest {
			chosen.nearest = append(chosen.nearest, engine.Ints(program.Value(n)))
		}
		for _, n := range members {
			chosen.members = append(chosen.members, engine.Ints(program.Value(n)))
		}
		results = append(results, c.CompareOut(at("assignment"), chosen.assignment(), p), c.CompareOut(at("clusters_of_token"), chosen.clusters(), p))
		if c.Out(at("sets")) != nil {
			results = append(results, c.CompareOut(at("sets"), chosen.sets(), p))
		}
		var parts []*tensor.Dense
		for _, part := range update.Parts {
			parts = append(parts, program.Value(part.Node).(*tensor.Dense))
		}
		update.Apply(step+1, parts)
		m, _ := params.Get("ema_sum")
		n, _ := params.Get("ema_count")
		ms, _ := values(copied(m.Value))
		ns, _ := values(copied(n.Value))
		mu := make([]float64, len(ms))
		for i, v := range ms {
			mu[i] = v / ns[i/(len(ms)/len(ns))]
		}
		results = append(results, c.CompareState(at("m"), ms, p), c.CompareState(at("cnt"), ns, p), c.CompareState(at("mu"), mu, p))
	}
	var loss64 float64
	if err := c.Decode("loss", &loss64); err != nil {
		return nil, err
	}
	abs, rel := c.Tolerance.output(p, true)
	results = append(results, Compare("loss", []float64{total}, []float64{loss64}, nil, abs, rel, nil))
	for i, name := range c.Params() {
		results = append(results, c.CompareGrad(name, sums[i], p))
	}
	return results, nil
}

// made are the nodes of one kind in a graph, in the order in which they were added.
func made(b *layers.Builder, name string) (nodes layers.Nodes) {
	for _, n := range b.Graph().AllNodes() {
		if op := engine.OpOf(n); op != nil && op.Name() == name {
			nodes = append(nodes, n)
		}
	}
	return nodes
}

func fill(v *tensor.Dense, x []float64) {
	for i, y := range x {
		if v.Dtype() == tensor.Float32 {
			v.Float32s()[i] = float32(y)
		} else {
			v.Float64s()[i] = y
		}
	}
}

// choice is what was chosen in a step, of queries and, if they are apart, of keys.
type choice struct {
	s                routingConfig
	t                int
	nearest, members [][]int32
}

// assignment is [B,H,sets,T].
func (c choice) assignment() (all []int32) {
	for bh := range len(c.s.Lengths) * c.s.Heads {
		for _, a := range c.nearest {
			all = append(all, a[bh*c.t:][:c.t]...)
		}
	}
	return all
}

// in tells whether a token is in a cluster as a query (0) or as a key (1).
func (c choice) in(side, bh, cluster, i int) bool {
	m := c.members[min(side, len(c.members)-1)]
	slots := len(m) / (len(c.s.Lengths) * c.s.Heads)
	w := slots / c.s.Clusters
	for _, j := range m[bh*slots+cluster*w:][:w] {
		if int(j) == i {
			return true
		}
	}
	return false
}

// sets is [B,H,2,C,T].
func (c choice) sets() (all []int32) {
	for bh := range len(c.s.Lengths) * c.s.Heads {
		for side := range 2 {
			for k := range c.s.Clusters {
				for i := range c.t {
					v := int32(0)
					if c.in(side, bh, k, i) {
						v = 1
					}
					all = append(all, v)
				}
			}
		}
	}
	return all
}

// clusters is how many clusters of each token have a key for it, at most 1 where they are not apart, [B,H,T].
func (c choice) clusters() (all []int32) {
	for bh := range len(c.s.Lengths) * c.s.Heads {
		for i := range c.t {
			n := int32(0)
			for k := range c.s.Clusters {
				reads := false
				for j := range c.t {
					allowed := (!c.s.Causal || j <= i) && (c.s.Self == "allow" || j != i)
					if c.s.Membership == "recent" {
						q, keys := c.nearest[0][bh*c.t:], c.nearest[len(c.nearest)-1][bh*c.t:]
						reads = reads || allowed && int(q[i]) == k && int(keys[j]) == k
					} else {
						reads = reads || allowed && c.in(0, bh, k, i) && c.in(1, bh, k, j)
					}
				}
				if reads {
					n++
				}
			}
			if c.s.Membership == "recent" || c.s.Combine == "union" {
				n = min(n, 1)
			}
			all = append(all, n)
		}
	}
	return all
}
