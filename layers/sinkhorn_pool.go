package layers

import (
	"fmt"

	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/kernels"
)

// BlockPooling is how a row for each block comes of the rows of a sequence.
type BlockPooling string

const (
	BlockMean  BlockPooling = "mean"        // of the rows of the block
	BlockSum   BlockPooling = "sum"         // of the rows of the block
	PrefixMean BlockPooling = "prefix_mean" // of all rows up to the first of the block, which is in it
	PrefixSum  BlockPooling = "prefix_sum"  // of all rows up to the first of the block, which is in it
)

// PoolBlocks makes a row of each block of size rows: x [B,T,C] -> [B,⌈T/size⌉,C]. Rows from lens[b] on (int32 [B]; nil: none) count for
// nothing; a block without rows is 0. Cost: one pass over x.
func PoolBlocks(b *Builder, x, lens *Node, size int, how BlockPooling) *Node {
	return b.Op(poolBlocks{size: size, how: how}, present(x, lens)...)
}

// poolBlocks has inputs: x, perhaps lens.
type poolBlocks struct {
	size int
	how  BlockPooling
}

func (o poolBlocks) Name() string    { return "pool_blocks" }
func (o poolBlocks) DiffWRT() []bool { return []bool{true, false} }

func (o poolBlocks) Infer(in []engine.Type) (engine.Type, error) {
	if err := rowsAndLens(in); err != nil {
		return engine.Type{}, err
	}
	if o.size < 1 {
		return engine.Type{}, fmt.Errorf("blocks of %d rows, want at least 1", o.size)
	}
	s := in[0].Shape
	return engine.Type{Dtype: in[0].Dtype, Shape: tensor.Shape{s[0], (s[1] + o.size - 1) / o.size, s[2]}}, nil
}

func (o poolBlocks) Run(out engine.Value, in []engine.Value) error {
	if engine.IsF32(out) {
		poolBlocksRun[float32](o, out, in)
	} else {
		poolBlocksRun[float64](o, out, in)
	}
	return nil
}

// weight is what a row counts in block u, of count rows.
func (o poolBlocks) weight(u, count int) float64 {
	switch o.how {
	case BlockMean:
		return 1 / float64(count)
	case PrefixMean:
		return 1 / float64(u*o.size+1)
	}
	return 1
}

// prefix tells whether rows before the block count.
func (o poolBlocks) prefix() bool { return o.how == PrefixMean || o.how == PrefixSum }

func poolBlocksRun[F kernels.Float](o poolBlocks, out engine.Value, in []engine.Value) {
	x, y := engine.Floats[F](in[0]), engine.Floats[F](out)
	t, c, blocks := in[0].Shape()[1], in[0].Shape()[2], out.Shape()[1]
	clear(y)
	for b := range in[0].Shape()[0] {
		n := used(in, 1, b, t)
		for u := 0; u*o.size < n; u++ {
			row, first, end := y[(b*blocks+u)*c:][:c], u*o.size, min((u+1)*o.size, n)
			if o.prefix() {
				first, end = max(0, first-o.size+1), first+1
				if u > 0 {
					copy(row, y[(b*blocks+u-1)*c:][:c])
				}
			}
			for i := first; i < end; i++ {
				kernels.Add(row, x[(b*t+i)*c:][:c], row)
			}
		}
		for u := 0; u*o.size < n; u++ {
			if w := o.weight(u, min(o.size, n-u*o.size)); w != 1 {
				row := y[(b*blocks+u)*c:][:c]
				kernels.Scale(F(w), row, row)
			}
		}
	}
}

func (o poolBlocks) Diff(in Nodes, _, dout *Node) (Nodes, error) {
	dx, err := engine.Apply(poolBlocksGrad{o, in[0].Shape()[1]}, append(Nodes{dout}, in[1:]...)...)
	return append(Nodes{dx}, make(Nodes, len(in)-1)...), err
}

// poolBlocksGrad has inputs: the gradient of the result, perhaps lens.
type poolBlocksGrad struct {
	poolBlocks
	t int
}

func (poolBlocksGrad) Name() string { return "pool_blocks_grad" }
func (poolBlocksGrad) Diff(Nodes, *Node, *Node) (Nodes, error) {
	return firstOrder{}.Diff(nil, nil, nil)
}
func (o poolBlocksGrad) Infer(in []engine.Type) (engine.Type, error) {
	s := in[0].Shape
	return engine.Type{Dtype: in[0].Dtype, Shape: tensor.Shape{s[0], o.t, s[2]}}, nil
}

func (o poolBlocksGrad) Run(out engine.Value, in []engine.Value) error {
	if engine.IsF32(out) {
		poolBlocksGradRun[float32](o, out, in)
	} else {
		poolBlocksGradRun[float64](o, out, in)
	}
	return nil
}

func poolBlocksGradRun[F kernels.Float](o poolBlocksGrad, out engine.Value, in []engine.Value) {
	dy, dx := engine.Floats[F](in[0]), engine.Floats[F](out)
	blocks, c := in[0].Shape()[1], in[0].Shape()[2]
	clear(dx)
	for b := range in[0].Shape()[0] {
		n := used(in, 1, b, o.t)
		for u := (n+o.size-1)/o.size - 1; u >= 0; u-- {
			row := dy[(b*blocks+u)*c:][:c]
			first, end := u*o.size, min((u+1)*o.size, n)
			w := F(o.weight(u, end-first))
			if !o.prefix() {
				for i := first; i < end; i++ {
					kernels.Scale(w, row, dx[(b*o.t+i)*c:][:c])
				}
				continue
			}
			to := dx[(b*o.t+first)*c:][:c]
			if next := first + o.size; next < n { // the first row of a block counts for the blocks after it, too
				copy(to, dx[(b*o.t+next)*c:][:c])
			}
			kernels.Axpy(w, row, to)
			for i := max(0, first-o.size+1); i < first; i++ {
				copy(dx[(b*o.t+i)*c:][:c], to)
			}
		}
	}
}
