package layers

import (
	"fmt"
	"sync"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/kernels"
)

// RopeConfig describes a rotation by position of some of the columns of each token.
type RopeConfig struct {
	Heads       int     // heads that are rotated, one after the other from column Offset on
	HeadSize    int     // D
	Offset      int     // first column; 0 by default
	Dim         int     // columns of each head that are rotated, the first ones; 0 is all
	Base        float64 // 0 is 10000
	Interleaved bool    // the pairs are columns (2i, 2i+1), not (i, i+Dim/2)
	Positions   PositionConfig
}

// Rope turns each pair i of columns of a head by the angle position * Base^(-2i/Dim), so that the product of a query and a
// key depends on their distance. It works in place: give it q or k, or the fused [q|k|v] with Heads the number of heads of q
// and k together.
//
// Shapes: x [B,T,R] or [T,R], R >= Offset + Heads*D -> the same. Cost: one pass; a gradient keeps nothing.
// Errors: an odd Dim; columns that x lacks; when run, a negative position.
// Source: Su et al. 2021, arXiv 2104.09864, equation 34 (interleaved); pairs (i, i+Dim/2) as in GPT-NeoX.
func Rope(b *Builder, x *Node, c RopeConfig) *Node {
	if c.Dim == 0 {
		c.Dim = c.HeadSize
	}
	if c.Base == 0 {
		c.Base = 10000
	}
	in := Nodes{x}
	if c.Positions.IDs != nil {
		in = append(in, c.Positions.IDs)
	}
	return b.Op(rope{heads: c.Heads, size: c.HeadSize, offset: c.Offset, dim: c.Dim, base: c.Base, interleaved: c.Interleaved,
		first: c.Positions.First, ids: c.Positions.IDs != nil}, in...)
}

// rope has inputs: x, and ids if there are any.
type rope struct {
	heads, size, offset, dim int
	base                     float64
	interleaved, inverse     bool
	first                    int
	ids                      bool
}

func (o rope) Name() string    { return "rope" }
func (o rope) InPlace() int    { return 0 }
func (o rope) DiffWRT() []bool { return []bool{true, false}[:1+b2i(o.ids)] }

func (o rope) Infer(in []engine.Type) (engine.Type, error) {
	if err := sameFloat(in[0]); err != nil {
		return engine.Type{}, err
	}
	x := in[0].Shape
	switch {
	case len(x) < 2:
		return engine.Type{}, fmt.Errorf("input of shape %v, want [B,T,R] or [T,R]", x)
	case o.dim < 2 || o.dim%2 != 0 || o.dim > o.size:
		return engine.Type{}, fmt.Errorf("%d rotated columns in heads of %d, want an even number from 2 to the head size", o.dim, o.size)
	case o.heads < 1 || o.offset < 0 || o.offset+o.heads*o.size > lastOf(x):
		return engine.Type{}, fmt.Errorf("%d heads of %d from column %d, the input has %d columns", o.heads, o.size, o.offset, lastOf(x))
	case o.base <= 0:
		return engine.Type{}, fmt.Errorf("base %g, want above 0", o.base)
	case o.first < 0:
		return engine.Type{}, fmt.Errorf("first position %d, want at least 0", o.first)
	case o.ids:
		return in[0], fitsTokens("position ids", in[1], x)
	}
	return in[0], nil
}

func (o rope) Flops(in []engine.Type, out engine.Type) float64 {
	return 3 * float64(out.Size()/lastOf(out.Shape)) * float64(o.heads*o.dim)
}

func (o rope) Run(out engine.Value, in []engine.Value) error {
	if engine.IsF32(out) {
		return runRope(o, out, in, &ropes32)
	}
	return runRope(o, out, in, &ropes64)
}

func (o rope) Diff(in Nodes, out, dout *Node) (Nodes, error) {
	o.inverse = !o.inverse
	dx, err := engine.Apply(o, append(Nodes{dout}, in[1:]...)...)
	return append(Nodes{dx}, make(Nodes, len(in)-1)...), err
}

func runRope[F kernels.Float](o rope, out engine.Value, in []engine.Value, tables *ropeTables[F]) error {
	x, y, shape := engine.Floats[F](in[0]), engine.Floats[F](out), in[0].Shape()
	t, width := shape[len(shape)-2], lastOf(shape)
	positions := o.first + t
	var ids []int32
	if o.ids {
		positions, ids = 0, engine.Ints(in[1])
		for i, p := range ids {
			if p < 0 {
				return fmt.Errorf("position %d at index %d, want at least 0", p, i)
			}
			positions = max(positions, int(p)+1)
		}
	}
	cos, sin := tables.get(o.base, o.dim, positions)
	if &x[0] != &y[0] {
		copy(y, x)
	}
	heads, size := o.heads, o.dim
	if o.dim != o.size { // the rotated columns of the heads are not next to each other
		heads = 1
	}
	for h := 0; h < o.heads; h += heads {
		x := y[o.offset+h*o.size:]
		if o.ids {
			kernels.Rope(len(y)/width, heads, size, x, width, ids, cos, sin, o.interleaved, o.inverse)
			continue
		}
		first := o.first * o.dim / 2
		for r := 0; r < len(y); r += t * width {
			kernels.Rope(t, heads, size, x[r:], width, nil, cos[first:], sin[first:], o.interleaved, o.inverse)
		}
	}
	return nil
}

var (
	ropes32 ropeTables[float32]
	ropes64 ropeTables[float64]
)

// ropeTables keeps the cosines and sines that all rotations share.
type ropeTables[F kernels.Float] struct {
	mu     sync.Mutex
	tables map[ropeKey][2][]F
}

type ropeKey struct {
	base float64
	dim  int
}

// get returns the cosines and sines of at least the given number of positions, [.., dim/2] each.
func (r *ropeTables[F]) get(base float64, dim, positions int) (cos, sin []F) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := ropeKey{base, dim}
	t, known := r.tables[key]
	have := len(t[0]) / (dim / 2)
	if have < positions {
		if known { // generation asks for one more each time
			positions = max(positions, have+have/2)
		}
		if r.tables == nil {
			r.tables = map[ropeKey][2][]F{}
		}
		t[0], t[1] = kernels.RopeTable[F](positions, dim, base)
		r.tables[key] = t
	}
	return t[0], t[1]
}
