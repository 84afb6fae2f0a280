package engine

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
	"pgregory.net/rapid"
)

// Any graph gives the same bits on a shared, poisoned arena as with memory of its own for every node.
func TestArenaEqualsNaive(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		dt := []tensor.Dtype{tensor.Float32, tensor.Float64}[rapid.IntRange(0, 1).Draw(r, "dtype")]
		b := newBuild(t, dt)
		outs := random(b, r)
		naive, shared := b.compile(Options{private: true}, outs...), b.compile(Options{Poison: true}, outs...)
		plain := b.compile(Options{CheckFinite: true}, outs...)
		for range 2 {
			for _, p := range []*Program{naive, shared, plain} {
				b.run(p)
			}
			for i, n := range outs {
				want := elements(naive.Value(n))
				require.Equal(t, want, elements(shared.Value(n)), "output %d", i)
				require.Equal(t, want, elements(plain.Value(n)), "output %d", i)
			}
			put(b.g.Inputs()[0].Value(), 0, 0.25)
		}
		apart(t, plain)
		require.LessOrEqual(t, plain.Plan().Live, plain.Plan().Arena)
		require.LessOrEqual(t, plain.Plan().Arena, naive.Plan().Arena)
	})
}

// random draws a graph of [3,16] values, and a choice of outputs and gradients.
func random(b *build, r *rapid.T) Nodes {
	pool := Nodes{b.input(3, 16), b.input(3, 16)}
	pick := func() *Node { return pool[rapid.IntRange(0, len(pool)-1).Draw(r, "input")] }
	var inputs = append(Nodes(nil), pool...)
	for range rapid.IntRange(1, 24).Draw(r, "nodes") {
		var n *Node
		switch rapid.IntRange(0, 9).Draw(r, "op") {
		case 0:
			n = b.op(tanh, pick())
		case 1:
			n = b.op(cheap{sine}, pick())
		case 2:
			n = b.op(times{}, pick(), pick())
		case 3:
			n = b.add(pick(), pick())
		case 4:
			n = b.op(subOp{}, pick(), pick())
		case 5:
			n = b.view(b.op(both{}, pick()), 48*rapid.IntRange(0, 1).Draw(r, "part"), 3, 16)
		case 6:
			n = b.view(pick(), 0, 16, 3)
			n = b.view(b.op(tanh, n), 0, 3, 16)
		case 7:
			h := 16 * rapid.IntRange(1, 2).Draw(r, "cut")
			j, err := Join([]int{3, 16}, []int{0, h}, b.view(pick(), 0, h), b.view(b.op(sine, pick()), h, 48-h))
			require.NoError(b.t, err)
			n = j
		case 8:
			x, y := b.op(tanh, pick()), b.op(noise{2}, pick())
			j, err := Join([]int{112}, []int{0, 64}, x, y)
			require.NoError(b.t, err)
			n = b.view(j, 16*rapid.IntRange(0, 4).Draw(r, "at"), 3, 16)
		default:
			n = b.input(3, 16)
			inputs = append(inputs, n)
		}
		pool = append(pool, n)
	}
	outs := Nodes{pool[len(pool)-1]}
	for range rapid.IntRange(0, 3).Draw(r, "outputs") {
		outs = append(outs, pick())
	}
	if rapid.Bool().Draw(r, "gradients") {
		loss := b.op(total{0.2}, b.op(tanh, outs[0]))
		rec := &Recompute{Cheap: rapid.Bool().Draw(r, "cheap")}
		if every := rapid.Int64Range(0, 7).Draw(r, "block"); every > 0 {
			rec.Block = func(n *Node) int { return int(n.ID()/every) + 1 }
		}
		outs = append(outs, b.grad(rec, loss, inputs...)...)
	}
	return outs
}

// apart checks that buffers in use at the same time do not overlap, and are aligned.
func apart(t testing.TB, p *Program) {
	for i, a := range p.bufs {
		if a.bound != nil || a.into >= 0 {
			continue
		}
		require.Zero(t, a.offset%align)
		for _, b := range p.bufs[:i] {
			if b.bound == nil && b.into < 0 && a.def <= b.last && b.def <= a.last {
				require.False(t, a.offset < b.offset+b.bytes && b.offset < a.offset+a.bytes)
			}
		}
	}
}

func TestInPlace(t *testing.T) {
	b := newBuild(t, tensor.Float64)
	x := b.input(3, 5)
	a := b.op(tanh, x)                  // over an input: never
	c := b.op(tanh, a)                  // a dies: in place
	d := b.op(tanh, c)                  // c is read again below
	e := b.op(times{}, c, d)            // prefers d
	f := b.view(e, 0, 5, 3)             // shows e
	h := b.op(tanh, f)                  // e is an output
	i := b.op(times{}, h, h)            // both inputs are one buffer
	k := b.op(tanh, b.view(i, 0, 3, 5)) // through a view of all of i
	l := b.op(tanh, b.view(k, 5, 5))    // a part of k: its own buffer
	p := b.compile(Options{Poison: true}, e, l)
	buf := map[*Node]int{}
	for _, s := range p.steps {
		buf[s.node] = s.buf
	}
	require.NotEqual(t, buf[x], buf[a])
	require.Equal(t, buf[a], buf[c])
	require.NotEqual(t, buf[c], buf[d])
	require.Equal(t, buf[d], buf[e])
	require.Equal(t, buf[e], buf[f])
	require.NotEqual(t, buf[f], buf[h])
	require.NotEqual(t, buf[h], buf[i])
	require.Equal(t, buf[i], buf[k])
	require.NotEqual(t, buf[k], buf[l])
	before := elements(x.Value())
	b.run(p)
	require.Equal(t, before, elements(x.Value()))
}

// Parts of a join are computed in place where that keeps them aligned.
func TestJoinInPlace(t *testing.T) {
	b := newBuild(t, tensor.Float32)
	x := b.input(3, 16)
	parts := Nodes{b.op(tanh, x), b.op(sine, x), b.op(noise{1}, x)}
	j, err := Join([]int{160}, []int{0, 55, 112}, parts...)
	require.NoError(t, err)
	p := b.compile(Options{Poison: true}, j)
	b.run(p)
	whole := p.steps[len(p.steps)-1].buf
	for i, k := range p.steps[len(p.steps)-1].kids {
		r, at := root(p.bufs, p.steps[k].buf)
		require.Equal(t, i != 1, r == whole, "part %d", i)
		require.Zero(t, at%align)
	}
	require.InDelta(t, math.Sin(at(x.Value(), 0)), at(p.Value(j), 55), 1e-6)
	require.Zero(t, at(p.Value(j), 48))
}

func TestViewsOfInputs(t *testing.T) {
	b := newBuild(t, tensor.Float32)
	x := b.input(3, 5)
	v := b.view(x, 5, 2, 5)
	s := b.view(x, 7)
	p := b.compile(Options{}, x, v, s)
	b.run(p)
	require.Equal(t, elements(x.Value())[5:], elements(p.Value(v)))
	require.Equal(t, elements(x.Value())[7:8], elements(p.Value(s)))
	require.IsType(t, gorgonia.NewF32(0), p.Value(s))
	require.Zero(t, p.Plan().Arena)
	require.Equal(t, 60, p.Plan().Inputs)
	_, err := View(x, 6, 2, 5)
	require.ErrorContains(t, err, "elements 6 to 16 do not lie in float32(3, 5)")
	_, err = Reshape(x, 2, 5)
	require.ErrorContains(t, err, "has 15 elements")
}

// Nodes run by age, not depth first: a gradient is used up before the next layer's is made.
func TestOrder(t *testing.T) {
	b := newBuild(t, tensor.Float64)
	loss, wrt, _ := layers(b, 3)
	p := b.compile(Options{}, append(b.grad(nil, loss, wrt...), loss)...)
	for i, s := range p.steps {
		if i > 0 {
			require.Greater(t, s.node.ID(), p.steps[i-1].node.ID())
		}
		for _, k := range s.kids {
			require.Less(t, k, i)
		}
	}
}

func TestPlanText(t *testing.T) {
	b := newBuild(t, tensor.Float32)
	loss, wrt, block := layers(b, 3)
	scope := func(n *Node) string {
		if l := block(n); l > 0 {
			return fmt.Sprintf("decoder.h.%d", l-1)
		}
		return ""
	}
	p := b.compile(Options{Scope: scope}, append(b.grad(&Recompute{Block: block}, loss, wrt...), loss)...)
	text := p.Plan().String()
	for _, s := range []string{"nodes      ", "passing    ", "peak at    ", "gradient of decoder.h.0: ", "GFLOP", "mat"} {
		require.True(t, strings.Contains(text, s), "%s\n%s", s, text)
	}
	require.Contains(t, fmt.Sprint(p.steps), "again decoder.h.1")
	// 6 products forward, 12 backward, 6 again of which the last of each block is not needed
	require.Equal(t, float64(6+12+3)*2*13*7*7, p.Plan().Flops["mat"])
	require.Equal(t, 4*(13*7+6*7*7+1), p.Plan().Outputs)
	sum := 0
	for _, h := range p.Plan().Holding {
		sum += roundUp(h.Bytes)
	}
	require.Equal(t, p.Plan().Live, sum)
}

func TestCompileErrors(t *testing.T) {
	b := newBuild(t, tensor.Float32)
	x := gorgonia.NewMatrix(b.g, tensor.Float32, gorgonia.WithShape(3, 5), gorgonia.WithName("tokens"))
	y := b.op(tanh, x)
	_, err := Compile(b.g, Nodes{y}, Options{})
	require.ErrorContains(t, err, `input "tokens" has no value`)
	_, err = Compile(b.g, nil, Options{})
	require.Error(t, err)
	_, err = Compile(gorgonia.NewGraph(), Nodes{y}, Options{})
	require.ErrorContains(t, err, "output 0 is not a node of the graph")
	v := tensor.New(tensor.WithShape(5, 3), tensor.WithBacking(make([]float32, 15)))
	require.NoError(t, v.T())
	require.NoError(t, gorgonia.Let(x, v))
	_, err = Compile(b.g, Nodes{y}, Options{})
	require.ErrorContains(t, err, "row-major")
}
