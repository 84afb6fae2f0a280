package attention

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
	"pgregory.net/rapid"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/splitmix"
	"github.com/euryale-ml/euryale/layers"
)

// choiceOf runs a choice of keys for q and k [B,T,H,D] in float64 and returns the lists by [B,H,TQ].
func choiceOf(t require.TestingT, heads, d int, q, k [][]float64, lens []int32, o layers.Options, choose func(b *layers.Builder, c Chosen, q, k *Node) *Node) [][]int32 {
	b := layers.New(gorgonia.NewGraph(), layers.NewParams(tensor.Float64), o)
	input := func(name string, x [][]float64) *Node {
		n := b.Input(name, tensor.Float64, len(x), len(x[0])/heads/d, heads, d)
		for i, v := range x {
			copy(layers.InputValue(n).Float64s()[i*len(v):], v)
		}
		return n
	}
	qn, kn := input("q", q), input("k", k)
	c := Chosen{Heads: heads, Cross: len(q[0]) != len(k[0])}
	if lens != nil {
		c.Lens = keysNode(b, "lens", lens, len(lens))
	}
	keys := choose(b, c, qn, kn)
	require.NoError(t, b.Err())
	p, err := engine.Compile(b.Graph(), Nodes{keys}, engine.Options{})
	require.NoError(t, err)
	require.NoError(t, p.Run())
	all, w := engine.Ints(p.Value(keys)), keys.Shape()[3]
	var lists [][]int32
	for ; len(all) > 0; all = all[w:] {
		lists = append(lists, slices.DeleteFunc(slices.Clone(all[:w]), func(j int32) bool { return j < 0 }))
	}
	return lists
}

// exactly is the choice of TopK.
func exactly(k int, causal bool) func(b *layers.Builder, c Chosen, q, k *Node) *Node {
	return func(b *layers.Builder, c Chosen, qn, kn *Node) *Node {
		return TopKeys(b, TopK{K: k, Causal: causal}, c, nil, qn, kn)
	}
}

// normals are n numbers of a normal distribution.
func normals(name string, n int) []float64 {
	x := make([]float64, n)
	for i := range x {
		x[i] = normal(splitmix.Mix(uint64(len(name))*31+uint64(name[0])), uint64(i))
	}
	return x
}

// products of one query with keys of d numbers.
func productsOf(q, k []float64, d int) []float64 {
	s := make([]float64, len(k)/d)
	for j := range s {
		for e := range d {
			s[j] += q[e] * k[j*d+e]
		}
	}
	return s
}

// What content.md wants of the choice of top-k, one by one.
func TestTopKeysProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n, d := rapid.SampledFrom([]int{1, 2, 7, 13, 41, 67}).Draw(t, "n"), rapid.SampledFrom([]int{1, 3, 8}).Draw(t, "d")
		name := fmt.Sprint(rapid.IntRange(0, 99).Draw(t, "seed"))
		q, k := normals("q"+name, n*d), normals("keys"+name, n*d)
		var before float64
		for _, size := range []int{1, 5, n} {
			lists := choiceOf(t, 1, d, [][]float64{q}, [][]float64{k}, nil, layers.Options{}, exactly(size, false))
			var scores [][]float64
			for i, list := range lists {
				require.Len(t, list, min(size, n))
				require.True(t, slices.IsSorted(list))
				scores = append(scores, productsOf(q[i*d:][:d], k, d))
				for _, j := range list {
					for other, s := range scores[i] {
						require.True(t, slices.Contains(list, int32(other)) || scores[i][j] >= s)
					}
				}
			}
			mass := MassRecall(lists, scores)
			require.GreaterOrEqual(t, mass, before-1e-12, "mass grows with k")
			if before = mass; size == n {
				require.InDelta(t, 1, mass, 1e-12)
			}
			require.Equal(t, 1.0, Recall(lists, lists))
			require.Equal(t, 1.0, TieRecall(lists, lists, scores))
		}
		causal := choiceOf(t, 1, d, [][]float64{q}, [][]float64{k}, nil, layers.Options{}, exactly(3, true))
		for i, list := range causal {
			require.Len(t, list, min(3, i+1))
			require.LessOrEqual(t, int(list[len(list)-1]), i)
		}
		// Keys in another order are chosen as they are there.
		perm := shuffle("order "+name, n)
		moved := make([]float64, n*d)
		for to, from := range perm {
			copy(moved[to*d:][:d], k[int(from)*d:])
		}
		lists := choiceOf(t, 1, d, [][]float64{q}, [][]float64{k}, nil, layers.Options{}, exactly(2, false))
		for i, list := range choiceOf(t, 1, d, [][]float64{q}, [][]float64{moved}, nil, layers.Options{}, exactly(2, false)) {
			for x := range list {
				list[x] = perm[list[x]]
			}
			slices.Sort(list)
			require.Equal(t, lists[i], list)
		}
	})
}

// The column of content.md, section 15.
func TestTopKEdgeCases(t *testing.T) {
	attend := func(a TopK, n int, x []float64, lens []int32, decoder bool) []float64 {
		b := layers.New(gorgonia.NewGraph(), layers.NewParams(tensor.Float64), layers.Options{})
		a.Causal = decoder
		in := b.Input("x", tensor.Float64, 1, n, 2)
		copy(layers.InputValue(in).Float64s(), x)
		s := Stream{X: in, QKV: []*Node{in, in, in}, Heads: 1}
		if lens != nil {
			s.Lens = keysNode(b, "lens", lens, 1)
		}
		o := a.Mix(b, s)
		require.NoError(t, b.Err())
		p, err := engine.Compile(b.Graph(), Nodes{o}, engine.Options{CheckFinite: true})
		require.NoError(t, err)
		require.NoError(t, p.Run())
		return numbers(p.Value(o))
	}
	for _, decoder := range []bool{false, true} {
		require.Equal(t, []float64{3, 4}, attend(TopK{K: 5}, 1, []float64{3, 4}, nil, decoder), "one token reads itself")
		require.Equal(t, make([]float64, 6), attend(TopK{K: 2}, 3, []float64{1, 2, 3, 4, 5, 6}, []int32{0}, decoder), "all padding")
		require.Equal(t, []float64{1, 2, 0, 0}, attend(TopK{K: 1}, 2, []float64{1, 2, 300, 400}, []int32{1}, decoder), "one is no padding")
	}
	x := normals("x", 2*7)
	full := attend(TopK{K: 7}, 7, x, nil, true)
	require.Equal(t, full, attend(TopK{K: 100}, 7, x, nil, true))
	s := scene{of: Causal(Full{}), b: 1, tq: 7, tk: 7, heads: 1, d: 2, dv: 2}
	want := s.build(t, tensor.Float64)
	for _, n := range want.in {
		copy(layers.InputValue(n).Float64s(), x)
	}
	close(t, want.run(t).o, full, 1e-12, "all keys: full attention")
	huge := attend(TopK{K: 2}, 3, []float64{1e4, 0, -1e4, 0, 0, 1e4}, nil, false)
	require.Equal(t, []float64{1e4, 0, -1e4, 0, 0, 1e4}, huge, "scores of 1e8")

	same := []float64{1, 1, 2, 2, 1, 1, 2, 2, 2, 2}
	lists := choiceOf(t, 1, 2, [][]float64{same}, [][]float64{same}, nil, layers.Options{}, exactly(2, false))
	require.Equal(t, []int32{1, 3}, lists[0], "of equal keys the first")
	lists = choiceOf(t, 1, 2, [][]float64{make([]float64, 10)}, [][]float64{same}, nil, layers.Options{}, exactly(3, false))
	require.Equal(t, []int32{0, 1, 2}, lists[4], "a zero query ties with all")

	b := layers.New(gorgonia.NewGraph(), layers.NewParams(tensor.Float64), layers.Options{})
	in := b.Input("x", tensor.Float64, 1, 3, 2)
	TopKeys(b, TopK{}, Chosen{Heads: 1}, nil, in, in)
	require.ErrorContains(t, b.Err(), "k is 0, want at least 1")
}

func init() { // for Gorgonia's own machine
	for name, m := range map[string]Mixer{"topk": TopK{K: 2, Causal: true}, "mips": MIPS{K: 2, Index: HashSRP, Rerank: true, Bits: 1}} {
		mixers[name] = func(t require.TestingT) (*Node, Nodes) {
			b := layers.New(gorgonia.NewGraph(), layers.NewParams(tensor.Float64), layers.Options{})
			x := b.Input("x", tensor.Float64, 1, 7, 6)
			fillFrom(layers.InputValue(x), "x of "+name)
			o := m.Mix(b, Stream{X: x, QKV: []*Node{x, x, x}, Heads: 2})
			require.NoError(t, b.Err())
			return layers.Sum(b, layers.Mul(b, o, o)), Nodes{x}
		}
	}
}

// TopK as cross-attention reads only the memory, and no padding of it.
func TestTopKAcross(t *testing.T) {
	const tq, tk, d = 5, 23, 4
	q, k := normals("q", 2*tq*d), normals("keys", 2*tk*d)
	lists := choiceOf(t, 1, d, [][]float64{q[:tq*d], q[tq*d:]}, [][]float64{k[:tk*d], k[tk*d:]}, []int32{23, 2}, layers.Options{}, exactly(4, false))
	for i, list := range lists {
		if i < tq {
			require.Len(t, list, 4)
			continue
		}
		require.Equal(t, []int32{0, 1}, list)
	}
	require.True(t, math.IsNaN(Recall(nil, nil)))
}
