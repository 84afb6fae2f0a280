package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/data"
	"github.com/euryale-ml/euryale/internal/config"
	"github.com/euryale-ml/euryale/internal/kernels"
	"github.com/euryale-ml/euryale/models"
	"github.com/euryale-ml/euryale/train"
)

// variants are the attentions that bench builds for a window of w keys: each as the entry of config.json that stands in a decoder, or,
// where the peers time another kind of model, as all of that.
var variants = []struct {
	name, peer string // the peers' name, if it is another
	entry      func(w int) string
	model      func(f *benchFlags) string
}{
	{"full", "dense", func(int) string { return `{"type":"full"}` }, nil},
	{"band", "band", func(w int) string { return fmt.Sprintf(`{"type":"band","window_left":%d}`, w-1) }, nil},
	{"longformer", "longformer", nil, peerLongformer},
	{"bigbird", "bigbird", nil, peerBigBird},
	{"reformer", "reformer", nil, peerReformer},
	{"routing", "routing", nil, peerRouting},
	{"sinkhorn", "sinkhorn", func(w int) string { return fmt.Sprintf(`{"type":"sinkhorn","block_size":%d}`, max(w/2, 1)) }, nil},
}

// peerLongformer is an encoder with half of the window on each side and no global token.
func peerLongformer(f *benchFlags) string {
	return fmt.Sprintf(`{"model_type":"longformer","task":"masked_lm","vocab_size":%d,"hidden_size":256,"num_hidden_layers":4,"num_attention_heads":4,
		"intermediate_size":1024,"attention_window":%d,"max_position_embeddings":%d,"type_vocab_size":1,"hidden_dropout_prob":0,"attention_probs_dropout_prob":0}`,
		f.vocab, f.window, f.length+2)
}

// peerBigBird is an encoder with blocks of 64: three of the window, three random ones, the first and the last; the window is not asked for.
func peerBigBird(f *benchFlags) string {
	return fmt.Sprintf(`{"model_type":"big_bird","task":"masked_lm","vocab_size":%d,"hidden_size":256,"num_hidden_layers":4,"num_attention_heads":4,
		"intermediate_size":1024,"block_size":64,"num_random_blocks":3,"max_position_embeddings":%d,"type_vocab_size":1,"hidden_dropout_prob":0,
		"attention_probs_dropout_prob":0}`, f.vocab, f.length)
}

// peerReformer is a causal Reformer: four layers of hashing in two rounds, chunks of 64 that read the one before, 2T/64 buckets, axial positions.
func peerReformer(f *benchFlags) string {
	chunks := (f.length + 63) / 64
	buckets := fmt.Sprint(2 * chunks)
	if 2*chunks > 128 { // two factors, as the library makes them
		a := 1
		for a*a < 2*chunks {
			a *= 2
		}
		buckets = fmt.Sprintf("[%d,%d]", a, max(2, 2*chunks/a))
	}
	return fmt.Sprintf(`{"model_type":"reformer","task":"causal_lm","is_decoder":true,"vocab_size":%d,"hidden_size":256,"num_attention_heads":4,
		"attention_head_size":64,"feed_forward_size":1024,"attn_layers":["lsh","lsh","lsh","lsh"],"num_hashes":2,"lsh_attn_chunk_length":64,"num_buckets":%s,
		"axial_pos_shape":[64,%d],"axial_pos_embds_dim":[64,192],"max_position_embeddings":%d,"hidden_act":"gelu","hidden_dropout_prob":0}`,
		f.vocab, buckets, chunks, 64*chunks)
}

// peerRouting is a decoder with two local heads, blocks of the window that read the one before, and two routed ones: as many clusters of that
// many tokens as there is room for, queries and keys apart.
func peerRouting(f *benchFlags) string {
	return string(f.decoder(fmt.Sprintf(`{"type":"heads","parts":[{"heads":2,"attention":{"type":"overlap_block","block_size":%d,"overlap_left":%d}},
		{"heads":2,"attention":{"type":"routing","num_clusters":%d,"window":%d,"shared_qk":false}}]}`, f.window, f.window, max(1, f.length/f.window), f.window)))
}

// benchLine is the result of a measurement; the fields are those of the peers' bench.py.
type benchLine struct {
	Variant    string  `json:"variant"`
	Impl       string  `json:"impl"` // "euryale"
	T          int     `json:"T"`
	TimeMin    float64 `json:"time_s_min"`
	TimeMed    float64 `json:"time_s_med"`
	PeakMB     float64 `json:"peak_mb"` // largest resident set of the process, MiB, nothing subtracted
	TokensPerS float64 `json:"tokens_per_s"`
}

// benchFlags are the flags of bench.
type benchFlags struct {
	variant                               string
	length, steps, threads, window, vocab int
	sweep, pixels, depth                  bool
	sets                                  []string
}

func benchCommand(a *app) *cobra.Command {
	var f benchFlags
	c := &cobra.Command{
		Use:   "bench",
		Short: "Time and memory of a training step",
		Long: `Bench times a full training step (forward, backward, AdamW) of the model that the PyTorch comparison builds: batch 1, width 256, 4 layers, 4 heads,
feed-forward 1024 with GELU, sinusoidal positions, untied head, random tokens. Encoders (longformer, bigbird) are those of Hugging Face, with a label at every token.
After one warm-up step it times --steps of them.
peak_mb is the largest resident set of the process.

--sweep with --variant measures lengths of 1,024 to 16,384, each in a process of its own, and fits the exponents of time and memory over the
last three. --sweep without it does so for every system, as one layer of width 64 with two heads at five lengths, by the clock (the fastest of
the steps), by the memory that the plan has and by the operations that it counts: those of attention, and apart from them those of selection,
which chooses keys by what tokens say, or makes them (sorting and mixing of blocks). It ends by saying whether attention and selection keep to
what is claimed of them within 0.15. Lengths are 1,024 to 16,384; 4,096 to 65,536 where a row or a block of the square root of the length is
to fill a tile of 64, and where costs begin to grow late; 64 to 1,024 of sac, which chooses one edge after the other. --length is the largest
of all of them instead. On a machine that is busy otherwise --threads 1 is steadier. With --pixels it is systems of images, square ones of up to --length pixels (give 65536, so that rows are whole tiles).

--depth plans and times steps of 2 to 32 layers, of width 128 and 1,024 tokens unless they are set, for every way of keeping activations: none (all are
kept), cheap, block, every:c, reversible. passing_mb is what is in use at once besides gradients of weights and what was chosen by content.`,
		Example: examples(
			"bench --variant band --length 16384", "the default",
			"bench --variant band --length 65536 --set train.recompute=block", "with less memory",
			"bench --sweep --variant dense", "how it grows with the length",
			"bench --sweep", "how every system grows",
			"bench --depth --variant band", "memory and time by the number of layers",
			"bench --sweep --pixels --length 65536", "how those of images grow"),
		Args: cobra.NoArgs,
	}
	fl := c.Flags()
	fl.StringVar(&f.variant, "variant", "band", "attention: "+variantNames())
	fl.IntVar(&f.length, "length", 16384, "tokens of the sequence")
	fl.IntVar(&f.steps, "steps", 5, "timed steps")
	fl.IntVar(&f.threads, "threads", 0, "workers (default: all cores)")
	fl.IntVar(&f.window, "window", 256, "keys a query of a windowed variant reads, itself included")
	fl.IntVar(&f.vocab, "vocab", 256, "size of the vocabulary")
	fl.BoolVar(&f.sweep, "sweep", false, "measure several lengths and fit exponents")
	fl.BoolVar(&f.pixels, "pixels", false, "with --sweep: the systems of images, in their pixels")
	fl.BoolVar(&f.depth, "depth", false, "measure several numbers of layers, and every way of keeping activations")
	addSet(c, &f.sets)
	return command(c, func(ctx context.Context, _ []string) error {
		switch {
		case f.pixels && (!f.sweep || c.Flags().Changed("variant")):
			return usagef("--pixels is for --sweep without --variant: it measures the systems of images")
		case f.depth && f.sweep:
			return usagef("--depth and --sweep exclude each other")
		case f.depth:
			return a.depth(ctx, f, c.Flags().Changed("length"))
		case f.sweep && c.Flags().Changed("variant"):
			return a.sweep(ctx, f)
		case f.sweep:
			return a.sweepSystems(ctx, f, c.Flags().Changed("length"))
		}
		return a.bench(ctx, f)
	})
}

func variantNames() string {
	var names []string
	for _, v := range variants {
		if v.peer != v.name {
			names = append(names, v.name+" (or "+v.peer+")")
		} else {
			names = append(names, v.name)
		}
	}
	return strings.Join(names, ", ")
}

// decoder is the decoder of the comparison with an attention.
func (f *benchFlags) decoder(entry string) []byte {
	return fmt.Appendf(nil, `{"model_type":"decoder","task":"causal_lm","vocab_size":%d,"hidden_size":256,"intermediate_size":1024,
		"num_hidden_layers":4,"num_attention_heads":4,"max_position_embeddings":%d,"position_embedding_type":"sinusoidal","hidden_act":"gelu",
		"layer_norm_eps":1e-5,"tie_word_embeddings":false,"attention":[%s]}`, f.vocab, f.length, entry)
}

// job is the model and training of the comparison.
func (f *benchFlags) job() (train.Job, error) {
	for _, n := range []struct {
		name       string
		value, min int
	}{{"length", f.length, 1}, {"steps", f.steps, 1}, {"threads", f.threads, 0}, {"window", f.window, 1}, {"vocab", f.vocab, 3}} {
		if n.value < n.min {
			return train.Job{}, usagef("--%s is %d: give at least %d", n.name, n.value, n.min)
		}
	}
	i := 0
	for i < len(variants) && variants[i].name != f.variant && variants[i].peer != f.variant {
		i++
	}
	if i == len(variants) {
		return train.Job{}, usagef("--variant is %q: give %s", f.variant, variantNames())
	}
	j := train.DefaultJob()
	if v := variants[i]; v.model != nil {
		j.Model = []byte(v.model(f))
	} else {
		j.Model = f.decoder(v.entry(f.window))
	}
	j.Train = train.DefaultConfig()
	j.Train.SequenceLength, j.Train.LR, j.Train.Schedule, j.Train.WarmupSteps, j.Train.GradClip, j.Train.AdamBeta2 = f.length, 1e-4, "constant", 0, 0, 0.999
	if err := config.Set(&j, f.sets...); err != nil {
		return j, &config.FileError{Name: "--set", Err: err}
	}
	return j, nil
}

func (a *app) bench(ctx context.Context, f benchFlags) error {
	j, err := f.job()
	if err != nil {
		return err
	}
	m, err := j.Check()
	if err != nil {
		return err
	}
	if f.threads > 0 {
		runtime.GOMAXPROCS(f.threads)
	}
	params, err := models.NewParams(m, tensor.Float32, j.Train.Seed)
	if err != nil {
		return err
	}
	docs := make([][]int32, j.Train.SequencesPerStep())
	for d := range docs {
		docs[d] = randomTokens(j.Train.SequenceLength+1, m.Dims().Vocab, uint64(d))
	}
	t, err := train.NewTrainer(m, params, data.FromTokens("random tokens", docs...), j.Train)
	if err != nil {
		return err
	}
	p := a.out.startProgress("step", 0, f.steps+1)
	times := make([]float64, 0, f.steps)
	loss := 0.0
	for i := range f.steps + 1 {
		if err := ctx.Err(); err != nil {
			return err
		}
		start := time.Now()
		e, err := t.Step()
		if err != nil {
			return err
		}
		loss = e.Loss
		if i > 0 { // the first is warm-up
			times = append(times, time.Since(start).Seconds())
		}
		p.update(i+1, "")
	}
	a.out.endProgress()
	slices.Sort(times)
	tokens := float64(j.Train.SequencesPerStep() * j.Train.SequenceLength)
	line := benchLine{f.variant, "euryale", j.Train.SequenceLength, round(times[0], 4), round(median(times), 4), round(peakMiB(), 1), round(tokens/times[0], 1)}
	a.out.event(line)
	plan := t.Graph().Program.Plan()
	a.out.text("%s, T=%d: %.4f s a step (median %.4f), %.0f tokens/s, peak %.1f MiB\n", line.Variant, line.T, line.TimeMin, line.TimeMed, line.TokensPerS, line.PeakMB)
	a.out.text("%s kernels, %d workers, %d parameters, %.1f GFLOP/s, loss %.3f; planned results %.1f MiB\n", kernels.Set(), kernels.Workers(), params.Count(),
		plan.TotalFlops()*float64(j.Train.Accumulation())/times[0]/1e9, loss, float64(plan.Arena)/(1<<20))
	return nil
}

// randomTokens are ids from 2 on.
func randomTokens(n, vocab int, seed uint64) []int32 {
	r := rand.New(rand.NewPCG(1, seed))
	ids := make([]int32, n)
	for i := range ids {
		ids[i] = 2 + r.Int32N(int32(vocab-2))
	}
	return ids
}

// sweepLengths are those of bench --sweep.
var sweepLengths = []int{1024, 2048, 4096, 8192, 16384}

// sweepLine is the last line of a sweep.
type sweepLine struct {
	Event          string  `json:"event"` // "done"
	Variant        string  `json:"variant"`
	TimeExponent   float64 `json:"time_exponent"`
	MemoryExponent float64 `json:"memory_exponent"`
}

// sweep measures each length in a process of its own, because the peak of a process cannot be set back.
func (a *app) sweep(ctx context.Context, f benchFlags) error {
	j, err := f.job()
	if err != nil {
		return err
	}
	if _, err := j.Check(); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("cannot find this program to start it again: %w", err)
	}
	var lines []benchLine
	for _, length := range sweepLengths {
		args := []string{"bench", "--json", "--variant", f.variant, "--length", fmt.Sprint(length), "--steps", fmt.Sprint(f.steps),
			"--threads", fmt.Sprint(f.threads), "--window", fmt.Sprint(f.window), "--vocab", fmt.Sprint(f.vocab)}
		for _, s := range f.sets {
			args = append(args, "--set", s)
		}
		cmd := exec.CommandContext(ctx, self, args...)
		var problems bytes.Buffer
		cmd.Stderr = &problems
		text, err := cmd.Output()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return fmt.Errorf("length %d: %w: %s", length, err, strings.TrimSpace(problems.String()))
		}
		var line benchLine
		if err := json.Unmarshal(text, &line); err != nil {
			return fmt.Errorf("length %d: %w", length, err)
		}
		lines = append(lines, line)
		a.out.event(line)
		a.out.text("%-8s T=%-6d %8.4f s  %8.1f MiB  %8.0f tokens/s\n", line.Variant, line.T, line.TimeMin, line.PeakMB, line.TokensPerS)
	}
	last := lines[len(lines)-3:]
	done := sweepLine{"done", f.variant, round(exponent(last, func(l benchLine) float64 { return l.TimeMin }), 3),
		round(exponent(last, func(l benchLine) float64 { return l.PeakMB }), 3)}
	a.out.event(done)
	a.out.text("time grows as T^%.2f, memory as T^%.2f (over the last three)\n", done.TimeExponent, done.MemoryExponent)
	return nil
}

// exponent is the slope of log y over log T.
func exponent(lines []benchLine, y func(benchLine) float64) float64 {
	return slope(lines, func(l benchLine) (float64, float64) { return float64(l.T), y(l) })
}

// slope is that of log y over log x by least squares.
func slope[L any](lines []L, of func(L) (x, y float64)) float64 {
	var sx, sy, sxx, sxy float64
	n := float64(len(lines))
	for _, l := range lines {
		x, y := of(l)
		u, v := math.Log(x), math.Log(y)
		sx, sy, sxx, sxy = sx+u, sy+v, sxx+u*u, sxy+u*v
	}
	return (n*sxy - sx*sy) / (n*sxx - sx*sx)
}

// median of sorted numbers.
func median(x []float64) float64 { return (x[(len(x)-1)/2] + x[len(x)/2]) / 2 }

func round(x float64, digits int) float64 {
	p := math.Pow(10, float64(digits))
	return math.Round(x*p) / p
}
