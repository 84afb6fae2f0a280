package golden

import (
	"errors"

	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/kernels"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/layers/attention"
	"github.com/euryale-ml/euryale/models"
)

// padding tells a model which tokens are padding.
//
// Our own skeletons take the length of each example: padding stands on the right and attends to nothing.
//
// Hugging Face's families hide padding as keys, wherever it stands, and leave it as queries: they add the smallest number to the
// scores of hidden keys. A query whose keys are all hidden then gives equal shares to the keys with the largest score. No token
// that counts reads such a row, but recorded logits hold it, so it is rebuilt here, and not in the models.
func padding(m models.Model, b *layers.Builder, in Batch, given *models.Inputs) error {
	if m.Type() == "decoder" {
		lens, err := in.lengths()
		if err != nil {
			return err
		}
		given.Lens = b.Input("lengths", tensor.Int32, in.B)
		copy(layers.InputValue(given.Lens).Int32s(), lens)
		return nil
	}
	index := b.Input("attention_mask", tensor.Int32, in.B, in.T)
	for i, counts := range in.Mask {
		v := int32(-1)
		if counts {
			v = int32(i % in.T)
		}
		layers.InputValue(index).Int32s()[i] = v
	}
	leftover := everyKey
	if m.Type() == "gpt_neo" {
		leftover = hiddenOnce
	}
	given.Attend = func(b *layers.Builder, _ int, c attention.Config, qkv ...*layers.Node) *layers.Node {
		c.IndexK = index
		var o *layers.Node
		v, offset := qkv[len(qkv)-1], 0
		if len(qkv) == 1 {
			o, _ = attention.AttendQKV(b, c, v)
			offset = 2 * v.Shape()[2] / 3
		} else {
			o, _ = attention.Attend(b, c, qkv[0], qkv[1], v)
		}
		shares, any := in.shares(c.Pattern, leftover)
		if !any || b.Err() != nil {
			return o
		}
		w := constant(b, "shares of "+c.Pattern.String(), shares, []int{in.B, in.T, in.T})
		return layers.Add(b, o, b.Op(mix{offset, v.Shape()[2] - offset}, w, v))
	}
	return nil
}

// lengths counts the tokens of each example.
func (in Batch) lengths() ([]int32, error) {
	lens := make([]int32, in.B)
	for i, counts := range in.Mask {
		if b, t := i/in.T, int32(i%in.T); counts {
			if lens[b] != t {
				return nil, inputErrorf("in/attention_mask has padding before token %d of example %d; this model type takes padding on the right alone", t, b)
			}
			lens[b]++
		}
	}
	return lens, nil
}

// everyKey is the rule where hidden keys have the smallest number as their score, whatever hides them: equal shares for all.
func everyKey(sees, counts bool, i, j int) bool { return true }

// hiddenOnce is the rule of GPT-Neo, where the window replaces the score by the smallest number and the mask of later keys and
// padding adds it: keys that are hidden by both have minus infinity.
func hiddenOnce(sees, counts bool, i, j int) bool { return j <= i && sees != counts }

// shares is [B,T,T]: for queries that read no key, equal shares of the keys that a rule leaves over; else zeros. It reports
// whether there is such a query.
func (in Batch) shares(p attention.Pattern, leftover func(sees, counts bool, i, j int) bool) ([]float64, bool) {
	w := make([]float64, in.B*in.T*in.T)
	any := false
	for r := range in.B * in.T {
		i, mask := r%in.T, in.Mask[r/in.T*in.T:][:in.T]
		reads, n := false, 0.0
		for j, counts := range mask {
			sees := p.Sees(0, i, j, in.T)
			reads = reads || sees && counts
			if leftover(sees, counts, i, j) {
				n++
			}
		}
		if reads {
			continue
		}
		any = true
		for j, counts := range mask {
			if leftover(p.Sees(0, i, j, in.T), counts, i, j) {
				w[r*in.T+j] = 1 / n
			}
		}
	}
	return w, any
}

// mix gives y[b,i] = sum over j of w[b,i,j] v[b,j], v being columns offset to offset+width. Inputs: w [B,TQ,TK], which has no
// gradient, and [B,TK,R].
type mix struct{ offset, width int }

func (o mix) Name() string    { return "mix" }
func (o mix) DiffWRT() []bool { return []bool{false, true} }

func (o mix) Infer(in []engine.Type) (engine.Type, error) {
	w, v := in[0].Shape, in[1].Shape
	if len(w) != 3 || len(v) != 3 || w[0] != v[0] || w[2] != v[1] || o.offset+o.width > v[2] {
		return engine.Type{}, errors.New("weights and values do not fit together")
	}
	return engine.Type{Dtype: in[1].Dtype, Shape: tensor.Shape{w[0], w[1], o.width}}, nil
}

func (o mix) Run(out engine.Value, in []engine.Value) error {
	if engine.IsF32(out) {
		runMix[float32](o, out, in)
	} else {
		runMix[float64](o, out, in)
	}
	return nil
}

func runMix[F kernels.Float](o mix, out engine.Value, in []engine.Value) {
	w, v, y := engine.Floats[F](in[0]), engine.Floats[F](in[1]), engine.Floats[F](out)
	s, r := in[0].Shape(), in[1].Shape()[2]
	for b := range s[0] {
		kernels.Gemm(false, false, s[1], o.width, s[2], w[b*s[1]*s[2]:][:s[1]*s[2]], s[2], v[b*s[2]*r+o.offset:], r, y[b*s[1]*o.width:], o.width, false, nil)
	}
}

func (o mix) Diff(in layers.Nodes, _, dout *layers.Node) (layers.Nodes, error) {
	dv, err := engine.Apply(mixGrad{o, in[1].Shape()[2]}, in[0], dout)
	return layers.Nodes{nil, dv}, err
}

// mixGrad is the gradient of mix for its values. Inputs: w, dy.
type mixGrad struct {
	of      mix
	columns int
}

func (o mixGrad) Name() string { return "mix_grad" }

func (o mixGrad) Infer(in []engine.Type) (engine.Type, error) {
	return engine.Type{Dtype: in[1].Dtype, Shape: tensor.Shape{in[0].Shape[0], in[0].Shape[2], o.columns}}, nil
}

func (o mixGrad) Run(out engine.Value, in []engine.Value) error {
	if engine.IsF32(out) {
		runMixGrad[float32](o, out, in)
	} else {
		runMixGrad[float64](o, out, in)
	}
	return nil
}

func runMixGrad[F kernels.Float](o mixGrad, out engine.Value, in []engine.Value) {
	w, dy, dv := engine.Floats[F](in[0]), engine.Floats[F](in[1]), engine.Floats[F](out)
	s, r, d := in[0].Shape(), o.columns, o.of.width
	clear(dv)
	for b := range s[0] {
		kernels.Gemm(true, false, s[2], d, s[1], w[b*s[1]*s[2]:][:s[1]*s[2]], s[2], dy[b*s[1]*d:], d, dv[b*s[2]*r+o.of.offset:], r, false, nil)
	}
}

func (o mixGrad) Diff(layers.Nodes, *layers.Node, *layers.Node) (layers.Nodes, error) {
	return nil, errors.New("a gradient has no gradient of its own here")
}
