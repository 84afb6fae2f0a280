package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
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
	prompt   string
	decoding train.Decoding
	images   imageFlags
	sets     []string
	changed  func(flag string) bool
}

func generateCommand(a *app) *cobra.Command {
	var f generateFlags
	c := &cobra.Command{
		Use:   "generate MODEL",
		Short: "Write text or draw images with a model",
		Long: `Generate continues a prompt and streams the text. The same seed gives the same text. An encoder-decoder reads the prompt and writes
what belongs to it, by default always the likeliest token.

The text ends at a token that the model has for it (eos_token_id), or after --max-new-tokens. With --beams N the N likeliest texts are
followed at once, and the best one is written at the end; nothing is drawn then.

What generation_config.json beside the model says (do_sample, temperature, top_k, top_p, num_beams, length_penalty, early_stopping,
max_new_tokens, eos_token_id) counts where no flag is given.

A model of images draws --count of them, with --temperature (1 unless told), into a grid. With --prompt F.png they begin with the
part --keep of that image, which must have the size of theirs, in the order in which images are generated: 0.5 of rows is the upper half.
With --low F.png a model for super-resolution makes that image larger, in --count ways.

The memory of a long text is what the attention patterns of the model can still reach, no more.`,
		Example: examples(
			"generate runs/default --prompt 'Call me '", "continue a line",
			"generate runs/default --temperature 0.5 --max-new-tokens 1000", "safer and longer",
			"generate runs/default --prompt - < start.txt", "the prompt from standard input",
			"generate runs/bible --beams 4 --prompt 'In the beginning'", "the best of four, of an encoder-decoder",
			"generate runs/digits --output digits.png", "a grid of 16 images"),
		Args: exactly(1, "a model: a model folder, a run or a checkpoint"),
	}
	fl := c.Flags()
	fl.StringVar(&f.prompt, "prompt", "\n", "text to continue, or to read; - takes it from standard input")
	fl.IntVar(&f.decoding.MaxNewTokens, "max-new-tokens", 256, "tokens to write at most")
	fl.Float64Var(&f.decoding.Temperature, "temperature", 0.8, "0 always takes the likeliest token (what an encoder-decoder does unless told); above 1 is wilder than what was learned")
	fl.IntVar(&f.decoding.TopK, "top-k", 0, "draw from the k likeliest tokens only (0: all)")
	fl.Float64Var(&f.decoding.TopP, "top-p", 0, "draw from the likeliest tokens that together have this probability (0: all)")
	fl.Uint64Var(&f.decoding.Seed, "seed", 1, "seed of the draws")
	fl.IntVar(&f.decoding.Beams, "beams", 1, "candidates of a beam search (1: none)")
	fl.Float64Var(&f.decoding.LengthPenalty, "length-penalty", 1, "of a beam search: texts are compared by log-probability / length^penalty; more favours long ones")
	fl.BoolVar(&f.decoding.EarlyStopping, "early-stopping", false, "a beam search stops when as many texts as beams have ended, though a better one may follow")
	fl.StringVar(&f.images.output, "output", "", "file for the grid of a model of images, a .png")
	fl.IntVar(&f.images.count, "count", 16, "images to draw")
	fl.StringVar(&f.images.class, "class", "", "class of the images, of a model that knows classes (without it all classes in turn)")
	fl.Float64Var(&f.images.keep, "keep", 0.5, "part of the image of --prompt that is given")
	fl.StringVar(&f.images.low, "low", "", "image to enlarge, by a model for super-resolution; a larger one is made small before")
	addSet(c, &f.sets)
	f.changed = fl.Changed
	return command(c, func(ctx context.Context, args []string) error { return a.generate(ctx, args[0], f) })
}

func (a *app) generate(ctx context.Context, path string, f generateFlags) error {
	if err := f.decoding.Validate(); err != nil {
		return usagef("--%w", err)
	}
	for _, flag := range []string{"temperature", "top-k", "top-p"} {
		if f.decoding.Beams > 1 && f.changed(flag) {
			return usagef("--%s and --beams exclude each other: a beam search draws nothing", flag)
		}
	}
	l, err := a.load(path, f.sets)
	if err != nil {
		return err
	}
	if l.model.Task() == "image_density" {
		if !f.changed("temperature") {
			f.decoding.Temperature = 1
		}
		return a.draw(ctx, l, f)
	}
	for _, flag := range []string{"output", "count", "class", "keep", "low"} {
		if f.changed(flag) {
			return usagef("--%s is for models of images, this one is for %s", flag, l.model.Task())
		}
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
	if left := leftOut(tok, prompt); len(left) > 0 {
		a.out.note("note: left out, as the task has no such tokens: %s", strings.Join(left, " "))
	}
	if _, reads := l.model.(models.Seq2Seq); !reads {
		a.out.text("%s", prompt)
	} else if !f.changed("temperature") {
		f.decoding.Temperature = 0
	}
	f.decoding.EOS = models.EndTokens(l.model)
	settings, err := readGenerationSettings(l.dir)
	if err != nil {
		return err
	}
	settings.apply(&f.decoding, f.changed)
	if err := f.decoding.Validate(); err != nil {
		return fmt.Errorf("%s: %w", filepath.Join(l.dir, "generation_config.json"), err)
	}
	w := &writer{out: a.out}
	start := time.Now()
	text, why, err := writeText(ctx, l.model, l.params, tok, prompt, f.decoding, w.token)
	w.flush()
	a.out.text("\n")
	if err != nil {
		return err
	}
	n := len(text.IDs)
	done := map[string]any{"event": "done", "tokens": n, "text": w.all.String(), "tokens_per_s": float64(n) / time.Since(start).Seconds(), "ended": text.Ended}
	if f.decoding.Beams > 1 {
		done["score"] = text.Score
	}
	a.out.event(done)
	a.out.note("%d tokens, %.0f a second", n, float64(n)/time.Since(start).Seconds())
	if why != "" {
		a.out.note("every token cost a pass over all before it: %s", why)
	}
	return nil
}

// leftOut are the words of a prompt that are no tokens of a task; other tokenizers read everything.
func leftOut(tok data.Tokenizer, prompt string) (words []string) {
	if tok.Name() != "task" {
		return nil
	}
	for word := range strings.FieldsSeq(prompt) {
		if len(tok.Encode(word)) == 0 {
			words = append(words, word)
		}
	}
	return words
}

// write continues a prompt by n drawn tokens at most and hands on each token's text. It returns how many it wrote.
func write(ctx context.Context, m models.Model, params *layers.Params, tok data.Tokenizer, prompt string, n int, s train.Sampling, token func(string)) (int, error) {
	text, _, err := writeText(ctx, m, params, tok, prompt, train.Decoding{Sampling: s, MaxNewTokens: n, EOS: models.EndTokens(m)}, token)
	return len(text.IDs), err
}

// writeText continues a prompt, or writes what belongs to it, and hands on each token's text. why says why it was slow, if it was.
func writeText(ctx context.Context, m models.Model, params *layers.Params, tok data.Tokenizer, prompt string, d train.Decoding, token func(string)) (text train.Text, why string, err error) {
	ids := tok.Encode(prompt)
	if len(ids) == 0 {
		return text, "", usagef("the prompt %q holds no token of the tokenizer %q: give at least one, such as %q", prompt, tok.Name(), tok.Decode([]int32{0}))
	}
	var session *models.Session
	var logits []float32
	switch m := m.(type) {
	case models.Causal:
		if p := m.Dims().Positions; p > 0 && len(ids)+d.MaxNewTokens-1 > p {
			if len(ids) >= p {
				return text, "", usagef("the prompt has %d tokens, the model %d positions: shorten it", len(ids), p)
			}
			d.MaxNewTokens = p - len(ids) + 1
		}
		if session, err = models.NewSession(m, params, len(ids)+d.MaxNewTokens); err == nil {
			logits, err = readPrompt(ctx, session, ids)
		}
	case models.Seq2Seq:
		var s *models.Seq2SeqSession
		if s, err = models.NewSeq2SeqSession(m, params, d.MaxNewTokens); err != nil {
			return text, "", err
		}
		session = &s.Session
		d.MaxNewTokens = min(d.MaxNewTokens, s.Limit())
		if end, ok := data.Special(tok, "</s>"); ok {
			ids = append(ids, end)
		}
		if err = s.Read(ids); err == nil {
			logits, err = s.Step(m.Special().Start)
		}
	default:
		return text, "", fmt.Errorf("a model of type %s for %s does not write text; use a causal_lm or a seq2seq_lm", m.Type(), m.Task())
	}
	if err != nil {
		return text, "", err
	}
	text, err = train.Write(ctx, session, logits, d, func(id int32) { token(tok.Decode([]int32{id})) })
	return text, session.Recomputes(), err
}

// readPrompt reads what is to be continued and returns the logits after it.
func readPrompt(ctx context.Context, session *models.Session, ids []int32) (logits []float32, err error) {
	for _, id := range ids {
		if logits, err = session.Step(id); err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return nil, err
		}
	}
	return logits, nil
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
