package layers

import (
	"fmt"
	"math"
	"slices"

	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/kernels"
)

// PointerRows is the loss of pointing at tokens, in nats: column p of the logits is a distribution over the first lens[b] tokens of an
// example, and the loss of target i is log(sum_t exp(x[t])) - x[i]; 0 where the target is negative. Logits of padding count for nothing
// and get no gradient.
//
// Shapes: logits [B,T,P], targets int32 [B,P], lens int32 [B] or nil (all T) -> [B,P]. Cost: two passes over the logits.
// Errors: shapes that do not fit; when run, a target that is no token of the example.
// Source: start and end of an answer, Devlin et al. 2018, arXiv 1810.04805, section 4.2.
// Differs: there padding takes part in the distribution.
func PointerRows(b *Builder, logits, targets, lens *Node) *Node {
	return b.Op(pointer{}, present(logits, targets, lens)...)
}

// pointer has inputs: logits, targets and, if there is padding, lens.
type pointer struct{}

func (pointer) Name() string      { return "pointer" }
func (o pointer) DiffWRT() []bool { return []bool{true, false, false} }

func (o pointer) Infer(in []engine.Type) (engine.Type, error) {
	if err := sameFloat(in[0]); err != nil {
		return engine.Type{}, err
	}
	x := in[0].Shape
	if len(x) != 3 {
		return engine.Type{}, fmt.Errorf("logits of shape %v, want [B,T,P]", x)
	}
	if err := isInts("targets", in[1]); err != nil {
		return engine.Type{}, err
	}
	if want := (tensor.Shape{x[0], x[2]}); !slices.Equal(want, in[1].Shape) {
		return engine.Type{}, fmt.Errorf("targets of shape %v for logits of shape %v, want %v", in[1].Shape, x, want)
	}
	if len(in) == 3 {
		if err := isInts("lens", in[2]); err != nil {
			return engine.Type{}, err
		}
		if !slices.Equal(in[2].Shape, tensor.Shape{x[0]}) {
			return engine.Type{}, fmt.Errorf("lens of shape %v for %d examples", in[2].Shape, x[0])
		}
	}
	return engine.Type{Dtype: in[0].Dtype, Shape: in[1].Shape.Clone()}, nil
}

func (o pointer) Flops(in []engine.Type, _ engine.Type) float64 { return 10 * float64(in[0].Size()) }

func (o pointer) Run(out engine.Value, in []engine.Value) error {
	if engine.IsF32(out) {
		return runPointer(engine.Floats[float32](out), engine.Floats[float32](in[0]), newPointing(in))
	}
	return runPointer(engine.Floats[float64](out), engine.Floats[float64](in[0]), newPointing(in))
}

// pointing is what the logits are held against.
type pointing struct {
	b, t, p int
	targets []int32
	lens    []int32 // nil: all t
}

func newPointing(in []engine.Value) pointing {
	s := in[0].Shape()
	g := pointing{b: s[0], t: s[1], p: s[2], targets: engine.Ints(in[1])}
	if len(in) > 2 && in[2].Dtype() == tensor.Int32 {
		g.lens = engine.Ints(in[2])
	}
	return g
}

// tokens is how many tokens example b has.
func (g pointing) tokens(b int) int {
	if g.lens == nil {
		return g.t
	}
	return int(g.lens[b])
}

func runPointer[F kernels.Float](rows, x []F, g pointing) error {
	for r, target := range g.targets {
		n := g.tokens(r / g.p)
		if int(target) >= n {
			return fmt.Errorf("target %d at index %d, want below %d, the tokens of the example, or negative to ignore", target, r, n)
		}
		if target < 0 {
			rows[r] = 0
			continue
		}
		column := x[r/g.p*g.t*g.p+r%g.p:]
		most, sum := logSum(column, n, g.p)
		rows[r] = F(math.Log(sum) + most - float64(column[int(target)*g.p]))
	}
	return nil
}

// logSum returns the largest of n elements and the sum of exp(x - largest).
func logSum[F kernels.Float](x []F, n, stride int) (most, sum float64) {
	most = math.Inf(-1)
	for t := range n {
		most = max(most, float64(x[t*stride]))
	}
	for t := range n {
		sum += math.Exp(float64(x[t*stride]) - most)
	}
	return most, sum
}

func (o pointer) Diff(in Nodes, _, dout *Node) (Nodes, error) {
	dx, err := engine.Apply(pointerGrad{}, append(slices.Clone(in), dout)...)
	return append(Nodes{dx}, make(Nodes, len(in)-1)...), err
}

// pointerGrad has the inputs of pointer, and the gradient of each row.
type pointerGrad struct{ firstOrder }

func (o pointerGrad) Name() string { return "pointer_grad" }

func (o pointerGrad) Infer(in []engine.Type) (engine.Type, error) { return in[0], nil }

func (o pointerGrad) Flops(_ []engine.Type, out engine.Type) float64 { return 10 * float64(out.Size()) }

func (o pointerGrad) Run(out engine.Value, in []engine.Value) error {
	if engine.IsF32(out) {
		runPointerGrad[float32](out, in)
	} else {
		runPointerGrad[float64](out, in)
	}
	return nil
}

func runPointerGrad[F kernels.Float](out engine.Value, in []engine.Value) {
	g := newPointing(in)
	x, dx, dout := engine.Floats[F](in[0]), engine.Floats[F](out), engine.Floats[F](in[len(in)-1])
	clear(dx)
	for r, target := range g.targets {
		if target < 0 {
			continue
		}
		at := r/g.p*g.t*g.p + r%g.p
		column, d, n := x[at:], dx[at:], g.tokens(r/g.p)
		most, sum := logSum(column, n, g.p)
		for t := range n {
			y := math.Exp(float64(column[t*g.p])-most) / sum
			if t == int(target) {
				y--
			}
			d[t*g.p] = F(float64(dout[r]) * y)
		}
	}
}
