package attention

import (
	"bytes"
	"encoding/xml"
	"errors"
	"image/color"
	"image/png"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPictureShowsTheMask(t *testing.T) {
	for _, n := range []int{1, 7, 24} {
		p := parse(t, "heads(causal(band(3,0) + global(2)); blocks(5))")
		var buf bytes.Buffer
		require.NoError(t, WritePNG(&buf, p, n))
		img, err := png.Decode(&buf)
		require.NoError(t, err)
		cells, size := grain(n, panelSize)
		require.Equal(t, n, cells)
		for h := range 2 {
			left, top := corner(h, size)
			for i := range n {
				for j := range n {
					got := color.NRGBAModel.Convert(img.At(left+j*(size/n), top+i*(size/n)))
					switch {
					case h == 0 && p.Sees(0, i, j, n) && j < i-3 || h == 0 && p.Sees(0, i, j, n) && i == 2 && j < i-3:
						require.Equal(t, palette[1], got)
					case p.Sees(h, i, j, n):
						require.Equal(t, palette[0], got)
					default:
						require.Equal(t, hidden, got)
					}
				}
			}
		}
	}
}

// A long mask is drawn in cells that weigh what they hold.
func TestLongPicture(t *testing.T) {
	const n = 5000
	for _, s := range []string{"full", "causal(full)", "band(100,100) + global(0)", "dilated(500,500,3)", "blocks(700)"} {
		p := parse(t, s)
		sum := 0.0
		for _, part := range terms(p, 0) {
			row := make([]float32, panelSize)
			for i := range n {
				for _, r := range tidy(part.Row(0, i, n, nil)) {
					spread(row, r, n)
				}
			}
			for _, x := range row {
				sum += float64(x)
			}
			sum -= float64(part.NNZ(0, n))
		}
		require.InDelta(t, 0, sum, 0.01*float64(p.NNZ(0, n)), s)
		var buf bytes.Buffer
		require.NoError(t, WritePNG(&buf, p, n))
		img, err := png.Decode(&buf)
		require.NoError(t, err)
		middle := panelMargin + panelSize/2
		require.NotEqual(t, hidden, color.NRGBAModel.Convert(img.At(middle, middle)), s)
	}
}

func TestSVGIsXML(t *testing.T) {
	for _, s := range []string{"full", "heads(band(3,3)+global(0,9); blocks(8); full; dilated(2,2,4); causal(full))", "band(64,0) & blocks(128)"} {
		for _, n := range []int{1, 13, 200, 3000} {
			var buf bytes.Buffer
			require.NoError(t, WriteSVG(&buf, parse(t, s), n))
			require.Less(t, buf.Len(), 8<<20)
			d := xml.NewDecoder(strings.NewReader(buf.String()))
			depth := 0
			for {
				tok, err := d.Token()
				if errors.Is(err, io.EOF) {
					break
				}
				require.NoError(t, err)
				switch tok.(type) {
				case xml.StartElement:
					depth++
				case xml.EndElement:
					depth--
				}
			}
			require.Zero(t, depth)
		}
	}
	require.Error(t, WriteSVG(io.Discard, Full{}, 0))
	require.Error(t, WritePNG(io.Discard, Full{}, 0))
}
