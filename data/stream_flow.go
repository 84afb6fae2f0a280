package data

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// flow draws the training examples of a stream. It cuts documents as they come into windows, by the rule of Sampler, and keeps some of the windows in a
// buffer; the next example is one of these by chance, and the next window takes its place.
//
// Every window goes into the buffer once an epoch and comes out once; as many as the buffer holds come out after the end of their epoch. The order is a function
// of (files, T, seed, buffer) alone, all state is in State.
//
// Cost: memory of buffer·(T+1) tokens, of a record and of 9·T tokens of the document that is being cut, whatever the size of the files; a byte for a token
// of bytes, else four.
type flow struct {
	s      *streamed
	source string
	t      int
	width  int // tokens of an example: T and those that are targets alone
	frame  frame
	seed   uint64

	buffer  *Part // the examples that wait, each at a multiple of width
	lens    []int32
	drawn   int64
	filling bool
	err     error // after which nothing is as it should be

	read    reading
	order   permutation
	epoch   int64
	cuts    int64 // windows in the epoch so far
	longest int   // inputs of the longest document of the first epoch, as far as it matters

	// The document that is being cut.
	rest  tokens // from place from on
	from  int
	open  bool   // there is more of it in the file
	begun bool   // its first window has its place
	left  int    // windows that are still to come; -1: as many as there are
	key   uint64 // of its offset, until it is begun
	label int32  // its class; a document that has one gives one window
}

// errEpoch ends the filling of a buffer that is larger than an epoch.
var errEpoch = errors.New("an epoch ended")

func newFlow(p *Part, t int, seed uint64) *flow {
	f := &flow{s: p.streamed, source: p.source, t: t, frame: p.view.frame(), seed: seed}
	f.width = t + f.frame.ahead
	f.buffer = &Part{Name: p.Name, source: p.source, view: p.view, vocab: p.vocab}
	f.rest = newTokens(f.s.tok, 0)
	f.read.s = f.s
	f.turn(0)
	return f
}

// turn goes to the beginning of an epoch.
func (f *flow) turn(epoch int64) {
	f.epoch, f.cuts = epoch, 0
	f.order = newPermutation(len(f.s.files), hash(f.seed, uint64(epoch), 3))
	f.read.order = &f.order
	f.read.start(0)
}

// fill writes the next examples, see Sampler.Fill.
func (f *flow) fill(position int64, b *Batch) error {
	if err := f.begin(); err != nil {
		return err
	}
	if position != f.drawn {
		return &Error{Kind: ErrPlace, Path: f.source, What: fmt.Sprintf("example %d is asked for, but example %d is the next of the stream", position, f.drawn), Fix: "take the examples one after the other, or restore the state of the place"}
	}
	for r := range b.B {
		slot := below(hash(f.seed, uint64(f.drawn), 4), len(f.lens))
		start := slot * f.width
		f.buffer.view.fill(b, r, f.buffer, span{slot, start, start + int(f.lens[slot]), start}, hash(f.seed, uint64(f.drawn), 5))
		if f.err = f.next(slot); f.err != nil {
			return f.err
		}
		f.drawn++
	}
	return nil
}

// begin fills the buffer, if that was not done yet. It holds no more than an epoch has.
func (f *flow) begin() error {
	if f.err != nil || len(f.lens) > 0 {
		return f.err
	}
	f.grow(f.s.buffer)
	n := 0
	for f.filling = true; n < f.s.buffer; n++ {
		if f.err = f.next(n); f.err == errEpoch {
			f.err = nil
			break
		}
		if f.err != nil {
			f.lens = nil
			return f.err
		}
	}
	f.filling = false
	f.shrink(n)
	return nil
}

// grow makes room for examples.
func (f *flow) grow(n int) {
	f.buffer.tokens = newTokens(f.s.tok, n*f.width)
	f.lens = make([]int32, n)
	if f.s.classes != nil {
		f.buffer.labels = make([]int32, n)
	}
}

// shrink gives back what is not needed.
func (f *flow) shrink(n int) {
	if n < len(f.lens) {
		f.lens = slices.Clone(f.lens[:n])
		f.buffer.tokens = f.buffer.tokens.first(n * f.width)
		f.buffer.labels = slices.Clone(f.buffer.labels[:min(n, len(f.buffer.labels))])
	}
}

// next puts the next window in a place of the buffer.
func (f *flow) next(slot int) error {
	for !f.cut(slot) {
		if err := f.more(); err != nil {
			return err
		}
	}
	return nil
}

// cut takes a window of the document, if it has one.
func (f *flow) cut(slot int) bool {
	size, t := f.inputs(), f.t-f.frame.beside
	if size <= 0 || !f.begun && f.open && size < freePhase*t {
		return false
	}
	if !f.begun {
		f.place(size)
		size = f.inputs()
	}
	if f.left == 0 || f.left < 0 && size < t {
		return false
	}
	n := min(size, t)
	f.buffer.tokens.put(slot*f.width, f.rest, f.from, n+f.frame.ahead)
	f.lens[slot] = int32(n)
	if f.buffer.labels != nil {
		f.buffer.labels[slot] = f.label
	}
	f.from += n
	f.cuts++
	if f.left > 0 {
		f.left--
	}
	return true
}

// inputs is how many tokens of what is left of the document can be read.
func (f *flow) inputs() int { return f.rest.len() - f.from - f.frame.ahead }

// place decides where the first window of a document begins. One that is known to its end has as many windows as in Part.Sampler; of one that is not
// there is more than enough.
func (f *flow) place(size int) {
	t := f.t - f.frame.beside
	f.begun, f.longest = true, max(f.longest, size)
	switch {
	case f.open:
		f.left = -1
		f.from += below(f.key, t)
	case f.frame.whole || size <= t:
		f.left = 1
	default:
		f.left = sequences(size, t)
		f.from += below(f.key, size-f.left*t+1)
	}
}

// more reads more of the document, or the next one.
func (f *flow) more() error {
	doc, ended, err := f.read.next()
	switch {
	case err == io.EOF:
		return f.endEpoch()
	case err != nil:
		return err
	case ended:
		f.open = false
		return nil
	case !doc.trains():
		return nil
	}
	if !f.open {
		f.rest, f.from, f.begun, f.left = f.rest.first(0), 0, false, 0
		f.open = f.s.files[0].kind == plainText
		f.key = hash(f.seed, uint64(f.epoch), 1, uint64(f.read.index()), uint64(f.read.at.Record))
	}
	if f.s.classes != nil {
		class := slices.Index(f.s.classes, doc.label)
		if class < 0 {
			return &Error{Kind: ErrLabel, Path: doc.name, What: fmt.Sprintf("the class %q is not one of data.classes (%s)", doc.label, strings.Join(f.s.classes, ", ")), Fix: "name all classes there"}
		}
		f.label = int32(class)
	}
	f.rest.drop(f.from)
	f.from = 0
	f.rest.append(f.s.tok, doc.text)
	return nil
}

// endEpoch goes on with the next epoch.
//
// Errors: ErrTooShort, where the epoch had no example, or no document that fills one.
func (f *flow) endEpoch() error {
	if f.cuts == 0 {
		return &Error{Kind: ErrTooShort, Path: f.source, What: fmt.Sprintf("a stream without text to train on after the first %d records, which are held out", f.s.held), Fix: "give more text, or set data.held_out to less"}
	}
	if f.epoch == 0 && !f.frame.whole && f.longest < f.t {
		return &Error{Kind: ErrTooShort, Path: f.source, Largest: f.longest,
			What: fmt.Sprintf("too short for sequence_length %d: the longest document of the stream has %d tokens", f.t, f.longest+f.frame.ahead),
			Fix:  fmt.Sprintf("set train.sequence_length to at most %d or give more text", f.longest)}
	}
	f.turn(f.epoch + 1)
	if f.filling {
		return errEpoch
	}
	return nil
}
