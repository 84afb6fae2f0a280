package train

import (
	"fmt"

	"github.com/euryale-ml/euryale/internal/config"
	"github.com/euryale-ml/euryale/models"
)

// maxBuckets is how many lengths length_buckets may give.
const maxBuckets = 16

// bucketLengths are the lengths of length_buckets, the longest first: each is half of the one before, rounded up.
func (c Config) bucketLengths() (all []int) {
	for n := c.SequenceLength; len(all) < c.LengthBuckets; n = (n + 1) / 2 {
		all = append(all, n)
	}
	return all
}

// validateBuckets reports the faults of length_buckets.
func (c Config) validateBuckets(want func(ok bool, path string, value any, want string)) {
	n := c.LengthBuckets
	want(n >= 0 && n <= maxBuckets, "length_buckets", n, fmt.Sprintf("0 (every batch has sequence_length tokens) to %d", maxBuckets))
	if n < 1 || n > maxBuckets {
		return
	}
	want(c.SequenceLength>>(n-1) >= 1, "length_buckets", n, fmt.Sprintf("fewer: the shortest has sequence_length / 2^%d tokens", n-1))
	want(c.Curriculum == nil && len(c.Stages) == 0, "length_buckets", n, "0 beside curriculum and stages: both say how long sequences are")
	want(c.rollouts() == 1, "length_buckets", n, "0 with policy.samples, which repeats examples")
}

// buildBuckets compiles the step once for each length, so that a fault of any is told before the first step. The longest has the plan that a run
// without buckets has; the memory of the others, half of it each, stays beside.
func (t *Trainer) buildBuckets(m models.Model) error {
	for _, n := range t.Config.bucketLengths() {
		part, err := t.part.WithLength(t.Config.SequenceLength)
		if err != nil {
			return err
		}
		if err := t.build(phase{asked: n, length: n, stage: len(t.Config.Stages)}, m, part, 0); err != nil {
			return fmt.Errorf("train.length_buckets: batches of %d tokens: %w", n, err)
		}
		if t.graph.policy != nil {
			return &config.FieldError{Path: "train.length_buckets", Value: t.Config.LengthBuckets, Want: "want 0 with a model that chooses at random"}
		}
		t.buckets = append(t.buckets, t.phase)
	}
	return t.sampler.GroupByLength(t.Config.SequencesPerStep())
}

// enterBucket goes to the shortest batches that hold the examples of the next step.
func (t *Trainer) enterBucket() {
	n := t.Config.SequencesPerStep()
	longest := t.sampler.Longest(t.Position(t.Adam.Step), n)
	for _, b := range t.buckets {
		if b.length >= longest {
			t.phase = b
		}
	}
}
