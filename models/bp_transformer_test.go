package models

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/layers"
)

// The models with spans are decoders as all others: causal, padded, written token by token, stored.
func init() {
	small["bp_transformer"] = `{"model_type":"bp_transformer","vocab_size":37,"hidden_size":24,"intermediate_size":28,"num_hidden_layers":3,
		"num_attention_heads":3,"max_position_embeddings":41,"k":1,"clip":2}`
	small["bp_transformer, untied"] = `{"model_type":"bp_transformer","vocab_size":37,"hidden_size":10,"num_hidden_layers":2,
		"num_attention_heads":5,"max_position_embeddings":41,"k":3,"clip":1,"tie_word_embeddings":false,"position_embedding_type":"sinusoidal"}`
	small["decoder with bp"] = `{"model_type":"decoder","vocab_size":37,"hidden_size":24,"num_hidden_layers":2,"num_attention_heads":2,
		"max_position_embeddings":41,"position_embedding_type":"none","attention":[{"type":"bp","k":1,"clip":3},{"type":"bp","k":2,"clip":0}]}`
	small["reversible decoder with bp"] = `{"model_type":"decoder","vocab_size":37,"hidden_size":24,"num_hidden_layers":3,"num_attention_heads":2,
		"max_position_embeddings":41,"position_embedding_type":"learned","residual":"reversible","attention":[{"type":"bp","k":2,"clip":3}]}`
}

const bpClassifier = `{"model_type":"bp_transformer","task":"sequence_classification","num_labels":3,"vocab_size":37,"hidden_size":10,"intermediate_size":14,
	"num_hidden_layers":2,"num_attention_heads":2,"max_position_embeddings":41,"k":1,"clip":2}`

// TestBPWeights: a layer has 4d² + 2·d·f + f + d + 4d + V·D weights.
func TestBPWeights(t *testing.T) {
	const d, f, heads, v, positions, classes = 10, 14, 2, 37, 41, 3
	count := func(depth int) (n int) {
		_, params := load(t, strings.Replace(bpClassifier, `"num_hidden_layers":2`, fmt.Sprint(`"num_hidden_layers":`, depth), 1))
		for _, p := range params.All() {
			n += p.Value.Shape().TotalSize()
		}
		return n
	}
	one := 4*d*d + 2*d*f + f + d + 4*d + (2*1+1)*(2+1)*d/heads
	require.Equal(t, one, count(3)-count(2))
	require.Equal(t, (v+positions+2)*d+classes*d+classes, count(1)-one)
}

// TestBPRoot: the root reads everything on both sides, and nothing of padding; examples of a batch are alone.
func TestBPRoot(t *testing.T) {
	m, params := load(t, bpClassifier)
	ids := tokens(23, 37)
	alone := map[int][]float64{}
	for _, n := range []int{1, 2, 3, 13, 23} {
		alone[n] = build(t, m, params, ids[:n], 1, nil)
		require.Len(t, alone[n], 3)
	}
	var batch []int32
	for range 4 {
		batch = append(batch, ids...)
	}
	got := build(t, m, params, batch, 4, []int32{13, 1, 23, 2})
	for k, n := range []int{13, 1, 23, 2} {
		require.InDeltaSlice(t, alone[n], got[3*k:][:3], 1e-12, "%d tokens", n)
	}
	for at := range 13 {
		changed := append([]int32(nil), ids[:13]...)
		changed[at] = (changed[at] + 5) % 37
		require.NotEqual(t, alone[13], build(t, m, params, changed, 1, nil), "token %d", at)
	}
	require.Zero(t, build(t, m, params, batch[:23], 1, []int32{0})[0]-params0(t, params, "classifier.bias"), "no tokens: zeros at the root")
}

func params0(t *testing.T, params *layers.Params, name string) float64 {
	p, ok := params.Get(name)
	require.True(t, ok)
	return p.Value.Float64s()[0]
}

// TestBPInEverySkeleton: spans are carried along by encoders, and by both halves of an encoder-decoder.
func TestBPInEverySkeleton(t *testing.T) {
	m, params := load(t, `{"model_type":"encoder","task":"token_classification","num_labels":5,"vocab_size":37,"hidden_size":12,"num_hidden_layers":2,
		"num_attention_heads":2,"max_position_embeddings":41,"position_embedding_type":"learned","norm":"post","hidden_act":"relu","attention":[{"type":"bp","k":1,"clip":2}]}`)
	ids := tokens(19, 37)
	want := build(t, m, params, ids, 1, nil)
	require.Len(t, want, 19*5)
	for _, pad := range []int{1, 17} {
		row := append(append([]int32(nil), ids...), tokens(pad, 37)...)
		require.Equal(t, want, build(t, m, params, append(append([]int32(nil), row...), row...), 2, []int32{19, 3})[:19*5])
	}

	half := `{"num_hidden_layers":2,"num_attention_heads":2,"max_position_embeddings":41,"position_embedding_type":"learned","attention":[{"type":"bp","k":1,"clip":2}]`
	m, params = load(t, `{"model_type":"encoder_decoder","vocab_size":37,"hidden_size":12,"decoder_start_token_id":1,"pad_token_id":0,"eos_token_id":2,"encoder":`+half+
		`},"decoder":`+half+`,"cross_attention":[{"type":"full"}]}}`)
	source, target := tokens(13, 37), tokens(17, 37)
	forward := func(lens bool) []float64 {
		b := layers.New(gorgonia.NewGraph(), params, layers.Options{})
		ints := func(name string, x []int32, shape ...int) *Node {
			n := b.Input(name, tensor.Int32, shape...)
			copy(layers.InputValue(n).Int32s(), x)
			return n
		}
		var in Inputs
		if !lens {
			in = Inputs{IDs: ints("source", source, 1, 13), TargetIDs: ints("target", target, 1, 17)}
		} else {
			in = Inputs{IDs: ints("source", append(append([]int32(nil), source...), 5, 6), 1, 15), Lens: ints("lens", []int32{13}, 1),
				TargetIDs: ints("target", append(append([]int32(nil), target...), 3), 1, 18), TargetLens: ints("target lens", []int32{17}, 1)}
		}
		out := m.Forward(b, in, 0)
		require.NoError(t, b.Err())
		p, err := engine.Compile(b.Graph(), layers.Nodes{out.Logits}, engine.Options{})
		require.NoError(t, err)
		require.NoError(t, p.Run())
		return append([]float64(nil), engine.Floats[float64](p.Value(out.Logits))...)
	}
	all := forward(false)
	require.Equal(t, all, forward(true)[:17*37])
	d, reader, why, err := newSeq2SeqDecoding[float64](&m.(*EncoderDecoder).seq2seq, params, 0)
	require.NoError(t, err)
	require.Empty(t, why)
	require.NoError(t, reader.read(source))
	for i, id := range target {
		got, err := d.step([]int32{id})
		require.NoError(t, err)
		require.InDeltaSlice(t, all[i*37:][:37], got, 1e-10, "token %d", i)
	}
}

func TestBPFaults(t *testing.T) {
	for change, want := range map[string]string{
		`"k":1`:                        `"k":0`,
		`"clip":2`:                     `"clip":-1`,
		`"num_labels":3`:               `"num_labels":0`,
		`"num_attention_heads":2`:      `"num_attention_heads":3`,
		`"max_position_embeddings":41`: `"max_position_embeddings":41,"position_embedding_type":"rotary"`,
		`"intermediate_size":14`:       `"intermediate_size":14,"hidden_act":"rely"`,
	} {
		_, err := New([]byte(strings.Replace(bpClassifier, change, want, 1)))
		key := strings.Split(want[strings.LastIndex(want, `,`)+1:], `"`)[1]
		require.ErrorContains(t, err, key, want)
	}
	_, err := New([]byte(strings.Replace(small["decoder with bp"], `"none"`, `"rotary"`, 1)))
	require.ErrorContains(t, err, "position_embedding_type")
	_, err = New([]byte(strings.Replace(small["decoder with bp"], `{"type":"bp","k":2,"clip":0}`, `{"type":"full"}`, 1)))
	require.ErrorContains(t, err, "attention[1]")
	require.ErrorContains(t, err, "bp in every layer or in none")
	m, params := load(t, bpClassifier)
	b := layers.New(gorgonia.NewGraph(), params, layers.Options{})
	m.Forward(b, Inputs{IDs: b.Input("input_ids", tensor.Int32, 1, 42)}, 0)
	var e *LengthError
	require.ErrorAs(t, b.Err(), &e)
}
