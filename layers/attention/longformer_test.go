package attention

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

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
	"the first tokens":     {of: Longformer{WindowLeft: 2, WindowRight: 1, Globals: []int{2, 0, 1, 1}}, b: 3, t: 71, c: 5, heads: 2, d: 3, lens: []int32{71, 2, 0}, fused: true},
	"the first, dilated":   {of: Longformer{WindowLeft: 2, WindowRight: 1, Dilation: []int{4}, Globals: []int{0}}, b: 2, t: 11, c: 5, heads: 2, d: 3, lens: []int32{11, 7}},
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
