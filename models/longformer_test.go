package models

import (
	"encoding/json"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/config"
	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/layers"
)

// longText is a small longformer with more keys.
func longText(more string) string {
	return `{"model_type":"longformer","vocab_size":37,"hidden_size":24,"num_hidden_layers":2,"num_attention_heads":3,"intermediate_size":28,
		"max_position_embeddings":71,"type_vocab_size":2,"attention_window":[4,6],"hidden_dropout_prob":0,"attention_probs_dropout_prob":0` + more + `}`
}

// The count of weights that transformers has for this model.
func TestLongformerParameterCount(t *testing.T) {
	m, err := New([]byte(`{"model_type":"longformer","architectures":["LongformerModel"],"vocab_size":50,"hidden_size":16,"num_hidden_layers":2,
		"num_attention_heads":2,"intermediate_size":32,"max_position_embeddings":64,"type_vocab_size":2}`))
	require.NoError(t, err)
	params, err := NewParams(m, tensor.Float32, 0)
	require.NoError(t, err)
	require.EqualValues(t, 8240, params.Count())
	require.Equal(t, 62, m.Dims().Positions)
}

// Which tokens are global without being told depends on the task; what is told takes its place.
func TestLongformerGlobalsOfTask(t *testing.T) {
	const sep = 2
	ids := []int32{0, 11, sep, 5, 6, sep, 7, 8, 0, 12, 13, 14, sep, sep, 1, 1}
	lens := []int32{8, 6}
	for task, of := range map[string][]int32{"masked_lm": nil, "token_classification": nil, "sequence_classification": {0, -1, -1, -1, 0, -1, -1, -1},
		"regression": {-1, 0, -1, -1, -1, -1, 0, -1}, "question_answering": {0, 1, -1, -1, 0, 1, 2, 3}} {
		m, params := load(t, longText(`,"task":"`+task+`"`))
		none := outputs(t, m, params, ids, lens, []int32{-1, -1})
		alone := outputs(t, m, params, ids, lens, nil)
		require.Equal(t, of == nil, sameNumbers(none, alone), task)
		if of == nil {
			require.Equal(t, "band(2,2)", m.(*Longformer).pattern(0).String())
		} else {
			require.Less(t, difference(alone, outputs(t, m, params, ids, lens, of)), 1e-12, task)
		}
	}
}

// outputs are the logits of two examples, of all rows that are not padding, with the globals that are given, if any.
func outputs(t *testing.T, m Model, params *layers.Params, ids, lens, globals []int32) []float64 {
	b := layers.New(gorgonia.NewGraph(), params, layers.Options{})
	in := Inputs{IDs: b.Input("ids", tensor.Int32, 2, len(ids)/2), Lens: b.Input("lens", tensor.Int32, 2)}
	copy(layers.InputValue(in.IDs).Int32s(), ids)
	copy(layers.InputValue(in.Lens).Int32s(), lens)
	if globals != nil {
		in.Globals = b.Input("globals", tensor.Int32, 2, len(globals)/2)
		copy(layers.InputValue(in.Globals).Int32s(), globals)
	}
	out := m.Forward(b, in, 0)
	require.NoError(t, b.Err())
	p, err := engine.Compile(b.Graph(), layers.Nodes{out.Logits}, engine.Options{CheckFinite: true})
	require.NoError(t, err)
	require.NoError(t, p.Run())
	return append([]float64(nil), engine.Floats[float64](p.Value(out.Logits))...)
}

// difference is the largest between two lists.
func difference(x, y []float64) (most float64) {
	for i := range x {
		most = max(most, math.Abs(x[i]-y[i]))
	}
	return most
}

func sameNumbers(x, y []float64) bool { return difference(x, y) == 0 }

// value runs a graph for a node of whole numbers.
func value(b *layers.Builder, n *Node) ([]int32, error) {
	out := layers.Plus(b, n, 0)
	p, err := engine.Compile(b.Graph(), layers.Nodes{out}, engine.Options{})
	if err == nil {
		err = p.Run()
	}
	if err != nil {
		return nil, err
	}
	return append([]int32(nil), engine.Ints(p.Value(out))...), nil
}

func TestLongformerQuestion(t *testing.T) {
	run := func(t1 int, ids, lens []int32) ([]int32, error) {
		b := layers.New(gorgonia.NewGraph(), layers.NewParams(tensor.Float32), layers.Options{})
		x := b.Input("ids", tensor.Int32, len(ids)/t1, t1)
		copy(layers.InputValue(x).Int32s(), ids)
		var l *Node
		if lens != nil {
			l = b.Input("lens", tensor.Int32, len(lens))
			copy(layers.InputValue(l).Int32s(), lens)
		}
		return value(b, questionRows(b, x, l, 9))
	}
	got, err := run(3, []int32{5, 6, 9, 9, 7, 7, 4, 9, 9}, nil)
	require.NoError(t, err)
	require.Equal(t, []int32{0, 1, -1, -1, -1, -1, 0, -1, -1}, got)
	got, err = run(3, []int32{5, 9, 9, 7, 7, 7}, []int32{3, 0}) // an example of padding alone asks nothing
	require.NoError(t, err)
	require.Equal(t, []int32{0, -1, -1, -1, -1, -1}, got)
	_, err = run(3, []int32{5, 9, 9, 7, 7, 9}, []int32{3, 2})
	require.ErrorContains(t, err, "example 1 has no token 9 (sep_token_id), which ends a question")

	long := make([]int32, 600)
	long[599] = 9
	_, err = run(600, long, nil)
	require.ErrorContains(t, err, "the question of example 0 has 599 tokens, at most 512 can be global")
	long[512] = 9
	got, err = run(600, long, nil)
	require.NoError(t, err)
	require.Len(t, got, 512)
	require.EqualValues(t, 511, got[511])
}

// The head is that of task, else of architectures, and the config says so in Hugging Face's words.
func TestHuggingFaceTask(t *testing.T) {
	for more, want := range map[string]struct {
		task   string
		labels int
		class  string
	}{
		``:                                     {"masked_lm", 0, "LongformerForMaskedLM"},
		`,"architectures":["LongformerModel"]`: {"", 0, "LongformerModel"},
		`,"architectures":["LongformerForTokenClassification"],"id2label":{"0":"a","1":"b","2":"c"}`: {"token_classification", 3, "LongformerForTokenClassification"},
		`,"architectures":["LongformerForSequenceClassification"]`:                                   {"sequence_classification", 2, "LongformerForSequenceClassification"},
		`,"architectures":["LongformerForSequenceClassification"],"num_labels":1`:                    {"regression", 1, "LongformerForSequenceClassification"},
		`,"architectures":["LongformerForSequenceClassification"],"problem_type":"regression","num_labels":3`: {"regression", 3,
			"LongformerForSequenceClassification"},
		`,"architectures":["LongformerForMaskedLM"],"task":"sequence_classification","num_labels":5`: {"sequence_classification", 5, "LongformerForSequenceClassification"},
		`,"task":"regression"`:         {"regression", 1, "LongformerForSequenceClassification"},
		`,"task":"question_answering"`: {"question_answering", 0, "LongformerForQuestionAnswering"},
	} {
		m, err := New([]byte(longText(more)))
		require.NoError(t, err, more)
		require.Equal(t, want.task, m.Task(), more)
		require.Equal(t, want.labels, m.Dims().Labels, more)
		text, err := m.Config()
		require.NoError(t, err)
		var c struct{ Architectures []string }
		require.NoError(t, json.Unmarshal(text, &c))
		require.Equal(t, []string{want.class}, c.Architectures, more)
		again, err := New(text)
		require.NoError(t, err)
		require.Equal(t, want.task, again.Task(), more)
		require.Equal(t, want.labels, again.Dims().Labels, more)
	}
}

func TestLongformerFaults(t *testing.T) {
	for more, want := range map[string][]string{
		`,"attention_window":7`:                                  {"attention_window is 7: want an even number from 2 on"},
		`,"attention_window":[4,0]`:                              {"attention_window[1] is 0: want an even number from 2 on"},
		`,"attention_window":[4,6,8]`:                            {"attention_window is [4,6,8]: want one number, or one for each of 2 layers (num_hidden_layers)"},
		`,"attention_window":"x"`:                                {"attention_window is \"x\": want a whole number, or a list"},
		`,"max_position_embeddings":2`:                           {"max_position_embeddings is 2: want more than pad_token_id + 1 (2)"},
		`,"architectures":["LongformerForMultipleChoice"]`:       {`architectures is ["LongformerForMultipleChoice"]: want one of LongformerModel, LongformerForMaskedLM`},
		`,"problem_type":"ranking"`:                              {"problem_type is \"ranking\": want one of single_label_classification, multi_label_classification, regression"},
		`,"task":"causal_lm"`:                                    {`task is "causal_lm": want one of masked_lm`},
		`,"id2label":3,"hidden_act":"nope","attention_window":1`: {"id2label is 3", "hidden_act", "attention_window is 1"},
	} {
		text := longText(more)
		if strings.Contains(more, "attention_window") {
			text = strings.Replace(text, `"attention_window":[4,6],`, "", 1)
		}
		if strings.Contains(more, "max_position") {
			text = strings.Replace(text, `"max_position_embeddings":71,`, "", 1)
		}
		_, err := New([]byte(text))
		for _, w := range want {
			require.ErrorContains(t, err, w, more)
		}
		require.Len(t, config.Faults(err), len(want), more)
	}
}

// denseWeights are weights of a dense encoder of 2 layers under the names of BERT or RoBERTa.
func denseWeights(t *testing.T, m Model, rename ...string) map[string]*tensor.Dense {
	weights := map[string]*tensor.Dense{}
	for _, p := range scrambled(t, m).All() {
		weights[strings.NewReplacer(rename...).Replace(p.Name)] = p.Value
	}
	return weights
}

func bertText(more string) string {
	return `{"model_type":"bert","vocab_size":37,"hidden_size":24,"num_hidden_layers":2,"num_attention_heads":3,"intermediate_size":28,
		"max_position_embeddings":41,"type_vocab_size":2,"layer_norm_eps":1e-5,"hidden_dropout_prob":0,"attention_probs_dropout_prob":0` + more + `}`
}

// A converted BERT gives the same numbers, to the bit, as long as the windows reach over the sequence and no token is global.
func TestBertToLongformer(t *testing.T) {
	for _, more := range []string{`,"architectures":["BertForMaskedLM"]`, `,"architectures":["BertForTokenClassification"],"num_labels":3`,
		`,"architectures":["BertForQuestionAnswering"],"sep_token_id":5`, `,"architectures":["BertForMaskedLM"],"tie_word_embeddings":false`} {
		dense, err := New([]byte(bertText(more)))
		require.NoError(t, err)
		weights := denseWeights(t, dense)
		m, params, err := ToLongformer([]byte(bertText(more)), weights, 80, 97, tensor.Float64)
		require.NoError(t, err)
		require.Equal(t, 97, m.Dims().Positions)
		ids := tokens(40, 37)
		for i := range ids {
			ids[i] = 1 + ids[i]%36 // no padding inside
		}
		own := layers.NewParams(tensor.Float64)
		for name, v := range weights {
			require.NoError(t, own.Load(name, v))
		}
		var converted Model = m
		if m.Task() == "question_answering" {
			converted = noGlobals{m}
		}
		lens := []int32{20, 13}
		equalTokens(t, build(t, dense, own, ids, 2, lens), build(t, converted, params, ids, 2, lens), 20, lens)
	}
}

// equalTokens compares, to the bit, what models give for tokens that are not padding, in examples of t tokens.
func equalTokens(t *testing.T, want, got []float64, tokens int, lens []int32) {
	t.Helper()
	require.Len(t, got, len(want))
	size := len(want) / len(lens)
	for b, n := range lens {
		for i := range size / tokens * int(n) {
			if want[b*size+i] != got[b*size+i] {
				t.Fatalf("example %d, value %d: want %v, got %v", b, i, want[b*size+i], got[b*size+i])
			}
		}
	}
}

// noGlobals is a longformer whose task makes no token global.
type noGlobals struct{ *Longformer }

func (m noGlobals) Forward(b *layers.Builder, in Inputs, layersPerBlock int) Outputs {
	none := b.Const("none", tensor.New(tensor.WithShape(in.IDs.Shape()[0], 1), tensor.WithBacking([]int32{-1, -1})))
	in.Globals = none
	return m.Longformer.Forward(b, in, layersPerBlock)
}

// A BERT that classifies has a pooler where a Longformer has the first layer of its head.
func TestBertClassifierToLongformer(t *testing.T) {
	text := bertText(`,"architectures":["BertForSequenceClassification"],"num_labels":3`)
	dense, err := New([]byte(text))
	require.NoError(t, err)
	weights := denseWeights(t, dense)
	m, params, err := ToLongformer([]byte(text), weights, 64, 0, tensor.Float64)
	require.NoError(t, err)
	require.Equal(t, 41, m.Dims().Positions)
	own := layers.NewParams(tensor.Float64)
	for name, v := range weights {
		require.NoError(t, own.Load(name, v))
	}
	ids := []int32{3, 4, 5, 6, 7, 8, 9, 9, 2, 1, 11, 12, 13, 14}
	want := build(t, dense, own, ids, 2, []int32{7, 5})
	got := build(t, m, params, ids, 2, []int32{7, 5}) // the first token is global, with projections that are copies
	for i := range want {
		require.InDelta(t, want[i], got[i], 1e-12)
	}
}

// RoBERTa counts positions from 2 on: as a BERT whose table starts there.
func TestRobertaToLongformer(t *testing.T) {
	like := bertText(`,"architectures":["BertForMaskedLM"],"pad_token_id":1`)
	dense, err := New([]byte(like))
	require.NoError(t, err)
	weights := denseWeights(t, dense)
	own := layers.NewParams(tensor.Float64)
	roberta := map[string]*tensor.Dense{}
	for name, v := range weights {
		require.NoError(t, own.Load(name, v))
		name = strings.NewReplacer("bert.", "roberta.", "cls.predictions.transform.dense", "lm_head.dense", "cls.predictions.transform.LayerNorm", "lm_head.layer_norm",
			"cls.predictions.bias", "lm_head.bias").Replace(name)
		if strings.HasSuffix(name, "position_embeddings.weight") {
			rows := append([]float64(nil), make([]float64, 2*24)...)
			for i := range rows {
				rows[i] = float64(i)
			}
			v = tensor.New(tensor.WithShape(43, 24), tensor.WithBacking(append(rows, v.Float64s()...)))
		}
		roberta[name] = v
	}
	text := strings.NewReplacer(`"bert"`, `"roberta"`, `"max_position_embeddings":41`, `"max_position_embeddings":43`, "BertFor", "RobertaFor").Replace(like)
	m, params, err := ToLongformer([]byte(text), roberta, 82, 123, tensor.Float64)
	require.NoError(t, err)
	ids := make([]int32, 2*41)
	for i := range ids {
		ids[i] = 2 + int32(i*7%35)
	}
	lens := []int32{41, 13}
	equalTokens(t, build(t, dense, own, ids, 2, lens), build(t, m, params, ids, 2, lens), 41, lens)

	// Positions past the old ones repeat them, and the rows of no token are as they were.
	old := roberta["roberta.embeddings.position_embeddings.weight"].Float64s()
	table, ok := params.Get("longformer.embeddings.position_embeddings.weight")
	require.True(t, ok)
	require.EqualValues(t, tensor.Shape{125, 24}, table.Value.Shape())
	for r := range 125 {
		from := r
		if r >= 2 {
			from = 2 + (r-2)%41
		}
		require.Equal(t, old[from*24:][:24], table.Value.Float64s()[r*24:][:24], "row %d", r)
	}
	for _, p := range params.All() {
		if local := strings.Replace(p.Name, "_global", "", 1); local != p.Name {
			q, ok := params.Get(local)
			require.True(t, ok)
			require.Equal(t, q.Value.Float64s(), p.Value.Float64s(), p.Name)
		}
	}
}

func TestToLongformerErrors(t *testing.T) {
	dense, err := New([]byte(bertText("")))
	require.NoError(t, err)
	weights := denseWeights(t, dense)
	try := func(text string, weights map[string]*tensor.Dense) error {
		_, _, err := ToLongformer([]byte(text), weights, 8, 50, tensor.Float32)
		return err
	}
	require.NoError(t, try(bertText(""), weights))
	require.ErrorContains(t, try(`{"model_type":"gpt2"}`, weights), `model_type is "gpt2": cannot be made a longformer; want bert or roberta`)
	require.ErrorContains(t, try(`{`, weights), "repair the JSON")
	require.ErrorContains(t, try(bertText(`,"architectures":["BertForQuestionAnswering"]`), weights), "sep_token_id is null: want the id that ends a question")
	require.ErrorContains(t, try(bertText(`,"hidden_act":"relu","architectures":["BertForMaskedLM"]`), weights), "hidden_act is \"relu\": want gelu")
	require.ErrorContains(t, try(strings.Replace(bertText(""), `"hidden_size":24`, `"hidden_size":48`, 1), weights), "of the wrong shape: ")
	delete(weights, "bert.encoder.layer.1.attention.self.key.bias")
	var e *WeightsError
	require.ErrorAs(t, try(bertText(""), weights), &e)
	require.Equal(t, []string{"bert.encoder.layer.1.attention.self.key.bias", "bert.encoder.layer.1.attention.self.key.bias"}, e.Missing)
	delete(weights, "bert.embeddings.position_embeddings.weight")
	require.ErrorContains(t, try(bertText(""), weights), "missing: bert.embeddings.position_embeddings.weight")
}

func TestExtendPositions(t *testing.T) {
	old := tensor.New(tensor.WithShape(5, 2), tensor.WithBacking([]float32{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}))
	v, err := ExtendPositions(old, 2, 7)
	require.NoError(t, err)
	require.Equal(t, []float32{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 5, 6, 7, 8, 9, 10, 5, 6}, v.Float32s())
	v, err = ExtendPositions(old, 2, 2)
	require.NoError(t, err)
	require.Equal(t, []float32{1, 2, 3, 4, 5, 6, 7, 8}, v.Float32s())
	_, err = ExtendPositions(old, 5, 7)
	require.ErrorContains(t, err, "with tokens from row 5 on")
}

// After training without globals their projections are made those of all tokens, and then a global token reads as if it had none.
func TestCopyGlobalProjections(t *testing.T) {
	m, params := load(t, longText(""))
	n, err := CopyGlobalProjections(params)
	require.NoError(t, err)
	require.Equal(t, 2*6, n)
	for _, p := range params.All() {
		if strings.Contains(p.Name, "_global.") {
			q, _ := params.Get(strings.Replace(p.Name, "_global.", ".", 1))
			require.Equal(t, q.Value.Float64s(), p.Value.Float64s())
		}
	}
	require.Equal(t, "masked_lm", m.Task())
}
