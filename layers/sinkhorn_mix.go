package layers

import (
	"fmt"
	"slices"

	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/kernels"
)

// MixConfig describes MixBlocks.
type MixConfig struct {
	Size    int   // rows of a block
	Own     bool  // the rows of the block itself stand behind those of its slot
	Earlier bool  // P[u,v] is 0 for v >= u, which saves half of the products
	Lens    *Node // int32 [B]: later rows of x count as 0; nil: none
	Chosen  *Node // int32 [B,H,N]: P[u,v] is 1 for v = Chosen[u] (none if negative), else 0, and is not read; it gets its gradient
}

// MixBlocks sorts blocks of rows by a matrix of weights: row t of slot u is the weighted sum of rows t of all blocks, head by head,
//
//	y_{u,t} = Σ_v P[u,v] x_{v,t}
//
// where the last block may be short: rows that it lacks count as 0.
//
// Shapes: p [B,H,N,M], x [B,T,H·D] with M = ⌈T/Size⌉ -> [B,N·Size,H·D], row u·Size+t; with Own, for N = M, [B,2·N·Size,H·D], row
// 2·u·Size+t of the slot and 2·u·Size+Size+t of x itself. Cost: 2·N·M·Size·H·D, one matrix product for each head; with Chosen one copy.
// Source: Tay et al. 2020, arXiv 2002.11296, section 3.1; Chosen is the straight-through estimator of Bengio et al. 2013, arXiv 1308.3432.
func MixBlocks(b *Builder, p, x *Node, c MixConfig) *Node {
	o := mixBlocks{MixConfig: c, lens: -1, chosen: -1}
	o.Lens, o.Chosen = nil, nil
	in := Nodes{p, x}
	if c.Lens != nil {
		in, o.lens = append(in, c.Lens), len(in)
	}
	if c.Chosen != nil {
		in, o.chosen = append(in, c.Chosen), len(in)
	}
	return b.Op(o, in...)
}

// mixBlocks has inputs: p, x, perhaps lens and what is chosen.
type mixBlocks struct {
	MixConfig
	lens, chosen int // places among the inputs, -1: none
}

func (mixBlocks) Name() string { return "mix_blocks" }
func (o mixBlocks) DiffWRT() []bool {
	return []bool{true, true, false, false}[:2+max(o.lens, o.chosen, 1)-1]
}

func (o mixBlocks) Infer(in []engine.Type) (engine.Type, error) {
	p, x := in[0].Shape, in[1].Shape
	if err := sameFloat(in[:2]...); err != nil {
		return engine.Type{}, err
	}
	if o.Size < 1 || len(p) != 4 || len(x) != 3 || x[0] != p[0] || p[1] < 1 || x[2]%p[1] != 0 || p[3] != (x[1]+o.Size-1)/o.Size {
		return engine.Type{}, fmt.Errorf("weights %v for rows %v in blocks of %d, want [B,H,N,⌈T/size⌉] and [B,T,H·D]", p, x, o.Size)
	}
	if o.lens >= 0 {
		if err := rowsAndLens([]engine.Type{in[1], in[o.lens]}); err != nil {
			return engine.Type{}, err
		}
	}
	if o.chosen >= 0 && (in[o.chosen].Dtype != tensor.Int32 || !slices.Equal(in[o.chosen].Shape, p[:3])) {
		return engine.Type{}, fmt.Errorf("what is chosen is %v, want int32 %v", in[o.chosen], p[:3])
	}
	rows := p[2] * o.Size
	if o.Own {
		if rows *= 2; p[2] != p[3] {
			return engine.Type{}, fmt.Errorf("%d slots for %d blocks: own rows need as many", p[2], p[3])
		}
	}
	return engine.Type{Dtype: in[0].Dtype, Shape: tensor.Shape{x[0], rows, x[2]}}, nil
}

// Flops are those of the products.
func (o mixBlocks) Flops(in []engine.Type, _ engine.Type) float64 { return o.flops(in, 1) }

func (o mixBlocks) flops(in []engine.Type, products float64) float64 {
	f := 2 * products * float64(in[0].Shape[2]) * float64(in[1].Size())
	switch {
	case o.chosen >= 0:
		return f * (products - 1)
	case o.Earlier:
		return f / 2
	}
	return f
}

func (o mixBlocks) Run(out engine.Value, in []engine.Value) error {
	if engine.IsF32(out) {
		return mixBlocksRun[float32](o, out, in, &mixJobs32)
	}
	return mixBlocksRun[float64](o, out, in, &mixJobs64)
}

func mixBlocksRun[F kernels.Float](o mixBlocks, out engine.Value, in []engine.Value, pool *mixPool[F]) error {
	j := pool.take()
	defer pool.give(j)
	if err := j.begin(o, in); err != nil {
		return err
	}
	j.y = engine.Floats[F](out)
	kernels.Par(j.b*j.h*j.chunks, j.forward)
	return nil
}

func (o mixBlocks) Diff(in Nodes, _, dout *Node) (Nodes, error) {
	g, err := engine.Apply(mixBlocksGrad{o, len(in)}, append(slices.Clone(in), dout)...)
	if err != nil {
		return nil, err
	}
	return engine.Unpack(g, in, 2)
}

// mixBlocksGrad computes [dP | dx]: dP_uv = Σ_t dy_{u,t}·x_{v,t}, dx_{v,t} = Σ_u P_uv dy_{u,t}. Inputs: those of mixBlocks, the gradient of
// its result.
type mixBlocksGrad struct {
	mixBlocks
	inputs int
}

func (mixBlocksGrad) Name() string { return "mix_blocks_grad" }
func (mixBlocksGrad) Diff(Nodes, *Node, *Node) (Nodes, error) {
	return firstOrder{}.Diff(nil, nil, nil)
}
func (o mixBlocksGrad) DiffWRT() []bool { return make([]bool, o.inputs+1) }
func (o mixBlocksGrad) Infer(in []engine.Type) (engine.Type, error) {
	if _, err := o.mixBlocks.Infer(in[:o.inputs]); err != nil {
		return engine.Type{}, err
	}
	return engine.Type{Dtype: in[0].Dtype, Shape: tensor.Shape{in[0].Size() + in[1].Size()}}, nil
}

func (o mixBlocksGrad) Flops(in []engine.Type, _ engine.Type) float64 { return o.flops(in, 2) }

func (o mixBlocksGrad) Run(out engine.Value, in []engine.Value) error {
	if engine.IsF32(out) {
		return mixBlocksGradRun[float32](o, out, in, &mixJobs32)
	}
	return mixBlocksGradRun[float64](o, out, in, &mixJobs64)
}

func mixBlocksGradRun[F kernels.Float](o mixBlocksGrad, out engine.Value, in []engine.Value, pool *mixPool[F]) error {
	j := pool.take()
	defer pool.give(j)
	if err := j.begin(o.mixBlocks, in); err != nil {
		return err
	}
	g, size := engine.Floats[F](out), in[0].Size()
	j.y, j.dp, j.dx = engine.Floats[F](in[o.inputs]), g[:size], g[size:]
	kernels.Par(j.b*j.h, j.backward)
	return nil
}
