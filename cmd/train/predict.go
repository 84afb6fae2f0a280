package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/euryale-ml/euryale/checkpoints"
	"github.com/euryale-ml/euryale/data"
)

func predictCommand(a *app) *cobra.Command {
	var (
		input, output string
		sets          []string
	)
	c := &cobra.Command{
		Use:   "predict MODEL --input F --output F.safetensors",
		Short: "Write a model's outputs for given inputs into a file",
		Long: `Predict runs a model and writes its outputs: out/logits [B,T,V] and out/hidden_states.0 (embeddings) to .L (after the last layer and norm),
with in/input_ids and in/attention_mask beside them.

The input is text (one sequence), .jsonl with a field "text" (one sequence a line, padded), or .safetensors with in/input_ids [B,T] and,
for padding on the right, in/attention_mask.`,
		Example: examples("predict runs/default --input a.txt --output a.safetensors", "of a text"),
		Args:    exactly(1, "a model: a model folder, a run or a checkpoint"),
	}
	c.Flags().StringVar(&input, "input", "", "text, .jsonl or .safetensors")
	c.Flags().StringVar(&output, "output", "", "file to write, .safetensors")
	addSet(c, &sets)
	return command(c, func(_ context.Context, args []string) error { return a.predict(args[0], input, output, sets) })
}

func (a *app) predict(path, input, output string, sets []string) error {
	switch {
	case input == "":
		return usagef("predict wants --input: text, .jsonl or .safetensors")
	case !strings.HasSuffix(output, ".safetensors"):
		return usagef("predict wants --output F.safetensors")
	}
	l, err := a.load(path, sets)
	if err != nil {
		return err
	}
	p, err := l.pass(input)
	if err != nil {
		return err
	}
	if err := p.check(l.model); err != nil {
		return fmt.Errorf("%s: %w", input, err)
	}
	p.targets = nil // outputs only
	r, err := p.run(l.model, l.params)
	if err != nil {
		return err
	}
	mask := make([]int32, p.B*p.T)
	for i := range mask {
		if p.lens == nil || i%p.T < int(p.lens[i/p.T]) {
			mask[i] = 1
		}
	}
	shape := []int{p.B, p.T}
	tensors := []checkpoints.Tensor{{Name: "in/input_ids", Shape: shape, Data: p.ids}, {Name: "in/attention_mask", Shape: shape, Data: mask}}
	for name, v := range r.out {
		tensors = append(tensors, checkpoints.Tensor{Name: "out/" + name, Shape: v.Shape(), Data: v.Data()})
	}
	slices.SortFunc(tensors, func(x, y checkpoints.Tensor) int { return strings.Compare(x.Name, y.Name) })
	var file bytes.Buffer
	if err := checkpoints.WriteSafetensors(&file, tensors); err != nil {
		return err
	}
	if err := checkpoints.WriteFile(output, file.Bytes()); err != nil {
		return err
	}
	for _, t := range tensors {
		a.out.event(map[string]any{"event": "tensor", "name": t.Name, "shape": append([]int{}, t.Shape...)})
		a.out.text("%-24s %v\n", t.Name, t.Shape)
	}
	a.out.event(map[string]any{"event": "done", "output": output, "sequences": p.B, "length": p.T})
	a.out.text("written to %s\n", output)
	return nil
}

// pass reads the inputs of predict.
func (l *loaded) pass(input string) (*pass, error) {
	if strings.HasSuffix(input, ".safetensors") {
		s, err := checkpoints.OpenSafetensors(input)
		if err != nil {
			return nil, err
		}
		p, err := passOf(fromFile(s, "in/"))
		if err != nil {
			err = fmt.Errorf("%s: in/: %w", input, err)
		}
		return p, errors.Join(err, s.Close())
	}
	tok, err := l.tokenizer()
	if err != nil {
		return nil, err
	}
	part, err := data.LoadWhole(data.Config{Path: input, Tokenizer: tok.Name(), TextField: l.job.Data.TextField})
	if err != nil {
		return nil, err
	}
	p := &pass{B: part.Documents(), lens: make([]int32, part.Documents())}
	for d := range p.B {
		p.lens[d] = int32(len(part.Document(d)))
		p.T = max(p.T, int(p.lens[d]))
	}
	p.ids = make([]int32, p.B*p.T)
	for d := range p.B {
		copy(p.ids[d*p.T:], part.Document(d))
	}
	return p, nil
}
