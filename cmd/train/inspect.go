package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/checkpoints"
	"github.com/euryale-ml/euryale/models"
)

func inspectCommand(a *app) *cobra.Command {
	var check bool
	c := &cobra.Command{
		Use:   "inspect PATH",
		Short: "Look inside a run, a checkpoint, a model folder or a .safetensors file",
		Long: `Inspect prints what is in a run folder, a checkpoint, a model folder or a .safetensors file: configuration, checkpoints, weights.

With --check every sum of every checkpoint is compared, every tensor is read, and the weights must fit config.json;
the exit code is 1 if anything is wrong.`,
		Example: examples("inspect runs/default", "what it holds", "inspect runs/default --check", "is all of it whole?"),
		Args:    exactly(1, "a run, a checkpoint, a model folder or a .safetensors file"),
	}
	c.Flags().BoolVar(&check, "check", false, "compare every sum, read every tensor")
	return command(c, func(ctx context.Context, args []string) error { return a.inspect(ctx, args[0], check) })
}

// checkpointLine tells of one checkpoint of a run.
type checkpointLine struct {
	Event string `json:"event"` // "checkpoint"
	Path  string `json:"path"`
	Step  int    `json:"step"`
	Best  bool   `json:"best"`
	Bytes int64  `json:"bytes"`
	OK    *bool  `json:"ok,omitempty"` // with --check
	Error string `json:"error,omitempty"`
}

// tensorLine tells of one tensor.
type tensorLine struct {
	Event string `json:"event"` // "tensor"
	Name  string `json:"name"`
	Dtype string `json:"dtype"`
	Shape []int  `json:"shape"`
	Error string `json:"error,omitempty"`
}

// inspection is the last line.
type inspection struct {
	Event      string          `json:"event"` // "done"
	Path       string          `json:"path"`
	Kind       string          `json:"kind"` // "run", "checkpoint", "model", "safetensors"
	Step       int             `json:"step,omitempty"`
	Config     json.RawMessage `json:"config,omitempty"`
	Tensors    int             `json:"tensors"`
	Parameters int64           `json:"parameters"`
	Bytes      int64           `json:"bytes"`               // of the weights
	Causality  string          `json:"causality,omitempty"` // of a model that predicts from left to right: C1, or C0 if the choice of keys depends on later tokens
	OK         *bool           `json:"ok,omitempty"`
	Problems   []string        `json:"problems,omitempty"`
}

func (a *app) inspect(ctx context.Context, path string, check bool) error {
	done := inspection{Event: "done", Path: path}
	problem := func(err error) {
		done.Problems = append(done.Problems, err.Error())
		a.out.text("problem      %s\n", err)
	}
	tensors, err := a.opened(ctx, path, check, &done, problem)
	if err != nil {
		return err
	}
	if tensors != nil {
		defer func() { _ = tensors.Close() }()
		if err := a.listTensors(ctx, tensors, check, &done, problem); err != nil {
			return err
		}
	}
	if check {
		ok := len(done.Problems) == 0
		done.OK = &ok
		if ok {
			a.out.text("check        all is whole\n")
		}
	}
	a.out.event(done)
	if check && len(done.Problems) > 0 {
		return fmt.Errorf("%s: %d problems, see above; use an older checkpoint, or fetch the files again", path, len(done.Problems))
	}
	return nil
}

// opened finds out what the path is, prints what there is besides the weights and returns these.
func (a *app) opened(ctx context.Context, path string, check bool, done *inspection, problem func(error)) (*checkpoints.Safetensors, error) {
	if strings.HasSuffix(path, ".safetensors") {
		done.Kind = "safetensors"
		return checkpoints.OpenSafetensors(path)
	}
	if list, err := checkpoints.List(filepath.Join(path, "checkpoints")); err == nil && len(list) > 0 {
		done.Kind = "run"
		if err := a.listCheckpoints(ctx, path, list, check, problem); err != nil {
			return nil, err
		}
	}
	m, err := checkpoints.Resolve(path)
	if err != nil {
		if done.Kind == "run" { // told already, checkpoint by checkpoint
			problem(err)
			return nil, nil
		}
		return nil, err
	}
	done.Step, done.Config = m.Step, m.Config
	if done.Kind == "" {
		done.Kind = "model"
		if m.Report != nil {
			done.Kind = "checkpoint"
		}
	}
	if m.Report != nil && m.Report.String() != "" {
		a.out.note("%s", strings.TrimSpace(m.Report.String()))
	}
	a.out.text("%-12s %s\n", "weights", m.Dir)
	done.Causality = a.describe(m, check, problem)
	return m.Tensors, nil
}

// describe prints the configuration of a model and, if asked, whether the weights are its own. It returns the class of its causality.
func (a *app) describe(m *checkpoints.Model, check bool, problem func(error)) string {
	network, err := models.New(m.Config)
	if err != nil {
		if check {
			problem(fmt.Errorf("%s: %s", filepath.Join(m.Dir, "config.json"), strings.ReplaceAll(message(err), "\n", " ")))
			return ""
		}
		a.out.text("model        cannot be built: %s\n", message(err))
		return ""
	}
	d := network.Dims()
	a.out.text("model        %s for %s: %d layers, width %d, %d heads, feed-forward %d, vocabulary %d\n", network.Type(), network.Task(), d.Layers, d.Hidden, d.Heads, d.Inner, d.Vocab)
	for _, w := range network.Warnings() {
		a.out.text("note         %s\n", w)
	}
	class := models.Causality(network)
	if class == "C0" {
		a.out.text("causality    C0: which keys are read depends on later tokens, too; eval --prefix tells what that is worth\n")
	} else if class != "" {
		a.out.text("causality    %s: nothing depends on later tokens\n", class)
	}
	if check {
		if _, err := models.Weights(network, m.Tensors, tensor.Float32); err != nil {
			problem(fmt.Errorf("%s: %w", m.Dir, err))
		}
	}
	return class
}

func (a *app) listCheckpoints(ctx context.Context, run string, list []string, check bool, problem func(error)) error {
	best := -1
	if r, err := checkpoints.Best(run); err == nil {
		best = r.Step
	}
	slices.Reverse(list) // oldest first
	for _, dir := range list {
		if err := ctx.Err(); err != nil {
			return err
		}
		c := checkpointLine{Event: "checkpoint", Path: dir, Bytes: folderSize(dir)}
		if _, err := fmt.Sscanf(filepath.Base(dir), "step-%d", &c.Step); err != nil {
			continue
		}
		c.Best = c.Step == best
		state := ""
		if c.Best {
			state = "  best"
		}
		var fault error
		if check {
			fault = checkpoints.Verify(dir)
			ok := fault == nil
			c.OK = &ok
			state += "  whole"
			if !ok {
				c.Error = fault.Error()
				state = strings.Replace(state, "whole", "damaged", 1)
			}
		}
		a.out.event(c)
		a.out.text("checkpoint   %s  %s%s\n", dir, megabytes(c.Bytes), state)
		if fault != nil {
			problem(fault)
		}
	}
	return nil
}

// listTensors prints names and shapes; check reads each and looks for NaN and infinities.
func (a *app) listTensors(ctx context.Context, s *checkpoints.Safetensors, check bool, done *inspection, problem func(error)) error {
	width := 0
	for _, name := range s.Names() {
		width = max(width, len(name))
	}
	for _, name := range s.Names() {
		if err := ctx.Err(); err != nil {
			return err
		}
		info, _ := s.Info(name)
		line := tensorLine{Event: "tensor", Name: name, Dtype: string(info.Dtype), Shape: append([]int{}, info.Shape...)}
		done.Tensors++
		done.Parameters += int64(info.Size)
		done.Bytes += info.Bytes
		var fault error
		if check {
			if fault = readable(s, info); fault != nil {
				line.Error = fault.Error()
			}
		}
		a.out.event(line)
		a.out.text("  %-*s  %-4s %v\n", width, name, info.Dtype, info.Shape)
		if fault != nil {
			problem(fault)
		}
	}
	a.out.text("values       %d in %d tensors, %s\n", done.Parameters, done.Tensors, megabytes(done.Bytes))
	for _, n := range s.Notes() {
		a.out.text("note         %s\n", n)
	}
	return nil
}

// readable reads a tensor in full.
func readable(s *checkpoints.Safetensors, info checkpoints.TensorInfo) error {
	if !info.Dtype.IsFloat() {
		_, err := s.Raw(info.Name)
		return err
	}
	x, err := s.Float64s(info.Name)
	if err != nil {
		return err
	}
	for i, v := range x {
		if v-v != 0 { // NaN or infinite
			return fmt.Errorf("tensor %q: element %d is %v", info.Name, i, v)
		}
	}
	return nil
}

// folderSize is the size of the files right in a folder.
func folderSize(dir string) int64 {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0
	}
	total := int64(0)
	for _, e := range entries {
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() {
			total += info.Size()
		}
	}
	return total
}

func megabytes(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }
