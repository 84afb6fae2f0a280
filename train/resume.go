package train

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"reflect"
	"runtime"

	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/checkpoints"
	"github.com/euryale-ml/euryale/data"
	"github.com/euryale-ml/euryale/internal/config"
	"github.com/euryale-ml/euryale/internal/kernels"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/models"
)

// state is what a checkpoint holds besides weights and moments.
type state struct {
	Job        Job      `json:"job"`
	Position   int64    `json:"position"` // examples read
	Epoch      int64    `json:"epoch"`    // of the next example
	BestStep   int      `json:"best_step"`
	BestLoss   float64  `json:"best_loss"`      // meaningful if best_step > 0
	Scheduled  *float64 `json:"best_scheduled"` // smallest loss of the evaluations every eval_every steps; null: none yet
	Unimproved int      `json:"unimproved"`     // of these, how many since
	LastEval   int      `json:"last_eval"`      // step of the last evaluation
	ValLoss    float64  `json:"val_loss"`       // its loss
	ValBPB     *float64 `json:"val_bpb"`        // and that in bits per byte, where text is predicted
	Partial    bool     `json:"val_partial"`    // it was of the first eval_batches alone
	DataDigest string   `json:"data_digest"`    // of the text
	KernelSet  string   `json:"kernel_set"`     // results are the same to the bit within a set only
	GoVersion  string   `json:"go_version"`

	Curriculum *progressed `json:"curriculum,omitempty"`
	Policy     *lessons    `json:"policy,omitempty"`

	Stream *data.StreamState `json:"stream,omitempty"` // its tensors are in optimizer.safetensors
}

// save writes a checkpoint. A failure is told, remembered, and tried again by the next save.
func (r *Run) save() {
	snap, err := r.snapshot()
	if err == nil {
		if serr := r.metrics.Sync(); serr != nil && r.logErr == nil {
			r.Hooks.warn(serr.Error())
		}
		err = checkpoints.Save(filepath.Join(r.Dir, "checkpoints"), snap, r.options)
	}
	r.saveErr = err
	if err != nil {
		r.Hooks.warn(fmt.Sprintf("step %d was not saved: %v; training goes on and the next save tries again", r.Step(), err))
		return
	}
	r.saved = r.Step()
	r.Hooks.saved(r.saved, checkpoints.StepDir(filepath.Join(r.Dir, "checkpoints"), r.saved))
}

func (r *Run) snapshot() (checkpoints.Snapshot, error) {
	cfg, err := r.Model.Config()
	if err != nil {
		return checkpoints.Snapshot{}, err
	}
	s := r.state
	s.Job = r.Job
	s.Position = r.Trainer.Position(r.Step())
	s.Epoch = r.Trainer.sampler.Epoch(s.Position)
	s.Curriculum, s.Stream = r.Trainer.grown, r.Trainer.sampler.State()
	if c := r.Trainer.choosing; c != nil {
		learned := c.lessons
		learned.Skipped, s.Policy = r.Trainer.Adam.skipped, &learned
	}
	s.KernelSet, s.GoVersion = kernels.Set(), runtime.Version()
	snap := checkpoints.Snapshot{Step: r.Step(), Best: s.BestStep, Config: cfg, State: s}
	snap.Model, snap.Extra = models.Tensors(r.Trainer.Params), data.TokenizerFiles(r.Corpus.Tokenizer)
	err = r.Trainer.moments(func(name string, v *tensor.Dense) error {
		snap.Optimizer = append(snap.Optimizer, models.Tensor(name, v))
		return nil
	})
	snap.Optimizer = append(snap.Optimizer, streamTensors(s.Stream)...)
	return snap, err
}

// ChangedError says that a run cannot go on because something else than its training differs from what it was.
type ChangedError struct{ Dir, What, Do string }

func (e *ChangedError) Error() string {
	return fmt.Sprintf("%s: %s: %s", e.Dir, e.What, e.Do)
}

// Resume goes on with the newest valid checkpoint of a run; change, if not nil, may alter the training part of the job.
//
// Errors: those of Start; *ChangedError if the model, the data or the place in them (seed, sequence_length, sequences a step) are
// not those of the checkpoint.
func Resume(dir string, change func(*Config) error, o Options) (*Run, error) {
	var j Job
	if err := config.ReadFile(filepath.Join(dir, "config.json"), &j); err != nil {
		return nil, err
	}
	if change != nil {
		if err := change(&j.Train); err != nil {
			return nil, err
		}
	}
	if latest, err := checkpoints.Latest(dir); err == nil { // a tokenizer that was trained is not trained again
		if tok, found, err := data.LoadTokenizer(latest.Path); err == nil && found {
			j.Data = j.Data.With(tok)
		}
	}
	r, err := open(dir, j, o)
	if err != nil {
		return nil, err
	}
	if err := r.restore(); err != nil {
		return nil, r.abandon(err)
	}
	if err := r.log(r.Trainer.Adam.Step); err != nil {
		return nil, err
	}
	return r, nil
}

// restore loads the newest checkpoint into a new trainer.
func (r *Run) restore() error {
	snap, report, err := checkpoints.LoadFS(r.options.FS, r.Dir)
	if err != nil {
		return err
	}
	if s := report.String(); s != "" {
		r.Hooks.warn(s)
	}
	if err := snap.DecodeState(&r.state); err != nil {
		return fmt.Errorf("%s: state.json: %w", report.Path, err)
	}
	have, err := r.Model.Config()
	if err != nil {
		return err
	}
	if !sameJSON(have, snap.Config) {
		return &ChangedError{r.Dir, "the model in config.json is not that of the checkpoint", "undo the change, or start a new run with fit --from"}
	}
	if was, is := r.state.Job.Train, r.Job.Train; was.Seed != is.Seed || was.SequenceLength != is.SequenceLength {
		return &ChangedError{r.Dir, fmt.Sprintf("the run was trained with seed %d and sequence_length %d, its config.json says %d and %d: its place in the data would be another",
			was.Seed, was.SequenceLength, is.Seed, is.SequenceLength), "bring them back, or start a new run with fit --from"}
	}
	if was, is := r.state.Job.Train.policy(), r.Job.Train.policy(); was.Rollouts != is.Rollouts {
		return &ChangedError{r.Dir, fmt.Sprintf("the run was trained with policy.rollouts %d, its config.json says %d: its place in the data would be another", was.Rollouts, is.Rollouts),
			"bring it back, or start a new run with fit --from"}
	}
	if was, is := r.state.Job.Train, r.Job.Train; !reflect.DeepEqual(was.Curriculum, is.Curriculum) || !sameStages(was.Stages, is.Stages) {
		return &ChangedError{r.Dir, "train.curriculum or train.stages are not those of the checkpoint", "bring them back, or start a new run with fit --from"}
	}
	if err := r.sameStream(); err != nil {
		return err
	}
	if r.state.DataDigest != r.Corpus.Digest {
		return &ChangedError{r.Dir, "the data (" + r.Corpus.Name + ") are not those that the run has read", "bring the text back, or start a new run with fit --from"}
	}
	if set := kernels.Set(); r.state.KernelSet != set {
		r.Hooks.warn(fmt.Sprintf("the run used the kernels for %s, now %s: it goes on, but not with the same bits (EURYALE_CPU=%s would force them)", r.state.KernelSet, set, r.state.KernelSet))
	}
	params := layers.NewParams(tensor.Float32)
	for _, t := range snap.Model {
		if err := loadTensor(params, t); err != nil {
			return fmt.Errorf("%s: %w", report.Path, err)
		}
	}
	if r.Trainer, err = NewTrainer(r.Model, params, r.Corpus.Train, r.Job.Train); err != nil {
		return err
	}
	if err := r.Trainer.restore(snap); err != nil {
		return fmt.Errorf("%s: %w", report.Path, err)
	}
	if r.Trainer.grown != nil && r.state.Curriculum != nil {
		r.Trainer.grown = r.state.Curriculum
	}
	if err := r.Trainer.restoreChoosing(r.state.Policy); err != nil {
		return fmt.Errorf("%s: %w", report.Path, err)
	}
	if err := r.restoreStream(snap); err != nil {
		return err
	}
	if at := r.Trainer.Position(snap.Step); at != r.state.Position {
		return &ChangedError{r.Dir, fmt.Sprintf("the checkpoint has read %d sequences, its config.json says %d", r.state.Position, at), "bring batch_size and global_batch back"}
	}
	r.saved = snap.Step
	return nil
}

// sameStages compares stages by value.
func sameStages(a, b []Stage) bool {
	p, perr := json.Marshal(a)
	q, qerr := json.Marshal(b)
	return perr == nil && qerr == nil && sameJSON(p, q)
}
