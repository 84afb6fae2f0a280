package data

import (
	"fmt"
	"slices"
)

// StreamState is the place of a sampler in a stream: where the reader is, what is left of the document that it cuts, and the examples that wait. A sampler that is
// given it goes on to the bit. It encodes as JSON, apart from Tensors.
type StreamState struct {
	Length  int    `json:"sequence_length"`
	Seed    uint64 `json:"seed"`
	Buffer  int    `json:"shuffle_buffer"` // as asked for
	HeldOut int    `json:"held_out"`

	Drawn   int64 `json:"drawn"` // examples that were given: the number of the next one
	Epoch   int64 `json:"epoch"` // of the reader
	Cut     int64 `json:"cut"`   // examples that the reader cut in it
	Longest int   `json:"longest"`

	File   int   `json:"file"` // of the epoch's order
	Record int64 `json:"record"`
	Offset int64 `json:"offset"`
	Line   int   `json:"line"`

	Open bool `json:"open"` // the document goes on in the file
	Left int  `json:"left"` // examples that it still has; -1: as many as there are

	Files []StreamFile `json:"files"`

	// Tensors are, of N examples with W tokens each: buffer [N,W], lengths [N], labels [N] where there are classes, and rest, what is not cut of the document.
	// They are those of the sampler, valid until it goes on. None: nothing was read yet.
	Tensors []StreamTensor `json:"-"`
}

// StreamTensor is a named array of whole numbers, []uint8 or []int32.
type StreamTensor struct {
	Name  string
	Shape []int
	Data  any
}

// State is the place of a sampler in a stream; nil for other parts, whose place is a number. There is none after an error.
func (s *Sampler) State() *StreamState {
	f := s.flow
	if f == nil || f.err != nil {
		return nil
	}
	at := f.read.at
	st := &StreamState{Length: f.t, Seed: f.seed, Buffer: f.s.buffer, HeldOut: f.s.held, Drawn: f.drawn, Epoch: f.epoch, Cut: f.cuts, Longest: f.longest,
		File: f.read.file, Record: at.Record, Offset: at.Offset, Line: at.Line, Open: f.open, Left: f.left}
	for _, file := range f.s.files {
		st.Files = append(st.Files, file.StreamFile)
	}
	n := len(f.lens)
	if n == 0 {
		return st
	}
	st.Tensors = []StreamTensor{{"buffer", []int{n, f.width}, f.buffer.tokens.data()}, {"lengths", []int{n}, f.lens}}
	if f.buffer.labels != nil {
		st.Tensors = append(st.Tensors, StreamTensor{"labels", []int{n}, f.buffer.labels})
	}
	if rest := f.rest.len() - f.from; rest > 0 && f.begun {
		st.Tensors = append(st.Tensors, StreamTensor{"rest", []int{rest}, f.rest.last(rest).data()})
	}
	return st
}

// Check compares the files of a stream with those that a state has seen; nothing else of it.
//
// Errors: ErrChanged, which names the first file that differs, is missing or is new; ErrPlace if a part is no stream.
func (st *StreamState) Check(p *Part) error {
	if p.streamed == nil {
		return &Error{Kind: ErrPlace, Path: p.source, What: "the data are not a stream, they were one", Fix: "bring data.streaming back"}
	}
	files := p.streamed.files
	for i, was := range st.Files {
		if i == len(files) || files[i].Name > was.Name {
			return changedError(p.source, fmt.Sprintf("the file %s is not there any more", was.Name))
		}
		is := files[i]
		switch {
		case is.Name < was.Name:
			return changedError(is.path, "the file was not there when the stream was first read")
		case is.Size != was.Size:
			return changedError(is.path, fmt.Sprintf("the file has %d bytes, it had %d when it was first read", is.Size, was.Size))
		case is.Sum != was.Sum:
			return changedError(is.path, "the file has another beginning or end than when it was first read")
		}
	}
	if len(files) > len(st.Files) {
		return changedError(files[len(st.Files)].path, "the file was not there when the stream was first read")
	}
	return nil
}

// Restore goes to the place of a state. The tensors become those of the sampler.
//
// Errors: those of Check; ErrPlace for another seed, length, buffer or number of records that are held out; ErrTorn for a state that cannot be.
func (s *Sampler) Restore(st *StreamState) error {
	if err := st.Check(s.part); err != nil {
		return err
	}
	old := s.flow
	for _, of := range []struct {
		name    string
		was, is any
	}{{"train.sequence_length", st.Length, old.t}, {"train.seed", st.Seed, old.seed}, {"data.shuffle_buffer", st.Buffer, old.s.buffer}, {"data.held_out", st.HeldOut, old.s.held}} {
		if of.was != of.is {
			return &Error{Kind: ErrPlace, Path: s.part.source, What: fmt.Sprintf("%s was %v, it is %v: the place in the stream would be another", of.name, of.was, of.is), Fix: "bring it back, or start a new run with fit --from"}
		}
	}
	f := newFlow(s.part, s.t, s.seed)
	if what := f.restore(st); what != "" {
		return &Error{Kind: ErrTorn, Path: s.part.source, What: "the state of the stream cannot be (" + what + ")", Fix: "take an older checkpoint"}
	}
	s.Close()
	s.flow = f
	return nil
}

// restore takes a state over, or says what is wrong with it.
func (f *flow) restore(st *StreamState) string {
	tensors := map[string]StreamTensor{}
	for _, t := range st.Tensors {
		tensors[t.Name] = t
	}
	switch {
	case st.Drawn < 0 || st.Epoch < 0 || st.Cut < 0 || st.Longest < 0 || st.Left < -1:
		return "a count is less than 0"
	case st.File < 0 || st.File > len(f.s.files) || st.Record < 0 || st.Offset < 0 || st.Line < 0:
		return "its reader is nowhere"
	case len(tensors) == 0 && st.Drawn > 0:
		return "it has no buffer"
	case len(tensors) == 0:
		return ""
	}
	n := len(tensors["lengths"].Shape)
	if n == 1 {
		n = tensors["lengths"].Shape[0]
	}
	var ok [4]bool
	f.buffer.tokens, ok[0] = f.tokensOf(tensors["buffer"], n, f.width)
	f.lens, ok[1] = intsOf(tensors["lengths"], n)
	ok[2], ok[3] = true, true
	if f.s.classes != nil {
		f.buffer.labels, ok[2] = intsOf(tensors["labels"], n)
	}
	if rest, has := tensors["rest"]; has {
		f.rest, ok[3] = f.tokensOf(rest, rest.Shape...)
		f.begun = true
	}
	if n < 1 || n > f.s.buffer || slices.Contains(ok[:], false) {
		return "a tensor is missing or has another shape"
	}
	for i, k := range f.lens {
		if k < 1 || int(k) > f.t-f.frame.beside {
			return fmt.Sprintf("example %d has %d tokens", i, k)
		}
	}
	for _, label := range f.buffer.labels {
		if label < 0 || int(label) >= len(f.s.classes) {
			return fmt.Sprintf("a class is %d", label)
		}
	}
	f.drawn, f.open, f.left, f.longest = st.Drawn, st.Open, st.Left, st.Longest
	f.turn(st.Epoch)
	f.cuts = st.Cut
	f.read.file, f.read.at = st.File, place{st.Record, st.Offset, st.Line}
	return ""
}

// tokensOf are the tokens of a tensor, if it has the shape and its ids are those of the tokenizer.
func (f *flow) tokensOf(t StreamTensor, shape ...int) (tokens, bool) {
	n := 1
	for _, k := range shape {
		n *= k
	}
	if !slices.Equal(t.Shape, shape) {
		return tokens{}, false
	}
	if f.rest.wide == nil {
		small, ok := t.Data.([]uint8)
		return tokens{small: small}, ok && len(small) == n
	}
	wide, ok := t.Data.([]int32)
	most := int32(f.s.tok.VocabSize())
	for _, id := range wide {
		ok = ok && id >= 0 && id < most
	}
	return tokens{wide: wide}, ok && len(wide) == n
}

func intsOf(t StreamTensor, n int) ([]int32, bool) {
	ints, ok := t.Data.([]int32)
	return ints, ok && len(ints) == n && slices.Equal(t.Shape, []int{n})
}
