package attention

import (
	"fmt"
	"math/bits"
	"slices"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/kernels"
	"github.com/euryale-ml/euryale/layers"
)

// Reader is an operation by which tokens read others, and which can tell the pairs when it has run: `pattern --model` counts and draws
// them. Attend, AttendQKV, AttendChosen, AttendEdges and AttendSorted make Readers, and so do Sinkhorn and SortCut, see HeavyBlocks. A system
// that reads in another way makes its own operation one by these methods; nothing else has to be registered. One whose Attend is over other
// rows than those of the stream is left out unless it is as long.
type Reader interface {
	engine.Op
	// Sizes are the numbers of heads, of queries and of keys.
	Sizes() (heads, queries, keys int)
	// Needs are the places of the inputs that Pairs wants to see.
	Needs() []int
	// Pairs calls add for every pair of example b, perhaps several times. in are the values of the inputs of Needs, at their places.
	Pairs(in []engine.Value, b int, add func(h, i, j int)) error
}

// Reading is the attention of one layer, or of a group of its heads, in a graph.
type Reading struct {
	Scope                string // of the layer
	Heads, Queries, Keys int
	Rule                 string // what counts as read, where a pair is more or less so; empty: there is nothing to decide
	nodes                Nodes  // operations: several where a layer takes its pairs apart
}

// Readings are those of a graph, in the order of its layers. Call it before gradients are added.
func Readings(b *layers.Builder) (all []Reading) {
	for _, n := range b.Graph().AllNodes() {
		r, ok := engine.OpOf(n).(Reader)
		if a, is := r.(*attend); !ok || is && a.made {
			continue
		}
		heads, queries, keys := r.Sizes()
		next := Reading{Scope: b.ScopeOf(n), Heads: heads, Queries: queries, Keys: keys, nodes: Nodes{n}}
		if decides, ok := r.(interface{ Rule() string }); ok {
			next.Rule = decides.Rule()
		}
		at := slices.IndexFunc(all, func(o Reading) bool {
			return o.Scope == next.Scope && o.Heads == heads && o.Queries == queries && o.Keys == keys
		})
		if at < 0 {
			all = append(all, next)
		} else {
			all[at].nodes = append(all[at].nodes, n)
			if next.Rule != "" {
				all[at].Rule = next.Rule
			}
		}
	}
	return all
}

// Inputs are the nodes that Of wants values of. A program must have them among its results.
func (r Reading) Inputs() (in Nodes) {
	for _, n := range r.nodes {
		for _, at := range engine.OpOf(n).(Reader).Needs() {
			in = append(in, inputsOf(n)[at])
		}
	}
	return in
}

// inputsOf are the inputs of a node, in order.
func inputsOf(n *Node) Nodes { return engine.Children(n) }

// Of is what was read in example b, as a pattern of as many nodes as there are queries. value gives those of Inputs.
// Errors: queries and keys are not of the same sequence.
func (r Reading) Of(value func(*Node) engine.Value, b int) (Pattern, error) {
	if r.Queries != r.Keys {
		return nil, fmt.Errorf("%s: %d queries read %d keys of another sequence", r.Scope, r.Queries, r.Keys)
	}
	rows := make([][][]int, r.Heads)
	for h := range rows {
		rows[h] = make([][]int, r.Queries)
	}
	for _, n := range r.nodes {
		op, nodes := engine.OpOf(n).(Reader), inputsOf(n)
		in := make([]engine.Value, len(nodes))
		for _, at := range op.Needs() {
			in[at] = value(nodes[at])
		}
		if err := op.Pairs(in, b, func(h, i, j int) { rows[h][i] = append(rows[h][i], j) }); err != nil {
			return nil, fmt.Errorf("%s: %w", r.Scope, err)
		}
	}
	p := made{name: r.Scope}
	for h := range rows {
		p.heads = append(p.heads, newPlan(r.Queries, func(i int) []int {
			slices.Sort(rows[h][i])
			return slices.Compact(rows[h][i])
		}))
	}
	return p, nil
}

// made is a pattern of pairs that are listed, of one length.
type made struct {
	name  string
	heads []*plan
}

func (m made) String() string { return m.name }
func (m made) Heads() int     { return len(m.heads) }
func (m made) FromEnd() bool  { return false }
func (m made) Nodes() int     { return len(m.heads[0].rowPtr) - 1 }
func (m made) Sees(h, i, j, n int) bool {
	return inside(i, j, n) && m.heads[h].has(i, j)
}
func (m made) NNZ(h, _ int) int64 { return int64(len(m.heads[h].rows)) }
func (m made) Row(h, i, _ int, dst []Run) []Run {
	return asRuns(m.heads[h].row(i), dst)
}
func (m made) Col(h, j, _ int, dst []Run) []Run {
	return asRuns(m.heads[h].col(j), dst)
}

// asRuns appends rising positions.
func asRuns(list []int32, dst []Run) []Run {
	for k := 0; k < len(list); {
		from := k
		for k++; k < len(list) && list[k] == list[k-1]+1; {
			k++
		}
		dst = appendRun(dst, int(list[from]), int(list[k-1])+1, 1)
	}
	return dst
}

// Together is the heads of all patterns in one, for a picture.
func Together(parts ...Pattern) Pattern {
	var all perHead
	for _, p := range parts {
		for h := range p.Heads() {
			all = append(all, headOf(p, h))
		}
	}
	return all
}

var _, _ Reader = (*picked)(nil), (*attend)(nil)

// Sizes, Needs and Pairs make chosen keys a Reader.
func (o *picked) Sizes() (heads, queries, keys int) { return o.heads, o.tq, o.tk }

// Needs are the choice and the lengths.
func (o *picked) Needs() (at []int) {
	for x := range o.choice {
		at = append(at, 3+x)
	}
	return append(at, places(o.lensQ, o.lensK)...)
}

// places are those that there are, each once.
func places(all ...int) (at []int) {
	for _, x := range all {
		if x >= 0 && !slices.Contains(at, x) {
			at = append(at, x)
		}
	}
	return at
}

// Pairs are those of all rounds.
func (o *picked) Pairs(in []engine.Value, b int, add func(h, i, j int)) error {
	lensQ, err := lengths(o.lensQ, o.tq, in)
	if err != nil {
		return err
	}
	lensK, err := lengths(o.lensK, o.tk, in)
	if err != nil {
		return err
	}
	rs, err := o.of.begin(o, in[3:3+o.choice], lensQ, lensK, false)
	if err != nil {
		return err
	}
	defer rs.release()
	var c kernelCall
	for r := range rs.count() {
		if err := rs.round(r, &c); err != nil {
			return err
		}
		for h := range o.heads {
			to := func(i, j int) { add(h, i, j) }
			if c.edges != nil {
				pairsOfEdges(c.edges[b*o.heads+h], end(lensQ, b, o.tq), end(lensK, b, o.tk), to)
				continue
			}
			pairsOf(c.layouts[b*o.heads+h], side(c.indexQ, c.tq, o.b, o.heads, b, h, end(lensQ, b, o.tq)), side(c.indexK, c.tk, o.b, o.heads, b, h, end(lensK, b, o.tk)), to)
		}
	}
	return nil
}

// end is the length of example b.
func end(lens []int32, b, n int) int {
	if lens == nil {
		return n
	}
	return int(lens[b])
}

// side says which token a row of a layout stands for; negative: none.
func side(index []int32, rows, batch, heads, b, h, n int) func(row int) int {
	if len(index) != rows && index != nil {
		if len(index) == batch*heads*rows {
			b = b*heads + h
		}
		index = index[b*rows:]
	}
	return func(row int) int {
		if index != nil {
			row = int(index[row])
		}
		if row >= n {
			return -1
		}
		return row
	}
}

// pairsOf calls add for the pairs of a layout.
func pairsOf(l *kernels.Layout, query, key func(row int) int, add func(i, j int)) {
	const tile = kernels.Tile
	for t := range len(l.Ptr) - 1 {
		for e := l.Ptr[t]; e < l.Ptr[t+1]; e++ {
			for c := range min(tile, l.NK-int(l.Col[e])*tile) {
				mask := ^uint64(0)
				if id := l.Mask[e]; id >= 0 {
					mask = l.Masks[id][c]
				}
				j := key(int(l.Col[e])*tile + c)
				for ; mask != 0 && j >= 0; mask &= mask - 1 {
					row := t*tile + bits.TrailingZeros64(mask)
					if row >= l.NQ {
						break
					}
					if i := query(row); i >= 0 {
						add(i, j)
					}
				}
			}
		}
	}
}

// pairsOfEdges calls add for the pairs of lists.
func pairsOfEdges(e *kernels.Edges, nq, nk int, add func(i, j int)) {
	var keys []int32
	for i := range min(nq, e.NQ) {
		keys = e.Keys(i, keys[:0])
		for _, j := range keys {
			if int(j) < nk {
				add(i, int(j))
			}
		}
	}
}

// Sizes are those of the stream.
func (o *attend) Sizes() (heads, queries, keys int) { return o.heads, o.tq, o.tk }

// Needs are lengths, indices, and what a structure depends on.
func (o *attend) Needs() []int {
	return places(append([]int{o.lensQ, o.lensK, o.indexQ, o.indexK}, o.structureAt...)...)
}

// Pairs are those of the pattern, of the length that the example has.
func (o *attend) Pairs(in []engine.Value, b int, add func(h, i, j int)) error {
	lensQ, err := lengths(o.lensQ, o.tq, in)
	if err != nil {
		return err
	}
	lensK, err := lengths(o.lensK, o.tk, in)
	if err != nil {
		return err
	}
	p, n := o.pattern, max(o.rq, o.rk)
	if o.structure != nil {
		p, _ = o.structure.Of(o.structureRows(b, in))
	} else if o.byExample() {
		n = max(end(lensQ, b, o.tq), end(lensK, b, o.tk))
	}
	index := func(at int) []int32 {
		if at < 0 {
			return nil
		}
		return engine.Ints(in[at])
	}
	var runs []Run
	for h := range o.heads {
		query, key := side(index(o.indexQ), o.rq, o.b, o.heads, b, h, end(lensQ, b, o.tq)), side(index(o.indexK), o.rk, o.b, o.heads, b, h, end(lensK, b, o.tk))
		for row := range min(o.rq, n) {
			i := query(row)
			if i < 0 {
				continue
			}
			runs = p.Row(h%p.Heads(), row, n, runs[:0])
			for _, r := range runs {
				for x := r.Lo; x < min(r.Hi, o.rk); x += r.Step {
					if j := key(x); j >= 0 {
						add(h, i, j)
					}
				}
			}
		}
	}
	return nil
}
