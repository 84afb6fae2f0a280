package models

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/tensor"
)

// Sequences of many lengths give what each gives alone, in their order, on few graphs.
func TestPredictor(t *testing.T) {
	for _, text := range []string{
		bertText(`,"architectures":["BertForMaskedLM"]`), bertText(`,"architectures":["BertForSequenceClassification"],"num_labels":3`), bertText(`,"architectures":["BertModel"]`),
	} {
		m, err := New([]byte(text))
		require.NoError(t, err)
		params, err := NewParams(m, tensor.Float32, 3)
		require.NoError(t, err)
		var all []Sequence
		for _, n := range []int{5, 1, 41, 17, 5, 33, 2, 19} {
			s := Sequence{IDs: tokens(n, 36)}
			for i := range s.IDs {
				s.IDs[i]++
			}
			all = append(all, s)
		}
		p, err := NewPredictor(m, params, PredictorOptions{BatchSize: 3, Bucket: 8, Graphs: 4})
		require.NoError(t, err)
		got, err := p.Run(context.Background(), all)
		require.NoError(t, err)
		require.LessOrEqual(t, len(p.graphs), 4)
		for i, s := range all {
			one, err := NewPredictor(m, params, PredictorOptions{BatchSize: 1, Bucket: 1})
			require.NoError(t, err)
			alone, err := one.Run(context.Background(), []Sequence{s})
			require.NoError(t, err)
			require.Len(t, got[i].Hidden, 24*len(s.IDs))
			require.InDeltaSlice(t, alone[0].Hidden, got[i].Hidden, 1e-5)
			require.Len(t, got[i].Logits, len(alone[0].Logits))
			if len(got[i].Logits) > 0 {
				require.InDeltaSlice(t, alone[0].Logits, got[i].Logits, 1e-5)
				require.Equal(t, got[i].Logits[:got[i].Width], got[i].Row(0))
			}
			if m.Task() == "" {
				require.Nil(t, got[i].Logits)
				require.Len(t, got[i].Pooled, 24)
				require.InDelta(t, got[i].Mean(24)[5], mean(got[i].Hidden, 24, 5), 1e-5)
			}
		}
	}
}

func mean(rows []float32, width, column int) float32 {
	var sum float32
	for i := column; i < len(rows); i += width {
		sum += rows[i]
	}
	return sum / float32(len(rows)/width)
}

func TestPredictorRefuses(t *testing.T) {
	m, err := New([]byte(bertText("")))
	require.NoError(t, err)
	params, err := NewParams(m, tensor.Float32, 3)
	require.NoError(t, err)
	p, err := NewPredictor(m, params, PredictorOptions{})
	require.NoError(t, err)
	for want, s := range map[string]Sequence{
		"sequence 0 is empty": {}, "max_position_embeddings is 41": {IDs: make([]int32, 42)}, "the id 37": {IDs: []int32{37}}, "2 ids and 1 types": {IDs: []int32{1, 2}, Types: []int32{0}},
	} {
		_, err := p.Run(context.Background(), []Sequence{s})
		require.ErrorContains(t, err, want)
	}
	_, err = NewPredictor(m, params, PredictorOptions{BatchSize: -1})
	require.ErrorContains(t, err, "none below 0")
	wide, err := NewParams(m, tensor.Float64, 3)
	require.NoError(t, err)
	_, err = NewPredictor(m, wide, PredictorOptions{})
	require.ErrorContains(t, err, "want float32")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err = p.Run(ctx, []Sequence{{IDs: []int32{1}}})
	require.ErrorIs(t, err, context.Canceled)
}

// BenchmarkPredictor is a model of the size of MiniLM, as BERT on eight sequences of 512 tokens and as Longformer on one of 4,096, to be set beside
//
//	m = transformers.BertModel(BertConfig(hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536)).eval(); m(input_ids)
//	m = transformers.LongformerModel(LongformerConfig(the same, attention_window=[256]*6, max_position_embeddings=4098)).eval(); m(input_ids, global_attention_mask=first)
func BenchmarkPredictor(b *testing.B) {
	const size = `"vocab_size":30522,"hidden_size":384,"num_hidden_layers":6,"num_attention_heads":12,"intermediate_size":1536,"type_vocab_size":2`
	for _, c := range []struct {
		name, config string
		b, t         int
		globals      []int32
	}{
		{"bert", `{"model_type":"bert","architectures":["BertModel"],"max_position_embeddings":512,` + size + `}`, 8, 512, nil},
		{"longformer", `{"model_type":"longformer","architectures":["LongformerModel"],"max_position_embeddings":4098,"attention_window":[256,256,256,256,256,256],` + size + `}`, 1, 4096, []int32{0}},
	} {
		b.Run(c.name, func(b *testing.B) {
			m, err := New([]byte(c.config))
			require.NoError(b, err)
			params, err := NewParams(m, tensor.Float32, 1)
			require.NoError(b, err)
			p, err := NewPredictor(m, params, PredictorOptions{})
			require.NoError(b, err)
			all := make([]Sequence, c.b)
			for i := range all {
				all[i] = Sequence{IDs: tokens(c.t, 30000), Globals: c.globals}
			}
			for b.Loop() {
				_, err := p.Run(context.Background(), all)
				require.NoError(b, err)
			}
		})
	}
}
