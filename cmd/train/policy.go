package main

import (
	"context"
	"fmt"

	"github.com/euryale-ml/euryale/data"
	"github.com/euryale-ml/euryale/train"
)

// maxSamples bounds --samples.
const maxSamples = 256

// sample is an evaluation with choices by chance.
type sample struct {
	Loss     float64  `json:"loss"`
	Accuracy *float64 `json:"accuracy"`
}

// sampled evaluates a model that chooses so many times by chance.
func (a *app) sampled(ctx context.Context, l *loaded, part *data.Part, draws int) ([]sample, error) {
	if draws == 0 {
		return nil, nil
	}
	c := l.job.Train
	e, err := train.NewSampledEvaluator(l.model, l.params, part.Shape(c.SequenceLength), c.BatchSize, c.SequenceLength, c.Seed)
	if err != nil {
		return nil, usagef("--samples: %v", err)
	}
	w := train.Windows(l.model.Task(), part, c.SequenceLength)
	p := a.out.startProgress("sample", 0, draws)
	defer a.out.endProgress()
	var all []sample
	for e.Draw = 1; e.Draw <= draws; e.Draw++ {
		s, err := e.Run(ctx, w, 0, nil)
		if err != nil {
			return nil, err
		}
		all = append(all, sample{s.Loss, train.Number(s.Accuracy())})
		p.update(e.Draw, "")
	}
	return all, nil
}

// meanSample is the mean of some.
func meanSample(all []sample) (mean sample) {
	for _, s := range all {
		n := float64(len(all))
		mean.Loss += s.Loss / n
		if s.Accuracy != nil {
			if mean.Accuracy == nil {
				mean.Accuracy = new(float64)
			}
			*mean.Accuracy += *s.Accuracy / n
		}
	}
	return mean
}

func accuracyText(accuracy *float64) string {
	if accuracy == nil {
		return ""
	}
	return ", accuracy " + percent(*accuracy)
}

// policyText tells what choices were worth, for the status line.
func policyText(e *train.PolicyEvent) string {
	if e == nil {
		return ""
	}
	return fmt.Sprintf("  reward %.3f of %.3f  entropy %.2f", e.Reward, e.Baseline, e.Entropy)
}
