package attention

import (
	"encoding/json"
	"fmt"
	"runtime"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
	"pgregory.net/rapid"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/layers"
)

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

// A step allocates nothing once it is warm and has the same bits for any number of workers.
func TestLongformerSteady(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	for _, name := range []string{"several tiles", "dilated by head", "the first tokens"} {
		var want [][]float64
		for _, workers := range []int{1, 2, 5} {
			runtime.GOMAXPROCS(workers)
			g := longScenes[name].build(t, tensor.Float32)
			ds, err := engine.VJP(Nodes{g.cost}, Nodes{engine.Fill(g.b.Graph(), engine.TypeOf(g.cost), 1)}, g.in, nil)
			require.NoError(t, err)
			p, err := engine.Compile(g.b.Graph(), append(Nodes{g.o}, ds...), engine.Options{})
			require.NoError(t, err)
			require.NoError(t, p.Run())
			var got [][]float64
			for _, n := range append(Nodes{g.o}, ds...) {
				got = append(got, numbers(p.Value(n)))
			}
			if want == nil {
				want = got
			}
			require.Equal(t, want, got, "%s, %d workers", name, workers)
			require.Zero(t, testing.AllocsPerRun(5, func() {
				if err := p.Run(); err != nil {
					t.Fatal(err)
				}
			}), name)
		}
	}
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

// The first tokens are global without a gather: in tiles of the window and a column, and to what the strip gives.
func TestLongformerPrefix(t *testing.T) {
	for k, globals := range map[int][]int{0: nil, 1: {0}, 3: {2, 1, 0, 0}} {
		require.Equal(t, k, Longformer{Globals: globals}.prefix())
	}
	require.Zero(t, Longformer{Globals: []int{0, 2}}.prefix())
	require.Zero(t, Longformer{Globals: []int{-1, 0}}.prefix())

	s := longScenes["the first tokens"]
	want, _, grads := s.build(t, tensor.Float64).run(t)
	g := s.build(t, tensor.Float64)
	for _, n := range g.b.Graph().AllNodes() {
		_, strip := engine.OpOf(n).(stripColumns)
		require.False(t, strip)
	}
	s.globals = []int32{2, 0, 1, 1, 0, 2, 0, 1, 2}
	got, _, again := s.build(t, tensor.Float64).run(t)
	close(t, want, got, 1e-12, "strip")
	for name := range grads {
		close(t, grads[name], again[name], 1e-11, name)
	}
	for _, n := range []int{0, 1, 2, 5, 13} {
		for i := -1; i <= n; i++ {
			keys, queries := Keys(firstKeys(2), 0, i, n), positions(firstKeys(2).Col(0, i, n, nil))
			for j := -1; j <= n; j++ {
				require.Equal(t, firstKeys(2).Sees(0, i, j, n), slices.Contains(keys, j))
				require.Equal(t, firstKeys(2).Sees(0, j, i, n), slices.Contains(queries, j))
			}
		}
		require.EqualValues(t, n*min(n, 2), firstKeys(2).NNZ(0, n))
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
