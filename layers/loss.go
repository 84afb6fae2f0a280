package layers

import (
	"fmt"
	"math"
	"slices"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/kernels"
)

// CrossEntropy is the mean of CrossEntropyRows over the rows whose target is not negative, a scalar in nats. Without such a
// row it is NaN and its gradient 0.
//
// Shapes: logits [.., V], targets int32 [..] -> scalar. Cost: two passes over the logits; the gradient is written over them.
// Errors: shapes that do not fit; when run, a target of V or more.
// Source: torch.nn.functional.cross_entropy, reduction "mean".
// Differs: there the gradient is NaN too when every target is ignored.
func CrossEntropy(b *Builder, logits, targets *Node, smoothing float64) *Node {
	return MeanKept(b, CrossEntropyRows(b, logits, targets, smoothing), targets)
}

// CrossEntropyRows is the loss of each row in nats: log(sum(exp(x))) - (1-s) x[target] - s mean(x), s the label smoothing; 0
// where the target is negative.
//
// Shapes: logits [.., V], targets int32 [..] -> [..]. Cost and errors: as CrossEntropy.
// Source: label smoothing, Szegedy et al. 2016, arXiv 1512.00567, section 7.
func CrossEntropyRows(b *Builder, logits, targets *Node, smoothing float64) *Node {
	if smoothing < 0 || smoothing >= 1 || smoothing != smoothing {
		return b.Failf("cross_entropy: label smoothing %g, want 0 <= s < 1", smoothing)
	}
	return b.Op(crossEntropy{smoothing: smoothing}, logits, targets)
}

// MeanKept is the mean of the rows whose target is not negative, NaN if there is none.
//
// Shapes: rows [..], targets int32 [..] -> scalar.
func MeanKept(b *Builder, rows, targets *Node) *Node { return b.Op(meanKept{}, rows, targets) }

// crossEntropy has inputs: logits, targets.
type crossEntropy struct{ smoothing float64 }

func (o crossEntropy) Name() string    { return "cross_entropy" }
func (o crossEntropy) DiffWRT() []bool { return []bool{true, false} }

func (o crossEntropy) Infer(in []engine.Type) (engine.Type, error) {
	if err := sameFloat(in[0]); err != nil {
		return engine.Type{}, err
	}
	if err := isInts("targets", in[1]); err != nil {
		return engine.Type{}, err
	}
	x := in[0].Shape
	if len(x) < 2 || !slices.Equal(x[:len(x)-1], in[1].Shape) {
		return engine.Type{}, fmt.Errorf("targets of shape %v for logits of shape %v, want all axes but the last", in[1].Shape, x)
	}
	return engine.Type{Dtype: in[0].Dtype, Shape: in[1].Shape.Clone()}, nil
}

func (o crossEntropy) Flops(in []engine.Type, out engine.Type) float64 {
	return 10 * float64(in[0].Size())
}

func (o crossEntropy) Run(out engine.Value, in []engine.Value) error {
	targets, v := engine.Ints(in[1]), lastOf(in[0].Shape())
	for i, t := range targets {
		if int(t) >= v {
			return fmt.Errorf("target %d at index %d, want below %d or negative to ignore", t, i, v)
		}
	}
	if engine.IsF32(out) {
		kernels.CrossEntropy(len(targets), v, engine.Floats[float32](in[0]), targets, float32(o.smoothing), engine.Floats[float32](out))
	} else {
		kernels.CrossEntropy(len(targets), v, engine.Floats[float64](in[0]), targets, o.smoothing, engine.Floats[float64](out))
	}
	return nil
}

func (o crossEntropy) Diff(in Nodes, out, dout *Node) (Nodes, error) {
	dx, err := engine.Apply(crossEntropyGrad{smoothing: o.smoothing}, in[0], in[1], dout)
	return Nodes{dx, nil}, err
}

// crossEntropyGrad has inputs: logits, targets, gradient of each row.
type crossEntropyGrad struct {
	firstOrder
	smoothing float64
}

func (o crossEntropyGrad) Name() string { return "cross_entropy_grad" }
func (o crossEntropyGrad) InPlace() int { return 0 }

func (o crossEntropyGrad) Infer(in []engine.Type) (engine.Type, error) { return in[0], nil }

func (o crossEntropyGrad) Flops(in []engine.Type, out engine.Type) float64 {
	return 10 * float64(out.Size())
}

func (o crossEntropyGrad) Run(out engine.Value, in []engine.Value) error {
	if engine.IsF32(out) {
		runCrossEntropyGrad[float32](o, out, in)
	} else {
		runCrossEntropyGrad[float64](o, out, in)
	}
	return nil
}

func runCrossEntropyGrad[F kernels.Float](o crossEntropyGrad, out engine.Value, in []engine.Value) {
	targets, v := engine.Ints(in[1]), lastOf(in[0].Shape())
	kernels.CrossEntropyGrad(len(targets), v, engine.Floats[F](in[0]), targets, F(o.smoothing), engine.Floats[F](in[2]),
		engine.Floats[F](out))
}

// meanKept has inputs: rows, targets.
type meanKept struct{ orZero bool } // without such a row 0, not NaN

func (o meanKept) Name() string    { return "mean_kept" }
func (o meanKept) DiffWRT() []bool { return []bool{true, false} }

func (o meanKept) Infer(in []engine.Type) (engine.Type, error) {
	if err := sameFloat(in[0]); err != nil {
		return engine.Type{}, err
	}
	if err := isInts("targets", in[1]); err != nil {
		return engine.Type{}, err
	}
	if !slices.Equal(in[0].Shape, in[1].Shape) {
		return engine.Type{}, fmt.Errorf("targets of shape %v for rows of shape %v", in[1].Shape, in[0].Shape)
	}
	return engine.Type{Dtype: in[0].Dtype}, nil
}

func (o meanKept) Run(out engine.Value, in []engine.Value) error {
	if engine.IsF32(out) {
		runMeanKept[float32](o, out, in)
	} else {
		runMeanKept[float64](o, out, in)
	}
	return nil
}

func runMeanKept[F kernels.Float](o meanKept, out engine.Value, in []engine.Value) {
	rows, targets := engine.Floats[F](in[0]), engine.Ints(in[1])
	sum := 0.0
	for i, t := range targets {
		if t >= 0 {
			sum += float64(rows[i])
		}
	}
	mean := math.NaN()
	if n := kept(targets); n > 0 {
		mean = sum / float64(n)
	} else if o.orZero {
		mean = 0
	}
	engine.Floats[F](out)[0] = F(mean)
}

func kept(targets []int32) int {
	n := 0
	for _, t := range targets {
		if t >= 0 {
			n++
		}
	}
	return n
}

func (o meanKept) Diff(in Nodes, out, dout *Node) (Nodes, error) {
	dx, err := engine.Apply(meanKeptGrad{}, dout, in[1])
	return Nodes{dx, nil}, err
}

// meanKeptGrad has inputs: gradient of the mean, targets.
type meanKeptGrad struct{ firstOrder }

func (o meanKeptGrad) Name() string { return "mean_kept_grad" }

func (o meanKeptGrad) Infer(in []engine.Type) (engine.Type, error) {
	return engine.Type{Dtype: in[0].Dtype, Shape: in[1].Shape.Clone()}, nil
}

func (o meanKeptGrad) Run(out engine.Value, in []engine.Value) error {
	if engine.IsF32(out) {
		runMeanKeptGrad[float32](out, in)
	} else {
		runMeanKeptGrad[float64](out, in)
	}
	return nil
}

func runMeanKeptGrad[F kernels.Float](out engine.Value, in []engine.Value) {
	targets, dx := engine.Ints(in[1]), engine.Floats[F](out)
	share := F(float64(engine.Floats[F](in[0])[0]) / float64(max(kept(targets), 1)))
	for i, t := range targets {
		if t >= 0 {
			dx[i] = share
		} else {
			dx[i] = 0
		}
	}
}

// Softmax is exp(x) / sum(exp(x)) over the last axis; a row of -Inf gives zeros.
//
// Shapes: x [.., V] -> [.., V]. A gradient keeps the result.
func Softmax(b *Builder, x *Node) *Node { return b.Op(softmax{}, x) }

// LogSoftmax is x - log(sum(exp(x))) over the last axis.
//
// Shapes: x [.., V] -> [.., V]. A gradient keeps the result.
func LogSoftmax(b *Builder, x *Node) *Node { return b.Op(softmax{log: true}, x) }

// softmax is softmax(x) or its logarithm.
type softmax struct{ log bool }

func (o softmax) Name() string {
	if o.log {
		return "log_softmax"
	}
	return "softmax"
}

func (o softmax) InPlace() int { return 0 }

func (o softmax) Infer(in []engine.Type) (engine.Type, error) {
	if len(in[0].Shape) == 0 {
		return engine.Type{}, fmt.Errorf("the input is a scalar")
	}
	return in[0], sameFloat(in...)
}

func (o softmax) Flops(in []engine.Type, out engine.Type) float64 { return 10 * float64(out.Size()) }

func (o softmax) Run(out engine.Value, in []engine.Value) error {
	if engine.IsF32(out) {
		runSoftmax[float32](o, out, in)
	} else {
		runSoftmax[float64](o, out, in)
	}
	return nil
}

func runSoftmax[F kernels.Float](o softmax, out engine.Value, in []engine.Value) {
	x, y, d := engine.Floats[F](in[0]), engine.Floats[F](out), lastOf(in[0].Shape())
	if o.log {
		kernels.LogSoftmax(len(x)/d, d, x, y)
	} else {
		kernels.Softmax(len(x)/d, d, x, y)
	}
}

func (o softmax) Diff(in Nodes, out, dout *Node) (Nodes, error) {
	dx, err := engine.Apply(softmaxGrad{log: o.log}, out, dout)
	return Nodes{dx}, err
}

// softmaxGrad has inputs: y, dy.
type softmaxGrad struct {
	firstOrder
	log bool
}

func (o softmaxGrad) Name() string { return softmax{o.log}.Name() + "_grad" }
func (o softmaxGrad) InPlace() int { return 1 }

func (o softmaxGrad) Infer(in []engine.Type) (engine.Type, error) { return in[0], nil }

func (o softmaxGrad) Flops(in []engine.Type, out engine.Type) float64 { return 4 * float64(out.Size()) }

func (o softmaxGrad) Run(out engine.Value, in []engine.Value) error {
	if engine.IsF32(out) {
		runSoftmaxGrad[float32](o, out, in)
	} else {
		runSoftmaxGrad[float64](o, out, in)
	}
	return nil
}

func runSoftmaxGrad[F kernels.Float](o softmaxGrad, out engine.Value, in []engine.Value) {
	y, dy, dx, d := engine.Floats[F](in[0]), engine.Floats[F](in[1]), engine.Floats[F](out), lastOf(in[0].Shape())
	if o.log {
		kernels.LogSoftmaxGrad(len(y)/d, d, y, dy, dx)
	} else {
		kernels.SoftmaxGrad(len(y)/d, d, y, dy, dx)
	}
}
