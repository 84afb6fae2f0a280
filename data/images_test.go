package data

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const density = "image_density"

// pngOf is an image whose colours are a function of the place.
func pngOf(t *testing.T, h, w int, at func(y, x int) color.Color) []byte {
	t.Helper()
	img := image.NewNRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			img.Set(x, y, at(y, x))
		}
	}
	var file bytes.Buffer
	require.NoError(t, png.Encode(&file, img))
	return file.Bytes()
}

// idxOf is a file in the format of MNIST.
func idxOf(size []uint32, values ...byte) []byte {
	file := []byte{0, 0, 8, byte(len(size))}
	for _, n := range size {
		file = binary.BigEndian.AppendUint32(file, n)
	}
	return append(file, values...)
}

// bitsOf are the bits per level of the test part under the frequencies of the train part, and under those that depend on the levels left and above.
func bitsOf(c *Corpus) (order0, neighbours float64) {
	s, _ := c.Train.Image()
	k := s.Levels
	count := func(p *Part, seen func(context, level int32)) {
		for d := range p.Documents() {
			raster := s.Raster(p.Document(d))
			for i, level := range raster {
				left, up := int32(0), int32(0)
				if i%s.Width > 0 {
					left = raster[i-1]
				}
				if i >= s.Width {
					up = raster[i-s.Width]
				}
				seen(left*int32(k)+up, level)
			}
		}
	}
	alone, pairs, totals := make([]float64, k), make([]float64, k*k*k), make([]float64, k*k)
	count(c.Train, func(at, level int32) {
		alone[level]++
		pairs[int(at)*k+int(level)]++
		totals[at]++
	})
	all, n := float64(c.Train.Tokens()), 0.0
	count(c.Test, func(at, level int32) {
		order0 -= math.Log2((alone[level] + 1/float64(k)) / (all + 1))
		neighbours -= math.Log2((pairs[int(at)*k+int(level)] + 1/float64(k)) / (totals[at] + 1))
		n++
	})
	return order0 / n, neighbours / n
}

// TestDigits are those of scikit-learn: known numbers of them, and known bits under simple models.
func TestDigits(t *testing.T) {
	c, err := Load(Config{Objective: density})
	require.NoError(t, err)
	require.Equal(t, DigitsName, c.Name)
	require.Equal(t, []int{1438, 180, 179}, []int{c.Train.Documents(), c.Val.Documents(), c.Test.Documents()})
	require.Equal(t, strings.Split("0123456789", ""), c.Classes)
	require.Equal(t, 17, c.Tokenizer.VocabSize())
	s, ok := c.Train.Image()
	require.True(t, ok)
	require.Equal(t, ImageShape{Height: 8, Width: 8, Channels: 1, Levels: 17}, s)
	require.Equal(t, 64, c.Train.Length())
	require.Equal(t, []int32{0, 0, 5, 13, 9, 1, 0, 0, 0, 0, 13, 15}, c.Train.Document(0)[:12])
	order0, neighbours := bitsOf(c)
	require.InDelta(t, 2.96, order0, 0.005)
	require.InDelta(t, 2.46, neighbours, 0.01)

	again, err := Load(Config{Path: DigitsName, Objective: density})
	require.NoError(t, err)
	require.Equal(t, c.Digest, again.Digest)
	other, err := Load(Config{Path: DigitsName, Objective: density, Order: "blocks(4,2)"})
	require.NoError(t, err)
	require.NotEqual(t, c.Digest, other.Digest)
	require.Equal(t, []int32{0, 0, 0, 0, 0, 3, 0, 4, 5, 13, 13, 15}, other.Train.Document(0)[:12])
	shape, _ := other.Train.Image()
	require.Equal(t, c.Train.Document(7), shape.Raster(other.Train.Document(7)))
	require.True(t, IsName(DigitsName))
	require.Len(t, ImageSets(), 4)
	script, err := os.ReadFile(filepath.Join("..", filepath.FromSlash(FetchScript)))
	require.NoError(t, err)
	for _, set := range ImageSets() {
		require.True(t, set.File == "" || strings.Contains(string(script), "\n"+set.Name+"() {"), "the script that the error names fetches %s", set.Name)
	}
}

// TestImageBatches: every level is a target, the class is there twice, and what is past the end is padding.
func TestImageBatches(t *testing.T) {
	c, err := Load(Config{Objective: density})
	require.NoError(t, err)
	shape := c.Test.Shape(64)
	require.Equal(t, Shape{Labels: 1, Classes: 10, More: map[string]int{"class_labels": 1}}, shape)
	b := shape.NewBatch(5, 64)
	w := c.Test.PlainWindows(64)
	require.Equal(t, 179, w.Len())
	require.EqualValues(t, 179*64, w.Scored())
	require.EqualValues(t, 179*64, w.Bytes())
	require.Equal(t, w.Len(), c.Test.StridedWindows(64, 32).Len())
	w.Fill(177, b)
	require.Equal(t, c.Test.Document(178), b.IDs[64:128])
	require.Equal(t, b.IDs[:128], b.Targets[:128])
	require.Equal(t, []int32{64, 64, 0, 0, 0}, b.Lens)
	require.Equal(t, b.Labels, b.More["class_labels"])
	require.Equal(t, []int32{-1, -1, -1}, b.Labels[2:])
	require.EqualValues(t, 128, b.Bytes)
	require.Equal(t, 128, b.Scored())

	s, err := c.Train.Sampler(64, 3)
	require.NoError(t, err)
	require.Equal(t, 1438, s.PerEpoch())
	seen := map[string]int{}
	one := shape.NewBatch(1, 64)
	for i := range 1438 {
		s.Fill(int64(i), one)
		seen[fmt.Sprint(one.IDs, one.Labels)]++
	}
	require.Len(t, seen, 1438, "each once")
	again, err := c.Train.Sampler(64, 3)
	require.NoError(t, err)
	x, y := shape.NewBatch(3, 64), shape.NewBatch(3, 64)
	s.Fill(1500, x)
	again.Fill(1500, y)
	require.Equal(t, x, y)

	_, err = c.Train.Sampler(63, 3)
	requireError(t, err, ErrTooShort, "63", "train.sequence_length=64")
	requireError(t, c.Test.CheckWindows(128), ErrTooShort, "128", "8x8 grey, 17 levels")

	c, err = Load(Config{Path: DigitsName, Objective: "sequence_classification"})
	require.NoError(t, err)
	require.Equal(t, Shape{Labels: 1, Classes: 10}, c.Val.Shape(64))
	b = c.Val.Shape(64).NewBatch(2, 64)
	c.Val.PlainWindows(64).Fill(0, b)
	require.Zero(t, b.Scored())
	require.Equal(t, []int32{4, 4}, b.Labels)
	require.EqualValues(t, 180, c.Val.PlainWindows(64).Scored())

	part, err := LoadWhole(Config{Path: DigitsName, Objective: density, Classes: []string{"3", "7"}})
	require.NoError(t, err)
	require.Equal(t, 1797, part.Documents())
	require.Equal(t, []int32{-1, -1, -1, 0}, part.labels[:4], "classes that a model does not know")
	_, err = LoadWhole(Config{Path: DigitsName, Objective: "sequence_classification", Classes: []string{"3", "7"}})
	requireError(t, err, ErrLabel, "classes", `"0"`, "3, 7")
}

// TestImageFolders: classes are folders, sizes are made alike by means, colours are kept or become grey.
func TestImageFolders(t *testing.T) {
	dir := t.TempDir()
	for i := range 20 {
		class := []string{"cat", "dog"}[i%2]
		h := 6 + 2*(i%3)
		write(t, dir, fmt.Sprintf("%s/%02d.png", class, i), pngOf(t, h, 9, func(y, x int) color.Color {
			return color.NRGBA{byte(255 * (y / (h / 2))), byte(i), byte(80 * (x / 3)), 255}
		}))
	}
	write(t, dir, "notes.txt", []byte("no image"))
	c, err := Load(Config{Path: dir, Objective: density, ImageSize: []int{2, 3}})
	require.NoError(t, err)
	require.Equal(t, []string{"cat", "dog"}, c.Classes)
	require.Equal(t, []int{16, 2, 2}, []int{c.Train.Documents(), c.Val.Documents(), c.Test.Documents()})
	require.Equal(t, 256, c.Tokenizer.VocabSize())
	// The tenth of the cats in the order of paths is 18; the dogs begin after it.
	require.Equal(t, []int32{0, 18, 0, 0, 18, 80, 0, 18, 160, 255, 18, 0, 255, 18, 80, 255, 18, 160}, c.Test.Document(0))
	require.Equal(t, []int32{0, 1}, c.Test.labels)

	grey, err := Load(Config{Path: dir, Objective: density, ImageSize: []int{1}, Channels: 1, ImageLevels: 16})
	require.NoError(t, err)
	// 0.299*127.5 + 0.587*18 + 0.114*80, with the rounding of each pixel.
	require.Equal(t, []int32{3}, grey.Test.Document(0)) // 57.8 / 16
	require.Equal(t, 16, grey.Tokenizer.VocabSize())

	var file bytes.Buffer
	require.NoError(t, jpeg.Encode(&file, image.NewGray(image.Rect(0, 0, 7, 5)), nil))
	one := write(t, t.TempDir(), "dark.JPG", file.Bytes())
	part, err := LoadWhole(Config{Path: one, Objective: density})
	require.NoError(t, err)
	require.Equal(t, make([]int32, 105), part.Document(0))
	require.Zero(t, part.Shape(105).Labels, "no classes")
}

// TestPatchesHoldOutBands: no pixel of a held out band is in the train part, whatever the stride.
func TestPatchesHoldOutBands(t *testing.T) {
	dir := t.TempDir()
	for i := range 3 { // each row of all images has its own colour
		write(t, dir, fmt.Sprintf("%d.png", i), pngOf(t, 50, 13, func(y, x int) color.Color { return color.Gray{byte(60*i + y)} }))
	}
	for _, stride := range []int{0, 2, 3} {
		c, err := Load(Config{Path: dir, Objective: density, PatchSize: []int{5, 4}, PatchStride: stride, Channels: 1})
		require.NoError(t, err)
		rows := [3][]int32{}
		for k, p := range []*Part{c.Train, c.Val, c.Test} {
			for d := range p.Documents() {
				doc := p.Document(d)
				require.Equal(t, doc[0]+4, doc[19], "five rows of one image")
				for _, v := range doc {
					if !slices.Contains(rows[k], v) {
						rows[k] = append(rows[k], v)
					}
				}
			}
		}
		for _, v := range slices.Concat(rows[1], rows[2]) {
			require.NotContains(t, rows[0], v)
		}
		require.Len(t, rows[1], 15)
		require.Len(t, rows[2], 15)
		require.Subset(t, []int32{20, 21, 22, 23, 24, 80, 81, 82, 83, 84, 140, 141, 142, 143, 144}, rows[1])
		require.Subset(t, []int32{45, 46, 47, 48, 49, 105, 106, 107, 108, 109, 165, 166, 167, 168, 169}, rows[2])
		if stride == 0 {
			require.Equal(t, []int{72, 9, 9}, []int{c.Train.Documents(), c.Val.Documents(), c.Test.Documents()})
			require.Len(t, rows[0], 120)
		}
	}
}

// TestResized is the mean by area, written plainly.
func TestResized(t *testing.T) {
	p := picture{height: 7, width: 11, channels: 3}
	for i := range 7 * 11 * 3 {
		p.values = append(p.values, byte(hash(uint64(i))))
	}
	for _, size := range [][2]int{{7, 11}, {3, 5}, {1, 1}, {13, 4}} {
		h, w := size[0], size[1]
		got := p.resized(h, w, 256, 16)
		for i, level := range got {
			y, x, c := i/3/w, i/3%w, i%3
			sum := 0
			for fy := y * 7; fy < (y+1)*7; fy++ { // h*7 x w*11 points
				for fx := x * 11; fx < (x+1)*11; fx++ {
					sum += int(p.values[(fy/h*11+fx/w)*3+c])
				}
			}
			require.EqualValues(t, sum*16/(7*11*256), level)
		}
	}
	require.Equal(t, p.values, p.resized(7, 11, 256, 256))
}

func TestIDX(t *testing.T) {
	dir := t.TempDir()
	values, labels := make([]byte, 10*2*3), make([]byte, 10)
	for i := range values {
		values[i] = byte(4 * i)
	}
	for i := range labels {
		labels[i] = byte(i % 3)
	}
	path := write(t, dir, "a-images-idx3-ubyte.gz", gzipped(t, idxOf([]uint32{10, 2, 3}, values...)))
	c, err := Load(Config{Path: path, Objective: density, ImageLevels: 16})
	require.NoError(t, err)
	require.Nil(t, c.Classes)
	require.Equal(t, []int32{13, 13, 14, 14, 14, 14}, c.Test.Document(0))
	write(t, dir, "a-labels-idx1-ubyte.gz", gzipped(t, idxOf([]uint32{10}, labels...)))
	c, err = Load(Config{Path: path, Objective: density})
	require.NoError(t, err)
	require.Equal(t, []string{"0", "1", "2"}, c.Classes)
	require.Equal(t, []int32{1}, c.Val.labels)
}

// TestBadImages: each is refused in a line that names the file or the key.
func TestBadImages(t *testing.T) {
	dir := t.TempDir()
	good := pngOf(t, 5, 4, func(y, x int) color.Color { return color.Gray{byte(y * x)} })
	huge := slices.Clone(good) // only what it declares; its sum is wrong too, which is not looked at
	binary.BigEndian.PutUint32(huge[16:], 1<<31-1)
	binary.BigEndian.PutUint32(huge[29:], crc(huge[12:29]))
	none := slices.Clone(good)
	binary.BigEndian.PutUint32(none[16:], 0)
	binary.BigEndian.PutUint32(none[29:], crc(none[12:29]))
	mixed := t.TempDir()
	write(t, mixed, "a.png", good)
	write(t, mixed, "b.png", pngOf(t, 4, 5, func(y, x int) color.Color { return color.Black }))
	few := t.TempDir()
	write(t, few, "a.png", good)
	idx := idxOf([]uint32{2, 2, 2}, 1, 2, 3, 4, 5, 6, 7, 8)
	withLabels := t.TempDir()
	write(t, withLabels, "images-idx3", idx)
	write(t, withLabels, "labels-idx1", idxOf([]uint32{3}, 1, 2, 3))
	t.Setenv(Root, "")
	for name, c := range map[string]struct {
		path   string
		kind   error
		parts  []string
		change func(c *Config)
	}{
		"missing":         {path: filepath.Join(dir, "none.png"), kind: ErrMissing},
		"no images":       {path: t.TempDir(), kind: ErrEmpty, parts: []string{".png"}},
		"empty":           {path: write(t, dir, "empty.png", nil), kind: ErrEmpty},
		"no PNG":          {path: write(t, dir, "text.png", []byte("hello")), kind: ErrTorn},
		"cut off":         {path: write(t, dir, "cut.png", good[:len(good)-20]), kind: ErrTorn},
		"cut header":      {path: write(t, dir, "head.png", good[:20]), kind: ErrTorn},
		"huge":            {path: write(t, dir, "huge.png", huge), kind: ErrTooLarge, parts: []string{"x2147483647"}},
		"zero":            {path: write(t, dir, "zero.png", none), kind: ErrTorn},
		"mixed":           {path: mixed, kind: ErrFormat, parts: []string{"b.png", "4x5", "a.png", "5x4", "data.image_size"}},
		"too few":         {path: few, kind: ErrTooShort},
		"large blocks":    {path: few, kind: ErrFormat, parts: []string{"data.order", "6x1", "5x4"}, change: func(c *Config) { c.Order = "blocks(6,1)" }},
		"large patches":   {path: few, kind: ErrTooShort, parts: []string{"a.png", "6x6"}, change: func(c *Config) { c.PatchSize = []int{6} }},
		"too many tokens": {path: few, kind: ErrTooLarge, parts: []string{"tokens"}, change: func(c *Config) { c.ImageSize = []int{1024} }},
		"other kind":      {path: write(t, dir, "a.gif", good), kind: ErrFormat, parts: []string{".gif", "fashion"}},
		"a set":           {path: "fashion", kind: ErrMissing, parts: []string{FetchScript, Root}},
		"IDX magic":       {path: write(t, dir, "m-idx3", []byte("\x00\x00\x0d\x03aaaaaaaaaaaaaa")), kind: ErrFormat},
		"IDX header":      {path: write(t, dir, "h-idx3", idx[:9]), kind: ErrTorn},
		"IDX cut":         {path: write(t, dir, "c-idx3", idx[:len(idx)-1]), kind: ErrTorn, parts: []string{"image 1 of 2"}},
		"IDX long":        {path: write(t, dir, "l-idx3", append(slices.Clone(idx), 1)), kind: ErrTorn, parts: []string{"more than its header"}},
		"IDX huge":        {path: write(t, dir, "g-idx3", idxOf([]uint32{2, 1 << 30, 1 << 30})), kind: ErrTooLarge},
		"IDX many":        {path: write(t, dir, "n-idx3", idxOf([]uint32{1 << 31, 2, 2})), kind: ErrTooLarge},
		"IDX gz cut":      {path: write(t, dir, "z-idx3.gz", gzipped(t, idx)[:20]), kind: ErrTorn},
		"IDX zero":        {path: write(t, dir, "0-idx3", idxOf([]uint32{2, 0, 2})), kind: ErrFormat},
		"IDX values":      {path: write(t, dir, "17-idx3", idxOf([]uint32{1, 1, 2}, 16, 17)), kind: ErrFormat, parts: []string{"17-idx3: image 0", "value of 17"}, change: func(c *Config) { c.ImageValues = 17 }},
		"IDX empty":       {path: write(t, dir, "e-idx3", idxOf([]uint32{0, 2, 2})), kind: ErrEmpty},
		"IDX labels":      {path: filepath.Join(withLabels, "images-idx3"), kind: ErrTorn, parts: []string{"2 images, but 3 classes"}},
		"CSV words":       {path: write(t, dir, "w.csv", []byte("1,2,3,4,a\n1,2,x,4,b\n")), kind: ErrFormat, parts: []string{"w.csv:2", `"x"`}},
		"CSV values":      {path: write(t, dir, "v.csv", []byte("1,2,3,17,5")), kind: ErrFormat, parts: []string{`"17"`, "0 to 16", "image_values"}, change: func(c *Config) { c.ImageValues = 17 }},
		"CSV negative":    {path: write(t, dir, "n.csv", []byte("1,2,-3,4")), kind: ErrFormat},
		"CSV columns":     {path: write(t, dir, "c.csv", []byte("1,2,3,4\n1,2,3,4,5")), kind: ErrFormat, parts: []string{"c.csv:2"}},
		"CSV square":      {path: write(t, dir, "s.csv", []byte("1,2,3,4,5,6,7")), kind: ErrFormat, parts: []string{"7 numbers"}},
		"CSV empty":       {path: write(t, dir, "e.csv", []byte("a,b\n\n")), kind: ErrEmpty},
	} {
		config := Config{Path: c.path, Objective: density}
		if c.change != nil {
			c.change(&config)
		}
		_, err := Load(config)
		requireError(t, err, c.kind, name, c.parts...)
		require.Contains(t, err.Error(), filepath.Base(strings.TrimSuffix(c.path, "/")), name)
	}
	_, err := LoadWhole(Config{Path: few, Objective: density})
	require.NoError(t, err)

	for _, c := range []struct {
		config Config
		key    string
	}{
		{Config{Objective: density, ImageLevels: 1}, "data.image_levels"}, {Config{Objective: density, ImageLevels: 257}, "data.image_levels"},
		{Config{Objective: density, ImageValues: 1}, "data.image_values"}, {Config{Objective: density, Channels: 2}, "data.channels"},
		{Config{Objective: density, ImageSize: []int{0, 3}}, "data.image_size"}, {Config{Objective: density, ImageSize: []int{3, 3, 3}}, "data.image_size"},
		{Config{Objective: density, PatchStride: 2}, "data.patch_stride"}, {Config{Objective: density, PatchSize: []int{-1}}, "data.patch_size"},
		{Config{Objective: density, Order: "blocks(2)"}, "data.order"}, {Config{Objective: density, Order: "blocks(0,2)"}, "data.order"}, {Config{Objective: density, Order: "blocks(2,2) "}, "data.order"},
		{Config{Objective: density, Tokenizer: "bytes"}, "data.tokenizer"}, {Config{Path: DigitsName}, "data.objective"}, {Config{ImageLevels: 16}, "data.image_levels"},
	} {
		require.ErrorContains(t, c.config.Validate(), c.key)
	}
}

func crc(b []byte) uint32 {
	c := ^uint32(0)
	for _, v := range b {
		c ^= uint32(v)
		for range 8 {
			c = c>>1 ^ 0xedb88320&-(c&1)
		}
	}
	return ^c
}

// TestGrid: what is drawn is read again, level for level.
func TestGrid(t *testing.T) {
	for _, s := range []ImageShape{{Height: 5, Width: 3, Channels: 1, Levels: 17}, {Height: 3, Width: 4, Channels: 3, Levels: 256, BlockHeight: 2, BlockWidth: 3}, {Height: 2, Width: 2, Channels: 3, Levels: 2}} {
		var rows [][]int32
		for i := range 3 {
			row := make([]int32, s.Size())
			for k := range row {
				row[k] = int32(below(hash(uint64(i), uint64(k)), s.Levels))
			}
			rows = append(rows, row)
		}
		img, err := s.Grid(rows, 1)
		require.NoError(t, err)
		require.Equal(t, image.Rect(0, 0, 2*(s.Width+1)+1, 2*(s.Height+1)+1), img.Bounds())
		for i, row := range rows {
			part := image.NewRGBA(image.Rect(0, 0, s.Width, s.Height))
			for y := range s.Height {
				for x := range s.Width {
					part.Set(x, y, img.At(i%2*(s.Width+1)+1+x, i/2*(s.Height+1)+1+y))
				}
			}
			var file bytes.Buffer
			require.NoError(t, png.Encode(&file, part))
			ids, err := s.ReadImage(write(t, t.TempDir(), "a.png", file.Bytes()))
			require.NoError(t, err)
			require.Equal(t, row, ids)
		}
		require.Equal(t, color.RGBA{255, 255, 255, 255}, img.At(0, 0))
	}
	s := ImageShape{Height: 2, Width: 3, Channels: 1, Levels: 4}
	var file bytes.Buffer
	require.NoError(t, s.WriteGrid(&file, [][]int32{{0, 1, 2, 3, -1, 9}}, 0))
	img, err := png.Decode(&file)
	require.NoError(t, err)
	require.Equal(t, image.Rect(0, 0, 3*32+2, 2*32+2), img.Bounds())
	require.Equal(t, color.RGBA{160, 112, 112, 255}, color.RGBAModel.Convert(img.At(33, 33+8)))
	require.Error(t, s.WriteGrid(&file, [][]int32{{0, 1}}, 0))
	require.Error(t, s.WriteGrid(&file, nil, 0))
	require.Error(t, s.WriteGrid(&file, [][]int32{make([]int32, 6)}, 1<<20))
	_, err = s.ReadImage(write(t, t.TempDir(), "b.png", pngOf(t, 3, 2, func(y, x int) color.Color { return color.White })))
	requireError(t, err, ErrFormat, "size", "b.png", "3x2", "2x3")

	require.Equal(t, []int32{3, 0}, Levels(4).Encode("3 4 x -1 0"))
	require.Equal(t, "3 0 ", Levels(4).Decode([]int32{3, 4, -1, 0}))
}

// TestKnownImageSets measures the sets that are fetched, where they are.
func TestKnownImageSets(t *testing.T) {
	if os.Getenv(Root) == "" {
		t.Skip("the folder of the sets is not set: ", Root)
	}
	for _, k := range []struct {
		config             Config
		images             int
		order0, neighbours float64
	}{
		{Config{Path: "fashion", ImageLevels: 16, ImageSize: []int{14}}, 10000, 2.99, 1.73},
		{Config{Path: "fashion", ImageLevels: 16}, 10000, 2.79, 1.42},
		{Config{Path: "mnist", ImageLevels: 16, ImageSize: []int{14}}, 5000, 1.66, 1.20},
		{Config{Path: "mnist", ImageLevels: 16}, 5000, 1.25, 0.68},
	} {
		k.config.Objective = density
		c, err := Load(k.config)
		require.NoError(t, err)
		require.Equal(t, k.images, c.Train.Documents()+c.Val.Documents()+c.Test.Documents())
		require.Len(t, c.Classes, 10)
		order0, neighbours := bitsOf(c)
		require.InDelta(t, k.order0, order0, 0.006, k.config)
		require.InDelta(t, k.neighbours, neighbours, 0.006, k.config)
	}
	c, err := Load(Config{Path: "photos", Objective: density, PatchSize: []int{32}})
	require.NoError(t, err)
	require.Equal(t, 906, c.Train.Documents()+c.Val.Documents()+c.Test.Documents())
}
