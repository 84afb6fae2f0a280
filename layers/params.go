package layers

import (
	"fmt"
	"math/bits"
	"slices"

	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/kernels"
)

// Param is one weight of a model.
type Param struct {
	Name    string        // scope path and name, such as "transformer.h.0.attn.c_attn.weight"
	Value   *tensor.Dense // dense, row major; graphs are bound to this memory
	NoDecay bool          // left out of weight decay; at first true for vectors (biases, norms)
	Frozen  bool          // not trained
	State   bool          // not a weight: it is learned without gradients, see Builder.State
	Group   string        // of the weights that have an optimiser of their own; "": the model's

	Rate  float64  // factor of the learning rate; 0: 1
	Decay *float64 // weight decay; nil: that of the optimiser

	changed bool // by LoRA, see AddLoRA
}

// Params is an ordered set of named weights of one dtype. Graphs that are built with the same set share its memory.
type Params struct {
	dtype tensor.Dtype
	list  []*Param
	names map[string]*Param
	ints  []*Ints
}

// NewParams returns an empty set for tensor.Float32 or tensor.Float64.
func NewParams(dtype tensor.Dtype) *Params {
	return &Params{dtype: dtype, names: map[string]*Param{}}
}

// Dtype is that of every weight.
func (p *Params) Dtype() tensor.Dtype { return p.dtype }

// All returns the weights in the order in which they were added. The slice must not be changed.
func (p *Params) All() []*Param { return p.list }

// Len is the number of weights.
func (p *Params) Len() int { return len(p.list) }

// Count is the number of elements of all weights, without state.
func (p *Params) Count() int64 { return p.count(false) }

// StateCount is the number of elements of state, which is learned without gradients.
func (p *Params) StateCount() int64 { return p.count(true) }

func (p *Params) count(state bool) int64 {
	var n int64
	for _, q := range p.list {
		if q.State == state {
			n += int64(q.Value.DataSize())
		}
	}
	return n
}

// Get looks a weight up.
func (p *Params) Get(name string) (*Param, bool) {
	q, ok := p.names[name]
	return q, ok
}

// Load sets a weight. One that exists is overwritten in place, so graphs see the new value; one that does not is added as a
// copy. A value of the other floating-point dtype is converted.
// Errors: the value has another shape than the weight, or holds no floats.
func (p *Params) Load(name string, v *tensor.Dense) error {
	if v.Dtype() != tensor.Float32 && v.Dtype() != tensor.Float64 {
		return fmt.Errorf("parameter %s: a value of %v, want float32 or float64", name, v.Dtype())
	}
	q := p.names[name]
	if q == nil {
		q = p.add(name, v.Shape())
	}
	if !slices.Equal(q.Value.Shape(), v.Shape()) {
		return fmt.Errorf("parameter %s: a value of shape %v, the model has %v", name, v.Shape(), q.Value.Shape())
	}
	if p.dtype == tensor.Float32 {
		convert[float32](q.Value, v)
	} else {
		convert[float64](q.Value, v)
	}
	return nil
}

func convert[F kernels.Float](dst, src *tensor.Dense) {
	d := engine.Floats[F](dst)
	if src.Dtype() == tensor.Float32 {
		for i, x := range src.Float32s() {
			d[i] = F(x)
		}
		return
	}
	for i, x := range src.Float64s() {
		d[i] = F(x)
	}
}

// maxElements bounds one weight, far above what memory holds, so that sizes cannot overflow.
const maxElements = 1 << 40

// require returns a weight for a model, adding it with its initial value where it is missing.
func (p *Params) require(name string, init Init, seed uint64, shape []int) (*Param, error) {
	if q := p.names[name]; q != nil {
		if !slices.Equal(q.Value.Shape(), shape) {
			return nil, fmt.Errorf("parameter %s: the value has shape %v, the model wants %v", name, q.Value.Shape(), shape)
		}
		return q, nil
	}
	if len(shape) == 0 || slices.Min(shape) < 1 {
		return nil, fmt.Errorf("parameter %s: shape %v, want sizes of at least 1", name, shape)
	}
	n := uint64(1)
	for _, d := range shape {
		if hi, lo := bits.Mul64(n, uint64(d)); hi == 0 && lo <= maxElements {
			n = lo
			continue
		}
		return nil, fmt.Errorf("parameter %s: shape %v, want at most %d elements", name, shape, maxElements)
	}
	if init == nil {
		return nil, fmt.Errorf("parameter %s: it is not in the set and has no initial value", name)
	}
	q := p.add(name, shape)
	if at := init(name, shape, seed); p.dtype == tensor.Float32 {
		fill[float32](q.Value, at)
	} else {
		fill[float64](q.Value, at)
	}
	return q, nil
}

func (p *Params) add(name string, shape []int) *Param {
	q := &Param{Name: name, Value: tensor.New(tensor.Of(p.dtype), tensor.WithShape(shape...)), NoDecay: len(shape) < 2}
	p.list = append(p.list, q)
	p.names[name] = q
	return q
}

func fill[F kernels.Float](v *tensor.Dense, at func(i int) float64) {
	const chunk = 1 << 14
	d := engine.Floats[F](v)
	kernels.Par((len(d)+chunk-1)/chunk, func(_, task int) {
		for i := task * chunk; i < min((task+1)*chunk, len(d)); i++ {
			d[i] = F(at(i))
		}
	})
}
