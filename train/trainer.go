package train

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"gorgonia.org/gorgonia"

	"github.com/euryale-ml/euryale/data"
	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/models"
)

// Trainer updates the weights of a model, step by step. It knows nothing of files: Run adds those.
//
// What a step does depends on the config, the weights, the moments and the number of the step alone (and on the place in the data, if they are a
// stream), so a trainer that is given the state of another goes on exactly like it.
type Trainer struct {
	Model  models.Model
	Params *layers.Params
	Config Config
	Adam   *AdamW

	part  *data.Part
	grown *progressed // of a curriculum
	phase
	buckets  []phase          // of length_buckets, the longest first; phase is one of them
	weights  []*layers.Param  // of all optimisers, as the graph has them
	choosing *choosing        // weights that choose; nil: there are none
	total    []gorgonia.Value // gradients of a step with several batches
}

// NewTrainer compiles the model for the first of the config's batches. params holds the weights to start from.
func NewTrainer(m models.Model, params *layers.Params, part *data.Part, c Config) (*Trainer, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if p := m.Dims().Positions; p > 0 && c.SequenceLength > p {
		return nil, &models.LengthError{Length: c.SequenceLength, Max: p}
	}
	if _, err := part.Sampler(c.SequenceLength, c.Seed); err != nil {
		return nil, err
	}
	if _, _, streamed := part.Stream(); streamed {
		if err := c.oneLength(); err != nil {
			return nil, err
		}
	}
	if err := c.sameWeights(m, params); err != nil {
		return nil, err
	}
	if err := c.fineTune(m, params); err != nil {
		return nil, err
	}
	t := &Trainer{Model: m, Params: params, Config: c, Adam: NewAdamW(nil), part: part}
	if c.Curriculum != nil {
		k := c.Curriculum.filled()
		t.Config.Curriculum, t.grown = &k, &progressed{Length: k.Start}
	}
	var err error
	if c.LengthBuckets > 0 {
		err = t.buildBuckets(m)
	} else {
		err = t.enter()
	}
	if err != nil {
		return nil, err
	}
	params.StoreInts()
	if len(t.batches) > 1 {
		for _, grad := range t.graph.grads {
			t.total = append(t.total, engine.NewValue(engine.Type{Dtype: grad.Dtype(), Shape: grad.Shape().Clone()}))
		}
	}
	return t, nil
}

// Graph is the compiled training step: its plan, its profile. A curriculum or stages change it.
func (t *Trainer) Graph() *Graph { return t.graph }

// Position is the number of the next training example after so many steps.
func (t *Trainer) Position(steps int) int64 { return int64(steps) * int64(t.Config.SequencesPerStep()) }

// Step makes update number Adam.Step+1.
//
// Errors: *DivergedError; of a stream *data.Error, see data.Sampler. The weights and moments are then as before.
func (t *Trainer) Step() (StepEvent, error) {
	step := t.Adam.Step + 1
	e := StepEvent{Event: "step", Step: step, LR: t.Config.LearningRate(step)}
	if err := t.enter(); err != nil {
		return e, fmt.Errorf("step %d: %w", step, err)
	}
	if t.grown != nil || len(t.Config.Stages) > 0 || t.buckets != nil {
		e.Length = t.length
	}
	start := time.Now()
	position, kept := t.Position(step-1), 0.0
	for _, b := range t.batches {
		var err error
		if position, err = t.fill(position, b); err != nil {
			return e, fmt.Errorf("step %d: %w", step, err)
		}
		kept += t.graph.goal.weight(b, t.Config.ClassWeights)
	}
	if kept == 0 {
		kept = 1
	}
	grads := t.graph.grads
	loss, own := 0.0, 0.0
	var earned earnings
	t.graph.setWeights(1/kept, 1/float64(len(t.batches)))
	if !t.graph.ready() { // state takes its first values from what the first batch gives
		if err := t.run(step, 0); err != nil {
			return e, err
		}
		t.graph.startState()
	}
	for i, b := range t.batches {
		t.graph.setClassWeights(b, t.Config.ClassWeights, kept)
		if err := t.run(step, i); err != nil {
			return e, err
		}
		t.graph.mergeState(i == 0)
		loss += t.graph.rowLoss(b, t.Config.ClassWeights)
		t.note(&earned)
		if t.graph.term != nil {
			own += sum(t.graph.term) / float64(len(t.batches))
		}
		if t.total != nil {
			t.accumulate(i == 0)
		}
	}
	if t.total != nil {
		grads = t.total
	}
	e.Loss = loss / kept
	rest, chosen := grads, []gorgonia.Value(nil)
	if t.choosing != nil {
		rest, chosen = ofGroup("", t.weights, grads), ofGroup(layers.ChoosingWeights, t.weights, grads)
	}
	e.GradNorm = GlobalNorm(rest)
	if t.graph.term != nil {
		e.OwnLoss = &own
	}
	if !finite(e.Loss) || !finite(own) || !finite(e.GradNorm) || !finite(GlobalNorm(chosen)) {
		return e, &DivergedError{Step: step, Loss: e.Loss + own, Norm: e.GradNorm}
	}
	if t.learn(&e, earned, chosen) {
		t.Adam.Update(t.Config, e.LR, ClipFactor(e.GradNorm, t.Config.GradClip), rest)
	} else {
		t.Adam.Skip()
	}
	e.State = t.graph.applyState(step)
	e.TokensPerS = float64(len(t.batches)*t.Config.BatchSize*t.length) / time.Since(start).Seconds()
	if t.grown != nil {
		t.grown.note(t.Config.Curriculum, e.Loss, t.Config.SequenceLength)
	}
	return e, nil
}

// run computes one batch of a step.
func (t *Trainer) run(step, batch int) error {
	t.graph.load(t.batches[batch])
	t.graph.step[0] = int32((step-1)*len(t.batches) + batch)
	if err := t.expect(t.batches[batch]); err != nil {
		return fmt.Errorf("step %d: %w", step, err)
	}
	if err := t.graph.Program.Run(); err != nil {
		return fmt.Errorf("step %d: %w", step, err)
	}
	return nil
}

// fill reads the examples of a batch from a position on, each as often as there are choices for it, and returns the next position.
func (t *Trainer) fill(position int64, b *data.Batch) (int64, error) {
	k := t.Config.rollouts()
	if k == 1 {
		err := t.sampler.Fill(position, b)
		return position + int64(b.B), err
	}
	if err := t.sampler.Fill(position, t.few); err != nil {
		return position, err
	}
	b.Repeat(t.few)
	return position + int64(t.few.B), nil
}

func (t *Trainer) accumulate(first bool) {
	for i, g := range t.graph.grads {
		if first {
			zero(t.total[i])
		}
		addTo(t.total[i], g)
	}
}

func zero(v gorgonia.Value) {
	if engine.IsF32(v) {
		clear(engine.Floats[float32](v))
	} else {
		clear(engine.Floats[float64](v))
	}
}

func finite(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }

// interrupted reports whether a context ended because the user asked to stop.
func interrupted(ctx context.Context) bool { return errors.Is(ctx.Err(), context.Canceled) }
