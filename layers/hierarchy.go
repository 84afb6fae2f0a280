package layers

import (
	"fmt"
	"slices"

	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/kernels"
)

// BlockCounts is how many blocks of size rows each example has: int32 lens [B] -> ⌈lens/size⌉ [B]; nil stays nil.
func BlockCounts(b *Builder, lens *Node, size int) *Node {
	if lens == nil {
		return nil
	}
	return b.Op(blockCounts{size}, lens)
}

type blockCounts struct{ size int }

func (blockCounts) Name() string    { return "block_counts" }
func (blockCounts) Cheap()          {}
func (blockCounts) DiffWRT() []bool { return []bool{false} }
func (o blockCounts) Infer(in []engine.Type) (engine.Type, error) {
	if o.size < 1 {
		return engine.Type{}, fmt.Errorf("blocks of %d rows, want at least 1", o.size)
	}
	return in[0], isInts("lengths", in[0])
}
func (o blockCounts) Run(out engine.Value, in []engine.Value) error {
	y := engine.Ints(out)
	for i, n := range engine.Ints(in[0]) {
		y[i] = (n + int32(o.size) - 1) / int32(o.size)
	}
	return nil
}
func (blockCounts) Diff(Nodes, *Node, *Node) (Nodes, error) { return Nodes{nil}, nil }

// Pool is how pairs of rows become one.
type Pool string

const (
	PoolMean   Pool = "mean"   // their mean; a row without partner stands for itself
	PoolLinear Pool = "linear" // a linear map of both, [2C -> C], without bias; a missing partner is zeros
)

// Hierarchy runs a layer on ever coarser rows and adds what it finds to the finer ones:
//
//	y_0 = layer(0, x);  y_{l+1} = layer(l+1, pairs(y_l));  u_top = y_top;  u_l[i] = y_l[i] + u_{l+1}[i div 2];  result u_0
//
// Shapes: x [B,T,C], lens int32 [B] (nil: T) -> [B,T,C]; level l has ⌈T/2^l⌉ rows. layer gets its level, the rows and how many
// of each example count. It costs at most twice the first level, if the cost of a layer is linear.
// The maps of PoolLinear are the parameters "pool.L.weight" of b.
func Hierarchy(b *Builder, x, lens *Node, levels int, pool Pool, layer func(level int, x, lens *Node) *Node) *Node {
	up := make(Nodes, levels)
	for l := range levels {
		if l > 0 {
			x = pairs(b.Scope(fmt.Sprint("pool.", l)), x, lens, pool)
			lens = BlockCounts(b, lens, 2)
		}
		if b.Err() != nil {
			return nil
		}
		x = layer(l, x, lens)
		up[l] = x
	}
	for l := levels - 2; l >= 0 && b.Err() == nil; l-- {
		x = Add(b, up[l], Gather(b, x, indices(b, up[l].Shape()[1], func(i int) int { return i / 2 }, "half")))
	}
	return x
}

// indices is a constant index of n rows; what names the function.
func indices(b *Builder, n int, f func(i int) int, what string) *Node {
	v := make([]int32, n)
	for i := range v {
		v[i] = int32(f(i))
	}
	return b.Const(fmt.Sprint("rows.", what, ".", n), tensor.New(tensor.WithShape(n), tensor.WithBacking(v)))
}

// pairs makes one row of each two of the first lens rows.
func pairs(b *Builder, x, lens *Node, pool Pool) *Node {
	if b.Err() != nil {
		return nil
	}
	t, c := x.Shape()[1], x.Shape()[2]
	n := (t + 1) / 2
	x = MaskRows(b, x, lens)
	first := Gather(b, x, indices(b, n, func(i int) int { return 2 * i }, "even"))
	second := Gather(b, x, indices(b, n, func(i int) int {
		if 2*i+1 >= t {
			return -1
		}
		return 2*i + 1
	}, "odd"))
	if pool == PoolLinear {
		return Linear(b, Concat(b, 2, first, second), LinearConfig{Out: c, NoBias: true})
	}
	if lens == nil {
		lens = EveryRow(b, x.Shape()[0], t)
	}
	return b.Op(halfPairs{}, Add(b, first, second), lens)
}

// EveryRow is the constant int32 [B] that says of each example that all of its rows count.
func EveryRow(b *Builder, batch, rows int) *Node {
	return b.Const(fmt.Sprint("rows.all.", rows, ".", batch), tensor.New(tensor.WithShape(batch), tensor.WithBacking(slices.Repeat([]int32{int32(rows)}, batch))))
}

// halfPairs halves the sums of two rows and leaves that of a row without partner. Inputs: sums [B,⌈T/2⌉,C], lens of the rows.
type halfPairs struct{}

func (halfPairs) Name() string    { return "half_pairs" }
func (halfPairs) Cheap()          {}
func (halfPairs) InPlace() int    { return 0 }
func (halfPairs) DiffWRT() []bool { return []bool{true, false} }

func (halfPairs) Infer(in []engine.Type) (engine.Type, error) { return in[0], rowsAndLens(in) }

func (halfPairs) Run(out engine.Value, in []engine.Value) error {
	if engine.IsF32(out) {
		halfPairsRun[float32](out, in)
	} else {
		halfPairsRun[float64](out, in)
	}
	return nil
}

func halfPairsRun[F kernels.Float](out engine.Value, in []engine.Value) {
	x, y, lens := engine.Floats[F](in[0]), engine.Floats[F](out), engine.Ints(in[1])
	n, c := out.Shape()[1], out.Shape()[2]
	for b, l := range lens {
		from, to := b*n*c, (b*n+min(int(l)/2, n))*c
		kernels.Scale(0.5, x[from:to], y[from:to])
		copy(y[to:(b+1)*n*c], x[to:])
	}
}

func (o halfPairs) Diff(in Nodes, _, dout *Node) (Nodes, error) {
	dx, err := engine.Apply(o, dout, in[1])
	return Nodes{dx, nil}, err
}
