package attention

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/layers"
)

// sorting is that of most tests.
func sorting(size int, causal bool) Sorting {
	return Sorting{Size: size, Tau: 0.75, Iterations: 4, FinishRow: true, Causal: causal}
}

// sinkhornOf is a mixer over x [2,T,6] without padding.
func sinkhornOf(m Mixer, t int) *structured {
	s := newStructured(tensor.Float64)
	x := s.input("x", 2, t, 6)
	s.out = m.Mix(s.b, s.stream(x, 2, nil))
	return s
}

func init() { // whole blocks, where nothing stops a gradient
	for _, causal := range []bool{false, true} {
		for _, combine := range []string{CombineConcat, CombineSumOut, CombineSumScore, CombineMixture} {
			mixers[fmt.Sprintf("sinkhorn %s, causal %v", combine, causal)] = func(t require.TestingT) (*Node, Nodes) {
				return sinkhornOf(Sinkhorn{Sorting: sorting(3, causal), Combine: combine}, 9).cost(t)
			}
		}
		for _, net := range []string{NetMLP, NetLinear} {
			mixers[fmt.Sprintf("sinkhorn %s, causal %v", net, causal)] = func(t require.TestingT) (*Node, Nodes) {
				a := Sinkhorn{Sorting: sorting(3, causal)}
				a.Net, a.MaxBlocks = net, 5
				s := sinkhornOf(a, 9)
				for _, p := range s.b.Params().All() { // at 0 a network has kinks
					fillFrom(p.Value, p.Name)
				}
				return s.cost(t)
			}
		}
	}
	mixers["sortcut, whole blocks"] = func(t require.TestingT) (*Node, Nodes) {
		return sinkhornOf(SortCut{Sorting: sorting(3, false), Slots: 2}, 12).cost(t)
	}
}

// run gives values of nodes.
func (s *structured) run(t require.TestingT, nodes ...*Node) (all [][]float64) {
	require.NoError(t, s.b.Err())
	p, err := engine.Compile(s.b.Graph(), nodes, engine.Options{CheckFinite: true})
	require.NoError(t, err)
	require.NoError(t, p.Run())
	for _, n := range nodes {
		all = append(all, numbers(p.Value(n)))
	}
	return all
}

// forced is sinkhorn over x [1,t,6] with 2 heads whose sort matrix is close to a given order: slot u has block order[u].
func forced(t *testing.T, size, tokens int, causal bool, order []int, lens []int32, a Sinkhorn) (s *structured, q, k, v *Node) {
	s = newStructured(tensor.Float64)
	x := s.input("x", 1, tokens, 6)
	in := s.stream(x, 2, nil)
	if lens != nil {
		in.Lens = s.ints("lens", lens, 1)
	}
	n := len(order)
	noise := make([]float64, 2*n*n)
	for h := range 2 {
		for u, v := range order {
			noise[(h*n+u)*n+v] = 1e4
		}
	}
	a.Sorting = sorting(size, causal)
	a.Noise = s.b.Const("noise", tensor.New(tensor.WithShape(1, 2, n, n), tensor.WithBacking(noise)))
	s.out = a.Mix(s.b, in)
	q, k, v = in.Split(s.b)
	require.NoError(t, s.b.Err())
	return s, q, k, v
}

// With the identity as sort matrix each key is there twice: plain attention within blocks. With one block it is attention on all.
func TestSinkhornOfIdentity(t *testing.T) {
	for _, c := range []struct{ size, tokens int }{{4, 12}, {20, 9}} {
		s, q, k, v := forced(t, c.size, c.tokens, false, []int{0, 1, 2}[:(c.tokens+c.size-1)/c.size], nil, Sinkhorn{})
		local, _ := Attend(s.b, Config{Pattern: Blocks{Size: c.size}, Heads: 2}, q, k, v)
		all := s.run(t, s.out, local)
		require.InDeltaSlice(t, all[1], all[0], 1e-12)
	}
}

// With a permutation as sort matrix queries of a block read that of the slot, in each way of putting both together.
func TestSinkhornOfPermutation(t *testing.T) {
	const size, tokens = 4, 12
	order := []int{2, 0, 1}
	other := explicitBlocks{size, order}
	for combine, want := range map[string]func(s *structured, q, k, v *Node) *Node{
		CombineConcat: func(s *structured, q, k, v *Node) *Node {
			p, err := Union(Blocks{Size: size}, other)
			require.NoError(t, err)
			o, _ := Attend(s.b, Config{Pattern: p, Heads: 2}, q, k, v)
			return o
		},
		CombineSumOut: func(s *structured, q, k, v *Node) *Node {
			a, _ := Attend(s.b, Config{Pattern: Blocks{Size: size}, Heads: 2}, q, k, v)
			b, _ := Attend(s.b, Config{Pattern: other, Heads: 2}, q, k, v)
			return layers.Add(s.b, a, b)
		},
		CombineSumScore: func(s *structured, q, k, v *Node) *Node {
			index := make([]int32, tokens)
			for i := range index {
				index[i] = int32(order[i/size]*size + i%size)
			}
			at := s.ints("sorted", index, tokens)
			o, _ := Attend(s.b, Config{Pattern: Blocks{Size: size}, Heads: 2}, q, layers.Add(s.b, k, layers.Gather(s.b, k, at)), layers.Gather(s.b, v, at))
			return o
		},
		CombineMixture: func(s *structured, q, k, v *Node) *Node {
			p, err := Union(Blocks{Size: size}, other)
			require.NoError(t, err)
			a, _ := Attend(s.b, Config{Pattern: p, Heads: 2}, q, k, v)
			b, _ := Attend(s.b, Config{Heads: 2}, q, k, v)
			return layers.Add(s.b, a, b)
		},
	} {
		s, q, k, v := forced(t, size, tokens, false, order, nil, Sinkhorn{Combine: combine})
		all := s.run(t, s.out, want(s, q, k, v))
		require.InDeltaSlice(t, all[1], all[0], 1e-10, combine)
		if combine == CombineConcat { // what is chosen for good is the same
			for _, how := range []layers.Assignment{layers.AssignRows, layers.AssignGreedy, layers.AssignHungarian} {
				a := Sinkhorn{}
				hard := newStructured(tensor.Float64)
				in := hard.stream(hard.input("x", 1, tokens, 6), 2, nil)
				a.Sorting = sorting(size, false)
				a.Hard = how
				noise := make([]float64, 2*9)
				for i := range noise {
					if u, v := i/3%3, i%3; order[u] == v {
						noise[i] = 2 // not nearly a permutation
					}
				}
				a.Noise = hard.b.Const("noise", tensor.New(tensor.WithShape(1, 2, 3, 3), tensor.WithBacking(noise)))
				for _, p := range s.b.Params().All() {
					require.NoError(t, hard.b.Params().Load(p.Name, p.Value))
				}
				hard.out = a.Mix(hard.b, in)
				require.InDeltaSlice(t, all[0], hard.run(t, hard.out)[0], 1e-10, how)
			}
		}
	}
}

// explicitBlocks lets block u read block of[u].
type explicitBlocks struct {
	size int
	of   []int
}

func (p explicitBlocks) String() string { return fmt.Sprint("blocks of ", p.size, p.of) }
func (explicitBlocks) Heads() int       { return 1 }
func (explicitBlocks) FromEnd() bool    { return false }
func (p explicitBlocks) Sees(_, i, j, n int) bool {
	return inside(i, j, n) && j/p.size == p.of[i/p.size]
}
func (p explicitBlocks) Row(_, i, n int, dst []Run) []Run {
	return appendRun(dst, p.of[i/p.size]*p.size, min(n, (p.of[i/p.size]+1)*p.size), 1)
}
func (p explicitBlocks) Col(h, j, n int, dst []Run) []Run {
	for i := range n {
		if p.Sees(h, i, j, n) {
			dst = append(dst, Run{i, i + 1, 1})
		}
	}
	return dst
}
func (p explicitBlocks) NNZ(h, n int) int64 { return countRows(p, h, n) }

// All slots: attention on all softly sorted blocks; more slots than blocks are no more. No token at all gives zeros.
func TestSortCutOfAllSlots(t *testing.T) {
	run := func(slots int, lens []int32) []float64 {
		s := newStructured(tensor.Float64)
		s.out = SortCut{Sorting: sorting(3, false), Slots: slots}.Mix(s.b, s.stream(s.input("x", 2, 10, 6), 2, s.ints("lens", lens, 2)))
		return s.values(t)
	}
	lens := []int32{10, 5}
	require.Equal(t, run(4, lens), run(9, lens))
	require.NotEqual(t, run(4, lens), run(3, lens))
	require.Equal(t, make([]float64, 2*10*6), run(2, []int32{0, 0}))
	for _, a := range []Sinkhorn{{Sorting: sorting(3, false)}, {Sorting: sorting(3, true)}} {
		s := newStructured(tensor.Float64)
		s.out = a.Mix(s.b, s.stream(s.input("x", 2, 10, 6), 2, s.ints("lens", []int32{0, 0}, 2)))
		require.Equal(t, make([]float64, 2*10*6), s.values(t))
	}
}

// What is generated token by token is what the graph gives, whatever a layer puts together, for several candidates.
func TestSinkhornCache(t *testing.T) {
	const tokens, width, heads = 23, 6, 2
	for _, size := range []int{4, 7, 30} {
		for _, combine := range []string{CombineConcat, CombineSumOut, CombineSumScore, CombineMixture} {
			for _, normalizer := range []layers.SinkhornNormalizer{"", layers.SinkhornPrefix} {
				for _, hard := range []layers.Assignment{"", layers.AssignRows} {
					what := fmt.Sprint(size, combine, normalizer, hard)
					a := Sinkhorn{Sorting: sorting(size, true), Combine: combine}
					a.Normalizer, a.Hard = normalizer, hard
					a.FinishRow = size != 7
					s := newStructured(tensor.Float64)
					in := s.stream(s.input("x", 2, tokens, width), heads, nil)
					all := s.run(t, in.QKV[0], in.QKV[1], in.QKV[2], a.Mix(s.b, in))
					c, err := NewSinkhornCache[float64](a, heads, width/heads, tokens, 0, nil)
					require.NoError(t, err)
					for range 2 { // a second time after Reset
						c.Select([]int{0, 0})
						for i := range tokens {
							var row [3][]float64
							for k := range row {
								row[k] = append(append(row[k], all[k][i*width:][:width]...), all[k][(tokens+i)*width:][:width]...)
							}
							o := make([]float64, 2*width)
							require.NoError(t, c.Attend(row[0], row[1], row[2], o))
							require.InDeltaSlice(t, all[3][i*width:][:width], o[:width], 1e-10, "%s, token %d", what, i)
							require.InDeltaSlice(t, all[3][(tokens+i)*width:][:width], o[width:], 1e-10, "%s, token %d", what, i)
							if i == 12 { // the candidates change places and are copied
								c.Select([]int{1, 0, 1})
								c.Select([]int{1, 2})
							}
						}
						require.Positive(t, c.Bytes())
						require.ErrorContains(t, c.Attend(all[0], all[1], all[2], make([]float64, 2*width)), "beyond the 23")
						c.Reset()
					}
				}
			}
		}
	}
	_, err := NewSinkhornCache[float64](Sinkhorn{Sorting: sorting(4, false)}, 2, 3, 9, 0, nil)
	require.ErrorContains(t, err, "cannot be kept")
	a := Sinkhorn{Sorting: sorting(4, true)}
	a.Net = NetMLP
	_, err = NewSinkhornCache[float64](a, 2, 3, 9, 0, nil)
	require.ErrorContains(t, err, "sorted by the network mlp")
}

// Scores, mixing and the sort matrix grow as they should, counted separately: with blocks of √n tokens none of them beyond n^1.5, with blocks of a
// constant size mixing and the matrix as n²; in SortCut the matrix alone.
func TestSinkhornCosts(t *testing.T) {
	for _, c := range []struct {
		mixer                  func(n int) Mixer
		scores, mixing, matrix float64
	}{
		{func(n int) Mixer { return Sinkhorn{Sorting: sorting(int(math.Sqrt(float64(n))), true)} }, 1.5, 1.5, 1},
		{func(int) Mixer { return Sinkhorn{Sorting: sorting(64, false)} }, 1, 2, 2},
		{func(int) Mixer { return SortCut{Sorting: sorting(64, false), Slots: 2} }, 1, 1, 2},
	} {
		var x, scores, mixing, matrix []float64
		for _, n := range []int{64 * 64, 128 * 128, 192 * 192} {
			s := newStructured(tensor.Float32)
			node := s.b.Input("x", tensor.Float32, 1, n, 6)
			out := c.mixer(n).Mix(s.b, s.stream(node, 2, nil))
			require.NoError(t, s.b.Err())
			p, err := engine.Compile(s.b.Graph(), Nodes{out}, engine.Options{})
			require.NoError(t, err)
			flops := p.Plan().Flops
			x, scores, mixing = append(x, float64(n)), append(scores, flops["attention"]), append(mixing, flops["mix_blocks"])
			matrix = append(matrix, flops["sinkhorn"]+flops["head_scores"])
		}
		require.InDelta(t, c.scores, exponent(x, scores), 0.1)
		require.InDelta(t, c.mixing, exponent(x, mixing), 0.1)
		require.InDelta(t, c.matrix, exponent(x, matrix), 0.1)
	}
}

// sortOf runs Sorting over x [1,t,6] with two heads: the weights [2,N,N].
func sortOf(t *testing.T, a Sorting, tokens int, x func(i, c int) float64) []float64 {
	s := newStructured(tensor.Float64)
	in := s.input("x", 1, tokens, 6)
	for i := range tokens {
		for c := range 6 {
			layers.InputValue(in).Float64s()[i*6+c] = x(i, c)
		}
	}
	p, _ := a.Sort(s.b, s.stream(in, 2, nil))
	return s.run(t, p)[0]
}

// One token reads itself; equal blocks have equal columns, zeros equal rows; a network has weights for so many blocks.
func TestSinkhornCases(t *testing.T) {
	for _, a := range []Mixer{Sinkhorn{Sorting: sorting(4, false)}, Sinkhorn{Sorting: sorting(4, true)}, SortCut{Sorting: sorting(4, false), Slots: 2}} {
		s := newStructured(tensor.Float64)
		in := s.stream(s.input("x", 2, 1, 6), 2, nil)
		all := s.run(t, a.Mix(s.b, in), in.QKV[2])
		require.InDeltaSlice(t, all[1], all[0], 1e-15)
	}
	twice := func(i, c int) float64 { // blocks 1 and 3 are equal
		if i/3 == 3 {
			i -= 6
		}
		return 2 * noise("twice", i*6+c)
	}
	p := sortOf(t, sorting(3, false), 12, twice)
	for row := range 8 {
		require.InDelta(t, p[row*4+1], p[row*4+3], 1e-13)
		require.NotEqual(t, p[row*4], p[row*4+2])
	}
	zeros := sortOf(t, sorting(3, false), 12, func(int, int) float64 { return 0 })
	for _, w := range zeros {
		require.InDelta(t, 0.25, w, 1e-13)
	}
	for _, net := range []string{NetMLP, NetLinear} {
		a := sorting(3, false)
		a.Net, a.MaxBlocks = net, 3
		s := newStructured(tensor.Float64)
		Sinkhorn{Sorting: a}.Mix(s.b, s.stream(s.input("x", 1, 10, 6), 2, nil))
		require.ErrorContains(t, s.b.Err(), "10 tokens are 4 blocks, the sorting network "+net+" is for 3")
	}
	s := newStructured(tensor.Float64)
	in := s.stream(s.input("x", 1, 10, 6), 2, nil)
	in.Labels = Clipped{Max: 3}
	Sinkhorn{Sorting: sorting(3, false)}.Mix(s.b, in)
	require.ErrorContains(t, s.b.Err(), "sorted keys have no position")
}

// The order in which the blocks of a memory stand does not matter to who reads all of its slots: they are the same in another order.
func TestSortCutOfPermutedMemory(t *testing.T) {
	const size, tokens = 3, 12
	order := []int{2, 0, 3, 1}
	read := func(slots int, permuted bool) []float64 {
		s := newStructured(tensor.Float64)
		in := CrossStream{Memory: s.input("m", 1, tokens, 6), Q: s.input("q", 1, 7, 6), K: s.input("k", 1, tokens, 6), V: s.input("v", 1, tokens, 6), Heads: 2,
			Project: func(b *layers.Builder, _ int, x *Node) *Node { return layers.Scale(b, x, 1.3) }}
		if permuted {
			for _, n := range []*Node{in.Memory, in.K, in.V} {
				x := layers.InputValue(n).Float64s()
				old := slices.Clone(x)
				for u, v := range order {
					copy(x[u*size*6:][:size*6], old[v*size*6:])
				}
			}
		}
		s.out = SortCut{Sorting: sorting(size, false), Slots: slots}.Cross(s.b, in)
		return s.run(t, s.out)[0]
	}
	require.InDeltaSlice(t, read(4, false), read(4, true), 1e-12)
	require.Greater(t, largestDifference(read(2, false), read(2, true)), 1e-3, "the first slots are others")
}
