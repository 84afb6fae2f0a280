package attention

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
	"pgregory.net/rapid"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/layers"
)

// scenes are the forms of the operation; every operation of the package is in the graph of one of them (TestEveryOpIsWalked).
var scenes = map[string]scene{
	"full":           {pattern: "full", b: 2, tq: 13, tk: 13, heads: 3, d: 5, dv: 7, wantLSE: true},
	"causal band":    {pattern: "causal(band(5,2))", b: 1, tq: 71, tk: 71, heads: 2, d: 8, dv: 8, flat: true},
	"fused":          {pattern: "causal(band(30,0) + global(0,7))", b: 2, tq: 131, heads: 2, d: 3, fused: true, wantLSE: true},
	"fused, lengths": {pattern: "band(9,4)", b: 3, tq: 67, heads: 2, d: 5, fused: true, lens: []int32{67, 1, 0}},
	"dilated":        {pattern: "causal(dilated(4,0,3))", b: 2, tq: 73, heads: 2, d: 5, fused: true, lens: []int32{73, 41}, scale: 1},
	"dilated, gathered": {pattern: "causal(dilated(70,0,10))", b: 2, tq: 641, heads: 2, d: 3, fused: true, lens: []int32{641, 411},
		scale: 1},
	"dilated by head, gathered": {pattern: "heads(dilated(40,40,11); dilated(30,20,16))", b: 2, tq: 587, tk: 587, heads: 2, d: 3, dv: 5,
		wantLSE: true},
	"own patterns":        {pattern: "heads(blocks(8); full; global(3,-1))", b: 2, tq: 19, tk: 19, heads: 3, d: 5, dv: 5, wantLSE: true},
	"cross":               {pattern: "full", b: 2, tq: 11, tk: 70, heads: 2, d: 5, dv: 3, cross: true, lens: []int32{70, 9}, lensQ: []int32{3, 11}},
	"empty rows":          {pattern: "global(4)&causal(full)", b: 1, tq: 7, tk: 7, heads: 1, d: 3, dv: 2},
	"from the end":        {pattern: "band(1,1) + global(-1)", b: 4, tq: 23, heads: 2, d: 5, fused: true, lens: []int32{23, 11, 1, 0}},
	"from the end, apart": {pattern: "heads(full; global(-2,0))", b: 3, tq: 17, tk: 17, heads: 2, d: 3, dv: 5, lens: []int32{5, 17, 2}},
	"index": {pattern: "causal(band(3,0))", b: 2, tq: 7, tk: 7, heads: 2, d: 5, dv: 3, indexQ: []int32{6, 4, 2, 0, 1, 3, 5},
		indexK: []int32{6, 4, 2, 0, 1, 3, 5}, indexShape: []int{7}, wantLSE: true},
	"labels": {pattern: "causal(band(90,0))", b: 2, tq: 197, heads: 2, d: 5, fused: true, labels: Clipped{7}, keys: []int{15, 5}, bias: []int{15, 2},
		lens: []int32{197, 101}},
	"labels apart": {pattern: "heads(full; band(2,3))", b: 2, tq: 17, tk: 17, heads: 2, d: 3, dv: 5, labels: byHead{2}, keys: []int{3, 6}, scale: 0.7},
	"a bias, cross": {pattern: "full", b: 2, tq: 11, tk: 70, heads: 2, d: 5, dv: 3, cross: true, lens: []int32{70, 9}, labels: Clipped{20},
		bias: []int{41}},
	"labels by head": {pattern: "band(40,40)", b: 1, tq: 131, tk: 131, heads: 3, d: 8, dv: 8, flat: true, labels: byHead{3}, keys: []int{3, 8},
		bias: []int{3, 3}},
	"labels from the end": {pattern: "band(1,1) + global(-1)", b: 4, tq: 23, heads: 2, d: 5, fused: true, lens: []int32{23, 11, 1, 0},
		labels: fromEnd{}, keys: []int{2, 10}, bias: []int{2, 2}},
	"labels, gathered": {pattern: "causal(dilated(70,0,10))", b: 2, tq: 641, heads: 2, d: 3, fused: true, lens: []int32{641, 411},
		labels: Clipped{30}, keys: []int{61, 3}, bias: []int{61, 2}},
	"labels, index": {pattern: "causal(band(3,0))", b: 2, tq: 7, tk: 7, heads: 2, d: 5, dv: 3, indexQ: []int32{6, 4, 2, 0, 1, 3, 5},
		indexK: []int32{6, 4, 2, 0, 1, 3, 5}, indexShape: []int{7}, labels: Clipped{2}, keys: []int{5, 5}, bias: []int{5, 2}, wantLSE: true},
	"index by head": {pattern: "blocks(3)", b: 1, tq: 5, tk: 5, heads: 2, d: 3, dv: 3, indexQ: []int32{4, 3, 2, 1, 0, 1, -1, 3, 0, 2},
		indexK: []int32{4, 3, 2, 1, 0, 1, -1, 3, 0, 2}, indexShape: []int{1, 2, 5}, lens: []int32{4}},
	"merged": {pattern: "causal(band(6,0) + global(1))", b: 2, tq: 13, tk: 13, heads: 2, d: 3, dv: 5, wantLSE: true, first: "causal(blocks(4))"},
	"merged, lengths": {pattern: "band(6,3)", b: 2, tq: 13, tk: 13, heads: 2, d: 3, dv: 5, lens: []int32{11, 7},
		first: "blocks(2) & global(2,3,5,8)"},
}

// byHead labels that tell heads apart.
type byHead struct{ heads int }

func (l byHead) String() string           { return fmt.Sprintf("by head(%d)", l.heads) }
func (l byHead) Heads() int               { return l.heads }
func (byHead) Count() int                 { return 3 }
func (l byHead) Label(h, i, j, _ int) int { return (i*(h+1) + j/5) % 3 }

// wrongLabels are more than they say.
type wrongLabels struct{ Clipped }

func (wrongLabels) Count() int { return 1 }

func (wrongLabels) Label(_, _, _, _ int) int { return 2 }

// fromEnd labels pairs by whether one of them is the last.
type fromEnd struct{}

func (fromEnd) String() string { return "from end" }
func (fromEnd) Count() int     { return 2 }
func (fromEnd) Label(_, i, j, n int) int {
	if i == n-1 || j == n-1 {
		return 1
	}
	return 0
}

func TestAttendAgainstDefinition(t *testing.T) {
	for name, s := range scenes {
		t.Run(name, func(t *testing.T) {
			want := s.oracle(t)
			for _, s.route = range []route{byTiles, byLists} {
				want.equal(t, s.build(t, tensor.Float64).run(t), 1e-12, "float64")
				want.equal(t, s.build(t, tensor.Float32).run(t), 1e-5, "float32")
			}
		})
	}
}

func TestAttendAnyPattern(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := drawAny(t)
		heads := p.Heads()
		s := scene{pattern: p.String(), b: 2, tq: rapid.SampledFrom([]int{1, 2, 5, 13, 67}).Draw(t, "T"), heads: heads, d: 3, fused: true}
		if rapid.Bool().Draw(t, "padded") {
			s.lens = []int32{int32(s.tq), int32(rapid.IntRange(0, s.tq).Draw(t, "length"))}
		}
		want := s.oracle(t)
		for _, s.route = range []route{byTiles, byLists} {
			want.equal(t, s.build(t, tensor.Float64).run(t), 1e-12, s.pattern)
		}
	})
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
	for _, name := range []string{"fused", "dilated by head, gathered", "from the end", "full", "labels from the end", "by lists", "two passes"} {
		s := scenes[name]
		switch name {
		case "by lists":
			s = scenes["labels from the end"]
			s.route = byLists
		case "two passes":
			s = scene{pattern: "causal(strided(32))", b: 1, tq: 1280, heads: 1, d: 8, fused: true, lens: []int32{1277}}
		}
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
		"LabelKeys or LabelBias without Labels": func(b *layers.Builder, in func(...int) *Node) {
			AttendQKV(b, Config{Heads: 2, LabelBias: in(3, 2)}, in(1, 3, 12))
		},
		"labels clipped(1) without LabelKeys and LabelBias": func(b *layers.Builder, in func(...int) *Node) {
			AttendQKV(b, Config{Heads: 2, Labels: Clipped{1}}, in(1, 3, 12))
		},
		"want [V,D] or [V,H·D] with V = 3, H = 2, D = 2": func(b *layers.Builder, in func(...int) *Node) {
			AttendQKV(b, Config{Heads: 2, Labels: Clipped{1}, LabelKeys: in(3, 3)}, in(1, 3, 12))
		},
		"want [V,H] or [V] with V = 3, H = 2": func(b *layers.Builder, in func(...int) *Node) {
			AttendQKV(b, Config{Heads: 2, Labels: Clipped{1}, LabelBias: in(2, 3)}, in(1, 3, 12))
		},
		"labels by head(3) are of 3 heads, the layer has 2": func(b *layers.Builder, in func(...int) *Node) {
			AttendQKV(b, Config{Heads: 2, Labels: byHead{3}, LabelBias: in(3)}, in(1, 3, 12))
		},
		"the label of pair (0,0) is 2, not of 0 to 0": func(b *layers.Builder, in func(...int) *Node) {
			AttendQKV(b, Config{Heads: 2, Labels: wrongLabels{}, LabelBias: in(1)}, in(1, 3, 12))
		},
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

// Narrow dilated windows stay in the order of positions, wide ones are gathered.
func TestWhatIsGathered(t *testing.T) {
	for name, s := range scenes {
		g := s.build(t, tensor.Float32)
		for _, n := range g.b.Graph().AllNodes() {
			if op, ok := engine.OpOf(n).(*attend); ok {
				require.Equal(t, strings.Contains(name, "gathered"), op.orderQ != nil || op.orderK != nil, name)
			}
		}
	}
}

// Patterns of low degree without blocks are listed, others are not.
func TestWhatIsListed(t *testing.T) {
	for text, want := range map[string]bool{"random(8,3)": true, "bernoulli(1,99,3)": true, "bp-tree(2)": true, "causal(random(4,1) + global(0))": true,
		"heads(random(3,1); random(5,2))": true, "full": false, "band(2,2)": false, "causal(band(255,0))": false, "blocks(16)": false,
		"strided(32)": false, "random-blocks(64,3,5)": false} {
		s := scene{pattern: text, b: 1, tq: 1531, heads: 2, d: 8, fused: true}
		g := s.build(t, tensor.Float32)
		for _, n := range g.b.Graph().AllNodes() {
			if op, ok := engine.OpOf(n).(*attend); ok {
				require.Equal(t, want, op.edges != nil, text)
				if want {
					pairs := int64(0)
					for h := range 2 {
						pairs += op.pattern.NNZ(h%op.pattern.Heads(), 1531)
					}
					require.Equal(t, float64(2*pairs*16), op.Flops(nil, engine.Type{}), text)
				}
			}
		}
	}
}

// What is chosen without layouts is what would be chosen with them.
func TestLeastCosts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := drawAny(t)
		n := rapid.SampledFrom([]int{1, 67, 130, 300}).Draw(t, "n")
		ls, err := Compile(p, p.Heads(), n, n)
		require.NoError(t, err)
		least, costs := leastCosts(p, n, n), costsOf(p, ls)
		require.LessOrEqual(t, least.tiles, costs.tiles*(1+1e-12), p.String())
		require.InEpsilon(t, costs.lists+1, least.lists+1, 1e-12, p.String())
		require.Equal(t, costs.pairs, least.pairs, p.String())
		tiles := 0
		for _, l := range ls {
			tiles += l.Tiles()
		}
		require.GreaterOrEqual(t, least.tiles, 130*float64(tiles), p.String())
	})
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
