package data

// labelView asks for the class of a document: [CLS] and its beginning, cut off at the length of the row. The place of [CLS] is global.
type labelView struct{ classes int }

// closedView is labelView with [SEP] at the end, as models want it that were trained elsewhere.
type closedView struct{ labelView }

func (labelView) frame() frame  { return frame{beside: 1, whole: true} }
func (closedView) frame() frame { return frame{beside: 2, whole: true} }

func (l labelView) shape(int) Shape { return Shape{Globals: 1, Labels: 1, Classes: l.classes} }

func (v closedView) fill(b *Batch, r int, p *Part, w span, key uint64) {
	v.labelView.fill(b, r, p, w, key)
	rowOf(b, b.IDs, r)[b.Lens[r]] = p.vocab.ids.sep
	b.Lens[r]++
}

func (labelView) fill(b *Batch, r int, p *Part, w span, _ uint64) {
	b.clear(r, p.vocab.pad())
	ids := rowOf(b, b.IDs, r)
	n := 1 + w.end - w.start
	ids[0] = p.vocab.ids.cls
	p.tokens.copy(ids[1:n], w.start)
	b.Lens[r] = int32(n)
	if b.Globals != nil {
		b.Globals[r] = 0
	}
	if b.Labels != nil {
		b.Labels[r] = p.labels[w.doc]
	}
}

func (labelView) scored(*Part, span, int, uint64) (int, int64) { return 1, 1 }

// pairView asks for the target of a source. The encoder reads the source and </s>, the decoder <s> and the target, and says the target
// and </s>. What is too long is cut off; of a target that is cut the end is not asked for.
type pairView struct{ length int } // U; 0: as long as the source

func (pairView) frame() frame { return frame{beside: 1, whole: true} }

func (v pairView) size(t int) int {
	if v.length > 0 {
		return v.length
	}
	return t
}

func (v pairView) shape(t int) Shape { return Shape{Targets: v.size(t)} }

func (v pairView) fill(b *Batch, r int, p *Part, w span, _ uint64) {
	pad := p.vocab.pad()
	b.clear(r, pad)
	ids := rowOf(b, b.IDs, r)
	n := w.end - w.start
	p.tokens.copy(ids[:n], w.start)
	ids[n] = p.vocab.ids.end
	b.Lens[r] = int32(n + 1)
	reads, says := rowOf(b, b.TargetIDs, r), rowOf(b, b.TargetTargets, r)
	if len(reads) == 0 {
		return
	}
	a, z := p.targetBounds[w.doc], p.targetBounds[w.doc+1]
	k := min(z-a, len(says))
	p.targets.copy(says[:k], a)
	if k < len(says) {
		says[k] = p.vocab.ids.end
		k++
	}
	reads[0] = p.vocab.ids.start
	for i := 1; i < k; i++ {
		reads[i] = says[i-1]
	}
	for i := k; i < len(reads); i++ {
		reads[i] = pad
	}
	b.TargetLens[r] = int32(k)
	b.Bytes += p.size(says[:k])
}

func (v pairView) scored(p *Part, w span, t int, _ uint64) (targets int, bytes int64) {
	n := p.targetBounds[w.doc+1] - p.targetBounds[w.doc]
	ids := make([]int32, min(n, v.size(t)))
	p.targets.copy(ids, p.targetBounds[w.doc])
	return min(n+1, v.size(t)), int64(p.size(ids))
}
