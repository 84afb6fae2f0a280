package train

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/checkpoints"
	"github.com/euryale-ml/euryale/data"
	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/models"
)

// averaging is a decoder with state: sum and count are averages over the steps of what the logits before it were, with a factor of 0.8, and the logits
// that it gives are those less sum/count. Largest is the largest logit ever.
type averaging struct {
	models.Model
	begins bool // from data
	starts int  // so often it did
}

func (m *averaging) Forward(b *layers.Builder, in models.Inputs, layersPerBlock int) models.Outputs {
	out := m.Model.Forward(b, in, layersPerBlock)
	at := b.Scope("average")
	v := m.Dims().Vocab
	average := at.State("sum_and_count", layers.Ones(), v+1)
	largest := at.State("largest", layers.Const(math.Inf(-1)), 1)
	begun := at.State("begun", layers.Const(float64(count(!m.begins))), 1)
	sums, most := at.Op(logitSums{}, out.Logits), at.Op(logitSums{largest: true}, out.Logits)
	out.Logits = at.Op(lessAverage{}, out.Logits, average)
	if b.Err() != nil {
		return out
	}
	held, top, flag := layers.InputValue(average).Float32s(), layers.InputValue(largest).Float32s(), layers.InputValue(begun).Float32s()
	at.Update(layers.StateUpdate{
		Parts: []layers.StatePart{{Node: sums}, {Node: most, Merge: func(total, next *tensor.Dense) {
			total.Float32s()[0] = max(total.Float32s()[0], next.Float32s()[0])
		}}},
		Ready: func() bool { return flag[0] == 1 },
		Start: func(parts []*tensor.Dense) {
			copy(held, parts[0].Float32s())
			flag[0] = 1
			m.starts++
		},
		Apply: func(step int, parts []*tensor.Dense) []layers.Metric {
			for i, x := range parts[0].Float32s() {
				held[i] = 0.8*held[i] + 0.2*x
			}
			top[0] = max(top[0], parts[1].Float32s()[0])
			return []layers.Metric{{Name: "count", Value: float64(held[v])}, {Name: "step", Value: float64(step)}}
		},
	})
	return out
}

func count(yes bool) int {
	if yes {
		return 1
	}
	return 0
}

// logitSums are the sums over all rows of logits [B,T,V], and how many rows there are, [V+1]; or the largest of them, [1].
type logitSums struct{ largest bool }

func (logitSums) Name() string { return "logit_sums" }
func (o logitSums) Infer(in []engine.Type) (engine.Type, error) {
	n := in[0].Shape[2] + 1
	if o.largest {
		n = 1
	}
	return engine.Type{Dtype: in[0].Dtype, Shape: tensor.Shape{n}}, nil
}
func (logitSums) DiffWRT() []bool { return []bool{false} }
func (o logitSums) Run(out engine.Value, in []engine.Value) error {
	x, y := engine.Floats[float32](in[0]), engine.Floats[float32](out)
	if o.largest {
		y[0] = slices.Max(x)
		return nil
	}
	clear(y)
	v := len(y) - 1
	for i, l := range x {
		y[i%v] += l
	}
	y[v] = float32(len(x) / v)
	return nil
}
func (logitSums) Diff(layers.Nodes, *layers.Node, *layers.Node) (layers.Nodes, error) {
	return layers.Nodes{nil}, nil
}

// lessAverage takes sum/count away from logits.
type lessAverage struct{}

func (lessAverage) Name() string                                { return "less_average" }
func (lessAverage) Infer(in []engine.Type) (engine.Type, error) { return in[0], nil }
func (lessAverage) DiffWRT() []bool                             { return []bool{true, false} }
func (lessAverage) Run(out engine.Value, in []engine.Value) error {
	y, held := engine.Floats[float32](out), engine.Floats[float32](in[1])
	copy(y, engine.Floats[float32](in[0]))
	v := len(held) - 1
	for i := range y {
		y[i] -= held[i%v] / held[v]
	}
	return nil
}
func (lessAverage) Diff(_ layers.Nodes, _, dout *layers.Node) (layers.Nodes, error) {
	return layers.Nodes{dout, nil}, nil
}

// averagingTrainer trains an averaging model on random tokens.
func averagingTrainer(t *testing.T, change func(m *averaging, c *Config), params *layers.Params) (*averaging, *Trainer) {
	t.Helper()
	j := tinyJob()
	base, err := models.New(j.Model)
	require.NoError(t, err)
	m := &averaging{Model: base}
	j.Train.WeightDecay = 0.3
	if change != nil {
		change(m, &j.Train)
	}
	if params == nil {
		params, err = models.NewParams(m, tensor.Float32, 1)
		require.NoError(t, err)
	}
	tokens := make([]int32, 5000)
	for i := range tokens {
		tokens[i] = int32(i * i % 251)
	}
	tr, err := NewTrainer(m, params, data.FromTokens("squares", tokens), j.Train)
	require.NoError(t, err)
	return m, tr
}

func stateOf(t *testing.T, p *layers.Params, name string) []float32 {
	t.Helper()
	q, ok := p.Get("average." + name)
	require.True(t, ok)
	return slices.Clone(q.Value.Float32s())
}

// The sums of all batches of a step come into the average together, once; it is no weight: nothing decays and it has no moments.
func TestStateIsUpdatedOnceAStep(t *testing.T) {
	_, tr := averagingTrainer(t, nil, nil)
	require.Equal(t, 2, tr.Config.Accumulation())
	before := stateOf(t, tr.Params, "sum_and_count")
	e, err := tr.Step()
	require.NoError(t, err)
	rows := float64(4 * 61)
	require.InDelta(t, 0.8+0.2*rows, stateOf(t, tr.Params, "sum_and_count")[256], 1e-4)
	require.Equal(t, map[string]float64{"count": float64(stateOf(t, tr.Params, "sum_and_count")[256]), "step": 1}, e.State)
	require.NotEqual(t, before[:256], stateOf(t, tr.Params, "sum_and_count")[:256])
	first := stateOf(t, tr.Params, "largest")[0]
	require.False(t, math.IsInf(float64(first), 0))
	_, err = tr.Step()
	require.NoError(t, err)
	require.InDelta(t, 0.8*(0.8+0.2*rows)+0.2*rows, stateOf(t, tr.Params, "sum_and_count")[256], 1e-4)

	for _, p := range tr.graph.Params {
		require.False(t, p.State, p.Name)
	}
	require.NoError(t, tr.Adam.Moments(func(name string, _ *tensor.Dense) error {
		require.NotContains(t, name, "average.")
		return nil
	}))

	// One batch of four has the sums of two of two.
	_, whole := averagingTrainer(t, func(_ *averaging, c *Config) { c.BatchSize = 4 }, nil)
	_, halves := averagingTrainer(t, nil, nil)
	for _, tr := range []*Trainer{whole, halves} {
		tr.Model.(*averaging).Model = withoutDropout(t)
		require.NoError(t, tr.rebuilt())
		_, err := tr.Step()
		require.NoError(t, err)
	}
	a, b := stateOf(t, whole.Params, "sum_and_count"), stateOf(t, halves.Params, "sum_and_count")
	for i := range a {
		require.InDelta(t, a[i], b[i], 1e-3)
	}
	require.InDelta(t, stateOf(t, whole.Params, "largest")[0], stateOf(t, halves.Params, "largest")[0], 1e-5)
}

// rebuilt compiles the phase again.
func (t *Trainer) rebuilt() error {
	part, err := t.part.WithLength(t.asked)
	if err != nil {
		return err
	}
	p := t.phase
	p.batches = nil
	return t.build(p, t.Model, part, 0)
}

func withoutDropout(t *testing.T) models.Model {
	m, err := stageModel(must(models.New(tinyJob().Model)), json.RawMessage(`{"hidden_dropout_prob":0}`))
	require.NoError(t, err)
	return m
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// A step that is not taken leaves state as it was, as it leaves weights and moments, and evaluation never touches it.
func TestStateOfStepsThatAreNotTaken(t *testing.T) {
	_, tr := averagingTrainer(t, nil, nil)
	_, err := tr.Step()
	require.NoError(t, err)
	before, top := stateOf(t, tr.Params, "sum_and_count"), stateOf(t, tr.Params, "largest")
	ev, err := NewEvaluator(tr.Model, tr.Params, tr.part.Shape(61), 2, 61)
	require.NoError(t, err)
	_, err = ev.Run(t.Context(), tr.part.PlainWindows(61), 3, nil)
	require.NoError(t, err)
	require.Equal(t, before, stateOf(t, tr.Params, "sum_and_count"))

	w, ok := tr.Params.Get("decoder.ln_f.weight")
	require.True(t, ok)
	kept := w.Value.Float32s()[3]
	w.Value.Float32s()[3] = float32(math.NaN())
	_, err = tr.Step()
	var diverged *DivergedError
	require.ErrorAs(t, err, &diverged)
	require.Equal(t, before, stateOf(t, tr.Params, "sum_and_count"))
	require.Equal(t, top, stateOf(t, tr.Params, "largest"))
	w.Value.Float32s()[3] = kept
	_, err = tr.Step()
	require.NoError(t, err)
}

// Sums are those of the forward pass, whatever is computed again for the gradient.
func TestStateAndRecompute(t *testing.T) {
	var want []float32
	for _, how := range []string{"none", "cheap", "block", "every:2"} {
		_, tr := averagingTrainer(t, func(_ *averaging, c *Config) { c.Recompute = how }, nil)
		for range 3 {
			_, err := tr.Step()
			require.NoError(t, err)
		}
		got := stateOf(t, tr.Params, "sum_and_count")
		if want == nil {
			want = got
		}
		require.Equal(t, want, got, how)
	}
}

// State that begins with data does so once, before the first step, which then works with it.
func TestStateThatBeginsWithData(t *testing.T) {
	m, tr := averagingTrainer(t, func(m *averaging, _ *Config) { m.begins = true }, nil)
	for range 3 {
		_, err := tr.Step()
		require.NoError(t, err)
	}
	require.Equal(t, 1, m.starts)
	rows, all := 2*61.0, 4*61.0 // the first batch, then whole steps
	require.InDelta(t, 0.512*rows+(0.2+0.16+0.128)*all, stateOf(t, tr.Params, "sum_and_count")[256], 1e-3)
}

// A checkpoint holds state, and what goes on from it has the same bits.
func TestStateResumes(t *testing.T) {
	_, whole := averagingTrainer(t, func(m *averaging, _ *Config) { m.begins = true }, nil)
	for range 5 {
		_, err := whole.Step()
		require.NoError(t, err)
	}
	_, first := averagingTrainer(t, func(m *averaging, _ *Config) { m.begins = true }, nil)
	for range 2 {
		_, err := first.Step()
		require.NoError(t, err)
	}
	snap := &checkpoints.Snapshot{Step: 2, Model: models.Tensors(first.Params)}
	require.NoError(t, first.Adam.Moments(func(name string, v *tensor.Dense) error {
		snap.Optimizer = append(snap.Optimizer, models.Tensor(name, v))
		return nil
	}))
	dir := t.TempDir()
	snap.Config = must(first.Model.Config())
	snap.State = state{}
	require.NoError(t, checkpoints.Save(dir, *snap, checkpoints.Options{}))
	read, _, err := checkpoints.LoadFS(checkpoints.OSFS{}, dir)
	require.NoError(t, err)
	params := layers.NewParams(tensor.Float32)
	for _, w := range read.Model {
		require.NoError(t, loadTensor(params, w))
	}
	m, second := averagingTrainer(t, func(m *averaging, _ *Config) { m.begins = true }, params)
	require.NoError(t, second.restore(read))
	for range 3 {
		_, err := second.Step()
		require.NoError(t, err)
	}
	require.Zero(t, m.starts)
	for _, p := range whole.Params.All() {
		q, ok := second.Params.Get(p.Name)
		require.True(t, ok)
		require.Equal(t, p.Value.Float32s(), q.Value.Float32s(), fmt.Sprint(p.Name))
	}
}
