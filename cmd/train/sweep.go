package main

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"slices"
	"time"

	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/data"
	"github.com/euryale-ml/euryale/models"
	"github.com/euryale-ml/euryale/train"
)

// systemLine is the cost of a training step of a system at a length.
type systemLine struct {
	System        string  `json:"system"`
	T             int     `json:"T"`
	Time          float64 `json:"time_s_med"`
	AttentionTime float64 `json:"attention_time_s_med"` // of the operations of attention alone, forward and backward
	PlanMB        float64 `json:"plan_mb"`              // memory that the plan has for results
	GFLOP         float64 `json:"gflop"`
	Attention     float64 `json:"attention_gflop"`
	SelectionTime float64 `json:"selection_time_s_med"` // of what chooses keys by content, or makes them
	Selection     float64 `json:"selection_gflop"`

	// Of the fastest step, which other work on the machine disturbs least: by these exponents are fitted.
	TimeMin          float64 `json:"time_s_min"`
	AttentionTimeMin float64 `json:"attention_time_s_min"`
	SelectionTimeMin float64 `json:"selection_time_s_min"`
}

// systemDone are the exponents of a system over the last three lengths.
type systemDone struct {
	Event         string  `json:"event"` // "exponents"
	System        string  `json:"system"`
	Time          float64 `json:"time_exponent"`
	AttentionTime float64 `json:"attention_time_exponent"`
	Memory        float64 `json:"memory_exponent"`
	FLOP          float64 `json:"flop_exponent"`
	Attention     float64 `json:"attention_flop_exponent"`
	SelectionTime float64 `json:"selection_time_exponent,omitempty"`
	Selection     float64 `json:"selection_flop_exponent,omitempty"`
	TotalTime     float64 `json:"total_time_exponent"` // of attention and selection together
	Total         float64 `json:"total_flop_exponent"`
	Claim         float64 `json:"claim"`                     // of the literature, for the attention
	SelectClaim   float64 `json:"selection_claim,omitempty"` // for the selection, if anything is

	// Whether exponents are within claimTolerance of the claims.
	Within          bool  `json:"attention_time_within"`
	WithinFLOP      bool  `json:"attention_flop_within"`
	SelectionWithin *bool `json:"selection_time_within,omitempty"`
	SelectionFLOP   *bool `json:"selection_flop_within,omitempty"`
}

// claimTolerance is how far an exponent may be from what is claimed.
const claimTolerance = 0.15

func within(exponent, claim float64) bool { return math.Abs(exponent-claim) <= claimTolerance }

// sweepSystems measures every system, or with --pixels those of images, at five lengths each: up to --length if it is asked for.
func (a *app) sweepSystems(ctx context.Context, f benchFlags, asked bool) error {
	if f.length < 16*16 || f.steps < 1 || f.threads < 0 {
		return usagef("--length is %d, --steps %d and --threads %d: a sweep wants at least 256, 1 and 0", f.length, f.steps, f.threads)
	}
	if len(f.sets) > 0 {
		return usagef("--set changes the model of one variant, and --sweep without --variant measures others: give --variant too")
	}
	if f.threads > 0 {
		runtime.GOMAXPROCS(f.threads)
	}
	systems := swept
	if f.pixels {
		systems = sweptPixels
	}
	a.out.text("%-24s %8s %12s %12s %12s %10s %10s\n", "system", "T", "step s", "attention s", "selection s", "plan MiB", "GFLOP")
	for _, s := range systems {
		lengths := s.lengths()
		switch {
		case f.pixels:
			lengths = pixelsUpTo(f.length)
		case asked:
			lengths = doublings(f.length)
		}
		var lines []systemLine
		for _, n := range lengths {
			line, err := sweepOne(ctx, s.name, s.model(n), n, f.steps)
			if err != nil {
				return err
			}
			lines = append(lines, line)
			a.out.event(line)
			a.out.text("%-24s %8d %12.5f %12.5f %12.5f %10.2f %10.3f\n", s.name, n, line.TimeMin, line.AttentionTimeMin, line.SelectionTimeMin, line.PlanMB, line.GFLOP)
		}
		done := s.exponents(lines)
		a.out.event(done)
		a.out.text("%s\n", done)
	}
	a.out.event(map[string]any{"event": "done", "systems": len(systems)})
	return nil
}

// exponents are fitted over the last three lengths.
func (s sweptSystem) exponents(lines []systemLine) systemDone {
	last := lines[len(lines)-3:]
	of := func(y func(systemLine) float64) float64 {
		return round(slope(last, func(l systemLine) (float64, float64) { return float64(l.T), y(l) }), 3)
	}
	d := systemDone{Event: "exponents", System: s.name, Time: of(func(l systemLine) float64 { return l.TimeMin }),
		AttentionTime: of(func(l systemLine) float64 { return l.AttentionTimeMin }), Memory: of(func(l systemLine) float64 { return l.PlanMB }),
		FLOP: of(func(l systemLine) float64 { return l.GFLOP }), Attention: of(func(l systemLine) float64 { return l.Attention }),
		TotalTime: of(func(l systemLine) float64 { return l.AttentionTimeMin + l.SelectionTimeMin }),
		Total:     of(func(l systemLine) float64 { return l.Attention + l.Selection }), Claim: s.claim, SelectClaim: s.selection}
	d.Within, d.WithinFLOP = within(d.AttentionTime, s.claim), within(d.Attention, s.claim)
	verdict := func(exponent float64) *bool {
		if s.selection == 0 {
			return nil
		}
		ok := within(exponent, s.selection)
		return &ok
	}
	if last[0].SelectionTimeMin > 0 {
		d.SelectionTime = of(func(l systemLine) float64 { return l.SelectionTimeMin })
		d.SelectionWithin = verdict(d.SelectionTime)
	}
	if last[0].Selection > 0 {
		d.Selection = of(func(l systemLine) float64 { return l.Selection })
		d.SelectionFLOP = verdict(d.Selection)
	}
	return d
}

// String is what people read of it.
func (d systemDone) String() string {
	s := fmt.Sprintf("%-24s step: time T^%.2f, memory T^%.2f, operations T^%.2f\n", d.System, d.Time, d.Memory, d.FLOP)
	s += fmt.Sprintf("%-24s attention: time T^%.2f, operations T^%.2f, claim %g; within %g of it: time %s, operations %s\n", d.System, d.AttentionTime, d.Attention, d.Claim,
		claimTolerance, yes(&d.Within), yes(&d.WithinFLOP))
	if d.SelectionTime == 0 {
		return s
	}
	s += fmt.Sprintf("%-24s selection: time T^%.2f, operations T^%.2f", d.System, d.SelectionTime, d.Selection)
	if d.SelectClaim > 0 {
		s += fmt.Sprintf(", claim %g; within %g of it: time %s, operations %s", d.SelectClaim, claimTolerance, yes(d.SelectionWithin), yes(d.SelectionFLOP))
	}
	return s + fmt.Sprintf("\n%-24s attention and selection together: time T^%.2f, operations T^%.2f\n", d.System, d.TotalTime, d.Total)
}

// yes is a verdict in words; nil: nothing was counted.
func yes(ok *bool) string {
	switch {
	case ok == nil:
		return "not counted"
	case *ok:
		return "yes"
	}
	return "no"
}

// sweepOne times training steps of a model on random tokens.
func sweepOne(ctx context.Context, name, model string, n, steps int) (systemLine, error) {
	line := systemLine{System: name, T: n}
	j := train.DefaultJob()
	j.Model, j.Train.SequenceLength, j.Train.BatchSize = []byte(model), n, 1
	m, err := j.Check()
	if err != nil {
		return line, err
	}
	params, err := models.NewParams(m, tensor.Float32, 1)
	if err != nil {
		return line, err
	}
	t, err := train.NewTrainer(m, params, data.FromTokens("random tokens", randomTokens(n+1, m.Dims().Vocab, 1)), j.Train)
	if err != nil {
		return line, fmt.Errorf("%s, length %d: %w", name, n, err)
	}
	program := t.Graph().Program
	var whole, attention, selection []float64
	for i := range steps + 1 {
		if err := ctx.Err(); err != nil {
			return line, err
		}
		program.SetProfile(true)
		start := time.Now()
		if _, err := t.Step(); err != nil {
			return line, fmt.Errorf("%s, length %d: %w", name, n, err)
		}
		if i == 0 { // warm-up
			continue
		}
		whole = append(whole, time.Since(start).Seconds())
		spent, chosen := 0.0, 0.0
		for _, row := range program.Profile().ByOp {
			switch {
			case ofAttention(row.Name):
				spent += row.Time.Seconds()
			case ofSelection(row.Name):
				chosen += row.Time.Seconds()
			}
		}
		attention, selection = append(attention, spent), append(selection, chosen)
	}
	plan := program.Plan()
	for op, flops := range plan.Flops {
		switch {
		case ofAttention(op):
			line.Attention += flops / 1e9
		case ofSelection(op):
			line.Selection += flops / 1e9
		}
	}
	slices.Sort(whole)
	slices.Sort(attention)
	slices.Sort(selection)
	line.Time, line.AttentionTime, line.SelectionTime = median(whole), median(attention), median(selection)
	line.TimeMin, line.AttentionTimeMin, line.SelectionTimeMin = whole[0], attention[0], selection[0]
	line.PlanMB, line.GFLOP = float64(plan.Arena)/(1<<20), plan.TotalFlops()/1e9
	return line, program.Close()
}
