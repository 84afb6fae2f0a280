package attention

import (
	"fmt"
	"go/ast"
	goparser "go/parser"
	"go/token"
	"math"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
	"pgregory.net/rapid"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/layers"
)

// scene is one attention call with everything that may be given.
type scene struct {
	pattern        string
	b, tq, tk      int
	heads, d, dv   int
	fused, flat    bool // flat: [B,T,H·D] instead of [B,T,H,D]
	cross          bool
	lens, lensQ    []int32
	indexQ, indexK []int32
	indexShape     []int
	scale          float64
	wantLSE        bool // lse is part of the cost
}

// graph is a scene built; cost is a weighted sum of its results.
type graph struct {
	b            *layers.Builder
	in           Nodes // q, k, v or qkv
	o, lse, cost *Node
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
	p, err := Parse(s.pattern)
	require.NoError(t, err)
	c := Config{Pattern: p, Heads: s.heads, Scale: s.scale, Cross: s.cross, Lens: ints("lens", s.lens, s.b), LensQ: ints("lens_q", s.lensQ, s.b),
		IndexQ: ints("index_q", s.indexQ, s.indexShape...), IndexK: ints("index_k", s.indexK, s.indexShape...)}
	g := graph{b: b}
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
	p, err := Parse(s.pattern)
	require.NoError(t, err)
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
				var keys []int
				for _, ri := range place(s.indexQ, s.tq, i) {
					for j := range lk {
						for _, rj := range place(s.indexK, tk, j) {
							if p.Sees(ph, ri, rj, n) {
								keys = append(keys, j)
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

// scenes are the forms of the operation; every operation of the package is in the graph of one of them (TestEveryOpIsWalked).
var scenes = map[string]scene{
	"full":           {pattern: "full", b: 2, tq: 13, tk: 13, heads: 3, d: 5, dv: 7, wantLSE: true},
	"causal band":    {pattern: "causal(band(5,2))", b: 1, tq: 71, tk: 71, heads: 2, d: 8, dv: 8, flat: true},
	"fused":          {pattern: "causal(band(30,0) + global(0,7))", b: 2, tq: 131, heads: 2, d: 3, fused: true, wantLSE: true},
	"fused, lengths": {pattern: "band(9,4)", b: 3, tq: 67, heads: 2, d: 5, fused: true, lens: []int32{67, 1, 0}},
	"dilated":        {pattern: "causal(dilated(4,0,3))", b: 2, tq: 73, heads: 2, d: 5, fused: true, lens: []int32{73, 41}, scale: 1},
	"dilated by head": {pattern: "heads(dilated(4,1,3); dilated(2,2,1); dilated(3,0,5))", b: 2, tq: 37, tk: 37, heads: 3, d: 5, dv: 3,
		wantLSE: true},
	"own patterns":        {pattern: "heads(blocks(8); full; global(3,-1))", b: 2, tq: 19, tk: 19, heads: 3, d: 5, dv: 5, wantLSE: true},
	"cross":               {pattern: "full", b: 2, tq: 11, tk: 70, heads: 2, d: 5, dv: 3, cross: true, lens: []int32{70, 9}, lensQ: []int32{3, 11}},
	"empty rows":          {pattern: "global(4)&causal(full)", b: 1, tq: 7, tk: 7, heads: 1, d: 3, dv: 2},
	"from the end":        {pattern: "band(1,1) + global(-1)", b: 4, tq: 23, heads: 2, d: 5, fused: true, lens: []int32{23, 11, 1, 0}},
	"from the end, apart": {pattern: "heads(full; global(-2,0))", b: 3, tq: 17, tk: 17, heads: 2, d: 3, dv: 5, lens: []int32{5, 17, 2}},
	"index": {pattern: "causal(band(3,0))", b: 2, tq: 7, tk: 7, heads: 2, d: 5, dv: 3, indexQ: []int32{6, 4, 2, 0, 1, 3, 5},
		indexK: []int32{6, 4, 2, 0, 1, 3, 5}, indexShape: []int{7}, wantLSE: true},
	"index by head": {pattern: "blocks(3)", b: 1, tq: 5, tk: 5, heads: 2, d: 3, dv: 3, indexQ: []int32{4, 3, 2, 1, 0, 1, -1, 3, 0, 2},
		indexK: []int32{4, 3, 2, 1, 0, 1, -1, 3, 0, 2}, indexShape: []int{1, 2, 5}, lens: []int32{4}},
}

func TestAttendAgainstDefinition(t *testing.T) {
	for name, s := range scenes {
		t.Run(name, func(t *testing.T) {
			want := s.oracle(t)
			want.equal(t, s.build(t, tensor.Float64).run(t), 1e-12, "float64")
			want.equal(t, s.build(t, tensor.Float32).run(t), 1e-5, "float32")
		})
	}
}

func TestAttendAnyPattern(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := drawHeads(t)
		heads := p.Heads()
		s := scene{pattern: p.String(), b: 2, tq: rapid.SampledFrom([]int{1, 2, 5, 13, 67}).Draw(t, "T"), heads: heads, d: 3, fused: true}
		if rapid.Bool().Draw(t, "padded") {
			s.lens = []int32{int32(s.tq), int32(rapid.IntRange(0, s.tq).Draw(t, "length"))}
		}
		s.oracle(t).equal(t, s.build(t, tensor.Float64).run(t), 1e-12, s.pattern)
	})
}

// TestUnderTapeMachine runs each form under Gorgonia's own reverse mode and machine.
func TestUnderTapeMachine(t *testing.T) {
	for name, s := range scenes {
		t.Run(name, func(t *testing.T) {
			want := s.oracle(t)
			g := s.build(t, tensor.Float64)
			ds, err := gorgonia.Grad(g.cost, g.in...)
			require.NoError(t, err)
			values := make([]gorgonia.Value, len(ds))
			for i, d := range ds {
				gorgonia.Read(d, &values[i])
			}
			m := gorgonia.NewTapeMachine(g.b.Graph())
			defer m.Close()
			require.NoError(t, m.RunAll())
			for i, v := range values {
				close(t, want.grads[i], numbers(v), 1e-11, "gradient")
			}
		})
	}
}

// TestEveryOpIsWalked fails if a type of the package is an operation that no scene has.
func TestEveryOpIsWalked(t *testing.T) {
	walked := map[string]bool{}
	for _, s := range scenes {
		g := s.build(t, tensor.Float32)
		_, err := engine.VJP(Nodes{g.cost}, Nodes{engine.Fill(g.b.Graph(), engine.TypeOf(g.cost), 1)}, g.in, nil)
		require.NoError(t, err)
		for _, n := range g.b.Graph().AllNodes() {
			if op := engine.OpOf(n); op != nil {
				walked[reflect.Indirect(reflect.ValueOf(op)).Type().Name()] = true
			}
		}
	}
	files, err := filepath.Glob("*.go")
	require.NoError(t, err)
	found := 0
	for _, f := range files {
		if strings.HasSuffix(f, "_test.go") {
			continue
		}
		src, err := goparser.ParseFile(token.NewFileSet(), f, nil, 0)
		require.NoError(t, err)
		for _, d := range src.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Recv == nil || fn.Name.Name != "Infer" {
				continue
			}
			recv := fn.Recv.List[0].Type
			if star, ok := recv.(*ast.StarExpr); ok {
				recv = star.X
			}
			name := recv.(*ast.Ident).Name
			require.True(t, walked[name], "operation %s is in no scene", name)
			found++
		}
	}
	require.Equal(t, 2, found)
}

func TestGradientsByFiniteDifferences(t *testing.T) {
	s := scene{pattern: "heads(causal(band(2,0)) + global(1); dilated(1,1,2))", b: 2, tq: 7, heads: 2, d: 3, fused: true, wantLSE: true}
	g := s.build(t, tensor.Float64)
	analytic := g.run(t).grads[0]
	p, err := engine.Compile(g.b.Graph(), Nodes{g.cost}, engine.Options{})
	require.NoError(t, err)
	x := layers.InputValue(g.in[0]).Float64s()
	for i := range x {
		const h = 1e-5
		keep := x[i]
		x[i] = keep + h
		require.NoError(t, p.Run())
		up := numbers(p.Value(g.cost))[0]
		x[i] = keep - h
		require.NoError(t, p.Run())
		down := numbers(p.Value(g.cost))[0]
		x[i] = keep
		require.InDelta(t, (up-down)/(2*h), analytic[i], 1e-8, "element %d", i)
	}
}

func TestNoAllocation(t *testing.T) {
	for _, name := range []string{"fused", "dilated by head", "from the end", "full"} {
		s := scenes[name]
		g := s.build(t, tensor.Float32)
		ds, err := engine.VJP(Nodes{g.cost}, Nodes{engine.Fill(g.b.Graph(), engine.TypeOf(g.cost), 1)}, g.in, nil)
		require.NoError(t, err)
		p, err := engine.Compile(g.b.Graph(), ds, engine.Options{})
		require.NoError(t, err)
		require.NoError(t, p.Run())
		n := testing.AllocsPerRun(10, func() {
			if err := p.Run(); err != nil {
				t.Fatal(err)
			}
		})
		require.Zero(t, n, name)
	}
}

func TestAttendErrors(t *testing.T) {
	try := func(build func(b *layers.Builder, in func(shape ...int) *Node)) error {
		b := layers.New(gorgonia.NewGraph(), layers.NewParams(tensor.Float32), layers.Options{})
		k := 0
		build(b.Scope("h.0"), func(shape ...int) *Node {
			k++
			return b.Input(fmt.Sprint("in", k), tensor.Float32, shape...)
		})
		return b.Err()
	}
	for want, build := range map[string]func(b *layers.Builder, in func(shape ...int) *Node){
		"h.0: attention: 10 columns cannot be split into 4 heads of equal size": func(b *layers.Builder, in func(...int) *Node) {
			Attend(b, Config{Heads: 4}, in(1, 3, 10), in(1, 3, 10), in(1, 3, 10))
		},
		"do not fit together": func(b *layers.Builder, in func(...int) *Node) {
			Attend(b, Config{Heads: 2}, in(1, 3, 10), in(2, 3, 10), in(1, 3, 10))
		},
		"qkv has shape (1, 3, 10), want [B,T,3·H·D] with H = 2": func(b *layers.Builder, in func(...int) *Node) {
			AttendQKV(b, Config{Heads: 2}, in(1, 3, 10))
		},
		"0 heads": func(b *layers.Builder, in func(...int) *Node) { AttendQKV(b, Config{}, in(1, 3, 12)) },
		"describes 3 heads, the layer has 2": func(b *layers.Builder, in func(...int) *Node) {
			p, _ := Parse("heads(full; full; full)")
			AttendQKV(b, Config{Pattern: p, Heads: 2}, in(1, 3, 12))
		},
		"lengths are": func(b *layers.Builder, in func(...int) *Node) {
			AttendQKV(b, Config{Heads: 2, Lens: in(1)}, in(1, 3, 12))
		},
		"LensQ without Cross": func(b *layers.Builder, in func(...int) *Node) {
			AttendQKV(b, Config{Heads: 2, LensQ: in(1)}, in(1, 3, 12))
		},
		"the index is": func(b *layers.Builder, in func(...int) *Node) {
			AttendQKV(b, Config{Heads: 2, IndexQ: in(3)}, in(1, 3, 12))
		},
		"an input is missing": func(b *layers.Builder, in func(...int) *Node) { Attend(b, Config{Heads: 2}, in(1, 3, 4), nil, nil) },
	} {
		require.ErrorContains(t, try(build), want)
	}
	s := scene{pattern: "full", b: 2, tq: 3, heads: 1, d: 2, fused: true, lens: []int32{3, 4}}
	g := s.build(t, tensor.Float32)
	p, err := engine.Compile(g.b.Graph(), Nodes{g.o}, engine.Options{})
	require.NoError(t, err)
	require.ErrorContains(t, p.Run(), "example 1 has length 4, it must be from 0 to 3")
}

func TestFlopsFollowTheLayout(t *testing.T) {
	s := scene{pattern: "causal(full)", b: 2, tq: 256, heads: 3, d: 16, fused: true}
	g := s.build(t, tensor.Float32)
	for _, n := range g.b.Graph().AllNodes() {
		if op, ok := engine.OpOf(n).(*attend); ok {
			require.Equal(t, 2.0*3*10*2*64*64*32, op.Flops(nil, engine.Type{}))
			require.Equal(t, 10, op.layouts[0].Tiles())
			return
		}
	}
	t.Fatal("no attention in the graph")
}
