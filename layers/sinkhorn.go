package layers

import (
	"fmt"
	"slices"

	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/kernels"
)

// SinkhornMask says which entries of a sort matrix exist: row u, column v.
type SinkhornMask int

const (
	AllBlocks     SinkhornMask = iota // all
	EarlierBlocks                     // v < u; row 0 is empty
	UpToOwnBlock                      // v <= u
)

// has tells whether an entry exists.
func (m SinkhornMask) has(u, v int) bool {
	return m == AllBlocks || v < u || m == UpToOwnBlock && v == u
}

// SinkhornNormalizer is how scores become weights.
type SinkhornNormalizer string

const (
	// SinkhornRowsColumns are Iterations × (rows, then columns): nearly doubly stochastic. With a mask it leaks, as the sum of a column
	// goes over later rows: a decoder must not use it.
	SinkhornRowsColumns SinkhornNormalizer = "sinkhorn"
	// SinkhornRow is one softmax of each row. FinishRow has no meaning for it.
	SinkhornRow SinkhornNormalizer = "row"
	// SinkhornPrefix are Iterations × (rows, then columns up to the row at hand): row u depends on rows up to u alone.
	SinkhornPrefix SinkhornNormalizer = "prefix"
)

// SinkhornConfig describes Sinkhorn. The zero value is refused: Tau and, but for SinkhornRow, Iterations are above 0.
type SinkhornConfig struct {
	Normalizer SinkhornNormalizer // "": SinkhornRowsColumns
	Tau        float64            // temperature
	Iterations int                // K
	FinishRow  bool               // one more row step, so that rows sum to exactly 1
	Mask       SinkhornMask
	LogReLU    bool  // scores are log(relu(R) + 1e-6), as some code has it; else R
	Gumbel     bool  // in training, Gumbel noise is added to the scores
	Noise      *Node // what is added to the scores instead, [B,H,N,N], without a gradient
}

// MaxSinkhornScore bounds |R|, which a relu network can make arbitrarily large. Beyond it there is no gradient.
const MaxSinkhornScore = 50

// Sinkhorn makes a soft permutation of scores, in the logarithmic domain:
//
//	r = (R + g)/τ;  K times: r_uv -= log Σ_v exp r_uv, then r_uv -= log Σ_u exp r_uv;  P = exp r
//
// P[u,v] is the weight of block v in slot u. Entries that the mask excludes, and those of blocks from blocks[b] on (int32 [B]; nil: none),
// are 0; a row or column without entries is left as it is. The noise g = -log(-log u) is a function of (seed, step, place in the model,
// example, head, entry): a recomputed block sees the noise of the first time.
//
// Shapes: r [B,H,N,N] -> [B,H,N,N]. Cost: 2K exponentials an entry, forward and backward. For the gradient P and the 2K logarithms of each
// row and column are kept; SinkhornPrefix computes its steps again, in scratch of 2K N² numbers a head.
// Errors: τ <= 0, no iterations, r not square.
// Source: Mena et al. 2018, arXiv 1802.08665; Tay et al. 2020, arXiv 2002.11296, sections 3.1 and 3.3 (causal).
// Differs: R is clipped to ±50. Some code feeds relu(R) as probabilities (LogReLU), and draws noise in evaluation, too.
func Sinkhorn(b *Builder, r, blocks *Node, c SinkhornConfig) *Node {
	if b.Err() != nil {
		return nil
	}
	if c.Normalizer == "" {
		c.Normalizer = SinkhornRowsColumns
	}
	o := sinkhorn{SinkhornConfig: c, blocks: -1, noise: -1, step: -1}
	o.Noise = nil
	in := Nodes{r}
	place := func(n *Node) int {
		in = append(in, n)
		return len(in) - 1
	}
	if blocks != nil {
		o.blocks = place(blocks)
	}
	switch {
	case c.Noise != nil:
		o.noise = place(c.Noise)
	case c.Gumbel && b.Training():
		o.step, o.seed, o.site = place(b.Step()), b.Seed(), b.site("gumbel")
	}
	packed := b.Op(o, in...)
	if b.Err() != nil {
		return nil
	}
	return View(b, packed, 0, r.Shape()...)
}

// sinkhorn computes [P | logarithms, [B,H,S,N] for S line steps]. Inputs: r, then what there is of blocks, noise and step.
type sinkhorn struct {
	SinkhornConfig
	blocks, noise, step int // places among the inputs, -1: none
	seed, site          uint64
}

func (sinkhorn) Name() string { return "sinkhorn" }

// steps is the number of line steps.
func (o sinkhorn) steps() int {
	switch {
	case o.Normalizer == SinkhornRow:
		return 1
	case o.FinishRow:
		return 2*o.Iterations + 1
	}
	return 2 * o.Iterations
}

// onRows tells whether a step is over rows.
func (o sinkhorn) onRows(step int) bool { return step%2 == 0 }

func (o sinkhorn) DiffWRT() []bool {
	return []bool{true, false, false, false}[:1+max(o.blocks, o.noise, o.step, 0)]
}

func (o sinkhorn) check(in []engine.Type) error {
	if err := sameFloat(in[0]); err != nil {
		return err
	}
	s := in[0].Shape
	if len(s) != 4 || s[2] != s[3] {
		return fmt.Errorf("scores of shape %v, want [B,H,N,N]", s)
	}
	if !(o.Tau > 0) {
		return fmt.Errorf("the temperature is %g, want more than 0", o.Tau)
	}
	switch o.Normalizer {
	case SinkhornRow:
	case SinkhornRowsColumns, SinkhornPrefix:
		if o.Iterations < 1 {
			return fmt.Errorf("%d iterations, want at least 1", o.Iterations)
		}
	default:
		return fmt.Errorf("no normalizer %q; give sinkhorn, row or prefix", o.Normalizer)
	}
	if o.blocks >= 0 && (in[o.blocks].Dtype != tensor.Int32 || !slices.Equal(in[o.blocks].Shape, tensor.Shape{s[0]})) {
		return fmt.Errorf("numbers of blocks %v, want int32 [%d]", in[o.blocks], s[0])
	}
	if o.noise >= 0 && (in[o.noise].Dtype != in[0].Dtype || !slices.Equal(in[o.noise].Shape, s)) {
		return fmt.Errorf("noise %v for scores %v", in[o.noise], in[0])
	}
	if o.step >= 0 {
		return isInts("steps", in[o.step])
	}
	return nil
}

// logs is how many logarithms are kept.
func (o sinkhorn) logs(s tensor.Shape) int { return s[0] * s[1] * o.steps() * s[2] }

func (o sinkhorn) Infer(in []engine.Type) (engine.Type, error) {
	if err := o.check(in); err != nil {
		return engine.Type{}, err
	}
	return engine.Type{Dtype: in[0].Dtype, Shape: tensor.Shape{in[0].Size() + o.logs(in[0].Shape)}}, nil
}

// Flops counts an exponential as 10.
func (o sinkhorn) Flops(in []engine.Type, _ engine.Type) float64 {
	return 12 * float64(o.steps()) * float64(in[0].Size())
}

func (o sinkhorn) Run(out engine.Value, in []engine.Value) error {
	if engine.IsF32(out) {
		runSinkhorn[float32](o, out, in, &sinkhornJobs32)
	} else {
		runSinkhorn[float64](o, out, in, &sinkhornJobs64)
	}
	return nil
}

func runSinkhorn[F kernels.Float](o sinkhorn, out engine.Value, in []engine.Value, pool *sinkhornPool[F]) {
	j := pool.take()
	defer pool.give(j)
	j.begin(o, in)
	y, size := engine.Floats[F](out), in[0].Size()
	j.p, j.logs = y[:size], y[size:]
	kernels.Par(j.matrices, j.forward)
}

func (o sinkhorn) Diff(in Nodes, out, dout *Node) (Nodes, error) {
	size := in[0].Shape().TotalSize()
	parts, err := engine.Parts(dout, size, o.logs(in[0].Shape()))
	if err != nil || parts[0] == nil {
		return make(Nodes, len(in)), err
	}
	dr, err := engine.Apply(sinkhornGrad{o, len(in)}, append(slices.Clone(in), out, parts[0])...)
	return append(Nodes{dr}, make(Nodes, len(in)-1)...), err
}

// sinkhornGrad has inputs: those of sinkhorn, its result, the gradient of P. With g = dP∘P and Z the exponential of the matrix after a
// step, it undoes the steps from the last on by g -= Z∘(sums of g over the lines of the step).
type sinkhornGrad struct {
	sinkhorn
	inputs int
}

func (sinkhornGrad) Name() string                            { return "sinkhorn_grad" }
func (sinkhornGrad) Diff(Nodes, *Node, *Node) (Nodes, error) { return firstOrder{}.Diff(nil, nil, nil) }
func (o sinkhornGrad) DiffWRT() []bool                       { return make([]bool, o.inputs+2) }
func (o sinkhornGrad) Infer(in []engine.Type) (engine.Type, error) {
	return in[0], o.check(in[:o.inputs])
}

func (o sinkhornGrad) Flops(in []engine.Type, _ engine.Type) float64 {
	return 14 * float64(o.steps()) * float64(in[0].Size())
}

func (o sinkhornGrad) Run(out engine.Value, in []engine.Value) error {
	if engine.IsF32(out) {
		runSinkhornGrad[float32](o, out, in, &sinkhornJobs32)
	} else {
		runSinkhornGrad[float64](o, out, in, &sinkhornJobs64)
	}
	return nil
}

func runSinkhornGrad[F kernels.Float](o sinkhornGrad, out engine.Value, in []engine.Value, pool *sinkhornPool[F]) {
	j := pool.take()
	defer pool.give(j)
	j.begin(o.sinkhorn, in)
	y, size := engine.Floats[F](in[o.inputs]), in[0].Size()
	j.p, j.logs = y[:size], y[size:]
	j.dp, j.dr = engine.Floats[F](in[o.inputs+1]), engine.Floats[F](out)
	kernels.Par(j.matrices, j.backward)
}
