package layers

import (
	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/kernels"
)

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
	Early    bool               // this dropout stands before the activation; else after it
	Rows     int                // of x that are worked on at a time, about; 0: all
}

// FeedForward computes act(x W1 + b1) W2 + b2 at each position, or (act(x W1 + b1) * (x W3 + b3)) W2 + b2 with a gate.
//
// Shapes: x [.., C] -> [.., C]. Parameters: those of Linear under the scopes Up and Down.
// Cost: 4 N C F operations; a gradient keeps two values of [.., F], one with recompute=cheap. With Rows there are never more of these than [Rows, F]:
// rows are independent of each other, and each group is computed again for its gradient, 2 N C F operations more. Results have the same bits
// (unless there is dropout between the layers); gradients have them but for the order in which their terms are added. A group has at least 64 rows.
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
	rows := func(x, residual *Node) *Node {
		act, early := c.Act, c.Early && c.Inner > 0 && b.Training()
		if early {
			act = kernels.None
		}
		h := Linear(b.Scope(up), x, LinearConfig{Out: c.Hidden, NoBias: c.NoBias, InOut: c.InOut, Act: act, Init: c.Init})
		if early {
			h = Activation(b.Scope(up), Dropout(b.Scope(up), h, c.Inner), c.Act)
		}
		if c.Gate != "" {
			h = Mul(b, h, Linear(b.Scope(c.Gate), x, LinearConfig{Out: c.Hidden, NoBias: c.NoBias, InOut: c.InOut, Init: c.Init}))
		}
		if c.Inner > 0 && !early {
			h = Dropout(b.Scope(up), h, c.Inner)
		}
		return Linear(b.Scope(down), h, LinearConfig{Out: lastOf(x.Shape()), NoBias: c.NoBias, InOut: c.InOut,
			Residual: residual, Init: initOr(c.DownInit, c.Init)})
	}
	y := byRows(b, x, residual, c.Rows, rows)
	if !dropped {
		return y
	}
	y = Dropout(b.Scope(down), y, c.Dropout)
	if c.Residual != nil {
		y = Add(b, y, c.Residual)
	}
	return y
}

// leastRows is the smallest group of rows: of fewer, products are computed in other ways, with other bits.
const leastRows = 64

// byRows computes f, whose rows are independent of each other, for groups of about so many rows, each a block that is computed again; 0: at once.
func byRows(b *Builder, x, residual *Node, rows int, f func(x, residual *Node) *Node) *Node {
	width := lastOf(x.Shape())
	all := x.Shape().TotalSize() / width
	if rows > 0 {
		rows = max(rows, leastRows)
	}
	if rows == 0 || all < 2*rows {
		return f(x, residual)
	}
	groups := all / rows // of rows or somewhat more
	parts, offsets := make(Nodes, groups), make([]int, groups)
	group := func(n *Node, from, to int) *Node {
		if n == nil || b.Err() != nil {
			return nil
		}
		v, err := engine.View(n, from*width, to-from, width)
		if err != nil {
			return b.Fail(err)
		}
		return b.made(v)
	}
	for g := range groups {
		from, to := g*all/groups, (g+1)*all/groups
		offsets[g] = from * width
		b.Again(func() { parts[g] = f(group(x, from, to), group(residual, from, to)) })
	}
	if b.Err() != nil {
		return nil
	}
	y, err := engine.Join(x.Shape().Clone(), offsets, parts...)
	if err != nil {
		return b.Fail(err)
	}
	return b.made(y)
}
