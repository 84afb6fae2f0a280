package attention

import (
	"fmt"
	"math"

	"github.com/stretchr/testify/require"
	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/layers"
)

// scene is one attention call with everything that may be given.
type scene struct {
	pattern        string
	of             Pattern // in place of pattern
	b, tq, tk      int
	heads, d, dv   int
	fused, flat    bool // flat: [B,T,H·D] instead of [B,T,H,D]
	cross          bool
	lens, lensQ    []int32
	indexQ, indexK []int32
	indexShape     []int
	scale          float64
	wantLSE        bool // lse is part of the cost

	route      route
	labels     Labels // of pairs
	keys, bias []int  // shapes of their tables; nil: none

	first string // what a first part reads; a second one reads the rest of pattern, and both are merged
}

// graph is a scene built; cost is a weighted sum of its results.
type graph struct {
	b            *layers.Builder
	in           Nodes // q, k, v or qkv, then the tables of labels
	o, lse, cost *Node
}

// parsed is the pattern of the scene.
func (s scene) parsed(t require.TestingT) Pattern {
	if s.of != nil {
		return s.of
	}
	return parse(t, s.pattern)
}

func (s scene) build(t require.TestingT, dtype tensor.Dtype) graph {
	b := layers.New(gorgonia.NewGraph(), layers.NewParams(dtype), layers.Options{})
	input := func(name string, shape ...int) *Node {
		n := b.Input(name, dtype, shape...)
		fillFrom(layers.InputValue(n), name)
		return n
	}
	ints := func(name string, v []int32, shape ...int) *Node {
		if v == nil {
			return nil
		}
		n := b.Input(name, tensor.Int32, shape...)
		copy(layers.InputValue(n).Int32s(), v)
		return n
	}
	p := s.parsed(t)
	c := Config{Pattern: p, Heads: s.heads, Scale: s.scale, Cross: s.cross, Lens: ints("lens", s.lens, s.b), LensQ: ints("lens_q", s.lensQ, s.b),
		IndexQ: ints("index_q", s.indexQ, s.indexShape...), IndexK: ints("index_k", s.indexK, s.indexShape...)}
	g := graph{b: b}
	c.Labels, c.route = s.labels, s.route
	if s.keys != nil {
		c.LabelKeys = input("label keys", s.keys...)
	}
	if s.bias != nil {
		c.LabelBias = input("label bias", s.bias...)
	}
	switch {
	case s.fused:
		g.in = Nodes{input("qkv", s.b, s.tq, 3*s.heads*s.d)}
		g.o, g.lse = AttendQKV(b, c, g.in[0])
	case s.flat:
		g.in = Nodes{input("q", s.b, s.tq, s.heads*s.d), input("k", s.b, s.tk, s.heads*s.d), input("v", s.b, s.tk, s.heads*s.dv)}
		g.o, g.lse = Attend(b, c, g.in[0], g.in[1], g.in[2])
	default:
		g.in = Nodes{input("q", s.b, s.tq, s.heads, s.d), input("k", s.b, s.tk, s.heads, s.d), input("v", s.b, s.tk, s.heads, s.dv)}
		g.o, g.lse = Attend(b, c, g.in[0], g.in[1], g.in[2])
	}
	for _, n := range []*Node{c.LabelKeys, c.LabelBias} {
		if n != nil {
			g.in = append(g.in, n)
		}
	}
	if s.first != "" {
		first, err := Parse(s.first)
		require.NoError(t, err)
		var parts []Part
		for _, c.Pattern = range []Pattern{first, without{of: p, less: first}} {
			o, lse := Attend(b, c, g.in[0], g.in[1], g.in[2])
			parts = append(parts, Part{o, lse})
		}
		whole := Merge(b, parts...)
		g.o, g.lse = whole.O, whole.LSE
	}
	require.NoError(t, b.Err())
	w := input("weight o", g.o.Shape()...)
	g.cost = layers.Sum(b, layers.Mul(b, g.o, w))
	if s.wantLSE {
		w := input("weight lse", g.lse.Shape()...)
		g.cost = layers.Add(b, g.cost, layers.Sum(b, layers.Mul(b, g.lse, w)))
	}
	require.NoError(t, b.Err())
	return g
}

// noise is a number from -1 to 1 that float32 holds exactly.
func noise(name string, i int) float64 {
	x := uint64(14695981039346656037)
	for _, c := range []byte(name) {
		x = (x ^ uint64(c)) * 1099511628211
	}
	x += uint64(i) * 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return float64(float32(float64((x^x>>31)>>40)/(1<<23) - 1))
}

func fillFrom(v *tensor.Dense, name string) {
	for i := range v.Shape().TotalSize() {
		if v.Dtype() == tensor.Float32 {
			v.Float32s()[i] = float32(2 * noise(name, i))
		} else {
			v.Float64s()[i] = 2 * noise(name, i)
		}
	}
}

// numbers copies a value as float64.
func numbers(v engine.Value) []float64 {
	if engine.IsF32(v) {
		f := engine.Floats[float32](v)
		r := make([]float64, len(f))
		for i, x := range f {
			r[i] = float64(x)
		}
		return r
	}
	return append([]float64(nil), engine.Floats[float64](v)...)
}

// results are o, lse, cost and the gradients of q, k, v (or of qkv), by the engine.
type results struct {
	o, lse, cost []float64
	grads        [][]float64
}

func (g graph) run(t require.TestingT) results {
	one := engine.Fill(g.b.Graph(), engine.TypeOf(g.cost), 1)
	ds, err := engine.VJP(Nodes{g.cost}, Nodes{one}, g.in, nil)
	require.NoError(t, err)
	p, err := engine.Compile(g.b.Graph(), append(Nodes{g.cost, g.o, g.lse}, ds...), engine.Options{Scope: g.b.ScopeOf, CheckFinite: true})
	require.NoError(t, err)
	require.NoError(t, p.Run())
	require.NoError(t, p.Run())
	r := results{o: numbers(p.Value(g.o)), lse: numbers(p.Value(g.lse)), cost: numbers(p.Value(g.cost))}
	for _, d := range ds {
		r.grads = append(r.grads, numbers(p.Value(d)))
	}
	return r
}

// oracle computes a scene densely in float64, by definition.
func (s scene) oracle(t require.TestingT) results {
	p := s.parsed(t)
	tk, dv := s.tk, s.dv
	if s.fused {
		tk, dv = s.tq, s.d
	}
	scale := s.scale
	if scale == 0 {
		scale = 1 / math.Sqrt(float64(s.d))
	}
	part := 0
	q := func(b, i, h, c int) (string, int) { return "q", ((b*s.tq+i)*s.heads+h)*s.d + c }
	k := func(b, i, h, c int) (string, int) { return "k", ((b*tk+i)*s.heads+h)*s.d + c }
	v := func(b, i, h, c int) (string, int) { return "v", ((b*tk+i)*s.heads+h)*dv + c }
	if s.fused {
		group := func(g int) func(b, i, h, c int) (string, int) {
			return func(b, i, h, c int) (string, int) { return "qkv", ((b*s.tq+i)*3+g)*s.heads*s.d + h*s.d + c }
		}
		q, k, v, part = group(0), group(1), group(2), 1
	}
	at := func(f func(b, i, h, c int) (string, int), b, i, h, c int) float64 {
		name, n := f(b, i, h, c)
		return 2 * noise(name, n)
	}
	r := results{o: make([]float64, s.b*s.tq*s.heads*dv), lse: make([]float64, s.b*s.heads*s.tq), cost: []float64{0}}
	sizes := []int{s.b * s.tq * s.heads * s.d, s.b * tk * s.heads * s.d, s.b * tk * s.heads * dv}
	if part == 1 {
		sizes = []int{s.b * s.tq * 3 * s.heads * s.d}
	}
	for _, n := range sizes {
		r.grads = append(r.grads, make([]float64, n))
	}
	var dKeys, dBias []float64
	if s.keys != nil {
		dKeys = make([]float64, tensor.Shape(s.keys).TotalSize())
		r.grads = append(r.grads, dKeys)
	}
	if s.bias != nil {
		dBias = make([]float64, tensor.Shape(s.bias).TotalSize())
		r.grads = append(r.grads, dBias)
	}
	// table returns where a table of this shape and so many numbers a head has what a head reads for a label.
	table := func(shape []int, size, label, h int) int {
		row := tensor.Shape(shape).TotalSize() / s.labels.Count()
		if row == size {
			h = 0
		}
		return label*row + h*size
	}
	addGrad := func(which int, f func(b, i, h, c int) (string, int), b, i, h, c int, x float64) {
		_, n := f(b, i, h, c)
		if s.fused {
			which = 0
		}
		r.grads[which][n] += x
	}
	for b := range s.b {
		lq, lk := s.tq, tk
		if s.lens != nil {
			lk = int(s.lens[b])
			if !s.cross {
				lq = lk
			}
		}
		if s.lensQ != nil {
			lq = int(s.lensQ[b])
		}
		n := max(s.tq, tk)
		if p.FromEnd() && s.lens != nil {
			n = lk
		}
		for h := range s.heads {
			ph := h
			if p.Heads() == 1 {
				ph = 0
			}
			place := func(index []int32, tokens, i int) []int { // layout rows that stand for token i
				if index == nil {
					return []int{i}
				}
				rows := s.indexShape[len(s.indexShape)-1]
				from := 0
				switch len(s.indexShape) {
				case 2:
					from = b * rows
				case 3:
					from = (b*s.heads + h) * rows
				}
				var out []int
				for r, x := range index[from:][:rows] {
					if int(x) == i {
						out = append(out, r)
					}
				}
				return out
			}
			for i := range s.tq {
				row := (b*s.heads+h)*s.tq + i
				r.lse[row] = math.Inf(-1)
				if i >= lq {
					continue
				}
				var keys, label []int
				for _, ri := range place(s.indexQ, s.tq, i) {
					for j := range lk {
						for _, rj := range place(s.indexK, tk, j) {
							if p.Sees(ph, ri, rj, n) {
								keys = append(keys, j)
								if s.labels != nil {
									label = append(label, s.labels.Label(min(h, labelHeads(s.labels)-1), ri, rj, n))
								}
							}
						}
					}
				}
				if len(keys) == 0 {
					continue
				}
				scores, top := make([]float64, len(keys)), math.Inf(-1)
				for x, j := range keys {
					for c := range s.d {
						scores[x] += scale * at(q, b, i, h, c) * at(k, b, j, h, c)
						if s.keys != nil {
							scores[x] += scale * at(q, b, i, h, c) * 2 * noise("label keys", table(s.keys, s.d, label[x], h)+c)
						}
					}
					if s.bias != nil {
						scores[x] += 2 * noise("label bias", table(s.bias, 1, label[x], h))
					}
					top = max(top, scores[x])
				}
				sum := 0.0
				for x := range scores {
					scores[x] = math.Exp(scores[x] - top)
					sum += scores[x]
				}
				r.lse[row] = top + math.Log(sum)
				dl := 0.0
				if s.wantLSE {
					dl = 2 * noise("weight lse", row)
					r.cost[0] += dl * r.lse[row]
				}
				dp, mean := make([]float64, len(keys)), 0.0
				for x, j := range keys {
					scores[x] /= sum
					for c := range dv {
						o := ((b*s.tq+i)*s.heads+h)*dv + c
						w := 2 * noise("weight o", o)
						r.o[o] += scores[x] * at(v, b, j, h, c)
						r.cost[0] += w * scores[x] * at(v, b, j, h, c)
						dp[x] += w * at(v, b, j, h, c)
						addGrad(2, v, b, j, h, c, w*scores[x])
					}
					mean += scores[x] * dp[x]
				}
				for x, j := range keys {
					ds := scale * scores[x] * (dp[x] - mean + dl)
					for c := range s.d {
						addGrad(0, q, b, i, h, c, ds*at(k, b, j, h, c))
						addGrad(1, k, b, j, h, c, ds*at(q, b, i, h, c))
						if s.keys != nil {
							t := table(s.keys, s.d, label[x], h) + c
							addGrad(0, q, b, i, h, c, ds*2*noise("label keys", t))
							dKeys[t] += ds * at(q, b, i, h, c)
						}
					}
					if s.bias != nil {
						dBias[table(s.bias, 1, label[x], h)] += ds / scale
					}
				}
			}
		}
	}
	return r
}

func close(t require.TestingT, want, got []float64, tol float64, what string) {
	require.Len(t, got, len(want), what)
	scale := 1.0
	for _, w := range want {
		if !math.IsInf(w, 0) {
			scale = max(scale, math.Abs(w))
		}
	}
	for i, w := range want {
		if w != got[i] && !(math.Abs(w-got[i]) <= tol*scale) {
			require.Failf(t, what, "element %d: want %v, got %v", i, w, got[i])
		}
	}
}

func (want results) equal(t require.TestingT, got results, tol float64, what string) {
	close(t, want.o, got.o, tol, what+": o")
	close(t, want.lse, got.lse, tol, what+": lse")
	close(t, want.cost, got.cost, 3*tol, what+": cost")
	for i := range want.grads {
		close(t, want.grads[i], got.grads[i], 3*tol, fmt.Sprint(what, ": gradient ", i))
	}
}
