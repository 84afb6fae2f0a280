package models

import (
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/config"
	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/layers"
)

// Small models of every family, with sizes that differ from each other.
var small = map[string]string{
	"decoder rotary": `{"model_type":"decoder","vocab_size":37,"hidden_size":24,"intermediate_size":40,"num_hidden_layers":3,"num_attention_heads":3,
		"max_position_embeddings":41,"attention":[{"type":"band","window_left":5},{"type":"full"}]}`,
	"decoder learned, untied, reversible": `{"model_type":"decoder","vocab_size":37,"hidden_size":24,"intermediate_size":40,"num_hidden_layers":3,
		"num_attention_heads":2,"max_position_embeddings":41,"position_embedding_type":"learned","tie_word_embeddings":false,"residual":"reversible",
		"hidden_act":"silu","attention":[{"type":"heads","parts":[{"heads":1,"attention":{"type":"band","window_left":3}},{"heads":1,"attention":{"type":"dilated","left_steps":4,"gap":3}}]}]}`,
	"decoder sinusoidal": `{"model_type":"decoder","vocab_size":37,"hidden_size":20,"intermediate_size":28,"num_hidden_layers":2,"num_attention_heads":5,
		"max_position_embeddings":41,"position_embedding_type":"sinusoidal","attention":[{"type":"blocks","block_size":7},{"type":"pattern","pattern":"global(0,3) + band(2,0)"}]}`,
	"gpt2": `{"model_type":"gpt2","vocab_size":37,"n_positions":41,"n_embd":24,"n_layer":2,"n_head":3,"resid_pdrop":0,"embd_pdrop":0,"attn_pdrop":0}`,
	"gpt_neo": `{"model_type":"gpt_neo","vocab_size":37,"max_position_embeddings":41,"hidden_size":24,"num_layers":3,"num_heads":3,"window_size":5,
		"attention_types":[[["global","local"],1],[["local"],1]]}`,
}

// build runs the forward pass in float64 with weights that are far from their small initial values.
func build(t *testing.T, m Model, params *layers.Params, ids []int32, batch int, lens []int32) []float64 {
	t.Helper()
	b := layers.New(gorgonia.NewGraph(), params, layers.Options{})
	in := Inputs{IDs: b.Input("input_ids", tensor.Int32, batch, len(ids)/batch)}
	if lens != nil {
		in.Lens = b.Input("lengths", tensor.Int32, batch)
	}
	out := m.Forward(b, in, 0)
	require.NoError(t, b.Err())
	copy(layers.InputValue(in.IDs).Int32s(), ids)
	if lens != nil {
		copy(layers.InputValue(in.Lens).Int32s(), lens)
	}
	p, err := engine.Compile(b.Graph(), layers.Nodes{out.Logits}, engine.Options{Scope: b.ScopeOf, CheckFinite: true})
	require.NoError(t, err)
	require.NoError(t, p.Run())
	return append([]float64(nil), engine.Floats[float64](p.Value(out.Logits))...)
}

func load(t *testing.T, text string) (Model, *layers.Params) {
	t.Helper()
	m, err := New([]byte(text))
	require.NoError(t, err)
	return m, scrambled(t, m)
}

// scrambled are weights far from their small initial values.
func scrambled(t *testing.T, m Model) *layers.Params {
	t.Helper()
	params, err := NewParams(m, tensor.Float64, 5)
	require.NoError(t, err)
	for k, p := range params.All() {
		for i, v := range p.Value.Float64s() {
			p.Value.Float64s()[i] = 6*v + 0.3*math.Sin(float64(i*7+k))
		}
	}
	return params
}

func tokens(n, vocab int) []int32 {
	ids := make([]int32, n)
	for i := range ids {
		ids[i] = int32(i*i*5+i*3) % int32(vocab)
	}
	return ids
}

// TestCausal: a token changes no output before it, and every output at and after it that its layers reach; exactly.
func TestCausal(t *testing.T) {
	for name, text := range small {
		t.Run(name, func(t *testing.T) {
			m, params := load(t, text)
			v := m.Dims().Vocab
			ids := tokens(29, v)
			before := build(t, m, params, ids, 1, nil)
			for _, at := range []int{0, 1, 13, 28} {
				changed := append([]int32(nil), ids...)
				changed[at] = (ids[at] + 11) % int32(v)
				after := build(t, m, params, changed, 1, nil)
				require.Equal(t, before[:at*v], after[:at*v], "token %d reaches back", at)
				require.NotEqual(t, before[at*v:(at+1)*v], after[at*v:(at+1)*v], "token %d does not reach its own output", at)
			}
		})
	}
}

// TestPadding: what stands behind an example's length changes nothing within it, and neither does how much padding there is.
func TestPadding(t *testing.T) {
	for name, text := range small {
		t.Run(name, func(t *testing.T) {
			m, params := load(t, text)
			v := m.Dims().Vocab
			ids := tokens(19, v)
			want := build(t, m, params, ids, 1, nil)
			for _, pad := range []int{0, 1, 17} {
				row := append(append([]int32(nil), ids...), tokens(pad, v)...)
				got := build(t, m, params, append(append([]int32(nil), row...), row...), 2, []int32{19, int32(19 + pad)})
				require.Equal(t, want, got[:19*v], "padding of %d", pad)
			}
		})
	}
}

func TestLengthLimit(t *testing.T) {
	m, params := load(t, small["gpt2"])
	b := layers.New(gorgonia.NewGraph(), params, layers.Options{})
	m.Forward(b, Inputs{IDs: b.Input("input_ids", tensor.Int32, 1, 42)}, 0)
	var e *LengthError
	require.ErrorAs(t, b.Err(), &e)
	require.Equal(t, 41, e.Max)
}

// TestConfigRoundTrip: the resolved config makes the same model; foreign keys of Hugging Face stay.
func TestConfigRoundTrip(t *testing.T) {
	for name, text := range small {
		t.Run(name, func(t *testing.T) {
			m, err := New([]byte(text))
			require.NoError(t, err)
			first, err := m.Config()
			require.NoError(t, err)
			again, err := New(first)
			require.NoError(t, err)
			second, err := again.Config()
			require.NoError(t, err)
			require.Equal(t, string(first), string(second))
		})
	}
	m, err := New([]byte(`{"model_type":"gpt2","n_embd":24,"n_head":3,"architectures":["GPT2LMHeadModel"],"n_inner":null,"task_specific_params":{"a":1}}`))
	require.NoError(t, err)
	text, err := m.Config()
	require.NoError(t, err)
	require.Contains(t, string(text), `"architectures"`)
	require.Contains(t, string(text), `"task_specific_params"`)
	require.Contains(t, string(text), `"n_inner": null`)
}

// TestFaults: all at once, each with its path.
func TestFaults(t *testing.T) {
	for _, c := range []struct {
		text  string
		paths []string
	}{
		{`{"vocab_size":5}`, []string{"model_type"}},
		{`{"model_type":"gpt3"}`, []string{"model_type"}},
		{`{"model_type":"decoder","vocab_size":0,"hidden_size":30,"num_attention_heads":4,"num_hidden_layers":0,"residual":"plane"}`,
			[]string{"vocab_size", "num_hidden_layers", "num_attention_heads", "residual"}},
		{`{"model_type":"decoder","hiden_size":30}`, []string{"hiden_size", "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads"}},
		{`{"model_type":"decoder","vocab_size":5,"hidden_size":8,"num_attention_heads":2,"num_hidden_layers":1,"attention":[{"type":"band","window_left":-1}]}`,
			[]string{"attention[0].window_left"}},
		{`{"model_type":"gpt2","n_embd":30,"n_head":4,"add_cross_attention":true}`, []string{"add_cross_attention", "n_head"}},
		{`{"model_type":"decoder","vocab_size":"x","hiden_size":9,"hidden_size":8,"num_attention_heads":3,"num_hidden_layers":1}`,
			[]string{"vocab_size", "hiden_size", "num_attention_heads"}},
		{`{"model_type":"gpt2","n_embd":30,"n_head":4,"activation_function":"gelo"}`, []string{"n_head", "activation_function"}},
		{`{"model_type":"gpt_neo","num_layers":3,"attention_types":[[["global","lokal"],1]]}`, []string{"attention_types"}},
		{`{"model_type":"gpt2","n_embd":"wide"}`, []string{"n_embd"}},
		// Sizes that would overflow, hang or fill the memory.
		{`{"model_type":"gpt_neo","num_layers":3,"attention_types":[[[],9000000000000000000]]}`, []string{"attention_types"}},
		{`{"model_type":"gpt_neo","num_layers":3,"attention_types":[[["global","local"],4611686018427387905]]}`, []string{"attention_types"}},
		{`{"model_type":"gpt_neo","num_layers":2,"attention_types":[[["global"],2],[["local"],-1],[["global"],0]]}`, []string{"attention_types"}},
		{`{"model_type":"gpt_neo","num_layers":4000000000000000000,"attention_types":[[["global"],4000000000000000000]]}`,
			[]string{"num_layers", "attention_types"}},
		{`{"model_type":"decoder","vocab_size":4611686018427387904,"hidden_size":4611686018427387904,"num_attention_heads":2,"num_hidden_layers":4000000000000000000}`,
			[]string{"vocab_size", "hidden_size", "num_hidden_layers"}},
		{`{"model_type":"gpt2","n_layer":4000000000000000000}`, []string{"n_layer"}},
	} {
		_, err := New([]byte(c.text))
		require.Error(t, err, c.text)
		var paths []string
		for _, f := range config.Faults(err) {
			var fe *config.FieldError
			require.ErrorAs(t, f, &fe, c.text)
			paths = append(paths, fe.Path)
		}
		require.Equal(t, c.paths, paths, fmt.Sprint(c.text, err))
	}
}
