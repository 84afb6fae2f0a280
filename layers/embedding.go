package layers

import (
	"fmt"

	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/kernels"
)

// Embedding looks ids up in the table "weight" [V, C].
//
// Shapes: ids int32 [..] -> [.., C]. Cost: one pass over the result; the gradient is as large as the table.
// Errors, when run: an id outside 0..V-1, with its index.
// The table is the node Param("weight", ..) of the same scope; give it to Linear as Weight to tie the output to it.
func Embedding(b *Builder, ids *Node, v, c int, init Init) *Node {
	return Lookup(b, b.Param("weight", initOr(init, Normal(0.02)), v, c), ids)
}

// Lookup takes the rows of a table [V, C] that ids int32 [..] name; the result is [.., C]. See Embedding.
// The table may be any node: some tokens of x [B,T,C] are the rows of Reshape(x, -1, C).
func Lookup(b *Builder, table, ids *Node) *Node { return b.Op(lookup{}, table, ids) }

// LookupFrozen is Lookup in which row frozen gets no gradient, as the padding_idx of PyTorch.
func LookupFrozen(b *Builder, table, ids *Node, frozen int) *Node {
	return b.Op(lookup{frozen: frozen + 1}, table, ids)
}

// lookup has inputs: table, ids.
type lookup struct {
	frozen int // 1 + the row without gradient; 0: none
}

func (o lookup) Name() string    { return "embedding" }
func (o lookup) Cheap()          {}
func (o lookup) DiffWRT() []bool { return []bool{true, false} }

func (o lookup) Infer(in []engine.Type) (engine.Type, error) {
	if err := sameFloat(in[0]); err != nil {
		return engine.Type{}, err
	}
	if err := isInts("ids", in[1]); err != nil {
		return engine.Type{}, err
	}
	if len(in[0].Shape) != 2 || len(in[1].Shape) == 0 {
		return engine.Type{}, fmt.Errorf("table of shape %v and ids of shape %v, want two axes and at least one", in[0].Shape, in[1].Shape)
	}
	return engine.Type{Dtype: in[0].Dtype, Shape: append(in[1].Shape.Clone(), in[0].Shape[1])}, nil
}

func (o lookup) Run(out engine.Value, in []engine.Value) error {
	ids, v, d := engine.Ints(in[1]), in[0].Shape()[0], in[0].Shape()[1]
	if engine.IsF32(out) {
		return kernels.Embed(len(ids), d, v, engine.Floats[float32](in[0]), ids, engine.Floats[float32](out))
	}
	return kernels.Embed(len(ids), d, v, engine.Floats[float64](in[0]), ids, engine.Floats[float64](out))
}

func (o lookup) Diff(in Nodes, out, dout *Node) (Nodes, error) {
	dt, err := engine.Apply(lookupGrad{v: in[0].Shape()[0], frozen: o.frozen}, in[1], dout)
	return Nodes{dt, nil}, err
}

// lookupGrad adds the rows of dy into the rows of a table of zeros that ids name. Inputs: ids, dy.
type lookupGrad struct {
	firstOrder
	v, frozen int
}

func (o lookupGrad) Name() string { return "embedding_grad" }

func (o lookupGrad) Infer(in []engine.Type) (engine.Type, error) {
	return engine.Type{Dtype: in[1].Dtype, Shape: tensor.Shape{o.v, lastOf(in[1].Shape)}}, nil
}

func (o lookupGrad) Run(out engine.Value, in []engine.Value) error {
	ids, d := engine.Ints(in[0]), lastOf(in[1].Shape())
	if engine.IsF32(out) {
		kernels.EmbedGrad(len(ids), d, o.v, ids, engine.Floats[float32](in[1]), engine.Floats[float32](out))
		clearRow(engine.Floats[float32](out), d, o.frozen)
	} else {
		kernels.EmbedGrad(len(ids), d, o.v, ids, engine.Floats[float64](in[1]), engine.Floats[float64](out))
		clearRow(engine.Floats[float64](out), d, o.frozen)
	}
	return nil
}

// clearRow zeroes the row before frozen, if there is one.
func clearRow[F kernels.Float](table []F, width, frozen int) {
	if frozen > 0 && frozen*width <= len(table) {
		clear(table[(frozen-1)*width : frozen*width])
	}
}
