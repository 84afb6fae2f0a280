package layers

import (
	"fmt"
	"math"
	"sync"

	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/kernels"
)

// RingConfig describes the attention of the satellites of a star.
type RingConfig struct {
	Heads int
	Scale float64 // of the scores; 0: 1/√D
	Open  bool    // the first and the last satellite are no neighbours
	Lens  *Node   // int32 [B], satellites of each example; nil: all T. The ring closes over them.
}

// Slots of a satellite's context.
const (
	slotLeft     = iota // h of the satellite before
	slotSelf            // its own h
	slotRight           // h of the satellite behind
	slotOwn             // e, its embedding
	slotRelay           // s
	contextSlots = iota
)

// Ring is the attention of the satellites of the Star-Transformer: satellite i reads five slots,
//
//	o_i = Σ_c p_ic v_c,  p_ic ∝ exp(s q_i·k_c),  c in [h_{i-1}, h_i, h_{i+1}, e_i, s]
//
// Slots are slots and not a set: h_i and e_i are different vectors. What does not exist has no slot: the neighbours beyond the ends of
// an open ring, both neighbours of a ring of one, and the second of a ring of two, where both are the same.
//
// Shapes: q [B,T,H·D]; k, v [B,2T+1,H·D], rows of h, then of e, then that of s -> [B,T,H·D]. Satellites that are padding give 0.
// Cost: O(B·T·H·D), 5 pairs a satellite; keeps their probabilities, [B,T,H,5].
// Source: Guo et al. 2019, arXiv 1902.09113, algorithm 1.
// Differs: the released code reads zeros beyond the ends, which take part in the softmax, and reads the padding behind the last token.
// Errors (kept by b): shapes that do not fit together; when run, a length beyond T.
func Ring(b *Builder, c RingConfig, q, k, v *Node) *Node {
	if b.Err() != nil {
		return nil
	}
	in := present(q, k, v)
	if len(in) < 3 {
		return b.Failf("ring: an input is missing")
	}
	if c.Lens != nil {
		in = append(in, c.Lens)
	}
	o := ring{heads: c.Heads, scale: c.Scale, open: c.Open}
	packed := b.Op(o, in...)
	if b.Err() != nil {
		return nil
	}
	return View(b, packed, 0, q.Shape()...)
}

// ring computes [o | probabilities]. Inputs: q, k, v, perhaps lens.
type ring struct {
	heads int
	scale float64
	open  bool
}

func (ring) Name() string { return "ring" }

func (o ring) Infer(in []engine.Type) (engine.Type, error) {
	if err := sameFloat(in[:3]...); err != nil {
		return engine.Type{}, err
	}
	q := in[0].Shape
	if len(q) != 3 || o.heads < 1 || q[2]%o.heads != 0 {
		return engine.Type{}, fmt.Errorf("q has shape %v, want [B,T,H·D] with H = %d", q, o.heads)
	}
	for _, t := range in[1:3] {
		if s := t.Shape; len(s) != 3 || s[0] != q[0] || s[1] != 2*q[1]+1 || s[2] != q[2] {
			return engine.Type{}, fmt.Errorf("k or v has shape %v, want [%d,%d,%d]: rows of h, of e and of the relay", s, q[0], 2*q[1]+1, q[2])
		}
	}
	if len(in) > 3 && (in[3].Dtype != tensor.Int32 || len(in[3].Shape) != 1 || in[3].Shape[0] != q[0]) {
		return engine.Type{}, fmt.Errorf("lengths %v, want int32 [%d]", in[3], q[0])
	}
	return engine.Type{Dtype: in[0].Dtype, Shape: tensor.Shape{in[0].Size() + q[0]*q[1]*o.heads*contextSlots}}, nil
}

func (o ring) Flops(in []engine.Type, _ engine.Type) float64 {
	return 4 * contextSlots * float64(in[0].Size())
}

func (o ring) Run(out engine.Value, in []engine.Value) error {
	if engine.IsF32(out) {
		return ringForward(o, engine.Floats[float32](out), in, &ringJobs32)
	}
	return ringForward(o, engine.Floats[float64](out), in, &ringJobs64)
}

func (o ring) Diff(in Nodes, out, dout *Node) (Nodes, error) {
	packed, err := engine.Apply(ringGrad{ring: o}, append(Nodes{out, dout}, in...)...)
	if err != nil {
		return nil, err
	}
	return engine.Unpack(packed, in, 3)
}

// ringGrad computes [dq | dk | dv | gradients of the scores]. Inputs: the result of ring, its gradient, then those of ring.
type ringGrad struct {
	firstOrder
	ring ring
}

func (ringGrad) Name() string { return "ring_grad" }

func (o ringGrad) Infer(in []engine.Type) (engine.Type, error) {
	n := 2*in[3].Size() + in[0].Size() // the result has the size of q and the scores
	return engine.Type{Dtype: in[0].Dtype, Shape: tensor.Shape{n}}, nil
}

func (o ringGrad) Flops(in []engine.Type, _ engine.Type) float64 {
	return 8 * contextSlots * float64(in[2].Size())
}

func (o ringGrad) Run(out engine.Value, in []engine.Value) error {
	if engine.IsF32(out) {
		return ringBackward(o.ring, engine.Floats[float32](out), in, &ringJobs32)
	}
	return ringBackward(o.ring, engine.Floats[float64](out), in, &ringJobs64)
}

// ringChunk satellites are one task.
const ringChunk = 64

// ringJob is one run. Jobs are kept, with their functions bound, so that a step allocates nothing.
type ringJob[F kernels.Float] struct {
	ring
	b, t, u, d, chunks    int // u = H·D
	factor                F
	lens                  []int32
	q, k, v, o, p         []F
	do, dq, dk, dv, ds    []F
	forward, scores, keys func(worker, task int)
}

var (
	ringJobs32 sync.Pool
	ringJobs64 sync.Pool
)

func takeRing[F kernels.Float](o ring, in []engine.Value, pool *sync.Pool) (*ringJob[F], error) {
	j, ok := pool.Get().(*ringJob[F])
	if !ok {
		j = new(ringJob[F])
		j.forward, j.scores, j.keys = j.attend, j.attendGrad, j.gather
	}
	s := in[0].Shape()
	j.ring, j.b, j.t, j.u, j.d = o, s[0], s[1], s[2], s[2]/o.heads
	j.chunks = (j.t + ringChunk - 1) / ringChunk
	j.q, j.k, j.v = engine.Floats[F](in[0]), engine.Floats[F](in[1]), engine.Floats[F](in[2])
	if j.factor = F(o.scale); j.factor == 0 {
		j.factor = F(1 / math.Sqrt(float64(j.d)))
	}
	j.lens = nil
	if len(in) > 3 {
		j.lens = engine.Ints(in[3])
		for b, n := range j.lens {
			if n < 0 || int(n) > j.t {
				return nil, fmt.Errorf("example %d has length %d, it must be from 0 to %d", b, n, j.t)
			}
		}
	}
	return j, nil
}

// give puts a job back, without the memory it points to.
func (j *ringJob[F]) give(pool *sync.Pool) {
	*j = ringJob[F]{forward: j.forward, scores: j.scores, keys: j.keys}
	pool.Put(j)
}

func ringForward[F kernels.Float](o ring, out []F, in []engine.Value, pool *sync.Pool) error {
	j, err := takeRing[F](o, in, pool)
	if err != nil {
		return err
	}
	j.o, j.p = out[:len(j.q)], out[len(j.q):]
	kernels.Par(j.b*j.chunks, j.forward)
	j.give(pool)
	return nil
}

func ringBackward[F kernels.Float](o ring, out []F, in []engine.Value, pool *sync.Pool) error {
	j, err := takeRing[F](o, in[2:], pool)
	if err != nil {
		return err
	}
	nq, nk := len(j.q), len(j.k)
	j.p = engine.Floats[F](in[0])[nq:]
	j.do = engine.Floats[F](in[1])[:nq] // nothing reads the probabilities but this
	j.dq, j.dk, j.dv, j.ds = out[:nq], out[nq:][:nk], out[nq+nk:][:nk], out[nq+2*nk:]
	kernels.Par(j.b*j.chunks, j.scores)
	kernels.Par(j.b*(j.chunks+o.heads), j.keys)
	j.give(pool)
	return nil
}
