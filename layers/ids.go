package layers

import (
	"fmt"

	"github.com/euryale-ml/euryale/internal/engine"
)

// CountedPositions numbers the tokens that are not padding from pad+1 on; padding has position pad. ids and the result are int32
// [B,T]. Padding is every id pad and, if lens is not nil (int32 [B]), what stands behind an example's length.
//
// Source: RobertaEmbeddings.create_position_ids_from_input_ids of transformers.
func CountedPositions(b *Builder, ids, lens *Node, pad int) *Node {
	return b.Op(countedPositions{pad: int32(pad)}, present(ids, lens)...)
}

// Plus is x + k of whole numbers.
func Plus(b *Builder, x *Node, k int) *Node { return b.Op(plus{int32(k)}, x) }

// PlusEach is x [B,T] + k [T] of whole numbers.
func PlusEach(b *Builder, x, k *Node) *Node { return b.Op(plusEach{}, x, k) }

// ShiftIDs moves ids int32 [B,T] by one place: start, then all but the last.
func ShiftIDs(b *Builder, ids *Node, start int) *Node { return b.Op(shiftIDs{int32(start)}, ids) }

// shiftIDs has inputs: ids.
type shiftIDs struct{ start int32 }

func (shiftIDs) Name() string                            { return "shift_ids" }
func (shiftIDs) Cheap()                                  {}
func (shiftIDs) Diff(Nodes, *Node, *Node) (Nodes, error) { return Nodes{nil}, nil }

func (shiftIDs) Infer(in []engine.Type) (engine.Type, error) {
	if len(in[0].Shape) != 2 {
		return engine.Type{}, fmt.Errorf("ids of shape %v, want [B,T]", in[0].Shape)
	}
	return in[0], isInts("ids", in[0])
}

func (o shiftIDs) Run(out engine.Value, in []engine.Value) error {
	ids, y, t := engine.Ints(in[0]), engine.Ints(out), out.Shape()[1]
	for r := 0; r < len(ids); r += t {
		y[r] = o.start
		copy(y[r+1:r+t], ids[r:])
	}
	return nil
}

// countedPositions has inputs: ids, and lengths if there are any.
type countedPositions struct{ pad int32 }

func (countedPositions) Name() string { return "position_ids" }
func (countedPositions) Cheap()       {}

func (countedPositions) DiffWRT() []bool { return []bool{false, false} }

func (countedPositions) Infer(in []engine.Type) (engine.Type, error) {
	if err := isInts("ids", in[0]); err != nil {
		return engine.Type{}, err
	}
	if len(in[0].Shape) != 2 {
		return engine.Type{}, fmt.Errorf("ids of shape %v, want [B,T]", in[0].Shape)
	}
	if len(in) > 1 {
		if err := isInts("lengths", in[1]); err != nil {
			return engine.Type{}, err
		}
		if in[1].Size() != in[0].Shape[0] {
			return engine.Type{}, fmt.Errorf("lengths of shape %v for ids of shape %v", in[1].Shape, in[0].Shape)
		}
	}
	return in[0], nil
}

func (o countedPositions) Run(out engine.Value, in []engine.Value) error {
	ids, y, t := engine.Ints(in[0]), engine.Ints(out), out.Shape()[1]
	for b := range len(ids) / t {
		n, at := t, o.pad
		if len(in) > 1 {
			n = int(engine.Ints(in[1])[b])
		}
		for i := range t {
			y[b*t+i] = o.pad
			if ids[b*t+i] != o.pad && i < n {
				at++
				y[b*t+i] = at
			}
		}
	}
	return nil
}

func (countedPositions) Diff(in Nodes, _, _ *Node) (Nodes, error) { return make(Nodes, len(in)), nil }

// plus adds a number to each element.
type plus struct{ k int32 }

func (plus) Name() string                                { return "plus" }
func (plus) Cheap()                                      {}
func (plus) InPlace() int                                { return 0 }
func (plus) DiffWRT() []bool                             { return []bool{false} }
func (plus) Infer(in []engine.Type) (engine.Type, error) { return in[0], isInts("x", in[0]) }
func (plus) Diff(in Nodes, _, _ *Node) (Nodes, error)    { return make(Nodes, len(in)), nil }
func (o plus) Run(out engine.Value, in []engine.Value) error {
	x, y := engine.Ints(in[0]), engine.Ints(out)
	for i, v := range x {
		y[i] = v + o.k
	}
	return nil
}

// plusEach adds numbers to each row.
type plusEach struct{}

func (plusEach) Name() string                             { return "plus_each" }
func (plusEach) Cheap()                                   {}
func (plusEach) InPlace() int                             { return 0 }
func (plusEach) DiffWRT() []bool                          { return []bool{false, false} }
func (plusEach) Diff(in Nodes, _, _ *Node) (Nodes, error) { return make(Nodes, len(in)), nil }

func (plusEach) Infer(in []engine.Type) (engine.Type, error) {
	x, k := in[0].Shape, in[1].Shape
	if len(x) != 2 || len(k) != 1 || x[1] != k[0] {
		return engine.Type{}, fmt.Errorf("ids of shape %v and numbers of shape %v, want [B,T] and [T]", x, k)
	}
	if err := isInts("numbers", in[1]); err != nil {
		return engine.Type{}, err
	}
	return in[0], isInts("ids", in[0])
}

func (plusEach) Run(out engine.Value, in []engine.Value) error {
	x, k, y := engine.Ints(in[0]), engine.Ints(in[1]), engine.Ints(out)
	for i, v := range x {
		y[i] = v + k[i%len(k)]
	}
	return nil
}
