package attention

import (
	"math"

	"github.com/euryale-ml/euryale/internal/kernels"
	"github.com/euryale-ml/euryale/layers"
)

// Sorting is how blocks of Size tokens are sorted, each head for itself: a network scores block v for slot u, and layers.Sinkhorn makes weights
// of the scores R.
//
//	bilinear  R[u,v] = (mean of q over block u)·(mean of k over block v)/√D
//	mlp       R[u] = relu(W_2 relu(W_1 ψ_u + b_1) + b_2), ψ_u the sum of the layer's input over block u; W_1 for all heads
//	linear    R[u] = relu([Σ q ; Σ k] W), sums over block u
//
// With Causal a slot is made of earlier blocks, and what is pooled for slot u are the tokens up to the first of block u, which all queries of the
// block have seen. Under rotary positions bilinear pools queries and keys as they are before they are turned. Where a memory is sorted there are
// no queries of its own, and those that the layer would make of it stand for them.
//
// Parameters of mlp: sort.hidden.{weight,bias}, sort.blocks.{weight,bias} [H·MaxBlocks,C]; of linear: sort.query, sort.key [MaxBlocks,H·D].
// Source: Tay et al. 2020, arXiv 2002.11296, sections 3.1 and 3.3 (mlp).
type Sorting struct {
	Size       int
	Net        string // NetBilinear ("") or another
	MaxBlocks  int    // of mlp and linear, whose weights fix the greatest number
	Tau        float64
	Iterations int
	Normalizer layers.SinkhornNormalizer // "": row with Causal, else sinkhorn
	FinishRow  bool                      // one more row step, so that keys of slots are means
	Hard       layers.Assignment         // one block for each slot, by the weights, whose gradient goes straight through; "": none
	LogReLU    bool                      // weights are made of log(relu(R) + 1e-6), as some code has it
	Causal     bool

	Noise *Node // [B,H,N,N], in place of Gumbel noise that is drawn in training
}

// Values of Sorting.Net.
const (
	NetBilinear = "bilinear"
	NetMLP      = "mlp"
	NetLinear   = "linear"
)

// Sort adds the weights [B,H,N,N] of the ⌈T/Size⌉ blocks of a stream, and with Hard the block chosen for each slot, int32 [B,H,N].
func (s Sorting) Sort(b *layers.Builder, in Stream) (p, chosen *Node) {
	r := s.Scores(b, in)
	c := layers.SinkhornConfig{Normalizer: s.Normalizer, Tau: s.Tau, Iterations: s.Iterations, FinishRow: s.FinishRow, LogReLU: s.LogReLU, Gumbel: true, Noise: s.Noise}
	if s.Causal {
		c.Mask = layers.EarlierBlocks
		if c.Normalizer == "" {
			c.Normalizer = layers.SinkhornRow
		}
	}
	p = layers.Sinkhorn(b.Scope("sort"), r, layers.BlockCounts(b, in.Lens, s.Size), c)
	if s.Hard != "" {
		chosen = layers.AssignBlocks(b, p, s.Hard)
	}
	return p, chosen
}

// Scores adds R, [B,H,N,N].
func (s Sorting) Scores(b *layers.Builder, in Stream) *Node {
	q, k, _ := in.Split(b)
	if b.Err() != nil {
		return nil
	}
	t, width := k.Shape()[1], k.Shape()[2]
	blocks := (t + s.Size - 1) / s.Size
	if s.Net == NetMLP || s.Net == NetLinear {
		if blocks > s.MaxBlocks {
			return b.Failf("%d tokens are %d blocks, the sorting network %s is for %d: raise max_blocks or block_size, or use bilinear", t, blocks, s.Net, s.MaxBlocks)
		}
	}
	mean, sum := layers.BlockMean, layers.BlockSum
	if s.Causal {
		mean, sum = layers.PrefixMean, layers.PrefixSum
	}
	pool := func(x *Node, how layers.BlockPooling) *Node { return layers.PoolBlocks(b, x, in.Lens, s.Size, how) }
	own := b.Scope("sort")
	switch s.Net {
	case NetMLP:
		c := in.X.Shape()[2]
		h := layers.Linear(own.Scope("hidden"), pool(in.X, sum), layers.LinearConfig{Out: c})
		y := layers.Linear(own.Scope("blocks"), layers.Activation(b, h, kernels.ReLU), layers.LinearConfig{Out: in.Heads * s.MaxBlocks})
		return layers.Activation(b, layers.SplitHeads(b, y, in.Heads, blocks), kernels.ReLU)
	case NetLinear:
		part := func(name string, x *Node) *Node {
			w := layers.Slice(b, own.Param(name, layers.Normal(0.02), s.MaxBlocks, width), 0, 0, blocks)
			return layers.HeadScores(b, pool(x, sum), layers.Broadcast(b, w, k.Shape()[0]), in.Heads, 1)
		}
		if q == nil {
			q = in.Project(b, 0, in.X)
		}
		return layers.Activation(b, layers.Add(b, part("query", q), part("key", k)), kernels.ReLU)
	}
	scale := 1 / math.Sqrt(float64(width/in.Heads))
	if in.Project != nil && (in.Rotate != nil || q == nil) { // a mean of projections is the projection of the mean
		return layers.HeadScores(b, in.Project(b, 0, pool(in.X, mean)), in.Project(b, 1, pool(in.X, layers.BlockMean)), in.Heads, scale)
	}
	return layers.HeadScores(b, pool(q, mean), pool(k, layers.BlockMean), in.Heads, scale)
}
