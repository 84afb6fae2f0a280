package kernels

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// attnCase is one attention in every form the tests need: a dense description, from which the reference computes, and the
// strided, gathered, tiled one.
type attnCase struct {
	b, h, tq, tk, d, dv int
	sees                func(b, h, i, j int) bool // of tokens
	lensQ, lensK        []int32
	indexQ, indexK      []int32 // [T], [B,T] or [B,H,T]
	tokensQ, tokensK    int     // with an index
	dLSE                bool
	shared              bool // one layout for all heads
	labels              int  // how many; 0: none
	label               func(h, i, j int) int
	relative            bool // label depends on j-i
	oneTable            bool // R and Bias are shared by the heads
	noR, noBias         bool
	edges               bool // lists in place of layouts
	scale               float64
	seed                uint64
}

// attnData is the values of a case, in float64.
type attnData struct{ q, k, v, do, dl, r, bias []float64 }

// attnResult is what a computation of a case gives: o, lse, dq, dk, dv, dense [B,H,T,D], and the gradients of the tables of labels,
// [V,H,D] and [V,H], or [V,D] and [V].
type attnResult struct{ o, lse, dq, dk, dv, dr, db []float64 }

// tables is how many heads have a table of labels of their own.
func (c *attnCase) tables() int {
	if c.oneTable {
		return 1
	}
	return c.h
}

func (c *attnCase) tokens() (int, int) {
	q, k := c.tq, c.tk
	if c.tokensQ > 0 {
		q = c.tokensQ
	}
	if c.tokensK > 0 {
		k = c.tokensK
	}
	return q, k
}

func (c *attnCase) data() attnData {
	rng := rand.New(rand.NewPCG(c.seed, 7))
	normal := func(n int) []float64 {
		x := make([]float64, n)
		for i := range x {
			x[i] = float64(float32(rng.NormFloat64()))
		}
		return x
	}
	tq, tk := c.tokens()
	x := attnData{q: normal(c.b * c.h * tq * c.d), k: normal(c.b * c.h * tk * c.d), v: normal(c.b * c.h * tk * c.dv),
		do: normal(c.b * c.h * tq * c.dv), dl: normal(c.b * c.h * tq)}
	if !c.noR {
		x.r = normal(c.labels * c.tables() * c.d)
	}
	if !c.noBias {
		x.bias = normal(c.labels * c.tables())
	}
	return x
}

// attnReference is softmax attention by its definition, forward and backward, query by query, in the precision of F with two
// passes over the scores. In float64 it is the truth; in float32 it is the error that anybody may make.
func attnReference[F Float](c *attnCase, x attnData) attnResult {
	tq, tk := c.tokens()
	n := c.b * c.h
	in := func(x []float64) []F {
		y := make([]F, len(x))
		for i, v := range x {
			y[i] = F(v)
		}
		return y
	}
	q, k, v, do, dl, rt, bias := in(x.q), in(x.k), in(x.v), in(x.do), in(x.dl), in(x.r), in(x.bias)
	dr, db := make([]F, len(rt)), make([]F, len(bias))
	o, lse := make([]F, n*tq*c.dv), make([]F, n*tq)
	dq, dk, dv := make([]F, len(q)), make([]F, len(k)), make([]F, len(v))
	for bh := range n {
		b, h := bh/c.h, bh%c.h
		for i := range tq {
			at := bh*tq + i
			lse[at] = F(math.Inf(-1))
			var keys []int
			for j := range tk {
				if (c.lensQ == nil || i < int(c.lensQ[b])) && (c.lensK == nil || j < int(c.lensK[b])) && c.sees(b, h, i, j) {
					keys = append(keys, j)
				}
			}
			if len(keys) == 0 {
				continue
			}
			s := make([]F, len(keys))
			top, sum := F(math.Inf(-1)), F(0)
			for a, j := range keys {
				for e := range c.d {
					s[a] += q[at*c.d+e] * k[(bh*tk+j)*c.d+e]
				}
				if len(rt) > 0 {
					for e, y := range rt[(c.label(h, i, j)*c.tables()+h%c.tables())*c.d:][:c.d] {
						s[a] += q[at*c.d+e] * y
					}
				}
				s[a] *= F(c.scale)
				if len(bias) > 0 {
					s[a] += bias[c.label(h, i, j)*c.tables()+h%c.tables()]
				}
				top = max(top, s[a])
			}
			for a := range keys {
				s[a] = F(math.Exp(float64(s[a] - top)))
				sum += s[a]
			}
			lse[at] = top + F(math.Log(float64(sum)))
			delta := F(0)
			for a, j := range keys {
				s[a] /= sum
				for e := range c.dv {
					o[at*c.dv+e] += s[a] * v[(bh*tk+j)*c.dv+e]
				}
			}
			for e := range c.dv {
				delta += o[at*c.dv+e] * do[at*c.dv+e]
			}
			if c.dLSE {
				delta -= dl[at]
			}
			for a, j := range keys {
				dp := F(0)
				for e := range c.dv {
					dp += do[at*c.dv+e] * v[(bh*tk+j)*c.dv+e]
					dv[(bh*tk+j)*c.dv+e] += s[a] * do[at*c.dv+e]
				}
				ds := s[a] * (dp - delta) * F(c.scale)
				for e := range c.d {
					dq[at*c.d+e] += ds * k[(bh*tk+j)*c.d+e]
					dk[(bh*tk+j)*c.d+e] += ds * q[at*c.d+e]
					if len(rt) > 0 {
						l := (c.label(h, i, j)*c.tables()+h%c.tables())*c.d + e
						dq[at*c.d+e] += ds * rt[l]
						dr[l] += ds * q[at*c.d+e]
					}
				}
				if len(bias) > 0 {
					db[c.label(h, i, j)*c.tables()+h%c.tables()] += s[a] * (dp - delta)
				}
			}
		}
	}
	out := func(x []F) []float64 {
		y := make([]float64, len(x))
		for i, v := range x {
			y[i] = float64(v)
		}
		return y
	}
	return attnResult{out(o), out(lse), out(dq), out(dk), out(dv), out(dr), out(db)}
}

// untouched marks what belongs to nobody.
const untouched = 12345.5

// fused lays tensors of c[i] channels side by side, token-major, in one buffer [B, T, gap + sum(H*c[i]) + gap]; what is not
// theirs holds a mark. It returns the rows of each.
func fused[F Float](b, h, t int, c []int, x [][]float64) []Rows[F] {
	const gap = 3
	width := 2 * gap
	for _, n := range c {
		width += h * n
	}
	buf := make([]F, b*t*width)
	for i := range buf {
		buf[i] = untouched
	}
	var rows []Rows[F]
	off := gap
	for i, n := range c {
		r := Rows[F]{buf, t * width, width, n}
		if len(buf) > 0 {
			r.Data = buf[off:]
		}
		for p := range b * h * t {
			for e := range n {
				y := F(math.NaN()) // an output: all of it must be written
				if x[i] != nil {
					y = F(x[i][p*n+e])
				}
				r.at(p/t/h, p/t%h, p%t)[e] = y
			}
		}
		rows = append(rows, r)
		off += h * n
	}
	return rows
}

// attnDense is the reverse of fused for one tensor.
func attnDense[F Float](r *Rows[F], b, h, t, n int) []float64 {
	out := make([]float64, 0, b*h*t*n)
	for p := range b * h * t {
		for _, v := range r.at(p/t/h, p/t%h, p%t)[:n] {
			out = append(out, float64(v))
		}
	}
	return out
}

// countUntouched counts the marks that are left.
func countUntouched[F Float](buf []F) int {
	n := 0
	for _, v := range buf {
		n += b2i(v == untouched)
	}
	return n
}

// tokenOf returns the token of row r.
func tokenOf(index []int32, bh, b, rows, heads, batch, r int) int {
	switch len(index) {
	case 0:
		return r
	case rows:
		return int(index[r])
	case batch * heads * rows:
		return int(index[bh*rows+r])
	}
	return int(index[b*rows+r])
}

// newAttention builds the Attention of a case, its layouts from its dense description of batch 0.
func newAttention[F Float](t testing.TB, c *attnCase, x attnData) (*Attention[F], Rows[F], Rows[F], Rows[F], Rows[F]) {
	tq, tk := c.tokens()
	a := &Attention[F]{B: c.b, H: c.h, TQ: c.tq, TK: c.tk, D: c.d, DV: c.dv, Scale: F(c.scale), LensQ: c.lensQ, LensK: c.lensK,
		IndexQ: c.indexQ, IndexK: c.indexK, TokensQ: c.tokensQ, TokensK: c.tokensK, LSE: make([]F, c.b*c.h*tq)}
	for h := range c.h {
		l, err := NewLayout(c.tq, c.tk, nil, func(qt, kt int, mask *[Tile]uint64) TileKind {
			for r := range min(Tile, c.tq-qt*Tile) {
				for s := range min(Tile, c.tk-kt*Tile) {
					i := tokenOf(c.indexQ, h, 0, c.tq, c.h, c.b, qt*Tile+r)
					j := tokenOf(c.indexK, h, 0, c.tk, c.h, c.b, kt*Tile+s)
					if i >= 0 && j >= 0 && c.sees(0, h, i, j) {
						mask[r] |= 1 << s
					}
				}
			}
			return TilePartial
		})
		require.NoError(t, err)
		a.Layouts = append(a.Layouts, l)
		if c.shared {
			break
		}
	}
	if c.labels > 0 {
		n := max(len(a.Layouts), b2i(!c.shared)*c.h)
		for h := range n {
			s, err := NewLabels(a.Layouts[min(h, len(a.Layouts)-1)], c.labels, c.relative, func(i, j int) int {
				return c.label(h, tokenOf(c.indexQ, h, 0, c.tq, c.h, c.b, i), tokenOf(c.indexK, h, 0, c.tk, c.h, c.b, j))
			})
			require.NoError(t, err)
			a.Labels = append(a.Labels, s)
		}
		a.R, a.DR = labelRows[F](c, x.r, c.d), labelRows[F](c, make([]float64, len(x.r)), c.d)
		a.Bias, a.DBias = labelRows[F](c, x.bias, 1), labelRows[F](c, make([]float64, len(x.bias)), 1)
	}
	if c.edges {
		for h := range len(a.Layouts) {
			a.Edges = append(a.Edges, newEdges(t, c, h))
		}
		a.Layouts, a.Labels = nil, nil
	}
	var grads []Rows[F]
	if tq == tk { // one buffer, as a fused projection writes it
		in := fused[F](c.b, c.h, tq, []int{c.d, c.d, c.dv}, [][]float64{x.q, x.k, x.v})
		a.Q, a.K, a.V = in[0], in[1], in[2]
		grads = fused[F](c.b, c.h, tq, []int{c.d, c.d, c.dv}, [][]float64{nil, nil, nil})
	} else {
		a.Q = fused[F](c.b, c.h, tq, []int{c.d}, [][]float64{x.q})[0]
		in := fused[F](c.b, c.h, tk, []int{c.d, c.dv}, [][]float64{x.k, x.v})
		a.K, a.V = in[0], in[1]
		grads = append(fused[F](c.b, c.h, tq, []int{c.d}, [][]float64{nil}), fused[F](c.b, c.h, tk, []int{c.d, c.dv}, [][]float64{nil, nil})...)
	}
	a.O = fused[F](c.b, c.h, tq, []int{c.dv}, [][]float64{nil})[0]
	do := fused[F](c.b, c.h, tq, []int{c.dv}, [][]float64{x.do})[0]
	return a, do, grads[0], grads[1], grads[2]
}

// newEdges lists the pairs of a head of a case.
func newEdges(t testing.TB, c *attnCase, h int) *Edges {
	e, err := NewEdges(c.tq, c.tk, func(i int, dst []int32) []int32 {
		for j := range c.tk {
			if c.sees(0, h, i, j) {
				dst = append(dst, int32(j))
			}
		}
		return dst
	})
	require.NoError(t, err)
	if c.labels > 0 {
		e, err = e.Labelled(c.labels, func(i, j int) int { return c.label(h, i, j) })
		require.NoError(t, err)
	}
	return e
}

// labelRows is a table of labels.
func labelRows[F Float](c *attnCase, x []float64, n int) Rows[F] {
	if len(x) == 0 {
		return Rows[F]{}
	}
	r := Rows[F]{Data: make([]F, len(x)), Row: c.tables() * n, Head: n}
	for i, v := range x {
		r.Data[i] = F(v)
	}
	if c.oneTable {
		r.Head = 0
	}
	return r
}

// attnRun computes a case with the kernels, and sees that nothing was written beside the results.
func attnRun[F Float](t testing.TB, c *attnCase, x attnData) attnResult {
	tq, tk := c.tokens()
	a, do, dq, dk, dv := newAttention[F](t, c, x)
	outs := []*Rows[F]{&a.O, &dq, &dk, &dv}
	var before []int
	for _, r := range outs {
		before = append(before, countUntouched(r.Data))
	}
	require.NoError(t, a.Forward())
	var dl []F
	if c.dLSE {
		for _, v := range x.dl {
			dl = append(dl, F(v))
		}
	}
	require.NoError(t, a.Backward(do, dl, dq, dk, dv))
	for i, r := range outs {
		require.Equal(t, before[i], countUntouched(r.Data), "written beside output %d", i)
	}
	lse := make([]float64, len(a.LSE))
	for i, v := range a.LSE {
		lse[i] = float64(v)
	}
	return attnResult{attnDense(&a.O, c.b, c.h, tq, c.dv), lse, attnDense(&dq, c.b, c.h, tq, c.d),
		attnDense(&dk, c.b, c.h, tk, c.d), attnDense(&dv, c.b, c.h, tk, c.dv), asFloat64(a.DR.Data), asFloat64(a.DBias.Data)}
}

func asFloat64[F Float](x []F) []float64 {
	y := make([]float64, len(x))
	for i, v := range x {
		y[i] = float64(v)
	}
	return y
}

// attnWorst is the largest difference of two results, and whether NaN and -Inf stand in the same places.
func attnWorst(x, y []float64) float64 {
	e := 0.0
	for i, v := range x {
		switch d := math.Abs(v - y[i]); {
		case math.IsNaN(v) && math.IsNaN(y[i]), v == y[i]:
		case math.IsNaN(d):
			return math.Inf(1)
		default:
			e = max(e, d)
		}
	}
	return e
}

// requireClose demands of each part of got at most `slack` times the error that plain float32 makes, where that is not tiny.
func requireClose(t testing.TB, want, naive, got attnResult, slack, tiny float64) {
	parts := func(r attnResult) [][]float64 { return [][]float64{r.o, r.lse, r.dq, r.dk, r.dv, r.dr, r.db} }
	for i, name := range []string{"o", "lse", "dq", "dk", "dv", "dr", "db"} {
		w := parts(want)[i]
		e, bar := attnWorst(parts(got)[i], w), max(tiny, slack*attnWorst(parts(naive)[i], w))
		require.LessOrEqual(t, e, bar, name)
	}
}
