package attention

import "fmt"

// space says which nodes a pattern speaks of besides the tokens: external ones before them, or behind them the spans of a tree or one
// node for every so many tokens.
type space struct {
	front int
	tree  bool
	every int
}

// behind reports whether nodes stand behind the tokens, where a node's number says nothing of its time.
func (s space) behind() bool { return s.tree || s.every > 0 }

// nodes is how many nodes there are for a number of tokens.
func (s space) nodes(tokens int) int {
	if s.tree {
		return treeNodes(tokens)
	}
	if s.every > 0 {
		return tokens + (tokens+s.every-1)/s.every
	}
	return s.front + tokens
}

// tokens is how many of so many nodes are tokens. Nodes that belong to no whole tree are left over.
func (s space) tokens(nodes int) int {
	if s.tree {
		return treeTokens(nodes)
	}
	if s.every > 0 {
		return nodes - (nodes+s.every)/(s.every+1)
	}
	return max(0, nodes-s.front)
}

// spaced is a pattern with nodes besides the tokens.
type spaced interface{ space() space }

func spaceOf(p Pattern) space {
	if s, ok := p.(spaced); ok {
		return s.space()
	}
	return space{}
}

// NodeCount is how many nodes the pattern has for a number of tokens: the n of Sees, Row, Col and NNZ. Token t is node t, or node
// g+t behind g external nodes; the spans of a tree stand behind the tokens, level by level.
func NodeCount(p Pattern, tokens int) int { return spaceOf(p).nodes(tokens) }

// Front is how many external nodes of a pattern stand before the tokens.
func Front(p Pattern) int { return spaceOf(p).front }

// CheckCausal says why a pattern cannot be cut to earlier keys.
func CheckCausal(p Pattern) error {
	if g := spaceOf(p).front; g > 0 {
		return fmt.Errorf("%s cannot be causal: external nodes read every token and are read by every token, so they would tell of the future", p)
	}
	return nil
}

// align lays patterns of tokens over the nodes that others add. Errors: they add different ones.
func align(parts ...Pattern) ([]Pattern, error) {
	var common space
	var of Pattern
	for _, p := range parts {
		switch s := spaceOf(p); {
		case s == space{} || s == common:
		case common == space{}:
			common, of = s, p
		default:
			return nil, fmt.Errorf("%s and %s have different nodes besides the tokens; give both the same", of, p)
		}
	}
	if (common == space{}) {
		return parts, nil
	}
	out := make([]Pattern, len(parts))
	for k, p := range parts {
		if out[k] = p; (spaceOf(p) == space{}) {
			out[k] = onTokens{p, common}
		}
	}
	return out, nil
}

// onTokens is a pattern of tokens among more nodes. The other nodes neither read nor are read.
type onTokens struct {
	of Pattern
	in space
}

func (o onTokens) String() string { return o.of.String() }
func (o onTokens) Heads() int     { return o.of.Heads() }
func (o onTokens) FromEnd() bool  { return o.in.behind() || o.of.FromEnd() }
func (o onTokens) space() space   { return o.in }
func (o onTokens) Sees(h, i, j, n int) bool {
	t := o.in.tokens(n)
	i, j = i-o.in.front, j-o.in.front
	return inside(i, j, t) && o.of.Sees(h, i, j, t)
}
func (o onTokens) Row(h, i, n int, dst []Run) []Run { return o.moved(o.of.Row, h, i, n, dst) }
func (o onTokens) Col(h, j, n int, dst []Run) []Run { return o.moved(o.of.Col, h, j, n, dst) }
func (o onTokens) NNZ(h, n int) int64               { return o.of.NNZ(h, o.in.tokens(n)) }

// moved enumerates in coordinates of tokens and returns nodes.
func (o onTokens) moved(line func(h, i, n int, dst []Run) []Run, h, i, n int, dst []Run) []Run {
	t := o.in.tokens(n)
	if i -= o.in.front; i < 0 || i >= t {
		return dst
	}
	at := len(dst)
	dst = line(h, i, t, dst)
	for k := range dst[at:] {
		dst[at+k].Lo += o.in.front
		dst[at+k].Hi += o.in.front
	}
	return dst
}

// External adds Count nodes before the tokens that read all and are read by all (ETC and BigBird-ETC's global tokens). What
// else a pattern says is of the tokens behind them. It cannot be causal.
// Source: Ainslie et al. 2020, arXiv 2004.08483.
type External struct {
	alike
	Count int
}

func (e External) String() string           { return fmt.Sprintf("external(%d)", e.Count) }
func (e External) space() space             { return space{front: e.Count} }
func (e External) Sees(_, i, j, n int) bool { return inside(i, j, n) && (i < e.Count || j < e.Count) }
func (e External) Row(_, i, n int, dst []Run) []Run {
	if i < e.Count {
		return appendRun(dst, 0, n, 1)
	}
	return appendRun(dst, 0, min(e.Count, n), 1)
}
func (e External) Col(h, j, n int, dst []Run) []Run { return e.Row(h, j, n, dst) }
func (e External) NNZ(_, n int) int64 {
	g := int64(min(e.Count, n))
	return 2*int64(n)*g - g*g
}

// atoms calls f for every atom of a pattern.
func atoms(p Pattern, f func(Pattern)) {
	rewrite(p, func(a Pattern) Pattern {
		f(a)
		return a
	})
}

// pictured is an atom of an image of so many positions.
type pictured interface{ size() int }

// ImageSize is the number of positions of the largest image that the pattern speaks of; 0 if it speaks of none.
func ImageSize(p Pattern) (positions int) {
	atoms(p, func(a Pattern) {
		if image, ok := a.(pictured); ok {
			positions = max(positions, image.size())
		}
	})
	return positions
}

// CheckLength says what of a pattern does not exist in a sequence of so many tokens: a global position past the end, or the tokens
// themselves past the end of an image. Such a pattern is defined, but hardly meant.
func CheckLength(p Pattern, tokens int) (err error) {
	atoms(p, func(a Pattern) {
		switch a := a.(type) {
		case Global:
			for _, i := range a.positions {
				if err == nil && (i >= tokens || i < -tokens) {
					err = fmt.Errorf("%s: position %d is past the end of %d; give %d to %d", a, i, tokens, -tokens, tokens-1)
				}
			}
		case pictured:
			if err == nil && a.size() < tokens {
				err = fmt.Errorf("%s has %d positions, the sequence %d; give a length of 1 to %d", a.(Pattern), a.size(), tokens, a.size())
			}
		}
	})
	return err
}

// Exhausted says of the first random atom that asks for more than there is in a sequence of so many tokens that it draws all there is;
// "" if there is none.
func Exhausted(p Pattern, tokens int) (note string) {
	atoms(p, func(a Pattern) {
		asked, there, what := 0, 0, "blocks"
		switch a := a.(type) {
		case Random:
			asked, there, what = a.Degree, tokens, "keys"
		case RandomBlocks:
			asked, there = a.Count, (tokens+a.Size-1)/a.Size
		case BigBird:
			others := 3 // the block itself and its neighbours
			if !a.Free && !a.past {
				others = 5 // the first and the last
			}
			asked, there = a.Count, max(0, a.blocks(tokens)-others)
		}
		if asked > there && note == "" {
			note = fmt.Sprintf("%s draws %d %s for a query; %d tokens have at most %d, which it takes", a, asked, what, tokens, there)
		}
	})
	return note
}
