package attention

import (
	"fmt"
	"math"
	"math/bits"

	"github.com/euryale-ml/euryale/internal/splitmix"
)

// SACRules say which nodes a predictor of edges may choose, step by step; they decide nothing by content.
//
//	pairs    2·round(α n) steps: a source, then its destination, and so on
//	perNode  α steps for each source 0, 1, …, n-1: a destination each
//
// Source: Li et al. 2020, SAC (NeurIPS), sections 3 and 4. Ours: NoRepeat, the order of perNode, Causal, Local, all numbers.
type SACRules struct {
	PerNode  bool
	Alpha    float64 // edges a node; of PerNode a whole number
	NoRepeat bool    // no pair twice, in either order; sources that have every node already are left out
	Causal   bool    // of PerNode: destinations stand before their source, so what is chosen for i depends on nothing after it
	// Local, if not 0, is how many nodes are looked at in a step: half of them around the reference, the others drawn, the same in every
	// step with that reference. It makes the predictor linear in n.
	Local int
	// Graph measures distances in hops on the graph of the example, Distances at most; else in positions. Blind: they have no say.
	Graph, Blind bool
	Distances    int // D, the largest bin but the one of what cannot be reached
}

// Steps is the most steps that n nodes take.
func (r SACRules) Steps(n int) int {
	switch {
	case n < 2:
		return 0
	case r.PerNode:
		return int(r.Alpha) * n
	}
	return 2 * int(math.Round(r.Alpha*float64(n)))
}

// bin of a distance: 0, 1, 2, 3-4, 5-8, 9-16 and so on of positions.
func (r SACRules) bin(distance int) int {
	if distance < 2 {
		return min(distance, r.Distances)
	}
	return min(1+bits.Len(uint(distance-1)), r.Distances)
}

// hops is the graph of an example: the neighbours of node i are to[at[i]:at[i+1]].
type hops struct {
	at, to []int32
	queue  []int32
}

// set takes edges [M,2], from and to; negative ones are none.
func (g *hops) set(edges []int32, n int) error {
	g.at = append(g.at[:0], make([]int32, n+2)...)
	for e := 0; e < len(edges); e += 2 {
		a, z := edges[e], edges[e+1]
		if a < 0 || z < 0 {
			continue
		}
		if int(a) >= n || int(z) >= n {
			return fmt.Errorf("edge %d goes from %d to %d, there are %d nodes", e/2, a, z, n)
		}
		g.at[a+2]++
	}
	for i := range n {
		g.at[i+2] += g.at[i+1]
	}
	g.to = append(g.to[:0], make([]int32, g.at[n+1])...)
	for e := 0; e < len(edges); e += 2 {
		if a, z := edges[e], edges[e+1]; a >= 0 && z >= 0 {
			g.to[g.at[a+1]] = z
			g.at[a+1]++
		}
	}
	return nil
}

// bins writes into dst the bins of the distances from a node: hops up to most, most+1 where there is no way. Breadth first.
func (g *hops) bins(from, most int, dst []int32) {
	for i := range dst {
		dst[i] = int32(most + 1)
	}
	dst[from] = 0
	g.queue = append(g.queue[:0], int32(from))
	for k := 0; k < len(g.queue); k++ {
		i := g.queue[k]
		for _, j := range g.to[g.at[i]:g.at[i+1]] {
			if int(dst[j]) > most {
				dst[j] = min(dst[i]+1, int32(most))
				g.queue = append(g.queue, j)
			}
		}
	}
}

// sacWalk goes through the steps of one rollout.
type sacWalk struct {
	SACRules
	n    int
	key  uint64 // of Local
	t    int    // step
	over bool   // no source is left

	prev   int // last action, -1: none yet
	source int // of a destination step, -1: a source is chosen
	ref    int // what distances are measured from, -1: nothing

	allowed []int32 // nodes that may be chosen, rising
	bins    []int32 // of the distances from ref to them; empty without ref

	// With NoRepeat: partners of each node as lists.
	head, next, partner []int32
	count               []int32
	used                []bool

	graph *hops
	far   []int32 // bins from farOf
	farOf int
}

// start begins the rollout of n nodes. graph is that of the example, if distances are hops.
func (w *sacWalk) start(r SACRules, n int, key uint64, graph *hops) {
	w.SACRules, w.n, w.key, w.graph = r, n, key, graph
	w.t, w.over, w.prev, w.source, w.farOf = -1, false, -1, -1, -1
	if w.used = w.used[:0]; true {
		w.used = append(w.used, make([]bool, n)...)
	}
	if r.Graph {
		w.far = append(w.far[:0], make([]int32, n)...)
	}
	if r.NoRepeat {
		w.head, w.count = append(w.head[:0], make([]int32, n)...), append(w.count[:0], make([]int32, n)...)
		w.next, w.partner = w.next[:0], w.partner[:0]
		for i := range w.head {
			w.head[i] = -1
		}
	}
}

// step goes on to the next step and lists what may be chosen; false: the rollout is over.
func (w *sacWalk) step() bool {
	if !w.advance() {
		return false
	}
	w.list()
	if len(w.allowed) == 0 && w.source < 0 {
		w.over = true
		return false
	}
	w.measure()
	return true
}

// advance goes on to the next step; false: there is none.
func (w *sacWalk) advance() bool {
	if w.t++; w.over || w.t >= w.Steps(w.n) {
		w.t = min(w.t, w.Steps(w.n))
		return false
	}
	w.source, w.ref = -1, w.prev
	switch {
	case w.PerNode:
		w.source = w.t / int(w.Alpha)
		w.ref = w.source
	case w.t%2 == 1:
		w.source = w.prev
	}
	if w.Blind {
		w.ref = -1
	}
	return true
}

// anyone goes on to the next step and chooses, all that may be chosen as likely; draw gives number k of the step. It looks at few nodes, and
// at all only where hardly any are left. The choice is -1 if there is none; false: the rollout is over.
func (w *sacWalk) anyone(draw func(k int) float64) (a int, more bool) {
	if !w.advance() {
		return -1, false
	}
	end := w.n
	if w.PerNode && w.Causal {
		end = w.source
	}
	if w.Local == 0 && end > 0 {
		w.mark(true)
		for k := range 32 {
			if i := min(int(draw(k)*float64(end)), end-1); !w.closed(i) {
				w.mark(false)
				return i, true
			}
		}
		w.mark(false)
	}
	w.list()
	switch n := len(w.allowed); {
	case n > 0:
		return int(w.allowed[min(int(draw(32)*float64(n)), n-1)]), true
	case w.source < 0:
		w.over = true
		return -1, false
	}
	return -1, true
}

// list lists what may be chosen.
func (w *sacWalk) list() {
	w.allowed = w.allowed[:0]
	end := w.n
	if w.PerNode && w.Causal {
		end = w.source
	}
	w.mark(true)
	if w.Local == 0 || w.Local >= end {
		for i := range end {
			if !w.closed(i) {
				w.allowed = append(w.allowed, int32(i))
			}
		}
	} else {
		w.listLocal(end)
	}
	w.mark(false)
}

// closed tells whether a node may not be chosen.
func (w *sacWalk) closed(i int) bool {
	if w.source < 0 {
		return w.NoRepeat && int(w.count[i]) >= w.n-1
	}
	return i == w.source || w.used[i]
}

// mark marks the nodes that the source has already, or takes the marks away.
func (w *sacWalk) mark(on bool) {
	if !w.NoRepeat || w.source < 0 {
		return
	}
	for k := w.head[w.source]; k >= 0; k = w.next[k] {
		w.used[w.partner[k]] = on
	}
}

// listLocal lists nodes around the source and drawn ones, Local together, below end. For a source they are all drawn, by the step.
func (w *sacWalk) listLocal(end int) {
	near := 0
	if w.source >= 0 {
		near = (w.Local + 1) / 2
		first := max(0, min(w.source-near/2, end-near))
		for i := first; i < min(first+near, end); i++ {
			if !w.closed(i) {
				w.allowed = append(w.allowed, int32(i))
			}
		}
	}
	of := uint64(w.source + 1)
	if w.source < 0 {
		of = uint64(w.t)<<32 | 1<<31
	}
	for k := range w.Local - near {
		i := int(splitmix.Unit(splitmix.Mix(w.key+(of*uint64(w.Local)+uint64(k))*splitmix.Increment)) * float64(end))
		if !w.closed(i) {
			w.insert(int32(i))
		}
	}
}

// insert adds a node to the sorted list, once.
func (w *sacWalk) insert(i int32) {
	at := len(w.allowed)
	for at > 0 && w.allowed[at-1] >= i {
		at--
	}
	if at < len(w.allowed) && w.allowed[at] == i {
		return
	}
	w.allowed = append(w.allowed, 0)
	copy(w.allowed[at+1:], w.allowed[at:])
	w.allowed[at] = i
}

// measure finds the bins of the distances from ref to what may be chosen.
func (w *sacWalk) measure() {
	w.bins = w.bins[:0]
	if w.ref < 0 {
		return
	}
	if w.Graph && w.farOf != w.ref {
		w.graph.bins(w.ref, w.Distances, w.far)
		w.farOf = w.ref
	}
	for _, i := range w.allowed {
		if w.Graph {
			w.bins = append(w.bins, w.far[i])
		} else {
			w.bins = append(w.bins, int32(w.bin(max(int(i)-w.ref, w.ref-int(i)))))
		}
	}
}

// take notes what was chosen, -1 if nothing could be.
func (w *sacWalk) take(a int) {
	if a < 0 {
		return
	}
	if w.source >= 0 && w.NoRepeat {
		w.join(w.source, a)
		w.join(a, w.source)
	}
	w.prev = a
}

func (w *sacWalk) join(i, j int) {
	w.next = append(w.next, w.head[i])
	w.partner = append(w.partner, int32(j))
	w.head[i] = int32(len(w.partner) - 1)
	w.count[i]++
}

// place of a node among those that may be chosen, -1: it may not.
func (w *sacWalk) place(a int) int {
	lo, hi := 0, len(w.allowed)
	for lo < hi {
		if mid := (lo + hi) / 2; int(w.allowed[mid]) < a {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if lo < len(w.allowed) && int(w.allowed[lo]) == a {
		return lo
	}
	return -1
}
