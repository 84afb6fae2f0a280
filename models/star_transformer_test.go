package models

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/layers"
)

const star = `{"model_type":"star_transformer","task":"sequence_classification","num_labels":3,"vocab_size":37,"hidden_size":11,"intermediate_size":13,
	"num_hidden_layers":2,"num_attention_heads":2,"head_dim":5,"max_position_embeddings":41,"mode":"fastnlp"}`

// TestStarWeights: a step in the authors' form has 2·(3(d·u+u) + u·d + d) + 2d weights, u = heads · head size; shared steps have them once.
func TestStarWeights(t *testing.T) {
	const d, u, f = 11, 10, 13
	count := func(changes ...string) (n int) {
		_, params := load(t, strings.NewReplacer(changes...).Replace(star))
		for _, p := range params.All() {
			n += p.Value.Shape().TotalSize()
		}
		return n
	}
	two, three := `"num_hidden_layers":2`, `"num_hidden_layers":3`
	step := 2 * (3*(d*u+u) + u*d + d)
	require.Equal(t, step+2*d, count(two, three)-count())
	require.Equal(t, step+4*d, count(two, three, "fastnlp", "paper")-count("fastnlp", "paper"))
	require.Equal(t, step+8*d+2*(2*d*f+f+d), count(two, three, "fastnlp", "residual")-count("fastnlp", "residual"))
	shared := `"num_hidden_layers":2,"share_across_steps":true`
	require.Equal(t, count(two, shared), count(two, strings.Replace(shared, "2", "3", 1)))
	require.Equal(t, count()-step-2*d, count(two, shared))
}

// TestStarPadding: a batch of several lengths gives what its examples give alone, for every task, form and ring.
func TestStarPadding(t *testing.T) {
	ids := tokens(29, 37)
	for _, task := range []string{"sequence_classification", "token_classification", "regression"} {
		for _, mode := range []string{"paper", "fastnlp", "residual"} {
			for _, ring := range []string{"cyclic", "open"} {
				m, params := mild(t, strings.NewReplacer("sequence_classification", task, "fastnlp", mode+`","ring":"`+ring).Replace(star))
				var batch []int32
				lens := []int32{29, 1, 2, 13}
				for range lens {
					batch = append(batch, ids...)
				}
				got := build(t, m, params, batch, len(lens), lens)
				for k, n := range lens {
					want, at := build(t, m, params, ids[:n], 1, nil), k*3
					if task == "token_classification" {
						at = k * 29 * 3
					}
					require.InDeltaSlice(t, want, got[at:][:len(want)], 1e-12, "%s %s %s: %d tokens", task, mode, ring, n)
				}
			}
		}
	}
}

// TestStarReadsVectors: in place of ids; without positions turning the ring changes no class, with them it does.
func TestStarReadsVectors(t *testing.T) {
	const n, d = 13, 4
	for positions, equal := range map[string]bool{"none": true, "learned": false} {
		text := strings.NewReplacer(`"vocab_size":37`, `"vector_size":4,"position_embedding_type":"`+positions+`"`, "fastnlp", "residual").Replace(star)
		m, params := load(t, text)
		require.Equal(t, d, m.Dims().Vectors)
		x, turned := make([]float64, n*d), make([]float64, n*d)
		for i := range x {
			x[i] = math.Sin(float64(i * i))
			turned[(i+5*d)%len(x)] = x[i]
		}
		run := func(x []float64) []float64 {
			b := layers.New(gorgonia.NewGraph(), params, layers.Options{})
			in := Inputs{Vectors: b.Input("vectors", tensor.Float64, 1, n, d)}
			copy(layers.InputValue(in.Vectors).Float64s(), x)
			out := m.Forward(b, in, 0)
			require.NoError(t, b.Err())
			p, err := engine.Compile(b.Graph(), layers.Nodes{out.Logits, out.More["relay"]}, engine.Options{CheckFinite: true})
			require.NoError(t, err)
			require.NoError(t, p.Run())
			relay := engine.Floats[float64](p.Value(out.More["relay"]))
			return append(append([]float64(nil), engine.Floats[float64](p.Value(out.Logits))...), relay...)
		}
		want, got := run(x), run(turned)
		require.Len(t, want, 3+11)
		far := 0.0
		for i := range want {
			far = max(far, math.Abs(want[i]-got[i]))
		}
		require.Equal(t, equal, far < 1e-12, "positions %s: %g", positions, far)

		b := layers.New(gorgonia.NewGraph(), params, layers.Options{})
		m.Forward(b, Inputs{IDs: b.Input("input_ids", tensor.Int32, 1, 3)}, 0)
		require.ErrorContains(t, b.Err(), "vector_size")
		b = layers.New(gorgonia.NewGraph(), params, layers.Options{})
		m.Forward(b, Inputs{Vectors: b.Input("vectors", tensor.Float64, 1, 3, 5)}, 0)
		require.ErrorContains(t, b.Err(), "wants [B,T,4]")
	}
}

// TestStarRecompute: the gradient of a step that is computed again is the same to the bit.
func TestStarRecompute(t *testing.T) {
	m, params := load(t, strings.Replace(star, "fastnlp", `residual","hidden_dropout_prob":0.3,"ring":"cyclic`, 1))
	var want [][]float64
	for _, steps := range []int{0, 1, 2} {
		b := layers.New(gorgonia.NewGraph(), params, layers.Options{Training: true, Seed: 3})
		in := Inputs{IDs: b.Input("input_ids", tensor.Int32, 2, 7), Lens: b.Input("lengths", tensor.Int32, 2)}
		copy(layers.InputValue(in.IDs).Int32s(), tokens(14, 37))
		copy(layers.InputValue(in.Lens).Int32s(), []int32{7, 4})
		out := m.Forward(b, in, steps)
		require.NoError(t, b.Err())
		_, weights := b.Weights()
		r := &engine.Recompute{Cheap: steps > 0}
		if steps > 0 {
			r.Block = b.BlockOf
		}
		ds, err := engine.VJP(layers.Nodes{out.Logits}, layers.Nodes{engine.Fill(b.Graph(), engine.TypeOf(out.Logits), 1)}, weights, r)
		require.NoError(t, err)
		p, err := engine.Compile(b.Graph(), ds, engine.Options{Poison: true})
		require.NoError(t, err)
		require.NoError(t, p.Run())
		var got [][]float64
		for _, d := range ds {
			got = append(got, append([]float64(nil), engine.Floats[float64](p.Value(d))...))
		}
		if want == nil {
			want = got
		}
		require.Equal(t, want, got, "blocks of %d steps", steps)
	}
}

func TestStarConfig(t *testing.T) {
	m, err := New([]byte(star))
	require.NoError(t, err)
	first, err := m.Config()
	require.NoError(t, err)
	require.Contains(t, string(first), `"layer_norm_eps": 0.000001`)
	again, err := New(first)
	require.NoError(t, err)
	second, err := again.Config()
	require.NoError(t, err)
	require.Equal(t, string(first), string(second))
	require.Equal(t, 41, m.Dims().Positions)

	for change, want := range map[string]string{
		`"num_labels":3`:                       `"num_labels":0`,
		`"num_attention_heads":2,"head_dim":5`: `"num_attention_heads":2,"head_dim":0`,
		`"vocab_size":37`:                      `"vocab_size":37,"vector_size":4`,
		`"head_dim":5,`:                        `"head_dim":-1,`,
		`"mode":"fastnlp"`:                     `"mode":"papre"`,
		`"mode":"fastnlp"}`:                    `"ring":"closed"}`,
		`"num_hidden_layers":2`:                `"num_hidden_layers":0`,
		`"max_position_embeddings":41`:         `"max_position_embeddings":0`,
	} {
		_, err := New([]byte(strings.Replace(star, change, want, 1)))
		require.Error(t, err, want)
		for _, key := range []string{"num_labels", "vocab_size", "num_attention_heads", "head_dim", "mode", "ring", "num_hidden_layers", "max_position_embeddings"} {
			if strings.Contains(want, key) && key != "vocab_size" || key == "vocab_size" && strings.Contains(want, "vector_size") {
				require.ErrorContains(t, err, key, want)
			}
		}
	}
	_, err = New([]byte(`{"model_type":"star_transformer","mode":"x","ring":"y"}`))
	for _, key := range []string{"vocab_size", "num_labels", "hidden_size", "mode", "ring"} {
		require.ErrorContains(t, err, key, "all faults at once")
	}
	m, params := load(t, star)
	b := layers.New(gorgonia.NewGraph(), params, layers.Options{})
	m.Forward(b, Inputs{IDs: b.Input("input_ids", tensor.Int32, 1, 40), First: 2}, 0)
	var e *LengthError
	require.ErrorAs(t, b.Err(), &e)
	require.Equal(t, "a sequence of 42 tokens", fmt.Sprint(e)[:23])
}
