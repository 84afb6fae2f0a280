package golden

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"sort"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/layers/attention"
)

func init() {
	adapters["routing_transformer"] = runRoutingPackage
}

// kmeansArguments are those of the package's classes that change what is computed here.
type kmeansArguments struct {
	Clusters   int     `json:"num_clusters"`
	Window     int     `json:"window_size"`
	Heads      int     `json:"num_heads"`
	Decay      float64 `json:"ema_decay"`
	Commitment float64 `json:"commitment"`
	Causal     bool    `json:"causal"`
	Shared     bool    `json:"shared_qk"`

	AllHeads     int     `json:"heads"`
	LocalHeads   int     `json:"local_attn_heads"`
	Length       int     `json:"max_seq_len"`
	CommitFactor float64 `json:"commitment_factor"`
	KmeansDecay  float64 `json:"kmeans_ema_decay"`
}

// kmeans is KmeansAttention through our choice of members, attention within clusters and mean over them. What the package does otherwise is done
// here: routing by unit vectors and raw centroids, attention of vectors that are not normalised, keys and values that every cluster has besides,
// clusters without keys that count, a mean with an eps, spherical centroids.
type kmeans struct {
	r         *rig
	p         Precision
	a         kmeansArguments
	b, t, d   int
	prefix    string // of parameters and state
	means     []float64
	x         [][]float64 // unit vectors of queries and keys, [B,T,H·D]
	near      [][]float64 // their clusters, [B,H,T]
	indices   [][]float64 // places of the members by falling score, [B,H,C·W]
	update    bool
	uninitted bool
	aux       *Node
}

func runRoutingPackage(c *Case, p Precision) ([]Result, error) {
	k := &kmeans{r: newRig(c, p), p: p, a: kmeansArguments{Decay: 0.999, Commitment: 1e-4}}
	if err := json.Unmarshal(c.Kwargs, &k.a); err != nil {
		return nil, err
	}
	if err := errors.Join(c.Decode("kmeans_update", &k.update), c.Decode("kmeans_init", &k.uninitted)); err != nil {
		return nil, err
	}
	switch c.Class {
	case "KmeansAttention":
		return k.alone(c)
	case "SelfAttention":
		return k.besideLocal(c)
	}
	return nil, fmt.Errorf("no adapter for class %q", c.Class)
}

// byToken is where the elements of [B,T,H·D] are in [B,H,T,D].
func byToken(b, h, t, d int) []int {
	var order []int
	for e := range b {
		for i := range t {
			for n := range h {
				for x := range d {
					order = append(order, ((e*h+n)*t+i)*d+x)
				}
			}
		}
	}
	return order
}

// alone is KmeansAttention on q, k and v.
func (k *kmeans) alone(c *Case) ([]Result, error) {
	s := c.In("q").Shape
	k.b, k.t, k.d = s[0], s[2], s[3]
	k.r.only("q", "k", "v", "query_mask")
	order := byToken(k.b, k.a.Heads, k.t, k.d)
	node := func(name string) *Node { return k.r.inAs(name, order, k.b, k.t, k.a.Heads*k.d) }
	y, err := k.attend(node("q"), node("k"), node("v"))
	if err != nil {
		return nil, err
	}
	k.r.outAs("out", y, order)
	return k.compare(c)
}

// besideLocal is SelfAttention: local heads, then routed ones.
func (k *kmeans) besideLocal(c *Case) ([]Result, error) {
	r := k.r
	k.a.Heads, k.a.Clusters, k.a.Commitment, k.a.Decay = k.a.AllHeads-k.a.LocalHeads, k.a.Length/k.a.Window, k.a.CommitFactor, k.a.KmeansDecay
	k.prefix = "global_attn."
	s := c.In("x").Shape
	k.b, k.t, k.d = s[0], s[1], s[2]/k.a.AllHeads
	r.only("x")
	x := r.in("x")
	linear := func(name string, bias bool, x *Node) *Node {
		l := layers.LinearConfig{Weight: r.param(name + ".weight"), NoBias: !bias}
		if bias {
			l.Bias = r.param(name + ".bias")
		}
		return layers.Linear(r.b, x, l)
	}
	qkv := linear("local_to_qkv", true, x)
	n := k.a.LocalHeads * k.d
	// The examples stand one behind the other there: only distances count.
	local := &localArguments{WindowSize: k.a.Window, n: k.a.LocalHeads, d: k.d, length: k.b * k.t}
	part := func(i int) *Node {
		x := layers.Reshape(r.b, layers.Slice(r.b, qkv, 2, i*n, (i+1)*n), 1, k.b*k.t, k.a.LocalHeads, k.d)
		if i < 2 {
			x = local.rotate(r, fmt.Sprint("local.", i), x, 0, 1)
		}
		return layers.Reshape(r.b, x, k.b, k.t, n)
	}
	near, _ := attention.Attend(r.b, attention.Config{Heads: k.a.LocalHeads, Pattern: attention.Causal(attention.Blocks{Size: k.a.Window, Left: k.a.Window})}, part(0), part(1), part(2))
	q := linear("to_q", false, x)
	far, err := k.attend(q, q, linear("to_v", false, x))
	if err != nil {
		return nil, err
	}
	r.out("out", linear("to_out", false, layers.Concat(r.b, 2, near, far)))
	return k.compare(c)
}

// unit is x of length 1, head by head.
func (k *kmeans) unit(x *Node) *Node {
	heads := layers.Reshape(k.r.b, x, k.b, k.t, k.a.Heads, k.d)
	y := layers.Scale(k.r.b, layers.RMSNorm(k.r.b, heads, layers.NormConfig{Eps: 1e-30, NoWeight: true}), 1/math.Sqrt(float64(k.d)))
	return layers.Reshape(k.r.b, y, k.b, k.t, k.a.Heads*k.d)
}

// attend is the forward pass, and what the clusters learn of it.
func (k *kmeans) attend(q, key, v *Node) (*Node, error) {
	r, a := k.r, k.a
	sets := []*Node{q}
	if !a.Shared {
		sets = append(sets, key)
	}
	k.means = r.c.StateBefore(k.prefix + "kmeans.means").Float64s()
	if k.uninitted {
		if err := k.start(sets); err != nil {
			return nil, err
		}
	}
	means := r.floats("means", k.means, a.Heads, a.Clusters, k.d)
	var members []*Node
	total := float64(len(sets) * k.b * k.t * a.Heads * k.d)
	for i, x := range sets {
		x = k.unit(x)
		scores := attention.ClusterScores(r.b, x, means)
		members = append(members, attention.Members(r.b, scores, nil, a.Window))
		if err := k.look(x, scores, members[i]); err != nil {
			return nil, err
		}
		// The loss: mean squares of what is left of unit vectors without their centroids.
		centroids := make([]float64, len(k.x[i]))
		for e := range centroids {
			at, h := e/(a.Heads*k.d), e/k.d%a.Heads
			c := int(k.near[i][(at/k.t*a.Heads+h)*k.t+at%k.t])
			centroids[e] = -k.means[(h*a.Clusters+c)*k.d+e%k.d]
		}
		left := layers.Add(r.b, x, r.floats(fmt.Sprint("centroids.", i), centroids, x.Shape()...))
		term := layers.Scale(r.b, layers.Sum(r.b, layers.Mul(r.b, left, left)), a.Commitment/total)
		if k.aux != nil {
			term = layers.Add(r.b, k.aux, term)
		}
		k.aux = term
	}
	if a.Shared {
		key = k.unit(key)
	}
	c := attention.Chosen{Heads: a.Heads, Scale: 1 / math.Sqrt(float64(k.d))}
	if mask := r.c.In("query_mask"); mask != nil {
		lens := make([]int32, k.b) // true, then false
		for i, yes := range mask.Bools() {
			if yes {
				lens[i/k.t]++
			}
		}
		c.Lens = r.ints("lens", lens, k.b)
	}
	width := min(a.Window, k.t)
	sorted := attention.Sorted{Chosen: c, OrderQ: members[0], OrderK: members[len(members)-1], ChunkQ: width, Causal: a.Causal, Others: a.Shared, Slots: true}
	o, lse := attention.AttendSorted(r.b, sorted, q, key, v)
	if n := r.c.Param(k.prefix + "mem_key").Shape[2]; n > 0 {
		o, lse = k.memory(o, lse, q, members[0], n)
	}
	mean := attention.SlotMean{Clusters: a.Clusters, Resort: attention.ClusterResort, Eps: 1e-5}
	return attention.MeanOfSlots(r.b, mean, members[0], o, lse, v), r.b.Err()
}

// memory adds the n keys and values that every cluster has besides.
func (k *kmeans) memory(o, lse, q, members *Node, n int) (*Node, *Node) {
	r, a := k.r, k.a
	of := func(name string) *Node { // [H,C,n,D] -> [B,C·n,H·D]
		t := r.c.Param(k.prefix + name)
		order := byToken(1, a.Heads, a.Clusters*n, k.d)
		x := r.b.Input("param/"+name, k.p.Dtype(), 1, a.Clusters*n, a.Heads*k.d)
		fill(layers.InputValue(x), arranged(t.Float64s(), order))
		r.wrt = append(r.wrt, place{k.prefix + name, true, x, order})
		return layers.Broadcast(r.b, layers.Reshape(r.b, x, a.Clusters*n, a.Heads*k.d), k.b)
	}
	keys := make([]int32, k.b*a.Heads*a.Clusters*n)
	for i := range keys {
		keys[i] = int32(i % (a.Clusters * n))
	}
	sorted := attention.Sorted{Chosen: attention.Chosen{Heads: a.Heads, Scale: 1 / math.Sqrt(float64(k.d)), Cross: true}, OrderQ: members,
		OrderK: r.ints("memory", keys, k.b, a.Heads, a.Clusters*n), ChunkQ: min(a.Window, k.t), ChunkK: n, Slots: true}
	other, otherLSE := attention.AttendSorted(r.b, sorted, q, of("mem_key"), of("mem_value"))
	both := attention.Merge(r.b, attention.Part{O: o, LSE: lse}, attention.Part{O: other, LSE: otherLSE})
	return both.O, both.LSE
}

// chosen is value of whole numbers.
func (r *rig) chosen(n *Node) ([]float64, error) {
	if err := errors.Join(r.err, r.b.Err()); err != nil {
		return nil, err
	}
	program, err := engine.Compile(r.b.Graph(), layers.Nodes{n}, engine.Options{})
	if err != nil {
		return nil, err
	}
	defer func() { _ = program.Close() }()
	if err := program.Run(); err != nil {
		return nil, err
	}
	var all []float64
	for _, i := range engine.Ints(program.Value(n)) {
		all = append(all, float64(i))
	}
	return all, nil
}

// look notes what a set of vectors was assigned to.
func (k *kmeans) look(x, scores, members *Node) error {
	nearest := attention.Nearest(k.r.b, scores, nil)
	var values [4][]float64
	for i, n := range []*Node{x, scores, members, nearest} {
		get := k.r.value
		if i > 1 {
			get = k.r.chosen
		}
		var err error
		if values[i], err = get(n); err != nil {
			return err
		}
	}
	slots := len(values[2]) / (k.b * k.a.Heads)
	for at := range values[2] { // by falling score
		if at%(slots/k.a.Clusters) != 0 {
			continue
		}
		row := at / slots * k.a.Clusters * k.t
		of := values[1][row+at%slots/(slots/k.a.Clusters)*k.t:][:k.t]
		sort.SliceStable(values[2][at:at+slots/k.a.Clusters], func(i, j int) bool {
			list := values[2][at:]
			return of[int(list[i])] > of[int(list[j])]
		})
	}
	k.x, k.near, k.indices = append(k.x, values[0]), append(k.near, values[3]), append(k.indices, values[2])
	return nil
}

// vectors calls f for all vectors of a head, example by example, first the queries of each.
func (k *kmeans) vectors(sets [][]float64, h int, f func(x []float64)) {
	for b := range k.b {
		for _, set := range sets {
			for i := range k.t {
				f(set[((b*k.t+i)*k.a.Heads+h)*k.d:][:k.d])
			}
		}
	}
}

// step is one iteration: the directions of the sums; a cluster without vectors stays.
func (k *kmeans) step(sets [][]float64, means []float64) []float64 {
	next := make([]float64, len(means))
	for h := range k.a.Heads {
		used := make([]bool, k.a.Clusters)
		row := func(m []float64, c int) []float64 { return m[(h*k.a.Clusters+c)*k.d:][:k.d] }
		k.vectors(sets, h, func(x []float64) {
			best, most := 0, math.Inf(-1)
			for c := range k.a.Clusters {
				s := 0.0
				for i, v := range row(means, c) {
					s += v * x[i]
				}
				if s > most {
					best, most = c, s
				}
			}
			used[best] = true
			for i, v := range x {
				row(next, best)[i] += v
			}
		})
		for c, yes := range used {
			norm := 0.0
			for _, v := range row(next, c) {
				norm += v * v
			}
			for i := range row(next, c) {
				if row(next, c)[i] /= math.Sqrt(norm); !yes {
					row(next, c)[i] = row(means, c)[i]
				}
			}
		}
	}
	return next
}

// start draws the centroids among the vectors as they are, and makes ten iterations.
func (k *kmeans) start(sets []*Node) error {
	var raw [][]float64
	for _, n := range sets {
		x, err := k.r.value(n)
		if err != nil {
			return err
		}
		raw = append(raw, x)
	}
	draws := k.r.c.Rand("0.randperm").Int32s()
	for h := range k.a.Heads {
		var all [][]float64
		k.vectors(raw, h, func(x []float64) { all = append(all, x) })
		for c := range k.a.Clusters {
			copy(k.means[(h*k.a.Clusters+c)*k.d:], all[draws[c]])
		}
	}
	for range 10 {
		k.means = k.step(raw, k.means)
	}
	return nil
}

// compare adds the loss of the clusters to that of the output, and compares everything.
func (k *kmeans) compare(c *Case) ([]Result, error) {
	r := k.r
	r.outs = append(r.outs, place{"aux_loss", false, k.aux, nil})
	r.loss = layers.Add(r.b, r.loss, k.aux)
	results, err := r.compare()
	for i, list := range k.indices {
		results = append(results, c.CompareOut(fmt.Sprint("routed_indices.", i), list, k.p))
	}
	for _, name := range []string{"mem_key", "mem_value"} { // without elements
		if t := c.Param(k.prefix + name); t.Size() == 0 {
			results = append(results, c.CompareGrad(k.prefix+name, []float64{}, k.p))
		}
	}
	after := slices.Clone(k.means)
	if k.update {
		next := k.step(k.x, k.means)
		for i, v := range next {
			after[i] = k.a.Decay*after[i] + (1-k.a.Decay)*v
		}
		results = append(results, c.CompareState(k.prefix+"kmeans.new_means", next, k.p))
	}
	if c.StateAfter(k.prefix+"kmeans.means") != nil {
		results = append(results, c.CompareState(k.prefix+"kmeans.means", after, k.p))
	}
	return results, err
}
