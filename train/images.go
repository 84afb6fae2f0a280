package train

import (
	"context"
	"fmt"

	"github.com/euryale-ml/euryale/internal/splitmix"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/models"
)

// DrawImages draws n images of size levels each, in the order in which they are generated, side by side. given are levels that all of them begin
// with. Image i is a function of (seed, i) and the model, whatever n is. progress, if not nil, is told how many levels of each are there.
//
// Cost: size passes over n tokens, unless the model is a models.Painter. Errors: a model that is not for image_density; more levels than it has
// positions; those of ctx.
func DrawImages(ctx context.Context, m models.Model, params *layers.Params, n, size int, given []int32, s Sampling, progress func(done, all int)) ([][]int32, error) {
	painter, own := m.(models.Painter)
	causal, ok := m.(models.Causal)
	if ok {
		_, ok = models.StartLevel(causal)
	}
	if !ok && !own {
		return nil, fmt.Errorf("a model of type %s for %s does not draw images: use one for image_density", m.Type(), m.Task())
	}
	if n < 1 || len(given) > size {
		return nil, fmt.Errorf("%d images of %d levels, %d of them given: want at least 1, and no more given than there are", n, size, len(given))
	}
	for i, level := range given {
		if k := m.Dims().Vocab; level < 0 || int(level) >= k {
			return nil, fmt.Errorf("level %d is given at place %d, the model has 0 to %d", level, i, k-1)
		}
	}
	samplers := make([]*Sampler, n)
	for i := range samplers {
		own := s
		own.Seed = splitmix.Mix(splitmix.Mix(s.Seed) + uint64(i))
		var err error
		if samplers[i], err = NewSampler(own); err != nil {
			return nil, err
		}
	}
	done := func(levels int) error {
		if progress != nil {
			progress(levels, size)
		}
		return ctx.Err()
	}
	if own {
		if positions := m.Dims().Positions; size != positions {
			return nil, fmt.Errorf("images of %d levels, the model draws images of %d: set data.image_size and data.channels to its own", size, positions)
		}
		if s.Low != nil {
			return nil, fmt.Errorf("a smaller image is given, but a model of type %s reads none", m.Type())
		}
		classes, err := classesOf(m, samplers)
		if err != nil {
			return nil, err
		}
		return painter.Paint(params, models.Painting{Images: n, Given: given, Classes: classes, Done: done,
			Next: func(image int, logits []float32) int32 { return samplers[image].Next(logits) }})
	}
	return writeImages(causal, params, size, given, samplers, done)
}
