package layers

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"math"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
)

// built is an example with a scalar cost over a weighted sum of its result.
type built struct {
	b    *Builder
	out  *Node
	cost *Node
	wrt  Nodes // floating-point inputs and weights
}

func build(t *testing.T, e example, dtype tensor.Dtype, training bool) built {
	t.Helper()
	b := New(gorgonia.NewGraph(), NewParams(dtype), Options{Seed: 3, Training: training})
	var in, wrt Nodes
	for i, a := range e.args {
		name := fmt.Sprintf("in%d", i)
		if a.ids != nil {
			n := b.Input(name, tensor.Int32, a.shape...)
			copy(InputValue(n).Int32s(), a.ids)
			in = append(in, n)
			continue
		}
		n := b.Input(name, dtype, a.shape...)
		randomise(InputValue(n), name)
		in = append(in, n)
		wrt = append(wrt, n)
	}
	out := e.build(b, in)
	require.NoError(t, b.Err())
	_, weights := b.Weights()
	for _, p := range b.Params().All() {
		randomise(p.Value, p.Name)
	}
	if n := b.inputs["step"]; n != nil {
		InputValue(n).Int32s()[0] = 17
	}
	cost := Scale(b, out, 1.7)
	if out.Dims() > 0 {
		w := b.Input("cost weight", dtype, out.Shape()...)
		randomise(InputValue(w), "cost weight")
		cost = Sum(b, Mul(b, out, w))
	}
	require.NoError(t, b.Err())
	return built{b, out, cost, append(wrt, weights...)}
}

// randomise fills a value with numbers from -1.5 to 1.5 that float32 holds exactly.
func randomise(v *tensor.Dense, name string) {
	at := func(i int) float64 { return float64(float32(3*uniform(hashName(name), i) - 1.5)) }
	if v.Dtype() == tensor.Float32 {
		fill[float32](v, at)
	} else {
		fill[float64](v, at)
	}
}

// floats copies a value.
func floats(v gorgonia.Value) []float64 {
	if engine.IsF32(v) {
		var r []float64
		for _, x := range engine.Floats[float32](v) {
			r = append(r, float64(x))
		}
		return r
	}
	return append([]float64(nil), engine.Floats[float64](v)...)
}

// tape runs an example under Gorgonia's own reverse mode and machine.
func (e built) tape(t *testing.T) (cost float64, grads [][]float64) {
	t.Helper()
	ds, err := gorgonia.Grad(e.cost, e.wrt...)
	require.NoError(t, err)
	var c gorgonia.Value
	gorgonia.Read(e.cost, &c)
	values := make([]gorgonia.Value, len(ds))
	for i, d := range ds {
		gorgonia.Read(d, &values[i])
	}
	m := gorgonia.NewTapeMachine(e.b.Graph())
	defer m.Close()
	require.NoError(t, m.RunAll())
	for _, v := range values {
		grads = append(grads, floats(v))
	}
	return floats(c)[0], grads
}

// program compiles cost and gradients with the engine.
func (e built) program(t *testing.T, r *engine.Recompute, more ...*Node) (*engine.Program, Nodes) {
	t.Helper()
	one := engine.Fill(e.b.Graph(), engine.TypeOf(e.cost), 1)
	ds, err := engine.VJP(Nodes{e.cost}, Nodes{one}, e.wrt, r)
	require.NoError(t, err)
	p, err := engine.Compile(e.b.Graph(), append(append(Nodes{e.cost}, ds...), more...), engine.Options{Scope: e.b.ScopeOf, Poison: true})
	require.NoError(t, err)
	return p, ds
}

func (e built) run(t *testing.T, r *engine.Recompute) (cost float64, grads [][]float64) {
	t.Helper()
	p, ds := e.program(t, r)
	for range 2 { // the second run shows what the first left behind
		require.NoError(t, p.Run())
	}
	for _, d := range ds {
		grads = append(grads, floats(p.Value(d)))
	}
	return floats(p.Value(e.cost))[0], grads
}

func closeTo(t *testing.T, want, got []float64, tol float64, what string) {
	t.Helper()
	require.Len(t, got, len(want), what)
	scale := 1.0
	for _, w := range want {
		scale = max(scale, math.Abs(w))
	}
	for i, w := range want {
		if !(math.Abs(w-got[i]) <= tol*scale) {
			require.Failf(t, what, "element %d: want %v, got %v, tolerance %g", i, w, got[i], tol*scale)
		}
	}
}

func TestEveryOpUnderGorgoniaAndEngine(t *testing.T) {
	for _, e := range registry {
		t.Run(e.name, func(t *testing.T) {
			cost, grads := build(t, e, tensor.Float64, true).run(t, nil)
			require.False(t, math.IsNaN(cost))

			t.Run("tape machine", func(t *testing.T) {
				for _, dtype := range []tensor.Dtype{tensor.Float64, tensor.Float32} {
					tol := 1e-13
					if dtype == tensor.Float32 {
						tol = 1e-5
					}
					c, g := build(t, e, dtype, true).tape(t)
					closeTo(t, []float64{cost}, []float64{c}, tol, "cost")
					for i := range g {
						closeTo(t, grads[i], g[i], tol, fmt.Sprintf("%v gradient %d", dtype, i))
					}
				}
			})
			t.Run("float32", func(t *testing.T) {
				c, g := build(t, e, tensor.Float32, true).run(t, nil)
				closeTo(t, []float64{cost}, []float64{c}, 1e-5, "cost")
				for i := range g {
					closeTo(t, grads[i], g[i], 1e-5, fmt.Sprintf("gradient %d", i))
				}
			})
			t.Run("recompute", func(t *testing.T) {
				c, g := build(t, e, tensor.Float64, true).run(t, &engine.Recompute{Cheap: true})
				require.Equal(t, cost, c)
				require.Equal(t, grads, g)
			})
			t.Run("finite differences", func(t *testing.T) {
				f := build(t, e, tensor.Float64, true)
				p, err := engine.Compile(f.b.Graph(), Nodes{f.cost}, engine.Options{})
				require.NoError(t, err)
				at := func() float64 {
					require.NoError(t, p.Run())
					return floats(p.Value(f.cost))[0]
				}
				for i, n := range f.wrt {
					v := InputValue(n).Float64s()
					got := make([]float64, len(v))
					for k, old := range v {
						const h = 1e-5
						v[k] = old + h
						up := at()
						v[k] = old - h
						got[k] = (up - at()) / (2 * h)
						v[k] = old
					}
					closeTo(t, grads[i], got, 1e-7, fmt.Sprintf("gradient %d", i))
				}
			})
		})
	}
}

// What comes past a norm or a linear layer is added in the pass that computes its gradient.
func TestResidualStreamAddsNothing(t *testing.T) {
	for _, name := range []string{"residual stream", "two readers"} {
		i := slices.IndexFunc(registry, func(e example) bool { return e.name == name })
		f := build(t, registry[i], tensor.Float64, true)
		f.program(t, nil)
		for _, n := range f.b.Graph().AllNodes() {
			if op := engine.OpOf(n); op != nil {
				require.NotEqual(t, "add", op.Name(), name)
			}
		}
	}
}

// Without Training, activations are fused and dropout is gone; what remains must be the same function.
func TestInferenceComputesTheSame(t *testing.T) {
	for _, e := range registry {
		if strings.Contains(e.name, "dropout") {
			continue
		}
		t.Run(e.name, func(t *testing.T) {
			var want []float64
			for _, training := range []bool{true, false} {
				f := build(t, e, tensor.Float64, training)
				p, err := engine.Compile(f.b.Graph(), Nodes{f.out}, engine.Options{Poison: true})
				require.NoError(t, err)
				require.NoError(t, p.Run())
				if got := floats(p.Value(f.out)); training {
					want = got
				} else {
					closeTo(t, want, got, 1e-15, "result")
				}
			}
		})
	}
}

func TestEveryOpIsRegistered(t *testing.T) {
	seen := map[string]bool{}
	for _, e := range registry {
		for _, training := range []bool{true, false} {
			f := build(t, e, tensor.Float64, training)
			if training {
				_, err := gorgonia.Grad(f.cost, f.wrt...)
				require.NoError(t, err)
			}
			for _, n := range f.b.Graph().AllNodes() {
				if op := engine.OpOf(n); op != nil {
					seen[reflect.TypeOf(op).Name()] = true
				}
			}
		}
	}
	ops := opTypes(t)
	require.Greater(t, len(ops), 15)
	for _, name := range ops {
		require.Truef(t, seen[name], "no example in the registry uses the operation %s", name)
	}
}

// opTypes finds the types of the package's source that have the methods of engine.Op that cannot be inherited.
func opTypes(t *testing.T) []string {
	paths, err := filepath.Glob("*.go")
	require.NoError(t, err)
	methods := map[string]int{}
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		require.NoError(t, err)
		for _, d := range f.Decls {
			m, ok := d.(*ast.FuncDecl)
			if !ok || m.Recv == nil || m.Name.Name != "Infer" && m.Name.Name != "Run" {
				continue
			}
			recv := m.Recv.List[0].Type
			if p, ok := recv.(*ast.StarExpr); ok {
				recv = p.X
			}
			if id, ok := recv.(*ast.Ident); ok {
				methods[id.Name]++
			}
		}
	}
	var ops []string
	for name, n := range methods {
		if n == 2 {
			ops = append(ops, name)
		}
	}
	return ops
}
