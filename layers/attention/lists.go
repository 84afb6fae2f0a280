package attention

import (
	"fmt"

	"github.com/euryale-ml/euryale/internal/kernels"
)

// route is how a layer computes its pairs.
type route int

const (
	cheaper route = iota // what costs less, estimated
	byTiles              // 64x64 pairs at a time
	byLists              // pair by pair: trees, random tokens, learned edges
)

// maxListed bounds the pairs of a head that are computed by lists: the backward pass keeps two numbers for each, of one head at least,
// which is 512 MiB in single precision.
const maxListed = 1 << 26

// costs are what the layouts of all heads cost by tiles and by lists.
type costs struct {
	tiles, lists float64
	pairs        int64 // most of a head
	scattered    bool
	known        bool
}

func costsOf(p Pattern, layouts []*kernels.Layout) (c costs) {
	for _, l := range layouts {
		t, e := l.Costs()
		c = costs{tiles: c.tiles + t, lists: c.lists + e, pairs: max(c.pairs, l.Pairs())}
	}
	c.scattered, c.known = mayList(p), true
	return c
}

// scattered is an atom whose pairs make no blocks. Patterns without one are computed by tiles, so that their results do not
// depend on the length.
type scattered interface{ scattered() }

func (Random) scattered()    {}
func (Bernoulli) scattered() {}
func (BPTree) scattered()    {}

// mayList says whether a pattern is ever cheaper by lists.
func mayList(p Pattern) (yes bool) {
	atoms(p, func(a Pattern) {
		_, is := a.(scattered)
		w, parted := a.(without)
		yes = yes || is || parted && mayList(w.of)
	})
	return yes
}

// lower is the cost of the cheapest way.
func (c costs) lower() float64 {
	if c.choose(cheaper) == byLists {
		return c.lists
	}
	return c.tiles
}

// leastCosts is costsOf from below, without layouts: what tiles cost if each held no more than its pairs.
func leastCosts(p Pattern, nq, nk int) (c costs) {
	c.scattered, c.known = mayList(p), true
	n := max(nq, nk)
	tiles := func(n int) int { return (n + kernels.Tile - 1) / kernels.Tile }
	touched := make([]int, tiles(nk)) // by the query tile of this number, from 1 on
	var runs []Run
	for h := range p.Heads() {
		clear(touched)
		var pairs int64
		listed := 0
		for i := range nq {
			runs = disjoint(clip(p.Row(h, i, n, runs[:0]), 0, 0, nk))
			for _, r := range runs {
				pairs += int64(r.Len())
				for j := r.Lo; j < r.Hi; j += (kernels.Tile - j%kernels.Tile + r.Step - 1) / r.Step * r.Step { // on to the next tile
					if t := &touched[j/kernels.Tile]; *t != i/kernels.Tile+1 {
						*t = i/kernels.Tile + 1
						listed++
					}
				}
			}
		}
		t, l := kernels.CostsOf(tiles(nq), listed, float64(pairs)/(kernels.Tile*kernels.Tile), nq, pairs)
		c.tiles, c.lists, c.pairs = c.tiles+t, c.lists+l, max(c.pairs, pairs)
	}
	return c
}

// choose says which route it is, if a certain one is not wanted.
func (c costs) choose(want route) route {
	if want == byTiles || c.pairs > maxListed || want == cheaper && (!c.scattered || c.tiles <= c.lists) {
		return byTiles
	}
	return byLists
}

// compileLists lists a pattern for nq queries and nk keys, one entry if pattern and labels (nil: none) are alike for all heads.
func compileLists(p Pattern, nq, nk int, labels Labels) ([]*kernels.Edges, error) {
	plain := make([]*kernels.Edges, p.Heads())
	n := max(nq, nk)
	var runs []Run
	for h := range plain {
		var err error
		plain[h], err = kernels.NewEdges(nq, nk, func(i int, dst []int32) []int32 {
			runs = disjoint(clip(p.Row(h, i, n, runs[:0]), 0, 0, nk))
			if len(runs) == 1 {
				for j := runs[0].Lo; j < runs[0].Hi; j += runs[0].Step {
					dst = append(dst, int32(j))
				}
				return dst
			}
			for _, j := range positions(runs) {
				dst = append(dst, int32(j))
			}
			return dst
		})
		if err != nil {
			return nil, fmt.Errorf("pattern %s: %w", p, err)
		}
	}
	if labels == nil {
		return plain, nil
	}
	out := make([]*kernels.Edges, max(len(plain), labelHeads(labels)))
	for h := range out {
		head := min(h, labelHeads(labels)-1)
		var err error
		out[h], err = plain[min(h, len(plain)-1)].Labelled(labels.Count(), func(i, j int) int { return labels.Label(head, i, j, n) })
		if err != nil {
			return nil, fmt.Errorf("labels %s: %w", labels, err)
		}
	}
	return out, nil
}
