package attention

import (
	"fmt"
	"slices"

	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/kernels"
)

// clusterPairs has inputs: members among the queries and among the keys, [B,H,C·Wq] and [B,H,C·Wk].
type clusterPairs struct {
	clusters, tokens int
	causal           bool
	self             Self
}

func (clusterPairs) Name() string                             { return "cluster_pairs" }
func (clusterPairs) DiffWRT() []bool                          { return []bool{false, false} }
func (clusterPairs) Diff(in Nodes, _, _ *Node) (Nodes, error) { return make(Nodes, len(in)), nil }

func (o clusterPairs) Infer(in []engine.Type) (engine.Type, error) {
	q, k := in[0].Shape, in[1].Shape
	if len(q) != 3 || len(k) != 3 || !slices.Equal(q[:2], k[:2]) || o.clusters < 1 || q[2]%o.clusters != 0 || k[2]%o.clusters != 0 {
		return engine.Type{}, fmt.Errorf("members %v and %v of %d clusters, want int32 [B,H,C·W] of both", in[0], in[1], o.clusters)
	}
	return engine.Type{Dtype: tensor.Int32, Shape: tensor.Shape{q[0], q[1], q[2] * (k[2] / o.clusters), 2}}, nil
}

func (o clusterPairs) Run(out engine.Value, in []engine.Value) error {
	q, k, pairs := engine.Ints(in[0]), engine.Ints(in[1]), engine.Ints(out)
	sq, sk := in[0].Shape()[2], in[1].Shape()[2]
	wq, wk := sq/o.clusters, sk/o.clusters
	kernels.Par(len(q)/max(sq, 1), func(_, bh int) {
		list, n := pairs[bh*sq*wk*2:][:sq*wk*2], 0
		reads := make([]bool, o.tokens)
		for c := range o.clusters {
			for _, i := range q[bh*sq+c*wq:][:wq] {
				for _, j := range k[bh*sk+c*wk:][:wk] {
					if i < 0 || j < 0 || o.causal && j > i || o.self != SelfAllowed && i == j {
						continue
					}
					list[n], list[n+1] = i, j
					reads[i] = true
					n += 2
				}
			}
		}
		if o.self == SelfLast { // a token that reads nothing has left room for this
			for _, i := range q[bh*sq:][:sq] {
				if i >= 0 && !reads[i] {
					list[n], list[n+1], reads[i] = i, i, true
					n += 2
				}
			}
		}
		for ; n < len(list); n++ {
			list[n] = -1
		}
	})
	return nil
}

// membersOf has inputs: clusters of queries [B,H,T], members [B,H,C·W].
type membersOf struct{ clusters int }

func (membersOf) Name() string                             { return "members_of" }
func (membersOf) DiffWRT() []bool                          { return []bool{false, false} }
func (membersOf) Diff(in Nodes, _, _ *Node) (Nodes, error) { return make(Nodes, len(in)), nil }

func (o membersOf) Infer(in []engine.Type) (engine.Type, error) {
	q, m := in[0].Shape, in[1].Shape
	if len(q) != 3 || len(m) != 3 || !slices.Equal(q[:2], m[:2]) || o.clusters < 1 || m[2]%o.clusters != 0 {
		return engine.Type{}, fmt.Errorf("clusters %v with members %v of %d, want int32 [B,H,T] and [B,H,C·W]", in[0], in[1], o.clusters)
	}
	return engine.Type{Dtype: tensor.Int32, Shape: tensor.Shape{q[0], q[1], q[2], m[2] / o.clusters}}, nil
}

func (o membersOf) Run(out engine.Value, in []engine.Value) error {
	of, members, keys := engine.Ints(in[0]), engine.Ints(in[1]), engine.Ints(out)
	t, w := in[0].Shape()[2], out.Shape()[3]
	for i, c := range of {
		row := keys[i*w:][:w]
		if c < 0 {
			fillWithNone(row)
			continue
		}
		copy(row, members[(i/t*o.clusters+int(c))*w:])
	}
	return nil
}

func fillWithNone(row []int32) {
	for i := range row {
		row[i] = -1
	}
}
