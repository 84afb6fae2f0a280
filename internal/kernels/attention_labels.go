package kernels

import (
	"fmt"
	"math"
	"math/bits"
)

// Labels gives every visible pair of a layout a small number, its label: which row of the tables R and Bias its score takes up
// (Shaw et al. 2018, arXiv 1803.02155). Tiles whose visible pairs all have one label are told apart from those that need a
// table of 64x64 labels; equal tables are stored once, so that labels of a clipped distance need a few of them at any length.
// Labels do not change once built and may be shared; memory is 4 bytes a listed tile and 8 KB a table.
type Labels struct {
	Count int                  // labels are 0 to Count-1
	Tile  []int32              // of each listed tile of the layout: index into Tiles, or ^λ: all visible pairs have label λ
	Tiles [][Tile * Tile]Label // label of key c and query r at [c*Tile+r]; of hidden pairs any
}

// Label is a label as it is stored.
type Label = uint16

// MaxLabels bounds Count.
const MaxLabels = 1 << 16

// NewLabels asks label for every visible pair of a layout, row i and column j of it. With relative, label depends on j-i alone and
// is also asked for pairs that are hidden or beyond the layout; the cost is then one tile for each distance of tiles.
// Errors: a label outside 0 to count-1.
func NewLabels(l *Layout, count int, relative bool, label func(i, j int) int) (*Labels, error) {
	if count < 1 || count > MaxLabels {
		return nil, fmt.Errorf("%w: %d labels, from 1 to %d can be told apart", ErrAttention, count, MaxLabels)
	}
	s := &Labels{Count: count, Tile: make([]int32, len(l.Col))}
	ids, known := map[uint64][]int32{}, map[int]int32{}
	var t [Tile * Tile]Label
	for qt := 0; qt+1 < len(l.Ptr); qt++ {
		for e := l.Ptr[qt]; e < l.Ptr[qt+1]; e++ {
			kt := int(l.Col[e])
			if id, ok := known[kt-qt]; ok && relative {
				s.Tile[e] = id
				continue
			}
			seen, one := -1, true
			for c := range Tile {
				visible := ^uint64(0)
				if !relative {
					visible = l.visible(qt, e, c)
				}
				for r := range Tile {
					x := max(seen, 0)
					if visible>>r&1 == 1 {
						if x = label(qt*Tile+r, kt*Tile+c); x < 0 || x >= count {
							return nil, fmt.Errorf("%w: the label of pair (%d,%d) is %d, not of 0 to %d", ErrAttention, qt*Tile+r, kt*Tile+c, x, count-1)
						}
						one = one && (seen < 0 || x == seen)
						seen = x
					}
					t[c*Tile+r] = Label(x)
				}
			}
			if one {
				s.Tile[e] = ^int32(max(seen, 0))
			} else {
				s.Tile[e] = s.intern(ids, &t)
			}
			known[kt-qt] = s.Tile[e]
		}
	}
	return s, nil
}

// visible returns, as bits, the queries of query tile qt that read key c of listed tile e.
func (l *Layout) visible(qt int, e int32, c int) uint64 {
	if m := l.Mask[e]; m >= 0 {
		return l.Masks[m][c]
	}
	if int(l.Col[e])*Tile+c >= l.NK {
		return 0
	}
	return firstBits(min(Tile, l.NQ-qt*Tile))
}

// intern returns the number of a table of labels, a new one only if it was not seen before.
func (s *Labels) intern(ids map[uint64][]int32, t *[Tile * Tile]Label) int32 {
	h := uint64(1469598103934665603)
	for _, x := range t {
		h = bits.RotateLeft64((h^uint64(x))*0x9e3779b97f4a7c15, 29)
	}
	for _, id := range ids[h] {
		if s.Tiles[id] == *t {
			return id
		}
	}
	id := int32(len(s.Tiles))
	s.Tiles = append(s.Tiles, *t)
	ids[h] = append(ids[h], id)
	return id
}

// labelCount is how many labels there are; 0: none.
func (a *Attention[F]) labelCount() int {
	switch {
	case a.Edges != nil:
		return a.Edges[0].Labels
	case a.Labels != nil:
		return a.Labels[0].Count
	}
	return 0
}

// checkLabels reports labels and tables that do not fit.
func (a *Attention[F]) checkLabels() error {
	v := a.labelCount()
	if v == 0 {
		return nil
	}
	if n := len(a.Labels); a.Edges == nil && n != 1 && n != a.H {
		return fmt.Errorf("%w: labels of %d heads for %d heads: give one, or one for each head", ErrAttention, n, a.H)
	}
	for h := range max(len(a.Labels), len(a.Layouts)) {
		s, l := a.Labels[min(h, len(a.Labels)-1)], a.Layouts[min(h, len(a.Layouts)-1)]
		if len(s.Tile) != len(l.Col) {
			return fmt.Errorf("%w: labels of head %d are for %d tiles, its layout has %d", ErrAttention, h, len(s.Tile), len(l.Col))
		}
		if s.Count != v {
			return fmt.Errorf("%w: head 0 has %d labels, head %d has %d: the tables are the same for all", ErrAttention, v, h, s.Count)
		}
	}
	if a.R.Data != nil {
		if err := fits("R", &a.R, 1, a.H, v, a.D); err != nil {
			return err
		}
	}
	if a.Bias.Data != nil {
		if a.Scale == 0 {
			return fmt.Errorf("%w: a bias wants a scale that is not 0", ErrAttention)
		}
		return fits("Bias", &a.Bias, 1, a.H, v, 1)
	}
	return nil
}

// labels of head h; nil: none.
func (j *attnJob[F]) labels(h int) *Labels {
	switch len(j.a.Labels) {
	case 0:
		return nil
	case 1:
		return j.a.Labels[0]
	}
	return j.a.Labels[h]
}

// table fills w.table, [V][64 queries], with what each label adds to the scores of a query tile, in base 2. w.qt is its queries.
// Without R it is the same for all tiles of a head.
func (j *attnJob[F]) table(w *attnSpace[F], h int) {
	a, v := j.a, j.numLabels
	if a.R.Data != nil {
		j.t.gemm(v, Tile, a.D, a.R.at(0, h, 0), a.R.Row, 1, w.qt, laneStride, w.table, Tile, false)
	} else if w.tableOf == h {
		return
	} else {
		w.tableOf = h
		clear(w.table[:v*Tile])
	}
	if a.Bias.Data == nil {
		return
	}
	for l := range v {
		x := a.Bias.at(0, h, l)[0] * math.Log2E
		for r := range w.table[l*Tile:][:Tile] {
			w.table[l*Tile+r] += x
		}
	}
}

// addLabels adds to the scores of listed tile e what its labels say.
func (j *attnJob[F]) addLabels(w *attnSpace[F], s *Labels, e int32, x *attnTile) {
	if id := s.Tile[e]; id < 0 {
		j.t.addRows(x.n, Tile, w.table[int(^id)*Tile:], 0, w.s, Tile)
	} else {
		j.t.label(x.n, w.s, &s.Tiles[id], w.table)
	}
}

// byLabel adds the gradients of the scores of listed tile e to those of its labels.
func (j *attnJob[F]) byLabel(w *attnSpace[F], s *Labels, e int32, x *attnTile) {
	if id := s.Tile[e]; id < 0 {
		j.t.addRows(x.n, Tile, w.dp, Tile, w.dtable[int(^id)*Tile:], 0)
	} else {
		j.t.unlabel(x.n, w.dp, &s.Tiles[id], w.dtable)
	}
}

// keyGrads takes the gradients by label of n queries on to w.dq and to the tables of the task, and clears them. Without R that is
// left to the end of the task.
func (j *attnJob[F]) keyGrads(w *attnSpace[F], task, h, n int, q []F, ldq int) {
	a, v := j.a, j.numLabels
	if a.R.Data == nil {
		return
	}
	dr, _ := j.tables.task(task)
	j.t.gemm(n, a.D, v, w.dtable, 1, Tile, a.R.at(0, h, 0), a.R.Row, w.dq, w.ldk, true)
	j.t.gemm(v, a.D, n, w.dtable, Tile, 1, q, ldq, dr, a.D, true)
	j.biasGrads(w, task)
}

// biasGrads adds the gradients by label to the biases of the task, and clears them.
func (j *attnJob[F]) biasGrads(w *attnSpace[F], task int) {
	a, v := j.a, j.numLabels
	_, db := j.tables.task(task)
	for l := range db {
		db[l] += laneSum(w.dtable[l*Tile:][:Tile]) / a.Scale
	}
	clear(w.dtable[:v*Tile])
}

// laneSum adds up numbers in their order.
func laneSum[F Float](x []F) (sum F) {
	for _, v := range x {
		sum += v
	}
	return sum
}

// tableGrads are the gradients of the tables of labels that each task of a pass adds up: dr [V][D] and db [V], each empty where
// there is no table.
type tableGrads[F Float] struct {
	mem            []F
	labels, nr, nb int // labels; elements of dr and db
}

// fit makes room for so many tasks.
func (t *tableGrads[F]) fit(a *Attention[F], labels, tasks int) {
	t.labels, t.nr, t.nb = labels, 0, 0
	if labels > 0 && a.R.Data != nil {
		t.nr = labels * a.D
	}
	if labels > 0 && a.Bias.Data != nil {
		t.nb = labels
	}
	t.mem = grown(t.mem, tasks*(t.nr+t.nb))
}

// task returns the gradients of a task.
func (t *tableGrads[F]) task(k int) (dr, db []F) {
	s := t.mem[k*(t.nr+t.nb):][:t.nr+t.nb]
	return s[:t.nr], s[t.nr:]
}

// clear zeroes those of a task.
func (t *tableGrads[F]) clear(k int) { clear(t.mem[k*(t.nr+t.nb):][:t.nr+t.nb]) }

// labelBlock is how many labels a task of reduce has.
const labelBlock = 8

// blocks is how many tasks reduce has.
func (t *tableGrads[F]) blocks() int { return (t.labels + labelBlock - 1) / labelBlock }

// reduce adds the gradients of a block of labels to DR and DBias: those of n heads of examples from `first` on, each of so many
// tasks, in their order.
func (t *tableGrads[F]) reduce(a *Attention[F], k *attnTable[F], block, first, n, tasks int) {
	for task := range n * tasks {
		h := (first + task/tasks) % a.H
		dr, db := t.task(task)
		for l := block * labelBlock; l < min(t.labels, (block+1)*labelBlock); l++ {
			if len(dr) > 0 {
				k.addRows(1, a.D, dr[l*a.D:], a.D, a.DR.at(0, h, l), a.D)
			}
			if len(db) > 0 {
				a.DBias.at(0, h, l)[0] += db[l]
			}
		}
	}
}
