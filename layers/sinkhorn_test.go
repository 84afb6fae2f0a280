package layers

import (
	"math"
	"runtime"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
	"pgregory.net/rapid"

	"github.com/euryale-ml/euryale/internal/engine"
)

// permuted is Sinkhorn of one matrix of n rows for each n² numbers; blocks nil: all.
func permuted(t require.TestingT, n int, r []float64, blocks []int32, training bool, c SinkhornConfig) []float64 {
	b := New(gorgonia.NewGraph(), NewParams(tensor.Float64), Options{Seed: 5, Training: training})
	batch := len(r) / (n * n)
	x := b.Input("r", tensor.Float64, batch, 1, n, n)
	copy(InputValue(x).Float64s(), r)
	var counts *Node
	if blocks != nil {
		counts = b.Input("blocks", tensor.Int32, batch)
		copy(InputValue(counts).Int32s(), blocks)
	}
	p := Sinkhorn(b, x, counts, c)
	return ran(t, b, p)[0]
}

// ran are the values of nodes.
func ran(t require.TestingT, b *Builder, nodes ...*Node) (all [][]float64) {
	require.NoError(t, b.Err())
	p, err := engine.Compile(b.Graph(), nodes, engine.Options{CheckFinite: true})
	require.NoError(t, err)
	require.NoError(t, p.Run())
	for _, n := range nodes {
		if n.Dtype() == tensor.Int32 {
			var x []float64
			for _, i := range engine.Ints(p.Value(n)) {
				x = append(x, float64(i))
			}
			all = append(all, x)
			continue
		}
		all = append(all, floats(p.Value(n)))
	}
	return all
}

func TestSinkhornByHand(t *testing.T) {
	// 2x2 in the limit: P_00 = σ((R_00 + R_11 - R_01 - R_10)/2).
	p := permuted(t, 2, []float64{1, 0, 0, 0}, nil, false, SinkhornConfig{Tau: 1, Iterations: 50})
	require.InDeltaSlice(t, []float64{.6224593, .3775407, .3775407, .6224593}, p, 1e-7)
	p = permuted(t, 2, []float64{3, -1, 0.5, 2}, nil, false, SinkhornConfig{Tau: 1, Iterations: 200})
	require.InDelta(t, 1/(1+math.Exp(-(3+2+1-0.5)/2)), p[0], 1e-7)

	p = permuted(t, 3, make([]float64, 9), nil, false, SinkhornConfig{Normalizer: SinkhornRow, Tau: 1, Mask: EarlierBlocks})
	require.InDeltaSlice(t, []float64{0, 0, 0, 1, 0, 0, .5, .5, 0}, p, 1e-15)
	p = permuted(t, 3, make([]float64, 9), nil, false, SinkhornConfig{Normalizer: SinkhornPrefix, Tau: 1, Iterations: 1, Mask: EarlierBlocks})
	require.InDeltaSlice(t, []float64{0, 0, 0, 1, 0, 0, 1. / 3, 1, 0}, p, 1e-15)
}

// n = 1, no block at all, equal rows, huge scores.
func TestSinkhornEdges(t *testing.T) {
	c := SinkhornConfig{Tau: 0.75, Iterations: 8, FinishRow: true}
	require.Equal(t, []float64{1}, permuted(t, 1, []float64{7}, nil, false, c))
	require.Equal(t, make([]float64, 9), permuted(t, 3, make([]float64, 9), []int32{0}, false, c))
	require.InDeltaSlice(t, slices.Repeat([]float64{1. / 3}, 9), permuted(t, 3, slices.Repeat([]float64{-4}, 9), nil, false, c), 1e-15)

	huge := []float64{1e4, -1e4, 3, 0, 1e4, -1e4, 2, 1, 1e300}
	for _, n := range []SinkhornNormalizer{SinkhornRowsColumns, SinkhornRow, SinkhornPrefix} {
		c.Normalizer = n
		p := permuted(t, 3, huge, nil, false, c)
		for u := range 3 {
			require.InDelta(t, 1, p[u*3]+p[u*3+1]+p[u*3+2], 1e-9, n)
			if n != SinkhornPrefix { // which sees a column as far as it has come
				require.InDelta(t, 1, p[u*3+u], 1e-9, n) // the greatest in row and column
			}
		}
	}

	for want, c := range map[string]SinkhornConfig{
		"the temperature is 0, want more than 0":  {Iterations: 3},
		"the temperature is -1, want more than 0": {Tau: -1, Iterations: 3},
		"0 iterations, want at least 1":           {Tau: 1},
		`no normalizer "paper"`:                   {Tau: 1, Iterations: 1, Normalizer: "paper"},
	} {
		b := New(gorgonia.NewGraph(), NewParams(tensor.Float64), Options{})
		Sinkhorn(b, b.Input("r", tensor.Float64, 1, 2, 3, 3), nil, c)
		require.ErrorContains(t, b.Err(), want)
	}
}

// What there is beyond the blocks of an example does not matter.
func TestSinkhornOfFewerBlocks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n, used := rapid.IntRange(1, 7).Draw(t, "n"), rapid.IntRange(0, 7).Draw(t, "used")
		used = min(used, n)
		r, small := make([]float64, n*n), make([]float64, used*used)
		for i := range r {
			r[i] = 3 * uniform(77, i)
			if u, v := i/n, i%n; u < used && v < used {
				small[u*used+v] = r[i]
			}
		}
		c := SinkhornConfig{Tau: 0.6, Iterations: 3, FinishRow: rapid.Bool().Draw(t, "finish"), Mask: SinkhornMask(rapid.IntRange(0, 2).Draw(t, "mask")),
			Normalizer: rapid.SampledFrom([]SinkhornNormalizer{SinkhornRowsColumns, SinkhornRow, SinkhornPrefix}).Draw(t, "normalizer")}
		got := permuted(t, n, r, []int32{int32(used)}, false, c)
		want := make([]float64, n*n)
		if used > 0 {
			for i, x := range permuted(t, used, small, nil, false, c) {
				want[i/used*n+i%used] = x
			}
		}
		require.InDeltaSlice(t, want, got, 1e-12)
	})
}

// lines are the largest errors of the sums of rows and columns of matrices [n,n], each the mean over the matrices.
func lines(n int, p []float64) (rows, columns float64) {
	matrices := len(p) / (n * n)
	for m := range matrices {
		var row, column float64
		for i := range n {
			var r, c float64
			for j := range n {
				r += p[m*n*n+i*n+j]
				c += p[m*n*n+j*n+i]
			}
			row, column = max(row, math.Abs(r-1)), max(column, math.Abs(c-1))
		}
		rows, columns = rows+row/float64(matrices), columns+column/float64(matrices)
	}
	return rows, columns
}

// Scores of relu(N(0,1)) with Gumbel noise for 8 blocks: columns are exact, the error of rows falls with the iterations as measured.
func TestSinkhornConvergence(t *testing.T) {
	const n, matrices = 8, 400
	r := make([]float64, matrices*n*n)
	for i := range r {
		u, v := uniform(3, i), uniform(4, i)
		r[i] = max(0, math.Sqrt(-2*math.Log(1-u))*math.Cos(2*math.Pi*v))
	}
	for tau, want := range map[float64][]float64{1: {.38, .023, .006, .0001}, .75: {.48, .059, .023, .003}, .25: {.99, .29, .18, .04}} {
		last := math.Inf(1)
		for i, k := range []int{1, 5, 8, 20} {
			rows, columns := lines(n, permuted(t, n, r, nil, true, SinkhornConfig{Tau: tau, Iterations: k, Gumbel: true}))
			require.InDelta(t, want[i], rows, 0.002+0.2*want[i], "τ %g, %d iterations", tau, k)
			require.Less(t, columns, 1e-12)
			require.Less(t, rows, last)
			last = rows
			rows, _ = lines(n, permuted(t, n, r, nil, true, SinkhornConfig{Tau: tau, Iterations: k, Gumbel: true, FinishRow: true}))
			require.Less(t, rows, 1e-12)
		}
	}
}

// P is not negative, and in the limit does not change if numbers are added to whole rows and columns.
func TestSinkhornInvariance(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(2, 6).Draw(t, "n")
		seed := rapid.Uint64Range(0, 1<<20).Draw(t, "seed")
		r, moved := make([]float64, n*n), make([]float64, n*n)
		for i := range r {
			r[i] = 2 * uniform(seed, i)
			moved[i] = r[i] + 3*uniform(seed+1, i/n) - 2*uniform(seed+2, i%n)
		}
		c := SinkhornConfig{Tau: 1, Iterations: 200}
		p := permuted(t, n, r, nil, false, c)
		require.InDeltaSlice(t, p, permuted(t, n, moved, nil, false, c), 1e-9)
		require.GreaterOrEqual(t, slices.Min(p), 0.)
	})
}

// With the masked matrix, sums of columns over all rows leak: a later row changes earlier ones. row and prefix do not leak, to the bit.
func TestSinkhornLeaks(t *testing.T) {
	const n = 6
	r := make([]float64, n*n)
	for i := range r {
		r[i] = 3 * uniform(9, i)
	}
	changed := slices.Clone(r)
	for v := range n {
		changed[(n-1)*n+v] += 5 * uniform(10, v)
	}
	for normalizer, leaks := range map[SinkhornNormalizer]bool{SinkhornRowsColumns: true, SinkhornRow: false, SinkhornPrefix: false} {
		c := SinkhornConfig{Normalizer: normalizer, Tau: 0.75, Iterations: 8, FinishRow: true, Mask: EarlierBlocks}
		before, after := permuted(t, n, r, nil, false, c)[:(n-1)*n], permuted(t, n, changed, nil, false, c)[:(n-1)*n]
		most := 0.0
		for i := range before {
			most = max(most, math.Abs(before[i]-after[i]))
		}
		if leaks {
			require.Greater(t, most, 0.01)
		} else {
			require.Zero(t, most, normalizer)
		}
	}
}

// Noise is drawn in training alone, anew in each step, and as the logarithm of the logarithm of a uniform number.
func TestSinkhornNoise(t *testing.T) {
	const n = 40
	run := func(training bool, step int32) []float64 {
		b := New(gorgonia.NewGraph(), NewParams(tensor.Float64), Options{Seed: 5, Training: training})
		p := Sinkhorn(b, b.Input("r", tensor.Float64, 2, 3, n, n), nil, SinkhornConfig{Normalizer: SinkhornRow, Tau: 1, Gumbel: true})
		if s := b.inputs["step"]; s != nil {
			InputValue(s).Int32s()[0] = step
		}
		return ran(t, b, p)[0]
	}
	require.InDeltaSlice(t, slices.Repeat([]float64{1. / n}, 6*n*n), run(false, 1), 1e-15)
	first := run(true, 1)
	require.Equal(t, first, run(true, 1))
	require.NotEqual(t, first, run(true, 2))
	// Of a row P ∝ exp g = 1/-log u: the greatest entry is anywhere equally often, and 1/P over their mean is exponential.
	counts, mean, square := make([]float64, n), 0.0, 0.0
	for row := range 6 * n {
		p := first[row*n:][:n]
		counts[slices.Index(p, slices.Max(p))]++
		var sum float64
		for _, x := range p {
			sum += 1 / x
		}
		for _, x := range p {
			e := n / x / sum
			mean, square = mean+e/(6*n*n), square+e*e/(6*n*n)
		}
	}
	require.InDelta(t, 1, mean, 1e-9)
	require.InDelta(t, 2*float64(n)/(n+1), square, 0.1) // of exponentials over their mean
	require.Less(t, slices.Max(counts), 20.)
}

// The steps of a column that falls out of range in float32 are undone as they were done.
func TestSinkhornGradientOfHugeScores(t *testing.T) {
	for _, normalizer := range []SinkhornNormalizer{SinkhornRowsColumns, SinkhornRow, SinkhornPrefix} {
		var all [][]float64
		for _, dtype := range []tensor.Dtype{tensor.Float64, tensor.Float32} {
			e := example{"huge", []arg{dense(1, 2, 5, 5)}, func(b *Builder, in Nodes) *Node {
				return Sinkhorn(b, Scale(b, in[0], 30), nil, SinkhornConfig{Normalizer: normalizer, Tau: 0.25, Iterations: 6, FinishRow: true})
			}}
			_, grads := build(t, e, dtype, false).run(t, nil)
			all = append(all, grads[0])
		}
		closeTo(t, all[0], all[1], 1e-3, string(normalizer))
	}
}

func TestSinkhornBlocksAssigned(t *testing.T) {
	run := func(how Assignment, n int, p ...float64) []float64 {
		b := New(gorgonia.NewGraph(), NewParams(tensor.Float64), Options{})
		x := b.Input("p", tensor.Float64, 1, 1, n, n)
		copy(InputValue(x).Float64s(), p)
		return ran(t, b, AssignBlocks(b, x, how))[0]
	}
	m := []float64{.5, .4, .1, .45, .05, .5, .05, .55, .4} // greedy takes .55 first
	require.Equal(t, []float64{0, 2, 1}, run(AssignRows, 3, m...))
	require.Equal(t, []float64{0, 2, 1}, run(AssignGreedy, 3, m...))
	require.Equal(t, []float64{0, 2, 1}, run(AssignHungarian, 3, m...))
	m = []float64{.9, .8, .1, .85, .01, .1, .1, .1, .5} // the best sum does without .9
	require.Equal(t, []float64{0, 0, 2}, run(AssignRows, 3, m...))
	require.Equal(t, []float64{0, 1, 2}, run(AssignGreedy, 3, m...))
	require.Equal(t, []float64{1, 0, 2}, run(AssignHungarian, 3, m...))
	require.Equal(t, []float64{0, 1}, run(AssignGreedy, 2, .5, .5, .5, .5)) // ties: the first
	require.Equal(t, []float64{-1, 0, 0}, run(AssignRows, 3, 0, 0, 0, 1, 0, 0, .5, .5, 0))
	require.Equal(t, []float64{1, 0, -1}, run(AssignHungarian, 3, .2, .8, 0, .8, .2, 0, 0, 0, 0))
	require.Equal(t, []float64{1, 0, -1}, run(AssignGreedy, 3, .2, .8, 0, .7, .2, 0, 0, 0, 0))

	b := New(gorgonia.NewGraph(), NewParams(tensor.Float64), Options{})
	AssignBlocks(b, b.Input("p", tensor.Float64, 1, 1, 65, 65), AssignHungarian)
	require.ErrorContains(t, b.Err(), "65 blocks are too many for hungarian")
}

// The best assignment is that of all orders.
func TestSinkhornBlocksAssignedBest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 6).Draw(t, "n")
		p := make([]float64, n*n)
		for i := range p {
			p[i] = 0.01 + uniform(rapid.Uint64Range(0, 1<<30).Draw(t, "seed"), i)
		}
		got := make([]int32, n)
		assignBest(n, p, got)
		best, sum := math.Inf(-1), 0.0
		order := make([]int, 0, n)
		var try func(sum float64)
		try = func(sum float64) {
			if len(order) == n {
				best = max(best, sum)
				return
			}
			for v := range n {
				if !slices.Contains(order, v) {
					u := len(order)
					order = append(order, v)
					try(sum + math.Log(p[u*n+v]))
					order = order[:u]
				}
			}
		}
		try(0)
		seen := map[int32]bool{}
		for u, v := range got {
			seen[v] = true
			sum += math.Log(p[u*n+int(v)])
		}
		require.Len(t, seen, n)
		require.InDelta(t, best, sum, 1e-9)
	})
}

// Chosen blocks are copied, and the gradient goes straight to all weights, as if they had been mixed by ones.
func TestMixOfChosenBlocks(t *testing.T) {
	const n, size, heads, d = 4, 3, 2, 5
	chosen := []int32{2, 0, -1, 2, 3, 3, 0, 1}
	run := func(hard bool) [][]float64 {
		b := New(gorgonia.NewGraph(), NewParams(tensor.Float64), Options{})
		p, x := b.Input("p", tensor.Float64, 1, heads, n, n), b.Input("x", tensor.Float64, 1, 11, heads*d)
		randomise(InputValue(x), "x")
		which := b.Const("chosen", tensor.New(tensor.WithShape(1, heads, n), tensor.WithBacking(slices.Clone(chosen))))
		weights, c := p, MixConfig{Size: size, Own: true, Chosen: which}
		if !hard {
			one := OneHotBlocks(b, which, p)
			weights, c.Chosen = Add(b, p, one), nil
		} else {
			randomise(InputValue(p), "p") // not read
		}
		y := MixBlocks(b, weights, x, c)
		w := b.Input("w", tensor.Float64, y.Shape()...)
		randomise(InputValue(w), "w")
		cost := Sum(b, Mul(b, y, w))
		require.NoError(t, b.Err())
		ds, err := engine.VJP(Nodes{cost}, Nodes{engine.Fill(b.Graph(), engine.TypeOf(cost), 1)}, Nodes{p, x}, nil)
		require.NoError(t, err)
		return ran(t, b, y, ds[0], ds[1])
	}
	soft, hard := run(false), run(true)
	for i, what := range []string{"rows", "gradient of the weights", "gradient of the rows"} {
		require.InDeltaSlice(t, soft[i], hard[i], 1e-12, what)
	}
}

// A slot's weights change places with the blocks: what it is made of stays the same.
func TestMixOfPermutedBlocks(t *testing.T) {
	const n, size, d = 5, 3, 4
	order := []int{3, 0, 4, 1, 2}
	run := func(order []int) []float64 {
		b := New(gorgonia.NewGraph(), NewParams(tensor.Float64), Options{})
		q, k := b.Input("q", tensor.Float64, 1, n, d), b.Input("k", tensor.Float64, 1, n*size, d)
		randomise(InputValue(q), "q")
		all := make([]float64, n*size*d)
		for i := range all {
			all[i] = 2*uniform(3, i) - 1
		}
		for v, from := range order {
			copy(InputValue(k).Float64s()[v*size*d:][:size*d], all[from*size*d:])
		}
		r := HeadScores(b, q, PoolBlocks(b, k, nil, size, BlockMean), 1, 0.5)
		p := Sinkhorn(b, r, nil, SinkhornConfig{Tau: 0.75, Iterations: 8, FinishRow: true})
		return ran(t, b, MixBlocks(b, p, k, MixConfig{Size: size}))[0]
	}
	require.InDeltaSlice(t, run([]int{0, 1, 2, 3, 4}), run(order), 1e-12)
}

// Equal bits whatever the number of workers, and no allocation once warm.
func TestSinkhornIsSteady(t *testing.T) {
	b := New(gorgonia.NewGraph(), NewParams(tensor.Float32), Options{Seed: 1, Training: true})
	r, x := b.Input("r", tensor.Float32, 2, 3, 37, 37), b.Input("x", tensor.Float32, 2, 148, 24)
	randomise(InputValue(r), "r")
	randomise(InputValue(x), "x")
	p := Sinkhorn(b, r, nil, SinkhornConfig{Tau: 0.75, Iterations: 4, Gumbel: true, FinishRow: true})
	cost := Sum(b, MixBlocks(b, p, Mul(b, x, x), MixConfig{Size: 4, Own: true}))
	require.NoError(t, b.Err())
	ds, err := engine.VJP(Nodes{cost}, Nodes{engine.Fill(b.Graph(), engine.TypeOf(cost), 1)}, Nodes{r, x}, nil)
	require.NoError(t, err)
	program, err := engine.Compile(b.Graph(), ds, engine.Options{})
	require.NoError(t, err)
	var want [][]float64
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	for _, workers := range []int{1, 2, 3} {
		runtime.GOMAXPROCS(workers)
		require.NoError(t, program.Run())
		got := [][]float64{floats(program.Value(ds[0])), floats(program.Value(ds[1]))}
		if want == nil {
			want = got
		}
		require.Equal(t, want, got)
	}
	require.Zero(t, testing.AllocsPerRun(5, func() { require.NoError(t, program.Run()) }))
}
