package attention

import (
	"fmt"

	"github.com/stretchr/testify/require"
	"gorgonia.org/tensor"
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
