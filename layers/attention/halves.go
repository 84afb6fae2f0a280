package attention

import (
	"slices"

	"github.com/euryale-ml/euryale/internal/kernels"
)

// halves takes a pattern apart into two without a common pair, each of which is computed best in a way of its own: the halves of the
// Sparse Transformer, a band with a dilated window, whatever has blocks with what has none. Nil: it is none of these.
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
	case beyond:
		return []Pattern{p.a, p.b}
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
		if p.Heads() > 1 {
			return nil
		}
		if some, others := sieve(p); some != nil && others != nil {
			return []Pattern{others, without{of: some, less: others}}
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

// sieve takes a union apart into what may be computed by lists and all else.
func sieve(p Pattern) (some, others Pattern) {
	u, ok := p.(union)
	switch {
	case ok:
		a, b := sieve(u.a)
		c, d := sieve(u.b)
		return join(a, c), join(b, d)
	case mayList(p):
		return p, nil
	}
	return nil, p
}

// join is the union of two patterns, of which either may be missing.
func join(a, b Pattern) Pattern {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	}
	return union{a, b}
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
	var apart float64
	for _, part := range parts {
		c, err := compiled.cost(part, n)
		if err != nil {
			return nil, err
		}
		apart += c + splitWorth*float64((n+kernels.Tile-1)/kernels.Tile*part.Heads())
	}
	if mayList(p) && leastCosts(p, n, n).lower() > apart { // without laying out what is not wanted
		return parts, nil
	}
	whole, err := compiled.cost(p, n)
	if err != nil || whole <= apart {
		return nil, err
	}
	return parts, nil
}

// cost is what a pattern costs in the cheapest way of one pass.
func (c *layoutCache) cost(p Pattern, n int) (float64, error) {
	text := p.String()
	r, err := c.route(p, text, n, n, cheaper)
	if err != nil {
		return 0, err
	}
	if r == byTiles && arrangeable(p, n) {
		layouts, err := c.get(p, text, n, n, true)
		return costsOf(p, layouts).tiles, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.find(layoutKey{text, n, n, false}).costs.lower(), nil
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

// without is a pattern less what another has, for few pairs.
type without struct{ of, less Pattern }

func (w without) String() string { return w.of.String() + " without " + w.less.String() }
func (w without) Heads() int     { return max(w.of.Heads(), w.less.Heads()) }
func (w without) FromEnd() bool  { return w.of.FromEnd() || w.less.FromEnd() }
func (w without) space() space   { return spaceOf(w.of) }
func (w without) Sees(h, i, j, n int) bool {
	return w.of.Sees(h, i, j, n) && !w.less.Sees(h, i, j, n)
}
func (w without) Row(h, i, n int, dst []Run) []Run {
	return w.cut(w.of.Row(h, i, n, nil), func(j int) bool { return w.less.Sees(h, i, j, n) }, dst)
}
func (w without) Col(h, j, n int, dst []Run) []Run {
	return w.cut(w.of.Col(h, j, n, nil), func(i int) bool { return w.less.Sees(h, i, j, n) }, dst)
}

// cut leaves out positions.
func (w without) cut(runs []Run, gone func(int) bool, dst []Run) []Run {
	for _, r := range runs {
		for j := r.Lo; j < r.Hi; j += r.Step {
			if !gone(j) {
				dst = append(dst, Run{j, j + 1, 1})
			}
		}
	}
	return dst
}
func (w without) NNZ(h, n int) int64 { return countRows(w, h, n) }

// nothing is the pattern of a head that reads no key.
type nothing struct{ alike }

func (nothing) String() string                   { return "nothing" }
func (nothing) Sees(_, _, _, _ int) bool         { return false }
func (nothing) Row(_, _, _ int, dst []Run) []Run { return dst }
func (nothing) Col(_, _, _ int, dst []Run) []Run { return dst }
func (nothing) NNZ(_, _ int) int64               { return 0 }
