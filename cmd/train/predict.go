package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/euryale-ml/euryale/checkpoints"
	"github.com/euryale-ml/euryale/data"
	"github.com/euryale-ml/euryale/internal/testkit/golden"
	"github.com/euryale-ml/euryale/models"
)

func predictCommand(a *app) *cobra.Command {
	var (
		input, output string
		hidden        bool
		sets          []string
	)
	c := &cobra.Command{
		Use:   "predict MODEL --input F --output F.safetensors",
		Short: "Write a model's outputs for given inputs into a file",
		Long: `Predict runs a model and writes its outputs: out/logits ([B,T,V] of language models, [B,labels] of classes), with labels out/loss, and
with --hidden-states out/hidden_states.0 (embeddings) to .L (after the last layer and norm). A model without a head, or
for contrastive, gives out/last_hidden_state and what else it makes of a sequence. The inputs stand beside them as in/*, so that verify reads the file.

The input is text or .jsonl with a field "text", of which each document is cut into windows as long as the model has positions,
padded on the right (a classifier reads the beginning of each; an encoder-decoder takes it for a source, and a field "target" for what its decoder
reads). For a model of a synthetic task a line is a sequence in the words of the task (docs/tasks.md). Or it is .safetensors with in/input_ids [B,T] and,
as far as they are there, the other inputs that verify knows.`,
		Example: examples("predict runs/default --input a.txt --output a.safetensors", "of a text"),
		Args:    exactly(1, "a model: a model folder, a run or a checkpoint"),
	}
	c.Flags().StringVar(&input, "input", "", "text, .jsonl or .safetensors")
	c.Flags().StringVar(&output, "output", "", "file to write, .safetensors")
	c.Flags().BoolVar(&hidden, "hidden-states", false, "write the state after each layer, too")
	addSet(c, &sets)
	return command(c, func(ctx context.Context, args []string) error {
		return a.predict(ctx, args[0], input, output, hidden, sets)
	})
}

func (a *app) predict(ctx context.Context, path, input, output string, hidden bool, sets []string) error {
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
	batch, err := l.batch(input)
	if err != nil {
		return err
	}
	out, err := a.outputs(ctx, l, batch, hidden)
	if err != nil {
		return fmt.Errorf("%s: %w", input, err)
	}
	tensors := append(inputs(batch), out...)
	slices.SortFunc(tensors, func(x, y checkpoints.Tensor) int { return strings.Compare(x.Name, y.Name) })
	size, err := checkpoints.SafetensorsSize(tensors)
	if err != nil {
		return err
	}
	file := bytes.NewBuffer(make([]byte, 0, size))
	if err := checkpoints.WriteSafetensors(file, tensors); err != nil {
		return err
	}
	if err := checkpoints.WriteFile(output, file.Bytes()); err != nil {
		return err
	}
	for _, t := range tensors {
		a.out.event(map[string]any{"event": "tensor", "name": t.Name, "shape": append([]int{}, t.Shape...)})
		a.out.text("%-24s %v\n", t.Name, t.Shape)
	}
	a.out.event(map[string]any{"event": "done", "output": output, "sequences": batch.B, "length": batch.T})
	a.out.text("written to %s\n", output)
	return nil
}

// tokensAtOnce bounds how much of a batch goes through the graph together: rows do not depend on each other.
const tokensAtOnce = 1 << 14

// outputs runs a batch, some rows at a time. The loss is that of all rows together, so with labels they stay together.
func (a *app) outputs(ctx context.Context, l *loaded, in golden.Batch, hidden bool) ([]checkpoints.Tensor, error) {
	rows := max(1, tokensAtOnce/in.T)
	if in.Labels != nil || in.Values != nil {
		rows = in.B
	}
	all, shapes := map[string][]float32{}, map[string][]int{}
	p := a.out.startProgress("sequence", 0, in.B)
	defer a.out.endProgress()
	for b := 0; b < in.B; b += rows {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		part := in.Rows(b, min(b+rows, in.B))
		got, err := golden.Run(l.model, l.params, part, false)
		if err != nil {
			return nil, err
		}
		for name, v := range got.Out {
			if !wanted(name, l.model.Task(), hidden) {
				continue
			}
			x := v.([]float32)
			if all[name] == nil {
				all[name] = make([]float32, 0, len(x)/part.B*in.B+1)
			}
			all[name], shapes[name] = append(all[name], x...), got.Shape[name]
		}
		p.update(b+part.B, "")
	}
	var tensors []checkpoints.Tensor
	for _, name := range slices.Sorted(maps.Keys(all)) {
		shape := slices.Clone(shapes[name])
		if name == "loss" {
			shape = nil
		} else {
			shape[0] = in.B
		}
		tensors = append(tensors, checkpoints.Tensor{Name: "out/" + name, Shape: shape, Data: all[name]})
	}
	return tensors, nil
}

// wanted tells which outputs are written: those of the head, or of a model without one what it gives in its place.
func wanted(name, task string, hidden bool) bool {
	switch name {
	case "logits", "start_logits", "end_logits", "loss":
		return true
	case "last_hidden_state", "pooler_output", "global_hidden_state":
		return task == "" || task == "contrastive" // its scores are of hidden sections, of which there are none
	}
	return hidden && strings.Contains(name, "hidden_states.")
}

// inputs are the tensors in/* of a batch.
func inputs(in golden.Batch) []checkpoints.Tensor {
	var tensors []checkpoints.Tensor
	add := func(name string, x any, shape ...int) {
		tensors = append(tensors, checkpoints.Tensor{Name: "in/" + name, Shape: shape, Data: x})
	}
	marks := func(name string, is []bool) {
		if is == nil {
			return
		}
		x := make([]int32, len(is))
		for i, yes := range is {
			if yes {
				x[i] = 1
			}
		}
		add(name, x, in.B, in.T)
	}
	if in.IDs != nil {
		add("input_ids", in.IDs, in.B, in.T)
	}
	if in.Vectors != nil {
		add("vectors", in.Vectors, in.B, in.T, len(in.Vectors)/(in.B*in.T))
	}
	marks("attention_mask", in.Mask)
	marks("global_attention_mask", in.Globals)
	if in.Types != nil {
		add("token_type_ids", in.Types, in.B, in.T)
	}
	if in.TargetIDs != nil {
		add("decoder_input_ids", in.TargetIDs, in.B, in.U)
	}
	switch each := len(in.Labels) / in.B; {
	case in.Values != nil:
		add("labels", in.Values, in.B, len(in.Values)/in.B)
	case in.Ends:
		starts, ends := make([]int32, in.B), make([]int32, in.B)
		for b := range in.B {
			starts[b], ends[b] = in.Labels[2*b], in.Labels[2*b+1]
		}
		add("start_positions", starts, in.B)
		add("end_positions", ends, in.B)
	case in.Labels != nil && each == 1:
		add("labels", in.Labels, in.B)
	case in.Labels != nil:
		add("labels", in.Labels, in.B, each)
	}
	return tensors
}

// batch reads the inputs of predict.
func (l *loaded) batch(input string) (golden.Batch, error) {
	if strings.HasSuffix(input, ".safetensors") {
		c, err := golden.OpenReference(input)
		if err != nil {
			return golden.Batch{}, err
		}
		in, err := c.Batch()
		if err != nil {
			return in, fmt.Errorf("%s: %w", input, err)
		}
		in.Weights = nil
		return in, nil
	}
	tok, err := l.tokenizer()
	if err != nil {
		return golden.Batch{}, err
	}
	if tok.Name() == "task" {
		return l.words(tok, input)
	}
	if l.model.Task() == "image_density" {
		return golden.Batch{}, usagef("%s: a model of images reads the levels of pixels: give a .safetensors file with in/input_ids", input)
	}
	text := l.job.Data
	text.Path, text.Task, text.Objective = input, "", ""
	if m, ok := l.model.(models.Seq2Seq); ok {
		return l.pairs(text, m.Special())
	}
	part, err := data.LoadWhole(text)
	if err != nil {
		return golden.Batch{}, err
	}
	var windows [][]int32
	if t := l.model.Task(); t == "sequence_classification" || t == "regression" {
		return l.firsts(part, tok)
	}
	for d := range part.Documents() {
		ids := part.Document(d)
		for most := l.model.Dims().Positions; most > 0 && len(ids) > most; ids = ids[most:] {
			windows = append(windows, ids[:most])
		}
		if len(ids) > 0 {
			windows = append(windows, ids)
		}
	}
	return padded(windows)
}

// words are the lines of a text in the words of the task that a model was trained on.
func (l *loaded) words(tok data.Tokenizer, input string) (golden.Batch, error) {
	if _, ok := l.model.(models.Seq2Seq); ok || tok.VocabSize() == 0 || strings.HasSuffix(input, ".jsonl") {
		return golden.Batch{}, usagef("%s: the model was trained on task:%s, which has its own tokens: give a .safetensors file with its inputs, such as in/input_ids", input, l.job.Data.Task)
	}
	text, err := os.ReadFile(input)
	if err != nil {
		return golden.Batch{}, fmt.Errorf("%w; check the path", err) // names it
	}
	if unknown := leftOut(tok, string(text)); len(unknown) > 0 {
		return golden.Batch{}, usagef("%s: %q is no word of task:%s, such as %q; docs/tasks.md lists them", input, unknown[0], l.job.Data.Task, strings.TrimSpace(tok.Decode([]int32{0})))
	}
	var lines [][]int32
	for line := range strings.Lines(string(text)) {
		ids := tok.Encode(line)
		if most := l.model.Dims().Positions; most > 0 && len(ids) > most {
			return golden.Batch{}, usagef("%s: a line of %d words; the model has %d positions", input, len(ids), most)
		}
		if len(ids) > 0 {
			lines = append(lines, ids)
		}
	}
	in, err := padded(lines)
	if err != nil {
		return in, fmt.Errorf("%s: %w", input, err)
	}
	return in, nil
}

// firsts are the beginnings of documents as a classifier was trained on them: behind [CLS], which is global, and as long at most.
func (l *loaded) firsts(part *data.Part, tok data.Tokenizer) (golden.Batch, error) {
	most := l.job.Train.SequenceLength
	if p := l.model.Dims().Positions; p > 0 {
		most = min(most, p)
	}
	cls, marked := data.Special(tok, "[CLS]")
	sep, closed := data.Special(tok, "[SEP]")
	if _, own := tok.(*data.Pretrained); !own {
		closed = false
	}
	var windows [][]int32
	for d := range part.Documents() {
		var ids []int32
		if marked {
			ids = append(ids, cls)
		}
		ids = append(ids, part.Document(d)...)
		if closed {
			ids = append(ids[:min(len(ids), most-1)], sep)
		}
		windows = append(windows, ids[:min(len(ids), most)])
	}
	in, err := padded(windows)
	if err == nil && marked {
		in.Globals = make([]bool, in.B*in.T)
		for b := range in.B {
			in.Globals[b*in.T] = true
		}
	}
	return in, err
}

// pairs are sources, and targets where there are any: what the decoder reads. Else it reads its start token alone.
func (l *loaded) pairs(text data.Config, special models.Special) (golden.Batch, error) {
	part, err := data.LoadWhole(text)
	if err != nil {
		return golden.Batch{}, err
	}
	most := l.job.Train.SequenceLength
	if p := l.model.Dims().Positions; p > 0 {
		most = min(most, p)
	}
	var sources [][]int32
	for d := range part.Documents() {
		ids := part.Document(d)
		if len(special.End) > 0 {
			ids = append(ids[:min(len(ids), most-1)], special.End[0])
		}
		sources = append(sources, ids[:min(len(ids), most)])
	}
	in, err := padded(sources)
	if err != nil {
		return in, err
	}
	targets := make([][]int32, in.B)
	text.TextField = cmp.Or(text.TargetField, "target")
	if part, err := data.LoadWhole(text); strings.Contains(text.Path, ".jsonl") && err == nil && part.Documents() == in.B {
		for d := range targets {
			targets[d] = part.Document(d)
		}
	}
	in.U = 1
	for _, t := range targets {
		in.U = min(max(in.U, len(t)+1), most)
	}
	for _, t := range targets {
		row := append([]int32{special.Start}, t[:min(len(t), in.U-1)]...)
		for len(row) < in.U {
			row = append(row, max(special.Pad, 0))
		}
		in.TargetIDs = append(in.TargetIDs, row...)
	}
	return in, nil
}

// padded puts sequences into one batch.
func padded(sequences [][]int32) (golden.Batch, error) {
	in := golden.Batch{B: len(sequences)}
	whole := true
	for _, s := range sequences {
		whole = whole && (in.T == 0 || in.T == len(s))
		in.T = max(in.T, len(s))
	}
	if in.T == 0 {
		return in, errors.New("no text in it")
	}
	in.IDs = make([]int32, in.B*in.T)
	mask := make([]bool, len(in.IDs))
	for b, s := range sequences {
		copy(in.IDs[b*in.T:], s)
		for t := range s {
			mask[b*in.T+t] = true
		}
	}
	if !whole {
		in.Mask = mask
	}
	return in, nil
}
