package data

import (
	"image/color"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestLowImages: beside each image of a batch is the same one in small, by means of what was read, not of its levels; of padding there is none.
func TestLowImages(t *testing.T) {
	for _, c := range []Config{
		{Objective: density, LowSize: []int{4, 2}},
		{Objective: density, LowSize: []int{3}, Channels: 3, ImageSize: []int{6, 5}, ImageLevels: 5, Order: "blocks(2,3)"},
	} {
		corpus, err := Load(c)
		require.NoError(t, err)
		of, ok := corpus.Val.Image()
		require.True(t, ok)
		low, ok := c.LowShape(of)
		require.True(t, ok)
		n := of.Size()
		require.Equal(t, low.Size(), corpus.Val.Shape(n).More["low_ids"])
		windows := corpus.Val.PlainWindows(n)
		b := corpus.Val.Shape(n).NewBatch(2, n)
		last := windows.Len() - 1
		windows.Fill(last, b)
		shape, ids, ok := corpus.Val.Low(last)
		require.True(t, ok)
		require.Equal(t, low, shape)
		require.Equal(t, ids, b.More["low_ids"][:low.Size()])
		for _, level := range b.More["low_ids"][low.Size():] {
			require.EqualValues(t, -1, level)
		}

		whole, err := Load(Config{Objective: density, Channels: c.Channels}) // 8x8, 17 levels
		require.NoError(t, err)
		source := picture{height: 8, width: 8, channels: of.Channels}
		for _, id := range whole.Val.Document(last) {
			source.values = append(source.values, byte(id))
		}
		for i, level := range source.resized(low.Height, low.Width, 17, low.Levels) {
			require.EqualValues(t, level, ids[i])
		}
	}
	plain, err := Load(Config{Objective: density})
	require.NoError(t, err)
	_, _, ok := plain.Val.Low(0)
	require.False(t, ok)
	lows, err := Load(Config{Objective: density, LowSize: []int{2}})
	require.NoError(t, err)
	require.NotEqual(t, plain.Digest, lows.Digest)
	_, ok = Config{}.LowShape(ImageShape{Channels: 1, Levels: 2})
	require.False(t, ok)
}

func TestEnlarge(t *testing.T) {
	low := ImageShape{Height: 2, Width: 1, Channels: 3, Levels: 9}
	large := ImageShape{Height: 3, Width: 2, Channels: 3, Levels: 9, BlockHeight: 3, BlockWidth: 1}
	require.Equal(t, []int32{1, 2, 3, 1, 2, 3, 4, 5, 6, 1, 2, 3, 1, 2, 3, 4, 5, 6}, large.Enlarge(low, []int32{1, 2, 3, 4, 5, 6}))
}

func TestLowImagesFaults(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "a.png", pngOf(t, 5, 4, func(y, x int) color.Color { return color.Gray{byte(40 * y)} }))
	_, err := LoadWhole(Config{Path: dir, Objective: density, LowSize: []int{6, 2}})
	requireError(t, err, ErrFormat, "large", "data.low_size is 6x2", "5x4")
	for _, c := range []Config{{Objective: density, LowSize: []int{0}}, {Objective: density, LowSize: []int{1, 2, 3}}, {Path: DigitsName, Objective: "sequence_classification", LowSize: []int{2}}, {LowSize: []int{2}}} {
		require.ErrorContains(t, c.Validate(), "data.low_size")
	}

	s := ImageShape{Height: 2, Width: 2, Channels: 1, Levels: 256}
	ids, err := s.ReadResized(filepath.Join(dir, "a.png"))
	require.NoError(t, err)
	require.Equal(t, []int32{32, 32, 128, 128}, ids, "means of 2.5 rows each")
	_, err = s.ReadImage(filepath.Join(dir, "a.png"))
	requireError(t, err, ErrFormat, "exact", "a.png", "5x4", "2x2")
	_, err = ImageShape{Height: 6, Width: 2, Channels: 1, Levels: 256}.ReadResized(filepath.Join(dir, "a.png"))
	requireError(t, err, ErrFormat, "small", "a.png", "5x4", "6x2")
}
