package kernels

import (
	"fmt"
	"math"
	"slices"
)

// edgeJob is one call of Forward or Backward over Edges, with its scratch. See attnJob.
//
// Forward takes the queries one by one: scores with the listed keys, softmax, sum of their values. Backward does the same once
// more and keeps P and dS of every pair, for as many heads at a time as fit into pairBytes; then each key sums up what its
// queries have for it, in their order. So there is no race for a sum, and no sum depends on the number of workers.
type edgeJob[F Float] struct {
	a *Attention[F]
	t *attnTable[F]
	e *elemTable[F]

	chunks    int // of the queries of a head
	numLabels int
	parts     []F // of hubs
	// of Backward
	backChunks, keyChunks int
	dO, dQ, dK, dV        Rows[F]
	dLSE                  []F
	group                 int // heads whose pairs are kept at a time
	pairs                 int // most pairs of a head
	p, ds                 []F // [group][pairs]
	queryParts, keyParts  []F // of hubs
	tables                tableGrads[F]

	ws                          []edgeSpace[F]
	forwardTasks, backwardTasks func(phase int) int
	forward, backward           func(worker, phase, task int)
}

// edgeSpace is the scratch of one worker.
type edgeSpace[F Float] struct {
	s, dp         []F // scores of a line
	q, do         []F // of a query, scaled
	dq            []F // [64][D]
	qt            []F // [D][laneStride]
	r, dr         []F // [labels of an item][D]
	table, dtable []F // [labels of an item][64]
	delta         [1]F
}

// pairBytes bounds what the backward pass keeps of pairs, if one head does not need more.
const pairBytes = 16 << 20

// Jobs that nobody uses.
var (
	edgeJobs32 FreeList[edgeJob[float32]]
	edgeJobs64 FreeList[edgeJob[float64]]
)

func edgePool[F Float]() *FreeList[edgeJob[F]] {
	return FreeListOf[edgeJob[F]](&edgeJobs32, &edgeJobs64)
}

func newEdgeJob[F Float]() *edgeJob[F] {
	j := &edgeJob[F]{}
	j.forwardTasks, j.forward = j.countForward, j.runForward
	j.backwardTasks, j.backward = j.countBackward, j.runBackward
	return j
}

func takeEdgeJob[F Float](a *Attention[F]) *edgeJob[F] {
	j := edgePool[F]().Take(newEdgeJob[F])
	j.begin(a)
	return j
}

func (j *edgeJob[F]) release() {
	j.a, j.dLSE = nil, nil
	j.dO, j.dQ, j.dK, j.dV = Rows[F]{}, Rows[F]{}, Rows[F]{}, Rows[F]{}
	edgePool[F]().Give(j)
}

// grown returns a slice of n elements, s if it is long enough.
func grown[F any](s []F, n int) []F {
	if cap(s) < n {
		return make([]F, n)
	}
	return s[:n]
}

// begin prepares the job for a checked Attention.
func (j *edgeJob[F]) begin(a *Attention[F]) {
	j.a, j.t, j.e = a, attnKernelsFor[F](a.D, a.DV), elem[F]()
	j.numLabels = a.Edges[0].Labels
	items, longest, slots, labels := 0, 0, 0, 0
	j.pairs = 0
	for _, e := range a.Edges {
		items, longest, j.pairs = max(items, len(e.rows.items)), max(longest, e.longest), max(j.pairs, e.Pairs())
		slots = max(slots, e.rows.slots)
		for _, it := range e.rows.items {
			labels = max(labels, int(it.labEnd-it.lab))
		}
	}
	heads := max(1, a.B*a.H)
	j.chunks = max(1, min((4*minBackwardTasks+heads-1)/heads, items))
	j.parts = grown(j.parts, heads*slots*(a.DV+2))
	for len(j.ws) < Workers() {
		j.ws = append(j.ws, edgeSpace[F]{})
	}
	for i := range j.ws {
		w := &j.ws[i]
		w.s, w.dp, w.q, w.do = grown(w.s, longest), grown(w.dp, longest), grown(w.q, a.D), grown(w.do, a.DV)
		w.dq, w.qt = grown(w.dq, Tile*a.D), grown(w.qt, a.D*laneStride)
		w.table, w.dtable = grown(w.table, labels*Tile), grown(w.dtable, labels*Tile)
		w.r, w.dr = grown(w.r, labels*a.D), grown(w.dr, labels*a.D)
	}
}

// edges of head h of example b.
func (a *Attention[F]) edges(b, h int) *Edges { return a.Edges[perHead(len(a.Edges), a.H, b, h)] }

// checkEdges reports lists that do not fit.
func (a *Attention[F]) checkEdges() error {
	if n := len(a.Edges); n != 1 && n != a.H && n != a.B*a.H {
		return fmt.Errorf("%w: %d lists for %d heads of %d examples: give one, one for each head, or one for each of all", ErrAttention, n, a.H, a.B)
	}
	if a.IndexQ != nil || a.IndexK != nil || a.Layouts != nil || a.Labels != nil {
		return fmt.Errorf("%w: Edges go without Layouts, Labels, IndexQ and IndexK", ErrAttention)
	}
	for i, e := range a.Edges {
		if e.NQ > a.TQ || e.NK > a.TK {
			return fmt.Errorf("%w: the lists of head %d are of %d queries and %d keys, there are %d and %d", ErrAttention, i, e.NQ, e.NK, a.TQ, a.TK)
		}
		if e.Labels != a.Edges[0].Labels {
			return fmt.Errorf("%w: head 0 has %d labels, head %d has %d: the tables are the same for all", ErrAttention, a.Edges[0].Labels, i, e.Labels)
		}
	}
	return nil
}

// limits are the numbers of queries and keys that an example has.
func (j *edgeJob[F]) limits(b int, e *Edges) (q, k int) {
	q, k = e.NQ, e.NK
	if l := j.a.LensQ; l != nil {
		q = max(0, min(q, int(l[b])))
	}
	if l := j.a.LensK; l != nil {
		k = max(0, min(k, int(l[b])))
	}
	return q, k
}

// list returns the first and the following keys of the pairs lo to hi of query i that are below limit: key k is base + list[k].
func (e *Edges) list(i int, lo, hi int32, limit int) (base int, list []int32) {
	if f := e.first[i]; f < 0 {
		base = int(^f + lo - e.ptr[i])
		return base, e.iota[:max(0, min(int(hi-lo), limit-base))]
	}
	at := e.first[i] - e.ptr[i]
	list = e.keys[at+lo : at+hi]
	n, _ := slices.BinarySearch(list, int32(limit))
	return 0, list[:n]
}

func (j *edgeJob[F]) countForward(phase int) int {
	if phase == 0 {
		return j.a.B * j.a.H * j.chunks
	}
	for _, e := range j.a.Edges {
		if len(e.rows.splits) > 0 {
			return j.a.B * j.a.H
		}
	}
	return 0
}

// runForward: phase 0 has a task for each chunk of queries of a head, phase 1 brings the parts of hubs together.
func (j *edgeJob[F]) runForward(worker, phase, task int) {
	a := j.a
	if phase == 1 {
		e := a.edges(task/a.H, task%a.H)
		for _, s := range e.rows.splits {
			j.joinForward(task/a.H, task%a.H, s)
		}
		return
	}
	bh, c := task/j.chunks, task%j.chunks
	b, h := bh/a.H, bh%a.H
	e := a.edges(b, h)
	items := e.rows.share(c, j.chunks)
	for k := range items {
		j.forwardItem(&j.ws[worker], e, &items[k], b, h)
	}
	if c == 0 {
		for t := e.NQ; t < a.TQ; t++ {
			j.write(b, h, t, nil, 0, 0)
		}
	}
}

// write sets O and LSE of a query whose values, unscaled, are o.
func (j *edgeJob[F]) write(b, h, token int, o []F, m, l F) {
	a := j.a
	out, lse := a.O.at(b, h, token)[:a.DV], &a.LSE[(b*a.H+h)*a.TQ+token]
	if o == nil {
		clear(out)
		*lse = F(math.Inf(-1))
		return
	}
	j.e.scale(1/l, o, out)
	*lse = m + F(math.Log(float64(l)))
}

// part is where a part of a hub is kept: values, maximum, sum.
func (j *edgeJob[F]) part(b, h, slots int, slot int32) []F {
	n := j.a.DV + 2
	return j.parts[((b*j.a.H+h)*slots+int(slot))*n:][:n]
}

// forwardItem computes the queries of an item.
func (j *edgeJob[F]) forwardItem(w *edgeSpace[F], e *Edges, it *edgeItem, b, h int) {
	a := j.a
	lq, lk := j.limits(b, e)
	n := max(0, min(int(it.lines), lq-int(it.line)))
	if it.labEnd > it.lab && n > 0 {
		j.table(w, e, it, b, h, n)
	}
	for r := range int(it.lines) {
		i := int(it.line) + r
		var o, sum []F
		var m, l F
		if r < n {
			o = w.do
			m, l, sum = j.query(w, e, it, b, h, r, lk, o)
		}
		if it.slot < 0 {
			j.write(b, h, i, sum, m, l)
			continue
		}
		p := j.part(b, h, e.rows.slots, it.slot)
		clear(p)
		if p[a.DV] = F(math.Inf(-1)); sum != nil {
			copy(p, sum)
			p[a.DV], p[a.DV+1] = m, l
		}
	}
}

// query computes what query r of an item sums up, nil if it reads nothing, the maximum of its scores and their sum.
func (j *edgeJob[F]) query(w *edgeSpace[F], e *Edges, it *edgeItem, b, h, r, lk int, o []F) (m, l F, sum []F) {
	a := j.a
	i := int(it.line) + r
	lo, hi := max(it.lo, e.ptr[i]), min(it.hi, e.ptr[i+1])
	base, list := e.list(i, lo, hi, lk)
	if len(list) == 0 {
		return 0, 0, nil
	}
	s := w.s[:len(list)]
	j.scores(w, e, lo, b, h, i, r, base, list, s)
	m = j.e.maxOf(s)
	l = j.e.expSub(s, s, m)
	j.t.gatherSum(len(s), a.DV, s, e.iota, a.V.at(b, h, base), a.V.Row, list, o)
	return m, l, o
}

// scores computes those of query i, number r of its item, with the listed keys; lo is the first pair.
func (j *edgeJob[F]) scores(w *edgeSpace[F], e *Edges, lo int32, b, h, i, r, base int, list []int32, s []F) {
	a := j.a
	j.e.scale(a.Scale, a.Q.at(b, h, i)[:a.D], w.q)
	j.t.gatherDots(len(s), a.D, w.q, a.K.at(b, h, base), a.K.Row, list, s)
	if j.numLabels > 0 {
		for k, v := range e.label[lo:][:len(s)] {
			s[k] += w.table[int(v)*Tile+r]
		}
	}
}

// joinForward brings the parts of a hub together.
func (j *edgeJob[F]) joinForward(b, h int, s edgeSplit) {
	a := j.a
	slots := a.edges(b, h).rows.slots
	m, l, empty := F(math.Inf(-1)), F(0), true
	for k := range s.parts {
		p := j.part(b, h, slots, s.slot+k)
		m, empty = max(m, p[a.DV]), empty && p[a.DV+1] == 0
	}
	if empty {
		j.write(b, h, int(s.line), nil, 0, 0)
		return
	}
	o := j.part(b, h, slots, s.slot)
	for k := range s.parts {
		p := j.part(b, h, slots, s.slot+k)
		f := F(math.Exp(float64(p[a.DV] - m)))
		l += f * p[a.DV+1]
		if k == 0 {
			j.e.scale(f, p[:a.DV], o[:a.DV])
		} else {
			j.e.axpy(f, p[:a.DV], o[:a.DV])
		}
	}
	j.write(b, h, int(s.line), o[:a.DV], m, l)
}

// table fills w.table, [labels of the item][64 queries], with what each label adds to the scores of the item's first n queries.
func (j *edgeJob[F]) table(w *edgeSpace[F], e *Edges, it *edgeItem, b, h, n int) {
	a, labels := j.a, e.labels[it.lab:it.labEnd]
	t := w.table[:len(labels)*Tile]
	if a.R.Data == nil {
		clear(t)
	} else {
		for k, v := range labels {
			copy(w.r[k*a.D:][:a.D], a.R.at(0, h, int(v)))
		}
		j.t.transpose(n, a.D, a.Q.at(b, h, int(it.line)), a.Q.Row, a.Scale, w.qt)
		j.t.gemm(len(labels), Tile, a.D, w.r, a.D, 1, w.qt, laneStride, t, Tile, false)
	}
	if a.Bias.Data != nil {
		for k, v := range labels {
			x := a.Bias.at(0, h, int(v))[0]
			for r := range t[k*Tile:][:Tile] {
				t[k*Tile+r] += x
			}
		}
	}
}
