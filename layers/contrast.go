package layers

import (
	"fmt"
	"math"

	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/kernels"
)

// Candidates are scores [M,M] with -Inf for pairs that must not compete: a column whose group is that of the row, but for the row's
// own column, and a column or row without group (negative). groups is int32 [M]. It is what a contrastive loss normalises: the own
// column is right, all others are wrong, and a copy of the own one is neither.
func Candidates(b *Builder, scores, groups *Node) *Node { return b.Op(candidates{}, scores, groups) }

// Contrast is the mean cross entropy of the rows of Candidates(scores, groups) that have a group, each with its own column as the right
// one: a scalar, 0 without such a row.
// Source: van den Oord, Li, Vinyals 2018, arXiv 1807.03748, section 2.3.
func Contrast(b *Builder, scores, groups *Node) *Node {
	own := b.Op(ownColumns{}, groups)
	return b.Op(meanKept{orZero: true}, CrossEntropyRows(b, Candidates(b, scores, groups), own, 0), own)
}

// ownColumns are the targets of a contrastive loss: k for row k, -1 for one without group.
type ownColumns struct{}

func (ownColumns) Name() string                                { return "own_columns" }
func (ownColumns) Infer(in []engine.Type) (engine.Type, error) { return in[0], isInts("groups", in[0]) }
func (ownColumns) Diff(Nodes, *Node, *Node) (Nodes, error)     { return Nodes{nil}, nil }
func (ownColumns) Run(out engine.Value, in []engine.Value) error {
	own := engine.Ints(out)
	for k, g := range engine.Ints(in[0]) {
		if own[k] = int32(k); g < 0 {
			own[k] = -1
		}
	}
	return nil
}

// candidates has inputs: scores, groups.
type candidates struct{}

func (candidates) Name() string    { return "candidates" }
func (candidates) Cheap()          {}
func (candidates) InPlace() int    { return 0 }
func (candidates) NonFinite()      {}
func (candidates) DiffWRT() []bool { return []bool{true, false} }

func (candidates) Infer(in []engine.Type) (engine.Type, error) {
	s := in[0].Shape
	if len(s) != 2 || s[0] != s[1] || !in[0].IsFloat() || in[1].Dtype != tensor.Int32 || in[1].Size() != s[0] {
		return engine.Type{}, fmt.Errorf("scores %v and groups %v, want floats [M,M] and int32 [M]", in[0], in[1])
	}
	return in[0], nil
}

func (candidates) Run(out engine.Value, in []engine.Value) error {
	if engine.IsF32(out) {
		candidatesRun(out, in, float32(math.Inf(-1)))
	} else {
		candidatesRun(out, in, math.Inf(-1))
	}
	return nil
}

func candidatesRun[F kernels.Float](out engine.Value, in []engine.Value, hidden F) {
	x, y, groups := engine.Floats[F](in[0]), engine.Floats[F](out), engine.Ints(in[1])
	m := len(groups)
	for u, own := range groups {
		for v, other := range groups {
			if k := u*m + v; own < 0 || other < 0 || u != v && own == other {
				y[k] = hidden
			} else {
				y[k] = x[k]
			}
		}
	}
}

func (o candidates) Diff(in Nodes, _, dout *Node) (Nodes, error) {
	dx, err := engine.Apply(candidatesGrad{}, dout, in[1])
	return Nodes{dx, nil}, err
}

// candidatesGrad has zeros where candidates hides.
type candidatesGrad struct{ firstOrder }

func (candidatesGrad) Name() string                                { return "candidates_grad" }
func (candidatesGrad) InPlace() int                                { return 0 }
func (candidatesGrad) Infer(in []engine.Type) (engine.Type, error) { return in[0], nil }
func (candidatesGrad) Run(out engine.Value, in []engine.Value) error {
	if engine.IsF32(out) {
		candidatesRun[float32](out, in, 0)
	} else {
		candidatesRun[float64](out, in, 0)
	}
	return nil
}
