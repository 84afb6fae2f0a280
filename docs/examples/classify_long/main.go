// Classify_long teaches a model that reads long documents to tell their classes:
//
//	go run ./docs/examples/classify_long -from my-longformer -data letters.csv -to my-classifier -length 4096
//
// The data are a .jsonl, .csv or .parquet file with the columns text and label. With -lora only narrow matrices and the new head learn.
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
	"strconv"

	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/checkpoints"
	"github.com/euryale-ml/euryale/data"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/models"
	"github.com/euryale-ml/euryale/train"
)

type options struct {
	from, data, run, to        string
	length, steps, batch, lora int
	lr                         float64
}

func main() {
	var o options
	flag.StringVar(&o.from, "from", "", "folder of a Longformer, BigBird or BERT with its tokenizer")
	flag.StringVar(&o.data, "data", "", "documents with their classes")
	flag.StringVar(&o.run, "run", "runs/classify_long", "folder of the training")
	flag.StringVar(&o.to, "to", "classifier", "folder to write")
	flag.IntVar(&o.length, "length", 4096, "tokens of a document that are read")
	flag.IntVar(&o.steps, "steps", 1000, "")
	flag.IntVar(&o.batch, "batch", 8, "documents a step")
	flag.IntVar(&o.lora, "lora", 0, "rank of LoRA; 0: everything learns")
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
	if !found {
		return fmt.Errorf("%s has no tokenizer", from.Dir)
	}

	// The classes are those of the data; the model gets a head for them, its other weights are those of the folder.
	documents := data.Config{Path: o.data, Objective: "sequence_classification"}.With(tok)
	corpus, err := data.Load(documents)
	if err != nil {
		return err
	}
	names := map[string]string{}
	for i, class := range corpus.Classes {
		names[strconv.Itoa(i)] = class
	}
	config, err := changed(from.Config, map[string]any{"task": "sequence_classification", "id2label": names})
	if err != nil {
		return err
	}
	model, err := models.New(config)
	if err != nil {
		return err
	}
	params, fresh, _, err := models.Start(model, from.Tensors, tensor.Float32, 1)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%d classes; new: %v\n", len(corpus.Classes), fresh)

	job := train.Job{Model: config, Train: train.DefaultConfig(), Data: documents}
	job.Train.Steps, job.Train.BatchSize, job.Train.SequenceLength = o.steps, o.batch, o.length
	job.Train.LR, job.Train.WarmupSteps, job.Train.EarlyStopPatience = o.lr, o.steps/10, 3
	if o.lora > 0 {
		job.Train.LoRA = &train.LoRA{LoRA: layers.LoRA{Rank: o.lora}, TargetModules: []string{"query", "value"}}
	}
	r, err := train.Start(o.run, job, params, train.Options{Hooks: train.Hooks{
		Eval: func(e train.EvalEvent) {
			fmt.Fprintf(out, "step %d: loss %.3f, accuracy %.2f\n", e.Step, e.ValLoss, *e.ValAccuracy)
		},
	}})
	if err != nil {
		return err
	}
	result, err := r.Train(ctx, 0)
	if err = errors.Join(err, r.Close()); err != nil || result.Interrupted {
		return err // what was learnt is saved: train.Resume goes on
	}

	// The best checkpoint, on documents that it has not seen. Changes of LoRA are added to the weights when they are loaded.
	best, err := models.Load(o.run, tensor.Float32)
	if err != nil {
		return err
	}
	e, err := train.NewEvaluator(best, best.Params, corpus.Test.Shape(o.length), o.batch, o.length)
	if err != nil {
		return err
	}
	score, err := e.Run(ctx, corpus.Test.PlainWindows(o.length), 0, nil)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "test: accuracy %.2f of %d documents\n", score.Accuracy(), score.Tokens)
	return checkpoints.WriteModel(o.to, best.Source.Config, models.Tensors(best.Params), data.TokenizerFiles(tok))
}

// changed is a config.json with other values of some keys.
func changed(config []byte, keys map[string]any) ([]byte, error) {
	var all map[string]any
	if err := json.Unmarshal(config, &all); err != nil {
		return nil, err
	}
	for key, v := range keys {
		all[key] = v
	}
	delete(all, "architectures") // task says the same
	return json.Marshal(all)
}
