package attention

import (
	"fmt"
	"strings"
)

// Causal cuts a pattern to keys that are not later than the query. A decoder applies it to every pattern it is given. Random keys
// are drawn from those that are left; a tree has spans of earlier tokens only. What CheckCausal refuses is cut by node.
func Causal(p Pattern) Pattern {
	switch q := p.(type) {
	case causal:
		return p
	case onTokens:
		return onTokens{Causal(q.of), q.in}
	case BPTree:
		return q.inPast()
	case CrossBlocks:
		return q.inPast()
	}
	if spaceOf(p).behind() { // these nodes are no positions, so every part is cut for itself
		switch q := p.(type) {
		case union:
			return union{Causal(q.a), Causal(q.b)}
		case intersection:
			return intersection{Causal(q.a), Causal(q.b)}
		case perHead:
			parts := make(perHead, len(q))
			for h := range q {
				parts[h] = Causal(q[h])
			}
			return parts
		}
	}
	return causal{inPast(p)}
}

type causal struct{ of Pattern }

func (c causal) String() string           { return "causal(" + c.of.String() + ")" }
func (c causal) Heads() int               { return c.of.Heads() }
func (c causal) FromEnd() bool            { return c.of.FromEnd() }
func (c causal) space() space             { return spaceOf(c.of) }
func (c causal) Sees(h, i, j, n int) bool { return j <= i && c.of.Sees(h, i, j, n) }
func (c causal) Row(h, i, n int, dst []Run) []Run {
	at := len(dst)
	return clip(c.of.Row(h, i, n, dst), at, 0, i+1)
}
func (c causal) Col(h, j, n int, dst []Run) []Run {
	at := len(dst)
	return clip(c.of.Col(h, j, n, dst), at, j, n)
}
func (c causal) NNZ(h, n int) int64 {
	switch p := c.of.(type) {
	case causalCounter:
		return p.causalNNZ(n)
	case union:
		return union{Causal(p.a), Causal(p.b)}.NNZ(h, n)
	case beyond:
		return union{Causal(p.a), causal{p.b}}.NNZ(h, n)
	case perHead:
		return Causal(p[h]).NNZ(0, n)
	}
	return countRows(c, h, n)
}

// Union lets a query read what either pattern lets it read. An error tells of patterns made for different numbers of heads.
func Union(a, b Pattern) (Pattern, error) {
	parts, err := aligned(a, b)
	if err != nil {
		return nil, err
	}
	return union{parts[0], parts[1]}, nil
}

// Intersection lets a query read what both patterns let it read.
func Intersection(a, b Pattern) (Pattern, error) {
	parts, err := aligned(a, b)
	if err != nil {
		return nil, err
	}
	return intersection{parts[0], parts[1]}, nil
}

// aligned gives two patterns the same nodes.
func aligned(a, b Pattern) ([]Pattern, error) {
	if x, y := a.Heads(), b.Heads(); x != y && x != 1 && y != 1 {
		return nil, fmt.Errorf("%s describes %d heads and %s describes %d; give both the same number", a, x, b, y)
	}
	return align(a, b)
}

type union struct{ a, b Pattern }

func (u union) String() string           { return u.a.String() + " + " + u.b.String() }
func (u union) Heads() int               { return max(u.a.Heads(), u.b.Heads()) }
func (u union) FromEnd() bool            { return u.a.FromEnd() || u.b.FromEnd() }
func (u union) space() space             { return spaceOf(u.a) }
func (u union) Sees(h, i, j, n int) bool { return u.a.Sees(h, i, j, n) || u.b.Sees(h, i, j, n) }
func (u union) Row(h, i, n int, dst []Run) []Run {
	return u.b.Row(h, i, n, u.a.Row(h, i, n, dst))
}
func (u union) Col(h, j, n int, dst []Run) []Run {
	return u.b.Col(h, j, n, u.a.Col(h, j, n, dst))
}

// NNZ of a base with global positions needs only their rows and columns of the base; other unions are counted by rows.
func (u union) NNZ(h, n int) int64 {
	base, crossing := u.a, u.b
	g, ok := globalOf(crossing)
	if !ok {
		base, crossing = u.b, u.a
		g, ok = globalOf(crossing)
	}
	if !ok {
		return countRows(u, h, n)
	}
	at := g.at(n)
	var shared int64
	for _, p := range at {
		shared += int64(count(meetAll(base.Row(h, p, n, nil), crossing.Row(h, p, n, nil))))
		shared += int64(count(meetAll(base.Col(h, p, n, nil), crossing.Col(h, p, n, nil))))
		for _, q := range at {
			if base.Sees(h, p, q, n) && crossing.Sees(h, p, q, n) {
				shared--
			}
		}
	}
	return base.NNZ(h, n) + crossing.NNZ(h, n) - shared
}

// globalOf returns the global positions if that, or its causal part, is all the pattern is.
func globalOf(p Pattern) (Global, bool) {
	if c, ok := p.(causal); ok {
		p = c.of
	}
	g, ok := p.(Global)
	return g, ok
}

type intersection struct{ a, b Pattern }

func (x intersection) String() string {
	return bracketUnion(x.a) + " & " + bracketUnion(x.b)
}

// bracketUnion writes an operand of &, which binds tighter than +.
func bracketUnion(p Pattern) string {
	inner := p
	if o, ok := p.(onTokens); ok {
		inner = o.of
	}
	if _, ok := inner.(union); ok {
		return "(" + p.String() + ")"
	}
	return p.String()
}
func (x intersection) Heads() int               { return max(x.a.Heads(), x.b.Heads()) }
func (x intersection) FromEnd() bool            { return x.a.FromEnd() || x.b.FromEnd() }
func (x intersection) space() space             { return spaceOf(x.a) }
func (x intersection) Sees(h, i, j, n int) bool { return x.a.Sees(h, i, j, n) && x.b.Sees(h, i, j, n) }
func (x intersection) Row(h, i, n int, dst []Run) []Run {
	return append(dst, meetAll(x.a.Row(h, i, n, nil), x.b.Row(h, i, n, nil))...)
}
func (x intersection) Col(h, j, n int, dst []Run) []Run {
	return append(dst, meetAll(x.a.Col(h, j, n, nil), x.b.Col(h, j, n, nil))...)
}
func (x intersection) NNZ(h, n int) int64 { return countRows(x, h, n) }

func meetAll(a, b []Run) []Run {
	var out []Run
	for _, r := range a {
		for _, s := range b {
			out = meet(out, r, s)
		}
	}
	return out
}

// Heads gives every head a pattern of its own. Parts may not themselves tell heads apart. One part alone is for all heads.
func Heads(parts ...Pattern) (Pattern, error) {
	if len(parts) == 0 {
		return nil, fmt.Errorf("heads needs at least one pattern")
	}
	for _, p := range parts {
		if p.Heads() != 1 {
			return nil, fmt.Errorf("%s stands inside heads(…), which is only possible once; list the heads one by one", p)
		}
	}
	if len(parts) == 1 {
		return parts[0], nil
	}
	parts, err := align(parts...)
	return perHead(parts), err
}

type perHead []Pattern

func (p perHead) String() string {
	s := make([]string, len(p))
	for h, q := range p {
		s[h] = q.String()
	}
	return "heads(" + strings.Join(s, "; ") + ")"
}
func (p perHead) Heads() int   { return len(p) }
func (p perHead) space() space { return spaceOf(p[0]) }
func (p perHead) FromEnd() bool {
	for _, q := range p {
		if q.FromEnd() {
			return true
		}
	}
	return false
}
func (p perHead) Sees(h, i, j, n int) bool         { return p[h].Sees(0, i, j, n) }
func (p perHead) Row(h, i, n int, dst []Run) []Run { return p[h].Row(0, i, n, dst) }
func (p perHead) Col(h, j, n int, dst []Run) []Run { return p[h].Col(0, j, n, dst) }
func (p perHead) NNZ(h, n int) int64               { return p[h].NNZ(0, n) }

// headOf is the pattern of one head, for all heads.
func headOf(p Pattern, h int) Pattern {
	switch q := p.(type) {
	case causal:
		return causal{headOf(q.of, h)}
	case union:
		return union{headOf(q.a, h), headOf(q.b, h)}
	case intersection:
		return intersection{headOf(q.a, h), headOf(q.b, h)}
	case perHead:
		return q[h]
	case onTokens:
		return onTokens{headOf(q.of, h), q.in}
	}
	return p
}
