package train

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/checkpoints"
	"github.com/euryale-ml/euryale/data"
	"github.com/euryale-ml/euryale/internal/config"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/models"
)

// Job is all that a run depends on: the content of a recipe, a --config file, and a run's config.json.
type Job struct {
	Model json.RawMessage `json:"model"` // a config.json
	Train Config          `json:"train"`
	Data  data.Config     `json:"data"`
}

// DefaultJob trains the default model on the embedded book.
func DefaultJob() Job {
	return Job{Model: json.RawMessage(models.Default), Train: DefaultConfig()}
}

// Check builds the model and looks for every fault of the job at once. Paths are those of the file.
func (j Job) Check() (models.Model, error) {
	var faults []error
	m, err := models.New(j.Model)
	for _, f := range config.Faults(err) {
		faults = append(faults, config.Prefix("model", f))
	}
	faults = append(faults, config.Faults(j.Train.Validate())...)
	if m != nil {
		j.Resolve(m) // some keys are for one objective alone
	}
	faults = append(faults, config.Faults(j.Data.Validate())...)
	if m != nil && m.Dims().Positions > 0 && j.Train.SequenceLength > m.Dims().Positions {
		faults = append(faults, &config.FieldError{Path: "train.sequence_length", Value: j.Train.SequenceLength,
			Want: fmt.Sprintf("want at most the positions of the model (%d)", m.Dims().Positions)})
	}
	if m != nil {
		faults = append(faults, config.Faults(j.Train.checkStages(m))...)
	}
	if j.Data.Streaming {
		faults = append(faults, config.Faults(j.Train.oneLength())...)
	}
	return m, errors.Join(faults...)
}

// Resolve sets what the job leaves open: of text is asked what the model is for.
func (j *Job) Resolve(m models.Model) {
	if j.Data.Task == "" && j.Data.Objective == "" && m.Task() != "causal_lm" && slices.Contains(data.Objectives, m.Task()) {
		j.Data.Objective = m.Task()
	}
	if s, ok := m.(models.Seq2Seq); ok && len(s.Special().End) > 0 {
		j.Data = j.Data.WithEnds(s.Special().Start, s.Special().End[0])
	}
	if j.Train.Curriculum != nil {
		k := j.Train.Curriculum.filled()
		j.Train.Curriculum = &k
	}
}

// CheckObjective refuses text of which something else is asked than the model is for; what a task asks is seen by its batches. Call Resolve
// before.
//
// Errors: *config.FieldError.
func (j Job) CheckObjective(m models.Model) error {
	asked := cmp.Or(j.Data.Objective, "causal_lm")
	switch {
	case j.Data.Task != "" || asked == m.Task():
		return nil
	case !slices.Contains(data.Objectives, m.Task()):
		return &config.FieldError{Path: "model.task", Value: m.Task(), Want: "text does not have what this is about: want one of " + strings.Join(data.Objectives, ", ") + ", or a task (data.task)"}
	}
	return &config.FieldError{Path: "data.objective", Value: asked, Want: fmt.Sprintf("want that of the model, %s", m.Task())}
}

// Run is a training run in its folder: config.json, metrics.jsonl, checkpoints/.
type Run struct {
	Dir     string
	Job     Job
	Model   models.Model
	Corpus  *data.Corpus
	Trainer *Trainer
	Hooks   Hooks

	state     state
	lock      *checkpoints.Lock
	metrics   *checkpoints.Metrics
	options   checkpoints.Options
	evaluator *Evaluator
	saved     int   // step of the last good save
	saveErr   error // of the last save, if it failed
	logErr    error // of the last line of metrics, if it failed
}

// Options of a run.
type Options struct {
	Hooks Hooks
	FS    checkpoints.FS // nil is the operating system's; tests inject faults
}

// Start begins a run in a new folder. from, if not nil, holds the initial weights.
//
// Errors: faults of the job; *data.Error; *checkpoints.FileError; *ExistsError where there are checkpoints already.
func Start(dir string, j Job, from *layers.Params, o Options) (*Run, error) {
	r, err := open(dir, j, o)
	if err != nil {
		return nil, err
	}
	old, err := checkpoints.List(filepath.Join(dir, "checkpoints"))
	if err != nil {
		return nil, r.abandon(err)
	}
	if len(old) > 0 {
		return nil, r.abandon(&ExistsError{Dir: dir})
	}
	params := from
	if params == nil {
		if params, err = models.NewParams(r.Model, tensor.Float32, j.Train.Seed); err != nil {
			return nil, r.abandon(err)
		}
	}
	if r.Trainer, err = NewTrainer(r.Model, params, r.Corpus.Train, j.Train); err != nil {
		return nil, r.abandon(err)
	}
	if err := r.Trainer.sampler.Begin(); err != nil { // a stream that gives nothing leaves no run behind
		return nil, r.abandon(err)
	}
	r.state = state{Job: r.Job, DataDigest: r.Corpus.Digest}
	text, err := json.MarshalIndent(r.Job, "", "  ")
	if err != nil {
		return nil, r.abandon(err)
	}
	if err := checkpoints.WriteFileFS(r.options.FS, filepath.Join(dir, "config.json"), append(text, '\n')); err != nil {
		return nil, r.abandon(err)
	}
	if err := r.log(0); err != nil {
		return nil, err
	}
	return r, nil
}

// ExistsError refuses to start over what is there.
type ExistsError struct{ Dir string }

func (e *ExistsError) Error() string {
	return fmt.Sprintf("%s holds checkpoints already: go on with `resume %s`, or choose another folder with --run", e.Dir, e.Dir)
}

// open checks the job, takes the lock and loads the data.
func open(dir string, j Job, o Options) (*Run, error) {
	m, err := j.Check()
	if err != nil {
		return nil, err
	}
	corpus, err := j.Load(m)
	if err != nil {
		return nil, err
	}
	if o.FS == nil {
		o.FS = checkpoints.OSFS{}
	}
	lock, err := checkpoints.LockRun(dir)
	if err != nil {
		return nil, err
	}
	return &Run{Dir: dir, Job: j, Model: m, Corpus: corpus, Hooks: o.Hooks, lock: lock,
		options: checkpoints.Options{Keep: j.Train.SaveTotalLimit, FS: o.FS, Warn: o.Hooks.warn}}, nil
}

// Load resolves the job and loads its data, which must be long enough and go with the model.
//
// Errors: *data.Error; *config.FieldError, joined.
func (j *Job) Load(m models.Model) (*data.Corpus, error) {
	j.Resolve(m)
	if err := j.CheckObjective(m); err != nil {
		return nil, err
	}
	corpus, err := data.Load(j.Data)
	if err != nil {
		return nil, err
	}
	j.Data.Classes = corpus.Classes // their numbers stay, whatever the model is evaluated on
	j.Data = j.Data.Shaped(corpus.Train)
	if _, err := corpus.Train.Sampler(j.Train.SequenceLength, j.Train.Seed); err != nil {
		return nil, err
	}
	fits := Fits(m, corpus.Tokenizer, corpus.Train.Shape(j.Train.SequenceLength))
	if err := errors.Join(fits, fitsTargets(m, corpus.Train, j.Train.SequenceLength), fitsImages(m, corpus.Train, j.Data.Order, j.Train.SequenceLength)); err != nil {
		return nil, err
	}
	return corpus, nil
}

// Fits reports whether a model has an id for each token of the data, and a class for each of their classes.
//
// Errors: *config.FieldError, joined.
func Fits(m models.Model, tok data.Tokenizer, shape data.Shape) error {
	d := m.Dims()
	var faults []error
	if v := tok.VocabSize(); v > d.Vocab && d.Vectors == 0 {
		faults = append(faults, &config.FieldError{Path: "model.vocab_size", Value: d.Vocab, Want: fmt.Sprintf("want at least the tokenizer's %d", v)})
	}
	if shape.Classes > d.Labels && m.Task() == "sequence_classification" {
		faults = append(faults, &config.FieldError{Path: "model.num_labels", Value: d.Labels, Want: fmt.Sprintf("want at least the %d classes of the data", shape.Classes)})
	}
	return errors.Join(faults...)
}

// log opens metrics.jsonl; lines after the step go.
func (r *Run) log(step int) error {
	m, err := checkpoints.OpenMetricsFS(r.options.FS, filepath.Join(r.Dir, "metrics.jsonl"), step)
	if err != nil {
		return r.abandon(err)
	}
	r.metrics = m
	return nil
}

func (r *Run) abandon(err error) error {
	r.closeStream()
	if cerr := r.lock.Release(); cerr != nil {
		r.Hooks.warn(cerr.Error())
	}
	return err
}

// Close gives the run folder back.
func (r *Run) Close() error {
	r.closeStream()
	return errors.Join(r.metrics.Close(), r.lock.Release())
}

// Step is the number of updates done.
func (r *Run) Step() int { return r.Trainer.Adam.Step }

// Result says how a call of Train ended.
type Result struct {
	DoneEvent
	Interrupted bool // ctx was cancelled; everything is saved
}

// Train goes on until train.steps, or until the given step if that is not 0. It evaluates and saves on the way as the config
// says, and always at the end. When ctx is cancelled it finishes the step, saves and returns.
//
// Errors: *DivergedError; a failed save is a warning and tried again, but an error if it is the last one.
func (r *Run) Train(ctx context.Context, until int) (Result, error) {
	c := r.Job.Train
	if until == 0 {
		until = c.Steps
	}
	var res Result
	stopped := ""
	for r.Step() < until {
		if interrupted(ctx) {
			res.Interrupted, stopped = true, "interrupted"
			break
		}
		// What is due at a step comes before the next one, so that a run that was interrupted there catches up.
		if r.scheduled() && r.state.LastEval != r.Step() {
			if err := r.evaluate(ctx, c.EvalBatches); err != nil {
				if interrupted(ctx) {
					continue
				}
				return res, err
			}
		}
		if c.EarlyStopPatience > 0 && r.state.Unimproved >= c.EarlyStopPatience {
			stopped = "early_stop"
			break
		}
		if c.SaveEvery > 0 && r.Step()%c.SaveEvery == 0 && r.saved != r.Step() {
			r.save()
		}
		e, err := r.Trainer.Step()
		if err != nil {
			return res, err
		}
		r.Hooks.step(e)
		r.append(e)
	}
	if !res.Interrupted && (r.state.LastEval != r.Step() || r.state.Partial) {
		if err := r.evaluate(ctx, 0); err != nil {
			if !interrupted(ctx) {
				return res, err
			}
			res.Interrupted, stopped = true, "interrupted"
		}
	}
	if r.saved != r.Step() || r.saveErr != nil {
		r.save()
	}
	if stopped == "" && r.Step() < c.Steps {
		stopped = "steps"
	}
	res.DoneEvent = DoneEvent{Event: "done", Steps: r.Step(),
		Checkpoint: checkpoints.StepDir(filepath.Join(r.Dir, "checkpoints"), r.saved), Stopped: stopped}
	if r.state.LastEval > 0 {
		loss := r.state.ValLoss
		res.ValLoss, res.ValBPB = &loss, r.state.ValBPB
		res.ValBPD = Number(Score{Task: r.Model.Task(), Loss: loss}.BitsPerDim())
	}
	if r.saveErr != nil {
		return res, fmt.Errorf("the last checkpoint could not be saved (the newest good one is of step %d): %w", r.saved, r.saveErr)
	}
	return res, nil
}

// Finish writes the last line of the metrics.
func (r *Run) Finish(e DoneEvent) { r.append(e) }

func (r *Run) append(e any) {
	err := r.metrics.Append(e)
	if err != nil && r.logErr == nil { // once, not for each step: the lines are kept
		r.Hooks.warn(err.Error())
	}
	r.logErr = err
}

// scheduled reports whether a run that nothing interrupts evaluates at this step.
func (r *Run) scheduled() bool {
	every := r.Job.Train.EvalEvery
	return every > 0 && r.Step() > 0 && r.Step()%every == 0
}

// evaluate scores the validation part in plain windows, the first batches only if limit > 0, and notes whether it is the best so far. That is judged by the first
// train.eval_batches in any case: other windows may be easier.
func (r *Run) evaluate(ctx context.Context, limit int) error {
	if r.evaluator == nil {
		t := r.Job.Train.SequenceLength
		e, err := NewEvaluator(r.Model, r.Trainer.Params, r.Corpus.Val.Shape(t), r.Job.Train.BatchSize, t)
		if err != nil {
			return err
		}
		e.First = r.Job.Train.EvalBatches
		r.evaluator = e
	}
	windows := r.Corpus.Val.PlainWindows(r.Job.Train.SequenceLength)
	score, err := r.evaluator.Run(ctx, windows, limit, nil)
	if err != nil {
		return err
	}
	e := EvalEvent{Event: "eval", Step: r.Step(), ValLoss: score.Loss, ValBPB: Number(score.BitsPerByte()), ValAccuracy: Number(score.Accuracy()), BitsPerDim: Number(score.BitsPerDim())}
	s := &r.state
	again := s.LastEval == e.Step // after an early stop the whole part is scored, too
	s.LastEval, s.ValLoss, s.ValBPB = e.Step, e.ValLoss, e.ValBPB
	s.Partial = limit > 0 && limit*r.Job.Train.BatchSize < windows.Len()
	judged := cmp.Or(score.FirstLoss, score.Loss)
	if e.Best = s.BestStep == 0 || judged < s.BestLoss || again && s.BestStep == e.Step; e.Best {
		s.BestStep, s.BestLoss = e.Step, judged
	}
	// Early stop looks at these alone, or where a run was stopped and resumed would change where it ends.
	if r.scheduled() && !again {
		if s.Scheduled == nil || judged < *s.Scheduled {
			s.Scheduled, s.Unimproved = &judged, 0
		} else {
			s.Unimproved++
		}
	}
	r.Hooks.eval(e)
	r.append(e)
	return nil
}
