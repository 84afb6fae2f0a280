package attention

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/tensor"
	"pgregory.net/rapid"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/kernels"
	"github.com/euryale-ml/euryale/layers"
)

// crossing are forms of attention from one sequence to another: rows are positions of the first, columns of the second.
var crossing = map[string]scene{
	"full, both lengths": {pattern: "full", b: 3, tq: 13, tk: 71, heads: 2, d: 5, dv: 3, cross: true, lens: []int32{71, 0, 9}, lensQ: []int32{3, 13, 0}},
	"band":               {pattern: "band(4,7)", b: 2, tq: 67, tk: 11, heads: 3, d: 5, dv: 5, cross: true, lens: []int32{11, 6}, lensQ: []int32{67, 41}},
	"more queries":       {pattern: "heads(full; blocks(8); global(3) + band(1,1))", b: 2, tq: 23, tk: 17, heads: 3, d: 2, dv: 7, cross: true, lens: []int32{17, 5}},
	"more keys":          {pattern: "causal(random(3,5) + band(2,0))", b: 2, tq: 19, tk: 31, heads: 2, d: 3, dv: 3, cross: true, lensQ: []int32{19, 2}},
	"dilated":            {pattern: "dilated(2,3,5)", b: 1, tq: 29, tk: 37, heads: 2, d: 4, dv: 2, flat: true, cross: true, scale: 1, wantLSE: true},
}

func TestCrossAgainstDefinition(t *testing.T) {
	for name, s := range crossing {
		t.Run(name, func(t *testing.T) {
			want := s.oracle(t)
			want.equal(t, s.build(t, tensor.Float64).run(t), 1e-12, "float64")
			want.equal(t, s.build(t, tensor.Float32).run(t), 1e-5, "float32")
		})
	}
}

// checkMemory reads a scene of one example row by row from a memory, each row as several candidates, and compares with Attend.
func checkMemory[F kernels.Float](t require.TestingT, s scene, dtype tensor.Dtype, tol float64) {
	s.b, s.lens, s.lensQ, s.flat, s.wantLSE = 1, nil, nil, true, false
	g := s.build(t, dtype)
	prog, err := engine.Compile(g.b.Graph(), Nodes{g.o}, engine.Options{})
	require.NoError(t, err)
	require.NoError(t, prog.Run())
	want := numbers(prog.Value(g.o))
	p, err := Parse(s.pattern)
	require.NoError(t, err)
	m, err := NewMemory[F](p, s.heads, s.d, s.dv, s.scale)
	require.NoError(t, err)
	m.Rows(2 * s.tk) // a longer one before
	keys, values := m.Rows(s.tk)
	copy(keys, engine.Floats[F](layers.InputValue(g.in[1])))
	copy(values, engine.Floats[F](layers.InputValue(g.in[2])))
	require.Equal(t, s.tk, m.Len())
	q := engine.Floats[F](layers.InputValue(g.in[0]))
	const candidates = 3
	cq, cv := s.heads*s.d, s.heads*s.dv
	several, o := make([]F, candidates*cq), make([]F, candidates*cv)
	for i := range s.tq {
		row := func(c int) int { return (i + 5*c) % s.tq }
		for c := range candidates {
			copy(several[c*cq:][:cq], q[row(c)*cq:])
			for k := range cv {
				o[c*cv+k] = 99
			}
		}
		m.Attend(i, candidates, several, o)
		var got []float64
		for _, x := range o[:cv] {
			got = append(got, float64(x))
		}
		close(t, want[i*cv:][:cv], got, tol, fmt.Sprintf("%s, query %d", s.pattern, i))
		m.Attend(i, 1, several[cq:], o)
		one := append([]F(nil), o[:cv]...)
		m.Attend(i, candidates, several, o)
		for k, x := range one {
			require.InDelta(t, float64(x), float64(o[cv+k]), tol, "a candidate does not depend on the others")
		}
	}
}

func TestMemoryEqualsAttend(t *testing.T) {
	for name, s := range crossing {
		t.Run(name, func(t *testing.T) {
			checkMemory[float64](t, s, tensor.Float64, 1e-12)
			checkMemory[float32](t, s, tensor.Float32, 2e-6)
		})
	}
	rapid.Check(t, func(t *rapid.T) {
		p := drawHeads(t)
		if p.FromEnd() {
			_, err := NewMemory[float64](p, p.Heads(), 2, 3, 0)
			require.ErrorContains(t, err, "the target is not known")
			return
		}
		sizes := []int{1, 2, 5, 37}
		checkMemory[float64](t, scene{pattern: p.String(), tq: rapid.SampledFrom(sizes).Draw(t, "TQ"), tk: rapid.SampledFrom(sizes).Draw(t, "TK"),
			heads: p.Heads(), d: 2, dv: 3, cross: true}, tensor.Float64, 1e-12)
	})
}

func TestMemoryErrors(t *testing.T) {
	_, err := NewMemory[float32](Full{}, 2, 0, 3, 0)
	require.ErrorContains(t, err, "sizes start at 1")
	_, err = NewMemory[float32](parse(t, "heads(full; full)"), 3, 2, 3, 0)
	require.ErrorContains(t, err, "describes 2 heads")
	require.ErrorContains(t, CheckCross(parse(t, "global(-1)"), 1), "global(-1) depends on the lengths of both sequences")
	require.NoError(t, CheckCross(parse(t, "causal(random(3,1))"), 4))
}

// TestCacheCandidates: candidates that are chosen over and over give what each of them gives alone.
func TestCacheCandidates(t *testing.T) {
	const n, heads, d, dv = 41, 2, 3, 5
	number := func(i int) float64 { return noise("candidate", i) }
	bias := func(h, i, j int) float64 { return noise("bias", (h*n+i)*n+j) }
	for _, text := range []string{"full", "band(4,0)", "heads(global(2) + band(1,0); blocks(6))"} {
		make1 := func() *Cache[float64] {
			c, err := NewCache[float64](parse(t, text), heads, d, dv, n, 0)
			require.NoError(t, err)
			c.SetBias(bias)
			return c
		}
		c := make1()
		histories := [][]int{nil} // of each candidate: the tokens it read
		next := 0
		for i := range n {
			var parents []int
			for k := range 1 + (i*7+3)%4 {
				parents = append(parents, (k*k+i)%len(histories))
			}
			c.Select(parents)
			var now [][]int
			var q, k, v []float64
			for _, p := range parents {
				next++
				h := append(append([]int(nil), histories[p]...), next)
				now = append(now, h)
				for x := range heads * d {
					q, k = append(q, number(next*100+x)), append(k, number(next*100+20+x))
				}
				for x := range heads * dv {
					v = append(v, number(next*100+50+x))
				}
			}
			histories = now
			o := make([]float64, len(v))
			require.NoError(t, c.Attend(q, k, v, o))
			if i%5 != 0 {
				continue
			}
			for x, h := range histories {
				alone := make1()
				got := make([]float64, heads*dv)
				for _, token := range h {
					var q, k, v []float64
					for x := range heads * d {
						q, k = append(q, number(token*100+x)), append(k, number(token*100+20+x))
					}
					for x := range heads * dv {
						v = append(v, number(token*100+50+x))
					}
					require.NoError(t, alone.Attend(q, k, v, got))
				}
				require.Equal(t, got, o[x*heads*dv:][:heads*dv], "%s: token %d, candidate %d", text, i, x)
			}
		}
		c.Reset()
		require.Zero(t, c.Len())
		require.Zero(t, c.Live())
	}
}

// TestCacheBias: the bias is added to the scores after they are scaled.
func TestCacheBias(t *testing.T) {
	c, err := NewCache[float64](Full{}, 1, 1, 1, 3, 0.5)
	require.NoError(t, err)
	c.SetBias(func(_, i, j int) float64 { return float64(10*i + j) })
	o := make([]float64, 1)
	require.NoError(t, c.Attend([]float64{1}, []float64{2}, []float64{3}, o))
	require.Equal(t, 3.0, o[0])
	// Scores 0.5*2*2 + 10 = 12 and 0.5*2*4 + 11 = 15.
	require.NoError(t, c.Attend([]float64{2}, []float64{4}, []float64{7}, o))
	require.InDelta(t, (3+7*20.085536923187668)/(1+20.085536923187668), o[0], 1e-12)
}
