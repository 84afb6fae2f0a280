package main

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/checkpoints"
	"github.com/euryale-ml/euryale/internal/config"
	"github.com/euryale-ml/euryale/internal/testkit/golden"
	"github.com/euryale-ml/euryale/layers"
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
2e-5 + 1e-4 of the largest value, for gradients 5e-5 + 1e-3.

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
	Event string  `json:"event"` // "done"
	OK    bool    `json:"ok"`
	Worst float64 `json:"worst"` // largest difference over what is allowed
}

func (a *app) verify(path, reference string, double bool) error {
	if reference == "" {
		return usagef("verify wants --reference F.safetensors")
	}
	dtype, precision := tensor.Float32, golden.Float32
	if double {
		dtype, precision = tensor.Float64, golden.Float64
	}
	m, params, err := openWithoutDropout(path, dtype)
	if err != nil {
		return err
	}
	c, err := golden.OpenReference(reference)
	if err != nil {
		return err
	}
	compared, err := compare(m, params, c, precision)
	if err != nil {
		return fmt.Errorf("%s: %w", reference, err)
	}
	done := verifyDone{Event: "done", OK: true}
	bad := 0
	for _, r := range compared {
		a.out.event(r)
		a.out.text("%s\n", r)
		if !r.OK {
			bad++
			done.OK = false
		}
		if r.Limit > 0 {
			done.Worst = max(done.Worst, r.MaxAbs/r.Limit)
		} else if !r.OK {
			done.Worst = max(done.Worst, r.MaxAbs)
		}
	}
	a.out.event(done)
	if bad > 0 {
		return fmt.Errorf("%d of %d tensors differ from %s by more than they may", bad, len(compared), reference)
	}
	a.out.text("all %d tensors are as in %s (the worst is at %s of what it may be)\n", len(compared), reference, percent(done.Worst))
	return nil
}

// openWithoutDropout opens a model whose dropout is off: references have none, and a pass with gradients would draw it.
func openWithoutDropout(path string, dtype tensor.Dtype) (models.Model, *layers.Params, error) {
	src, err := checkpoints.Resolve(path)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = src.Close() }()
	var all map[string]json.RawMessage
	if err := config.Decode(src.Config, &all); err != nil {
		return nil, nil, &config.FileError{Name: filepath.Join(src.Dir, "config.json"), Err: err}
	}
	for key := range all {
		if strings.Contains(key, "drop") {
			if _, err := strconv.ParseFloat(string(all[key]), 64); err == nil {
				all[key] = json.RawMessage("0")
			}
		}
	}
	text, err := json.Marshal(all)
	if err != nil {
		return nil, nil, err
	}
	m, err := models.New(text)
	if err != nil {
		return nil, nil, &config.FileError{Name: filepath.Join(src.Dir, "config.json"), Err: err}
	}
	params, err := models.Weights(m, src.Tensors, dtype)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", src.Dir, err)
	}
	return m, params, nil
}

// compare runs the model on the inputs of a case and compares everything that the case has.
func compare(m models.Model, params *layers.Params, c *golden.Case, precision golden.Precision) ([]golden.Result, error) {
	p, err := passOf(func(name string) ([]int32, []int, error) {
		t := c.In(name)
		if t == nil {
			return nil, nil, nil
		}
		return t.Int32s(), t.Shape, nil
	})
	if err != nil {
		return nil, fmt.Errorf("in/: %w", err)
	}
	if err := p.check(m); err != nil {
		return nil, fmt.Errorf("in/%w", err)
	}
	r, err := p.run(m, params)
	if err != nil {
		return nil, err
	}
	var all []golden.Result
	for _, name := range c.Outputs() {
		v, ok := r.out[name]
		if !ok {
			all = append(all, golden.Result{Name: "out/" + name, Fault: "the model has no such output", Worst: -1})
			continue
		}
		all = append(all, c.CompareOut(name, v.Data(), precision))
	}
	if p.targets == nil {
		return all, nil
	}
	for _, name := range c.Names("grad/") {
		name = strings.TrimPrefix(name, "grad/")
		v, ok := r.grad[name]
		if !ok {
			v, ok = r.grad["transformer."+name]
		}
		if !ok && slices.Contains(c.WithoutGrad, name) {
			continue
		}
		if !ok {
			all = append(all, golden.Result{Name: "grad/" + name, Fault: "the model has no such weight", Worst: -1})
			continue
		}
		all = append(all, c.CompareGrad(name, v.Data(), precision))
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("nothing to compare: no out/* and no grad/*")
	}
	return all, nil
}
