package train

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/euryale-ml/euryale/internal/config"
)

// Config says how to train. The zero value is not useful: start from DefaultConfig.
type Config struct {
	Seed  uint64 `json:"seed"`  // weights, dropout and data order; equal seeds give equal runs, bit for bit
	Steps int    `json:"steps"` // updates the schedule is made for; >= 1

	BatchSize      int `json:"batch_size"`      // sequences that go through the graph at once; >= 1
	GlobalBatch    int `json:"global_batch"`    // sequences a step; a multiple of batch_size; 0 = batch_size
	SequenceLength int `json:"sequence_length"` // tokens a sequence; >= 1
	LengthBuckets  int `json:"length_buckets"`  // lengths of batches: sequence_length, half of it, ...; examples of like length come together. 0: all alike

	Curriculum *Curriculum `json:"curriculum,omitempty"` // sequences grow on success
	Stages     []Stage     `json:"stages,omitempty"`     // what comes before the settings of the job
	Policy     *Policy     `json:"policy,omitempty"`     // how a model learns to choose, of one that does; nil: DefaultPolicy

	LR          float64 `json:"lr"`           // peak learning rate; > 0
	Schedule    string  `json:"schedule"`     // constant, linear, cosine, polynomial, inverse_sqrt, rsqrt
	WarmupSteps int     `json:"warmup_steps"` // steps of linear growth from 0 to lr; >= 0
	MinLRRatio  float64 `json:"min_lr_ratio"` // floor of the schedule as a part of lr; 0 to 1
	NumCycles   float64 `json:"num_cycles"`   // cosine: turns from warm-up to the end; 0.5 falls once
	Power       float64 `json:"power"`        // polynomial: exponent

	AdamBeta1   float64 `json:"adam_beta1"`
	AdamBeta2   float64 `json:"adam_beta2"`
	AdamEpsilon float64 `json:"adam_epsilon"`
	WeightDecay float64 `json:"weight_decay"` // decoupled; matrices only: vectors (biases, norms) do not decay
	GradClip    float64 `json:"grad_clip"`    // largest global norm of the gradient; 0 = no clipping

	FineTuning // freeze, lora, param_groups, layer_decay, class_weights

	LabelSmoothing float64 `json:"label_smoothing"`
	Recompute      string  `json:"recompute"` // none, cheap, block, every:c

	EvalEvery         int `json:"eval_every"`          // steps between evaluations; 0 = only at the end
	EvalBatches       int `json:"eval_batches"`        // batches of one evaluation during training; 0 = all of the validation part
	SaveEvery         int `json:"save_every"`          // steps between checkpoints; 0 = only at the end
	SaveTotalLimit    int `json:"save_total_limit"`    // newest checkpoints kept beside the best one; >= 1
	EarlyStopPatience int `json:"early_stop_patience"` // evaluations without a better loss before training stops; 0 = never
}

// DefaultConfig is what `fit` without a training section uses: the settings of the default model.
func DefaultConfig() Config {
	return Config{
		Seed: 1, Steps: 1500, BatchSize: 1, SequenceLength: 1024,
		LR: 2e-3, Schedule: "cosine", WarmupSteps: 40, MinLRRatio: 0.1, NumCycles: 0.5, Power: 1,
		AdamBeta1: 0.9, AdamBeta2: 0.95, AdamEpsilon: 1e-8, WeightDecay: 0.1, GradClip: 1,
		Recompute: "cheap", EvalEvery: 250, EvalBatches: 0, SaveEvery: 250, SaveTotalLimit: 2,
	}
}

// Accumulation is the number of batches whose gradients make one step.
func (c Config) Accumulation() int {
	if c.GlobalBatch == 0 {
		return 1
	}
	return c.GlobalBatch / c.BatchSize
}

// SequencesPerStep is the number of sequences that one step reads.
func (c Config) SequencesPerStep() int { return c.BatchSize / c.rollouts() * c.Accumulation() }

// Validate reports every fault at once, as config.FieldErrors with paths under "train".
func (c Config) Validate() error {
	var errs []error
	want := func(ok bool, path string, value any, want string) {
		if !ok {
			errs = append(errs, &config.FieldError{Path: "train." + path, Value: value, Want: "want " + want})
		}
	}
	want(c.Steps >= 1, "steps", c.Steps, "at least 1")
	want(c.BatchSize >= 1, "batch_size", c.BatchSize, "at least 1")
	want(c.GlobalBatch == 0 || c.BatchSize >= 1 && c.GlobalBatch >= c.BatchSize && c.GlobalBatch%c.BatchSize == 0,
		"global_batch", c.GlobalBatch, fmt.Sprintf("a multiple of batch_size (%d), or 0", c.BatchSize))
	want(c.SequenceLength >= 1, "sequence_length", c.SequenceLength, "at least 1")
	want(c.SequenceLength < 1 || c.BatchSize <= math.MaxInt32/c.SequenceLength, "batch_size", c.BatchSize,
		fmt.Sprintf("at most %d tokens in a batch, which is batch_size times sequence_length (%d)", math.MaxInt32, c.SequenceLength))
	want(c.GlobalBatch <= math.MaxInt32, "global_batch", c.GlobalBatch, fmt.Sprintf("at most %d", math.MaxInt32))
	c.validatePhases(want)
	c.validateBuckets(want)
	c.validatePolicy(want)
	c.FineTuning.validate(want)
	want(c.LR > 0, "lr", c.LR, "more than 0")
	want(schedules[c.Schedule] != nil, "schedule", c.Schedule, "one of "+strings.Join(ScheduleNames(), ", "))
	want(c.WarmupSteps >= 0, "warmup_steps", c.WarmupSteps, "at least 0")
	want(c.MinLRRatio >= 0 && c.MinLRRatio <= 1, "min_lr_ratio", c.MinLRRatio, "from 0 to 1")
	want(c.NumCycles > 0, "num_cycles", c.NumCycles, "more than 0")
	want(c.Power > 0, "power", c.Power, "more than 0")
	want(c.AdamBeta1 >= 0 && c.AdamBeta1 < 1, "adam_beta1", c.AdamBeta1, "from 0 to less than 1")
	want(c.AdamBeta2 >= 0 && c.AdamBeta2 < 1, "adam_beta2", c.AdamBeta2, "from 0 to less than 1")
	want(c.AdamEpsilon > 0, "adam_epsilon", c.AdamEpsilon, "more than 0")
	want(c.WeightDecay >= 0, "weight_decay", c.WeightDecay, "at least 0")
	want(c.GradClip >= 0, "grad_clip", c.GradClip, "at least 0 (0 = no clipping)")
	want(c.LabelSmoothing >= 0 && c.LabelSmoothing < 1, "label_smoothing", c.LabelSmoothing, "from 0 to less than 1")
	_, _, err := ParseRecompute(c.Recompute)
	want(err == nil, "recompute", c.Recompute, "none, cheap, block or every:c with c >= 1")
	want(c.EvalEvery >= 0, "eval_every", c.EvalEvery, "at least 0 (0 = only at the end)")
	want(c.EvalBatches >= 0, "eval_batches", c.EvalBatches, "at least 0 (0 = all)")
	want(c.SaveEvery >= 0, "save_every", c.SaveEvery, "at least 0 (0 = only at the end)")
	want(c.SaveTotalLimit >= 1, "save_total_limit", c.SaveTotalLimit, "at least 1")
	want(c.EarlyStopPatience >= 0, "early_stop_patience", c.EarlyStopPatience, "at least 0 (0 = never)")
	return errors.Join(errs...)
}

// ParseRecompute reads the recompute option: whether cheap operations are computed again in the backward pass, and how many
// layers make one block that is computed again as a whole (0: none).
func ParseRecompute(s string) (cheap bool, layersPerBlock int, err error) {
	switch s {
	case "none":
		return false, 0, nil
	case "cheap":
		return true, 0, nil
	case "block":
		return true, 1, nil
	}
	if c, ok := strings.CutPrefix(s, "every:"); ok {
		if n, err := strconv.Atoi(c); err == nil && n >= 1 {
			return true, n, nil
		}
	}
	return false, 0, fmt.Errorf("train: recompute is %q, want none, cheap, block or every:c", s)
}
