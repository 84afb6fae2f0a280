package attention

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

var sizes = []int{0, 1, 2, 3, 5, 8, 13, 64, 100}

// drawPattern draws an expression tree over all atoms.
func drawPattern(t *rapid.T, depth int) Pattern {
	small := rapid.IntRange(0, 17)
	kind := rapid.IntRange(0, 5+3*min(depth, 1)).Draw(t, "kind")
	switch kind {
	case 0:
		return Full{}
	case 1:
		return Band{Left: small.Draw(t, "left"), Right: small.Draw(t, "right")}
	case 2:
		return Dilated{Left: small.Draw(t, "left"), Right: small.Draw(t, "right"), Gap: rapid.IntRange(1, 7).Draw(t, "gap")}
	case 3:
		return Blocks{Size: rapid.IntRange(1, 19).Draw(t, "size")}
	case 4:
		return Blocks{Size: rapid.IntRange(1, 19).Draw(t, "size"), Left: small.Draw(t, "left"), Right: small.Draw(t, "right")}
	case 5:
		return NewGlobal(rapid.SliceOfN(rapid.IntRange(-110, 110), 1, 5).Draw(t, "positions")...)
	case 6:
		return Causal(drawPattern(t, depth-1))
	case 7:
		p, err := Union(drawPattern(t, depth-1), drawPattern(t, depth-1))
		require.NoError(t, err)
		return p
	default:
		p, err := Intersection(drawPattern(t, depth-1), drawPattern(t, depth-1))
		require.NoError(t, err)
		return p
	}
}

// drawHeads draws a pattern that may tell heads apart.
func drawHeads(t *rapid.T) Pattern {
	k := rapid.IntRange(1, 3).Draw(t, "heads")
	parts := make([]Pattern, k)
	for i := range parts {
		parts[i] = drawPattern(t, 2)
	}
	p, err := Heads(parts...)
	require.NoError(t, err)
	if rapid.Bool().Draw(t, "causal") {
		p = Causal(p)
	}
	return p
}

func TestViewsAgree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := drawHeads(t)
		n := rapid.SampledFrom(sizes).Draw(t, "n")
		for h := range p.Heads() {
			var total int64
			last := make([]int, n)
			cols := make([][]int, n)
			for j := range last {
				last[j] = -1
			}
			for i := range n {
				var want []int
				for j := range n {
					if p.Sees(h, i, j, n) {
						want = append(want, j)
						last[j] = i
						cols[j] = append(cols[j], i)
					}
				}
				total += int64(len(want))
				require.Equal(t, fmt.Sprint(want), fmt.Sprint(Keys(p, h, i, n)), "%s: keys of head %d query %d of %d", p, h, i, n)
			}
			require.Equal(t, total, p.NNZ(h, n), "%s: NNZ of head %d for n=%d", p, h, n)
			for j := range n {
				require.Equal(t, last[j], LastReader(p, h, j, n), "%s: last reader of key %d of %d", p, j, n)
				require.Equal(t, fmt.Sprint(cols[j]), fmt.Sprint(positions(p.Col(h, j, n, nil))), "%s: queries of key %d of %d", p, j, n)
			}
			require.False(t, n > 0 && p.Sees(h, 0, n, n) || p.Sees(h, -1, 0, n), "%s sees outside", p)
		}
	})
}

func TestLengthIndependence(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := drawHeads(t)
		if p.FromEnd() {
			return
		}
		n := rapid.SampledFrom(sizes).Draw(t, "n")
		for h := range p.Heads() {
			for i := range n {
				for j := range n {
					require.Equal(t, p.Sees(h, i, j, n), p.Sees(h, i, j, n+17), "%s", p)
				}
			}
		}
	})
}

func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := drawHeads(t)
		q, err := Parse(p.String())
		require.NoError(t, err)
		require.Equal(t, p.String(), q.String())
		n := rapid.SampledFrom(sizes).Draw(t, "n")
		for h := range p.Heads() {
			for i := range n {
				require.Equal(t, Keys(p, h, i, n), Keys(q, h, i, n), "%s", p)
			}
		}
	})
}

func TestWideEqualsFull(t *testing.T) {
	for _, n := range sizes {
		for _, s := range []string{"band(99,99)", "dilated(99,99,1)", "blocks(100)", "blocks(1,100)", "global(0)+blocks(100)"} {
			p, err := Parse(s)
			require.NoError(t, err)
			for i := range n {
				require.Equal(t, Keys(Full{}, 0, i, n), Keys(p, 0, i, n), "%s n=%d", s, n)
			}
			require.Equal(t, Full{}.NNZ(0, n), p.NNZ(0, n))
			require.Equal(t, Causal(Full{}).NNZ(0, n), Causal(p).NNZ(0, n))
		}
	}
	for i := range 64 {
		require.Equal(t, []int{i}, Keys(Blocks{Size: 1}, 0, i, 64))
	}
}

func TestParseForms(t *testing.T) {
	for in, want := range map[string]string{
		" full ":                               "full",
		"band( 3 ,0)":                          "band(3,0)",
		"blocks(8,0)":                          "blocks(8)",
		"blocks(8,3,3)":                        "blocks(8,3)",
		"blocks(8,3,0)":                        "blocks(8,3,0)",
		"global(5,0,5,-1)":                     "global(-1,0,5)",
		"causal(causal(full))":                 "causal(full)",
		"full+band(1,2)&blocks(4)":             "full + band(1,2) & blocks(4)",
		"(full + band(1,2))&(blocks(4))":       "(full + band(1,2)) & blocks(4)",
		"heads(full;causal(full) ; band(1,1))": "heads(full; causal(full); band(1,1))",
		"heads(full)":                          "full",
		"causal(heads(full; band(2,2)))":       "causal(heads(full; band(2,2)))",
	} {
		p, err := Parse(in)
		require.NoError(t, err, in)
		require.Equal(t, want, p.String())
	}
}

func TestParseErrors(t *testing.T) {
	for in, want := range map[string]string{
		"":                                       `pattern "", column 1: a pattern is missing before the end`,
		"bnad(1,2)":                              `column 1: there is no pattern "bnad"; did you mean "band"? (there are band, blocks, causal, dilated, full, global, heads)`,
		"full + external(3)":                     `column 8: there is no pattern "external"; there are band, blocks, causal, dilated, full, global, heads`,
		"band(1)":                                `column 5: band has 1 arguments; write band(left,right)`,
		"band":                                   `column 5: band has 0 arguments`,
		"band(-1,0)":                             `column 6: -1 is negative; band takes numbers from 0 on`,
		"band(1.5,0)":                            `column 7: ',' is missing before '.'`,
		"band(x,0)":                              `column 6: "x" is not a whole number; write band(left,right)`,
		"band(99999999999999999999,0)":           `column 6: "99999999999999999999" is beyond 2147483647`,
		"dilated(1,1,0)":                         `column 1: dilated: gap is 0; the smallest is 1`,
		"blocks(0)":                              `column 1: blocks: block size is 0`,
		"global()":                               `global has 0 arguments`,
		"full full":                              `column 6: "full" is left over; join patterns by + or &`,
		"full +":                                 `column 7: a pattern is missing before the end`,
		"(full":                                  `column 6: ')' is missing before the end: the bracket is open`,
		"causal(full; full)":                     `column 1: causal takes one pattern, not 2`,
		"causal":                                 `'(' is missing before the end`,
		"heads(full; heads(full;full))":          `stands inside heads`,
		"heads(full;full)+heads(full;full;full)": `column 17: `,
		strings.Repeat("(", 1000) + "full":       `column 65: brackets stand deeper than 64`,
		strings.Repeat("full + ", 9000) + "full": `longer than 16384`,
		"full(3)":                                `full has 1 arguments; write full`,
	} {
		_, err := Parse(in)
		require.ErrorContains(t, err, want, in)
		var s *SyntaxError
		require.ErrorAs(t, err, &s)
	}
}

func TestParseNeverPanics(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.StringOfN(rapid.SampledFrom([]rune("band(1,2)+&;fulé causheglo-")), 0, 30, -1).Draw(t, "source")
		_, _ = Parse(s)
	})
}

func TestDisjointRuns(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var runs []Run
		want := map[int]bool{}
		for range rapid.IntRange(0, 6).Draw(t, "runs") {
			lo := rapid.IntRange(0, 40).Draw(t, "lo")
			r := Run{lo, lo + rapid.IntRange(1, 40).Draw(t, "length"), rapid.SampledFrom([]int{1, 1, 2, 3, 4, 7}).Draw(t, "step")}
			runs = append(runs, r)
			for j := r.Lo; j < r.Hi; j += r.Step {
				want[j] = true
			}
		}
		require.Len(t, positions(runs), len(want))
		got := map[int]bool{}
		for _, r := range disjoint(slices.Clone(runs)) {
			require.Less(t, r.Lo, r.Hi)
			for j := r.Lo; j < r.Hi; j += r.Step {
				require.False(t, got[j], "%d is twice in %v", j, runs)
				got[j] = true
			}
		}
		require.Equal(t, want, got)
		require.Equal(t, len(want), count(runs))
	})
}
