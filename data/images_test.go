package data

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
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
