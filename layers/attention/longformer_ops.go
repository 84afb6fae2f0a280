package attention

import (
	"fmt"
	"slices"

	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/kernels"
)

// fronted is a window whose keys stand behind a strip of columns that every query reads. Its n is front + the number of tokens; rows are
// tokens. With byResidue rows and the columns behind the strip are in the order of residues, in which a dilated window is a band.
type fronted struct {
	of        Pattern
	front     int
	byResidue bool
}

func (f fronted) String() string {
	return fmt.Sprintf("strip(%d) then %s, by residue: %t", f.front, f.of, f.byResidue)
}
func (f fronted) Heads() int    { return f.of.Heads() }
func (f fronted) FromEnd() bool { return false }

// residuePlace is where the order of residues has position i of n, residueAt the position it has at place r.
func residuePlace(gap, i, n int) int {
	c := i % gap
	return c*(n/gap) + min(c, n%gap) + i/gap
}

func residueAt(gap, r, n int) int {
	size, longer := n/gap, n%gap // the first classes have one more
	if r < longer*(size+1) {
		return r/(size+1) + r%(size+1)*gap
	}
	r -= longer * (size + 1)
	return longer + r/size + r%size*gap
}

// gap of a head, 1 where rows are in the order of positions.
func (f fronted) gap(h int) int {
	if !f.byResidue {
		return 1
	}
	return gapOf(f.of, h)
}

func (f fronted) Sees(h, i, j, n int) bool {
	t, gap := n-f.front, f.gap(h)
	if i < 0 || i >= t || j < 0 || j >= n {
		return false
	}
	return j < f.front || f.of.Sees(h, residueAt(gap, i, t), residueAt(gap, j-f.front, t), t)
}

func (f fronted) Row(h, i, n int, dst []Run) []Run {
	t, gap := n-f.front, f.gap(h)
	if i < 0 || i >= t {
		return dst
	}
	at := len(dst) + 1
	dst = f.of.Row(h, residueAt(gap, i, t), t, append(dst, Run{0, f.front, 1}))
	return f.placed(dst, at, gap, t, f.front)
}

func (f fronted) Col(h, j, n int, dst []Run) []Run {
	t, gap := n-f.front, f.gap(h)
	switch {
	case j < 0 || j >= n:
		return dst
	case j < f.front:
		return appendRun(dst, 0, t, 1)
	}
	at := len(dst)
	return f.placed(f.of.Col(h, residueAt(gap, j-f.front, t), t, dst), at, gap, t, 0)
}

// placed turns runs of positions, from index at on, into runs of places.
func (f fronted) placed(runs []Run, at, gap, t, shift int) []Run {
	for k, r := range runs[at:] {
		if f.byResidue {
			lo := residuePlace(gap, r.Lo, t)
			r = Run{lo, lo + r.Len(), 1}
		}
		runs[at+k] = Run{r.Lo + shift, r.Hi + shift, r.Step}
	}
	return runs
}

func (f fronted) NNZ(h, n int) int64 {
	t := n - f.front
	return f.of.NNZ(h, t) + int64(t)*int64(f.front)
}

// firstKeys is a pattern in which every query reads so many keys, the first ones.
type firstKeys int

func (f firstKeys) String() string           { return fmt.Sprintf("first keys(%d)", int(f)) }
func (f firstKeys) Heads() int               { return 1 }
func (f firstKeys) FromEnd() bool            { return false }
func (f firstKeys) Sees(_, i, j, n int) bool { return inside(i, j, n) && j < int(f) }
func (f firstKeys) Row(_, i, n int, dst []Run) []Run {
	if i < 0 || i >= n {
		return dst
	}
	return appendRun(dst, 0, min(int(f), n), 1)
}
func (f firstKeys) Col(_, j, n int, dst []Run) []Run {
	if j < 0 || j >= min(int(f), n) {
		return dst
	}
	return appendRun(dst, 0, n, 1)
}
func (f firstKeys) NNZ(_, n int) int64 { return int64(n) * int64(min(int(f), n)) }

// globalRows sorts the positions of the globals of each example, each once, and puts -1 behind them. Positions that are padding are
// left out, and so are negative ones unless they count fromEnd. Inputs: positions int32 [B,G], perhaps lens.
type globalRows struct {
	t       int
	fromEnd bool
}

func (globalRows) Name() string { return "global_rows" }

func (o globalRows) Infer(in []engine.Type) (engine.Type, error) {
	s := in[0].Shape
	if in[0].Dtype != tensor.Int32 || len(s) != 2 {
		return engine.Type{}, fmt.Errorf("positions are %v, want int32 [B,G]", in[0])
	}
	if len(in) > 1 && (in[1].Dtype != tensor.Int32 || !slices.Equal(in[1].Shape, s[:1])) {
		return engine.Type{}, fmt.Errorf("lengths are %v, want int32 [%d]", in[1], s[0])
	}
	return in[0], nil
}

func (o globalRows) Run(out engine.Value, in []engine.Value) error {
	g := in[0].Shape()[1]
	for b := range in[0].Shape()[0] {
		n, row, kept := o.t, engine.Ints(out)[b*g:][:g], 0
		if len(in) > 1 {
			n = min(int(engine.Ints(in[1])[b]), o.t)
		}
		for _, p := range engine.Ints(in[0])[b*g:][:g] {
			i := int(p)
			if o.fromEnd && i < 0 {
				i += n
			}
			if i >= o.t && !o.fromEnd {
				return fmt.Errorf("example %d has a global token at %d, there are %d tokens", b, i, o.t)
			}
			if i >= 0 && i < n {
				row[kept] = int32(i)
				kept++
			}
		}
		slices.Sort(row[:kept])
		kept = len(slices.Compact(row[:kept]))
		for k := range row[kept:] {
			row[kept+k] = -1
		}
	}
	return nil
}

func (globalRows) Diff(in Nodes, _, _ *Node) (Nodes, error) { return make(Nodes, len(in)), nil }

// globalCount counts the globals of each example: int32 [B]. Input: what globalRows gives.
type globalCount struct{}

func (globalCount) Name() string { return "global_count" }

func (globalCount) Infer(in []engine.Type) (engine.Type, error) {
	return engine.Type{Dtype: tensor.Int32, Shape: in[0].Shape[:1].Clone()}, nil
}

func (globalCount) Run(out engine.Value, in []engine.Value) error {
	counts, g := engine.Ints(out), in[0].Shape()[1]
	clear(counts)
	for k, p := range engine.Ints(in[0]) {
		if p >= 0 {
			counts[k/g]++
		}
	}
	return nil
}

func (globalCount) Diff(Nodes, *Node, *Node) (Nodes, error) { return Nodes{nil}, nil }

// globalPlaces are the positions of the globals, 0 in place of none: int32 [B,G]. Input: what globalRows gives.
type globalPlaces struct{}

func (globalPlaces) Name() string                                { return "global_places" }
func (globalPlaces) Infer(in []engine.Type) (engine.Type, error) { return in[0], nil }
func (globalPlaces) Run(out engine.Value, in []engine.Value) error {
	places := engine.Ints(out)
	for k, p := range engine.Ints(in[0]) {
		places[k] = max(p, 0)
	}
	return nil
}
func (globalPlaces) Diff(Nodes, *Node, *Node) (Nodes, error) { return Nodes{nil}, nil }

// stripColumns says which token each column of fronted stands for: the globals, none up to front, then the tokens that are not
// global, in the order of residues of gaps (none: of positions). Input: what globalRows gives. Result: int32 [B,front+T], or
// [B,H,front+T] with gaps of each head.
type stripColumns struct {
	front, t int
	gaps     []int
}

func (stripColumns) Name() string { return "strip_columns" }

func (o stripColumns) Infer(in []engine.Type) (engine.Type, error) {
	shape := tensor.Shape{in[0].Shape[0], o.front + o.t}
	if len(o.gaps) > 1 {
		shape = tensor.Shape{in[0].Shape[0], len(o.gaps), o.front + o.t}
	}
	return engine.Type{Dtype: tensor.Int32, Shape: shape}, nil
}

func (o stripColumns) Run(out engine.Value, in []engine.Value) error {
	g, heads := in[0].Shape()[1], max(1, len(o.gaps))
	for bh := range in[0].Shape()[0] * heads {
		globals, gap := engine.Ints(in[0])[bh/heads*g:][:g], 1
		if len(o.gaps) > 0 {
			gap = o.gaps[bh%heads]
		}
		row := engine.Ints(out)[bh*(o.front+o.t):][:o.front+o.t]
		for k := range row[:o.front] {
			row[k] = -1
		}
		copy(row, globals)
		tokens := row[o.front:]
		at := 0
		for c := range min(gap, o.t) {
			for i := c; i < o.t; i += gap {
				tokens[at] = int32(i)
				at++
			}
		}
		for _, p := range globals {
			if p >= 0 {
				tokens[residuePlace(gap, int(p), o.t)] = -1
			}
		}
	}
	return nil
}

func (stripColumns) Diff(Nodes, *Node, *Node) (Nodes, error) { return Nodes{nil}, nil }

// dropRows is x with zeros in the rows of an index. It is its own gradient. Inputs: x [B,T,C], index int32 [B,G], negative: none.
type dropRows struct{}

func (dropRows) Name() string    { return "drop_rows" }
func (dropRows) Cheap()          {}
func (dropRows) InPlace() int    { return 0 }
func (dropRows) DiffWRT() []bool { return []bool{true, false} }

func (dropRows) Infer(in []engine.Type) (engine.Type, error) { return in[0], nil }

func (dropRows) Run(out engine.Value, in []engine.Value) error {
	if engine.IsF32(out) {
		dropRun[float32](out, in)
	} else {
		dropRun[float64](out, in)
	}
	return nil
}

func dropRun[F kernels.Float](out engine.Value, in []engine.Value) {
	y, t, c, g := engine.Floats[F](out), out.Shape()[1], out.Shape()[2], in[1].Shape()[1]
	copy(y, engine.Floats[F](in[0]))
	for k, p := range engine.Ints(in[1]) {
		if p >= 0 {
			clear(y[(k/g*t+int(p))*c:][:c])
		}
	}
}

func (o dropRows) Diff(in Nodes, _, dout *Node) (Nodes, error) {
	dx, err := engine.Apply(o, dout, in[1])
	return Nodes{dx, nil}, err
}
