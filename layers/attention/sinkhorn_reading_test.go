package attention

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/layers"
)

// onValues is a mixer of two heads on queries, keys and values that are inputs, [2,T,6], so that values do not change what is sorted.
func onValues(t *testing.T, m Mixer, tokens int, lens []int32) *structured {
	s := newStructured(tensor.Float64)
	in := Stream{Heads: 2, Lens: s.ints("lens", lens, len(lens))}
	for _, name := range []string{"q", "k", "v"} {
		in.QKV = append(in.QKV, s.input(name, len(lens), tokens, 6))
	}
	in.X = in.QKV[0]
	s.out = m.Mix(s.b, in)
	require.NoError(t, s.b.Err())
	return s
}

// Where a slot takes one block, what a layer says it reads is what changes it, pair by pair.
func TestReadingsOfSortedBlocks(t *testing.T) {
	const tokens = 11
	lens := []int32{11, 6}
	for _, size := range []int{3, 4, 13} {
		for name, m := range map[string]Mixer{
			"concat":         Sinkhorn{Sorting: sorting(size, false)},
			"sum_out":        Sinkhorn{Sorting: sorting(size, false), Combine: CombineSumOut},
			"mixture":        Sinkhorn{Sorting: sorting(size, false), Combine: CombineMixture},
			"causal concat":  Sinkhorn{Sorting: sorting(size, true)},
			"causal sum_out": Sinkhorn{Sorting: sorting(size, true), Combine: CombineSumOut},
			"causal mixture": Sinkhorn{Sorting: sorting(size, true), Combine: CombineMixture},
			"sortcut":        SortCut{Sorting: sorting(size, false), Slots: 2},
			"sortcut of all": SortCut{Sorting: sorting(size, false), Slots: 9},
		} {
			switch a := m.(type) {
			case Sinkhorn:
				a.Hard = layers.AssignRows
				m = a
			case SortCut:
				a.Hard = layers.AssignRows
				m = a
			}
			what := fmt.Sprint(name, ", blocks of ", size)
			s := onValues(t, m, tokens, lens)
			v := layers.InputValue(s.in[2]).Float64s()
			before := s.values(t)
			for example, n := range lens {
				read, found := readingsOf(t, s.b, example)
				require.Len(t, read, 1, what)
				require.Equal(t, "of sorted blocks the one that a slot takes", found[0].Rule)
				require.Equal(t, [3]int{2, tokens, tokens}, [3]int{found[0].Heads, found[0].Queries, found[0].Keys})
				for j := range tokens {
					at := v[(example*tokens+j)*6:][:6]
					keep := slices.Clone(at)
					for c := range at {
						at[c] += 5
					}
					after := s.values(t)
					copy(at, keep)
					for i := range tokens {
						for h := range 2 {
							row := (example*tokens+i)*6 + h*3
							changes := !slices.Equal(before[row:][:3], after[row:][:3])
							require.Equal(t, changes, read[0].Sees(h, i, j, tokens), "%s, example %d of %d, head %d: %d reads %d", what, example, n, h, i, j)
						}
					}
				}
			}
		}
	}
}

// Of a soft permutation the heavy blocks count; row t of a slot that is added to row t of the own block brings that of the block it is made of.
func TestReadingsOfHeavyBlocks(t *testing.T) {
	for _, c := range []struct {
		weights []float64
		want    []int
	}{
		{[]float64{.25, .25, .25, .25}, []int{0, 1, 2, 3}}, {[]float64{.1, .6, .3, 0}, []int{1, 2}}, {[]float64{.1, .61, .29, 0}, []int{1}}, {[]float64{0, 0}, nil}, {nil, nil},
	} {
		require.Equal(t, c.want, heavy(c.weights), c.weights)
	}
	const size, tokens = 3, 12
	for _, m := range []Sinkhorn{{Sorting: sorting(size, false)}, {Sorting: sorting(size, false), Combine: CombineSumScore}, {Sorting: sorting(size, true)},
		{Sorting: sorting(size, true), Combine: CombineSumScore}} {
		s := onValues(t, m, tokens, []int32{12, 12})
		p, _ := m.Sort(s.b, Stream{X: s.in[0], QKV: s.in[:3], Heads: 2, Lens: s.b.Const("lens", nil)})
		weights := s.run(t, p)[0]
		for example := range 2 {
			read, found := readingsOf(t, s.b, example)
			require.Len(t, read, 1)
			require.Equal(t, "of sorted blocks those with at least 0.5 of the weight of the heaviest in the slot", found[0].Rule)
			pairs := 0
			for h := range 2 {
				for i := range tokens {
					u := i / size
					row := weights[((example*2+h)*4+u)*4:][:4]
					for j := range tokens {
						v := j / size
						want := v == u && (!m.Causal || j <= i)
						if w := row[v]; w > 0 && w >= slices.Max(row)/2 && (!m.Causal || m.Combine == "" || j%size <= i%size) {
							want = true
						}
						require.Equal(t, want, read[0].Sees(h, i, j, tokens), "causal %v, %s: head %d, %d reads %d, weights %v", m.Causal, m.Combine, h, i, j, row)
						pairs += oneIf(want)
					}
				}
			}
			require.Less(t, pairs, 2*tokens*tokens)
			require.Greater(t, pairs, 2*tokens*size/2)
		}
	}
}

// Attention on sorted blocks of a memory tells its pairs, too, where both are as long; else it says that it cannot.
func TestReadingsOfSortedMemory(t *testing.T) {
	for _, length := range []int{7, 10} {
		s := newStructured(tensor.Float64)
		in := CrossStream{Memory: s.input("m", 1, 10, 6), Q: s.input("q", 1, length, 6), K: s.input("k", 1, 10, 6), V: s.input("v", 1, 10, 6), Heads: 2,
			Project: func(b *layers.Builder, _ int, x *Node) *Node { return x }}
		s.out = SortCut{Sorting: sorting(4, false), Slots: 1}.Cross(s.b, in)
		require.NoError(t, s.b.Err())
		found := Readings(s.b)
		require.Len(t, found, 1)
		require.Equal(t, [3]int{2, length, 10}, [3]int{found[0].Heads, found[0].Queries, found[0].Keys})
		if length != 10 {
			_, err := found[0].Of(func(*Node) engine.Value { return nil }, 0)
			require.ErrorContains(t, err, "of another sequence")
			continue
		}
		read, _ := readingsOf(t, s.b, 0)
		for h := range 2 {
			for i := 1; i < length; i++ {
				require.Equal(t, read[0].Row(h, 0, length, nil), read[0].Row(h, i, length, nil), "all queries read the same slots")
			}
		}
		require.Less(t, int(read[0].NNZ(0, length)), length*10)
	}
}
