package models

import (
	"fmt"

	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/kernels"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/layers/attention"
)

// Seq2SeqSession writes with an encoder-decoder: Read takes the source, once, then Step writes token by token, the first of which is
// Special().Start. The keys and values of the source are computed once and shared by all candidates.
type Seq2SeqSession struct {
	Session
	reader sourceReader[float32]
}

// NewSeq2SeqSession starts targets of at most limit tokens, the start token counted; 0: as many as the decoder has positions. Weights
// are single precision.
//
// Errors: those of NewSession.
func NewSeq2SeqSession(m Seq2Seq, params *layers.Params, limit int) (*Seq2SeqSession, error) {
	if err := checkSingle(params); err != nil {
		return nil, err
	}
	d, r, why, err := newSeq2SeqDecoding[float32](m.halves(), params.Merged(), limit)
	if err != nil {
		return nil, err
	}
	return &Seq2SeqSession{Session{d, why}, r}, nil
}

// Read takes a source in place of the one before, and goes back to the start of the target, with one candidate.
//
// Errors: *LengthError; an id outside the vocabulary; no ids.
func (s *Seq2SeqSession) Read(source []int32) error { return s.reader.read(source) }

// sourceReader gives a decoder what it reads.
type sourceReader[F kernels.Float] interface {
	read(source []int32) error
}

func newSeq2SeqDecoding[F kernels.Float](m *seq2seq, params *layers.Params, limit int) (decoding[F], sourceReader[F], string, error) {
	limit, err := limitOf(limit, m.decoder.Positions)
	if err != nil {
		return nil, nil, "", err
	}
	e := &encoderOf[F]{m: m, params: params, programs: map[int]*encoderProgram{}}
	if why := m.decoder.uncached(); why != "" {
		a := &againOf[F]{encoderOf: e}
		a.again = newAgain[F](params, a.forward, m.decoder.Vocab, limit)
		return a, a, why, nil
	}
	r, err := newRun[F](&m.decoder, params, limit)
	if err != nil {
		return nil, nil, "", err
	}
	r.headScale = m.headScale
	if m.headBias != "" {
		w := reader[F]{stack: &m.decoder, params: params}
		if r.head.bias = w.get(m.headBias, 1, m.decoder.Vocab); w.err != nil {
			return nil, nil, "", w.err
		}
	}
	c, err := reading(r, e)
	if err != nil {
		return nil, nil, "", err
	}
	return c, c, "", nil
}

// reading makes a decoder read what an encoder makes.
func reading[F kernels.Float](r *run[F], e *encoderOf[F]) (*cachedOf[F], error) {
	r.memory = &memoryOf[F]{}
	for l := range r.layers {
		c, err := attention.NewMemory[F](r.cross[l], r.Heads, r.headSize(), r.headSize(), r.scale(l))
		if err != nil {
			return nil, err
		}
		r.memory.layers = append(r.memory.layers, c)
	}
	return &cachedOf[F]{r, e}, nil
}

// encoderOf runs the encoder by graphs, compiled once for each of some lengths that double, with padding.
type encoderOf[F kernels.Float] struct {
	m        *seq2seq
	params   *layers.Params
	programs map[int]*encoderProgram // by length
}

type encoderProgram struct {
	*engine.Program
	ids, lens []int32
	out       engine.Value
}

// encode returns the memory [S,C] of a source, valid until the next call.
func (e *encoderOf[F]) encode(source []int32) ([]F, error) {
	s := &e.m.encoder
	if err := checkIDs(source, s.Vocab); err != nil {
		return nil, err
	}
	if len(source) == 0 {
		return nil, fmt.Errorf("the source is empty: give at least one token")
	}
	if s.Positions > 0 && len(source) > s.Positions {
		return nil, &LengthError{Length: len(source), Max: s.Positions}
	}
	length := 16
	for length < len(source) {
		length *= 2
	}
	if s.Positions > 0 {
		length = min(length, s.Positions)
	}
	p := e.programs[length]
	if p == nil {
		var err error
		if p, err = e.compile(length); err != nil {
			return nil, err
		}
		e.programs[length] = p
	}
	clear(p.ids)
	copy(p.ids, source)
	p.lens[0] = int32(len(source))
	if err := p.Run(); err != nil {
		return nil, err
	}
	return engine.Floats[F](p.out)[:len(source)*s.Hidden], nil
}

func (e *encoderOf[F]) compile(length int) (*encoderProgram, error) {
	b := layers.New(gorgonia.NewGraph(), e.params, layers.Options{})
	ids, lens := b.Input("input_ids", tensor.Int32, 1, length), b.Input("lengths", tensor.Int32, 1)
	x, _ := e.m.encoder.run(b, Inputs{IDs: ids, Lens: lens}, memory{}, 0)
	if err := b.Err(); err != nil {
		return nil, err
	}
	p, err := engine.Compile(b.Graph(), layers.Nodes{x}, engine.Options{Scope: b.ScopeOf})
	if err != nil {
		return nil, err
	}
	return &encoderProgram{p, layers.InputValue(ids).Int32s(), layers.InputValue(lens).Int32s(), p.Value(x)}, nil
}

// memoryOf is what the layers of a decoder read of the source.
type memoryOf[F kernels.Float] struct{ layers []*attention.Memory[F] }

// cachedOf is a decoder with caches, and its encoder.
type cachedOf[F kernels.Float] struct {
	*run[F]
	encoder *encoderOf[F]
}

func (c *cachedOf[F]) read(source []int32) error {
	x, err := c.encoder.encode(source)
	if err != nil {
		return err
	}
	for l, m := range c.memory.layers {
		keys, values := m.Rows(len(source))
		c.layers[l].crossK.apply(len(source), x, keys, kernels.None, false)
		c.layers[l].crossV.apply(len(source), x, values, kernels.None, false)
	}
	c.reset()
	return nil
}

func (c *cachedOf[F]) step(ids []int32) ([]F, error) {
	if c.memory.layers[0].Len() == 0 {
		return nil, errNothingRead
	}
	return c.run.step(ids)
}

var errNothingRead = fmt.Errorf("there is no source yet: read one first")

// againOf is a decoder that reads the target anew for each token, and its encoder.
type againOf[F kernels.Float] struct {
	*again[F]
	*encoderOf[F]
	source []F // [S,C]
}

func (a *againOf[F]) read(source []int32) error {
	x, err := a.encode(source)
	if err != nil {
		return err
	}
	a.source = append(a.source[:0], x...)
	a.reset()
	return nil
}

func (a *againOf[F]) step(ids []int32) ([]F, error) {
	if len(a.source) == 0 {
		return nil, errNothingRead
	}
	return a.again.step(ids)
}

// forward is the decoder on a source that every candidate reads.
func (a *againOf[F]) forward(b *layers.Builder, ids, lens *Node) *Node {
	n, c := ids.Shape()[0], a.m.encoder.Hidden
	source := b.Input("source", b.Dtype(), n, len(a.source)/c, c)
	if b.Err() != nil {
		return nil
	}
	to := engine.Floats[F](layers.InputValue(source))
	for k := range n {
		copy(to[k*len(a.source):], a.source)
	}
	logits, _ := a.m.decode(b, Inputs{IDs: ids, Lens: lens}, memory{x: source}, 0)
	return logits
}
