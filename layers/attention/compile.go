package attention

import (
	"fmt"
	"slices"
	"sync"

	"github.com/euryale-ml/euryale/internal/kernels"
)

// Compile lays a pattern out in tiles for nq queries and nk keys: one layout if all heads are alike, else one for each head.
// The pattern is that of max(nq, nk) positions, cut to nq rows and nk columns. Layouts are kept, so that asking again is
// cheap, and must not be changed. Time O(nq · runs + tiles): a band of 65,536 positions takes milliseconds.
// Errors: the pattern describes another number of heads.
func Compile(p Pattern, heads, nq, nk int) ([]*kernels.Layout, error) {
	if err := CheckHeads(p, heads); err != nil {
		return nil, err
	}
	return compiled.get(p, p.String(), nq, nk, false)
}

// compiled keeps the layouts in use.
var compiled = layoutCache{entries: map[layoutKey]*layoutEntry{}}

// maxLayouts bounds how many lists of layouts are kept: a model has few patterns and lengths, but with a Structure or a pattern that
// counts from the end each example of a batch has its own.
const maxLayouts = 256

type layoutKey struct {
	pattern  string
	nq, nk   int
	arranged bool
}

type layoutEntry struct {
	layouts  []*kernels.Layout
	labelled map[string][]*kernels.Labels // by String of the labels
	lists    map[string][]*kernels.Edges  // likewise; "": without
	costs    costs                        // of the layouts
	used     uint64
}

type layoutCache struct {
	mu      sync.Mutex
	entries map[layoutKey]*layoutEntry
	clock   uint64
}

// get returns the layouts of a pattern, text being its String, in their arrangement if arranged.
func (c *layoutCache) get(p Pattern, text string, nq, nk int, arranged bool) ([]*kernels.Layout, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, err := c.entry(p, text, nq, nk, arranged)
	if err != nil {
		return nil, err
	}
	return e.layouts, nil
}

// labels returns the labels of the layouts that get returns, name being their String.
func (c *layoutCache) labels(p Pattern, text string, nq, nk int, arranged bool, labels Labels, name string) ([]*kernels.Labels, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, err := c.entry(p, text, nq, nk, arranged)
	if err != nil {
		return nil, err
	}
	if l := e.labelled[name]; l != nil {
		return l, nil
	}
	l, err := compileLabels(labels, e.layouts, func(h int) (a arrangement) {
		if arranged {
			a, _ = arrange(p, min(h, p.Heads()-1), nq)
		}
		return a
	})
	if err != nil {
		return nil, err
	}
	if e.labelled == nil {
		e.labelled = map[string][]*kernels.Labels{}
	}
	e.labelled[name] = l
	return l, nil
}

// route chooses how a pattern is computed in the order of positions. Layouts of which lists come cheaper are not kept.
func (c *layoutCache) route(p Pattern, text string, nq, nk int, want route) (route, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.find(layoutKey{text, nq, nk, false})
	if !e.costs.known && want == cheaper && mayList(p) {
		if c := leastCosts(p, nq, nk); c.choose(want) == byLists { // even at the least that tiles can cost
			e.costs = c
		}
	}
	if !e.costs.known {
		if _, err := c.entry(p, text, nq, nk, false); err != nil {
			return byTiles, err
		}
	}
	r := e.costs.choose(want)
	if r == byLists {
		e.layouts = nil
	}
	return r, nil
}

// edges returns the lists of a pattern with labels (nil: without), name being their String.
func (c *layoutCache) edges(p Pattern, text string, nq, nk int, labels Labels, name string) ([]*kernels.Edges, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.find(layoutKey{text, nq, nk, false})
	if l := e.lists[name]; l != nil {
		return l, nil
	}
	l, err := compileLists(p, nq, nk, labels)
	if err != nil {
		return nil, err
	}
	if e.lists == nil {
		e.lists = map[string][]*kernels.Edges{}
	}
	e.lists[name] = l
	return l, nil
}

// find returns the entry of a key, a new and empty one if there is none. It is called with mu held.
func (c *layoutCache) find(key layoutKey) *layoutEntry {
	c.clock++
	if e := c.entries[key]; e != nil {
		e.used = c.clock
		return e
	}
	if len(c.entries) >= maxLayouts {
		var oldest layoutKey
		least := c.clock
		for k, o := range c.entries {
			if o.used < least {
				oldest, least = k, o.used
			}
		}
		delete(c.entries, oldest)
	}
	e := &layoutEntry{used: c.clock}
	c.entries[key] = e
	return e
}

// entry returns an entry with its layouts. It is called with mu held.
func (c *layoutCache) entry(p Pattern, text string, nq, nk int, arranged bool) (*layoutEntry, error) {
	e := c.find(layoutKey{text, nq, nk, arranged})
	if e.layouts != nil {
		return e, nil
	}
	var layouts []*kernels.Layout
	for h := range p.Heads() {
		var order arrangement
		if arranged {
			order, _ = arrange(p, h, nq)
		}
		l, err := compileHead(p, h, nq, nk, order)
		if err != nil {
			return nil, fmt.Errorf("pattern %s: %w", text, err)
		}
		layouts = append(layouts, l)
	}
	e.layouts, e.costs = layouts, costsOf(p, layouts)
	return e, nil
}

// compileHead builds the layout of one head. In an arrangement, row r of the layout is query order.q[r] and column c key
// order.k[c]; every run of the pattern must be contiguous in it.
func compileHead(p Pattern, h, nq, nk int, order arrangement) (*kernels.Layout, error) {
	n := max(nq, nk)
	var place []int // of each key
	if order.k != nil {
		place = make([]int, n)
		for c, j := range order.k {
			if j >= 0 {
				place[j] = c
			}
		}
	}
	b := kernels.NewLayoutBuilder(nq, nk)
	s := newStrip(nk)
	var runs []Run
	for q := 0; q < nq; q += kernels.Tile {
		rows := min(kernels.Tile, nq-q)
		for r := range rows {
			i := q + r
			if order.q != nil {
				i = int(order.q[i])
			}
			runs = clip(p.Row(h, i, n, runs[:0]), 0, 0, nk)
			for k, run := range runs {
				if place != nil {
					lo := place[run.Lo]
					runs[k] = Run{lo, lo + run.Len(), 1}
				}
			}
			runs = tidy(runs)
			for _, run := range runs {
				s.add(r, run)
			}
		}
		s.emit(rows, b)
		b.EndRow()
	}
	return b.Finish()
}

// strip gathers what 64 queries read, tile by tile.
type strip struct {
	nk     int
	delta  []int32                // change, at a key tile, of how many queries read tiles whole
	slot   []int32                // mask of a key tile, -1 if there is none
	masks  [][kernels.Tile]uint64 // by slot
	whole  []wholeRun
	mixed  []int // key tiles that need a mask
	lo, hi int   // key tiles touched
}

// wholeRun says that a query reads key tiles lo … hi-1 whole.
type wholeRun struct{ row, lo, hi int }

func newStrip(nk int) *strip {
	tiles := (nk + kernels.Tile - 1) / kernels.Tile
	s := &strip{nk: nk, delta: make([]int32, tiles+1), slot: make([]int32, tiles), lo: tiles}
	for i := range s.slot {
		s.slot[i] = -1
	}
	return s
}

// mask returns the mask of a key tile, cleared when it is new.
func (s *strip) mask(kt int) *[kernels.Tile]uint64 {
	if s.slot[kt] < 0 {
		k := len(s.masks)
		s.slot[kt] = int32(k)
		if k < cap(s.masks) {
			s.masks = s.masks[:k+1]
			s.masks[k] = [kernels.Tile]uint64{}
		} else {
			s.masks = append(s.masks, [kernels.Tile]uint64{})
		}
	}
	return &s.masks[s.slot[kt]]
}

// add notes that query row of the strip reads a run of keys.
func (s *strip) add(row int, run Run) {
	first, last := run.Lo/kernels.Tile, (run.Hi-1)/kernels.Tile
	s.lo, s.hi = min(s.lo, first), max(s.hi, last+1)
	if run.Step > 1 {
		for j := run.Lo; j < run.Hi; j += run.Step {
			s.mask(j / kernels.Tile)[row] |= 1 << (j % kernels.Tile)
		}
		return
	}
	whole := wholeRun{row, (run.Lo + kernels.Tile - 1) / kernels.Tile, run.Hi / kernels.Tile}
	if run.Hi == s.nk {
		whole.hi = last + 1
	}
	if whole.lo < whole.hi {
		s.delta[whole.lo]++
		s.delta[whole.hi]--
		s.whole = append(s.whole, whole)
	}
	for _, kt := range [2]int{first, last} {
		if kt >= whole.lo && kt < whole.hi {
			continue
		}
		a, z := max(run.Lo-kt*kernels.Tile, 0), min(run.Hi-kt*kernels.Tile, kernels.Tile)
		s.mask(kt)[row] |= ^uint64(0) >> (kernels.Tile - (z - a)) << a
	}
}

// emit lists the tiles and starts the strip again.
func (s *strip) emit(rows int, b *kernels.LayoutBuilder) {
	readers := int32(0)
	for kt := s.lo; kt < s.hi; kt++ {
		readers += s.delta[kt]
		if readers < int32(rows) && (readers > 0 || s.slot[kt] >= 0) {
			s.mixed = append(s.mixed, kt)
			s.mask(kt)
		}
	}
	for _, w := range s.whole {
		k, _ := slices.BinarySearch(s.mixed, w.lo)
		for ; k < len(s.mixed) && s.mixed[k] < w.hi; k++ {
			s.mask(s.mixed[k])[w.row] = ^uint64(0)
		}
	}
	readers = 0
	for kt := s.lo; kt < s.hi; kt++ {
		readers += s.delta[kt]
		switch {
		case readers == int32(rows):
			b.Full(kt)
		case s.slot[kt] >= 0:
			b.Partial(kt, s.mask(kt))
		}
	}
	for kt := s.lo; kt < s.hi; kt++ {
		s.delta[kt], s.slot[kt] = 0, -1
	}
	if s.hi > 0 {
		s.delta[s.hi] = 0
	}
	s.masks, s.whole, s.mixed = s.masks[:0], s.whole[:0], s.mixed[:0]
	s.lo, s.hi = len(s.slot), 0
}
