// Answer_long teaches a model to point at the answer to a question in a long text, and asks it:
//
//	go run ./docs/examples/answer_long -from my-longformer -data squad.parquet -to my-reader -length 4096
//
// The data are a .jsonl, .csv or .parquet file with the columns question, context and answer, or answers as SQuAD has them. Texts that are longer
// than the model reads are read in windows that overlap.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"

	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/checkpoints"
	"github.com/euryale-ml/euryale/data"
	"github.com/euryale-ml/euryale/models"
	"github.com/euryale-ml/euryale/train"
)

type options struct {
	from, data, run, to          string
	length, stride, steps, batch int
	lr                           float64
}

func main() {
	var o options
	flag.StringVar(&o.from, "from", "", "folder of a Longformer, BigBird or BERT with its tokenizer")
	flag.StringVar(&o.data, "data", "", "questions with their texts and answers")
	flag.StringVar(&o.run, "run", "runs/answer_long", "folder of the training")
	flag.StringVar(&o.to, "to", "reader", "folder to write")
	flag.IntVar(&o.length, "length", 4096, "tokens of a window, with the question")
	flag.IntVar(&o.stride, "stride", 0, "tokens from one window to the next; 0: half of it")
	flag.IntVar(&o.steps, "steps", 3000, "")
	flag.IntVar(&o.batch, "batch", 4, "questions a step")
	flag.Float64Var(&o.lr, "lr", 3e-5, "peak learning rate")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, o, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options, out io.Writer) error {
	from, err := checkpoints.Resolve(o.from)
	if err != nil {
		return err
	}
	defer func() { _ = from.Close() }()
	tok, found, err := data.LoadTokenizer(from.Dir)
	if err != nil {
		return err
	}
	end, ok := int32(0), false
	if found {
		end, ok = data.Special(tok, "[SEP]")
	}
	if !ok {
		return fmt.Errorf("%s has no tokenizer that ends a question", from.Dir)
	}
	var config map[string]any
	if err := json.Unmarshal(from.Config, &config); err != nil {
		return err
	}
	delete(config, "architectures") // task says the same
	config["task"], config["sep_token_id"] = "question_answering", end
	text, err := json.Marshal(config)
	if err != nil {
		return err
	}
	model, err := models.New(text)
	if err != nil {
		return err
	}
	params, _, _, err := models.Start(model, from.Tensors, tensor.Float32, 1)
	if err != nil {
		return err
	}

	job := train.Job{Model: text, Train: train.DefaultConfig(), Data: data.Config{Path: o.data, Objective: "question_answering", DocStride: o.stride}.With(tok)}
	job.Train.Steps, job.Train.BatchSize, job.Train.SequenceLength = o.steps, o.batch, o.length
	job.Train.LR, job.Train.WarmupSteps = o.lr, o.steps/10
	r, err := train.Start(o.run, job, params, train.Options{Hooks: train.Hooks{
		Eval: func(e train.EvalEvent) { fmt.Fprintf(out, "step %d: loss %.3f\n", e.Step, e.ValLoss) },
	}})
	if err != nil {
		return err
	}
	result, err := r.Train(ctx, 0)
	if err = errors.Join(err, r.Close()); err != nil || result.Interrupted {
		return err // what was learnt is saved: train.Resume goes on
	}

	// The questions of the test part: the best span of all windows of a text is the answer.
	best, err := models.Load(o.run, tensor.Float32)
	if err != nil {
		return err
	}
	test := r.Corpus.Test
	e, err := train.NewEvaluator(best, best.Params, test.Shape(o.length), o.batch, o.length)
	if err != nil {
		return err
	}
	score, err := e.Run(ctx, test.PlainWindows(o.length), 0, nil)
	if err != nil {
		return err
	}
	for _, a := range score.Answers.Answers[:min(3, len(score.Answers.Answers))] {
		fmt.Fprintf(out, "answer %q, right %q\n", a.Text, a.Right)
	}
	fmt.Fprintf(out, "test: exact match %.2f, F1 %.2f of %d questions\n", score.Answers.ExactMatch, score.Answers.F1, len(score.Answers.Answers))
	return checkpoints.WriteModel(o.to, best.Source.Config, models.Tensors(best.Params), data.TokenizerFiles(tok))
}
