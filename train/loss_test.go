package train

import (
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/data"
	"github.com/euryale-ml/euryale/internal/config"
	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/testkit"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/models"
)

// flat is a model without layers: each token's vector, or the mean of them, times a matrix. It has logits of the shape of every task, and reads
// whatever input there is.
type flat struct {
	task string
	dims models.Dims
	own  bool // has a term of its own
}

func (f *flat) Type() string            { return "flat" }
func (f *flat) Task() string            { return f.task }
func (f *flat) Dims() models.Dims       { return f.dims }
func (f *flat) Config() ([]byte, error) { return []byte(`{"model_type":"flat"}`), nil }
func (f *flat) Warnings() []string      { return nil }

func (f *flat) Forward(b *layers.Builder, in models.Inputs, _ int) models.Outputs {
	const c = 5
	ids, lens := in.IDs, in.Lens
	if f.task == "seq2seq_lm" {
		ids, lens = in.TargetIDs, in.TargetLens
	}
	var x *layers.Node
	if in.Vectors != nil {
		x = layers.Linear(b.Scope("in"), in.Vectors, layers.LinearConfig{Out: c, Init: layers.Normal(1)})
	} else {
		x = layers.Embedding(b.Scope("wte"), ids, f.dims.Vocab, c, layers.Normal(1))
	}
	for _, more := range []*layers.Node{in.Types, in.More["sentence_ids"]} {
		if more != nil {
			x = layers.Add(b, x, layers.Embedding(b.Scope("types"), more, 3, c, layers.Normal(1)))
		}
	}
	out := map[string]int{"causal_lm": f.dims.Vocab, "image_density": f.dims.Vocab, "masked_lm": f.dims.Vocab, "seq2seq_lm": f.dims.Vocab, "question_answering": 2}[f.task]
	if out == 0 {
		out = f.dims.Labels
	}
	if f.task == "contrastive" {
		x = layers.Reshape(b, layers.Gather(b, x, in.More["masked_sentences"]), -1, c)
		return models.Outputs{Logits: layers.Candidates(b, layers.Linear(b, x, layers.LinearConfig{Weight: x, NoBias: true}), layers.Reshape(b, in.More["duplicate_group"], -1))}
	}
	if f.task == "sequence_classification" || f.task == "regression" {
		x = layers.MeanRows(b, x, lens)
	}
	o := models.Outputs{Logits: layers.Linear(b.Scope("head"), x, layers.LinearConfig{Out: out, Init: layers.Normal(1)})}
	if f.own {
		y := layers.Linear(b.Scope("own"), x, layers.LinearConfig{Out: 1, Init: layers.Normal(1)})
		o.Loss = layers.Reshape(b, layers.Mean(b, layers.Mul(b, y, y)), 1)
	}
	return o
}

// scene is a batch for each task: examples of unequal length, the last of them padding as a whole, and targets that are missing here and there.
func scene(t *testing.T, task string, rows int) (*flat, *data.Batch) {
	t.Helper()
	const length, vocab, answer = 7, 11, 5
	shape := data.Shape{Types: true, More: map[string]int{"sentence_ids": length}}
	m := &flat{task: task, dims: models.Dims{Vocab: vocab}}
	switch task {
	case "sequence_classification":
		shape.Labels, shape.Classes, m.dims.Labels = 1, 4, 4
	case "token_classification":
		m.dims.Labels = vocab
	case "question_answering":
		shape.Labels = 2
	case "contrastive":
		shape.More["masked_sentences"], shape.More["duplicate_group"] = 2, 2
	case "regression":
		shape.Values, shape.Vectors = 3, 2
		m.dims = models.Dims{Labels: 3, Vectors: 2}
	case "seq2seq_lm":
		shape = data.Shape{Targets: answer}
	}
	b := shape.NewBatch(rows, length)
	for r := range rows {
		n := length - r%4
		if r == rows-1 {
			n = 0
		}
		b.Lens[r] = int32(n)
		for i := range length {
			k := r*length + i
			b.IDs[k], b.Targets[k] = int32((k*k+3)%vocab), -1
			if i < n && (k%3 > 0 || r == 0) {
				b.Targets[k] = int32((k * 5) % vocab)
			}
			if b.Types != nil {
				b.Types[k], b.More["sentence_ids"][k] = int32(k%2), int32(k%3)
			}
			for d := range shape.Vectors {
				b.Vectors[k*shape.Vectors+d] = float32(math.Sin(float64(k*3 + d)))
			}
		}
		for i := range shape.Labels {
			if b.Labels[r*shape.Labels+i] = -1; n > 0 {
				b.Labels[r*shape.Labels+i] = int32((r + i) % min(n, 4))
			}
		}
		for i := range shape.More["masked_sentences"] {
			k := r*2 + i
			if b.More["masked_sentences"][k], b.More["duplicate_group"][k] = int32(3*i), int32(k); n < 5 && i == 1 || n == 0 {
				b.More["masked_sentences"][k], b.More["duplicate_group"][k] = -1, -1
			}
		}
		for i := range shape.Values {
			b.Values[r*shape.Values+i] = float32(r) - float32(i)/2
		}
		for i := range shape.Targets {
			k := r*answer + i
			if b.TargetTargets[k] = -1; n > 0 && i < 5-r%3 {
				b.TargetIDs[k], b.TargetTargets[k], b.TargetLens[r] = int32(k%vocab), int32((k*7+1)%vocab), int32(i+1)
			}
		}
	}
	return m, b
}

var allTasks = []string{"causal_lm", "masked_lm", "token_classification", "seq2seq_lm", "sequence_classification", "question_answering", "regression", "contrastive", "image_density"}

// TestLossesByDefinition: of every task, the loss of each row is what one computes from the logits by hand, and so are accuracy and exact match.
func TestLossesByDefinition(t *testing.T) {
	require.Len(t, objectives, len(allTasks))
	for _, task := range allTasks {
		t.Run(task, func(t *testing.T) {
			const rows = 6
			m, batch := scene(t, task, rows)
			g, err := NewGraph(m, layers.NewParams(tensor.Float64), batch, GraphOptions{Seed: 3})
			require.NoError(t, err)
			g.load(batch)
			require.NoError(t, g.Program.Run())
			counts := newTallies(g.goal, batch)
			total := counts.add(batch, floats64[float64](g.rows), right[float64](g.goal, batch, g.logits))

			logits, losses := engine.Floats[float64](g.logits), engine.Floats[float64](g.rows)
			targets := batch.Targets
			switch task {
			case "seq2seq_lm":
				targets = batch.TargetTargets
			case "sequence_classification", "question_answering":
				targets = batch.Labels
			case "contrastive":
				targets = batch.More["duplicate_group"] // there are no copies here
			case "regression":
				targets = make([]int32, len(batch.Values)) // all of them, but for padding
				for i := range targets[:3] {
					targets[len(targets)-1-i] = -1
				}
			}
			wantTotal, kept, good, examples, exact := 0.0, int64(0), int64(0), int64(0), int64(0)
			per := len(targets) / rows
			for r := range rows {
				scored, hits := 0, 0
				for i := r * per; i < (r+1)*per; i++ {
					if targets[i] < 0 {
						continue
					}
					scored++
					loss, hit := byHand(task, batch, logits, targets, i, per)
					require.InDelta(t, loss, losses[i], 1e-12, "row %d", i)
					wantTotal += loss
					if hit {
						hits++
					}
				}
				if scored > 0 {
					examples++
					kept, good = kept+int64(scored), good+int64(hits)
					if hits == scored {
						exact++
					}
				}
			}
			require.InDelta(t, wantTotal, total, 1e-9)
			require.Equal(t, kept, counts.kept)
			require.EqualValues(t, rows-1, examples, "the last is padding")
			require.Equal(t, examples, counts.all.examples)
			if task != "regression" {
				require.Equal(t, []int64{good, exact}, []int64{counts.all.right, counts.all.exact})
			}
			_, n := g.goal.count(batch)
			require.EqualValues(t, kept, n)
		})
	}
}

// byHand is the loss of row i, and whether its target has the largest logit.
func byHand(task string, b *data.Batch, logits []float64, targets []int32, i, per int) (loss float64, hit bool) {
	var x []float64
	switch task {
	case "regression":
		d := logits[i] - float64(b.Values[i])
		return d * d, false
	case "question_answering":
		for k := range int(b.Lens[i/2]) {
			x = append(x, logits[(i/2*b.T+k)*2+i%2])
		}
	default:
		v := len(logits) / len(targets)
		x = logits[i*v : (i+1)*v]
	}
	sum, best := 0.0, 0
	for k, y := range x {
		sum += math.Exp(y)
		if y > x[best] {
			best = k
		}
	}
	return math.Log(sum) - x[targets[i]], best == int(targets[i])
}

// TestStepOfParts: whatever the task, a step of several batches with unequal numbers of targets has the gradient of all of them together, and so
// does the model's own term, of which it is the mean.
func TestStepOfParts(t *testing.T) {
	for _, task := range allTasks {
		if task == "contrastive" {
			continue // the others of a batch are its wrong answers, so its parts are not parts of a larger one
		}
		for _, own := range []bool{false, true} {
			t.Run(fmt.Sprint(task, own), func(t *testing.T) {
				gradient := func(rows, parts int) (loss, term float64, grads map[string][]float64) {
					grads = map[string][]float64{}
					params := layers.NewParams(tensor.Float64)
					m, whole := scene(t, task, 6)
					m.own = own
					kept := 0
					pieces := make([]*data.Batch, parts)
					for p := range parts {
						pieces[p] = cut(whole, p*rows, (p+1)*rows)
						_, n := objectives[task].count(pieces[p])
						kept += n
					}
					g, err := NewGraph(m, params, pieces[0], GraphOptions{Seed: 3, Train: true, Recompute: "none"})
					require.NoError(t, err)
					for _, piece := range pieces {
						g.load(piece)
						g.setWeights(1/float64(kept), 1/float64(parts))
						require.NoError(t, g.Program.Run())
						loss += sum(g.rows) / float64(kept)
						if g.term != nil {
							term += sum(g.term) / float64(parts)
						}
						for k, p := range g.Params {
							x := engine.Floats[float64](g.grads[k])
							if grads[p.Name] == nil {
								grads[p.Name] = make([]float64, len(x))
							}
							for i := range x {
								grads[p.Name][i] += x[i]
							}
						}
					}
					return loss, term, grads
				}
				loss, term, want := gradient(6, 1)
				got, gotTerm, grads := gradient(2, 3)
				require.InDelta(t, loss, got, 1e-12)
				if own {
					require.InDelta(t, term, gotTerm, 1e-12)
					require.NotZero(t, term)
				}
				require.NotEmpty(t, want)
				for name, g := range want {
					testkit.AllClose(t, name, grads[name], g, []int{len(g)}, 1e-12, 1e-12)
				}
			})
		}
	}
}

// cut is rows from to end of a batch.
func cut(b *data.Batch, from, end int) *data.Batch {
	ints := func(x []int32) []int32 { return x[len(x)/b.B*from : len(x)/b.B*end] }
	floats := func(x []float32) []float32 { return x[len(x)/b.B*from : len(x)/b.B*end] }
	p := &data.Batch{B: end - from, T: b.T, IDs: ints(b.IDs), Targets: ints(b.Targets), Lens: ints(b.Lens), Types: ints(b.Types), Labels: ints(b.Labels),
		Values: floats(b.Values), Vectors: floats(b.Vectors), TargetIDs: ints(b.TargetIDs), TargetTargets: ints(b.TargetTargets), TargetLens: ints(b.TargetLens)}
	for name, x := range b.More {
		if p.More == nil {
			p.More = map[string][]int32{}
		}
		p.More[name] = ints(x)
	}
	return p
}

// TestWhatDoesNotGoTogether: a model and data that are for different things are refused by the key that is wrong.
func TestWhatDoesNotGoTogether(t *testing.T) {
	text := data.NewBatch(2, 7)
	for _, c := range []struct {
		m    *flat
		b    *data.Batch
		path string
	}{
		{&flat{task: "sequence_classification", dims: models.Dims{Vocab: 5, Labels: 2}}, text, "model.task"},
		{&flat{task: "regression", dims: models.Dims{Vocab: 5, Labels: 2}}, text, "model.task"},
		{&flat{task: "seq2seq_lm", dims: models.Dims{Vocab: 5}}, text, "model.task"},
		{&flat{task: "causal_lm", dims: models.Dims{Vectors: 5}}, text, "model.vector_size"},
		{&flat{task: "causal_lm", dims: models.Dims{Vocab: 5}}, data.Shape{Vectors: 3}.NewBatch(2, 7), "model.vector_size"},
	} {
		_, err := NewGraph(c.m, layers.NewParams(tensor.Float32), c.b, GraphOptions{})
		var f *config.FieldError
		require.ErrorAs(t, err, &f, "%s", c.m.task)
		require.Equal(t, c.path, f.Path)
	}
	_, err := NewGraph(&flat{task: "unknown_task"}, layers.NewParams(tensor.Float32), text, GraphOptions{})
	require.ErrorContains(t, err, "unknown_task")
	m := &flat{task: "regression", dims: models.Dims{Vocab: 5, Labels: 2}}
	_, err = NewGraph(m, layers.NewParams(tensor.Float32), data.Shape{Values: 3}.NewBatch(2, 7), GraphOptions{})
	require.ErrorContains(t, err, "6 targets for 2 examples")
}
