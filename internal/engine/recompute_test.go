package engine

import (
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/tensor"
)

// layers is a chain of blocks: each norm-like cheap operation, a product, a packed pair seen through views, a residual.
func layers(b *build, depth int) (loss *Node, wrt Nodes, block func(*Node) int) {
	in := map[*Node]int{}
	x := b.input(13, 7)
	wrt = Nodes{x}
	h := x
	for l := range depth {
		from := len(b.g.AllNodes())
		w, u := b.input(7, 7), b.input(7, 7)
		wrt = append(wrt, w, u)
		c := b.op(cheap{tanh}, h)
		p := b.op(both{}, b.op(mat{}, c, w))
		s := b.op(times{}, b.view(p, 0, 13, 7), b.view(p, 91, 13, 7))
		s = b.op(cheap{sine}, b.view(b.op(cheap{sine}, b.op(noise{uint64(l)}, s)), 0, 13, 7))
		h = b.view(b.view(b.add(h, b.op(mat{}, s, u)), 0, 91), 0, 13, 7)
		for _, n := range b.g.AllNodes()[from:] {
			if _, ok := OpOf(n).(view); !ok { // views are known to belong to what they show
				in[n] = l + 1
			}
		}
	}
	return b.op(total{0.1}, b.op(times{}, h, h)), wrt, func(n *Node) int { return in[n] }
}

func TestRecompute(t *testing.T) {
	const depth = 8
	type variant struct {
		name string
		of   func(block func(*Node) int) *Recompute
	}
	variants := []variant{
		{"none", func(func(*Node) int) *Recompute { return nil }},
		{"cheap", func(func(*Node) int) *Recompute { return &Recompute{Cheap: true} }},
		{"block", func(f func(*Node) int) *Recompute { return &Recompute{Block: f} }},
		{"both", func(f func(*Node) int) *Recompute { return &Recompute{Cheap: true, Block: f} }},
		{"every:3", func(f func(*Node) int) *Recompute {
			return &Recompute{Block: func(n *Node) int { return (f(n) + 2) / 3 }}
		}},
		{"keep all", func(f func(*Node) int) *Recompute {
			return &Recompute{Cheap: true, Block: f, Keep: func(*Node) bool { return true }}
		}},
	}
	var want [][]float64
	peak, nodes := map[string]int{}, map[string]int{}
	for _, v := range variants {
		b := newBuild(t, tensor.Float32)
		loss, wrt, block := layers(b, depth)
		gs := b.grad(v.of(block), loss, wrt...)
		p := b.compile(Options{Poison: true}, append(Nodes{loss}, gs...)...)
		b.run(p)
		for i, n := range append(Nodes{loss}, gs...) {
			if v.name == "none" {
				want = append(want, elements(p.Value(n)))
			} else {
				require.Equal(t, want[i], elements(p.Value(n)), "%s: output %d", v.name, i)
			}
		}
		peak[v.name], nodes[v.name] = p.Plan().Arena, p.Plan().Nodes
	}
	require.Less(t, peak["cheap"], peak["none"])
	require.Less(t, peak["block"], peak["cheap"])
	require.LessOrEqual(t, peak["both"], peak["block"])
	require.Less(t, peak["every:3"], peak["none"])
	require.Equal(t, peak["none"], peak["keep all"])
	require.Equal(t, nodes["none"], nodes["keep all"])
	require.Greater(t, nodes["block"], nodes["none"])
	require.Greater(t, nodes["both"], nodes["block"])
}

func TestRecomputeFiniteDifferences(t *testing.T) {
	b := newBuild(t, tensor.Float64)
	loss, wrt, block := layers(b, 2)
	finite(b, loss, wrt[:2], b.grad(&Recompute{Cheap: true, Block: block}, loss, wrt[:2]...))
}

// What the forward pass computes is not read by the backward pass, except what leaves a block.
func TestRecomputeFreesTheBlock(t *testing.T) {
	b := newBuild(t, tensor.Float64)
	loss, wrt, block := layers(b, 3)
	first := len(b.g.AllNodes())
	gs := b.grad(&Recompute{Block: block}, loss, wrt...)
	order, kids := below(append(Nodes{loss}, gs...), nil)
	for _, n := range order {
		for _, c := range kids[n] {
			if n.ID() >= int64(first) && c.ID() < int64(first) && c.Op() != nil {
				out := block(c) == 0
				for _, r := range order {
					for _, k := range kids[r] {
						out = out || k == c && block(r) != block(c) && r.ID() < int64(first)
					}
				}
				require.True(t, out, "%v reads %v", n, c)
			}
		}
	}
}
