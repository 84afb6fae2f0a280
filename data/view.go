package data

// view says what is asked of a window of text.
type view interface {
	// frame is how windows are cut: tokens after each that are not read but are targets, places of a row that are not of the window,
	// and whether a document gives one window, its beginning.
	frame() frame
	shape(t int) Shape
	// fill writes a window as row r. key is the seed of what is drawn for it.
	fill(b *Batch, r int, p *Part, w span, key uint64)
	// scored is how many targets a window has in rows of t tokens, and the size in bytes of the text they stand for.
	scored(p *Part, w span, t int, key uint64) (targets int, bytes int64)
}

// frame is how windows are cut.
type frame struct {
	ahead  int
	beside int
	whole  bool
}

// span is a window of document doc: inputs start to end-1, targets after index from.
type span struct{ doc, start, end, from int }

// causalView asks for the next token.
type causalView struct{}

func (causalView) frame() frame    { return frame{ahead: 1} }
func (causalView) shape(int) Shape { return Shape{} }

func (causalView) fill(b *Batch, r int, p *Part, w span, _ uint64) {
	ids, targets := rowOf(b, b.IDs, r), rowOf(b, b.Targets, r)
	n := w.end - w.start
	p.tokens.copy(ids[:n], w.start)
	p.tokens.copy(targets[:n], w.start+1)
	for i := range min(n, max(0, w.from-w.start)) {
		targets[i] = -1
	}
	b.pad(r, n, p.vocab.pad())
	b.Bytes += p.size(targets[:n])
}

func (causalView) scored(p *Part, w span, _ int, _ uint64) (int, int64) {
	n := w.end - w.from
	if p.vocab == nil || p.tokens.wide == nil {
		return n, int64(n)
	}
	bytes := int64(0)
	for _, id := range p.tokens.wide[w.from+1 : w.end+1] {
		bytes += int64(p.vocab.size(id))
	}
	return n, bytes
}

// size is the size in bytes of what targets stand for.
func (p *Part) size(targets []int32) float64 {
	n := 0
	for _, id := range targets {
		if id >= 0 {
			n += p.vocab.size(id)
		}
	}
	return float64(n)
}

// inputs is how many tokens of document d can be read.
func (p *Part) inputs(d int) int {
	return max(0, p.bounds[d+1]-p.bounds[d]-p.view.frame().ahead)
}
