package data

import "fmt"

// Part is a number of documents as tokens, or of examples of a task.
type Part struct {
	Name   string // train, val, test or all
	source string // for errors
	tokens tokens
	bounds []int // document d holds tokens bounds[d] to bounds[d+1]
	bytes  int64
	task   *examples // in place of tokens and bounds, if it is of a task
}

func newPart(source, name string, tok Tokenizer, docs []document) *Part {
	p := &Part{Name: name, source: source, bounds: make([]int, 1, len(docs)+1)}
	for _, doc := range docs {
		p.bytes += int64(len(doc.text))
		p.tokens.append(tok, doc.text)
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
	return float64(p.bytes) / float64(p.tokens.len())
}

// Length is the only sequence length that the part has, that of the examples of a task; 0 for text, which is cut to any.
func (p *Part) Length() int {
	if p.task != nil {
		return p.task.task.length
	}
	return 0
}

// CheckWindows refuses a length of windows that is not the part's own; text has none.
//
// Errors: ErrTask.
func (p *Part) CheckWindows(t int) error {
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

// targets is how many tokens have one before them in their document.
func (p *Part) targets() int {
	n := 0
	for d := range p.Documents() {
		n += max(0, p.bounds[d+1]-p.bounds[d]-1)
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
	if p.task != nil {
		return p.task.checkLength(p.source, t)
	}
	if t < 1 {
		return &Error{Kind: ErrTooShort, Path: p.source, What: fmt.Sprintf("sequence_length is %d", t), Fix: "set train.sequence_length to 1 or more", Largest: p.longest() - 1}
	}
	if n := p.longest(); n < t+1 {
		return &Error{Kind: ErrTooShort, Path: p.source, Largest: n - 1,
			What: fmt.Sprintf("too short for sequence_length %d: the longest document of its %s part has %d tokens", t, p.Name, n),
			Fix:  fmt.Sprintf("set train.sequence_length to at most %d or give more text", n-1)}
	}
	return nil
}

// fill writes row r: inputs are tokens start to end-1 of the part, targets start+1 to end; those up to index from have no
// target. end is at most the last token of the document.
func (b *Batch) fill(r int, p *Part, start, end, from int) {
	ids, targets := b.IDs[r*b.T:(r+1)*b.T], b.Targets[r*b.T:(r+1)*b.T]
	n := end - start
	p.tokens.copy(ids[:n], start)
	p.tokens.copy(targets[:n], start+1)
	for i := range min(n, max(0, from-start)) {
		targets[i] = -1
	}
	b.pad(r, n)
}

// FromTokens makes a part of documents that are tokens already: the random ones of a benchmark, or those of a task. A token counts
// as one byte.
func FromTokens(name string, docs ...[]int32) *Part {
	p := &Part{Name: name, source: name, bounds: make([]int, 1, len(docs)+1), tokens: tokens{wide: []int32{}}}
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
	return Shape{}
}
