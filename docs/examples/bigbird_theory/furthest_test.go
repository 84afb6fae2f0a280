package bigbird_theory

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/euryale-ml/euryale/layers/attention"
)

// One dense layer finds every furthest vector. A layer of BigBird finds those that it reads.
func ExampleFinder() {
	const n, d, sets = 64, 16, 20
	for _, s := range []string{"full", "big-bird(4,1,0)", "big-bird-window(4,1,0)"} {
		p, _ := attention.Parse(s)
		f, err := NewFinder(p, n, d)
		if err != nil {
			fmt.Println(err)
			return
		}
		right := 0
		for seed := range uint64(sets) {
			x := Unit(n, d, seed)
			found, err := f.Find(x)
			if err != nil {
				fmt.Println(err)
				return
			}
			for i, j := range Furthest(x, n, d) {
				if found[i] == j {
					right++
				}
			}
		}
		fmt.Printf("%-22s reads %.0f %% of all pairs, finds %.0f %%\n", s, 100*attention.Measure(p, n).Density, 100*float64(right)/(n*sets))
	}
	// Output:
	// full                   reads 100 % of all pairs, finds 100 %
	// big-bird(4,1,0)        reads 45 % of all pairs, finds 42 %
	// big-bird-window(4,1,0) reads 24 % of all pairs, finds 21 %
}

// What a sparse layer misses it cannot find with any weights: its output does not depend on the vector that is asked for.
func TestSparseLayerCannotKnow(t *testing.T) {
	const n, d = 64, 16
	p, err := attention.Parse("big-bird(4,1,0)")
	require.NoError(t, err)
	f, err := NewFinder(p, n, d)
	require.NoError(t, err)
	x := Unit(n, d, 3)
	furthest := Furthest(x, n, d)
	found, err := f.Find(x)
	require.NoError(t, err)
	before, err := f.Outputs(x)
	require.NoError(t, err)
	unseen := 0
	for i, j := range furthest {
		require.Equal(t, p.Sees(0, i, j, n), found[i] == j, "vector %d", i)
		if p.Sees(0, i, j, n) {
			continue
		}
		unseen++
		y := append([]float64(nil), x...)
		copy(y[j*d:][:d], x[i*d:][:d]) // now the nearest there is
		require.NotEqual(t, furthest[i], Furthest(y, n, d)[i])
		after, err := f.Outputs(y)
		require.NoError(t, err)
		require.Equal(t, before[i*n:][:n], after[i*n:][:n])
	}
	require.Greater(t, unseen, n/4)
}
