package attention

import (
	"slices"

	"github.com/euryale-ml/euryale/internal/kernels"
)

// arrangement is a way to lay out a head so that what its queries read stands together and fills tiles: row r is query q[r] and
// column c is key k[c]. Nil: in the order of positions. Negative: nothing stands there.
type arrangement struct{ q, k []int32 }

// arrange returns the arrangement of a head in n positions. Every run of the pattern is contiguous in it. ok is false where none
// is known.
func arrange(p Pattern, h, n int) (a arrangement, ok bool) {
	switch p := p.(type) {
	case causal:
		return arrange(p.of, h, n)
	case perHead:
		return arrange(p[h], 0, n)
	case Dilated:
		return byResidue(p.Gap, n), true
	case ImageColumn:
		return byResidue(p.Width, n), true
	case outside:
		return byResidue(p.Gap, n), true
	case Summary:
		return arrangement{k: p.strip(n)}, true
	case Band, Blocks, ImageRow, nothing:
		return arrangement{}, true
	}
	return arrangement{}, false
}

// byResidue is queries and keys by residue of gap, then by size. What reads every gap-th key is a plain band in it.
func byResidue(gap, n int) arrangement {
	if gap == 1 {
		return arrangement{}
	}
	order := residueOrder(gap, n)
	return arrangement{order, order}
}

// residueOrder lists 0 … n-1 by residue of gap, then by size.
func residueOrder(gap, n int) []int32 {
	order := make([]int32, 0, n)
	for c := range min(gap, n) {
		for i := c; i < n; i += gap {
			order = append(order, int32(i))
		}
	}
	return order
}

// strip lists the columns that a Summary reads, and then nothing.
func (s Summary) strip(n int) []int32 {
	strip := make([]int32, 0, n)
	for j := range n {
		if s.reads(j) {
			strip = append(strip, int32(j))
		}
	}
	for len(strip) < n {
		strip = append(strip, -1)
	}
	return strip
}

// gapOf returns the gap of a head that is nothing but a dilated window (cut to causal or not) or a band, whose gap is 1; else 0.
func gapOf(p Pattern, h int) int {
	switch q := p.(type) {
	case causal:
		return gapOf(q.of, h)
	case perHead:
		return gapOf(q[h], 0)
	case Dilated:
		return q.Gap
	case Band:
		return 1
	}
	return 0
}

// permutable reports whether every head is a window and one of them is dilated.
func permutable(p Pattern) bool {
	widest := 0
	for h := range p.Heads() {
		g := gapOf(p, h)
		if g == 0 {
			return false
		}
		widest = max(widest, g)
	}
	return widest > 1
}

// arrangeable reports whether all heads have an arrangement and one of them is not that of positions.
func arrangeable(p Pattern, n int) bool {
	other := false
	for h := range p.Heads() {
		a, ok := arrange(p, h, n)
		if !ok {
			return false
		}
		other = other || a.q != nil || a.k != nil
	}
	return other
}

// halves takes a pattern apart into two without a common pair, each of which has an arrangement of its own: the halves of the
// Sparse Transformer, and a band with a dilated window. Nil: it is none of these.
func halves(p Pattern) []Pattern {
	switch p := p.(type) {
	case causal:
		if parts := halves(p.of); parts != nil {
			return []Pattern{causal{parts[0]}, causal{parts[1]}}
		}
	case Strided:
		return halves(union{Band{Left: p.Stride - 1}, Dilated{Left: maxNumber, Gap: p.Stride}})
	case Fixed:
		return halves(union{causal{Blocks{Size: p.Stride}}, p.columns()})
	case union:
		switch a := p.a.(type) {
		case Band:
			if d, ok := p.b.(Dilated); ok {
				return []Pattern{a, outside{Dilated: d, Band: a}}
			}
		case causal:
			blocks, ok := a.of.(Blocks)
			s, too := p.b.(Summary)
			if ok && too && (blocks == Blocks{Size: s.Stride}) && !s.earlier {
				s.earlier = true
				return []Pattern{a, s}
			}
		}
	case perHead:
		parts := [2]perHead{slices.Clone(p), make(perHead, len(p))}
		found := false
		for h := range p {
			parts[1][h] = nothing{}
			if s := halves(p[h]); s != nil {
				parts[0][h], parts[1][h], found = s[0], s[1], true
			}
		}
		if found {
			return []Pattern{parts[0], parts[1]}
		}
	}
	return nil
}

// splitWorth is what each of two passes costs for each tile of queries besides its tiles, in the unit of costs: rows are gathered, and
// what comes out is kept and brought together (measured with 64 channels).
const splitWorth = 550

// splitFor returns the parts of a pattern in a layer of n positions if two passes are cheaper than one; else nil.
func splitFor(p Pattern, n int) ([]Pattern, error) {
	parts := halves(p)
	if parts == nil {
		return nil, nil
	}
	whole, err := compiled.get(p, p.String(), n, n, false)
	if err != nil {
		return nil, err
	}
	saved := costsOf(p, whole).tiles * float64(parts[0].Heads()) / float64(len(whole))
	for _, part := range parts {
		layouts, err := compiled.get(part, part.String(), n, n, arrangeable(part, n))
		if err != nil {
			return nil, err
		}
		saved -= costsOf(part, layouts).tiles + splitWorth*float64((n+kernels.Tile-1)/kernels.Tile*len(layouts))
	}
	if saved <= 0 {
		return nil, nil
	}
	return parts, nil
}

// outside is a dilated window without what a band has already.
type outside struct {
	Dilated
	Band Band
}

func (o outside) String() string { return o.Dilated.String() + " outside " + o.Band.String() }
func (o outside) Heads() int     { return 1 }
func (o outside) FromEnd() bool  { return false }
func (o outside) Sees(h, i, j, n int) bool {
	return o.Dilated.Sees(h, i, j, n) && !o.Band.Sees(h, i, j, n)
}
func (o outside) Row(h, i, n int, dst []Run) []Run {
	return o.cut(o.Dilated.Row(h, i, n, nil), i, o.Band.Left, o.Band.Right, dst)
}
func (o outside) Col(h, j, n int, dst []Run) []Run {
	return o.cut(o.Dilated.Col(h, j, n, nil), j, o.Band.Right, o.Band.Left, dst)
}

// cut takes the middle out of runs around a position.
func (o outside) cut(runs []Run, at, before, after int, dst []Run) []Run {
	for _, r := range runs {
		dst = appendRun(dst, r.Lo, min(r.Hi, at-before), r.Step)
		first := at + (after/r.Step+1)*r.Step
		dst = appendRun(dst, max(r.Lo, first), r.Hi, r.Step)
	}
	return dst
}
func (o outside) NNZ(h, n int) int64    { return countRows(o, h, n) }
func (o outside) causalNNZ(n int) int64 { return countRows(causal{o}, 0, n) }

// nothing is the pattern of a head that reads no key.
type nothing struct{ alike }

func (nothing) String() string                   { return "nothing" }
func (nothing) Sees(_, _, _, _ int) bool         { return false }
func (nothing) Row(_, _, _ int, dst []Run) []Run { return dst }
func (nothing) Col(_, _, _ int, dst []Run) []Run { return dst }
func (nothing) NNZ(_, _ int) int64               { return 0 }
