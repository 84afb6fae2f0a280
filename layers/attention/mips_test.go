package attention

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/euryale-ml/euryale/internal/splitmix"
	"github.com/euryale-ml/euryale/layers"
)

// The maps by hand: content.md, section 14.
func TestNormMapsByHand(t *testing.T) {
	p, q := make([]float64, 3), make([]float64, 3)
	MapKey(SimpleLSH, []float64{.6, 0}, 1, p)
	require.InDeltaSlice(t, []float64{.6, 0, .8}, p, 1e-15)
	MapQuery(SimpleLSH, []float64{0, 2}, q)
	require.Equal(t, []float64{0, 1, 0}, q)

	p = make([]float64, 4)
	MapKey(SignALSH, []float64{math.Sqrt(.5), 0}, .75, p) // times U/M = 1
	require.InDeltaSlice(t, []float64{0, .25}, p[2:], 1e-15)
	require.InDelta(t, .5625, length(p)*length(p), 1e-15) // m/4 + |x|^8
	MapKey(SimpleLSH, []float64{0, 0}, 0, p[:3])
	require.Equal(t, []float64{0, 0, 1}, p[:3], "a zero key, and nothing longer")
}

// What the maps promise.
func TestNormMapsKeepProducts(t *testing.T) {
	const d = 5
	for i := range 50 {
		k, q := normals(fmt.Sprint("k", i), d), normals(fmt.Sprint("query", i), d)
		bound := length(k) * (1 + float64(i%7)/5)
		for _, m := range []NormMap{NoMap, SimpleLSH, L2ALSH, SignALSH} {
			p, z := make([]float64, d+m.Extra()), make([]float64, d+m.Extra())
			MapKey(m, k, bound, p)
			MapQuery(m, q, z)
			var dot, gap float64
			for e := range p {
				dot += p[e] * z[e]
				gap += (p[e] - z[e]) * (p[e] - z[e])
			}
			x := length(k) / bound * m.shrink() // |x|
			want := productsOf(q, k, d)[0] / length(q) / bound * m.shrink()
			switch m {
			case NoMap:
				require.InDelta(t, productsOf(q, k, d)[0]/length(q)/length(k), dot, 1e-12)
			case SimpleLSH:
				require.InDelta(t, 1, length(p), 1e-12)
				require.InDelta(t, want, dot, 1e-12)
			case L2ALSH:
				require.InDelta(t, 1+3.0/4-2*want+math.Pow(x, 16), gap, 1e-12)
			case SignALSH:
				require.InDelta(t, 2.0/4+math.Pow(x, 8), length(p)*length(p), 1e-12)
				require.InDelta(t, want, dot, 1e-12)
			}
		}
	}
}

// A bit of the hash by hyperplanes agrees with probability 1 - θ/π.
func TestHyperplanesCollide(t *testing.T) {
	const d, pairs = 16, 20000
	planes := normals("planes", pairs*d)
	for _, cos := range []float64{.95, .5, 0, -.5} {
		a, b := make([]float64, d), make([]float64, d)
		a[3], b[3], b[7] = 1, cos, math.Sqrt(1-cos*cos)
		same := 0
		for i := range pairs {
			w := planes[i*d:][:d]
			if (productsOf(a, w, d)[0] > 0) == (productsOf(b, w, d)[0] > 0) {
				same++
			}
		}
		require.InDelta(t, 1-math.Acos(cos)/math.Pi, float64(same)/pairs, .01)
	}
}

// foundBy is the choice of a MIPS.
func foundBy(a MIPS) func(b *layers.Builder, c Chosen, q, k *Node) *Node {
	return func(b *layers.Builder, c Chosen, qn, kn *Node) *Node { return FoundKeys(b, a, c, qn, kn) }
}

// Recall and the part of all keys that are candidates, on keys of unequal lengths: content.md, section 1.2, to 0.1.
func TestMIPSRecall(t *testing.T) {
	const n, d, queries, k = 1024, 32, 256, 32
	keys, q := make([]float64, n*d), normals("queries", queries*d)
	dir, stretch := normals("directions", n*d), normals("lengths", n)
	for j := range n {
		f := math.Exp(.5*stretch[j]) / length(dir[j*d:][:d])
		for e := range d {
			keys[j*d+e] = f * dir[j*d+e]
		}
	}
	truth := choiceOf(t, 1, d, [][]float64{q}, [][]float64{keys}, nil, layers.Options{}, exactly(k, false))
	for _, c := range []struct {
		a      MIPS
		part   float64 // of the keys that are candidates
		recall float64
	}{
		{MIPS{Index: IVF, Cells: 32, Probes: 8}, .10, .50},
		{MIPS{Index: IVF, Cells: 32, Probes: 16}, .51, .84},
		{MIPS{Index: HashSRP, Bits: 4, Tables: 4}, .24, .42},
		{MIPS{Index: HashSimpleLSH, Bits: 4, Tables: 4}, .20, .28},
	} {
		c.a.K, c.a.Rerank = k, true
		got := choiceOf(t, 1, d, [][]float64{q}, [][]float64{keys}, nil, layers.Options{}, foundBy(c.a))
		require.InDelta(t, c.recall, Recall(got, truth), .15, "%s", c.a.Index)
		c.a.K = n // all candidates
		all := choiceOf(t, 1, d, [][]float64{q}, [][]float64{keys}, nil, layers.Options{}, foundBy(c.a))
		part := CandidateFraction(all, slices.Repeat([]int{n}, queries))
		for i, list := range all {
			for _, j := range got[i] {
				require.Contains(t, list, j)
			}
		}
		t.Logf("%s: %.3f of the keys, recall %.3f", c.a.Index, part, Recall(got, truth))
		require.InDelta(t, c.part, part, .15, "%s", c.a.Index)
	}
}

// Whatever the index: no key comes later, none stands twice, none is padding; itself, what is near and what is explored are among them.
func TestMIPSChoices(t *testing.T) {
	const n, d, heads = 41, 4, 2
	q, k := [][]float64{normals("q1", n*heads*d), normals("q22", n*heads*d)}, [][]float64{normals("k1", n*heads*d), normals("k22", n*heads*d)}
	for _, index := range []string{IVF, HashSRP, HashSimpleLSH, HashSignALSH, HashL2ALSH} {
		for _, rerank := range []bool{false, true} {
			a := MIPS{K: 5, Index: index, Rerank: rerank, Causal: true, Probes: 2, Bits: 3}
			lens := []int32{n, 17}
			get := func(a MIPS, training bool) [][]int32 {
				return choiceOf(t, heads, d, q, k, lens, layers.Options{Training: training, Seed: 7}, foundBy(a))
			}
			plain := get(a, true)
			for x, list := range plain {
				b, i := x/heads/n, x%n
				if i >= int(lens[b]) {
					require.Empty(t, list)
					continue
				}
				require.True(t, slices.IsSorted(list))
				require.Len(t, slices.Compact(slices.Clone(list)), len(list))
				require.Contains(t, list, int32(i))
				require.LessOrEqual(t, int(list[len(list)-1]), i)
			}
			require.Equal(t, plain, get(a, false))
			a.Fallback = FallbackRecent
			for x, list := range get(a, true) {
				if i := x % n; i < int(lens[x/heads/n]) {
					require.GreaterOrEqual(t, len(list), min(5, i+1))
					require.Subset(t, list, plain[x])
				}
			}
			a.Fallback, a.Explore = "", 3
			more := 0
			for x, list := range get(a, true) {
				require.Subset(t, list, plain[x])
				more += len(list) - len(plain[x])
			}
			require.Greater(t, more, n)
			require.Equal(t, plain, get(a, false), "explored in training only")
		}
	}
	// All cells, or hashes without a bit to tell apart: exact.
	exact := choiceOf(t, heads, d, q, k, nil, layers.Options{}, exactly(5, false))
	require.Equal(t, exact, choiceOf(t, heads, d, q, k, nil, layers.Options{}, foundBy(MIPS{K: 5, Index: IVF, Cells: 3, Probes: 3, Rerank: true})))
}

// The class of causality is what changing later tokens shows.
func TestMIPSClasses(t *testing.T) {
	const n, d = 61, 4
	for _, index := range []string{IVF, HashSRP, HashSimpleLSH, HashSignALSH, HashL2ALSH} {
		a := MIPS{K: 4, Index: index, Rerank: true, Causal: true, Probes: 1}
		q, k := normals("q", n*d), normals("keys", n*d)
		before := choiceOf(t, 1, d, [][]float64{q}, [][]float64{k}, nil, layers.Options{}, foundBy(a))
		changed := false
		for from := 3; from < n; from += 7 {
			later := slices.Clone(k)
			for x := from * d; x < len(later); x++ {
				later[x] += 30 * normal(splitmix.Mix(3), uint64(x))
			}
			after := choiceOf(t, 1, d, [][]float64{q}, [][]float64{later}, nil, layers.Options{}, foundBy(a))
			for i := range from {
				changed = changed || !slices.Equal(before[i], after[i])
			}
		}
		require.Equal(t, a.Class() == "C0", changed, index)
	}
	require.Equal(t, "C1", TopK{K: 1, Causal: true}.Class())
	require.Empty(t, MIPS{}.Class())
}
