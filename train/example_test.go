package train_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/data"
	"github.com/euryale-ml/euryale/models"
	"github.com/euryale-ml/euryale/train"
)

// smallJob trains a small model on the embedded book.
func smallJob() train.Job {
	j := train.DefaultJob()
	j.Model = []byte(`{"model_type": "decoder", "vocab_size": 256, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
		"attention": [{"type": "band", "window_left": 15}]}`)
	j.Train.Steps, j.Train.BatchSize, j.Train.SequenceLength = 4, 2, 32
	j.Train.EvalEvery, j.Train.EvalBatches, j.Train.SaveEvery = 2, 3, 2
	return j
}

// A run trains, evaluates and saves in a folder; hooks are told of each step. It goes on to the bit where it was stopped.
func ExampleStart() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "text.txt")
	text := ""
	for i := range 400 {
		text += fmt.Sprintf("Line %d of a text.\n", i)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		log.Fatal(err)
	}
	job := smallJob()
	job.Data = data.Config{Path: path}
	hooks := train.Hooks{
		Step:  func(e train.StepEvent) { fmt.Println("step", e.Step) },
		Eval:  func(e train.EvalEvent) { fmt.Println("evaluated at", e.Step, e.ValLoss < 6) },
		Saved: func(step int, _ string) { fmt.Println("saved", step) },
	}
	run, err := train.Start(filepath.Join(dir, "run"), job, nil, train.Options{Hooks: hooks})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := run.Train(context.Background(), 2); err != nil { // two of four
		log.Fatal(err)
	}
	if err := run.Close(); err != nil {
		log.Fatal(err)
	}
	run, err = train.Resume(filepath.Join(dir, "run"), nil, train.Options{Hooks: hooks})
	if err != nil {
		log.Fatal(err)
	}
	result, err := run.Train(context.Background(), 0)
	if err != nil {
		log.Fatal(err)
	}
	if err := run.Close(); err != nil {
		log.Fatal(err)
	}
	fmt.Println(result.Steps, "steps in", filepath.Base(result.Checkpoint))
	// Output:
	// step 1
	// step 2
	// evaluated at 2 true
	// saved 2
	// step 3
	// step 4
	// evaluated at 4 true
	// saved 4
	// 4 steps in step-00000004
}

// A loop of one's own: a trainer makes steps and knows nothing of files.
func ExampleNewTrainer() {
	job := smallJob()
	m, err := job.Check()
	if err != nil {
		log.Fatal(err)
	}
	corpus, err := job.Load(m)
	if err != nil {
		log.Fatal(err)
	}
	params, err := models.NewParams(m, tensor.Float32, job.Train.Seed)
	if err != nil {
		log.Fatal(err)
	}
	trainer, err := train.NewTrainer(m, params, corpus.Train, job.Train)
	if err != nil {
		log.Fatal(err)
	}
	var first, last float64
	for i := range 20 {
		e, err := trainer.Step()
		if err != nil {
			log.Fatal(err)
		}
		if i == 0 {
			first = e.Loss
		}
		last = e.Loss
	}
	fmt.Println(trainer.Adam.Step, "steps, less loss:", last < first)

	evaluator, err := train.NewEvaluator(m, params, corpus.Val.Shape(32), 8, 32)
	if err != nil {
		log.Fatal(err)
	}
	score, err := evaluator.Run(context.Background(), corpus.Val.PlainWindows(32), 4, nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(score.Tokens, "tokens, better than chance:", score.BitsPerByte() < 8)
	// Output:
	// 20 steps, less loss: true
	// 1024 tokens, better than chance: true
}
