package models

import (
	"slices"

	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/kernels"
	"github.com/euryale-ml/euryale/layers"
)

// again is a decoder that reads the whole sequence anew for each token. It is compiled for lengths that double, with padding.
type again[F kernels.Float] struct {
	params  *layers.Params
	forward func(b *layers.Builder, ids, lens *Node) *Node // logits [N,T,V]
	vocab   int
	limit   int
	read    [][]int32 // by candidate

	candidates, length int // of the program
	program            *engine.Program
	ids, lens          []int32
	logits             engine.Value
	last               []F
}

func newAgain[F kernels.Float](params *layers.Params, forward func(b *layers.Builder, ids, lens *Node) *Node, vocab, limit int) *again[F] {
	return &again[F]{params: params, forward: forward, vocab: vocab, limit: limit, read: [][]int32{nil}}
}

func (a *again[F]) size() (length, candidates, limit, bytes int) {
	return len(a.read[0]), len(a.read), a.limit, 0
}

func (a *again[F]) choose(parents []int) {
	now := make([][]int32, len(parents))
	for k, p := range parents {
		now[k] = slices.Clone(a.read[p])
	}
	a.read = now
}

// reset goes back to the start, with one candidate, and forgets the program, which may hold another memory.
func (a *again[F]) reset() { a.read, a.program = [][]int32{nil}, nil }

func (a *again[F]) step(ids []int32) ([]F, error) {
	if err := checkStep(a, len(ids), ids, a.vocab); err != nil {
		return nil, err
	}
	n, t := len(ids), len(a.read[0])+1
	if err := a.compile(n, t); err != nil {
		return nil, err
	}
	clear(a.ids)
	for k, id := range ids {
		copy(a.ids[k*a.length:], a.read[k])
		a.ids[k*a.length+t-1] = id
		a.lens[k] = int32(t)
	}
	if err := a.program.Run(); err != nil {
		return nil, err
	}
	v := a.logits.Shape()[2]
	a.last = room(a.last, n*v)
	all := engine.Floats[F](a.logits)
	for k, id := range ids {
		copy(a.last[k*v:][:v], all[(k*a.length+t-1)*v:])
		a.read[k] = append(a.read[k], id)
	}
	return a.last, nil
}

// compile makes the program for n candidates of at least t tokens.
func (a *again[F]) compile(n, t int) error {
	if a.program != nil && a.candidates == n && a.length >= t {
		return nil
	}
	length := 16
	for length < t {
		length *= 2
	}
	length = min(length, a.limit)
	b := layers.New(gorgonia.NewGraph(), a.params, layers.Options{})
	ids, lens := b.Input("input_ids", tensor.Int32, n, length), b.Input("lengths", tensor.Int32, n)
	logits := a.forward(b, ids, lens)
	if err := b.Err(); err != nil {
		return err
	}
	p, err := engine.Compile(b.Graph(), layers.Nodes{logits}, engine.Options{Scope: b.ScopeOf})
	if err != nil {
		return err
	}
	a.program, a.candidates, a.length = p, n, length
	a.ids, a.lens, a.logits = layers.InputValue(ids).Int32s(), layers.InputValue(lens).Int32s(), p.Value(logits)
	return nil
}
