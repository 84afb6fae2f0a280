// Pretrain_long makes a long model of a short BERT or RoBERTa and goes on with its pre-training, hidden tokens, on texts of your own:
//
//	go run ./docs/examples/pretrain_long -from bert-base-uncased -data books/ -to my-longformer -positions 4096 -steps 3000
//
// The folder that it writes opens in Python, too.
package main

import (
	"context"
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
	from, data, run, to             string
	positions, window, steps, batch int
	lr                              float64
}

func main() {
	var o options
	flag.StringVar(&o.from, "from", "", "folder of a BERT or RoBERTa with its tokenizer")
	flag.StringVar(&o.data, "data", "", "texts: a file or a folder of them")
	flag.StringVar(&o.run, "run", "runs/pretrain_long", "folder of the training")
	flag.StringVar(&o.to, "to", "long", "folder to write")
	flag.IntVar(&o.positions, "positions", 4096, "tokens that it shall read")
	flag.IntVar(&o.window, "window", 512, "keys that a token reads")
	flag.IntVar(&o.steps, "steps", 3000, "")
	flag.IntVar(&o.batch, "batch", 1, "texts a step")
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
	// The long model: windows of attention, positions past the old ones repeat these.
	short, err := checkpoints.Resolve(o.from)
	if err != nil {
		return err
	}
	model, params, _, err := models.Convert(short, models.Conversion{To: "longformer", AttentionWindow: o.window, Positions: o.positions}, tensor.Float32)
	if err = errors.Join(err, short.Close()); err != nil {
		return err
	}
	tok, found, err := data.LoadTokenizer(short.Dir)
	if err != nil {
		return err
	}
	if !found {
		return fmt.Errorf("%s has no tokenizer", short.Dir)
	}
	config, err := model.Config()
	if err != nil {
		return err
	}

	// The training: all settings of train.Config and data.Config are those of a job's file, see docs/formats.md.
	job := train.Job{Model: config, Train: train.DefaultConfig(), Data: data.Config{Path: o.data, Objective: "masked_lm"}.With(tok)}
	job.Train.Steps, job.Train.BatchSize, job.Train.SequenceLength = o.steps, o.batch, o.positions
	job.Train.LR, job.Train.WarmupSteps, job.Train.AdamBeta2 = o.lr, o.steps/10, 0.98
	r, err := train.Start(o.run, job, params, train.Options{Hooks: train.Hooks{
		Eval: func(e train.EvalEvent) {
			fmt.Fprintf(out, "step %d: %.3f nats a hidden token\n", e.Step, e.ValLoss)
		},
		Warning: func(s string) { fmt.Fprintln(out, "warning:", s) },
	}})
	if err != nil {
		return err
	}
	result, err := r.Train(ctx, 0)
	if err = errors.Join(err, r.Close()); err != nil || result.Interrupted {
		return err // what was learnt is saved: train.Resume goes on
	}

	// The best checkpoint becomes a folder as the first one was.
	best, err := models.Load(o.run, tensor.Float32)
	if err != nil {
		return err
	}
	if err := checkpoints.WriteModel(o.to, best.Source.Config, models.Tensors(best.Params), data.TokenizerFiles(tok)); err != nil {
		return err
	}
	fmt.Fprintf(out, "%s: %s with %d parameters for %d tokens\n", o.to, best.Type(), best.Params.Count(), o.positions)
	return nil
}
