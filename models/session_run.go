package models

import (
	"fmt"
	"slices"

	"github.com/euryale-ml/euryale/internal/kernels"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/layers/attention"
)

// run is stack.run for one token of each candidate, and the head.
type run[F kernels.Float] struct {
	*stack
	weights[F]
	memory *memoryOf[F] // of an encoder-decoder

	limit, length, candidates int   // of images in positions, which may be pixels
	classOf                   []int // of each candidate, of images that have any; nil: none
	rows                      int   // of the step: one a candidate, and behind them one for each span that the token completes and candidate

	x, x2, h, o, q, k, v, u, gate, logits []F
	position                              []int32
}

// uncached says why the stack cannot be run with caches; empty: it can.
func (s *stack) uncached() string {
	switch {
	case s == nil:
		return "it has a topology of its own"
	case s.external > 0 || s.vectors > 0 || s.counted:
		return "it reads more than tokens in their order"
	case s.tree:
		return ""
	}
	for l, c := range s.crossing {
		if c != nil {
			return fmt.Sprintf("what layer %d reads of the source is more than a pattern", l)
		}
	}
	for l, m := range s.mixers {
		if why := uncachedMixer(m); why != "" {
			return fmt.Sprintf("the attention of layer %d %s", l, why)
		}
	}
	return ""
}

// newRun reads the weights of a stack. Errors: weights of another model.
func newRun[F kernels.Float](s *stack, params *layers.Params, limit int) (*run[F], error) {
	r := &run[F]{stack: s, limit: limit, candidates: 1}
	w := reader[F]{stack: s, params: params}
	r.weights = w.all(limit)
	if w.err != nil {
		return nil, w.err
	}
	for l := range r.layers {
		if s.tree {
			bp := s.mixers[l].(attention.BP) // nothing else has spans
			labels := w.get(fmt.Sprint(s.names.layer, l, ".", s.attn(), ".labels.weight"), bp.Labels().Count(), s.headSize())
			if w.err != nil {
				return nil, w.err
			}
			c, err := attention.NewTreeCache(bp, s.Heads, s.headSize(), s.headSize(), limit, labels, s.scale(l))
			if err != nil {
				return nil, err
			}
			r.layers[l].cache = c
			continue
		}
		c, err := r.cacheFor(params, l)
		if err != nil {
			return nil, err
		}
		r.layers[l].cache = c
	}
	return r, nil
}

func (r *run[F]) size() (length, candidates, limit, bytes int) {
	for _, l := range r.layers {
		bytes += l.cache.Bytes()
	}
	return r.length, r.candidates, r.limit, bytes
}

func (r *run[F]) choose(parents []int) {
	for _, l := range r.layers {
		l.cache.Select(parents)
	}
	if r.classOf != nil {
		now := make([]int, len(parents))
		for k, p := range parents {
			now[k] = r.classOf[p]
		}
		r.classOf = now
	}
	r.candidates = len(parents)
}

// setClasses says of what class each candidate is.
func (r *run[F]) setClasses(classes []int) error {
	if r.length > 0 || len(classes) != r.candidates {
		return fmt.Errorf("%d classes for %d candidates after %d levels: give one for each before the first", len(classes), r.candidates, r.length)
	}
	for _, c := range classes {
		if c >= r.image.classes {
			return fmt.Errorf("class %d, the model has 0 to %d", c, r.image.classes-1)
		}
	}
	r.classOf = slices.Clone(classes)
	return nil
}

// reset goes back to the start, with one candidate.
func (r *run[F]) reset() {
	for _, l := range r.layers {
		l.cache.Reset()
	}
	r.length, r.candidates, r.classOf = 0, 1, nil
}

func (r *run[F]) step(ids []int32) ([]F, error) {
	each := 1 // ids of a candidate
	if r.image != nil {
		each = r.image.each
	}
	if len(ids)%each != 0 {
		return nil, fmt.Errorf("%d levels: give the %d of a pixel for each candidate", len(ids), each)
	}
	given := len(ids) / each
	if err := checkStep(r, given, ids, r.Vocab); err != nil {
		return nil, err
	}
	c, i := r.Hidden, r.inner()
	r.rows = given
	if r.tree {
		r.rows += given * attention.SpansAfter(r.length)
	}
	n := r.rows
	for _, b := range []*[]F{&r.x, &r.h} {
		*b = room(*b, n*c)
	}
	for _, b := range []*[]F{&r.o, &r.q, &r.k, &r.v} {
		*b = room(*b, n*i)
	}
	r.u, r.gate, r.logits = room(r.u, n*r.Inner), room(r.gate, n*r.Inner), room(r.logits, given*r.predicted())
	r.position = r.position[:0]
	for range n {
		r.position = append(r.position, int32(r.length))
	}

	r.embed(ids, given)
	if err := r.through(); err != nil {
		return nil, err
	}
	if r.final.weight != nil {
		r.settle(r.final)
	}
	if r.headScale != 0 {
		kernels.Scale(F(r.headScale), r.x, r.x)
	}
	r.head.apply(given, r.x, r.logits, kernels.None, false)
	r.length++
	return r.logits, nil
}

// embed is stack.embed for so many candidates.
func (r *run[F]) embed(ids []int32, candidates int) {
	c, each := r.Hidden, len(ids)/candidates
	for k := range candidates {
		row := r.x[k*c:][:c]
		clear(row)
		for e, id := range ids[k*each:][:each] {
			if r.image != nil {
				id += int32(r.image.offset(r.length*each + e))
			}
			kernels.Add(row, r.vocabulary[int(id)*c:][:c], row)
		}
		if r.embedScale != 0 {
			kernels.Scale(F(r.embedScale), row, row)
		}
		if r.kinds != nil {
			kernels.Add(row, r.kinds[:c], row)
		}
		if r.places != nil {
			kernels.Add(row, r.places[(r.length+r.offset)*c:][:c], row)
		}
		if r.classOf != nil && r.classOf[k] >= 0 {
			kernels.Add(row, r.ofClasses[r.classOf[k]*c:][:c], row)
		}
	}
	if r.embedNorm != "" {
		all := r.rows
		r.rows = candidates
		r.settle(r.embedded)
		r.rows = all
	}
	clear(r.x[candidates*c:]) // spans
}

// through runs the layers on the stream.
func (r *run[F]) through() error {
	if r.reverse {
		r.x2 = append(r.x2[:0], r.x[:r.rows*r.Hidden]...)
	}
	for l := range r.layers {
		if err := r.layer(&r.layers[l], l); err != nil {
			return err
		}
	}
	if r.reverse {
		kernels.Add(r.x, r.x2, r.x)
		kernels.Scale(0.5, r.x, r.x)
	}
	return nil
}

// layer is stack.layer, or the sums of a layer of stack.reversible, of which each takes the other stream.
func (r *run[F]) layer(w *layerWeights[F], l int) error {
	if !r.reverse {
		if err := r.attend(w, r.x, r.x); err != nil {
			return err
		}
		r.after(w.norm1)
		if r.memory != nil {
			r.attendMemory(w, l, r.x, r.x)
			r.after(w.normCross)
		}
		r.feed(w, r.x, r.x)
		r.after(w.norm2)
		return nil
	}
	if err := r.attend(w, r.x2, r.x); err != nil {
		return err
	}
	if r.memory != nil {
		r.attendMemory(w, l, r.x, r.x2)
		r.x, r.x2 = r.x2, r.x // three sums a layer: the first of the next one belongs to the other stream
	}
	r.feed(w, r.x, r.x2)
	return nil
}

// attend adds the self-attention of from to to.
func (r *run[F]) attend(w *layerWeights[F], from, to []F) error {
	n := r.rows
	h := r.before(w.norm1, from)
	w.q.apply(n, h, r.q, kernels.None, false)
	w.k.apply(n, h, r.k, kernels.None, false)
	w.v.apply(n, h, r.v, kernels.None, false)
	if r.cos != nil {
		kernels.Rope(n, r.Heads, r.headSize(), r.q, r.inner(), r.position, r.cos, r.sin, false, false)
		kernels.Rope(n, r.Heads, r.headSize(), r.k, r.inner(), r.position, r.cos, r.sin, false, false)
	}
	if err := w.cache.Attend(r.q, r.k, r.v, r.o); err != nil {
		return err
	}
	w.out.apply(n, r.o, to, kernels.None, true)
	return nil
}

// attendMemory adds the attention of from on the memory to to.
func (r *run[F]) attendMemory(w *layerWeights[F], l int, from, to []F) {
	w.crossQ.apply(r.candidates, r.before(w.normCross, from), r.q, kernels.None, false)
	r.memory.layers[l].Attend(r.length, r.candidates, r.q, r.o)
	clear(r.o[r.candidates*r.inner():]) // spans read nothing
	w.crossOut.apply(r.rows, r.o, to, kernels.None, true)
}

// feed adds the feed-forward part of from to to.
func (r *run[F]) feed(w *layerWeights[F], from, to []F) {
	n := r.rows
	h := r.before(w.norm2, from)
	w.up.apply(n, h, r.u, r.act, false)
	if w.gate.w != nil {
		w.gate.apply(n, h, r.gate, kernels.None, false)
		for i, g := range r.gate {
			r.u[i] *= g
		}
	}
	w.down.apply(n, r.u, to, kernels.None, true)
}

// before is what a part reads.
func (r *run[F]) before(w normWeights[F], x []F) []F {
	if r.post {
		return x
	}
	r.normalise(w, x, r.h)
	return r.h
}

// after is the norm after a part, where it stands there.
func (r *run[F]) after(w normWeights[F]) {
	if r.post {
		r.settle(w)
	}
}

// settle normalises the stream.
func (r *run[F]) settle(w normWeights[F]) {
	r.normalise(w, r.x, r.h)
	r.x, r.h = r.h, r.x
}

func (r *run[F]) normalise(w normWeights[F], x, y []F) {
	if r.rms {
		kernels.RMSNorm(r.rows, r.Hidden, x, w.weight, y, F(r.eps))
		return
	}
	kernels.LayerNorm(r.rows, r.Hidden, x, w.weight, w.bias, y, F(r.eps))
}

// room is a slice of n elements, b itself if it is large enough.
func room[F kernels.Float](b []F, n int) []F {
	if cap(b) < n {
		return make([]F, n)
	}
	return b[:n]
}
