package train

// StepEvent tells of one update. It is a line of metrics.jsonl and of --json.
type StepEvent struct {
	Event      string  `json:"event"` // "step"
	Step       int     `json:"step"`
	Loss       float64 `json:"loss"` // nats a token, example, end of an answer or dimension; of regression the mean squared error
	LR         float64 `json:"lr"`
	GradNorm   float64 `json:"grad_norm"` // before clipping
	TokensPerS float64 `json:"tokens_per_s"`

	OwnLoss *float64 `json:"own_loss,omitempty"`        // the term that the model adds itself
	Length  int      `json:"sequence_length,omitempty"` // where it changes: of a curriculum or of stages

	Policy *PolicyEvent `json:"policy,omitempty"` // of a model that chooses

	State map[string]float64 `json:"state,omitempty"` // what is told of state that is learned without gradients, such as how even clusters are: means over the layers
}

// EvalEvent tells of an evaluation on the validation part, in plain windows.
type EvalEvent struct {
	Event   string   `json:"event"` // "eval"
	Step    int      `json:"step"`
	ValLoss float64  `json:"val_loss"` // as the loss of a step
	ValBPB  *float64 `json:"val_bpb"`  // bits per byte; null where no text is predicted
	Best    bool     `json:"best"`     // the smallest loss so far, of the same batches: the first train.eval_batches

	ValAccuracy *float64 `json:"val_accuracy"` // part of the targets that the model held most likely; null for numbers

	BitsPerDim *float64 `json:"bits_per_dim,omitempty"` // of images
}

// DoneEvent is the last line of a run.
type DoneEvent struct {
	Event      string   `json:"event"` // "done"
	Steps      int      `json:"steps"`
	ValLoss    *float64 `json:"val_loss"` // null: stopped before the first evaluation
	ValBPB     *float64 `json:"val_bpb"`
	TestLoss   *float64 `json:"test_loss,omitempty"` // when the test part was evaluated
	TestBPB    *float64 `json:"test_bpb"`
	TestAcc    *float64 `json:"test_accuracy,omitempty"`
	TestExact  *float64 `json:"test_exact_match,omitempty"` // of tasks
	Checkpoint string   `json:"checkpoint"`
	ValBPD     *float64 `json:"val_bits_per_dim,omitempty"` // of images
	BitsPerDim *float64 `json:"bits_per_dim,omitempty"`     // of the test part
	Stopped    string   `json:"stopped,omitempty"`          // why before train.steps: "steps", "early_stop", "interrupted"
}

// Hooks are called from the training loop, between steps; nil ones are left out.
type Hooks struct {
	Step    func(StepEvent)
	Eval    func(EvalEvent)
	Saved   func(step int, path string)
	Warning func(string)
}

func (h Hooks) step(e StepEvent) {
	if h.Step != nil {
		h.Step(e)
	}
}

func (h Hooks) eval(e EvalEvent) {
	if h.Eval != nil {
		h.Eval(e)
	}
}

func (h Hooks) saved(step int, path string) {
	if h.Saved != nil {
		h.Saved(step, path)
	}
}

func (h Hooks) warn(s string) {
	if h.Warning != nil {
		h.Warning(s)
	}
}
