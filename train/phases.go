package train

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/euryale-ml/euryale/data"
	"github.com/euryale-ml/euryale/internal/config"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/models"
)

// Curriculum lets the length of the training sequences grow on success: once the mean loss of so many steps at a length is small enough, the
// next length is that much longer, up to sequence_length. Where positions are absolute, short examples stand at the right end of those
// that sequence_length tokens have, so that what asks at the end of an example always asks at the same place. A model that sees only
// a part of what it reads (a window, steps) finds a path of several hops when the path is short at first, and may never find it otherwise.
//
// The length is a function of the losses alone, so of the run alone; it is part of the checkpoint.
type Curriculum struct {
	Start  int     `json:"start"`  // first length
	Grow   float64 `json:"grow"`   // factor of the length; 0: 1.4
	Below  float64 `json:"below"`  // mean loss from which it grows; 0: 0.3
	Window int     `json:"window"` // steps of that mean; 0: 10
}

// filled has values in the place of zeros: those that taught band and dilated attention.
func (c Curriculum) filled() Curriculum {
	return Curriculum{c.Start, cmp.Or(c.Grow, 1.4), cmp.Or(c.Below, 0.3), cmp.Or(c.Window, 10)}
}

// UnmarshalJSON reads a curriculum; one that does not say where it starts does so with 16 tokens.
func (c *Curriculum) UnmarshalJSON(raw []byte) error {
	type plain Curriculum
	p := plain{Start: 16}
	err := config.Decode(raw, &p)
	*c = Curriculum(p).filled()
	return err
}

// Stage is a part of the training with settings of its own. Stages come first, in order; what remains of train.steps has the settings of the
// job itself, so that the model in its config.json is the last one, and evaluations are of that model and sequence_length.
type Stage struct {
	Steps          int             `json:"steps"`           // updates; >= 1
	SequenceLength int             `json:"sequence_length"` // 0: that of the job
	LR             float64         `json:"lr"`              // peak of the schedule during the stage; 0: that of the job
	Model          json.RawMessage `json:"model,omitempty"` // keys of the model with their values in the stage, such as attention; weights stay what they are
}

// stage is the index of the stage that a step is in, len(Stages) after them; steps count from 1.
func (c Config) stage(step int) int {
	for i, s := range c.Stages {
		if step -= s.Steps; step <= 0 {
			return i
		}
	}
	return len(c.Stages)
}

// validatePhases reports the faults of curriculum and stages.
func (c Config) validatePhases(want func(ok bool, path string, value any, want string)) {
	if c.Curriculum != nil {
		k := c.Curriculum.filled()
		want(k.Start >= 1 && k.Start <= max(1, c.SequenceLength), "curriculum.start", k.Start, fmt.Sprintf("1 to sequence_length (%d)", c.SequenceLength))
		want(k.Grow > 1 && k.Grow <= 1<<20, "curriculum.grow", k.Grow, "more than 1")
		want(k.Below > 0, "curriculum.below", k.Below, "more than 0")
		want(k.Window >= 1 && k.Window <= 1<<20, "curriculum.window", k.Window, "at least 1")
		want(len(c.Stages) == 0, "stages", len(c.Stages), "none beside curriculum: both say how long sequences are")
	}
	total := 0
	for i, s := range c.Stages {
		at := fmt.Sprintf("stages[%d].", i)
		want(s.Steps >= 1, at+"steps", s.Steps, "at least 1")
		want(s.SequenceLength >= 0 && s.SequenceLength <= math.MaxInt32/max(1, c.BatchSize), at+"sequence_length", s.SequenceLength, "at least 0 (0 = that of train)")
		want(s.LR >= 0, at+"lr", s.LR, "at least 0 (0 = that of train)")
		total = min(total+max(s.Steps, 0), math.MaxInt32)
	}
	want(len(c.Stages) == 0 || total < c.Steps, "steps", c.Steps, fmt.Sprintf("more than those of the stages (%d)", total))
}

// stageModel is a model with some keys of its config.json changed. Errors: faults of the result, with paths relative to the model.
func stageModel(m models.Model, changes json.RawMessage) (models.Model, error) {
	if len(changes) == 0 {
		return m, nil
	}
	text, err := m.Config()
	if err != nil {
		return nil, err
	}
	text, err = config.Patch(text, changes)
	if err != nil {
		return nil, err
	}
	return models.New(text)
}

// checkStages builds the models of the stages. Paths are those of the job's file.
func (c Config) checkStages(m models.Model) error {
	var faults []error
	for i, s := range c.Stages {
		at := fmt.Sprintf("train.stages[%d].", i)
		changed, err := stageModel(m, s.Model)
		for _, f := range config.Faults(err) {
			faults = append(faults, config.Prefix(at+"model", f))
		}
		if changed == nil {
			continue
		}
		if p := changed.Dims().Positions; p > 0 && s.SequenceLength > p {
			faults = append(faults, &config.FieldError{Path: at + "sequence_length", Value: s.SequenceLength, Want: fmt.Sprintf("want at most the positions of the model (%d)", p)})
		}
	}
	return errors.Join(faults...)
}

// sameWeights refuses stages whose model has other weights than the job's.
func (c Config) sameWeights(m models.Model, params *layers.Params) error {
	var faults []error
	for i, s := range c.Stages {
		if len(s.Model) == 0 {
			continue
		}
		changed, err := stageModel(m, s.Model)
		if err != nil {
			return err
		}
		its, err := models.NewParams(changed, params.Dtype(), 0)
		if err != nil {
			return err
		}
		same := its.Len() == len(ownWeights(params))
		for _, p := range its.All() {
			q, ok := params.Get(p.Name)
			same = same && ok && slices.Equal(p.Value.Shape(), q.Value.Shape())
		}
		if !same {
			faults = append(faults, &config.FieldError{Path: fmt.Sprintf("train.stages[%d].model", i), Value: s.Model,
				Want: "want only keys on which no weight depends, such as attention"})
		}
	}
	return errors.Join(faults...)
}

// ownWeights are those of the model itself, without what LoRA adds.
func ownWeights(params *layers.Params) []*layers.Param {
	return slices.DeleteFunc(slices.Clone(params.All()), func(p *layers.Param) bool {
		_, _, added := layers.LoRAParts(p.Name)
		return added
	})
}

// progressed is what decides how long the sequences of a curriculum are. It is part of a checkpoint.
type progressed struct {
	Length int       `json:"length"`
	Losses []float64 `json:"losses"` // of the last steps at this length, at most curriculum.window
}

// note counts a step and reports whether the length grows.
func (p *progressed) note(c *Curriculum, loss float64, longest int) bool {
	if p.Length >= longest {
		return false
	}
	p.Losses = append(p.Losses, loss)
	if n := len(p.Losses); n > c.Window {
		p.Losses = append(p.Losses[:0], p.Losses[n-c.Window:]...)
	}
	total := 0.0
	for _, l := range p.Losses {
		total += l
	}
	if len(p.Losses) < c.Window || total/float64(len(p.Losses)) >= c.Below {
		return false
	}
	p.Losses = p.Losses[:0]
	p.Length = min(longest, max(p.Length+1, int(math.Ceil(float64(p.Length)*c.Grow))))
	return true
}

// phase is a stretch of the training in which nothing changes but the weights.
type phase struct {
	stage   int
	asked   int // length, before the data had a say
	length  int // of the sequences
	graph   *Graph
	sampler *data.Sampler
	batches []*data.Batch // of one step
	few     *data.Batch   // examples of a batch whose rows repeat them; nil: they do not
}

// enter makes ready what the next step needs: graph and batches of its stage and length.
func (t *Trainer) enter() error {
	if t.buckets != nil {
		t.enterBucket()
		return nil
	}
	p := phase{stage: t.Config.stage(t.Adam.Step + 1), asked: t.Config.SequenceLength}
	staged := p.stage < len(t.Config.Stages)
	switch {
	case t.grown != nil:
		p.asked = t.grown.Length
	case staged && t.Config.Stages[p.stage].SequenceLength > 0:
		p.asked = t.Config.Stages[p.stage].SequenceLength
	}
	if t.graph != nil && p.stage == t.stage && p.asked == t.asked {
		return nil
	}
	m, position := t.Model, 0
	var part *data.Part
	var err error
	p.length = p.asked
	if t.grown != nil {
		p.length, part, err = t.allowed(p.asked)
		position = t.Config.SequenceLength - p.length
	} else {
		part, err = t.part.WithLength(p.asked)
	}
	if err == nil && staged {
		if m, err = stageModel(t.Model, t.Config.Stages[p.stage].Model); err != nil {
			err = fmt.Errorf("train.stages[%d].model: %w", p.stage, err)
		}
	}
	if err != nil {
		return err
	}
	return t.build(p, m, part, position)
}

// allowed is the first length from one on, up to sequence_length, that the data have: examples of some tasks are of even length.
func (t *Trainer) allowed(length int) (int, *data.Part, error) {
	for {
		part, err := t.part.WithLength(length)
		if err == nil || length >= t.Config.SequenceLength {
			return length, part, err
		}
		length++
	}
}

// build compiles a phase, whose first tokens have a position, and leaves the one before. After an error there is no phase to go on with.
func (t *Trainer) build(p phase, m models.Model, part *data.Part, position int) (err error) {
	c := t.Config
	if most := m.Dims().Positions; most > 0 && p.length > most {
		return &models.LengthError{Length: p.length, Max: most}
	}
	if _, _, streamed := part.Stream(); t.sampler != nil && (streamed || c.LengthBuckets > 0) {
		p.sampler = t.sampler // the place in a stream is in it, and its length is that of all phases; buckets are of what the longest reads
	} else if p.sampler, err = part.Sampler(p.length, c.Seed); err != nil {
		return err
	}
	shape := part.Shape(p.length)
	if k := c.rollouts(); k > 1 {
		p.few = shape.NewBatch(c.BatchSize/k, p.length)
	}
	for range c.Accumulation() {
		p.batches = append(p.batches, shape.NewBatch(c.BatchSize, p.length))
	}
	first, weights := t.graph == nil, t.Params.Len()
	if !first && c.LengthBuckets == 0 { // its memory goes before that of the next one is taken
		if err := t.graph.Program.Close(); err != nil {
			return err
		}
	}
	p.graph, err = NewGraph(m, t.Params, p.batches[0],
		GraphOptions{Seed: c.Seed, Train: true, Recompute: c.Recompute, LabelSmoothing: c.LabelSmoothing, First: position, Policy: c.policy()})
	if err != nil {
		return err
	}
	if first {
		t.optimisers(p.graph.Params)
	} else if t.Params.Len() != weights || !slices.Equal(p.graph.Params, t.weights) {
		return fmt.Errorf("train.stages[%d].model: the stage has other weights than the model", p.stage)
	}
	t.phase = p
	return t.expectations(p, m)
}
