package attention

import (
	"fmt"
	"math"
	"slices"
	"sync"

	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/kernels"
	"github.com/euryale-ml/euryale/internal/splitmix"
	"github.com/euryale-ml/euryale/layers"
)

// sacStage is what all operations of a predictor have in common: whose nodes are chosen.
type sacStage struct {
	rules       SACRules
	graphs      int    // G, rollouts of each example
	key         uint64 // of the nodes that are looked at with rules.Local
	lens, graph bool   // whether the last inputs are lengths int32 [B] and edges of the examples int32 [B,E,2]
}

// more is how many inputs stand behind those of an operation.
func (o sacStage) more() (n int) {
	for _, is := range []bool{o.lens, o.graph} {
		if is {
			n++
		}
	}
	return n
}

// checkMore checks these inputs.
func (o sacStage) checkMore(in []engine.Type, batch int) error {
	in = in[len(in)-o.more():]
	for i, t := range in {
		if t.Dtype != tensor.Int32 || len(t.Shape) == 0 || t.Shape[0] != batch {
			return fmt.Errorf("lengths or edges of %v, want int32 of %d examples", t, batch)
		}
		if last := i == len(in)-1; o.graph && last && (len(t.Shape) != 3 || t.Shape[2] != 2) {
			return fmt.Errorf("edges of shape %v, want [%d,E,2]", t.Shape, batch)
		}
	}
	return nil
}

// examples is how many nodes each example has, and the graphs of the examples (nil: none).
type sacExamples struct {
	t, graphs int
	lens      []int32
	graph     []hops
}

func (e *sacExamples) set(o sacStage, in []engine.Value, batch, t int) error {
	e.t, e.graphs, e.lens = t, o.graphs, nil
	in = in[len(in)-o.more():]
	if o.lens {
		e.lens = engine.Ints(in[0])
	}
	if !o.graph {
		return nil
	}
	edges := engine.Ints(in[len(in)-1])
	width := in[len(in)-1].Shape()[1] * 2
	if len(e.graph) < batch {
		e.graph = append(e.graph, make([]hops, batch-len(e.graph))...)
	}
	for b := range batch {
		if err := e.graph[b].set(edges[b*width:][:width], t); err != nil {
			return fmt.Errorf("example %d: %w", b, err)
		}
	}
	return nil
}

// nodes of example b.
func (e *sacExamples) nodes(b int) int {
	if e.lens == nil {
		return e.t
	}
	return min(max(int(e.lens[b]), 0), e.t)
}

// sacRollout draws the actions int32 [B,G,S] of G rollouts of each example, S = Steps(T); -1: nothing was chosen. Draws are counted by
// example, graph and step, never by how much padding there is. It has no gradient.
//
// Inputs: the nodes' parts of the gates e W_x [B,T,4P], keys [B,T,P], first input (e_start and so on) W_x [G,4P], slots W_x + b [2,4P],
// W_h [P,4P], W_eta [P,P], distance biases [D+2], step; with uniform, where every choice is as likely, only [B,T,·] and step.
type sacRollout struct {
	sacStage
	seed, site      uint64
	greedy, uniform bool
}

func (o sacRollout) Name() string { return "sac_rollout" }

func (o sacRollout) own() int {
	if o.uniform {
		return 2
	}
	return 8
}

func (o sacRollout) Infer(in []engine.Type) (engine.Type, error) {
	x := in[0].Shape
	if len(x) != 3 || len(in) != o.own()+o.more() {
		return engine.Type{}, fmt.Errorf("%d inputs, the first of shape %v, want %d, the first [B,T,·]", len(in), x, o.own()+o.more())
	}
	if !o.uniform {
		p := in[4].Shape[0]
		for i, want := range []tensor.Shape{{x[0], x[1], 4 * p}, {x[0], x[1], p}, {o.graphs, 4 * p}, {2, 4 * p}, {p, 4 * p}, {p, p}, {o.rules.Distances + 2}} {
			if !slices.Equal(in[i].Shape, want) {
				return engine.Type{}, fmt.Errorf("input %d has shape %v, want %v", i, in[i].Shape, want)
			}
		}
	}
	return engine.Type{Dtype: tensor.Int32, Shape: tensor.Shape{x[0], o.graphs, o.rules.Steps(x[1])}}, o.checkMore(in, x[0])
}

func (o sacRollout) Flops(in []engine.Type, out engine.Type) float64 {
	if o.uniform {
		return 0
	}
	p, t := float64(in[4].Shape[0]), float64(in[0].Shape[1])
	if o.rules.Local > 0 {
		t = min(t, float64(o.rules.Local))
	}
	return float64(out.Size()) * (10*p*p + 2*t*p)
}

// DiffWRT is false throughout: a choice has no gradient.
func (o sacRollout) DiffWRT() []bool { return make([]bool, o.own()+o.more()) }

func (o sacRollout) Diff(in Nodes, _, _ *Node) (Nodes, error) { return make(Nodes, len(in)), nil }

func (o sacRollout) Run(out engine.Value, in []engine.Value) error {
	if engine.IsF32(in[0]) {
		return runRollout[float32](o, engine.Ints(out), in, &sacRuns32)
	}
	return runRollout[float64](o, engine.Ints(out), in, &sacRuns64)
}

// sacRun is the memory of a run of any of the operations, kept between runs.
type sacRun[F kernels.Float] struct {
	sacExamples
	walks     []sacWalk
	scores    [][]float64 // by walk
	z, h, c   []F
	eta, sums []F
	live      []int32
	errs      []error
}

var sacRuns32, sacRuns64 sync.Pool

func takeSACRun[F kernels.Float](pool *sync.Pool, o sacStage, in []engine.Value, batch, t, walks int) (*sacRun[F], error) {
	r, ok := pool.Get().(*sacRun[F])
	if !ok {
		r = &sacRun[F]{}
	}
	if err := r.set(o, in, batch, t); err != nil {
		pool.Put(r)
		return nil, err
	}
	for len(r.walks) < walks {
		r.walks, r.scores = append(r.walks, sacWalk{}), append(r.scores, nil)
	}
	r.errs = slices.Grow(r.errs[:0], batch)[:batch]
	clear(r.errs)
	return r, nil
}

// begin starts walk w for rollout n = b·G + g.
func (r *sacRun[F]) begin(w *sacWalk, o sacStage, n int) {
	b := n / o.graphs
	var graph *hops
	if o.graph {
		graph = &r.graph[b]
	}
	w.start(o.rules, r.nodes(b), o.key, graph)
}

// failed is the first error of an example.
func (r *sacRun[F]) failed() error {
	for b, err := range r.errs {
		if err != nil {
			return fmt.Errorf("example %d: %w", b, err)
		}
	}
	return nil
}

func resized[F any](s []F, n int) []F { return slices.Grow(s[:0], n)[:n] }

// runRollout takes one step of all rollouts at a time, so that the recurrence runs as matrix products.
func runRollout[F kernels.Float](o sacRollout, actions []int32, in []engine.Value, pool *sync.Pool) error {
	batch, t := in[0].Shape()[0], in[0].Shape()[1]
	rows, steps := batch*o.graphs, o.rules.Steps(t)
	for i := range actions {
		actions[i] = -1
	}
	r, err := takeSACRun[F](pool, o.sacStage, in, batch, t, rows)
	if err != nil {
		return err
	}
	defer pool.Put(r)
	for n := range rows {
		r.begin(&r.walks[n], o.sacStage, n)
	}
	step := uint64(engine.Ints(in[o.own()-1])[0])
	base := splitmix.Mix(o.seed + splitmix.Mix(o.site+splitmix.Mix(step+1)))
	draw := func(n, t int) float64 {
		return splitmix.Unit(splitmix.Mix(base + (uint64(n)<<32+uint64(t))*splitmix.Increment))
	}
	if o.uniform {
		kernels.Par(rows, func(_, n int) {
			w := &r.walks[n]
			number := func(k int) float64 { return draw(n, 64*w.t+k) }
			for {
				a, more := w.anyone(number)
				if !more {
					break
				}
				w.take(a)
				actions[n*steps+w.t] = int32(a)
			}
		})
		return nil
	}
	net := sacNet[F]{ez: engine.Floats[F](in[0]), keys: engine.Floats[F](in[1]), first: engine.Floats[F](in[2]), slots: engine.Floats[F](in[3]),
		wh: engine.Floats[F](in[4]), eta: engine.Floats[F](in[5]), far: engine.Floats[F](in[6]), p: in[4].Shape()[0], t: t, graphs: o.graphs}
	p := net.p
	r.z, r.h, r.c, r.eta = resized(r.z, rows*4*p), resized(r.h, rows*p), resized(r.c, rows*p), resized(r.eta, rows*p)
	clear(r.h)
	clear(r.c)
	r.live = resized(r.live, rows)
	begin := func(_, n int) { // the inputs of the step
		w := &r.walks[n]
		if r.live[n] = 0; w.step() {
			r.live[n] = 1
			net.input(r.z[n*4*p:][:4*p], n, w.source, w.prev, w.PerNode)
			return
		}
		clear(r.z[n*4*p:][:4*p])
	}
	gates := func(_, n int) {
		layers.LSTMGates(r.z[n*4*p:][:4*p], r.c[n*p:][:p], r.c[n*p:][:p], r.h[n*p:][:p])
	}
	choose := func(_, n int) {
		w := &r.walks[n]
		if r.live[n] == 0 {
			return
		}
		a := -1
		if len(w.allowed) > 0 {
			r.scores[n] = resized(r.scores[n], len(w.allowed))
			net.scores(w, n/o.graphs, r.eta[n*p:][:p], r.scores[n])
			if o.greedy {
				a = int(w.allowed[likeliest(r.scores[n])])
			} else {
				a = int(w.allowed[sampled(r.scores[n], draw(n, w.t))])
			}
		}
		w.take(a)
		actions[n*steps+w.t] = int32(a)
	}
	for range steps {
		kernels.Par(rows, begin)
		kernels.Gemm(false, false, rows, 4*p, p, r.h, p, net.wh, 4*p, r.z, 4*p, true, nil)
		kernels.Par(rows, gates)
		kernels.Gemm(false, false, rows, p, p, r.h, p, net.eta, p, r.eta, p, false, nil)
		kernels.Par(rows, choose)
	}
	return nil
}

// sacNet are the weights of a predictor, as far as a step reads them.
type sacNet[F kernels.Float] struct {
	ez, keys, first, slots, wh, eta, far []F
	p, t, graphs                         int
}

// input is what the gates get from the input of a step: the slot, the previous action or what stands in its place, and of PerNode the source.
func (s *sacNet[F]) input(z []F, n, source, prev int, perNode bool) {
	wide, b := 4*s.p, n/s.graphs
	slot := 0
	if source >= 0 {
		slot = 1
	}
	before := s.first[n%s.graphs*wide:][:wide]
	if prev >= 0 {
		before = s.ez[(b*s.t+prev)*wide:][:wide]
	}
	for k, v := range s.slots[slot*wide:][:wide] {
		z[k] = v + before[k]
	}
	if perNode {
		for k, v := range s.ez[(b*s.t+source)*wide:][:wide] {
			z[k] += v
		}
	}
}

// scores are the logits of what may be chosen.
func (s *sacNet[F]) scores(w *sacWalk, b int, eta []F, u []float64) {
	scale := 1 / math.Sqrt(float64(s.p))
	for k, i := range w.allowed {
		u[k] = float64(dot(eta, s.keys[(b*s.t+int(i))*s.p:][:s.p])) * scale
		if w.ref >= 0 {
			u[k] += float64(s.far[w.bins[k]])
		}
	}
}

// dot adds up in a fixed order.
func dot[F kernels.Float](a, b []F) F {
	var s0, s1, s2, s3 F
	n := len(a) &^ 3
	b = b[:len(a)]
	for i := 0; i < n; i += 4 {
		s0 += a[i] * b[i]
		s1 += a[i+1] * b[i+1]
		s2 += a[i+2] * b[i+2]
		s3 += a[i+3] * b[i+3]
	}
	for i := n; i < len(a); i++ {
		s0 += a[i] * b[i]
	}
	return s0 + s1 + (s2 + s3)
}

// likeliest is the first of the largest.
func likeliest(u []float64) int {
	best := 0
	for k, v := range u {
		if v > u[best] {
			best = k
		}
	}
	return best
}

// logNorm is log Σ exp(u), and the entropy of softmax(u).
func logNorm(u []float64) (norm, entropy float64) {
	most, sum, mean := u[likeliest(u)], 0.0, 0.0
	for _, v := range u {
		e := math.Exp(v - most)
		sum += e
		mean += e * (v - most)
	}
	norm = math.Log(sum)
	return most + norm, max(norm-mean/sum, 0)
}

// sampled inverts the distribution function of softmax(u) at x in [0, 1). u is used up.
func sampled(u []float64, x float64) int {
	top := likeliest(u)
	most, total := u[top], 0.0
	for k, v := range u {
		u[k] = math.Exp(v - most)
		total += u[k]
	}
	x *= total
	for k, v := range u {
		if x -= v; x < 0 {
			return k
		}
	}
	return top // what rounding has left over
}
