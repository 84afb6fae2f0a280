package layers

import (
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
)

// ringStep is the ring of several examples, forward and backward, large enough to be shared among workers.
func ringStep(t *testing.T, dtype tensor.Dtype) (*engine.Program, Nodes) {
	const batch, n, width = 2, 307, 24
	b := New(gorgonia.NewGraph(), NewParams(dtype), Options{Training: true})
	input := func(name string, rows int) *Node {
		x := b.Input(name, dtype, batch, rows, width)
		randomise(InputValue(x), name)
		return x
	}
	in := Nodes{input("q", n), input("k", 2*n+1), input("v", 2*n+1)}
	lens := b.Input("lens", tensor.Int32, batch)
	copy(InputValue(lens).Int32s(), []int32{n, 130})
	o := Ring(b, RingConfig{Heads: 3, Lens: lens}, in[0], in[1], in[2])
	loss := Sum(b, Mul(b, o, o))
	require.NoError(t, b.Err())
	ds, err := engine.VJP(Nodes{loss}, Nodes{engine.Fill(b.Graph(), engine.TypeOf(loss), 1)}, in, nil)
	require.NoError(t, err)
	outputs := append(Nodes{loss, o}, ds...)
	p, err := engine.Compile(b.Graph(), outputs, engine.Options{})
	require.NoError(t, err)
	return p, outputs
}

func TestRingAllocatesNothing(t *testing.T) {
	for _, dtype := range []tensor.Dtype{tensor.Float32, tensor.Float64} {
		p, _ := ringStep(t, dtype)
		require.NoError(t, p.Run())
		require.Zero(t, testing.AllocsPerRun(5, func() {
			if err := p.Run(); err != nil {
				panic(err)
			}
		}))
	}
}

func TestRingHasTheSameBitsForAnyNumberOfWorkers(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	var want [][]float64
	for _, workers := range []int{1, 2, 3, 5} {
		runtime.GOMAXPROCS(workers)
		p, outputs := ringStep(t, tensor.Float32)
		require.NoError(t, p.Run())
		var got [][]float64
		for _, n := range outputs {
			got = append(got, floats(p.Value(n)))
		}
		if want == nil {
			want = got
		}
		require.Equal(t, want, got, "%d workers", workers)
	}
}

func TestRingFaults(t *testing.T) {
	for want, build := range map[string]func(b *Builder, q, k *Node) *Node{
		"want [B,T,H·D] with H = 5": func(b *Builder, q, k *Node) *Node { return Ring(b, RingConfig{Heads: 5}, q, k, k) },
		"want [2,7,6]":              func(b *Builder, q, k *Node) *Node { return Ring(b, RingConfig{Heads: 2}, q, q, k) },
		"want int32 [2]": func(b *Builder, q, k *Node) *Node {
			return Ring(b, RingConfig{Heads: 2, Lens: b.Input("lens", tensor.Int32, 3)}, q, k, k)
		},
		"an input is missing": func(b *Builder, q, k *Node) *Node { return Ring(b, RingConfig{Heads: 2}, q, k, nil) },
	} {
		b := New(gorgonia.NewGraph(), NewParams(tensor.Float64), Options{})
		require.Nil(t, build(b, b.Input("q", tensor.Float64, 2, 3, 6), b.Input("k", tensor.Float64, 2, 7, 6)))
		require.ErrorContains(t, b.Err(), want)
	}
	b := New(gorgonia.NewGraph(), NewParams(tensor.Float64), Options{})
	k, lens := b.Input("k", tensor.Float64, 1, 7, 6), b.Input("lens", tensor.Int32, 1)
	InputValue(lens).Int32s()[0] = 4
	o := Ring(b, RingConfig{Heads: 2, Lens: lens}, b.Input("q", tensor.Float64, 1, 3, 6), k, k)
	p, err := engine.Compile(b.Graph(), Nodes{o}, engine.Options{})
	require.NoError(t, err)
	require.ErrorContains(t, p.Run(), "example 0 has length 4")
}
