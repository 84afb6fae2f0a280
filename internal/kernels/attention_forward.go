package kernels

import "math"

// countForward: phase 0 clears what no row of a gather index may reach, phase 1 has a task for each group of query tiles.
func (j *attnJob[F]) countForward(phase int) int {
	switch {
	case phase == 1:
		return j.a.B * j.a.H * ((j.nq + j.group - 1) / j.group)
	case j.a.IndexQ != nil && !j.a.RowsQ && !j.a.Add:
		return j.a.B * j.a.H
	}
	return 0
}

func (j *attnJob[F]) runForward(worker, phase, task int) {
	a := j.a
	if phase == 0 {
		tq, _ := a.tokens()
		for t := range tq {
			j.emptyRow(task/a.H, task%a.H, t, tq)
		}
		return
	}
	groups := (j.nq + j.group - 1) / j.group
	bh, first := task/groups, task%groups*j.group
	for i := first; i < min(j.nq, first+j.group); i++ {
		j.forwardTile(&j.ws[worker], bh/a.H, bh%a.H, i)
	}
}

// emptyRow writes the result of a token that reads no key.
func (j *attnJob[F]) emptyRow(b, h, token, tq int) {
	clear(j.a.O.at(b, h, token)[:j.a.DV])
	j.a.LSE[(b*j.a.H+h)*tq+token] = F(math.Inf(-1))
}

// forwardTile computes 64 queries of one head. Scores are transposed, S^T = K Q^T: only Q is transposed, once for the tile, K
// is read as it lies, and maximum and sum over the keys run along whole vectors of queries.
func (j *attnJob[F]) forwardTile(w *attnSpace[F], b, h, i int) {
	a, t, l := j.a, j.t, j.a.Layouts[j.layout(b, h)]
	qs, ks := j.queries(b, h), j.keys(b, h)
	n, valid := qs.tile(i)
	if n > 0 {
		q, ldq := j.load(&qs, &a.Q, b, h, i, n, valid, a.D, w.q, w.ldk, false)
		t.transpose(n, a.D, q, ldq, j.scale2, w.qt)
	}
	labels := j.labels(h)
	if labels != nil && n > 0 {
		j.table(w, h)
	}
	for r := range w.m {
		w.m[r], w.l[r] = -lowest[F](), 0
	}
	first := true
	for e := l.Ptr[i]; e < l.Ptr[i+1] && n > 0; e++ {
		x := j.keyTile(w, l, &ks, e)
		if x.n == 0 {
			continue
		}
		k, ldk, v, ldv := w.keys(j, &ks, b, h, &x)
		j.scores(&x, a.D, k, ldk, w.qt, w.s)
		if labels != nil {
			j.addLabels(w, labels, e, &x)
		}
		if x.mask != nil {
			t.mask(x.n, w.s, x.mask, F(math.Inf(-1)))
		}
		t.softmax(x.n, w.s, w.m, w.l, w.alpha)
		if !first {
			t.rescale(n, a.DV, w.alpha, w.o, w.ldv)
		}
		j.byQuery(&x, n, a.DV, w.s, v, ldv, w.o, w.ldv, !first)
		first = false
	}
	j.finish(w, &qs, b, h, i, n, valid)
}

// finish writes O and LSE of a query tile.
func (j *attnJob[F]) finish(w *attnSpace[F], qs *attnSide, b, h, i, n int, valid uint64) {
	a, t := j.a, j.t
	tq, direct := a.outputs(), qs.index == nil || a.RowsQ
	t.finish(w.m, w.l, w.alpha, w.lse)
	if direct && n > 0 {
		t.scaleRows(n, a.DV, w.o, w.ldv, w.alpha, a.O.at(b, h, i*Tile), a.O.Row)
	}
	lse := a.LSE[(b*a.H+h)*tq:]
	for r := range min(Tile, a.TQ-i*Tile) {
		token := i*Tile + r
		if !direct {
			if valid>>r&1 == 0 {
				continue // cleared before
			}
			token = int(qs.index[token])
		}
		if r >= n || w.l[r] == 0 || valid>>r&1 == 0 {
			if !a.Add {
				j.emptyRow(b, h, token, tq)
			}
			continue
		}
		if a.Add && lse[token] != F(math.Inf(-1)) {
			j.addRow(w, b, h, token, r, &lse[token])
			continue
		}
		if !direct {
			t.scaleRows(1, a.DV, w.o[r*w.ldv:], w.ldv, w.alpha[r:], a.O.at(b, h, token), a.O.Row)
		}
		lse[token] = w.lse[r]
	}
}

// addRow brings row r of the tile together with what a token has already.
func (j *attnJob[F]) addRow(w *attnSpace[F], b, h, token, r int, lse *F) {
	a, t := j.a, j.t
	before, now := float64(*lse), float64(w.lse[r])
	e := math.Exp(-math.Abs(before - now)) // of the smaller one, where the larger one has 1
	of, ofBefore := 1/(1+e), e/(1+e)
	if before > now {
		of, ofBefore = ofBefore, of
	}
	o, x := a.O.at(b, h, token), w.o[r*w.ldv:]
	w.alpha[r] *= F(of)
	t.scaleRows(1, a.DV, x, w.ldv, w.alpha[r:], x, w.ldv)
	w.alpha[r] = F(ofBefore)
	t.scaleRows(1, a.DV, o, a.O.Row, w.alpha[r:], o, a.O.Row)
	t.addRows(1, a.DV, x, w.ldv, o, a.O.Row)
	*lse = F(max(before, now) + math.Log1p(e))
}

// lowest is the running maximum of a query that has seen no key, negated: finite, because -Inf minus itself is NaN.
func lowest[F Float]() F {
	var x F
	switch p := any(&x).(type) {
	case *float32:
		*p = math.MaxFloat32
	case *float64:
		*p = math.MaxFloat64
	}
	return x
}

// attnTile is a listed tile as a pass sees it.
type attnTile struct {
	t     int // key tile
	n     int // keys up to the last one that exists for this example
	valid uint64
	mask  *[Tile]uint64 // nil: all n keys are visible to all queries
	trim  *trim         // nil: nothing can be left out
}

// keyTile describes the tile listed as number e.
func (j *attnJob[F]) keyTile(w *attnSpace[F], l *Layout, ks *attnSide, e int32) attnTile {
	x := attnTile{t: int(l.Col[e])}
	x.n, x.valid = ks.tile(x.t)
	if id := l.Mask[e]; id >= 0 {
		x.mask, x.trim = &l.Masks[id], &l.trims[id]
	}
	if x.valid != firstBits(x.n) { // gaps among gathered keys
		for c := range x.n {
			w.mask[c] = 0
			if x.valid>>c&1 == 1 {
				w.mask[c] = ^uint64(0)
				if x.mask != nil {
					w.mask[c] = x.mask[c]
				}
			}
		}
		x.mask = &w.mask
	}
	return x
}

// scores: s[key][query] = a[key] . qt[.][query] for a tile; what the trim bounds exclude is left as it was.
func (j *attnJob[F]) scores(x *attnTile, d int, a []F, lda int, qt, s []F) {
	t := j.t
	if x.trim == nil {
		t.gemm(x.n, Tile, d, a, lda, 1, qt, laneStride, s, Tile, false)
		return
	}
	for q := 0; q < Tile; q += t.strip {
		k0, k1 := Tile, 0
		for g := q / 16; g < (q+t.strip)/16; g++ {
			k0, k1 = min(k0, int(x.trim.keys[g][0])), max(k1, int(x.trim.keys[g][1]))
		}
		if k1 = min(k1, x.n); k0 < k1 {
			t.gemm(k1-k0, t.strip, d, a[k0*lda:], lda, 1, qt[q:], laneStride, s[k0*Tile+q:], Tile, false)
		}
	}
}

// byQuery: out[query] (+)= sum over keys of s[key][query] y[key], for n queries and c channels.
func (j *attnJob[F]) byQuery(x *attnTile, n, c int, s, y []F, ldy int, out []F, ldo int, accumulate bool) {
	if x.trim == nil {
		j.t.gemm(n, c, x.n, s, 1, Tile, y, ldy, out, ldo, accumulate)
		return
	}
	for q := 0; q < n; q += 16 {
		rows, k0, k1 := min(16, n-q), int(x.trim.keys[q/16][0]), min(int(x.trim.keys[q/16][1]), x.n)
		if k0 < k1 {
			j.t.gemm(rows, c, k1-k0, s[k0*Tile+q:], 1, Tile, y[k0*ldy:], ldy, out[q*ldo:], ldo, accumulate)
		} else if !accumulate {
			clearTile(rows, c, out[q*ldo:], ldo)
		}
	}
}

// byKey: out[key] (+)= sum over n queries of s[key][query] y[query], for c channels.
func (j *attnJob[F]) byKey(x *attnTile, n, c int, s, y []F, ldy int, out []F, ldo int, accumulate bool) {
	if x.trim == nil {
		j.t.gemm(x.n, c, n, s, Tile, 1, y, ldy, out, ldo, accumulate)
		return
	}
	for k := 0; k < x.n; k += 16 {
		rows, q0, q1 := min(16, x.n-k), int(x.trim.queries[k/16][0]), min(int(x.trim.queries[k/16][1]), n)
		if q0 < q1 {
			j.t.gemm(rows, c, q1-q0, s[k*Tile+q0:], Tile, 1, y[q0*ldy:], ldy, out[k*ldo:], ldo, accumulate)
		} else if !accumulate {
			clearTile(rows, c, out[k*ldo:], ldo)
		}
	}
}

// clearTile zeroes rows of c values, ld apart.
func clearTile[F Float](rows, c int, x []F, ld int) {
	for r := range rows {
		clear(x[r*ld:][:c])
	}
}
