package attention

import (
	"fmt"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/kernels"
)

func (o *attend) Run(out engine.Value, in []engine.Value) error {
	if engine.IsF32(out) {
		return forward[float32](o, out, in)
	}
	return forward[float64](o, out, in)
}

func (o attendGrad) Run(out engine.Value, in []engine.Value) error {
	if engine.IsF32(out) {
		return backward[float32](&o, out, in)
	}
	return backward[float64](&o, out, in)
}

// call is what a run needs, kept for the next.
type call[F kernels.Float] struct {
	a              kernels.Attention[F]
	dO, dQ, dK, dV kernels.Rows[F]
	dLSE           []F
	identity       []int32 // 0, 1, 2, …
}

// Calls that are not in use.
var (
	calls32 kernels.FreeList[call[float32]]
	calls64 kernels.FreeList[call[float64]]
)

func callsOf[F kernels.Float]() *kernels.FreeList[call[F]] {
	return kernels.FreeListOf[call[F]](&calls32, &calls64)
}

func takeCall[F kernels.Float]() *call[F] { return callsOf[F]().Take(nil) }

func (c *call[F]) release() {
	*c = call[F]{identity: c.identity}
	callsOf[F]().Give(c)
}

// rowsOf describes data [B,T,H,d], or a column group of fused data, with this many columns a token.
func rowsOf[F kernels.Float](data []F, tokens, d, columns int) kernels.Rows[F] {
	return kernels.Rows[F]{Data: data, Batch: tokens * columns, Row: columns, Head: d}
}

// split describes q, k and v, or their gradients: three tensors, or if fused the column groups of the first.
func split[F kernels.Float](o *attend, q, k, v []F) (rq, rk, rv kernels.Rows[F]) {
	n, nv := o.heads*o.d, o.heads*o.dv
	if o.fused {
		return rowsOf(q, o.tq, o.d, 3*n), rowsOf(q[n:], o.tq, o.d, 3*n), rowsOf(q[2*n:], o.tq, o.d, 3*n)
	}
	return rowsOf(q, o.tq, o.d, n), rowsOf(k, o.tk, o.d, n), rowsOf(v, o.tk, o.dv, nv)
}

// prepare sets everything of a call but the layouts of patterns that depend on the lengths.
func prepare[F kernels.Float](o *attend, c *call[F], packed []F, in []engine.Value) error {
	a := &c.a
	a.B, a.H, a.TQ, a.TK, a.D, a.DV = o.b, o.heads, o.rq, o.rk, o.d, o.dv
	a.Scale = F(o.scale)
	if a.Edges = o.edges; a.Edges == nil {
		a.Layouts = o.layouts
	}
	if o.fused {
		a.Q, a.K, a.V = split(o, engine.Floats[F](in[0]), nil, nil)
	} else {
		a.Q, a.K, a.V = split(o, engine.Floats[F](in[0]), engine.Floats[F](in[1]), engine.Floats[F](in[2]))
	}
	a.O, a.LSE = rowsOf(packed, o.tq, o.dv, o.heads*o.dv), packed[o.sizeO():]
	a.IndexQ, a.IndexK = o.orderQ, o.orderK
	if o.indexQ >= 0 {
		a.IndexQ, a.TokensQ = engine.Ints(in[o.indexQ]), o.tq
	}
	if o.indexK >= 0 {
		a.IndexK, a.TokensK = engine.Ints(in[o.indexK]), o.tk
	}
	var err error
	if a.LensQ, err = lengths(o.lensQ, o.tq, in); err == nil {
		a.LensK, err = lengths(o.lensK, o.tk, in)
	}
	setLabels(o, a, in)
	return err
}

// lengths checks the lengths of the examples.
func lengths(place, tokens int, in []engine.Value) ([]int32, error) {
	if place < 0 {
		return nil, nil
	}
	lens := engine.Ints(in[place])
	for b, l := range lens {
		if l < 0 || int(l) > tokens {
			return nil, fmt.Errorf("example %d has length %d, it must be from 0 to %d", b, l, tokens)
		}
	}
	return lens, nil
}

func forward[F kernels.Float](o *attend, out engine.Value, in []engine.Value) error {
	c := takeCall[F]()
	defer c.release()
	if err := prepare(o, c, engine.Floats[F](out), in); err != nil {
		return err
	}
	if !o.byExample() || unpadded(o, &c.a) {
		return c.a.Forward()
	}
	whole := c.a
	for b := range o.b {
		if err := example(o, b, &whole, c, in); err != nil {
			return err
		}
		if err := c.a.Forward(); err != nil {
			return err
		}
	}
	return nil
}

func backward[F kernels.Float](o *attendGrad, out engine.Value, in []engine.Value) error {
	c, of := takeCall[F](), o.of
	defer c.release()
	if err := prepare(of, c, engine.Floats[F](in[o.inputs]), in); err != nil {
		return err
	}
	c.dO = rowsOf(engine.Floats[F](in[o.inputs+1]), of.tq, of.dv, of.heads*of.dv)
	if o.lse {
		c.dLSE = engine.Floats[F](in[o.inputs+2])
	}
	d := engine.Floats[F](out)
	behind := in[0].Size()
	if of.fused {
		c.dQ, c.dK, c.dV = split(of, d, nil, nil)
	} else {
		nq, nk := behind, in[1].Size()
		c.dQ, c.dK, c.dV = split(of, d, d[nq:], d[nq+nk:])
		behind += nk + in[2].Size()
	}
	setLabelGrads(of, &c.a, d[behind:], in)
	if !of.byExample() || unpadded(of, &c.a) {
		return c.a.Backward(c.dO, c.dLSE, c.dQ, c.dK, c.dV)
	}
	whole := *c
	for b := range of.b {
		if err := example(of, b, &whole.a, c, in); err != nil {
			return err
		}
		if o.lse {
			c.dLSE = whole.dLSE[b*of.heads*of.tq:]
		}
		if err := c.a.Backward(at(whole.dO, b), c.dLSE, at(whole.dQ, b), at(whole.dK, b), at(whole.dV, b)); err != nil {
			return err
		}
	}
	return nil
}

// byExample reports whether every example has a layout of its own: it has a structure, or positions are counted from its own end.
func (o *attend) byExample() bool {
	return o.structure != nil || (o.lensK >= 0 || o.lensQ >= 0) && o.pattern.FromEnd() && o.indexK < 0 && o.indexQ < 0
}

// unpadded reports whether no example carries padding: then the layouts of the full length are those of each.
func unpadded[F kernels.Float](o *attend, a *kernels.Attention[F]) bool {
	for b := range o.b {
		if a.LensQ != nil && int(a.LensQ[b]) < o.tq || a.LensK != nil && int(a.LensK[b]) < o.tk {
			return false
		}
	}
	return o.structure == nil
}

// example sets a call for one example of whole alone, with the pattern laid out for its own length.
func example[F kernels.Float](o *attend, b int, whole *kernels.Attention[F], c *call[F], in []engine.Value) error {
	a := &c.a
	a.B, a.TQ, a.TK = 1, o.tq, o.tk
	if whole.LensQ != nil {
		a.TQ = int(whole.LensQ[b])
	}
	if whole.LensK != nil {
		a.TK = int(whole.LensK[b])
	}
	a.LensQ, a.LensK = nil, nil
	a.Q, a.K, a.V, a.O = at(whole.Q, b), at(whole.K, b), at(whole.V, b), at(whole.O, b)
	a.LSE = whole.LSE[b*o.heads*o.tq:]
	pattern, text, labels, labelText := o.pattern, o.text, o.labels, o.labelText
	if o.structure != nil {
		pattern, labels = o.structure.Of(o.structureRows(b, in))
		text = pattern.String()
		if err := CheckHeads(pattern, o.heads); err != nil {
			return err
		}
		if o.labels != nil {
			labelText = labels.String()
		}
	}
	if o.structure == nil {
		// By its own length too: an example is computed in one way however much padding it carries.
		r, err := compiled.route(pattern, text, a.TQ, a.TK, o.want)
		if err != nil {
			return err
		}
		if r == byLists { // which are of all tokens, and leave out those beyond
			a.Edges, err = compiled.edges(pattern, text, a.TQ, a.TK, labels, labelText)
			a.Layouts, a.Labels, a.IndexQ, a.IndexK, a.TQ, a.TK = nil, nil, nil, nil, o.tq, o.tk
			return err
		}
	}
	a.Edges = nil
	for n := len(c.identity); n < max(o.tq, o.tk); n++ {
		c.identity = append(c.identity, int32(n))
	}
	// Tokens that no row of the layout stands for are tokens without keys, so padding comes out as zeros.
	a.IndexQ, a.TokensQ = c.identity[:a.TQ], o.tq
	a.IndexK, a.TokensK = c.identity[:a.TK], o.tk
	var err error
	if a.Layouts, err = compiled.get(pattern, text, a.TQ, a.TK, false); err == nil && o.labels != nil {
		a.Labels, err = compiled.labels(pattern, text, a.TQ, a.TK, false, labels, labelText)
	}
	return err
}

// structureRows are the rows of the structure's inputs that belong to example b.
func (o *attend) structureRows(b int, in []engine.Value) [][]int32 {
	rows := make([][]int32, len(o.structureAt))
	for k, at := range o.structureAt {
		all := engine.Ints(in[at])
		n := len(all) / o.b
		rows[k] = all[b*n:][:n]
	}
	return rows
}

// at describes example b alone.
func at[F kernels.Float](r kernels.Rows[F], b int) kernels.Rows[F] {
	r.Data = r.Data[b*r.Batch:]
	return r
}
