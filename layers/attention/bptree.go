package attention

import (
	"fmt"
	"math"
	"slices"
	"sort"
)

// BPTree is the graph of the BP-Transformer: the tokens are the leaves of a binary tree whose spans are nodes behind them, level
// by level, the root last. A span reads the tokens it covers. A token reads itself and, walking away from itself on both sides,
// K nodes of each level from the tokens up: near ones singly, far ones in ever larger spans. What a token reads covers every
// other token exactly once. Causal(BPTree) reads nothing on the right and covers the tokens before it.
// Cost: about 2·K·n·log₂(n/K) + n·log₂ n pairs. Source: Ye et al. 2019, arXiv 1911.04070, section 3.
type BPTree struct {
	alike
	K    int
	past bool
	kept *plans
}

// NewBPTree returns the graph with k nodes of each level and side, k >= 1.
func NewBPTree(k int) BPTree { return BPTree{K: k, kept: newPlans()} }

func (b BPTree) String() string {
	if b.past {
		return fmt.Sprintf("causal(bp-tree(%d))", b.K)
	}
	return fmt.Sprintf("bp-tree(%d)", b.K)
}

// inPast is the causal form.
func (b BPTree) inPast() BPTree {
	if !b.past {
		b.past, b.kept = true, newPlans()
	}
	return b
}

// FromEnd is true: the tree is that of the tokens there are.
func (BPTree) FromEnd() bool { return true }
func (BPTree) space() space  { return space{tree: true} }
func (b BPTree) Sees(_, i, j, n int) bool {
	return inside(i, j, n) && b.plan(n).has(i, j)
}
func (b BPTree) Row(_, i, n int, dst []Run) []Run { return singles(b.plan(n).row(i), dst) }
func (b BPTree) Col(_, j, n int, dst []Run) []Run { return singles(b.plan(n).col(j), dst) }
func (b BPTree) NNZ(_, n int) int64               { return int64(len(b.plan(n).rows)) }

// singles appends sorted positions as runs.
func singles(list []int32, dst []Run) []Run {
	for k := 0; k < len(list); {
		from := k
		for k++; k < len(list) && list[k] == list[k-1]+1; k++ {
		}
		dst = append(dst, Run{int(list[from]), int(list[k-1]) + 1, 1})
	}
	return dst
}

// plan lists the tree over the tokens of n nodes. Its labels know no clip.
func (b BPTree) plan(n int) *plan {
	return b.kept.get(n, func() *plan {
		tokens := treeTokens(n)
		levels := treeLevels(tokens)
		offsets := make([]int, len(levels)) // of the first node of a level
		for j := 1; j < len(levels); j++ {
			offsets[j] = offsets[j-1] + levels[j-1]
		}
		p := &plan{rowPtr: make([]int32, 1, n+1)}
		var own []uint64 // of a token: keys, and below them labels
		for i := range tokens {
			own = own[:0]
			b.token(i, levels, len(levels), func(level, node, label int) {
				own = append(own, uint64(offsets[level]+node)<<32|uint64(label))
			})
			slices.Sort(own)
			for _, e := range own {
				p.rows, p.labels = append(p.rows, int32(e>>32)), append(p.labels, int32(e&math.MaxUint32))
			}
			p.rowPtr = append(p.rowPtr, int32(len(p.rows)))
		}
		for j := 1; j < len(levels); j++ {
			for m := range levels[j] {
				for t := m << j; t < min((m+1)<<j, tokens); t++ {
					p.rows, p.labels = append(p.rows, int32(t)), append(p.labels, int32((2*b.K+1)*j))
				}
				p.rowPtr = append(p.rowPtr, int32(len(p.rows)))
			}
		}
		for len(p.rowPtr) <= n { // nodes that belong to no whole tree
			p.rowPtr = append(p.rowPtr, int32(len(p.rows)))
		}
		p.transpose()
		return p
	})
}

// Edge says that node Query reads node Key, in the role Label.
type Edge struct{ Key, Query, Label int }

// Edges lists the edges for a number of tokens, by query, then by key. Labels are (2·K+1)·min(level, clip) and on top of it
// 0 for itself or a covered token, 2·t+1 for step t on the left, 2·t+2 for step t on the right. A step that takes the half of a
// span that is left has the label of the span's level.
func (b BPTree) Edges(tokens, clip int) []Edge {
	p := b.plan(treeNodes(tokens))
	edges := make([]Edge, 0, len(p.rows))
	for i := range len(p.rowPtr) - 1 {
		for k := p.rowPtr[i]; k < p.rowPtr[i+1]; k++ {
			edges = append(edges, Edge{int(p.rows[k]), i, b.label(p, int(k), clip)})
		}
	}
	return edges
}

// label is that of the pair k of a plan.
func (b BPTree) label(p *plan, k, clip int) int {
	label, each := int(p.labels[k]), 2*b.K+1
	return each*min(label/each, clip) + label%each
}

// token calls read for each node that token i reads: the place of the node in its level, whose sizes are levels, and the label.
func (b BPTree) token(i int, levels []int, clip int, read func(level, node, label int)) {
	left, right := i-1, i+1
	halfLeft, halfRight := false, false // one child of the node here is covered already
	read(0, i, 0)
	for j := 0; j < len(levels) && (left >= 0 || !b.past); j++ {
		label := (2*b.K + 1) * min(j, clip)
		for t := range b.K {
			if right < levels[j] && !b.past {
				switch {
				case !halfRight:
					read(j, right, label+2*t+2)
				case 2*right+1 < levels[j-1]: // else there is no second child, and the step is idle
					read(j-1, 2*right+1, label+2*t+2)
				}
				halfRight = false
			}
			right++
			if left >= 0 {
				if halfLeft {
					read(j-1, 2*left, label+2*t+1)
				} else {
					read(j, left, label+2*t+1)
				}
				halfLeft = false
			}
			left--
			if right >= levels[j] && left < 0 {
				// Nothing is left on this level: the steps that remain only move on.
				right, left = right+b.K-1-t, left-(b.K-1-t)
				break
			}
		}
		halfLeft = halfLeft || left&1 == 0
		halfRight = halfRight || right&1 == 1
		left, right = left>>1, right>>1 // towards -∞
	}
}

// treeLevels are the sizes of the levels of a tree, the tokens first: each half of that below, rounded up, down to the root.
func treeLevels(tokens int) []int {
	if tokens == 0 {
		return nil
	}
	levels := []int{tokens}
	for n := tokens; n > 1; {
		n = (n + 1) / 2
		levels = append(levels, n)
	}
	return levels
}

func treeNodes(tokens int) int {
	sum := 0
	for _, n := range treeLevels(tokens) {
		sum += n
	}
	return sum
}

// treeTokens is the largest number of tokens whose tree has no more nodes.
func treeTokens(nodes int) int {
	t := sort.Search(nodes+1, func(t int) bool { return treeNodes(t) > nodes })
	return t - 1
}

func newBPTree(a []int) (Pattern, error) {
	if a[0] < 1 {
		return nil, fmt.Errorf("k is %d; the smallest is 1", a[0])
	}
	return NewBPTree(a[0]), nil
}
