package attention

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/layers"
)

// byBuckets is an order as hashing makes it: tokens by a random bucket, then by place, for every head and round.
func byBuckets(groups, rounds, n, buckets int) []int32 {
	var all []int32
	for x := range groups * rounds {
		order := make([]int32, n)
		key := make([]int, n)
		for i := range order {
			order[i] = int32(i)
			key[i] = int((noise("bench", x*n+i) + 1) / 2 * float64(buckets))
		}
		slices.SortStableFunc(order, func(a, b int32) int { return key[a] - key[b] })
		all = append(all, order...)
	}
	return all
}

// BenchmarkSorted is a forward and a backward pass at 4,096 tokens, 4 heads of 64, and of static patterns for comparison.
func BenchmarkSorted(b *testing.B) {
	const n, heads, d = 4096, 4, 64
	for name, add := range map[string]func(b *layers.Builder, q, k, v *Node) *Node{
		"reformer": func(b *layers.Builder, q, k, v *Node) *Node {
			order := keysNode(b, "order", byBuckets(heads, 2, n, 128), 1, heads, 2, n)
			o, _ := AttendSorted(b, Sorted{Chosen: Chosen{Heads: heads, LastResort: true}, OrderQ: order, ChunkQ: 64, Before: 1, Causal: true, Others: true, Once: true}, q, k, v)
			return o
		},
		"one round, not sorted": func(b *layers.Builder, q, k, v *Node) *Node {
			order := make([]int32, n)
			for i := range order {
				order[i] = int32(i)
			}
			o, _ := AttendSorted(b, Sorted{Chosen: Chosen{Heads: heads}, OrderQ: keysNode(b, "order", order, 1, 1, n), ChunkQ: 64, Before: 1, Causal: true}, q, k, v)
			return o
		},
		"window-blocks of the same pairs": func(b *layers.Builder, q, k, v *Node) *Node {
			p, err := Parse("causal(window-blocks(64,2))")
			if err != nil {
				return b.Fail(err)
			}
			o, _ := Attend(b, Config{Pattern: p, Heads: heads}, q, k, v)
			return o
		},
		"routing": func(b *layers.Builder, q, k, v *Node) *Node {
			order := byBuckets(heads, 1, n, 1<<30)
			for x := 0; x < len(order); x += 256 {
				slices.Sort(order[x : x+256])
			}
			o, _ := AttendSorted(b, Sorted{Chosen: Chosen{Heads: heads}, OrderQ: keysNode(b, "order", order, 1, heads, n), ChunkQ: 256, Causal: true, Slots: true}, q, k, v)
			return o
		},
		"top 32": func(b *layers.Builder, q, k, v *Node) *Node {
			return TopK{K: 32, Causal: true}.attend(b, Chosen{Heads: heads}, q, k, v)
		},
		"ivf 32": func(b *layers.Builder, q, k, v *Node) *Node {
			return MIPS{K: 32, Causal: true, Rerank: true}.attend(b, Chosen{Heads: heads}, q, k, v)
		},
		"full": func(b *layers.Builder, q, k, v *Node) *Node {
			o, _ := Attend(b, Config{Pattern: Causal(Full{}), Heads: heads}, q, k, v)
			return o
		},
		"chosen": func(b *layers.Builder, q, k, v *Node) *Node {
			keys := make([]int32, heads*n*32)
			for x := range keys {
				keys[x] = int32(x%32*128 + x/32%128)
			}
			o, _ := AttendChosen(b, Chosen{Heads: heads}, keysNode(b, "keys", keys, 1, heads, n, 32), q, k, v)
			return o
		},
	} {
		b.Run(name, func(b *testing.B) {
			g := layers.New(gorgonia.NewGraph(), layers.NewParams(tensor.Float32), layers.Options{})
			var in Nodes
			for _, name := range []string{"q", "k", "v"} {
				x := g.Input(name, tensor.Float32, 1, n, heads*d)
				fillFrom(layers.InputValue(x), name)
				in = append(in, x)
			}
			o := add(g, in[0], in[1], in[2])
			require.NoError(b, g.Err())
			dout := g.Input("do", tensor.Float32, o.Shape()...)
			fillFrom(layers.InputValue(dout), "do")
			ds, err := engine.VJP(Nodes{o}, Nodes{dout}, in, nil)
			require.NoError(b, err)
			p, err := engine.Compile(g.Graph(), append(Nodes{o}, ds...), engine.Options{})
			require.NoError(b, err)
			require.NoError(b, p.Run())
			b.ReportAllocs()
			for b.Loop() {
				if err := p.Run(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
