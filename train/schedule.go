package train

import (
	"maps"
	"math"
	"slices"
)

// shape is a schedule after warm-up: i is the step, counted from 1; total and warmup as in Config. It returns the part of the
// peak rate.
type shape func(c Config, i float64) float64

// schedules follow the functions of Hugging Face's optimization.py (golden case blocks/lr_schedules_*), with a floor:
// min_lr_ratio + (1 - min_lr_ratio) * value. rsqrt is the decay of T5 and Reformer: 1/sqrt(max(i, warmup)), which is lr itself
// times that, so lr is usually about 1 there.
var schedules = map[string]shape{
	"constant": func(Config, float64) float64 { return 1 },
	"linear":   func(c Config, i float64) float64 { return 1 - progress(c, i) },
	"cosine": func(c Config, i float64) float64 {
		return max(0, 0.5*(1+math.Cos(2*math.Pi*c.NumCycles*progress(c, i))))
	},
	"polynomial": func(c Config, i float64) float64 { return math.Pow(1-progress(c, i), c.Power) },
	"inverse_sqrt": func(c Config, i float64) float64 {
		w := float64(c.WarmupSteps)
		if w == 0 {
			w = 10000
			return 1 / math.Sqrt((i+w)/w)
		}
		return 1 / math.Sqrt(i/w)
	},
	"rsqrt": func(c Config, i float64) float64 { return 1 / math.Sqrt(max(i, float64(c.WarmupSteps), 1)) },
}

// ScheduleNames lists the schedules in order of the alphabet.
func ScheduleNames() []string { return slices.Sorted(maps.Keys(schedules)) }

// progress goes from 0 at the end of warm-up to 1 at the last step, and stays there.
func progress(c Config, i float64) float64 {
	w := float64(c.WarmupSteps)
	return min(1, max(0, (i-w)/max(1, float64(c.Steps)-w)))
}

// LearningRate returns the rate of a step; the first step is 1. A stage may have another peak, the schedule runs on. It depends on nothing but the config, so resuming, stopping
// early and training past train.steps (where the rate stays at its floor) change nothing before.
func (c Config) LearningRate(step int) float64 {
	if k := c.stage(step); k < len(c.Stages) && c.Stages[k].LR > 0 {
		c.LR = c.Stages[k].LR
	}
	i := float64(step)
	warm := 1.0
	if step < c.WarmupSteps {
		warm = i / float64(c.WarmupSteps)
	}
	if c.Schedule == "rsqrt" {
		return c.LR * warm * max(c.MinLRRatio, schedules[c.Schedule](c, i))
	}
	if step < c.WarmupSteps {
		return c.LR * warm
	}
	return c.LR * (c.MinLRRatio + (1-c.MinLRRatio)*schedules[c.Schedule](c, i))
}
