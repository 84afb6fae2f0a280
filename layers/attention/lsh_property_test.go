package attention

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/kernels"
	"github.com/euryale-ml/euryale/layers"
)

// bucketsOf hashes vectors [T,D] of one head in one round.
func bucketsOf(t *testing.T, factors []int, vectors [][]float64, columns ...[]float64) []int32 {
	s, d := newStructured(tensor.Float64), len(vectors[0])
	x := s.b.Input("x", tensor.Float64, 1, len(vectors), d)
	g := s.b.Input("g", tensor.Float64, 1, 1, len(columns), d)
	copy(layers.InputValue(x).Float64s(), slices.Concat(vectors...))
	copy(layers.InputValue(g).Float64s(), slices.Concat(columns...))
	n := Hash(s.b, Hashing{Heads: 1, Factors: factors}, x, g)
	require.NoError(t, s.b.Err())
	return whole(t, s.b, n)
}

func whole(t *testing.T, b *layers.Builder, n *Node) []int32 {
	p, err := engine.Compile(b.Graph(), Nodes{n}, engine.Options{})
	require.NoError(t, err)
	require.NoError(t, p.Run())
	return slices.Clone(engine.Ints(p.Value(n)))
}

// By hand: the identity as rotations; ties and zero go to the first.
func TestHashByHand(t *testing.T) {
	got := bucketsOf(t, []int{4}, [][]float64{{1, 0}, {0, 1}, {-1, 0}, {0, -1}, {1, 1}, {0, 0}, {math.Copysign(0, -1), 0}}, []float64{1, 0}, []float64{0, 1})
	require.Equal(t, []int32{0, 1, 2, 3, 0, 0, 0}, got)
	// Factors 2 and 4: a_0 = 1 (the first number is negative), a_1 = 2 (the second one is, and larger than the third), so 1 + 2·2.
	got = bucketsOf(t, []int{2, 4}, [][]float64{{-1, -3, 2}}, []float64{1, 0, 0}, []float64{0, 1, 0}, []float64{0, 0, 1})
	require.Equal(t, []int32{5}, got)
	require.Equal(t, []int32{0}, bucketsOf(t, []int{2}, [][]float64{{math.NaN()}}, []float64{1}))
}

// Both ways to find the largest are one function, with ties, zeros, infinities and NaN.
func TestArgmaxOfBoth(t *testing.T) {
	values := []float32{0, float32(math.Copysign(0, -1)), 1, -1, 2, -2, 1e-40, -1e-40, float32(math.Inf(1)), float32(math.Inf(-1)), float32(math.NaN())}
	for k := range 20_000 {
		x, y := make([]float32, 1+k%5), make([]float64, 1+k%5)
		for i := range x {
			x[i] = values[int(math.Abs(noise("argmax", 7*k+i))*1e6)%len(values)]
			y[i] = float64(x[i])
		}
		require.Equal(t, argmaxOfBoth(y), argmaxOfBoth(x), "%v", x)
	}
}

// By hand: six tokens in chunks of two.
func TestSortedChunksByHand(t *testing.T) {
	s := newStructured(tensor.Float64)
	buckets := s.ints("buckets", []int32{1, 0, 1, 0, 2, 1}, 1, 1, 1, 6)
	order := SortBuckets(s.b, buckets, nil)
	require.Equal(t, []int32{1, 3, 0, 2, 5, 4}, whole(t, s.b, order))
	a := LSH{Chunk: 2, Hashes: 1, Before: 1, Causal: true}
	count := found(a, []int32{1, 3, 0, 2, 5, 4}, nil, 6, 6)
	var keys [][]int
	for _, row := range count {
		var of []int
		for j, n := range row {
			if n > 0 {
				of = append(of, j)
			}
		}
		keys = append(keys, of)
	}
	require.Equal(t, [][]int{nil, nil, {0, 1}, {1}, {0, 2}, {0, 2, 4}}, keys)
	qk, v := s.input("qk", 1, 6, 3), s.input("v", 1, 6, 3)
	o, lse := a.Attend(s.b, LSHInputs{QK: qk, V: v, Heads: 1, Buckets: buckets})
	require.NoError(t, s.b.Err())
	p, err := engine.Compile(s.b.Graph(), Nodes{o, lse}, engine.Options{})
	require.NoError(t, err)
	require.NoError(t, p.Run())
	got, values := numbers(p.Value(o)), layers.InputValue(v).Float64s()
	require.InDeltaSlice(t, a.dense(layers.InputValue(qk).Float64s(), values, 3, 6, count), got, 1e-12)
	require.Equal(t, values[:6], got[:6], "the first two find nothing")
	require.Equal(t, []float64{0, 0}, numbers(p.Value(lse))[:2])
	require.Equal(t, values[3:6], got[9:12], "token 3 reads token 1 alone")
}

// By hand: a key of both rounds and one of the first alone, equal scores.
func TestDuplicatesByHand(t *testing.T) {
	for dup, want := range map[string]float64{DupCount: 2.0 / 3, DupOnce: 1.0 / 2} {
		s := newStructured(tensor.Float64)
		qk, v := s.input("qk", 1, 3, 2), s.input("v", 1, 3, 1)
		clear(layers.InputValue(qk).Float64s())
		copy(layers.InputValue(v).Float64s(), []float64{1, 0, 7})
		// The first round has the chunks {0,1} and {2}, of which the second reads the first; in the second round {0,2} are a chunk, 1 is behind it.
		buckets := s.ints("buckets", []int32{0, 0, 1, 0, 1, 0}, 1, 1, 2, 3)
		a := LSH{Chunk: 2, Hashes: 2, Before: 1, Causal: true, Dup: dup}
		o, _ := a.Attend(s.b, LSHInputs{QK: qk, V: v, Heads: 1, Buckets: buckets})
		s.out = o
		require.InDelta(t, want, s.values(t)[2], 1e-12, dup)
	}
}

// The default number of buckets, and its factors.
func TestLSHFactors(t *testing.T) {
	for n, want := range map[int][]int{0: {2}, 1: {2}, 64: {2}, 100: {4}, 512: {16}, 1024: {16, 2}, 4096: {16, 8}, 1 << 14: {16, 16, 2}, 1 << 15: {16, 16, 4}} {
		require.Equal(t, want, LSHFactors(n, 64), n)
	}
	for _, n := range []int{100, 5000, 1 << 20} {
		product := 1
		for _, f := range LSHFactors(n, 32) {
			require.LessOrEqual(t, f, 16)
			require.Zero(t, f%2)
			product *= f
		}
		require.InDelta(t, math.Log2(2*float64(n)/32), math.Log2(float64(product)), 0.5)
	}
}

// Vectors that point the same way share a bucket whatever their length, opposite ones never do; rotations change with the step alone, and further
// rounds change none that are there.
func TestHashing(t *testing.T) {
	run := func(rounds, step int, factor float64) []int32 {
		s := newStructured(tensor.Float64)
		x := s.input("x", 1, 50, 2*7)
		for i, v := range layers.InputValue(x).Float64s() {
			layers.InputValue(x).Float64s()[i] = factor * v
		}
		g := Rotations(s.b, 2, rounds, 7, lshColumns([]int{6, 4}, 50, 5), false)
		n := Hash(s.b, Hashing{Heads: 2, Factors: []int{6, 4}}, x, g)
		layers.InputValue(s.b.Step()).Int32s()[0] = int32(step)
		return whole(t, s.b, n)
	}
	two := run(2, 0, 1)
	require.Equal(t, two, run(2, 0, 3))
	require.NotEqual(t, two, run(2, 1, 1))
	require.Greater(t, slices.Max(two), int32(12))
	three, minus := run(3, 0, 1), run(2, 0, -1)
	for h := range 2 {
		require.Equal(t, two[h*100:][:100], three[h*150:][:100])
	}
	require.NotEqual(t, two[:50], two[50:100])
	for i := range two {
		a, b := two[i], minus[i]
		require.EqualValues(t, 3, (b-a+24)%6, "the first factor has its opposite 3 on: %d, %d", a, b)
		require.NotEqual(t, a, b)
	}
}

// Rotations are normal, and vectors meet as often as their angle says.
func TestCollisions(t *testing.T) {
	const d, pairs = 32, 400
	s := newStructured(tensor.Float64)
	x := s.input("x", 1, 2*pairs, d)
	v := layers.InputValue(x).Float64s()
	for p := range pairs {
		a, b := v[2*p*d:][:d], v[(2*p+1)*d:][:d]
		aa, ab := 0.0, 0.0
		for k := range d {
			a[k], b[k] = gauss(fmt.Sprint("a", p), k), gauss(fmt.Sprint("b", p), k)
			aa, ab = aa+a[k]*a[k], ab+a[k]*b[k]
		}
		rest := 0.0
		for k := range d {
			b[k] -= ab / aa * a[k]
			rest += b[k] * b[k]
		}
		for k := range d { // at an angle whose cosine is .9
			b[k] = 0.9*a[k] + math.Sqrt(1-0.81)*math.Sqrt(aa/rest)*b[k]
		}
	}
	n := Hash(s.b, Hashing{Heads: 1, Factors: []int{32}}, x, Rotations(s.b, 1, 20, d, []int{16}, false))
	buckets, meet := whole(t, s.b, n), 0
	for r := range 20 {
		for p := range pairs {
			if buckets[r*2*pairs+2*p] == buckets[r*2*pairs+2*p+1] {
				meet++
			}
		}
	}
	require.InDelta(t, 0.55, float64(meet)/(20*pairs), 0.03)
}

// gauss is a normal number by noise of two kinds.
func gauss(name string, i int) float64 {
	sum := 0.0
	for k := range 12 {
		sum += noise(fmt.Sprint(name, k), i)
	}
	return sum
}

// One chunk is dense attention with shared queries and keys, whatever the buckets; so are chunks of which a query reads all.
func TestLSHOfOneChunk(t *testing.T) {
	const n = 11
	dense := make([][]int, n)
	for i := range dense {
		dense[i] = make([]int, n)
		for j := range i {
			dense[i][j] = 1
		}
	}
	for _, a := range []LSH{{Chunk: n, Hashes: 1}, {Chunk: 64, Hashes: 3, Dup: DupCount}, {Chunk: 64, Hashes: 2, Wrap: WrapAcross, Dup: DupCount}, {Chunk: 2, Hashes: 2, Before: 9, After: 9},
		{Chunk: 3, Hashes: 4, Before: 9, After: 9, Dup: DupCount}} {
		a.Causal = true
		h := hashedOf(t, a, 1, 4, n, []int32{n}, tensor.Float64)
		o, _, _, _ := h.all(t)
		require.InDeltaSlice(t, a.dense(layers.InputValue(h.qk).Float64s(), layers.InputValue(h.v).Float64s(), 4, n, dense), o, 1e-12, "%+v", a)
	}
}

// Rounds with equal rotations add nothing, whether pairs count once or as often as they are found; with different ones they do, and more rounds find more.
func TestRounds(t *testing.T) {
	run := func(rounds int, equal bool, dup string) ([]float64, int) {
		s := newStructured(tensor.Float64)
		qk, v := s.input("qk", 1, 60, 8), s.input("v", 1, 60, 8)
		g := Rotations(s.b, 1, rounds, 8, []int{4, 4}, false)
		if equal {
			one := Rotations(s.b, 1, 1, 8, []int{4, 4}, true)
			g = layers.Concat(s.b, 1, slices.Repeat([]*Node{one}, rounds)...)
		}
		a := LSH{Chunk: 4, Hashes: rounds, Before: 1, Causal: true, Dup: dup, Factors: []int{8, 8}}
		s.out, _ = a.Attend(s.b, LSHInputs{QK: qk, V: v, Heads: 1, Rotations: g})
		order := whole(t, s.b, SortBuckets(s.b, a.buckets(s.b, LSHInputs{QK: qk, V: v, Heads: 1, Rotations: g}), nil))
		pairs := 0
		for _, row := range found(a, order, nil, 60, 60) {
			for _, c := range row {
				pairs += min(c, 1)
			}
		}
		for r := range rounds { // every token stands in every round once
			sorted := slices.Clone(order[r*60:][:60])
			slices.Sort(sorted)
			for i, x := range sorted {
				require.EqualValues(t, i, x)
			}
		}
		return s.values(t), pairs
	}
	one, _ := run(1, true, DupOnce)
	for _, dup := range []string{DupOnce, DupCount} {
		three, _ := run(3, true, dup)
		require.InDeltaSlice(t, one, three, 1e-12, dup)
	}
	once, pairs := run(3, false, DupOnce)
	count, _ := run(3, false, DupCount)
	require.Greater(t, largestDifference(once, count), 1e-4)
	_, fewer := run(2, false, DupOnce)
	_, fewest := run(1, false, DupOnce)
	require.Less(t, fewest, fewer)
	require.Less(t, fewer, pairs)
}

func largestDifference(x, y []float64) (d float64) {
	for i := range x {
		d = max(d, math.Abs(x[i]-y[i]))
	}
	return d
}

// Chunks are value-causal (C0): with what was chosen kept, no gradient goes to later tokens, while a later token does change what is chosen. The last
// tokens of a bucket are prefix-exact (C1): no later token changes anything, to the bit.
func TestLSHCausalityClasses(t *testing.T) {
	const n = 37
	for _, a := range []LSH{{Chunk: 4, Hashes: 2, Before: 1, Causal: true}, {Chunk: 4, Hashes: 2, Before: 1, Causal: true, Wrap: WrapAcross, Dup: DupCount},
		{Chunk: 4, Hashes: 2, Causal: true, Plan: BucketRecent}} {
		h := hashedOf(t, a, 2, 5, n, []int32{n}, tensor.Float64)
		before, _, _, _ := h.all(t)
		moved := 0
		for j := range n {
			for _, x := range []*Node{h.qk, h.v} {
				row := layers.InputValue(x).Float64s()[j*10:][:10]
				keep := slices.Clone(row)
				for k := range row {
					row[k] += 3 * gauss("moved", j*10+k)
				}
				after, _, _, _ := h.all(t)
				copy(row, keep)
				if !slices.Equal(before[:j*10], after[:j*10]) {
					moved++
				}
			}
		}
		if a.Class() == "C1" {
			require.Zero(t, moved, "%+v", a)
		} else {
			require.Equal(t, "C0", a.Class())
			require.NotZero(t, moved, "%+v", a)
		}
		// gradients of every row alone
		for _, i := range []int{0, 7, 20, n - 2} {
			w := h.b.Input(fmt.Sprint("weights of row ", i), tensor.Float64, 1, n, 10)
			for k := range 10 {
				layers.InputValue(w).Float64s()[i*10+k] = noise("weights", k)
			}
			cost := layers.Sum(h.b, layers.Mul(h.b, h.out, w))
			g, err := engine.VJP(Nodes{cost}, Nodes{engine.Fill(h.b.Graph(), engine.TypeOf(cost), 1)}, Nodes{h.qk, h.v}, nil)
			require.NoError(t, err)
			p, err := engine.Compile(h.b.Graph(), Nodes{g[0], g[1]}, engine.Options{})
			require.NoError(t, err)
			require.NoError(t, p.Run())
			for k, d := range g {
				later := numbers(p.Value(d))[(i+1)*10:]
				require.Equal(t, make([]float64, len(later)), later, "%+v: gradient %d of row %d", a, k, i)
			}
		}
	}
	require.Empty(t, LSH{}.Class())
}

// Edge cases: tokens alike, zeros, huge scores, in single precision too.
func TestLSHOfOddTokens(t *testing.T) {
	lens := []int32{24}
	for name, value := range map[string]func(i int) float64{"alike": func(i int) float64 { return float64(i%5) - 2 }, "zero": func(int) float64 { return 0 },
		"huge": func(i int) float64 { return 1e4 * noise("huge", i) }} {
		h := hashedOf(t, LSH{Chunk: 4, Hashes: 2, Before: 1, Causal: true}, 2, 5, 24, lens, tensor.Float64)
		for i := range layers.InputValue(h.qk).Float64s() {
			layers.InputValue(h.qk).Float64s()[i] = value(i % 10)
		}
		h.agrees(t, lens, 1e-9)
		_, _, buckets, _ := h.all(t)
		if name != "huge" { // tokens alike are in one bucket, by position
			require.Equal(t, slices.Repeat(buckets[:1], 24), buckets[:24], name)
		}
		single := hashedOf(t, h.of, 2, 5, 24, lens, tensor.Float32)
		for i, v := range layers.InputValue(h.qk).Float64s() {
			layers.InputValue(single.qk).Float32s()[i] = float32(v)
		}
		o, _, _, _ := single.all(t)
		for _, x := range o {
			require.False(t, math.IsNaN(x) || math.IsInf(x, 0), name)
		}
	}
}

// The hash is the one cost that grows faster, and only with a single factor: the number of operations says so.
func TestCostOfHashing(t *testing.T) {
	work := func(single bool) (hashing, attending []float64) {
		for _, n := range []int{1024, 2048, 4096} {
			a := LSH{Chunk: 32, Hashes: 2, Before: 1, Causal: true}
			if single {
				a.Factors = []int{2 * n / 32}
			}
			h := hashedOf(t, a, 1, 16, n, []int32{int32(n)}, tensor.Float32)
			in := engine.Children(h.buckets)
			hashing = append(hashing, engine.OpOf(h.buckets).(engine.Coster).Flops([]engine.Type{engine.TypeOf(in[0]), engine.TypeOf(in[1])}, engine.TypeOf(h.buckets)))
			p, err := engine.Compile(h.b.Graph(), Nodes{h.out}, engine.Options{})
			require.NoError(t, err)
			attending = append(attending, float64(kernels.CountProducts(func() { require.NoError(t, p.Run()) })))
		}
		return hashing, attending
	}
	x := []float64{1024, 2048, 4096}
	hashing, attending := work(false)
	require.InDelta(t, 1, exponent(x, attending), 0.15)
	for k, n := range x {
		perToken := hashing[k] / n / (2 * 2 * 16) // columns, of two rounds and vectors of 16
		require.InDelta(t, 1.5*math.Log2(2*n/32), perToken, 0.5*math.Log2(2*n/32), "O(n log n)")
	}
	trap, _ := work(true)
	require.InDelta(t, 2, exponent(x, trap), 0.05)
}
