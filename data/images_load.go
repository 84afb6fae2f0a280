package data

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Images go whole into a part: of every 10 the fifth (index%10 == 4) to validation, the tenth to test, so that it is the same whatever is done with
// them. Of photographs that are cut into patches it is bands of them, as high as a patch, that go there, since patches side by side know each other: no
// patch reaches over the border of a band that is held out. Bands are counted through all images.
const (
	imageEvery = 10
	imageVal   = 4
	imageTest  = 9
)

// tiles are images as levels in the order in which they are generated, with their part.
type tiles struct {
	shape  ImageShape
	order  []int
	levels []byte // [N,T]
	low    lowImages
	labels []string
	parts  []int8
	bands  int // of all images before
}

// readTiles reads and prepares all images of the data.
//
// Errors: those of readImages; ErrFormat for images of different sizes; ErrTooLarge for more than maxTaskLength tokens.
func (c Config) readTiles() (*tiles, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	values, levels, channels := c.imageValues()
	t := &tiles{shape: ImageShape{Channels: channels, Levels: levels}}
	t.shape.BlockHeight, t.shape.BlockWidth, _ = c.blocks()
	t.low.shape = c.lowShape(t.shape)
	ph, pw := sides(c.PatchSize)
	first := ""
	err := readImages(c.imagePath(), values, func(p picture) error {
		if ph > 0 {
			return t.patches(c, p.coloured(channels), ph, pw)
		}
		if first == "" {
			first = p.name
		} else if len(c.ImageSize) == 0 && (p.height != t.shape.Height || p.width != t.shape.Width) {
			return &Error{Kind: ErrFormat, Path: p.name, What: fmt.Sprintf("%dx%d pixels, but %s has %dx%d", p.height, p.width, first, t.shape.Height, t.shape.Width),
				Fix: "set data.image_size to make them alike, or data.patch_size to cut them"}
		}
		return t.add(c, p.coloured(channels), imagePart(len(t.labels)))
	})
	if err != nil {
		return nil, err
	}
	if len(t.labels) == 0 {
		return nil, &Error{Kind: ErrEmpty, Path: c.imagePath(), What: "no images", Fix: "give some"}
	}
	return t, nil
}

func imagePart(index int) int8 {
	switch index % imageEvery {
	case imageVal:
		return 1
	case imageTest:
		return 2
	}
	return 0
}

// add prepares an image for a part.
func (t *tiles) add(c Config, p picture, part int8) error {
	s := &t.shape
	if t.order == nil {
		if s.Height, s.Width = sides(c.ImageSize); s.Height == 0 {
			s.Height, s.Width = p.height, p.width
		}
		if size := s.Size(); size > maxTaskLength {
			return &Error{Kind: ErrTooLarge, Path: p.name, What: fmt.Sprintf("%dx%d pixels of %d channels are %d tokens, more than %d", s.Height, s.Width, s.Channels, size, maxTaskLength),
				Fix: "set data.image_size or data.patch_size"}
		}
		if s.BlockHeight > s.Height || s.BlockWidth > s.Width {
			return &Error{Kind: ErrFormat, Path: p.name, What: fmt.Sprintf("data.order has blocks of %dx%d, the images %dx%d pixels", s.BlockHeight, s.BlockWidth, s.Height, s.Width),
				Fix: "give smaller blocks"}
		}
		if l := t.low.shape; l.Height > s.Height || l.Width > s.Width {
			return &Error{Kind: ErrFormat, Path: p.name, What: fmt.Sprintf("data.low_size is %dx%d, the images %dx%d pixels", l.Height, l.Width, s.Height, s.Width),
				Fix: "make it smaller"}
		}
		t.order = s.Order()
	}
	values, _, _ := c.imageValues()
	if top := slices.Max(p.values); int(top) >= values {
		return &Error{Kind: ErrFormat, Path: p.name, What: fmt.Sprintf("a value of %d, want less than %d", top, values), Fix: "set data.image_values to 256, or leave it out"}
	}
	levels := p.resized(s.Height, s.Width, values, s.Levels)
	for _, at := range t.order {
		t.levels = append(t.levels, levels[at])
	}
	t.low.add(p, values)
	t.labels = append(t.labels, p.label)
	t.parts = append(t.parts, part)
	if int64(len(t.levels)) > maxBytes {
		return &Error{Kind: ErrTooLarge, Path: p.name, What: fmt.Sprintf("more than %d levels, with the images before", maxBytes), Fix: "train on a part of them"}
	}
	return nil
}

// patches cuts an image.
func (t *tiles) patches(c Config, p picture, h, w int) error {
	if h > p.height || w > p.width {
		return &Error{Kind: ErrTooShort, Path: p.name, What: fmt.Sprintf("%dx%d pixels, smaller than a patch of %dx%d", p.height, p.width, h, w), Fix: "set data.patch_size smaller, or take the image away"}
	}
	stepY, stepX := h, w
	if c.PatchStride > 0 {
		stepY, stepX = c.PatchStride, c.PatchStride
	}
	bands := p.height / h
	for first := 0; first < bands; { // bands of one part that follow each other
		last, part := first+1, imagePart(t.bands+first)
		for last < bands && imagePart(t.bands+last) == part {
			last++
		}
		end := last * h
		if last == bands {
			end = p.height
		}
		for top := first * h; top+h <= end; top += stepY {
			for left := 0; left+w <= p.width; left += stepX {
				if err := t.add(c, p.crop(top, left, h, w), part); err != nil {
					return err
				}
			}
		}
		first = last
	}
	t.bands += bands
	return nil
}

// classes are those of the data, in the order of their numbers; nil if no image has one.
func (t *tiles) classes(c Config) []string {
	if len(c.Classes) > 0 {
		return c.Classes
	}
	all := slices.Clone(t.labels)
	slices.Sort(all)
	all = slices.DeleteFunc(slices.Compact(all), func(s string) bool { return s == "" })
	if len(all) == 0 {
		return nil
	}
	return all
}

// part makes a part of the images that belong to one; of all if which is negative.
//
// Errors: ErrTooShort; ErrLabel where classes are asked for and one is none of them.
func (t *tiles) part(c Config, name string, which int8, classes []string) (*Part, error) {
	density := c.objective() == "image_density"
	p := &Part{Name: name, source: c.imagePath(), view: imageView{len(classes), density, t.low.shape.Size()}, bounds: []int{0}, image: &t.shape, low: lowImages{shape: t.low.shape}}
	n := t.shape.Size()
	for i, label := range t.labels {
		if which >= 0 && t.parts[i] != which {
			continue
		}
		class := slices.Index(classes, label)
		if class < 0 && !density {
			return nil, &Error{Kind: ErrLabel, Path: c.imagePath(), What: fmt.Sprintf("image %d has the class %q, none of those that are known (%s)", i, label, strings.Join(classes, ", ")),
				Fix: "give images in folders of their classes, those of the training"}
		}
		p.tokens.small = append(p.tokens.small, t.levels[i*n:(i+1)*n]...)
		p.bounds = append(p.bounds, p.tokens.len())
		p.labels = append(p.labels, int32(class))
		p.low.levels = append(p.low.levels, t.low.of(i)...)
	}
	p.bytes = int64(p.tokens.len())
	if p.tokens.len() == 0 {
		return nil, &Error{Kind: ErrTooShort, Path: c.imagePath(), What: fmt.Sprintf("%d images, none for the %s part", len(t.labels), name),
			Fix: fmt.Sprintf("give at least %d, or of photographs that are cut at least %d rows of patches", imageEvery, imageEvery)}
	}
	return p, nil
}

// loadImages makes the corpus of images.
func (c Config) loadImages() (*Corpus, error) {
	t, err := c.readTiles()
	if err != nil {
		return nil, err
	}
	corpus := &Corpus{Name: c.imagePath(), Tokenizer: Levels(t.shape.Levels), Classes: t.classes(c)}
	digest := sha256.New()
	_, _ = fmt.Fprintf(digest, "%s %+v %q\n", c.objective(), t.shape, corpus.Classes)
	for i, to := range []**Part{&corpus.Train, &corpus.Val, &corpus.Test} {
		p, err := t.part(c, PartNames[i], int8(i), corpus.Classes)
		if err != nil {
			return nil, err
		}
		*to = p
		_ = binary.Write(digest, binary.LittleEndian, uint64(p.Documents()))
		_, _ = digest.Write(p.tokens.small)
		_, _ = digest.Write(p.low.levels)
		_ = binary.Write(digest, binary.LittleEndian, p.labels)
	}
	corpus.Digest = hex.EncodeToString(digest.Sum(nil))
	return corpus, nil
}

// loadWholeImages makes one part of all images.
func (c Config) loadWholeImages() (*Part, error) {
	t, err := c.readTiles()
	if err != nil {
		return nil, err
	}
	return t.part(c, "all", -1, t.classes(c))
}

// Image is the shape of the images of a part; false if it has none.
func (p *Part) Image() (ImageShape, bool) {
	if p.image == nil {
		return ImageShape{}, false
	}
	return *p.image, true
}

// Shaped says in the configuration what shape the images of a part of it have, so that ImageShape knows it without them; of other data it
// changes nothing.
func (c Config) Shaped(p *Part) Config {
	if s, ok := p.Image(); ok {
		c.ImageSize, c.ImageLevels, c.Channels = []int{s.Height, s.Width}, s.Levels, s.Channels
	}
	return c
}

// ImageShape is the shape of the images of the data, from what Shaped said, else from the first of them.
//
// Errors: those of reading it.
func (c Config) ImageShape() (ImageShape, error) {
	_, levels, channels := c.imageValues()
	s := ImageShape{Channels: channels, Levels: levels}
	s.BlockHeight, s.BlockWidth, _ = c.blocks()
	s.Height, s.Width = sides(c.ImageSize)
	if s.Height == 0 {
		s.Height, s.Width = sides(c.PatchSize)
	}
	if s.Height > 0 {
		return s, nil
	}
	enough := errors.New("the first is enough")
	values, _, _ := c.imageValues()
	err := readImages(c.imagePath(), values, func(p picture) error {
		s.Height, s.Width = p.height, p.width
		return enough
	})
	if errors.Is(err, enough) {
		err = nil
	}
	return s, err
}

// checkImageLength refuses a sequence length that is not that of the images.
func (p *Part) checkImageLength(t int) error {
	size := p.image.Size()
	if t == size {
		return nil
	}
	return &Error{Kind: ErrTooShort, Path: p.source, Largest: size, What: fmt.Sprintf("sequence_length is %d, but an image (%s) has %d tokens", t, p.image, size),
		Fix: fmt.Sprintf("set train.sequence_length=%d, or data.image_size", size)}
}

// imageView asks for every level of an image, from those that are generated before it, or for its class.
//
// Targets are the ids themselves: it is the model that moves what it reads by one, with a vector of its own in front, so that every level is
// predicted, the first one too. A batch counts a byte for each level, so that the loss in bits divided by that is bits per dimension. Where
// images have classes they are Labels, and More["class_labels"] for models that read them; -1: none. More["low_ids"] are the levels of the same image
// in small, row by row.
type imageView struct {
	classes int
	density bool
	low     int // levels of the smaller image; 0: there is none
}

func (imageView) frame() frame { return frame{whole: true} }

func (v imageView) shape(int) Shape {
	s := Shape{Classes: v.classes}
	if v.classes > 0 {
		s.Labels = 1
	}
	if v.density {
		s.More = map[string]int{}
		if v.classes > 0 {
			s.More["class_labels"] = 1
		}
		if v.low > 0 {
			s.More["low_ids"] = v.low
		}
	}
	return s
}

func (v imageView) fill(b *Batch, r int, p *Part, w span, _ uint64) {
	b.clear(r, 0)
	ids := rowOf(b, b.IDs, r)
	n := w.end - w.start
	p.tokens.copy(ids[:n], w.start)
	b.Lens[r] = int32(n)
	if v.density {
		copy(rowOf(b, b.Targets, r), ids[:n])
		b.Bytes += float64(n)
	}
	if b.Labels != nil {
		b.Labels[r] = p.labels[w.doc]
	}
	if classes := b.More["class_labels"]; classes != nil {
		classes[r] = p.labels[w.doc]
	}
	if low := b.More["low_ids"]; low != nil {
		for i, level := range p.low.of(w.doc) {
			rowOf(b, low, r)[i] = int32(level)
		}
	}
}

func (v imageView) scored(_ *Part, w span, _ int, _ uint64) (targets int, bytes int64) {
	if !v.density {
		return 1, 1
	}
	return w.end - w.start, int64(w.end - w.start)
}
