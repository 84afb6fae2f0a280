package attention

import (
	"fmt"
	"slices"

	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/kernels"
	"github.com/euryale-ml/euryale/layers"
)

func (o *attend) Diff(in Nodes, out, dout *Node) (Nodes, error) {
	parts, err := engine.Parts(dout, o.sizeO(), o.sizeLSE())
	if err != nil {
		return nil, err
	}
	if parts[0] == nil {
		parts[0] = engine.Zeros(out.Graph(), engine.Type{Dtype: out.Dtype(), Shape: tensor.Shape{o.sizeO()}})
	}
	args := append(slices.Clone(in), out, parts[0])
	if parts[1] != nil {
		args = append(args, parts[1])
	}
	g, err := engine.Apply(attendGrad{o, len(in), parts[1] != nil}, args...)
	if err != nil {
		return nil, err
	}
	ds := make(Nodes, len(in))
	if o.fused && o.labels == nil {
		ds[0] = g
		return ds, nil
	}
	at := 0
	for _, i := range o.differentiated() {
		of := engine.View
		if i > 2 || o.fused && i > 0 {
			of = layers.Part // tables of labels are weights
		}
		if ds[i], err = of(g, at, in[i].Shape()...); err != nil {
			return nil, err
		}
		at += in[i].Shape().TotalSize()
	}
	return ds, nil
}

// differentiated are the inputs with gradients, in the order in which attendGrad has them.
func (o *attend) differentiated() []int {
	if o.fused {
		return append([]int{0}, o.tables()...)
	}
	return append([]int{0, 1, 2}, o.tables()...)
}

// attendGrad computes the gradients of q, k and v: side by side in one tensor if the inputs are, else one after the other; those
// of the tables of labels behind them.
// Inputs: those of attend, its result, the gradient of o, that of lse if there is one.
type attendGrad struct {
	of     *attend
	inputs int
	lse    bool
}

func (attendGrad) Name() string { return "attention_grad" }

func (o attendGrad) Infer(in []engine.Type) (engine.Type, error) {
	if _, err := o.of.Infer(in[:o.inputs]); err != nil {
		return engine.Type{}, err
	}
	if in[o.inputs+1].Size() != o.of.sizeO() || o.lse && in[o.inputs+2].Size() != o.of.sizeLSE() {
		return engine.Type{}, fmt.Errorf("gradients %v do not fit", in[o.inputs+1:])
	}
	if o.of.fused && o.of.labels == nil {
		return in[0], nil
	}
	n := 0
	for _, i := range o.of.differentiated() {
		n += in[i].Size()
	}
	return engine.Type{Dtype: in[0].Dtype, Shape: tensor.Shape{n}}, nil
}

func (o attendGrad) Flops([]engine.Type, engine.Type) float64 {
	return o.of.total(func(l *kernels.Layout) float64 { return l.BackwardFlops(o.of.d, o.of.dv) }, 3*o.of.d+2*o.of.dv)
}

func (attendGrad) Diff(Nodes, *Node, *Node) (Nodes, error) {
	return nil, fmt.Errorf("a gradient has no gradient of its own here")
}
