package attention

import (
	"fmt"
	"hash/fnv"
	"math"

	"github.com/euryale-ml/euryale/layers"
)

// ETC is attention between a long input of n tokens and a global input of g nodes, in four pieces and two softmaxes:
//
//	long row i:    long keys within Radius (l2l) and global keys (l2g)
//	global row u:  global keys (g2g) and long keys (g2l)
//
// The score of a pair is s·(q·k + q·r[λ] + b[λ]); long and global rows have tables r and b of their own. Its label λ is, with k the
// clip and R = 2k+1: of l2l the distance j-i, min(j-i,k) or k+min(i-j,k); of l2g and g2l R+1 if the long token belongs to the sentence
// of the global node, else R; of g2g the distance in the global input, and R+2 across segments.
//
// Only pairs of one example read each other: several are packed into a row with ids 1, 2, …; id 0 is padding. With HardG2L a global
// node reads the tokens of its own sentence alone, with HardL2G a token the node of its own sentence.
//
// Cost: n·(2·Radius+1) + 2·n·g + g² pairs; n·g less with both hard. Masks and labels are laid out for each batch, O(n·g) at most.
// Source: Ainslie et al. 2020, arXiv 2004.08483, sections 3.1 to 3.3 and the official layers.
// Differs: what may not be read has no score (the official code adds -10000), and padding reads nothing.
type ETC struct {
	Radius, Clip     int
	HardG2L, HardL2G bool
	Labels           int // V, at least 2·Clip+4
}

// ETCInputs say what belongs together. Each is int32.
type ETCInputs struct {
	LongIDs, GlobalIDs *Node // [B,n], [B,g]: the example, from 1 on; 0 is padding
	Sentences          *Node // [B,n]: the global node that a token belongs to; negative: none
	Segments           *Node // [B,g]: distances between global nodes count inside a segment; nil: all are one
}

func (e ETCInputs) nodes() Nodes {
	in := Nodes{e.LongIDs, e.GlobalIDs, e.Sentences}
	if e.Segments != nil {
		in = append(in, e.Segments)
	}
	return in
}

// Projected are the queries of the rows of one kind, [B,·,H·D], and what they read: keys and values of the global nodes and, behind
// them, of the long tokens, [B,g+n,H·D], and the tables r [V,H·D] and b [V,H] of labels.
type Projected struct{ Q, K, V, LabelKeys, LabelBias *Node }

// LongRows is the attention of the long input, [B,n,H·D].
func (e ETC) LongRows(b *layers.Builder, p Projected, in ETCInputs, heads int) *Node {
	return e.rows(b, p, in, heads, false)
}

// GlobalRows is the attention of the global input, [B,g,H·D].
func (e ETC) GlobalRows(b *layers.Builder, p Projected, in ETCInputs, heads int) *Node {
	return e.rows(b, p, in, heads, true)
}

func (e ETC) rows(b *layers.Builder, p Projected, in ETCInputs, heads int, global bool) *Node {
	if b.Err() != nil {
		return nil
	}
	most := etcRows{etc: e, long: in.LongIDs.Shape()[1], globals: in.GlobalIDs.Shape()[1], global: global}
	scale := 1 / math.Sqrt(float64(p.Q.Shape()[2]/heads))
	o, _ := Attend(b, Config{Pattern: most, Heads: heads, Scale: scale, Cross: true, Labels: etcLabels{most},
		LabelKeys: p.LabelKeys, LabelBias: layers.Scale(b, p.LabelBias, scale), Structure: etcStructure{most}, StructureInputs: in.nodes()},
		p.Q, p.K, p.V)
	return o
}

// Rows is what the long or the global rows of one example read, and the labels of the pairs, from rows of ETCInputs; segments may be
// nil. Columns are the global nodes, then the long tokens.
func (e ETC) Rows(global bool, longIDs, globalIDs, sentences, segments []int32) (Pattern, Labels) {
	in := [][]int32{longIDs, globalIDs, sentences}
	if segments != nil {
		in = append(in, segments)
	}
	return etcStructure{etcRows{etc: e, long: len(longIDs), globals: len(globalIDs), global: global}}.Of(in)
}

// etcStructure lays the rows of an example out.
type etcStructure struct{ etcRows }

func (s etcStructure) Of(in [][]int32) (Pattern, Labels) {
	p := s.etcRows
	p.longIDs, p.globalIDs, p.sentences = in[0], in[1], in[2]
	if len(in) > 3 {
		p.segments = in[3]
	}
	h := fnv.New128a()
	for _, list := range in {
		for _, x := range list {
			_, _ = h.Write([]byte{byte(x), byte(x >> 8), byte(x >> 16), byte(x >> 24)})
		}
	}
	p.key = fmt.Sprintf("%x", h.Sum(nil))
	return p, etcLabels{p}
}

// etcRows are the rows of one kind: row i is long token i, or global node i; column j is global node j, or long token j-globals. Without
// ids it is what is read at most.
type etcRows struct {
	alike
	etc           ETC
	long, globals int
	global        bool

	key                                     string // of the ids
	longIDs, globalIDs, sentences, segments []int32
}

func (p etcRows) String() string {
	return fmt.Sprintf("etc(%+v,%d,%d,%v,%s)", p.etc, p.long, p.globals, p.global, p.key)
}

// is reports whether long token t and global node u may read each other as far as the example and hard sentences go.
func (p etcRows) meets(t, u int, hard bool) bool {
	if p.longIDs == nil {
		return true
	}
	return p.longIDs[t] > 0 && p.longIDs[t] == p.globalIDs[u] && (!hard || int(p.sentences[t]) == u)
}

func (p etcRows) Sees(_, i, j, _ int) bool {
	if i < 0 || j < 0 || j >= p.globals+p.long {
		return false
	}
	t := j - p.globals
	if p.global {
		switch {
		case i >= p.globals:
			return false
		case t >= 0:
			return p.meets(t, i, p.etc.HardG2L)
		}
		return p.globalIDs == nil || p.globalIDs[i] > 0 && p.globalIDs[i] == p.globalIDs[j]
	}
	switch {
	case i >= p.long:
		return false
	case t < 0:
		return p.meets(i, j, p.etc.HardL2G)
	case max(t-i, i-t) > p.etc.Radius:
		return false
	}
	return p.longIDs == nil || p.longIDs[i] > 0 && p.longIDs[i] == p.longIDs[t]
}

// spans are the ranges of columns in which a row may read.
func (p etcRows) spans(i int) [2]Run {
	if p.global {
		return [2]Run{{0, p.globals + p.long, 1}, {}}
	}
	return [2]Run{{0, p.globals, 1}, {p.globals + max(0, i-p.etc.Radius), p.globals + min(p.long, i+p.etc.Radius+1), 1}}
}

func (p etcRows) Row(h, i, n int, dst []Run) []Run {
	if i < 0 || p.global && i >= p.globals || !p.global && i >= p.long {
		return dst
	}
	for _, s := range p.spans(i) {
		for j := s.Lo; j < s.Hi; {
			from := j
			for j < s.Hi && p.Sees(h, i, j, n) {
				j++
			}
			dst = appendRun(dst, from, j, 1)
			j++
		}
	}
	return dst
}

func (p etcRows) Col(h, j, n int, dst []Run) []Run {
	for i := range n {
		if p.Sees(h, i, j, n) {
			dst = append(dst, Run{i, i + 1, 1})
		}
	}
	return dst
}

func (p etcRows) NNZ(h, n int) int64 { return countRows(p, h, n) }

// etcLabels are the labels of the pairs.
type etcLabels struct{ of etcRows }

func (l etcLabels) String() string { return l.of.String() }
func (l etcLabels) Count() int     { return l.of.etc.Labels }

func (l etcLabels) Label(_, i, j, _ int) int {
	p, t := l.of, j-l.of.globals
	across := 2*p.etc.Clip + 1
	member := func(token, node int) int {
		if p.sentences != nil && int(p.sentences[token]) == node {
			return across + 1
		}
		return across
	}
	switch {
	case p.global && t >= 0:
		return member(t, i)
	case p.global && p.segments != nil && p.segments[i] != p.segments[j]:
		return across + 2
	case p.global:
		return distanceLabel(j-i, p.etc.Clip)
	case t < 0:
		return member(i, j)
	}
	return distanceLabel(t-i, p.etc.Clip)
}

// distanceLabel is 0 to 2·clip: 0 for the token itself, then up to clip after it, then up to clip before it.
func distanceLabel(distance, clip int) int {
	if distance >= 0 {
		return min(distance, clip)
	}
	return clip + min(-distance, clip)
}
