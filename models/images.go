package models

import "github.com/euryale-ml/euryale/layers"

// A model for image_density reads Inputs.IDs, the levels of an image in the order in which it is generated, and predicts all of them, each from
// those before it: it moves them by one itself and puts a vector of its own in front. So the targets are the ids, and the first level is
// predicted too. Logits are [B,T,K], or the numbers of a Mixture.

// Mixture is a model for image_density that may tell the levels of each pixel by a discretised mixture of logistics.
type Mixture interface {
	Model
	// Mixture is the form of the logits, which are then [B,P,Numbers] for the P = T/Channels pixels; false if they are over levels.
	Mixture() (layers.MixtureConfig, bool)
}

// Images says of what images a model is.
type Images struct {
	Height, Width, Channels int
	Order                   string // raster, or blocks(HEIGHT,WIDTH) in pixels, as data.order has it
	Classes                 int    // of Inputs.More["class_labels"]; 0: none
	LowHeight, LowWidth     int    // of the smaller image that is read beside it, Inputs.More["low_ids"]; 0: none
}

// OfImages is a model for images of one size that are generated in one order.
type OfImages interface {
	Model
	Images() Images
	// Order are the places of the levels in the order in which they are generated, counted row by row and by channels within a pixel.
	Order() []int
}

// ofLevels makes a stack over V levels one for image_density: its table gets a row for the start, which is not predicted.
func (s *stack) ofLevels() {
	s.classes, s.shifted = s.Vocab, true
	s.Vocab++
}

// dims are the sizes from outside: of image_density the ids are the levels, without the start.
func (s *stack) dims() Dims {
	d := s.Dims
	if s.shifted {
		d.Vocab = s.classes
	}
	return d
}

// StartLevel is the id that a Session of a model for image_density reads before the first level; false if the model is for another task.
func StartLevel(m Causal) (int32, bool) {
	s := m.causal()
	if s == nil || !s.shifted {
		return 0, false
	}
	return int32(s.Vocab - 1), true
}
