package bigbird_theory

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/euryale-ml/euryale/layers/attention"
)

// BigBird without any random block has a star; so every token depends on every other after two layers. The window alone does not.
func ExampleJacobian() {
	const n = 23
	for _, s := range []string{"big-bird(2,0,0)", "external(1) + big-bird-window(2,0,0)", "big-bird-window(2,0,0)"} {
		p, _ := attention.Parse(s)
		center, star := attention.HasStar(p, n)
		fmt.Printf("%s: star %v (node %d)", s, star, center)
		for depth := 1; depth <= 2; depth++ {
			moves, err := Jacobian(p, n, depth)
			if err != nil {
				fmt.Println(err)
				return
			}
			pairs := 0
			for _, x := range moves {
				if x != 0 {
					pairs++
				}
			}
			fmt.Printf(", %d layers: %d of %d pairs", depth, pairs, n*n)
		}
		fmt.Println()
	}
	// Output:
	// big-bird(2,0,0): star true (node 0), 1 layers: 241 of 529 pairs, 2 layers: 529 of 529 pairs
	// external(1) + big-bird-window(2,0,0): star true (node 0), 1 layers: 169 of 529 pairs, 2 layers: 529 of 529 pairs
	// big-bird-window(2,0,0): star false (node -1), 1 layers: 129 of 529 pairs, 2 layers: 205 of 529 pairs
}

// The support of the Jacobian is what the graph reaches, and not a number more.
func TestJacobianIsReach(t *testing.T) {
	const n = 19
	for _, s := range []string{"big-bird(2,1,3)", "big-bird-window(2,1,3)", "causal(big-bird(2,1,3))", "band(1,1)"} {
		p, err := attention.Parse(s)
		require.NoError(t, err)
		for depth := 1; depth <= 3; depth++ {
			moves, err := Jacobian(p, n, depth)
			require.NoError(t, err)
			reach := make([]bool, n*n)
			for i := range n {
				reach[i*n+i] = true
			}
			for range depth {
				next := make([]bool, n*n)
				for e := range next {
					i, j := e/n, e%n
					next[e] = reach[e]
					for k := range n {
						next[e] = next[e] || p.Sees(0, i, k, n) && reach[k*n+j]
					}
				}
				reach = next
			}
			for e := range reach {
				if reach[e] {
					require.Greater(t, moves[e], 1e-9, "%s, %d layers: %d does not depend on %d", s, depth, e/n, e%n)
				} else {
					require.Zero(t, moves[e], "%s, %d layers: %d depends on %d", s, depth, e/n, e%n)
				}
			}
		}
	}
}
