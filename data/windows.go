package data

// Windows are the sequences of an evaluation, in order, each token predicted at most once.
type Windows struct {
	part   *Part
	t      int
	spans  []span
	scored int64
	bytes  int64

	stream stream // of a task
}

// PlainWindows cuts each document into windows of T inputs end to end, the last one as long as what is left. Every token but the first
// of each document is predicted once, the first ones of a window from little context. This is the quick evaluation during training.
func (p *Part) PlainWindows(t int) *Windows { return p.StridedWindows(t, t) }

// StridedWindows moves a window of T inputs on by stride and predicts in each only what no window before did, so that every token but the
// first of each document is predicted exactly once, from at least T-stride tokens before it once there are that many. The first token of
// a document has nothing before it and is not predicted: it counts neither in Scored nor in Bytes. The last window is moved back to
// end with the document, where stride < T.
//
// Where the text is not read from left to right (masked tokens) the windows lie end to end, whatever stride; of documents that are read as
// a whole (classes, pairs) each is one window, and of questions the windows lie as data.doc_stride says.
//
// The windows of a task are its examples, whatever stride; there are none if T is shorter than they are (see CheckWindows).
func (p *Part) StridedWindows(t, stride int) *Windows {
	t = max(t, 1)
	stride = min(max(stride, 1), t)
	w := &Windows{part: p, t: t}
	if p.task != nil {
		if t >= p.task.task.length {
			w.scored, w.bytes = p.Bytes(), p.Bytes()
		}
		return w
	}
	f := p.view.frame()
	if f.ahead == 0 {
		stride = t
	}
	if t <= f.beside {
		return w
	}
	for d := range p.Documents() {
		if v, ok := p.view.(asksInWindows); ok && p.inputs(d) > 0 {
			w.add(v.windows(p, d, t)...)
			continue
		}
		a := p.bounds[d]
		z := a + p.inputs(d)
		if f.whole {
			z = min(z, a+t-f.beside)
		}
		for from, start := a, a; from < z; start += stride {
			end := min(start+t, z)
			if stride < t {
				start = max(a, end-t)
			}
			w.add(span{d, start, end, from})
			from = end
		}
	}
	return w
}

func (w *Windows) add(spans ...span) {
	for _, s := range spans {
		targets, bytes := w.part.view.scored(w.part, s, w.t, w.key(len(w.spans)))
		w.spans = append(w.spans, s)
		w.scored += int64(targets)
		w.bytes += bytes
	}
}

// Len is the number of windows.
func (w *Windows) Len() int {
	if w.part.task != nil && w.scored > 0 {
		return w.part.task.n
	}
	return len(w.spans)
}

// T is the length of a window.
func (w *Windows) T() int { return w.t }

// Scored is the number of targets in all windows.
func (w *Windows) Scored() int64 { return w.scored }

// Bytes is the size of the text that is scored. The sum of the losses in nats divided by ln 2 and by this is bits per byte.
func (w *Windows) Bytes() float64 { return float64(w.bytes) }

// key is the seed of what is drawn for a window.
func (w *Windows) key(i int) uint64 { return hash(0x6576616c, uint64(i)) }

// Fill writes the windows first to first+B-1; rows past the last window are padding.
func (w *Windows) Fill(first int, b *Batch) {
	b.Bytes = 0
	for r := range b.B {
		if first+r >= w.Len() {
			b.clear(r, w.part.vocab.pad())
			continue
		}
		if task := w.part.task; task != nil {
			task.fill(b, r, first+r, &w.stream)
			continue
		}
		w.part.view.fill(b, r, w.part, w.spans[first+r], w.key(first+r))
	}
	w.part.finish(b)
}
