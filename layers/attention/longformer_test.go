package attention

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
	"pgregory.net/rapid"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/layers"
)

// longScene is one layer of a Longformer on x [B,T,C] with everything that may be given.
type longScene struct {
	of            Longformer
	b, t          int
	c, heads, d   int
	fused         bool
	lens, globals []int32 // globals are [B,G]
	rotary        bool    // q and k are turned by position
	copied        bool    // the global projections are those of all
}

var longScenes = map[string]longScene{
	"first token": {of: Longformer{WindowLeft: 2, WindowRight: 2}, b: 2, t: 13, c: 7, heads: 3, d: 5, globals: []int32{0, 0}},
	"scattered, repeated, padding, none": {of: Longformer{WindowLeft: 3, WindowRight: 1}, b: 3, t: 13, c: 7, heads: 2, d: 3, lens: []int32{13, 7, 0},
		globals: []int32{5, 0, 5, -1, 6, 9, 2, -1, 0, 1, -3, 12}},
	"of the entry, from the end": {of: Longformer{WindowLeft: 1, WindowRight: 2, Globals: []int{-1, 3, 0, -9}}, b: 2, t: 11, c: 5, heads: 2, d: 3,
		lens: []int32{11, 4}, fused: true},
	"no globals":           {of: Longformer{WindowLeft: 2, WindowRight: 3}, b: 2, t: 11, c: 5, heads: 2, d: 3, fused: true, lens: []int32{11, 4}},
	"some without globals": {of: Longformer{WindowLeft: 2, WindowRight: 3}, b: 2, t: 11, c: 5, heads: 2, d: 3, globals: []int32{-1, -1, 10, 0}},
	"shared projections":   {of: Longformer{WindowLeft: 4, WindowRight: 4, ShareQKV: true}, b: 2, t: 17, c: 7, heads: 2, d: 3, globals: []int32{16, 3, 2, -1}},
	"shared and fused":     {of: Longformer{WindowLeft: 0, WindowRight: 1, ShareQKV: true}, b: 1, t: 9, c: 7, heads: 2, d: 3, fused: true, globals: []int32{4}},
	"several tiles": {of: Longformer{WindowLeft: 30, WindowRight: 17}, b: 2, t: 139, c: 5, heads: 2, d: 3, fused: true, lens: []int32{139, 71},
		globals: []int32{0, 64, 138, 1, 70, 71}},
	"dilated": {of: Longformer{WindowLeft: 3, WindowRight: 2, Dilation: []int{3}}, b: 2, t: 71, c: 5, heads: 2, d: 3, lens: []int32{71, 32},
		globals: []int32{7, 68, 31, 31}},
	"dilated by head": {of: Longformer{WindowLeft: 2, WindowRight: 2, Dilation: []int{1, 5, 80}}, b: 2, t: 67, c: 5, heads: 3, d: 3, fused: true, lens: []int32{67, 65},
		globals: []int32{66, 1, 0, 66}},
	"dilated, no globals": {of: Longformer{WindowLeft: 2, WindowRight: 2, Dilation: []int{2}}, b: 1, t: 13, c: 5, heads: 2, d: 3},
	"rotary":              {of: Longformer{WindowLeft: 2, WindowRight: 2}, b: 2, t: 13, c: 7, heads: 3, d: 4, rotary: true, globals: []int32{5, 12, 0, -1}},
	"one token":           {of: Longformer{WindowLeft: 2, WindowRight: 2}, b: 1, t: 1, c: 5, heads: 1, d: 3, globals: []int32{0}},
}

func init() {
	for _, name := range []string{"first token", "dilated by head", "shared projections", "of the entry, from the end", "rotary"} {
		mixers["longformer, "+name] = func(t require.TestingT) (*Node, Nodes) {
			g := longScenes[name].build(t, tensor.Float64)
			return g.cost, g.in
		}
	}
}

var projections = []string{"query", "key", "value", "query_global", "key_global", "value_global"}

// longGraph is a scene built. in are x and the weights; cost is a weighted sum of o.
type longGraph struct {
	b       *layers.Builder
	in      Nodes
	o, cost *Node
}

func (s longScene) build(t require.TestingT, dtype tensor.Dtype) longGraph {
	params := layers.NewParams(dtype)
	b := layers.New(gorgonia.NewGraph(), params, layers.Options{})
	x := b.Input("x", dtype, s.b, s.t, s.c)
	linear := func(b *layers.Builder, x *Node) *Node {
		return layers.Linear(b, x, layers.LinearConfig{Out: s.heads * s.d})
	}
	in := Stream{X: x, Heads: s.heads, Linear: linear}
	if s.rotary {
		in.Rotate = func(b *layers.Builder, x, positions *Node) *Node {
			return layers.Rope(b, x, layers.RopeConfig{Heads: s.heads, HeadSize: s.d, Positions: layers.PositionConfig{IDs: positions}})
		}
	}
	if s.lens != nil {
		in.Lens = b.Input("lens", tensor.Int32, s.b)
		copy(layers.InputValue(in.Lens).Int32s(), s.lens)
	}
	if s.globals != nil {
		in.Globals = b.Input("globals", tensor.Int32, s.b, len(s.globals)/s.b)
		copy(layers.InputValue(in.Globals).Int32s(), s.globals)
	}
	for _, name := range projections[:3] {
		in.QKV = append(in.QKV, linear(b.Scope(name), x))
	}
	for k := range in.QKV[:2] {
		if s.rotary {
			in.QKV[k] = in.Rotate(b, in.QKV[k], nil)
		}
	}
	if s.fused {
		in.QKV = []*Node{layers.Concat(b, 2, in.QKV...)}
	}
	g := longGraph{b: b, o: s.of.Mix(b, in)}
	require.NoError(t, b.Err())
	weight := b.Input("weight o", dtype, s.b, s.t, s.heads*s.d)
	g.cost = layers.Sum(b, layers.Mul(b, g.o, weight))
	_, g.in = b.Weights()
	for _, n := range append(g.in, x, weight) {
		name := n.Name()
		if s.copied {
			name = strings.Replace(name, "_global", "", 1)
		}
		fillFrom(layers.InputValue(n), name)
	}
	g.in = append(Nodes{x}, g.in...)
	require.NoError(t, b.Err())
	return g
}

// run returns o, the cost and the gradients of in.
func (g longGraph) run(t require.TestingT) (o []float64, cost float64, grads map[string][]float64) {
	ds, err := engine.VJP(Nodes{g.cost}, Nodes{engine.Fill(g.b.Graph(), engine.TypeOf(g.cost), 1)}, g.in, nil)
	require.NoError(t, err)
	p, err := engine.Compile(g.b.Graph(), append(Nodes{g.o, g.cost}, ds...), engine.Options{Scope: g.b.ScopeOf, CheckFinite: true})
	require.NoError(t, err)
	require.NoError(t, p.Run())
	require.NoError(t, p.Run())
	grads = map[string][]float64{}
	for i, d := range ds {
		grads[g.in[i].Name()] = numbers(p.Value(d))
	}
	return numbers(p.Value(g.o)), numbers(p.Value(g.cost))[0], grads
}

// oracle is the definition, densely: values are those of the inputs by name, changed in one place if change is not 0.
func (s longScene) oracle(changed string, at int, change float64) (o []float64, cost float64) {
	value := func(name string, i int) float64 {
		x := 2 * noise(name, i)
		if name == changed && i == at {
			x += change
		}
		return x
	}
	width := s.heads * s.d
	project := func(name string) []float64 {
		y := make([]float64, s.b*s.t*width)
		for k := range y {
			r, out := k/width, k%width
			y[k] = value(name+".bias", out)
			for c := range s.c {
				y[k] += value(name+".weight", out*s.c+c) * value("x", r*s.c+c)
			}
		}
		return y
	}
	p := map[string][]float64{}
	for k, name := range projections {
		if s.of.ShareQKV {
			name = projections[k%3]
		}
		p[projections[k]] = project(name)
	}
	o = make([]float64, s.b*s.t*width)
	for b := range s.b {
		n := s.t
		if s.lens != nil {
			n = int(s.lens[b])
		}
		global := map[int]bool{}
		for _, g := range s.of.Globals {
			if s.globals == nil && g < 0 {
				global[g+n] = true
			} else if s.globals == nil {
				global[g] = true
			}
		}
		if s.globals != nil {
			for _, g := range s.globals[b*len(s.globals)/s.b:][:len(s.globals)/s.b] {
				global[int(g)] = true
			}
		}
		for i := range n {
			q, k, v := p["query"], p["key"], p["value"]
			if global[i] {
				q, k, v = p["query_global"], p["key_global"], p["value_global"]
			}
			for h := range s.heads {
				d := 1
				if len(s.of.Dilation) > 0 {
					d = s.of.Dilation[h%len(s.of.Dilation)]
				}
				scores, sum := map[int]float64{}, 0.0
				for j := range n {
					near := (j-i)%d == 0 && j-i <= s.of.WindowRight*d && i-j <= s.of.WindowLeft*d
					if !near && !global[i] && !global[j] {
						continue
					}
					dot := 0.0
					for c := range s.d {
						dot += q[(b*s.t+i)*width+h*s.d+c] * k[(b*s.t+j)*width+h*s.d+c]
					}
					scores[j] = math.Exp(dot / math.Sqrt(float64(s.d)))
					sum += scores[j]
				}
				for j, e := range scores {
					for c := range s.d {
						o[(b*s.t+i)*width+h*s.d+c] += e / sum * v[(b*s.t+j)*width+h*s.d+c]
					}
				}
			}
		}
	}
	for k, x := range o {
		cost += 2 * noise("weight o", k) * x
	}
	return o, cost
}

func TestLongformerAgainstDefinition(t *testing.T) {
	for name, s := range longScenes {
		if s.rotary { // see TestLongformerCopiedProjections
			continue
		}
		t.Run(name, func(t *testing.T) {
			want, _ := s.oracle("", 0, 0)
			got, _, exact := s.build(t, tensor.Float64).run(t)
			close(t, want, got, 1e-11, "float64")
			got, _, rounded := s.build(t, tensor.Float32).run(t)
			close(t, want, got, 1e-4, "float32")
			for name, g := range exact {
				close(t, g, rounded[name], 1e-3, "float32: gradient of "+name)
			}
		})
	}
}

// The gradient of x and of every weight is that of the definition.
func TestLongformerGradientsByFiniteDifferences(t *testing.T) {
	for name, s := range longScenes {
		if s.rotary {
			continue
		}
		if s.t > 20 {
			s.b, s.t = 1, 19 // dense loops; the positions of globals that are left out are past it
			s.lens = nil
			for k, g := range s.globals {
				s.globals[k] = g % 19
			}
			s.globals = s.globals[:len(s.globals)/2]
		}
		t.Run(name, func(t *testing.T) {
			_, _, grads := s.build(t, tensor.Float64).run(t)
			for name, g := range grads {
				for _, i := range slices.Compact([]int{0, len(g) / 3, len(g) / 2, len(g) - 1}) {
					const step = 1e-5
					_, up := s.oracle(name, i, step)
					_, down := s.oracle(name, i, -step)
					require.InDelta(t, (up-down)/(2*step), g[i], 2e-6*(1+math.Abs(g[i])), "%s[%d]", name, i)
				}
			}
		})
	}
}

// Weights of globals have a gradient if and only if there is a global.
func TestLongformerGlobalGradients(t *testing.T) {
	for name, s := range longScenes {
		_, _, grads := s.build(t, tensor.Float64).run(t)
		any := s.globals != nil || len(s.of.Globals) > 0
		for _, w := range projections[3:] {
			g, there := grads[w+".weight"]
			require.Equal(t, !s.of.ShareQKV, there, name)
			zero := !slices.ContainsFunc(g, func(x float64) bool { return x != 0 })
			if there && s.t > 1 { // of a single token queries and keys cannot matter
				require.Equal(t, !any, zero, "%s: %s", name, w)
			}
		}
	}
}

// Without globals nothing but the window is computed.
func TestLongformerWithoutGlobalsIsTheWindow(t *testing.T) {
	s := longScenes["no globals"]
	g := s.build(t, tensor.Float32)
	p, err := engine.Compile(g.b.Graph(), Nodes{g.o}, engine.Options{})
	require.NoError(t, err)
	plain := s
	plain.of.ShareQKV = true
	h := plain.build(t, tensor.Float32)
	q, err := engine.Compile(h.b.Graph(), Nodes{h.o}, engine.Options{})
	require.NoError(t, err)
	require.Equal(t, q.Plan().Live, p.Plan().Live)
	require.NoError(t, p.Run())
	require.NoError(t, q.Run())
	require.Equal(t, numbers(q.Value(h.o)), numbers(p.Value(g.o)))
}

// The order of globals makes no difference, to the bit.
func TestLongformerOrderOfGlobals(t *testing.T) {
	s := longScenes["scattered, repeated, padding, none"]
	want, _, grads := s.build(t, tensor.Float32).run(t)
	s.globals = []int32{-1, 5, 0, 0, 2, 6, -1, -5, -1, -1, -1, -1}
	got, _, again := s.build(t, tensor.Float32).run(t)
	require.Equal(t, want, got)
	require.Equal(t, grads, again)
}

// Global projections that are copies of the others, turned by position as they are, make a global row a row of full attention.
func TestLongformerCopiedProjections(t *testing.T) {
	full := longScene{of: Longformer{WindowLeft: 16, WindowRight: 16, ShareQKV: true}, b: 2, t: 17, c: 5, heads: 2, d: 4, lens: []int32{17, 9}, rotary: true}
	want, _, _ := full.build(t, tensor.Float64).run(t)
	some := full
	some.of, some.copied, some.globals = Longformer{WindowLeft: 16, WindowRight: 16}, true, []int32{3, 16, 0, 8, 8, -1}
	got, _, _ := some.build(t, tensor.Float64).run(t)
	close(t, want, got, 1e-12, "windows over all")
	some.of.WindowLeft, some.of.WindowRight = 1, 0
	got, _, _ = some.build(t, tensor.Float64).run(t)
	for _, row := range []int{0, 3, 16, 17 + 8} {
		close(t, want[row*8:][:8], got[row*8:][:8], 1e-12, fmt.Sprint("row ", row))
	}
}

// Where every key is read, by a wide window or as every token is global with the same weights, it is full attention.
func TestLongformerLimits(t *testing.T) {
	all := make([]int32, 2*23)
	for k := range all {
		all[k] = int32(k % 23)
	}
	full := longScene{of: Longformer{WindowLeft: 22, WindowRight: 22}, b: 2, t: 23, c: 5, heads: 2, d: 3, lens: []int32{23, 9}}
	want, _, grads := full.build(t, tensor.Float64).run(t)
	for name, s := range map[string]longScene{
		"wide, beyond the ends": {of: Longformer{WindowLeft: 1 << 30, WindowRight: 99}},
		"all global":            {of: Longformer{WindowLeft: 1, ShareQKV: true}, globals: all},
		"all global, dilated":   {of: Longformer{WindowLeft: 3, Dilation: []int{5, 1}, ShareQKV: true}, globals: all},
		"wide and some global":  {of: Longformer{WindowLeft: 22, WindowRight: 22, ShareQKV: true}, globals: []int32{3, 8, 9, 22}},
	} {
		s.b, s.t, s.c, s.heads, s.d, s.lens = full.b, full.t, full.c, full.heads, full.d, full.lens
		got, _, again := s.build(t, tensor.Float64).run(t)
		close(t, want, got, 1e-12, name)
		for w, g := range again {
			close(t, grads[w], g, 1e-11, name+": "+w)
		}
	}
}

// What stands behind an example, and how much, changes nothing in it.
func TestLongformerPadding(t *testing.T) {
	for _, name := range []string{"several tiles", "dilated by head", "of the entry, from the end"} {
		s := longScenes[name]
		s.b, s.lens, s.globals = 1, []int32{int32(s.t)}, s.globals[:len(s.globals)/2]
		want, _, _ := s.build(t, tensor.Float32).run(t)
		for _, more := range []int{1, 17, 64} {
			padded := s
			padded.t += more
			g := padded.build(t, tensor.Float32)
			x := layers.InputValue(g.in[0]).Float32s()
			for i := s.t * s.c; i < len(x); i++ {
				x[i] = 7 // padding
			}
			got, _, grads := g.run(t)
			close(t, want, got[:len(want)], 2e-6, fmt.Sprint(name, ", padded by ", more))
			for _, y := range got[len(want):] {
				require.Zero(t, y)
			}
			for _, dx := range grads["x"][s.t*s.c:] {
				require.Zero(t, dx)
			}
		}
	}
}

// Changing a token changes what reads it and nothing else.
func TestLongformerReach(t *testing.T) {
	for _, name := range []string{"scattered, repeated, padding, none", "dilated by head"} {
		s := longScenes[name]
		g := s.build(t, tensor.Float64)
		p, err := engine.Compile(g.b.Graph(), Nodes{g.o}, engine.Options{})
		require.NoError(t, err)
		x, width := layers.InputValue(g.in[0]).Float64s(), s.heads*s.d
		for i := range x {
			x[i] /= 8 // so that every share of a softmax can be seen
		}
		require.NoError(t, p.Run())
		before := numbers(p.Value(g.o))
		for token := 0; token < s.b*s.t; token += 3 {
			keep := append([]float64(nil), x[token*s.c:][:s.c]...)
			for c := range s.c {
				x[token*s.c+c]++
			}
			require.NoError(t, p.Run())
			copy(x[token*s.c:], keep)
			after := numbers(p.Value(g.o))
			for r := range s.b * s.t {
				for h := range s.heads {
					moved := !slices.Equal(before[r*width+h*s.d:][:s.d], after[r*width+h*s.d:][:s.d])
					require.Equal(t, s.reads(r/s.t, token/s.t, h, r%s.t, token%s.t), moved, "%s: head %d, row %d, token %d", name, h, r, token)
				}
			}
		}
	}
}

// reads reports whether row i of example b depends on token j of example c.
func (s longScene) reads(b, c, h, i, j int) bool {
	n := int(s.lens[b])
	if b != c || i >= n || j >= n {
		return false
	}
	row := s.globals[b*len(s.globals)/s.b:][:len(s.globals)/s.b]
	if i == j || slices.Contains(row, int32(i)) || slices.Contains(row, int32(j)) {
		return true
	}
	return s.of.window().Sees(h%s.of.window().Heads(), i, j, n)
}

// The layout grows as the window times the length, for scattered globals too.
func TestLongformerCost(t *testing.T) {
	work := func(n int, of Longformer, globals int) (flops float64) {
		s := longScene{of: of, b: 1, t: n, c: 4, heads: 2, d: 2}
		if globals > 0 {
			s.globals = make([]int32, globals)
		}
		g := s.build(t, tensor.Float32)
		ds, err := engine.VJP(Nodes{g.cost}, Nodes{engine.Fill(g.b.Graph(), engine.TypeOf(g.cost), 1)}, g.in, nil)
		require.NoError(t, err)
		p, err := engine.Compile(g.b.Graph(), ds, engine.Options{})
		require.NoError(t, err)
		return p.Plan().TotalFlops()
	}
	for _, of := range []Longformer{{WindowLeft: 64, WindowRight: 64}, {WindowLeft: 64, WindowRight: 64, Dilation: []int{1, 7}}} {
		for _, globals := range []int{0, 3, 100} {
			ratio := work(8192, of, globals) / work(4096, of, globals)
			require.InDelta(t, 2, ratio, 0.05, "%v, %d globals", of, globals)
		}
	}
}

// fronted is the same set by row, by column and counted, and is laid out as such.
func TestFronted(t *testing.T) {
	for _, n := range []int{1, 2, 7, 64, 101} {
		for g := 1; g < 2*n+2 && g < 40; g += 3 {
			order := residueOrder(g, n)
			for r, i := range order {
				require.Equal(t, int(i), residueAt(g, r, n))
				require.Equal(t, r, residuePlace(g, int(i), n))
			}
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		l := Longformer{WindowLeft: rapid.IntRange(0, 9).Draw(t, "left"), WindowRight: rapid.IntRange(0, 9).Draw(t, "right"),
			Dilation: rapid.SliceOfN(rapid.IntRange(1, 9), 1, 3).Draw(t, "dilation")}
		p := fronted{of: l.window(), front: rapid.SampledFrom([]int{1, 5, 64}).Draw(t, "front")}
		p.byResidue = permutable(p.of)
		n := p.front + rapid.SampledFrom([]int{1, 2, 13, 70}).Draw(t, "T")
		for h := range p.Heads() {
			sum := int64(0)
			for i := -1; i <= n; i++ {
				keys, queries := Keys(p, h, i, n), positions(p.Col(h, i, n, nil))
				sum += int64(len(keys))
				for j := -1; j <= n; j++ {
					require.Equal(t, p.Sees(h, i, j, n), slices.Contains(keys, j), "row %d, %d", i, j)
					require.Equal(t, p.Sees(h, j, i, n), slices.Contains(queries, j), "column %d, %d", i, j)
				}
			}
			require.Equal(t, sum, p.NNZ(h, n))
		}
	})
}

// The set of the paper for a sequence of 10, a window of 2 on each side and two globals.
func TestLongformerPattern(t *testing.T) {
	p := Longformer{WindowLeft: 2, WindowRight: 2, Globals: []int{0, 7}}.Pattern()
	all := []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}
	for i, want := range map[int][]int{1: {0, 1, 2, 3, 7}, 4: {0, 2, 3, 4, 5, 6, 7}, 9: {0, 7, 8, 9}, 0: all, 7: all} {
		require.Equal(t, want, Keys(p, 0, i, 10))
	}
}

func TestLongformerEntry(t *testing.T) {
	read := func(text string) Entry {
		var e Entry
		require.NoError(t, json.Unmarshal([]byte(text), &e))
		return e
	}
	e := read(`{"type":"longformer","window_left":4,"dilation":[1,3],"global_positions":[0,-1]}`)
	m, err := e.Mixer(Layer{Heads: 2})
	require.NoError(t, err)
	require.Equal(t, Longformer{WindowLeft: 4, WindowRight: 4, Dilation: []int{1, 3}, Globals: []int{0, -1}}, m)
	require.Equal(t, "heads(band(4,4); dilated(4,4,3)) + global(-1,0)", m.Pattern().String())
	_, err = e.Mixer(Layer{Heads: 3})
	require.ErrorContains(t, err, "dilation is [1,3]: 2 dilations for 3 heads")
	_, err = e.Mixer(Layer{Heads: 2, Decoder: true})
	require.ErrorContains(t, err, "global_positions is [0,-1]: stands in a decoder, where a token that reads all would tell of the future")

	m, err = read(`{"type":"longformer","window_left":4,"dilation":3}`).Mixer(Layer{Heads: 2, Decoder: true})
	require.NoError(t, err)
	require.Equal(t, Plain{Causal(Dilated{Left: 4, Gap: 3})}, m)
	m, err = read(`{"type":"longformer","window_left":4,"window_right":1,"share_qkv":true}`).Mixer(Layer{Heads: 2})
	require.NoError(t, err)
	require.Equal(t, Longformer{WindowLeft: 4, WindowRight: 1, ShareQKV: true}, m)
	require.ErrorContains(t, json.Unmarshal([]byte(`{"type":"heads","parts":[{"heads":1,"attention":{"type":"longformer","window_left":4}}]}`), new(Entry)),
		"parts[0].attention: is more than a pattern of heads; give it to the whole layer")
}

func TestLongformerErrors(t *testing.T) {
	s := longScenes["first token"]
	s.globals = []int32{3, 13}
	g := s.build(t, tensor.Float32)
	p, err := engine.Compile(g.b.Graph(), Nodes{g.o}, engine.Options{})
	require.NoError(t, err)
	require.ErrorContains(t, p.Run(), "example 1 has a global token at 13, there are 13 tokens")

	b := layers.New(gorgonia.NewGraph(), layers.NewParams(tensor.Float32), layers.Options{})
	x := b.Input("x", tensor.Float32, 2, 5, 6)
	Longformer{WindowLeft: 1, ShareQKV: true}.Mix(b.Scope("h.0"), Stream{X: x, QKV: []*Node{x, x, x}, Heads: 2, Globals: b.Input("g", tensor.Int32, 2)})
	require.ErrorContains(t, b.Err(), "h.0: global_rows: positions are int32(2), want int32 [B,G]")

	b = layers.New(gorgonia.NewGraph(), layers.NewParams(tensor.Float32), layers.Options{})
	x = b.Input("x", tensor.Float32, 2, 5, 6)
	Longformer{WindowLeft: 1, Globals: []int{0}}.Mix(b, Stream{X: x, QKV: []*Node{x, x, x}, Heads: 2, Labels: Clipped{Max: 1}})
	require.ErrorContains(t, b.Err(), "global tokens beside biases of relative positions are not supported")
}
