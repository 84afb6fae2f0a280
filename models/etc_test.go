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
	"github.com/euryale-ml/euryale/layers/attention"
)

// etcRun runs a small ETC in float64 on whole numbers by name and returns the outputs that are asked for.
type etcRun struct {
	model  *ETC
	params *layers.Params
}

func newETCRun(t *testing.T, more string) etcRun {
	config := map[string]any{}
	for _, text := range []string{`{"model_type":"etc","vocab_size":23,"hidden_size":12,"intermediate_size":20,"num_hidden_layers":2,"num_attention_heads":3,
		"num_globals":3,"local_radius":2,"label_clip":2}`, "{" + more + "}"} {
		require.NoError(t, json.Unmarshal([]byte(text), &config))
	}
	text, err := json.Marshal(config)
	require.NoError(t, err)
	m, err := New(text)
	require.NoError(t, err)
	params, err := NewParams(m, tensor.Float64, 5)
	require.NoError(t, err)
	for k, p := range params.All() { // norms and biases that are not 1 and 0
		for i := range p.Value.Shape().TotalSize() {
			p.Value.Float64s()[i] += 0.2 * math.Sin(float64(7*k+3*i))
		}
	}
	return etcRun{m.(*ETC), params}
}

// run gives long hidden states, global ones and, if there is one, the contrastive loss.
func (r etcRun) run(t *testing.T, batch int, in map[string][]int32) (long, globals []float64, loss float64) {
	b := layers.New(gorgonia.NewGraph(), r.params, layers.Options{})
	inputs := Inputs{More: map[string]*Node{}}
	for name, v := range in {
		n := b.Const(name, tensor.New(tensor.WithShape(batch, len(v)/batch), tensor.WithBacking(v)))
		switch name {
		case "input_ids":
			inputs.IDs = n
		case "lengths":
			inputs.Lens = layers.Reshape(b, n, batch)
		default:
			inputs.More[name] = n
		}
	}
	out := r.model.Forward(b, inputs, 0)
	require.NoError(t, b.Err())
	wanted := layers.Nodes{out.Hidden[len(out.Hidden)-1], out.More["global_hidden_state"]}
	if l := out.More["cpc_loss"]; l != nil {
		wanted = append(wanted, l)
	}
	p, err := engine.Compile(b.Graph(), wanted, engine.Options{Scope: b.ScopeOf})
	require.NoError(t, err)
	require.NoError(t, p.Run())
	copied := func(n *Node) []float64 { return append([]float64(nil), engine.Floats[float64](p.Value(n))...) }
	if len(wanted) > 2 {
		loss = copied(wanted[2])[0]
	}
	return copied(wanted[0]), copied(wanted[1]), loss
}

func near(t *testing.T, want, got []float64, what string) {
	require.Len(t, got, len(want), what)
	for i := range want {
		require.InDelta(t, want[i], got[i], 1e-11, "%s, element %d", what, i)
	}
}

func TestETCPadding(t *testing.T) {
	r := newETCRun(t, "")
	ids := []int32{3, 5, 7, 9, 11, 13, 2}
	sentences := []int32{0, 0, 1, 1, 1, 2, 2}
	long, globals, _ := r.run(t, 1, map[string][]int32{"input_ids": ids, "sentence_ids": sentences})
	padded, more, _ := r.run(t, 1, map[string][]int32{"input_ids": append(ids, 4, 4, 19), "sentence_ids": append(sentences, 0, 1, 2), "lengths": {7}})
	near(t, long, padded[:len(long)], "long")
	near(t, globals, more, "global")
	// Without sentences the parts are those of the example's own tokens.
	long, globals, _ = r.run(t, 1, map[string][]int32{"input_ids": ids})
	padded, more, _ = r.run(t, 1, map[string][]int32{"input_ids": append(ids, 4, 4, 19, 4, 4), "lengths": {7}})
	near(t, long, padded[:len(long)], "long")
	near(t, globals, more, "global")
	long, globals, _ = r.run(t, 1, map[string][]int32{"input_ids": ids, "sentence_ids": sentences})
	// Global nodes that are padding change nothing either.
	again, more, _ := r.run(t, 1, map[string][]int32{"input_ids": ids, "sentence_ids": sentences, "global_ids": {1, 1, 1, -1, -1}})
	near(t, long, again, "long")
	near(t, globals, more[:len(globals)], "global")
}

// Two examples packed into one row are what they are alone.
func TestETCPacked(t *testing.T) {
	r := newETCRun(t, "")
	a, b := []int32{3, 5, 7, 9, 11}, []int32{13, 2, 8, 8}
	longA, globalA, _ := r.run(t, 1, map[string][]int32{"input_ids": a, "sentence_ids": {0, 0, 1, 1, 1}, "global_ids": {1, 1}})
	longB, globalB, _ := r.run(t, 1, map[string][]int32{"input_ids": b, "sentence_ids": {0, 1, 1, 1}, "global_ids": {1, 1}})
	long, global, _ := r.run(t, 1, map[string][]int32{"input_ids": append(a, b...), "sentence_ids": {0, 0, 1, 1, 1, 2, 3, 3, 3}, "global_ids": {1, 1, 1, 1},
		"long_example_ids": {1, 1, 1, 1, 1, 2, 2, 2, 2}})
	near(t, append(longA, longB...), long, "long")
	near(t, append(globalA, globalB...), global, "global")
}

// Paragraphs may stand in any order: across segments there is one label, and windows do not reach across examples of sentences.
func TestETCOrderOfContexts(t *testing.T) {
	r := newETCRun(t, `"hard_l2g":true,"local_radius":0`)
	run := func(order []int) ([]float64, []float64) {
		texts := [][]int32{{3, 5, 7}, {9, 11, 2}, {8, 8, 4}}
		var ids, sentences, segments []int32
		for u, k := range order {
			ids, segments = append(ids, texts[k]...), append(segments, int32(k))
			sentences = append(sentences, int32(u), int32(u), int32(u))
		}
		long, global, _ := r.run(t, 1, map[string][]int32{"input_ids": ids, "sentence_ids": sentences, "global_ids": {1, 1, 1}, "global_segment_ids": segments})
		return long, global
	}
	long, global := run([]int{0, 1, 2})
	moved, movedGlobal := run([]int{2, 0, 1})
	near(t, global[:24], movedGlobal[12:], "global")
	near(t, long[:6*12], moved[3*12:], "long")
}

// Wide windows, shared projections and labels that say nothing make it attention of all nodes on all.
func TestETCDense(t *testing.T) {
	r := newETCRun(t, `"hard_g2l":false,"local_radius":99,"share_output":true,"num_hidden_layers":1`)
	for _, p := range r.params.All() {
		if p.Name == "etc.layer.0.long_relative.embedding" || p.Name == "etc.layer.0.long_relative.bias" || p.Name == "etc.layer.0.global_relative.embedding" ||
			p.Name == "etc.layer.0.global_relative.bias" {
			clear(p.Value.Float64s())
		}
	}
	b := layers.New(gorgonia.NewGraph(), r.params, layers.Options{})
	input := func(name string, rows int) *Node {
		v := make([]float64, rows*12)
		for i := range v {
			v[i] = math.Cos(float64(i * len(name)))
		}
		return b.Const(name, tensor.New(tensor.WithShape(1, rows, 12), tensor.WithBacking(v)))
	}
	ones := func(name string, n int) *Node { return filled(b, name, 1, n, func(int) int32 { return 1 }) }
	long, globals := input("long", 5), input("globals", 3)
	in := attention.ETCInputs{LongIDs: ones("a", 5), GlobalIDs: ones("b", 3), Sentences: ones("c", 5)}
	scoped := b.Scope("etc.layer.0")
	gotLong, gotGlobals := r.model.Layer(scoped, long, globals, in)

	x := layers.Concat(b, 1, globals, long)
	linear := func(name string, x *Node) *Node {
		return layers.Linear(scoped.Scope(name), x, layers.LinearConfig{Out: 12})
	}
	o, _ := attention.Attend(scoped, attention.Config{Heads: 3}, linear("query", x), linear("key", x), linear("value", x))
	x = layers.Add(b, x, linear("attention_output", o))
	norm := func(name string, x *Node) *Node {
		return layers.LayerNorm(scoped.Scope(name), x, layers.NormConfig{Eps: r.model.eps})
	}
	x = layers.Concat(b, 1, norm("global_norm", layers.Slice(b, x, 1, 0, 3)), norm("long_norm", layers.Slice(b, x, 1, 3, 8)))
	x = norm("norm", layers.FeedForward(scoped, x, layers.FeedForwardConfig{Hidden: 20, Act: r.model.act, Up: "intermediate", Down: "output", Residual: x}))
	require.NoError(t, b.Err())
	p, err := engine.Compile(b.Graph(), layers.Nodes{gotLong, gotGlobals, x}, engine.Options{})
	require.NoError(t, err)
	require.NoError(t, p.Run())
	want := engine.Floats[float64](p.Value(x))
	near(t, want[:36], engine.Floats[float64](p.Value(gotGlobals)), "global")
	near(t, want[36:], engine.Floats[float64](p.Value(gotLong)), "long")
}

// A hard global node does not see what is outside its sentence, in one layer.
func TestETCHardSentences(t *testing.T) {
	r := newETCRun(t, `"num_hidden_layers":1`)
	in := map[string][]int32{"input_ids": {3, 5, 7, 9, 11, 13, 2}, "sentence_ids": {0, 0, 1, 1, 1, 2, 2}}
	_, before, _ := r.run(t, 1, in)
	for i, u := range in["sentence_ids"] {
		keep := in["input_ids"][i]
		in["input_ids"][i] = 20
		_, after, _ := r.run(t, 1, in)
		in["input_ids"][i] = keep
		for v := range 3 {
			if v == int(u) {
				require.NotEqual(t, before[v*12:][:12], after[v*12:][:12], "token %d, node %d", i, v)
			} else {
				require.Equal(t, before[v*12:][:12], after[v*12:][:12], "token %d, node %d", i, v)
			}
		}
	}
}

// Sentences that the data hide and pack give the loss of sentences that the model hides itself.
func TestETCPackedSentences(t *testing.T) {
	r := newETCRun(t, `"cpc_global_token_id":4,"mask_token_id":6`)
	ids, sentences := []int32{3, 5, 7, 9, 11, 13, 2, 2 /**/, 8, 5, 7, 9, 9, 1, 1, 1}, []int32{0, 0, 1, 1, 1, 2, 2, 2 /**/, 0, 1, 1, 2, 2, 2, -1, -1}
	lens := []int32{8, 6}
	_, _, want := r.run(t, 2, map[string][]int32{"input_ids": ids, "sentence_ids": sentences, "lengths": lens, "masked_sentences": {0, 2, 1, -1}})
	hidden := []int32{6, 6, 7, 9, 11, 6, 6, 6, 8, 6, 6, 9, 9, 1, 1, 1}
	_, _, got := r.run(t, 2, map[string][]int32{"input_ids": hidden, "sentence_ids": sentences, "lengths": lens, "masked_sentences": {0, 2, 1, -1},
		"global_ids": {4, 1, 4, 1, 4, 1}, "packed_ids": {3, 5, 13, 2, 2, 0 /**/, 5, 7, 0, 0, 0, 0}, "packed_sentences": {0, 0, 1, 1, 1, -1, 0, 0, -1, -1, -1, -1},
		"duplicate_group": {0, 1, 2, -1}})
	require.InDelta(t, want, got, 1e-11)
	require.Greater(t, want, 0.1)
	// A copy of the own sentence does not compete.
	_, _, alone := r.run(t, 1, map[string][]int32{"input_ids": {5, 7, 5, 7}, "sentence_ids": {0, 0, 1, 1}, "masked_sentences": {0, 1}})
	require.Zero(t, alone)
}

func TestETCFaults(t *testing.T) {
	_, err := New([]byte(`{"model_type":"etc","vocab_size":10,"hidden_size":12,"num_hidden_layers":1,"num_attention_heads":5,"label_clip":12,
		"relative_vocab_size":20,"local_radius":-1,"num_globals":0,"mask_token_id":10,"hard_g2":true,"task":"causal_lm"}`))
	for _, want := range []string{"num_attention_heads is 5: want a divisor of hidden_size (12)", "relative_vocab_size is 20: want at least 28", "local_radius is -1",
		"num_globals is 0", "mask_token_id is 10: want 0 to 9", `hard_g2: unknown`, `task is "causal_lm"`} {
		require.ErrorContains(t, err, want, fmt.Sprint(err))
	}
}

// What is lifted from BERT computes what BERT does without positions, on global tokens followed by long ones.
func TestBertToETC(t *testing.T) {
	text := []byte(`{"model_type":"bert","architectures":["BertForMaskedLM"],"vocab_size":23,"hidden_size":12,"intermediate_size":20,"num_hidden_layers":2,
		"num_attention_heads":3,"max_position_embeddings":16,"type_vocab_size":2,"layer_norm_eps":1e-6}`)
	bert, err := New(text)
	require.NoError(t, err)
	from, err := NewParams(bert, tensor.Float64, 5)
	require.NoError(t, err)
	weights := map[string]*tensor.Dense{}
	for k, p := range from.All() {
		for i := range p.Value.Shape().TotalSize() {
			p.Value.Float64s()[i] += 0.2 * math.Sin(float64(7*k+3*i))
		}
		if p.Name == "bert.embeddings.position_embeddings.weight" {
			clear(p.Value.Float64s())
		}
		weights[p.Name] = p.Value
	}
	for _, more := range []string{"", `"share_qkv":false,"share_kv":true,`, `"share_qkv":false,"share_output":false,`} {
		etc, to, err := ToETC(text, weights, []byte(`{`+more+`"num_globals":3,"local_radius":99,"hard_g2l":false}`), tensor.Float64)
		require.NoError(t, err)
		run := func(m Model, params *layers.Params, in func(b *layers.Builder) Inputs) []float64 {
			b := layers.New(gorgonia.NewGraph(), params, layers.Options{})
			out := m.Forward(b, in(b), 0)
			require.NoError(t, b.Err())
			p, err := engine.Compile(b.Graph(), layers.Nodes{out.Logits}, engine.Options{})
			require.NoError(t, err)
			require.NoError(t, p.Run())
			return append([]float64(nil), engine.Floats[float64](p.Value(out.Logits))...)
		}
		ints := func(b *layers.Builder, name string, v ...int32) *Node {
			return b.Const(name, tensor.New(tensor.WithShape(1, len(v)), tensor.WithBacking(v)))
		}
		want := run(bert, from, func(b *layers.Builder) Inputs {
			return Inputs{IDs: ints(b, "ids", 1, 1, 1, 5, 7, 2, 9, 11), Types: ints(b, "types", 0, 0, 0, 1, 1, 1, 1, 1)}
		})
		got := run(etc, to, func(b *layers.Builder) Inputs {
			return Inputs{IDs: ints(b, "ids", 5, 7, 2, 9, 11), More: map[string]*Node{"global_ids": ints(b, "globals", 1, 1, 1)}}
		})
		near(t, want[3*23:], got, "logits")
	}
	_, _, err = ToETC([]byte(`{"model_type":"gpt2"}`), nil, []byte(`{}`), tensor.Float64)
	require.ErrorContains(t, err, "cannot be made an etc")
	delete(weights, "bert.encoder.layer.1.output.dense.bias")
	_, _, err = ToETC(text, weights, []byte(`{}`), tensor.Float64)
	require.ErrorContains(t, err, "bert.encoder.layer.1.output.dense.bias")
}
