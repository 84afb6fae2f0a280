package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/euryale-ml/euryale/data"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/models"
	"github.com/euryale-ml/euryale/train"
)

// maxPrompt bounds what is read from standard input.
const maxPrompt = 64 << 20

// generateFlags are the flags of generate.
type generateFlags struct {
	prompt    string
	maxTokens int
	sampling  train.Sampling
	sets      []string
}

func generateCommand(a *app) *cobra.Command {
	var f generateFlags
	c := &cobra.Command{
		Use:   "generate MODEL",
		Short: "Write text with a model",
		Long: `Generate continues a prompt and streams the text. The same seed gives the same text.

The memory of a long text is what the attention patterns of the model can still reach, no more.`,
		Example: examples(
			"generate runs/default --prompt 'Call me '", "continue a line",
			"generate runs/default --temperature 0.5 --max-new-tokens 1000", "safer and longer",
			"generate runs/default --prompt - < start.txt", "the prompt from standard input"),
		Args: exactly(1, "a model: a model folder, a run or a checkpoint"),
	}
	fl := c.Flags()
	fl.StringVar(&f.prompt, "prompt", "\n", "text to continue; - reads it from standard input")
	fl.IntVar(&f.maxTokens, "max-new-tokens", 256, "tokens to write")
	fl.Float64Var(&f.sampling.Temperature, "temperature", 0.8, "0 always takes the likeliest token; above 1 is wilder than what was learned")
	fl.IntVar(&f.sampling.TopK, "top-k", 0, "draw from the k likeliest tokens only (0: all)")
	fl.Float64Var(&f.sampling.TopP, "top-p", 0, "draw from the likeliest tokens that together have this probability (0: all)")
	fl.Uint64Var(&f.sampling.Seed, "seed", 1, "seed of the draws")
	addSet(c, &f.sets)
	return command(c, func(ctx context.Context, args []string) error { return a.generate(ctx, args[0], f) })
}

func (a *app) generate(ctx context.Context, path string, f generateFlags) error {
	if f.maxTokens < 1 {
		return usagef("--max-new-tokens is %d: give at least 1", f.maxTokens)
	}
	if err := f.sampling.Validate(); err != nil {
		return &usageError{err}
	}
	l, err := a.load(path, f.sets)
	if err != nil {
		return err
	}
	tok, err := l.tokenizer()
	if err != nil {
		return err
	}
	prompt := f.prompt
	if prompt == "-" {
		text, err := io.ReadAll(io.LimitReader(a.in, maxPrompt))
		if err != nil {
			return fmt.Errorf("standard input: %w", err)
		}
		prompt = string(text)
	}
	if prompt == "" {
		return usagef("the prompt is empty: give at least one character, or leave --prompt out")
	}
	a.out.text("%s", prompt)
	w := &writer{out: a.out}
	start := time.Now()
	n, err := write(ctx, l.model, l.params, tok, prompt, f.maxTokens, f.sampling, w.token)
	w.flush()
	a.out.text("\n")
	if err != nil {
		return err
	}
	a.out.event(map[string]any{"event": "done", "tokens": n, "text": w.all.String(), "tokens_per_s": float64(n) / time.Since(start).Seconds()})
	a.out.note("%d tokens, %.0f a second", n, float64(n)/time.Since(start).Seconds())
	return nil
}

// write continues a prompt and hands on each token's text. It returns how many it wrote.
func write(ctx context.Context, m models.Model, params *layers.Params, tok data.Tokenizer, prompt string, n int, s train.Sampling, token func(string)) (int, error) {
	causal, ok := m.(models.Causal)
	if !ok {
		return 0, fmt.Errorf("a model of type %s for %s does not write text; use a causal_lm", m.Type(), m.Task())
	}
	ids := tok.Encode(prompt)
	if len(ids) == 0 {
		return 0, usagef("the prompt %q holds no token of the tokenizer %q: give at least one, such as %q", prompt, tok.Name(), tok.Decode([]int32{0}))
	}
	if p := m.Dims().Positions; p > 0 && len(ids)+n-1 > p {
		if len(ids) >= p {
			return 0, usagef("the prompt has %d tokens, the model %d positions: shorten it", len(ids), p)
		}
		n = p - len(ids) + 1
	}
	session, err := models.NewSession(causal, params, len(ids)+n)
	if err != nil {
		return 0, err
	}
	sampler, err := train.NewSampler(s)
	if err != nil {
		return 0, err
	}
	var logits []float32
	for i := range ids {
		if logits, err = session.Step(ids[i]); err != nil {
			return 0, err
		}
		if err := ctx.Err(); err != nil {
			return 0, err
		}
	}
	for i := range n {
		if err := ctx.Err(); err != nil {
			return i, err
		}
		id := sampler.Next(logits)
		token(tok.Decode([]int32{id}))
		if i == n-1 {
			break
		}
		if logits, err = session.Step(id); err != nil {
			return i + 1, err
		}
	}
	return n, nil
}

// writer streams text by whole characters: a token of bytes may end within one.
type writer struct {
	out  *output
	rest []byte
	all  strings.Builder
}

func (w *writer) token(text string) {
	w.rest = append(w.rest, text...)
	n := 0
	for n < len(w.rest) && utf8.FullRune(w.rest[n:]) {
		_, size := utf8.DecodeRune(w.rest[n:])
		n += size
	}
	w.emit(n)
}

func (w *writer) flush() { w.emit(len(w.rest)) }

func (w *writer) emit(n int) {
	if n == 0 {
		return
	}
	text := strings.ToValidUTF8(string(w.rest[:n]), "\uFFFD")
	w.rest = append(w.rest[:0], w.rest[n:]...)
	w.all.WriteString(text)
	w.out.event(map[string]string{"event": "token", "text": text})
	w.out.text("%s", text)
}
