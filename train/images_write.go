package train

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/euryale-ml/euryale/data"
	"github.com/euryale-ml/euryale/internal/config"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/models"
)

// writeImages draws an image with each sampler by a model that writes them level by level, or, if it tells them by a mixture, pixel by pixel.
// Of a pixel that is given in part the rest is drawn as if it were not.
func writeImages(m models.Causal, params *layers.Params, size int, given []int32, samplers []*Sampler, done func(levels int) error) ([][]int32, error) {
	start, _ := models.StartLevel(m)
	n, each := len(samplers), 1
	draw := func(s *Sampler, logits []float32, levels []int32) { levels[0] = s.Next(logits) }
	if mix, ok := m.(models.Mixture); ok {
		if c, ok := mix.Mixture(); ok {
			each = c.Channels
			draw = func(s *Sampler, numbers []float32, levels []int32) { s.pixel(c, numbers, levels) }
		}
	}
	session, err := models.NewSession(m, params, size)
	if err != nil {
		return nil, err
	}
	if most := session.Limit() * each; most < size {
		return nil, &models.LengthError{Length: size, Max: most}
	}
	if size%each != 0 {
		return nil, fmt.Errorf("images of %d levels, a pixel of the model has %d: set data.channels", size, each)
	}
	if err := readLow(session, m, samplers[0].Low); err != nil {
		return nil, err
	}
	session.Select(make([]int, n))
	classes, err := classesOf(m, samplers)
	if err == nil && classes != nil {
		err = session.SetClasses(classes)
	}
	if err != nil {
		return nil, err
	}
	images, next := make([][]int32, n), slices.Repeat([]int32{start}, n*each)
	for t := 0; t < size; t += each {
		logits, err := session.Step(next...)
		if err != nil {
			return nil, err
		}
		k := len(logits) / n
		for i := range images {
			pixel := next[i*each:][:each]
			draw(samplers[i], logits[i*k:][:k], pixel)
			copy(pixel, given[min(t, len(given)):])
			images[i] = append(images[i], pixel...)
		}
		if err := done(t + each); err != nil {
			return nil, err
		}
	}
	return images, nil
}

// readLow gives a model for super-resolution the smaller image, and no other model any.
func readLow(s *models.Session, m models.Model, low []int32) error {
	of, ok := m.(models.OfImages)
	switch {
	case low != nil:
		return s.ReadLow(low)
	case ok && of.Images().LowHeight > 0:
		return fmt.Errorf("the model makes a smaller image of %dx%d larger: give one", of.Images().LowHeight, of.Images().LowWidth)
	}
	return nil
}

// classesOf says of what class the images are: that of their samplers, else all classes in turn; nil if the model knows none.
func classesOf(m models.Model, samplers []*Sampler) ([]int, error) {
	all := 0
	if of, ok := m.(models.OfImages); ok {
		all = of.Images().Classes
	}
	classes := make([]int, len(samplers))
	for i, of := range samplers {
		switch {
		case of.Class != nil && all == 0:
			return nil, errors.New("a class is asked for, but the model knows none: train one with num_classes")
		case of.Class != nil:
			classes[i] = *of.Class
		case all > 0:
			classes[i] = i % all
		}
	}
	if all == 0 {
		return nil, nil
	}
	return classes, nil
}

// pixel draws the levels of a pixel from the numbers of a mixture. Top-k and top-p do not apply.
func (s *Sampler) pixel(c layers.MixtureConfig, numbers []float32, levels []int32) {
	layers.SampleMixture(c, numbers, s.Temperature, func() float64 {
		s.drawn++
		return uniform(s.Seed, s.drawn-1)
	}, levels)
}

// fitsImages refuses images of another size than those of the model, with more classes, or in another order than it generates them in.
//
// Errors: *config.FieldError, joined.
func fitsImages(m models.Model, p *data.Part, order string, t int) error {
	of, ok := m.(models.OfImages)
	s, are := p.Image()
	if !ok || !are {
		return nil
	}
	want := of.Images()
	if s.Height != want.Height || s.Width != want.Width || s.Channels != want.Channels {
		return &config.FieldError{Path: "data.image_size", Value: []int{s.Height, s.Width}, Want: fmt.Sprintf(
			"the images are %s: want [%d, %d] and %d channels, as model.height, model.width and model.channels say", s, want.Height, want.Width, want.Channels)}
	}
	var faults []error
	if low, _, _ := p.Low(0); want.LowHeight > 0 && (low.Height != want.LowHeight || low.Width != want.LowWidth) {
		faults = append(faults, &config.FieldError{Path: "data.low_size", Value: []int{low.Height, low.Width}, Want: fmt.Sprintf(
			"want [%d, %d], as model.encoder.height and model.encoder.width say", want.LowHeight, want.LowWidth)})
	}
	if !slices.Equal(of.Order(), s.Order()) {
		faults = append(faults, &config.FieldError{Path: "data.order", Value: cmp.Or(order, "raster"), Want: "want the order in which the model generates, " + want.Order})
	}
	if k := p.Shape(t).Classes; want.Classes > 0 && k > want.Classes {
		faults = append(faults, &config.FieldError{Path: "model.num_classes", Value: want.Classes, Want: fmt.Sprintf("want at least the %d classes of the data, or 0 to leave them out", k)})
	}
	return errors.Join(faults...)
}
