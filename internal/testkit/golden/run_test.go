package golden

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/gorgonia"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/layers/attention"
	"github.com/euryale-ml/euryale/models"
)

func ints(shape []int, x ...int64) *Tensor { return &Tensor{Shape: shape, Dtype: "I64", I: x} }

func TestBatch(t *testing.T) {
	of := func(tensors map[string]*Tensor) (Batch, error) { return (&Case{tensors: tensors}).Batch() }
	shape := []int{2, 3}
	in, err := of(map[string]*Tensor{"in/input_ids": ints(shape, 1, 2, 3, 4, 5, 6), "in/attention_mask": ints(shape, 1, 1, 0, 1, 1, 1),
		"in/labels": ints(shape, 1, 2, -100, 4, 5, 6)})
	require.NoError(t, err)
	require.Equal(t, []int32{2, -100, -100, 5, 6, -100}, in.targets())
	require.Equal(t, []bool{true, true, false, true, true, true}, in.Mask)
	lens, err := in.lengths()
	require.NoError(t, err)
	require.Equal(t, []int32{2, 3}, lens)
	require.Equal(t, Batch{B: 1, T: 3, IDs: []int32{4, 5, 6}, Mask: []bool{true, true, true}, Labels: []int32{4, 5, 6}}, in.Rows(1, 2))
	in.Mask[0] = false
	_, err = in.lengths()
	require.ErrorContains(t, err, "padding before token 1 of example 0")

	in, err = of(map[string]*Tensor{"in/input_ids": ints([]int{3}, 1, 2, 3), "in/attention_mask": ints([]int{3}, 1, 1, 1)})
	require.NoError(t, err)
	require.Equal(t, []int{1, 3}, []int{in.B, in.T})
	require.Nil(t, in.Mask, "nothing is hidden")
	for want, tensors := range map[string]map[string]*Tensor{
		"no in/input_ids; there are no in/*": {},
		"want [B,T]":                         {"in/input_ids": ints([]int{1, 1, 1}, 1)},
		"want whole numbers":                 {"in/input_ids": {Shape: []int{1}, Dtype: "F32", F: []float64{1}}},
		"in/position_ids":                    {"in/input_ids": ints([]int{1}, 1), "in/position_ids": ints([]int{1}, 1)},
		"in/labels has shape [2]":            {"in/input_ids": ints([]int{1}, 1), "in/labels": ints([]int{2}, 1, 2)},
	} {
		_, err := of(tensors)
		require.ErrorContains(t, err, want)
	}
}

// What encoders and encoder-decoders read besides ids, and parts of a batch of it.
func TestBatchOfEncoders(t *testing.T) {
	of := func(tensors map[string]*Tensor) (Batch, error) { return (&Case{tensors: tensors}).Batch() }
	ids := ints([]int{2, 3}, 1, 2, 3, 4, 5, 6)
	in, err := of(map[string]*Tensor{"in/input_ids": ids, "in/token_type_ids": ints([]int{2, 3}, 0, 1, 1, 0, 0, 1),
		"in/global_attention_mask": ints([]int{2, 3}, 1, 0, 1, 0, 0, 0), "in/start_positions": ints([]int{2}, 1, 0), "in/end_positions": ints([]int{2}, 2, -1)})
	require.NoError(t, err)
	require.Equal(t, []int32{0, 1, 1, 0, 0, 1}, in.Types)
	index, g := in.globals()
	require.Equal(t, 2, g)
	require.Equal(t, []int32{0, 2, -1, -1}, index)
	require.Equal(t, Batch{B: 1, T: 3, IDs: []int32{4, 5, 6}, Types: []int32{0, 0, 1}, Globals: []bool{false, false, false}, Labels: []int32{0, -1}, Ends: true}, in.Rows(1, 2))
	in, err = of(map[string]*Tensor{"in/input_ids": ids, "in/labels": ints([]int{2, 4}, 7, 8, -100, 9, 1, -100, -100, -100)})
	require.NoError(t, err)
	require.Equal(t, []int32{5, 7, 8, 6, 5, 1, 6, 6}, in.shifted(5, 6))
	in, err = of(map[string]*Tensor{"in/vectors": {Shape: []int{2, 1, 2}, Dtype: "F32", F: []float64{1, 2, 3, 4}}, "in/labels": {Shape: []int{2, 1}, Dtype: "F32", F: []float64{0.5, 7}}})
	require.NoError(t, err)
	require.Equal(t, Batch{B: 1, T: 1, Vectors: []float64{3, 4}, Values: []float64{7}}, in.Rows(1, 2))
	for want, tensors := range map[string]map[string]*Tensor{
		"go together":                      {"in/input_ids": ids, "in/start_positions": ints([]int{2}, 1, 0)},
		"in/token_type_ids has shape [2]":  {"in/input_ids": ids, "in/token_type_ids": ints([]int{2}, 1, 0)},
		"in/end_positions has shape [3]":   {"in/input_ids": ids, "in/end_positions": ints([]int{3}, 1, 0, 1)},
		"in/decoder_input_ids has shape [": {"in/input_ids": ids, "in/decoder_input_ids": ints([]int{3}, 1, 0, 1)},
	} {
		_, err := of(tensors)
		require.ErrorContains(t, err, want)
	}
}

// Labels are held against what the model gives: those of another task are an error, and a regression is scored by squares.
func TestLossOfTasks(t *testing.T) {
	build := func(task, more string) (models.Model, *layers.Params) {
		m, err := models.New([]byte(fmt.Sprintf(`{"model_type":"encoder","task":%q,"hidden_size":12,"num_hidden_layers":1,"num_attention_heads":3,
			"max_position_embeddings":17%s}`, task, more)))
		require.NoError(t, err)
		params, err := models.NewParams(m, Float64.Dtype(), 3)
		require.NoError(t, err)
		return m, params
	}
	m, params := build("regression", `,"num_labels":2,"vector_size":3,"pooling":"mean"`)
	in := Batch{B: 2, T: 2, Vectors: []float64{1, 0, 2, 0, 3, 1, 1, 1, 0, 2, 2, 5}, Values: []float64{1, -1, 0.5, 2}}
	got, err := Run(m, params, in, true)
	require.NoError(t, err)
	want := 0.0
	for i, y := range got.Out["logits"].([]float64) {
		want += (y - in.Values[i]) * (y - in.Values[i]) / 4
	}
	require.InDelta(t, want, got.Out["loss"].([]float64)[0], 1e-12)
	require.Equal(t, []int{2, 2}, got.Shape["logits"])
	in.Values = in.Values[:2]
	_, err = Run(m, params, in, false)
	require.ErrorContains(t, err, "wants as many numbers")

	m, params = build("sequence_classification", `,"num_labels":4,"vocab_size":9`)
	in = Batch{B: 2, T: 3, IDs: []int32{1, 2, 3, 4, 5, 6}, Labels: []int32{3, 0}}
	_, err = Run(m, params, in, true)
	require.NoError(t, err)
	in.Labels = in.IDs
	_, err = Run(m, params, in, false)
	require.ErrorContains(t, err, "a model of sequence_classification with logits (2, 4) wants them of shape (2)")
}

func TestCheckHead(t *testing.T) {
	require.NoError(t, CheckHead([]byte(`{"model_type":"decoder"}`)))
	require.NoError(t, CheckHead([]byte(`{"architectures":["GPTNeoForCausalLM"]}`)))
	require.ErrorContains(t, CheckHead([]byte(`{"architectures":["T5Model"]}`)), "GPT2LMHeadModel")
}

// Each variant of a case that does not fit the model is an error that says so.
func TestModelOfCase(t *testing.T) {
	root := ownCopy(t)
	open := func() *Case {
		c, err := Open(root + "/gpt_neo/local_pad.json")
		require.NoError(t, err)
		return c
	}
	for want, change := range map[string]func(c *Case){
		"no model of class": func(c *Case) { c.ModelClass = "GPTNeoForMultipleChoice" },
		"window_size": func(c *Case) {
			c.Config = []byte(strings.Replace(string(c.Config), `"window_size": 5`, `"window_size": 0`, 1))
		},
		"there is no param/":               func(c *Case) { delete(c.tensors, "param/transformer.wpe.weight") },
		"param/x is not part":              func(c *Case) { c.tensors["param/x"] = c.Param("transformer.wpe.weight") },
		"param/transformer.wpe.weight has": func(c *Case) { c.tensors["param/transformer.wpe.weight"] = c.Param("transformer.wte.weight") },
	} {
		c := open()
		change(c)
		_, _, err := c.Model(Float32)
		require.ErrorContains(t, err, want)
	}
	c := open()
	m, params, err := c.Model(Float32)
	require.NoError(t, err)
	require.Empty(t, c.OtherWeights(m, params))
	c.Param("transformer.ln_f.bias").F[3]++
	other := c.OtherWeights(m, params)
	require.Len(t, other, 1)
	require.Equal(t, []int{3}, other[0].At)
	in, err := c.Batch()
	require.NoError(t, err)
	in.Labels = nil
	_, err = Run(m, params, in, true)
	require.ErrorContains(t, err, "in/labels")
}

// Our own skeleton gives rows of padding, too, and tokens that count do not depend on it.
func TestRunDecoder(t *testing.T) {
	m, err := models.New([]byte(`{"model_type":"decoder","vocab_size":11,"hidden_size":12,"num_hidden_layers":2,"num_attention_heads":3,
		"max_position_embeddings":17,"hidden_dropout_prob":0.5,"attention":[{"type":"band","window_left":2}]}`))
	require.NoError(t, err)
	params, err := models.NewParams(m, Float64.Dtype(), 3)
	require.NoError(t, err)
	in := Batch{B: 2, T: 5, IDs: []int32{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, Labels: []int32{1, 2, 3, 4, 5, 6, 7, 8, -1, -1},
		Mask: []bool{true, true, true, true, true, true, true, true, false, false}}
	a, err := Run(m, params, in, true)
	require.NoError(t, err)
	in.IDs[9] = 0
	b, err := Run(m, params, in, true)
	require.NoError(t, err)
	require.Equal(t, a.Out["logits"].([]float64)[:8*11], b.Out["logits"].([]float64)[:8*11])
	require.NotEqual(t, a.Out["logits"], b.Out["logits"])
	require.Equal(t, a.Grad["decoder.h.0.attn.qkv.weight"], b.Grad["decoder.h.0.attn.qkv.weight"])
	require.Len(t, a.Grad, params.Len())
	in.Mask[5] = false
	_, err = Run(m, params, in, false)
	require.ErrorContains(t, err, "on the right alone")
	in.IDs[3] = 11
	_, err = Run(m, params, in, false)
	require.ErrorContains(t, err, "in/input_ids[0][3] is 11")
}

// The rules of Hugging Face for queries that read nothing, against its own arithmetic: the smallest number of float64 in place of
// a score, or added to it.
func TestUnreadRows(t *testing.T) {
	const smallest = -math.MaxFloat64
	in := Batch{B: 2, T: 7, Mask: []bool{false, false, true, true, false, true, true, true, true, true, false, false, false, false}}
	for name, rule := range map[string]leftover{"gpt2": everyKey, "gpt_neo": hiddenOnce} {
		var p attention.Pattern = attention.Full{}
		if name == "gpt_neo" {
			p = attention.Band{Left: 1}
		}
		p = attention.Causal(p)
		shares, _, some := in.unreadRows(p, rule)
		require.True(t, some)
		for r := range in.B * in.T {
			i, mask := r%in.T, in.Mask[r/in.T*in.T:][:in.T]
			scores := make([]float64, in.T)
			top, reads := math.Inf(-1), false
			for j := range scores {
				s := 0.25 * float64(i-2*j)
				if name == "gpt_neo" && !p.Sees(0, i, j, in.T) {
					s = smallest
				}
				if j > i || !mask[j] {
					s += smallest
				}
				scores[j], top = s, math.Max(top, s)
				reads = reads || p.Sees(0, i, j, in.T) && mask[j]
			}
			sum := 0.0
			for j, s := range scores {
				scores[j] = math.Exp(s - top)
				sum += scores[j]
			}
			for j, s := range scores {
				want := s / sum
				if reads {
					want = 0
				}
				require.InDelta(t, want, shares[r*in.T+j], 1e-15, "%s query %d key %d", name, i, j)
			}
		}
	}
}

// The gradient of unread rows is that of softmax(c + moves * scale q·k), with c such that the probabilities are the shares.
func TestUnreadGradient(t *testing.T) {
	const batch, n, heads, size = 2, 5, 3, 2
	const c = heads * size
	number := func(i int) float64 { return math.Sin(float64(3*i*i + i + 1)) }
	x := make([]float64, 3*batch*n*c) // [B,T,3C]
	for i := range x {
		x[i] = number(i)
	}
	shares, moves := make([]float64, batch*n*n), make([]float64, batch*n*n)
	for r := range batch * n {
		for j := range n {
			if (r+j)%3 != 0 && r != 4 {
				shares[r*n+j] = 1
				moves[r*n+j] = float64((r + 2*j) % 2)
			}
		}
		sum := 0.0
		for _, s := range shares[r*n:][:n] {
			sum += s
		}
		for j := range n {
			shares[r*n+j] /= max(sum, 1)
		}
	}
	dy := make([]float64, batch*n*c)
	for i := range dy {
		dy[i] = number(2*i + 5)
	}
	score := func(x []float64, r, j, h int) float64 {
		s := 0.0
		for k := range size {
			s += x[r*3*c+h*size+k] * x[(r/n*n+j)*3*c+c+h*size+k]
		}
		return 0.7 * s
	}
	base := append([]float64(nil), x...)
	f := func(x []float64) float64 {
		total := 0.0
		for r := range batch * n {
			for h := range heads {
				sum := 0.0
				var w [n]float64
				for j := range n {
					if e := r*n + j; shares[e] > 0 {
						w[j] = shares[e] * math.Exp(moves[e]*(score(x, r, j, h)-score(base, r, j, h)))
						sum += w[j]
					}
				}
				for j := range n {
					for k := range size {
						if sum > 0 {
							total += w[j] / sum * x[(r/n*n+j)*3*c+2*c+h*size+k] * dy[r*c+h*size+k]
						}
					}
				}
			}
		}
		return total
	}
	apart := make([][]float64, 3)
	for i := range apart {
		for r := range batch * n {
			apart[i] = append(apart[i], x[r*3*c+i*c:][:c]...)
		}
	}
	for _, fused := range []bool{true, false} {
		b := layers.New(gorgonia.NewGraph(), layers.NewParams(Float64.Dtype()), layers.Options{})
		args := layers.Nodes{constant(b, "shares", shares, []int{batch, n, n}), constant(b, "moves", moves, []int{batch, n, n})}
		if fused {
			args = append(args, constant(b, "qkv", x, []int{batch, n, 3 * c}))
		} else {
			for i, a := range apart {
				args = append(args, constant(b, fmt.Sprint("input ", i), a, []int{batch, n, c}))
			}
		}
		y := b.Op(unread{heads, 0.7, fused}, args...)
		grads, err := engine.VJP(layers.Nodes{y}, layers.Nodes{constant(b, "dy", dy, []int{batch, n, c})}, args[2:], nil)
		require.NoError(t, err)
		require.NoError(t, b.Err())
		program, err := engine.Compile(b.Graph(), append(layers.Nodes{y}, grads...), engine.Options{})
		require.NoError(t, err)
		require.NoError(t, program.Run())
		total := 0.0
		for i, v := range engine.Floats[float64](program.Value(y)) {
			total += v * dy[i]
		}
		require.InDelta(t, f(x), total, 1e-12)
		for i := range x {
			r, k := i/(3*c), i%(3*c)
			var got float64
			if fused {
				got = engine.Floats[float64](program.Value(grads[0]))[i]
			} else {
				got = engine.Floats[float64](program.Value(grads[k/c]))[r*c+k%c]
			}
			const h = 1e-5
			up, down := append([]float64(nil), x...), append([]float64(nil), x...)
			up[i] += h
			down[i] -= h
			require.InDelta(t, (f(up)-f(down))/(2*h), got, 1e-8, "element %d", i)
		}
	}
}
