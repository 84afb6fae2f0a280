package data

// questionView asks for the ends of the answer to a question: [CLS] question [SEP] text [SEP], with token types 0 and 1 for tokenizers with [CLS]. Labels
// are the first and the last token of the answer in the row; both [CLS] for a question whose text has no answer.
//
// A text that does not fit is read in windows. In training each question gives one example an epoch: a window that holds the first
// answer, drawn anew by (seed, epoch, example) among those that do. In an evaluation windows lie stride tokens apart over the whole text; those
// that do not hold the answer whole ask for nothing (Labels -1), and are read for the best answer of all windows, see Part.Question.
//
// Source: Devlin et al. 2018, arXiv 1810.04805, section 4.2; windows as in section 4.3 of Alberti et al. 2019, arXiv 1901.08634.
// Differs: there windows without the answer ask for [CLS].
type questionView struct{ stride int } // 0: half of what is free

func (questionView) frame() frame    { return frame{beside: 4, whole: true} }
func (questionView) shape(int) Shape { return Shape{Labels: 2} }

// typedView is questionView with token types.
type typedView struct{ questionView }

func (typedView) shape(int) Shape { return Shape{Labels: 2, Types: true} }

// asksInWindows is a view that says itself where its windows lie.
type asksInWindows interface {
	windows(p *Part, d, t int) []span
	place(p *Part, d, t int, key uint64) span
}

// room is how many tokens of the text of document d stand in a row of t: what the question leaves, of which at most half is its own.
func (p *Part) room(d, t int) (question, text int) {
	free := t - 2 - p.separators()
	question = min(p.questionBounds[d+1]-p.questionBounds[d], free/2)
	return question, free - question
}

// separators is how many stand between question and text: tokenizers of RoBERTa's kind have two.
func (p *Part) separators() int {
	if p.vocab.twice {
		return 2
	}
	return 1
}

// windows are those of an evaluation for document d.
func (v questionView) windows(p *Part, d, t int) []span {
	_, room := p.room(d, t)
	stride := v.stride
	if stride == 0 || stride > room {
		stride = max(1, room/2)
	}
	var all []span
	a, z := p.bounds[d], p.bounds[d+1]
	for start := a; ; start += stride {
		end := min(start+room, z)
		all = append(all, span{d, start, end, start})
		if end == z {
			return all
		}
	}
}

// place is the window of a training example.
func (questionView) place(p *Part, d, t int, key uint64) span {
	_, room := p.room(d, t)
	a, z := p.bounds[d], p.bounds[d+1]
	room = min(room, z-a)
	low, high := a, z-room // the places at which it may begin
	if got := p.asked[d].answers; len(got) > 0 {
		first, last := a+got[0].start, a+got[0].end
		low = min(max(low, last-room), high)
		if last-first <= room {
			high = max(low, min(high, first))
		} else {
			low, high = min(first, high), min(first, high) // the answer is longer than a window: its beginning
		}
	}
	start := low + below(hash(key, 3), high-low+1)
	return span{d, start, start + room, start}
}

func (questionView) fill(b *Batch, r int, p *Part, w span, _ uint64) {
	b.clear(r, p.vocab.pad())
	ids, types := rowOf(b, b.IDs, r), rowOf(b, b.Types, r)
	question, _ := p.room(w.doc, b.T)
	ids[0] = p.vocab.ids.cls
	p.questions.copy(ids[1:1+question], p.questionBounds[w.doc])
	n := 1 + question
	for range p.separators() {
		ids[n] = p.vocab.ids.sep
		n++
	}
	text := n
	p.tokens.copy(ids[n:n+w.end-w.start], w.start)
	n += w.end - w.start
	ids[n] = p.vocab.ids.sep
	b.Lens[r] = int32(n + 1)
	for i := range types {
		if i >= text && i <= n {
			types[i] = 1
		}
	}
	if b.Labels != nil {
		first, last := p.labelsOf(w)
		labels := rowOf(b, b.Labels, r)
		labels[0], labels[1] = int32(first), int32(last)
		if first > 0 {
			labels[0], labels[1] = int32(text+first-1), int32(text+last-1)
		}
	}
}

// labelsOf are the first and the last token of the answer in a window, from 1; 0: there is no answer in the text; -1: not in this window.
func (p *Part) labelsOf(w span) (first, last int) {
	got := p.asked[w.doc].answers
	if len(got) == 0 {
		return 0, 0
	}
	offset := w.start - p.bounds[w.doc]
	first, last = got[0].start-offset, got[0].end-1-offset
	if n := w.end - w.start; first >= 0 && first < n && (last < n || got[0].end-got[0].start > n) {
		return first + 1, min(last, n-1) + 1
	}
	return -1, -1
}

func (v questionView) scored(p *Part, w span, _ int, _ uint64) (int, int64) {
	if first, _ := p.labelsOf(w); first < 0 {
		return 0, 0
	}
	return 2, 0
}

// asked is a question to a document.
type asked struct {
	text    []byte
	offsets [][2]int32 // bytes of text that each token stands for
	answers []answer   // first token, and the one after the last
	words   []string   // the answers
}

// ask adds a question to a part, whose text was added before.
func (p *Part) ask(tok Tokenizer, doc document) {
	p.questions.append(tok, []byte(doc.question))
	p.questionBounds = append(p.questionBounds, p.questions.len())
	d := len(p.asked)
	q := asked{text: doc.text, offsets: offsetsOf(tok, p.vocab, doc.text, p.Document(d))}
	for _, a := range doc.answers {
		first, last := 0, 0
		for i, at := range q.offsets {
			if int(at[1]) <= a.start {
				first = i + 1
			}
			if int(at[0]) < a.end {
				last = i + 1
			}
		}
		q.words = append(q.words, string(doc.text[a.start:a.end]))
		if first < last {
			q.answers = append(q.answers, answer{first, last})
		}
	}
	p.asked = append(p.asked, q)
}

// offsetsOf are the bytes of a text that each of its tokens stands for.
func offsetsOf(tok Tokenizer, v *vocabulary, text []byte, ids []int32) [][2]int32 {
	all := make([][2]int32, len(ids))
	if t, ok := tok.(*Pretrained); ok {
		starts := make([]int32, 0, len(text)+1) // bytes of characters
		for i := range string(text) {
			starts = append(starts, int32(i))
		}
		starts = append(starts, int32(len(text)))
		at := t.offsets(string(text))
		for i := range all {
			if i < len(at) {
				all[i] = [2]int32{starts[min(at[i][0], len(starts)-1)], starts[min(at[i][1], len(starts)-1)]}
			}
		}
		return all
	}
	at := int32(0)
	for i, id := range ids {
		all[i] = [2]int32{at, at + v.sizes[id]}
		at = all[i][1]
	}
	return all
}

// Question is what is asked of a window.
type Question struct {
	Document int
	First    int      // place in the row of the first token of the text
	Tokens   int      // of the text in the window
	Answers  []string // those that are right; none: the text has no answer
	part     *Part
	start    int
}

// Question is what window i asks; false if it is not of question_answering.
func (w *Windows) Question(i int) (Question, bool) {
	p := w.part
	if p.asked == nil || i >= len(w.spans) {
		return Question{}, false
	}
	s := w.spans[i]
	question, _ := p.room(s.doc, w.t)
	return Question{Document: s.doc, First: 1 + question + p.separators(), Tokens: s.end - s.start, Answers: p.asked[s.doc].words, part: p, start: s.start - p.bounds[s.doc]}, true
}

// Text is the text of tokens from to to, both from 0 in the window; of to it is the last one.
func (q Question) Text(from, to int) string {
	a := q.part.asked[q.Document]
	start, end := a.offsets[q.start+from][0], a.offsets[q.start+to][1]
	return string(a.text[start:max(start, end)])
}
