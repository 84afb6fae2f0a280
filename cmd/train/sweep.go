package main

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/data"
	"github.com/euryale-ml/euryale/models"
	"github.com/euryale-ml/euryale/train"
)

// sweptSystem is a system whose cost is measured, as a model of width 64 and two heads for a length.
type sweptSystem struct {
	name  string
	claim float64 // exponent of the attention's time in the length
	model func(n int) string
}

// swept are the systems of bench --sweep, of one layer each.
var swept = []sweptSystem{
	{"full", 2, sweptDecoder(`{"type":"full"}`)},
	{"band", 1, sweptDecoder(`{"type":"band","window_left":127}`)},
	{"dilated", 1, sweptDecoder(`{"type":"dilated","left_steps":127,"gap":4}`)},
	{"random", 1, sweptEncoder(`{"type":"random","degree":3,"block_size":64}`)},
	{"block_local", 1, sweptDecoder(`{"type":"blocks","block_size":128}`)},
	{"global", 1, sweptEncoder(`{"type":"pattern","pattern":"band(32,32) + global(0,1,2,3)"}`)},
	{"longformer", 1, sweptEncoder(`{"type":"longformer","window_left":64,"window_right":64,"global_positions":[0]}`)},
	{"big_bird", 1, sweptEncoder(`{"type":"big_bird","block_size":32}`)},
	{"sparse_strided", 1.5, sweptRoot(`{"type":"sparse_strided","stride":%d}`)},
	{"sparse_fixed", 1.5, sweptRoot(`{"type":"sparse_fixed","stride":%d,"summary":4}`)},
	{"cross_block", 1.5, func(n int) string {
		return sweptEncoder(fmt.Sprintf(`{"type":"cross_block","block_size":%d}`, isqrt(n)))(n)
	}},
	{"sinkhorn", 1.5, sweptRoot(`{"type":"sinkhorn","block_size":%d}`)},
	{"sortcut", 1, sweptEncoder(`{"type":"sortcut","block_size":64,"slots":2}`)},
	{"routing", 1.5, func(n int) string { // as many clusters as tokens of each
		return sweptDecoder(fmt.Sprintf(`{"type":"routing","num_clusters":%d,"window":%d}`, isqrt(n), isqrt(n)))(n)
	}},
	{"routing_recent", 1.5, func(n int) string {
		return sweptDecoder(fmt.Sprintf(`{"type":"routing","num_clusters":%d,"window":%d,"membership":"recent"}`, isqrt(n), isqrt(n)))(n)
	}},
	{"reformer", 1, sweptDecoder(`{"type":"lsh","chunk":32,"num_hashes":2}`)},
	{"reformer_one_factor", 1, func(n int) string { // the number of buckets as one factor: what hashing costs then is the square of the length
		return sweptDecoder(fmt.Sprintf(`{"type":"lsh","chunk":32,"num_hashes":2,"bucket_factors":[%d]}`, max(2, 2*n/32)))(n)
	}},
	{"reformer_bucket_recent", 1, sweptDecoder(`{"type":"lsh","chunk":32,"num_hashes":2,"plan":"bucketRecent"}`)},
	{"star_transformer", 1, func(n int) string {
		return fmt.Sprintf(`{"model_type":"star_transformer","task":"token_classification","num_labels":16,%s,"max_position_embeddings":%d}`, sweptSizes, n)
	}},
	{"etc", 1, func(n int) string {
		return fmt.Sprintf(`{"model_type":"etc","task":"token_classification","num_labels":16,%s,"max_position_embeddings":%d,"local_radius":64,"num_globals":16}`, sweptSizes, n)
	}},
	{"bp_transformer", 1.1, func(n int) string {
		return fmt.Sprintf(`{"model_type":"bp_transformer",%s,"max_position_embeddings":%d,"k":4}`, sweptSizes, n)
	}},
}

const sweptSizes = `"vocab_size":16,"hidden_size":64,"intermediate_size":64,"num_hidden_layers":1,"num_attention_heads":2`

func sweptDecoder(entry string) func(n int) string {
	return sweptSkeleton("decoder", "causal_lm", entry)
}
func sweptEncoder(entry string) func(n int) string {
	return sweptSkeleton("encoder", "masked_lm", entry)
}

func sweptSkeleton(kind, task, entry string) func(n int) string {
	return func(n int) string {
		return fmt.Sprintf(`{"model_type":%q,"task":%q,%s,"max_position_embeddings":%d,"attention":[%s]}`, kind, task, sweptSizes, n, entry)
	}
}

// sweptRoot fills √n into an entry of a decoder.
func sweptRoot(entry string) func(n int) string {
	return func(n int) string { return sweptDecoder(fmt.Sprintf(entry, isqrt(n)))(n) }
}

func isqrt(n int) int { return int(math.Sqrt(float64(n))) }

// systemLine is the cost of a training step of a system at a length.
type systemLine struct {
	System        string  `json:"system"`
	T             int     `json:"T"`
	Time          float64 `json:"time_s_med"`
	AttentionTime float64 `json:"attention_time_s_med"` // of the operations of attention alone, forward and backward
	PlanMB        float64 `json:"plan_mb"`              // memory that the plan has for results
	GFLOP         float64 `json:"gflop"`
	Attention     float64 `json:"attention_gflop"`
	SelectionTime float64 `json:"selection_time_s_med"` // of what chooses keys by content
	Selection     float64 `json:"selection_gflop"`
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
	Claim         float64 `json:"claim"` // of the literature, for the attention's time
}

// sweepSystems measures every system, or with --pixels those of images, at five lengths up to --length.
func (a *app) sweepSystems(ctx context.Context, f benchFlags) error {
	if f.length < 16*16 || f.steps < 1 {
		return usagef("--length is %d and --steps %d: a sweep wants at least 256, and 1", f.length, f.steps)
	}
	if len(f.sets) > 0 {
		return usagef("--set changes the model of one variant, and --sweep without --variant measures others: give --variant too")
	}
	systems := swept
	var lengths []int
	for n := f.length / 16; n <= f.length; n *= 2 {
		lengths = append(lengths, n)
	}
	if f.pixels {
		systems, lengths = sweptPixels, pixelsUpTo(f.length)
	}
	a.out.text("%-24s %8s %12s %12s %12s %10s %10s\n", "system", "T", "step s", "attention s", "selection s", "plan MiB", "GFLOP")
	for _, s := range systems {
		var lines []systemLine
		for _, n := range lengths {
			line, err := sweepOne(ctx, s.name, s.model(n), n, f.steps)
			if err != nil {
				return err
			}
			lines = append(lines, line)
			a.out.event(line)
			a.out.text("%-24s %8d %12.5f %12.5f %12.5f %10.2f %10.3f\n", s.name, n, line.Time, line.AttentionTime, line.SelectionTime, line.PlanMB, line.GFLOP)
		}
		last := lines[len(lines)-3:]
		of := func(y func(systemLine) float64) float64 {
			return round(slope(last, func(l systemLine) (float64, float64) { return float64(l.T), y(l) }), 3)
		}
		done := systemDone{Event: "exponents", System: s.name, Time: of(func(l systemLine) float64 { return l.Time }), AttentionTime: of(func(l systemLine) float64 { return l.AttentionTime }),
			Memory: of(func(l systemLine) float64 { return l.PlanMB }), FLOP: of(func(l systemLine) float64 { return l.GFLOP }),
			Attention: of(func(l systemLine) float64 { return l.Attention }), Claim: s.claim}
		if last[0].SelectionTime > 0 {
			done.SelectionTime = of(func(l systemLine) float64 { return l.SelectionTime })
		}
		if last[0].Selection > 0 {
			done.Selection = of(func(l systemLine) float64 { return l.Selection })
		}
		a.out.event(done)
		a.out.text("%-24s time T^%.2f, of attention T^%.2f (claim %g); memory T^%.2f; operations T^%.2f, of attention T^%.2f\n\n", s.name, done.Time, done.AttentionTime, done.Claim,
			done.Memory, done.FLOP, done.Attention)
		if last[0].SelectionTime > 0 {
			a.out.text("%-24s selection: time T^%.2f, operations T^%.2f\n\n", s.name, done.SelectionTime, done.Selection)
		}
	}
	a.out.event(map[string]any{"event": "done", "systems": len(systems)})
	return nil
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
			if ofAttention(row.Name) {
				spent += row.Time.Seconds()
			}
			if ofSelection(row.Name) {
				chosen += row.Time.Seconds()
			}
		}
		attention, selection = append(attention, spent), append(selection, chosen)
	}
	slices.Sort(whole)
	slices.Sort(attention)
	slices.Sort(selection)
	plan := program.Plan()
	for op, flops := range plan.Flops {
		if ofAttention(op) {
			line.Attention += flops / 1e9
		}
		if ofSelection(op) {
			line.Selection += flops / 1e9
		}
	}
	line.Time, line.AttentionTime, line.SelectionTime = median(whole), median(attention), median(selection)
	line.PlanMB, line.GFLOP = float64(plan.Arena)/(1<<20), plan.TotalFlops()/1e9
	return line, program.Close()
}

// ofAttention tells which operations are those of attention itself, not the maps around it.
func ofAttention(op string) bool {
	return strings.HasPrefix(op, "attention") || strings.HasPrefix(op, "attend") || strings.HasPrefix(op, "ring") || strings.HasPrefix(op, "merge") ||
		strings.HasPrefix(op, "sinkhorn") || strings.HasPrefix(op, "mix_blocks") || strings.HasPrefix(op, "head_scores") || strings.HasPrefix(op, "pool_blocks") || strings.HasPrefix(op, "mean_of_slots")
}

// selecting are the operations that choose keys by what tokens say: without a gradient, and apart from attention in the tables of costs.
var selecting = []string{"rotations", "hash", "sort_buckets", "recent_keys", "nearest_cluster", "cluster_scores", "cluster_members", "members_of", "recent_members",
	"found_keys", "candidates", "top_keys", "sac_rollout", "sac_edges"}

func ofSelection(op string) bool { return slices.Contains(selecting, op) }
