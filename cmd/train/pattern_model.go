package main

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/euryale-ml/euryale/checkpoints"
	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/testkit/golden"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/layers/attention"
)

// layerRead is the line of a layer, or of a group of its heads.
type layerRead struct {
	Layer string `json:"layer"`
	Heads int    `json:"heads"`
	Rule  string `json:"rule,omitempty"` // what counts as read, where blocks are mixed
	attention.Stats
}

// readings counts and draws what a model reads of the first sequence of an input.
func (a *app) readings(model, input, out string, sets []string) error {
	if input == "" {
		return usagef("pattern --model wants --input: text, .jsonl or .safetensors")
	}
	if err := drawable(out); err != nil {
		return err
	}
	l, err := a.load(model, sets)
	if err != nil {
		return err
	}
	batch, err := l.batch(input)
	if err != nil {
		return err
	}
	if batch.B > 1 {
		a.out.note("note: %s has %d sequences, the first is read", input, batch.B)
		batch = batch.Rows(0, 1)
	}
	var found []attention.Reading
	var names []string
	var patterns []attention.Pattern
	skipped := errors.New("")
	err = golden.Watch(l.model, l.params, batch, func(b *layers.Builder) (want layers.Nodes) {
		found = attention.Readings(b)
		for _, r := range found {
			want = append(want, r.Inputs()...)
		}
		return want
	}, func(value func(*layers.Node) engine.Value) error {
		for _, r := range found {
			p, err := r.Of(value, 0)
			if err != nil {
				skipped = err
				continue
			}
			names, patterns = append(names, r.Scope), append(patterns, p)
			s := layerRead{r.Scope, r.Heads, r.Rule, attention.Measure(p, r.Queries)}
			s.Length = min(batch.T, s.Nodes)
			a.out.event(s)
			a.out.text("layer         %s, %s\n", r.Scope, plural(r.Heads, "head"))
			if r.Rule != "" {
				a.out.text("counted       %s\n", r.Rule)
			}
			a.measured(s.Stats)
		}
		return nil
	})
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", input, err)
	case len(patterns) == 0 && len(found) > 0:
		return fmt.Errorf("%s: no layer reads its own sequence: %w", model, skipped)
	case len(patterns) == 0:
		return fmt.Errorf("%s: no layer has pairs of tokens that could be counted", model)
	case out == "":
		return nil
	}
	file, err := drawnLayers(names, patterns, strings.ToLower(filepath.Ext(out)))
	if err != nil {
		return fmt.Errorf("%s: %w", out, err)
	}
	return a.written(out, file)
}

// nodesOf is how many nodes a pattern of Reading.Of has.
func nodesOf(p attention.Pattern) int { return p.(interface{ Nodes() int }).Nodes() }

// drawnLayers is a picture of the heads of all layers, one after the other, or the masks of each: mask, or mask.LAYER of several, and mask.LAYER.2 for the
// second way in which a layer attends.
func drawnLayers(names []string, patterns []attention.Pattern, ext string) ([]byte, error) {
	if len(patterns) == 1 {
		return drawn(patterns[0], nodesOf(patterns[0]), ext)
	}
	var file bytes.Buffer
	n, total := nodesOf(patterns[0]), 0.0
	for i, p := range patterns {
		if m := nodesOf(p); m != n && ext != ".safetensors" {
			return nil, fmt.Errorf("%s has %d nodes and %s %d, which is no one picture; write their masks, .safetensors", names[0], n, names[i], m)
		}
		total += float64(p.Heads()) * float64(nodesOf(p)) * float64(nodesOf(p))
	}
	if ext != ".safetensors" {
		return drawn(attention.Together(patterns...), n, ext)
	}
	if total > maxMask {
		return nil, fmt.Errorf("the masks of %d layers are larger than 1 GiB; give a shorter input", len(patterns))
	}
	var masks []checkpoints.Tensor
	times := map[string]int{} // a layer may attend in several ways
	for i, p := range patterns {
		n, name := nodesOf(p), "mask."+names[i]
		if times[name]++; times[name] > 1 {
			name += fmt.Sprint(".", times[name])
		}
		masks = append(masks, checkpoints.Tensor{Name: name, Shape: []int{p.Heads(), n, n}, Data: attention.Mask(p, p.Heads(), n)})
	}
	err := checkpoints.WriteSafetensors(&file, masks)
	return file.Bytes(), err
}
