package data

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// ImageShape says how a row of tokens is an image: one token for each channel of each pixel, a level from 0 to Levels-1, in the order in which
// the image is generated.
type ImageShape struct {
	Height, Width int
	Channels      int // 1 grey, 3 red, green, blue, which follow each other
	Levels        int // K
	BlockHeight   int // rows of the blocks that are generated one after the other, themselves row by row; 0: the image row by row
	BlockWidth    int
}

// Size is the number of tokens, T.
func (s ImageShape) Size() int { return s.Height * s.Width * s.Channels }

// Order are the places in the image, counted row by row and by channels within a pixel, in the order in which they are generated. Blocks at the
// lower and right border are cut off with the image.
func (s ImageShape) Order() []int {
	h, w := s.BlockHeight, s.BlockWidth
	if h == 0 {
		h, w = s.Height, s.Width
	}
	order := make([]int, 0, s.Size())
	for top := 0; top < s.Height; top += h {
		for left := 0; left < s.Width; left += w {
			for y := top; y < min(top+h, s.Height); y++ {
				for x := left; x < min(left+w, s.Width); x++ {
					for c := range s.Channels {
						order = append(order, (y*s.Width+x)*s.Channels+c)
					}
				}
			}
		}
	}
	return order
}

// Raster brings tokens into the order of the image: row by row.
func (s ImageShape) Raster(ids []int32) []int32 {
	raster := make([]int32, s.Size())
	for t, at := range s.Order() {
		raster[at] = ids[t]
	}
	return raster
}

// String is the shape for people.
func (s ImageShape) String() string {
	colour := "grey"
	if s.Channels == 3 {
		colour = "RGB"
	}
	text := fmt.Sprintf("%dx%d %s, %d levels", s.Height, s.Width, colour, s.Levels)
	if s.BlockHeight > 0 {
		text += fmt.Sprintf(", in blocks of %dx%d", s.BlockHeight, s.BlockWidth)
	}
	return text
}

// Levels is the vocabulary of images: so many levels of a channel. As text a level is its number.
type Levels int

var _ Tokenizer = Levels(0)

// Name returns "levels".
func (l Levels) Name() string { return "levels" }

// VocabSize is the number of levels.
func (l Levels) VocabSize() int { return int(l) }

// Encode returns the levels that stand in a text with spaces between them; what is none is left out.
func (l Levels) Encode(text string) []int32 {
	var ids []int32
	for word := range strings.FieldsSeq(text) {
		if n, err := strconv.Atoi(word); err == nil && n >= 0 && n < int(l) {
			ids = append(ids, int32(n))
		}
	}
	return ids
}

// Decode writes the numbers of levels, each with a space after it.
func (l Levels) Decode(ids []int32) string {
	var s strings.Builder
	for _, id := range ids {
		if id >= 0 && int(id) < int(l) {
			s.WriteString(strconv.Itoa(int(id)))
			s.WriteByte(' ')
		}
	}
	return s.String()
}

// DigitsName is what the embedded images are called: 1,797 handwritten digits of 8x8 pixels with 17 levels.
const DigitsName = "digits"

// ImageSet is a set of images that the program knows by name.
type ImageSet struct {
	Name, File string // the file or folder is below the folder of the sets; "": embedded
	Summary    string
	values     int // levels that the values in the file have
	channels   int
}

// imageSets are the sets of images by name.
var imageSets = []ImageSet{
	{DigitsName, "", "1,797 handwritten digits, 8x8, 17 levels, 10 classes; comes with the program", 17, 1},
	{"fashion", "image/fashion-t10k-images-idx3-ubyte.gz", "10,000 pieces of clothing, 28x28, grey, 10 classes", 256, 1},
	{"mnist", "image/mnist_5k.csv.gz", "5,000 handwritten digits, 28x28, grey, 10 classes", 256, 1},
	{"photos", "image", "photographs in colour of about 427x640, for patches (data.patch_size)", 256, 3},
}

// ImageSets lists the sets of images.
func ImageSets() []ImageSet { return slices.Clone(imageSets) }

func imageSetOf(name string) (ImageSet, bool) {
	at := slices.IndexFunc(imageSets, func(s ImageSet) bool { return s.Name == name })
	if at < 0 {
		return ImageSet{}, false
	}
	return imageSets[at], true
}

// ofImages reports whether the data are images: by what is asked of them, or by their name.
func (c Config) ofImages() bool {
	_, named := imageSetOf(c.Path)
	return c.Task == "" && (named || isIDX(c.Path) || c.objective() == "image_density")
}

// imagePath is the path or name of the images.
func (c Config) imagePath() string {
	if c.Path == "" {
		return DigitsName
	}
	return c.Path
}

// imageValues is how many levels the values in the source have, K how many are made of them, and channels how many there are in a pixel.
func (c Config) imageValues() (values, levels, channels int) {
	set, named := imageSetOf(c.imagePath())
	if !named {
		set = ImageSet{values: 256, channels: 1}
		if ext, _ := extension(c.Path); !isIDX(c.Path) && ext != ".csv" {
			set.channels = 3
		}
	}
	or := func(n, standard int) int {
		if n == 0 {
			return standard
		}
		return n
	}
	values = or(c.ImageValues, set.values)
	return values, or(c.ImageLevels, values), or(c.Channels, set.channels)
}

// blocks reads Order; ok is false if it says nothing that there is.
func (c Config) blocks() (h, w int, ok bool) {
	if c.Order == "" || c.Order == "raster" {
		return 0, 0, true
	}
	_, err := fmt.Sscanf(c.Order, "blocks(%d,%d)", &h, &w)
	return h, w, err == nil && h > 0 && w > 0 && c.Order == fmt.Sprintf("blocks(%d,%d)", h, w)
}

// sides reads one or two numbers: a square, or height and width; 0, 0 without any.
func sides(n []int) (h, w int) {
	switch len(n) {
	case 1:
		return n[0], n[0]
	case 2:
		return n[0], n[1]
	}
	return 0, 0
}

// validateImages reports the faults of the keys of images.
func (c Config) validateImages(fault func(ok bool, path string, value any, want string)) {
	size := func(n []int, path string) {
		h, w := sides(n)
		fault(len(n) == 0 || len(n) <= 2 && h > 0 && w > 0 && h <= maxSide && w <= maxSide, path, n,
			fmt.Sprintf("height and width, such as [28,28], each 1 to %d", maxSide))
	}
	size(c.ImageSize, "image_size")
	size(c.LowSize, "low_size")
	size(c.PatchSize, "patch_size")
	fault(c.PatchStride == 0 || c.PatchStride > 0 && c.PatchStride <= maxSide && len(c.PatchSize) > 0, "patch_stride", c.PatchStride, fmt.Sprintf("1 to %d, with data.patch_size; 0: patches side by side", maxSide))
	fault(c.ImageLevels == 0 || c.ImageLevels >= 2 && c.ImageLevels <= 256, "image_levels", c.ImageLevels, "2 to 256, or 0: those of the source")
	fault(c.ImageValues == 0 || c.ImageValues >= 2 && c.ImageValues <= 256, "image_values", c.ImageValues, "2 to 256, or 0: 256, of digits 17")
	fault(c.Channels == 0 || c.Channels == 1 || c.Channels == 3, "channels", c.Channels, "1 (grey), 3 (RGB), or 0: those of the source")
	_, _, ok := c.blocks()
	fault(ok, "order", c.Order, `"raster" or "blocks(HEIGHT,WIDTH)"`)
	if !c.ofImages() {
		for _, k := range []struct {
			set   bool
			path  string
			value any
		}{{len(c.ImageSize) > 0, "image_size", c.ImageSize}, {len(c.LowSize) > 0, "low_size", c.LowSize}, {len(c.PatchSize) > 0, "patch_size", c.PatchSize}, {c.ImageLevels != 0, "image_levels", c.ImageLevels},
			{c.ImageValues != 0, "image_values", c.ImageValues}, {c.Channels != 0, "channels", c.Channels}, {c.Order != "", "order", c.Order}} {
			fault(!k.set, k.path, k.value, "nothing: the data are no images (data.objective image_density, or a set of images)")
		}
		return
	}
	fault(c.objective() == "image_density" || c.objective() == "sequence_classification", "objective", c.objective(), "image_density or sequence_classification of images")
	fault(len(c.LowSize) == 0 || c.objective() == "image_density", "low_size", c.LowSize, "nothing: it is for image_density")
	fault(c.Tokenizer == "", "tokenizer", c.Tokenizer, "nothing: images have levels (data.image_levels)")
}
