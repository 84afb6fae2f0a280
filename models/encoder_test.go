package models

import (
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/layers/attention"
)

// Encoders of every kind of norm, position, attention and head, and how far a token reaches in each.
var encoders = []struct {
	name, text string
	reach      int // tokens on each side; -1: all
}{
	{"band, masked", `{"model_type":"encoder","task":"masked_lm","vocab_size":37,"hidden_size":24,"intermediate_size":40,"num_hidden_layers":2,
		"num_attention_heads":3,"max_position_embeddings":41,"attention":[{"type":"band","window_left":3},{"type":"band","window_left":2}]}`, 5},
	{"after, learned, types, untied", `{"model_type":"encoder","task":"masked_lm","vocab_size":37,"hidden_size":24,"intermediate_size":40,"num_hidden_layers":2,
		"num_attention_heads":2,"max_position_embeddings":41,"norm":"post","position_embedding_type":"learned","type_vocab_size":3,
		"tie_word_embeddings":false,"initializer":"xavier_uniform","attention":[{"type":"pattern","pattern":"band(2,2)"}]}`, 4},
	{"external, reversible, tokens", `{"model_type":"encoder","task":"token_classification","num_labels":5,"vocab_size":37,"hidden_size":24,"intermediate_size":40,
		"num_hidden_layers":2,"num_attention_heads":3,"max_position_embeddings":41,"residual":"reversible",
		"attention":[{"type":"pattern","pattern":"external(3) + band(1,1)"},{"type":"pattern","pattern":"external(3) + band(2,0)"}]}`, -1},
	{"answers, sinusoidal", `{"model_type":"encoder","task":"question_answering","vocab_size":37,"hidden_size":20,"intermediate_size":28,"num_hidden_layers":1,
		"num_attention_heads":5,"max_position_embeddings":41,"position_embedding_type":"sinusoidal","attention":[{"type":"band","window_left":4}]}`, 4},
	{"longformer", `{"model_type":"encoder","task":"token_classification","num_labels":2,"vocab_size":37,"hidden_size":24,"intermediate_size":28,"num_hidden_layers":2,
		"num_attention_heads":3,"max_position_embeddings":41,"attention":[{"type":"longformer","window_left":2,"global_positions":[0]}]}`, -1},
}

// mild is load with weights so small that no attention is all on one key.
func mild(t *testing.T, text string) (Model, *layers.Params) {
	t.Helper()
	m, err := New([]byte(text))
	require.NoError(t, err)
	params, err := NewParams(m, tensor.Float64, 5)
	require.NoError(t, err)
	for k, p := range params.All() {
		for i, v := range p.Value.Float64s() {
			p.Value.Float64s()[i] = v + 0.1*math.Sin(float64(i*7+k))
		}
	}
	return m, params
}

// outputsAt runs a model in float64 and returns its logits and their shape.
func outputsAt(t *testing.T, m Model, params *layers.Params, batch, length int, fill func(b *layers.Builder, in *Inputs)) ([]float64, tensor.Shape) {
	t.Helper()
	b := layers.New(gorgonia.NewGraph(), params, layers.Options{})
	in := Inputs{}
	fill(b, &in)
	out := m.Forward(b, in, 0)
	require.NoError(t, b.Err())
	for _, h := range out.Hidden {
		require.Equal(t, tensor.Shape{batch, length, m.Dims().Hidden}, h.Shape())
	}
	p, err := engine.Compile(b.Graph(), layers.Nodes{out.Logits}, engine.Options{Scope: b.ScopeOf, CheckFinite: true, Poison: true})
	require.NoError(t, err)
	require.NoError(t, p.Run())
	return append([]float64(nil), engine.Floats[float64](p.Value(out.Logits))...), out.Logits.Shape()
}

func intsOf(b *layers.Builder, name string, x []int32, shape ...int) *Node {
	n := b.Input(name, tensor.Int32, shape...)
	copy(layers.InputValue(n).Int32s(), x)
	return n
}

// TestEncoderReach: a token changes the outputs of all tokens that it reaches, on both sides, and of no other.
func TestEncoderReach(t *testing.T) {
	for _, c := range encoders {
		t.Run(c.name, func(t *testing.T) {
			m, params := mild(t, c.text)
			const n = 23
			run := func(ids []int32) ([]float64, int) {
				y, shape := outputsAt(t, m, params, 1, n, func(b *layers.Builder, in *Inputs) { in.IDs = intsOf(b, "ids", ids, 1, n) })
				require.Equal(t, []int{1, n}, []int(shape[:2]))
				return y, shape[2]
			}
			ids := tokens(n, 37)
			before, w := run(ids)
			for _, at := range []int{0, 11, n - 1} {
				changed := append([]int32(nil), ids...)
				changed[at] = (ids[at] + 11) % 37
				after, _ := run(changed)
				for i := range n {
					same := equal(before[i*w:][:w], after[i*w:][:w])
					reached := c.reach < 0 || max(i-at, at-i) <= c.reach
					require.Equal(t, !reached, same, "token %d, output %d", at, i)
				}
			}
		})
	}
}

func equal(x, y []float64) bool {
	for i := range x {
		if x[i] != y[i] {
			return false
		}
	}
	return true
}

// TestEncoderPadding: an example in a padded batch gives what it gives alone, whatever stands behind it, for every head.
func TestEncoderPadding(t *testing.T) {
	texts := map[string]string{}
	for _, c := range encoders {
		texts[c.name] = c.text
	}
	for _, pooling := range []string{"cls", "mean", "last", "max"} {
		texts["classes, "+pooling] = strings.Replace(encoders[0].text, `"task":"masked_lm"`, `"task":"sequence_classification","num_labels":4,"pooling":"`+pooling+`"`, 1)
	}
	for name, text := range texts {
		t.Run(name, func(t *testing.T) {
			m, params := mild(t, text)
			const n, pad = 17, 6
			ids, types := tokens(n, 37), tokens(n, 3)
			alone, shape := outputsAt(t, m, params, 1, n, func(b *layers.Builder, in *Inputs) {
				in.IDs, in.Types = intsOf(b, "ids", ids, 1, n), intsOf(b, "types", types, 1, n)
			})
			row, kinds := append(tokens(n, 37), tokens(pad, 31)...), append(tokens(n, 3), make([]int32, pad)...)
			both, wide := outputsAt(t, m, params, 2, n+pad, func(b *layers.Builder, in *Inputs) {
				in.IDs, in.Types = intsOf(b, "ids", append(row, row...), 2, n+pad), intsOf(b, "types", append(kinds, kinds...), 2, n+pad)
				in.Lens = intsOf(b, "lens", []int32{n, n + pad}, 2)
			})
			require.InDeltaSlice(t, alone, both[:len(alone)], 1e-13) // not equal: products of one row and of two round differently
			if len(shape) == 2 {
				require.NotEqual(t, alone, both[len(alone):], "the other example has more tokens")
			} else {
				require.Equal(t, n+pad, wide[1])
			}
		})
	}
}

// TestEncoderPooling: each way reads where it says.
func TestEncoderPooling(t *testing.T) {
	text := strings.Replace(encoders[3].text, `"question_answering"`, `"sequence_classification","num_labels":3,"pooling":"last"`, 1)
	for pooling, reads := range map[string]func(i, n int) bool{
		"cls": func(i, _ int) bool { return i <= 4 }, "last": func(i, n int) bool { return i >= n-5 },
		"mean": func(int, int) bool { return true },
	} {
		m, params := mild(t, strings.Replace(text, `"last"`, `"`+pooling+`"`, 1))
		const n = 19
		run := func(ids []int32) []float64 {
			y, shape := outputsAt(t, m, params, 1, n, func(b *layers.Builder, in *Inputs) { in.IDs = intsOf(b, "ids", ids, 1, n) })
			require.Equal(t, tensor.Shape{1, 3}, shape)
			return y
		}
		before := run(tokens(n, 37))
		for at := range n {
			ids := tokens(n, 37)
			ids[at] = (ids[at] + 5) % 37
			require.Equal(t, reads(at, n), !equal(before, run(ids)), "%s, token %d", pooling, at)
		}
	}
}

// TestEncoderVectors: a model of vectors reads them and no ids, and gives numbers.
func TestEncoderVectors(t *testing.T) {
	m, params := mild(t, `{"model_type":"encoder","task":"regression","num_labels":2,"vector_size":3,"hidden_size":16,"num_hidden_layers":1,"num_attention_heads":2,
		"position_embedding_type":"none","pooling":"max","max_position_embeddings":41}`)
	require.Equal(t, Dims{Hidden: 16, Inner: 64, Layers: 1, Heads: 2, Positions: 41, Labels: 2, Vectors: 3}, m.Dims())
	y, shape := outputsAt(t, m, params, 1, 5, func(b *layers.Builder, in *Inputs) { in.Vectors = b.Input("x", tensor.Float64, 1, 5, 3) })
	require.Equal(t, tensor.Shape{1, 2}, shape)
	require.NotEqual(t, y[0], y[1])
	b := layers.New(gorgonia.NewGraph(), params, layers.Options{})
	m.Forward(b, Inputs{IDs: b.Input("ids", tensor.Int32, 1, 5)}, 0)
	require.ErrorContains(t, b.Err(), "reads vectors [B,T,3]")
}

// TestEncoderGradients: the gradient of every weight of the richest stack agrees with differences, with and without recomputation.
func TestEncoderGradients(t *testing.T) {
	m, err := New([]byte(encoders[1].text))
	require.NoError(t, err)
	s := &m.(*Encoder).stack
	s.rms, s.names.gate, s.embedScale, s.padding, s.offset, s.counted = true, "mlp.gate", 1.7, 4, 4, true
	s.relative, s.names.relative = attention.Clipped{Max: 2}, "attn.bias"
	s.embedNorm = "after"
	params := layers.NewParams(tensor.Float64)
	const n = 7
	ids := []int32{5, 3, 8, 1, 3, 2, 0, 9, 9, 4, 3, 3, 36, 7}
	var results [][]float64
	for _, block := range []int{0, 1} {
		b := layers.New(gorgonia.NewGraph(), params, layers.Options{Seed: 9, Training: true})
		out := m.Forward(b, Inputs{IDs: intsOf(b, "ids", ids, 2, n), Types: intsOf(b, "types", tokens(2*n, 3), 2, n), Lens: intsOf(b, "lens", []int32{5, 7}, 2)}, block)
		targets := intsOf(b, "labels", append(tokens(n-2, 37), append([]int32{-1, -1}, tokens(n, 37)...)...), 2, n)
		loss := layers.CrossEntropy(b, out.Logits, targets, 0)
		require.NoError(t, b.Err())
		weights, nodes := b.Weights()
		var r *engine.Recompute
		if block > 0 {
			r = &engine.Recompute{Block: b.BlockOf}
		}
		grads, err := engine.VJP(layers.Nodes{loss}, layers.Nodes{engine.Fill(b.Graph(), engine.TypeOf(loss), 1)}, nodes, r)
		require.NoError(t, err)
		p, err := engine.Compile(b.Graph(), append(layers.Nodes{loss}, grads...), engine.Options{Scope: b.ScopeOf, CheckFinite: true, Poison: true})
		require.NoError(t, err)
		require.NoError(t, p.Run())
		for i, w := range weights {
			g := append([]float64(nil), engine.Floats[float64](p.Value(grads[i]))...)
			results = append(results, g)
			if block > 0 || strings.HasSuffix(w.Name, "wte.weight") {
				continue // that of the frozen row is not the derivative
			}
			x := w.Value.Float64s()
			for _, k := range []int{0, len(x) / 3, len(x) - 1} {
				const h = 1e-6
				at := x[k]
				value := func(v float64) float64 {
					x[k] = v
					require.NoError(t, p.Run())
					return engine.Floats[float64](p.Value(loss))[0]
				}
				d := (value(at+h) - value(at-h)) / (2 * h)
				value(at)
				require.InDelta(t, d, g[k], 1e-7, "%s[%d]", w.Name, k)
			}
		}
	}
	require.Equal(t, results[:len(results)/2], results[len(results)/2:], "recomputation changes nothing")
}

// TestEncoderHook: attention that is replaced by itself gives the same.
func TestEncoderHook(t *testing.T) {
	for _, c := range encoders[:4] {
		m, params := mild(t, c.text)
		const n = 13
		seen := 0
		plainly, _ := outputsAt(t, m, params, 1, n, func(b *layers.Builder, in *Inputs) { in.IDs = intsOf(b, "ids", tokens(n, 37), 1, n) })
		hooked, _ := outputsAt(t, m, params, 1, n, func(b *layers.Builder, in *Inputs) {
			in.IDs = intsOf(b, "ids", tokens(n, 37), 1, n)
			in.Attend = func(b *layers.Builder, layer int, c attention.Config, qkv ...*Node) *Node {
				seen++
				o, _ := attention.AttendQKV(b, c, qkv[0])
				return o
			}
		})
		require.Equal(t, plainly, hooked)
		require.Equal(t, m.Dims().Layers, seen)
	}
}

// TestEncoderConfig: the resolved config makes the same model.
func TestEncoderConfig(t *testing.T) {
	for _, c := range encoders {
		m, err := New([]byte(c.text))
		require.NoError(t, err)
		first, err := m.Config()
		require.NoError(t, err)
		again, err := New(first)
		require.NoError(t, err)
		second, err := again.Config()
		require.NoError(t, err)
		require.Equal(t, string(first), string(second))
	}
	m, params := mild(t, encoders[2].text)
	p, ok := params.Get("encoder.globals.weight")
	require.True(t, ok)
	require.Equal(t, tensor.Shape{3, 24}, p.Value.Shape())
	require.Equal(t, "token_classification", m.Task())
}

// TestEncoderEmptyExample: an example of padding alone gives numbers, and changes no other.
func TestEncoderEmptyExample(t *testing.T) {
	texts := []string{}
	for _, c := range encoders {
		texts = append(texts, c.text)
	}
	for _, pooling := range []string{"cls", "mean", "last", "max"} {
		texts = append(texts, strings.Replace(encoders[0].text, `"task":"masked_lm"`, `"task":"regression","num_labels":1,"pooling":"`+pooling+`"`, 1))
	}
	for _, text := range texts {
		m, params := mild(t, text)
		const n = 9
		run := func(lens ...int32) []float64 {
			y, _ := outputsAt(t, m, params, 2, n, func(b *layers.Builder, in *Inputs) {
				in.IDs, in.Lens = intsOf(b, "ids", tokens(2*n, 37), 2, n), intsOf(b, "lens", lens, 2)
			})
			return y
		}
		empty, full := run(0, n), run(n, n)
		require.Equal(t, full[len(full)/2:], empty[len(full)/2:])
	}
}
