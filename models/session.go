package models

import (
	"fmt"
	"slices"

	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/kernels"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/layers/attention"
)

// Session runs a causal model on one sequence, token by token, without a graph: the weights are read once a token, and of keys and
// values only those are kept that the pattern of their layer can still read.
//
// Cost of a token: the weights once from memory, plus attention on the keys that are held.
type Session struct{ run[float32] }

// NewSession starts a sequence of at most limit tokens; 0: as many as the model has positions. Weights are single precision.
//
// Errors: weights in another precision, or of another model.
func NewSession(m Causal, params *layers.Params, limit int) (*Session, error) {
	if params.Dtype() != tensor.Float32 {
		return nil, fmt.Errorf("generation works in float32, the weights are %v: load them as float32", params.Dtype())
	}
	r, err := newRun[float32](m.causal(), params, limit)
	if err != nil {
		return nil, err
	}
	return &Session{*r}, nil
}

// Step reads the next token and returns the logits [V] of the one after it. They are valid until the next call.
//
// Errors: *LengthError; an id outside the vocabulary.
func (s *Session) Step(id int32) ([]float32, error) { return s.step(id) }

// Len is the number of tokens read.
func (s *Session) Len() int { return s.length }

// Limit is the number of tokens that fit.
func (s *Session) Limit() int { return s.limit }

// CacheBytes is the memory of the keys and values that are held.
func (s *Session) CacheBytes() int {
	n := 0
	for _, l := range s.layers {
		n += l.cache.Bytes()
	}
	return n
}

// run is a session in either precision: stack.forward for one token.
type run[F kernels.Float] struct {
	*stack
	limit, length int
	embed, places []F // [V,C], [P,C]
	final         normWeights[F]
	head          matrix[F]
	layers        []layerWeights[F]
	cos, sin      []F

	x, x2, h, u, qkv, o, logits []F
	position                    []int32
}

type normWeights[F kernels.Float] struct{ weight, bias []F }

type matrix[F kernels.Float] struct {
	w, bias []F
	inOut   bool
	in, out int
}

type layerWeights[F kernels.Float] struct {
	norm1, norm2  normWeights[F]
	q, k, v       matrix[F] // or qkv in q
	out, up, down matrix[F]
	cache         *attention.Cache[F]
}

func newRun[F kernels.Float](s *stack, params *layers.Params, limit int) (*run[F], error) {
	if limit <= 0 || s.Positions > 0 && limit > s.Positions {
		limit = s.Positions
	}
	r := &run[F]{stack: s, limit: limit, position: make([]int32, 1)}
	w := reader[F]{params: params}
	r.embed = w.get(s.names.tokens+".weight", s.Vocab, s.Hidden)
	switch s.position {
	case "learned":
		r.places = w.get(s.names.positions+".weight", s.Positions, s.Hidden)
	case "sinusoidal":
		for _, x := range layers.SinusoidalTable(limit, s.Hidden, false) {
			r.places = append(r.places, F(x))
		}
	case "rotary":
		r.cos, r.sin = kernels.RopeTable[F](limit, s.headSize(), s.ropeBase)
	}
	r.final = w.norm(s, s.names.final)
	r.head = matrix[F]{w: r.embed, in: s.Hidden, out: s.Vocab}
	if s.untied {
		r.head.w = w.get(s.names.head+".weight", s.Vocab, s.Hidden)
	}
	for l := range s.Layers {
		at := fmt.Sprint(s.names.layer, l, ".")
		lw := layerWeights[F]{norm1: w.norm(s, at+s.names.norm1), norm2: w.norm(s, at+s.names.norm2),
			out: w.matrix(s, at+s.names.out, s.Hidden, s.Hidden, s.noOut), up: w.matrix(s, at+s.names.up, s.Hidden, s.Inner, s.noFeed),
			down: w.matrix(s, at+s.names.down, s.Inner, s.Hidden, s.noFeed)}
		noBias := s.noQKV
		if s.names.qkv != "" {
			lw.q = w.matrix(s, at+s.names.qkv, s.Hidden, 3*s.Hidden, noBias)
		} else {
			lw.q = w.matrix(s, at+s.names.q, s.Hidden, s.Hidden, noBias)
			lw.k = w.matrix(s, at+s.names.k, s.Hidden, s.Hidden, noBias)
			lw.v = w.matrix(s, at+s.names.v, s.Hidden, s.Hidden, noBias)
		}
		pattern, err := attention.Stored(s.mixers[l], params, at+s.attn())
		if err != nil {
			return nil, err
		}
		if lw.cache, err = attention.NewCache[F](pattern, s.Heads, s.headSize(), s.headSize(), limit, s.scale(l)); err != nil {
			return nil, err
		}
		r.layers = append(r.layers, lw)
	}
	c := s.Hidden
	r.x, r.x2, r.h, r.o = make([]F, c), make([]F, c), make([]F, c), make([]F, c)
	r.u, r.qkv, r.logits = make([]F, s.Inner), make([]F, 3*c), make([]F, s.Vocab)
	return r, w.err
}

// reader takes weights by name.
type reader[F kernels.Float] struct {
	params *layers.Params
	err    error
}

func (w *reader[F]) get(name string, shape ...int) []F {
	p, ok := w.params.Get(name)
	switch {
	case w.err != nil:
	case !ok:
		w.err = fmt.Errorf("weight %s is missing: the weights are not those of this model", name)
	case !slices.Equal(p.Value.Shape(), shape):
		w.err = fmt.Errorf("weight %s has shape %v, the model wants %v: the weights are not those of this model", name, p.Value.Shape(), shape)
	default:
		return engine.Floats[F](p.Value)
	}
	return nil
}

func (w *reader[F]) norm(s *stack, scope string) normWeights[F] {
	return normWeights[F]{w.get(scope+".weight", s.Hidden), w.get(scope+".bias", s.Hidden)}
}

func (w *reader[F]) matrix(s *stack, scope string, in, out int, noBias bool) matrix[F] {
	shape := []int{out, in}
	if s.inOut {
		shape = []int{in, out}
	}
	m := matrix[F]{w: w.get(scope+".weight", shape...), inOut: s.inOut, in: in, out: out}
	if !noBias {
		m.bias = w.get(scope+".bias", out)
	}
	return m
}

// apply is y = act(x W + b), or y += x W + b.
func (m matrix[F]) apply(x, y []F, act kernels.Activation, add bool) {
	ep := &kernels.Epilogue[F]{Bias: m.bias, Act: act}
	if m.inOut {
		kernels.Gemm(false, false, 1, m.out, m.in, x, m.in, m.w, m.out, y, m.out, add, ep)
		return
	}
	kernels.Gemm(false, true, 1, m.out, m.in, x, m.in, m.w, m.in, y, m.out, add, ep)
}

func (r *run[F]) normalise(n normWeights[F], x, y []F) {
	kernels.LayerNorm(1, r.Hidden, x, n.weight, n.bias, y, F(r.eps))
}

func (r *run[F]) step(id int32) ([]F, error) {
	if r.length >= r.limit {
		return nil, &LengthError{Length: r.length + 1, Max: r.limit}
	}
	if id < 0 || int(id) >= r.Vocab {
		return nil, fmt.Errorf("token id %d is outside the vocabulary of %d", id, r.Vocab)
	}
	c := r.Hidden
	copy(r.x, r.embed[int(id)*c:][:c])
	if r.places != nil {
		kernels.Add(r.x, r.places[r.length*c:][:c], r.x)
	}
	x, y := r.x, r.x // what is read, what is added to
	if r.reverse {
		y = r.x2
		copy(y, x)
	}
	for l := range r.layers {
		w := &r.layers[l]
		if r.reverse { // y1 = x1 + F(x2), y2 = x2 + G(y1)
			x, y = r.x2, r.x
		}
		if err := r.attendStep(w, x, y); err != nil {
			return nil, err
		}
		if r.reverse {
			x, y = r.x, r.x2
		}
		r.normalise(w.norm2, x, r.h)
		w.up.apply(r.h, r.u, r.act, false)
		w.down.apply(r.u, y, kernels.None, true)
	}
	if r.reverse {
		kernels.Add(r.x, r.x2, r.x)
		kernels.Scale(0.5, r.x, r.x)
	}
	r.normalise(r.final, r.x, r.h)
	r.head.apply(r.h, r.logits, kernels.None, false)
	r.length++
	return r.logits, nil
}

// attendStep adds the attention of the token x to y.
func (r *run[F]) attendStep(w *layerWeights[F], x, y []F) error {
	c := r.Hidden
	q, k, v := r.qkv[:c], r.qkv[c:2*c], r.qkv[2*c:]
	r.normalise(w.norm1, x, r.h)
	if w.k.w == nil {
		w.q.apply(r.h, r.qkv, kernels.None, false)
	} else {
		w.q.apply(r.h, q, kernels.None, false)
		w.k.apply(r.h, k, kernels.None, false)
		w.v.apply(r.h, v, kernels.None, false)
	}
	if r.cos != nil {
		r.position[0] = int32(r.length)
		kernels.Rope(1, 2*r.Heads, r.headSize(), r.qkv, 3*c, r.position, r.cos, r.sin, false, false)
	}
	if err := w.cache.Attend(q, k, v, r.o); err != nil {
		return err
	}
	w.out.apply(r.o, y, kernels.None, true)
	return nil
}
