package layers

import (
	"fmt"

	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/kernels"
	"github.com/euryale-ml/euryale/internal/splitmix"
)

// Ids of images are int32 [B,T]: the levels of S slices, such as channels, of T/S pixels, those of a pixel side by side. which, int32 [E], names
// a slice of example e, which is one of image e·B/E: of each image as many slices are asked for.

// PickSlice takes a slice of each example: int32 [E,T/S]. Errors, when run: a slice below 0, or of S or more.
func PickSlice(b *Builder, ids, which *Node, slices int) *Node {
	return b.Op(pickSlice{slices}, ids, which)
}

// TakeIDs is ids [B,T] in another order, index int32 [R]: int32 [B,R]. Errors, when run: an index that is not 0 to T-1.
func TakeIDs(b *Builder, ids, index *Node) *Node { return b.Op(takeIDs{}, ids, index) }

// DrawSlices draws a slice for each of so many images, int32 [B]: a function of (seed, step, place in the model, image), where the step is the
// input Builder.Step.
func DrawSlices(b *Builder, batch, slices int) *Node {
	if b.Err() != nil {
		return nil
	}
	if batch < 1 || slices < 1 {
		return b.Failf("slices: %d images of %d slices, want at least 1", batch, slices)
	}
	return b.Op(drawSlices{batch: batch, slices: slices, seed: b.Seed(), site: b.site("slices")}, b.Step())
}

// PlanesConfig is the form of images.
type PlanesConfig struct{ Height, Width, Slices, Levels int }

// SlicePlanes is what a convolution of 3x3 reads to tell a slice from those before it: for each pixel and each of the nine places around it, from the
// upper left on, the levels of the slices before which[e] from 0 to 1, and 1 for slice which[e] itself. All else is 0, and so is what is beyond the
// image.
//
// Shapes: ids int32 [B,T], which int32 [E] -> [E,T/S,9·2S]. Cost: one pass over the result.
// Source: Ho et al. 2019, arXiv 1912.12180, official code (the model of channels).
func SlicePlanes(b *Builder, ids, which *Node, c PlanesConfig) *Node {
	return b.Op(slicePlanes{c, b.Dtype()}, ids, which)
}

// sliced checks images and the slices that are asked for.
func sliced(in []engine.Type, slices int) (examples, pixels int, err error) {
	if err := isInts("ids", in[0]); err != nil {
		return 0, 0, err
	}
	if err := isInts("slices", in[1]); err != nil {
		return 0, 0, err
	}
	ids, which := in[0].Shape, in[1].Shape
	if len(ids) != 2 || len(which) != 1 || slices < 1 || ids[1]%slices != 0 || ids[0] == 0 || which[0]%ids[0] != 0 {
		return 0, 0, fmt.Errorf("slices %v of ids %v with %d slices: want as many of each image, and a whole number of pixels", which, ids, slices)
	}
	return which[0], ids[1] / slices, nil
}

// asked checks the slices when run.
func asked(which []int32, slices int) error {
	for e, k := range which {
		if k < 0 || int(k) >= slices {
			return fmt.Errorf("slice %d is asked for of example %d, there are %d", k, e, slices)
		}
	}
	return nil
}

// pickSlice has inputs: ids, which.
type pickSlice struct{ slices int }

func (pickSlice) Name() string                             { return "pick_slice" }
func (pickSlice) Cheap()                                   {}
func (pickSlice) DiffWRT() []bool                          { return []bool{false, false} }
func (pickSlice) Diff(in Nodes, _, _ *Node) (Nodes, error) { return make(Nodes, len(in)), nil }

func (o pickSlice) Infer(in []engine.Type) (engine.Type, error) {
	e, pixels, err := sliced(in, o.slices)
	return engine.Type{Dtype: tensor.Int32, Shape: tensor.Shape{e, pixels}}, err
}

func (o pickSlice) Run(out engine.Value, in []engine.Value) error {
	ids, which, y := engine.Ints(in[0]), engine.Ints(in[1]), engine.Ints(out)
	pixels, each := out.Shape()[1], len(which)/in[0].Shape()[0]
	if err := asked(which, o.slices); err != nil {
		return err
	}
	for e, k := range which {
		image := ids[e/each*pixels*o.slices:]
		for p := range pixels {
			y[e*pixels+p] = image[p*o.slices+int(k)]
		}
	}
	return nil
}

// takeIDs has inputs: ids, index.
type takeIDs struct{}

func (takeIDs) Name() string                             { return "take_ids" }
func (takeIDs) Cheap()                                   {}
func (takeIDs) DiffWRT() []bool                          { return []bool{false, false} }
func (takeIDs) Diff(in Nodes, _, _ *Node) (Nodes, error) { return make(Nodes, len(in)), nil }

func (takeIDs) Infer(in []engine.Type) (engine.Type, error) {
	if err := isInts("ids", in[0]); err != nil {
		return engine.Type{}, err
	}
	if err := isInts("indices", in[1]); err != nil {
		return engine.Type{}, err
	}
	if len(in[0].Shape) != 2 || len(in[1].Shape) != 1 {
		return engine.Type{}, fmt.Errorf("index %v of ids %v, want [R] and [B,T]", in[1].Shape, in[0].Shape)
	}
	return engine.Type{Dtype: tensor.Int32, Shape: tensor.Shape{in[0].Shape[0], in[1].Shape[0]}}, nil
}

func (takeIDs) Run(out engine.Value, in []engine.Value) error {
	ids, index, y, t := engine.Ints(in[0]), engine.Ints(in[1]), engine.Ints(out), in[0].Shape()[1]
	for r, i := range index {
		if i < 0 || int(i) >= t {
			return fmt.Errorf("index[%d] is %d, there are %d ids", r, i, t)
		}
		for b := range in[0].Shape()[0] {
			y[b*len(index)+r] = ids[b*t+int(i)]
		}
	}
	return nil
}

// drawSlices has inputs: step.
type drawSlices struct {
	batch, slices int
	seed, site    uint64
}

func (drawSlices) Name() string                             { return "draw_slices" }
func (drawSlices) Cheap()                                   {}
func (drawSlices) DiffWRT() []bool                          { return []bool{false} }
func (drawSlices) Diff(in Nodes, _, _ *Node) (Nodes, error) { return make(Nodes, len(in)), nil }

func (o drawSlices) Infer(in []engine.Type) (engine.Type, error) {
	return engine.Type{Dtype: tensor.Int32, Shape: tensor.Shape{o.batch}}, isInts("steps", in[0])
}

func (o drawSlices) Run(out engine.Value, in []engine.Value) error {
	key := splitmix.Mix(splitmix.Mix(o.seed^o.site) + uint64(engine.Ints(in[0])[0])*splitmix.Increment)
	for e := range engine.Ints(out) {
		engine.Ints(out)[e] = int32((splitmix.Mix(key+uint64(e+1)*splitmix.Increment) >> 32) * uint64(o.slices) >> 32)
	}
	return nil
}

// slicePlanes has inputs: ids, which.
type slicePlanes struct {
	PlanesConfig
	dtype tensor.Dtype
}

func (slicePlanes) Name() string                             { return "slice_planes" }
func (slicePlanes) Cheap()                                   {}
func (slicePlanes) DiffWRT() []bool                          { return []bool{false, false} }
func (slicePlanes) Diff(in Nodes, _, _ *Node) (Nodes, error) { return make(Nodes, len(in)), nil }

func (o slicePlanes) Infer(in []engine.Type) (engine.Type, error) {
	e, pixels, err := sliced(in, o.Slices)
	if err == nil && (pixels != o.Height*o.Width || o.Levels < 2) {
		err = fmt.Errorf("images of %d pixels in %d levels, want %dx%d and at least 2", pixels, o.Levels, o.Height, o.Width)
	}
	return engine.Type{Dtype: o.dtype, Shape: tensor.Shape{e, pixels, 9 * 2 * o.Slices}}, err
}

func (o slicePlanes) Run(out engine.Value, in []engine.Value) error {
	if err := asked(engine.Ints(in[1]), o.Slices); err != nil {
		return err
	}
	if engine.IsF32(out) {
		runSlicePlanes[float32](o, out, in)
	} else {
		runSlicePlanes[float64](o, out, in)
	}
	return nil
}

func runSlicePlanes[F kernels.Float](o slicePlanes, out engine.Value, in []engine.Value) {
	ids, which, y := engine.Ints(in[0]), engine.Ints(in[1]), engine.Floats[F](out)
	s, each, at := o.Slices, len(which)/in[0].Shape()[0], 0
	clear(y)
	for e, k := range which {
		image := ids[e/each*o.Height*o.Width*s:]
		for r := range o.Height {
			for c := range o.Width {
				for place := range 9 {
					if ry, rx := r+place/3-1, c+place%3-1; ry >= 0 && ry < o.Height && rx >= 0 && rx < o.Width {
						for before := range k {
							y[at+int(before)] = F(float64(image[(ry*o.Width+rx)*s+int(before)]) / float64(o.Levels-1))
						}
						y[at+s+int(k)] = 1
					}
					at += 2 * s
				}
			}
		}
	}
}
