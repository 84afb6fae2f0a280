package attention

import (
	"fmt"

	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/layers"
)

// Lookback is attention on the last Window tokens before a query that are in its cluster: nothing that comes later changes what a token reads.
type Lookback struct {
	Chosen

	// Clusters, int32 [B,G,R,T] or [B,G,T], G = 1 (alike for all heads) or H, R rounds, are those of the queries; negative: in none, which
	// reads nothing. Among are those of the keys, in one round; nil: Clusters. What several rounds find counts once.
	Clusters, Among *Node
	Window          int
	Self            bool // a token reads itself, too; in one round
}

// AttendRecent is attention on recent tokens of the same cluster: o and lse are those of AttendChosen on
//
//	A_i = ∪_r { the last Window tokens j < i with among_r(j) = clusters_r(i) }, and i with Self
//
// Shapes of q, k, v, o and lse as for AttendChosen. Sorted by (cluster, position) those keys stand in a band, cut where clusters end, so that it is
// computed by tiles of gathered rows, as AttendSorted does, and no list of keys is made. Cost: O(B·H·T·R·Window·D); memory is that of o and lse.
// Source: Roy et al. 2021, arXiv 2003.05997, and Kitaev et al. 2020, arXiv 2001.04451, whose clusters and buckets are chosen with what comes later.
// Errors (kept by b): shapes that do not fit.
func AttendRecent(b *layers.Builder, s Lookback, q, k, v *Node) (o, lse *Node) {
	p := recentPlan{window: s.Window, self: s.Self, apart: s.Among != nil && s.Among != s.Clusters}
	choice := []*Node{s.Clusters}
	if p.apart {
		choice = append(choice, s.Among)
	}
	return addChosen(b, s.Chosen, p, choice, q, k, v)
}

// recentPlan is the selection. Inputs: clusters of queries and, apart, of keys.
type recentPlan struct {
	window      int
	self, apart bool
}

func (recentPlan) name() string { return "attend_recent" }

func (p recentPlan) check(o *picked, in []engine.Type) (int, error) {
	if p.window < 1 {
		return 0, fmt.Errorf("a window of %d tokens, want at least 1", p.window)
	}
	if o.cross {
		return 0, fmt.Errorf("cross-attention, in which no key comes before a query")
	}
	_, rounds, _ := sortedPlan{}.order(in[0].Shape)
	for _, t := range in {
		s := t.Shape
		if t.Dtype != tensor.Int32 || len(s) != len(in[0].Shape) || len(s) != 3 && len(s) != 4 || s[0] != o.b || s[1] != in[0].Shape[1] || s[1] != 1 && s[1] != o.heads || s[len(s)-1] != o.tq {
			return 0, fmt.Errorf("clusters are %v, want int32 [%d,G,R,%d] with G = 1 or %d", t, o.b, o.tq, o.heads)
		}
	}
	if (p.apart || p.self) && rounds != 1 {
		return 0, fmt.Errorf("%d rounds of clusters, want 1 where keys have clusters of their own or tokens read themselves", rounds)
	}
	return 0, nil
}

func (p recentPlan) flops(o *picked, in []engine.Type, perPair int) float64 {
	_, rounds, t := sortedPlan{}.order(in[0].Shape)
	keys := min(p.window, t)
	if p.self {
		keys++
	}
	return 2 * float64(o.b*o.heads*rounds*t) * float64(keys) * float64(perPair)
}
