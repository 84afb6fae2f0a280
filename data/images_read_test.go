package data

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

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
