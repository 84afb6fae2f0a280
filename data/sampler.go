package data

import "sort"

// freePhase is the number of sequences from which a document gives up one of them so that it may be cut anywhere.
const freePhase = 8

// Sampler is the endless, shuffled sequence of training examples: example number p is a pure function of (part, T, seed, p).
// Nothing is drawn in order, so to resume is to go on with the number.
//
// Epoch e holds the examples e*N to (e+1)*N-1. Each document gives as many windows of T inputs as it holds, end to end, from an offset
// that is drawn anew for each epoch, so that over the epochs every token is seen at every place; a document shorter than T
// gives one padded example. A document of 8 windows or more gives one less than it holds, which leaves the offset free.
//
// Of a task an epoch holds each example of the part once.
//
// Of a stream examples come one after the other: its place is a StreamState, not a number. Documents are cut by the same rule, but for a plain text that is
// 8 windows or longer: from its offset on it gives all windows that it holds. Examples are drawn from a buffer, see data.shuffle_buffer.
type Sampler struct {
	part *Part
	t    int
	seed uint64
	docs []int // documents with something to predict
	ends []int // ends[k]: examples of docs[:k+1]

	epoch int64 // the one that order belongs to
	order permutation

	stream stream    // of a task
	flow   *flow     // of a stream
	group  *grouping // nil: as they are shuffled
}

// Sampler returns the training examples of a part. It fills batches from one goroutine at a time.
//
// Errors: ErrTooShort with the largest valid length, if no document fills a sequence of t inputs and their targets; ErrTask if t is not
// the length of a task's examples.
func (p *Part) Sampler(t int, seed uint64) (*Sampler, error) {
	if err := p.checkLength(t); err != nil {
		return nil, err
	}
	s := &Sampler{part: p, t: t, seed: seed, epoch: -1}
	if p.streamed != nil {
		s.flow = newFlow(p, t, seed)
		return s, nil
	}
	if p.task != nil {
		s.ends = []int{p.task.n}
		return s, nil
	}
	n := 0
	for d := range p.Documents() {
		if k := p.sequences(d, t); k > 0 {
			n += k
			s.docs = append(s.docs, d)
			s.ends = append(s.ends, n)
		}
	}
	return s, nil
}

// sequences is how many examples document d gives in an epoch.
func (p *Part) sequences(d, t int) int {
	size := p.inputs(d)
	if f := p.view.frame(); f.whole || size == 0 {
		return min(1, size)
	}
	return sequences(size, t)
}

// sequences is how many windows of t a document of that size gives.
func sequences(size, t int) int {
	n := max(1, size/t)
	if n >= freePhase {
		n--
	}
	return n
}

// PerEpoch is the number N of examples in an epoch; 0 of a stream, which does not know it.
func (s *Sampler) PerEpoch() int {
	if s.flow != nil {
		return 0
	}
	return s.ends[len(s.ends)-1]
}

// Epoch is the one that an example belongs to. Of a stream it is the one that is read for the buffer, whatever the position.
func (s *Sampler) Epoch(position int64) int64 {
	if s.flow != nil {
		return s.flow.epoch
	}
	return position / int64(s.PerEpoch())
}

// Begin fills the buffer of a stream, which the first Fill would do otherwise; it does nothing for other parts.
//
// Errors: those of Fill.
func (s *Sampler) Begin() error {
	if s.flow == nil {
		return nil
	}
	return s.flow.begin()
}

// Close closes the file that a stream is reading; Fill opens it again.
func (s *Sampler) Close() {
	if s.flow != nil {
		s.flow.read.close()
	}
}

// T is the sequence length.
func (s *Sampler) T() int { return s.t }

// Fill writes the examples position to position+B-1. Cost: O(B·(T + log documents)), no allocation; of a stream also what it reads.
//
// Errors, of a stream alone: ErrPlace if the position is not the next one; ErrTooShort if an epoch ends without a document that fills a sequence;
// ErrChanged for a file that is not what it was; those of a file. After any but the first there is no going on but from a state.
func (s *Sampler) Fill(position int64, b *Batch) error {
	b.Bytes = 0
	if s.flow != nil {
		return s.flow.fill(position, b)
	}
	for r := range b.B {
		epoch, i := s.shuffled(s.grouped(position + int64(r)))
		if task := s.part.task; task != nil {
			task.fill(b, r, i, &s.stream)
			continue
		}
		key := hash(s.seed, uint64(epoch), 2, uint64(i))
		w := s.window(epoch, i)
		if v, ok := s.part.view.(asksInWindows); ok {
			w = v.place(s.part, w.doc, s.t, key)
		}
		s.part.view.fill(b, r, s.part, w, key)
	}
	s.part.finish(b)
	return nil
}

// shuffled returns the epoch of a position, and which of the N examples it holds.
func (s *Sampler) shuffled(position int64) (epoch int64, i int) {
	n := s.PerEpoch()
	epoch, i = position/int64(n), int(position%int64(n))
	if epoch != s.epoch {
		s.epoch, s.order = epoch, newPermutation(n, hash(s.seed, uint64(epoch), 0))
	}
	return epoch, s.order.at(i)
}

// window returns window i of an epoch.
func (s *Sampler) window(epoch int64, i int) span {
	k := sort.SearchInts(s.ends, i+1)
	first := 0
	if k > 0 {
		first = s.ends[k-1]
	}
	d := s.docs[k]
	a := s.part.bounds[d]
	f, size := s.part.view.frame(), s.part.inputs(d)
	if t := s.t - f.beside; f.whole || size <= t {
		return span{d, a, a + min(size, t), a}
	}
	slack := size - (s.ends[k]-first)*s.t
	start := a + below(hash(s.seed, uint64(epoch), 1, uint64(d)), slack+1) + (i-first)*s.t
	return span{d, start, start + s.t, start}
}
