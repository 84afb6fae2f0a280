package layers

import (
	"fmt"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/kernels"
)

// Channels makes of each run of from numbers in the last dimension, the channels of a head, one of to: followed by zeros, or cut.
// x [..., H·from] -> [..., H·to]. Cost: a copy.
func Channels(b *Builder, x *Node, from, to int) *Node {
	if from == to {
		return x
	}
	return b.Op(channels{from, to}, x)
}

type channels struct{ from, to int }

func (channels) Name() string { return "channels" }
func (channels) Cheap()       {}

func (o channels) Infer(in []engine.Type) (engine.Type, error) {
	s := in[0].Shape
	if !in[0].IsFloat() || len(s) == 0 || o.from < 1 || o.to < 1 || lastOf(s)%o.from != 0 {
		return engine.Type{}, fmt.Errorf("%v, want floats [..., H·%d]", in[0], o.from)
	}
	return engine.Type{Dtype: in[0].Dtype, Shape: withLast(s, lastOf(s)/o.from*o.to)}, nil
}

func (o channels) Run(out engine.Value, in []engine.Value) error {
	if engine.IsF32(out) {
		channelsRun[float32](o, out, in[0])
	} else {
		channelsRun[float64](o, out, in[0])
	}
	return nil
}

func channelsRun[F kernels.Float](o channels, out, in engine.Value) {
	x, y := engine.Floats[F](in), engine.Floats[F](out)
	for i := range len(x) / o.from {
		n := copy(y[i*o.to:][:o.to], x[i*o.from:][:o.from])
		clear(y[i*o.to+n:][:o.to-n])
	}
}

func (o channels) Diff(_ Nodes, _, dout *Node) (Nodes, error) {
	dx, err := engine.Apply(channels{o.to, o.from}, dout)
	return Nodes{dx}, err
}
