package layers

import (
	"fmt"
	"math"
	"slices"

	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/kernels"
)

// SlotKeys says which rows of MixBlocks are keys: int32 [B,H,R], the row itself or -1. Row t of slot u is one if
//
//	m_{u,t} = Σ_v P[u,v] valid_{v,t} / Σ_v P[u,v] > 0
//
// where row t of block v is valid below lens, int32 [B]; and so is a row of x itself (with own). SlotBias is log m, [B,H,R], 0 for rows that are
// no slot's or no keys. Neither has a gradient. Shapes: p [B,H,N,M]; R as that of MixBlocks. Cost: N·(M + size) a head.
func SlotKeys(b *Builder, p, lens *Node, size int, own bool) *Node {
	return b.Op(slotKeys{size: size, own: own}, p, lens)
}

// SlotBias is described at SlotKeys.
func SlotBias(b *Builder, p, lens *Node, size int, own bool) *Node {
	return b.Op(slotKeys{size: size, own: own, bias: true}, p, lens)
}

// slotKeys has inputs: p, lens.
type slotKeys struct {
	size      int
	own, bias bool
}

func (o slotKeys) Name() string {
	if o.bias {
		return "slot_bias"
	}
	return "slot_keys"
}
func (slotKeys) DiffWRT() []bool                         { return []bool{false, false} }
func (slotKeys) Diff(Nodes, *Node, *Node) (Nodes, error) { return Nodes{nil, nil}, nil }

func (o slotKeys) stride() int {
	if o.own {
		return 2 * o.size
	}
	return o.size
}

func (o slotKeys) Infer(in []engine.Type) (engine.Type, error) {
	s := in[0].Shape
	if !in[0].IsFloat() || len(s) != 4 || o.size < 1 || in[1].Dtype != tensor.Int32 || !slices.Equal(in[1].Shape, tensor.Shape{s[0]}) {
		return engine.Type{}, fmt.Errorf("weights %v and lengths %v, want [B,H,N,M] and int32 [B]", in[0], in[1])
	}
	t := engine.Type{Dtype: tensor.Int32, Shape: tensor.Shape{s[0], s[1], s[2] * o.stride()}}
	if o.bias {
		t.Dtype = in[0].Dtype
	}
	return t, nil
}

func (o slotKeys) Run(out engine.Value, in []engine.Value) error {
	if engine.IsF32(in[0]) {
		slotKeysRun[float32](o, out, in)
	} else {
		slotKeysRun[float64](o, out, in)
	}
	return nil
}

func slotKeysRun[F kernels.Float](o slotKeys, out engine.Value, in []engine.Value) {
	p, lens, s := engine.Floats[F](in[0]), engine.Ints(in[1]), in[0].Shape()
	var keys []int32
	var bias []F
	if o.bias {
		bias = engine.Floats[F](out)
		clear(bias)
	} else {
		keys = engine.Ints(out)
	}
	for slot := range s[0] * s[1] * s[2] {
		n, u, at := int(lens[slot/(s[1]*s[2])]), slot%s[2], slot*o.stride()
		whole, rest := n/o.size, n%o.size
		var full, short float64 // weights of whole blocks, and of the short one
		for v, x := range p[slot*s[3]:][:s[3]] {
			switch {
			case v < whole:
				full += float64(x)
			case v == whole && rest > 0:
				short = float64(x)
			}
		}
		for t := range o.size {
			m := full
			if t < rest {
				m += short
			}
			switch {
			case !o.bias && m > 0:
				keys[at+t] = int32(u*o.stride() + t)
			case !o.bias:
				keys[at+t] = -1
			case m > 0:
				bias[at+t] = F(math.Log(m / (full + short)))
			}
			if o.own && !o.bias {
				if keys[at+o.size+t] = -1; u*o.size+t < n {
					keys[at+o.size+t] = int32(u*o.stride() + o.size + t)
				}
			}
		}
	}
}

// AddChannel gives each head of x [B,R,H·D] one channel more, with the numbers c [B,H,R], or 1 if c is nil, and behind it zeros up to a whole
// vector of channels, for which the kernels are made: [B,R,H·E], E = D+1 rounded up to a multiple of 8. c has no gradient. A bias of keys is such a
// channel beside one of ones in the queries.
func AddChannel(b *Builder, x, c *Node, heads int) *Node {
	return b.Op(addChannel{heads}, present(x, c)...)
}

// addChannel has inputs: x, perhaps c.
type addChannel struct{ heads int }

func (addChannel) Name() string    { return "add_channel" }
func (addChannel) Cheap()          {}
func (addChannel) DiffWRT() []bool { return []bool{true, false} }

// widened is how many channels a head of d has with another one.
func widened(d int) int { return (d/8 + 1) * 8 }

func (o addChannel) Infer(in []engine.Type) (engine.Type, error) {
	s := in[0].Shape
	if !in[0].IsFloat() || len(s) != 3 || o.heads < 1 || s[2]%o.heads != 0 {
		return engine.Type{}, fmt.Errorf("rows %v, want floats [B,R,H·D] with H = %d", in[0], o.heads)
	}
	if len(in) > 1 && (in[1].Dtype != in[0].Dtype || !slices.Equal(in[1].Shape, tensor.Shape{s[0], o.heads, s[1]})) {
		return engine.Type{}, fmt.Errorf("a channel %v for rows %v", in[1], in[0])
	}
	return engine.Type{Dtype: in[0].Dtype, Shape: withLast(s, o.heads*widened(s[2]/o.heads))}, nil
}

func (o addChannel) Run(out engine.Value, in []engine.Value) error {
	if engine.IsF32(out) {
		addChannelRun[float32](o, out, in)
	} else {
		addChannelRun[float64](o, out, in)
	}
	return nil
}

func addChannelRun[F kernels.Float](o addChannel, out engine.Value, in []engine.Value) {
	x, y := engine.Floats[F](in[0]), engine.Floats[F](out)
	rows, d, e := in[0].Shape()[1], in[0].Shape()[2]/o.heads, lastOf(out.Shape())/o.heads
	var c []F
	if len(in) > 1 {
		c = engine.Floats[F](in[1])
	}
	for i := range in[0].Shape()[0] * rows * o.heads {
		to := y[i*e:][:e]
		copy(to, x[i*d:][:d])
		clear(to[d:])
		to[d] = 1
		if c != nil {
			row, h := i/o.heads, i%o.heads
			to[d] = c[(row/rows*o.heads+h)*rows+row%rows]
		}
	}
}

func (o addChannel) Diff(in Nodes, _, dout *Node) (Nodes, error) {
	d := lastOf(in[0].Shape()) / o.heads
	dx, err := engine.Apply(channels{widened(d), d}, dout)
	return append(Nodes{dx}, make(Nodes, len(in)-1)...), err
}
