package main

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/euryale-ml/euryale/checkpoints"
	"github.com/euryale-ml/euryale/data"
	"github.com/euryale-ml/euryale/models"
	"github.com/euryale-ml/euryale/train"
)

// imageFlags are the flags of generate for models of images.
type imageFlags struct {
	output string
	count  int
	keep   float64
	class  string
	low    string
}

// draw writes a grid of images that a model draws.
func (a *app) draw(ctx context.Context, l *loaded, f generateFlags) error {
	for _, flag := range []string{"max-new-tokens", "beams", "length-penalty", "early-stopping"} {
		if f.changed(flag) {
			return usagef("--%s is for models of text, this one draws images", flag)
		}
	}
	if f.images.output == "" {
		return usagef("a model of images draws them into a file: give --output F.png")
	}
	if ext := strings.ToLower(filepath.Ext(f.images.output)); ext != ".png" {
		return usagef("--output is %s: images are written as PNG, give a name that ends with .png", f.images.output)
	}
	if f.images.count < 1 || f.images.count > 1024 || !(f.images.keep >= 0 && f.images.keep <= 1) {
		return usagef("--count is %d and --keep %g: give 1 to 1024, and 0 to 1", f.images.count, f.images.keep)
	}
	shape, err := l.job.Data.ImageShape()
	if err != nil {
		return err
	}
	if positions := l.model.Dims().Positions; positions > 0 && shape.Size() > positions {
		return fmt.Errorf("%s: an image (%s) has %d tokens, the model %d positions: set data.image_size", l.dir, shape, shape.Size(), positions)
	}
	var given []int32
	if f.changed("prompt") {
		if given, err = shape.ReadImage(f.prompt); err != nil {
			return err
		}
		given = given[:int(f.images.keep*float64(len(given)))]
	}
	if f.images.low != "" {
		low, ok := l.job.Data.LowShape(shape)
		if !ok {
			return usagef("--low is for models that make a smaller image larger: this one reads none")
		}
		if f.decoding.Low, err = low.ReadResized(f.images.low); err != nil {
			return err
		}
	}
	if f.changed("class") {
		known := l.job.Data.Classes
		k := slices.Index(known, f.images.class)
		if k < 0 {
			return usagef("--class is %s: the data of the model have the classes %s", f.images.class, cmp.Or(strings.Join(known, ", "), "(none)"))
		}
		f.decoding.Class = &k
	}
	start := time.Now()
	p := a.out.startProgress("level", 0, shape.Size())
	images, err := train.DrawImages(ctx, l.model, l.params, f.images.count, shape.Size(), given, f.decoding.Sampling, func(done, _ int) { p.update(done, "") })
	a.out.endProgress()
	if err != nil {
		return err
	}
	if err := writeGrid(f.images.output, shape, images); err != nil {
		return err
	}
	seconds := time.Since(start).Seconds()
	a.out.event(map[string]any{"event": "done", "output": f.images.output, "count": len(images), "height": shape.Height, "width": shape.Width, "channels": shape.Channels,
		"levels": shape.Levels, "given": len(given), "images_per_s": float64(len(images)) / seconds})
	a.out.text("%s: %d images, %s\n", f.images.output, len(images), shape)
	a.out.note("%.2f images a second", float64(len(images))/seconds)
	return nil
}

func writeGrid(path string, shape data.ImageShape, images [][]int32) error {
	var file bytes.Buffer
	if err := shape.WriteGrid(&file, images, 0); err != nil {
		return err
	}
	return checkpoints.WriteFile(path, file.Bytes())
}

// sampleImages draws a grid into the run folder after each evaluation of a model of images. What goes wrong is told and does no harm.
func (a *app) sampleImages(ctx context.Context, run *train.Run) {
	shape, ok := run.Corpus.Train.Image()
	if !ok || run.Model.Task() != "image_density" {
		return
	}
	eval := run.Hooks.Eval
	run.Hooks.Eval = func(e train.EvalEvent) {
		if eval != nil {
			eval(e)
		}
		images, err := samples(ctx, run, shape)
		if err == nil {
			err = writeGrid(filepath.Join(run.Dir, "samples", fmt.Sprintf("step-%08d.png", e.Step)), shape, images)
		}
		if err != nil && ctx.Err() == nil {
			a.out.note("warning: no sample was drawn: %v", err)
		}
	}
}

// samples are 16 images that a model draws. Of super-resolution they are lines of four: an image of the validation part in small, what the model makes
// of that, twice, and the image.
func samples(ctx context.Context, run *train.Run, shape data.ImageShape) (all [][]int32, err error) {
	draw := func(n int, s train.Sampling) ([][]int32, error) {
		return train.DrawImages(ctx, run.Model, run.Trainer.Params, n, shape.Size(), nil, s, nil)
	}
	of, ok := run.Model.(models.OfImages)
	if !ok || of.Images().LowHeight == 0 {
		return draw(16, train.Sampling{Temperature: 1, Seed: 1})
	}
	val := run.Corpus.Val
	for i := range min(4, val.Documents()) {
		low, ids, _ := val.Low(i)
		two, err := draw(2, train.Sampling{Temperature: 1, Seed: uint64(1 + i), Low: ids})
		if err != nil {
			return nil, err
		}
		all = append(all, shape.Enlarge(low, ids), two[0], two[1], val.Document(i))
	}
	return all, nil
}
