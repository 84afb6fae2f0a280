package attention

import (
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/layers"
)

// Membership says who is in a cluster.
type Membership string

const (
	// TopW gives every cluster the Window tokens that are most like its centroid, so clusters are equally large whatever the data. A later
	// token may push an earlier one out: what a token reads is never later than itself (class C0), but which tokens those are depends on what is.
	TopW Membership = "topw"
	// Recent puts each token in the cluster of the nearest centroid, where it reads the last Window before it. Nothing depends on what comes
	// later (class C1), so text can be generated as it was trained.
	Recent Membership = "recent"
	// RandomMembers draws the tokens of every cluster anew each time: what routing is to be compared with.
	RandomMembers Membership = "random"
)

// Routing is the attention of the Routing Transformer: queries and keys are normalised and assigned to clusters, and a query reads the keys of
// its clusters,
//
//	q̂ = (q - mean q)/√(var q + 1e-6), k̂ likewise,  cluster c takes the Window tokens with the largest q̂_i·μ̂_c,
//	o_i = 1/m_i Σ_c softmax_{j in c, j <= i}(s q̂_i·k̂_j) v_j,  over the m_i clusters that i is in and that have a key for it
//
// A token in no cluster has 0; other heads of the layer are there for it. Centroids μ are averages over the training steps of the vectors
// nearest to them, not weights, see Update; μ̂ = √D μ/‖μ‖. With Commitment the loss gets the mean square distance of vectors from their
// centroids times that, which pulls at the vectors alone.
// Cost: scores 2·T·C·D and choice 3·C·T operations a head, attention C·W² pairs; with C = W = √T it is O(T^1.5·D).
//
// Source: Roy, Saffar, Vaswani, Grangier 2021, arXiv 2003.05997, sections 3 and 4; the law of the centroids is that of the released code.
// Differs: counts start at 1, not at 0, and assignment is by direction, or a cluster that is rarely used gets a long centroid and then
// everything; scores are scaled by s = 1/√D, not by 1; what may be read is decided by positions, not by places within the cluster, so queries
// and keys may have sets of their own; a token that is in m clusters is divided by m, not by m + 0.01.
type Routing struct {
	Clusters int // C
	Window   int // W; 0: ⌈n/C⌉ of n tokens, so that what is read depends on the length
	Membership
	Union      bool // one softmax over what all clusters of a token have, instead of the mean over them
	SharedQK   bool // keys are the queries
	Self       Self
	Decay      float64 // of the averages, a step
	Commitment float64
	Reseed     int  // a cluster that got almost nothing for so many updates starts anew at the vector farthest from its centroid; 0: never
	Causal     bool // a query reads what comes no later
}

var (
	_ Shared   = Routing{}
	_ Crossing = Routing{}
)

// SharesQK tells whether keys are the queries.
func (a Routing) SharesQK() bool { return a.SharedQK }

// Pattern is everything, for positions decide nothing, or what comes no later.
func (a Routing) Pattern() Pattern {
	if a.Causal || a.Membership == Recent {
		return Causal(Full{})
	}
	return Full{}
}

// Class is the class of causality: C1 if nothing depends on later tokens, C0 if only the choice of the keys does; empty without causality.
func (a Routing) Class() string {
	switch {
	case !a.Causal:
		return ""
	case a.Membership == Recent && a.Window > 0:
		return "C1"
	}
	return "C0"
}

// Mix adds the attention of a layer.
func (a Routing) Mix(b *layers.Builder, in Stream) *Node {
	q, k, v := in.Split(b)
	if b.Err() != nil {
		return nil
	}
	if in.Labels != nil {
		return b.Failf("routing: biases by relative position, which chosen keys do not have; use other positions")
	}
	return a.attend(b, Chosen{Heads: in.Heads, Scale: in.Scale, Lens: in.Lens}, q, k, v)
}

// Cross is attention on another sequence: queries read the keys of the memory that are in their clusters, which have the same centroids. With Recent
// a query reads the members of the cluster nearest to it, so that nothing depends on other queries; with TopW it may be in several, or in none.
func (a Routing) Cross(b *layers.Builder, in CrossStream) *Node {
	a.Causal, a.SharedQK, a.Self = false, false, SelfAllowed
	return a.attend(b, Chosen{Heads: in.Heads, Scale: in.Scale, Lens: in.Lens, Cross: true, LensQ: in.LensQ}, in.Q, in.K, in.V)
}

// lensQ are the lengths of the queries.
func (c Chosen) lensQ() *Node {
	if c.Cross {
		return c.LensQ
	}
	return c.Lens
}

// attend is the attention on q, k, v [B,T,H·D].
func (a Routing) attend(b *layers.Builder, c Chosen, q, k, v *Node) *Node {
	if b.Err() != nil {
		return nil
	}
	r := routed{Routing: a, Chosen: c, b: b, d: q.Shape()[2] / c.Heads, v: v}
	r.sets = []clustered{{x: r.normalise(q), lens: c.lensQ()}}
	if !a.SharedQK {
		r.sets = append(r.sets, clustered{x: r.normalise(k), lens: c.Lens})
	}
	r.score()
	if b.Err() != nil {
		return nil
	}
	y := r.mean
	if a.Membership == Recent {
		y = r.recent
	} else if a.Union {
		y = r.union
	}
	return r.learn(y())
}

// routed is a layer under construction.
type routed struct {
	Routing
	Chosen
	b    *layers.Builder
	d    int
	v    *Node
	sets []clustered // queries, and unless they are the same keys

	state     clusterState
	centroids *Node // [2,H,C,D]; nil with RandomMembers
}

// clustered are vectors and their clusters.
type clustered struct {
	x, lens *Node
	scores  *Node // [B,H,C,T]
	members *Node // [B,H,C·W]
	nearest *Node // [B,H,T]
}

func (r *routed) queries() *clustered { return &r.sets[0] }
func (r *routed) keys() *clustered    { return &r.sets[len(r.sets)-1] }

// normalise is LN0, a norm of each head without weights.
func (r *routed) normalise(x *Node) *Node {
	if r.b.Err() != nil {
		return nil
	}
	s := x.Shape()
	heads := layers.Reshape(r.b, x, s[0], s[1], r.Heads, r.d)
	return layers.Reshape(r.b, layers.LayerNorm(r.b, heads, layers.NormConfig{Eps: 1e-6, NoWeight: true}), s...)
}

// score compares vectors with centroids.
func (r *routed) score() {
	b := r.b
	if b.Err() != nil {
		return
	}
	if r.Membership == RandomMembers {
		for i := range r.sets {
			s := r.sets[i].x.Shape()
			r.sets[i].scores = RandomScores(b, s[0], r.Heads, r.Clusters, s[1])
		}
		return
	}
	r.state = newClusterState(b, r.Heads, r.Clusters, r.d)
	op := centroids{training: b.Training(), steps: 10, seed: b.Seed(), site: b.Site("centroids"), name: b.Path()}
	in := Nodes{r.state.emaSum, r.state.emaCount, r.state.progress}
	for i := range r.sets {
		in = append(in, r.sets[i].x)
		in = append(in, present(r.sets[i].lens)...)
		op.lens = append(op.lens, r.sets[i].lens != nil)
	}
	r.centroids = b.Op(op, in...)
	sphere := layers.View(b, r.centroids, r.Heads*r.Clusters*r.d, r.Heads, r.Clusters, r.d)
	for i := range r.sets {
		r.sets[i].scores = ClusterScores(b, r.sets[i].x, sphere)
		if r.Membership == Recent || b.Training() {
			r.sets[i].nearest = Nearest(b, r.sets[i].scores, r.sets[i].lens)
		}
	}
}

// choose makes the members of the clusters.
func (r *routed) choose() {
	for i := range r.sets {
		r.sets[i].members = Members(r.b, r.sets[i].scores, r.sets[i].lens, r.Window)
	}
}

// mean is attention cluster by cluster, and the mean over the clusters of a token.
func (r *routed) mean() *Node {
	r.choose()
	if r.b.Err() != nil {
		return nil
	}
	q, k := r.queries(), r.keys()
	s := Sorted{Chosen: r.Chosen, OrderQ: q.members, OrderK: k.members, ChunkQ: q.members.Shape()[2] / r.Clusters, ChunkK: k.members.Shape()[2] / r.Clusters,
		Causal: r.Causal, Others: r.Self == SelfLast, Slots: true}
	o, lse := AttendSorted(r.b, s, q.x, k.x, r.v)
	resort := NoResort
	if r.Self == SelfLast {
		resort = RowResort
	}
	mean := SlotMean{Clusters: r.Clusters, Resort: resort}
	if r.Chosen.Cross {
		mean.Tokens = q.x.Shape()[1]
	}
	return MeanOfSlots(r.b, mean, q.members, o, lse, r.v)
}

// union is attention on what all clusters of a token have.
func (r *routed) union() *Node {
	r.choose()
	if r.b.Err() != nil {
		return nil
	}
	q, k := r.queries(), r.keys()
	pairs := ClusterPairs(r.b, q.members, k.members, r.Clusters, q.x.Shape()[1], r.Causal, r.Self)
	o, _ := AttendEdges(r.b, r.Chosen, Links{}, pairs, q.x, k.x, r.v)
	return o
}

// recent is attention on the last tokens of the same cluster.
func (r *routed) recent() *Node {
	window := r.Window
	if r.b.Err() == nil && window == 0 {
		window = (r.queries().x.Shape()[1] + r.Clusters - 1) / r.Clusters
	}
	if r.Chosen.Cross {
		k := r.keys()
		k.members = Members(r.b, k.scores, k.lens, r.Window)
		o, _ := AttendChosen(r.b, r.Chosen, MembersOf(r.b, r.queries().nearest, k.members, r.Clusters), r.queries().x, k.x, r.v)
		return o
	}
	c := r.Chosen
	c.LastResort = r.Self == SelfLast
	o, _ := AttendRecent(r.b, Lookback{Chosen: c, Clusters: r.queries().nearest, Among: r.keys().nearest, Window: window, Self: r.Self == SelfAllowed},
		r.queries().x, r.keys().x, r.v)
	return o
}

// learn adds to a graph for training the commitment loss, which goes through y, and what the centroids learn from, and returns y.
func (r *routed) learn(y *Node) *Node {
	b := r.b
	if b.Err() != nil || !b.Training() || r.centroids == nil {
		return y
	}
	u := clusterUpdate{Routing: r.Routing, heads: r.Heads, d: r.d}
	parts := []layers.StatePart{{Node: r.centroids, Merge: func(_, _ *tensor.Dense) {}}}
	add := func(n *Node, merge func(total, next *tensor.Dense)) (at int) {
		parts = append(parts, layers.StatePart{Node: n, Merge: merge})
		return len(parts) - 1
	}
	for i := range r.sets {
		s := &r.sets[i]
		far := b.Op(deviations{}, s.x, r.centroids, s.nearest)
		if r.Commitment > 0 {
			in := append(Nodes{far}, present(s.lens)...)
			y = b.AddLoss(y, b.Op(commitment{weight: r.Commitment, d: r.d, lens: s.lens != nil}, in...))
		}
		u.sums = append(u.sums, add(b.Op(clusterSums{r.Clusters}, s.x, s.nearest), nil))
		u.spread = append(u.spread, add(layers.Reshape(b, layers.Sum(b, far), 1), nil))
		if r.Reseed > 0 {
			u.outliers = append(u.outliers, add(b.Op(outliers{max(1, r.Clusters/8)}, s.x, far, s.nearest), mergeOutliers))
		}
	}
	if q := r.queries(); q.members != nil {
		u.unrouted = add(b.Op(unrouted{b.Dtype()}, append(Nodes{q.members, q.x}, present(q.lens)...)...), nil)
	}
	if b.Err() != nil {
		return nil
	}
	u.sum, u.count = layers.InputValue(r.state.emaSum), layers.InputValue(r.state.emaCount)
	u.age, u.progress = layers.InputValue(r.state.deadAge), layers.InputValue(r.state.progress)
	b.Update(u.rule(parts))
	return y
}
