package models

import (
	"fmt"
	"slices"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/kernels"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/layers/attention"
)

// weights are those of a stack, as they lie in memory.
type weights[F kernels.Float] struct {
	vocabulary, kinds, places []F // [V,C], [types,C], [P,C]
	ofClasses                 []F // [classes,C] of images
	biases                    []F // [labels,H] of relative positions
	cos, sin                  []F // of rotary positions
	embedded, final           normWeights[F]
	layers                    []layerWeights[F]
	head                      matrix[F]
	headScale                 float64 // of what the head reads; 0: 1
}

type normWeights[F kernels.Float] struct{ weight, bias []F }

type layerWeights[F kernels.Float] struct {
	norm1, normCross, norm2          normWeights[F]
	q, k, v, out                     matrix[F]
	crossQ, crossK, crossV, crossOut matrix[F]
	up, gate, down                   matrix[F]
	cache                            cache[F]
}

// cache is the self-attention of a layer, token by token.
type cache[F kernels.Float] interface {
	// Attend adds the rows of the next token and writes what they read to o.
	Attend(q, k, v, o []F) error
	Select(parents []int)
	Bytes() int
	Reset()
}

// matrix is a linear map: y = x W + b. Rows of w are ld apart.
type matrix[F kernels.Float] struct {
	w, bias []F
	inOut   bool
	in, out int
	ld      int
	parts   []matrix[F] // instead: maps whose results stand side by side
}

// apply is y = act(x W + b) for n rows, or y += x W + b.
func (m matrix[F]) apply(n int, x, y []F, act kernels.Activation, add bool) {
	if m.parts == nil {
		m.into(n, x, y, m.out, act, add)
		return
	}
	at := 0
	for _, p := range m.parts {
		p.into(n, x, y[at:], m.out, act, add)
		at += p.out
	}
}

// into is apply where rows of y are ldy apart.
func (m matrix[F]) into(n int, x, y []F, ldy int, act kernels.Activation, add bool) {
	kernels.Gemm(false, !m.inOut, n, m.out, m.in, x, m.in, m.w, m.ld, y, ldy, add, &kernels.Epilogue[F]{Bias: m.bias, Act: act})
}

// part is the map to columns from … from+out-1 alone.
func (m matrix[F]) part(from, out int) matrix[F] {
	if m.w == nil {
		return m
	}
	p := matrix[F]{inOut: m.inOut, in: m.in, out: out, ld: m.ld}
	if m.inOut {
		p.w = m.w[from:]
	} else {
		p.w = m.w[from*m.in:][:out*m.in]
	}
	if m.bias != nil {
		p.bias = m.bias[from:][:out]
	}
	return p
}

// reader takes weights by name.
type reader[F kernels.Float] struct {
	*stack
	params *layers.Params
	err    error
}

// all reads the weights of the stack, and makes tables of positions for sequences up to a limit.
func (w *reader[F]) all(limit int) weights[F] {
	s := w.stack
	all := weights[F]{vocabulary: w.get(s.names.tokens+".weight", s.tableRows(), s.Hidden)}
	if s.types > 0 {
		all.kinds = w.get(s.names.types+".weight", s.types, s.Hidden)
	}
	switch s.position {
	case "learned":
		all.places = w.get(s.names.positions+".weight", s.Positions+s.offset, s.Hidden)
	case "factorized":
		all.places = make([]F, limit*s.Hidden)
		for axis, size := range s.shape {
			table := w.get(fmt.Sprint(s.names.positions, ".", axis, ".weight"), size, s.Hidden)
			for i := range limit {
				if w.err == nil {
					kernels.Axpy(1, table[s.place(axis, i)*s.Hidden:][:s.Hidden], all.places[i*s.Hidden:][:s.Hidden])
				}
			}
		}
	case "axial":
		all.places = make([]F, limit*s.Hidden)
		at := 0
		for axis, size := range s.shape {
			shape := slices.Repeat([]int{1}, len(s.shape)+1)
			shape[axis], shape[len(s.shape)] = size, s.widths[axis]
			table := w.get(fmt.Sprint(s.names.positions, ".weights.", axis), shape...)
			for i := range limit {
				if w.err == nil {
					copy(all.places[i*s.Hidden+at:][:s.widths[axis]], table[s.place(axis, i)*s.widths[axis]:])
				}
			}
			at += s.widths[axis]
		}
	case "image":
		all.places = w.imagePlaces()
		if s.image.classes > 0 {
			all.ofClasses = w.get(s.image.classNames+".weight", s.image.classes, s.Hidden)
		}
	case "sinusoidal":
		for _, x := range layers.SinusoidalTable(limit, s.Hidden, false) {
			all.places = append(all.places, F(x))
		}
	case "rotary":
		all.cos, all.sin = kernels.RopeTable[F](limit, s.headSize(), s.ropeBase)
	}
	if s.relative != nil {
		all.biases = w.get(fmt.Sprint(s.names.layer, "0.", s.names.relative, ".weight"), s.relative.Count(), s.Heads)
	}
	if s.embedNorm != "" {
		all.embedded = w.norm(s.names.embedNorm)
	}
	if s.names.final != "" {
		all.final = w.norm(s.names.final)
	}
	all.head = matrix[F]{w: all.vocabulary, in: s.Hidden, out: s.predicted(), ld: s.Hidden}
	if s.untied {
		all.head.w = w.get(s.names.head+".weight", s.predicted(), s.Hidden)
	}
	if s.biased {
		all.head.bias = w.get(s.names.head+".bias", s.predicted())
	}
	for l := range s.Layers {
		all.layers = append(all.layers, w.layer(fmt.Sprint(s.names.layer, l, "."), s.mixers[l]))
	}
	return all
}

// imagePlaces is what stack.addPlaces adds, [P,C].
func (w *reader[F]) imagePlaces() []F {
	i, c, half := w.image, w.Hidden, w.Hidden/2
	rows := w.get(w.names.positions+".rows.weight", i.height, half)
	columns := w.get(w.names.positions+".columns.weight", i.width, half)
	if w.err != nil {
		return nil
	}
	all := make([]F, len(i.order)*c)
	for t, place := range i.order {
		copy(all[t*c:], rows[place/i.width*half:][:half])
		copy(all[t*c+half:], columns[place%i.width*half:][:half])
	}
	return all
}

// layer reads the weights of the layer under a prefix, with some attention (nil: a pattern).
func (w *reader[F]) layer(at string, of attention.Mixer) (l layerWeights[F]) {
	s := w.stack
	c, i := s.Hidden, s.inner()
	l.norm1, l.norm2 = w.norm(at+s.names.norm1), w.norm(at+s.names.norm2)
	if groups, ok := of.(attention.HeadGroups); ok {
		l.q, l.k, l.v = w.groups(at+s.attn(), groups)
	} else if attention.SharesQK(of) {
		l.q, l.v = w.matrix(at+s.names.qk, c, i, s.noQKV), w.matrix(at+s.names.v, c, i, s.noQKV)
		l.k = l.q
	} else if s.names.qkv != "" {
		qkv := w.matrix(at+s.names.qkv, c, 3*i, s.noQKV)
		l.q, l.k, l.v = qkv.part(0, i), qkv.part(i, i), qkv.part(2*i, i)
	} else {
		l.q, l.k, l.v = w.matrix(at+s.names.q, c, i, s.noQKV), w.matrix(at+s.names.k, c, i, s.noQKV), w.matrix(at+s.names.v, c, i, s.noQKV)
	}
	l.out = w.matrix(at+s.names.out, i, c, s.noOut)
	if s.cross != nil {
		l.normCross = w.norm(at + s.names.normCross)
		l.crossQ, l.crossK = w.matrix(at+s.names.crossQ, c, i, s.noQKV), w.matrix(at+s.names.crossK, c, i, s.noQKV)
		l.crossV, l.crossOut = w.matrix(at+s.names.crossV, c, i, s.noQKV), w.matrix(at+s.names.crossOut, i, c, s.noOut)
	}
	l.up, l.down = w.matrix(at+s.names.up, c, s.Inner, s.noFeed), w.matrix(at+s.names.down, s.Inner, c, s.noFeed)
	if s.names.gate != "" {
		l.gate = w.matrix(at+s.names.gate, c, s.Inner, s.noFeed)
	}
	return l
}

// groups reads the maps of groups of heads, see attention.HeadGroups.
func (w *reader[F]) groups(at string, all attention.HeadGroups) (q, k, v matrix[F]) {
	c, i := w.Hidden, w.inner()
	q, k, v = matrix[F]{in: c, out: i}, matrix[F]{in: c, out: i}, matrix[F]{in: c, out: i}
	for g, of := range all {
		scope, width := fmt.Sprint(at, ".heads_", g, "."), i/w.Heads*of.Heads
		if attention.SharesQK(of.Mixer) {
			qk := w.matrix(scope+"qk", c, width, w.noQKV)
			q.parts, k.parts, v.parts = append(q.parts, qk), append(k.parts, qk), append(v.parts, w.matrix(scope+"v", c, width, w.noQKV))
			continue
		}
		qkv := w.matrix(scope+"qkv", c, 3*width, w.noQKV)
		q.parts, k.parts, v.parts = append(q.parts, qkv.part(0, width)), append(k.parts, qkv.part(width, width)), append(v.parts, qkv.part(2*width, width))
	}
	return q, k, v
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

func (w *reader[F]) norm(scope string) normWeights[F] {
	n := normWeights[F]{weight: w.get(scope+".weight", w.Hidden)}
	if !w.rms {
		n.bias = w.get(scope+".bias", w.Hidden)
	}
	return n
}

func (w *reader[F]) matrix(scope string, in, out int, noBias bool) matrix[F] {
	shape := []int{out, in}
	if w.inOut {
		shape = []int{in, out}
	}
	m := matrix[F]{w: w.get(scope+".weight", shape...), inOut: w.inOut, in: in, out: out, ld: shape[1]}
	if !noBias {
		m.bias = w.get(scope+".bias", out)
	}
	return m
}
