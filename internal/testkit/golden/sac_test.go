package golden

import (
	"slices"

	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/layers/attention"
	"github.com/euryale-ml/euryale/train/policy"
)

// runSAC replays the actions of a case, and attends on the edges that they make.
func runSAC(c *Case, p Precision) ([]Result, error) {
	r := newRig(c, p)
	r.only("x", "valid", "graph", "reward", "baseline", "reward_scale")
	var cfg struct {
		Mode            string
		N               int
		Lengths         []int32
		Alpha           float64
		NumHeads        int     `json:"num_heads"`
		Distances       int     `json:"max_distance_bin"`
		Distance        string  `json:"distance"`
		NoRepeat        bool    `json:"no_repeat"`
		CausalPredictor bool    `json:"causal_predictor"`
		Causal          bool    `json:"causal"`
		Symmetric       bool    `json:"symmetric"`
		Sharing         string  `json:"sharing"`
		LayerIndex      int     `json:"layer_index"`
		EntropyWeight   float64 `json:"entropy_weight"`
	}
	if err := c.Decode("config", &cfg); err != nil {
		return nil, err
	}
	actions := c.Rand("actions")
	graphs := actions.Shape[1]
	x := r.in("x")
	if x == nil {
		return nil, r.err
	}
	batch, n, width := x.Shape()[0], x.Shape()[1], x.Shape()[2]
	s := attention.SAC{Graphs: graphs, SACRules: attention.SACRules{PerNode: cfg.Mode == "perNode", Alpha: cfg.Alpha, NoRepeat: cfg.NoRepeat,
		Causal: cfg.CausalPredictor, Graph: cfg.Distance == "graph", Distances: cfg.Distances}}
	s.Net = attention.SACNet{Features: r.param("w_e"), Start: r.param("e_start"), Slot: r.param("e_slot"), WeightX: r.param("lstm_wx"),
		WeightH: r.param("lstm_wh"), Bias: r.param("lstm_b"), Eta: r.param("w_eta"), Kappa: r.param("w_kappa"), Distance: r.param("e_delta")}
	if cfg.Sharing == "head" {
		s.Net.Head = r.param("e_head")
	}
	if cfg.Sharing != "shared" {
		table := r.param("e_layer")
		s.Net.Layer = layers.Reshape(r.b, layers.Slice(r.b, table, 0, cfg.LayerIndex, cfg.LayerIndex+1), -1)
	}
	examples := attention.SACExamples{X: x, Lens: r.ints("lens", cfg.Lengths, batch)}
	if s.Graph {
		examples.Graph = r.edgesOf(c.In("graph"), n)
	}
	chosen := r.ints("actions", narrow(actions.I), actions.Shape...)
	choice := layers.Choice{EntropyWeight: cfg.EntropyWeight, Steps: s.StepsOf(r.b, chosen, examples.Lens)}
	choice.LogProb, choice.Entropy = s.Replay(r.b, examples, chosen)
	r.out("log_prob", choice.LogProb)
	r.out("entropy", choice.Entropy)
	fixed := func(name string) *Node { return r.floats(name, c.In(name).Float64s(), c.In(name).Shape...) }
	advantages := policy.Advantages(r.b, policy.EMA, 0, fixed("reward"), fixed("baseline"), fixed("reward_scale"))
	loss := policy.Loss(r.b, []layers.Choice{choice}, advantages)

	project := func(x *Node, name string) *Node {
		return layers.Linear(r.b, x, layers.LinearConfig{Weight: r.param(name), InOut: true, NoBias: true})
	}
	links := attention.Links{Self: true, Symmetric: cfg.Symmetric && !cfg.Causal, Causal: cfg.Causal}
	edges := s.Edges(r.b, chosen)
	attend := func(q, k, v *Node, heads int) *Node {
		o, _ := attention.AttendEdges(r.b, attention.Chosen{Heads: heads, Lens: examples.Lens}, links, edges, q, k, v)
		return o
	}
	o := attend(project(x, "w_q"), project(x, "w_k"), project(x, "w_v"), cfg.NumHeads)
	r.out("y", project(o, "w_o"))
	r.outAs("policy_loss", loss, nil)
	if r.b.Err() == nil {
		r.loss = layers.Add(r.b, r.loss, layers.Reshape(r.b, layers.Sum(r.b, loss)))
	}
	results, err := r.compare()
	if err != nil {
		return nil, err
	}
	// The plan is what attention gives to values that tell from where they come: all q·k are equal, so every key has the same weight.
	eye := make([]float64, batch*n*n*graphs)
	for b := range batch {
		for i := range n {
			for g := range graphs {
				eye[((b*n+i)*graphs+g)*n+i] = 1
			}
		}
	}
	flat := r.floats("flat", make([]float64, batch*n*graphs*width), batch, n, graphs, width)
	weights, err := r.value(attend(flat, flat, r.floats("eye", eye, batch, n, graphs, n), graphs))
	if err != nil {
		return nil, err
	}
	plan := make([]int32, len(weights))
	for b := range batch {
		for g := range graphs {
			for i := range n {
				for j := range n {
					if weights[((b*n+i)*graphs+g)*n+j] > 0 {
						plan[((b*graphs+g)*n+i)*n+j] = 1
					}
				}
			}
		}
	}
	mid, err := r.value(advantages)
	if err != nil {
		return nil, err
	}
	return append(results, c.CompareOut("plan", plan, p), c.CompareMid("advantage", mid, p)), nil
}

func narrow[E int64 | int32 | uint8](x []E) []int32 {
	y := make([]int32, len(x))
	for i, v := range x {
		y[i] = int32(v)
	}
	return y
}

// edgesOf lists the pairs of adjacency matrices [B,n,n].
func (r *rig) edgesOf(t *Tensor, n int) *Node {
	batch := t.Shape[0]
	lists, most := make([][]int32, batch), 0
	for k, v := range t.I {
		if v != 0 {
			b := k / (n * n)
			lists[b] = append(lists[b], int32(k/n%n), int32(k%n))
			most = max(most, len(lists[b]))
		}
	}
	all := slices.Repeat([]int32{-1}, batch*most)
	for b, list := range lists {
		copy(all[b*most:], list)
	}
	return r.ints("graph", all, batch, most/2, 2)
}
