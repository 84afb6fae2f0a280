package layers

import (
	"fmt"
	"slices"
	"sync"

	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/kernels"
)

// LinearConfig describes a linear layer.
type LinearConfig struct {
	Out      int                // width of the result; not needed with Weight
	NoBias   bool               // leave the bias out
	InOut    bool               // the weight is stored [in, out] (Conv1D of GPT-2) and not [out, in] (PyTorch)
	Act      kernels.Activation // applied to x W + b; None by default
	Residual *Node              // added at the end, shape of the result; may be nil
	Init     Init               // of the weight; nil is Normal(0.02)
	BiasInit Init               // nil is Zeros()
	Weight   *Node              // used in place of an own parameter "weight": a tied table, say
	Bias     *Node              // used in place of an own parameter "bias"
}

// Linear computes act(x W + b) + residual in one pass over the result.
//
// Shapes: x [.., in] -> [.., out]. Parameters: "weight" [out, in], or [in, out] with InOut; "bias" [out].
// Cost: 2 N in out operations forward, twice that backward; a gradient keeps x and, with an activation, the value before it.
// Errors: width of x, shape of the residual.
// Differs: in a graph for training the activation is a node of its own, since its gradient needs the value before it.
func Linear(b *Builder, x *Node, c LinearConfig) *Node {
	if b.Err() != nil {
		return nil
	}
	if x == nil || x.Dims() == 0 {
		return b.Failf("linear: the input has no width")
	}
	in := x.Shape()[x.Dims()-1]
	w := c.Weight
	if w == nil {
		if c.Out < 1 {
			return b.Failf("linear: output width %d, want at least 1", c.Out)
		}
		shape := []int{c.Out, in}
		if c.InOut {
			shape = []int{in, c.Out}
		}
		w = b.Param("weight", initOr(c.Init, Normal(0.02)), shape...)
	}
	inputs := Nodes{x, w}
	if bias := c.Bias; !c.NoBias {
		if bias == nil && c.Weight != nil {
			s := w.Shape()
			c.Out = s[0]
			if c.InOut {
				c.Out = s[len(s)-1]
			}
		}
		if bias == nil {
			bias = b.Param("bias", initOr(c.BiasInit, Zeros()), c.Out)
		}
		inputs = append(inputs, bias)
	}
	op := linear{inOut: c.InOut, bias: !c.NoBias, act: c.Act}
	if b.Training() && c.Act != kernels.None {
		op.act = kernels.None
		y := Activation(b, b.Op(op, inputs...), c.Act)
		if c.Residual != nil {
			y = Add(b, y, c.Residual)
		}
		return y
	}
	if c.Residual != nil {
		op.residual = true
		inputs = append(inputs, c.Residual)
	}
	return b.Op(op, inputs...)
}

func initOr(i, otherwise Init) Init {
	if i == nil {
		return otherwise
	}
	return i
}

// linear is act(x W + b) + residual. Inputs: x, weight, then bias and residual where there are any.
type linear struct {
	inOut, bias, residual bool
	act                   kernels.Activation
}

func (o linear) Name() string { return "linear" }

// InPlace lets the result be written over the residual.
func (o linear) InPlace() int {
	switch {
	case !o.residual || o.act != kernels.None:
		return -1
	case o.bias:
		return 3
	}
	return 2
}

// widths are the sizes of a weight.
func (o linear) widths(w tensor.Shape) (in, out int) {
	if o.inOut {
		return w[0], w[1]
	}
	return w[1], w[0]
}

func (o linear) Infer(in []engine.Type) (engine.Type, error) {
	if err := sameFloat(in...); err != nil {
		return engine.Type{}, err
	}
	x, w := in[0].Shape, in[1].Shape
	if len(w) != 2 {
		return engine.Type{}, fmt.Errorf("weight of shape %v, want two axes", w)
	}
	wi, wo := o.widths(w)
	if len(x) == 0 || x[len(x)-1] != wi {
		return engine.Type{}, fmt.Errorf("input width %d, weight wants %d", lastOf(x), wi)
	}
	if o.bias && !slices.Equal(in[2].Shape, tensor.Shape{wo}) {
		return engine.Type{}, fmt.Errorf("bias of shape %v, weight wants (%d)", in[2].Shape, wo)
	}
	out := withLast(x, wo)
	if o.residual && !slices.Equal(in[len(in)-1].Shape, out) {
		return engine.Type{}, fmt.Errorf("residual of shape %v, result has %v", in[len(in)-1].Shape, out)
	}
	return engine.Type{Dtype: in[0].Dtype, Shape: out}, nil
}

func (o linear) Flops(in []engine.Type, out engine.Type) float64 {
	return 2 * float64(in[0].Size()) * float64(lastOf(out.Shape))
}

func (o linear) Run(out engine.Value, in []engine.Value) error {
	if engine.IsF32(out) {
		runLinear[float32](o, out, in, &epilogues32)
	} else {
		runLinear[float64](o, out, in, &epilogues64)
	}
	return nil
}

// epilogues are kept between runs because a pointer that reaches the workers would be allocated anew each time.
var epilogues32, epilogues64 sync.Pool

func runLinear[F kernels.Float](o linear, out engine.Value, in []engine.Value, pool *sync.Pool) {
	x, w, y := engine.Floats[F](in[0]), engine.Floats[F](in[1]), engine.Floats[F](out)
	k, n := o.widths(in[1].Shape())
	var ep *kernels.Epilogue[F]
	if o.bias || o.residual || o.act != kernels.None {
		ep = takeEpilogue[F](pool)
		ep.Act = o.act
		if o.bias {
			ep.Bias = engine.Floats[F](in[2])
		}
		switch {
		case !o.residual:
		case o.act == kernels.None:
			// The sum starts from the residual, which y may be written over; so it has the same bits wherever y lies.
			ep.Start, ep.LdStart = engine.Floats[F](in[len(in)-1]), n
		default:
			ep.Residual, ep.LdResidual = engine.Floats[F](in[len(in)-1]), n
		}
	}
	if o.inOut {
		kernels.Gemm(false, false, len(x)/k, n, k, x, k, w, n, y, n, false, ep)
	} else {
		kernels.Gemm(false, true, len(x)/k, n, k, x, k, w, k, y, n, false, ep)
	}
	giveEpilogue(pool, ep)
}

func takeEpilogue[F kernels.Float](pool *sync.Pool) *kernels.Epilogue[F] {
	if ep, ok := pool.Get().(*kernels.Epilogue[F]); ok {
		return ep
	}
	return new(kernels.Epilogue[F])
}

// giveEpilogue puts an epilogue back, without the memory it points to; nil does nothing.
func giveEpilogue[F kernels.Float](pool *sync.Pool, ep *kernels.Epilogue[F]) {
	if ep != nil {
		*ep = kernels.Epilogue[F]{}
		pool.Put(ep)
	}
}

func (o linear) Diff(in Nodes, out, dout *Node) (Nodes, error) { return o.DiffAdd(in, out, dout, nil) }

// DiffAdd starts the product from what else is added to the gradient for x: that of the other readers of x.
func (o linear) DiffAdd(in Nodes, _, dout, more *Node) (Nodes, error) {
	if o.act != kernels.None {
		return nil, fmt.Errorf("the activation %v is fused; build the graph with Options.Training", o.act)
	}
	grads := make(Nodes, len(in))
	// The weight first: nothing reads x after it, and the gradient of x can take its memory.
	dw, err := engine.Apply(linearDw{inOut: o.inOut, bias: o.bias}, in[0], dout)
	if err != nil {
		return nil, err
	}
	args := Nodes{dout, in[1]}
	if more != nil {
		args = append(args, more)
	}
	if grads[0], err = engine.Apply(linearDx{inOut: o.inOut, more: more != nil}, args...); err != nil {
		return nil, err
	}
	grads[1] = dw
	if o.bias {
		size := in[1].Shape().TotalSize()
		if grads[1], err = engine.View(dw, 0, in[1].Shape()...); err != nil {
			return nil, err
		}
		if grads[2], err = engine.View(dw, size, in[2].Shape()...); err != nil {
			return nil, err
		}
	}
	if o.residual {
		grads[len(in)-1] = dout
	}
	return grads, nil
}

// linearDx is the gradient for the input, dy W' + more. Inputs: dy, weight and more, if there is any.
type linearDx struct {
	firstOrder
	inOut, more bool
}

func (o linearDx) Name() string { return "linear_dx" }

// InPlace lets the result be written over what it starts from.
func (o linearDx) InPlace() int {
	if o.more {
		return 2
	}
	return -1
}

func (o linearDx) Infer(in []engine.Type) (engine.Type, error) {
	wi, _ := linear{inOut: o.inOut}.widths(in[1].Shape)
	return engine.Type{Dtype: in[0].Dtype, Shape: withLast(in[0].Shape, wi)}, nil
}

func (o linearDx) Flops(in []engine.Type, out engine.Type) float64 {
	return 2 * float64(in[0].Size()) * float64(lastOf(out.Shape))
}

func (o linearDx) Run(out engine.Value, in []engine.Value) error {
	if engine.IsF32(out) {
		runLinearDx[float32](o, out, in, &epilogues32)
	} else {
		runLinearDx[float64](o, out, in, &epilogues64)
	}
	return nil
}

func runLinearDx[F kernels.Float](o linearDx, out engine.Value, in []engine.Value, pool *sync.Pool) {
	dy, w, dx := engine.Floats[F](in[0]), engine.Floats[F](in[1]), engine.Floats[F](out)
	n, k := linear{inOut: o.inOut}.widths(in[1].Shape())
	var ep *kernels.Epilogue[F]
	if o.more {
		ep = takeEpilogue[F](pool)
		ep.Start, ep.LdStart = engine.Floats[F](in[2]), n
	}
	if o.inOut {
		kernels.Gemm(false, true, len(dy)/k, n, k, dy, k, w, k, dx, n, false, ep)
	} else {
		kernels.Gemm(false, false, len(dy)/k, n, k, dy, k, w, n, dx, n, false, ep)
	}
	giveEpilogue(pool, ep)
}

// linearDw is the gradient for weight and bias: the weight's shape, or both flat, one after the other. Inputs: x, dy.
type linearDw struct {
	firstOrder
	inOut, bias bool
}

func (o linearDw) Name() string { return "linear_dw" }

func (o linearDw) Infer(in []engine.Type) (engine.Type, error) {
	wi, wo := lastOf(in[0].Shape), lastOf(in[1].Shape)
	shape := tensor.Shape{wo, wi}
	switch {
	case o.bias:
		shape = tensor.Shape{wi*wo + wo}
	case o.inOut:
		shape = tensor.Shape{wi, wo}
	}
	return engine.Type{Dtype: in[0].Dtype, Shape: shape}, nil
}

func (o linearDw) Flops(in []engine.Type, out engine.Type) float64 {
	return 2 * float64(in[0].Size()) * float64(lastOf(in[1].Shape))
}

func (o linearDw) Run(out engine.Value, in []engine.Value) error {
	if engine.IsF32(out) {
		runLinearDw[float32](o, out, in)
	} else {
		runLinearDw[float64](o, out, in)
	}
	return nil
}

func runLinearDw[F kernels.Float](o linearDw, out engine.Value, in []engine.Value) {
	x, dy, dw := engine.Floats[F](in[0]), engine.Floats[F](in[1]), engine.Floats[F](out)
	wi, wo := lastOf(in[0].Shape()), lastOf(in[1].Shape())
	rows := len(x) / wi
	var db []F
	if o.bias {
		db = dw[wi*wo:]
	}
	if o.inOut {
		kernels.WeightGrad(wi, wo, rows, x, wi, dy, wo, dw[:wi*wo], wo, nil, db)
	} else {
		kernels.WeightGrad(wo, wi, rows, dy, wo, x, wi, dw[:wi*wo], wi, db, nil)
	}
}
