package main

import (
	"context"
	"fmt"
	"math"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/euryale-ml/euryale/internal/config"
	"github.com/euryale-ml/euryale/internal/testkit/golden"
	"github.com/euryale-ml/euryale/models"
)

func verifyCommand(a *app) *cobra.Command {
	var (
		reference string
		double    bool
	)
	c := &cobra.Command{
		Use:   "verify MODEL --reference F.safetensors",
		Short: "Compare a model with the outputs and gradients of a reference, tensor by tensor",
		Long: `Verify runs a model on the inputs in/* of a file and compares outputs, loss and gradients with out/* (out64/*) and grad/* of that file.
A description F.json beside it, if there is one, gives tolerances and the rows to compare; without one they are
2e-5 + 1e-4 of the largest value, for gradients 5e-5 + 1e-3. Dropout is off.

Inputs are in/input_ids [B,T] (or in/vectors [B,T,d]) and, as far as they are there, in/attention_mask, in/token_type_ids,
in/global_attention_mask, in/decoder_input_ids, and what the task is scored by, as Hugging Face has it: in/labels (of a language
model the tokens themselves, -100 for none) or in/start_positions and in/end_positions; without labels in/loss_weight.NAME (the
loss is the sum of NAME times its weights). Outputs are logits (also start_logits, end_logits), loss, last_hidden_state,
pooler_output and hidden_states.0, 1, ...; of an encoder-decoder decoder_hidden_states and encoder_hidden_states. Gradients are
named after the weights.
Weights in param/* must be those of the model.

The exit code is 0 only if every tensor is within its tolerance.`,
		Example: examples("verify model/ --reference lm.safetensors", "in float32", "verify model/ --reference lm.safetensors --float64", "in float64"),
		Args:    exactly(1, "a model: a model folder, a run or a checkpoint"),
	}
	c.Flags().StringVar(&reference, "reference", "", "file of inputs, outputs and gradients")
	c.Flags().BoolVar(&double, "float64", false, "compute in float64")
	return command(c, func(_ context.Context, args []string) error { return a.verify(args[0], reference, double) })
}

// verifyDone is the last line.
type verifyDone struct {
	Event  string  `json:"event"` // "done"
	OK     bool    `json:"ok"`
	Worst  float64 `json:"worst"`  // largest difference of any tensor
	Tensor string  `json:"tensor"` // that has it
}

// verifyLine is the line of a tensor.
type verifyLine struct {
	golden.Result
	Error string `json:"error,omitempty"` // why it could not be compared
}

func (a *app) verify(path, reference string, double bool) error {
	if reference == "" {
		return usagef("verify wants --reference F.safetensors")
	}
	precision := golden.Float32
	if double {
		precision = golden.Float64
	}
	l, err := models.Load(path, precision.Dtype())
	if err != nil {
		return err
	}
	if r := l.Source.Report; r != nil && r.String() != "" {
		a.out.note("%s", r)
	}
	for _, w := range l.Warnings() {
		if strings.HasPrefix(w, "config.json: ") { // the others are of training
			a.out.note("note: %s", w)
		}
	}
	if err := golden.CheckHead(l.Source.Config); err != nil {
		return &config.FileError{Name: filepath.Join(l.Source.Dir, "config.json"), Err: err}
	}
	c, err := golden.OpenReference(reference)
	if err != nil {
		return err
	}
	if err := knownTensors(c, l.Model); err != nil {
		return fmt.Errorf("%s: %w", reference, err)
	}
	compared, err := c.CheckModel(l.Model, l.Params, precision)
	if err != nil {
		return fmt.Errorf("%s: %w", reference, err)
	}
	return a.verified(reference, append(c.OtherWeights(l.Model, l.Params), compared...))
}

// knownTensors refuses a reference with tensors that would be passed over.
func knownTensors(c *golden.Case, m models.Model) error {
	var unknown []string
	for _, name := range c.Names("") {
		kind, _, _ := strings.Cut(name, "/")
		switch kind {
		case "in", "out", "out64", "grad", "param":
		default:
			if !golden.IsDraw(m, name) {
				unknown = append(unknown, name)
			}
		}
	}
	if len(unknown) == 0 {
		return nil
	}
	more := ""
	if len(unknown) > 8 {
		unknown, more = unknown[:8], fmt.Sprintf(" and %d more", len(unknown)-8)
	}
	return fmt.Errorf("cannot compare %s%s: a reference holds in/*, out/*, out64/*, grad/* and param/*", strings.Join(unknown, ", "), more)
}

// verified reports the comparisons.
func (a *app) verified(reference string, compared []golden.Result) error {
	done := verifyDone{Event: "done", OK: true}
	bad, width := 0, len("tensor")
	for _, r := range compared {
		width = max(width, len(r.Name))
	}
	a.out.text("%-*s  %10s  %10s  %10s\n", width, "tensor", "max_abs", "max_rel", "allowed")
	for _, r := range compared {
		a.out.event(verifyLine{r, r.Fault})
		switch {
		case r.Fault != "":
			a.out.text("%-*s  FAILS: %s\n", width, r.Name, r.Fault)
		case r.OK:
			a.out.text("%-*s  %10.3g  %10.3g  %10.3g\n", width, r.Name, r.MaxAbs, r.MaxRel, r.Limit)
		default:
			a.out.text("%-*s  %10.3g  %10.3g  %10.3g  FAILS at %v: got %.9g, want %.9g\n", width, r.Name, r.MaxAbs, r.MaxRel, r.Limit, r.At, r.Got, r.Want)
		}
		if !r.OK {
			bad++
			done.OK = false
		}
		if done.Tensor == "" || r.MaxAbs > done.Worst {
			done.Worst, done.Tensor = r.MaxAbs, r.Name
		}
	}
	a.out.event(done)
	if bad > 0 {
		return fmt.Errorf("%d of %d tensors are not as in %s: the worst is %s (%s)", bad, len(compared), reference, done.Tensor, difference(done.Worst))
	}
	a.out.text("all %d tensors are as in %s; the largest difference is %.3g, of %s\n", len(compared), reference, done.Worst, done.Tensor)
	return nil
}

func difference(x float64) string {
	if x == math.MaxFloat64 {
		return "not a number, or missing"
	}
	return fmt.Sprintf("off by %.3g", x)
}
