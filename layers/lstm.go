package layers

import (
	"fmt"
	"math"
	"slices"
	"sync"

	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/kernels"
)

// LSTMConfig describes a long short-term memory.
type LSTMConfig struct {
	Size int // S, of the state

	// WeightX [I,4S], WeightH [S,4S] and Bias [4S] take the place of the parameters; their columns are the gates i, f, g, o.
	WeightX, WeightH, Bias *Node
	// H and C, [N,S], are the state before the first step; nil: zeros.
	H, C *Node
}

// LSTM reads a sequence and returns the states h and c after every step:
//
//	i, f, o = σ(z_i), σ(z_f), σ(z_o),  g = tanh(z_g)  with z = x_t W_x + h_{t-1} W_h + b
//	c_t = f c_{t-1} + i g,  h_t = o tanh(c_t)
//
// Shapes: x [N,T,I] -> h, c [N,T,S]. Parameters: "weight_x" [I,4S], "weight_h" [S,4S], "bias" [4S], drawn from ±1/√S, the bias of f
// one more. Cost: 8 N T S (I+S) operations as products of matrices of N rows, one step after the other; a gradient keeps 6 S numbers
// a step. Errors: shapes that do not fit together.
// Source: Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000; gates in the order of torch.nn.LSTMCell, whose
// two biases are one here and whose weights are stored [out, in].
func LSTM(b *Builder, x *Node, c LSTMConfig) (h, cell *Node) {
	if b.Err() != nil {
		return nil, nil
	}
	if x == nil || x.Dims() != 3 {
		return b.Failf("lstm: the input is no tensor [N,T,I]"), nil
	}
	in := x.Shape()[2]
	wx, wh, bias := LSTMWeights(b, in, c)
	return LSTMSteps(b, Linear(b, x, LinearConfig{Weight: wx, Bias: bias, InOut: true}), wh, c.H, c.C)
}

// LSTMWeights are the weights of an LSTM of inputs of a width: W_x, W_h and the bias.
func LSTMWeights(b *Builder, in int, c LSTMConfig) (wx, wh, bias *Node) {
	wx, wh, bias = c.WeightX, c.WeightH, c.Bias
	if b.Err() == nil && c.Size < 1 && (wx == nil || wh == nil || bias == nil) {
		b.Failf("lstm: a state of size %d, want at least 1", c.Size)
	}
	edge := 1 / math.Sqrt(float64(max(c.Size, 1)))
	if wx == nil {
		wx = b.Param("weight_x", Uniform(-edge, edge), in, 4*c.Size)
	}
	if wh == nil {
		wh = b.Param("weight_h", Uniform(-edge, edge), c.Size, 4*c.Size)
	}
	if bias == nil {
		bias = b.Param("bias", forgetBias(c.Size, edge), 4*c.Size)
	}
	return wx, wh, bias
}

// forgetBias draws like the weights, and adds one for the gate that keeps the state.
func forgetBias(size int, edge float64) Init {
	draw := Uniform(-edge, edge)
	return func(name string, shape []int, seed uint64) func(i int) float64 {
		at := draw(name, shape, seed)
		return func(i int) float64 {
			if i/size == 1 {
				return at(i) + 1
			}
			return at(i)
		}
	}
}

// LSTMCell is one step of an LSTM: x [N,I] and the state h, c [N,S] of the config (nil: zeros) -> the next state.
func LSTMCell(b *Builder, x *Node, c LSTMConfig) (h, cell *Node) {
	if b.Err() != nil {
		return nil, nil
	}
	if x == nil || x.Dims() != 2 {
		return b.Failf("lstm: the input of a cell is no tensor [N,I]"), nil
	}
	n, in := x.Shape()[0], x.Shape()[1]
	h, cell = LSTM(b, Reshape(b, x, n, 1, in), c)
	if b.Err() != nil {
		return nil, nil
	}
	s := h.Shape()[2]
	return Reshape(b, h, n, s), Reshape(b, cell, n, s)
}

// LSTMSteps is LSTM from the products with the inputs on: z [N,T,4S] = x W_x + b, W_h [S,4S], the state before the first step [N,S] (both
// nil: zeros) -> h, c [N,T,S].
func LSTMSteps(b *Builder, z, wh, h0, c0 *Node) (h, cell *Node) {
	in := Nodes{z, wh}
	if h0 != nil || c0 != nil {
		in = append(in, h0, c0)
	}
	packed := b.Op(lstm{}, in...)
	if b.Err() != nil {
		return nil, nil
	}
	n, t, s := z.Shape()[0], z.Shape()[1], wh.Shape()[0]
	return View(b, packed, 0, n, t, s), View(b, packed, n*t*s, n, t, s)
}

// lstm has inputs z, W_h and, if there is a state before, h and c. Its result is h [N,T,S], c [N,T,S] and the gates [N,T,4S] one after
// the other: what the gradient reads.
type lstm struct{}

func (lstm) Name() string { return "lstm" }

func (lstm) Infer(in []engine.Type) (engine.Type, error) {
	if err := sameFloat(in...); err != nil {
		return engine.Type{}, err
	}
	z, w := in[0].Shape, in[1].Shape
	if len(z) != 3 || len(w) != 2 || w[1] != 4*w[0] || z[2] != w[1] {
		return engine.Type{}, fmt.Errorf("gates of shape %v and weights of shape %v, want [N,T,4S] and [S,4S]", z, w)
	}
	for _, s := range in[2:] {
		if want := (tensor.Shape{z[0], w[0]}); !slices.Equal(s.Shape, want) {
			return engine.Type{}, fmt.Errorf("a state of shape %v, want %v", s.Shape, want)
		}
	}
	return engine.Type{Dtype: in[0].Dtype, Shape: tensor.Shape{6 * z[0] * z[1] * w[0]}}, nil
}

func (lstm) Flops(in []engine.Type, _ engine.Type) float64 {
	return 2 * float64(in[0].Size()) * float64(in[1].Shape[0])
}

func (lstm) Run(out engine.Value, in []engine.Value) error {
	if engine.IsF32(out) {
		lstmForward(newUnrolled[float32](out, in), engine.Floats[float32](in[0]))
	} else {
		lstmForward(newUnrolled[float64](out, in), engine.Floats[float64](in[0]))
	}
	return nil
}

// unrolled is a run of the recurrence.
type unrolled[F kernels.Float] struct {
	n, t, s     int
	wh, h0, c0  []F // h0 and c0 nil: zeros
	h, c, gates []F
}

func newUnrolled[F kernels.Float](out engine.Value, in []engine.Value) unrolled[F] {
	z := in[0].Shape()
	u := unrolled[F]{n: z[0], t: z[1], s: in[1].Shape()[0], wh: engine.Floats[F](in[1])}
	if len(in) > 2 {
		u.h0, u.c0 = engine.Floats[F](in[2]), engine.Floats[F](in[3])
	}
	x, size := engine.Floats[F](out), u.n*u.t*u.s
	u.h, u.c, u.gates = x[:size], x[size:2*size], x[2*size:]
	return u
}

func lstmForward[F kernels.Float](u unrolled[F], z []F) {
	s, wide := u.s, 4*u.s
	copy(u.gates, z)
	for t := range u.t {
		gates := u.gates[t*wide:]
		if t > 0 {
			kernels.Gemm(false, false, u.n, wide, s, u.h[(t-1)*s:], u.t*s, u.wh, wide, gates, u.t*wide, true, nil)
		} else if u.h0 != nil {
			kernels.Gemm(false, false, u.n, wide, s, u.h0, s, u.wh, wide, gates, u.t*wide, true, nil)
		}
		kernels.Par(u.n, func(_, n int) {
			at := n*u.t + t
			var before []F
			if t > 0 {
				before = u.c[(at-1)*s:][:s]
			} else if u.c0 != nil {
				before = u.c0[n*s:][:s]
			}
			LSTMGates(u.gates[at*wide:][:wide], before, u.c[at*s:][:s], u.h[at*s:][:s])
		})
	}
}

// LSTMGates is the cell of one example: it turns the sums z [4S] into the gates i, f, g, o, and gives c and h from the c before (nil:
// zeros). c may be the memory of the c before.
func LSTMGates[F kernels.Float](z, before, c, h []F) {
	s := len(c)
	for k := range c {
		i, f, g, o := sigmoid(z[k]), sigmoid(z[s+k]), tanh(z[2*s+k]), sigmoid(z[3*s+k])
		v := i * g
		if before != nil {
			v += f * before[k]
		}
		z[k], z[s+k], z[2*s+k], z[3*s+k] = i, f, g, o
		c[k], h[k] = v, o*tanh(v)
	}
}

func sigmoid[F kernels.Float](x F) F { return F(1 / (1 + math.Exp(-float64(x)))) }
func tanh[F kernels.Float](x F) F    { return F(2/(1+math.Exp(-2*float64(x))) - 1) }

func (o lstm) Diff(in Nodes, out, dout *Node) (Nodes, error) {
	args := append(Nodes{out, dout}, in...)
	packed, err := engine.Apply(lstmGrad{}, args...)
	if err != nil {
		return nil, err
	}
	return engine.Unpack(packed, in, len(in))
}

// lstmGrad has inputs: the result of lstm, its gradient, and the inputs of lstm, whose gradients it gives one after the other.
// Source: backpropagation through time, Werbos 1990.
type lstmGrad struct{ firstOrder }

func (lstmGrad) Name() string { return "lstm_grad" }

func (lstmGrad) Infer(in []engine.Type) (engine.Type, error) {
	size := 0
	for _, t := range in[2:] {
		size += t.Size()
	}
	return engine.Type{Dtype: in[0].Dtype, Shape: tensor.Shape{size}}, nil
}

func (lstmGrad) Flops(in []engine.Type, _ engine.Type) float64 {
	return 4 * float64(in[2].Size()) * float64(in[3].Shape[0])
}

func (lstmGrad) Run(out engine.Value, in []engine.Value) error {
	if engine.IsF32(out) {
		lstmBackward[float32](out, in, &lstmScratch32)
	} else {
		lstmBackward[float64](out, in, &lstmScratch64)
	}
	return nil
}

// The scratch of a backward pass: the states before each step, and the gradients that are carried on.
var lstmScratch32, lstmScratch64 sync.Pool

func takeScratch[F kernels.Float](pool *sync.Pool, n int) *[]F {
	s, ok := pool.Get().(*[]F)
	if !ok {
		s = new([]F)
	}
	*s = slices.Grow((*s)[:0], n)[:n]
	return s
}

func lstmBackward[F kernels.Float](out engine.Value, in []engine.Value, pool *sync.Pool) {
	u := newUnrolled[F](in[0], in[2:])
	x, dout := engine.Floats[F](out), engine.Floats[F](in[1])
	s, wide, size := u.s, 4*u.s, u.n*u.t*u.s
	dz, dwh := x[:4*size], x[4*size:][:s*wide]
	scratch := takeScratch[F](pool, size+2*u.n*s)
	defer pool.Put(scratch)
	before, carryH, carryC := (*scratch)[:size], (*scratch)[size:][:u.n*s], (*scratch)[size+u.n*s:]
	clear(carryH)
	clear(carryC)
	for t := u.t - 1; t >= 0; t-- {
		kernels.Par(u.n, func(_, n int) {
			at := n*u.t + t
			var c []F
			if t > 0 {
				c = u.c[(at-1)*s:][:s]
				copy(before[at*s:][:s], u.h[(at-1)*s:])
			} else if u.c0 != nil {
				c = u.c0[n*s:][:s]
				copy(before[at*s:][:s], u.h0[n*s:])
			} else {
				clear(before[at*s:][:s])
			}
			dh, dc := carryH[n*s:][:s], carryC[n*s:][:s]
			for k := range s {
				dh[k] += dout[at*s+k]
				dc[k] += dout[size+at*s+k]
			}
			lstmCellGrad(u.gates[at*wide:][:wide], dout[2*size+at*wide:][:wide], c, u.c[at*s:][:s], dh, dc, dz[at*wide:][:wide])
		})
		kernels.Gemm(false, true, u.n, s, wide, dz[t*wide:], u.t*wide, u.wh, wide, carryH, s, false, nil)
	}
	kernels.WeightGrad(s, wide, u.n*u.t, before, s, dz, wide, dwh, wide, nil, nil)
	if rest := x[4*size+s*wide:]; len(rest) > 0 {
		copy(rest, carryH)
		copy(rest[u.n*s:], carryC)
	}
}

// lstmCellGrad turns the gradients of h and c after a step into those of the sums z, and dc into that of the c before. dgates is what
// comes to the gates themselves.
func lstmCellGrad[F kernels.Float](gates, dgates, before, c, dh, dc, dz []F) {
	s := len(c)
	for k := range c {
		i, f, g, o := gates[k], gates[s+k], gates[2*s+k], gates[3*s+k]
		th := tanh(c[k])
		d := dc[k] + dh[k]*o*(1-th*th)
		df := dgates[s+k]
		if before != nil {
			df += d * before[k]
		}
		dz[k] = (d*g + dgates[k]) * i * (1 - i)
		dz[s+k] = df * f * (1 - f)
		dz[2*s+k] = (d*i + dgates[2*s+k]) * (1 - g*g)
		dz[3*s+k] = (dh[k]*th + dgates[3*s+k]) * o * (1 - o)
		dc[k] = d * f
	}
}
