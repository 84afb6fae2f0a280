package data

import "fmt"

// Part is a number of documents as tokens, or of examples of a task.
type Part struct {
	Name   string      // train, val, test or all
	source string      // for errors
	view   view        // what is asked of the text
	vocab  *vocabulary // nil: every token counts as a byte
	tokens tokens
	bounds []int // document d holds tokens bounds[d] to bounds[d+1]
	bytes  int64

	marks        []int   // first tokens of the sections of all documents, if these have sections
	labels       []int32 // class of each document, if that is asked for
	targets      tokens  // what belongs to each document, in the manner of tokens and bounds, if that is asked for
	targetBounds []int

	questions      tokens // to each document, in the manner of tokens and bounds, if that is asked for
	questionBounds []int
	asked          []asked

	image *ImageShape // of images
	low   lowImages

	task *examples // in place of all that, if it is of a task

	streamed *streamed // in place of all that, if it is read while it is trained on
}

// newPart makes a part of documents. With sections, those of the source or else sentences, no token crosses their borders.
func newPart(source, name string, tok Tokenizer, vocab *vocabulary, v view, docs []document) *Part {
	p := &Part{Name: name, source: source, view: v, vocab: vocab, bounds: make([]int, 1, len(docs)+1)}
	for _, doc := range docs {
		p.bytes += int64(len(doc.text))
		if doc.sections == nil {
			p.tokens.append(tok, doc.text)
		}
		for i, start := range doc.sections {
			end := len(doc.text)
			if i+1 < len(doc.sections) {
				end = doc.sections[i+1]
			}
			p.marks = append(p.marks, p.tokens.len())
			p.tokens.append(tok, doc.text[start:end])
		}
		p.bounds = append(p.bounds, p.tokens.len())
	}
	return p
}

// Documents is how many documents the part has; an example of a task counts as one.
func (p *Part) Documents() int {
	if p.task != nil {
		return p.task.n
	}
	return len(p.bounds) - 1
}

// Tokens is how many tokens it has, with the padding of examples of a task.
func (p *Part) Tokens() int {
	if p.task != nil {
		return p.task.n * p.task.task.length
	}
	return p.tokens.len()
}

// Bytes is the size of its text in bytes. Each answer of a task counts as a byte, nothing else of its examples does.
func (p *Part) Bytes() int64 {
	if p.task != nil {
		return int64(p.task.n) * int64(p.task.task.answers)
	}
	return p.bytes
}

// BytesPerToken is the mean size of a token that is predicted. A loss in nats a token divided by ln 2 and by this is bits per byte.
func (p *Part) BytesPerToken() float64 {
	if p.task != nil {
		return 1
	}
	if p.targetBounds != nil {
		return float64(p.bytes) / float64(p.targets.len())
	}
	return float64(p.bytes) / float64(p.tokens.len())
}

// Stream says how many files with how many bytes a part is read from while it is trained on; ok is false of one that is in memory. Of a stream there are no
// documents, tokens, bytes or windows, only a Sampler.
func (p *Part) Stream() (files int, bytes int64, ok bool) {
	if p.streamed == nil {
		return 0, 0, false
	}
	for _, f := range p.streamed.files {
		bytes += f.Size
	}
	return len(p.streamed.files), bytes, true
}

// Length is the only sequence length that the part has, that of the examples of a task or of images; 0 for text, which is cut to any.
func (p *Part) Length() int {
	if p.image != nil {
		return p.image.Size()
	}
	if p.task != nil {
		return p.task.task.length
	}
	return 0
}

// CheckWindows refuses a length of windows that is not the part's own; text has none.
//
// Errors: ErrTask; of images ErrTooShort.
func (p *Part) CheckWindows(t int) error {
	if p.image != nil {
		return p.checkImageLength(t)
	}
	if p.task != nil {
		return p.task.checkLength(p.source, t)
	}
	return nil
}

// Document returns the tokens of document d, or of example d of a task (without the answers that it does not read back).
func (p *Part) Document(d int) []int32 {
	if p.task != nil {
		b := NewBatch(1, p.task.task.length)
		p.task.fill(b, 0, d, &stream{})
		return b.IDs[:b.Lens[0]]
	}
	ids := make([]int32, p.bounds[d+1]-p.bounds[d])
	p.tokens.copy(ids, p.bounds[d])
	return ids
}

// readable is how many tokens can be read of all documents.
func (p *Part) readable() int {
	n := 0
	for d := range p.Documents() {
		n += p.inputs(d)
	}
	return n
}

// longest is the size of the longest document in tokens.
func (p *Part) longest() int {
	n := 0
	for d := range p.Documents() {
		n = max(n, p.bounds[d+1]-p.bounds[d])
	}
	return n
}

// checkLength refuses a sequence length that no document fills.
func (p *Part) checkLength(t int) error {
	if p.image != nil {
		return p.checkImageLength(t)
	}
	if p.task != nil {
		return p.task.checkLength(p.source, t)
	}
	f := p.view.frame()
	largest := p.longest() - f.ahead
	if t < 1+f.beside {
		return &Error{Kind: ErrTooShort, Path: p.source, What: fmt.Sprintf("sequence_length is %d", t), Fix: fmt.Sprintf("set train.sequence_length to %d or more", 1+f.beside), Largest: largest}
	}
	if p.streamed != nil {
		return p.streamed.tooMany(t)
	}
	if !f.whole && largest < t {
		return &Error{Kind: ErrTooShort, Path: p.source, Largest: largest,
			What: fmt.Sprintf("too short for sequence_length %d: the longest document of its %s part has %d tokens", t, p.Name, p.longest()),
			Fix:  fmt.Sprintf("set train.sequence_length to at most %d or give more text", largest)}
	}
	return nil
}

// FromTokens makes a part of documents that are tokens already: the random ones of a benchmark, or those of a task. A token counts
// as one byte.
func FromTokens(name string, docs ...[]int32) *Part {
	p := &Part{Name: name, source: name, view: causalView{}, bounds: make([]int, 1, len(docs)+1), tokens: tokens{wide: []int32{}}}
	for _, doc := range docs {
		p.bytes += int64(len(doc))
		p.tokens.wide = append(p.tokens.wide, doc...)
		p.bounds = append(p.bounds, len(p.tokens.wide))
	}
	return p
}

// Shape says what batches of the part have besides ids, targets and lengths, for sequences of t tokens.
func (p *Part) Shape(t int) Shape {
	if p.task != nil {
		return p.task.task.shape
	}
	return p.view.shape(t)
}

// finish completes a batch of the part.
func (p *Part) finish(b *Batch) {
	if p.task != nil && p.task.task.finish != nil {
		p.task.task.finish(b)
	}
}
