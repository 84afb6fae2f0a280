package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/checkpoints"
	"github.com/euryale-ml/euryale/data"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/models"
	"github.com/euryale-ml/euryale/train"
)

// fitFlags are the flags of fit.
type fitFlags struct {
	jobFlags
	run, name string
	steps     int
	dryRun    bool
	sample    bool // print a sample and what to try next
}

func fitCommand(a *app) *cobra.Command {
	var f fitFlags
	c := &cobra.Command{
		Use:   "fit",
		Short: "Train a model, or fine-tune one with --from",
		Long: `Fit trains a model and writes a run folder: config.json (everything resolved), metrics.jsonl and checkpoints/.
Ctrl-C finishes the step, saves and leaves; resume goes on as if nothing had happened.

Without --run the folder is runs/NAME (runs/NAME-2, ... if that is taken).`,
		Example: examples(
			"fit --data my.txt --steps 500", "the default model on your text; stop after 500 steps",
			"fit --data books/ --set train.steps=5000 --set model.hidden_size=128", "a smaller model, longer",
			"fit --config job.json --run runs/a", "everything from a file",
			"fit --data 'task:needle(length=64)' --set model.vocab_size=97 --set train.sequence_length=64", "a synthetic task (docs/tasks.md)",
			"fit --recipe band-needle", "an experiment that this program brings along",
			"fit --from runs/default --data my.txt --set train.lr=3e-4", "fine-tune",
			"fit --dry-run", "what it would cost; nothing is written"),
		Args: cobra.NoArgs,
	}
	f.add(c)
	c.Flags().StringVar(&f.run, "run", "", "run folder")
	c.Flags().StringVar(&f.name, "name", "", "name of the run below runs/ (default: that of the recipe, of the --config file, of the data, or default)")
	c.Flags().IntVar(&f.steps, "steps", 0, "stop this call after so many steps; the schedule is that of train.steps (default: train.steps)")
	c.Flags().BoolVar(&f.dryRun, "dry-run", false, "print parameters, FLOPs, planned memory and data, and write nothing")
	return command(c, func(ctx context.Context, _ []string) error { return a.fit(ctx, f) })
}

func (a *app) fit(ctx context.Context, f fitFlags) (err error) {
	if f.steps < 0 {
		return usagef("--steps is %d: give at least 1", f.steps)
	}
	if f.run != "" && f.name != "" {
		return usagef("--run and --name exclude each other: give one")
	}
	if f.name != "" && !filepath.IsLocal(f.name) {
		return usagef("--name is %s: give a name below runs/, or a folder with --run", f.name)
	}
	j, source, err := f.job()
	if err != nil {
		return err
	}
	m, err := j.Check()
	if err != nil {
		return withClose(err, source)
	}
	if source != nil && source.Report == nil {
		tok, err := j.Data.NewTokenizer()
		if err == nil {
			err = foreign(source.Dir, m, tok)
		}
		if err != nil {
			return withClose(err, source)
		}
	}
	params, err := a.weights(m, source, j.Train.Seed)
	if err = withClose(err, source); err != nil {
		return err
	}
	for _, w := range m.Warnings() {
		a.out.note("note: %s", w)
	}
	if fewer := models.Exhausted(m, j.Train.SequenceLength); fewer != "" {
		a.out.note("note: %s", fewer)
	}
	if f.dryRun {
		return a.dryRun(m, j)
	}
	dir := f.run
	if dir == "" {
		dir = freeRun(f.runName())
	}
	run, err := train.Start(dir, j, params, train.Options{Hooks: a.hooks(j.Train)})
	if err != nil {
		return err
	}
	return a.drive(ctx, run, f.steps, f.sample)
}

// runName is --name, or the name of the recipe, of the --config file or of the data, or "default".
func (f *fitFlags) runName() string {
	switch {
	case f.name != "":
		return f.name
	case f.recipe != "":
		return strings.ReplaceAll(f.recipe, ":", "-")
	case f.config != "":
		return stem(f.config)
	case strings.HasPrefix(f.data, "task:"):
		name, _, _ := strings.Cut(f.data, "(")
		return stem(name)
	case f.data != "":
		return stem(f.data)
	}
	return "default"
}

// stem is the name of a file or folder without its extensions.
func stem(path string) string {
	name, _, _ := strings.Cut(strings.TrimLeft(filepath.Base(filepath.Clean(path)), "."), ".")
	if name == "" || name == string(filepath.Separator) {
		return "run"
	}
	return strings.ReplaceAll(name, ":", "-")
}

func withClose(err error, m *checkpoints.Model) error {
	if cerr := closeModel(m); err == nil {
		err = cerr
	}
	return err
}

// drive trains until the end, scores the test part and says so; with sample also what the model writes.
func (a *app) drive(ctx context.Context, run *train.Run, until int, sample bool) (err error) {
	defer func() {
		a.out.endProgress()
		if cerr := run.Close(); err == nil {
			err = cerr
		}
	}()
	target := until
	if target == 0 {
		target = run.Job.Train.Steps
	}
	a.introduce(run, target)
	a.sampleImages(ctx, run)
	a.training = a.out.startProgress("step", run.Step(), target)
	res, err := run.Train(ctx, until)
	a.out.endProgress()
	if err != nil {
		return err
	}
	if !res.Interrupted {
		score, err := a.score(ctx, "test part", run.Model, run.Trainer.Params, run.Corpus.Test, run.Job.Train, 0)
		if err != nil && ctx.Err() == nil {
			return err
		}
		if err == nil {
			res.TestLoss, res.TestBPB, res.TestAcc = &score.Loss, train.Number(score.BitsPerByte()), train.Number(score.Accuracy())
			res.BitsPerDim = train.Number(score.BitsPerDim())
			_, images := run.Corpus.Test.Image()
			res.TestExact = newEvalDone("", "", score, run.Corpus.Test.Length() > 0 && !images).Exact
		} else {
			res.Interrupted, res.Stopped = true, "interrupted"
		}
	}
	run.Finish(res.DoneEvent)
	a.out.event(res.DoneEvent)
	a.conclude(run, res)
	if res.Interrupted {
		return context.Cause(ctx)
	}
	if sample {
		return a.sample(ctx, run)
	}
	return nil
}

// sample prints what the model writes, and what to try next.
func (a *app) sample(ctx context.Context, run *train.Run) error {
	a.out.text("\nA sample (temperature 0.7):\n\n")
	w := &writer{out: &output{stdout: a.out.people(), stderr: a.out.stderr}}
	_, err := write(ctx, run.Model, run.Trainer.Params, run.Corpus.Tokenizer, "\n\n", 400, train.Sampling{Temperature: 0.7, Seed: 1}, w.token)
	w.flush()
	if err != nil {
		return err
	}
	dir := quoteArg(run.Dir)
	a.out.text("\n\nNext:\n%s\n", examples(
		"generate "+dir+" --prompt 'Call me '", "let it go on from your words",
		"resume "+dir+" --steps "+fmt.Sprint(2*run.Step()), "train on",
		"fit --data my.txt", "train on your own text"))
	return nil
}

// score evaluates weights on a part, as train.Windows says.
func (a *app) score(ctx context.Context, what string, m models.Model, params *layers.Params, part *data.Part, c train.Config, period int) (train.Score, error) {
	e, err := train.NewEvaluator(m, params, part.Shape(c.SequenceLength), c.BatchSize, c.SequenceLength)
	if err != nil {
		return train.Score{}, err
	}
	e.Period = period
	w := train.Windows(m.Task(), part, c.SequenceLength)
	p := a.out.startProgress(what, 0, w.Len())
	defer a.out.endProgress()
	return e.Run(ctx, w, 0, func(done, _ int) { p.update(done, "") })
}

// introduce says what is going to happen.
func (a *app) introduce(run *train.Run, target int) {
	d, c := run.Model.Dims(), run.Job.Train
	lengths := fmt.Sprint(c.SequenceLength)
	if k := c.Curriculum; k != nil {
		lengths = fmt.Sprintf("%d to %d", k.Start, c.SequenceLength)
	}
	for i := len(c.Stages) - 1; i >= 0; i-- {
		lengths = fmt.Sprintf("%d, %s", cmp.Or(c.Stages[i].SequenceLength, c.SequenceLength), lengths)
	}
	a.out.note("%s for %s, %s parameters, %d layers, width %d; %s: %s to train on; sequences of %s",
		run.Model.Type(), run.Model.Task(), thousands(run.Trainer.Params.Count()), d.Layers, d.Hidden, run.Corpus.Name, size(run.Corpus.Train), lengths)
	if run.Step() > 0 {
		a.out.note("going on after step %d", run.Step())
	}
	a.out.note("steps to %d, writing %s", target, run.Dir)
}

// size is what a part holds, for people.
func size(p *data.Part) string {
	if files, bytes, ok := p.Stream(); ok {
		return fmt.Sprintf("a stream of %d files with %s", files, megabytes(bytes))
	}
	if _, ok := p.Image(); ok {
		return fmt.Sprintf("%d images", p.Documents())
	}
	if p.Length() > 0 {
		return fmt.Sprintf("%d examples", p.Documents())
	}
	return fmt.Sprintf("%d bytes", p.Bytes())
}

// hooks show the progress of training.
func (a *app) hooks(c train.Config) train.Hooks {
	val := ""
	return train.Hooks{
		Step: func(e train.StepEvent) {
			a.out.event(e)
			if a.training != nil {
				a.training.update(e.Step, fmt.Sprintf("loss %.4f  lr %.2e  |g| %.2f  %s tok/s%s%s%s", e.Loss, e.LR, e.GradNorm, thousands(int64(e.TokensPerS)), stateText(e.State)+policyText(e.Policy), lengthText(e.Length), val))
			}
		},
		Eval: func(e train.EvalEvent) {
			a.out.event(e)
			val = fmt.Sprintf("  val %.3f", e.ValLoss)
			if e.ValBPB != nil {
				val = fmt.Sprintf("  val %.3f bpb", *e.ValBPB)
			} else if e.BitsPerDim != nil {
				val = fmt.Sprintf("  val %.3f bits/dim", *e.BitsPerDim)
			}
			mark := ""
			if e.Best {
				mark = "  (best so far)"
			}
			a.out.note("step %d: validation loss %.4f%s%s", e.Step, e.ValLoss, measures(e.ValBPB, e.BitsPerDim, e.ValAccuracy), mark)
		},
		Warning: func(s string) { a.out.note("warning: %s", strings.TrimSpace(s)) },
	}
}

// lengthText tells people the length of the sequences, where it changes.
func lengthText(t int) string {
	if t == 0 {
		return ""
	}
	return fmt.Sprintf("  T %d", t)
}

// stateText tells people of state that is learned without gradients.
func stateText(metrics map[string]float64) string {
	text := ""
	for _, name := range slices.Sorted(maps.Keys(metrics)) {
		text += fmt.Sprintf("  %s %.3g", strings.ReplaceAll(name, "_", " "), metrics[name])
	}
	return text
}

// measures are those beside the loss that there are.
func measures(bpb, bpd, accuracy *float64) string {
	text := ""
	if bpd != nil {
		text += fmt.Sprintf(", %.4f bits per dimension", *bpd)
	}
	if bpb != nil {
		text += fmt.Sprintf(", %.4f bits per byte", *bpb)
	}
	if accuracy != nil {
		text += ", accuracy " + percent(*accuracy)
	}
	return text
}

// conclude says how it went and what to do next.
func (a *app) conclude(run *train.Run, res train.Result) {
	dir := run.Dir
	if res.Interrupted {
		a.out.text("stopped after step %d, saved in %s; go on with: %s resume %s\n", res.Steps, res.Checkpoint, program(), quoteArg(dir))
		return
	}
	a.out.text("step %d", res.Steps)
	if res.ValLoss != nil {
		a.out.text(": validation loss %.4f%s", *res.ValLoss, measures(res.ValBPB, res.ValBPD, nil))
	}
	if res.TestLoss != nil {
		a.out.text("; test loss %.4f%s", *res.TestLoss, measures(res.TestBPB, res.BitsPerDim, res.TestAcc))
	}
	a.out.text("\n")
	if res.TestBPB != nil && run.Corpus.Name == data.EmbeddedName && run.Model.Task() == "causal_lm" {
		a.out.text("  for comparison, bits per byte of the same test part by compressors that have seen the train part:\n")
		a.out.text("  gzip -9 3.19 (looks 32 kB back), bzip2 -9 2.43 (900 kB); this model looks at most %d bytes back\n", run.Job.Train.SequenceLength)
	}
	a.out.text("checkpoint    %s\n", res.Checkpoint)
}

// dryRun prints what a run would cost.
func (a *app) dryRun(m models.Model, j train.Job) error {
	corpus, err := j.Load(m)
	if err != nil {
		return err
	}
	params, err := models.NewParams(m, tensor.Float32, j.Train.Seed)
	if err != nil {
		return err
	}
	j.Train.Curriculum, j.Train.Stages = nil, nil // what the longest sequences cost
	t, err := train.NewTrainer(m, params, corpus.Train, j.Train)
	if err != nil {
		return err
	}
	plan := t.Graph().Program.Plan()
	flops := plan.TotalFlops() * float64(j.Train.Accumulation())
	moments := 2 * 4 * params.Count()
	type holding struct {
		Bytes int    `json:"bytes"`
		Scope string `json:"scope"`
		Op    string `json:"op"`
	}
	trainBytes, passes := corpus.Train.Bytes(), ""
	if _, onDisk, ok := corpus.Train.Stream(); ok {
		trainBytes = onDisk
	} else {
		passes = fmt.Sprintf(", %.1f times the train part", float64(j.Train.Steps)*float64(j.Train.SequencesPerStep()*j.Train.SequenceLength)/float64(corpus.Train.Tokens()))
	}
	var holding_ []holding
	for _, h := range plan.Holding {
		holding_ = append(holding_, holding{h.Bytes, h.Scope, h.Op})
	}
	a.out.event(map[string]any{"event": "done", "parameters": params.Count(), "flops_per_step": flops, "planned_peak_bytes": plan.Arena,
		"parameter_bytes": 4 * params.Count(), "moment_bytes": moments, "state_bytes": 4 * params.StateCount(), "checkpoint_bytes": 12*params.Count() + 4*params.StateCount(), "nodes": plan.Nodes,
		"train_bytes": trainBytes, "val_bytes": corpus.Val.Bytes(), "test_bytes": corpus.Test.Bytes(), "peak_at": plan.PeakAt, "holding": holding_})
	a.out.text("model         %s, %s parameters (%s), moments %s, a checkpoint %s\n", m.Type(), thousands(params.Count()), megabytes(4*params.Count()), megabytes(moments), megabytes(12*params.Count()+4*params.StateCount()))
	a.out.text("data          %s: %s to train, %s to validate, %s to test\n", corpus.Name, size(corpus.Train), size(corpus.Val), size(corpus.Test))
	tokens := j.Train.SequencesPerStep() * j.Train.SequenceLength
	a.out.text("a step        %d tokens, %.3g GFLOP; %d steps see %s tokens%s\n", tokens, flops/1e9, j.Train.Steps, thousands(int64(j.Train.Steps)*int64(tokens)), passes)
	a.out.text("%s", plan.String())
	return nil
}

// thousands writes a count for people.
func thousands(n int64) string {
	switch {
	case n >= 10_000_000:
		return fmt.Sprintf("%.1fM", float64(n)/1e6)
	case n >= 10_000:
		return fmt.Sprintf("%.1fk", float64(n)/1e3)
	}
	return fmt.Sprint(n)
}

// quoteArg quotes an argument for a shell, if it must be.
func quoteArg(s string) string {
	if s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_-./:=,+@%", r))
	}) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
