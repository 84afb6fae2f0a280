package kernels

import "math"

// minBackwardTasks: with fewer heads than this the queries of a head are cut into chunks.
const minBackwardTasks = 16

// cut chooses the tasks of the backward pass, from shapes and layouts alone, and makes room for their private tiles.
func (j *attnJob[F]) cut() {
	a := j.a
	j.chunks = 1
	if bh := a.B * a.H; bh > 0 && bh < minBackwardTasks {
		j.chunks = max(1, min((minBackwardTasks+bh-1)/bh, j.nq))
	}
	j.plans, j.base = j.plans[:0], j.base[:0]
	for _, l := range a.Layouts {
		j.plans = append(j.plans, l.plan(j.chunks, a.IndexK != nil))
	}
	total := 0
	for bh := range a.B * a.H {
		j.base = append(j.base, total)
		total += j.plans[j.layout(bh/a.H, bh%a.H)].slots
	}
	j.tables.fit(a, j.numLabels, a.B*a.H*j.chunks)
	if a.RowsQ {
		j.dqRows = grown(j.dqRows, a.B*a.H*j.nq*Tile*a.D)
	}
	if need := total * Tile * (a.D + a.DV); len(j.slots) < need {
		j.slots = make([]F, need)
	}
}

// slot returns private tile number i of a head: the rows of DK, then those of DV.
func (j *attnJob[F]) slot(b, h int, i int32) (dk, dv []F) {
	n := Tile * (j.a.D + j.a.DV)
	s := j.slots[(j.base[b*j.a.H+h]+int(i))*n:][:n]
	return s[:Tile*j.a.D], s[Tile*j.a.D:]
}

// countBackward: phase 0 clears what gather indexes may not reach, phase 1 has a task for each chunk of queries of a head,
// phase 2 brings the private tiles together, phase 3 the gradients of the tables of labels.
func (j *attnJob[F]) countBackward(phase int) int {
	a := j.a
	switch {
	case phase == 1:
		return a.B * a.H * j.chunks
	case phase == 3:
		return j.tables.blocks()
	case phase == 0 && (a.Add || a.IndexQ == nil && a.IndexK == nil):
		return 0
	case phase == 2 && a.RowsQ:
		return 2 * a.B * a.H
	case phase == 0 || a.IndexK != nil:
		return a.B * a.H
	}
	for _, p := range j.plans {
		if p.rest {
			return a.B * a.H * j.nk
		}
	}
	return 0
}

func (j *attnJob[F]) runBackward(worker, phase, task int) {
	a := j.a
	tq, tk := a.tokens()
	switch {
	case phase == 0:
		b, h := task/a.H, task%a.H
		if a.IndexQ != nil {
			clearRows(&j.dQ, b, h, 0, tq, a.D)
		}
		if a.IndexK != nil {
			clearRows(&j.dK, b, h, 0, tk, a.D)
			clearRows(&j.dV, b, h, 0, tk, a.DV)
		}
	case phase == 1:
		bh, c := task/j.chunks, task%j.chunks
		b, h := bh/a.H, bh%a.H
		p := j.plans[j.layout(b, h)]
		if j.numLabels > 0 {
			j.tables.clear(task)
			clear(j.ws[worker].dtable[:j.numLabels*Tile])
		}
		for i := p.start[c]; i < p.start[c+1]; i++ {
			j.backwardTile(&j.ws[worker], p, task, b, h, int(i))
		}
		if j.numLabels > 0 && a.R.Data == nil {
			j.biasGrads(&j.ws[worker], task)
		}
	case phase == 3:
		j.tables.reduce(a, j.t, task, 0, a.B*a.H, j.chunks)
	case task >= a.B*a.H && a.RowsQ:
		j.scatterQueries(task%(a.B*a.H)/a.H, task%a.H)
	case a.IndexK != nil:
		for t := range j.nk {
			j.scatter(task/a.H, task%a.H, t)
		}
	default:
		bh := task / j.nk
		j.reduce(bh/a.H, bh%a.H, task%j.nk)
	}
}

func clearRows[F Float](x *Rows[F], b, h, from, to, c int) {
	for t := from; t < to; t++ {
		clear(x.at(b, h, t)[:c])
	}
}

// backwardTile adds what 64 queries contribute to DK and DV, and writes their DQ. With P and dP transposed like the scores:
//
//	dV += P^T dO,  dS = Scale P (dO V^T - delta),  dK += dS^T Q,  dQ = dS K,  delta = rowsum(dO O) - dLSE.
//
// The gradient of a label is the sum of dS over its pairs, see keyGrads.
func (j *attnJob[F]) backwardTile(w *attnSpace[F], p *chunkPlan, task, b, h, i int) {
	a, t, l := j.a, j.t, j.a.Layouts[j.layout(b, h)]
	qs, ks := j.queries(b, h), j.keys(b, h)
	n, valid := qs.tile(i)
	var q []F
	var ldq int
	labels := j.labels(h)
	if n > 0 {
		q, ldq = j.load(&qs, &a.Q, b, h, i, n, valid, a.D, w.q, w.ldk, true)
		t.transpose(n, a.D, q, ldq, j.scale2, w.qt)
		outs := qs
		if a.RowsQ {
			outs.index = nil
		}
		j.load(&outs, &j.dO, b, h, i, n, valid, a.DV, w.do, w.ldv, true)
		j.deltas(w, &outs, b, h, i, n, valid)
		t.transpose(n, a.DV, w.do, w.ldv, a.Scale, w.dot)
		if labels != nil {
			j.table(w, h)
		}
	}
	first := true
	for e := l.Ptr[i]; e < l.Ptr[i+1]; e++ {
		x := j.keyTile(w, l, &ks, e)
		g := j.gradTile(p, b, h, e, x.t)
		add := p.slot[e]&1 == 0
		if !add {
			g.clear(a.D, a.DV, b2i(n > 0)*x.n)
		}
		if n == 0 || x.n == 0 {
			continue
		}
		k, ldk, v, ldv := w.keys(j, &ks, b, h, &x)
		j.scores(&x, a.D, k, ldk, w.qt, w.s)
		j.scores(&x, a.DV, v, ldv, w.dot, w.dp)
		if labels != nil {
			j.addLabels(w, labels, e, &x)
		}
		if x.mask != nil {
			t.mask(x.n, w.s, x.mask, F(math.Inf(-1)))
			t.mask(x.n, w.dp, x.mask, 0) // the trimmed part holds old numbers
		}
		t.backward(x.n, w.s, w.dp, w.lse, w.delta)
		j.byKey(&x, n, a.DV, w.s, w.do, w.ldv, g.dv, g.lddv, add)
		j.byKey(&x, n, a.D, w.dp, q, ldq, g.dk, g.lddk, add)
		j.byQuery(&x, n, a.D, w.dp, k, ldk, w.dq, w.ldk, !first)
		if labels != nil {
			j.byLabel(w, labels, e, &x)
		}
		first = false
	}
	switch {
	case first:
		clear(w.dq)
	case labels != nil:
		j.keyGrads(w, task, h, n, q, ldq)
	}
	if a.RowsQ {
		if n > 0 {
			t.copyRows(n, a.D, w.dq, w.ldk, j.rowDQ(b, h, i), a.D)
		}
		return
	}
	if qs.index == nil {
		if n > 0 {
			t.copyRows(n, a.D, w.dq, w.ldk, j.dQ.at(b, h, i*Tile), j.dQ.Row)
		}
		clearRows(&j.dQ, b, h, i*Tile+n, min(a.TQ, i*Tile+Tile), a.D)
		return
	}
	for r := range n {
		if valid>>r&1 == 0 {
			continue
		}
		if to := j.dQ.at(b, h, int(qs.index[i*Tile+r])); a.Add {
			t.addRows(1, a.D, w.dq[r*w.ldk:], w.ldk, to, j.dQ.Row)
		} else {
			copy(to, w.dq[r*w.ldk:][:a.D])
		}
	}
}

// deltas fills lse (base 2) and delta of a query tile. A query without keys gets lse = +Inf, so that its P is 0, and its dO,
// which may be anything, is cleared.
func (j *attnJob[F]) deltas(w *attnSpace[F], qs *attnSide, b, h, i, n int, valid uint64) {
	a := j.a
	tq := a.outputs()
	o, ldo := j.load(qs, &a.O, b, h, i, n, valid, a.DV, w.o, w.ldv, false)
	j.t.dots(n, a.DV, w.do, w.ldv, o, ldo, w.delta)
	inf := F(math.Inf(1))
	for r := range Tile {
		token := i*Tile + r
		if qs.index != nil && valid>>r&1 == 1 {
			token = int(qs.index[token])
		}
		at := (b*a.H+h)*tq + token
		if valid>>r&1 == 0 || a.LSE[at] == -inf {
			w.lse[r], w.delta[r] = inf, 0
			clear(w.do[r*w.ldv:][:a.DV])
			continue
		}
		if j.dLSE != nil {
			w.delta[r] -= j.dLSE[at]
		}
		w.lse[r], w.delta[r] = a.LSE[at]*math.Log2E, w.delta[r]*a.Scale
	}
}

// gradTile is a tile of DK and DV that is being added up.
type gradTile[F Float] struct {
	dk, dv     []F
	lddk, lddv int
	rows       int
}

// clear zeroes the rows from `from` on: those before it are about to be written.
func (g *gradTile[F]) clear(d, dv, from int) {
	if from < g.rows {
		clearTile(g.rows-from, d, g.dk[from*g.lddk:], g.lddk)
		clearTile(g.rows-from, dv, g.dv[from*g.lddv:], g.lddv)
	}
}

// gradTile returns where the chunk of listed tile e adds up what it has for key tile t.
func (j *attnJob[F]) gradTile(p *chunkPlan, b, h int, e int32, t int) gradTile[F] {
	a := j.a
	if s := p.slot[e] >> 1; s > 0 {
		dk, dv := j.slot(b, h, s-1)
		return gradTile[F]{dk, dv, a.D, a.DV, Tile}
	}
	return gradTile[F]{j.dK.at(b, h, t*Tile), j.dV.at(b, h, t*Tile), j.dK.Row, j.dV.Row, min(Tile, a.TK-t*Tile)}
}

// reduce adds the private tiles of key tile t to the one that lies in DK and DV, in the order of the chunks.
func (j *attnJob[F]) reduce(b, h, t int) {
	a, p := j.a, j.plans[j.layout(b, h)]
	n := min(Tile, a.TK-t*Tile)
	if !p.touched[t] {
		clearRows(&j.dK, b, h, t*Tile, t*Tile+n, a.D)
		clearRows(&j.dV, b, h, t*Tile, t*Tile+n, a.DV)
		return
	}
	for _, s := range p.private[p.ptr[t]:p.ptr[t+1]] {
		dk, dv := j.slot(b, h, s)
		j.t.addRows(n, a.D, dk, a.D, j.dK.at(b, h, t*Tile), j.dK.Row)
		j.t.addRows(n, a.DV, dv, a.DV, j.dV.at(b, h, t*Tile), j.dV.Row)
	}
}

// scatter adds the private tiles of key tile t to the tokens of its rows.
func (j *attnJob[F]) scatter(b, h, t int) {
	a, p := j.a, j.plans[j.layout(b, h)]
	ks := j.keys(b, h)
	n, valid := ks.tile(t)
	for _, s := range p.private[p.ptr[t]:p.ptr[t+1]] {
		dk, dv := j.slot(b, h, s)
		for r := range n {
			if valid>>r&1 == 1 {
				token := int(ks.index[t*Tile+r])
				j.t.addRows(1, a.D, dk[r*a.D:], a.D, j.dK.at(b, h, token), j.dK.Row)
				j.t.addRows(1, a.DV, dv[r*a.DV:], a.DV, j.dV.at(b, h, token), j.dV.Row)
			}
		}
	}
}

// rowDQ is where the gradients of the queries of tile i are kept, with RowsQ.
func (j *attnJob[F]) rowDQ(b, h, i int) []F {
	return j.dqRows[((b*j.a.H+h)*j.nq+i)*Tile*j.a.D:][:Tile*j.a.D]
}

// scatterQueries adds the gradients of rows to their tokens, in the order of rows.
func (j *attnJob[F]) scatterQueries(b, h int) {
	a, qs := j.a, j.queries(b, h)
	for i := range j.nq {
		n, valid := qs.tile(i)
		dq := j.rowDQ(b, h, i)
		for r := range n {
			if valid>>r&1 == 1 {
				j.t.addRows(1, a.D, dq[r*a.D:], a.D, j.dQ.at(b, h, int(qs.index[i*Tile+r])), j.dQ.Row)
			}
		}
	}
}

// chunkPlan cuts the query tiles of a layout into chunks of about equal numbers of tiles. The first chunk that reaches a key
// tile adds to DK and DV themselves, later ones to private tiles (slots), which are added in the order of the chunks; with a
// gather index all are private.
type chunkPlan struct {
	chunks  int
	start   []int32 // first query tile of each chunk, and the end
	slot    []int32 // of each listed tile: slot+1 (0: DK and DV themselves), shifted by one; lowest bit: first there
	slots   int
	ptr     []int32 // private[ptr[t]:ptr[t+1]] are the slots of key tile t
	private []int32
	touched []bool // key tiles that some chunk reaches
	rest    bool   // phase 2 has work

	own, next []int32 // of cut
}

// plan returns the way to cut the layout into chunks; the last one asked for is kept.
func (l *Layout) plan(chunks int, gather bool) *chunkPlan {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := &l.plans[b2i(gather)]
	switch {
	case *p != nil && (*p).chunks == chunks:
	case *p != nil && l.reused:
		(*p).cut(l, chunks, gather)
	default:
		*p = &chunkPlan{}
		(*p).cut(l, chunks, gather)
	}
	return *p
}

// zeros is a slice of n zeros in the memory of s, if there is enough.
func zeros[E any](s []E, n int) []E {
	s = grown(s, n)
	clear(s)
	return s
}

// cut makes the plan, in the memory of the one before.
func (p *chunkPlan) cut(l *Layout, chunks int, gather bool) {
	nq, nk := tilesOf(l.NQ), tilesOf(l.NK)
	p.chunks, p.start, p.slot, p.touched = chunks, append(p.start[:0], 0), zeros(p.slot, len(l.Col)), zeros(p.touched, nk)
	for i := 0; i < nq; i++ { // a chunk ends where its share of the tiles is reached
		for len(p.start) < chunks && int64(l.Ptr[i])*int64(chunks) >= int64(len(p.start))*int64(len(l.Col)) && i > 0 {
			p.start = append(p.start, int32(i))
		}
	}
	for len(p.start) <= chunks {
		p.start = append(p.start, int32(nq))
	}
	own := p.own[:0] // key tile of each slot
	p.next = grown(p.next, nk)
	at := p.next
	for c := range chunks {
		for t := range at {
			at[t] = -1
		}
		for e := l.Ptr[p.start[c]]; e < l.Ptr[p.start[c+1]]; e++ {
			t := l.Col[e]
			if at[t] < 0 {
				at[t] = 0
				if p.touched[t] || gather {
					own = append(own, t)
					at[t] = int32(len(own))
				}
				p.touched[t] = true
				p.slot[e] = 1
			}
			p.slot[e] |= at[t] << 1
		}
	}
	p.own, p.slots = own, len(own)
	p.ptr = zeros(p.ptr, nk+1)
	for _, t := range own {
		p.ptr[t+1]++
	}
	p.rest = len(own) > 0
	for t := range nk {
		p.ptr[t+1] += p.ptr[t]
		p.rest = p.rest || !p.touched[t]
	}
	p.private = grown(p.private, len(own))
	next := p.next
	copy(next, p.ptr)
	for s, t := range own {
		p.private[next[t]] = int32(s)
		next[t]++
	}
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}
