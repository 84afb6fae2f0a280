package train

import (
	"context"
	"encoding/json"
	"math"
	"reflect"
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/data"
	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/testkit"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/models"
)

const testVocab = 37

// wordy is a model in float64 whose weights are far from small, and documents in its vocabulary.
func wordy(t *testing.T) (models.Model, *layers.Params, *data.Part) {
	t.Helper()
	m, err := models.New(json.RawMessage(`{"model_type":"decoder","vocab_size":37,"hidden_size":12,"intermediate_size":20,"num_hidden_layers":2,
		"num_attention_heads":3,"max_position_embeddings":64,"hidden_dropout_prob":0,"attention":[{"type":"band","window_left":7}]}`))
	require.NoError(t, err)
	params, err := models.NewParams(m, tensor.Float64, 5)
	require.NoError(t, err)
	for k, p := range params.All() {
		for i, v := range p.Value.Float64s() {
			p.Value.Float64s()[i] = 6*v + 0.3*math.Sin(float64(i*7+k))
		}
	}
	var docs [][]int32
	for d, size := range []int{71, 2, 1, 19} {
		doc := make([]int32, size)
		for i := range doc {
			doc[i] = int32((i*i*5 + i*3 + d*11) % testVocab)
		}
		docs = append(docs, doc)
	}
	return m, params, data.FromTokens("made up", docs...)
}

// logProbabilities are those of every next token [T,V] for one window alone.
func logProbabilities(t *testing.T, m models.Model, params *layers.Params, ids []int32) [][]float64 {
	t.Helper()
	b := layers.New(gorgonia.NewGraph(), params, layers.Options{})
	in := models.Inputs{IDs: b.Input("input_ids", tensor.Int32, 1, len(ids))}
	out := m.Forward(b, in, 0)
	require.NoError(t, b.Err())
	copy(layers.InputValue(in.IDs).Int32s(), ids)
	p, err := engine.Compile(b.Graph(), layers.Nodes{out.Logits}, engine.Options{})
	require.NoError(t, err)
	require.NoError(t, p.Run())
	logits := engine.Floats[float64](p.Value(out.Logits))
	rows := make([][]float64, len(ids))
	for i := range rows {
		x := logits[i*testVocab:][:testVocab]
		sum := 0.0
		for _, v := range x {
			sum += math.Exp(v)
		}
		for _, v := range x {
			rows[i] = append(rows[i], v-math.Log(sum))
		}
	}
	return rows
}

// TestEvaluationByDefinition: loss, accuracy, bytes and the losses by position are those of the windows taken one by one.
func TestEvaluationByDefinition(t *testing.T) {
	m, params, part := wordy(t)
	const length, batch = 17, 3
	ranges := [][2]int{{0, 1}, {1, 2}, {2, 4}, {4, 8}, {8, 16}, {16, 17}}
	for _, stride := range []int{length, 5, 1} {
		w := part.StridedWindows(length, stride)
		loss, correct, tokens := 0.0, int64(0), int64(0)
		at := make([]PositionScore, len(ranges))
		one := data.NewBatch(1, length)
		for i := range w.Len() {
			w.Fill(i, one)
			p := logProbabilities(t, m, params, one.IDs[:one.Lens[0]])
			for place, target := range one.Targets {
				if target < 0 {
					continue
				}
				x := -p[place][target]
				loss, tokens = loss+x, tokens+1
				best := true
				for _, other := range p[place] {
					best = best && other <= p[place][target]
				}
				if best {
					correct++
				}
				for k, r := range ranges {
					if place >= r[0] && place < r[1] {
						at[k].Loss, at[k].Tokens = at[k].Loss+x, at[k].Tokens+1
					}
				}
			}
		}
		require.EqualValues(t, 70+1+0+18, tokens, "every token but the first of each document")

		e, err := NewEvaluator(m, params, data.Shape{}, batch, length)
		require.NoError(t, err)
		told := 0
		s, err := e.Run(context.Background(), w, 0, func(done, all int) {
			require.Equal(t, w.Len(), all)
			told = done
		})
		require.NoError(t, err)
		require.Equal(t, w.Len(), told)
		require.Equal(t, tokens, s.Tokens)
		require.Equal(t, correct, s.Correct)
		require.InDelta(t, loss/float64(tokens), s.Loss, 1e-12)
		require.InDelta(t, math.Exp(loss/float64(tokens)), s.Perplexity(), 1e-9)
		require.InDelta(t, float64(correct)/float64(tokens), s.Accuracy(), 1e-15)
		require.InDelta(t, float64(tokens), s.Bytes, 1e-9, "a made-up token is a byte")
		require.InDelta(t, loss/float64(tokens)/math.Ln2, s.BitsPerByte(), 1e-12)
		var want []PositionScore
		for k, p := range at {
			if p.Tokens > 0 {
				want = append(want, PositionScore{From: ranges[k][0], To: ranges[k][1], Loss: p.Loss / float64(p.Tokens), Tokens: p.Tokens})
			}
		}
		require.Len(t, s.Position, len(want))
		for k, p := range want {
			require.InDelta(t, p.Loss, s.Position[k].Loss, 1e-12, "stride %d, bin %d", stride, k)
			p.Loss = s.Position[k].Loss
			require.Equal(t, p, s.Position[k])
		}

		first, err := e.Run(context.Background(), w, 1, nil)
		require.NoError(t, err)
		require.Less(t, first.Tokens, s.Tokens, "one batch alone")
	}
	e, err := NewEvaluator(m, params, data.Shape{}, batch, length)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err = e.Run(ctx, part.PlainWindows(length), 0, nil)
	require.ErrorIs(t, err, context.Canceled)
	_, err = e.Run(context.Background(), data.FromTokens("made up", []int32{4}).PlainWindows(length), 0, nil)
	require.ErrorContains(t, err, "nothing to predict")
}

// TestLabelSmoothing: the loss of a step is the mean of (1-s) times that of the target and s times the mean over the vocabulary, and
// its gradient that of finite differences.
func TestLabelSmoothing(t *testing.T) {
	m, params, part := wordy(t)
	c := DefaultConfig()
	c.SequenceLength, c.BatchSize, c.LabelSmoothing, c.LR = 17, 2, 0.13, 1e-300 // no weight changes
	tr, err := NewTrainer(m, params, part, c)
	require.NoError(t, err)
	tr.sampler.Fill(0, tr.batches[0])
	b, want := tr.batches[0], 0.0
	for r := range b.B {
		p := logProbabilities(t, m, params, b.IDs[r*b.T:][:b.Lens[r]])
		for i, target := range b.Targets[r*b.T:][:b.Lens[r]] {
			if target < 0 {
				continue
			}
			mean := 0.0
			for _, x := range p[i] {
				mean += x / testVocab
			}
			want -= ((1-c.LabelSmoothing)*p[i][target] + c.LabelSmoothing*mean) / float64(b.Scored())
		}
	}
	const name = "decoder.h.1.mlp.down.bias"
	weight, ok := params.Get(name)
	require.True(t, ok)
	x := append([]float64(nil), weight.Value.Float64s()...)
	lossAt := func(x []float64) float64 {
		copy(weight.Value.Float64s(), x)
		require.NoError(t, tr.graph.Program.Run())
		return sum(tr.graph.rows) / float64(b.Scored())
	}
	e, err := tr.Step()
	require.NoError(t, err)
	require.InDelta(t, want, e.Loss, 1e-12)
	for i, p := range tr.graph.Params {
		if p.Name == name {
			testkit.GradCheck(t, name, lossAt, x, append([]float64(nil), engine.Floats[float64](tr.graph.grads[i])...), 1e-8)
		}
	}
}

// TestClipping: what reaches the optimiser has the norm of train.grad_clip; the norm that is told is that before. A limit that is not
// reached changes no bit.
func TestClipping(t *testing.T) {
	first := func(limit float64) (told, used float64, weights []float64) {
		m, params, part := wordy(t)
		c := DefaultConfig()
		c.SequenceLength, c.BatchSize, c.GlobalBatch, c.GradClip = 17, 2, 6, limit
		tr, err := NewTrainer(m, params, part, c)
		require.NoError(t, err)
		e, err := tr.Step()
		require.NoError(t, err)
		squares := 0.0
		for _, v := range tr.Adam.m { // after one step (1-beta1) times the gradient
			for _, x := range v.Float64s() {
				squares += x * x
			}
		}
		for _, p := range params.All() {
			weights = append(weights, p.Value.Float64s()...)
		}
		return e.GradNorm, math.Sqrt(squares) / (1 - c.AdamBeta1), weights
	}
	told, used, free := first(0)
	require.InDelta(t, told, used, 1e-9*told)
	limit := told / 3
	again, used, clipped := first(limit)
	require.Equal(t, told, again)
	require.InDelta(t, limit*told/(told+1e-6), used, 1e-9*limit)
	require.NotEqual(t, free, clipped)
	_, _, loose := first(2 * told)
	require.Equal(t, free, loose)
}

// TestRecomputeOfModels: gradients of a whole model with dropout have the same bits however much is computed again, and with memory
// that is spoiled before and after its use.
func TestRecomputeOfModels(t *testing.T) {
	for _, residual := range []string{"plain", "reversible"} {
		m, err := models.New(json.RawMessage(`{"model_type":"decoder","vocab_size":37,"hidden_size":24,"intermediate_size":40,"num_hidden_layers":5,
			"num_attention_heads":3,"max_position_embeddings":64,"hidden_dropout_prob":0.2,"residual":"` + residual + `",
			"attention":[{"type":"band","window_left":7},{"type":"full"}]}`))
		require.NoError(t, err)
		params, err := models.NewParams(m, tensor.Float32, 5)
		require.NoError(t, err)
		_, _, part := wordy(t)
		sampler, err := part.Sampler(29, 3)
		require.NoError(t, err)
		batch := data.NewBatch(2, 29)
		var want, anchored [][]float32
		for _, how := range []string{"none", "cheap", "block", "every:2"} {
			for _, poison := range []bool{false, true} {
				g, err := NewGraph(m, params, batch, GraphOptions{Seed: 7, Train: true, Recompute: how, LabelSmoothing: 0.1, poison: poison})
				require.NoError(t, err)
				var got [][]float32
				for step := range 2 {
					sampler.Fill(int64(2*step), batch)
					g.load(batch)
					g.setWeights(1/float64(batch.Scored()), 1)
					g.step[0] = int32(step)
					require.NoError(t, g.Program.Run())
					for _, v := range append([]gorgonia.Value{g.rows}, g.grads...) {
						got = append(got, append([]float32(nil), engine.Floats[float32](v)...))
					}
				}
				if want == nil {
					want = got
					require.NotEqual(t, want[0], want[len(want)/2], "two steps differ")
				}
				if residual == "reversible" && how == "every:2" { // streams that are kept are not those that are computed back, but for rounding
					for i := range want {
						require.InDeltaSlice(t, want[i], got[i], 1e-5)
					}
					require.NotEqual(t, want, got)
					require.True(t, !poison || reflect.DeepEqual(anchored, got))
					anchored = got
					continue
				}
				require.Equal(t, want, got, "%s, recompute %s, poison %v", residual, how, poison)
			}
		}
	}
}

// TestOffsets: with a period, losses are told by the place within it, and their mean is the loss.
func TestOffsets(t *testing.T) {
	m, params, part := wordy(t)
	const length, period = 19, 5
	e, err := NewEvaluator(m, params, data.Shape{}, 2, length)
	require.NoError(t, err)
	w := part.PlainWindows(length)
	s, err := e.Run(context.Background(), w, 0, nil)
	require.NoError(t, err)
	require.Nil(t, s.Offset)
	e.Period = period
	s, err = e.Run(context.Background(), w, 0, nil)
	require.NoError(t, err)
	total, tokens := 0.0, int64(0)
	want := make([]float64, period)
	one := data.NewBatch(1, length)
	for i := range w.Len() {
		w.Fill(i, one)
		p := logProbabilities(t, m, params, one.IDs[:one.Lens[0]])
		for place, target := range one.Targets {
			if target >= 0 {
				want[place%period] -= p[place][target]
			}
		}
	}
	require.Len(t, s.Offset, period, "a place each: there are fewer than eighths")
	for k, o := range s.Offset {
		require.Equal(t, []int{k, k + 1}, []int{o.From, o.To})
		require.InDelta(t, want[k], o.Loss*float64(o.Tokens), 1e-10)
		total, tokens = total+o.Loss*float64(o.Tokens), tokens+o.Tokens
	}
	require.Equal(t, s.Tokens, tokens)
	require.InDelta(t, s.Loss, total/float64(tokens), 1e-12)
}
