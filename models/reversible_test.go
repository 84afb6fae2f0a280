package models

import (
	"encoding/json"
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/layers"
)

// twoStreams is stack.reversible with every activation stored: the definition.
func twoStreams(s *stack, b *layers.Builder, x *Node, in Inputs) *Node {
	y1, y2 := x, x
	for l := range s.Layers {
		lb := b.Scope(fmt.Sprint(s.names.layer, l))
		y1 = layers.Add(b, y1, s.attend(lb, l, y2, nil, in))
		y2 = layers.Add(b, y2, s.feed(lb, y1, nil))
	}
	return layers.Scale(b, layers.Add(b, y1, y2), 0.5)
}

// reversibleGradients returns the gradients of a random combination of the result, and the planned memory less the gradients.
func reversibleGradients(t *testing.T, depth int, dtype tensor.Dtype, stored bool) ([][]float64, int) {
	t.Helper()
	m, err := New([]byte(fmt.Sprintf(`{"model_type":"decoder","vocab_size":31,"hidden_size":48,"intermediate_size":80,"num_hidden_layers":%d,
		"num_attention_heads":3,"max_position_embeddings":128,"residual":"reversible","attention":[{"type":"band","window_left":9}]}`, depth)))
	require.NoError(t, err)
	s := m.(Causal).causal()
	s.init, s.last = layers.XavierUniform(), layers.XavierUniform()
	const batch, length = 2, 67
	params := layers.NewParams(dtype)
	b := layers.New(gorgonia.NewGraph(), params, layers.Options{Seed: 3, Training: true})
	in := Inputs{IDs: b.Input("input_ids", tensor.Int32, batch, length)}
	var y *Node
	x := layers.Embedding(b.Scope("e"), in.IDs, s.Vocab, s.Hidden, layers.Normal(1))
	if stored {
		y = twoStreams(s, b, x, in)
	} else {
		y = s.reversible(b, x, in, memory{}, 0)
	}
	dy := b.Input("dy", dtype, batch, length, s.Hidden)
	require.NoError(t, b.Err())
	copy(layers.InputValue(in.IDs).Int32s(), tokens(batch*length, s.Vocab))
	for i := range batch * length * s.Hidden {
		v := math.Sin(float64(i*i%1009) + 0.3)
		if dtype == tensor.Float32 {
			layers.InputValue(dy).Float32s()[i] = float32(v)
		} else {
			layers.InputValue(dy).Float64s()[i] = v
		}
	}
	_, wrt := b.Weights()
	grads, err := engine.VJP(layers.Nodes{y}, layers.Nodes{dy}, wrt, nil)
	require.NoError(t, err)
	p, err := engine.Compile(b.Graph(), grads, engine.Options{Scope: b.ScopeOf, CheckFinite: true})
	require.NoError(t, err)
	require.NoError(t, p.Run())
	var all [][]float64
	held := 0
	for _, g := range grads {
		v := p.Value(g)
		var f []float64
		if dtype == tensor.Float32 {
			for _, x := range engine.Floats[float32](v) {
				f = append(f, float64(x))
			}
		} else {
			f = append(f, engine.Floats[float64](v)...)
		}
		all = append(all, f)
		held += len(f) * int(dtype.Size())
	}
	return all, p.Plan().Arena - held
}

// TestReversibleGradients: computing the streams back gives the gradients of stored activations, but for rounding.
func TestReversibleGradients(t *testing.T) {
	for _, c := range []struct {
		dtype tensor.Dtype
		tol   float64
	}{{tensor.Float32, 1e-4}, {tensor.Float64, 1e-10}} {
		stored, _ := reversibleGradients(t, 12, c.dtype, true)
		back, _ := reversibleGradients(t, 12, c.dtype, false)
		for i := range stored {
			worst, top := 0.0, 0.0
			for k, v := range stored[i] {
				worst, top = max(worst, math.Abs(v-back[i][k])), max(top, math.Abs(v))
			}
			require.Positive(t, top)
			require.LessOrEqual(t, worst/top, c.tol, "%v, weight %d", c.dtype, i)
		}
	}
}

// TestReversibleMemory: besides the gradients of the weights, what is held does not grow with depth.
func TestReversibleMemory(t *testing.T) {
	_, shallow := reversibleGradients(t, 4, tensor.Float32, false)
	_, deep := reversibleGradients(t, 32, tensor.Float32, false)
	_, stored := reversibleGradients(t, 32, tensor.Float32, true)
	require.LessOrEqual(t, float64(deep), 1.05*float64(shallow))
	require.Greater(t, stored, 5*deep)
}

func TestDefault(t *testing.T) {
	m, err := New(json.RawMessage(Default))
	require.NoError(t, err)
	require.Equal(t, Dims{Vocab: 256, Hidden: 256, Inner: 1024, Layers: 4, Heads: 4, Positions: 16384}, m.Dims())
}
