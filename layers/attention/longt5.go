package attention

import (
	"fmt"
	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/kernels"
	"github.com/euryale-ml/euryale/layers"
)

// T5Labels label a pair by the bucket of its distance, see layers.T5Bucket.
type T5Labels struct {
	Bidirectional        bool
	Buckets, MaxDistance int
}

func (l T5Labels) String() string {
	return fmt.Sprintf("t5(%v,%d,%d)", l.Bidirectional, l.Buckets, l.MaxDistance)
}

// Count is the number of buckets.
func (l T5Labels) Count() int { return l.Buckets }

// Label is the bucket of j-i.
func (l T5Labels) Label(_, i, j, _ int) int {
	return layers.T5Bucket(j-i, l.Bidirectional, l.Buckets, l.MaxDistance)
}

// Relative is true.
func (T5Labels) Relative() bool { return true }

// TransientGlobal is LongT5's attention with global tokens that each layer makes anew: the sum of every Block tokens, normalised. A token
// reads the tokens within Radius and all global tokens, in one softmax; nothing else of a global token is kept. Tokens that do not
// fill a block belong to the last full one; without a full block there are no global tokens.
//
// Biases by distance are those of the layer's window, and a table of their own for global tokens, by the distance in blocks.
//
// Cost: n·(2·Radius+1) + n·n/Block pairs. Source: Guo et al. 2021, arXiv 2112.07916, section 3.1.2; details from transformers' LongT5.
type TransientGlobal struct {
	Radius, Block int
	Labels        T5Labels
	Eps           float64 // of the norm; 0: 1e-6
}

// Pattern is the window; global tokens are no nodes between layers.
func (t TransientGlobal) Pattern() Pattern { return Band{Left: t.Radius, Right: t.Radius} }

// Mix adds the attention of a layer. Its own weights are global_input_layer_norm and, in the first layer, global_relative_attention_bias.
func (t TransientGlobal) Mix(b *layers.Builder, in Stream) *Node {
	q, k, v := in.Split(b)
	if b.Err() != nil {
		return nil
	}
	batch, n := in.X.Shape()[0], in.X.Shape()[1]
	globals := n / t.Block
	table := in.First.Scope("global_relative_attention_bias").Param("weight", layers.Normal(0.02), t.Labels.Buckets, in.Heads)
	scale := b.Scope("global_input_layer_norm").Param("weight", layers.Ones(), in.X.Shape()[2])
	if globals == 0 || scale == nil {
		return Plain{t.Pattern()}.Mix(b, in)
	}
	sums := b.Op(blockSums{t.Block}, append(Nodes{in.X}, present(in.Lens)...)...) // [B,n/Block,C]
	sums = layers.RMSNorm(b.Scope("global_input_layer_norm"), sums, layers.NormConfig{Eps: t.Eps})
	k = layers.Concat(b, 1, in.Project(b, 1, sums), k)
	v = layers.Concat(b, 1, in.Project(b, 2, sums), v)
	lens := in.Lens
	if lens == nil {
		lens = layers.EveryRow(b, batch, n)
	}
	most := transientRows{of: t, globals: globals, length: n}
	o, _ := Attend(b, Config{Pattern: most, Heads: in.Heads, Scale: in.Scale, Cross: true, Labels: transientLabels{most},
		LabelBias: layers.Concat(b, 0, in.LabelBias, table), Structure: transientStructure{most}, StructureInputs: Nodes{layers.Reshape(b, lens, batch, 1)}}, q, k, v)
	return o
}

// transientStructure lays an example out by its length.
type transientStructure struct{ transientRows }

func (s transientStructure) Of(in [][]int32) (Pattern, Labels) {
	p := s.transientRows
	p.length = min(max(int(in[0][0]), 0), p.length)
	return p, transientLabels{p}
}

// transientRows has a column for each global token there is room for, and then the tokens.
type transientRows struct {
	alike
	of              TransientGlobal
	globals, length int
}

func (p transientRows) String() string {
	return fmt.Sprintf("transient(%+v,%d,%d)", p.of, p.globals, p.length)
}

// full is how many global tokens the example has.
func (p transientRows) full() int { return p.length / p.of.Block }

func (p transientRows) Sees(_, i, j, _ int) bool {
	if i < 0 || i >= p.length || j < 0 {
		return false
	}
	t := j - p.globals
	return j < p.full() || t >= 0 && t < p.length && max(t-i, i-t) <= p.of.Radius
}

func (p transientRows) Row(_, i, _ int, dst []Run) []Run {
	if i < 0 || i >= p.length {
		return dst
	}
	dst = appendRun(dst, 0, p.full(), 1)
	return appendRun(dst, p.globals+max(0, i-p.of.Radius), p.globals+min(p.length, i+p.of.Radius+1), 1)
}

func (p transientRows) Col(_, j, _ int, dst []Run) []Run {
	t := j - p.globals
	switch {
	case j >= 0 && j < p.full():
		return appendRun(dst, 0, p.length, 1)
	case t >= 0 && t < p.length:
		return appendRun(dst, max(0, t-p.of.Radius), min(p.length, t+p.of.Radius+1), 1)
	}
	return dst
}

func (p transientRows) NNZ(h, _ int) int64 {
	return int64(p.length)*int64(p.full()) + p.of.Pattern().NNZ(h, p.length)
}

// transientLabels has the labels of distances of tokens first, and then those of distances in blocks.
type transientLabels struct{ of transientRows }

func (l transientLabels) String() string { return l.of.String() }
func (l transientLabels) Count() int     { return 2 * l.of.of.Labels.Buckets }
func (l transientLabels) Label(h, i, j, n int) int {
	p, of := l.of, l.of.of.Labels
	if j >= p.globals {
		return of.Label(h, i, j-p.globals, n)
	}
	return of.Buckets + of.Label(h, min(i/p.of.Block, p.full()-1), j, n)
}

// blockSums adds the rows of each block: x [B,T,C] -> [B,T/size,C]. Rows behind the last full block of an example are added to it; an
// example without a full block has zeros, and so have the blocks that it does not fill. Inputs: x, perhaps lens.
type blockSums struct{ size int }

func (blockSums) Name() string { return "block_sums" }

func (o blockSums) Infer(in []engine.Type) (engine.Type, error) {
	s := in[0].Shape.Clone()
	s[1] /= o.size
	return engine.Type{Dtype: in[0].Dtype, Shape: s}, nil
}

func (o blockSums) Run(out engine.Value, in []engine.Value) error {
	if engine.IsF32(out) {
		blockSumsRun[float32](o, out, in)
	} else {
		blockSumsRun[float64](o, out, in)
	}
	return nil
}

// each calls f for every row of example b that is added to a block.
func (o blockSums) each(lens []int32, b, t int, f func(row, block int)) {
	if lens != nil {
		t = min(max(int(lens[b]), 0), t)
	}
	for i := range t {
		if full := t / o.size; full > 0 {
			f(i, min(i/o.size, full-1))
		}
	}
}

func blockSumsRun[F kernels.Float](o blockSums, out engine.Value, in []engine.Value) {
	x, y := engine.Floats[F](in[0]), engine.Floats[F](out)
	t, n, c := in[0].Shape()[1], out.Shape()[1], out.Shape()[2]
	var lens []int32
	if len(in) > 1 {
		lens = engine.Ints(in[1])
	}
	clear(y)
	for b := range out.Shape()[0] {
		o.each(lens, b, t, func(row, block int) { kernels.Axpy(1, x[(b*t+row)*c:][:c], y[(b*n+block)*c:][:c]) })
	}
}

func (o blockSums) Diff(in Nodes, _, dout *Node) (Nodes, error) {
	dx, err := engine.Apply(blockSumsGrad{o, in[0].Shape()[1]}, append(Nodes{dout}, in[1:]...)...)
	return append(Nodes{dx}, make(Nodes, len(in)-1)...), err
}

// blockSumsGrad repeats the gradient of a block for its rows. Inputs: that gradient, perhaps lens.
type blockSumsGrad struct {
	blockSums
	t int
}

func (blockSumsGrad) Name() string { return "block_sums_grad" }

func (o blockSumsGrad) Infer(in []engine.Type) (engine.Type, error) {
	s := in[0].Shape.Clone()
	s[1] = o.t
	return engine.Type{Dtype: in[0].Dtype, Shape: s}, nil
}

func (o blockSumsGrad) Run(out engine.Value, in []engine.Value) error {
	if engine.IsF32(out) {
		blockSumsGradRun[float32](o, out, in)
	} else {
		blockSumsGradRun[float64](o, out, in)
	}
	return nil
}

func blockSumsGradRun[F kernels.Float](o blockSumsGrad, out engine.Value, in []engine.Value) {
	dy, dx := engine.Floats[F](in[0]), engine.Floats[F](out)
	n, c := in[0].Shape()[1], out.Shape()[2]
	var lens []int32
	if len(in) > 1 {
		lens = engine.Ints(in[1])
	}
	clear(dx)
	for b := range out.Shape()[0] {
		o.each(lens, b, o.t, func(row, block int) { copy(dx[(b*o.t+row)*c:][:c], dy[(b*n+block)*c:]) })
	}
}

func (blockSumsGrad) Diff(Nodes, *Node, *Node) (Nodes, error) {
	return nil, fmt.Errorf("a gradient has no gradient of its own here")
}
