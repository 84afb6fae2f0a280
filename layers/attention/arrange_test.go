package attention

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
)

// arranged are patterns whose heads have an arrangement of their own.
var arranged = []string{"causal(heads(dilated(5,2,3); dilated(9,0,7); band(8,8)))", "summary(16,3)", "causal(summary(16,1))",
	"heads(summary(7,2,1); summary(7,2); blocks(7))", "column(19,12)", "causal(column(15,16))", "heads(column(19,12); row(19,12))"}

// halved are patterns that come in two passes.
var halved = []string{"strided(7)", "causal(strided(16))", "fixed(16,3)", "causal(fixed(12,1))", "band(5,2) + dilated(40,40,3)",
	"causal(band(5,0) + dilated(9,0,6))", "band(3,2) + random(4,1)", "causal(random(3,2) + global(0,-1) + band(2,0))",
	"beyond(band(3,3); random(4,7))", "causal(beyond(blocks(6); random(3,9)))", "band(2,2) + bernoulli(1,9,3) + global(4)", "bp-tree(2) + band(3,3)", "heads(causal(blocks(8)) + summary(8,2,1); strided(5); full)"}

// The rows and columns of a layout in an arrangement stand for what the arrangement says.
func TestArrangement(t *testing.T) {
	for _, s := range arranged {
		p := parse(t, s)
		for _, n := range []int{1, 5, 64, 211} {
			require.True(t, n < 5 || arrangeable(p, n), s)
			ls, err := compiled.get(p, p.String(), n, n, true)
			require.NoError(t, err)
			for h, l := range ls {
				a, ok := arrange(p, h, n)
				require.True(t, ok)
				token := func(order []int32, r int) int {
					if order == nil {
						return r
					}
					return int(order[r])
				}
				pairs := decode(t, l)
				for r := range n {
					for c := range n {
						i, j := token(a.q, r), token(a.k, c)
						require.Equal(t, p.Sees(h, i, j, n), pairs[[2]int{r, c}], "%s: head %d, query %d, key %d of %d", s, h, i, j, n)
					}
				}
				require.Equal(t, p.NNZ(h, n), l.Pairs(), "%s: no pair is lost", s)
			}
		}
	}
	for _, s := range []string{"band(3,3)", "full", "dilated(3,3,2) + global(0)", "heads(dilated(3,0,2); full)", "strided(8)", "blocks(3)"} {
		require.False(t, arrangeable(parse(t, s), 100), s)
	}
}

// Halves share no pair and have all of them, by query, by key and in number.
func TestHalves(t *testing.T) {
	for _, s := range halved {
		p := parse(t, s)
		parts := halves(p)
		require.Len(t, parts, 2, s)
		for _, n := range []int{1, 5, 13, 64, 101} {
			for h := range p.Heads() {
				var nnz int64
				for _, part := range parts {
					require.Equal(t, p.Heads(), part.Heads())
					nnz += part.NNZ(h, n)
					cols := make([][]int, n)
					for i := range n {
						for _, j := range Keys(part, h, i, n) {
							cols[j] = append(cols[j], i)
							require.True(t, part.Sees(h, i, j, n), "%s: %s", s, part)
						}
					}
					for j := range n {
						require.Equal(t, append([]int{}, cols[j]...), positions(part.Col(h, j, n, nil)), "%s: %s", s, part)
					}
				}
				require.Equal(t, p.NNZ(h, n), nnz, s)
				for i := range n {
					for j := range n {
						a, b := parts[0].Sees(h, i, j, n), parts[1].Sees(h, i, j, n)
						require.False(t, a && b, "%s: query %d key %d is in both", s, i, j)
						require.Equal(t, p.Sees(h, i, j, n), a || b, "%s: query %d key %d", s, i, j)
					}
				}
			}
		}
	}
	for _, s := range []string{"full", "band(3,3)", "band(1,1) + global(0)", "blocks(8) + summary(8,2)", "causal(blocks(9)) + summary(8,2)"} {
		require.Nil(t, halves(parse(t, s)), s)
	}
}

// What is computed in an arrangement or in two passes is that, and gives the same.
func TestArrangedAttention(t *testing.T) {
	for text, passes := range map[string]int{"strided(32)": 2, "fixed(32,2)": 2, "summary(32,2)": 1, "heads(causal(blocks(32)); summary(32,2))": 1,
		"column(40,32)": 1, "band(31,0) + dilated(33554432,0,32)": 2, "band(200,40) + random(2,1)": 2, "beyond(blocks(99); random(2,1))": 2} {
		s := scene{pattern: "causal(" + text + ")", b: 2, tq: 1280, heads: 2, d: 2, fused: true, lens: []int32{1280, 777}}
		if strings.Contains(text, "random") { // which pays in long sequences alone
			s.b, s.tq, s.heads, s.lens = 1, 3000, 1, []int32{2777}
		}
		want := s
		want.route = byTiles
		g := s.build(t, tensor.Float64)
		nodes := 0
		for _, n := range g.b.Graph().AllNodes() {
			if op, ok := engine.OpOf(n).(*attend); ok {
				nodes++
				require.Equal(t, nodes != 1 || passes == 1, op.orderQ != nil || op.orderK != nil || op.edges != nil, text)
			}
		}
		require.Equal(t, passes, nodes, text)
		a, b := want.build(t, tensor.Float64).run(t), g.run(t)
		a.equal(t, b, 1e-11, text)
	}
}
