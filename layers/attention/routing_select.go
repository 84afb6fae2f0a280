package attention

import (
	"fmt"
	"math"
	"slices"
	"sync"

	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/kernels"
	"github.com/euryale-ml/euryale/internal/splitmix"
	"github.com/euryale-ml/euryale/layers"
)

// What follows chooses: floats go in that have no gradient here, whole numbers come out.

// ClusterScores are the products of vectors x [B,T,H·D] with centroids [H,C,D], [B,H,C,T]. No gradient. Cost: 2·B·T·H·C·D operations.
func ClusterScores(b *layers.Builder, x, centroids *Node) *Node {
	return b.Op(clusterScores{}, x, centroids)
}

// RandomScores are numbers in [0, 1) in the place of ClusterScores, [B,H,C,T], so that clusters are drawn instead of learned: functions of
// (seed, step, place in the model, example, head, cluster, token).
func RandomScores(b *layers.Builder, batch, heads, clusters, tokens int) *Node {
	if b.Err() != nil {
		return nil
	}
	return b.Op(randomScores{batch: batch, heads: heads, clusters: clusters, tokens: tokens, seed: b.Seed(), site: b.Site("clusters"), dtype: b.Dtype()}, b.Step())
}

// Nearest is the cluster with the largest score of each token, the first of equal ones, int32 [B,H,T]; -1 for padding.
func Nearest(b *layers.Builder, scores, lens *Node) *Node {
	return b.Op(nearest{}, append(Nodes{scores}, present(lens)...)...)
}

// Members are the window tokens with the largest scores of each cluster, of equal ones the first, int32 [B,H,C·W] by rising position,
// W = min(window, T); behind them -1 where an example has fewer. A token may be in several clusters, or in none. With window 0 the clusters
// have room for every token once, ⌈n/C⌉ of the n tokens of an example each.
// Cost: O(B·H·C·T). Source: Roy et al. 2021, arXiv 2003.05997, section 4.
func Members(b *layers.Builder, scores, lens *Node, window int) *Node {
	return b.Op(members{window}, append(Nodes{scores}, present(lens)...)...)
}

// Self says whether a token reads itself.
type Self int

const (
	// SelfLast: only if there is nothing else to read. Its result is then its value.
	SelfLast Self = iota
	// SelfAllowed: as any other token.
	SelfAllowed
)

// ClusterPairs are the pairs of queries and keys, of so many tokens, that are members of the same cluster, int32 [B,H,M,2], M = C·Wq·Wk, -1 behind
// them; a pair of several clusters stands there so often. causal leaves out keys behind the query.
func ClusterPairs(b *layers.Builder, queries, keys *Node, clusters, tokens int, causal bool, self Self) *Node {
	return b.Op(clusterPairs{clusters, tokens, causal, self}, queries, keys)
}

// MembersOf lists for each query, of which the clusters are given as Nearest has them, the members of its cluster, int32 [B,H,T,W].
func MembersOf(b *layers.Builder, of, members *Node, clusters int) *Node {
	return b.Op(membersOf{clusters}, of, members)
}

// choosing is what operations without gradients have in common.
type choosing struct{}

func (choosing) Diff(in Nodes, _, _ *Node) (Nodes, error) { return make(Nodes, len(in)), nil }

// clusterScores has inputs: x, centroids.
type clusterScores struct{ choosing }

func (clusterScores) Name() string    { return "cluster_scores" }
func (clusterScores) DiffWRT() []bool { return []bool{false, false} }

func (clusterScores) Infer(in []engine.Type) (engine.Type, error) {
	x, c := in[0].Shape, in[1].Shape
	if len(x) != 3 || len(c) != 3 || !in[0].IsFloat() || in[0].Dtype != in[1].Dtype || x[2] != c[0]*c[2] {
		return engine.Type{}, fmt.Errorf("vectors %v and centroids %v, want floats [B,T,H·D] and [H,C,D]", in[0], in[1])
	}
	return engine.Type{Dtype: in[0].Dtype, Shape: tensor.Shape{x[0], c[0], c[1], x[1]}}, nil
}

func (clusterScores) Flops(in []engine.Type, _ engine.Type) float64 {
	return 2 * float64(in[0].Size()) * float64(in[1].Shape[1])
}

func (clusterScores) Run(out engine.Value, in []engine.Value) error {
	if engine.IsF32(out) {
		scoreClusters[float32](out, in)
	} else {
		scoreClusters[float64](out, in)
	}
	return nil
}

func scoreClusters[F kernels.Float](out engine.Value, in []engine.Value) {
	x, mu, s := engine.Floats[F](in[0]), engine.Floats[F](in[1]), engine.Floats[F](out)
	shape, d := out.Shape(), in[1].Shape()[2]
	heads, clusters, t := shape[1], shape[2], shape[3]
	for b := range shape[0] {
		for h := range heads {
			kernels.Gemm(false, true, clusters, t, d, mu[h*clusters*d:], d, x[b*t*heads*d+h*d:], heads*d, s[(b*heads+h)*clusters*t:], t, false, nil)
		}
	}
}

// randomScores has the input step.
type randomScores struct {
	choosing
	batch, heads, clusters, tokens int
	seed, site                     uint64
	dtype                          tensor.Dtype
}

func (randomScores) Name() string    { return "random_scores" }
func (randomScores) DiffWRT() []bool { return []bool{false} }

func (o randomScores) Infer([]engine.Type) (engine.Type, error) {
	return engine.Type{Dtype: o.dtype, Shape: tensor.Shape{o.batch, o.heads, o.clusters, o.tokens}}, nil
}

func (o randomScores) Run(out engine.Value, in []engine.Value) error {
	base := splitmix.Mix(splitmix.Mix(splitmix.Mix(o.seed+splitmix.Increment)+uint64(engine.Ints(in[0])[0])+splitmix.Increment) + o.site + splitmix.Increment)
	if engine.IsF32(out) {
		drawScores[float32](o, base, out)
	} else {
		drawScores[float64](o, base, out)
	}
	return nil
}

func drawScores[F kernels.Float](o randomScores, base uint64, out engine.Value) {
	s := engine.Floats[F](out)
	for row := range len(s) / o.tokens { // the number of a token does not depend on how much padding there is
		key := splitmix.Mix(base + uint64(row+1)*splitmix.Increment)
		for i := range o.tokens {
			key += splitmix.Increment
			s[row*o.tokens+i] = F(splitmix.Mix(key)>>40) / (1 << 24)
		}
	}
}

// scoresAndLens checks scores [B,H,C,T] and perhaps lengths [B].
func scoresAndLens(in []engine.Type) error {
	if len(in[0].Shape) != 4 || !in[0].IsFloat() {
		return fmt.Errorf("scores %v, want floats [B,H,C,T]", in[0])
	}
	if len(in) > 1 && (in[1].Dtype != tensor.Int32 || !slices.Equal(in[1].Shape, tensor.Shape{in[0].Shape[0]})) {
		return fmt.Errorf("lengths %v, want int32 [%d]", in[1], in[0].Shape[0])
	}
	return nil
}

// lengthOf is the number of tokens of example b, of t.
func lengthOf(lens []engine.Value, b, t int) int {
	if len(lens) == 0 {
		return t
	}
	return min(max(int(engine.Ints(lens[0])[b]), 0), t)
}

// nearest has inputs: scores, perhaps lens.
type nearest struct{ choosing }

func (nearest) Name() string { return "nearest_cluster" }

func (nearest) DiffWRT() []bool { return []bool{false, false} }

func (nearest) Infer(in []engine.Type) (engine.Type, error) {
	if err := scoresAndLens(in); err != nil {
		return engine.Type{}, err
	}
	s := in[0].Shape
	return engine.Type{Dtype: tensor.Int32, Shape: tensor.Shape{s[0], s[1], s[3]}}, nil
}

func (nearest) Run(out engine.Value, in []engine.Value) error {
	if engine.IsF32(in[0]) {
		runNearest[float32](out, in)
	} else {
		runNearest[float64](out, in)
	}
	return nil
}

func runNearest[F kernels.Float](out engine.Value, in []engine.Value) {
	s, a, shape := engine.Floats[F](in[0]), engine.Ints(out), in[0].Shape()
	heads, clusters, t := shape[1], shape[2], shape[3]
	kernels.Par(shape[0]*heads, func(_, bh int) {
		row, n := a[bh*t:][:t], lengthOf(in[1:], bh/heads, t)
		all := s[bh*clusters*t:][:clusters*t]
		for i := range row {
			row[i] = -1
		}
		for i := range n {
			best := F(math.Inf(-1))
			row[i] = 0
			for c := range clusters { // not a number is never larger
				if x := all[c*t+i]; x > best {
					best, row[i] = x, int32(c)
				}
			}
		}
	})
}

// members has inputs: scores, perhaps lens.
type members struct{ window int }

func (members) Name() string                                    { return "cluster_members" }
func (members) DiffWRT() []bool                                 { return []bool{false, false} }
func (members) Diff(in Nodes, _, _ *Node) (Nodes, error)        { return make(Nodes, len(in)), nil }
func (o members) Flops(in []engine.Type, _ engine.Type) float64 { return 3 * float64(in[0].Size()) }

func (o members) Infer(in []engine.Type) (engine.Type, error) {
	if err := scoresAndLens(in); err != nil {
		return engine.Type{}, err
	}
	if o.window < 0 {
		return engine.Type{}, fmt.Errorf("a window of %d tokens, want at least 0", o.window)
	}
	s := in[0].Shape
	return engine.Type{Dtype: tensor.Int32, Shape: tensor.Shape{s[0], s[1], s[2] * o.width(s[3], s[2])}}, nil
}

// width is how many of n tokens a cluster takes.
func (o members) width(n, clusters int) int {
	if o.window == 0 {
		return (n + clusters - 1) / clusters
	}
	return min(o.window, n)
}

func (o members) Run(out engine.Value, in []engine.Value) error {
	if engine.IsF32(in[0]) {
		runMembers[float32](o, out, in)
	} else {
		runMembers[float64](o, out, in)
	}
	return nil
}

// scratch is memory of workers that is kept between runs.
var memberScratch sync.Pool

func runMembers[F kernels.Float](o members, out engine.Value, in []engine.Value) {
	s, list, shape := engine.Floats[F](in[0]), engine.Ints(out), in[0].Shape()
	per, t := shape[1]*shape[2], shape[3]
	w := o.width(t, shape[2])
	kernels.Par(shape[0]*per, func(_, row int) {
		n := lengthOf(in[1:], row/per, t)
		own := o.width(n, shape[2])
		buf, _ := memberScratch.Get().(*[]F)
		if buf == nil {
			buf = new([]F)
		}
		*buf = largestOf(s[row*t:][:n], list[row*w:][:own], *buf)
		for r := row*w + own; r < (row+1)*w; r++ {
			list[r] = -1
		}
		memberScratch.Put(buf)
	})
}

// largestOf lists the places of the largest scores, of equal ones the first, by rising place; -1 behind them. It returns the scratch memory.
func largestOf[F kernels.Float](scores []F, places []int32, scratch []F) []F {
	n := 0
	if len(scores) <= len(places) {
		for n = range scores {
			places[n] = int32(n)
		}
		for n = len(scores); n < len(places); n++ {
			places[n] = -1
		}
		return scratch
	}
	scratch = append(scratch[:0], scores...)
	for i, x := range scratch {
		if x != x {
			scratch[i] = F(math.Inf(-1))
		}
	}
	least, equal := rankOf(scratch, len(places))
	for i, x := range scores {
		if x > least {
			places[n] = int32(i)
			n++
		} else if (x == least || x != x && math.IsInf(float64(least), -1)) && equal > 0 {
			places[n] = int32(i)
			n++
			equal--
		}
	}
	return scratch
}

// rankOf returns the k-th largest of the numbers, and how many that are equal to it are among the k largest. It reorders them.
// Source: Hoare 1961, Algorithm 65: Find.
func rankOf[F kernels.Float](x []F, k int) (least F, equal int) {
	lo, hi := 0, len(x)-1
	for lo < hi {
		a, b, c := x[lo], x[(lo+hi)/2], x[hi]
		pivot := max(min(a, b), min(max(a, b), c)) // their median
		i, j := lo, hi
		for i <= j {
			for x[i] > pivot {
				i++
			}
			for x[j] < pivot {
				j--
			}
			if i <= j {
				x[i], x[j] = x[j], x[i]
				i++
				j--
			}
		}
		switch {
		case k-1 <= j:
			hi = j
		case k-1 >= i:
			lo = i
		default:
			lo, hi = k-1, k-1
		}
	}
	least = x[k-1]
	for _, y := range x[:k] {
		if y == least {
			equal++
		}
	}
	return least, equal
}
