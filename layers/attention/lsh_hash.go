package attention

import (
	"fmt"
	"math"
	"slices"

	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/kernels"
	"github.com/euryale-ml/euryale/internal/splitmix"
	"github.com/euryale-ml/euryale/layers"
)

// LSHFactors are the factors of the number of buckets for n tokens in chunks of chunk: n_b = 2^round(log2(2n/chunk)), at least 2, as factors of 16
// and what is left. So hashing costs O(n log n); one factor of all buckets would make it O(n²/chunk).
func LSHFactors(n, chunk int) []int {
	total := 1
	if n > 0 && chunk > 0 {
		total = max(1, int(math.Round(math.Log2(2*float64(n)/float64(chunk)))))
	}
	factors := slices.Repeat([]int{16}, total/4)
	if total%4 > 0 {
		factors = append(factors, 1<<(total%4))
	}
	return factors
}

// lshColumns is how many columns of rotations each factor has, half of it, for sequences of up to n tokens: the factors of shorter ones are no
// larger.
func lshColumns(fixed []int, n, chunk int) []int {
	if fixed == nil {
		fixed = LSHFactors(n, chunk)
	}
	columns := make([]int, len(fixed))
	for f, size := range fixed {
		columns[f] = size / 2
	}
	return columns
}

// Rotations draws the random matrices of locality-sensitive hashing, [H,R,C,D], of the normal distribution of variance 1: for each head and
// round C columns of size D, those of the factors one after the other. They are functions of (seed, step, place in the model, head, round,
// factor, column, row), shared by the examples: further rounds and longer sequences do not change those there are. The step is the input
// Builder.Step, which stays 0 outside training; with fixed it is 0 always.
//
// Source: Andoni et al. 2015, arXiv 1509.02897, as Kitaev et al. 2020, arXiv 2001.04451, section 2, have it: matrices are not orthonormal.
func Rotations(b *layers.Builder, heads, rounds, d int, columns []int, fixed bool) *Node {
	if b.Err() != nil {
		return nil
	}
	step := b.Step()
	if fixed {
		step = b.Const("step.none", tensor.New(tensor.WithShape(1), tensor.WithBacking([]int32{0})))
	}
	return b.Op(rotations{heads: heads, rounds: rounds, d: d, columns: columns, seed: b.Seed(), site: b.Site("rotations"), dtype: b.Dtype()}, step)
}

// rotations has the input step.
type rotations struct {
	heads, rounds, d int
	columns          []int
	seed, site       uint64
	dtype            tensor.Dtype
}

func (rotations) Name() string                             { return "rotations" }
func (rotations) DiffWRT() []bool                          { return []bool{false} }
func (rotations) Diff(in Nodes, _, _ *Node) (Nodes, error) { return make(Nodes, len(in)), nil }

func (o rotations) Infer(in []engine.Type) (engine.Type, error) {
	total := 0
	for _, c := range o.columns {
		total += c
	}
	if o.heads < 1 || o.rounds < 1 || o.d < 1 || total < 1 {
		return engine.Type{}, fmt.Errorf("%d heads, %d rounds, %d columns of size %d, want at least 1 of each", o.heads, o.rounds, total, o.d)
	}
	return engine.Type{Dtype: o.dtype, Shape: tensor.Shape{o.heads, o.rounds, total, o.d}}, nil
}

func (o rotations) Run(out engine.Value, in []engine.Value) error {
	step := uint64(engine.Ints(in[0])[0])
	if engine.IsF32(out) {
		drawRotations(o, step, engine.Floats[float32](out))
	} else {
		drawRotations(o, step, engine.Floats[float64](out))
	}
	return nil
}

// drawRotations makes a normal number of two uniform ones (Box and Muller 1958).
func drawRotations[F kernels.Float](o rotations, step uint64, g []F) {
	base := splitmix.Mix(splitmix.Mix(splitmix.Mix(o.seed+splitmix.Increment)+step+splitmix.Increment) + o.site + splitmix.Increment)
	for h := range o.heads {
		for r := range o.rounds {
			for f, columns := range o.columns {
				for c := range columns {
					place := uint64(h)<<48 ^ uint64(r)<<32 ^ uint64(f)<<24 ^ uint64(c)
					key := splitmix.Mix(base + place*splitmix.Increment)
					for k := range o.d {
						key += splitmix.Increment
						u := splitmix.Unit(splitmix.Mix(key))
						key += splitmix.Increment
						g[k] = F(math.Sqrt(-2*math.Log(1-u)) * math.Cos(2*math.Pi*splitmix.Unit(splitmix.Mix(key))))
					}
					g = g[o.d:]
				}
			}
		}
	}
}

// Hashing says how vectors are hashed.
type Hashing struct {
	Heads   int
	Factors []int // sizes of the factors, all even; nil: LSHFactors of the length of each example
	Chunk   int   // of LSHFactors
	Lens    *Node // int32 [B]; nil: no padding
}

// Hash gives each vector of x [B,T,H·D] a bucket in every round, int32 [B,H,R,T]: with the columns G_f of factor f
//
//	a_f = argmax [x G_f ; -x G_f],  bucket = Σ_f a_f Π_{f' < f} size_f'
//
// of equal numbers the first counts, so zero is in bucket 0. Padding has the bucket behind the last. rotations are [H,R,C,D], or [1,R,C,D] for all
// heads. There is no gradient. Cost: 2·B·T·H·R·C·D operations.
// Source: Kitaev, Kaiser, Levskaya 2020, arXiv 2001.04451, section 2; factors from trax.
// Errors (kept by b): shapes that do not fit together.
func Hash(b *layers.Builder, c Hashing, x, rotations *Node) *Node {
	if b.Err() != nil {
		return nil
	}
	in := Nodes{x, rotations}
	if c.Lens != nil {
		in = append(in, c.Lens)
	}
	return b.Op(hash{heads: c.Heads, factors: c.Factors, chunk: c.Chunk, inputs: len(in)}, in...)
}

// hash has inputs: x, rotations, and lengths if there are any.
type hash struct {
	heads, chunk int
	factors      []int
	inputs       int
}

func (hash) Name() string                             { return "hash" }
func (o hash) DiffWRT() []bool                        { return make([]bool, o.inputs) }
func (hash) Diff(in Nodes, _, _ *Node) (Nodes, error) { return make(Nodes, len(in)), nil }

func (o hash) Infer(in []engine.Type) (engine.Type, error) {
	x, g := in[0].Shape, in[1].Shape
	if len(x) != 3 || len(g) != 4 || o.heads < 1 || x[2]%max(o.heads, 1) != 0 || !in[0].IsFloat() || in[1].Dtype != in[0].Dtype {
		return engine.Type{}, fmt.Errorf("vectors %v of %d heads and rotations %v, want [B,T,H·D] and [H,R,C,D]", in[0], o.heads, in[1])
	}
	want := 0
	for _, c := range lshColumns(o.factors, x[1], o.chunk) {
		want += c
	}
	if g[0] != 1 && g[0] != o.heads || g[3] != x[2]/o.heads || g[2] != want {
		return engine.Type{}, fmt.Errorf("rotations of shape %v, want [%d,R,%d,%d]", g, o.heads, want, x[2]/o.heads)
	}
	for _, f := range o.factors {
		if f < 2 || f%2 != 0 {
			return engine.Type{}, fmt.Errorf("factors %v of the number of buckets, want even ones", o.factors)
		}
	}
	if len(in) > 2 && (in[2].Dtype != tensor.Int32 || !slices.Equal(in[2].Shape, tensor.Shape{x[0]})) {
		return engine.Type{}, fmt.Errorf("lengths are %v, want int32[%d]", in[2], x[0])
	}
	return engine.Type{Dtype: tensor.Int32, Shape: tensor.Shape{x[0], o.heads, g[1], x[1]}}, nil
}

func (o hash) Flops(in []engine.Type, _ engine.Type) float64 {
	x, g := in[0].Shape, in[1].Shape
	return 2 * float64(x[0]) * float64(x[1]) * float64(x[2]) * float64(g[1]) * float64(g[2])
}

func (o hash) Run(out engine.Value, in []engine.Value) error {
	if engine.IsF32(out) || engine.IsF32(in[0]) {
		return hashRun[float32](o, &hashes32, out, in)
	}
	return hashRun[float64](o, &hashes64, out, in)
}

// hasher is the work on one head of one example.
type hasher[F kernels.Float] struct {
	products            []F // [T, R·C]
	factors, columns    []int
	rounds, width, n, t int
	buckets             []int32 // [R,T]
	task                func(worker, i int)
}

// hasherList keeps hashers that are not in use.
type hasherList[F kernels.Float] struct{ kernels.FreeList[hasher[F]] }

var (
	hashes32 hasherList[float32]
	hashes64 hasherList[float64]
)

func (l *hasherList[F]) take() *hasher[F] {
	return l.Take(func() *hasher[F] {
		h := new(hasher[F])
		h.task = h.rows
		return h
	})
}

func (l *hasherList[F]) put(h *hasher[F]) {
	h.buckets = nil
	l.Give(h)
}

// hashRows tokens are a task of the workers.
const hashRows = 256

func hashRun[F kernels.Float](o hash, list *hasherList[F], out engine.Value, in []engine.Value) error {
	x, g, buckets := engine.Floats[F](in[0]), engine.Floats[F](in[1]), engine.Ints(out)
	s, gs := in[0].Shape(), in[1].Shape()
	t, d := s[1], gs[3]
	var lens []int32
	if len(in) > 2 {
		var err error
		if lens, err = lengths(2, t, in); err != nil {
			return err
		}
	}
	h := list.take()
	defer list.put(h)
	h.rounds, h.width, h.t = gs[1], gs[2], t
	h.columns = lshColumns(o.factors, t, o.chunk)
	for b := range s[0] {
		h.n = t
		if lens != nil {
			h.n = int(lens[b])
		}
		if h.factors = o.factors; h.factors == nil {
			h.factors = LSHFactors(h.n, o.chunk)
		}
		for head := range o.heads {
			h.buckets = buckets[(b*o.heads+head)*h.rounds*t:][:h.rounds*t]
			if h.n > 0 {
				of := g[min(head, gs[0]-1)*h.rounds*h.width*d:]
				if cap(h.products) < h.n*h.rounds*h.width {
					h.products = make([]F, t*h.rounds*h.width)
				}
				h.products = h.products[:h.n*h.rounds*h.width]
				kernels.Gemm(false, true, h.n, h.rounds*h.width, d, x[b*t*s[2]+head*d:], s[2], of, d, h.products, h.rounds*h.width, false, nil)
			}
			kernels.Par((t+hashRows-1)/hashRows, h.task)
		}
	}
	return nil
}

// rows finds the buckets of a task's tokens.
func (h *hasher[F]) rows(_, task int) {
	last := int32(1)
	for _, f := range h.factors {
		last *= int32(f)
	}
	for r := range h.rounds {
		out := h.buckets[r*h.t:][:h.t]
		for i := task * hashRows; i < min((task+1)*hashRows, h.t); i++ {
			if i >= h.n {
				out[i] = last
				continue
			}
			row := h.products[(i*h.rounds+r)*h.width:][:h.width]
			bucket, size := int32(0), int32(1)
			for f, factor := range h.factors {
				bucket += size * argmaxOfBoth(row[:factor/2])
				size *= int32(factor)
				row = row[h.columns[f]:]
			}
			out[i] = bucket
		}
	}
}

// argmaxOfBoth is the argmax of [x ; -x]. NaN is never the largest.
func argmaxOfBoth[F kernels.Float](x []F) int32 {
	if y, ok := any(x).([]float32); ok {
		if at, ok := argmaxOfBits(y); ok {
			return at
		}
	}
	high, low, atHigh, atLow := F(math.Inf(-1)), F(math.Inf(1)), 0, 0
	for i, v := range x {
		if v > high {
			high, atHigh = v, i
		}
		if v < low {
			low, atLow = v, i
		}
	}
	if high >= -low {
		return int32(atHigh)
	}
	return int32(len(x) + atLow)
}

// argmaxOfBits is argmaxOfBoth by one comparison of whole numbers an element: the size of a number and then whether it is positive, in the order of
// their bits. It is not for NaN.
func argmaxOfBits(x []float32) (at int32, ok bool) {
	best, first := uint32(0), 0
	for i, v := range x {
		b := math.Float32bits(v)
		if key := b<<1 | ^b>>31; key > best {
			best, first = key, i
		}
	}
	switch {
	case best <= 1: // zeros alone
		return 0, true
	case best >= 0xff<<24+2: // there is a NaN
		return 0, false
	case best&1 == 0:
		return int32(len(x) + first), true
	}
	return int32(first), true
}
