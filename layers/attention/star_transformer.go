package attention

import (
	"github.com/euryale-ml/euryale/internal/kernels"
	"github.com/euryale-ml/euryale/layers"
)

// StarMode is what stands around the attention of a step of the Star-Transformer.
type StarMode string

// The forms there are. MHA is attention with its output projection.
const (
	StarPaper    StarMode = "paper"    // h = LN(ReLU(MHA(h, …))), s the same: algorithm 1
	StarFastNLP  StarMode = "fastnlp"  // h = LeakyReLU(MHA(LN(h), …)), s = LeakyReLU(MHA(s, …)): the authors' code
	StarResidual StarMode = "residual" // h = h + MHA(LN(h), …), h = h + FFN(LN(h)), s the same: trains much faster
)

// StarModes are the forms, in the order of the documentation.
var StarModes = []string{string(StarPaper), string(StarFastNLP), string(StarResidual)}

// StarConfig describes a step of the Star-Transformer.
type StarConfig struct {
	Mode     StarMode
	Heads    int         // H
	HeadSize int         // D; H·D need not be C
	Inner    int         // F, width of the feed-forward layers of StarResidual
	Eps      float64     // of the norms
	Open     bool        // the first and the last satellite are no neighbours
	Lens     *Node       // int32 [B], satellites of each example; nil: all T
	Init     layers.Init // of matrices; nil: Xavier
}

// StarStep is one step: first every satellite reads its neighbours, itself, its embedding e and the relay s, all of the step before,
// then the relay reads itself and the new satellites. The two have weights of their own; keys and values of e and s are made by the
// same weights as those of h.
//
//	h_i = f(MHA(h_i, [h_{i-1}, h_i, h_{i+1}, e_i, s])),  s = g(MHA(s, [s, h_0, h_1, …]))
//
// Shapes: h, e [B,T,C], s [B,1,C] -> h, s. Cost: O(B·T·C·H·D), 6T+1 pairs. Two steps take anything anywhere.
// Parameters, under the scopes ring and relay: query, key, value, out; norm (not of the relay of StarFastNLP); of StarResidual
// mlp.norm, mlp.up and mlp.down.
// Source: Guo et al. 2019, arXiv 1902.09113, algorithm 1. See layers.Ring for what differs at the ends.
// Differs: StarResidual is ours: the printed form has neither residual connections nor feed-forward layers.
func StarStep(b *layers.Builder, c StarConfig, h, e, s *Node) (*Node, *Node) {
	if b.Err() != nil {
		return nil, nil
	}
	if c.Init == nil {
		c.Init = layers.XavierUniform()
	}
	h = c.satellites(b.Scope("ring"), h, e, s)
	return h, c.relay(b.Scope("relay"), h, s)
}

// satellites is the first half of a step.
func (c StarConfig) satellites(b *layers.Builder, h, e, s *Node) *Node {
	if b.Err() != nil {
		return nil
	}
	x, t := h, h.Shape()[1]
	if c.Mode == StarFastNLP { // e and s are read as they are
		x = c.norm(b, x)
	}
	rows := layers.Concat(b, 1, x, e, s) // [B,2T+1,C]
	if c.Mode == StarResidual {
		rows = c.norm(b, rows)
		x = layers.Slice(b, rows, 1, 0, t)
	}
	o := layers.Ring(b, layers.RingConfig{Heads: c.Heads, Open: c.Open, Lens: c.Lens}, c.project(b, "query", x), c.project(b, "key", rows),
		c.project(b, "value", rows))
	return c.finish(b, o, h)
}

// relay is the second half.
func (c StarConfig) relay(b *layers.Builder, h, s *Node) *Node {
	x, rows := s, layers.Concat(b, 1, s, h) // [B,T+1,C]
	if c.Mode == StarResidual {
		rows = c.norm(b, rows)
		x = layers.Slice(b, rows, 1, 0, 1)
	}
	a := Config{Heads: c.Heads, Cross: true}
	if c.Lens != nil {
		a.Lens = layers.Plus(b, c.Lens, 1)
	}
	o, _ := Attend(b, a, c.project(b, "query", x), c.project(b, "key", rows), c.project(b, "value", rows))
	return c.finish(b, o, s)
}

// finish is the output projection and what follows it.
func (c StarConfig) finish(b *layers.Builder, o, residual *Node) *Node {
	if b.Err() != nil {
		return nil
	}
	width := residual.Shape()[2]
	out := layers.LinearConfig{Out: width, Init: c.Init}
	switch c.Mode {
	case StarResidual:
		out.Residual = residual
	case StarFastNLP:
		out.Act = kernels.LeakyReLU
	default:
		out.Act = kernels.ReLU
	}
	y := layers.Linear(b.Scope("out"), o, out)
	switch c.Mode {
	case StarPaper:
		return c.norm(b, y)
	case StarResidual:
		mlp := b.Scope("mlp")
		return layers.FeedForward(mlp, c.norm(mlp, y), layers.FeedForwardConfig{Hidden: c.Inner, Act: kernels.ReLU, Residual: y, Init: c.Init})
	}
	return y
}

func (c StarConfig) project(b *layers.Builder, name string, x *Node) *Node {
	return layers.Linear(b.Scope(name), x, layers.LinearConfig{Out: c.Heads * c.HeadSize, Init: c.Init})
}

func (c StarConfig) norm(b *layers.Builder, x *Node) *Node {
	return layers.LayerNorm(b.Scope("norm"), x, layers.NormConfig{Eps: c.Eps})
}
