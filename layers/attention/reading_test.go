package attention

import (
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/layers"
)

// readingsOf runs a graph and returns what stands in it.
func readingsOf(t *testing.T, b *layers.Builder, example int) (all []Pattern, found []Reading) {
	found = Readings(b)
	var want Nodes
	for _, r := range found {
		want = append(want, r.Inputs()...)
	}
	all = make([]Pattern, len(found))
	p, err := engine.Compile(b.Graph(), append(want, found[0].nodes...), engine.Options{})
	require.NoError(t, err)
	require.NoError(t, p.Run())
	for i, r := range found {
		all[i], err = r.Of(func(n *Node) engine.Value { return p.Value(n) }, example)
		require.NoError(t, err)
	}
	return all, found
}

// What a graph says it read is the pattern it was given, of an example with padding that of its tokens, whichever way it is computed.
func TestReadingsOfPatterns(t *testing.T) {
	eachPattern(t, func(t *testing.T, p Pattern) {
		if (spaceOf(p) != space{}) {
			return
		}
		heads := max(2, p.Heads())
		s := scene{of: p, b: 2, tq: 41, heads: heads, d: 3, fused: true, lens: []int32{41, 29}}
		for example, n := range s.lens {
			read, found := readingsOf(t, s.build(t, tensor.Float64).b, example)
			require.Len(t, read, 1, "the parts of a layer are one: %s", p)
			require.Equal(t, heads, found[0].Heads)
			got, want := read[0], 0
			length := 41
			if p.FromEnd() {
				length = int(n)
			}
			for h := range heads {
				for i := range 41 {
					for j := range 41 {
						sees := i < int(n) && j < int(n) && p.Sees(h%p.Heads(), i, j, length)
						require.Equal(t, sees, got.Sees(h, i, j, 41), "%s: head %d, %d reads %d of %d", p, h, i, j, n)
						want += map[bool]int{true: 1}[sees]
					}
				}
			}
			total := 0
			for h := range got.Heads() {
				total += int(got.NNZ(h, 41))
			}
			require.Equal(t, want, total)
			viewsAgree(t, got, 41)
		}
	})
}

// What layers chose is what their inputs say.
func TestReadingsOfChoices(t *testing.T) {
	s := sortedCase{choiceCase: choiceCase{b: 2, tq: 53, tk: 53, heads: 2, d: 3, dv: 3, lens: []int32{53, 40}},
		Sorted: Sorted{ChunkQ: 7, Before: 1, Causal: true, Others: true}, rounds: 3, groups: 2}
	lists := choiceCase{b: 2, tq: 53, tk: 53, heads: 2, d: 3, dv: 3, lens: []int32{53, 40}}
	keys := drawKeys(&lists, 1, 5)
	lists.listed(keys, 1, 5)
	lists.add = func(b *layers.Builder, c Chosen, q, k, v *Node) (*Node, *Node) {
		return AttendChosen(b, c, keysNode(b, "keys", keys, 2, 1, 53, 5), q, k, v)
	}
	s.prepare()
	for _, c := range []choiceCase{s.choiceCase, lists} {
		c = c.known()
		for example, n := range c.lens {
			read, _ := readingsOf(t, c.build(t, tensor.Float64).g.b, example)
			for h := range c.heads {
				for i := range c.tq {
					want := map[int]bool{}
					if _, list := c.reads(example, h, i); i < int(n) {
						for _, j := range list {
							want[j] = j < int(n)
						}
					}
					for j := range c.tk {
						require.Equal(t, want[j], read[0].Sees(h, i, j, c.tq), "head %d, %d reads %d", h, i, j)
					}
				}
			}
		}
	}
	cross := choiceCase{b: 1, tq: 5, tk: 9, heads: 1, d: 3, dv: 3, cross: true, add: func(b *layers.Builder, c Chosen, q, k, v *Node) (*Node, *Node) {
		return Attend(b, Config{Heads: 1, Cross: true}, q, k, v)
	}}
	_, err := Readings(cross.build(t, tensor.Float64).g.b)[0].Of(nil, 0)
	require.ErrorContains(t, err, "of another sequence")
}
