package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/checkpoints"
	"github.com/euryale-ml/euryale/data"
	"github.com/euryale-ml/euryale/internal/config"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/models"
	"github.com/euryale-ml/euryale/train"
)

func evalCommand(a *app) *cobra.Command {
	var (
		f    evalFlags
		sets []string
	)
	c := &cobra.Command{
		Use:   "eval MODEL",
		Short: "Loss, bits per byte, perplexity and accuracy of a model on text",
		Long: `Eval scores a model: every token once, in windows of train.sequence_length that move on by half a window, so that each is predicted from
at least half a window before it. Without --data that is the test part of the data the model was trained on.

MODEL is a model folder, a run (its best checkpoint) or a checkpoint. --data is a file, folder or .jsonl, all of it, or
train, val or test for a part of the model's own data, or task:NAME for the test part of a synthetic task (whose windows are its examples).

--prefix also predicts that many of the scored tokens (--prefix alone: 256, drawn by train.seed) each from what is before it alone, as generation has
to, and says how much less is known then: prefix_gap nats. It is 0, but for rounding, unless the choice of keys sees the future of a window (routing, lsh,
sinkhorn: inspect tells the causality class).

An encoder-decoder also writes the targets of the first --texts pairs, always the likeliest token: chrf is how near they are (chrF2, 0 to
100), chrf_copy what the sources would get in their place.`,
		Example: examples(
			"eval runs/default", "on the test part",
			"eval runs/default --data val", "on the validation part",
			"eval runs/default --data other.txt", "on another text",
			"eval runs/needle --data 'task:needle(length=512)' --set train.sequence_length=512", "on another task, or longer",
			"eval runs/default --set train.sequence_length=4096", "with longer windows",
			"eval runs/block-local-book --period 128", "also by the place in blocks of 128",
			"eval runs/sac-pointer --samples 5", "edges that are likeliest, and drawn five times",
			"eval runs/default --prefix", "also without the future of each token"),
		Args: exactly(1, "a model: a model folder, a run or a checkpoint"),
	}
	c.Flags().StringVar(&f.data, "data", "test", "a path, task:NAME, or train, val or test of the model's own data")
	c.Flags().IntVar(&f.texts, "texts", 50, "targets that an encoder-decoder writes (0: none)")
	c.Flags().IntVar(&f.period, "period", 0, "also the loss by the place modulo this number of tokens, in eighths: the size of blocks, say")
	c.Flags().IntVar(&f.prefix, "prefix", 0, "also predict this many tokens without anything behind them (--prefix=N; alone: 256)")
	c.Flags().Lookup("prefix").NoOptDefVal = "256"
	c.Flags().IntVar(&f.samples, "samples", 0, "of a model that chooses (predicted edges): also so many evaluations with choices by chance")
	addSet(c, &sets)
	return command(c, func(ctx context.Context, args []string) error { return a.eval(ctx, args[0], f, sets) })
}

// evalFlags are the flags of eval.
type evalFlags struct {
	data                           string
	texts, period, prefix, samples int
}

// evalDone is the last line.
type evalDone struct {
	Event       string                `json:"event"` // "done"
	Split       string                `json:"split"`
	Loss        float64               `json:"loss"`                // nats a token, example or end of an answer; of regression the mean squared error
	BitsPerByte *float64              `json:"bits_per_byte"`       // null where no text is predicted
	Perplexity  *float64              `json:"perplexity"`          // null of regression
	Accuracy    *float64              `json:"accuracy"`            // null of regression
	MacroF1     *float64              `json:"macro_f1,omitempty"`  // of classifiers
	Confusion   train.Confusion       `json:"confusion,omitempty"` // [true][predicted]
	Tokens      int64                 `json:"tokens"`              // scored: tokens, examples, ends of answers, numbers
	Checkpoint  string                `json:"checkpoint"`
	Position    []train.PositionScore `json:"by_position"`                // null where what is scored has no place
	BitsPerTok  *float64              `json:"bits_per_token,omitempty"`   // of masked_lm: bits for each masked token
	BitsPerDim  *float64              `json:"bits_per_dim,omitempty"`     // of images
	MSE         *float64              `json:"mse,omitempty"`              // of regression, of one number
	Exact       *float64              `json:"exact_match,omitempty"`      // of a task, answers and pairs: examples with everything right
	ExactText   *float64              `json:"exact_match_text,omitempty"` // of questions: answers in words that are right
	F1Text      *float64              `json:"f1_text,omitempty"`          // and the F1 of their words
	Depth       []train.DepthScore    `json:"by_depth,omitempty"`         // of a task that hides something
	Offset      []train.PositionScore `json:"by_offset,omitempty"`        // with --period
	ChrF        *float64              `json:"chrf,omitempty"`             // of an encoder-decoder: chrF2 of what it writes, 0 to 100
	ChrFCopy    *float64              `json:"chrf_copy,omitempty"`        // what its sources would get
	Texts       int                   `json:"texts,omitempty"`            // how many texts that is of
	Samples     []sample              `json:"samples,omitempty"`          // with --samples
	*prefixDone                       // with --prefix
}

// prefixDone are tokens that were predicted from their whole windows and again from what is before them alone.
type prefixDone struct {
	Positions     int     `json:"prefix_positions"`
	Loss          float64 `json:"prefix_loss"` // nats a token, nothing behind it
	Whole         float64 `json:"whole_loss"`  // of the same tokens in their whole windows
	Gap           float64 `json:"prefix_gap"`  // the difference
	Accuracy      float64 `json:"prefix_accuracy"`
	WholeAccuracy float64 `json:"whole_accuracy"`
	Largest       float64 `json:"prefix_largest_difference"` // of a token, either way
}

// newEvalDone puts a score into JSON.
func newEvalDone(split, checkpoint string, s train.Score, ofTask bool) evalDone {
	done := evalDone{Event: "done", Split: split, Loss: s.Loss, BitsPerByte: train.Number(s.BitsPerByte()), Perplexity: train.Number(s.Perplexity()),
		Accuracy: train.Number(s.Accuracy()), Tokens: s.Tokens, Checkpoint: checkpoint, Position: s.Position, MSE: train.Number(s.MSE()), BitsPerDim: train.Number(s.BitsPerDim()), Depth: s.Depth, Offset: s.Offset}
	if s.Task == "masked_lm" {
		done.BitsPerTok = train.Number(s.BitsPerToken())
	}
	if ofTask || s.Task == "question_answering" || s.Task == "seq2seq_lm" {
		done.Exact = train.Number(s.ExactMatch())
	}
	if s.Confusion != nil {
		f1 := s.Confusion.MacroF1()
		done.MacroF1, done.Confusion = &f1, s.Confusion
	}
	if a := s.Answers; a != nil {
		done.ExactText, done.F1Text = &a.ExactMatch, &a.F1
	}
	return done
}

// scoreText tells a score to people.
func scoreText(s train.Score) string {
	if !s.Classes() {
		return fmt.Sprintf("mean squared error %.4f", s.MSE())
	}
	text := fmt.Sprintf("loss %.4f", s.Loss)
	if bpb := train.Number(s.BitsPerByte()); bpb != nil {
		text += fmt.Sprintf(", bits per byte %.4f", *bpb)
	}
	if bpd := train.Number(s.BitsPerDim()); bpd != nil {
		text += fmt.Sprintf(", bits per dimension %.4f", *bpd)
	}
	if s.Task == "masked_lm" {
		text += fmt.Sprintf(", bits per masked token %.4f", s.BitsPerToken())
	}
	text += fmt.Sprintf(", perplexity %.3f", s.Perplexity())
	if accuracy := train.Number(s.Accuracy()); accuracy != nil {
		text += ", accuracy " + percent(*accuracy)
	}
	if s.Confusion != nil {
		text += fmt.Sprintf(", macro F1 %.3f", s.Confusion.MacroF1())
	}
	if a := s.Answers; a != nil {
		text += ", exact match in words " + percent(a.ExactMatch) + ", F1 " + percent(a.F1)
	}
	return text
}

func (a *app) eval(ctx context.Context, path string, f evalFlags, sets []string) error {
	if f.texts < 0 || f.period < 0 || f.prefix < 0 {
		return usagef("--texts is %d, --period %d and --prefix %d: give at least 0", f.texts, f.period, f.prefix)
	}
	if f.samples < 0 || f.samples > maxSamples {
		return usagef("--samples is %d: give 0 to %d", f.samples, maxSamples)
	}
	l, err := a.load(path, sets)
	if err != nil {
		return err
	}
	part, err := l.part(f.data)
	if err != nil {
		return err
	}
	c := l.job.Train
	if err := part.CheckWindows(c.SequenceLength); err != nil {
		return err
	}
	if f.prefix == 0 && models.Causality(l.model) == "C0" {
		a.out.note("which keys this model reads depends on later tokens, too (class C0): --prefix tells what that is worth")
	}
	prefixes, err := a.prefixes(ctx, l, part, f.prefix)
	if err != nil {
		return err
	}
	s, err := a.score(ctx, "window", l.model, l.params, part, c, f.period)
	if err != nil {
		return err
	}
	samples, err := a.sampled(ctx, l, part, f.samples)
	if err != nil {
		return err
	}
	_, images := part.Image()
	done := newEvalDone(part.Name, l.dir, s, part.Length() > 0 && !images)
	written, err := a.targets(ctx, l, part, f.texts)
	if err != nil {
		return err
	}
	done.Samples = samples
	if written.Texts > 0 {
		done.ChrF, done.ChrFCopy, done.Texts = &written.ChrF, &written.Copy, written.Texts
	}
	done.prefixDone = prefixes
	a.out.event(done)
	a.out.text("%s, %s part of %s: %d %s\n", l.dir, part.Name, l.dataName(f.data), s.Tokens, s.Unit())
	a.out.text("%s\n", scoreText(s))
	for _, one := range samples {
		a.out.text("by chance: loss %.4f%s\n", one.Loss, accuracyText(one.Accuracy))
	}
	if len(samples) > 0 {
		mean := meanSample(samples)
		a.out.text("mean of %d: loss %.4f%s\n", len(samples), mean.Loss, accuracyText(mean.Accuracy))
	}
	for _, b := range s.Position {
		a.out.text("  after %6d to %6d tokens of the window: loss %.4f (%d tokens)\n", b.From, b.To-1, b.Loss, b.Tokens)
	}
	for _, b := range s.Offset {
		a.out.text("  at %6d to %6d of the period: loss %.4f (%d tokens)\n", b.From, b.To-1, b.Loss, b.Tokens)
	}
	if p := done.prefixDone; p != nil {
		a.out.text("%d tokens from what is before them alone: loss %.4f, accuracy %s; in whole windows %.4f, %s: the future tells %.4f nats a token (the most of one: %.2g)\n",
			p.Positions, p.Loss, percent(p.Accuracy), p.Whole, percent(p.WholeAccuracy), p.Gap, p.Largest)
	}
	if done.Exact != nil {
		a.out.text("exact match %s of %d examples\n", percent(*done.Exact), s.Examples)
	}
	if done.ChrF != nil {
		a.out.text("chrF2 %.2f of %d texts that it wrote, %.2f of their sources\n", *done.ChrF, done.Texts, *done.ChrFCopy)
	}
	for _, d := range s.Depth {
		a.out.text("  at %3.0f to %3.0f %% of the length: accuracy %s, exact match %s (%d examples)\n", 100*d.From, 100*d.To, percent(d.Accuracy), percent(d.Exact), d.Examples)
	}
	return nil
}

// prefixes predicts tokens without what is behind them; nil for none of them.
func (a *app) prefixes(ctx context.Context, l *loaded, part *data.Part, n int) (*prefixDone, error) {
	if n == 0 {
		return nil, nil
	}
	p := a.out.startProgress("token", 0, n)
	defer a.out.endProgress()
	s, err := train.PrefixEval(ctx, l.model, l.params, part, l.job.Train.SequenceLength, n, l.job.Train.Seed, func(done, _ int) { p.update(done, "") })
	if err != nil {
		return nil, err
	}
	return &prefixDone{s.Positions, s.Prefix, s.Whole, s.Gap(), s.PrefixAccuracy, s.WholeAccuracy, s.Worst}, nil
}

// targets lets an encoder-decoder write targets of a part.
func (a *app) targets(ctx context.Context, l *loaded, part *data.Part, texts int) (train.TextScore, error) {
	m, ok := l.model.(models.Seq2Seq)
	if !ok || texts == 0 {
		return train.TextScore{}, nil
	}
	tok, err := l.tokenizer()
	if err != nil {
		return train.TextScore{}, err
	}
	t := l.job.Train.SequenceLength
	w := train.Windows(m.Task(), part, t)
	n := 0
	p := a.out.startProgress("text", 0, min(texts, w.Len()))
	defer a.out.endProgress()
	return train.WriteTargets(ctx, m, l.params, w, part.Shape(t), tok, texts, train.Decoding{}, func(train.Written) {
		n++
		p.update(n, "")
	})
}

// loaded is a model with its weights and the job that made it, as far as that is known.
type loaded struct {
	dir    string
	model  models.Model
	params *layers.Params
	job    train.Job
	run    bool // the job is that of the model's own run

	tokenizerErr error // why the tokenizer beside the model cannot be used
}

// load opens MODEL and applies --set. The sequence length is no longer than the model allows, unless it is set.
func (a *app) load(path string, sets []string) (*loaded, error) {
	src, err := checkpoints.Resolve(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = src.Close() }()
	if src.Report != nil && src.Report.String() != "" {
		a.out.note("%s", src.Report)
	}
	_, j, run := runOf(src)
	j.Model = src.Config
	if err := config.Set(&j, sets...); err != nil {
		return nil, &config.FileError{Name: "--set", Err: err}
	}
	fitLength(&j, sets)
	m, err := j.Check()
	if err != nil {
		if len(sets) == 0 {
			err = &config.FileError{Name: filepath.Join(src.Dir, "config.json"), Err: err}
		}
		return nil, err
	}
	params, err := models.Weights(m, src.Tensors, tensor.Float32)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", src.Dir, err)
	}
	j.Resolve(m)
	terr := withTokenizer(&j, src.Dir)
	return &loaded{src.Dir, m, params, j, run, terr}, nil
}

// withTokenizer gives the data of a job the tokenizer that lies beside a model, if one does.
func withTokenizer(j *train.Job, dir string) error {
	tok, found, err := data.LoadTokenizer(dir)
	if err == nil && found {
		j.Data = j.Data.With(tok)
	}
	return err
}

// tokenizer is the one that the model was trained with, as far as this program has it.
func (l *loaded) tokenizer() (data.Tokenizer, error) {
	if l.tokenizerErr != nil {
		return nil, l.tokenizerErr
	}
	tok, err := l.job.Data.NewTokenizer()
	if err == nil && !l.run {
		err = foreign(l.dir, l.model, tok)
	}
	return tok, err
}

// foreign refuses a model folder whose vocabulary is not that of the tokenizer: it was trained on other tokens. Ids that no text has, such as those
// that round a vocabulary up, are fine where the tokenizer came with the model.
func foreign(dir string, m models.Model, tok data.Tokenizer) error {
	_, own := tok.(*data.Pretrained)
	if v := m.Dims().Vocab; v != tok.VocabSize() && !(own && v > tok.VocabSize()) {
		return fmt.Errorf("%s: the model has a vocabulary of %d, the tokenizer %q %d: they do not belong together (predict and verify take token ids)",
			dir, v, tok.Name(), tok.VocabSize())
	}
	return nil
}

// part loads what --data names.
func (l *loaded) part(spec string) (*data.Part, error) {
	if strings.HasPrefix(spec, "task:") {
		return l.task(spec)
	}
	j, own := l.job, slices.Contains(data.PartNames, spec)
	if !own {
		j.Data = j.Data.Spec(spec)
		j.Resolve(l.model)
	}
	if err := j.CheckObjective(l.model); err != nil {
		return nil, err
	}
	if _, err := l.tokenizer(); err != nil {
		return nil, err
	}
	if !own {
		return data.LoadWhole(j.Data)
	}
	corpus, err := data.Load(j.Data)
	if err != nil {
		return nil, err
	}
	part, ok := corpus.Part(spec)
	if !ok {
		return nil, errors.New("no part " + spec)
	}
	if _, _, streamed := part.Stream(); streamed {
		return nil, fmt.Errorf("%s: the train part is a stream, which is not scored as a whole: give val, test, or a file with --data", j.Data.Source())
	}
	return part, nil
}

// task loads a task, whatever the model was trained on, if its ids are some of the model's.
func (l *loaded) task(spec string) (*data.Part, error) {
	c := l.job.Data.Spec(spec)
	c.Tokenizer = ""
	tok, err := c.NewTokenizer()
	if err != nil {
		return nil, err
	}
	part, err := data.LoadWhole(c)
	if err == nil {
		err = train.Fits(l.model, tok, part.Shape(part.Length()))
	}
	return part, err
}

func (l *loaded) dataName(spec string) string {
	if !slices.Contains(data.PartNames, spec) {
		return spec
	}
	return l.job.Data.Source()
}
