package attention

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"

	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/kernels"
)

// sacInputs are the inputs of all steps of given actions, as the gates get them: [B·G,S,4P], zeros where a rollout is over.
// Inputs: e W_x [B,T,4P], first W_x [G,4P], slots W_x + b [2,4P], actions int32 [B,G,S], then lengths.
type sacInputs struct{ sacStage }

func (sacInputs) Name() string { return "sac_inputs" }

func (o sacInputs) DiffWRT() []bool {
	return append([]bool{true, true, true}, make([]bool, 1+o.more())...)
}

func (o sacInputs) Infer(in []engine.Type) (engine.Type, error) {
	x, a := in[0].Shape, in[3].Shape
	if len(x) != 3 || in[3].Dtype != tensor.Int32 || !slices.Equal(a, tensor.Shape{x[0], o.graphs, o.rules.Steps(x[1])}) {
		return engine.Type{}, fmt.Errorf("actions %v for nodes of shape %v, want int32 [%d,%d,%d]", in[3], x, x[0], o.graphs, o.rules.Steps(x[1]))
	}
	return engine.Type{Dtype: in[0].Dtype, Shape: tensor.Shape{a[0] * a[1], a[2], x[2]}}, o.checkMore(in, x[0])
}

func (o sacInputs) Run(out engine.Value, in []engine.Value) error {
	if engine.IsF32(out) {
		return runSACInputs[float32](o, out, in, &sacRuns32)
	}
	return runSACInputs[float64](o, out, in, &sacRuns64)
}

// eachStep calls f for the steps of a rollout of n nodes with what was chosen before: source (-1: one is chosen) and previous action (-1).
func (r SACRules) eachStep(n int, actions []int32, f func(t, source, prev int)) {
	prev := -1
	for t := range r.Steps(n) {
		source := -1
		switch {
		case r.PerNode:
			source = t / int(r.Alpha)
		case t%2 == 1:
			source = prev
		case actions[t] < 0: // no source is left
			return
		}
		f(t, source, prev)
		if a := actions[t]; a >= 0 {
			prev = int(a)
		}
	}
}

func runSACInputs[F kernels.Float](o sacInputs, out engine.Value, in []engine.Value, pool *sync.Pool) error {
	batch, t, wide := in[0].Shape()[0], in[0].Shape()[1], in[0].Shape()[2]
	r, err := takeSACRun[F](pool, o.sacStage, in, batch, t, 0)
	if err != nil {
		return err
	}
	defer pool.Put(r)
	net := sacNet[F]{ez: engine.Floats[F](in[0]), first: engine.Floats[F](in[1]), slots: engine.Floats[F](in[2]), p: wide / 4, t: t, graphs: o.graphs}
	z, actions, steps := engine.Floats[F](out), engine.Ints(in[3]), in[3].Shape()[2]
	kernels.Par(batch*o.graphs, func(_, n int) {
		rows := z[n*steps*wide:][:steps*wide]
		clear(rows)
		o.rules.eachStep(r.nodes(n/o.graphs), actions[n*steps:][:steps], func(t, source, prev int) {
			net.input(rows[t*wide:][:wide], n, source, prev, o.rules.PerNode)
		})
	})
	return nil
}

func (o sacInputs) Diff(in Nodes, _, dout *Node) (Nodes, error) {
	packed, err := engine.Apply(sacInputsGrad(o), append(Nodes{dout}, in...)...)
	if err != nil {
		return nil, err
	}
	return engine.Unpack(packed, in, 3)
}

// sacInputsGrad has the gradients of the first three inputs of sacInputs. Inputs: the gradient of its result, then its own.
type sacInputsGrad struct{ sacStage }

func (sacInputsGrad) Name() string { return "sac_inputs_grad" }

func (sacInputsGrad) Infer(in []engine.Type) (engine.Type, error) {
	return engine.Type{Dtype: in[0].Dtype, Shape: tensor.Shape{in[1].Size() + in[2].Size() + in[3].Size()}}, nil
}

func (sacInputsGrad) Diff(Nodes, *Node, *Node) (Nodes, error) { return nil, errNoSecond }

var errNoSecond = errors.New("a gradient has no gradient of its own here")

func (o sacInputsGrad) Run(out engine.Value, in []engine.Value) error {
	if engine.IsF32(out) {
		return runSACInputsGrad[float32](o, out, in, &sacRuns32)
	}
	return runSACInputsGrad[float64](o, out, in, &sacRuns64)
}

func runSACInputsGrad[F kernels.Float](o sacInputsGrad, out engine.Value, in []engine.Value, pool *sync.Pool) error {
	batch, t, wide := in[1].Shape()[0], in[1].Shape()[1], in[1].Shape()[2]
	r, err := takeSACRun[F](pool, o.sacStage, in, batch, t, 0)
	if err != nil {
		return err
	}
	defer pool.Put(r)
	dz, actions, steps := engine.Floats[F](in[0]), engine.Ints(in[4]), in[4].Shape()[2]
	x := engine.Floats[F](out)
	dez, dfirst, dslots := x[:batch*t*wide], x[batch*t*wide:][:o.graphs*wide], x[(batch*t+o.graphs)*wide:]
	// Every example has sums of its own for what all share, which are added up in order.
	own := (o.graphs + 2) * wide
	r.sums = resized(r.sums, batch*own)
	clear(r.sums)
	kernels.Par(batch, func(_, b int) {
		mine, shared := dez[b*t*wide:][:t*wide], r.sums[b*own:][:own]
		clear(mine)
		for g := range o.graphs {
			n := b*o.graphs + g
			o.rules.eachStep(r.nodes(b), actions[n*steps:][:steps], func(t, source, prev int) {
				d := dz[(n*steps+t)*wide:][:wide]
				to := shared[g*wide:][:wide]
				if prev >= 0 {
					to = mine[prev*wide:][:wide]
				}
				slot := 0
				if source >= 0 {
					slot = 1
				}
				kernels.Axpy(1, d, to)
				kernels.Axpy(1, d, shared[(o.graphs+slot)*wide:][:wide])
				if o.rules.PerNode {
					kernels.Axpy(1, d, mine[source*wide:][:wide])
				}
			})
		}
	})
	clear(dfirst)
	clear(dslots)
	for b := range batch {
		kernels.Axpy(1, r.sums[b*own:][:o.graphs*wide], dfirst)
		kernels.Axpy(1, r.sums[b*own+o.graphs*wide:][:2*wide], dslots)
	}
	return nil
}

// sacPointer gives of each step the log-probability of the action and the entropy of the distribution (0 where nothing could be chosen),
// and for the gradient the logarithm of the softmax's sum: [3,B,G,S]. The logits are not kept: there are T times as many.
// Inputs: pointer queries [B·G,S,P], keys [B,T,P], distance biases [D+2], actions int32 [B,G,S], then lengths and edges.
type sacPointer struct{ sacStage }

func (sacPointer) Name() string { return "sac_pointer" }

func (o sacPointer) DiffWRT() []bool {
	return append([]bool{true, true, true}, make([]bool, 1+o.more())...)
}

func (o sacPointer) Infer(in []engine.Type) (engine.Type, error) {
	q, k, a := in[0].Shape, in[1].Shape, in[3].Shape
	if len(q) != 3 || len(k) != 3 || len(a) != 3 || q[2] != k[2] || q[0] != a[0]*a[1] || q[1] != a[2] || a[0] != k[0] || a[1] != o.graphs {
		return engine.Type{}, fmt.Errorf("queries %v, keys %v, actions %v: want [B·G,S,P], [B,T,P], [B,G,S]", q, k, a)
	}
	if in[2].Size() != o.rules.Distances+2 {
		return engine.Type{}, fmt.Errorf("%d distance biases, want %d", in[2].Size(), o.rules.Distances+2)
	}
	return engine.Type{Dtype: in[0].Dtype, Shape: tensor.Shape{3, a[0], a[1], a[2]}}, o.checkMore(in, k[0])
}

func (o sacPointer) Flops(in []engine.Type, _ engine.Type) float64 { return o.flops(in[0], in[1]) }

func (o sacStage) flops(eta, keys engine.Type) float64 {
	t := float64(keys.Shape[1])
	if o.rules.Local > 0 {
		t = min(t, float64(o.rules.Local))
	}
	return 2 * float64(eta.Size()) * t
}

func (o sacPointer) Run(out engine.Value, in []engine.Value) error {
	if engine.IsF32(out) {
		return runSACPointer[float32](o, out, in, &sacRuns32)
	}
	return runSACPointer[float64](o, out, in, &sacRuns64)
}

// forced goes through the steps of given actions: f has the walk at each step and the place of the action (-1: none).
func (o sacStage) forced(w *sacWalk, actions []int32, f func(w *sacWalk, at int)) error {
	for w.step() {
		a, at := int(actions[w.t]), -1
		if a >= 0 {
			if at = w.place(a); at < 0 {
				return fmt.Errorf("step %d: node %d may not be chosen", w.t, a)
			}
			f(w, at)
		}
		w.take(a)
	}
	return nil
}

func runSACPointer[F kernels.Float](o sacPointer, out engine.Value, in []engine.Value, pool *sync.Pool) error {
	batch, t, p := in[1].Shape()[0], in[1].Shape()[1], in[1].Shape()[2]
	rows, steps := batch*o.graphs, in[3].Shape()[2]
	r, err := takeSACRun[F](pool, o.sacStage, in, batch, t, kernels.Workers())
	if err != nil {
		return err
	}
	defer pool.Put(r)
	eta, actions := engine.Floats[F](in[0]), engine.Ints(in[3])
	net := sacNet[F]{keys: engine.Floats[F](in[1]), far: engine.Floats[F](in[2]), p: p, t: t, graphs: o.graphs}
	x, size := engine.Floats[F](out), rows*steps
	clear(x)
	kernels.Par(batch, func(worker, b int) {
		w := &r.walks[worker]
		for n := b * o.graphs; n < (b+1)*o.graphs; n++ {
			r.begin(w, o.sacStage, n)
			err := o.forced(w, actions[n*steps:][:steps], func(w *sacWalk, at int) {
				u := resized(r.scores[worker], len(w.allowed))
				r.scores[worker] = u
				k := n*steps + w.t
				net.scores(w, b, eta[k*p:][:p], u)
				norm, entropy := logNorm(u)
				x[k], x[size+k], x[2*size+k] = F(u[at]-norm), F(entropy), F(norm)
			})
			if err != nil && r.errs[b] == nil {
				r.errs[b] = err
			}
		}
	})
	return r.failed()
}

func (o sacPointer) Diff(in Nodes, out, dout *Node) (Nodes, error) {
	packed, err := engine.Apply(sacPointerGrad(o), append(Nodes{out, dout}, in...)...)
	if err != nil {
		return nil, err
	}
	return engine.Unpack(packed, in, 3)
}

// sacPointerGrad has the gradients of the first three inputs of sacPointer: with p the distribution of a step and d, e what comes to
// log-probability and entropy H, du_i = d (1{i=a} - p_i) - e p_i (log p_i + H).
// Inputs: the result of sacPointer, its gradient, then its own.
type sacPointerGrad struct{ sacStage }

func (sacPointerGrad) Name() string                            { return "sac_pointer_grad" }
func (sacPointerGrad) Diff(Nodes, *Node, *Node) (Nodes, error) { return nil, errNoSecond }
func (o sacPointerGrad) Flops(in []engine.Type, _ engine.Type) float64 {
	return 3 * o.flops(in[2], in[3])
}

func (sacPointerGrad) Infer(in []engine.Type) (engine.Type, error) {
	return engine.Type{Dtype: in[0].Dtype, Shape: tensor.Shape{in[2].Size() + in[3].Size() + in[4].Size()}}, nil
}

func (o sacPointerGrad) Run(out engine.Value, in []engine.Value) error {
	if engine.IsF32(out) {
		return runSACPointerGrad[float32](o, out, in, &sacRuns32)
	}
	return runSACPointerGrad[float64](o, out, in, &sacRuns64)
}

func runSACPointerGrad[F kernels.Float](o sacPointerGrad, out engine.Value, in []engine.Value, pool *sync.Pool) error {
	batch, t, p := in[3].Shape()[0], in[3].Shape()[1], in[3].Shape()[2]
	rows, steps := batch*o.graphs, in[5].Shape()[2]
	r, err := takeSACRun[F](pool, o.sacStage, in, batch, t, kernels.Workers())
	if err != nil {
		return err
	}
	defer pool.Put(r)
	done, d, size := engine.Floats[F](in[0]), engine.Floats[F](in[1]), rows*steps
	eta, actions := engine.Floats[F](in[2]), engine.Ints(in[5])
	net := sacNet[F]{keys: engine.Floats[F](in[3]), far: engine.Floats[F](in[4]), p: p, t: t, graphs: o.graphs}
	x := engine.Floats[F](out)
	deta, dkeys, dfar := x[:size*p], x[size*p:][:batch*t*p], x[size*p+batch*t*p:]
	clear(x)
	bins, scale := len(dfar), 1/math.Sqrt(float64(p))
	r.sums = resized(r.sums, batch*bins)
	clear(r.sums)
	kernels.Par(batch, func(worker, b int) {
		w := &r.walks[worker]
		far := r.sums[b*bins:][:bins]
		for n := b * o.graphs; n < (b+1)*o.graphs; n++ {
			r.begin(w, o.sacStage, n)
			err := o.forced(w, actions[n*steps:][:steps], func(w *sacWalk, at int) {
				k := n*steps + w.t
				dp, dh, norm, entropy := float64(d[k]), float64(d[size+k]), float64(done[2*size+k]), float64(done[size+k])
				if dp == 0 && dh == 0 {
					return
				}
				u := resized(r.scores[worker], len(w.allowed))
				r.scores[worker] = u
				q, dq := eta[k*p:][:p], deta[k*p:][:p]
				net.scores(w, b, q, u)
				for i, v := range u {
					pi := math.Exp(v - norm)
					du := -dp * pi
					if i == at {
						du += dp
					}
					if pi > 0 {
						du -= dh * pi * (v - norm + entropy)
					}
					row := (b*t + int(w.allowed[i])) * p
					g := F(du * scale)
					for j, kv := range net.keys[row:][:p] {
						dq[j] += g * kv
						dkeys[row+j] += g * q[j]
					}
					if w.ref >= 0 {
						far[w.bins[i]] += F(du)
					}
				}
			})
			if err != nil && r.errs[b] == nil {
				r.errs[b] = err
			}
		}
	})
	for b := range batch {
		for k, v := range r.sums[b*bins:][:bins] {
			dfar[k] += v
		}
	}
	return r.failed()
}
