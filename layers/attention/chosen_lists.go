package attention

import (
	"fmt"
	"slices"

	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/kernels"
)

// keyLists are keys by query, int32 [B,G,TQ,K].
type keyLists struct{}

func (keyLists) name() string { return "attend_chosen" }

func (keyLists) check(o *picked, in []engine.Type) (int, error) {
	s := in[0].Shape
	if in[0].Dtype != tensor.Int32 || len(s) != 4 || s[0] != o.b || s[1] != 1 && s[1] != o.heads || s[2] != o.tq {
		return 0, fmt.Errorf("keys are %v, want int32 [%d,G,%d,K] with G = 1 or %d", in[0], o.b, o.tq, o.heads)
	}
	return 0, nil
}

func (keyLists) flops(o *picked, in []engine.Type, perPair int) float64 {
	return 2 * float64(in[0].Size()/in[0].Shape[1]*o.heads) * float64(perPair)
}

func (keyLists) begin(o *picked, in []engine.Value, lensQ, lensK []int32, backward bool) (rounds, error) {
	s := in[0].Shape()
	keys, g, k := engine.Ints(in[0]), s[1], s[3]
	return beginLists(o, g, lensQ, lensK, backward, func(l *pairLists, bg, i int) []int32 {
		return keys[(bg*o.tq+i)*k:][:k]
	}, nil)
}

// edgeLists are pairs, int32 [B,G,M,2].
type edgeLists struct{ links Links }

func (edgeLists) name() string { return "attend_edges" }

func (edgeLists) check(o *picked, in []engine.Type) (int, error) {
	s := in[0].Shape
	if in[0].Dtype != tensor.Int32 || len(s) != 4 || s[0] != o.b || s[1] != 1 && s[1] != o.heads || s[3] != 2 {
		return 0, fmt.Errorf("edges are %v, want int32 [%d,G,M,2] with G = 1 or %d", in[0], o.b, o.heads)
	}
	return 0, nil
}

func (e edgeLists) flops(o *picked, in []engine.Type, perPair int) float64 {
	pairs := float64(in[0].Size() / 2 / in[0].Shape[1] * o.heads)
	if e.links.Symmetric {
		pairs *= 2
	}
	if e.links.Self {
		pairs += float64(o.b * o.heads * o.tq)
	}
	return 2 * pairs * float64(perPair)
}

// each calls f for every pair that the links make of one.
func (e Links) each(i, j int32, f func(i, j int32)) {
	if i < 0 || j < 0 {
		return
	}
	if e.Causal && i < j {
		i, j = j, i
	}
	f(i, j)
	if e.Symmetric && !e.Causal {
		f(j, i)
	}
}

func (e edgeLists) begin(o *picked, in []engine.Value, lensQ, lensK []int32, backward bool) (rounds, error) {
	s := in[0].Shape()
	edges, g, m := engine.Ints(in[0]), s[1], s[2]
	for x, i := range edges {
		if limit := []int{o.tq, o.tk}[x%2]; int(i) >= limit {
			return nil, fmt.Errorf("edge %d of example %d speaks of token %d of %d", x/2%m, x/(2*m*g), i, limit)
		}
	}
	return beginLists(o, g, lensQ, lensK, backward, func(l *pairLists, _, i int) []int32 {
		return l.byQuery[l.ptr[i]:l.ptr[i+1]]
	}, func(l *pairLists, bg int) { l.collect(e.links, edges[bg*m*2:][:m*2], o.tq) })
}

// pairLists are lists made for a run, of every example and group of heads.
type pairLists struct {
	tq, tk int
	lists  []kernels.Edges
	heads  []*kernels.Edges // of every example and head

	byQuery, ptr, next []int32 // keys of pairs by query
}

var sparePairs kernels.FreeList[pairLists]

// beginLists makes the lists. row returns the keys of a query in any order and number, negative ones being none, once group has
// been called for its example and heads.
func beginLists(o *picked, g int, lensQ, lensK []int32, backward bool, row func(l *pairLists, bg, i int) []int32, group func(l *pairLists, bg int)) (rounds, error) {
	l := sparePairs.Take(nil)
	l.tq, l.tk = o.tq, o.tk
	for len(l.lists) < o.b*g {
		l.lists = append(l.lists, kernels.Edges{})
	}
	l.heads = l.heads[:0]
	for bg := range o.b * g {
		b := bg / g
		nq, nk := int32(o.tq), int32(o.tk)
		if lensQ != nil {
			nq = lensQ[b]
		}
		if lensK != nil {
			nk = lensK[b]
		}
		if group != nil {
			group(l, bg)
		}
		err := l.lists[bg].Reset(o.tq, o.tk, func(i int, dst []int32) []int32 {
			if int32(i) >= nq {
				return dst
			}
			return appendKeys(dst, row(l, bg, i), nk, int32(o.tk))
		})
		if err != nil {
			l.release()
			return nil, fmt.Errorf("example %d: %w", b, err)
		}
		if backward {
			l.lists[bg].ByKey()
		}
	}
	for b := range o.b {
		for h := range o.heads {
			l.heads = append(l.heads, &l.lists[b*g+h%g])
		}
	}
	return l, nil
}

// appendKeys appends the keys of a list from 0 to n-1, rising and each once. Keys from limit on are kept: they are an error.
func appendKeys(dst, list []int32, n, limit int32) []int32 {
	at, sorted, last := len(dst), true, int32(-1)
	for _, j := range list {
		if j < 0 || j >= n && j < limit {
			continue
		}
		sorted = sorted && j > last
		last = j
		dst = append(dst, j)
	}
	if sorted {
		return dst
	}
	slices.Sort(dst[at:])
	return dst[:at+len(slices.Compact(dst[at:]))]
}

// collect lists pairs by query.
func (l *pairLists) collect(links Links, edges []int32, tq int) {
	l.ptr = append(l.ptr[:0], make([]int32, tq+1)...)
	count := func(i, _ int32) { l.ptr[i+1]++ }
	for x := 0; x < len(edges); x += 2 {
		links.each(edges[x], edges[x+1], count)
	}
	for i := range tq {
		if links.Self {
			l.ptr[i+1]++
		}
		l.ptr[i+1] += l.ptr[i]
	}
	l.next = append(l.next[:0], l.ptr...)
	l.byQuery = slices.Grow(l.byQuery[:0], int(l.ptr[tq]))[:l.ptr[tq]]
	put := func(i, j int32) {
		l.byQuery[l.next[i]] = j
		l.next[i]++
	}
	for x := 0; x < len(edges); x += 2 {
		links.each(edges[x], edges[x+1], put)
	}
	if links.Self {
		for i := range int32(tq) {
			put(i, i)
		}
	}
}

func (l *pairLists) count() int { return 1 }

func (l *pairLists) round(_ int, c *kernelCall) error {
	*c = kernelCall{edges: l.heads, tq: l.tq, tk: l.tk}
	return nil
}

func (l *pairLists) token(_, _, row int) int { return row }

func (l *pairLists) release() { sparePairs.Give(l) }
