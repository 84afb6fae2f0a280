package layers

import "github.com/euryale-ml/euryale/internal/kernels"

// FeedForwardConfig describes the two linear layers of a transformer block.
type FeedForwardConfig struct {
	Hidden   int                // F, width between the layers
	Act      kernels.Activation // between the layers
	NoBias   bool               // in both layers
	InOut    bool               // weights stored [in, out], see LinearConfig
	Up, Down string             // scopes of the layers; "up" and "down" by default
	Gate     string             // scope of a third layer, whose result, without activation, multiplies what comes of Up; "": none
	Residual *Node              // added to the result, after dropout; may be nil
	Init     Init               // of the first weight; nil is Normal(0.02)
	DownInit Init               // of the second weight; nil is Init
	Dropout  float64            // probability, on the result
	Inner    float64            // probability of dropout between the layers
}

// FeedForward computes act(x W1 + b1) W2 + b2 at each position, or (act(x W1 + b1) * (x W3 + b3)) W2 + b2 with a gate.
//
// Shapes: x [.., C] -> [.., C]. Parameters: those of Linear under the scopes Up and Down.
// Cost: 4 N C F operations; a gradient keeps two values of [.., F], one with recompute=cheap.
// Source: Vaswani et al. 2017, arXiv 1706.03762, section 3.3; the gate: Shazeer 2020, arXiv 2002.05202.
func FeedForward(b *Builder, x *Node, c FeedForwardConfig) *Node {
	if b.Err() != nil {
		return nil
	}
	if x == nil || x.Dims() == 0 {
		return b.Failf("feed-forward: the input has no width")
	}
	if c.Hidden < 1 {
		return b.Failf("feed-forward: hidden width %d, want at least 1", c.Hidden)
	}
	up, down := c.Up, c.Down
	if up == "" {
		up = "up"
	}
	if down == "" {
		down = "down"
	}
	residual := c.Residual
	dropped := c.Dropout > 0 && b.Training()
	if dropped {
		residual = nil
	}
	h := Linear(b.Scope(up), x, LinearConfig{Out: c.Hidden, NoBias: c.NoBias, InOut: c.InOut, Act: c.Act, Init: c.Init})
	if c.Gate != "" {
		h = Mul(b, h, Linear(b.Scope(c.Gate), x, LinearConfig{Out: c.Hidden, NoBias: c.NoBias, InOut: c.InOut, Init: c.Init}))
	}
	if c.Inner > 0 {
		h = Dropout(b.Scope(up), h, c.Inner)
	}
	y := Linear(b.Scope(down), h, LinearConfig{Out: lastOf(x.Shape()), NoBias: c.NoBias, InOut: c.InOut,
		Residual: residual, Init: initOr(c.DownInit, c.Init)})
	if !dropped {
		return y
	}
	y = Dropout(b.Scope(down), y, c.Dropout)
	if c.Residual != nil {
		y = Add(b, y, c.Residual)
	}
	return y
}
