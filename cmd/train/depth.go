package main

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/data"
	"github.com/euryale-ml/euryale/models"
	"github.com/euryale-ml/euryale/train"
)

// depths are the numbers of layers of bench --depth.
var depths = []int{2, 4, 8, 16, 32}

// memories are the ways to keep, or not to keep, activations. every:c has c = sqrt(layers), of which what is stored and what a block holds are alike.
var memories = []struct {
	name, residual string
	recompute      func(layers int) string
}{
	{"none", "plain", always("none")},
	{"cheap", "plain", always("cheap")},
	{"block", "plain", always("block")},
	{"every:c", "plain", everyRoot},
	{"reversible", "reversible", always("cheap")},
	{"reversible every:c", "reversible", everyRoot},
}

func always(s string) func(int) string { return func(int) string { return s } }

func everyRoot(layers int) string {
	return fmt.Sprintf("every:%d", max(2, int(math.Round(math.Sqrt(float64(layers))))))
}

// depthLine is a training step of so many layers that keeps activations in one way.
type depthLine struct {
	Variant   string  `json:"variant"`
	T         int     `json:"T"`
	Layers    int     `json:"layers"`
	Memory    string  `json:"memory"` // its name in the table
	Recompute string  `json:"recompute"`
	Residual  string  `json:"residual"`
	PlanMB    float64 `json:"plan_mb"`    // memory that the plan has for results
	OutputsMB float64 `json:"outputs_mb"` // of that the gradients of the weights, and losses
	ChosenMB  float64 `json:"chosen_mb"`  // whole numbers in use at once: what was chosen by content
	PassingMB float64 `json:"passing_mb"` // the rest in use at once: activations and their gradients
	Time      float64 `json:"time_s_med"`
	TimeRatio float64 `json:"time_ratio"` // to keeping everything
}

// depthDone is the last line: how much of each kind a further layer costs.
type depthDone struct {
	Event  string             `json:"event"`        // "done"
	Growth map[string]float64 `json:"growth"`       // passing_mb of the most layers by that of 4
	Slope  map[string]float64 `json:"slope_to_all"` // MB of passing_mb a layer, by that of keeping everything
}

// depth plans and times training steps of more and more layers, all ways of keeping activations in turn.
func (a *app) depth(ctx context.Context, f benchFlags, ownLength bool) error {
	if !ownLength {
		f.length = 1024
	}
	f.sets = append([]string{"model.hidden_size=128", "model.intermediate_size=512"}, f.sets...)
	passing := map[string][]float64{}
	a.out.text("%-6s %-20s %10s %10s %10s %10s %12s %6s\n", "layers", "memory", "plan MB", "weights MB", "chosen MB", "passing MB", "s a step", "ratio")
	p := a.out.startProgress("measurement", 0, len(depths)*len(memories)*(f.steps+1))
	defer a.out.endProgress()
	done := 0
	for _, n := range depths {
		var trainers []*train.Trainer
		for _, m := range memories {
			t, err := f.ofDepth(n, m.residual, m.recompute(n))
			if err != nil {
				return err
			}
			trainers = append(trainers, t)
		}
		times := make([][]float64, len(memories))
		for step := range f.steps + 1 {
			for i, t := range trainers {
				if err := ctx.Err(); err != nil {
					return err
				}
				start := time.Now()
				if _, err := t.Step(); err != nil {
					return err
				}
				if step > 0 { // the first is warm-up
					times[i] = append(times[i], time.Since(start).Seconds())
				}
				done++
				p.update(done, "")
			}
		}
		for i, m := range memories {
			slices.Sort(times[i])
			plan, mb := trainers[i].Graph().Program.Plan(), func(bytes int) float64 { return round(float64(bytes)/(1<<20), 3) }
			line := depthLine{f.variant, f.length, n, m.name, m.recompute(n), m.residual, mb(plan.Arena), mb(plan.Outputs), mb(plan.Whole), mb(plan.Passing),
				round(median(times[i]), 4), round(median(times[i])/median(times[0]), 3)}
			passing[m.name] = append(passing[m.name], line.PassingMB)
			a.out.event(line)
			a.out.text("%-6d %-20s %10.1f %10.1f %10.1f %10.1f %12.4f %6.2f\n", n, m.name, line.PlanMB, line.OutputsMB, line.ChosenMB, line.PassingMB, line.Time, line.TimeRatio)
		}
	}
	end := depthDone{"done", map[string]float64{}, map[string]float64{}}
	last, four := len(depths)-1, slices.Index(depths, 4)
	rise := func(name string) float64 { return passing[name][last] - passing[name][0] }
	for _, m := range memories {
		end.Growth[m.name] = round(passing[m.name][last]/passing[m.name][four], 3)
		end.Slope[m.name] = round(rise(m.name)/rise("none"), 4)
		a.out.text("%-20s passing MB of %d layers are %.2f times those of 4; a layer costs %.1f %% of what it does when everything is kept\n", m.name, depths[last], end.Growth[m.name], 100*end.Slope[m.name])
	}
	a.out.event(end)
	return nil
}

// ofDepth is a trainer of so many layers on random tokens.
func (f benchFlags) ofDepth(layers int, residual, recompute string) (*train.Trainer, error) {
	f.sets = append(slices.Clone(f.sets), fmt.Sprintf("model.num_hidden_layers=%d", layers), "model.residual="+residual, "train.recompute="+recompute)
	j, err := f.job()
	if err != nil {
		return nil, err
	}
	m, err := j.Check()
	if err != nil {
		return nil, err
	}
	params, err := models.NewParams(m, tensor.Float32, j.Train.Seed)
	if err != nil {
		return nil, err
	}
	docs := make([][]int32, j.Train.SequencesPerStep())
	for d := range docs {
		docs[d] = randomTokens(j.Train.SequenceLength+1, m.Dims().Vocab, uint64(d))
	}
	return train.NewTrainer(m, params, data.FromTokens("random tokens", docs...), j.Train)
}
