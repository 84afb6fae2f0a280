package models

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

func axialText(height, width, channels, levels int, more string) string {
	return fmt.Sprintf(`{"model_type":"axial_transformer","height":%d,"width":%d,"channels":%d,"vocab_size":%d,"hidden_size":12,"num_attention_heads":3%s}`,
		height, width, channels, levels, more)
}

// axialRig is a compiled model for one image.
type axialRig struct {
	program *engine.Program
	ids     []int32
	logits  *Node
}

func newAxialRig(t *testing.T, m Model, params *layers.Params) *axialRig {
	b := layers.New(gorgonia.NewGraph(), params, layers.Options{})
	ids := b.Input("ids", tensor.Int32, 1, m.Dims().Positions)
	out := m.Forward(b, Inputs{IDs: ids}, 0)
	require.NoError(t, b.Err())
	p, err := engine.Compile(b.Graph(), layers.Nodes{out.Logits}, engine.Options{})
	require.NoError(t, err)
	return &axialRig{p, layers.InputValue(ids).Int32s(), out.Logits}
}

func (r *axialRig) run(t *testing.T, ids []int32) []float64 {
	copy(r.ids, ids)
	require.NoError(t, r.program.Run())
	return append([]float64(nil), engine.Floats[float64](r.program.Value(r.logits))...)
}

// TestAxialTransformerCausality: a level depends on the slices before its own, and within its own on the rows above and on what is on the left,
// on each of them and on nothing else; with two layers of the encoder, two outer ones and one inner one.
func TestAxialTransformerCausality(t *testing.T) {
	const h, w, k = 3, 4, 7
	for _, as := range []string{"slices", "rows"} {
		for c := 1; c <= 3; c++ {
			m, err := New([]byte(axialText(h, w, c, k, `,"channels_as":"`+as+`","encoder_layers":2,"outer_layers":2,"inner_layers":1`)))
			require.NoError(t, err)
			params := loud(t, m)
			rig := newAxialRig(t, m, params)
			ids := tokens(h*w*c, k)
			want := rig.run(t, ids)
			for from := range ids {
				changed := append([]int32(nil), ids...)
				changed[from] = (changed[from] + 3) % k
				got := rig.run(t, changed)
				for to := range ids {
					fr, fc, fk := from/c/w, from/c%w, from%c
					tr, tc, tk := to/c/w, to/c%w, to%c
					reads := fk < tk || fk == tk && (fr < tr || fr == tr && fc < tc)
					if as == "rows" {
						reads = fr < tr || fr == tr && (fk < tk || fk == tk && fc < tc)
					}
					same := true
					for l := range k {
						same = same && got[to*k+l] == want[to*k+l]
					}
					require.Equal(t, !reads, same, "%s, %d channels: (%d,%d,%d) of (%d,%d,%d)", as, c, tr, tc, tk, fr, fc, fk)
				}
			}
		}
	}
}

// loud are weights of a model whose parts are not almost 0 at first.
func loud(t *testing.T, m Model) *layers.Params {
	params, err := NewParams(m, tensor.Float64, 3)
	require.NoError(t, err)
	for _, p := range params.All() {
		draw := layers.Normal(0.5)(p.Name, p.Value.Shape(), 7)
		x := p.Value.Float64s()
		for i := range x {
			x[i] += draw(i)
		}
	}
	return params
}

// TestAxialTransformerStart: at first every level is as likely as any other, 8 bits a dimension of 256 levels.
func TestAxialTransformerStart(t *testing.T) {
	for _, preset := range []string{"note", "repo", "tiny"} {
		m, err := New([]byte(axialText(5, 3, 3, 256, `,"preset":"`+preset+`"`)))
		require.NoError(t, err)
		layersOf := axialPresets[preset]
		require.Equal(t, layersOf[0]+layersOf[1]+layersOf[2], m.Dims().Layers)
		params, err := NewParams(m, tensor.Float64, 3)
		require.NoError(t, err)
		ids := tokens(45, 256)
		logits := newAxialRig(t, m, params).run(t, ids)
		bits := 0.0
		for i, id := range ids {
			sum := 0.0
			for _, x := range logits[i*256:][:256] {
				sum += math.Exp(x)
			}
			bits += (math.Log(sum) - logits[i*256+int(id)]) / math.Ln2 / 45
		}
		require.InDelta(t, 8, bits, 5e-5, preset)
		require.NotEqual(t, 8.0, bits)
	}
}
