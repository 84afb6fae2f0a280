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
	kind := rapid.IntRange(0, 6+4*min(depth, 1)).Draw(t, "kind")
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
		return drawAtom(t)
	case 7:
		return Causal(drawPattern(t, depth-1))
	case 8:
		p, err := Beyond(drawPattern(t, depth-1), drawRandom(t))
		require.NoError(t, err)
		return p
	case 9:
		p, err := Union(drawPattern(t, depth-1), drawPattern(t, depth-1))
		require.NoError(t, err)
		return p
	default:
		p, err := Intersection(drawPattern(t, depth-1), drawPattern(t, depth-1))
		require.NoError(t, err)
		return p
	}
}

// drawAtom draws one of the atoms of sparse transformers, random graphs and images.
func drawAtom(t *rapid.T) Pattern {
	one := rapid.IntRange(1, 13)
	switch rapid.IntRange(0, 10).Draw(t, "atom") {
	case 0:
		return Strided{Stride: one.Draw(t, "stride")}
	case 1:
		stride := one.Draw(t, "stride")
		return Fixed{Stride: stride, Summary: rapid.IntRange(1, stride).Draw(t, "columns")}
	case 2:
		stride := one.Draw(t, "stride")
		columns := rapid.IntRange(1, stride).Draw(t, "columns")
		return Summary{Stride: stride, Columns: columns, Group: rapid.IntRange(0, stride/columns-1).Draw(t, "group")}
	case 3:
		size := one.Draw(t, "size")
		return ShiftedBlocks{Size: size, Shift: rapid.IntRange(0, size-1).Draw(t, "shift")}
	case 4:
		return Image1D{Query: one.Draw(t, "query"), Memory: rapid.IntRange(0, 17).Draw(t, "memory")}
	case 5:
		return Image2D{Height: one.Draw(t, "height"), Width: one.Draw(t, "width"), QueryHeight: rapid.IntRange(1, 5).Draw(t, "query height"),
			QueryWidth: rapid.IntRange(1, 5).Draw(t, "query width"), MemoryHeight: rapid.IntRange(0, 7).Draw(t, "memory height"),
			MemoryWidth: rapid.IntRange(0, 7).Draw(t, "memory width")}
	case 6:
		return ImageRow{Height: one.Draw(t, "height"), Width: one.Draw(t, "width")}
	case 7:
		return ImageColumn{Height: one.Draw(t, "height"), Width: one.Draw(t, "width")}
	case 10:
		p := NewBigBird(rapid.IntRange(1, 9).Draw(t, "size"), rapid.IntRange(0, 5).Draw(t, "blocks"), one.Draw(t, "seed"), 0)
		p.Free = rapid.Bool().Draw(t, "free")
		return p
	case 8:
		return NewBernoulli(rapid.IntRange(0, 7).Draw(t, "numerator"), 7, one.Draw(t, "seed"), 0)
	}
	return drawRandom(t)
}

// drawRandom draws an atom with a fixed number of random keys.
func drawRandom(t *rapid.T) Pattern {
	degree, seed, stream := rapid.IntRange(0, 7).Draw(t, "degree"), rapid.IntRange(0, 99).Draw(t, "seed"), rapid.IntRange(0, 2).Draw(t, "stream")
	if rapid.Bool().Draw(t, "blocks") {
		return NewRandomBlocks(rapid.IntRange(1, 9).Draw(t, "size"), degree, seed, stream)
	}
	return NewRandom(degree, seed, stream)
}

// drawNodes draws a pattern with nodes besides the tokens.
func drawNodes(t *rapid.T) Pattern {
	var p Pattern
	switch rapid.IntRange(0, 3).Draw(t, "nodes") {
	case 3:
		p = CrossBlocks{Size: rapid.IntRange(1, 7).Draw(t, "size")}
	case 0:
		p = External{Count: rapid.IntRange(1, 5).Draw(t, "external")}
	case 1:
		p = Star{}
	default:
		p = NewBPTree(rapid.IntRange(1, 4).Draw(t, "k"))
	}
	var err error
	switch rapid.IntRange(0, 3).Draw(t, "with") {
	case 0:
		p, err = Union(drawPattern(t, 1), p)
	case 1:
		p, err = Intersection(p, drawPattern(t, 1))
	case 2:
		p, err = Heads(p, drawPattern(t, 1))
	}
	require.NoError(t, err)
	if CheckCausal(p) == nil && rapid.Bool().Draw(t, "causal") {
		p = Causal(p)
	}
	return p
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

// drawAny draws any pattern, sometimes one with nodes besides the tokens.
func drawAny(t *rapid.T) Pattern {
	if rapid.IntRange(0, 4).Draw(t, "with nodes") == 0 {
		return drawNodes(t)
	}
	return drawHeads(t)
}

func TestViewsAgree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		viewsAgree(t, drawAny(t), rapid.SampledFrom(sizes).Draw(t, "n"))
	})
}

// viewsAgree demands that the rows, columns and counts of a pattern are those of its definition.
func viewsAgree(t require.TestingT, p Pattern, n int) {
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
		p := drawAny(t)
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
		"window-blocks(8,3)":                   "blocks(8,8)",
		"window-blocks(8,4)":                   "blocks(8,16,8)",
		"window-blocks(8,1)":                   "blocks(8)",
		"random(3,7,0)":                        "random(3,7)",
		"random-blocks(4,3,7,2)":               "random-blocks(4,3,7,2)",
		"causal(random(3,7)+full)":             "causal(random(3,7) + full)",
		"beyond(full+global(0);random(3,7))":   "beyond(full + global(0); random(3,7))",
		"(full+band(1,1))&external(2)":         "(full + band(1,1)) & external(2)",
		"causal(full + bp-tree(2))":            "causal(full) + causal(bp-tree(2))",
		"causal(causal(bp-tree(2)))":           "causal(bp-tree(2))",
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
		"bnad(1,2)":                              `column 1: there is no pattern "bnad"; did you mean "band"? (there are band, bernoulli, beyond, big-bird, big-bird-window, blocks, bp-tree, causal, column,`,
		"full + routing(3)":                      `column 8: there is no pattern "routing"; there are band, bernoulli, beyond,`,
		"causal(band(1,1) + external(3))":        `column 1: band(1,1) + external(3) cannot be causal: external nodes read every token`,
		"causal(star)":                           `column 1: star cannot be causal`,
		"external(0)":                            `column 1: external: number of nodes is 0; the smallest is 1`,
		"external(65537)":                        `column 1: external: number of nodes is 65537; the largest is 65536`,
		"external(2) + full + star":              `column 20: external(2) + full and star have different nodes besides the tokens`,
		"heads(external(2); bp-tree(1))":         `have different nodes besides the tokens`,
		"strided(0)":                             `column 1: strided: stride is 0; the smallest is 1`,
		"fixed(0,0)":                             `column 1: fixed: stride is 0`,
		"fixed(8,0)":                             `column 1: fixed: summary columns are 0; give 1 to 8, the stride`,
		"fixed(8,9)":                             `summary columns are 9; give 1 to 8`,
		"summary(8,3,2)":                         `group of columns is 2; a stride of 8 has groups 0 to 1 of 3`,
		"random-blocks(0,1,1)":                   `block size is 0; the smallest is 1`,
		"random(3)":                              `column 7: random has 1 arguments; write random(r,seed)`,
		"bernoulli(3,2,1)":                       `probability is 3/2; give a fraction from 0 to 1`,
		"bernoulli(0,0,1)":                       `probability is 0/0; give a fraction from 0 to 1`,
		"window-blocks(8,0)":                     `number of blocks is 0; the smallest is 1`,
		"window-blocks(0,3)":                     `block size is 0`,
		"window-blocks(2147483647,5)":            `reach further than 2147483647`,
		"shifted-blocks(0,0)":                    `block size is 0`,
		"shifted-blocks(4,4)":                    `shift is 4; give 0 to 3, less than a block`,
		"bp-tree(0)":                             `column 1: bp-tree: k is 0; the smallest is 1`,
		"image1d(0,3)":                           `query block is 0; the smallest is 1`,
		"image2d(0,1,1,1,1,1)":                   `image is 0 x 1; the smallest is 1 x 1`,
		"image2d(4,4,2,0,1,1)":                   `query block is 2 x 0; the smallest is 1 x 1`,
		"row(0,4)":                               `column 1: row: image is 0 x 4`,
		"column(70000,70000)":                    `image of 70000 x 70000 has more than 2147483647 positions`,
		"beyond(full)":                           `column 1: beyond takes two patterns, not 1; write beyond(a; random(r,seed))`,
		"beyond(full; band(1,1))":                `band(1,1) draws no fixed number of keys`,
		"beyond(full; bernoulli(1,2,3))":         `bernoulli(1,2,3) draws no fixed number of keys`,
		"beyond(heads(full;full); random(1,1))":  `heads(full; full) tells heads apart inside beyond(…)`,
		"beyond(external(1); random(1,1))":       `external(1) has other nodes than tokens inside beyond(…); add them outside`,
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
