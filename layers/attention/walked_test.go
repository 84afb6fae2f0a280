package attention

import (
	"go/ast"
	goparser "go/parser"
	"go/token"
	"maps"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
)

// mixers are graphs of attention that is more than a pattern, in float64: a cost and what it depends on. Each system adds its own.
var mixers = map[string]func(t require.TestingT) (cost *Node, in Nodes){}

// choosers are those that choose by what they read: no small change is small for a choice, so finite differences say nothing of them here.
var choosers = map[string]func(t require.TestingT) (cost *Node, in Nodes){}

// allMixers are both.
func allMixers() map[string]func(t require.TestingT) (*Node, Nodes) {
	all := maps.Clone(mixers)
	maps.Copy(all, choosers)
	return all
}

// reaching are the nodes that a cost has a gradient for; Gorgonia fails when it is asked for one of others.
func reaching(cost *Node) map[*Node]bool {
	seen := map[*Node]bool{}
	var visit func(n *Node)
	visit = func(n *Node) {
		if seen[n] {
			return
		}
		seen[n] = true
		kids := engine.Children(n)
		op, ok := n.Op().(gorgonia.SDOp)
		if !ok {
			return
		}
		for i, with := range op.DiffWRT(len(kids)) {
			if with {
				visit(kids[i])
			}
		}
	}
	visit(cost)
	return seen
}

// TestMixersUnderTapeMachine runs them under Gorgonia's own reverse mode and machine.
func TestMixersUnderTapeMachine(t *testing.T) {
	for name, build := range allMixers() {
		t.Run(name, func(t *testing.T) {
			cost, in := build(t)
			own, err := engine.VJP(Nodes{cost}, Nodes{engine.Fill(cost.Graph(), engine.TypeOf(cost), 1)}, in, nil)
			require.NoError(t, err)
			p, err := engine.Compile(cost.Graph(), own, engine.Options{CheckFinite: true})
			require.NoError(t, err)
			require.NoError(t, p.Run())

			cost, in = build(t)
			reached := reaching(cost)
			var wrt Nodes
			var want [][]float64
			for i, n := range in {
				if reached[n] {
					wrt, want = append(wrt, n), append(want, numbers(p.Value(own[i])))
				}
			}
			ds, err := gorgonia.Grad(cost, wrt...)
			require.NoError(t, err)
			values := make([]gorgonia.Value, len(ds))
			for i, d := range ds {
				gorgonia.Read(d, &values[i])
			}
			m := gorgonia.NewTapeMachine(cost.Graph())
			defer m.Close()
			require.NoError(t, m.RunAll())
			for i, v := range values {
				close(t, want[i], numbers(v), 1e-11, wrt[i].Name())
			}
		})
	}
}

// TestUnderTapeMachine runs each form under Gorgonia's own reverse mode and machine.
func TestUnderTapeMachine(t *testing.T) {
	for name, s := range scenes {
		t.Run(name, func(t *testing.T) {
			want := s.oracle(t)
			g := s.build(t, tensor.Float64)
			ds, err := gorgonia.Grad(g.cost, g.in...)
			require.NoError(t, err)
			values := make([]gorgonia.Value, len(ds))
			for i, d := range ds {
				gorgonia.Read(d, &values[i])
			}
			m := gorgonia.NewTapeMachine(g.b.Graph())
			defer m.Close()
			require.NoError(t, m.RunAll())
			for i, v := range values {
				close(t, want.grads[i], numbers(v), 1e-11, "gradient")
			}
		})
	}
}

// TestEveryOpIsWalked fails if a type of the package is an operation that no scene has.
func TestEveryOpIsWalked(t *testing.T) {
	walked := map[string]bool{}
	walk := func(cost *Node, in Nodes) {
		_, err := engine.VJP(Nodes{cost}, Nodes{engine.Fill(cost.Graph(), engine.TypeOf(cost), 1)}, in, nil)
		require.NoError(t, err)
		for _, n := range cost.Graph().AllNodes() {
			if op := engine.OpOf(n); op != nil {
				walked[reflect.Indirect(reflect.ValueOf(op)).Type().Name()] = true
			}
		}
	}
	for _, s := range scenes {
		g := s.build(t, tensor.Float32)
		walk(g.cost, g.in)
	}
	for _, build := range allMixers() {
		walk(build(t))
	}
	walk(trainedOf(t, `{"type":"routing","num_clusters":3,"window":4,"membership":"random"}`)) // which depends on the place in the batch, so it has no row of its own
	for _, list := range conformingEntries {                                                   // what only training has: commitment, sums for centroids, probabilities of choices
		for _, e := range list {
			if e.chosen {
				walk(trainedOf(t, e.json))
			}
		}
	}
	files, err := filepath.Glob("*.go")
	require.NoError(t, err)
	found := 0
	var missing []string
	for _, f := range files {
		if strings.HasSuffix(f, "_test.go") {
			continue
		}
		src, err := goparser.ParseFile(token.NewFileSet(), f, nil, 0)
		require.NoError(t, err)
		for _, d := range src.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Recv == nil || fn.Name.Name != "Infer" {
				continue
			}
			recv := fn.Recv.List[0].Type
			if star, ok := recv.(*ast.StarExpr); ok {
				recv = star.X
			}
			name := recv.(*ast.Ident).Name
			found++
			if !walked[name] {
				missing = append(missing, name)
			}
		}
	}
	require.NotZero(t, found)
	require.Empty(t, missing, "operations that are in no scene")
}
