// Classify_long teaches a model that reads long documents to tell their classes:
//
//	go run ./docs/examples/classify_long -from my-longformer -data letters.csv -to my-classifier -length 4096
//
// The data are a .jsonl, .csv or .parquet file with the columns text and label. With -lora only narrow matrices and the new head learn. A BERT that is
// to read more than its positions is made a Longformer first: euryale import my-bert my-longformer --to longformer --extend-positions 4096.
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
	"strings"

	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/checkpoints"
	"github.com/euryale-ml/euryale/data"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/models"
	"github.com/euryale-ml/euryale/train"
)

type options struct {
	from, data, path, run, to          string
	length, layers, steps, batch, lora int
	evals                              int
	targets                            string
	lr                                 float64
	seed                               uint64
}

func main() {
	var o options
	flag.StringVar(&o.from, "from", "", "folder of a Longformer, BigBird or BERT with its tokenizer")
	flag.StringVar(&o.data, "data", "", "documents with their classes; or task:excerpt(...), of those of -path")
	flag.StringVar(&o.path, "path", "", "what a task takes its texts from")
	flag.StringVar(&o.run, "run", "runs/classify_long", "folder of the training")
	flag.StringVar(&o.to, "to", "classifier", "folder to write")
	flag.IntVar(&o.length, "length", 4096, "tokens of a document that are read")
	flag.IntVar(&o.steps, "steps", 1000, "")
	flag.IntVar(&o.batch, "batch", 8, "documents a step")
	flag.IntVar(&o.layers, "layers", 0, "layers that are kept, from the first; 0: all")
	flag.IntVar(&o.evals, "evals", 4, "evaluations during the training, of which the best counts")
	flag.IntVar(&o.lora, "lora", 0, "rank of LoRA; 0: everything learns")
	flag.StringVar(&o.targets, "targets", "*.encoder.layer.*", "weights that LoRA changes, those of them that are matrices: patterns with commas between")
	flag.Float64Var(&o.lr, "lr", 3e-5, "peak learning rate")
	flag.Uint64Var(&o.seed, "seed", 1, "of the new head, the order of the documents and dropout")
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
	documents := data.Config{Path: o.path, Objective: "sequence_classification"}.Spec(o.data).With(tok)
	corpus, err := data.Load(documents)
	if err != nil {
		return err
	}
	classes := corpus.Test.Shape(o.length).Classes
	names := map[string]string{}
	for i := range classes {
		names[strconv.Itoa(i)] = fmt.Sprint("class ", i)
		if i < len(corpus.Classes) { // a task has none
			names[strconv.Itoa(i)] = corpus.Classes[i]
		}
	}
	keys := map[string]any{"task": "sequence_classification", "id2label": names}
	if old, err := models.New(from.Config); err == nil && old.Type() == "encoder" { // ours, which knows no names
		keys = map[string]any{"task": "sequence_classification", "num_labels": classes}
	}
	config, err := changed(from.Config, keys)
	if err != nil {
		return err
	}
	model, err := models.New(config)
	if err != nil {
		return err
	}
	params, fresh, _, err := models.Start(model, from.Tensors, tensor.Float32, o.seed)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%d classes; new: %v\n", classes, fresh)
	if o.layers > 0 {
		if config, params, err = shallow(config, params, o.layers); err != nil {
			return err
		}
	}

	job := train.Job{Model: config, Train: train.DefaultConfig(), Data: documents}
	job.Train.Steps, job.Train.BatchSize, job.Train.SequenceLength = o.steps, o.batch, o.length
	job.Train.LR, job.Train.WarmupSteps, job.Train.WeightDecay, job.Train.Seed = o.lr, o.steps/10, 0.01, o.seed
	job.Train.EvalEvery = max(1, o.steps/max(1, o.evals))
	job.Train.SaveEvery = job.Train.EvalEvery
	if o.lora > 0 {
		job.Train.LoRA = &train.LoRA{LoRA: layers.LoRA{Rank: o.lora}, TargetModules: strings.Split(o.targets, ",")}
	}
	r, err := train.Start(o.run, job, params, train.Options{Hooks: train.Hooks{
		Eval: func(e train.EvalEvent) {
			fmt.Fprintf(out, "step %d: loss %.3f, accuracy %.3f\n", e.Step, e.ValLoss, *e.ValAccuracy)
		},
	}})
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%d of %d weights learn\n", params.Trainable(), params.Count())
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
	fmt.Fprintf(out, "test: accuracy %.3f of %d documents\n", score.Accuracy(), score.Tokens)
	return checkpoints.WriteModel(o.to, best.Source.Config, models.Tensors(best.Params), data.TokenizerFiles(tok))
}

// shallow keeps the first layers of a model, and its head.
func shallow(config []byte, params *layers.Params, n int) ([]byte, *layers.Params, error) {
	config, err := changed(config, map[string]any{"num_hidden_layers": n})
	if err != nil {
		return nil, nil, err
	}
	model, err := models.New(config)
	if err != nil {
		return nil, nil, err
	}
	kept, err := models.NewParams(model, tensor.Float32, 1)
	if err != nil {
		return nil, nil, err
	}
	for _, p := range kept.All() {
		whole, ok := params.Get(p.Name)
		if !ok {
			return nil, nil, fmt.Errorf("the model has fewer than %d layers", n)
		}
		if err := kept.Load(p.Name, whole.Value); err != nil {
			return nil, nil, err
		}
	}
	return config, kept, nil
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
