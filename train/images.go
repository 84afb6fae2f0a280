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
// Cost: size passes over n tokens. Errors: a model that is not for image_density; more levels than it has positions; those of ctx.
func DrawImages(ctx context.Context, m models.Model, params *layers.Params, n, size int, given []int32, s Sampling, progress func(done, all int)) ([][]int32, error) {
	causal, ok := m.(models.Causal)
	var start int32
	if ok {
		start, ok = models.StartLevel(causal)
	}
	if !ok {
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
	session, err := models.NewSession(causal, params, size)
	if err != nil {
		return nil, err
	}
	if session.Limit() < size {
		return nil, &models.LengthError{Length: size, Max: session.Limit()}
	}
	samplers, images := make([]*Sampler, n), make([][]int32, n)
	for i := range samplers {
		own := s
		own.Seed = splitmix.Mix(splitmix.Mix(s.Seed) + uint64(i))
		if samplers[i], err = NewSampler(own); err != nil {
			return nil, err
		}
	}
	next := []int32{start}
	for t := range size {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		logits, err := session.Step(next...)
		if err != nil {
			return nil, err
		}
		if t == 0 {
			session.Select(make([]int, n))
			next = make([]int32, n)
		}
		for i := range images {
			of := logits
			if t > 0 { // before, all have the same
				k := len(logits) / n
				of = logits[i*k : (i+1)*k]
			}
			if next[i] = samplers[i].Next(of); t < len(given) {
				next[i] = given[t]
			}
			images[i] = append(images[i], next[i])
		}
		if progress != nil {
			progress(t+1, size)
		}
	}
	return images, nil
}
