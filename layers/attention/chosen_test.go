package attention

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/layers"
)

// choiceCase is a call of attention on chosen keys, and what it should read.
type choiceCase struct {
	b, tq, tk, heads, d, dv int
	scale                   float64
	lens, lensQ             []int32
	cross, lastResort       bool
	wantLSE                 bool
	rows                    int // of results; 0: tq
	// reads are the keys of a row of results of token i, as often as they count; nil: those of token i. Of padding it is not asked.
	reads func(b, h, row int) (token int, keys []int)
	add   func(b *layers.Builder, c Chosen, q, k, v *Node) (o, lse *Node)
}

// choiceGraph is the graph of a case.
type choiceGraph struct {
	choiceCase
	g graph
}

func (c choiceCase) results() int {
	if c.rows > 0 {
		return c.rows
	}
	return c.tq
}

func (c choiceCase) build(t require.TestingT, dtype tensor.Dtype) choiceGraph {
	b := layers.New(gorgonia.NewGraph(), layers.NewParams(dtype), layers.Options{})
	input := func(name string, shape ...int) *Node {
		n := b.Input(name, dtype, shape...)
		fillFrom(layers.InputValue(n), name)
		return n
	}
	lens := func(name string, v []int32) *Node {
		if v == nil {
			return nil
		}
		n := b.Input(name, tensor.Int32, c.b)
		copy(layers.InputValue(n).Int32s(), v)
		return n
	}
	q, k, v := input("q", c.b, c.tq, c.heads, c.d), input("k", c.b, c.tk, c.heads, c.d), input("v", c.b, c.tk, c.heads, c.dv)
	g := choiceGraph{choiceCase: c, g: graph{b: b, in: Nodes{q, k, v}}}
	g.g.o, g.g.lse = c.add(b, Chosen{Heads: c.heads, Scale: c.scale, Lens: lens("lens", c.lens), LensQ: lens("lens_q", c.lensQ), Cross: c.cross,
		LastResort: c.lastResort}, q, k, v)
	require.NoError(t, b.Err())
	g.g.cost = layers.Sum(b, layers.Mul(b, g.g.o, input("weight o", g.g.o.Shape()...)))
	if c.wantLSE {
		g.g.cost = layers.Add(b, g.g.cost, layers.Sum(b, layers.Mul(b, g.g.lse, input("weight lse", g.g.lse.Shape()...))))
	}
	require.NoError(t, b.Err())
	return g
}

// oracle is o, lse and cost by definition, in float64, of the values that are in q, k and v.
func (c choiceCase) oracle(q, k, v []float64) (o, lse []float64, cost float64) {
	n := c.results()
	scale := c.scale
	if scale == 0 {
		scale = 1 / math.Sqrt(float64(c.d))
	}
	o, lse = make([]float64, c.b*n*c.heads*c.dv), make([]float64, c.b*c.heads*n)
	for at := range lse {
		b, h, row := at/n/c.heads, at/n%c.heads, at%n
		lse[at] = math.Inf(-1)
		token, keys := c.reads(b, h, row)
		lq, lk := c.tq, c.tk
		if c.lens != nil {
			lk = int(c.lens[b])
			if !c.cross {
				lq = lk
			}
		}
		if c.lensQ != nil {
			lq = int(c.lensQ[b])
		}
		if token < 0 || token >= lq {
			continue
		}
		keys = slices.DeleteFunc(slices.Clone(keys), func(j int) bool { return j >= lk })
		out := o[((b*n+row)*c.heads+h)*c.dv:][:c.dv]
		value := func(j, e int) float64 { return v[((b*c.tk+j)*c.heads+h)*c.dv+e] }
		if len(keys) == 0 {
			if c.lastResort {
				lse[at] = 0
				for e := range out {
					out[e] = value(token, e)
				}
			}
			continue
		}
		s, top, sum := make([]float64, len(keys)), math.Inf(-1), 0.0
		for x, j := range keys {
			for e := range c.d {
				s[x] += scale * q[((b*c.tq+token)*c.heads+h)*c.d+e] * k[((b*c.tk+j)*c.heads+h)*c.d+e]
			}
			top = max(top, s[x])
		}
		for x := range s {
			s[x] = math.Exp(s[x] - top)
			sum += s[x]
		}
		lse[at] = top + math.Log(sum)
		for x, j := range keys {
			for e := range out {
				out[e] += s[x] / sum * value(j, e)
			}
		}
	}
	for i, x := range o {
		cost += x * 2 * noise("weight o", i)
	}
	for i, x := range lse {
		if c.wantLSE {
			cost += x * 2 * noise("weight lse", i)
		}
	}
	return o, lse, cost
}

// known keeps what reads says.
func (c choiceCase) known() choiceCase {
	type row struct {
		token int
		keys  []int
	}
	n, of := c.results(), c.reads
	all := make([]row, c.b*c.heads*n)
	for at := range all {
		all[at].token, all[at].keys = of(at/n/c.heads, at/n%c.heads, at%n)
	}
	c.reads = func(b, h, i int) (int, []int) {
		r := all[(b*c.heads+h)*n+i]
		return r.token, r.keys
	}
	return c
}

// check compares a case with its oracle, and its gradients with finite differences of that.
func (c choiceCase) check(t *testing.T) {
	c = c.known()
	g := c.build(t, tensor.Float64)
	got := g.g.run(t)
	in := make([][]float64, 3)
	for i, n := range g.g.in {
		in[i] = numbers(layers.InputValue(n))
	}
	o, lse, _ := c.oracle(in[0], in[1], in[2])
	close(t, o, got.o, 1e-12, "o")
	close(t, lse, got.lse, 1e-12, "lse")
	for i, x := range in {
		step := 1 + len(x)/15
		for at := i % step; at < len(x); at += step {
			const h = 1e-5
			was := x[at]
			x[at] = was + h
			_, _, up := c.oracle(in[0], in[1], in[2])
			x[at] = was - h
			_, _, down := c.oracle(in[0], in[1], in[2])
			x[at] = was
			require.InDelta(t, (up-down)/(2*h), got.grads[i][at], 2e-8, "gradient of %s at %d", g.g.in[i].Name(), at)
		}
	}
	single := c.build(t, tensor.Float32).g.run(t)
	close(t, got.o, single.o, 1e-5, "float32: o")
	close(t, got.lse, single.lse, 1e-5, "float32: lse")
	for i := range got.grads {
		close(t, got.grads[i], single.grads[i], 2e-5, "float32: gradients")
	}
}

// keysNode is an input of whole numbers.
func keysNode(b *layers.Builder, name string, v []int32, shape ...int) *Node {
	n := b.Input(name, tensor.Int32, shape...)
	copy(layers.InputValue(n).Int32s(), v)
	return n
}

// drawKeys lists keys at random for every query of every group, some negative, some twice; every ninth query has none.
func drawKeys(c *choiceCase, groups, width int) []int32 {
	keys := make([]int32, c.b*groups*c.tq*width)
	for x := range keys {
		if keys[x] = int32((noise("keys", x) + 1) / 2 * float64(c.tk+2)); keys[x] >= int32(c.tk) || x/width%9 == 4 && !c.wantLSE {
			keys[x] = -1
		}
	}
	return keys
}

// listed is what lists say.
func (c *choiceCase) listed(keys []int32, groups, width int) {
	c.reads = func(b, h, row int) (int, []int) {
		var out []int
		for _, j := range keys[((b*groups+h%groups)*c.tq+row)*width:][:width] {
			if j >= 0 {
				out = append(out, int(j))
			}
		}
		slices.Sort(out)
		return row, slices.Compact(out)
	}
}

func TestAttendChosenAgainstDefinition(t *testing.T) {
	for name, c := range map[string]choiceCase{
		"one group":     {b: 2, tq: 29, tk: 29, heads: 3, d: 5, dv: 7, wantLSE: true},
		"by head":       {b: 2, tq: 71, tk: 71, heads: 2, d: 8, dv: 8, scale: 0.7, rows: -2},
		"lengths":       {b: 3, tq: 17, tk: 17, heads: 2, d: 3, dv: 2, lens: []int32{17, 5, 0}, rows: -2},
		"last resort":   {b: 3, tq: 17, tk: 17, heads: 2, d: 3, dv: 2, lens: []int32{17, 5, 0}, rows: -2, lastResort: true},
		"cross":         {b: 2, tq: 11, tk: 43, heads: 2, d: 5, dv: 3, cross: true, lens: []int32{43, 7}, lensQ: []int32{3, 11}},
		"cross by head": {b: 1, tq: 37, tk: 5, heads: 2, d: 8, dv: 8, cross: true, rows: -2},
	} {
		t.Run(name, func(t *testing.T) {
			groups := 1
			if c.rows < 0 {
				groups, c.rows = c.heads, 0
			}
			const width = 7
			keys := drawKeys(&c, groups, width)
			c.listed(keys, groups, width)
			c.add = func(b *layers.Builder, cfg Chosen, q, k, v *Node) (*Node, *Node) {
				return AttendChosen(b, cfg, keysNode(b, "keys", keys, c.b, groups, c.tq, width), q, k, v)
			}
			c.check(t)
		})
	}
}

func TestAttendEdgesAgainstDefinition(t *testing.T) {
	for _, links := range []Links{{}, {Self: true}, {Symmetric: true}, {Causal: true}, {Self: true, Symmetric: true}, {Self: true, Symmetric: true, Causal: true}} {
		t.Run(fmt.Sprintf("%+v", links), func(t *testing.T) {
			c := choiceCase{b: 2, tq: 23, tk: 23, heads: 2, d: 5, dv: 3, lens: []int32{23, 14}}
			const m = 31
			edges := make([]int32, c.b*c.heads*m*2)
			for x := range edges {
				if edges[x] = int32((noise("edges", x) + 1) / 2 * 24); edges[x] == 23 {
					edges[x] = -1
				}
			}
			copy(edges[2:], edges[:2]) // twice
			c.reads = func(b, h, row int) (int, []int) {
				var out []int
				if links.Self {
					out = append(out, row)
				}
				of := edges[(b*c.heads+h)*m*2:][:m*2]
				for x := 0; x < len(of); x += 2 {
					i, j := int(of[x]), int(of[x+1])
					if i < 0 || j < 0 {
						continue
					}
					if links.Causal {
						i, j = max(i, j), min(i, j)
					}
					if i == row {
						out = append(out, j)
					}
					if links.Symmetric && !links.Causal && j == row {
						out = append(out, i)
					}
				}
				slices.Sort(out)
				return row, slices.Compact(out)
			}
			c.add = func(b *layers.Builder, cfg Chosen, q, k, v *Node) (*Node, *Node) {
				return AttendEdges(b, cfg, links, keysNode(b, "edges", edges, c.b, c.heads, m, 2), q, k, v)
			}
			c.check(t)
		})
	}
}
