package attention

import (
	"math"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/kernels"
)

// kernelCall is what a round tells the kernels: rows and columns of its layouts or lists, of each example and head.
type kernelCall struct {
	layouts        []*kernels.Layout
	edges          []*kernels.Edges
	tq, tk         int
	indexQ, indexK []int32
	rowsQ          bool
}

func (o *picked) Run(out engine.Value, in []engine.Value) error {
	if engine.IsF32(out) {
		return chosenForward[float32](o, out, in)
	}
	return chosenForward[float64](o, out, in)
}

func (o pickedGrad) Run(out engine.Value, in []engine.Value) error {
	if engine.IsF32(out) {
		return chosenBackward[float32](&o, out, in)
	}
	return chosenBackward[float64](&o, out, in)
}

// beginChosen sets what all rounds of a call share. packed is the result of the operation.
func beginChosen[F kernels.Float](o *picked, c *call[F], packed []F, in []engine.Value, backward bool) (rounds, error) {
	a, n, nv := &c.a, o.heads*o.d, o.heads*o.dv
	a.B, a.H, a.D, a.DV, a.Scale = o.b, o.heads, o.d, o.dv, F(o.scale)
	a.Q, a.K, a.V = rowsOf(engine.Floats[F](in[0]), o.tq, o.d, n), rowsOf(engine.Floats[F](in[1]), o.tk, o.d, n), rowsOf(engine.Floats[F](in[2]), o.tk, o.dv, nv)
	a.O, a.LSE = rowsOf(packed, o.rows, o.dv, nv), packed[o.sizeO():][:o.sizeLSE()]
	if o.lastResort {
		a.LSE = packed[o.sizeO()+o.sizeLSE():]
	}
	var err error
	if a.LensQ, err = lengths(o.lensQ, o.tq, in); err == nil {
		a.LensK, err = lengths(o.lensK, o.tk, in)
	}
	if err != nil {
		return nil, err
	}
	return o.of.begin(o, in[3:3+o.choice], a.LensQ, a.LensK, backward)
}

// eachRound sets the call for every round and runs it.
func eachRound[F kernels.Float](o *picked, c *call[F], rs rounds, run func(c *call[F]) error) error {
	var k kernelCall
	for r := range rs.count() {
		if err := rs.round(r, &k); err != nil {
			return err
		}
		a := &c.a
		a.Layouts, a.Edges, a.TQ, a.TK, a.IndexQ, a.IndexK, a.RowsQ, a.Add = k.layouts, k.edges, k.tq, k.tk, k.indexQ, k.indexK, k.rowsQ, r > 0
		a.TokensQ, a.TokensK = o.tq, o.tk
		if err := run(c); err != nil {
			return err
		}
	}
	return nil
}

func chosenForward[F kernels.Float](o *picked, out engine.Value, in []engine.Value) error {
	c, packed := takeCall[F](), engine.Floats[F](out)
	defer c.release()
	rs, err := beginChosen(o, c, packed, in, false)
	if err != nil {
		return err
	}
	defer rs.release()
	if err := eachRound(o, c, rs, forwardCall[F]); err != nil || !o.lastResort {
		return err
	}
	lse := packed[o.sizeO():][:o.sizeLSE()]
	copy(lse, c.a.LSE)
	lastRows(o, &c.a, rs, func(b, h, row, token, at int) {
		copy(of(&c.a.O, b, h, row, o.dv), of(&c.a.V, b, h, token, o.dv))
		lse[at] = 0
	})
	return nil
}

func forwardCall[F kernels.Float](c *call[F]) error { return c.a.Forward() }

func backwardCall[F kernels.Float](c *call[F]) error {
	return c.a.Backward(c.dO, c.dLSE, c.dQ, c.dK, c.dV)
}

func chosenBackward[F kernels.Float](o *pickedGrad, out engine.Value, in []engine.Value) error {
	c, op := takeCall[F](), o.of
	defer c.release()
	rs, err := beginChosen(op, c, engine.Floats[F](in[o.inputs]), in[:o.inputs], true)
	if err != nil {
		return err
	}
	defer rs.release()
	c.dO = rowsOf(engine.Floats[F](in[o.inputs+1]), op.rows, op.dv, op.heads*op.dv)
	if o.lse {
		c.dLSE = engine.Floats[F](in[o.inputs+2])
	}
	d, nq, nk := engine.Floats[F](out), in[0].Size(), in[1].Size()
	n := op.heads * op.d
	c.dQ, c.dK, c.dV = rowsOf(d, op.tq, op.d, n), rowsOf(d[nq:], op.tk, op.d, n), rowsOf(d[nq+nk:], op.tk, op.dv, op.heads*op.dv)
	if err := eachRound(op, c, rs, backwardCall[F]); err != nil || !op.lastResort {
		return err
	}
	lastRows(op, &c.a, rs, func(b, h, row, token, _ int) {
		kernels.Axpy(1, of(&c.dO, b, h, row, op.dv), of(&c.dV, b, h, token, op.dv))
	})
	return nil
}

// of is a row of c channels.
func of[F kernels.Float](r *kernels.Rows[F], b, h, row, c int) []F {
	return r.Data[b*r.Batch+row*r.Row+h*r.Head:][:c]
}

// lastRows calls f for the rows of results of tokens that exist and read nothing; at is their place in lse.
func lastRows[F kernels.Float](o *picked, a *kernels.Attention[F], rs rounds, f func(b, h, row, token, at int)) {
	for b := range o.b {
		n := o.tq
		if a.LensQ != nil {
			n = int(a.LensQ[b])
		}
		for h := range o.heads {
			first := (b*o.heads + h) * o.rows
			for row, x := range a.LSE[first:][:o.rows] {
				if x != F(math.Inf(-1)) {
					continue
				}
				if token := rs.token(b, h, row); token >= 0 && token < n {
					f(b, h, row, token, first+row)
				}
			}
		}
	}
}
