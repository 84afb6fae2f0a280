package attention

import (
	"fmt"
	"maps"
	"math"
	"math/bits"
	"runtime"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/kernels"
	"github.com/euryale-ml/euryale/layers"
)

// conformance is what every word of the pattern language must show. A word that is not in the table fails the tests.
type conformance struct {
	examples []string           // of small sizes, for sequences of about 40 tokens
	whole    string             // reads everything in a sequence of up to 64 tokens; "": no numbers make it do so
	scaled   func(n int) string // for the cost in n nodes
	lengths  [3]int             // of it; zero: 4096, 8192, 16384
	claim    float64            // exponent of time in n
}

func constant(s string) func(int) string { return func(int) string { return s } }

// root fills √n into a format.
func root(format string) func(int) string {
	return func(n int) string { return fmt.Sprintf(format, int(math.Sqrt(float64(n)))) }
}

// short are lengths for what costs the square of them.
var short = [3]int{1024, 2048, 4096}

// squares are lengths whose square roots are whole.
var squares = [3]int{4096, 16384, 36864}

var conformances = map[string]conformance{
	"full":            {examples: []string{"full"}, whole: "full", scaled: constant("full"), lengths: short, claim: 2},
	"band":            {examples: []string{"band(5,2)", "band(0,0)", "band(0,9)"}, whole: "band(63,63)", scaled: constant("band(100,100)"), claim: 1},
	"dilated":         {examples: []string{"dilated(3,2,4)", "dilated(2,0,17)"}, whole: "dilated(63,63,1)", scaled: constant("dilated(70,70,9)"), claim: 1},
	"blocks":          {examples: []string{"blocks(7)", "blocks(8,3)", "blocks(5,9,2)"}, whole: "blocks(64)", scaled: constant("blocks(100,30)"), claim: 1},
	"global":          {examples: []string{"global(3,-1)", "global(0)", "global(99)"}, scaled: constant("global(0,5,999)"), claim: 1},
	"external":        {examples: []string{"external(2)", "external(1) + band(2,1)"}, whole: "external(64)", scaled: constant("external(3) + band(60,60)"), claim: 1},
	"random":          {examples: []string{"random(3,7)", "random(0,1)"}, whole: "random(64,3)", scaled: constant("random(8,3)"), claim: 1},
	"random-blocks":   {examples: []string{"random-blocks(5,2,7)"}, whole: "random-blocks(7,10,3)", scaled: constant("random-blocks(64,3,1)"), claim: 1},
	"bernoulli":       {examples: []string{"bernoulli(1,5,3)", "bernoulli(0,1,1)"}, whole: "bernoulli(1,1,3)", scaled: func(n int) string { return fmt.Sprintf("bernoulli(9,%d,3)", n) }, lengths: [3]int{2048, 4096, 8192}, claim: 1},
	"window-blocks":   {examples: []string{"window-blocks(6,2)"}, whole: "window-blocks(64,1)", scaled: constant("window-blocks(50,3)"), claim: 1},
	"shifted-blocks":  {examples: []string{"shifted-blocks(8,3)"}, whole: "shifted-blocks(200,100)", scaled: constant("shifted-blocks(128,64)"), claim: 1},
	"big-bird":        {examples: []string{"big-bird(4,2,3)", "big-bird(3,0,1)"}, whole: "big-bird(16,3,1)", scaled: constant("big-bird(64,3,1)"), claim: 1},
	"big-bird-window": {examples: []string{"big-bird-window(4,2,3)"}, whole: "big-bird-window(64,1,1)", scaled: constant("big-bird-window(64,3,1)"), claim: 1},
	"cross-blocks":    {examples: []string{"cross-blocks(5)"}, scaled: root("cross-blocks(%d)"), lengths: squares, claim: 1.5},
	"strided":         {examples: []string{"strided(6)", "strided(1)"}, scaled: root("strided(%d)"), lengths: squares, claim: 1.5},
	"fixed":           {examples: []string{"fixed(6,2)", "fixed(5,5)"}, scaled: root("fixed(%d,4)"), lengths: squares, claim: 1.5},
	"summary":         {examples: []string{"summary(6,2)", "summary(9,3,1)"}, scaled: root("summary(%d,8)"), lengths: squares, claim: 1.5},
	"star":            {examples: []string{"star"}, scaled: constant("star"), claim: 1},
	"bp-tree":         {examples: []string{"bp-tree(1)", "bp-tree(3)"}, scaled: constant("bp-tree(4)"), claim: 1.1},
	"image1d":         {examples: []string{"image1d(6,9)", "image1d(8,0)"}, scaled: constant("image1d(64,128)"), claim: 1},
	"image2d":         {examples: []string{"image2d(5,9,2,3,2,4)"}, scaled: func(n int) string { return fmt.Sprintf("image2d(%d,64,8,8,8,8)", n/64) }, claim: 1},
	"image2d-generated": {examples: []string{"image2d-generated(5,9,2,3,2,4)", "image2d-generated(7,5,3,2,1,0)", "image2d-generated(4,4,2,2,2,2)"},
		scaled: func(n int) string { return fmt.Sprintf("image2d-generated(%d,64,8,8,8,8)", n/64) }, claim: 1},
	"row":    {examples: []string{"row(6,7)"}, whole: "row(1,64)", scaled: root("row(%[1]d,%[1]d)"), lengths: squares, claim: 1.5},
	"column": {examples: []string{"column(6,7)"}, whole: "column(64,1)", scaled: root("column(%[1]d,%[1]d)"), lengths: squares, claim: 1.5},
	"causal": {examples: []string{"causal(full)", "causal(band(4,4) + global(0,-1))"}, scaled: constant("causal(full)"), lengths: short, claim: 2},
	"beyond": {examples: []string{"beyond(band(2,2); random(3,5))", "beyond(blocks(6); random-blocks(6,2,1))"}, scaled: constant("beyond(band(9,9); random(8,3))"), claim: 1},
	"heads":  {examples: []string{"heads(blocks(7); dilated(2,2,5))"}, whole: "heads(full; band(63,63))", scaled: constant("heads(band(80,0); blocks(99))"), claim: 1},
}

// each runs f for every example of every word, as it is and, where that exists, cut to earlier keys. The table must have every word.
func eachPattern(t *testing.T, f func(t *testing.T, p Pattern)) {
	words := wordNames()
	require.ElementsMatch(t, words, slices.Collect(maps.Keys(conformances)), "every word of the language must be in the table, with examples")
	for _, w := range words {
		require.NotEmpty(t, conformances[w].examples, w)
		for _, s := range conformances[w].examples {
			p := parse(t, s)
			f(t, p)
			if CheckCausal(p) == nil {
				f(t, Causal(p))
			}
		}
	}
}

// The three views of a pattern agree at every length, and its tiles and lists hold each pair once.
func TestConformanceOfSets(t *testing.T) {
	eachPattern(t, func(t *testing.T, p Pattern) {
		for _, n := range sizes {
			viewsAgree(t, p, n)
		}
		for _, n := range []int{0, 1, 63, 130} {
			layoutCovers(t, p, n, n)
			lists, err := compileLists(p, n, n, nil)
			require.NoError(t, err)
			for h, l := range lists {
				require.EqualValues(t, p.NNZ(h, n), l.Pairs(), "%s: lists of head %d for %d", p, h, n)
			}
		}
	})
}

// Numbers that let a pattern read everything make it full attention.
func TestConformanceOfLimits(t *testing.T) {
	for w, c := range conformances {
		if c.whole == "" {
			continue
		}
		p := parse(t, c.whole)
		for _, n := range []int{1, 2, 13, 64} {
			for h := range p.Heads() {
				require.Equal(t, Full{}.NNZ(0, n), p.NNZ(h, n), "%s: %s in %d", w, c.whole, n)
				if CheckCausal(p) == nil {
					require.Equal(t, Causal(Full{}).NNZ(0, n), Causal(p).NNZ(h, n), "%s: causal(%s) in %d", w, c.whole, n)
				}
			}
		}
	}
}

// The kernels, by tiles and by lists, give what softmax over the set gives, with its gradients; queries that read nothing give zeros.
func TestConformanceOfKernels(t *testing.T) {
	k := 0
	eachPattern(t, func(t *testing.T, p Pattern) {
		heads := max(2, p.Heads())
		k++
		s := scene{of: p, b: 2, tq: []int{33, 41, 67}[k%3], heads: heads, d: []int{3, 8, 17}[k%3], fused: true}
		s.lens = []int32{int32(s.tq), int32(s.tq) - 11}
		want := s.oracle(t)
		for _, s.route = range []route{cheaper, byTiles, byLists} {
			want.equal(t, s.build(t, tensor.Float64).run(t), 1e-12, p.String())
		}
		want.equal(t, s.build(t, tensor.Float32).run(t), 2e-5, p.String())
		for i := range s.tq {
			if len(Keys(p, 0, i, s.tq)) == 0 {
				require.Zero(t, want.o[i*heads*s.d], p.String())
			}
		}
	})
}

// Neither the amount of padding nor what stands in it changes anything.
func TestConformanceOfPadding(t *testing.T) {
	eachPattern(t, func(t *testing.T, p Pattern) { paddingChangesNothing(t, p) })
}

// Token by token, with the keys that the cache keeps, a pattern cut to earlier keys gives what it gives at once.
func TestConformanceOfGeneration(t *testing.T) {
	eachPattern(t, func(t *testing.T, p Pattern) {
		if (spaceOf(p) != space{}) {
			return // whose nodes are no sequence
		}
		for _, prompt := range []int{0, 17} {
			checkGeneration[float64](t, p, 41, prompt, tensor.Float64, 1e-12)
		}
	})
}

// What a query does not read does not change it, to the bit; what it reads does.
func TestConformanceOfReading(t *testing.T) {
	const n, d = 41, 8
	eachPattern(t, func(t *testing.T, p Pattern) {
		heads := max(2, p.Heads())
		a := attendOn(t, p, 1, n, heads, d, false)
		before := a.run(t)
		for _, at := range []int{0, 7, 20, 40} {
			row := a.qkv[at*3*heads*d:][:3*heads*d]
			keep := append([]float32(nil), row...)
			for i := range row {
				row[i] = 3 - row[i]
			}
			after := a.run(t)
			copy(row, keep)
			for i := range n {
				for h := range heads {
					x, y := before[(i*heads+h)*d:][:d], after[(i*heads+h)*d:][:d]
					reads := p.Sees(h%p.Heads(), i, at, n) || i == at && len(Keys(p, h%p.Heads(), i, n)) > 1
					if i == at && !p.Sees(h%p.Heads(), i, at, n) {
						continue // its own query changed
					}
					require.Equal(t, reads, !slices.Equal(x, y), "%s: token %d, query %d of head %d", p, at, i, h)
				}
			}
		}
	})
}

// After L layers a token depends on exactly the tokens that the graph reaches in L steps.
func TestConformanceOfReach(t *testing.T) {
	const n, depth = 23, 3
	eachPattern(t, func(t *testing.T, p Pattern) {
		reach := make([]uint64, n) // bits of the tokens that a token depends on
		for i := range reach {
			reach[i] = 1 << i
		}
		for range depth {
			next := slices.Clone(reach)
			for i := range n {
				for h := range p.Heads() {
					for _, j := range Keys(p, h, i, n) {
						next[i] |= reach[j]
					}
				}
			}
			reach = next
		}
		heads := p.Heads()
		b := layers.New(gorgonia.NewGraph(), layers.NewParams(tensor.Float64), layers.Options{})
		x := b.Input("x", tensor.Float64, 1, n, heads*3)
		data := layers.InputValue(x).Float64s()
		fillFrom(layers.InputValue(x), "x")
		y := x
		for l := range depth { // attention and what passes it by
			o, _ := Attend(b, Config{Pattern: p, Heads: heads}, y, y, y)
			// Other heads' channels must mix for heads to work together.
			o = layers.Linear(b.Scope(fmt.Sprint("layer", l)), o, layers.LinearConfig{Out: heads * 3, Init: layers.Normal(0.4)})
			y = layers.Add(b, y, o)
		}
		require.NoError(t, b.Err())
		run, err := engine.Compile(b.Graph(), Nodes{y}, engine.Options{})
		require.NoError(t, err)
		require.NoError(t, run.Run())
		before := numbers(run.Value(y))
		var got [n]uint64
		for j := range n {
			row := data[j*heads*3:][:heads*3]
			keep := slices.Clone(row)
			for c := range row {
				row[c] += 0.5 + 0.1*float64(c)
			}
			require.NoError(t, run.Run())
			copy(row, keep)
			after := numbers(run.Value(y))
			for i := range n {
				if !slices.Equal(before[i*heads*3:][:heads*3], after[i*heads*3:][:heads*3]) {
					got[i] |= 1 << j
				}
			}
		}
		for i := range n {
			require.Equal(t, reach[i], got[i], "%s: token %d depends on %d tokens, the graph reaches %d", p, i, bits.OnesCount64(got[i]), bits.OnesCount64(reach[i]))
		}
	})
}

// Results have the same bits whatever the number of workers.
func TestConformanceOfWorkers(t *testing.T) {
	procs := runtime.GOMAXPROCS(0)
	defer runtime.GOMAXPROCS(procs)
	eachPattern(t, func(t *testing.T, p Pattern) {
		s := scene{of: p, b: 1, tq: 131, heads: max(2, p.Heads()), d: 8, fused: true}
		g := s.build(t, tensor.Float32)
		runtime.GOMAXPROCS(1)
		one := g.run(t)
		runtime.GOMAXPROCS(max(2, procs))
		require.Equal(t, one, g.run(t), p.String())
	})
}

// No more is multiplied than the listed tiles hold, or, by lists, the pairs.
func TestConformanceOfWork(t *testing.T) {
	eachPattern(t, func(t *testing.T, p Pattern) {
		for _, want := range []route{byTiles, byLists} {
			s := scene{of: p, b: 1, tq: 203, heads: max(2, p.Heads()), d: 8, fused: true, route: want}
			got := s.build(t, tensor.Float32).products(t)
			require.LessOrEqual(t, float64(got.executed), 1.05*got.listed, "%s", p)
			if want == byLists {
				require.Equal(t, got.listed, float64(got.executed), "%s: lists", p)
			}
		}
	})
}

// products are the multiply-adds of a forward and a backward pass: executed, and those that tiles or lists stand for.
type products struct {
	executed int64
	listed   float64
	bytes    float64 // of the plan, and of tiles or lists
}

func (g graph) products(t *testing.T) (c products) {
	ds, err := engine.VJP(Nodes{g.cost}, Nodes{engine.Fill(g.b.Graph(), engine.TypeOf(g.cost), 1)}, g.in, nil)
	require.NoError(t, err)
	p, err := engine.Compile(g.b.Graph(), append(Nodes{g.cost}, ds...), engine.Options{})
	require.NoError(t, err)
	c.executed = kernels.CountProducts(func() { require.NoError(t, p.Run()) })
	for _, n := range g.b.Graph().AllNodes() {
		switch op := engine.OpOf(n).(type) {
		case *attend:
			c.listed += op.Flops(nil, engine.Type{}) / 2
			for _, l := range op.layouts {
				c.bytes += float64(l.Bytes())
			}
			for _, e := range op.edges {
				c.bytes += float64(e.Bytes())
			}
		case attendGrad:
			c.listed += op.Flops(nil, engine.Type{}) / 2
		}
	}
	c.bytes += float64(p.Plan().Live)
	return c
}

// The work of a forward and a backward pass grows with the length as the paper of the pattern says; the memory linearly.
func TestConformanceOfCost(t *testing.T) {
	for _, w := range wordNames() {
		c := conformances[w]
		if c.lengths[0] == 0 {
			c.lengths = [3]int{4096, 8192, 16384}
		}
		var x, work, memory []float64
		for _, n := range c.lengths {
			p := parse(t, c.scaled(n))
			s := scene{of: p, b: 1, tq: n, heads: p.Heads(), d: 8, fused: true}
			got := s.build(t, tensor.Float32).products(t)
			x, work, memory = append(x, float64(n)), append(work, float64(got.executed)), append(memory, got.bytes)
		}
		require.InDelta(t, c.claim, exponent(x, work), 0.12, "%s: exponent of the work", w)
		require.InDelta(t, 1, exponent(x, memory), 0.12, "%s: exponent of the memory", w)
	}
}

// exponent is the slope of log y over log x by least squares.
func exponent(x, y []float64) float64 {
	var mx, my, sxy, sxx float64
	for i := range x {
		mx, my = mx+math.Log(x[i])/float64(len(x)), my+math.Log(y[i])/float64(len(x))
	}
	for i := range x {
		dx := math.Log(x[i]) - mx
		sxy, sxx = sxy+dx*(math.Log(y[i])-my), sxx+dx*dx
	}
	return sxy / sxx
}

// BenchmarkPatterns times a forward and a backward pass of every word at its longest length.
func BenchmarkPatterns(b *testing.B) {
	for _, w := range wordNames() {
		p := parse(b, conformances[w].scaled(4096))
		b.Run(w, func(b *testing.B) {
			s := scene{of: p, b: 1, tq: 4096, heads: 2 * p.Heads(), d: 32, fused: true}
			if p.Heads() > 1 {
				s.heads = p.Heads()
			}
			g := s.build(b, tensor.Float32)
			ds, err := engine.VJP(Nodes{g.cost}, Nodes{engine.Fill(g.b.Graph(), engine.TypeOf(g.cost), 1)}, g.in, nil)
			require.NoError(b, err)
			run, err := engine.Compile(g.b.Graph(), ds, engine.Options{})
			require.NoError(b, err)
			for b.Loop() {
				if err := run.Run(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
