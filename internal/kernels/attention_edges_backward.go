package kernels

import (
	"math"
	"slices"
	"unsafe"
)

// cut chooses the tasks of the backward pass, from shapes and lists alone, and makes room for what they leave to each other.
func (j *edgeJob[F]) cut() {
	a := j.a
	heads := a.B * a.H
	size := 2 * max(1, j.pairs) * int(unsafe.Sizeof(F(0)))
	j.group = max(1, min(heads, pairBytes/size))
	j.p, j.ds = grown(j.p, j.group*j.pairs), grown(j.ds, j.group*j.pairs)
	items, keyItems, slots, keySlots := 0, 0, 0, 0
	for _, e := range a.Edges {
		items, keyItems = max(items, len(e.rows.items)), max(keyItems, len(e.cols.items))
		slots, keySlots = max(slots, e.rows.slots), max(keySlots, e.cols.slots)
	}
	few := (minBackwardTasks + j.group - 1) / j.group
	j.backChunks, j.keyChunks = max(1, min(few, items)), max(1, min(4*few, keyItems))
	j.queryParts = grown(j.queryParts, j.group*slots*a.D)
	j.keyParts = grown(j.keyParts, j.group*keySlots*(a.D+a.DV))
	j.tables.fit(a, j.numLabels, j.group*j.backChunks)
}

// Phases of each group of heads: by query, which leaves P and dS of each pair; by key; what parts of hubs have, and tables.
const edgePhases = 3

// groupOf returns the heads of a phase.
func (j *edgeJob[F]) groupOf(phase int) (first, n int) {
	first = phase / edgePhases * j.group
	return first, min(j.group, j.a.B*j.a.H-first)
}

func (j *edgeJob[F]) countBackward(phase int) int {
	_, n := j.groupOf(phase)
	switch phase % edgePhases {
	case 0:
		return n * j.backChunks
	case 1:
		return n * (j.keyChunks + 1)
	}
	return n + j.tables.blocks()
}

func (j *edgeJob[F]) runBackward(worker, phase, task int) {
	a := j.a
	first, n := j.groupOf(phase)
	w := &j.ws[worker]
	switch phase % edgePhases {
	case 0:
		in, c := task/j.backChunks, task%j.backChunks
		b, h := (first+in)/a.H, (first+in)%a.H
		e := a.edges(b, h)
		j.tables.clear(task)
		items := e.rows.share(c, j.backChunks)
		for k := range items {
			j.backwardItem(w, e, &items[k], task, in, b, h)
		}
		if c == 0 {
			clearRows(&j.dQ, b, h, e.NQ, a.TQ, a.D)
			clearRows(&j.dK, b, h, e.NK, a.TK, a.D)
			clearRows(&j.dV, b, h, e.NK, a.TK, a.DV)
		}
	case 1:
		in, c := task/(j.keyChunks+1), task%(j.keyChunks+1)
		b, h := (first+in)/a.H, (first+in)%a.H
		e := a.edges(b, h)
		if c == j.keyChunks { // DQ of hubs; the parts of keys lie elsewhere
			for _, s := range e.rows.splits {
				j.join(j.queryPart(in, e, s.slot, s.parts), j.dQ.at(b, h, int(s.line))[:a.D])
			}
			return
		}
		items := e.cols.share(c, j.keyChunks)
		for k := range items {
			j.backwardKeys(e, &items[k], in, b, h)
		}
	default:
		if task >= n {
			j.tables.reduce(a, j.t, task-n, first, n, j.backChunks)
			return
		}
		b, h := (first+task)/a.H, (first+task)%a.H
		e := a.edges(b, h)
		for _, s := range e.cols.splits {
			dk, dv := j.keyPart(task, e, s.slot, s.parts)
			j.join(dk, j.dK.at(b, h, int(s.line))[:a.D])
			j.join(dv, j.dV.at(b, h, int(s.line))[:a.DV])
		}
	}
}

// join writes the sum of parts, which follow one another.
func (j *edgeJob[F]) join(parts, out []F) {
	copy(out, parts)
	for p := parts[len(out):]; len(p) > 0; p = p[len(out):] {
		j.e.add(out, p[:len(out)], out)
	}
}

// queryPart is where parts of a hub keep their DQ.
func (j *edgeJob[F]) queryPart(in int, e *Edges, slot, parts int32) []F {
	return j.queryParts[(in*e.rows.slots+int(slot))*j.a.D:][:int(parts)*j.a.D]
}

// keyPart is where parts of a hub among the keys keep their DK and DV.
func (j *edgeJob[F]) keyPart(in int, e *Edges, slot, parts int32) (dk, dv []F) {
	d, n := j.a.D+j.a.DV, e.cols.slots
	of := j.keyParts[in*n*d:][:n*d]
	return of[int(slot)*j.a.D:][:int(parts)*j.a.D], of[n*j.a.D+int(slot)*j.a.DV:][:int(parts)*j.a.DV]
}

// backwardItem writes DQ of the queries of an item, P and dS of its pairs, and adds to the tables of the task.
func (j *edgeJob[F]) backwardItem(w *edgeSpace[F], e *Edges, it *edgeItem, task, in, b, h int) {
	a := j.a
	lq, lk := j.limits(b, e)
	n := max(0, min(int(it.lines), lq-int(it.line)))
	labels := int(it.labEnd - it.lab)
	if labels > 0 && n > 0 {
		j.table(w, e, it, b, h, n)
		clear(w.dtable[:labels*Tile])
	}
	for r := range n {
		j.backwardQuery(w, e, it, in, b, h, r, lk, w.dq[r*a.D:][:a.D])
	}
	if labels > 0 && n > 0 {
		j.tableGrads(w, e, it, task, b, h, n)
	}
	for r := range int(it.lines) {
		out := j.dQ.at(b, h, int(it.line)+r)[:a.D]
		if it.slot >= 0 {
			out = j.queryPart(in, e, it.slot, 1)
		}
		if r < n {
			copy(out, w.dq[r*a.D:][:a.D])
		} else {
			clear(out)
		}
	}
}

// backwardQuery computes DQ of query r of an item and keeps P and dS of its pairs.
func (j *edgeJob[F]) backwardQuery(w *edgeSpace[F], e *Edges, it *edgeItem, in, b, h, r, lk int, dq []F) {
	a := j.a
	i := int(it.line) + r
	lo, hi := max(it.lo, e.ptr[i]), min(it.hi, e.ptr[i+1])
	base, list := e.list(i, lo, hi, lk)
	at := (b*a.H+h)*a.TQ + i
	p, ds := j.p[in*j.pairs+int(lo):][:len(list)], j.ds[in*j.pairs+int(lo):][:len(list)]
	lse := a.LSE[at]
	if len(list) == 0 || math.IsInf(float64(lse), -1) {
		clear(p)
		clear(ds)
		clear(dq)
		return
	}
	j.scores(w, e, lo, b, h, i, r, base, list, p)
	j.e.expSub(p, p, lse)
	do := j.dO.at(b, h, i)[:a.DV]
	j.t.dots(1, a.DV, do, a.DV, a.O.at(b, h, i), a.DV, w.delta[:])
	delta := w.delta[0]
	if j.dLSE != nil {
		delta -= j.dLSE[at]
	}
	j.e.scale(a.Scale, do, w.do)
	j.t.gatherDots(len(ds), a.DV, w.do, a.V.at(b, h, base), a.V.Row, list, ds)
	j.e.subSub(ds, ds, delta*a.Scale, 0)
	j.e.mul(ds, p, ds)
	j.t.gatherSum(len(ds), a.D, ds, e.iota, a.K.at(b, h, base), a.K.Row, list, dq)
	if j.numLabels > 0 {
		for k, v := range e.label[lo:][:len(ds)] {
			w.dtable[int(v)*Tile+r] += ds[k]
		}
	}
}

// tableGrads takes what w.dtable has for the first n queries of an item on to w.dq and to the tables of the task.
func (j *edgeJob[F]) tableGrads(w *edgeSpace[F], e *Edges, it *edgeItem, task, b, h, n int) {
	a, labels := j.a, e.labels[it.lab:it.labEnd]
	dr, db := j.tables.task(task)
	if a.R.Data != nil {
		j.t.gemm(n, a.D, len(labels), w.dtable, 1, Tile, w.r, a.D, w.dq, a.D, true)
		j.t.gemm(len(labels), a.D, n, w.dtable, Tile, 1, a.Q.at(b, h, int(it.line)), a.Q.Row, w.dr, a.D, false)
		for k, v := range labels {
			j.t.addRows(1, a.D, w.dr[k*a.D:], a.D, dr[int(v)*a.D:], a.D)
		}
	}
	for k, v := range labels {
		if len(db) > 0 {
			db[v] += laneSum(w.dtable[k*Tile:][:Tile]) / a.Scale
		}
	}
}

// backwardKeys writes DK and DV of the keys of an item.
func (j *edgeJob[F]) backwardKeys(e *Edges, it *edgeItem, in, b, h int) {
	a := j.a
	lq, lk := j.limits(b, e)
	p, ds := j.p[in*j.pairs:], j.ds[in*j.pairs:]
	for k := int(it.line); k < int(it.line+it.lines); k++ {
		lo, hi := max(it.lo, e.colPtr[k]), min(it.hi, e.colPtr[k+1])
		query, pair := e.query[lo:hi], e.pair[lo:hi]
		n, _ := slices.BinarySearch(query, int32(lq))
		if k >= lk {
			n = 0
		}
		dk, dv := j.dK.at(b, h, k)[:a.D], j.dV.at(b, h, k)[:a.DV]
		if it.slot >= 0 {
			dk, dv = j.keyPart(in, e, it.slot, 1)
		}
		if n == 0 {
			clear(dk)
			clear(dv)
			continue
		}
		j.t.gatherSum(n, a.DV, p, pair, j.dO.at(b, h, 0), j.dO.Row, query, dv)
		j.t.gatherSum(n, a.D, ds, pair, a.Q.at(b, h, 0), a.Q.Row, query, dk)
	}
}
