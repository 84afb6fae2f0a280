package attention

import (
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/layers"
)

// starScene is some steps of a Star-Transformer on given embeddings.
type starScene struct {
	mode          StarMode
	open          bool
	b, t, c, h, d int
	lens          []int32
	steps         int
}

// starGraph is a scene built. e are embeddings, s the first relay.
type starGraph struct {
	b         *layers.Builder
	e, s      *Node
	h, relay  *Node
	cost      *Node
	lens      []int32
	weights   Nodes
	ownParams []*layers.Param
}

func (s starScene) config() StarConfig {
	return StarConfig{Mode: s.mode, Heads: s.h, HeadSize: s.d, Inner: 7, Eps: 1e-3, Open: s.open}
}

func (s starScene) build(t *testing.T, dtype tensor.Dtype) starGraph {
	g := starGraph{b: layers.New(gorgonia.NewGraph(), layers.NewParams(dtype), layers.Options{Training: true})}
	c := s.config()
	if s.lens != nil {
		c.Lens = g.b.Input("lens", tensor.Int32, s.b)
		g.lens = layers.InputValue(c.Lens).Int32s()
		copy(g.lens, s.lens)
	}
	g.e, g.s = g.b.Input("e", dtype, s.b, s.t, s.c), g.b.Input("s", dtype, s.b, 1, s.c)
	g.h, g.relay = g.e, g.s
	for k := range s.steps {
		g.h, g.relay = StarStep(g.b.Scope(fmt.Sprint(k)), c, g.h, g.e, g.relay)
	}
	require.NoError(t, g.b.Err())
	g.ownParams, g.weights = g.b.Weights()
	for _, n := range append(Nodes{g.e, g.s}, g.weights...) {
		fillFrom(layers.InputValue(n), n.Name())
	}
	sum := func(n *Node, name string) *Node {
		w := g.b.Input(name, dtype, n.Shape()...)
		fillFrom(layers.InputValue(w), name)
		return layers.Sum(g.b, layers.Mul(g.b, n, w))
	}
	h := g.h
	if s.lens != nil { // rows of padding are nobody's
		h = layers.MaskRows(g.b, h, c.Lens)
	}
	g.cost = layers.Add(g.b, sum(h, "weight h"), sum(g.relay, "weight s"))
	require.NoError(t, g.b.Err())
	return g
}

// forward runs a scene for h and the relay.
func (g starGraph) forward(t *testing.T) func() (h, s []float64) {
	p, err := engine.Compile(g.b.Graph(), Nodes{g.h, g.relay}, engine.Options{})
	require.NoError(t, err)
	return func() (h, s []float64) {
		require.NoError(t, p.Run())
		return numbers(p.Value(g.h)), numbers(p.Value(g.relay))
	}
}

// TestStarStepAgainstDefinition: every mode and ring, examples of every short length in one batch, H·D other than C.
func TestStarStepAgainstDefinition(t *testing.T) {
	for _, mode := range []StarMode{StarPaper, StarFastNLP, StarResidual} {
		for _, open := range []bool{false, true} {
			s := starScene{mode: mode, open: open, b: 6, t: 7, c: 5, h: 2, d: 3, lens: []int32{7, 3, 2, 1, 0, 4}, steps: 2}
			t.Run(fmt.Sprint(mode, " open ", open), func(t *testing.T) {
				for _, precision := range []struct {
					dtype tensor.Dtype
					tol   float64
				}{{tensor.Float64, 1e-12}, {tensor.Float32, 3e-5}} {
					h, relay := s.build(t, precision.dtype).forward(t)()
					for b, n := range s.lens {
						var e []vec
						row := func(name string, i int) vec {
							x := make(vec, s.c)
							for k := range x {
								x[k] = 2 * noise(name, i*s.c+k)
							}
							return x
						}
						for i := range int(n) {
							e = append(e, row("e", b*s.t+i))
						}
						wantH, wantS := s.oracle().run(e, row("s", b))
						for i, want := range wantH {
							close(t, want, h[(b*s.t+i)*s.c:][:s.c], precision.tol, fmt.Sprintf("satellite %d of %d", i, n))
						}
						close(t, wantS, relay[b*s.c:][:s.c], precision.tol, fmt.Sprintf("relay of %d", n))
					}
				}
			})
		}
	}
}

// TestStarStepGradients: the engine's gradients against finite differences, for inputs and every weight.
func TestStarStepGradients(t *testing.T) {
	for _, mode := range []StarMode{StarPaper, StarFastNLP, StarResidual} {
		s := starScene{mode: mode, b: 2, t: 5, c: 5, h: 2, d: 3, lens: []int32{5, 2}, steps: 2}
		g := s.build(t, tensor.Float64)
		wrt := append(Nodes{g.e, g.s}, g.weights...)
		ds, err := engine.VJP(Nodes{g.cost}, Nodes{engine.Fill(g.b.Graph(), engine.TypeOf(g.cost), 1)}, wrt, nil)
		require.NoError(t, err)
		p, err := engine.Compile(g.b.Graph(), append(Nodes{g.cost}, ds...), engine.Options{})
		require.NoError(t, err)
		require.NoError(t, p.Run())
		var grads [][]float64
		for _, d := range ds {
			grads = append(grads, append([]float64(nil), numbers(p.Value(d))...))
		}
		cost := func() float64 {
			require.NoError(t, p.Run())
			return numbers(p.Value(g.cost))[0]
		}
		for k, n := range wrt {
			v := layers.InputValue(n).Float64s()
			for i := range v {
				if i > 3 && i < len(v)-1 {
					continue
				}
				const step = 1e-6
				old := v[i]
				v[i] = old + step
				up := cost()
				v[i] = old - step
				got := (up - cost()) / (2 * step)
				v[i] = old
				require.InDelta(t, got, grads[k][i], 1e-6*(1+math.Abs(got)), "%s: %s[%d]", mode, n.Name(), i)
			}
		}
	}
}

// TestStarReach: without the relay's first value a satellite sees itself and two neighbours, 21 of 49, after two steps everything.
func TestStarReach(t *testing.T) {
	const n, c = 7, 5
	for steps, want := range map[int]int{1: 21, 2: 49} {
		s := starScene{mode: StarFastNLP, b: 1, t: n, c: c, h: 2, d: 3, steps: steps} // a ReLU could hide what it is 0 for
		g := s.build(t, tensor.Float64)
		for _, p := range g.ownParams { // so small that no probability is 0
			for i, v := range p.Value.Float64s() {
				p.Value.Float64s()[i] = v / 4
			}
		}
		run := g.forward(t)
		before, _ := run()
		pattern, reached := Star{}, 0
		for j := range n {
			v := layers.InputValue(g.e).Float64s()[j*c:][:c]
			old := append(vec(nil), v...)
			for k := range v {
				v[k] += 0.1 * noise("change", k)
			}
			after, _ := run()
			copy(v, old)
			for i := range n {
				changed := false
				for k := range c {
					changed = changed || after[i*c+k] != before[i*c+k]
				}
				if changed {
					reached++
				}
				if steps == 1 {
					require.Equal(t, pattern.Sees(0, i+1, j+1, n+1), changed, "satellite %d, change of %d", i, j)
				}
			}
		}
		require.Equal(t, want, reached, "%d steps", steps)
	}
}

// TestStarIsCyclic: turning the input turns the satellites and leaves the relay; an open ring does not do that.
func TestStarIsCyclic(t *testing.T) {
	const n, c, turn = 11, 5, 3
	for _, open := range []bool{false, true} {
		s := starScene{mode: StarPaper, open: open, b: 1, t: n, c: c, h: 2, d: 3, steps: 3}
		g := s.build(t, tensor.Float64)
		run := g.forward(t)
		h, relay := run()
		v := layers.InputValue(g.e).Float64s()
		old := append(vec(nil), v...)
		for i := range v {
			v[(i+turn*c)%len(v)] = old[i]
		}
		turned, same := run()
		far := 0.0
		for i := range h {
			far = max(far, math.Abs(h[i]-turned[(i+turn*c)%len(h)]))
		}
		for i := range relay {
			far = max(far, math.Abs(relay[i]-same[i]))
		}
		if open {
			require.Greater(t, far, 1e-3)
		} else {
			require.Less(t, far, 1e-12)
		}
	}
}

// TestStarPadding: what an example gives does not depend on how much padding it carries, nor on what stands there.
func TestStarPadding(t *testing.T) {
	const n = 5
	var want []float64
	for _, padding := range []int{0, 1, 17} {
		s := starScene{mode: StarFastNLP, b: 1, t: n + padding, c: 5, h: 2, d: 3, lens: []int32{n}, steps: 2}
		h, relay := s.build(t, tensor.Float64).forward(t)()
		got := append(append(vec(nil), h[:n*s.c]...), relay...)
		if want == nil {
			want = got
		}
		require.Equal(t, want, got, "%d more", padding)
	}
}

// TestStarCost: work and memory of a step, with its gradient, grow with the length alone.
func TestStarCost(t *testing.T) {
	var flops, bytes []float64
	for _, n := range []int{2048, 4096, 8192} {
		s := starScene{mode: StarResidual, b: 1, t: n, c: 8, h: 2, d: 4, steps: 1}
		g := s.build(t, tensor.Float32)
		ds, err := engine.VJP(Nodes{g.cost}, Nodes{engine.Fill(g.b.Graph(), engine.TypeOf(g.cost), 1)}, g.weights, nil)
		require.NoError(t, err)
		p, err := engine.Compile(g.b.Graph(), append(Nodes{g.cost}, ds...), engine.Options{})
		require.NoError(t, err)
		flops, bytes = append(flops, p.Plan().TotalFlops()), append(bytes, float64(p.Plan().Arena))
		require.NoError(t, p.Close())
		// 5 slots of a satellite, and what the relay reads: the pairs of the star and the embeddings.
		require.EqualValues(t, 6*n+1, Star{}.NNZ(0, n+1)+int64(n))
	}
	for k := 1; k < len(flops); k++ {
		require.InDelta(t, 1, math.Log2(flops[k]/flops[k-1]), 0.02)
		require.InDelta(t, 1, math.Log2(bytes[k]/bytes[k-1]), 0.05)
	}
}
